"""Steering a real daemon under load: what was taken out gets nothing more, and nobody notices any of it."""

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import listening, stage, until
from steering import Admin, Load

CLIENTS, TUNNELS = 64, 20


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def load():
    one = Load()
    yield one
    one.close()


class Balancer:
    """A daemon before these backends, `b1` and so on, and its admin socket."""

    def __init__(self, world, backends, check: str = "interval_s = 0") -> None:
        self.port, self.path = free_port(), str(world.folder / "admin.sock")
        tables = "\n".join(
            f'[[pools.app.backends]]\nname = "b{n}"\naddress = "127.0.0.1:{one.port}"'
            for n, one in enumerate(backends, start=1)
        )
        config = world.folder / "lb.toml"
        config.write_text(
            f'[listeners.web]\naddress = "127.0.0.1:{self.port}"\ndefault_pool = "app"\n'
            f"[pools.app.health_check]\n{check}\n{tables}\n"
        )
        self.running = world.twistd("lb", "lb", "--config", str(config), "--admin", f"unix:{self.path}")
        until(lambda: listening(self.port) and os.path.exists(self.path), f"it runs: {self.running.log}")
        self.admin = Admin(self.path)

    def change(self, *words):
        """Change something on a connection of its own."""
        with closing(Admin(self.path)) as admin:
            return admin.change(*words)

    @property
    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.running.pid}/fd").iterdir())


@pytest.fixture
def balance(world):
    made = []

    def one(*words):
        made.append(Balancer(world, *words))
        return made[-1]

    yield one
    for balancer in made:
        balancer.admin.close()


def more(load, count):
    """So many more answers."""
    wanted = load.answered + count
    until(lambda: load.answered >= wanted or load.failures, f"{count} more answers")


def test_a_drain_under_load_is_answered_when_nothing_new_arrives_and_nobody_is_cut(balance, load):
    backends = [load.backend() for _ in range(3)]
    balancer = balance(backends)
    tunnels = [load.tunnel(balancer.port) for _ in range(TUNNELS)]
    load.ask(balancer.port, CLIENTS)
    more(load, 500)
    one = backends[0]
    assert one.tunnels > 0

    said = balancer.admin.change("PATCH", "/v1/backends/app/b1", {"admin": "drain", "reason": "deploy"})
    load.settle()
    seen = one.seen
    assert said["backend"]["state"] == "drained"
    assert said["backend"]["tunnels"] == one.tunnels
    more(load, 2000)
    assert one.seen == seen
    assert load.failures == []
    assert [load.do(tunnel.echo()) for tunnel in tunnels] == [b"ping"] * TUNNELS

    waited: list[dict] = []
    waiting = threading.Thread(
        target=lambda: waited.append(balancer.change("PATCH", "/v1/backends/app/b1?wait=60s", {"admin": "drain"}))
    )
    waiting.start()
    more(load, 300)
    assert waited == []  # its tunnels are still there
    for tunnel in tunnels:
        load.do(tunnel.close())
    waiting.join(20)
    assert waited[0]["backend"]["in_flight"] == 0
    assert "time_over" not in waited[0]
    assert one.seen == seen

    balancer.admin.change("PATCH", "/v1/backends/app/b1", {"admin": "ready"})
    until(lambda: one.requests > seen[1], "it is used again")
    assert load.enough() == []
    assert "Traceback" not in balancer.running.log


def test_two_hundred_changes_in_a_row_under_load_are_noticed_by_nobody_and_leave_nothing(balance, load):
    backends = [load.backend() for _ in range(4)]
    balancer = balance(backends[:3])
    admin, extra = balancer.admin, backends[3].port
    admin.change("GET", "/v1/status")
    before = balancer.descriptors
    load.ask(balancer.port, 32)
    more(load, 200)
    changes = [
        ("PATCH", "/v1/backends/app/b2", {"admin": "drain"}),
        ("POST", "/v1/pools/app/backends", {"address": f"127.0.0.1:{extra}", "name": "extra", "weight": 3}),
        ("PATCH", "/v1/backends/app/b3", {"admin": "maint", "reason": "disk"}),
        ("PATCH", "/v1/backends/app/extra", {"weight": 0}),
        ("PATCH", "/v1/backends/app/b2", {"admin": "ready", "weight": 7}),
        ("PATCH", "/v1/backends/app/extra", {"weight": 1, "limit": 2}),
        ("DELETE", "/v1/backends/app/b1", None),
        ("DELETE", "/v1/backends/app/extra", None),
        ("DELETE", "/v1/backends/app/b1/changes", None),
        ("DELETE", "/v1/changes", None),
    ]
    for n in range(200):
        admin.change(*changes[n % len(changes)])
    more(load, 200)
    assert load.enough() == []
    said = admin.change("GET", "/v1/status")
    assert said["changes"] == []
    assert [(one["name"], one["weight"], one["state"]) for one in said["pools"][0]["backends"]] == [
        ("app/b1", 1, "ready"),
        ("app/b2", 1, "ready"),
        ("app/b3", 1, "ready"),
    ]
    assert all(one.requests for one in backends)
    load.hang_up()
    until(lambda: balancer.descriptors <= before, "no descriptor is left")
    assert balancer.running.log.count(" admin: ") >= 200
    assert "Traceback" not in balancer.running.log


def test_in_maintenance_nobody_is_checked_and_ready_again_at_once(balance, load):
    backends = [load.backend() for _ in range(2)]
    balancer = balance(backends, 'path = "/health"\ninterval_s = 0.05')
    one, other = backends
    until(lambda: one.checks and other.checks, "both are checked")
    balancer.admin.change("PATCH", "/v1/backends/app/b1", {"admin": "maint"})
    load.settle()
    checks, wanted = one.checks, other.checks + 10
    until(lambda: other.checks >= wanted, "the other one is checked on and on")
    assert one.checks <= checks + 1  # one may have been on its way
    balancer.admin.change("PATCH", "/v1/backends/app/b1", {"admin": "ready"})
    until(lambda: one.checks > checks + 1, "it is checked again")
    assert balancer.admin.ask("GET", "/v1/backends/app/b1")[1]["usable"]
