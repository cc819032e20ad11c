"""The metrics of a service: what it has applied and what it refused, beside what its data plane counts."""

import pytest_twisted
from prometheus_client.parser import text_string_to_metric_families
from test_reload import backends, paper, reload, said, started  # noqa: F401
from test_service import ask

from twisted_lb import __version__
from twisted_lb.config import TimeoutsConfig


def told(service, name: str, **labels) -> float:
    """The value of one sample."""
    text = service.metrics().decode()
    [value] = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"twisted_lb_{name}" and labels.items() <= sample.labels.items()
    ]
    return value


@pytest_twisted.ensureDeferred
async def test_a_running_service_tells_its_requests_and_its_program(backends):  # noqa: F811
    service = started(paper(backends[0]))
    await ask(service.port)
    assert told(service, "requests_total", code_class="2xx") == 1
    assert told(service, "build_info", version=__version__) == 1
    assert told(service, "start_time_seconds") > 0
    assert told(service, "config_generation") == 1
    assert service.metrics(openmetrics=True).endswith(b"# EOF\n")
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_reloads_are_counted_by_how_they_ended(backends, said):  # noqa: F811
    source = paper(backends[0])
    service = started(source)
    source.values["backends"] = [backends[1]]
    await reload(service)
    assert told(service, "config_reloads_total", result="ok") == 1
    assert told(service, "config_generation") == 2
    assert told(service, "config_last_reload_timestamp_seconds") >= told(service, "start_time_seconds")
    source.values["broken"] = ["no TOML"]
    await reload(service)
    assert told(service, "config_reloads_total", result="failed") == 1
    assert told(service, "config_last_reload_successful") == 0
    assert told(service, "config_generation") == 2
    del source.values["broken"]
    await reload(service)
    assert told(service, "config_last_reload_successful") == 1
    await service.stopService()


@pytest_twisted.ensureDeferred
async def test_what_a_program_changes_is_another_generation_and_no_reload(backends):  # noqa: F811
    service = started(paper(backends[0]))
    service.set_timeouts(TimeoutsConfig(connect_s=3.0))
    assert told(service, "config_generation") == 2
    assert told(service, "config_reloads_total", result="ok") == 0
    await service.stopService()
