#!/usr/bin/env python3
"""Bulk through a tunnel: what a MiB costs a relay that copies, and one that splices, in CPU time (user and system); docs/tunnels.md.

    benchmarks/tunnels.py [--rounds N] [--mib N]

Needs twisted_lb to import (.venv-compiled: the build that is measured). Both relays run in processes of their own, in turns, between the same
sender and the same reader over loopback; told is the median of the rounds, and that of the ratios.
"""

import argparse
import json
import os
import resource
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from twisted.internet.task import Clock as TestTime

from twisted_lb.build_info import build
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.pipes import Pipes
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.relay import Leg, Relay
from twisted_lb.net.transport import Transport

MIB = 1 << 20
KINDS = ("copied", "spliced")
PATIENCE_S = 60


class Held:
    """The protocol of a connection until it is joined."""

    def makeConnection(self, transport: Any) -> None:
        """It is connected already."""

    def dataReceived(self, data: bytes) -> None:
        """Nothing comes before the relay begins."""

    def connectionLost(self, reason: Any) -> None:
        """The relay is told instead."""


class Filling:
    """The producer of the client's transport (back-pressure)."""

    def __init__(self) -> None:
        self.relay: Relay | None = None

    def pauseProducing(self) -> None:
        """It takes no more."""
        if self.relay is not None:
            self.relay.client_full()

    def resumeProducing(self) -> None:
        """It takes more."""
        if self.relay is not None:
            self.relay.client_drained()

    def stopProducing(self) -> None:
        """It is gone."""


class Owner:
    """Of a relay: knows when it is over."""

    def __init__(self) -> None:
        self.over = False

    def relay_ended(self, outcome: Outcome, cut: str) -> None:
        """See RelayOwner."""
        assert outcome is Outcome.OK, (outcome, cut)
        self.over = True


def cpu_s() -> float:
    """What the process has used so far, in user and system mode."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def connected(address: tuple[str, int]) -> socket.socket:
    """A connection, as the balancer has it."""
    sock = socket.create_connection(address)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def relay(kind: str, to: tuple[str, int]) -> None:
    """Relay one connection after the other, and say what each has cost. The process of the relay."""
    time_of = TestTime()
    clock = Clock(time.monotonic)
    poller = EpollPoller(clock, time_of.callLater, lambda: None)
    deadlines = Deadlines(clock, time_of.callLater)
    pipes = Pipes() if kind == "spliced" else None
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            client.setblocking(False)
            upstream = connected(to)
            before = cpu_s()
            near, far = Transport(poller, client), Transport(poller, upstream)
            filling, owner = Filling(), Owner()
            for one in (near, far):
                one.open(Held())
            near.registerProducer(filling, True)
            legs = [Leg(one, b"", lambda _: None, one.loseConnection, ended=False) for one in (near, far)]
            filling.relay = Relay(owner, *legs, idle_s=3600.0, clock=clock, deadlines=deadlines, pipes=pipes)
            filling.relay.begin(client_full=False)
            while not owner.over:
                select.select([poller.fileno()], [], [])
                poller.doRead()
            poller.flush()
            told = {"cpu_s": cpu_s() - before, "bytes": filling.relay.bytes_up + filling.relay.bytes_down}
            print(json.dumps(told), flush=True)


class Reader:
    """Who takes all that comes, and then says that nothing does from there."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        buffer = bytearray(MIB)
        while True:
            sock, _ = self._server.accept()
            with sock:
                while sock.recv_into(buffer):
                    pass


def send(port: int, mib: int) -> None:
    """Send so much through a relay, to its end."""
    piece = os.urandom(MIB)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
        for _ in range(mib):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--relay", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--to", type=int, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.relay:
        relay(words.relay, ("127.0.0.1", words.to))
        return
    reader = Reader()
    relays = {}
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    try:
        for kind in KINDS:
            program = [sys.executable, __file__, "--relay", kind, "--to", str(reader.address[1])]
            relays[kind] = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        ports = {kind: int(_line(one)) for kind, one in relays.items()}
        for number in range(words.rounds + 1):
            for kind, one in relays.items():
                send(ports[kind], words.mib)
                told = json.loads(_line(one))
                assert told["bytes"] == words.mib * MIB
                if number:  # the first one warms up
                    costs[kind].append(told["cpu_s"] * 1e6 / words.mib)
    finally:
        for one in relays.values():
            one.kill()
            one.wait()
    copied, spliced = (statistics.median(costs[kind]) for kind in KINDS)
    ratio = statistics.median(a / b for a, b in zip(costs["copied"], costs["spliced"], strict=True))
    print(f"{build()}, {words.rounds} rounds of {words.mib} MiB, CPU µs a MiB")
    for kind in KINDS:
        print(f"{kind:8} {statistics.median(costs[kind]):6.0f}  ({min(costs[kind]):.0f} to {max(costs[kind]):.0f})")
    print(f"copied over spliced: {ratio:.2f} (of the medians {copied / spliced:.2f})")


def _line(one: "subprocess.Popen[str]") -> str:
    assert one.stdout is not None
    return one.stdout.readline()


if __name__ == "__main__":
    main()
