"""The crew: what the parent does about workers that cannot be started, leave, hang or die, without a process of them."""

import errno
import os
import socket
from contextlib import ExitStack, suppress
from types import SimpleNamespace
from typing import Any

import pytest
from crewed import Plane, Reactor, end, serve, with_backends
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.python.failure import Failure

from twisted_lb.probes import ProbeResult
from twisted_lb.workers import life as one_life
from twisted_lb.workers.crew import Crew
from twisted_lb.workers.life import Life
from twisted_lb.workers.messages import Ask, Leave
from twisted_lb.workers.slots import clones_of
from twisted_lb.workers.table import BEAT, CAME, SERVES, WENT
from twisted_lb.workers.worker import Start


@pytest.fixture
def reactor():
    return Reactor()


@pytest.fixture
def crew(reactor, monkeypatch):
    """A crew of three whose plans are nothing."""
    one = Crew(reactor, 3, 7, lambda pool, backend: "")
    encoded = SimpleNamespace(for_one_who_knows=lambda known: b"", numbers=set())
    monkeypatch.setattr(one, "_plans", SimpleNamespace(encoded=lambda plane: encoded))
    killed = []
    monkeypatch.setattr(one_life.os, "kill", lambda pid, signal: killed.append(pid))
    one.killed = killed
    yield one
    if one._done is None:
        one.leave(0.0)
    for life in list(one.lives):
        end(life)


def started(crew: Crew, reactor: Reactor) -> list[Life]:
    """All of them serve."""
    crew.begin(Plane(), {}, {})
    while len([life for life in crew.lives if life.version]) < crew.count:
        serve(crew, reactor.spawned[-1])
    return list(crew.lives)


def slots(crew: Crew) -> list[int]:
    return sorted(life.slot for life in crew.lives if life.accepting)


def test_a_command_line_has_the_number_of_its_worker_and_not_the_seed_of_chance(crew, reactor):
    started(crew, reactor)
    for slot, (words, start) in enumerate(reactor.told):
        assert words[1:] == ["-P", "-m", "twisted_lb.workers.worker", str(slot)]
        assert Start(**start).slot == slot
    assert len({start["seed"] for _, start in reactor.told}) == crew.count


def test_workers_that_cannot_be_started_are_tried_again_and_nothing_is_lost(crew, reactor):
    reactor.refuses = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    crew.begin(Plane(), {}, {})
    assert crew.lives == []
    for _ in range(20):
        reactor.advance(31)
    reactor.refuses = None
    reactor.advance(31)
    for _ in range(3):
        serve(crew, reactor.spawned[-1])
    assert [life.slot for life in reactor.spawned] == [0, 1, 2]
    assert crew.ready


def test_a_stop_while_no_worker_can_be_started_kills_nobody(crew, reactor):
    reactor.refuses = OSError(errno.ENOMEM, "Cannot allocate memory")
    crew.begin(Plane(), {}, {})
    assert len(reactor.getDelayedCalls()) == 4  # three that are tried again, and the reports
    assert crew.leave(0.0).called
    assert crew.killed == []
    assert reactor.getDelayedCalls() == []


def test_a_process_that_has_ended_is_not_killed_though_its_link_is_still_read(crew, reactor):
    [first, *_] = started(crew, reactor)
    first.processEnded(Failure(ProcessTerminated(signal=9)))
    first.kill()
    crew.taken(first, crew._version, "it could not")
    reactor.advance(1000)
    assert first.pid not in crew.killed


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (ProcessTerminated(signal=9), "by SIGKILL"),
        (ProcessTerminated(signal=250), "by signal 250"),
        (ProcessTerminated(exitCode=3), "with status 3"),
        (ProcessDone(0), "in order"),
    ],
)
def test_how_a_worker_has_ended_is_said_in_few_words(reason, said):
    assert one_life.how_of(Failure(reason)) == said


def test_a_worker_that_was_told_to_end_is_replaced_at_once(crew, reactor):
    lives = started(crew, reactor)
    crew.leaves(lives[1], 30.0)
    assert slots(crew) == [0, 2]
    serve(crew, reactor.spawned[-1])
    assert slots(crew) == [0, 1, 2]
    assert crew.killed == []
    reactor.advance(36)
    assert crew.killed == [lives[1].pid]
    end(lives[1])
    assert crew.restarts == 0
    assert len(crew.lives) == 3


def test_workers_that_are_told_to_end_again_and_again_are_never_too_many(crew, reactor):
    started(crew, reactor)
    rows = len(crew.table.lives)
    for _ in range(3 * rows):
        leaving = next(life for life in crew.lives if not life.leaving and life.version)
        crew.leaves(leaving, 1000.0)
        for pid in crew.killed:
            for life in [one for one in crew.lives if one.pid == pid]:
                end(life)
        crew.killed.clear()
        serve(crew, reactor.spawned[-1])
    assert len(crew.lives) <= rows
    assert slots(crew) == [0, 1, 2]


def test_a_link_that_is_lost_without_its_process_ends_that_process(crew, reactor):
    [first, *_] = started(crew, reactor)
    first.link.connectionLost()
    assert crew.killed == []
    reactor.advance(6)
    assert crew.killed == [first.pid]


def go_round(crew: Crew, *, seconds: int, hang: Life | None = None) -> None:
    """Everybody's workers go round for so long, but one."""
    for _ in range(seconds):
        for life in crew.lives:
            if life is not hang:
                crew.table.slots[life.slot][BEAT] += 1
                crew.table.slots[life.slot][SERVES] = 1
        crew._reactor.advance(1)


def test_a_worker_that_hangs_is_covered_and_in_the_end_killed(crew, reactor):
    lives = started(crew, reactor)
    go_round(crew, seconds=5)
    go_round(crew, seconds=4, hang=lives[0])
    assert slots(crew) == [1, 2]
    assert [crew.table.slots[slot][SERVES] for slot in range(3)] == [0, 1, 1]
    assert crew.killed == []
    # A reload does not wait for it.
    crew._version += 1
    for life in lives[1:]:
        crew.taken(life, crew._version, "")
    assert crew.settled
    go_round(crew, seconds=31, hang=lives[0])
    assert crew.killed == [lives[0].pid]


def hand_on(crew: Crew, slot: int, name: str) -> None:
    """A worker hands a connection on to that slot."""
    fd = os.open(os.devnull, os.O_RDONLY)
    socket.send_fds(crew._channels[slot][0], [name.encode()], [fd])
    os.close(fd)
    crew.table.slots[2][WENT + slot] += 1


def handed(crew: Crew, slot: int) -> list[str]:
    """What is on its way to a slot, and as many as the table has."""
    found = []
    with suppress(BlockingIOError):
        while True:
            name, fds, _, _ = socket.recv_fds(crew._channels[slot][1], 100, 1)
            found.append(name.decode())
            for fd in fds:
                os.close(fd)
    rows = crew.table.slots
    assert sum(row[WENT + slot] for row in rows) - rows[slot][CAME] == len(found)
    rows[slot][CAME] += len(found)
    return found


def test_what_was_handed_on_to_a_worker_that_has_died_goes_to_another_one(crew, reactor):
    lives = started(crew, reactor)
    for name in ("a", "b"):
        hand_on(crew, 0, name)
    end(lives[0])
    assert handed(crew, 0) == []
    # By somebody who had looked before that, and has done it now.
    hand_on(crew, 0, "c")
    reactor.advance(1)
    assert handed(crew, 1) == ["a", "b", "c"]
    assert handed(crew, 0) == []


def test_what_was_handed_on_to_a_worker_that_hangs_goes_to_another_one(crew, reactor):
    lives = started(crew, reactor)
    go_round(crew, seconds=2)
    hand_on(crew, 0, "a")
    go_round(crew, seconds=2, hang=lives[0])
    assert handed(crew, 1) == []
    go_round(crew, seconds=3, hang=lives[0])
    assert handed(crew, 1) == ["a"]


def test_what_was_handed_on_waits_for_the_next_worker_where_there_is_no_other(crew, reactor):
    lives = started(crew, reactor)
    for life in lives[1:]:
        end(life)
    hand_on(crew, 0, "a")
    end(lives[0])
    reactor.advance(0.01)
    assert [handed(crew, slot) for slot in (1, 2, 0)] == [[], [], ["a"]]


def test_what_another_worker_has_no_room_for_stays_where_it_is(crew, reactor):
    lives = started(crew, reactor)
    hand_on(crew, 0, "a")
    with suppress(BlockingIOError):
        while True:
            hand_on(crew, 1, "full")
    end(lives[0])
    assert handed(crew, 0) == ["a"]


def test_nobody_waits_for_the_answer_of_one_that_hangs(crew, reactor, monkeypatch):
    lives = started(crew, reactor)
    asked = []

    def call(link: Any, command: Any, **more: Any) -> Any:
        asked.append((link._life, command))
        return Deferred() if command is Ask else succeed({})

    monkeypatch.setattr(one_life.Link, "callRemote", call)
    go_round(crew, seconds=5, hang=lives[0])
    asked.clear()
    crew.ask("explain", {"request_id": "~1"})
    assert [life for life, command in asked if command is Ask] == lives[1:]


def test_a_worker_that_comes_back_takes_its_place_again(crew, reactor):
    lives = started(crew, reactor)
    go_round(crew, seconds=10, hang=lives[0])
    assert slots(crew) == [1, 2]
    go_round(crew, seconds=1)
    assert slots(crew) == [0, 1, 2]
    go_round(crew, seconds=100)
    assert crew.killed == []


def test_a_worker_that_answers_late_and_moves_is_not_killed(crew, reactor, monkeypatch):
    started(crew, reactor)
    monkeypatch.setattr(one_life.Link, "callRemote", lambda link, command, **more: Deferred())
    go_round(crew, seconds=200)
    assert crew.killed == []
    assert slots(crew) == [0, 1, 2]


def test_a_parent_that_was_away_itself_takes_nobody_for_dead(crew, reactor):
    started(crew, reactor)
    go_round(crew, seconds=3)
    reactor.advance(500)
    assert slots(crew) == [0, 1, 2]


# Sockets.


def test_clones_do_not_listen_before_somebody_accepts():
    with ExitStack() as closing:
        sock = closing.enter_context(socket.create_server(("127.0.0.1", 0)))
        clones = [closing.enter_context(one) for one in clones_of(sock, 3)]
        assert clones[0] is sock
        assert [one.getsockname() for one in clones] == [sock.getsockname()] * 3
        assert [one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for one in clones] == [1, 0, 0]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_socket_that_another_user_has_made_is_shared_by_all():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        os.seteuid(65534)
        try:
            assert clones_of(sock, 3) == [sock] * 3
        finally:
            os.seteuid(0)


def go_by(crew: Crew, *names: str) -> None:
    """Have these backends, and all workers know it."""
    crew._plane.clusters = with_backends(*names)
    crew._plane.overlay = SimpleNamespace(of=lambda pool: SimpleNamespace(admin={}))
    crew.follow()
    for life in crew.lives:
        crew.taken(life, crew._version, "")


def test_backends_that_come_and_go_for_ever_need_no_more_columns_than_there_are_of_them(crew, reactor):
    started(crew, reactor)
    for number in range(50):
        go_by(crew, f"a{number}", f"b{number}")
    assert crew.table.given <= 6
    assert {name for _, name, _ in crew._columns.values()} >= {"a49", "b49"}


def test_a_column_is_anothers_only_when_nobody_has_anything_there_or_knows_the_one_before(crew, reactor):
    lives = started(crew, reactor)
    go_by(crew, "a")
    column = crew._columns.of("app", "a")
    crew.table.lives[lives[0].row][column] = 1
    for names in (("b",), ("b", "c"), ("b", "d")):
        go_by(crew, *names)
        assert column not in {crew._columns.of("app", name) for name in names}
        assert crew.in_flight("app", "a") == 1
    crew.table.lives[lives[0].row][column] = 0
    crew._plane.clusters = with_backends("b", "e")
    crew.follow()
    assert crew._columns.of("app", "a") is None
    assert crew._columns.of("app", "e") < crew.table.given == 4


def test_what_was_heard_of_a_backend_that_is_gone_is_forgotten(crew, reactor):
    started(crew, reactor)
    go_by(crew, "a")
    crew.probed("app", "a", ProbeResult(passed=True, reason=""))
    crew.agent_said("app", "a", b"up")
    go_by(crew, "b")
    assert not crew._news.hearsay._probes
    assert not crew._news.hearsay._agents


def test_a_worker_hears_what_is_found_out_between_its_first_plan_and_its_first_client(crew, reactor, monkeypatch):
    crew.begin(Plane(), {}, {})
    life = reactor.spawned[-1]
    told = []
    for teller in (crew, crew._news):
        monkeypatch.setattr(teller, "_tell", lambda one, facts: told.append((one, [fact.backend for fact in facts])))
    crew.probed("app", "early", ProbeResult(passed=False, reason="x"))
    reactor.advance(0)
    assert told == []
    crew.imported(life)
    crew.probed("app", "a", ProbeResult(passed=False, reason="x"))
    reactor.advance(0)
    assert told == [(life, []), (life, ["a"])]


def test_nobody_waits_at_a_stop_for_workers_to_go_by_something(crew, reactor):
    started(crew, reactor)
    crew.follow()
    fired = []
    crew.settle().addCallback(fired.append)
    assert not fired
    crew.leave(1.0)
    assert fired == [None]


def test_at_a_stop_a_worker_drains_that_may_have_clients_though_it_has_not_said_so_yet(crew, reactor, monkeypatch):
    told = []
    monkeypatch.setattr(one_life.Link, "callRemote", lambda link, command, **more: told.append((link._life, command)))
    crew.begin(Plane(), {}, {})
    serve(crew, reactor.spawned[0])
    starting = reactor.spawned[1]
    crew.imported(starting)
    crew.leave(1.0)
    assert [life for life, command in told if command is Leave] == [reactor.spawned[0], starting]
    assert crew.killed == []
    reactor.advance(one_life.KILL_S + 1.0)
    assert crew.killed == [reactor.spawned[0].pid, starting.pid]


def test_at_a_stop_a_worker_is_killed_that_imports_still(crew, reactor):
    crew.begin(Plane(), {}, {})
    crew.leave(1.0)
    assert crew.killed == [reactor.spawned[0].pid]
