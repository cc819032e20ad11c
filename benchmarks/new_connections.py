#!/usr/bin/env python3
"""New connections, beside the least that a Python program can do for them: a relay that knows no HTTP, no limit and no time, and
chooses no backend. What it costs is the floor for whoever is written in Python; the method is that of scripts/bench.

    benchmarks/new_connections.py [--rounds N] [--contenders NAME,NAME,...]
    benchmarks/new_connections.py --relay ADDRESS PORT BACKEND ...

Needs what scripts/bench needs. The relay takes a request with one `recv`, sends it as it is on a connection that it keeps, adds
`Connection: close` to the answer that comes with one `recv`, and closes. It stands for the measurement alone.
"""

import argparse
import select
import socket
import sys
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).parent))

import bench
from yardstick.contenders import CONTENDERS, Contender
from yardstick.place import Place

BATCH = 64
BLANK_LINE = b"\r\n\r\n"
CLOSING = b"\r\nConnection: close\r\n\r\n"


class Loop:
    """The relay."""

    def __init__(self, address: str, port: int, backends: list[str]) -> None:
        self._epoll = select.epoll()
        self._door = socket.create_server((address, port), backlog=4096)
        self._door.setblocking(False)
        self._epoll.register(self._door.fileno(), select.EPOLLIN)
        self._backends = [name.rsplit(":", 1) for name in backends]
        self._dialled = 0
        self._clients: dict[int, socket.socket] = {}
        self._idle: list[socket.socket] = []
        self._busy: dict[
            int, tuple[socket.socket, socket.socket]
        ] = {}  # by descriptor of the backend: it, and its client

    def run(self) -> NoReturn:
        """Relay until somebody ends the process."""
        door = self._door.fileno()
        while True:
            for fd, _ in self._epoll.poll():
                if fd == door:
                    self._accept()
                elif fd in self._busy:
                    self._answer(*self._busy.pop(fd))
                elif fd in self._clients:
                    self._ask(self._clients.pop(fd))

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                client, _ = self._door.accept()
            except BlockingIOError:
                return
            client.setblocking(False)
            self._clients[client.fileno()] = client
            self._epoll.register(client.fileno(), select.EPOLLIN)

    def _ask(self, client: socket.socket) -> None:
        request = client.recv(65536)
        if not request:
            client.close()
            return
        backend = self._idle.pop() if self._idle else self._dial()
        self._busy[backend.fileno()] = backend, client
        backend.send(request.replace(b"Connection: close\r\n", b"", 1))

    def _dial(self) -> socket.socket:
        host, port = self._backends[self._dialled % len(self._backends)]
        self._dialled += 1
        backend = socket.create_connection((host, int(port)))
        backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        backend.setblocking(False)
        self._epoll.register(backend.fileno(), select.EPOLLIN)
        return backend

    def _answer(self, backend: socket.socket, client: socket.socket) -> None:
        client.send(backend.recv(65536).replace(BLANK_LINE, CLOSING, 1))
        client.close()
        self._idle.append(backend)


class Bare(Contender):
    """This program, as a relay."""

    name = "bare"
    title = "bare relay in Python"
    usual = sys.executable

    def version(self) -> str:
        return f"CPython {sys.version.split()[0]}"

    def words(self, place: Place) -> list[object]:
        return [sys.executable, "-P", Path(__file__).absolute(), "--relay", place.address, place.port, *place.backends]


def main() -> int:
    """Measure, or be the relay."""
    if sys.argv[1:2] == ["--relay"]:
        address, port, *backends = sys.argv[2:]
        Loop(address, int(port), backends).run()
    options = argparse.ArgumentParser(prog="new_connections.py")
    options.add_argument("--rounds", default="11")
    options.add_argument("--contenders", default="compiled,pure,haproxy,relay")
    told = options.parse_args()
    CONTENDERS[Bare.name] = Bare()
    who = ["--contenders", f"{Bare.name},{told.contenders}", "--settings", "tuned"]
    sys.argv[1:] = [*who, "--scenarios", "new-connection", "--seconds", "1", "--rounds", told.rounds]
    return bench.main()


if __name__ == "__main__":
    sys.exit(main())
