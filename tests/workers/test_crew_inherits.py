"""A crew that follows another one: workers of a program before go on until each slot has one of its own, and drain then."""

import os
import socket
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from crewed import NOBODY, Plane, Reactor, end, serve, with_backends
from twisted.internet.error import ProcessDone
from twisted.python.failure import Failure

from twisted_lb.workers import crew as crews
from twisted_lb.workers.crew import Crew
from twisted_lb.workers.facts import Probed
from twisted_lb.workers.handover import Handover
from twisted_lb.workers.inheritance import Inheritance, Inherited, of_handover
from twisted_lb.workers.life import Life
from twisted_lb.workers.messages import Hurry, Leave
from twisted_lb.workers.table import MOST_OLD, SERVES, Table, lives_of, make_table


@pytest.fixture
def closing():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def told(monkeypatch):
    """What lives are told, and who is killed."""
    said: list[tuple[Life, Any, dict[str, Any]]] = []
    monkeypatch.setattr(Crew, "_send", lambda crew, life, command, **more: said.append((life, command, more)))
    return said


@pytest.fixture
def reactor(monkeypatch):
    one = Reactor()
    one.killed = []
    one.watched = {}

    def watched(pid, ended, reactor):
        one.watched[pid] = ended

    monkeypatch.setattr(crews, "Watched", watched)
    monkeypatch.setattr("twisted_lb.workers.life.os.kill", lambda pid, number: one.killed.append(pid))
    one.crews = []
    yield one
    for crew in one.crews:
        crew.leave(0.0)
        for life in list(crew.lives):
            end(life)


def inherited(
    closing, slot: int, row: int | None, *, generation: int = 0, answers: bool = True, **more: Any
) -> Inherited:
    ours, theirs = socket.socketpair()
    closing.enter_context(theirs)
    values = {"leaving": False, "leaves_at": None, "same_program": True}
    if not answers:
        ours.close()
    return Inherited(
        NOBODY + 100 + 10 * generation + slot,
        slot,
        row,
        generation,
        0.0,
        connection=ours if answers else None,
        **(values | more),
    )


def inheritance(workers: list[Inherited], slots: int = 2, generation: int = 1, **more: Any) -> Inheritance:
    rows = lives_of(slots)
    fd = make_table(slots, rows)
    table = Table(fd, slots, rows)
    for one in workers:
        assert table.take() == one.row
        table.name(one.row, one.pid)
    values = {
        "control": None,
        "control_name": "",
        "channels": {},
        "held": [],
        "clones": {},
        "columns": [],
    } | more
    return Inheritance(generation, fd, (slots, rows), workers=workers, **values)


def crew_of(reactor, left: Inheritance, count: int = 2) -> Crew:
    crew = Crew(reactor, count, 7, lambda pool, backend: "", left)
    encoded = SimpleNamespace(for_one_who_knows=lambda known: b"", numbers=set())
    reactor.crews.append(crew)
    crew._plans = SimpleNamespace(encoded=lambda plane: encoded)
    return crew


def leaves(told) -> list[int]:
    return [life.slot for life, command, _ in told if command is Leave]


def test_each_old_worker_drains_when_its_slot_has_a_new_one(closing, reactor, told):
    crew = crew_of(reactor, inheritance([inherited(closing, 0, 0), inherited(closing, 1, 1)]))
    assert not crew.ready or not reactor.spawned
    crew.begin(Plane(), {}, {})
    assert [life.slot for life in reactor.spawned] == [0]
    assert (leaves(told), crew.rolling) == ([], True)
    serve(crew, reactor.spawned[0])
    assert [life.slot for life in reactor.spawned] == [0, 1]
    assert (leaves(told), crew.rolling) == ([0], True)
    serve(crew, reactor.spawned[1])
    assert (leaves(told), crew.rolling) == ([0, 1], False)
    assert [more["most_s"] for _, command, more in told if command is Leave] == [100.0, 100.0]
    assert crew.ready
    # With time for tunnels, and no longer.
    reactor.advance(104)
    assert reactor.killed == []
    reactor.advance(2)
    assert reactor.killed == [NOBODY + 100, NOBODY + 101]


def test_an_old_worker_is_told_of_nothing_new(closing, reactor, told):
    crew = crew_of(reactor, inheritance([inherited(closing, 0, 0), inherited(closing, 1, 1)]))
    crew.begin(Plane(), {}, {})
    serve(crew, reactor.spawned[0])
    crew.probed("app", "a", SimpleNamespace(passed=True, reason="", silent=False, busy=False, said=None, asked_at=None))
    crew.follow()
    reactor.advance(0)
    assert {life.slot for life, command, _ in told if life.old} <= {0}
    assert {command for life, command, _ in told if life.old} == {Leave}


def test_a_slot_whose_old_worker_dies_is_followed_first_and_covered(closing, reactor, told):
    crew = crew_of(reactor, inheritance([inherited(closing, 0, 0), inherited(closing, 1, 1)]))
    crew.begin(Plane(), {}, {})
    old = crew.lives[1]
    reactor.watched[old.pid](Failure(ProcessDone(0)))
    old.unlinked()
    assert old not in crew.lives
    serve(crew, reactor.spawned[0])
    reactor.advance(0.3)
    assert [life.slot for life in reactor.spawned] == [0, 1]
    assert crew.restarts == 1


def test_one_that_does_not_answer_its_new_parent_is_killed(closing, reactor, told):
    crew = crew_of(reactor, inheritance([inherited(closing, 0, 0), inherited(closing, 1, 1, answers=False)]))
    crew.begin(Plane(), {}, {})
    reactor.advance(6)
    assert reactor.killed == [NOBODY + 101]


def test_what_drained_before_is_killed_when_it_was_to_be(closing, reactor, told):
    old = inherited(closing, 0, 0, leaving=True, leaves_at=50.0)
    crew = crew_of(reactor, inheritance([old, inherited(closing, 1, 1)]))
    crew.begin(Plane(), {}, {})
    reactor.advance(49)
    assert reactor.killed == []
    reactor.advance(2)
    assert reactor.killed == [old.pid]
    assert leaves(told) == []


def test_of_too_many_programs_the_oldest_has_its_workers_cut(closing, reactor, told):
    old = [
        inherited(closing, 0, generation, generation=generation, leaving=generation < MOST_OLD)
        for generation in range(MOST_OLD + 1)
    ]
    crew = crew_of(reactor, inheritance(old, generation=MOST_OLD + 1))
    crew.begin(Plane(), {}, {})
    assert [life.generation for life, command, _ in told if command is Hurry] == [0]
    reactor.advance(6)
    assert reactor.killed == [old[0].pid]


def test_what_old_workers_have_in_flight_counts_and_what_dead_ones_had_does_not(closing, reactor, told):
    left = inheritance([inherited(closing, 0, 0)], columns=[("app", "a", 0), ("app", "b", 1)])
    table = Table(left.table, *left.size)
    dead = table.take()
    table.given = 2
    table.lives[0][1], table.lives[dead][1] = 3, 4
    crew = crew_of(reactor, left)
    assert crew.in_flight("app", "b") == 3
    assert crew.table.fd == left.table
    crew._plane = plane = Plane()
    plane.clusters = with_backends("b", "c")
    plane.overlay = SimpleNamespace(of=lambda pool: SimpleNamespace(admin={}))
    crew.follow()
    # Whoever is of another program may have something at "a" still.
    assert crew._columns.of("app", "c") == 2
    assert crew.in_flight("app", "a") == 0


def test_another_number_of_workers_has_a_table_of_its_own(closing, reactor, told):
    left = inheritance([inherited(closing, 0, 0), inherited(closing, 1, 1)])
    crew = crew_of(reactor, left, count=3)
    assert len(crew.table.slots) == 3
    assert [life.row for life in crew.lives] == [None, None]
    crew.begin(Plane(), {}, {})
    for _ in range(3):
        serve(crew, reactor.spawned[-1])
    assert leaves(told) == [0, 1]
    reactor.advance(5)  # they beat elsewhere, and are not taken for dead
    assert reactor.killed == []


def test_of_fewer_workers_each_is_followed_by_one_that_has_its_sockets(closing, reactor, told):
    left = inheritance([inherited(closing, slot, slot) for slot in range(3)], slots=3)
    crew = crew_of(reactor, left)
    crew.begin(Plane(), {}, {})
    serve(crew, reactor.spawned[0])
    assert leaves(told) == [0, 2]
    serve(crew, reactor.spawned[1])
    assert leaves(told) == [0, 2, 1]
    assert crew.places == [0, 1, 2]
    assert [life.slot for life in crew.lives_of(2)] == [2]


def test_the_number_of_the_program_and_the_restarts_go_on(closing, reactor, told):
    crew = crew_of(reactor, inheritance([], generation=4, restarts=3))
    crew.begin(Plane(), {}, {})
    assert (crew.generation, crew.restarts, reactor.spawned[0].generation) == (4, 3, 4)


def test_what_is_handed_over_is_what_the_next_program_inherits(closing, reactor, told, monkeypatch):
    facts = [Probed("app", "a", passed=False, reason="refused")]
    crew = crew_of(
        reactor, inheritance([inherited(closing, 0, 0, generation=0), inherited(closing, 1, 1)], facts=facts)
    )
    plane = Plane()
    plane.measures = lambda: crews.Reports(lambda *_: None).measures
    crew.begin(plane, {}, {})
    for _ in range(2):
        serve(crew, reactor.spawned[-1])
    crew.table.slots[0][SERVES] = 1
    text = crew.hand_over([], {}, {"version": 1}, "/run/x.pid").text()
    handed = Handover.of_text(text)
    assert (handed.generation, handed.slots, handed.pid_file) == (2, 2, "/run/x.pid")
    assert [(one.slot, one.row, one.generation, one.leaving) for one in handed.workers] == [
        (0, 0, 0, True),
        (1, 1, 0, True),
        (0, 2, 1, False),
        (1, 3, 1, False),
    ]
    assert [one.leaves_at for one in handed.workers] == [105.0, 105.0, None, None]
    # The next program has descriptors of its own.
    copies = [os.dup(fd) for fd in handed.descriptors()]
    moved = iter(copies)
    again = of_handover(
        Handover(
            **{
                **{name: getattr(handed, name) for name in handed.__dataclass_fields__},
                "table": next(moved),
                "channels": [(next(moved), next(moved)) for _ in handed.channels],
            }
        )
    )
    assert again.size == (2, lives_of(2))
    assert [one.connection for one in again.workers] == [None] * 4
    assert {slot: [end.fileno() for end in ends] for slot, ends in again.channels.items()} == {
        0: copies[1:3],
        1: copies[3:5],
    }
    again.close()


def test_a_worker_that_was_about_to_start_is_waited_for_and_missed_by_nobody(closing, reactor, told):
    crew = crew_of(reactor, inheritance([inherited(closing, 0, 0)]))
    plane = Plane()
    plane.measures = lambda: crews.Reports(lambda *_: None).measures
    crew.begin(plane, {}, {})
    [old, new] = Handover.of_text(crew.hand_over([], {}, {}, "").text()).workers
    assert (old.starts, new.starts, new.row) == (False, True, 1)


def test_a_worker_of_another_program_is_asked_nothing(closing, reactor, told):
    old = inherited(closing, 0, 0, same_program=False)
    crew = crew_of(reactor, inheritance([old]))
    assert crew.ask("measures", {}).result == {}
    understood = crew_of(reactor, inheritance([inherited(closing, 0, 0)]))
    assert not hasattr(understood.ask("measures", {}), "result")
