"""Scripted backends in memory: they answer as they are told, and remember what they were asked."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from twisted_lb.core.address import Address
from twisted_lb.testing.network import MemoryNetwork
from twisted_lb.testing.transport import MemoryTransport
from twisted_lb.wire.chunked import ChunkDecoder
from twisted_lb.wire.grammar import BLANK_LINE, CHUNKED, Limits
from twisted_lb.wire.request import RequestHead, parse_request

# A backend of a test takes whatever a balancer may pass on.
_LIMITS: Final = Limits(line_bytes=1 << 20, head_bytes=1 << 20, fields=10_000, trailer_bytes=1 << 20)


class Wait:
    """A step of a script: do nothing for so many seconds, then go on."""

    def __init__(self, seconds: float) -> None:
        self.seconds: Final = seconds

    def __repr__(self) -> str:
        return f"Wait({self.seconds:g})"


class End(Enum):
    """A step of a script that ends: how a backend ends a connection, or never answers."""

    CLOSE = "send what is kept, then close"
    RESET = "close at once, with a reset"
    NEVER_ANSWER = "hold the connection and say nothing more on it"


CLOSE: Final = End.CLOSE
RESET: Final = End.RESET
NEVER_ANSWER: Final = End.NEVER_ANSWER

# Bytes are sent as they are.
Action = bytes | Wait | End
Answer = Callable[[bytes], Iterable[Action]]


def response(body: bytes = b"ok\n", status: int = 200, *lines: bytes) -> bytes:
    """A plain response with its Content-Length and these field lines, each without its line end."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Because"
    head = [b"HTTP/1.1 %d %b" % (status, phrase.encode()), *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + BLANK_LINE + body


def usual(request: bytes) -> list[Action]:
    """The response of a backend that has no script: 200 and a small body, none for HEAD."""
    answer = response()
    return [answer[: -len(b"ok\n")] if request.startswith(b"HEAD ") else answer]


class BackendConnection:
    """One connection to a scripted backend: requests are taken one after the other, each when the last is answered.

    `received` is every byte, `requests` the complete ones. After a 101 bytes are only received.
    """

    def __init__(self, backend: "ScriptedBackend") -> None:
        self.received = b""
        self.requests: list[bytes] = []
        self.ended = False  # the balancer sent its FIN
        self.lost: Failure | None = None
        self._backend: Final = backend
        self._transport: MemoryTransport | None = None
        self._buffer = b""
        self._head: RequestHead | None = None
        self._body_from = 0
        self._decoder: ChunkDecoder | None = None
        self._fed = 0
        self._steps: deque[Action] = deque()
        self._waiting: IDelayedCall | None = None
        self._answered = False  # the script was asked about the request that is coming
        self._persistent = True
        self._silent = False  # no response follows any more, or bytes are only bytes

    @property
    def transport(self) -> MemoryTransport:
        """The transport, for what no script says: pause reading, half-close, send at any time."""
        assert self._transport is not None, "it is not connected yet"
        return self._transport

    @property
    def open(self) -> bool:
        """Whether the connection stands."""
        return self._transport is not None and self._transport.connected

    def makeConnection(self, transport: MemoryTransport) -> None:
        """The balancer connected."""
        self._transport = transport

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the balancer."""
        self.received += data
        if not self._silent:
            self._buffer += data
            self._go_on()

    def readConnectionLost(self) -> None:
        """The balancer sent its FIN: so will this side, once its response is out."""
        self.ended = True
        if not self._steps and self._waiting is None and not self._silent:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self.lost = reason
        self.fall_silent()

    def fall_silent(self) -> None:
        """Answer nothing any more, nor go on with what is under way: whoever did has frozen, or died."""
        self._silent = True
        self._steps.clear()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _go_on(self) -> None:
        """Take the next request, if it is here and the last one was answered."""
        while self.open and not self._steps and self._waiting is None and not self._silent:
            if self._head is None and not self._take_head():
                return
            if self._backend.early:
                self._answer(self._buffer[: self._body_from])
            if not self._take_body():
                return

    def _take_head(self) -> bool:
        end = self._buffer.find(BLANK_LINE)
        if end < 0:
            return False
        self._head = parse_request(self._buffer[:end], _LIMITS)
        self._body_from = self._fed = end + len(BLANK_LINE)
        self._decoder = ChunkDecoder(_LIMITS) if self._head.fields.framing == CHUNKED else None
        self._answered = False
        return True

    def _take_body(self) -> bool:
        """Whether the request is complete; it is recorded then, and answered."""
        assert self._head is not None
        if self._decoder is None:
            ends_at = self._body_from + self._head.fields.framing
            complete = len(self._buffer) >= ends_at
        else:
            if self._fed < len(self._buffer):
                self._decoder.feed(self._buffer[self._fed :])
                self._fed = len(self._buffer)
            ends_at = len(self._buffer) - len(self._decoder.rest)
            complete = self._decoder.done
        if not complete:
            return False
        request, self._buffer = self._buffer[:ends_at], self._buffer[ends_at:]
        self._persistent = self._head.fields.keep_alive
        self._head = None
        self.requests.append(request)
        self._backend.requests.append(request)
        self._answer(request)
        return True

    def _answer(self, request: bytes) -> None:
        if not self._answered:
            self._answered = True
            self._steps.extend(self._backend._next_answer(request))
        if self._waiting is None:
            self._act()

    def _act(self) -> None:
        """Take the steps of the script until one takes time."""
        self._waiting = None
        while self._steps:
            step = self._steps.popleft()
            if isinstance(step, bytes):
                self._silent = self._silent or step.startswith(b"HTTP/1.1 101 ")
                self.transport.write(step)
            elif isinstance(step, Wait):
                self._waiting = self._backend.network.clock.callLater(step.seconds, self._resume)
                return
            elif step is CLOSE:
                self.transport.loseConnection()
            elif step is RESET:
                self.transport.abortConnection()
            else:
                self._silent = True
        if self._head is None and not self._silent and (not self._persistent or self.ended):
            self.transport.loseConnection()

    def _resume(self) -> None:
        self._act()
        self._go_on()

    def __repr__(self) -> str:
        return f"<BackendConnection {'open' if self.open else 'closed'}, {len(self.requests)} requests>"


class ScriptedBackend:
    """A backend at an address of the network, which follows a script.

    `script` is a callable, asked with each request for the actions of its response; or a list of responses, each for
    one request, whatever connection it comes on, after which `usual` answers. A response is one action or several:
    bytes to send, `Wait(seconds)`, CLOSE, RESET, NEVER_ANSWER. With `early` the response begins at the end of the
    request's head. A request that is none is an error of the balancer: BadMessage, logged, and the connection is reset.
    """

    def __init__(
        self,
        network: MemoryNetwork,
        address: Address | str,
        script: Answer | Iterable[Action | Sequence[Action]] = (),
        *,
        early: bool = False,
    ) -> None:
        self.network: Final = network
        self.early: Final = early
        self.connections: list[BackendConnection] = []
        self.requests: list[bytes] = []
        self.answer: Answer = script if callable(script) else usual
        # Answers to come, for a test to add to.
        self.script: deque[Action | Sequence[Action]] = deque(() if callable(script) else script)
        self.listener: Final = network.listen(address, self._connected)

    def _connected(self) -> BackendConnection:
        connection = BackendConnection(self)
        self.connections.append(connection)
        return connection

    def _next_answer(self, request: bytes) -> Iterable[Action]:
        if not self.script:
            return self.answer(request)
        answer = self.script.popleft()
        return [answer] if isinstance(answer, bytes | Wait | End) else answer

    def stop(self) -> None:
        """Die: refuse new connections from now on, and reset those that are there."""
        self.listener.stop()
        for connection in self.connections:
            if connection.open:
                connection.transport.abortConnection()

    def __repr__(self) -> str:
        return f"<ScriptedBackend {self.listener.address}: {len(self.requests)} requests>"
