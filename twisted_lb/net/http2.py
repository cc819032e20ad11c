"""HTTP/2 with a client (RFC 9113): one connection, whose streams are client sides of exchanges as requests of HTTP/1.1 are."""

# Over 350 lines: frames are `wire/http2/`, a stream `http2_stream.py`; what is left is one state machine.

from base64 import b64encode
from typing import Final

from mypy_extensions import mypyc_attr
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.backend import Backend
from twisted_lb.core.glitches import Glitches
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note
from twisted_lb.core.outcome import Refusal, refusal_of
from twisted_lb.net.abandoned import Abandoned
from twisted_lb.net.client_connection import LAST_REQUEST_S, ClientConnection, Speaker
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.frame_writer import FrameWriter
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.http2_stream import STREAM_WINDOW_BYTES, Http2Stream, StreamOwner
from twisted_lb.net.interfaces import Receiver, StreamTransport
from twisted_lb.net.local_reply import Claim
from twisted_lb.net.reception import Reception
from twisted_lb.net.secured import Secured
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.http2.errors import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    INTERNAL_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Http2Error,
    error_name,
)
from twisted_lb.wire.http2.frames import (
    ENABLE_CONNECT_PROTOCOL,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    SETTINGS_ACK,
    STREAM_MOST,
    WINDOW_BYTES,
    WINDOW_MOST,
    FrameReader,
    FrameReceiver,
    goaway,
    ping,
    reset_frame,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.hpack import NO_TABLE, TABLE_BYTES, Entry, HpackDecoder
from twisted_lb.wire.http2.requests import RequestReader, read_trailers
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

_log = Logger("twisted_lb.net.http2")

# How many streams a client may have open.
_STREAMS_MOST: Final = 128
# What a client may send on all streams together before we have taken it.
_CONNECTION_WINDOW_BYTES: Final = 1048576
# A head that is too long is told so (431), and costs as much as it had us read; one that is so many times too long is the end: what it is
# decoded to is for its client a byte each (HPACK bomb).
_EXCESS_TIMES: Final = 8
# Streams that we have reset, and of which frames may still be on their way.
_RESET_KNOWN: Final = 256
# Fairness: so many requests are taken of one client at a time; then others have their turn.
_MOST_AT_ONCE: Final = 128
# What a client that takes nothing can have us hold, beside what has made its connection full: heads of answers, and what is said to
# its frames. Above that it is not read from.
_BEHIND_BYTES: Final = 65536
# A client that is silent for as long as it may be between requests, and has streams, is asked whether it is still there: so often, and
# each time it has so long to say anything.
_PINGS_MOST: Final = 3
_PING_S: Final = 10.0
_PING: Final = b"alive? \0"


@mypyc_attr(free_list_len=1)
class Http2(FrameReceiver, Receiver, Speaker, StreamOwner):
    """HTTP/2 on one connection of a client."""

    __slots__ = (
        "_acknowledged", "_agreed", "_asked", "_asked_at", "_begun", "_connection", "_deaf", "_decoder", "_frontend", "_gathering",
        "_glitches", "_head_due", "_heard_at", "_initial_window", "_kept", "_last", "_last_call", "_leaving", "_left_behind", "_opened",
        "_over", "_read_ended", "_reader", "_reception", "_requests", "_reset", "_room", "_scheme", "_secured", "_streams", "_table_bytes", "_unanswered",
        "_uncredited", "_writer", "requests",
    )  # fmt: skip

    def __init__(
        self,
        frontend: Frontend,
        scheme: bytes = b"http",
        secured: Secured | None = None,
        agreed: Agreed | None = None,
    ) -> None:
        self.requests: int = 0
        self._frontend: Final = frontend
        self._scheme: Final = scheme
        self._secured: Final = secured
        self._agreed: Final = agreed if secured is None else secured.agreed
        self._connection: Final = ClientConnection(frontend, self)
        self._reader: Final = FrameReader(of_client=True)
        self._decoder: Final = HpackDecoder(excess_times=_EXCESS_TIMES)
        self._requests: Final = RequestReader()
        self._streams: dict[int, Http2Stream] = {}
        self._last: int = 0  # the highest stream that the client has opened
        self._reset: dict[int, None] = {}
        self._over: bool = False
        self._last_call: Final = Deadline(self._left)
        self._leaving: int = 0  # GOAWAYs that were sent: one says that others will follow
        self._glitches: Final = Glitches()
        self._begun: list[Http2Stream] = []  # with this batch
        self._gathering: list[Http2Stream] = []  # with small pieces of a body that have come with it
        self._opened: int = 0  # with it, streams
        self._left_behind: list[Abandoned] = []  # what streams that are over have left to do
        self._deaf: bool = False  # nothing is read for now
        self._read_ended: bool = False
        self._acknowledged: bool = False  # the client goes by what we have said of ourselves
        # Whether the client is still there: when it said something last, and how often it was asked since.
        self._heard_at: float = frontend.clock.now
        self._asked: int = 0
        self._asked_at: float = NEVER
        self._unanswered: int = 0
        self._head_due: float = NEVER  # by when the head that has begun is to be here
        self._reception: Final = Reception(frontend, self._connection, secured, self._agreed)
        # Flow control.
        self._initial_window: int = WINDOW_BYTES
        self._table_bytes: int = TABLE_BYTES  # of the client's HPACK decoder, by what it knows of us
        self._room: int = _CONNECTION_WINDOW_BYTES  # what it may send
        self._uncredited: int = 0
        self._kept: int = 0
        self._writer: Final = FrameWriter(frontend.runtime.soon, self._glitches, self._fell_behind)

    # Bytes in.

    def makeConnection(self, transport: StreamTransport) -> None:
        """A client connected."""
        connection = self._connection
        self._writer.attach(transport)
        counts = self._frontend.http2_counts
        counts.connections += 1
        counts.connections_total += 1
        certificate = b"" if self._secured is None else self._secured.certificate
        admitted = connection.open(transport, self._scheme, self, certificate)
        settings = {
            MAX_CONCURRENT_STREAMS: _STREAMS_MOST,
            INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            MAX_HEADER_LIST_SIZE: connection.rules.limits.head_bytes,
            NO_RFC7540_PRIORITIES: 1,
        }
        if self._frontend.table.websockets:
            settings[ENABLE_CONNECT_PROTOCOL] = 1
        self._writer.send(settings_frame(settings), window_update(0, _CONNECTION_WINDOW_BYTES - WINDOW_BYTES))
        if not admitted:
            detail = "too many connections of one client"
            self._frontend.refuse(Refusal.RATE_LIMITED, detail, Claim(connection.client.name))
            self._stop()
            self._writer.send(goaway(0, ENHANCE_YOUR_CALM, detail.encode("ascii")), b"")
            self._writer.flush()
            connection.linger(half_close=False)
        elif self._frontend.draining:
            self._leave()

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._over:
            return
        self._heard_at = self._connection.clock.now
        self._opened = 0
        try:
            self._reader.feed(data, self)
        except Http2Error as error:
            self._go_away(error.code, error.reason)
        self._have_read(len(data))

    def _have_read(self, size: int) -> None:
        """A batch was read. Now that what has come of their bodies is here requests begin, so that a short one leaves together with its head."""
        gathering = self._gathering
        if gathering:
            self._gathering = []
            for stream in gathering:
                stream.pass_on()
        begun = self._begun
        if begun:
            self._begun = []
            for stream in begun:
                if stream.exchange is not None:
                    stream.exchange.begin()
        if not self._over:
            self._wait(size)

    def _wait(self, size: int) -> None:
        """See to the deadlines of what is here in part: a head has `head_s` from its first byte, as in HTTP/1.1 (slowloris)."""
        reader, connection = self._reader, self._connection
        if reader.in_head:
            if self._head_due == NEVER or self._opened:  # another one than before
                head_s = connection.rules.head_s
                self._head_due = connection.clock.now + head_s
                if not connection.full:
                    connection.arm(head_s)
            return
        if self._head_due != NEVER:
            self._head_due = NEVER
            self._await_client()
        if reader.held:
            stream = self._streams.get(reader.in_data)
            if stream is not None:
                stream.extend_deadline(min(size, reader.held))

    def _await_client(self) -> None:
        """Set the deadline of what is waited for from the client."""
        connection = self._connection
        if connection.full:
            return
        if self._head_due != NEVER:
            connection.arm(max(self._head_due - connection.clock.now, 0.0))
        elif self._streams:
            connection.arm(connection.rules.idle_s)
        else:
            connection.await_request()

    def _stop_reading(self) -> None:
        """Read nothing for now, also of what is here."""
        transport = self._connection.transport
        if not self._deaf and transport is not None:
            self._deaf = True
            self._reader.hold()
            transport.pauseProducing()

    def _go_on(self) -> None:
        """All others had their turn: read on, unless the client has to take something first."""
        if self._deaf and not self._over and self._writer.behind <= _BEHIND_BYTES:
            self._read_on()

    def _read_on(self) -> None:
        self._deaf = False
        self._opened = 0
        transport = self._connection.transport
        if transport is not None:
            transport.resumeProducing()
        held = self._reader.held
        try:
            self._reader.go_on(self)
        except Http2Error as error:
            self._go_away(error.code, error.reason)
        self._have_read(held)

    # Field blocks.

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """See FrameReceiver."""
        connection, decoder = self._connection, self._decoder
        limits = connection.rules.limits
        # Always decoded: the table must stay that of the client.
        entries = decoder.decode(block, limits.head_bytes, limits.fields)
        excess = decoder.excess
        if excess:
            self._glitch(decoder.excess_cost, "heads that are too long")
        if stream <= self._last:
            self._trailers_received(stream, entries, excess, ended=ended)
            return
        if not stream & 1:
            raise Http2Error(PROTOCOL_ERROR, "stream with an even number")
        self._last = stream
        if self._leaving > 1:
            self._glitch(1, "streams behind a GOAWAY")
            self._refuse_stream(stream, REFUSED_STREAM)
            return
        if len(self._streams) + len(self._left_behind) >= _STREAMS_MOST and not self._has_room():
            self._glitch(1, "more streams than it may have")
            self._refuse_stream(stream, REFUSED_STREAM)
            return
        self._opened += 1
        if self._opened == _MOST_AT_ONCE:
            self._stop_reading()
            self._frontend.runtime.soon(self._go_on)
        frontend, reader = self._frontend, self._requests
        rules = frontend.client_rules
        if rules is not connection.rules:
            connection.go_by(rules)
        count = self.requests = self.requests + 1
        counts = frontend.http2_counts
        counts.streams += 1
        counts.streams_total += 1
        opened = Http2Stream(self, self._writer, frontend, connection, stream, self._initial_window)
        if count == 1:
            opened.first_of_its_connection = True
        self._streams[stream] = opened
        try:
            if excess:
                raise _too_much(excess)
            head = reader.read(entries, decoder.path, limits, ended=ended)
            if reader.protocol:
                head = self._connecting(opened, head)
        except BadMessage as bad:
            self._refuse(opened, bad, ended=ended)
            return
        self._begin(opened, head, ended=ended)
        if not rules.lasting and not connection.lasts(count):
            self._leave()

    def _connecting(self, stream: Http2Stream, head: RequestHead) -> RequestHead:
        """The request of an extended CONNECT (RFC 8441): a GET that offers WebSocket, with a key of our own."""
        stream.key = b64encode(bytes.fromhex(self._frontend.runtime.new_id().decode("ascii")))
        lines = head.lines + b"sec-websocket-key: " + stream.key + b"\r\n"
        return RequestHead(head.method, head.target, head.fields, lines)

    def _has_room(self) -> bool:
        """Whether another stream may run: what was abandoned counts for as long as its backend may be at work on it (rapid reset)."""
        self._left_behind = [one for one in self._left_behind if not one.over]
        return len(self._streams) + len(self._left_behind) < _STREAMS_MOST

    def left_behind(self, abandoned: Abandoned) -> None:
        """See StreamOwner."""
        self._left_behind.append(abandoned)

    def _begin(self, stream: Http2Stream, head: RequestHead, *, ended: bool) -> None:
        """Begin the exchange of a request, or answer it."""
        connection, reception = self._connection, self._reception
        stream.open(self._agreed, head.fields.framing, ended=ended)
        lead = reception.lead(head, stream)
        if lead is None:
            assert reception.reply is not None
            self._answer(stream, head, reception.reply)
            return
        if stream.key and not lead.upgrade:
            detail = "its route lets nobody switch to WebSocket (upgrades)"
            reply = self._frontend.refuse(Refusal.NOT_IMPLEMENTED, detail, reception.claim(head), lead.route)
            self._answer(stream, head, reply)
            return
        if connection.shared and not self._admits(stream, lead.client_name()):
            self._answer(stream, head, reception.refuse_one_more(head, lead.route))
            return
        exchange = Exchange(self._frontend, stream, head, lead)
        stream.exchange = exchange
        if connection.full:
            exchange.client_full()
        self._begun.append(stream)

    def _admits(self, stream: Http2Stream, address: str) -> bool:
        """Whether a request of the client at this address, behind a trusted proxy, may begin; see ClientConnection.admits."""
        key = self._connection.key_behind(address)
        if not self._frontend.gate.claim(key):
            return False
        stream.count_for(key)
        return True

    def _answer(self, stream: Http2Stream, head: RequestHead, reply: tuple[ResponseHead, bytes]) -> None:
        """Send a local reply to a request that goes nowhere."""
        stream.reply(reply, heading=head.method == b"HEAD")

    def _refuse(self, stream: Http2Stream, bad: BadMessage, *, ended: bool) -> None:
        """Refuse what is no request. What is malformed is reset (RFC 9113 8.1.1), and costs its client as much as a reset of its own."""
        claim = self._reception.claim_of_none(b"")
        claim.version = 20
        reply = self._frontend.refuse(refusal_of(bad.status), bad.reason, claim)
        stream.open(claim.agreed, -1, ended=ended)
        if bad.status == 400:
            stream.give_up(PROTOCOL_ERROR)
        else:
            stream.reply(reply, heading=False)

    def _trailers_received(self, number: int, entries: list[Entry], excess: str, *, ended: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if number not in self._reset:
                raise Http2Error(STREAM_CLOSED, "fields on a stream that is closed")
            self._glitch(1, "fields on a stream that was reset")
            return
        if stream.request_ended:
            raise Http2Error(STREAM_CLOSED, "fields behind the end of a request")
        if not ended:
            raise Http2Error(PROTOCOL_ERROR, "fields within a body")
        try:
            if excess:
                raise _too_much(excess)
            trailers = read_trailers(entries, self._connection.rules.limits)
        except BadMessage as bad:
            stream.fault(BadMessage(400, bad.reason))
            return
        stream.end_request(trailers)

    # Other frames.

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """See FrameReceiver."""
        self._room -= size
        if self._room < 0:
            raise Http2Error(FLOW_CONTROL_ERROR, "more than the window of the connection takes")
        self._uncredited += size
        if self._uncredited >= _CONNECTION_WINDOW_BYTES // 2:
            self._writer.send(window_update(0, self._uncredited), b"")
            self._room += self._uncredited
            self._uncredited = 0
        known = self._streams.get(stream)
        if known is None or known.request_ended:
            if stream > self._last or not stream & 1:
                raise Http2Error(PROTOCOL_ERROR, "DATA on a stream that is idle")
            if stream not in self._reset:
                raise Http2Error(STREAM_CLOSED, "DATA on a stream that is closed")
            self._glitch(1, "DATA on a stream that was reset")
            return
        if not data and not ended:
            self._glitch(1, "DATA that is empty")
        known.receive_data(data, size, ended=ended)
        if known.overdrawn and not known.over:
            known.cut(FLOW_CONTROL_ERROR, "it sends more than its window takes")

    def reset_received(self, stream: int, code: int) -> None:
        """See FrameReceiver."""
        if stream > self._last or not stream & 1:
            raise Http2Error(PROTOCOL_ERROR, "RST_STREAM on a stream that is idle")
        known = self._streams.get(stream)
        if known is not None:
            known.client_left("" if code == CANCEL else f"it was reset with {error_name(code)}")
        self._frontend.http2_counts.reset_by_client(error_name(code))
        self._glitch(2, "more resets than requests")

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        """See FrameReceiver."""
        self._glitch(1 + (len(settings) >> 3), "more settings than requests")
        window = -1
        for name, value in settings:
            if name == INITIAL_WINDOW_SIZE:
                window = value  # the last one counts: all of a frame are one change
            elif name == HEADER_TABLE_SIZE and value < self._table_bytes:
                # RFC 9113 4.3.1: the next field block says that we go by it. We use no table, and say so once for all.
                self._table_bytes = 0
                self._writer.before = NO_TABLE
        if window >= 0:
            self._resize_windows(window)
        self._writer.send(SETTINGS_ACK, b"")
        self._writer.take_turns()

    def _resize_windows(self, size: int) -> None:
        more = size - self._initial_window
        self._initial_window = size
        for stream in list(self._streams.values()):
            stream.window += more
            if stream.window > WINDOW_MOST:
                raise Http2Error(FLOW_CONTROL_ERROR, "window of a stream that is too large")
            if more > 0:
                self._writer.line_up(stream)

    def settings_acknowledged(self) -> None:
        """See FrameReceiver. There is nothing that holds only from then on."""
        if self._acknowledged:
            self._glitch(1, "more acknowledgements than settings")
        self._acknowledged = True

    def ping_received(self, payload: bytes, *, ack: bool) -> None:
        """See FrameReceiver."""
        if not ack:
            # A client that measures round trips does so because something came (gRPC's BDP).
            self._glitch_unless_paid(1, "more pings than requests")
            self._writer.send(ping(payload, ack=True), b"")
        elif self._unanswered:
            self._unanswered -= 1
        else:
            self._glitch(1, "answers to pings that nobody sent")

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """See FrameReceiver: the client opens no more streams, and we open none."""
        if self._leaving:
            self._glitch(1, "more than one GOAWAY")
        self._leave()

    def window_opened(self, stream: int, more: int) -> None:
        """See FrameReceiver."""
        if not stream:
            self._writer.open_window(more)
            self._glitch_unless_paid(1, "more windows than answers")
            self._writer.take_turns()
            return
        known = self._streams.get(stream)
        if known is None:
            if stream > self._last or not stream & 1:
                raise Http2Error(PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that is idle")
            self._glitch(1, "WINDOW_UPDATE on a stream that is closed")
            return
        known.window += more
        if not more or known.window > WINDOW_MOST:
            known.cut(PROTOCOL_ERROR if not more else FLOW_CONTROL_ERROR, "it breaks its window")
            return
        self._glitch_unless_paid(1, "more windows than answers")
        self._writer.line_up(known)
        self._writer.take_turns()

    def priority_received(self, stream: int, fault: str) -> None:
        """See FrameReceiver."""
        self._glitch(1, "more priorities than requests")
        if not fault:
            return
        known = self._streams.get(stream)
        code = FRAME_SIZE_ERROR if fault.startswith("PRIORITY") else PROTOCOL_ERROR
        if known is None:
            raise Http2Error(code, fault)
        known.cut(code, fault)

    def unknown_received(self, kind: int) -> None:
        """See FrameReceiver."""
        self._glitch(1, "more unknown frames than requests")

    def _glitch(self, cost: int, why: str) -> None:
        """It costs us and brings nothing: too much of that is the end."""
        if self._glitches.note(cost, why, self._connection.clock.now):
            raise Http2Error(ENHANCE_YOUR_CALM, why)

    def _glitch_unless_paid(self, cost: int, why: str) -> None:
        if self._glitches.note_unless_paid(cost, why, self._connection.clock.now):
            raise Http2Error(ENHANCE_YOUR_CALM, why)

    def _calm_down(self) -> None:
        """The budget of glitches was spent by streams that had to be reset."""
        self._go_away(ENHANCE_YOUR_CALM, self._glitches.why)

    # Of the streams.

    def dribbled(self) -> None:
        """See StreamOwner: for what was taken out of the window nothing is paid (data dribble, CVE-2019-9511)."""
        if self._glitches.note_unless_paid(3, "windows that are opened by little", self._connection.clock.now):
            self._frontend.runtime.soon(self._calm_down)

    def gather(self, stream: Http2Stream) -> None:
        """See StreamOwner."""
        self._gathering.append(stream)

    def kept_more(self, count: int) -> int:
        """See StreamOwner."""
        self._kept += count
        return self._kept

    def reset(self, stream: Http2Stream, code: int, *, blamed: bool = True) -> None:
        """See StreamOwner."""
        if blamed and code not in (NO_ERROR, INTERNAL_ERROR):
            # It is the client that has made us do it (MadeYouReset).
            why = f"streams that had to be reset ({error_name(code)})"
            if self._glitches.note(2, why, self._connection.clock.now):
                self._frontend.runtime.soon(self._calm_down)
        self._refuse_stream(stream.number, code)

    def _refuse_stream(self, number: int, code: int) -> None:
        known = self._reset
        known[number] = None
        if len(known) > _RESET_KNOWN:
            del known[next(iter(known))]
        self._frontend.http2_counts.reset_by_us(error_name(code))
        self._writer.send(reset_frame(number, code), b"")

    def closed(self, stream: Http2Stream) -> None:
        """See StreamOwner."""
        self._streams.pop(stream.number, None)
        self._frontend.http2_counts.streams -= 1
        if stream.finishing and self._glitches.count > 0.0:
            self._glitches.forgive()
        if self._streams or self._over:
            return
        if self._leaving > 1:
            self._end()
        else:
            self._await_client()

    # Flow control of the connection.

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write (back-pressure)."""
        self._connection.stalled()
        self._writer.stalled()
        for stream in list(self._streams.values()):
            stream.tell_full()

    def resumeProducing(self) -> None:
        """The client has taken enough of what was written."""
        connection = self._connection
        connection.full = False
        self._heard_at = connection.clock.now
        self._await_client()
        self._writer.resumed()
        for stream in list(self._streams.values()):
            stream.tell_drained()
        if self._deaf:
            self._go_on()

    def _fell_behind(self, size: int) -> None:
        if size > _BEHIND_BYTES and not self._over:
            self._stop_reading()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    # Ends.

    def _leave(self) -> None:
        """No more streams after those that are on their way: said twice, so that none of those is lost (RFC 9113 6.8)."""
        if self._leaving or self._over:
            return
        self._leaving = 1
        self._writer.send(goaway(STREAM_MOST, NO_ERROR), b"")
        self._frontend.deadlines.arm(self._last_call, self._connection.clock.now + LAST_REQUEST_S)

    def _left(self) -> None:
        """What was on its way has come: the streams that are here are the last ones."""
        if self._leaving > 1 or self._over:
            return
        self._leaving = 2
        self._writer.send(goaway(self._last, NO_ERROR), b"")
        if not self._streams:
            self._end()

    def _end(self) -> None:
        """Everything was said."""
        self._writer.flush()
        self._stop()
        self._connection.linger(half_close=True)

    def _go_away(self, code: int, reason: str) -> None:
        """The client has broken the protocol, or costs more than it brings: it is told why, and that is the end."""
        if self._over:
            return
        self._say(code, reason)
        self._stop()
        self._writer.send(goaway(self._last, code, reason.encode("ascii", "replace")), b"")
        self._writer.flush()
        self._drop("" if code == NO_ERROR else f"{error_name(code)}: {reason}")
        self._connection.linger(half_close=True)

    def _say(self, code: int, reason: str) -> None:
        """Log why it ends. What looks like abuse is said to operators, one of a kind a second: whoever likes may bring about a flood."""
        address, name = self._connection.client.name, error_name(code)
        if code != NO_ERROR:
            self._frontend.http2_counts.end(name)
        if code != ENHANCE_YOUR_CALM:
            _log.debug("HTTP/2 with {client} ends: {code}, {reason}", client=address, code=name, reason=reason)
            return
        frontend = self._frontend
        left_out = frontend.said.note(reason, None, frontend.clock.now)
        if left_out is not None:
            _log.warn(
                "HTTP/2 with {client} ends, listener {listener}: {code}, {reason}{more}",
                client=address,
                listener=frontend.name,
                code=name,
                reason=reason,
                more=f" (and {left_out} more before)" if left_out else "",
            )

    def _stop(self) -> None:
        self._over = True
        self._reader.stop()
        self._last_call.end()
        transport = self._connection.transport
        if self._deaf and transport is not None:
            self._deaf = False
            transport.resumeProducing()  # what still comes is thrown away

    def _drop(self, detail: str = "") -> None:
        """All that runs is given up: the client is gone, or takes nothing more."""
        for stream in list(self._streams.values()):
            stream.client_left(detail)

    def timed_out(self) -> None:
        """See Speaker."""
        connection = self._connection
        if self._over:
            connection.abort()
        elif connection.full:
            if not connection.keeps_up():
                self._stop()
                self._drop("it does not take its answer")
                connection.abort()
        elif self._head_due != NEVER:
            left_s = self._head_due - connection.clock.now
            if left_s > 0:
                connection.arm(left_s)
            else:
                self._go_away(PROTOCOL_ERROR, "no complete head in time")
        elif self._streams:
            self._look_for_client()
        else:
            self._go_away(NO_ERROR, "nothing was asked for")

    def _look_for_client(self) -> None:
        """A client that says nothing while streams run is asked whether it is still there, by pings; one that only listens (event streams,
        downloads) answers them, and one that is gone takes its streams along.
        """
        connection = self._connection
        idle_s = connection.rules.idle_s
        silent_s = connection.clock.now - self._heard_at
        if self._read_ended or silent_s < idle_s:
            self._asked = 0
            connection.arm(idle_s if self._read_ended else idle_s - silent_s)
            return
        if self._heard_at >= self._asked_at:
            self._asked = 0  # it has said something since
        if self._asked >= _PINGS_MOST:
            self._stop()
            self._drop("it does not answer to pings")
            connection.abort()
            return
        self._asked += 1
        self._asked_at = connection.clock.now
        self._unanswered += 1
        self._writer.send(ping(_PING), b"")
        connection.arm(_PING_S)

    def readConnectionLost(self) -> None:
        """The client closed its side: it has left, unless the configuration says that it still listens."""
        self._read_ended = True
        if self._over:
            self._connection.linger(half_close=False)
        elif self._streams and self._connection.rules.finish_half_closed:
            self._leaving = 2
            for stream in list(self._streams.values()):
                if not stream.request_ended:
                    stream.client_left()  # nothing that it has begun to say comes to an end
        else:
            self._stop()
            self._drop()
            self._connection.linger(half_close=False)

    def connectionBroken(self) -> None:
        """See ResetAware."""
        self._connection.abort()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        self._stop()
        self._drop()
        self._writer.detach()
        self._frontend.http2_counts.connections -= 1
        self._connection.lost()

    def drain(self) -> None:
        """See Speaker."""
        self._leave()

    def tell_good_bye(self) -> None:
        """See Speaker: the streams are told by themselves."""

    def at(self) -> Backend | None:
        """See Speaker: the streams say it of themselves."""
        return None

    def unsent(self) -> bool:
        """See Speaker."""
        return False

    def note(self) -> Note | None:
        """See Speaker."""
        return None

    def relayed(self) -> bool:
        """See Speaker: while streams are tunnels it is not to be closed under them; all others are clients by themselves."""
        return any(stream.relayed() for stream in self._streams.values())

    def kill(self, why: str = STOPS) -> None:
        """See Speaker."""
        if self._over:
            self._connection.end()
            return
        for stream in list(self._streams.values()):
            stream.kill(why)
        if not self._over:
            self._stop()
            self._writer.send(goaway(self._last, NO_ERROR), b"")
            self._writer.flush()
        self._drop(why)
        self._connection.end(told=True)

    def kept(self) -> bool:
        """See Speaker."""
        return (
            not self._streams
            and self.requests > 0
            and not self._over
            and not self._connection.full
            and not self._reader.held
        )

    def retire(self) -> None:
        """See Speaker."""
        if not self._over:
            self._stop()
            self._writer.send(goaway(self._last, NO_ERROR), b"")
            self._writer.flush()
        self._connection.linger(half_close=False)

    def __repr__(self) -> str:
        return f"<Http2 {self._connection.client.name}, {len(self._streams)} streams, {self.requests} requests>"


def _too_much(excess: str) -> BadMessage:
    """Why a field block is refused of which there is too much."""
    return BadMessage(431, excess)
