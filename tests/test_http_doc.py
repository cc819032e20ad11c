"""docs/http.md is what was measured, and our column is still true: each case over the real data path, in one process."""

import importlib.util
import json
import sys
from dataclasses import replace
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


for part in ("http_case", "http_twisted_web", "http_head_cases", "http_body_cases", "http_talk_cases"):
    load(part)
behaviour = load("http_behaviour")
MEASURED = json.loads((BENCHMARKS.parent / "docs" / "http_behaviour.json").read_text())


def test_the_page_is_what_was_measured():
    assert (BENCHMARKS.parent / "docs" / "http.md").read_text() == behaviour.render(MEASURED), (
        "benchmarks/http_behaviour.py --render"
    )


@pytest.mark.parametrize("peer", behaviour.PEERS)
def test_every_case_was_measured(peer):
    assert list(MEASURED["results"][peer]) == [case.name for case in behaviour.CASES], "benchmarks/http_behaviour.py"


@pytest.mark.parametrize("peer", behaviour.PEERS)
def test_what_was_measured_is_what_the_cases_are_now(peer):
    assert MEASURED["of"][peer] == behaviour.digests(), "benchmarks/http_behaviour.py"


def test_a_case_with_other_bytes_is_another_one_and_one_with_another_reason_is_not():
    case = behaviour.CASES[0]
    assert replace(case, send=case.send + b"x").digest() != case.digest()
    assert replace(case, client_sees=b"x").digest() != case.digest()
    assert replace(case, why="because", section="0").digest() == case.digest()


def test_where_we_are_like_neither_peer_the_page_says_why():
    assert [name for name in behaviour.alone(MEASURED) if not behaviour.NAMES[name].why] == []


@pytest.mark.parametrize("case", behaviour.CASES, ids=lambda case: case.name)
def test_our_column_is_still_true(case):
    assert played(case) == MEASURED["results"]["ours"][case.name], "benchmarks/http_behaviour.py measures again"


@pytest.mark.parametrize("case", behaviour.CASES, ids=lambda case: case.name)
def test_the_other_client_side_does_the_same_or_twisted_web_is_why(case):
    same = MEASURED["results"]["ours"][case.name]
    expected, _ = behaviour.OF_TWISTED_WEB.get(case.name, (same, ""))
    assert played(case, "resource") == expected, "benchmarks/http_twisted_web.py"
    assert case.name not in behaviour.OF_TWISTED_WEB or expected != same


def played(case, side: str = "engine") -> str:
    """The cell of a case, with the measurement's own backend around a world."""
    world = World(side=side)
    parts = {}
    converse(world, behaviour.FIRST, parts)
    before = {one: (len(one.received), part.answered) for one, part in parts.items()}
    client = converse(world, case, parts)
    heard, answered = b"", 0
    for one, part in parts.items():
        heard_before, answered_before = before.get(one, (0, 0))
        heard += one.received[heard_before:]
        answered += part.answered - answered_before
    cell = behaviour.describe(case, client.received, client.closed or client.was_reset, heard, answered)
    world.close()
    return cell


def converse(world, case, parts):
    """The client of one conversation, when nobody has anything more to say; `parts` are what the backend plays, by connection."""
    client = world.client().send(case.send)
    if case.half_close:
        client.shut()
    then = case.then
    before = None
    while before != (before := (len(client.received), len(parts), sum(len(one.received) for one in parts))):
        for one in world.backend_connections:
            play(case, one, parts.setdefault(one, behaviour.Part()))
        client.read()
        if then and client.received:
            client.send(then)
            then = b""
    return client


def play(case, peer, part) -> None:
    """Let a part say what it says to what has arrived."""
    if part.over or peer.closed or peer.was_reset:
        return
    said = part.hear(case, peer.read())
    if said and not peer.was_reset:
        peer.send(said)
    if part.over:
        peer.close()
