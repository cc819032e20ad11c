"""The API of a real daemon against its own OpenAPI document: made-up requests, right ones and wrong ones."""

import copy

import pytest
from ports import free_port
from processes import listening, stage, until
from some import some

schemathesis = pytest.importorskip("schemathesis", exc_type=ImportError)

import requests  # noqa: E402, it comes with the former
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from twisted_lb.admin.endpoints import ENDPOINTS  # noqa: E402
from twisted_lb.admin.openapi import document  # noqa: E402

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TOKEN = "0123456789abcdef"
EXAMPLES = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    """Where the API of a daemon is that everything may be done to."""
    with stage(tmp_path_factory.mktemp("openapi")) as world:
        port, page = free_port(), free_port()
        config = world.folder / "lb.toml"
        config.write_text(
            f'backends = ["127.0.0.1:9", "127.0.0.1:10"]\nhealth_check.interval_s = 0\n'
            f'[listen]\nport = {port}\ninterface = "127.0.0.1"\n'
            f'[admin]\naddress = "127.0.0.1:{page}"\ntokens = {{ ops = "{TOKEN}" }}\n'
        )
        running = world.twistd("lb", "lb", "--config", str(config))
        until(lambda: listening(page), "the API")
        yield f"http://127.0.0.1:{page}"
        assert "a bug" not in running.log
        assert "Traceback" not in running.log


def operation_of(endpoint):
    schema = schemathesis.openapi.from_dict(copy.deepcopy(document()))
    return schema[endpoint.path][endpoint.method]


RIGHT = [(one, GenerationMode.POSITIVE) for one in ENDPOINTS]
# Where something can be wrong.
WRONG = [(one, GenerationMode.NEGATIVE) for one in ENDPOINTS if one.query or one.body]


@pytest.mark.parametrize(
    ("endpoint", "mode"), some(10, RIGHT + WRONG), ids=lambda one: getattr(one, "call", None) or one.value
)
def test_whatever_is_asked_is_answered_as_the_document_says(daemon, endpoint, mode):
    operation = operation_of(endpoint)
    statuses = set()

    @EXAMPLES
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case):
        if endpoint.names and mode is GenerationMode.POSITIVE:
            known = {"pool": "default", "backend": "127.0.0.1:9", "id": "0"}
            case.path_parameters = {name: known[name] for name in endpoint.names}
        response = case.call(base_url=daemon, session=session, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
        statuses.add(response.status_code)
        case.validate_response(response, checks=CHECKS)

    with requests.Session() as session:
        ask()
        session.delete(f"{daemon}/v1/changes", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)
    assert statuses
    if mode is GenerationMode.POSITIVE and endpoint.call in (
        "status",
        "backends",
        "config",
        "events",
        "openapi",
        "plan",
    ):
        assert statuses == {200}


def test_the_document_is_served_as_it_is(daemon):
    assert requests.get(f"{daemon}/v1/openapi.json", timeout=20).json() == document()
