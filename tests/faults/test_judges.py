"""Judges of the fault network, each before a case made by hand: what is right passes, and its neighbour that is wrong does not."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from faults.agents import Agreeing
from faults.attempts import Attempt, Backends
from faults.keeping import Keeping
from faults.ledger import Change, Member, Members, Moment, TakenOut, Try
from faults.marks import Mark
from faults.oracle import Oracle
from faults.outlying import Outlying
from faults.reader import read_both
from faults.returning import Returning
from faults.tape import HEARD_FIN, PUT, SAID_FIN, SAID_RST, TOOK, Check, Tape, TapedPipe, Tapes
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
