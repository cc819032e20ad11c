"""docs/http.md is what was measured, and our column is still true: each case over the real data path, in one process."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from world import World

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load(name: str):
    """A script beside the package, as a module."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


cases = load("http_cases")
behaviour = load("http_behaviour")
MEASURED = json.loads((BENCHMARKS.parent / "docs" / "http_behaviour.json").read_text())


def test_the_page_is_what_was_measured():
    assert (BENCHMARKS.parent / "docs" / "http.md").read_text() == behaviour.render(MEASURED), (
        "benchmarks/http_behaviour.py --render"
    )


def test_every_case_was_measured_on_every_peer():
    for peer in ("HAProxy", "NGINX", "ours"):
        assert set(MEASURED["results"][peer]) == {case.name for case in cases.CASES}


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.name)
def test_our_column_is_still_true(case):
    world = World()
    client = world.client().send(case.send)
    if case.half_close:
        client.shut()
    for _ in range(5):
        for backend in world.backend_connections:
            unanswered = getattr(backend, "unanswered", b"") + (b"" if backend.closed else backend.read())
            while (size := behaviour.message_size(unanswered)) is not None and not backend.closed:
                unanswered = unanswered[size:]
                try:
                    backend.send(case.answer)
                except OSError:
                    break
                if case.close_after_answer:
                    backend.close()
                    backend.closed = True
            backend.unanswered = unanswered
        client.read()
    heard = b"".join(backend.received for backend in world.backend_connections)
    got = behaviour.describe(case, client.received, client.closed or client.was_reset, heard)
    world.close()
    assert got == MEASURED["results"]["ours"][case.name]
