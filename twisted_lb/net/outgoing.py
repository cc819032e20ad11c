"""Outgoing messages, put together: a head leaves with the first piece of its body, and long pieces are never copied."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.net.interfaces import StreamTransport
from twisted_lb.wire.chunked import chunk, chunk_begin, last_chunk
from twisted_lb.wire.grammar import CRLF

# From here on a system call that takes several buffers is less than a copy into one.
_WORTH_A_VECTOR: Final = 8192


@mypyc_attr(free_list_len=1)
class Outgoing:
    """One direction of a connection. `held` waits for the next piece of the body, for `end` or for `flush`; `chunked`:
    pieces leave as chunks. A chunk waits for `flush` too: the end of the body is often in the same segment.
    """

    __slots__ = ("_behind", "_long", "_transport", "chunked", "held")

    def __init__(self) -> None:
        self.held: bytes = b""
        self.chunked: bool = False
        # A long chunk: `held` ends with its size, `_behind` begins with its end.
        self._long: bytes = b""
        self._behind: bytes = b""
        self._transport: StreamTransport | None = None

    def attach(self, transport: StreamTransport | None) -> None:
        """Send through this transport from now on; None: through none any more."""
        self._transport = transport

    def send(self, data: bytes) -> None:
        """Send bytes at once; only while nothing is held."""
        transport = self._transport
        if transport is not None:
            transport.write(data)

    def write(self, payload: bytes) -> None:
        """Send a piece of the body, never empty; it may wait for `flush`."""
        if self.chunked:
            self._hold_chunk(payload)
            return
        held = self.held
        if held:
            self.held = b""
            if len(payload) >= _WORTH_A_VECTOR:
                self._send_pieces([held, payload])
                return
            payload = held + payload
        transport = self._transport
        if transport is not None:
            transport.write(payload)

    def _hold_chunk(self, payload: bytes) -> None:
        if self._long:
            self.flush()
        if len(payload) < _WORTH_A_VECTOR:
            self.held += chunk(payload)
        else:
            self.held += chunk_begin(len(payload))
            self._long = payload
            self._behind = CRLF

    def end(self, trailers: bytes) -> None:
        """End the body: it is complete; `trailers` are field lines, each ended by CRLF."""
        if self.chunked:
            self.chunked = False
            if self._long:
                self._behind += last_chunk(trailers)
            else:
                self.held += last_chunk(trailers)
        if self.held:
            self.flush()

    def flush(self) -> None:
        """Send what is held: nothing follows at once."""
        held = self.held
        if not held:
            return
        self.held = b""
        payload = self._long
        if payload:
            self._long = b""
            self._send_pieces([held, payload, self._behind])
        else:
            self.send(held)

    def _send_pieces(self, pieces: list[bytes]) -> None:
        transport = self._transport
        if transport is not None:
            transport.write_pieces(pieces)
