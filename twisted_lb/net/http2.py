"""HTTP/2 with a client (RFC 9113): one connection, whose streams are client sides of exchanges as requests of HTTP/1.1 are."""

# Over 350 lines: frames are `wire/http2/`, a stream `http2_stream.py`; what is left is one state machine.

from collections import deque
from typing import Final

from mypy_extensions import mypyc_attr
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.backend import Backend
from twisted_lb.core.notes import Note
from twisted_lb.core.outcome import Refusal, refusal_of
from twisted_lb.net.client_connection import LAST_REQUEST_S, ClientConnection, Speaker
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.http2_stream import STREAM_WINDOW_BYTES, Http2Stream, StreamOwner
from twisted_lb.net.interfaces import Receiver, StreamTransport
from twisted_lb.net.local_reply import Claim, claim_of
from twisted_lb.net.own_answers import asked_host
from twisted_lb.net.route import Lead, Route, client_name
from twisted_lb.net.routing import Found
from twisted_lb.net.secured import Secured
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.http2.errors import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    Http2Error,
    error_name,
)
from twisted_lb.wire.http2.frames import (
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
    headers_frames,
    ping,
    reset_frame,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.hpack import Entry, HpackDecoder
from twisted_lb.wire.http2.requests import RequestReader, read_trailers
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

_log = Logger("twisted_lb.net.http2")

# How many streams a client may have open.
_STREAMS_MOST: Final = 128
# What a client may send on all streams together before we have taken it.
_CONNECTION_WINDOW_BYTES: Final = 1048576
# A batch of frames of ours leaves at its end, or when so many bytes are here.
_FLUSH_BYTES: Final = 65536
_JOINED_BYTES: Final = 16384
_PIECES_MOST: Final = 1000
# Glitches: what costs us and brings nothing. A reset costs two, a request that ends well earns one (rapid reset, MadeYouReset);
# above so many it is over.
_GLITCHES_MOST: Final = 400
# Streams that we have reset, and of which frames may still be on their way.
_RESET_KNOWN: Final = 256


@mypyc_attr(free_list_len=1)
class Http2(FrameReceiver, Receiver, Speaker, StreamOwner):
    """HTTP/2 on one connection of a client."""

    __slots__ = (
        "_agreed", "_begun", "_connection", "_decoder", "_drained", "_drained_due", "_flushing", "_found", "_frontend", "_glitches",
        "_initial_window", "_kept", "_last", "_last_call", "_lead", "_leaving", "_line", "_out", "_out_bytes", "_over", "_reader", "_requests", "_reset",
        "_room", "_scheme", "_secured", "_sent", "_streams", "_uncredited", "_window", "requests",
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
        self._decoder: Final = HpackDecoder()
        self._requests: Final = RequestReader()
        self._streams: dict[int, Http2Stream] = {}
        self._last: int = 0  # the highest stream that the client has opened
        self._reset: dict[int, None] = {}
        self._over: bool = False
        self._last_call: Final = Deadline(self._left)
        self._leaving: int = 0  # GOAWAYs that were sent: one says that others will follow
        self._glitches: int = 0
        self._begun: list[Http2Stream] = []  # with this batch
        self._lead: Lead | None = None
        self._found: Found | None = None
        # Flow control.
        self._initial_window: int = WINDOW_BYTES
        self._window: int = WINDOW_BYTES  # what the client takes on all streams together
        self._room: int = _CONNECTION_WINDOW_BYTES  # what it may send
        self._uncredited: int = 0
        self._line: Final[deque[Http2Stream]] = deque()
        self._drained: list[Http2Stream] = []
        self._drained_due: bool = False
        self._kept: int = 0
        self._sent: int = 0
        # What leaves at the end of the batch.
        self._out: list[bytes] = []
        self._out_bytes: int = 0
        self._flushing: bool = False

    # Bytes in.

    def makeConnection(self, transport: StreamTransport) -> None:
        """A client connected."""
        connection = self._connection
        certificate = b"" if self._secured is None else self._secured.certificate
        admitted = connection.open(transport, self._scheme, self, certificate)
        settings = {
            MAX_CONCURRENT_STREAMS: _STREAMS_MOST,
            INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            MAX_HEADER_LIST_SIZE: connection.rules.limits.head_bytes,
            NO_RFC7540_PRIORITIES: 1,
        }
        self.send(settings_frame(settings), window_update(0, _CONNECTION_WINDOW_BYTES - WINDOW_BYTES))
        if not admitted:
            self._frontend.refuse(
                Refusal.RATE_LIMITED, "too many connections of one client", Claim(connection.client.name)
            )
            self._go_away(ENHANCE_YOUR_CALM, "too many connections of one client")

    def dataReceived(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._over:
            return
        try:
            self._reader.feed(data, self)
        except Http2Error as error:
            self._go_away(error.code, error.reason)
        begun = self._begun
        if begun:
            # Now that what has come of their bodies is here, so that a short one leaves together with its head.
            self._begun = []
            for stream in begun:
                if stream.exchange is not None:
                    stream.exchange.begin()
        if not self._over:
            self._wait()

    def _wait(self) -> None:
        """Set the deadline of what the connection is at."""
        connection = self._connection
        if connection.full:
            return
        if self._reader.in_block:
            connection.arm_sooner(connection.rules.head_s)
        elif self._streams:
            connection.disarm()

    # Field blocks.

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """See FrameReceiver."""
        limits = self._connection.rules.limits
        # Always decoded: the table must stay that of the client.
        entries = self._decoder.decode(block, limits.head_bytes, limits.fields)
        excess = self._decoder.excess
        if stream <= self._last:
            self._trailers_received(stream, entries, excess, ended=ended)
            return
        if not stream & 1:
            raise Http2Error(PROTOCOL_ERROR, "stream with an even number")
        self._last = stream
        if self._leaving > 1:
            self._refuse_stream(stream, REFUSED_STREAM)
            return
        if len(self._streams) >= _STREAMS_MOST:
            self._glitch(1, "more streams than it may have")
            self._refuse_stream(stream, REFUSED_STREAM)
            return
        rules = self._frontend.client_rules
        connection = self._connection
        if rules is not connection.rules:
            connection.go_by(rules)
        self.requests += 1
        if not self._streams:
            connection.begin_request()
        opened = Http2Stream(self, self._frontend, connection, stream, self._initial_window)
        opened.first_of_its_connection = self.requests == 1
        self._streams[stream] = opened
        try:
            _check(excess)
            head = self._requests.read(entries, self._decoder.path, limits, ended=ended)
        except BadMessage as bad:
            self._refuse(opened, bad, ended=ended)
            return
        self._begin(opened, head, ended=ended)
        if not connection.lasts(self.requests):
            self._leave()

    def _begin(self, stream: Http2Stream, head: RequestHead, *, ended: bool) -> None:
        """Begin the exchange of a request, or answer it."""
        frontend, connection, secured = self._frontend, self._connection, self._secured
        framing = head.fields.framing
        stream.open(self._agreed, framing, ended=ended)
        if secured is not None and not secured.serves_all(frontend.serving) and not self._serves(stream, head, secured):
            return
        route = frontend.straight
        if route is None:
            route = self._find_route(stream, head)
            if route is None:
                return
        if head.goes_no_further:
            self._answer(stream, head, frontend.answer_finally(head, self._claim(head), route))
            return
        if framing > 0 and not route.takes(framing):
            refusal, detail = Refusal.BODY_TOO_LARGE, "content-length is beyond the limit"
            self._answer(stream, head, frontend.refuse(refusal, detail, self._claim(head), route))
            return
        lead, client = self._lead, connection.client
        if lead is None or head.fields is not lead.fields or route is not lead.route or client is not lead.client:
            lead = self._lead = frontend.lead(head.fields, client, route)
        if connection.shared and not self._admits(stream, lead.client_name()):
            detail = "too many requests of one client at a time"
            self._answer(stream, head, frontend.refuse(Refusal.RATE_LIMITED, detail, self._claim(head), route))
            return
        exchange = Exchange(frontend, stream, head, lead)
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

    def _serves(self, stream: Http2Stream, head: RequestHead, secured: Secured) -> bool:
        """Whether the connection was let in by the policy of the host that a request names (RFC 9110 15.5.20); else it was answered."""
        host = asked_host(head).decode("ascii", "backslashreplace")
        if secured.serves(host, self._frontend.serving):
            return True
        detail = f"host {host} is of another TLS policy than the connection"
        self._answer(stream, head, self._frontend.refuse(Refusal.MISDIRECTED, detail, self._claim(head)))
        return False

    def _find_route(self, stream: Http2Stream, head: RequestHead) -> Route | None:
        """Find the route of a request that is admitted to one; None when it was answered."""
        frontend, connection = self._frontend, self._connection
        if frontend.challenges is not None:
            reply = frontend.challenges.answer(head)
            if reply is not None:
                frontend.challenged(self._claim(head), reply)
                self._answer(stream, head, reply)
                return None
        found = self._found
        if found is None or head is not found.head or found.table is not frontend.table:
            try:
                found = self._found = frontend.table.find(head, connection.client)
            except BadMessage as bad:
                reply = frontend.refuse(refusal_of(bad.status), bad.reason, self._claim(head))
                self._answer(stream, head, reply)
                return None
        turned_away = frontend.turn_away(found, connection.client, connection.peer_port)
        if turned_away is not None:
            self._answer(stream, head, turned_away)
            return None
        action, admission = found.action, found.admission
        assert action is not None
        if admission is not None and admission.running:
            stream.count(admission.running, found.client_key)
        return action.route(found.split_key)

    def _claim(self, head: RequestHead) -> Claim:
        connection = self._connection
        claim = claim_of(head, client_name(connection.client, head.fields), connection.client, connection.peer_port)
        claim.agreed = self._agreed
        return claim

    def _answer(self, stream: Http2Stream, head: RequestHead, reply: tuple[ResponseHead, bytes]) -> None:
        """Send a local reply to a request that goes nowhere."""
        stream.reply(reply, heading=head.method == b"HEAD")

    def _refuse(self, stream: Http2Stream, bad: BadMessage, *, ended: bool) -> None:
        """Refuse what is no request. What is malformed is reset (RFC 9113 8.1.1), and costs its client as much as a reset of its own."""
        claim = Claim(self._connection.client.name).over(self._connection.client, self._connection.peer_port)
        claim.version = 20
        claim.agreed = self._agreed
        reply = self._frontend.refuse(refusal_of(bad.status), bad.reason, claim)
        stream.open(claim.agreed, -1, ended=ended)
        if bad.status == 400:
            stream.give_up(PROTOCOL_ERROR)
            self._glitch(2, bad.reason)
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
            _check(excess)
            trailers = read_trailers(entries, self._connection.rules.limits)
        except BadMessage as bad:
            stream.fault(BadMessage(400, bad.reason))
            self._glitch(2, bad.reason)
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
            self.send(window_update(0, self._uncredited), b"")
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
            self._glitch(2, "more than the window of a stream takes")

    def reset_received(self, stream: int, code: int) -> None:
        """See FrameReceiver."""
        if stream > self._last or not stream & 1:
            raise Http2Error(PROTOCOL_ERROR, "RST_STREAM on a stream that is idle")
        known = self._streams.get(stream)
        if known is not None:
            known.client_left("" if code == CANCEL else f"it was reset with {error_name(code)}")
        self._glitch(2, "more resets than requests")

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        """See FrameReceiver."""
        self._glitch(1, "more settings than requests")
        for name, value in settings:
            if name == INITIAL_WINDOW_SIZE:
                more = value - self._initial_window
                self._initial_window = value
                for stream in list(self._streams.values()):
                    stream.window += more
                    if stream.window > WINDOW_MOST:
                        raise Http2Error(FLOW_CONTROL_ERROR, "window of a stream that is too large")
                    if more > 0:
                        self.line_up(stream)
        self.send(SETTINGS_ACK, b"")
        self._take_turns()

    def settings_acknowledged(self) -> None:
        """See FrameReceiver. There is nothing that holds only from then on."""

    def ping_received(self, payload: bytes, *, ack: bool) -> None:
        """See FrameReceiver."""
        self._glitch(1, "more pings than requests")
        if not ack:
            self.send(ping(payload, ack=True), b"")

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """See FrameReceiver: the client opens no more streams, and we open none."""
        self._leave()

    def window_opened(self, stream: int, more: int) -> None:
        """See FrameReceiver."""
        if not stream:
            self._window += more
            if self._window > WINDOW_MOST:
                raise Http2Error(FLOW_CONTROL_ERROR, "window of the connection that is too large")
            self._take_turns()
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
            self._glitch(2, "windows that are broken")
            return
        self.line_up(known)
        self._take_turns()

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
        self._glitches += cost
        if self._glitches > _GLITCHES_MOST:
            raise Http2Error(ENHANCE_YOUR_CALM, why)

    # Of the streams.

    @property
    def sent_bytes(self) -> int:
        """See StreamOwner."""
        return self._sent

    def take_window(self, most: int) -> int:
        """See StreamOwner."""
        if self._connection.full:
            return 0
        size = min(most, self._window)
        if size <= 0:
            return 0
        self._window -= size
        self._sent += size
        return size

    def line_up(self, stream: Http2Stream) -> None:
        """See StreamOwner."""
        if not stream.in_line and not stream.over:
            stream.in_line = True
            self._line.append(stream)
            self._flush_soon()

    def _take_turns(self) -> None:
        """Send of what the streams keep as much as the client takes, a frame of each by turns."""
        line = self._line
        while line and self._window > 0 and not self._connection.full:
            stream = line.popleft()
            stream.in_line = False
            if stream.take_turn():
                self.line_up(stream)

    def kept_more(self, count: int) -> int:
        """See StreamOwner."""
        self._kept += count
        return self._kept

    def drained(self, stream: Http2Stream) -> None:
        """See StreamOwner."""
        self._drained.append(stream)
        if not self._drained_due:
            self._drained_due = True
            self._frontend.runtime.soon(self._tell_drained)

    def _tell_drained(self) -> None:
        self._drained_due = False
        drained = self._drained
        self._drained = []
        for stream in drained:
            if not self._connection.full:
                stream.tell_drained()

    def reset(self, stream: Http2Stream, code: int) -> None:
        """See StreamOwner."""
        self._refuse_stream(stream.number, code)

    def _refuse_stream(self, number: int, code: int) -> None:
        known = self._reset
        known[number] = None
        if len(known) > _RESET_KNOWN:
            del known[next(iter(known))]
        self.send(reset_frame(number, code), b"")

    def closed(self, stream: Http2Stream) -> None:
        """See StreamOwner."""
        self._streams.pop(stream.number, None)
        if stream.finishing and self._glitches:
            self._glitches -= 1
        if self._streams or self._over:
            return
        if self._leaving > 1:
            self._end()
        else:
            self._connection.await_request()

    # Frames out.

    def send_block(self, number: int, block: bytes, *, ended: bool) -> None:
        """See StreamOwner."""
        frames = headers_frames(number, block, ended=ended)
        for at in range(0, len(frames), 2):
            self.send(frames[at], frames[at + 1])

    def send(self, head: bytes, payload: bytes) -> None:
        """See StreamOwner."""
        out = self._out
        out.append(head)
        if payload:
            out.append(payload)
        self._out_bytes += len(head) + len(payload)
        if self._out_bytes > _FLUSH_BYTES:
            self._flush()
        else:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._frontend.runtime.soon(self._flush_later)

    def _flush_later(self) -> None:
        self._flushing = False
        if self._line:
            self._take_turns()
        if self._out:
            self._flush()

    def _flush(self) -> None:
        out = self._out
        size = self._out_bytes
        self._out = []
        self._out_bytes = 0
        transport = self._connection.transport
        if transport is None:
            return
        if size > _JOINED_BYTES and len(out) <= _PIECES_MOST:
            transport.write_pieces(out)
        else:
            transport.write(b"".join(out))

    # Flow control of the connection.

    def pauseProducing(self) -> None:
        """The client does not read as fast as we write (back-pressure)."""
        self._connection.stalled()
        for stream in list(self._streams.values()):
            stream.tell_full()

    def resumeProducing(self) -> None:
        """The client has taken enough of what was written."""
        connection = self._connection
        connection.full = False
        connection.disarm()
        if not self._streams:
            connection.await_request()
        self._wait()
        self._take_turns()
        for stream in list(self._streams.values()):
            if not connection.full:
                stream.tell_drained()

    def stopProducing(self) -> None:
        """Twisted says that the connection is lost; `connectionLost` follows."""

    # Ends.

    def _leave(self) -> None:
        """No more streams after those that are on their way: said twice, so that none of those is lost (RFC 9113 6.8)."""
        if self._leaving or self._over:
            return
        self._leaving = 1
        self.send(goaway(STREAM_MOST, NO_ERROR), b"")
        self._frontend.deadlines.arm(self._last_call, self._connection.clock.now + LAST_REQUEST_S)

    def _left(self) -> None:
        """What was on its way has come: the streams that are here are the last ones."""
        if self._leaving > 1 or self._over:
            return
        self._leaving = 2
        self.send(goaway(self._last, NO_ERROR), b"")
        if not self._streams:
            self._end()

    def _end(self) -> None:
        """Everything was said."""
        self._flush()
        self._stop()
        self._connection.linger(half_close=True)

    def _go_away(self, code: int, reason: str) -> None:
        """The client has broken the protocol, or costs more than it brings: it is told why, and that is the end."""
        if self._over:
            return
        _log.debug(
            "HTTP/2 with {client} ends: {code}, {reason}",
            client=self._connection.client.name,
            code=error_name(code),
            reason=reason,
        )
        self._stop()
        self.send(goaway(self._last, code, reason.encode("ascii", "replace")), b"")
        self._flush()
        self._drop("" if code == NO_ERROR else f"{error_name(code)}: {reason}")
        self._connection.linger(half_close=True)

    def _stop(self) -> None:
        self._over = True
        self._reader.stop()
        self._last_call.end()

    def _drop(self, detail: str = "") -> None:
        """All that runs is given up: the client is gone, or takes nothing more."""
        for stream in list(self._streams.values()):
            stream.client_left(detail)

    def timed_out(self) -> None:
        """See Speaker."""
        connection = self._connection
        if connection.full:
            if not connection.keeps_up():
                self._stop()
                self._drop("it does not take its answer")
                connection.abort()
        elif self._reader.in_block:
            self._go_away(PROTOCOL_ERROR, "no complete head in time")
        else:
            self._go_away(NO_ERROR, "nothing was asked for")

    def readConnectionLost(self) -> None:
        """The client closed its side: it has left, unless the configuration says that it still listens."""
        if self._over:
            self._connection.linger(half_close=False)
        elif self._streams and self._connection.rules.finish_half_closed:
            self._leaving = 2
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
        self._out = []
        self._drop()
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
        """See Speaker."""
        return False

    def kill(self, why: str = STOPS) -> None:
        """See Speaker."""
        if self._over:
            self._connection.end()
            return
        for stream in list(self._streams.values()):
            stream.kill(why)
        if not self._over:
            self._stop()
            self.send(goaway(self._last, NO_ERROR), b"")
            self._flush()
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
            self.send(goaway(self._last, NO_ERROR), b"")
            self._flush()
        self._connection.linger(half_close=False)

    def __repr__(self) -> str:
        return f"<Http2 {self._connection.client.name}, {len(self._streams)} streams, {self.requests} requests>"


def _check(excess: str) -> None:
    """Refuse a field block of which there is too much."""
    if excess:
        raise BadMessage(431, excess)
