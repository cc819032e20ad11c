"""HTTP checks over HTTP/2: the same question and the same answers as in `http_check.py`, in frames."""

from typing import Final

from twisted_lb.core.address import Address
from twisted_lb.http_check import HttpCheck
from twisted_lb.probes import Hearing, ProbeResult
from twisted_lb.wire.fields import without
from twisted_lb.wire.grammar import CRLF, BadMessage, Limits
from twisted_lb.wire.http2.errors import Http2Error, error_name
from twisted_lb.wire.http2.frames import (
    ENABLE_PUSH,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS_ACK,
    WINDOW_BYTES,
    FrameReader,
    FrameReceiver,
    headers_frames,
    ping,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.request_heads import RequestEncoder
from twisted_lb.wire.http2.responses import ResponseReader

# More than is read of an answer, so that no window need be opened.
_WINDOW_BYTES: Final = 1048576
_STREAM: Final = 1
# What we say in answer to theirs: who asks for more of it has no question of its own.
_REPLIES_MOST: Final = 100


class Http2Check:
    """The question of an HTTP probe to a backend that speaks HTTP/2. `secure`: over TLS."""

    def __init__(self, question: HttpCheck, limits: Limits, *, secure: bool) -> None:
        self._question: Final = question
        self._limits: Final = limits
        self._secure: Final = secure

    def request(self, address: Address) -> bytes:
        """See Question."""
        head = self._question.request(address)
        block = RequestEncoder(secure=self._secure).encode(self._question.method, head)
        settings = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: _WINDOW_BYTES}
        opened = window_update(0, _WINDOW_BYTES - WINDOW_BYTES)
        return b"".join([PREFACE, settings_frame(settings), opened, *headers_frames(_STREAM, block, ended=True)])

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        heading = self._question.method == b"HEAD"
        return _Frames(self._question.hear(address), self._limits, heading=heading)


class _Frames(FrameReceiver):
    """The answer to an Http2Check: what its frames say, told to who hears it in HTTP/1.1."""

    def __init__(self, answer: Hearing, limits: Limits, *, heading: bool) -> None:
        self.result: ProbeResult | None = None
        self.over = False
        self.reply = b""
        self._answer: Final = answer
        self._limits: Final = limits
        self._heading: Final = heading
        self._reader: Final = FrameReader(of_client=False)
        self._responses: Final = ResponseReader()
        self._replies = 0
        self._begun = False
        self._answered = False

    def feed(self, data: bytes) -> None:
        """See Hearing."""
        if not self._begun and data.startswith(b"HTTP/1."):
            self._fail("an answer in HTTP/1.1, and its pool speaks HTTP/2: protocol")
            return
        self._begun = True
        try:
            self._reader.feed(data, self)
        except Http2Error as error:
            self._fail(f"an answer that is no HTTP/2: {error.reason}")
        except BadMessage as bad:
            self._fail(bad.reason)
        self._look()

    def end(self) -> None:
        """See Hearing."""
        self._fail("closed without an answer" if not self._answered else "the answer is cut short")

    def cut(self, reason: str) -> None:
        """See Hearing."""
        self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._reader.stop()
        if not self._answer.over:
            self._answer.cut(reason)
        self._look()

    def _look(self) -> None:
        self.result, self.over = self._answer.result, self._answer.over

    def _feed(self, data: bytes) -> None:
        if not self._answer.over:
            self._answer.feed(data)

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """See FrameReceiver."""
        if stream != _STREAM or self._answered:
            if ended:
                self._end(stream)
            return
        head = self._responses.read(block, self._limits, empty=ended and not self._heading)
        self._answered = head.status >= 200
        # How it ends is known by its frames.
        self._feed(b"HTTP/1.1 " + head.line + CRLF + without(head.lines, b"content-length") + CRLF)
        if ended:
            self._end(stream)

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """See FrameReceiver."""
        if stream == _STREAM and data and self._answered:
            self._feed(data)
        if ended:
            self._end(stream)

    def _end(self, stream: int) -> None:
        """It is complete."""
        if stream == _STREAM and not self._answer.over:
            self._answer.end()
        self._reader.stop()

    def reset_received(self, stream: int, code: int) -> None:
        """See FrameReceiver."""
        if stream == _STREAM:
            self._fail(f"it was reset: {error_name(code)}")

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """See FrameReceiver."""
        if last < _STREAM:
            self._fail(f"the backend goes away: {error_name(code)}")

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        """See FrameReceiver."""
        self._answer_with(SETTINGS_ACK)

    def ping_received(self, payload: bytes, *, ack: bool) -> None:
        """See FrameReceiver."""
        if not ack:
            self._answer_with(ping(payload, ack=True))

    def _answer_with(self, frame: bytes) -> None:
        self._replies += 1
        if self._replies <= _REPLIES_MOST:
            self.reply += frame

    def settings_acknowledged(self) -> None:
        """See FrameReceiver."""

    def window_opened(self, stream: int, more: int) -> None:
        """See FrameReceiver: nothing is sent."""

    def priority_received(self, stream: int, fault: str) -> None:
        """See FrameReceiver."""

    def unknown_received(self, kind: int) -> None:
        """See FrameReceiver."""
