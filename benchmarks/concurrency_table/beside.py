"""Real processes: steady clients before backends that count what they have at a time, through this balancer and through HAProxy by turns."""

import asyncio
import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port

PATIENCE_S = 60.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"

OURS = """
policy = "least"
backends = [{backends}]
max_in_flight = {most}
[listen]
port = {port}
interface = "127.0.0.1"
[queue]
length = 10000
timeout_s = 60
[health_check]
interval_s = 0
"""
HAPROXY = """
global
    maxconn 4000
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout queue 60s
frontend in
    bind 127.0.0.1:{port}
    default_backend app
backend app
    balance leastconn
{backends}
"""


class Backend:
    """A server that takes `service_s` for each request, and counts what it has at a time, from the whole head to the whole answer."""

    def __init__(self, service_s: float) -> None:
        self.service_s = service_s
        self.port = free_port()
        self.now = self.most = self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See asyncio.start_server."""
        # Cancelled: the run is over.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.now += 1
                self.most = max(self.most, self.now)
                await asyncio.sleep(self.service_s)
                self.now -= 1
                writer.write(ANSWER)
        writer.close()


@dataclass
class Seen:
    """What steady clients saw: the latencies of good answers, in seconds, and how many requests had none."""

    latencies: list[float] = field(default_factory=list)
    errors: int = 0


async def steady(port: int, clients: int, each: int) -> Seen:
    """So many clients send so many requests each, one after the other, on connections that are kept."""
    seen = Seen()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(each):
            began = time.perf_counter()
            writer.write(REQUEST)
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
            except (OSError, asyncio.IncompleteReadError, TimeoutError):
                seen.errors += each - number
                break
            if b" 200 " in head[:13]:
                seen.latencies.append(time.perf_counter() - began)
            else:
                seen.errors += 1
        writer.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return seen


@contextlib.contextmanager
def running(words: list[str], port: int, log: Path) -> Iterator[None]:
    """A program that listens at this port, ended by its pid."""
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)
        try:
            ends_at = time.monotonic() + PATIENCE_S
            while time.monotonic() < ends_at and process.poll() is None:
                with contextlib.suppress(OSError), contextlib.closing(_connected(port)):
                    break
                time.sleep(0.02)
            else:
                raise RuntimeError(f"{words[0]} does not listen:\n{log.read_text()}")
            yield
        finally:
            process.kill()
            process.wait()


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 1)


def balancer(folder: Path, ports: list[int], most: int) -> tuple[list[str], int]:
    """What starts this balancer, and where it listens."""
    port, file = free_port(), folder / "lb.toml"
    backends = ", ".join(f'"127.0.0.1:{one}"' for one in ports)
    file.write_text(OURS.format(backends=backends, most=most, port=port))
    return [sys.executable, "-m", "twisted_lb", "lb", "--config", str(file)], port


def haproxy(folder: Path, ports: list[int], most: int) -> tuple[list[str], int]:
    """What starts HAProxy, and where it listens."""
    port, file = free_port(), folder / "haproxy.cfg"
    lines = [f"    server s{number} 127.0.0.1:{one} maxconn {most}" for number, one in enumerate(ports)]
    file.write_text(HAPROXY.format(backends="\n".join(lines), port=port))
    return [shutil.which("haproxy") or "haproxy", "-db", "-f", str(file)], port


MAKERS = {"twisted_lb": balancer, "HAProxy": haproxy}


def beside(
    folder: Path,
    names: list[str],
    *,
    most: int = 4,
    backends: int = 2,
    clients: int = 64,
    each: int = 8,
    rounds: int = 15,
    service_s: float = 0.02,
) -> dict[str, dict[str, float]]:
    """What each of these programs makes of the same load, in rounds by turns: median and p99 of the whole latency and the mean wait
    of an answer, as multiples of the time of service; errors, and the most that any backend had at a time.
    """
    return asyncio.run(
        _beside(folder, names, most, [Backend(service_s) for _ in range(backends)], clients, each, rounds)
    )


async def _beside(
    folder: Path, names: list[str], most: int, servers: list[Backend], clients: int, each: int, rounds: int
) -> dict[str, dict[str, float]]:
    service_s = servers[0].service_s
    seen: dict[str, Seen] = {name: Seen() for name in names}
    held = dict.fromkeys(names, 0)
    async with contextlib.AsyncExitStack() as stack:
        for server in servers:
            listener = await asyncio.start_server(server.serve, "127.0.0.1", server.port, backlog=1024)
            stack.callback(listener.close)
        ports: dict[str, int] = {}
        for name in names:
            words, ports[name] = MAKERS[name](folder, [server.port for server in servers], most)
            await asyncio.to_thread(stack.enter_context, running(words, ports[name], folder / f"{name}.log"))
        for _ in range(rounds):
            for name in names:
                for server in servers:
                    server.most = server.now
                one = await steady(ports[name], clients, each)
                seen[name].latencies += one.latencies
                seen[name].errors += one.errors
                held[name] = max(held[name], *(server.most for server in servers))
    return {name: _told(seen[name], held[name], service_s) for name in names}


def _told(seen: Seen, held: int, service_s: float) -> dict[str, float]:
    cuts = statistics.quantiles(seen.latencies, n=100)
    return {
        "requests": len(seen.latencies) + seen.errors,
        "errors": seen.errors,
        "held": held,
        "p50": round(cuts[49] / service_s, 2),
        "p99": round(cuts[98] / service_s, 2),
        "wait": round(statistics.fmean(seen.latencies) / service_s - 1, 2),
    }
