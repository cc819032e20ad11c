"""Upgrades of real processes: the process becomes another program under load, and nobody notices."""

import contextlib
import http.client
import os
import signal
import socket

import pytest
from ports import free_port
from processes import PATIENCE_S, stage, until
from upgrading import (
    GOING_AWAY,
    TERM,
    USR2,
    Backend,
    Connects,
    Counted,
    Load,
    OverHttp,
    Tunnel,
    children_of,
    daemons,
    descriptors_of,
    exactly,
    is_worker,
    mixed,
    nothing_is_left,
    rest_of,
)

TUNNELS = "[timeouts]\ndrain_s = 1\ntunnel_drain_s = {tunnel_drain_s}\n[health_check]\ninterval_s = 0\n"
# Of a backend, what an upgrade does not change.
SAME = ("backend", "admin", "weight", "usable")

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
    assert (done.returncode, done.stderr) == (
        0,
        "the new program can start, and takes the place of the one that runs\n",
    )
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
    nothing_is_left(pid, before)
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


@pytest.mark.long
def test_tunnels_live_on_in_the_old_worker_until_their_time_is_over(world, daemon):
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as open_:
        server.settimeout(PATIENCE_S)
        lb = daemon(backends=0, others=[server.getsockname()[1]], more=TUNNELS.format(tunnel_drain_s=4)).start()
        tunnels = [open_.enter_context(contextlib.closing(Tunnel(lb.port, server))) for _ in range(4)]
        lb.upgrade()
        old = lb.pids("drains")
        assert old
        for one in tunnels:
            one.echo()
        late = open_.enter_context(contextlib.closing(Tunnel(lb.port, server)))
        assert {one.rest() for one in tunnels} == {GOING_AWAY}
        lb.forget_old()
        assert not any(is_worker(pid) for pid in old.values())
        late.echo()


@pytest.mark.long
def test_downloads_and_uploads_come_whole(daemon):
    lb = daemon().start()
    down = [socket.create_connection(("127.0.0.1", lb.port), timeout=PATIENCE_S) for _ in range(4)]
    up = [socket.create_connection(("127.0.0.1", lb.port), timeout=PATIENCE_S) for _ in range(4)]
    for one in down:
        one.sendall(b"GET /?size=20000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    for one in up:
        one.sendall(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\nConnection: close\r\n\r\n" + bytes(1_000_000)
        )
    got = [exactly(one, 100_000) for one in down]
    for _ in range(2):
        lb.upgrade()
        for one in up:
            one.sendall(bytes(500_000))
        got = [before + exactly(one, 100_000) for before, one in zip(got, down, strict=True)]
    whole = [before + rest_of(one) for before, one in zip(got, down, strict=True)]
    assert [len(one.partition(b"\r\n\r\n")[2]) for one in whole] == [20_000_000] * 4
    assert [rest_of(one)[:12] for one in up] == [b"HTTP/1.1 200"] * 4
    for one in (*down, *up):
        one.close()
    lb.forget_old()


@pytest.mark.long
def test_max_in_flight_holds_over_old_and_new_workers(daemon):
    backend = Backend()
    with contextlib.closing(backend):
        lb = daemon(backends=0, others=[backend.port], head="max_in_flight = 2\nqueue.timeout_s = 60").start()
        backend.may_answer.clear()
        load = Load(*(OverHttp(lb.port, "/", keeps=False) for _ in range(8)))
        for one in load.callers:
            one.start()
        until(lambda: backend.now == 2)
        lb.upgrade()
        lb.upgrade()
        assert backend.now == 2
        backend.may_answer.set()
        load.more(20)
        lb.upgrade()
        load.more(20)
        assert load.end() == []
        assert backend.most == 2
        until(lambda: lb.ask("/v1/backends")["backends"][0]["in_flight"] == 0)


@pytest.mark.long
def test_counters_never_go_back_and_miss_nothing_and_neither_does_the_access_log(daemon, world):
    log = world.folder / "access.log"
    lb = daemon(head=f'log.file = "{log}"\nlog.format = "json"').start()
    load = mixed(lb.port)
    watched = Load(Counted(lb, "twisted_lb_requests_total"), Counted(lb, "twisted_lb_request_seconds_count")).begin()
    load.begin()
    for _ in range(3):
        lb.upgrade()
        load.more()
    lb.forget_old()
    load.more()
    assert load.end() == []
    assert watched.end() == []
    answered = sum(one.answered for one in load.callers)
    until(lambda: lb.metrics("twisted_lb_requests_total") >= answered, f"{answered} requests")
    assert lb.metrics("twisted_lb_requests_total") == answered
    until(lambda: log.read_text().count("\n") == answered, f"{answered} lines")
    before = answered
    assert lb.get()[0] == 200
    until(lambda: log.read_text().count("\n") == before + 1)
    # Logrotate.
    log.rename(world.folder / "access.log.1")
    lb.lb.signal(signal.SIGUSR1)
    until(log.exists)
    assert lb.get()[0] == 200
    until(lambda: log.read_text().count("\n") == 1)


@pytest.mark.long
def test_what_operators_have_changed_is_kept(daemon):
    lb = daemon(backends=4).start()
    names = lb.addresses
    lb.ask(f"/v1/backends/default/{names[0]}", "PATCH", {"admin": "drain", "reason": "deploy"})
    lb.ask(f"/v1/backends/default/{names[1]}", "PATCH", {"weight": 0})
    lb.ask(f"/v1/backends/default/{names[2]}", "PATCH", {"admin": "maint"})
    spare, port = lb.world.backend(name="spare")
    assert spare.process.poll() is None
    lb.ask("/v1/pools/default/backends", "POST", {"address": f"127.0.0.1:{port}"})
    until(lambda: lb.names(8) == {"b3", "spare"})
    for _ in range(2):
        before = lb.ask("/v1/backends")["backends"]
        lb.upgrade()
        assert lb.names(20) == {"b3", "spare"}
        after = lb.ask("/v1/backends")["backends"]
        for one, other in zip(before, after, strict=True):
            assert {key: one[key] for key in SAME} == {key: other[key] for key in SAME}
    lb.ask(f"/v1/backends/default/{names[0]}", "PATCH", {"admin": "ready"})
    until(lambda: "b0" in lb.names(8))


@pytest.mark.long
def test_what_is_known_of_backends_is_kept(daemon):
    """Who is down, or ejected, gets no request of a program that has just begun."""
    bad = Backend(good=False)
    checks = "[health_check]\ninterval_s = 0.2\n[ejection]\nconsecutive_failures = 1\nmin_clients = 1\nbase_s = 300\n"
    with contextlib.closing(bad):
        lb = daemon(others=[bad.port], more=checks).start()
        sick = http.client.HTTPConnection("127.0.0.1", lb.backends[0][1], timeout=PATIENCE_S)
        sick.request("GET", "/sick?seconds=600")
        sick.getresponse().read()
        sick.close()
        until(
            lambda: (
                lb.get()[0] == 200
                and [one["usable"] for one in lb.ask("/v1/backends")["backends"]] == [False, True, False]
            )
        )
        requests = bad.requests
        for _ in range(2):
            lb.upgrade()
            assert lb.names(20) == {"b1"}
            assert [one["usable"] for one in lb.ask("/v1/backends")["backends"]] == [False, True, False]
        assert bad.requests == requests
