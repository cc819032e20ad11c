"""Clients that leave at random moments: nothing of them stays in flight (phantoms)."""

import asyncio
import contextlib
import http.client
import random
import re
import socket
from contextlib import closing
from pathlib import Path

import pytest
from concurrency_table.beside import Backend
from ports import free_port
from processes import PATIENCE_S, listening, stage, until
from some import some

# So many ask at a time.
AT_ONCE = 32
REQUEST = b"GET /%d?delay=0.00%d HTTP/1.1\r\nHost: lb\r\n\r\n"
LONGEST_S = 0.012


async def visit(port: int, number: int, chance: random.Random, longest_s: float) -> bool:
    """Ask once; one of two clients goes at a random moment, by FIN or by RST. Whether there was an answer."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(REQUEST % (number, number % 10))
        if chance.random() < 0.5:
            await asyncio.sleep(chance.random() * longest_s)
            if chance.random() < 0.5:
                writer.transport.abort()
            return False
        return (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
    finally:
        writer.close()


async def crowd(port: int, requests: int, at_once: int = AT_ONCE, longest_s: float = LONGEST_S) -> int:
    """How many were answered."""
    numbers = iter(range(requests))
    chances = [random.Random(one) for one in range(at_once)]

    async def some(chance: random.Random) -> int:
        return sum([await visit(port, number, chance, longest_s) for number in numbers])

    return sum(await asyncio.gather(*[some(chance) for chance in chances]))


class Door(http.client.HTTPConnection):
    """A connection to the operators' socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def metrics(path: Path) -> str:
    with closing(Door(path)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def in_flight(path: Path) -> dict[str, float]:
    """What each backend has in flight, by the metrics."""
    text = metrics(path)
    found = re.findall(r'^twisted_lb_backend_in_flight\{.*?backend="([^"]+)".*?\} (\S+)$', text, re.MULTILINE)
    return {backend: float(number) for backend, number in found}


def counted(text: str, name: str) -> float:
    """The sum of all series of a metric, of which there is one at least."""
    found = re.findall(rf"^twisted_lb_{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return sum(map(float, found))


@pytest.mark.parametrize("requests", [1_000, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("policy", some(1, ["least", "latency"]))
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


# Backends that go on working for clients that have gone: synchronous workers. They count what they have.

MOST = 4
SERVICE_S = 0.01
PLACES = """
policy = "least"
backends = [{backends}]
max_in_flight = {most}
abandoned_s = {abandoned_s}
listen = {{ interface = "127.0.0.1", port = {port} }}
queue = {{ length = 1000, timeout_s = 60 }}
health_check = {{ interval_s = 0 }}
"""


async def crowded(port: int, servers: list[Backend], requests: int) -> tuple[int, list[int]]:
    """How many were answered, and the most that each backend was at work at."""
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            listener = await asyncio.start_server(server.serve, "127.0.0.1", server.port, backlog=1024)
            stack.callback(listener.close)
        answered = await crowd(port, requests, at_once=16, longest_s=3 * SERVICE_S)
        while any(server.now for server in servers):
            await asyncio.sleep(SERVICE_S)
    return answered, [server.most for server in servers]


@pytest.mark.parametrize(
    ("requests", "abandoned_s"), [(2_000, 30), (2_000, 0), pytest.param(100_000, 30, marks=pytest.mark.long)]
)
def test_no_worker_has_more_than_it_may_though_half_of_the_clients_leave(
    tmp_path: Path, requests: int, abandoned_s: int
) -> None:
    """As the backends count it themselves; without `abandoned_s` they have more, which shows that it is seen."""
    servers = [Backend(SERVICE_S) for _ in range(2)]
    with stage(tmp_path) as one:
        port, names = free_port(), [f"127.0.0.1:{server.port}" for server in servers]
        file, door = tmp_path / "lb.toml", tmp_path / "door"
        backends = ", ".join(f'"{name}"' for name in names)
        file.write_text(PLACES.format(backends=backends, most=MOST, abandoned_s=abandoned_s, port=port))
        balancer = one.twistd("lb", "-n", "lb", "--config", "lb.toml", "--admin", f"unix:{door}")
        until(lambda: listening(port), "it listens")
        answered, most = asyncio.run(crowded(port, servers, requests))
        assert 0.4 * requests < answered < 0.6 * requests
        if abandoned_s:
            assert most == [MOST, MOST]
        else:
            assert max(most) > MOST
        until(lambda: in_flight(door) == dict.fromkeys(names, 0.0), f"nothing is in flight: {in_flight(door)}")
        text = metrics(door)
        left = sum(server.requests for server in servers) - answered
        assert left > 0.1 * requests, "many have left while a backend was at work for them"
        print(f"{requests} requests: {answered} answered, {left} worked at in vain, at most {most} at a time")
        for name in ("invariant_violations_total", "queued", "in_flight", "client_connections"):
            assert counted(text, name) == 0, name
        assert "bug of the balancer" not in balancer.log
        assert "Traceback" not in balancer.log
