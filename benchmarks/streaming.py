#!/usr/bin/env python3
"""Streams, as of a language model: when the first byte of an answer and each further piece come through a proxy, beside a direct connection; docs/benchmarks.md.

    benchmarks/streaming.py --save NAME    measures, half a minute, keeps it in benchmarks/results/NAME.json, and renders
    benchmarks/streaming.py                measures and prints

Needs twisted_lb to import (.venv-compiled: the build that is measured), nginx and haproxy. All of them run at the same time, each with
streams of its own in turns; every piece says when it was sent, by the clock that reads it.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from concurrency_table.beside import running
from ports import free_port

STREAMS = 32
PIECES = 30
FIRST_S, GAP_S = 0.05, 0.02
ROUNDS = 15
# A piece is as long as an event with a token is.
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":" balancer"}}],"sent":%020d}\n\n'
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

OURS = """
backends = ["127.0.0.1:{backend}"]
[listen]
port = {port}
interface = "127.0.0.1"
[health_check]
interval_s = 0
"""
HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    {more}
frontend in
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server s 127.0.0.1:{backend}
"""
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/{port}.pid;
error_log {folder}/{port}.error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b{port}; proxy_temp_path {folder}/p{port}; fastcgi_temp_path {folder}/f{port};
    uwsgi_temp_path {folder}/u{port}; scgi_temp_path {folder}/s{port};
    upstream app {{ server 127.0.0.1:{backend}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; {more} }}
    }}
}}
"""

Maker = Callable[[Path, int, int], list[str]]


def ours(folder: Path, port: int, backend: int) -> list[str]:
    """What starts this balancer."""
    file = folder / f"{port}.toml"
    file.write_text(OURS.format(port=port, backend=backend))
    return [sys.executable, "-P", "-m", "twisted_lb", "lb", "--config", str(file)]


def haproxy(more: str = "") -> Maker:
    """What makes what starts HAProxy."""

    def made(folder: Path, port: int, backend: int) -> list[str]:
        file = folder / f"{port}.cfg"
        file.write_text(HAPROXY.format(port=port, backend=backend, more=more))
        return [shutil.which("haproxy") or "haproxy", "-db", "-f", str(file)]

    return made


def nginx(more: str = "") -> Maker:
    """What makes what starts NGINX."""

    def made(folder: Path, port: int, backend: int) -> list[str]:
        file = folder / f"{port}.nginx"
        file.write_text(NGINX.format(folder=folder, port=port, backend=backend, more=more))
        return [shutil.which("nginx") or "nginx", "-c", str(file)]

    return made


MAKERS: dict[str, Maker | None] = {
    "direct": None,
    "twisted_lb": ours,
    "HAProxy": haproxy(),
    "HAProxy, `option http-no-delay`": haproxy("option http-no-delay"),
    "NGINX": nginx(),
    "NGINX, `proxy_buffering off`": nginx("proxy_buffering off;"),
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers with pieces, each of which says when it was sent."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(HEAD)
            wait_s = FIRST_S
            for _ in range(PIECES):
                await asyncio.sleep(wait_s)
                wait_s = GAP_S
                piece = EVENT % time.perf_counter_ns()
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            writer.write(b"0\r\n\r\n")
    writer.close()


class Seen:
    """What clients saw, in microseconds: how late the first pieces came, and the others, and by how much their gaps differ from
    those with which they were sent; and how many streams were not whole.
    """

    def __init__(self) -> None:
        self.first: list[float] = []
        self.later: list[float] = []
        self.jitter: list[float] = []
        self.broken = 0

    async def stream(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST)
        data, came, sent = b"", [], []
        while b"0\r\n\r\n" not in data[-7:]:
            more = await asyncio.wait_for(reader.read(65536), 30)
            now = time.perf_counter_ns()
            if not more:
                break
            data += more
            for piece in re.findall(rb'"sent":(\d{20})', data)[len(sent) :]:
                sent.append(int(piece))
                came.append(now)
        writer.close()
        late = [(there - here) / 1000 for here, there in zip(sent, came, strict=True)]
        if len(late) != PIECES:
            self.broken += 1
            return
        self.first.append(late[0])
        self.later += late[1:]
        self.jitter += [abs(after - before) for before, after in itertools.pairwise(late)]

    def told(self) -> dict[str, float]:
        """Medians and p99."""
        told: dict[str, float] = {"streams": len(self.first), "broken": self.broken}
        for name in ("first", "later", "jitter"):
            cuts = statistics.quantiles(getattr(self, name), n=100)
            told |= {f"{name}_p50": cuts[49], f"{name}_p99": cuts[98]}
        return told


async def measured(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """What each of them makes of the same streams, in rounds by turns."""
    backend = free_port()
    seen = {name: Seen() for name in MAKERS}
    ports = {"direct": backend}
    async with contextlib.AsyncExitStack() as stack:
        listener = await asyncio.start_server(serve, "127.0.0.1", backend, backlog=1024)
        stack.callback(listener.close)
        for name, maker in MAKERS.items():
            if maker is not None:
                ports[name] = free_port()
                words = maker(folder, ports[name], backend)
                await asyncio.to_thread(stack.enter_context, running(words, ports[name], folder / f"{ports[name]}.log"))
        for number in range(rounds + 1):
            for name, one in seen.items():
                into = one if number else Seen()  # the first round warms up
                await asyncio.gather(*(into.stream(ports[name]) for _ in range(STREAMS)))
    return {name: one.told() for name, one in seen.items()}


def versions() -> dict[str, str]:
    """Which of each was measured."""
    from twisted_lb import __version__
    from twisted_lb.build_info import build

    def said(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = re.search(r"(\d+\.\d+\.\d+)", done.stdout + done.stderr)
        return found[1] if found else ""

    return {
        "twisted_lb": f"twisted_lb {__version__} ({build()})",
        "haproxy": said("haproxy", "-v"),
        "nginx": said("nginx", "-v"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--save", metavar="NAME")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(Path(folder), wanted.rounds))
    print(json.dumps(found, indent=1))
    if wanted.save:
        from bench import render
        from yardstick import results

        kept = {"title": "streams", "streams": STREAMS, "pieces": PIECES, "rounds": wanted.rounds, "seen": found}
        results.save(wanted.save, versions(), {"streaming": kept})
        render()


if __name__ == "__main__":
    main()
