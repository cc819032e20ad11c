"""Upgrades of real processes: the process becomes another program under load, and nobody notices."""

import os

import pytest
from processes import stage, until
from ports import free_port
from upgrading import TERM, USR2, Connects, Load, OverHttp, children_of, daemons, descriptors_of, is_worker, mixed

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux")


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def daemon(world):
    with daemons(world) as make:
        yield make


def test_an_upgrade_under_load_is_not_noticed(daemon):
    lb = daemon().start()
    load = mixed(lb.port).begin()
    before, old = descriptors_of(lb.lb.pid), lb.pids()
    done = lb.lbctl("upgrade")
    assert (done.returncode, done.stderr) == (0, "the new program can start, and takes the place of the one that runs\n")
    assert done.stdout.startswith("upgraded: 2 workers of the new program serve")
    load.more()
    pid = lb.lb.pid
    lb.lb.signal(USR2)
    lb.arrive(2)
    load.more()
    lb.forget_old()
    assert load.end() == []
    new = lb.pids()
    assert not set(new.values()) & set(old.values())
    until(lambda: sorted(children_of(pid)) == sorted(new.values()), "no process is left over")
    until(lambda: descriptors_of(pid) == before, f"no descriptor is left over: {before}")
    assert not any(is_worker(one) for one in old.values())
    lb.lb.signal(TERM)
    assert lb.lb.wait() == -TERM
    assert "Traceback" not in lb.log


def test_doors_and_other_listeners_go_on(world, daemon):
    """Not one connect is refused, and readiness is never lost."""
    unix, side = str(world.folder / "side.sock"), free_port()
    lb = daemon(listeners=f'[listeners.side]\naddress = ["unix:{unix}", "127.0.0.1:{side}"]').start()
    load = Load(
        OverHttp(0, "/", keeps=False, unix=unix),
        OverHttp(0, "/", keeps=True, unix=unix),
        OverHttp(side, "/", keeps=False),
        OverHttp(lb.status, "/-/ready", keeps=False),
        Connects(str(lb.door)),
        Connects(lb.page),
    ).begin()
    for _ in range(3):
        lb.upgrade()
        load.more()
    assert load.end() == []
    assert os.path.exists(unix)
    lb.lb.signal(TERM)
    assert lb.lb.wait() == -TERM
    assert not os.path.exists(unix)
    assert not lb.door.exists()
