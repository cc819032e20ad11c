"""The wall clock steps by an hour while it runs, as by NTP or a virtual machine that was resumed: nothing of ours moves."""

import json
import signal
import socket
import time
from http.client import HTTPConnection
from pathlib import Path

import pytest
from bad_days.clock import GCC, HOUR_S, WallClock, compiled_shim
from ports import free_port
from processes import TERM, Running, Stage, listening, stage, until

EMBEDDED = """
from twisted.application.service import Application
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.service import LoadBalancerService

application = Application("embedding")
config = LoadBalancerConfig.model_validate({config!r})
LoadBalancerService(config).setServiceParent(application)
"""

pytestmark = pytest.mark.skipif(GCC is None, reason="gcc is missing, which makes a clock that steps")


@pytest.fixture(scope="session")
def shim(tmp_path_factory) -> Path:
    return compiled_shim(tmp_path_factory.mktemp("shim"))


class Stepping:
    """A balancer whose wall clock a test steps, and the backend behind it."""

    def __init__(self, world: Stage, kind: str, shim: Path, monkeypatch) -> None:
        self.backend, self.backend_port = world.backend()
        self.port = free_port()
        clock = WallClock(world.folder, shim)
        self.step = clock.step
        config = {
            "listen": {"port": self.port, "interface": "127.0.0.1"},
            "backends": [f"127.0.0.1:{self.backend_port}"],
            "health_check": {"interval_s": 0.1},
            "timeouts": {"head_s": 0.5, "response_head_s": 20.0, "drain_s": 20.0},
        }
        for name, value in clock.environment.items():
            monkeypatch.setenv(name, value)
        if kind == "embedded":
            (world.folder / "embedding.py").write_text(EMBEDDED.format(config=config))
            self.balancer: Running = world.twistd("lb", "-y", "embedding.py")
        else:
            tables = {name: one for name, one in config.items() if isinstance(one, dict)}
            lines = [f"backends = {json.dumps(config['backends'])}"]
            for name, table in tables.items():
                lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
            (world.folder / "lb.toml").write_text("\n".join(lines))
            self.balancer = world.twistd("lb", "lb", "--config", "lb.toml")
        monkeypatch.delenv("LD_PRELOAD")
        until(lambda: listening(self.port), "the balancer")

    def ask(self, path: str) -> HTTPConnection:
        client = HTTPConnection("127.0.0.1", self.port, timeout=20)
        client.request("GET", path)
        return client


@pytest.fixture(params=["a process of our own", "embedded"])
def stepping(request, tmp_path, shim, monkeypatch):
    with stage(tmp_path) as world:
        yield Stepping(world, request.param, shim, monkeypatch)


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S])
def test_checks_deadlines_and_exchanges_go_on_over_a_step(stepping, seconds):
    slow = stepping.ask("/?delay=1")
    half = socket.create_connection(("127.0.0.1", stepping.port), timeout=20)
    half.sendall(b"GET / HTTP/1.1\r\nHost:")
    stepping.step(seconds)
    # The head's time is over, and not sooner than that of the slow answer would let us see.
    assert half.recv(1000).startswith(b"HTTP/1.1 408 ")
    half.close()
    assert slow.getresponse().status == 200
    slow.close()
    stepping.backend.signal(TERM)
    stepping.backend.wait()
    stepping.balancer.wait_for(f"127.0.0.1:{stepping.backend_port} is down")


@pytest.mark.parametrize("seconds", [-HOUR_S, HOUR_S])
def test_a_drain_ends_with_its_last_exchange_over_a_step(stepping, seconds):
    slow = stepping.ask("/?delay=1")
    idle = stepping.ask("/")
    assert idle.getresponse().read()
    stepping.balancer.signal(TERM)
    until(lambda: not listening(stepping.port), "the drain")
    stepping.step(seconds)
    assert slow.getresponse().status == 200
    slow.close()
    stepping.balancer.wait()
    idle.close()
    assert "nothing was cut" in stepping.balancer.log


def test_after_a_pause_of_the_whole_process_what_had_come_is_read_first(stepping):
    """SIGSTOP, a virtual machine that was suspended: the deadline is over, and the bytes are here."""
    half = socket.create_connection(("127.0.0.1", stepping.port), timeout=20)
    half.sendall(b"GET / HTTP/1.1\r\nHost:")
    time.sleep(0.1)  # it may be read before the pause or after it
    stepping.balancer.signal(signal.SIGSTOP)
    half.sendall(b" a\r\n\r\n")
    time.sleep(1.6)  # more than `head_s`, and than the pause that is noticed
    stepping.balancer.signal(signal.SIGCONT)
    assert half.recv(1000).startswith(b"HTTP/1.1 200 ")
    half.close()
