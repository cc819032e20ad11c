"""Judges of the fault network, each before a case made by hand: what is right passes, and its neighbour that is wrong does not."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from faults.attempts import Attempt
from faults.ledger import Change, Moment, TakenOut, Try
from faults.marks import Mark
from faults.oracle import Oracle
from faults.outlying import Outlying
from faults.reader import read_both
from faults.tape import SAID_FIN, SAID_RST, TapedPipe, Tapes
from faults.turns import Turns

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import BackendEjected
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import HeapClock
from twisted_lb.testing.chances import Chances

LOGIN = b"GET /r/c0r0 HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n"
PLAIN = b"GET /r/c0r0 HTTP/1.1\r\nHost: a\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


# Levels.


def judged_at_a_backup(*, first: bytes, index: int) -> list[str]:
    """What is said of a request on a connection to a backup that stands by, whose first request this was."""
    complaints: list[str] = []
    tape = object()
    oracle: Any = Oracle.__new__(Oracle)
    oracle.complaints = complaints
    oracle.town = SimpleNamespace(
        naming=SimpleNamespace(on=False),
        changes=[Change(1, 1000.0, frozenset({"a:80", "b:80"}), frozenset({"a:80"}))],
    )
    oracle.backends = SimpleNamespace(readers={tape: read_both(first + PLAIN, ANSWER + ANSWER)})
    oracle._judge_level("c0r1", SimpleNamespace(backend="a:80", at=2, tape=tape, index=index))
    return complaints


def test_a_client_that_is_logged_in_at_a_backup_goes_on_there():
    assert judged_at_a_backup(first=LOGIN, index=1) == []


@pytest.mark.parametrize(("first", "index"), [(PLAIN, 1), (LOGIN, 0)])
def test_nobody_else_goes_to_a_backup_that_stands_by(first, index):
    assert judged_at_a_backup(first=first, index=index) == ["c0r1: a:80 was asked, which stands by"]


# Ejections.


def judged_ejection(*, naming: bool, place: str) -> list[str]:
    """What is said of an ejection for two failures in a row of two clients, the first of which was the server's under another name,
    at this place.
    """
    complaints: list[str] = []
    before, after = object(), object()  # its records
    attempts = {
        name: [Attempt(at, 1000.0 + at, where, SimpleNamespace(record=record), None, None, 0, None, None)]
        for name, at, where, record in (("c0r0", 1, place, before), ("c1r0", 2, "a:80", after))
    }
    config = LoadBalancerConfig.model_validate(
        {"backends": ["a:80"], "ejection": {"consecutive_failures": 2, "min_clients": 2}}
    )
    oracle: Any = SimpleNamespace(
        town=SimpleNamespace(
            naming=SimpleNamespace(on=naming), generations=SimpleNamespace(all=[(Moment(0, 1000.0), config)])
        ),
        backends=SimpleNamespace(attempts=attempts),
        asks={name: (SimpleNamespace(host=name[:2]), None) for name in attempts},
        complain=complaints.append,
    )
    event = BackendEjected(
        "p", "a", Outcome.NO_RESPONSE, "2 failures", 1012.0, False, 1002.0, EjectionRule.CONSECUTIVE_FAILURES
    )
    Outlying(oracle)._judge_reason(TakenOut(after, {"a:80"}, Moment(3, 1002.0), event, 2, 1, 1, trial=False))
    return complaints


def test_what_a_server_has_failed_under_another_name_counts_where_names_move():
    assert judged_ejection(naming=True, place="a:80") == []


@pytest.mark.parametrize(("naming", "place"), [(True, "b:80"), (False, "a:80")])
def test_what_another_server_has_failed_does_not_count(naming, place):
    said = judged_ejection(naming=naming, place=place)
    assert [one.rpartition(": ")[2] for one in said] == [
        "of 1 clients, 2 are needed",
        "1 attempts there have not ended well",
    ]


# Turns in the queue.


def judged_turns(*requests: tuple[str, Mark, float, float | None, str], retried: float = 0.0) -> list[str]:
    """What is said of requests: what they are called and marked with, when they came, when they were served, and by whom; the first of
    them at 0 already, and `retried` then.
    """
    complaints: list[str] = []
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"], "max_in_flight": 1})
    records = []
    for name, _, came, at, by in requests:
        tries = () if at is None else (Try(at, NEVER, by),)
        if retried and not records:
            tries = (Try(0.0, came, "x"), Try(retried, NEVER, by))
        told = {"gathered_s": 0.0, "hedge": None, "ended_by": "", "status": 200}
        records.append(SimpleNamespace(name=name, began=came, when=99.0, tries=tries, **told))
    town: Any = SimpleNamespace(
        records=records,
        generations=SimpleNamespace(all=[(Moment(0, 0.0), config)]),
        operator=SimpleNamespace(logins=None),
        process=SimpleNamespace(lost_s=lambda since, until: 0.0),
    )
    asks = {name: (None, SimpleNamespace(mark=mark)) for name, mark, *_ in requests}
    Turns(SimpleNamespace(town=town, asks=asks, complain=complaints.append)).judge()
    return complaints


A, B, URGENT = Mark("a"), Mark("b"), Mark("a", 0)


def test_who_is_served_in_its_turn_is_well_served():
    assert judged_turns(("1", A, 1.0, 2.0, "x"), ("2", A, 1.1, 4.0, "x"), ("3", B, 1.2, 3.0, "x")) == []
    assert judged_turns(("1", A, 1.0, 3.0, "x"), ("2", URGENT, 1.5, 2.0, "x")) == []
    assert judged_turns(("1", A, 1.0, 2.0, "x"), ("2", A, 2.0, 2.0, "x")) == [], "in one moment, in one turn"
    assert judged_turns(("1", A, 1.0, 9.0, "x"), ("2", B, 1.0, 5.0, "x"), retried=3.0) == []


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        ([("1", URGENT, 1.0, 3.0, "x"), ("2", A, 1.0, 2.0, "x")], "2 was served while 1 waited, which is more urgent"),
        ([("1", A, 1.0, 3.0, "x"), ("2", A, 2.0, 2.0, "x")], "2 went past 1 in its lane"),
        (
            [("1", A, 1.0, 4.0, "x"), ("2", B, 1.1, 2.0, "x"), ("3", B, 1.2, 3.0, "x")],
            "3 had a second turn while 1 waited for the first of its lane",
        ),
        ([("1", Mark(wait_s=2.0), 1.0, 3.0, "x")], "1 was sent 2.0 s after it came, 2.0 s were its time"),
    ],
)
def test_who_is_served_out_of_turn_is_seen(requests, said):
    assert judged_turns(*requests) == [said]


def test_who_has_had_an_attempt_is_served_before_whoever_has_had_none():
    said = judged_turns(("1", A, 1.0, 9.0, "y"), ("2", A, 1.5, 2.0, "y"), retried=3.0)
    assert said == ["2 was served while 1 waited for another attempt"]
    assert judged_turns(("1", A, 1.0, 9.0, "y"), ("2", A, 1.5, 2.0, "x"), retried=3.0) == [], "it has tried that one"


# Tapes.


@pytest.mark.parametrize(
    ("ways", "noted"),
    [
        (["cut"], [SAID_RST]),
        (["end", "end", "cut", "cut"], [SAID_FIN, SAID_RST]),
        (["cut", "end"], [SAID_RST]),
        (["tear", "cut"], [SAID_RST]),
        (["tear", "end"], [SAID_FIN]),
        (["tear"], []),
    ],
)
def test_a_tape_has_how_the_balancer_lets_go_be_it_after_the_network_has_torn_it(ways, noted):
    clock = HeapClock(1000.0)
    out, back = (TapedPipe(clock, 1000, Random(1), lambda: Chances(delayed=1.0, longest_delay_s=1.0)) for _ in range(2))
    out.back, back.back = back, out
    out.outwards = True
    out.tape = tape = Tapes(clock, None).begin("backend a:80")
    for way in ways:
        getattr(out, way)()
    assert [entry.what for entry in tape.entries] == noted
