#!/usr/bin/env python3
"""A flood of TLS handshakes: what becomes of the requests of clients who are connected already, here and with HAProxy; docs/tls.md.

    benchmarks/handshake_flood.py [--rounds N] [--seconds N]

Requests come at a constant rate over kept connections in the clear, to a listener of the same process that speaks TLS to the flood: its
clients send a ClientHello, wait for the answer to it, which has cost the server its signature, and leave. By turns: without the flood, and
with it. Needs .venv-bench and .venv-compiled (scripts/bench makes them), wrk's place is taken by a generator of our own.
"""

import argparse
import contextlib
import os
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from yardstick.contenders import HAProxy, Ours
from yardstick.loads import open_loop
from yardstick.machine import LOAD_CORE, settle_here
from yardstick.place import Backends, Place
from yardstick.rounds import Running, answers, measure, problem
from yardstick.scenarios import OVER_TLS, Scenario
from yardstick.talk import until

RATE = 2000
AT_ONCE = 64
PLAIN = Scenario("flooded", "small, keep-alive, 64 connections, at a constant rate", 64)
OURS = """
[listeners.plain]
address = "{address}:{port}"
[listeners.safe]
address = "{address}:{flooded}"
tls = "{folder}/tls.pem"
[defaults.listener]
default_pool = "b"
[pools.b]
backends = [{backends}]
health_check.interval_s = 0
upstream.max_idle = 2048
"""
HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    http-reuse always
frontend plain
    bind {address}:{port}
    default_backend b
frontend safe
    bind {address}:{flooded} ssl crt {folder}/tls.pem alpn http/1.1
    default_backend b
backend b
{backends}
"""


def hello() -> bytes:
    """A ClientHello as OpenSSL says it."""
    inbound, outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls = context.wrap_bio(inbound, outbound, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outbound.read()


def flood(address: str, port: int) -> None:
    """The flood itself, until it is ended: so many at once, each over as soon as it is answered."""
    # Where the generator of requests is, and behind it.
    os.sched_setaffinity(0, {LOAD_CORE})
    os.nice(10)
    said = hello()
    selector = selectors.DefaultSelector()

    def begin() -> None:
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex((address, port))
        selector.register(one, selectors.EVENT_WRITE)

    for _ in range(AT_ONCE):
        begin()
    while True:
        for key, events in selector.select():
            one = key.fileobj
            assert isinstance(one, socket.socket)
            try:
                if events & selectors.EVENT_WRITE:
                    one.send(said)
                    selector.modify(one, selectors.EVENT_READ)
                    continue
                one.recv(65536)
            except OSError:
                pass
            selector.unregister(one)
            one.close()
            begin()


@contextlib.contextmanager
def flooding(one: Running, port: int) -> Iterator[None]:
    """While the flood comes."""
    words = [sys.executable, __file__, "--flood", one.address, str(port)]
    with subprocess.Popen(words) as process:
        try:
            yield
        finally:
            process.kill()


class OursFlooded(Ours):
    """This project, with two listeners."""

    def conf(self, place: Place, backends: str) -> Path:
        return written(OURS, place, backends, "toml")


class HAProxyFlooded(HAProxy):
    """HAProxy, with two frontends."""

    def conf(self, place: Place, backends: str) -> Path:
        return written(HAPROXY, place, backends, "cfg")


def written(template: str, place: Place, backends: str, kind: str) -> Path:
    """A file of a contender."""
    file = place.folder / f"flooded-{place.port}.{kind}"
    file.write_text(
        template.format(
            address=place.address, port=place.port, flooded=place.port + 100, folder=place.folder, backends=backends
        )
    )
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--flood", nargs=2, metavar=("ADDRESS", "PORT"), help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.flood:
        flood(wanted.flood[0], int(wanted.flood[1]))
    settle_here()
    contenders = [OursFlooded("compiled", ".venv-compiled"), HAProxyFlooded()]
    seen: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.chmod(folder, 0o755)
        backends = Backends(Path(folder), 2)
        stack.callback(backends.stop)
        started = []
        for number, contender in enumerate(contenders):
            place = backends.place(19300 + number, OVER_TLS["tls-small-64"])
            process = contender.start(place)
            stack.callback(process.stop)
            one = Running(contender, process, place.address, place.port, place.folder)
            until(lambda one=one: answers(one, PLAIN), 30, lambda one=one: problem(one, PLAIN))
            started.append(one)
        for _ in range(wanted.rounds):
            for one in started:
                for flooded in (False, True):
                    with flooding(one, one.port + 100) if flooded else contextlib.nullcontext():
                        sample = measure(one, PLAIN, wanted.seconds, open_loop(RATE))
                    if sample.void:
                        print(f"{one.contender.title}: {sample.void}")
                    else:
                        seen.setdefault((one.contender.title, flooded), []).append((sample.p50_us, sample.p99_us))
    for (title, flooded), found in seen.items():
        p50, p99 = (statistics.median(one[at] for one in found) / 1000 for at in (0, 1))
        print(f"{title:24} {'flooded' if flooded else 'calm':8} p50 {p50:8.2f} ms   p99 {p99:8.2f} ms")


if __name__ == "__main__":
    main()
