"""A client of HTTP/2 in memory, by another implementation (h2), and a balancer for it."""

from collections import defaultdict
from random import Random
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http2 import Http2
from twisted_lb.testing import Balanced, Chances, Faults, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient
from twisted_lb.wire.http2.frames import (
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame_head,
)
from twisted_lb.wire.http2.hpack import literal

HOST = "www.example.com"
ADDRESS = "lb:2"


class Answer:
    """What has come on one stream."""

    def __init__(self) -> None:
        self.informed: list[int] = []
        self.status = 0
        self.fields: dict[str, str] = {}
        self.body = b""
        self.trailers: dict[str, str] | None = None
        self.ended = False
        self.reset: int | None = None

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.body[:40]!r} ended={self.ended} reset={self.reset}>"


class Http2Client:
    """A connection that speaks HTTP/2. What comes is credited at once, unless it is `stingy`."""

    def __init__(self, town: "Http2Town", *, stingy: bool = False, settings: dict[int, int] | None = None) -> None:
        self._town = town
        self._stingy = stingy
        self.scripted = ScriptedClient(town.network, ADDRESS)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings(settings)
        self._heard = b""
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.went: list[tuple[int, int, bytes]] = []
        self.flush()

    def flush(self) -> None:
        """Send what is to be said, let everything happen that needs no time, and take what has come."""
        while True:
            data = self.h2.data_to_send()
            if data and self.scripted.open:
                self.scripted.send(data)
            self._town.clock.settle()
            heard = self.scripted.take()
            if not heard:
                return
            for event in self.h2.receive_data(self._without_goaways(heard)):
                self._hear(event)

    def _without_goaways(self, data: bytes) -> bytes:
        """What has come, in whole frames, but for GOAWAY: the other implementation hears nothing behind the first of them."""
        data = self._heard + data
        frames = b""
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            size = 9 + int.from_bytes(data[:3], "big")
            if data[3] == 7:
                self.went.append((int.from_bytes(data[9:13], "big"), int.from_bytes(data[13:17], "big"), data[17:size]))
            else:
                frames += data[:size]
            data = data[size:]
        self._heard = data
        return frames

    def _hear(self, event: Any) -> None:
        answer = self.answers[getattr(event, "stream_id", 0) or 0]
        if isinstance(event, ResponseReceived):
            answer.fields = dict(event.headers)
            answer.status = int(answer.fields[":status"])
        elif isinstance(event, InformationalResponseReceived):
            answer.informed.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, DataReceived):
            answer.body += event.data
            if not self._stingy and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = event.error_code

    def begin(self, method: str = "GET", path: str = "/", *fields: tuple[str, str], ended: bool = True) -> int:
        """Send the head of a request; its stream."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path)]
        self.h2.send_headers(stream, [*pseudo, *fields], end_stream=ended)
        return stream

    def ask(self, method: str = "GET", path: str = "/", *fields: tuple[str, str], body: bytes = b"") -> Answer:
        """Send a request, and what has come of its answer when nothing more happens."""
        stream = self.begin(method, path, *fields, ended=not body)
        self.send_body(stream, body)
        return self.answers[stream]

    def send_body(self, stream: int, body: bytes, *, ended: bool = True) -> bytes:
        """Send a body as far as the windows let it; what is left."""
        self.flush()
        while body:
            room = min(self.h2.local_flow_control_window(stream), 16384, len(body))
            if room <= 0:
                break
            piece, body = body[:room], body[room:]
            self.h2.send_data(stream, piece, end_stream=ended and not body)
            self.flush()
        return body

    def raw(self, data: bytes) -> None:
        """Send bytes that the other implementation would not send."""
        self.flush()
        self.scripted.send(data)
        self.flush()


class RawClient:
    """A connection on which a test says frames, whatever they are, and hears frames: (kind, flags, stream, payload)."""

    def __init__(self, town: "Http2Town", *, settings: bytes = b"", preface: bool = True) -> None:
        self._town = town
        self.scripted = ScriptedClient(town.network, ADDRESS)
        self.heard: list[tuple[int, int, int, bytes]] = []
        self.pinged = 0  # pings that were answered
        self._rest = b""
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, *frames: bytes) -> None:
        """Send these bytes as one, and take what comes."""
        if self.scripted.open:
            self.scripted.send(b"".join(frames))
        self.take()

    def take(self) -> None:
        """Let everything happen that needs no time, and take what has come."""
        self._town.clock.settle()
        self.take_what_is_here()

    def take_what_is_here(self) -> None:
        """Take what has come."""
        data = self._rest + self.scripted.take()
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            size = 9 + int.from_bytes(data[:3], "big")
            self.heard.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:size]))
            data = data[size:]
        self._rest = data

    def of(self, kind: int, stream: int | None = None) -> list[bytes]:
        """The payloads of all frames of a kind, on a stream, None: on whatever."""
        return [one[3] for one in self.heard if one[0] == kind and stream in (None, one[2])]

    def resets(self) -> dict[int, int]:
        """Which streams were reset, and with which code."""
        return {one[2]: int.from_bytes(one[3], "big") for one in self.heard if one[0] == RST_STREAM}

    @property
    def goaway(self) -> tuple[int, str] | None:
        """Code and words of the last GOAWAY; None while there was none."""
        told = self.of(GOAWAY)
        return (int.from_bytes(told[-1][4:8], "big"), told[-1][8:].decode()) if told else None

    @property
    def open(self) -> bool:
        return self.scripted.open and not self.scripted.ended


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Any frame."""
    return frame_head(len(payload), kind, flags, stream) + payload


def block_of(method: str = "GET", path: str = "/", *fields: tuple[str, str]) -> bytes:
    """The field block of a request, which leaves nothing in a table."""
    pseudo = ((":method", method), (":scheme", "http"), (":authority", HOST), (":path", path))
    return b"".join(literal(name.encode(), value.encode()) for name, value in (*pseudo, *fields))


def request(stream: int, *more: Any, method: str = "GET", path: str = "/", ended: bool = True) -> bytes:
    """A request in one frame of HEADERS."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), stream, block_of(method, path, *more))


class Http2Town:
    """A balancer with these backends, by default one at b:80, and a listener of HTTP/2. `faults`: the chances of what goes wrong."""

    def __init__(
        self, *script: Any, early: bool = False, faults: Chances | None = None, seed: int = 0, **options: Any
    ) -> None:
        self.clock = HeapClock(1000.0)
        things = None if faults is None else Faults(self.clock, Random(seed), faults)
        self.network = MemoryNetwork(self.clock, faults=things)
        pool = {"backends": ["b:80"], "health_check": {"interval_s": 0}}
        web = {"address": "127.0.0.1:1", **options.pop("listener", {})}
        config = LoadBalancerConfig.model_validate(
            {"pools": {"default": pool}, "listeners": {"default": web}, **options}
        )
        self.balanced = Balanced(config, self.network)
        self.frontend = self.balanced.frontend
        self.backend = ScriptedBackend(self.network, "b:80", script, early=early)
        clock = self.balanced.runtime.clock
        self.connections: list[Http2] = []
        self.network.listen(ADDRESS, lambda: Foreign(clock, self._build()))

    def _build(self) -> Http2:
        self.connections.append(Http2(self.frontend))
        return self.connections[-1]

    def client(self, **options: Any) -> Http2Client:
        return Http2Client(self, **options)

    def raw(self, **options: Any) -> RawClient:
        return RawClient(self, **options)

    @property
    def requests(self) -> list[bytes]:
        """What the backend was asked, in order."""
        return [request for connection in self.backend.connections for request in connection.requests]
