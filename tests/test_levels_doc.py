"""What docs/levels.md says: its configurations do in memory what the page says of them."""

import re
from collections import Counter
from pathlib import Path

import pytest

from twisted_lb.config.load import load_toml
from twisted_lb.core.events import PanicBegan
from twisted_lb.core.levels import Census, spread
from twisted_lb.core.weighing import SlowStart
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.testing import (
    NEVER_ANSWER,
    Balanced,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    Wait,
    response,
)

DOC = (Path(__file__).parent.parent / "docs" / "levels.md").read_text()
TOML = re.findall(r"```toml\n(.*?)```", DOC, re.DOTALL)
WEIGHTS, SLOW, PRIORITIES, BACKUPS, TUNNELS, PANIC = range(len(TOML))
UNCHECKED = "[health_check]\ninterval_s = 0\n"


def config_of(text, tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text(text)
    return load_toml(file)


class Town:
    """A balancer with a configuration of the page, without checks, and its backends in memory."""

    def __init__(self, text, tmp_path, more=""):
        self.clock = HeapClock()
        self.network = MemoryNetwork(self.clock)
        self.balanced = Balanced(config_of(text + more + "\n" + UNCHECKED, tmp_path), self.network, seed=1)
        self.pool = self.balanced.cluster.pool
        self.hosts = {
            str(one.address): ScriptedBackend(self.network, str(one.address)) for one in self.pool.backends.values()
        }

    def ask(self, count):
        """How many requests each backend had of these, one after the other."""
        before = {name: len(one.requests) for name, one in self.hosts.items()}
        for _ in range(count):
            client = ScriptedClient(self.network, "lb:8080").send(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            )
            self.clock.settle()
            client.close()
            self.clock.settle()
        return Counter(
            {n: len(one.requests) - before[n] for n, one in self.hosts.items() if len(one.requests) > before[n]}
        )


@pytest.mark.parametrize("text", TOML, ids=range(len(TOML)))
def test_a_configuration_of_the_page_loads(text, tmp_path):
    assert plan_of(config_of(text, tmp_path)).pools[DEFAULT].backends


def test_of_weights_0_gets_nothing(tmp_path):
    town = Town(TOML[WEIGHTS], tmp_path)
    assert town.ask(8) == {"10.0.0.1:8000": 2, "10.0.0.2:8000": 6}


def test_a_window_brings_half_of_the_weight_after_half_of_the_time(tmp_path):
    rules = plan_of(config_of(TOML[SLOW], tmp_path)).pools[DEFAULT].settings.slow_start
    assert [rules.part(age_s) for age_s in (0, 30, 60)] == [0.1, 0.5, 1.0]
    assert SlowStart(60, 2).part(15) == 0.5


def test_the_table_of_levels_is_what_levels_do():
    rows = re.findall(r"^\| (\d+) % \| (\d+) % \| (\d+) % \| (\d+) % \|$", DOC, re.MULTILINE)
    assert len(rows) == 6
    for row in rows:
        first, second, *shares = map(int, row)
        assert list(spread([Census(100, 100, first, first), Census(100, 100, second, second)]).shares) == shares


def test_a_backup_takes_over_and_is_left_when_the_primary_returns(tmp_path):
    town = Town(TOML[BACKUPS], tmp_path)
    assert set(town.ask(6)) == {"10.0.0.1:8000", "10.0.0.2:8000"}
    for name in ("10.0.0.1:8000", "10.0.0.2:8000"):
        town.hosts[name].stop()
    town.clock.settle()
    assert town.ask(6) == {"10.9.0.1:8000": 6}
    lines = [str(event) for event in town.balanced.events]
    assert "pool default uses the backups" in lines
    for name in ("10.0.0.1:8000", "10.0.0.2:8000"):
        town.hosts[name] = ScriptedBackend(town.network, name)
    town.clock.advance(60)
    assert set(town.ask(6)) == {"10.0.0.1:8000", "10.0.0.2:8000"}
    assert [str(event) for event in town.balanced.events if "uses" in str(event)][-1] == "pool default uses level 0"
    assert all(record.status == 200 for record in town.balanced.records), "nobody has noticed"


OFFER = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def switched(town):
    """A client with a tunnel."""
    client = ScriptedClient(town.network, "lb:8080").send(OFFER)
    town.clock.settle()
    assert client.take().startswith(b"HTTP/1.1 101 ")
    return client


def test_tunnels_leave_a_backend_that_is_down_and_then_its_backup(tmp_path):
    town = Town(TOML[TUNNELS], tmp_path)
    for one in town.hosts.values():
        one.answer = lambda _: [SWITCH, NEVER_ANSWER]
    first = switched(town)
    town.hosts["10.0.0.1:8000"].listener.stop()  # and what is open stays
    second = switched(town)
    assert (first.open, second.open) == (True, True)
    town.clock.advance(0.3)
    assert (first.open, second.open) == (False, True)
    town.hosts["10.0.0.1:8000"] = ScriptedBackend(town.network, "10.0.0.1:8000", lambda _: [SWITCH, NEVER_ANSWER])
    town.clock.advance(3)
    third = switched(town)
    town.clock.settle()
    assert (second.open, third.open) == (False, True)
    lines = [str(event) for event in town.balanced.events]
    assert [line for line in lines if "cut" in line] == [
        "10.0.0.1:8000: a tunnel is cut: its backend is ejected: connection refused",
        "10.9.0.1:8000: a tunnel is cut: its backend is a backup, and the pool uses level 0 again",
    ]


def fill(town):
    """Three requests at once, where each primary may have one in flight and takes five seconds for it."""
    for name in ("10.0.0.1:8000", "10.0.0.2:8000"):
        town.balanced.data_plane.set_limit(DEFAULT, name, 1)
        town.hosts[name].answer = lambda _: [Wait(5), response()]
    clients = [ScriptedClient(town.network, "lb:8080").send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
    town.clock.settle()
    return clients


def asked(town):
    return {name: len(one.requests) for name, one in town.hosts.items()}


def test_a_full_primary_spills_where_the_configuration_says_so(tmp_path):
    town = Town(TOML[BACKUPS], tmp_path)
    clients = fill(town)
    assert asked(town) == {"10.0.0.1:8000": 1, "10.0.0.2:8000": 1, "10.9.0.1:8000": 1}
    assert sum(client.received.startswith(b"HTTP/1.1 200") for client in clients) == 1


def test_a_full_primary_queues_otherwise(tmp_path):
    town = Town(TOML[BACKUPS].replace('"spill"', '"wait"\nno_backend_s = 30'), tmp_path)
    clients = fill(town)
    assert asked(town) == {"10.0.0.1:8000": 1, "10.0.0.2:8000": 1, "10.9.0.1:8000": 0}
    town.clock.advance(11)
    assert sum(asked(town).values()) == 3
    assert asked(town)["10.9.0.1:8000"] == 0
    assert all(client.received.startswith(b"HTTP/1.1 200") for client in clients)


def test_in_panic_all_answer_whom_the_rest_could_not(tmp_path):
    """Three of four refuse, are ejected, and come back by the requests of everybody, not by trials alone."""
    town = Town(TOML[PANIC], tmp_path)
    for name in list(town.hosts)[:3]:
        town.hosts[name].stop()
    town.clock.settle()
    town.ask(4)
    assert [str(one) for one in town.balanced.events if isinstance(one, PanicBegan)] == [
        "pool default is in panic: 1 of 4 backends is usable, others are used too"
    ]
    for name in list(town.hosts)[:3]:
        town.hosts[name] = ScriptedBackend(town.network, name)
    assert len(town.ask(8)) == 4
    assert [record.status for record in town.balanced.records][-8:] == [200] * 8
