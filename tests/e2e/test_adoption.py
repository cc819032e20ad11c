"""A parent that dies alone: its workers go on, and the next start has them; or nobody comes, and they end."""

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Sequence

import pytest
from ports import free_port
from processes import KILL, PATIENCE_S, TERM, stage, until
from upgrading import (
    AS_ANYBODY,
    MODULE,
    NOBODY,
    Backend,
    Copies,
    Load,
    OverHttp,
    children_of,
    daemons,
    descriptors_of,
    is_worker,
    mixed,
    nothing_is_left,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def daemon(world):
    with daemons(world) as make:
        yield make


def kill(lb) -> dict[int, int]:
    """Kill the parent alone: its workers, by slot."""
    pids = lb.pids()
    lb.lb.signal(KILL)
    assert lb.lb.wait() == -KILL
    return pids


def test_the_next_start_has_the_workers_of_a_parent_that_was_killed(daemon):
    lb = daemon().start()
    before = descriptors_of(lb.lb.pid)
    load = mixed(lb.port).begin()
    old = kill(lb)
    load.more(5)
    assert all(map(is_worker, old.values()))
    lb.start(name="next")
    assert "the parent before this one has died: its workers are found" in lb.log
    for pid in old.values():
        assert f"process {pid}" in lb.log
    load.more()
    lb.forget_old()
    load.more()
    assert load.end() == []
    new = lb.pids()
    assert sorted(new) == [0, 1]
    assert not set(new.values()) & set(old.values())
    assert not any(map(is_worker, old.values()))
    nothing_is_left(lb.lb.pid, before)
    assert sorted(children_of(lb.lb.pid)) == sorted(new.values())
    done = lb.lbctl("workers")
    assert done.returncode == 0
    for pid in new.values():
        assert f" {pid} " in done.stdout
    lb.lb.signal(TERM)
    assert lb.lb.wait() == -TERM


@pytest.mark.long
def test_one_that_listens_elsewhere_too_has_them_and_so_has_one_that_is_upgraded_then(daemon):
    lb = daemon(listeners=f'[listeners.x]\naddress = "127.0.0.1:{free_port()}"').start()
    load = mixed(lb.port).begin()
    for turn in range(2):
        kill(lb)
        load.more()
        lb.listeners = f'[listeners.y]\naddress = "127.0.0.1:{(side := free_port())}"'
        lb.write()
        lb.start(name=f"next{turn}")
        assert OverHttp(side, "/", keeps=False)() == ""
        lb.upgrade()
        load.more()
    lb.forget_old()
    assert load.end() == []


@pytest.mark.long
def test_what_is_in_flight_counts_for_max_in_flight(daemon):
    backend = Backend()
    with contextlib.closing(backend):
        lb = daemon(backends=0, others=[backend.port], head="max_in_flight = 2\nqueue.timeout_s = 60").start()
        backend.may_answer.clear()
        load = Load(*(OverHttp(lb.port, "/", keeps=False) for _ in range(8)))
        for one in load.callers:
            one.start()
        until(lambda: backend.now == 2)
        kill(lb)
        lb.start(name="next")
        assert lb.ask("/v1/backends")["backends"][0]["in_flight"] == 2
        backend.may_answer.set()
        load.more(20)
        assert load.end() == []
        assert backend.most == 2
        until(lambda: lb.ask("/v1/backends")["backends"][0]["in_flight"] == 0)


@pytest.mark.long
def test_a_worker_that_has_died_as_well_holds_no_place(daemon):
    backend = Backend()
    with contextlib.closing(backend):
        lb = daemon(backends=0, others=[backend.port], head="max_in_flight = 2\nqueue.timeout_s = 60").start()
        backend.may_answer.clear()
        load = Load(*(OverHttp(lb.port, "/", keeps=False) for _ in range(2)))
        for one in load.callers:
            one.start()
        until(lambda: backend.now == 2)
        for one in load.callers:
            one.enough.set()
        old = kill(lb)
        os.kill(old[0], KILL)
        lb.start(name="next")
        backend.may_answer.set()
        until(lambda: lb.ask("/v1/backends")["backends"][0]["in_flight"] == 0)
        load.end()
        assert lb.get()[0] == 200
        for pid in old.values():
            until(lambda pid=pid: not is_worker(pid))


def second(lb, before: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
    """Another balancer with the same file."""
    return subprocess.run(
        [*before, *MODULE, "--config", str(lb.file)],
        capture_output=True,
        text=True,
        env=lb.environment,
        cwd=lb.folder,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_second_one_is_refused_while_the_first_one_lives(daemon):
    lb = daemon().start()
    load = Load(OverHttp(lb.port, "/", keeps=False), OverHttp(lb.port, "/", keeps=True)).begin()
    done = second(lb)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line]
    assert said == [f"twistd lb: 127.0.0.1:{lb.port} of listener web: already in use"], done
    load.more()
    assert load.end() == []
    assert sorted(lb.pids()) == [0, 1]


@pytest.mark.long
@pytest.mark.skipif(not AS_ANYBODY, reason="needs to be root, and setpriv")
@pytest.mark.parametrize(("theirs", "ours"), [([], NOBODY), (NOBODY, [])])
def test_orphans_of_another_user_are_not_had(world, daemon, theirs, ours):
    """Also not by root, who would believe them; those of its own user are."""
    world.folder.chmod(0o777)
    lb = daemon().start(program=[*AS_ANYBODY, *theirs, *MODULE])
    old = kill(lb)
    lb.door.unlink()
    done = second(lb, before=(*AS_ANYBODY, *ours))
    assert done.returncode == 1
    assert f"twistd lb: 127.0.0.1:{lb.port} of listener web: already in use" in done.stderr
    assert all(map(is_worker, old.values()))
    assert lb.get()[0] == 200
    lb.start(name="next", program=[*AS_ANYBODY, *theirs, *MODULE])
    for pid in old.values():
        until(lambda pid=pid: not is_worker(pid))


@pytest.mark.long
def test_orphans_of_another_program_are_not_had_and_end_by_themselves(daemon, tmp_path):
    """Nobody knows what they would understand."""
    copies = Copies(tmp_path)
    init = copies.make("v1") / "__init__.py"
    lb = daemon()
    lb.environment = copies.environment("v1")
    lb.start()
    load = Load(OverHttp(lb.port, "/", keeps=False)).begin()
    old = kill(lb)
    killed_at = time.monotonic()
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "9.9.9"', init.read_text()))
    done = second(lb)
    assert done.returncode == 1
    assert "already in use" in done.stderr
    load.more()
    assert load.end() == []
    until(lambda: not any(map(is_worker, old.values())))
    assert time.monotonic() - killed_at > 29
    lb.start(name="next")
    assert lb.get()[0] == 200


@pytest.mark.long
def test_without_a_next_start_they_drain_and_end(daemon):
    lb = daemon().start()
    old = kill(lb)
    load = Load(OverHttp(lb.port, "/", keeps=False), OverHttp(lb.port, "/", keeps=True)).begin()
    killed_at = time.monotonic()
    until(lambda: time.monotonic() - killed_at > 20)
    assert load.end() == []
    until(lambda: not any(map(is_worker, old.values())))
    assert time.monotonic() - killed_at > 28
    with pytest.raises(ConnectionRefusedError):
        OverHttp(lb.port, "/", keeps=False)()
