"""What leaves on a connection of HTTP/2: frames, put together to one write, and bodies by turns, as far as the peer's windows let them."""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from twisted_lb.core.glitches import Glitches
from twisted_lb.net.clock import Soon
from twisted_lb.net.interfaces import StreamTransport
from twisted_lb.wire.http2.errors import FLOW_CONTROL_ERROR, Http2Error
from twisted_lb.wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEAD_BYTES,
    HEADERS,
    WINDOW_BYTES,
    WINDOW_MOST,
    frame_head,
    headers_frames,
)

# A batch of frames leaves at its end, or when so many bytes are here.
_FLUSH_BYTES: Final = 65536
# More than this, in pieces that are not too many, is not copied into one.
_JOINED_BYTES: Final = 16384
_PIECES_MOST: Final = 1000
# Kinds and flags of the two frames of an answer that is here as a whole.
_HEADERS_ALONE: Final = HEADERS << 40 | END_HEADERS << 32
_DATA_ALONE: Final = DATA << 40 | END_STREAM << 32


class BodySender(Protocol):
    """Whose body leaves on the connection, by turns with others: a stream, or a call. `in_line`: it waits for its turn."""

    in_line: bool

    def take_turn(self) -> bool:
        """Send a frame of what is kept; whether more is, and may be sent."""

    def tell_drained(self) -> None:
        """What was kept is sent, as far as it has to be: more may come."""


@mypyc_attr(free_list_len=1)
class FrameWriter:
    """One connection's frames to its peer. `window`: what the peer takes of all bodies together; `full`: it does not read as fast as we
    write (back-pressure), and bodies wait; `behind`: how many bytes were sent since then, of which `fell_behind` is told. `sent`: bytes of
    bodies so far, which pay for glitches. `before`: what the next field block is to begin with. `last_frame`: what `end_data` knows the last
    frame by that `send_body` has sent, and `last_bytes` what that brought.
    """

    __slots__ = (
        "_drained",
        "_drained_due",
        "_fell_behind",
        "_flushing",
        "_glitches",
        "_gone",
        "_line",
        "_out",
        "_out_bytes",
        "_soon",
        "_transport",
        "before",
        "behind",
        "full",
        "last_bytes",
        "last_frame",
        "sent",
        "window",
    )

    def __init__(self, soon: Soon, glitches: Glitches, fell_behind: Callable[[int], None] | None = None) -> None:
        self.window: int = WINDOW_BYTES
        self.full: bool = False
        self.behind: int = 0
        self.sent: int = 0
        self.before: bytes = b""
        self.last_frame: int = 0
        self.last_bytes: int = 0
        self._soon: Final = soon
        self._glitches: Final = glitches
        self._fell_behind: Callable[[int], None] | None = fell_behind
        self._transport: StreamTransport | None = None
        # Who waits for a turn, and whom to tell that it has sent what it kept.
        self._line: Final[deque[BodySender]] = deque()
        self._drained: list[BodySender] = []
        self._drained_due: bool = False
        # What leaves at the end of the batch.
        self._out: list[bytes] = []
        self._gone: int = 0  # how many pieces have left before those
        self._out_bytes: int = 0
        self._flushing: bool = False

    def attach(self, transport: StreamTransport) -> None:
        """Send through this transport from now on."""
        self._transport = transport

    def detach(self) -> None:
        """The connection is gone: nothing is sent any more, and nobody told."""
        self._transport = None
        self._fell_behind = None
        self._gone += len(self._out)
        self._out = []
        self._out_bytes = 0

    # Frames.

    def send(self, head: bytes, payload: bytes) -> None:
        """Send a frame; it leaves together with all others of this batch."""
        out = self._out
        out.append(head)
        if payload:
            out.append(payload)
        self._out_bytes += len(head) + len(payload)
        if self._out_bytes > _FLUSH_BYTES:
            self.flush()
        elif not self._flushing:
            self._flush_soon()

    def send_block(self, number: int, block: bytes, *, ended: bool) -> None:
        """Send a field block."""
        if self.before:
            block = self.before + block
            self.before = b""
        size = len(block)
        if size <= FRAME_BYTES:
            flags = END_HEADERS | END_STREAM if ended else END_HEADERS
            self.send(frame_head(size, HEADERS, flags, number), block)
            return
        frames = headers_frames(number, block, ended=ended)
        for at in range(0, len(frames), 2):
            self.send(frames[at], frames[at + 1])

    def send_answer(self, number: int, block: bytes, body: bytes) -> None:
        """Send a whole answer, which ends its stream: its head, and a body, perhaps empty, for which the windows have room."""
        size, head_size = len(body), len(block)
        if not size or self.before or head_size > FRAME_BYTES:
            self.send_block(number, block, ended=not size)
            if self.take_window(size):
                self.send_data(number, body, END_STREAM)
            return
        self.window -= size
        self.sent += size
        self._glitches.paid += 2 + (size >> 10)
        # As `frame_head`, without the calls.
        head = (head_size << 48 | _HEADERS_ALONE | number).to_bytes(HEAD_BYTES, "big")
        self._out += [head, block, (size << 48 | _DATA_ALONE | number).to_bytes(HEAD_BYTES, "big"), body]
        self._out_bytes += head_size + size + 2 * HEAD_BYTES
        if self._out_bytes > _FLUSH_BYTES:
            self.flush()
        elif not self._flushing:
            self._flush_soon()

    def send_data(self, number: int, payload: bytes, flags: int) -> int:
        """Send a frame of a body, for which the windows have room; what `end_data` knows it by."""
        mark = self._gone + len(self._out)
        self.send(frame_head(len(payload), DATA, flags, number), payload)
        return mark

    def send_body(self, number: int, payload: bytes, most: int) -> int:
        """Send the beginning of a body, of at most so many bytes, as far as the connection's window takes it; how much that was. Of what is
        more than a frame nothing, where others wait for their turns.
        """
        size = len(payload)
        if self.full or (size > FRAME_BYTES and self._line):
            return 0
        size = min(size, most, self.window)
        if size <= 0:
            return 0
        self.window -= size
        self.sent += size
        out = self._out
        if size <= FRAME_BYTES:
            last, frames = size, 1
            out += [frame_head(size, DATA, 0, number), payload if size == len(payload) else payload[:size]]
        else:
            frames = (size + FRAME_BYTES - 1) // FRAME_BYTES
            begin = (frames - 1) * FRAME_BYTES
            last = size - begin
            head = frame_head(FRAME_BYTES, DATA, 0, number)
            for at in range(0, begin, FRAME_BYTES):
                out += [head, payload[at : at + FRAME_BYTES]]
            out += [frame_head(last, DATA, 0, number), payload[begin:size]]
        self.last_frame = self._gone + len(out) - 2
        self.last_bytes = last
        self._glitches.paid += 2 * frames + (size >> 10)
        self._out_bytes += size + HEAD_BYTES * frames
        if self._out_bytes > _FLUSH_BYTES:
            self.flush()
        elif not self._flushing:
            self._flush_soon()
        return size

    def end_data(self, number: int, mark: int, size: int) -> bool:
        """Let a frame with so much of a body be the last of its stream; False, and nothing is changed, where it has left already."""
        at = mark - self._gone
        if at < 0:
            return False
        self._out[at] = frame_head(size, DATA, END_STREAM, number)
        return True

    def _flush_soon(self) -> None:
        self._flushing = True
        self._soon(self._end_batch)

    def _end_batch(self) -> None:
        self._flushing = False
        if self._line:
            self.take_turns()
        if self._out:
            self.flush()

    def flush(self) -> None:
        """Let what is here leave, in one write."""
        out = self._out
        if not out:
            return
        size = self._out_bytes
        self._out = []
        self._out_bytes = 0
        self._gone += len(out)
        transport = self._transport
        if transport is None:
            return
        if size > _JOINED_BYTES and len(out) <= _PIECES_MOST:
            transport.write_pieces(out)
        else:
            transport.write(b"".join(out))
        if self.full:
            self.behind += size
            if self._fell_behind is not None:
                self._fell_behind(self.behind)

    # Windows, and turns.

    def open_window(self, more: int) -> None:
        """The peer takes so much more of all bodies together."""
        self.window += more
        if self.window > WINDOW_MOST:
            raise Http2Error(FLOW_CONTROL_ERROR, "window of the connection that is too large")

    def take_window(self, most: int) -> int:
        """Take at most so many bytes of a body out of the connection's window; 0 where nothing may be sent now."""
        size = 0 if self.full else min(most, self.window)
        if size <= 0:
            return 0
        self.window -= size
        self.sent += size
        # Peers open windows by what they have got, some for each piece that they read, and measure round trips.
        self._glitches.paid += 2 + (size >> 10)
        return size

    def line_up(self, sender: BodySender) -> None:
        """It has something to send, and waits for its turn."""
        if not sender.in_line:
            sender.in_line = True
            self._line.append(sender)
            if not self._flushing:
                self._flush_soon()

    def take_turns(self) -> None:
        """Send of what is kept as much as the peer takes, a frame of each by turns."""
        line = self._line
        while line and self.window > 0 and not self.full:
            sender = line.popleft()
            sender.in_line = False
            if sender.take_turn():
                self.line_up(sender)

    def drained(self, sender: BodySender) -> None:
        """It has sent what it kept, as far as it has to: it is told when this batch is over."""
        self._drained.append(sender)
        if not self._drained_due:
            self._drained_due = True
            self._soon(self._tell_drained)

    def _tell_drained(self) -> None:
        self._drained_due = False
        drained = self._drained
        self._drained = []
        for sender in drained:
            sender.tell_drained()

    def stalled(self) -> None:
        """The peer does not read as fast as we write."""
        self.full = True

    def resumed(self) -> None:
        """The peer has taken enough of what was written: bodies go on."""
        self.full = False
        self.behind = 0
        self.take_turns()

    def __repr__(self) -> str:
        return f"<FrameWriter {self.sent} sent, {len(self._line)} wait{', full' if self.full else ''}>"
