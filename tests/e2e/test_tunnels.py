"""Tunnels through a real balancer: bulk both ways at once, which the kernel moves, in memory that does not grow."""

import re
import socket
from pathlib import Path

import pytest
from carrying import MIB, End
from processes import Running, stage

from twisted_lb.net.pipes import CAN_SPLICE

pytestmark = pytest.mark.skipif(not CAN_SPLICE, reason="there is no splice here")

PATIENCE_S = 120.0
LB = """
backends = ["127.0.0.1:{backend}"]
upgrades = ["chess"]
[health_check]
interval_s = 0
"""
OFFER = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: chess\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chess\r\n\r\n"


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


def tunnel(port: int, server: socket.socket, mib: int) -> tuple[End, End]:
    """The two ends of a tunnel."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
    client.sendall(OFFER)
    backend, _ = server.accept()
    backend.settimeout(PATIENCE_S)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += backend.recv(4096)
    backend.sendall(SWITCH)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    return End(client, mib), End(backend, mib)


def bytes_read(running: Running) -> int:
    """By `read` and its like, which is not what `splice` does."""
    said = Path(f"/proc/{running.pid}/io").read_text()
    found = re.search(r"rchar: (\d+)", said)
    assert found is not None
    return int(found[1])


def pipes_of(running: Running) -> int:
    folder = Path(f"/proc/{running.pid}/fd")
    return sum(str(one.readlink()).startswith("pipe:") for one in folder.iterdir())


def balancer(world) -> tuple[Running, int, socket.socket]:
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(PATIENCE_S)
    (world.folder / "lb.toml").write_text(LB.format(backend=server.getsockname()[1]))
    running, port = world.balancer("--config", "lb.toml")
    return running, port, server


def carry(world, mib: int) -> None:
    running, port, server = balancer(world)
    with server:
        before = pipes_of(running)
        ends = tunnel(port, server, 8)
        for end in ends:
            end.begin()
        for end in ends:
            end.wait()
            end.sock.close()
        warm_kib, read = running.memory_kib(), bytes_read(running)
        ends = tunnel(port, server, mib)
        for end in ends:
            end.begin()
        for end in ends:
            end.wait()
            end.sock.close()
        assert [(end.got, end.ok) for end in ends] == [(mib * MIB, True)] * 2
        assert bytes_read(running) - read < 2 * mib * MIB / 4, "it was copied"
        assert running.memory_kib() - warm_kib < 4096
        # A few are kept.
        assert pipes_of(running) - before <= 2 * 8
        running.signal(15)
        assert running.wait() in (0, -15)


def test_bulk_goes_both_ways_at_once_and_the_kernel_moves_it(world):
    carry(world, 64)


@pytest.mark.long
def test_a_gibibyte_goes_both_ways_at_once_in_constant_memory(world):
    carry(world, 1024)
