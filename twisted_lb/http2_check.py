"""Checks over HTTP/2: calls and the hearing of their frames, and with them the question and the answers of `http_check.py`."""

from typing import Final

from twisted_lb.core.address import Address
from twisted_lb.http_check import HttpCheck
from twisted_lb.probes import Hearing, ProbeResult
from twisted_lb.wire.fields import without
from twisted_lb.wire.grammar import CRLF, BadMessage, Limits
from twisted_lb.wire.http2.errors import Http2Error, error_name
from twisted_lb.wire.http2.frames import (
    DATA,
    ENABLE_PUSH,
    END_STREAM,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS_ACK,
    WINDOW_BYTES,
    FrameReader,
    FrameReceiver,
    frame_head,
    headers_frames,
    ping,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.request_heads import RequestEncoder
from twisted_lb.wire.http2.responses import ResponseReader
from twisted_lb.wire.response import ResponseHead

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
        return call(self._question.method, self._question.request(address), secure=self._secure)

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        heading = self._question.method == b"HEAD"
        return _Answer(self._question.hear(address), self._limits, heading=heading)


def call(method: bytes, head: bytes, body: bytes = b"", *, secure: bool) -> bytes:
    """All that is sent for one request: that this is HTTP/2, and the request, of which this is the head in HTTP/1.1."""
    settings = {HEADER_TABLE_SIZE: 0, ENABLE_PUSH: 0, INITIAL_WINDOW_SIZE: _WINDOW_BYTES}
    block = RequestEncoder(secure=secure).encode(method, head)
    frames = headers_frames(_STREAM, block, ended=not body)
    if body:
        frames += [frame_head(len(body), DATA, END_STREAM, _STREAM), body]
    return b"".join([PREFACE, settings_frame(settings), window_update(0, _WINDOW_BYTES - WINDOW_BYTES), *frames])


class FrameHearing(FrameReceiver):
    """An answer to a call, as its frames say it: `begin`, `more`, `complete` are told what is of the call, or `fail` why there is no more.
    Whoever hears it sets `result` and `over`; see Hearing.
    """

    def __init__(self, limits: Limits, *, heading: bool = False) -> None:
        self.result: ProbeResult | None = None
        self.over = False
        self.reply = b""
        self.answered = False
        self.limits: Final = limits
        self._heading: Final = heading
        self._reader: Final = FrameReader(of_client=False)
        self._responses: Final = ResponseReader()
        self._replies = 0
        self._begun = False

    def begin(self, head: ResponseHead) -> None:
        """A head has come, perhaps an interim one."""
        raise NotImplementedError

    def more(self, data: bytes) -> None:
        """A piece of the body has come, never empty."""
        raise NotImplementedError

    def complete(self, trailers: bytes) -> None:
        """That was all."""
        raise NotImplementedError

    def fail(self, reason: str) -> None:
        """Nothing more comes, for this reason. Harmless when it is over."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        """See Hearing."""
        if not self._begun and data.startswith(b"HTTP/1."):
            self.cut("an answer in HTTP/1.1, and its pool speaks HTTP/2: protocol")
            return
        self._begun = True
        try:
            self._reader.feed(data, self)
        except Http2Error as error:
            self.cut(f"an answer that is no HTTP/2: {error.reason}")
        except BadMessage as bad:
            self.cut(bad.reason)

    def end(self) -> None:
        """See Hearing."""
        self.cut("closed without an answer" if not self.answered else "the answer is cut short")

    def cut(self, reason: str) -> None:
        """See Hearing."""
        self._reader.stop()
        self.fail(reason)

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """See FrameReceiver."""
        if stream != _STREAM:
            return
        trailers = b""
        if self.answered:
            trailers = self._responses.trailers(block, self.limits)
        else:
            head = self._responses.read(block, self.limits, empty=ended and not self._heading)
            self.answered = head.status >= 200
            self.begin(head)
        if ended:
            self._end(trailers)

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """See FrameReceiver."""
        if stream != _STREAM or not self.answered:
            return
        if data:
            self.more(data)
        if ended:
            self._end(b"")

    def _end(self, trailers: bytes) -> None:
        self.complete(trailers)
        self._reader.stop()

    def reset_received(self, stream: int, code: int) -> None:
        """See FrameReceiver."""
        if stream == _STREAM:
            self.cut(f"it was reset: {error_name(code)}")

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """See FrameReceiver."""
        if last < _STREAM:
            self.cut(f"the backend goes away: {error_name(code)}")

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


class _Answer(FrameHearing):
    """The answer to an Http2Check, told to who hears it in HTTP/1.1: there it ends with its connection."""

    def __init__(self, answer: Hearing, limits: Limits, *, heading: bool) -> None:
        super().__init__(limits, heading=heading)
        self._answer: Final = answer

    def begin(self, head: ResponseHead) -> None:
        """See FrameHearing."""
        self._feed(b"HTTP/1.1 " + head.line + CRLF + without(head.lines, b"content-length") + CRLF)

    def more(self, data: bytes) -> None:
        """See FrameHearing."""
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if not self._answer.over:
            self._answer.feed(data)
        self._look()

    def complete(self, trailers: bytes) -> None:
        """See FrameHearing."""
        if not self._answer.over:
            self._answer.end()
        self._look()

    def fail(self, reason: str) -> None:
        """See FrameHearing."""
        if not self._answer.over:
            self._answer.cut(reason)
        self._look()

    def _look(self) -> None:
        self.result, self.over = self._answer.result, self._answer.over
