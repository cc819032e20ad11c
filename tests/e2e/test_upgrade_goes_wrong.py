"""Upgrades in bad company: old workers pile up, workers are killed in the middle, the new program dies right away."""

import contextlib
import os
import socket
from pathlib import Path

import pytest
from ports import free_port
from processes import KILL, PATIENCE_S, TERM, stage, until
from upgrading import Copies, Load, OverHttp, Tunnel, daemons, is_worker, mixed

pytestmark = [pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"), pytest.mark.long]

TUNNELS = "[timeouts]\ndrain_s = 1\ntunnel_drain_s = 600\n[health_check]\ninterval_s = 0\n"
HANDOVER = b"TWISTED_LB_HANDOVER="
# In a module of the parent: it rehearses well, and dies when it is executed.
DIES = """
import os as _os
if _os.environ.get("TWISTED_LB_HANDOVER") and not _os.environ.get("TWISTED_LB_REHEARSES"):
    raise SystemExit("this program dies")
"""


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def daemon(world):
    with daemons(world) as make:
        yield make


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(PATIENCE_S)
        yield sock


@pytest.fixture
def closing():
    with contextlib.ExitStack() as stack:
        yield stack


def tunnels(lb, server, closing, count: int = 4) -> list[Tunnel]:
    return [closing.enter_context(contextlib.closing(Tunnel(lb.port, server))) for _ in range(count)]


def test_of_four_old_programs_the_oldest_is_cut_and_the_others_are_not(daemon, server, closing):
    lb = daemon(backends=0, others=[server.getsockname()[1]], more=TUNNELS).start()
    held = []
    for _ in range(4):
        held.append(tunnels(lb, server, closing))
        lb.upgrade()
        for one in held[-1]:
            one.echo()
    lb.lb.wait_for("those of the oldest are cut")
    ends = [one.rest() for one in held[0]]
    assert all(ends) or not any(ends)
    until(lambda: {one["program"] for one in lb.workers()} == {1, 2, 3, 4}, "the oldest have ended")
    for those in held[1:]:
        for one in those:
            one.echo()


def test_old_workers_are_found_again_wherever_the_first_listener_is_by_now(daemon, server, closing):
    lb = daemon(backends=0, others=[server.getsockname()[1]], more=TUNNELS).start()
    held = tunnels(lb, server, closing)
    text = lb.file.read_text()
    lb.file.write_text(
        text.replace("[listeners.web]", f'[listeners.first]\naddress = "127.0.0.1:{free_port()}"\n[listeners.web]')
    )
    lb.upgrade()
    lb.upgrade()
    lb.file.write_text(text)
    lb.upgrade()
    for one in held:
        one.echo()
    assert "does not answer" not in lb.log


def test_a_worker_that_is_killed_in_the_middle_is_followed(daemon):
    lb = daemon(workers=2).start()
    slow = Load(*(OverHttp(lb.port, "/", keeps=False) for _ in range(2))).begin()
    old = lb.pids()
    lb.ask("/v1/upgrade", "POST", {})
    # The one of slot 0 is new, the one of slot 1 still old, or about to be.
    lb.lb.wait_for("worker 0 serves", 2)
    with contextlib.suppress(ProcessLookupError):
        os.kill(old[1], KILL)
    lb.arrive(1)
    os.kill(lb.pids()[0], KILL)
    lb.lb.wait_for("worker 0 serves", 3)
    lb.arrive(1)
    slow.more()
    # Exchanges of the killed ones are lost, and nothing else.
    assert len(slow.end()) <= 4
    lb.upgrade()
    assert lb.get()[0] == 200


def test_a_program_that_dies_right_away_is_followed_by_the_next_start(daemon, tmp_path):
    copies = Copies(tmp_path)
    file = copies.make("v1") / "service" / "balancer.py"
    lb = daemon()
    lb.environment = copies.environment("v1")
    lb.start()
    load = mixed(lb.port).begin()
    good = file.read_text()
    file.write_text(good + DIES)
    old = lb.pids()
    lb.ask("/v1/upgrade", "POST", {})
    assert lb.lb.wait() != 0
    assert "this program dies" in lb.log
    load.more()
    file.write_text(good)
    lb.start(name="next")
    load.more()
    lb.forget_old()
    assert load.end() == []
    assert not set(old.values()) & set(lb.pids().values())
    assert not any(is_worker(pid) for pid in old.values())


@pytest.mark.parametrize("moment", ["is executed", "imports", "begins", "rolls"])
def test_sigterm_ends_a_program_that_has_just_been_executed(daemon, moment):
    lb = daemon().start()
    pids = lb.pids()
    lb.ask("/v1/upgrade", "POST", {})
    until(
        {
            "is executed": lambda: HANDOVER in Path(f"/proc/{lb.lb.pid}/environ").read_bytes(),
            "imports": lambda: lb.log.count("starting up.") == 2,
            "begins": lambda: lb.log.count("twisted_lb 0") == 2,
            "rolls": lambda: lb.log.count("worker 0 serves") == 2,
        }[moment]
    )
    lb.lb.signal(TERM)
    assert lb.lb.wait() == -TERM, lb.log
    assert "Traceback" not in lb.log
    until(lambda: not any(is_worker(pid) for pid in pids.values()))
    assert not lb.door.exists()
