"""Bad days, with real processes: the scenarios of docs/reliability.md for ours, small; in their full size they are `long`."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from bad_days import bulk, crowds, faults
from bad_days.proxies import under_test
from bad_days.recipes import Patience, our_config
from bad_days.scenarios import SCENARIOS
from bad_days.soak import leftovers, soak, trends
from bad_days.stage import Stage, free_port, stage, until

QUICK = Patience(connect_s=0.5, answer_s=1, head_s=2, body_s=2, check_s=0.2)
FULL = Patience()
MIB = 1 << 20

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


def test_no_client_of_a_backend_that_stands_still_is_failed_while_another_one_answers(world):
    seen = faults.stopped(world, under_test(), QUICK, meanwhile=100)
    assert seen.requests > 100
    assert seen.errors == {}


def test_no_client_of_a_backend_whose_listen_queue_is_full_is_failed(world):
    seen = faults.full(world, under_test(), QUICK, meanwhile=100)
    assert seen.requests > 100
    assert seen.errors == {}


def test_no_post_meets_the_close_of_a_connection(world):
    seen = faults.closing(world, under_test(), QUICK, clients=6, posts=4, idle_s=0.8, deaf_s=0.02, first=1.5)
    assert (seen.requests, seen.errors) == (24, {})


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
def test_slow_heads_keep_nobody_out(world):
    seen = crowds.slow(world, under_test(), QUICK, mode="slowloris", connections=100, seconds=1)
    assert seen.errors == {}
    assert seen.note.endswith("its own probe was served")


def test_nothing_is_left_after_mixed_traffic(world):
    soaked = soak(world, under_test(), seconds=3)
    assert soaked.requests > 100
    assert soaked.faults == []


QUIET = {"second": 1, "clients": 0, "exchanges": 0, "leases": 0, "upstreams": 2, "idle_upstreams": 2, "deadlines": 2}


@pytest.mark.parametrize("name", ["clients", "exchanges", "leases", "upstreams", "deadlines"])
def test_a_soak_sees_what_is_left(name):
    assert leftovers(QUIET) == []
    assert len(leftovers({**QUIET, name: 9})) == 1


@pytest.mark.parametrize("name", ["memory_kib", "descriptors", "delayed_calls", "readers"])
def test_a_soak_sees_what_grows(name):
    flat = [{"memory_kib": 50000, "descriptors": 10, "delayed_calls": 4, "readers": 5, "upstreams": 0}] * 12
    assert trends(flat) == []
    growing = [{**sample, name: sample[name] + n * 1000} for n, sample in enumerate(flat)]
    assert len(trends(growing)) == 1


@pytest.mark.long
def test_no_client_notices_three_kills(world):
    assert in_full(world, "killed").errors == {}


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
