"""TCP keep-alive of a real process: the timers that the kernel has for its connections."""

import re
import signal
import socket
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import listening, stage, until

# A connection as /proc/net/tcp has it: its two ends, its state, its queues, and which timer runs until when, in hundredths of a second.
ROW = re.compile(r"\d+: 0100007F:(\w+) 0100007F:(\w+) 01 \w+:\w+ (\w\w):(\w+)")
KEEPALIVE = "02"


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


def asks_in_s(here: int, there: int) -> float | None:
    """In how many seconds the kernel asks the peer of a connection of this machine, from this port to that one; None: it does not."""
    for row in Path("/proc/net/tcp").read_text().splitlines():
        found = ROW.search(row)
        if found is not None and (int(found[1], 16), int(found[2], 16)) == (here, there):
            return int(found[4], 16) / 100 if found[3] == KEEPALIVE else None
    raise AssertionError(f"there is no connection from {here} to {there}")


def asked_by(port: int) -> list[int]:
    """The ports from which a server is connected to."""
    rows = map(ROW.search, Path("/proc/net/tcp").read_text().splitlines())
    return [int(one[1], 16) for one in rows if one is not None and int(one[2], 16) == port]


def client(port: int) -> socket.socket:
    """A client that has been answered, and stays."""
    one = socket.create_connection(("127.0.0.1", port), timeout=30)
    one.sendall(b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n")
    assert one.recv(65536).startswith(b"HTTP/1.1 200 ")
    return one


def test_clients_and_backends_are_asked_and_after_a_reload_new_clients_are_not(world):
    backend = world.backend()[1]
    port = free_port()
    file = world.folder / "lb.toml"
    rest = f'backends = ["127.0.0.1:{backend}"]\nhealth_check.interval_s = 0\nlisten = {{ port = {port}, interface = "127.0.0.1" }}\n'
    file.write_text(f"{rest}tcp_keepalive = {{ idle_s = 3000, interval_s = 7, probes = 3 }}\n")
    balancer = world.twistd("lb", "lb", "--config", str(file))
    until(lambda: listening(port), "the balancer")
    client(port).close()  # whoever connects between the bind and the first accept inherits nothing yet
    with closing(client(port)) as first:
        there = first.getsockname()[1]
        until(lambda: asks_in_s(port, there) is not None, "what was sent is acknowledged, and the client is asked")
        assert 2000 < asks_in_s(port, there) <= 3000
        [ours] = asked_by(backend)
        until(lambda: asks_in_s(ours, backend) is not None, "the backend is asked")
        assert 2000 < asks_in_s(ours, backend) <= 3000
        assert asks_in_s(there, port) is None  # of our own the client knows nothing
        file.write_text(rest)
        balancer.signal(signal.SIGHUP)
        balancer.wait_for("reload: changes listener default: tcp_keepalive.on true -> false")
        with closing(client(port)) as second:
            until(lambda: balancer.log.count("connections cut: 0") == 1, "the reload is over")
            assert asks_in_s(port, second.getsockname()[1]) is None
        assert asks_in_s(port, there) is not None
