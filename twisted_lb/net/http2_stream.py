"""A stream of HTTP/2 with a client: one request and its answer (RFC 9113 section 5), the client side of an exchange."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr, trait
from twisted.python.failure import Failure

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note
from twisted_lb.core.running import Running
from twisted_lb.net.abandoned import Abandoned
from twisted_lb.net.client_connection import LINGER_S, ClientConnection
from twisted_lb.net.client_side import ClientSide
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.frame_writer import FrameWriter
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.http2_tunnel import Http2Tunnel, TunnelStream
from twisted_lb.net.relay import Leg
from twisted_lb.wire.fields import without
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.http2.errors import CANCEL, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR
from twisted_lb.wire.http2.frames import DATA, END_STREAM, FRAME_BYTES, frame_head, window_update
from twisted_lb.wire.http2.hpack import encode_lines, encode_status
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.websocket import accept_of

# What a client may send of a body before its backend has taken it, and so what one stream can make us hold.
STREAM_WINDOW_BYTES: Final = 65536
# Of an answer that its client does not take so much is kept; then the backend is not read from (back-pressure), until less than
# this is left. Where all streams of a connection keep much together, each keeps what it has.
_HIGH_BYTES: Final = 65536
_LOW_BYTES: Final = 16384
_ALL_HIGH_BYTES: Final = 524288
# Lingering: of the rest of a request whose answer is complete so much is thrown away; then it is reset (RFC 9113 8.1). Some clients
# drop an answer that a reset follows at once.
_LINGER_BYTES: Final = 262144
# Smaller pieces of a body, or of an answer that is kept, are put together: an object and a call for each byte would cost a hundred of it.
_SMALL_BYTES: Final = 1024
_JOINED_BYTES: Final = 4096
_SMALL_MOST: Final = 64
# RFC 9110 6.4.1: their head is all of them, as to a HEAD.
_NO_CONTENT: Final = (204, 304)
# What comes at once leaves at once, so much of it, where nobody else waits for a turn.
_AT_ONCE_BYTES: Final = 65536
# Of a window that lets less than this of a frame through not much is opened.
_DRIBBLE_BYTES: Final = 1024


@trait
class StreamOwner:
    """The connection of a stream, as far as the stream asks it."""

    def reset(self, stream: "Http2Stream", code: int, *, blamed: bool = True) -> None:
        """Tell the client that a stream is over; `blamed`: for something that it has done, where the code does not say otherwise."""
        raise NotImplementedError

    def dribbled(self) -> None:
        """A window has let through only little of what was to be sent."""
        raise NotImplementedError

    def gather(self, stream: "Http2Stream") -> None:
        """Small pieces of a body have come: when this batch is over, call `pass_on`."""
        raise NotImplementedError

    def left_behind(self, abandoned: Abandoned) -> None:
        """A stream is over, and a backend may be at work for it: see ClientSide."""
        raise NotImplementedError

    def kept_more(self, count: int) -> int:
        """The streams keep so many bytes more, or less, of answers; how many that are now."""
        raise NotImplementedError

    def closed(self, stream: "Http2Stream") -> None:
        """The stream is over."""
        raise NotImplementedError


@mypyc_attr(free_list_len=1)
class Http2Stream(ClientSide, TunnelStream):
    """One stream of a client's connection, from the complete head of its request to its end. In `frontend.clients` it stands for its
    request. `window`: what its client takes of the answer now. `key`: the Sec-WebSocket-Key of an extended CONNECT (RFC 8441), empty for other
    requests.
    """

    __slots__ = (
        "_agreed",
        "_answer_ended",
        "_answered_bytes",
        "_asking",
        "_body",
        "_connection",
        "_credit",
        "_deadline",
        "_end_held",
        "_expected",
        "_frontend",
        "_full",
        "_gathered",
        "_head",
        "_held",
        "_kept",
        "_kept_at",
        "_kept_bytes",
        "_last_bytes",
        "_last_frame",
        "_lingering_bytes",
        "_moved",
        "_owner",
        "_patience_s",
        "_paused",
        "_running",
        "_running_for",
        "_sent",
        "_trailers",
        "_tunnel",
        "_writer",
        "body_bytes",
        "exchange",
        "finishing",
        "first_of_its_connection",
        "in_line",
        "key",
        "number",
        "over",
        "request_ended",
        "window",
    )  # fmt: skip

    def __init__(
        self,
        owner: StreamOwner,
        writer: FrameWriter,
        frontend: Frontend,
        connection: ClientConnection,
        number: int,
        window: int,
    ) -> None:
        self.number: Final = number
        self.exchange: Exchange | None = None
        self.window: int = window
        self.over: bool = False
        self.request_ended: bool = False
        self.first_of_its_connection: bool = False
        self.in_line: bool = False  # of those that have something to send
        self.finishing: bool = False  # the answer is here as a whole
        self.body_bytes: int = 0
        self.key: bytes = b""
        self._tunnel: Http2Tunnel | None = None
        self._owner: Final = owner
        self._writer: Final = writer
        self._frontend: Final = frontend
        self._connection: Final = connection
        self._agreed: Agreed | None = None
        # The request.
        self._expected: int = -1  # how many bytes its body has, where that was said
        self._held: list[bytes] | None = None  # of a body that is not taken for now, or not before the batch is over
        self._gathered: bool = False
        self._end_held: bool = False
        self._trailers: bytes = b""  # behind it, and then behind the answer
        self._paused: bool = False
        self._credit: int = 0  # what has come, and its client was not told that more may
        self._patience_s: float = NEVER
        # The answer.
        self._kept: deque[bytes] | None = None
        self._kept_bytes: int = 0
        self._kept_at: int = 0  # of the first of them so much is sent
        self._last_frame: int = 0  # which one it was, and what it brought
        self._last_bytes: int = 0
        self._full: bool = False
        self._head: bytes = b""  # until its end comes, or nothing does at once
        self._body: bytes = b""  # the first piece behind it
        self._answer_ended: bool = False
        self._sent: int = 0
        # How far it was when it was last looked whether its client takes it, and how far the whole connection.
        self._answered_bytes: int = 0
        self._moved: int = 0
        self._lingering_bytes: int = 0
        # For whom the request is counted.
        self._running: Sequence[Running] = ()
        self._running_for: str = ""
        self._asking: str = ""
        self._deadline: Deadline | None = None  # most streams wait for nothing

    # Its beginning, and what the client says.

    def open(self, agreed: Agreed | None, expected: int, *, ended: bool) -> None:
        """The request has begun: its body has so many bytes, -1: nobody knows; or it has `ended` already."""
        self._agreed = agreed
        self._expected = expected
        self.request_ended = ended
        self._frontend.clients[self] = None
        if not ended and not self.key:
            self._arm(self._connection.rules.body_idle_s)

    def count(self, running: Sequence[Running], key: str) -> None:
        """Count the request for the client with this key; there is room for it."""
        for one in running:
            one.hold(key)
        self._running = running
        self._running_for = key

    def count_for(self, key: str) -> None:
        """The gate has counted it for the client with this key, of those behind a trusted proxy."""
        self._asking = key

    def receive_data(self, data: bytes, size: int, *, ended: bool) -> None:
        """A piece of the body, which took so much of the window."""
        self._credit += size
        if self.exchange is None:
            self._throw_away(size, ended=ended)
            return
        if self.key:
            self._receive_tunnelled(data, ended=ended)
            return
        self.body_bytes += len(data)
        if self._expected >= 0 and (self.body_bytes > self._expected or (ended and self.body_bytes < self._expected)):
            self.fault(BadMessage(400, "a body of another length than was said"))
            return
        if not self.exchange.route.takes(self.body_bytes):
            self.fault(BadMessage(413, "body too large"))
            return
        if ended:
            if data:
                if self._paused or self._held is not None:
                    self._hold(data)
                else:
                    self.exchange.receive(data)
            self.end_request(b"")
        elif data:
            self._hold(data)
        else:
            self._give_credit()

    def _receive_tunnelled(self, data: bytes, *, ended: bool) -> None:
        """Bytes for a tunnel. They pass together with all others of this batch; before there is one they are held, and no window is opened."""
        tunnel = self._tunnel
        if data:
            self._hold(data)
        if ended:
            self.request_ended = True
            if tunnel is not None:
                self.pass_on()
                tunnel.ended()
        elif tunnel is not None and not tunnel.paused:
            self._give_credit()

    def _hold(self, data: bytes) -> None:
        """Hold a piece of the body: its exchange takes none now, or others may follow it at once."""
        held = self._held
        if held is None:
            held = self._held = []
        held.append(data)
        if len(data) < _SMALL_BYTES and len(held) >= _SMALL_MOST:
            self._held = [b"".join(held)]
        if not self._gathered and not self._paused:
            self._gathered = True
            self._owner.gather(self)

    def pass_on(self) -> None:
        """See StreamOwner.gather."""
        self._gathered = False
        held, tunnel = self._held, self._tunnel
        if held is None or self._paused or self.exchange is None or (self.key and tunnel is None):
            return
        self._held = None
        data = held[0] if len(held) == 1 else b"".join(held)
        if tunnel is not None:
            tunnel.received(data)
            return
        self.extend_deadline(len(data))
        self._give_credit()
        self.exchange.receive(data)

    def end_request(self, trailers: bytes) -> None:
        """The request is complete."""
        if self.key and self.exchange is not None:
            self._receive_tunnelled(b"", ended=True)
            return
        if 0 <= self.body_bytes < self._expected:
            self.fault(BadMessage(400, "a body of another length than was said"))
            return
        self.request_ended = True
        self._patience_s = NEVER
        if not self._kept_bytes:
            self._disarm()
        if self._held is not None and not self._paused:
            self.pass_on()
        exchange = self.exchange
        if exchange is None:
            self._linger_no_more()
        elif self._held is not None or self._paused:
            # The end comes behind what is held; and who takes nothing for now is not told of it, as in HTTP/1.1.
            self._trailers = trailers
            self._end_held = True
        else:
            exchange.end_request(trailers)

    def _throw_away(self, size: int, *, ended: bool) -> None:
        """The rest of a request whose answer is complete."""
        self._lingering_bytes += size
        if ended:
            self.request_ended = True
        if ended or self._lingering_bytes > _LINGER_BYTES:
            self._linger_no_more()
        else:
            self._give_credit()

    def _give_credit(self) -> None:
        """Let the client send more, as soon as half of the window is used: what a window update for each frame would cost."""
        if self._credit >= STREAM_WINDOW_BYTES // 2 and not self._paused and not self.request_ended:
            self._writer.send(window_update(self.number, self._credit), b"")
            self._credit = 0

    @property
    def overdrawn(self) -> bool:
        """Whether the client has sent more than its window takes."""
        return self._credit > STREAM_WINDOW_BYTES

    def pause(self) -> None:
        """See ClientSide: its window is not opened any more, and what it still takes is held here."""
        if not self._paused:
            self._paused = True
            self._patience_s = NEVER if self._deadline is None else self._deadline.due - self._connection.clock.now
            if not self.request_ended and not self._kept_bytes:
                self._disarm()

    def resume(self) -> None:
        """See ClientSide."""
        if not self._paused:
            return
        self._paused = False
        held = self._held
        self._held = None
        if held is not None:
            for at in range(len(held)):
                exchange = self.exchange
                if exchange is None:
                    return
                if self._paused:
                    self._held = held[at:]
                    return
                exchange.receive(held[at])
        exchange = self.exchange
        if exchange is None:
            return
        if not self.request_ended:
            if not self._kept_bytes:
                self._arm(min(self._patience_s, self._connection.rules.body_idle_s))
            self._give_credit()
        elif self._end_held:
            self._end_held = False
            trailers = self._trailers
            self._trailers = b""
            exchange.end_request(trailers)

    def extend_deadline(self, length: int) -> None:
        """Slow-body (slowloris) protection, as of ClientConnection."""
        deadline = self._deadline
        if deadline is None or self._kept_bytes or self._paused or self.request_ended or self.key:
            return
        now = self._connection.clock.now
        rules = self._connection.rules
        due = deadline.due
        deadline.due = min(max(due, now) + length * rules.seconds_per_byte, now + rules.body_idle_s)

    # The answer.

    @property
    def first(self) -> bool:
        """See ClientSide."""
        return self.first_of_its_connection

    def who(self) -> str:
        """See ClientSide."""
        return self._connection.client.name

    @property
    def peer_port(self) -> int:
        """See ClientSide."""
        return self._connection.peer_port

    @property
    def agreed(self) -> Agreed | None:
        """See ClientSide."""
        return self._agreed

    def inform(self, head: ResponseHead, extra: bytes) -> None:
        """See ClientSide. A 101 is of HTTP/1.1 alone, and who does not take its answer gets no news."""
        if head.status == 101 and self.key:
            # RFC 8441 5: it has come about, and is a success here.
            lines = without(head.lines, b"sec-websocket-accept") + extra
            if not head.dated:
                lines += b"date: " + self._frontend.runtime.http_date()
            self._writer.send_block(self.number, encode_status(200) + encode_lines(lines), ended=False)
        elif head.status != 101 and not self._full and not self._connection.full:
            self._writer.send_block(self.number, head.block + encode_lines(extra), ended=False)

    def start(self, head: ResponseHead, framing: int, extra: bytes) -> None:
        """See ClientSide."""
        if self.key and 200 <= head.status < 300:
            self._refuse_tunnel()
            return
        block = head.block
        if extra:
            block += encode_lines(extra)
        if not head.dated:
            block += encode_lines(b"date: " + self._frontend.runtime.http_date())
        exchange = self.exchange
        if framing == 0 and (head.status in _NO_CONTENT or (exchange is not None and exchange.head.method == b"HEAD")):
            self._answer_ended = True
            self._writer.send_block(self.number, block, ended=True)
        else:
            self._head = block  # it is not known yet what follows: a body, trailers, the end, or nothing at once

    def _refuse_tunnel(self) -> None:
        """The backend answers as if it had been asked for a page: a client that has asked for a tunnel would take that for one."""
        if self.exchange is not None:
            self.exchange.status = 502
        block = encode_status(502) + encode_lines(b"date: " + self._frontend.runtime.http_date())
        self._answer_ended = True
        self._writer.send_block(self.number, block, ended=True)

    def write(self, payload: bytes) -> None:
        """See ClientSide."""
        if self.over or self._answer_ended:
            return
        if self._head:
            if not self._body and len(payload) <= FRAME_BYTES:
                self._body = payload  # as a rule that is all of it
                return
            self._send_begun()
        self._pass(payload)

    def _send_begun(self) -> None:
        """Send the head of the answer, and what is here of its body: the end does not follow at once."""
        head, body = self._head, self._body
        self._head = self._body = b""
        self._writer.send_block(self.number, head, ended=False)
        if body:
            self._pass(body)

    def _pass(self, payload: bytes) -> None:
        """Send a piece of the body, or keep what its client does not take."""
        size = len(payload)
        if not self._kept_bytes:
            writer = self._writer
            sent = writer.send_body(self.number, payload, min(self.window, _AT_ONCE_BYTES))
            if sent:
                self.window -= sent
                self._last_frame = writer.last_frame
                self._last_bytes = writer.last_bytes
                if sent == size:
                    return
                payload = payload[sent:]
                size -= sent
        if not self._kept_bytes:
            self._await_client()
        kept_pieces = self._kept
        if kept_pieces is None:
            kept_pieces = self._kept = deque()
        if size < _SMALL_BYTES and kept_pieces and len(kept_pieces[-1]) < _JOINED_BYTES:
            kept_pieces[-1] += payload
        else:
            kept_pieces.append(payload)
        self._kept_bytes += size
        kept = self._owner.kept_more(size)
        self._writer.line_up(self)
        if not self._full and (self._kept_bytes > _HIGH_BYTES or (self._kept_bytes and kept > _ALL_HIGH_BYTES)):
            self._full = True
            if self.exchange is not None:
                self.exchange.client_full()

    def take_turn(self) -> bool:
        """See BodySender."""
        kept = self._kept
        if self.over or not self._kept_bytes or kept is None:
            return False
        first, at = kept[0], self._kept_at
        wanted = min(len(first) - at, FRAME_BYTES)
        size = self._writer.take_window(min(wanted, self.window))
        if size <= 0:
            return False
        if size < wanted and size < _DRIBBLE_BYTES:
            self._owner.dribbled()
        self._sent += size
        self._kept_bytes -= size
        self._owner.kept_more(-size)
        self.window -= size
        end = at + size
        if end == len(first):
            kept.popleft()
            self._kept_at = 0
        else:
            self._kept_at = end
        last = self.finishing and not self._kept_bytes and not self._trailers
        piece = first if size == len(first) else first[at:end]
        self._last_frame = self._writer.send_data(self.number, piece, END_STREAM if last else 0)
        self._last_bytes = size
        if last:
            self._answer_ended = True
        if not self._kept_bytes:
            self._client_took()
        if self.over:
            return False
        if self._full and self._kept_bytes < _LOW_BYTES:
            self._full = False
            self._writer.drained(self)
        return self._kept_bytes > 0 and self.window > 0

    def _client_took(self) -> None:
        """Nothing is kept for the client."""
        if self.finishing:
            self._end_answer()
        elif not self.request_ended and not self._paused and not self.key:
            self._arm(self._connection.rules.body_idle_s)
        else:
            self._disarm()

    def tell_drained(self) -> None:
        """See BodySender; while the connection takes nothing it is not told, but when that is over."""
        if self.exchange is not None and not self._full and not self._writer.full:
            self.exchange.client_drained()

    def tell_full(self) -> None:
        """The connection takes no more for now."""
        if self.exchange is not None:
            self.exchange.client_full()

    def flush(self) -> None:
        """See ClientSide: all of a batch leaves at its end."""
        if self._head:
            self._send_begun()

    def finish(self, trailers: bytes) -> None:
        """See ClientSide."""
        self.exchange = None
        if self.over:
            return
        self.finishing = True
        if self._running or self._asking:
            self._uncount()
        if self._head:
            size, writer = len(self._body), self._writer
            if not trailers and size <= self.window and size <= writer.window and not writer.full:
                # All of it at once, as a rule.
                self._answer_ended = True
                writer.send_answer(self.number, self._head, self._body)
                self._head = self._body = b""
                self._answer_is_out()
                return
            self._send_begun()
        self._trailers = trailers
        if not self._kept_bytes:
            self._end_answer()

    def _end_answer(self) -> None:
        """Everything of the answer is out but its end."""
        if not self._answer_ended:
            self._answer_ended = True
            if self._trailers:
                self._writer.send_block(self.number, encode_lines(self._trailers), ended=True)
            elif not self._last_bytes or not self._writer.end_data(self.number, self._last_frame, self._last_bytes):
                self._writer.send(frame_head(0, DATA, END_STREAM, self.number), b"")
        self._answer_is_out()

    def _answer_is_out(self) -> None:
        if self._tunnel is not None and self.exchange is not None:
            return  # half-closed: the client may go on
        if self.request_ended:
            self._close()
            return
        # Lingering: the client is still sending.
        self._held = None
        self._paused = False
        self._give_credit()
        self._arm(LINGER_S)

    def _linger_no_more(self) -> None:
        """The rest of the request has come, or is not waited for any more. An answer that is still kept is waited for."""
        if self.over or not self._answer_ended:
            return
        if not self.request_ended:
            self._owner.reset(self, NO_ERROR)
        self._close()

    def abort(self) -> None:
        """See ClientSide: a reset, so that nobody takes it for its end. Where the client has been told the end already, as of a HEAD with its head,
        there is nothing that was cut.
        """
        self.exchange = None
        if self._answer_ended and not self.over:
            self._uncount()
            self._end_answer()
        else:
            if self._head and not self.over:
                self._send_begun()  # what has come is told, and then that it was cut
            self.give_up(INTERNAL_ERROR)

    def check_switch(self, head: ResponseHead) -> None:
        """See ClientSide: it is us who have made the key, and its answer is for us (RFC 6455 4.1)."""
        accepted = [
            line.partition(b":")[2].strip(b" \t")
            for line in head.lines.split(b"\r\n")
            if line.partition(b":")[0].lower() == b"sec-websocket-accept"
        ]
        if accepted != [accept_of(self.key)]:
            raise BadMessage(502, "a switch to WebSocket without the right Sec-WebSocket-Accept")

    def release(self) -> Leg:
        """See ClientSide: the stream becomes a tunnel."""
        tunnel = self._tunnel = Http2Tunnel(self)
        held = b"" if self._held is None else b"".join(self._held)
        self._held = None
        self._disarm()
        if not self.request_ended:
            self._give_credit()
        return Leg(tunnel, held, _ignore, self.end_tunnel, ended=self.request_ended)

    # Of a tunnel: see TunnelStream.

    def half_close(self) -> None:
        """See TunnelStream."""
        if not self.over:
            self.finishing = True
            if not self._kept_bytes:
                self._end_answer()

    def end_tunnel(self) -> None:
        """See TunnelStream."""
        self.exchange = None
        if not self.over:
            self._uncount()
            self.half_close()

    def cut_tunnel(self) -> None:
        """See TunnelStream."""
        self.exchange = None
        if not self.over:
            self._owner.reset(self, CANCEL, blamed=False)
            self._close()

    def may_send(self) -> None:
        """See TunnelStream."""
        if self.exchange is not None:
            self._give_credit()

    @property
    def unsent_bytes(self) -> int:
        """See TunnelStream."""
        return self._kept_bytes

    def left_behind(self, abandoned: Abandoned) -> None:
        """See ClientSide."""
        self._owner.left_behind(abandoned)

    def proxy_header(self, version: int) -> bytes:
        """See ClientSide."""
        return self._connection.proxy_header(version, None)

    def reply(self, reply: tuple[ResponseHead, bytes], *, heading: bool) -> None:
        """Send this local reply, and nothing behind it."""
        head, body = reply
        self.start(head, 0 if heading or not body else len(body), b"")
        if body and not heading:
            self.write(body)
        self.finish(b"")

    # Ends.

    def fault(self, bad: BadMessage) -> None:
        """The client broke its own message. What is malformed is reset (RFC 9113 8.1.1), all else answered, where it can be."""
        exchange = self.exchange
        self.exchange = None
        if exchange is None:
            return
        reply = exchange.client_fault(bad.status, bad.reason)
        if bad.status == 400:
            self.give_up(PROTOCOL_ERROR)
        elif reply is None:
            self.give_up(CANCEL)
        else:
            self.reply(reply, heading=exchange.head.method == b"HEAD")

    def give_up(self, code: int) -> None:
        """Reset the stream, whose exchange is over."""
        if not self.over:
            self._owner.reset(self, code)
            self._close()

    def client_left(self, detail: str = "") -> None:
        """The client has reset the stream, or its connection is gone."""
        exchange = self.exchange
        self.exchange = None
        self._close()
        if exchange is not None:
            exchange.client_gone(detail)

    def _close(self) -> None:
        if self.over:
            return
        self.over = True
        if self._deadline is not None:
            self._frontend.deadlines.give(self._deadline)
            self._deadline = None
        if self._running or self._asking:
            self._uncount()
        if self._kept_bytes:
            self._owner.kept_more(-self._kept_bytes)
            self._kept_bytes = 0
        self._kept = None
        self._held = None
        self._frontend.clients.pop(self, None)
        self._owner.closed(self)

    def _uncount(self) -> None:
        if self._asking:
            self._frontend.gate.release(self._asking)
            self._asking = ""
        for one in self._running:
            one.release(self._running_for)
        self._running = ()

    # Deadlines.

    def _arm(self, duration_s: float) -> None:
        if self.over:
            return
        deadline = self._deadline
        if deadline is None:
            deadline = self._deadline = self._frontend.deadlines.take_for(self._timed_out)
        self._frontend.deadlines.arm(deadline, self._connection.clock.now + duration_s)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.due = NEVER

    def _await_client(self) -> None:
        """Slow-read protection begins: the client does not take what comes as fast as it comes."""
        self._answered_bytes = self._sent
        self._moved = self._writer.sent
        self._arm(self._connection.rules.taking_idle_s)

    def _timed_out(self) -> None:
        exchange = self.exchange
        if self._kept_bytes:
            least = self._connection.rules.min_bytes_per_idle
            if self._sent - self._answered_bytes >= least:
                self._await_client()
            elif self.window > 0 and self._writer.sent - self._moved >= least:
                self._await_client()  # the others had their turns
            else:
                self.cut(CANCEL, "it does not take its answer")
        elif exchange is None:
            self._linger_no_more()
        elif exchange.started and exchange.response_bytes != self._answered_bytes:
            # Both may speak at a time (gRPC): while the answer goes on, a body may wait.
            self._answered_bytes = exchange.response_bytes
            self._arm(self._connection.rules.body_idle_s)
        else:
            self.fault(BadMessage(408, "the body stalled"))

    def cut(self, code: int, detail: str) -> None:
        """Reset it, for what its client has done or left undone."""
        exchange = self.exchange
        self.exchange = None
        self.give_up(code)
        if exchange is not None:
            exchange.client_gone(detail)

    # For the frontend it is a client.

    def drain(self) -> None:
        """See FrontendClient: its connection sees to that."""

    def tell_good_bye(self) -> None:
        """See FrontendClient."""
        if self.exchange is not None:
            self.exchange.tell_good_bye()

    def kill(self, why: str = STOPS) -> None:
        """See FrontendClient: a local reply where nothing was said, a reset where something was."""
        exchange = self.exchange
        if exchange is None:
            return
        if self._tunnel is not None:
            exchange.cancel(why)
            return
        self.exchange = None
        reply = exchange.refuse(why)
        if reply is None:
            self.give_up(INTERNAL_ERROR)
        else:
            self.reply(reply, heading=exchange.head.method == b"HEAD")

    def at(self) -> Backend | None:
        """See FrontendClient."""
        return None if self.exchange is None else self.exchange.backend

    def unsent(self) -> bool:
        """See FrontendClient."""
        return self.exchange is not None and self.exchange.unsent

    def note(self) -> Note | None:
        """See FrontendClient."""
        return None if self.exchange is None else self.exchange.note()

    def relayed(self) -> bool:
        """See FrontendClient."""
        return self._tunnel is not None

    def client_key(self) -> str:
        """See FrontendClient: it is no connection."""
        return ""

    def idle_since(self) -> float:
        """See FrontendClient: a request is under way."""
        return NEVER

    def retire(self) -> None:
        """See FrontendClient: never asked to."""

    def __repr__(self) -> str:
        return f"<Http2Stream {self.number} of {self.who()}>"


def _ignore(_reason: Failure) -> None:
    """The end of a tunnel is told to its exchange, and the stream knows."""
