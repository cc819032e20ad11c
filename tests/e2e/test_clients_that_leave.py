"""Clients that leave at random moments: nothing of them stays in flight (phantoms)."""

import asyncio
import http.client
import random
import re
import socket
from contextlib import closing
from pathlib import Path

import pytest
from processes import PATIENCE_S, stage, until

# So many ask at a time.
AT_ONCE = 32
REQUEST = b"GET /%d?delay=0.00%d HTTP/1.1\r\nHost: lb\r\n\r\n"
LONGEST_S = 0.012


async def visit(port: int, number: int, chance: random.Random) -> bool:
    """Ask once; one of two clients goes at a random moment, by FIN or by RST. Whether there was an answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(REQUEST % (number, number % 10))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * LONGEST_S)
            if chance.random() < 0.5:
                writer.transport.abort()
            return False
        return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
    finally:
        writer.close()


async def crowd(port: int, requests: int) -> int:
    """How many were answered."""
    numbers = iter(range(requests))
    chances = [random.Random(one) for one in range(AT_ONCE)]

    async def some(chance: random.Random) -> int:
        return sum([await visit(port, number, chance) for number in numbers])

    return sum(await asyncio.gather(*[some(chance) for chance in chances]))


class Door(http.client.HTTPConnection):
    """A connection to the operators' socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def in_flight(path: Path) -> dict[str, float]:
    """What each backend has in flight, by the metrics."""
    with closing(Door(path)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    found = re.findall(r'^twisted_lb_backend_in_flight\{.*?backend="([^"]+)".*?\} (\S+)$', text, re.MULTILINE)
    return {backend: float(number) for backend, number in found}


@pytest.mark.parametrize("requests", [1_000, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("policy", ["least", "latency"])
def test_nothing_of_clients_that_left_stays_in_flight(tmp_path: Path, policy: str, requests: int) -> None:
    """Of 100,000 requests, half of whose clients leave at a random moment before the answer, or behind it."""
    with stage(tmp_path) as one:
        ports = [one.backend()[1] for _ in range(3)]
        door = tmp_path / "door"
        balancer, port = one.balancer(
            "-b", *[f"127.0.0.1:{number}" for number in ports], "-s", policy, "--admin", f"unix:{door}"
        )
        answered = asyncio.run(crowd(port, requests))
        assert 0.4 * requests < answered < 0.6 * requests

        until(
            lambda: in_flight(door) == {f"127.0.0.1:{number}": 0.0 for number in ports},
            f"nothing is in flight: {in_flight(door)}",
        )
        assert asyncio.run(crowd(port, 300)) > 90
        assert "bug of the balancer" not in balancer.log
        assert "Traceback" not in balancer.log
