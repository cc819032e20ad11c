"""The upstream of HTTP/2 (RFC 9113): a connection to a backend, and the many calls on it, each of them one request's way there and back."""

# Over 350 lines: a connection and its calls are one state machine, whose windows and ends each of both reads and writes.

from collections import deque
from collections.abc import Iterable
from typing import Final

from mypy_extensions import mypyc_attr
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.backend import Backend
from twisted_lb.core.glitches import Glitches
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import STALLED, Outcome
from twisted_lb.net.clock import Clock, Soon
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.frame_writer import FrameWriter
from twisted_lb.net.interfaces import Receiver, StreamTransport
from twisted_lb.net.relay import Leg
from twisted_lb.net.settings import UpstreamRules
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.http2.errors import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Http2Error,
    error_name,
)
from twisted_lb.wire.http2.frames import (
    DATA,
    ENABLE_PUSH,
    END_STREAM,
    FRAME_BYTES,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    PREFACE,
    SETTINGS_ACK,
    STREAM_MOST,
    WINDOW_BYTES,
    WINDOW_MOST,
    FrameReader,
    FrameReceiver,
    frame_head,
    goaway,
    ping,
    reset_frame,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.hpack import encode_lines
from twisted_lb.wire.http2.request_heads import RequestEncoder
from twisted_lb.wire.http2.responses import ResponseReader
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

_log = Logger("twisted_lb.net.http2_upstream")

# On one connection no more calls run at a time, however many its backend would take: what is lost with it is bounded.
CALLS_MOST: Final = 100
# What a backend may send on one call before its client has taken it, and so what a slow client makes us hold.
CALL_WINDOW_BYTES: Final = 1048576
# And on all of them together. It is opened again as it is used, whatever the clients take: a slow one must not stop the others.
CONNECTION_WINDOW_BYTES: Final = 16777216
# Where nothing has come for so long though calls run, the backend is asked whether it is there (PING), and has so long to say so.
SILENCE_S: Final = 30.0
PING_ANSWER_S: Final = 10.0
_PING: Final = b"twistdlb"
# How long a connection that ends waits for its backend to take the rest.
_CLOSING_S: Final = 10.0
# A call that ends well makes up for so many glitches: what a backend says to a stream that is closed already may be on its way.
_EARNED: Final = 4.0


class CallKeeper:
    """The owner of the connections that calls share: what a connection reads there, and tells of itself."""

    def __init__(self, clock: Clock, deadlines: Deadlines, soon: Soon) -> None:
        self.clock: Final = clock
        self.deadlines: Final = deadlines
        self.soon: Final = soon

    @property
    def upstream_rules(self) -> UpstreamRules:
        """The rules of the pool."""
        raise NotImplementedError

    def fell_idle(self, connection: "Http2Connection") -> None:
        """The last call on a connection is over: it is kept, or closed."""
        raise NotImplementedError

    def leaves(self, connection: "Http2Connection") -> None:
        """A connection takes no new calls from now on; told once."""
        raise NotImplementedError

    def gone(self, connection: "Http2Connection") -> None:
        """A connection is gone, or about to go; told once, and behind `leaves`."""
        raise NotImplementedError

    def leave_at_work(self, call: Upstream) -> bool:
        """Nobody waits any more for the answer that is owed on a call: whether its backend may be at work on it, and whoever has the
        call now sees to its end; else it is to be abandoned.
        """
        raise NotImplementedError

    def belongs(self, keeper: object) -> bool:
        """Whether its connections lead to backends of this owner's pool."""
        raise NotImplementedError


@mypyc_attr(free_list_len=1)
class Http2Call(Upstream):
    """A call: one request and its answer on a stream of a connection. It is made for a request that begins on it at once.

    `number`: its stream, 0 before it has begun. `window`: what the backend takes of the request now.
    """

    __slots__ = (
        "_answered",
        "_connection",
        "_deadline",
        "_expected",
        "_got",
        "_heading",
        "_held",
        "_held_end",
        "_informed",
        "_interim_bytes",
        "_kept",
        "_kept_at",
        "_last_bytes",
        "_last_frame",
        "_paused",
        "_request_ended",
        "_sent_end",
        "_told",
        "_trailers",
        "_uncredited",
        "in_line",
        "number",
        "window",
    )

    def __init__(self, connection: "Http2Connection") -> None:
        super().__init__(connection.backend)
        self.opened_at = connection.opened_at
        self.number: int = 0
        self.window: int = 0
        self.in_line: bool = False  # of those that have something to send
        self._connection: Final = connection
        self._deadline: Deadline | None = None  # from its beginning to its end
        # The request.
        self._heading: bool = False  # it is a HEAD
        self._request_ended: bool = False
        self._sent_end: bool = False
        self._kept: deque[bytes] | None = None  # of its body, since the backend's window is shut
        self._kept_at: int = 0  # of the first of them so much is sent
        self._last_frame: int = 0  # of the body: which one it was, and what it brought
        self._last_bytes: int = 0
        self._trailers: bytes = b""  # behind it, and then behind what is held of the answer
        # The response.
        self._informed: bool = False
        self._interim_bytes: int = 0
        self._answered: bool = False  # the final head came
        self._expected: int = -1  # how long the body is, where that was said
        self._got: int = 0
        self._uncredited: int = 0
        self._paused: bool = False
        self._held: list[bytes] | None = None  # of the body, since the client takes nothing
        self._held_end: bool = False
        self._told: bool = False  # something that may wait for `flush`

    # The request.

    def begin(self, requester: Requester, head: bytes, request: RequestHead, due: float) -> None:
        """See Upstream. A client that offers to switch protocols is not sent: the answer would be of something else."""
        self.requester = requester
        fields = request.fields
        connection = self._connection
        if fields.upgrade and b"\r\nUpgrade: " in head:
            connection.keeper.soon(self._refuse_switch)
            return
        self._heading = request.method == b"HEAD"
        ended = self._request_ended = self._sent_end = fields.framing == 0
        self.arm(due)
        connection.begin(self, request.method, head, ended=ended)

    def _refuse_switch(self) -> None:
        requester = self.requester
        if requester is not None:
            self.abandon()
            requester.failed(Outcome.NO_SWITCH, "a switch of protocols (Upgrade), and the backend speaks HTTP/2")

    def send(self, payload: bytes) -> None:
        """See Upstream. What the backend's windows do not let pass is kept, and the client paused."""
        self._interim_bytes = 0
        if not self.number or self.requester is None:
            return
        writer = self._connection.writer
        kept = self._kept
        if not kept:
            sent = writer.send_body(self.number, payload, self.window)
            if sent:
                self._last_frame = writer.last_frame
                self._last_bytes = writer.last_bytes
                self.window -= sent
                if sent == len(payload):
                    return
                payload = payload[sent:]
        if kept is None:
            kept = self._kept = deque()
        kept.append(payload)
        writer.line_up(self)
        if not self.full:
            self.full = True
            self.requester.upstream_full()

    def take_turn(self) -> bool:
        """See BodySender."""
        kept = self._kept
        if not kept or self.requester is None:
            return False
        first, at = kept[0], self._kept_at
        most = min(len(first) - at, self.window, FRAME_BYTES)
        writer = self._connection.writer
        taken = writer.take_window(most) if most > 0 else 0
        if not taken:
            return False
        self.window -= taken
        end = at + taken
        if end == len(first):
            kept.popleft()
            self._kept_at = 0
        else:
            self._kept_at = end
        self._last_frame = writer.send_data(self.number, first if taken == len(first) else first[at:end], 0)
        self._last_bytes = taken
        if kept:
            return self.window > 0
        self.full = False
        if self._request_ended:
            self._end_request()
        else:
            writer.drained(self)
        return False

    def tell_drained(self) -> None:
        """See BodySender: the backend takes more of the request, as it was kept for it."""
        if self.requester is not None and not self.full:
            self.requester.upstream_drained()

    def finish(self, trailers: bytes) -> None:
        """See Upstream."""
        self._request_ended = True
        self._trailers = trailers
        if self.number and not self._kept and self.requester is not None:
            self._end_request()

    def _end_request(self) -> None:
        self._sent_end = True
        trailers = self._trailers
        self._trailers = b""
        if trailers:
            self._connection.writer.send_block(self.number, encode_lines(trailers), ended=True)
        elif not self._last_bytes or not self._connection.writer.end_data(
            self.number, self._last_frame, self._last_bytes
        ):
            self._connection.writer.send(frame_head(0, DATA, END_STREAM, self.number), b"")

    def flush(self) -> None:
        """See Upstream: all of a batch leaves at its end."""

    def arm(self, due: float) -> None:
        """See Upstream."""
        deadlines, deadline = self._connection.keeper.deadlines, self._deadline
        if deadline is None:
            if self.requester is None:
                return  # it is over
            deadline = self._deadline = deadlines.take_for(self._timed_out)
        deadline.due = due
        if due < deadline.settled_from:
            deadlines.arm(deadline, due)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._connection.keeper.deadlines.give(self._deadline)
            self._deadline = None

    # The response.

    @property
    def answered(self) -> bool:
        """Whether the final head has come."""
        return self._answered

    @property
    def heading(self) -> bool:
        """Whether the request is a HEAD."""
        return self._heading

    def head_received(self, head: ResponseHead, size: int, *, ended: bool) -> None:
        """A head has come, whose block has this size. BadMessage where it may not."""
        requester = self.requester
        assert requester is not None
        if head.status < 200:
            if ended:
                raise BadMessage(502, "an interim answer that ends it")
            self._informed = True
            self._interim_bytes += size
            if self._interim_bytes > self._connection.keeper.upstream_rules.limits.head_bytes:
                raise BadMessage(502, "interim answers without end")
            requester.informed(head)
            return
        self._answered = True
        framing = head.body_of(b"HEAD" if self._heading else b"")
        self._expected = framing
        if not ended and not self._paused:
            self.arm(requester.idle_due())
        requester.response_started(head, framing)
        if self.requester is requester:
            if ended:
                self._complete(requester, b"")
            else:
                self._tell()

    def data(self, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of the body, which took so much of the window. BadMessage where it may not."""
        requester = self.requester
        assert requester is not None
        if not self._answered:
            raise BadMessage(502, "DATA before a head")
        self._uncredited += size
        if self._uncredited > CALL_WINDOW_BYTES:
            raise BadMessage(502, "more than the window of a stream takes")
        if data:
            self._got += len(data)
            if self._got > self._expected >= 0:
                raise BadMessage(502, "a body longer than was said")
            if self._paused:
                self._hold(data)
            else:
                if not ended:
                    self.arm(requester.idle_due())
                requester.payload(data)
        if self.requester is not requester:
            return
        if ended:
            self.ended(b"")
        else:
            self._tell()
            self._give_credit()

    def _hold(self, data: bytes) -> None:
        if self._held is None:
            self._held = []
        self._held.append(data)

    def trailers_received(self, trailers: bytes, *, ended: bool) -> None:
        """Trailers have come. BadMessage where they may not."""
        if not ended:
            raise BadMessage(502, "a field block within a body")
        self.ended(trailers)

    def ended(self, trailers: bytes) -> None:
        """The backend has said everything. BadMessage where that is less than it had announced."""
        requester = self.requester
        assert requester is not None
        if self._got < self._expected:
            raise BadMessage(502, "a body shorter than was said")
        if self._held is not None:
            self._held_end = True
            self._trailers = trailers
        else:
            self._complete(requester, trailers)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._connection.told(self)

    def tell_flush(self) -> None:
        """Nothing follows at once."""
        self._told = False
        if self.requester is not None:
            self.requester.flush()

    def _complete(self, requester: Requester, trailers: bytes) -> None:
        """The response is complete. Let go before the exchange ends: its client's next request may come at once."""
        self.requester = None
        self._end_deadline()
        connection = self._connection
        connection.completed(self, cut=not self._sent_end)
        requester.response_ended(trailers)

    def _give_credit(self) -> None:
        """Let the backend send more, as soon as half of the window is used."""
        if self._uncredited >= CALL_WINDOW_BYTES // 2 and not self._paused:
            self._connection.writer.send(window_update(self.number, self._uncredited), b"")
            self._uncredited = 0

    # What it is at.

    @property
    def owes_all(self) -> bool:
        """See Upstream."""
        return self.requester is not None and not (self._answered or self._informed)

    @property
    def sent_all(self) -> bool:
        """See Upstream."""
        return self._sent_end and self.number > 0

    def belongs_to(self, keeper: object) -> bool:
        """See Upstream."""
        return self._connection.keeper.belongs(keeper)

    # Flow control.

    def pause(self) -> None:
        """See Upstream: its window is not opened any more, and what it still takes is held here."""
        if not self._paused:
            self._paused = True
            if self._deadline is not None:
                self._deadline.due = NEVER

    def resume(self) -> None:
        """See Upstream."""
        if not self._paused:
            return
        self._paused = False
        requester = self.requester
        if requester is None:
            return
        self.arm(requester.idle_due())
        held = self._held
        self._held = None
        if held is not None:
            for at in range(len(held)):
                if self._paused:
                    self._held = held[at:]
                    return
                requester.payload(held[at])
                if self.requester is not requester:
                    return
            self._tell()
        if self._paused:
            return
        if self._held_end:
            self._complete(requester, self._trailers)
        else:
            self._give_credit()

    # Ends.

    def _timed_out(self) -> None:
        requester = self.requester
        if requester is None:
            return
        outcome = Outcome.CUT_SHORT if self._answered else Outcome.TIMED_OUT
        if not self._connection.keeper.leave_at_work(self):
            self.abandon()
        requester.failed(outcome, STALLED if self._answered else "no response head in time")

    def fail(self, outcome: Outcome, detail: str, *, spared: bool = False) -> None:
        """It cannot be finished; `spared`: for what another call's end is counted already."""
        requester = self.requester
        if requester is None:
            return
        self.requester = None
        self._end_deadline()
        if spared:
            requester.spare()
        requester.failed(outcome, detail)

    def abandon(self) -> None:
        """See Upstream: the backend is told (RST_STREAM, CANCEL), and the connection serves the others on."""
        self.requester = None
        self._end_deadline()
        self._held = None
        self._kept = None
        if self.number:
            self._connection.drop(self, CANCEL)

    def close(self) -> None:
        """See Upstream."""
        self.abandon()

    def leave_behind(self, requester: Requester, due: float) -> None:
        """See Upstream. The backend is told of it when the time is over: from a reset on it would not say when it is done."""
        self.requester = requester
        self.resume()
        if self.requester is requester:
            self.arm(due)

    def release(self, rest: bytes) -> Leg:
        """See Upstream: nothing is offered, so nothing is switched."""
        raise AssertionError("a call of HTTP/2 is given to no tunnel")

    def __repr__(self) -> str:
        state = "over" if self.requester is None else "answered" if self._answered else "asked"
        return f"<Http2Call {self.number} at {self.backend.name}, {state}>"


@mypyc_attr(free_list_len=1)
class Http2Connection(FrameReceiver, Receiver):
    """A connection to a backend that speaks HTTP/2. It lives from the connect to `connectionLost`, and carries as many calls at a time as
    its backend lets it (SETTINGS_MAX_CONCURRENT_STREAMS), and no more than CALLS_MOST.

    `writer`: what leaves on it. `place`: for whom it is good; see `Greetings.place`. `leaving`: it takes no new calls, and ends with its last one.
    """

    __slots__ = (
        "_deadline", "_encoder", "_feeding", "_glitches", "_heard", "_heard_at", "_initial_window", "_most", "_next", "_over", "_pinged_at", "_quiet",
        "_reader", "_responses", "_room", "_said", "_told", "_transport", "_uncredited", "backend", "calls", "idle_since", "keeper", "leaving",
        "opened_at", "place", "requests", "secure", "writer",
    )  # fmt: skip

    def __init__(self, keeper: CallKeeper, backend: Backend, place: object, *, secure: bool) -> None:
        self.backend: Final = backend
        self.place: Final = place
        self.secure: Final = secure
        self.keeper: Final = keeper
        self.opened_at: float = keeper.clock.now
        self.idle_since: float = self.opened_at
        self.requests: int = 0
        self.leaving: bool = False
        self.calls: Final[dict[int, Http2Call]] = {}
        self._transport: StreamTransport | None = None
        self._reader: Final = FrameReader(of_client=False)
        self._responses: Final = ResponseReader()
        self._encoder: Final = RequestEncoder(secure=secure)
        self._deadline: Final = Deadline(self._look)
        self._over: bool = False
        self._next: int = 1
        self._said: int = CALLS_MOST  # until its backend has said how many
        self._most: int = CALLS_MOST  # less, for a while, where it has refused some
        self._feeding: bool = False
        self._heard: bool = False  # anything at all
        self._glitches: Final = Glitches()
        self._heard_at: float = self.opened_at
        self._pinged_at: float = NEVER
        self._quiet: bool = False  # nothing has come since it was idle, and had been used before
        # Flow control.
        self._initial_window: int = WINDOW_BYTES
        self._room: int = CONNECTION_WINDOW_BYTES  # what it may send
        self._uncredited: int = 0
        self._told: list[Http2Call] = []  # something, with this batch
        self.writer: Final = FrameWriter(keeper.soon, self._glitches)

    # Calls.

    @property
    def room(self) -> int:
        """How many calls more it takes now."""
        return 0 if self.leaving else min(self._most, CALLS_MOST) - len(self.calls)

    @property
    def idle(self) -> bool:
        """Whether it is open, and nothing is asked of it."""
        return not self.calls and not self._over

    @property
    def over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._over

    def peer_name(self) -> str:
        """The address it leads to, without its port; empty when it is gone."""
        return "" if self._transport is None else self._transport.peer_name()

    def begin(self, call: Http2Call, method: bytes, head: bytes, *, ended: bool) -> None:
        """Begin a call: send its head."""
        number = self._next
        self._next = number + 2
        calls = self.calls
        if not calls:
            self._quiet = self.requests > 0
            self._heard_at = self.keeper.clock.now
            self._pinged_at = NEVER
            self.keeper.deadlines.arm(self._deadline, self._heard_at + SILENCE_S)
        self.requests += 1
        self.backend.totals.calls += 1
        call.number = number
        call.window = self._initial_window
        calls[number] = call
        requester = call.requester
        if requester is not None:
            requester.streamed(number)
        self.writer.send_block(number, self._encoder.encode(method, head), ended=ended)
        if self._next > STREAM_MOST:
            self.leave()

    def completed(self, call: Http2Call, *, cut: bool) -> None:
        """A call has its whole answer; `cut`: the backend does not want the rest of the request (RFC 9113 8.1)."""
        if self._glitches.count > 0.0:
            self._glitches.forgive(_EARNED)
        if self._most < self._said:
            self._most += 1
        self.drop(call, NO_ERROR if cut else -1)

    def drop(self, call: Http2Call, code: int) -> None:
        """A call is over; the backend is told with this error code, unless that is below zero."""
        if self.calls.pop(call.number, None) is None:
            return
        if code >= 0:
            self.writer.send(reset_frame(call.number, code), b"")
        if not self.calls:
            self._fall_idle()

    def _fall_idle(self) -> None:
        if self._over:
            return
        self.idle_since = self.keeper.clock.now
        if self.leaving:
            self.keeper.soon(self._end_unless_busy)
        else:
            self.keeper.fell_idle(self)

    def keep_until(self, due: float) -> None:
        """Close it if nothing is asked of it until then."""
        self.keeper.deadlines.arm(self._deadline, due)

    # Bytes in.

    def makeConnection(self, transport: StreamTransport) -> None:
        """The connection is up."""
        self._transport = transport
        self.writer.attach(transport)
        transport.registerProducer(self, True)
        # No table: a backend is near, and answers that repeat are recognized by their bytes.
        settings = {
            HEADER_TABLE_SIZE: 0,
            ENABLE_PUSH: 0,
            INITIAL_WINDOW_SIZE: CALL_WINDOW_BYTES,
            MAX_HEADER_LIST_SIZE: self.keeper.upstream_rules.limits.head_bytes,
        }
        self.writer.send(PREFACE, settings_frame(settings))
        self.writer.send(window_update(0, CONNECTION_WINDOW_BYTES - WINDOW_BYTES), b"")

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the backend."""
        if self._over:
            return
        self._heard_at = self.keeper.clock.now
        self._pinged_at = NEVER
        self._quiet = False
        self._feeding = True
        try:
            if not self._heard and data.startswith(b"HTTP/1."):
                raise Http2Error(PROTOCOL_ERROR, "it speaks HTTP/1.1")  # noqa: TRY301 - told as all others are
            self._heard = True
            self._reader.feed(data, self)
        except Http2Error as error:
            self._break(error.code, error.reason)
        finally:
            self._feeding = False
        told = self._told
        if told:
            self._told = []
            for call in told:
                call.tell_flush()

    def told(self, call: Http2Call) -> None:
        """A call has told something that may wait: when this batch of bytes is over there is no more to wait for."""
        if not (self._told or self._feeding):
            self.keeper.soon(self._tell_flush)
        self._told.append(call)

    def _tell_flush(self) -> None:
        told = self._told
        self._told = []
        for call in told:
            call.tell_flush()

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """See FrameReceiver. Without a table what is of no interest need not be decoded."""
        call = self._call(stream, "HEADERS")
        if call is None:
            return
        limits = self.keeper.upstream_rules.limits
        try:
            if call.answered:
                call.trailers_received(self._responses.trailers(block, limits), ended=ended)
            else:
                head = self._responses.read(block, limits, empty=ended and not call.heading)
                call.head_received(head, len(block), ended=ended)
        except BadMessage as bad:
            self._malformed(call, bad)

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """See FrameReceiver."""
        self._room -= size
        if self._room < 0:
            raise Http2Error(FLOW_CONTROL_ERROR, "more than the window of the connection takes")
        self._uncredited += size
        if self._uncredited >= CONNECTION_WINDOW_BYTES // 2:
            self.writer.send(window_update(0, self._uncredited), b"")
            self._room += self._uncredited
            self._uncredited = 0
        if not data and not ended:
            self._glitch("DATA that is empty")
        call = self._call(stream, "DATA")
        if call is None:
            return
        try:
            call.data(data, size, ended=ended)
        except BadMessage as bad:
            self._malformed(call, bad)

    def _call(self, stream: int, what: str) -> Http2Call | None:
        """The call of a frame; None where it is over, and the frame was on its way."""
        call = self.calls.get(stream)
        if call is None:
            if stream >= self._next or not stream & 1:
                raise Http2Error(PROTOCOL_ERROR, f"{what} on a stream that nobody has opened")
            if what != "DATA":  # of a long answer that was taken back much may be on its way
                self._glitch(f"{what} on a stream that is closed")
        return call

    def _malformed(self, call: Http2Call, bad: BadMessage) -> None:
        """What has come is no answer: the call is over, and told so (RFC 9113 8.1.1)."""
        self.drop(call, PROTOCOL_ERROR)
        call.fail(Outcome.CUT_SHORT if call.answered else Outcome.BAD_RESPONSE, bad.reason)

    # Other frames.

    def reset_received(self, stream: int, code: int) -> None:
        """See FrameReceiver."""
        call = self._call(stream, "RST_STREAM")
        if call is None:
            return
        detail = f"the backend reset it: {error_name(code)}"
        unprocessed = code == REFUSED_STREAM and not call.answered
        if unprocessed:
            # It has as many as it takes for now; with each that ends well it is tried with one more.
            self._most = len(self.calls) - 1
            if not self._most:
                self.leave()
        self.drop(call, -1)
        if call.answered:
            call.fail(Outcome.CUT_SHORT, detail)
        else:
            call.fail(Outcome.UNPROCESSED if unprocessed else Outcome.NO_RESPONSE, detail)

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        """See FrameReceiver."""
        self._glitch("more settings than answers")
        for name, value in settings:
            if name == INITIAL_WINDOW_SIZE:
                more = value - self._initial_window
                self._initial_window = value
                for call in list(self.calls.values()):
                    call.window += more
                    if call.window > WINDOW_MOST:
                        raise Http2Error(FLOW_CONTROL_ERROR, "window of a stream that is too large")
                    if more > 0:
                        self.writer.line_up(call)
            elif name == MAX_CONCURRENT_STREAMS:
                self._said = self._most = value
        self.writer.send(SETTINGS_ACK, b"")
        self.writer.take_turns()

    def settings_acknowledged(self) -> None:
        """See FrameReceiver. There is nothing that holds only from then on."""

    def ping_received(self, payload: bytes, *, ack: bool) -> None:
        """See FrameReceiver."""
        if not ack:
            # A backend that measures round trips does so because something came (gRPC's BDP).
            why = "more pings than answers"
            if self._glitches.note_unless_paid(1, why, self.keeper.clock.now):
                raise Http2Error(ENHANCE_YOUR_CALM, why)
            self.writer.send(ping(payload, ack=True), b"")

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """See FrameReceiver: what is above the last stream was not looked at, and what is not goes on."""
        self.leave()
        unprocessed = [call for number, call in self.calls.items() if number > last]
        for call in unprocessed:
            self.drop(call, -1)
        for call in unprocessed:
            outcome = Outcome.CUT_SHORT if call.answered else Outcome.UNPROCESSED
            call.fail(outcome, f"the backend goes away: {error_name(code)}")

    def window_opened(self, stream: int, more: int) -> None:
        """See FrameReceiver."""
        if not stream:
            self.writer.open_window(more)
            self.writer.take_turns()
            return
        call = self._call(stream, "WINDOW_UPDATE")
        if call is None:
            return
        call.window += more
        if not more or call.window > WINDOW_MOST:
            self.drop(call, FLOW_CONTROL_ERROR if more else PROTOCOL_ERROR)
            call.fail(Outcome.CUT_SHORT if call.answered else Outcome.BAD_RESPONSE, "it breaks the window of a stream")
            return
        self.writer.line_up(call)
        self.writer.take_turns()

    def priority_received(self, stream: int, fault: str) -> None:
        """See FrameReceiver."""
        self._glitch("more priorities than answers")
        if fault:
            raise Http2Error(PROTOCOL_ERROR, fault)

    def unknown_received(self, kind: int) -> None:
        """See FrameReceiver."""
        self._glitch("more unknown frames than answers")

    def _glitch(self, why: str) -> None:
        if self._glitches.note(1, why, self.keeper.clock.now):
            raise Http2Error(ENHANCE_YOUR_CALM, why)

    # Back-pressure.

    def pauseProducing(self) -> None:
        """The backend does not read as fast as we write (back-pressure): calls keep what they have to send."""
        self.writer.stalled()

    def resumeProducing(self) -> None:
        """The backend has taken enough of what was written."""
        self.writer.resumed()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    # Ends.

    def _look(self) -> None:
        """A time is over: of the wait for a next call, for the backend to say anything, or for the end to be taken."""
        if self._over:
            self._abort()
        elif not self.calls:
            self.leave()
            self._end()
        else:
            self._ask_for_life()

    def _ask_for_life(self) -> None:
        """Calls run: whether the backend is still there."""
        now, deadlines = self.keeper.clock.now, self.keeper.deadlines
        if self._pinged_at != NEVER:
            self._die("it answers no PING", abort=True)
        elif now - self._heard_at >= SILENCE_S:
            self._pinged_at = now
            self.writer.send(ping(_PING), b"")
            deadlines.arm(self._deadline, now + PING_ANSWER_S)
        else:
            deadlines.arm(self._deadline, self._heard_at + SILENCE_S)

    def leave(self) -> None:
        """Take no new calls: it ends with its last one. Harmless when it does."""
        if self.leaving:
            return
        self.leaving = True
        self.keeper.leaves(self)
        if not self.calls and not self._over:
            self.keeper.soon(self._end_unless_busy)

    def _end_unless_busy(self) -> None:
        """Who has got it just before it was to take none may begin its call."""
        if not self.calls:
            self._end()

    def _end(self) -> None:
        """Everything was said."""
        if self._over:
            return
        self.writer.send(goaway(0, NO_ERROR), b"")
        self.writer.flush()
        self._stop()
        if self._transport is not None:
            self._transport.loseConnection()
            self.keeper.deadlines.arm(self._deadline, self.keeper.clock.now + _CLOSING_S)

    def _stop(self) -> None:
        """Nothing more is heard."""
        if not self._over:
            self._over = True
            self.leave()
            self._reader.stop()
            self.keeper.gone(self)

    def _break(self, code: int, reason: str) -> None:
        """The backend breaks the protocol, or costs more than it brings: it is told why, and that is the end."""
        if self._over:
            return
        _log.debug(
            "HTTP/2 to {backend} ends: {code}, {reason}",
            backend=self.backend.name,
            code=error_name(code),
            reason=reason,
        )
        self.writer.send(goaway(0, code, reason.encode("ascii", "replace")), b"")
        self.writer.flush()
        self._die(f"{error_name(code)}: {reason}", Outcome.BAD_RESPONSE)

    def _die(self, detail: str, otherwise: Outcome = Outcome.NO_RESPONSE, *, abort: bool = False) -> None:
        """The connection ends, and each call with it. That is one failure of its backend."""
        quiet = self._quiet
        self._stop()
        calls = list(self.calls.values())
        self.calls.clear()
        transport = self._transport
        if transport is not None:
            if abort:
                transport.abortConnection()
            else:
                transport.loseConnection()
                self.keeper.deadlines.arm(self._deadline, self.keeper.clock.now + _CLOSING_S)
        self._fail(calls, Outcome.STALE_REUSE if quiet and otherwise is Outcome.NO_RESPONSE else otherwise, detail)

    @staticmethod
    def _fail(calls: Iterable[Http2Call], otherwise: Outcome, detail: str) -> None:
        spared = False
        for call in calls:
            call.fail(Outcome.CUT_SHORT if call.answered else otherwise, detail, spared=spared)
            spared = True

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abortConnection()

    def abandon(self) -> None:
        """End it now. Who waits for an answer on it is told nothing any more."""
        self._stop()
        calls = list(self.calls.values())
        self.calls.clear()
        for call in calls:
            call.abandon()
        self._abort()

    def readConnectionLost(self) -> None:
        """The backend closed its side."""
        if not self._over:
            self._die("the backend closed the connection")

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        if not self._over:
            self._die(reason.getErrorMessage())
        self._transport = None
        self._deadline.end()
        self.writer.detach()

    def __repr__(self) -> str:
        state = "over" if self._over else "leaving" if self.leaving else "open"
        return f"<Http2Connection {self.backend.name} {state}, {len(self.calls)} calls>"
