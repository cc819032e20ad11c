"""An end of HTTP/2 that is not ours (hyperframe, hpack), and a judge of what the balancer says on its connection.

What is said is put into one line of bytes, which leaves in pieces of any size. What is heard is held to RFC 9113 by rules of its own:
which frame may stand where, windows, field blocks. `complain` is told what is wrong.
"""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from hpack import Decoder, Encoder
from hpack.exceptions import HPACKError
from hyperframe.exceptions import HyperframeError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from twisted_lb.testing import HeapClock

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_BYTES = 16384
WINDOW_BYTES = 65535
TABLE_SIZE, STREAMS, WINDOW = 1, 3, 4
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 2, 7, 8, 11
OF_CONNECTIONS = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"}

Fields = list[tuple[str, str]]


class Stream:
    """One stream, as far as both have come. `window`: what may be said on it; `room`: what may be heard, by what the other end knows
    of it. `heard_end` and `said_end`: END_STREAM; `reset`: with which code the other end gave it up; `given_up`: we did, and since it is
    `known` the other end has nothing to say on it. `spent`: what was said of its window, padding included.
    """

    def __init__(self, number: int, window: int, room: int) -> None:
        self.number = number
        self.window = window
        self.room = room
        self.heads: list[Fields] = []
        self.trailers: Fields | None = None
        self.body = bytearray()
        self.said = 0  # bytes of its body
        self.spent = 0
        self.credited = 0  # what the other end lets us say
        self.said_end = self.heard_end = False
        self.reset: int | None = None
        self.given_up: int | None = None
        self.known = False

    @property
    def head(self) -> dict[str, str]:
        """The final head, empty while there is none."""
        return dict(self.heads[-1]) if self.heads and not self.interim else {}

    @property
    def interim(self) -> bool:
        """Whether the last head that was heard is no final one."""
        status = dict(self.heads[-1]).get(":status", "") if self.heads else ""
        return status.startswith("1")

    @property
    def over(self) -> bool:
        """Whether nothing more can be heard on it."""
        return self.heard_end or self.reset is not None or self.given_up is not None


class Peer:
    """One end. `settings`: what it says of itself; `told`: what else it does when it hears something, by the name of it. `pause_s`: how long
    it waits between the pieces of what it says, 0: all is said as one.
    """

    client = True

    def __init__(
        self,
        clock: HeapClock,
        rng: random.Random,
        settings: dict[int, int],
        complain: Callable[[str], None],
        pause_s: float = 0.0,
    ) -> None:
        self.clock = clock
        self.rng = rng
        self.complain = complain
        self.settings = settings
        self.streams: dict[int, Stream] = {}
        self.went: list[tuple[int, int, bytes]] = []
        self.window = WINDOW_BYTES
        self.spent = 0
        self._granted = 0  # beyond WINDOW_BYTES, before it was for what had come
        self._credited = 0
        self.room = WINDOW_BYTES  # of what may be heard on all streams together
        self.others: dict[int, int] = {}  # what the other end says of itself
        self.mute = False  # says no more, be it in the middle of a frame
        self.costs = 0  # what it has done that brings nothing
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.decoder.max_allowed_table_size = settings.get(TABLE_SIZE, 4096)
        self._pending_settings = [settings]
        self._applied: dict[int, int] = {}
        self._pause_s = pause_s
        self._out = b""
        self._pumping = False
        self._buffer = b""
        self._block: tuple[int, bytes, bool] | None = None
        self._first = True
        self.transport: Any = None

    # Saying.

    def begin(self, transport: Any) -> None:
        """The connection is there."""
        self.transport = transport
        frame = SettingsFrame(0, settings=dict(self.settings))
        self.put((PREFACE if self.client else b"") + frame.serialize())

    def put(self, data: bytes) -> None:
        """Say these bytes, behind all that is said already."""
        if self.mute:
            return
        self._out += data
        if not self._pumping:
            self._pump()

    def _pump(self) -> None:
        self._pumping = False
        if self.mute or self.transport is None:
            return
        if self._pause_s and len(self._out) > 1:
            size = min(int(3 ** self.rng.uniform(0, 11)), len(self._out))
        else:
            size = len(self._out)
        piece, self._out = self._out[:size], self._out[size:]
        self.transport.write(piece)
        if self._out:
            self._pumping = True
            self.clock.callLater(self.rng.uniform(0, self._pause_s), self._pump)

    def send(self, frame: Frame) -> None:
        self.put(frame.serialize())

    def send_block(self, number: int, fields: Fields, *, ended: bool, whole: bool = True) -> None:
        """A field block, cut anywhere into CONTINUATIONs, padded, with a priority; not `whole`: its end never comes."""
        rng = self.rng
        if rng.random() < 0.1:
            self.encoder.header_table_size = rng.choice([0, 100, 4096])
        block = self.encoder.encode(fields, huffman=rng.random() < 0.8)
        pieces = [block]
        if not whole or rng.random() < 0.2 or len(block) > FRAME_BYTES:
            cuts = sorted({0, len(block), *(rng.randrange(len(block) + 1) for _ in range(rng.randrange(4)))})
            pieces = [block[a:b] for a, b in pairwise(cuts)] or [b""]
            pieces = [
                piece[at : at + FRAME_BYTES] for piece in pieces for at in range(0, max(len(piece), 1), FRAME_BYTES)
            ]
        frame = HeadersFrame(number, pieces[0])
        if ended:
            frame.flags.add("END_STREAM")
        if rng.random() < 0.15:
            frame.flags.add("PADDED")
            frame.pad_length = rng.randrange(256) if len(pieces[0]) < 16000 else 0
        if self.client and rng.random() < 0.1 and len(pieces[0]) < 16000:
            frame.flags.add("PRIORITY")
            frame.depends_on, frame.stream_weight = number + 2, 3
        frames: list[Any] = [frame, *(ContinuationFrame(number, piece) for piece in pieces[1:])]
        if whole:
            frames[-1].flags.add("END_HEADERS")
        self.put(b"".join(one.serialize() for one in frames))
        if ended:
            self.streams[number].said_end = True

    def data_room(self, stream: Stream) -> int:
        """How many bytes of a body may be said now."""
        return max(min(stream.window, self.window, FRAME_BYTES), 0)

    def send_data(self, stream: Stream, data: bytes, *, ended: bool) -> None:
        """A piece of a body for which there is room, with padding where there is room for that too."""
        frame = DataFrame(stream.number, data)
        size = len(data)
        most = self.data_room(stream) - size - 1
        if self.rng.random() < 0.1 and most >= 0:
            frame.flags.add("PADDED")
            frame.pad_length = self.rng.randrange(min(most, 200) + 1)
            size += 1 + frame.pad_length
        if ended:
            frame.flags.add("END_STREAM")
            stream.said_end = True
        if not data:
            self.costs += 1
        stream.said += len(data)
        stream.window -= size
        stream.spent += size
        self.window -= size
        self.spent += size
        self.send(frame)

    def give_up(self, stream: Stream, code: int) -> None:
        """RST_STREAM."""
        if stream.given_up is None and stream.reset is None:
            stream.given_up = code
            self.costs += 2
            self.send(RstStreamFrame(stream.number, error_code=code))
            if self.client:
                # What is behind the answer to this was said by who knows of it.
                self.costs += 1
                self.send(PingFrame(0, stream.number.to_bytes(8, "big")))

    def credit(self, stream: Stream | None, more: int) -> None:
        """WINDOW_UPDATE."""
        if not more:
            return
        if stream is None:
            self.room += more
        elif stream.over:
            return
        else:
            stream.room += more
        self.costs += 1
        self.send(WindowUpdateFrame(0 if stream is None else stream.number, window_increment=more))

    def change_settings(self, settings: dict[int, int]) -> None:
        """Say something else of itself."""
        self._pending_settings.append(settings)
        self.costs += 1
        self.send(SettingsFrame(0, settings=settings))

    def chat(self) -> None:
        """Say what means nothing."""
        rng = self.rng
        self.costs += 1
        ping = PingFrame(0, b"12345678").serialize()
        priority = PriorityFrame(rng.choice([1, 3, 99]), depends_on=0, stream_weight=1).serialize()
        self.put(rng.choice([ping, priority, b"\0\0\6\xbe\0\0\0\0\0grease"]))

    # Hearing.

    def open(self, number: int) -> Stream:
        """A stream that begins."""
        room = self._applied.get(WINDOW, WINDOW_BYTES)
        stream = self.streams[number] = Stream(number, self.others.get(WINDOW, WINDOW_BYTES), room)
        return stream

    def hear(self, data: bytes) -> None:
        """Take bytes of the other end."""
        self._buffer += data
        while len(self._buffer) >= 9:
            try:
                frame, size = Frame.parse_frame_header(memoryview(self._buffer[:9]))
                if size > FRAME_BYTES:
                    self.complain(f"a frame of {size} bytes")
                    return
                if len(self._buffer) < 9 + size:
                    return
                frame.parse_body(memoryview(self._buffer[9 : 9 + size]))
            except HyperframeError as error:
                self.complain(f"what is no frame: {error!r} {self._buffer[:20]!r}")
                self._buffer = b""
                return
            self._buffer = self._buffer[9 + size :]
            self._take(frame)

    @property
    def in_a_frame(self) -> bool:
        """Whether something has begun whose end has not come."""
        return bool(self._buffer) or self._block is not None

    def _take(self, frame: Frame) -> None:
        if self._first and not isinstance(frame, SettingsFrame):
            self.complain(f"{frame!r} before SETTINGS")
        self._first = False
        if self._block is not None and not (isinstance(frame, ContinuationFrame) and frame.stream_id == self._block[0]):
            self.complain(f"{frame!r} within a field block")
            self._block = None
            return
        if isinstance(frame, HeadersFrame):
            ended = "END_STREAM" in frame.flags
            self._block_part(frame.stream_id, frame.data, ended=ended, last="END_HEADERS" in frame.flags)
        elif isinstance(frame, ContinuationFrame):
            assert self._block is not None
            number, begun, ended = self._block
            self._block_part(number, begun + frame.data, ended=ended, last="END_HEADERS" in frame.flags)
        elif isinstance(frame, DataFrame):
            self._take_data(frame)
        elif isinstance(frame, SettingsFrame):
            self._take_settings(frame)
        elif isinstance(frame, WindowUpdateFrame):
            self._take_window(frame)
        elif isinstance(frame, RstStreamFrame):
            self._take_reset(frame)
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.send(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, PingFrame):
            stream = self.streams.get(int.from_bytes(frame.opaque_data, "big"))
            if stream is not None:
                stream.known = stream.given_up is not None
        elif isinstance(frame, GoAwayFrame):
            self.went.append((frame.last_stream_id, frame.error_code, frame.additional_data))
        elif isinstance(frame, PushPromiseFrame):
            self.complain("a PUSH_PROMISE")

    def _block_part(self, number: int, block: bytes, *, ended: bool, last: bool) -> None:
        if not last:
            self._block = number, block, ended
            return
        self._block = None
        try:
            fields = [(str(name), str(value)) for name, value in self.decoder.decode(block)]
        except HPACKError as error:
            self.complain(f"a field block that cannot be decoded: {error!r}")
            return
        names = [name for name, _ in fields]
        if any(name != name.lower() or name in OF_CONNECTIONS for name in names):
            self.complain(f"fields that no message of HTTP/2 may have: {names}")
        stream = self._known(number, "fields", fields)
        if stream is not None:
            self._take_fields(stream, fields, ended=ended)

    def _known(self, number: int, what: str, fields: Fields | None = None) -> Stream | None:
        """The stream of what was heard, None where it is of no interest."""
        stream = self.streams.get(number)
        if stream is None and fields is not None and not self.client:
            stream = self._opened(number)
        if stream is None:
            self.complain(f"{what} on stream {number}, which nobody has opened")
        elif stream.heard_end or stream.reset is not None:
            end = "its end" if stream.heard_end else f"its reset with {stream.reset}"
            self.complain(f"{what} on stream {number} behind {end}")
            return None
        elif stream.known:
            self.complain(f"{what} on stream {number}, which was given up, as the other end knows")
            return None
        return stream

    def _opened(self, number: int) -> Stream | None:
        """A request begins: its number is above those of all others."""
        if number % 2 == 0 or number < max(self.streams, default=0):
            self.complain(f"stream {number} is opened behind {max(self.streams, default=0)}")
            return None
        return self.open(number)

    def _take_fields(self, stream: Stream, fields: Fields, *, ended: bool) -> None:
        pseudo = [name for name, _ in fields if name.startswith(":")]
        if stream.heads and not stream.interim:
            if pseudo or not ended:
                self.complain(f"trailers on stream {stream.number} with {pseudo}, ended: {ended}")
            stream.trailers = fields
        else:
            wanted = [":status"] if self.client else [":authority", ":method", ":path", ":scheme"]
            if sorted(pseudo) != wanted or [name for name, _ in fields[: len(pseudo)]] != pseudo:
                self.complain(f"a head on stream {stream.number} with {pseudo}")
            stream.heads.append(fields)
            if stream.interim and ended:
                self.complain(f"stream {stream.number} ends with an interim answer")
        stream.heard_end = ended
        if ended:
            self._judge_length(stream)
        self.told(stream)

    def _take_data(self, frame: DataFrame) -> None:
        number, size = frame.stream_id, frame.flow_controlled_length
        self.room -= size
        if self.room < 0:
            self.complain(f"{-self.room} bytes more than the window of the connection takes")
        stream = self._known(number, "DATA")
        if stream is None:
            return
        if not stream.heads or stream.interim:
            self.complain(f"DATA on stream {number} before its head")
        stream.room -= size
        if stream.room < 0 and size:
            self.complain(f"{-stream.room} bytes more than the window of stream {number} takes")
        stream.body += frame.data
        stream.heard_end = "END_STREAM" in frame.flags
        if stream.heard_end:
            self._judge_length(stream)
        if self.client is False and stream.given_up is not None:
            self.credit(None, size)
        self.told(stream, size)

    def _judge_length(self, stream: Stream) -> None:
        """RFC 9113 8.1.1: what was said of a body's length holds at its end."""
        head = stream.head
        if "content-length" not in head or self.without_body(stream):
            return
        if int(head["content-length"]) != len(stream.body):
            self.complain(
                f"stream {stream.number} ends behind {len(stream.body)} bytes of {head['content-length']}, as if that were all"
            )

    def without_body(self, stream: Stream) -> bool:
        """Whether the head tells of a length that nothing has."""
        return stream.head.get(":status") == "304"

    def _take_settings(self, frame: SettingsFrame) -> None:
        if "ACK" in frame.flags:
            if not self._pending_settings:
                self.complain("an acknowledgement of nothing")
                return
            now = self._pending_settings.pop(0)
            if WINDOW in now:
                before = self._applied.get(WINDOW, WINDOW_BYTES)
                for stream in self.streams.values():
                    stream.room += now[WINDOW] - before
            self._applied |= now
            return
        before = self.others.get(WINDOW, WINDOW_BYTES)
        self.others |= frame.settings
        for stream in self.streams.values():
            stream.window += self.others.get(WINDOW, WINDOW_BYTES) - before
        if TABLE_SIZE in frame.settings:
            self.encoder.header_table_size = min(frame.settings[TABLE_SIZE], 4096)
        self.send(SettingsFrame(0, flags=["ACK"]))
        self.told(None)

    def _take_window(self, frame: WindowUpdateFrame) -> None:
        more = frame.window_increment
        if not frame.stream_id:
            self.window += more
            self._credited += more
            self._granted = self._granted or more
            if self._credited > self._granted + self.spent:
                self.complain(f"the connection is credited {self._credited - self._granted} bytes for {self.spent}")
            self.told(None)
            return
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            self.complain(f"WINDOW_UPDATE on stream {frame.stream_id}, which nobody has opened")
            return
        stream.window += more
        stream.credited += more
        if stream.credited > stream.spent:
            self.complain(f"stream {frame.stream_id} is credited {stream.credited} bytes for {stream.spent}")
        self.told(stream)

    def _take_reset(self, frame: RstStreamFrame) -> None:
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            self.complain(f"RST_STREAM on stream {frame.stream_id}, which nobody has opened")
            return
        if stream.reset is not None:
            self.complain(f"stream {frame.stream_id} is reset twice")
        # A backend's own end may be on its way.
        if self.client and stream.heard_end and frame.error_code != NO_ERROR:
            self.complain(f"stream {frame.stream_id} is reset with {frame.error_code} behind its end")
        stream.reset = frame.error_code
        self.told(stream)

    def told(self, stream: Stream | None, size: int = 0) -> None:
        """Something was heard, on a stream or of the connection; `size` is what it takes of the windows."""
