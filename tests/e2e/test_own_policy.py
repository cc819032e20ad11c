"""A policy of one's own in a real process: found beside the configuration, asked, and kept where another file is wrong."""

import signal
import socket
import urllib.request

import pytest
from processes import stage

POLICIES = """\
class Last:
    def __init__(self, members):
        self.members = members

    def pick(self, ask, now, rng, tried):
        return [one for one in self.members if one.open_to(tried)][-1]


class Broken(Last):
    def pick(self, ask, now, rng, tried):
        raise KeyError("zone")


class Slow(Last):
    def pick(self, ask, now, rng, tried):
        until = time.monotonic() + 0.002
        while time.monotonic() < until:
            pass
        return super().pick(ask, now, rng, tried)
"""


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        (one.folder / "ours.py").write_text(f"import time\n\n\n{POLICIES}")
        yield one


def write(world, policy):
    ports = world.ports
    backends = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    (world.folder / "lb.toml").write_text(
        f'backends = [{backends}]\npolicy = "{policy}"\n[health_check]\ninterval_s = 0\n'
    )


def asked(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/whoami.json", timeout=30) as answer:
        return answer.read()


def many(port):
    """Forty requests at once, on one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        request = b"GET /whoami.json HTTP/1.1\r\nHost: x\r\n"
        sock.sendall((request + b"\r\n") * 39 + request + b"Connection: close\r\n\r\n")
        while sock.recv(65536):
            pass


def test_it_is_found_asked_and_kept_by_a_reload_that_is_wrong(world):
    world.ports = [world.backend(name=name)[1] for name in ("first", "last")]
    write(world, "ours:Last")
    balancer, port = world.balancer("--config", str(world.folder / "lb.toml"))
    assert all(b"last" in asked(port) for _ in range(5))
    write(world, "ours:Gone")
    balancer.signal(signal.SIGHUP)
    balancer.wait_for(r"lb\.toml:2:10: policy: ours:Gone: ours \(.*ours\.py\) has no Gone")
    balancer.wait_for("nothing was changed")
    assert b"last" in asked(port)
    write(world, "ours:Broken")
    balancer.signal(signal.SIGHUP)
    balancer.wait_for("changes pool default: policy ours:Last -> ours:Broken")
    assert {asked(port)[:1] for _ in range(5)} == {b"{"}
    balancer.wait_for(r"policy ours:Broken raised KeyError: 'zone' \(ours\.py:\d+\); p2c picked instead")


def test_one_that_is_slow_again_and_again_rests(world):
    world.ports = [world.backend(name=name)[1] for name in ("first", "last")]
    write(world, "ours:Slow")
    balancer, port = world.balancer("--config", str(world.folder / "lb.toml"))
    for _ in range(20):  # ten of them have to be within a second, on a busy machine too
        many(port)
    balancer.wait_for(
        r"p2c picks for \d+ s in place of policy ours:Slow: 10 picks within 1 s took more than 500 µs each"
    )
