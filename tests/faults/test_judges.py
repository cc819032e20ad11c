"""Judges of the fault network, each before a case made by hand: what is right passes, and its neighbour that is wrong does not."""

from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from faults.agents import Agreeing
from faults.attempts import Attempt, Backends
from faults.conversation import Conversation
from faults.handshaking import Handshaking
from faults.keeping import Keeping
from faults.ledger import Change, Member, Members, Moment, TakenOut, Try
from faults.marks import Mark
from faults.operator import _idle
from faults.oracle import Oracle
from faults.outlying import Outlying
from faults.reader import read_both
from faults.records import Wire
from faults.returning import Returning
from faults.securing import header_of
from faults.tape import (
    HEARD_CUT,
    HEARD_FIN,
    HEARD_RST,
    PUT,
    SAID_CUT,
    SAID_FIN,
    SAID_RST,
    TOOK,
    Check,
    Entry,
    Tape,
    TapedPipe,
    Tapes,
    may_mean,
)
from faults.town import Town
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


# Attempts.


def read(*, answered_at: float, answering: str) -> tuple[Backends, Tape]:
    """The tape of a backend whose attempt lasts from 1.0 to 5.0, while a hedge at another one lasts from 2.0 to 3.0, or the other way
    round; one of the two answers.
    """
    clock = HeapClock(1.0)
    tape = Tapes(clock, None).begin("backend a:80", "c0r0")
    tape.note(PUT, PLAIN)
    clock.advance(answered_at - 1.0)
    tape.note(TOOK, ANSWER)
    first, hedge = SimpleNamespace(), SimpleNamespace()
    record: Any = SimpleNamespace(name="c0r0", tries=(Try(1.0, 5.0, first), Try(1.0, 3.0, hedge)))
    town: Any = SimpleNamespace(
        members=SimpleNamespace(asked=lambda dialled: None),
        line=SimpleNamespace(abandoned_s=2.0),
        network=SimpleNamespace(kernel=None, dials=[]),
        records=[record],
    )
    backends = Backends(town, pytest.fail)
    upstream = SimpleNamespace(backend={"first": first, "hedge": hedge}[answering])
    dialled: Any = SimpleNamespace(at=1, when=1.0, address="a:80", wanted_by="c0r0", tape=tape, upstream=upstream)
    backends._read(dialled)
    return backends, tape


@pytest.mark.parametrize(("answering", "answered_at"), [("first", 4.0), ("hedge", 2.5)])
def test_an_answer_that_came_before_its_own_attempt_was_over_was_heard(answering, answered_at):
    backends, _ = read(answered_at=answered_at, answering=answering)
    (attempt,) = backends.attempts["c0r0"]
    assert attempt.answer is not None
    assert attempt.answer.complete


@pytest.mark.parametrize(("answering", "answered_at", "over"), [("first", 6.0, 5.0), ("hedge", 4.0, 3.0)])
def test_an_answer_that_came_when_its_own_attempt_was_over_was_not_heard(answering, answered_at, over):
    backends, tape = read(answered_at=answered_at, answering=answering)
    (attempt,) = backends.attempts["c0r0"]
    assert attempt.answer is None
    said = tape.first(SAID_FIN)
    assert said is not None
    assert said.when == over


@pytest.mark.parametrize("heard", [True, False])
def test_the_hedge_is_the_attempt_that_was_made_beside_another_one_not_one_made_there_later(heard):
    """It met a closed kept connection, and the other one has failed: the same backend is asked once more."""
    a, b = (SimpleNamespace(record=object()) for _ in range(2))
    made = [
        Attempt(at, when, place, member, None, None, 0, None, None)
        for at, when, place, member in ((1, 1.0, "a:80", a), (2, 1.5, "b:80", b), (3, 3.0, "b:80", b))
    ]
    tries = (Try(1.0, 2.0, a.record), Try(1.5, 1.5, b.record), Try(3.0, NEVER, b.record))
    backends: Any = Backends.__new__(Backends)
    backends.attempts = {"c0r0": list(made)}
    record: Any = SimpleNamespace(name="c0r0", tries=tries, hedge=b, hedge_heard=heard, attempts=3)
    backends.arrange(record)
    assert [one.hedge for one in made] == [False, True, False]
    assert backends.attempts["c0r0"] == made


# Names that move.


def judged_choice(*, claimed_at: float, usable: set[str]) -> list[str]:
    """What is said of a connect to `b:80` for a backend at `a:80` that has gone at 2.0, since its name became several."""
    complaints: list[str] = []
    oracle: Any = Oracle.__new__(Oracle)
    oracle.complaints = complaints
    member = Member(SimpleNamespace(name="web", address="a:80"), SimpleNamespace(), Moment(1, 1.0), Moment(5, 2.0))
    oracle.town = SimpleNamespace(
        naming=SimpleNamespace(on=True),
        changes=[Change(1, 1.0, frozenset(usable))],
        checked=True,
        taken_out=[],
        members=SimpleNamespace(known_as=lambda member: []),
    )
    dialled = SimpleNamespace(claimed_at=claimed_at)
    oracle._judge_choice("c0r0", Attempt(6, 2.0, "b:80", member, dialled, None, 0, None, None))
    return complaints


def test_an_attempt_whose_name_has_become_several_is_judged_by_whom_it_claimed():
    assert judged_choice(claimed_at=2.0, usable={"a:80"}) == []


@pytest.mark.parametrize(("claimed_at", "usable"), [(2.0, {"b:80"}), (2.5, {"a:80"})])
def test_an_attempt_that_claimed_who_was_not_usable_is_seen_wherever_its_name_leads(claimed_at, usable):
    (said,) = judged_choice(claimed_at=claimed_at, usable=usable)
    assert said.startswith("c0r0: b:80 was asked, usable were")


def judged_refused(*, refused: str) -> list[str]:
    """What is said of a request to `b` after a connect to its place for this one was refused."""
    complaints: list[str] = []
    one, other = (Member(SimpleNamespace(name=name, address="b:80"), object(), Moment(1, 1.0)) for name in "ab")
    dials: list[Any] = [
        SimpleNamespace(
            at=2, when=1.5, address="b:80", failed="REFUSED", failed_at=3, of={"a": one, "b": other}[refused]
        ),
        SimpleNamespace(at=4, when=1.5, address="b:80", failed="", failed_at=None, of=other),
    ]
    for dialled in dials:
        dialled.wanted_by, dialled.claimed_at = "c0r0", 1.5
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"]})
    members = SimpleNamespace(asked=lambda dialled: dialled.of, at=lambda address, at: other)
    network = SimpleNamespace(dials=dials, checked=[])
    town: Any = SimpleNamespace(
        changes=[Change(1, 1.0, frozenset())],
        members=members,
        network=network,
        generations=SimpleNamespace(all=[(Moment(0, 1.0), config)]),
    )
    returning = Returning(SimpleNamespace(town=town, complain=complaints.append))
    for member, mine in returning._dials.items():
        returning._judge_checked(member, mine)
    return complaints


def test_who_refused_under_a_name_that_is_gone_is_not_out_under_another_one():
    assert judged_refused(refused="a") == []
    (said,) = judged_refused(refused="b")
    assert said.endswith("was asked, which refused, and no check has passed since")


def test_what_is_known_of_a_backend_follows_its_heirs_wherever_they_move():
    members: Any = Members.__new__(Members)
    begins = Moment(1, 1.0)
    origin, stranger = (Member(SimpleNamespace(name=name, address="b:80"), object(), begins) for name in "ox")
    heir = Member(SimpleNamespace(name="h", address="b:80"), object(), begins, follows=origin)
    moved = Member(SimpleNamespace(name="h", address="a:80"), heir.record, begins)
    members.all = [origin, stranger, heir, moved]
    assert members.known_as(moved) == [heir.record, origin.record]
    assert members.known_as(stranger) == [stranger.record]


# Kept connections.


def judged_lost(*, ended: float, others: int) -> list[str]:
    """What is said of a GET that met a closed kept connection and was not repeated: when it ended, of a client that waits for 3 s, and
    how many requests the other backend had, of 2.
    """
    complaints: list[str] = []
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"], "max_in_flight": 2})
    a, b = (SimpleNamespace(record=object(), there=lambda at: True) for _ in range(2))
    clock = HeapClock(1.0)
    tapes = Tapes(clock, None)

    def attempt(member: Any, index: int) -> Attempt:
        tape = tapes.begin("backend")
        at = tapes.tick()
        tape.note(PUT, PLAIN)
        return Attempt(at, 1.0, "b:80", member, None, tape, index, SimpleNamespace(complete=False), None)

    mine = attempt(a, 1)
    attempts = {"c0r0": [mine]} | {f"c{other}r0": [attempt(b, 0)] for other in range(1, others + 1)}
    assert mine.tape is not None
    mine.tape.note(HEARD_FIN)
    record: Any = SimpleNamespace(name="c0r0", status=502, began=0.5, when=ended, at=tapes.tick(), tries=())
    oracle: Any = SimpleNamespace(
        complain=complaints.append,
        town=SimpleNamespace(
            network=SimpleNamespace(tapes=tapes),
            line=SimpleNamespace(abandoned_s=0.0),
            members=SimpleNamespace(at=lambda place, at: b),
        ),
        asks={"c0r0": (None, SimpleNamespace(method="GET", body=b"", mark=Mark(wait_s=3.0)))},
        backends=SimpleNamespace(attempts=attempts),
        idempotent=lambda name: True,
        bounded=True,
        settings=lambda name: [config],
        open=lambda at: {"b:80"},
    )
    Keeping(oracle)._judge_lost("c0r0", record, [mine])
    return complaints


def test_who_met_a_closed_kept_connection_is_not_repeated_where_no_time_or_no_place_is_left():
    assert judged_lost(ended=3.5, others=0) == []
    assert judged_lost(ended=2.0, others=2) == []


@pytest.mark.parametrize("others", [0, 1])
def test_who_met_a_closed_kept_connection_has_to_be_repeated_while_there_is_time_and_a_place(others):
    (said,) = judged_lost(ended=3.25, others=others)
    assert said == "c0r0, a GET, met a closed kept connection and was not repeated at {'b:80'}"


# Agents.


@pytest.mark.parametrize(
    ("failed", "heard"),
    [("REFUSED", (7, 1.5)), ("BACKLOG_FULL", (7, 1.5)), ("LOCAL_FAILURE", None), ("NO_PORT", None)],
)
def test_an_agent_was_not_heard_where_its_side_let_nobody_in(failed, heard):
    check = Check(1, 1.0, "a:80")
    check.failed, check.failed_at, check.failed_when = failed, 7, 1.5
    assert Agreeing(SimpleNamespace(town=None, complain=pytest.fail))._heard_at(check) == heard


@pytest.mark.parametrize(
    ("body", "complete", "line"),
    [
        (b"0\r\nall is w", False, b"0"),
        (b"drain\n", False, b"drain"),
        (b"drain", True, b"drain"),
        (b"drai", False, None),
        (b"", False, None),
    ],
)
def test_of_a_body_a_line_of_an_agent_is_enough(body, complete, line):
    length = len(body) + (not complete)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body)
    tape: Any = SimpleNamespace(all=lambda what: {PUT: b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", TOOK: answer}[what])
    check = Check(1, 1.0, "a:80")
    check.tape = tape
    town: Any = SimpleNamespace(agents=SimpleNamespace(kind="body"))
    assert Agreeing(SimpleNamespace(town=town, complain=pytest.fail))._line(check) == line


# Waits.


class Made:
    """An attempt as the balancer has it: when it began, what it ended in, and which one was before it."""

    def __init__(self, began: float, outcome: Outcome, before: "Made | None") -> None:
        self.began, self.outcome, self.before = began, outcome, before


@pytest.mark.parametrize(("retried", "hedged"), [(1.25, 1.5), (4.0, 4.25)])
def test_a_request_has_waited_until_it_was_sent_on_not_until_that_was_hedged(retried, hedged):
    """Whoever it is: the hedge stands before the attempt that is heard."""
    refused = Made(1.0, Outcome.REFUSED, None)
    hedge = Made(hedged, Outcome.CANCELLED, refused)
    heard = Made(retried, Outcome.OK, hedge)
    town: Any = Town.__new__(Town)
    dials: list[Any] = [SimpleNamespace(wanted_by="c0r0", failed="REFUSED", failed_when=1.0)]
    town.network = SimpleNamespace(dials=dials)
    ended: Any = SimpleNamespace(
        target=b"/r/c0r0", began=1.0, gathered_s=0.0, ended_at=5.0, attempts=[refused, heard, hedge], last=heard
    )
    assert town._waits(ended) == [(1.0, retried)]


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


# TLS.


def taped(*said: str, shaken: int = 2, shows: str = "right", tls: bool = True, alert: bytes = b"") -> Tape:
    """A connection over TLS on whose tape this is, a second apart."""
    clock = HeapClock(1000.0)
    tape = Tapes(clock, None).begin("backend a:80")
    tape.shaken, tape.shows = shaken, shows
    tape.wire = Wire(tls=tls, proxy_from_client=False)
    tape.wire.from_client.alert = alert
    tape.outgoing = SimpleNamespace(way=tape.wire.from_client)
    for one in said:
        clock.advance(1.0)
        tape.note(one, b"x")
    return tape


@pytest.mark.parametrize(
    ("good_bye", "up", "noted"),
    [(True, True, "FIN"), (False, True, "CUT"), (False, False, "FIN")],
)
@pytest.mark.parametrize("outwards", [True, False])
def test_an_end_over_tls_is_one_in_order_only_behind_a_good_bye(outwards, good_bye, up, noted):
    """In a handshake there is nothing to cut."""
    clock = HeapClock(1000.0)
    out, back = (TapedPipe(clock, 1000, Random(1), Chances) for _ in range(2))
    out.back, back.back = back, out
    out.outwards = outwards
    out.tape = tape = taped(shaken=2 if up else 1)
    tape.entries.clear()
    assert tape.wire is not None
    out.way = tape.wire.from_client
    if good_bye:
        out.way.good_bye = True
        tape.entries += [Entry(1, 1000.0, HEARD_FIN, b"")] if not outwards else []
    out.end()
    ends = {"FIN": (SAID_FIN, HEARD_FIN), "CUT": (SAID_CUT, HEARD_CUT)}
    assert [entry.what for entry in tape.entries] == [ends[noted][not outwards]]


UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome of it"


@pytest.mark.parametrize(("end", "whole"), [(HEARD_FIN, True), (HEARD_CUT, False), (HEARD_RST, False)])
def test_an_answer_until_the_close_is_whole_only_behind_a_good_bye(end, whole):
    clock = HeapClock(1.0)
    tape = Tapes(clock, None).begin("backend a:80")
    for what, data in ((PUT, PLAIN), (TOOK, UNTIL_CLOSE), (end, b"")):
        tape.note(what, data)
    town: Any = SimpleNamespace(
        members=SimpleNamespace(asked=lambda dialled: None),
        line=SimpleNamespace(abandoned_s=0.0),
        network=SimpleNamespace(kernel=object(), dials=[]),
        records=[],
    )
    backends = Backends(town, pytest.fail)
    dialled: Any = SimpleNamespace(at=1, when=1.0, address="a:80", wanted_by="c0r0", tape=tape, failed="")
    backends._read(dialled)
    (attempt,) = backends.attempts["c0r0"]
    assert attempt.answer is not None
    assert attempt.answer.complete is whole
    oracle: Any = Oracle.__new__(Oracle)
    oracle.backends, oracle.records, oracle._spans = backends, {}, {}
    oracle.asks = {"c0r0": (None, SimpleNamespace(mark=Mark()))}
    config = LoadBalancerConfig.model_validate({"backends": ["a:80"]})
    oracle.town = SimpleNamespace(
        clock=clock, generations=SimpleNamespace(between=lambda first, last: [config]), downs=[]
    )
    allowed = oracle.allowed("c0r0", attempt, 1.0)
    assert ("OK" in allowed, "CUT_SHORT" in allowed) == (whole, True), "that it was waited for too long is allowed too"


def failed(tape: Tape | None, *, after_s: float) -> Any:
    return SimpleNamespace(tape=tape, when=1000.0, failed_when=1000.0 + after_s, timeout_s=2.0)


@pytest.mark.parametrize(
    ("tape", "after_s", "means"),
    [
        (None, 1.0, set()),
        (None, 2.05, {"CONNECT_TIMEOUT"}),
        (None, 2.5, set()),
        (taped(shaken=0), 1.0, set()),
        (taped(shaken=1), 2.0, {"CONNECT_TIMEOUT"}),
        (taped(HEARD_FIN, shaken=0), 1.0, {"REFUSED"}),
        (taped("heard alert", shaken=1), 1.0, {"REFUSED"}),
        (taped(shows="expired", shaken=0), 1.0, {"REFUSED"}),
        (taped(HEARD_FIN, shaken=2), 1.0, set()),
    ],
)
def test_a_connect_over_tls_fails_by_who_ends_the_handshake_or_in_its_whole_time(tape, after_s, means):
    assert may_mean(failed(tape, after_s=after_s), 0.0) == means


def judged_shake(judge: str, *words: Any, **town: Any) -> list[str]:
    complaints: list[str] = []
    held = SimpleNamespace(lost_s=lambda since, until: 0.0)
    place = SimpleNamespace(
        closed=None,
        process=held,
        clock=HeapClock(1009.0),
        securing=SimpleNamespace(clients=True),
        **town,
    )
    handshaking = Handshaking(SimpleNamespace(town=place, complain=complaints.append))
    getattr(handshaking, judge)(*words)
    return complaints


def test_who_closes_without_a_good_bye_or_says_what_is_no_tls_is_seen():
    assert judged_shake("_judge_wire", taped(SAID_FIN)) == []
    assert judged_shake("_judge_wire", taped(SAID_CUT, alert=b"\2\x14")) == [], "an alert says why"
    (said,) = judged_shake("_judge_wire", taped(SAID_CUT))
    assert said.endswith("was closed without a good-bye")
    (said,) = judged_shake("_judge_wire", taped("said no tls"))
    assert "carries what is no TLS" in said


def test_a_client_has_its_whole_time_for_its_handshake_and_no_more():
    assert judged_shake("_judge_arrival", taped("heard finished")) == []
    assert judged_shake("_judge_arrival", taped("said finished", SAID_FIN)) == [], "2.0 s are set"
    assert judged_shake("_judge_arrival", taped(HEARD_FIN, SAID_FIN)) == [], "it has left"
    (said,) = judged_shake("_judge_arrival", taped(SAID_FIN))
    assert "was closed 1.0 s after its handshake began" in said
    (said,) = judged_shake("_judge_arrival", taped("said finished"))
    assert "was waited for 9.0 s" in said
    assert "was refused in its handshake" in judged_shake("_judge_arrival", taped("said alert", HEARD_FIN))[0]


@pytest.mark.parametrize(("done", "failures", "said"), [
    (1, {}, []),
    (1, {"left": 2, "timed_out": 1}, []),
    (2, {}, ["2 handshakes are counted, 1 are seen"]),
    (1, {"no_shared_cipher": 1}, ["handshakes failed, as it is counted, for {'no_shared_cipher': 1}"]),
])  # fmt: skip
def test_handshakes_are_counted_as_they_are_seen(done, failures, said):
    counts = SimpleNamespace(done={("TLSv1.3", "", False): done}, failures=failures)
    tapes = [taped("heard finished"), taped(HEARD_FIN)]
    assert judged_shake("_count", frontend=SimpleNamespace(handshaken=counts), client_tapes=tapes) == said


@pytest.mark.parametrize(
    ("tape", "detail", "said"),
    [
        (taped(), "", ""),
        (
            taped("said alert", SAID_FIN, shows="expired", shaken=0),
            "TLS: CERTIFICATE_VERIFY_FAILED: it has expired",
            "",
        ),
        (taped("said alert", SAID_FIN, shows="expired", shaken=0), "TLS: no answer", "is refused for 'TLS: no answer'"),
        (taped(shows="expired"), "", "shows expired, and is believed"),
        (taped(PUT, SAID_FIN, shows="expired", shaken=1), "", "shows expired, and is believed"),
        (taped("said alert", SAID_FIN, shaken=0), "TLS: no", "shows what it should, and is refused for 'TLS: no'"),
        (taped(shaken=1), "", "was waited for 9.0 s in its handshake, 2.0 are set"),
    ],
)
def test_a_backend_is_believed_by_its_certificate_alone_and_waited_for_in_its_time(tape, detail, said):
    dialled = SimpleNamespace(detail=detail, failed="", when=1000.0, timeout_s=2.0)
    found = judged_shake("_judge_connect", dialled, tape)
    assert [one.endswith(said) for one in found] == ([True] if said else [])


def judged_introduction(*, source: str) -> list[str]:
    """What is said of a request of the client 10.0.0.1 on a connection whose header names this one."""
    complaints: list[str] = []
    tape = taped(tls=False)
    assert tape.wire is not None
    tape.wire.from_client.header = header_of(1, source, "10.6.0.1", 40000, 8080)
    attempt = SimpleNamespace(tape=tape, reached=True)
    oracle: Any = SimpleNamespace(
        town=SimpleNamespace(network=SimpleNamespace(checked=[])),
        complain=complaints.append,
        asks={"c0r0": (SimpleNamespace(shown="10.0.0.1"), None)},
        backends=SimpleNamespace(attempts={"c0r0": [attempt]}),
    )
    Handshaking(oracle)._judge_introductions()
    return complaints


def test_a_backend_that_was_told_of_another_client_is_seen():
    assert judged_introduction(source="10.0.0.1") == []
    (said,) = judged_introduction(source="10.0.0.2")
    assert said.endswith("was told of '10.0.0.2', and serves c0r0 of 10.0.0.1")


@pytest.mark.parametrize(
    ("short", "good_bye", "ended", "excused"),
    [(1001.0, 1001.4, 1001.4, True), (1001.0, 1001.4, 1001.6, False), (1001.2, 1001.4, 1001.4, False), (1001.0, -1.0, 1001.4, False)],
)  # fmt: skip
def test_a_connection_stays_for_its_good_bye_only_while_there_is_no_room_for_that(short, good_bye, ended, excused):
    tape = taped()
    tape.outgoing = SimpleNamespace(short=[short], good_bye_when=good_bye)
    tape.entries.append(Entry(9, ended, SAID_FIN, b""))
    assert tape.good_bye_waited(1001.0) is excused


@pytest.mark.parametrize(("shaken", "idle"), [(2, True), (1, False)])
def test_who_is_in_its_handshake_is_not_idle(shaken, idle):
    tape = taped(shaken=shaken)
    tape.end = SimpleNamespace(connected=True, unsent=0)
    tape.outgoing, tape.incoming = SimpleNamespace(queued=0), SimpleNamespace(bytes=b"")
    assert _idle(tape) is idle


@pytest.mark.parametrize(("left", "silent"), [(b"\x17\3\3\0", False), (b"", True)])
def test_who_is_taken_back_is_told_so_if_only_by_the_beginning_of_a_record(left, silent):
    complaints: list[str] = []
    tape = taped()
    assert tape.wire is not None
    tape.wire.from_server.feed(left)
    tape.outgoing = SimpleNamespace(way=tape.wire.from_server)
    conversation: Any = Conversation.__new__(Conversation)
    conversation._raw, conversation._tape, conversation._said = b"", tape, None
    conversation._client = SimpleNamespace(name="c0", left="", host="10.0.0.1")
    conversation._oracle = SimpleNamespace(complain=complaints.append)
    conversation._town = SimpleNamespace(faults=SimpleNamespace(happened=[]))
    conversation._excused = lambda index, request: True
    record: Any = SimpleNamespace(ended_by="CANCELLED")
    with patch.object(Conversation, "_cut", True):
        conversation._judge_unanswered(0, None, "c0r0", record)
    assert complaints == (["c0: c0r0 was taken back without a word"] if silent else [])
