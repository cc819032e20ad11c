"""A backend of HTTP/2 in memory, by another implementation (h2), which answers as a test says."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.settings import SettingCodes

from twisted_lb.testing import MemoryNetwork

Fields = Sequence[tuple[str, str]]


class Request:
    """What came on one stream, and the ways to answer it."""

    def __init__(self, connection: "Http2BackendConnection", stream: int, fields: Fields) -> None:
        self.connection = connection
        self.stream = stream
        self.fields = list(fields)
        self.body = b""
        self.trailers: dict[str, str] | None = None
        self.ended = False
        self.reset: int | None = None
        self._left = b""
        self._end = False

    def field(self, name: str) -> str:
        return dict(self.fields)[name]

    @property
    def path(self) -> str:
        return self.field(":path")

    def head(self, status: int = 200, *fields: tuple[str, str], ended: bool = False) -> "Request":
        self.connection.h2.send_headers(self.stream, [(":status", str(status)), *fields], end_stream=ended)
        return self.send()

    def data(self, data: bytes, *, ended: bool = False) -> "Request":
        """Send of a body what the windows take; the rest when they open."""
        self._left += data
        self._end = ended
        return self.go_on()

    def go_on(self) -> "Request":
        h2 = self.connection.h2
        while self._left or self._end:
            room = min(h2.local_flow_control_window(self.stream), 16384)
            if self._left and room <= 0:
                break
            piece, self._left = self._left[:room], self._left[room:]
            last = self._end and not self._left
            h2.send_data(self.stream, piece, end_stream=last)
            if last:
                self._end = False
        return self.send()

    @property
    def unsent(self) -> int:
        """How many bytes of the answer the windows have not let pass."""
        return len(self._left)

    def trail(self, *fields: tuple[str, str]) -> None:
        self.connection.h2.send_headers(self.stream, fields, end_stream=True)
        self.send()

    def answer(self, body: bytes = b"ok\n", status: int = 200, *fields: tuple[str, str]) -> None:
        length = [("content-length", str(len(body)))]
        self.head(status, *length, *fields, ended=not body or self.field(":method") == "HEAD")
        if body and self.field(":method") != "HEAD":
            self.data(body, ended=True)

    def give_up(self, code: int) -> None:
        self.connection.h2.reset_stream(self.stream, code)
        self.send()

    def send(self) -> "Request":
        self.connection.send()
        return self

    def __repr__(self) -> str:
        return f"<Request {self.stream} {dict(self.fields).get(':path')} ended={self.ended} reset={self.reset}>"


def usual(request: Request) -> None:
    """What a backend without a script answers."""
    request.answer()


class Http2BackendConnection:
    """One connection from the balancer. What comes of bodies is credited at once, unless the backend is stingy."""

    def __init__(self, backend: "Http2Backend") -> None:
        self.backend = backend
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, Request] = {}
        self.received = b""
        self.went: int | None = None  # with which code the balancer has said good bye
        self.pongs = 0
        self.lost: Any = None
        self.ended = False
        self.frozen = False

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.h2.initiate_connection()
        if self.backend.settings is not None:
            self.h2.update_settings(self.backend.settings)
        self.send()

    @property
    def open(self) -> bool:
        return bool(self.transport.connected)

    def send(self) -> None:
        data = self.h2.data_to_send()
        if data and self.transport.connected:
            self.transport.write(data)

    def raw(self, data: bytes) -> None:
        """Send bytes that the other implementation would not send."""
        self.send()
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.frozen:
            return
        for event in self.h2.receive_data(data):
            self._hear(event)
        self.send()

    def _hear(self, event: Any) -> None:
        backend = self.backend
        if isinstance(event, RequestReceived):
            request = self.requests[event.stream_id] = Request(self, event.stream_id, event.headers)
            backend.requests.append(request)
            if backend.early:
                backend.begin(request)
        elif isinstance(event, DataReceived):
            self.requests[event.stream_id].body += event.data
            if not backend.stingy and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            self.requests[event.stream_id].trailers = dict(event.headers)
        elif isinstance(event, StreamEnded):
            request = self.requests[event.stream_id]
            request.ended = True
            if not backend.early:
                backend.begin(request)
        elif isinstance(event, StreamReset):
            if event.stream_id in self.requests:
                self.requests[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.went = int(event.error_code)
        elif isinstance(event, PingAckReceived):
            self.pongs += 1
        elif isinstance(event, WindowUpdated):
            for request in self.requests.values():
                if request.unsent and request.reset is None:
                    request.go_on()

    def readConnectionLost(self) -> None:
        self.ended = True
        self.transport.loseConnection()

    def connectionLost(self, reason: Any) -> None:
        self.lost = reason

    def go_away(self, last: int | None = None, code: int = 0) -> None:
        """GOAWAY, behind which this implementation would send nothing: so as bytes."""
        last = max(self.requests, default=0) if last is None else last
        self.raw(bytes.fromhex("000008070000000000") + last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def __repr__(self) -> str:
        return f"<Http2BackendConnection, {len(self.requests)} requests>"


class Http2Backend:
    """A backend at an address. `script` says what each request in turn is answered, and `usual` what the rest; `early`: from the end of
    its head on.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        address: str,
        script: Iterable[Callable[[Request], object]] = (),
        *,
        otherwise: Callable[[Request], object] = usual,
        early: bool = False,
        stingy: bool = False,
        settings: dict[SettingCodes, int] | None = None,
    ) -> None:
        self.script = list(script)
        self.otherwise = otherwise
        self.early = early
        self.stingy = stingy
        self.settings = settings
        self.connections: list[Http2BackendConnection] = []
        self.requests: list[Request] = []
        self.listener = network.listen(address, self._connected)

    def _connected(self) -> Http2BackendConnection:
        self.connections.append(Http2BackendConnection(self))
        return self.connections[-1]

    def begin(self, request: Request) -> None:
        (self.script.pop(0) if self.script else self.otherwise)(request)

    @property
    def connection(self) -> Http2BackendConnection:
        """The newest one."""
        return self.connections[-1]
