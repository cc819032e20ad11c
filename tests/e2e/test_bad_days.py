"""Bad days, with real processes: the scenarios of docs/reliability.md for ours, small; in their full size they are `long`."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from bad_days import bulk, clock, closers, crowds, faults, moves, reloads, returns, successions
from bad_days.proxies import under_test
from bad_days.recipes import Patience, our_config
from bad_days.scenarios import SCENARIOS
from bad_days.soak import PATIENCE, grown, leftovers, soak, trends
from bad_days.stage import Stage, stage, until
from ports import free_port

QUICK = Patience(connect_s=0.5, answer_s=1, head_s=2, body_s=2, check_s=0.2)
FULL = Patience()
UNCHECKED = Patience(check_s=0)
MIB = 1 << 20

needs_hosts = pytest.mark.skipif(not moves.hosts_can_move(), reason="no namespace with an /etc/hosts of its own here")
needs_gcc = pytest.mark.skipif(clock.GCC is None, reason="gcc is missing, which makes a clock that steps")
needs_slowhttptest = pytest.mark.skipif(crowds.SLOWHTTPTEST is None, reason="slowhttptest is not installed")


@pytest.fixture
def world() -> Iterator[Stage]:
    with stage() as one:
        yield one


def in_full(world: Stage, name: str):
    scenario = SCENARIOS[name]
    return scenario.run(world, under_test(), scenario.patience, **scenario.full)


def test_no_client_notices_that_a_backend_is_killed(world):
    seen = faults.killed(world, under_test(), QUICK, times=2, meanwhile=100)
    assert seen.requests > 200
    assert seen.errors == {}


@pytest.mark.long
def test_no_client_of_a_backend_that_stands_still_is_failed_while_another_one_answers(world):
    seen = faults.stopped(world, under_test(), QUICK, meanwhile=100)
    assert seen.requests > 100
    assert seen.errors == {}


@pytest.mark.long
def test_no_client_of_a_backend_whose_listen_queue_is_full_is_failed(world):
    seen = faults.full(world, under_test(), QUICK, meanwhile=100)
    assert seen.requests > 100
    assert seen.errors == {}


@pytest.mark.long
def test_no_post_meets_the_close_of_a_connection(world):
    seen = faults.closing(world, under_test(), QUICK, clients=6, posts=4, idle_s=0.8, deaf_s=0.02, first=1.5)
    assert (seen.requests, seen.errors) == (24, {})


@pytest.mark.long
def test_the_only_backend_is_asked_again_once_it_is_back(world):
    seen = returns.away(world, under_test(), QUICK, outages_s=(0.6,), checks_s=(0, 0.2))
    assert [case.note for case in seen.cases.values()] == [""] * 2
    # One or two that meet the moment of the return; a rest that goes on lasts for dozens.
    assert sum(seen.errors.values()) <= 10


@pytest.mark.long
def test_a_restart_of_the_only_backend_is_waited_for(world):
    seen = returns.restarted(world, under_test(), QUICK, checks_s=(10,), away_s=0.3, times=1, rest_s=0.1)
    (case,) = seen.cases.values()
    assert len(case.back_s) == 1
    # Nobody waits for the next check, in ten seconds: that would be a hundred.
    assert sum(seen.errors.values()) <= 20


@pytest.mark.long
def test_no_post_is_sent_where_the_backend_closes_after_each_answer(world):
    habits = (closers.POSTS[4], closers.POSTS[6])
    seen = closers.closers(world, under_test(), UNCHECKED, habits=habits, requests=300, at_a_time=16, runs=1)
    new, kept = seen.cases.values()
    assert new.errors == {}
    # Those under way when its first close was seen.
    assert sum(kept.errors.values()) <= 16


@pytest.mark.long
def test_a_get_that_meets_a_close_is_always_repeated(world):
    seen = closers.closers(world, under_test(), UNCHECKED, habits=closers.GETS, requests=600, at_a_time=16, runs=1)
    assert (seen.requests, seen.errors) == (600, {})


@needs_gcc
@pytest.mark.long
def test_what_should_end_does_although_the_clock_goes_back_and_nothing_else(world):
    patience = Patience(head_s=0.5, keep_s=1, check_s=0.1)
    seen = clock.stepped(world, under_test(), patience, steps_s=(-clock.HOUR_S,), slow_s=0.8)
    assert len(seen.cases) == 6
    assert [title for title, case in seen.cases.items() if case.took_s is None] == []


@pytest.mark.long
def test_no_client_notices_takeovers(world):
    seen = successions.succeeded(world, under_test(), Patience(check_s=0.2), times=2, meanwhile=32)
    assert seen.requests >= 80
    assert seen.errors == {}


@pytest.mark.long
def test_no_client_notices_reloads(world):
    seen = reloads.reloaded(world, under_test(), PATIENCE, times=12, clients=8, standing=5, downloads=4, last_s=0.5)
    assert seen.requests > 30
    assert (seen.errors, seen.note) == ({}, "")


@pytest.mark.long
def test_idle_connections_cost_little_and_keep_nobody_out(world):
    seen = crowds.idle(world, under_test(), FULL, connections=400, requests=100)
    assert seen.errors == {}
    assert seen.note == "400 of 400 idle connections were still open"
    assert seen.memory_kib < 16


def test_who_comes_when_descriptors_are_scarce_waits_and_is_served(world):
    port = free_port()
    config = world.folder / "few.toml"
    config.write_text(our_config(port, [world.backend("a").address], FULL))
    words = [under_test().program, "--nodaemon", "--pidfile=", "lb", "--config", config]
    few = world.start(["sh", "-c", 'ulimit -n 80; exec "$0" "$@"', *words])
    until(lambda: "80 descriptors" in few.log, "it runs")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(100)]
        for client in clients:
            client.sendall(crowds.REQUEST)
        # Whoever is served leaves, and the next one is let in, in the order of the kernel's queue.
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
            client.close()
    assert "Traceback" not in few.log


@needs_slowhttptest
@pytest.mark.long
def test_slow_heads_keep_nobody_out(world):
    seen = crowds.slow(world, under_test(), QUICK, mode="slowloris", connections=100, seconds=1)
    assert seen.errors == {}
    assert seen.note.endswith("its own probe was served")


@pytest.mark.long
def test_nothing_is_left_after_mixed_traffic(world):
    soaked = soak(world, under_test(), seconds=3)
    assert soaked.requests > 100
    assert soaked.faults == []


QUIET = {"second": 1, "clients": 0, "exchanges": 0, "leases": 0, "upstreams": 2, "idle_upstreams": 2, "deadlines": 2}


@pytest.mark.parametrize("name", ["clients", "exchanges", "leases", "upstreams", "deadlines"])
def test_a_soak_sees_what_is_left(name):
    assert leftovers(QUIET) == []
    assert len(leftovers({**QUIET, name: 9})) == 1


FLAT = {
    "memory_kib": 80_000,
    "held_kib": 40_000,
    "descriptors": 10,
    "delayed_calls": 4,
    "readers": 5,
    "clients": 0,
    "upstreams": 0,
}


@pytest.mark.parametrize("name", ["memory_kib", "held_kib", "descriptors", "delayed_calls", "readers"])
def test_a_soak_sees_what_grows(name):
    flat = [FLAT] * 12
    assert trends(flat) == []
    growing = [{**sample, name: sample[name] + n * 3000} for n, sample in enumerate(flat)]
    assert len(trends(growing)) == 1


def test_a_soak_sees_100_bytes_a_request_that_are_never_freed():
    """Of 60 requests a second, as few as a busy machine has, for 300 s in rounds of 17: resident memory does not tell."""
    leaking = [
        {**FLAT, "held_kib": 40_000 + 60 * 17 * n * 100 // 1024, "memory_kib": 80_000 + n * 300} for n in range(18)
    ]
    assert trends(leaking) == ["held_kib grew from 40,896 to 41,593"]


def test_reloads_see_2_kib_each_that_are_never_freed():
    leaking = [{**FLAT, "held_kib": 40_000 + 4 * 2 * n} for n in range(125)]
    assert grown(leaking, reloads.SLACK) == ["held_kib grew from 40,160 to 40,832"]


def test_what_is_remembered_for_a_while_is_not_what_grows():
    """By as much as single samples differ."""
    trembling = [{**FLAT, "held_kib": 40_000 + n % 5 * 60, "memory_kib": 80_000 + n * 10} for n in range(100)]
    assert grown(trembling, reloads.SLACK) == trends(trembling) == []


@pytest.mark.long
def test_500_reloads_in_a_row_lose_nothing_and_leave_nothing(world):
    seen = reloads.reloaded(
        world, under_test(), PATIENCE, times=500, clients=64, standing=50, downloads=20, last_s=10, warm=True
    )
    assert (seen.errors, seen.note) == ({}, "")


@pytest.mark.long
def test_no_client_notices_three_kills(world):
    assert in_full(world, "killed").errors == {}


@pytest.mark.long
def test_the_only_backend_is_asked_again_at_once_after_outages_of_any_length(world):
    seen = in_full(world, "away")
    assert [case.note for case in seen.cases.values()] == [""] * 8
    assert sum(seen.errors.values()) <= 8


@pytest.mark.long
def test_no_client_of_a_frozen_backend_is_failed_by_default(world):
    """Nobody says how long an answer may take, and who is not moved gets a 504 after a minute."""
    assert in_full(world, "frozen").errors == {}


@pytest.mark.long
@needs_hosts
def test_all_requests_follow_a_name_that_moves(world):
    seen = in_full(world, "moved")
    assert (seen.note, seen.errors) == ("", {})


@pytest.mark.long
@needs_gcc
def test_what_should_end_does_wherever_the_clock_goes_and_nothing_else(world):
    seen = in_full(world, "clock")
    assert len(seen.cases) == 12
    assert [title for title, case in seen.cases.items() if case.took_s is None] == []


@pytest.mark.long
def test_of_3000_posts_hardly_any_meets_a_close(world):
    """By whether clients keep their connections: of a kept one only the first request is a new client's."""
    seen = in_full(world, "closing POSTs")
    for habit in closers.POSTS:
        assert sum(seen.cases[habit.title].errors.values()) <= (30 if habit.kept else 5)


@pytest.mark.long
def test_500_posts_to_backends_that_close_idle_connections_all_succeed(world):
    seen = in_full(world, "closing")
    assert (seen.requests, seen.errors) == (500, {})


@pytest.mark.long
def test_5000_idle_connections_keep_nobody_out(world):
    seen = in_full(world, "idle")
    assert seen.errors == {}
    assert seen.note == "5,000 of 5,000 idle connections were still open"
    assert seen.memory_kib < 16


@pytest.mark.long
@needs_slowhttptest
@pytest.mark.parametrize("mode", crowds.MODES)
def test_no_mode_of_slowhttptest_keeps_anybody_out(world, mode):
    seen = in_full(world, mode)
    assert seen.errors == {}
    assert seen.note.endswith("its own probe was served")


@pytest.mark.long
def test_2_gib_are_exact_and_not_kept_in_memory(world):
    seen = bulk.streamed(world, under_test(), FULL, size=2 << 30)
    assert (seen.requests, seen.errors) == (2, {})
    assert seen.memory_kib < 4 * 1024


@pytest.mark.long
def test_nothing_grows_in_five_minutes_of_mixed_traffic(world):
    soaked = soak(world, under_test(), seconds=300)
    assert soaked.faults + soaked.growth == []
