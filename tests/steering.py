"""Load on a real daemon, and backends that count what they see: all in one event loop, in a thread of its own."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Coroutine
from typing import Any

from processes import PATIENCE_S

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Counting:
    """A backend that counts connections, requests, checks (`/health`) and tunnels. `delay_s`: how long a request takes; `says`:
    its answers, of which None is a connection that is closed without one; `checked`: its answer to checks.
    """

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.says: bytes | None = OK
        self.checked = OK
        self.port = 0
        self.connections = self.requests = self.checks = self.tunnels = 0
        self.open: set[_Connection] = set()
        self.server: Any = None
        self.socket: Any = None

    @property
    def seen(self) -> tuple[int, int]:
        """Connections and requests so far."""
        return self.connections, self.requests


class _Connection(asyncio.Protocol):
    def __init__(self, backend: Counting) -> None:
        self._backend = backend
        self._buffer = b""
        self._tunnel = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._backend.connections += 1
        self._backend.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.open.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            self.transport.write(data)
            return
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"GET /health "):
            self._backend.checks += 1
            self.transport.write(self._backend.checked)
        elif b"Upgrade: websocket" in head:
            self._backend.tunnels += 1
            self._tunnel = True
            self.transport.write(SWITCHED)
        else:
            self._backend.requests += 1
            asyncio.get_running_loop().call_later(self._backend.delay_s, self._say)

    def _say(self) -> None:
        if self._backend.says is None:
            self.transport.close()
        else:
            self.transport.write(self._backend.says)


class Tunnel:
    """A client that has switched protocols."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def echo(self, data: bytes = b"ping") -> bytes:
        self._writer.write(data)
        return await self._reader.readexactly(len(data))

    async def close(self) -> None:
        self._writer.close()


async def _turns() -> None:
    """A few turns of the event loop: what has arrived is heard, what was begun is done."""
    for _ in range(10):
        await asyncio.sleep(0)


class Load:
    """The event loop, with clients that ask again and again at a port, and backends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.answered = 0
        self.failures: list[str] = []
        self.backends: list[Counting] = []
        self._clients: list[asyncio.Future[None]] = []
        self._enough = False

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result(PATIENCE_S)

    def backend(self, delay_s: float = 0.002) -> Counting:
        one = Counting(delay_s)
        self.do(self._listen(one))
        self.backends.append(one)
        return one

    async def _listen(self, one: Counting) -> None:
        one.server = await self.loop.create_server(lambda: _Connection(one), "127.0.0.1", one.port)
        one.socket = one.server.sockets[0]
        one.port = one.socket.getsockname()[1]

    def restart(self, one: Counting, says: bytes) -> None:
        """End a backend with all its connections, and begin it anew at the same port, with other answers."""

        async def again() -> None:
            self.loop.remove_reader(one.socket.fileno())
            await _turns()  # what was accepted has found its server
            one.server.close()
            for connection in list(one.open):
                connection.transport.abort()
            await _turns()
            one.says = says
            await self._listen(one)

        self.do(again())

    def settle(self) -> None:
        """Whatever was sent to a backend so far has been seen by it: on loopback it is in its sockets already."""
        self.do(_turns())

    def ask(self, port: int, clients: int, pause_s: float = 0.0) -> None:
        """From now on so many clients ask there, each on a connection that it keeps."""

        async def client() -> None:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while not self._enough:
                    writer.write(GET)
                    head = await reader.readuntil(b"\r\n\r\n")
                    if not head.startswith(b"HTTP/1.1 200 "):
                        self.failures.append(head.decode("latin-1"))
                        break
                    await reader.readexactly(2)
                    self.answered += 1
                    await asyncio.sleep(pause_s)
                writer.close()
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))

        async def begin() -> None:
            self._enough = False
            self._clients = [asyncio.ensure_future(client()) for _ in range(clients)]

        self.do(begin())

    def enough(self) -> list[str]:
        """No client asks any more; what went wrong."""

        async def end() -> None:
            self._enough = True
            await asyncio.gather(*self._clients)

        self.do(end())
        return self.failures

    def tunnel(self, port: int) -> Tunnel:
        async def switch() -> Tunnel:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(UPGRADE)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), head
            return Tunnel(reader, writer)

        return self.do(switch())

    def hang_up(self) -> None:
        """All backends close all their connections."""

        async def close() -> None:
            for backend in self.backends:
                for one in list(backend.open):
                    one.transport.close()

        self.do(close())

    def close(self) -> None:
        async def end() -> None:
            self._enough = True
            for backend in self.backends:
                self.loop.remove_reader(backend.socket.fileno())
            await _turns()  # what was accepted has found its server, which must be open
            for backend in self.backends:
                backend.server.close()
                for one in list(backend.open):
                    one.transport.abort()
            await asyncio.gather(*self._clients, return_exceptions=True)
            await _turns()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        self.do(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


class Admin(http.client.HTTPConnection):
    """A client of the admin door, at a unix socket or a port, that keeps its connection."""

    def __init__(self, at: str | int) -> None:
        super().__init__("localhost", at if isinstance(at, int) else None, timeout=PATIENCE_S)
        self._at = at

    def connect(self) -> None:
        if isinstance(self._at, int):
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(self._at)

    def ask(self, method: str, path: str, body: Any = None, **fields: str) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self.request(method, path, None if body is None else json.dumps(body), headers)
        response = self.getresponse()
        return response.status, json.loads(response.read())

    def change(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a change that was done."""
        status, said = self.ask(method, path, body)
        assert status in (200, 201), said
        return said
