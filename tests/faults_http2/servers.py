"""Backends that speak HTTP/2: they answer well, badly, late or not at all, give single streams up, say good-bye, and die."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults.actor import Actor, Story
from faults.pattern import in_pieces, pattern, size
from faults_http2.peer import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    NO_ERROR,
    REFUSED_STREAM,
    STREAMS,
    WINDOW,
    Peer,
    Stream,
)
from hyperframe.frame import GoAwayFrame
from twisted.python.failure import Failure

from twisted_lb.testing import HeapClock, MemoryListener, MemoryNetwork

TREATMENTS = {
    "answer": 70,
    "answer early": 8,
    "answer late": 3,
    "never": 1,
    "refuse": 4,
    "give up": 12,
    "give up in the body": 5,
    "stall in the body": 1,
    "die": 2,
    "die in the body": 3,
    "good-bye": 4,
    "good-bye to all": 3,
    "garbage": 3,
    "no credit": 2,
    "another length": 2,
    "restart": 1,
}


@dataclass
class Answer:
    """What a backend has to say to one request; `nonce` is in the head, and the body is made of it. `whole`: it said all of it."""

    nonce: str
    body: bytes
    trails: bool
    until_close: bool = False
    whole: bool = False


class Server:
    """A backend at an address of the network."""

    def __init__(
        self,
        network: MemoryNetwork,
        address: str,
        rng: random.Random,
        note: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        self.address = address
        self.connections: list[Serving] = []
        self.answers: dict[str, Answer] = {}
        self.calm = False
        self.network = network
        self.rng = rng
        self.note = note
        self.complain = complain
        self.bulky = False
        self._listener: MemoryListener | None = None
        self.start()

    def start(self) -> None:
        if self._listener is None:
            self._listener = self.network.listen(self.address, self._accept)  # type: ignore[arg-type]

    def _accept(self) -> "Serving":
        self.connections.append(Serving(self))
        return self.connections[-1]

    def restart(self) -> None:
        self.note("dies")
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        resets = self.rng.random() < 0.5
        for one in self.connections:
            one.die(reset=resets)
        self.network.clock.callLater(self.rng.uniform(0.0, 4.0), self.start)

    def treatment(self) -> str:
        return "answer" if self.calm else self.rng.choices(list(TREATMENTS), list(TREATMENTS.values()))[0]


class ServerPeer(Peer):
    """The wire of a backend."""

    client = False

    def __init__(self, serving: "Serving", *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._serving = serving

    def told(self, stream: Stream | None, size: int = 0) -> None:
        self._serving.told(stream, size)


class Serving:
    """One connection to a backend."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.ended = False
        self.lost: Failure | None = None
        self.transport: Any = None
        self.calls: dict[int, Call] = {}
        self.gone_at: int | None = None  # it serves no stream above this one
        rng = server.rng
        settings = rng.choice(
            [{}, {}, {STREAMS: rng.choice([1, 2, 100])}, {WINDOW: rng.choice([0, 100, 5000, 1 << 20])}]
        )
        clock: HeapClock = server.network.clock  # type: ignore[assignment]
        pause_s = rng.choice([0.0, 0.0, 0.0, 0.02])
        self._shut = settings.get(WINDOW, 65535) < 5000
        self.peer = ServerPeer(
            self, clock, rng, settings, lambda text: server.complain(f"{server.address}: {text}"), pause_s
        )

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.peer.begin(transport)

    def dataReceived(self, data: bytes) -> None:
        preface = 24
        if self.peer._first and not self.peer.streams:
            self.peer._buffer += data
            if len(self.peer._buffer) < preface:
                return
            data, self.peer._buffer = self.peer._buffer[preface:], b""
            self.peer._first = False
        self.peer.hear(data)

    def readConnectionLost(self) -> None:
        self.ended = True
        self._all_look()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason
        self._all_look()

    def _all_look(self) -> None:
        for call in list(self.calls.values()):
            call.look()

    @property
    def over(self) -> bool:
        return self.ended or self.lost is not None or self.transport.disconnecting

    def die(self, *, reset: bool) -> None:
        self.peer.mute = True
        for call in self.calls.values():
            call.stop()
        if self.transport is None:
            return
        if reset:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def good_bye(self, last: int, code: int = NO_ERROR) -> None:
        """GOAWAY."""
        if self.gone_at is None or last < self.gone_at:
            self.gone_at = last
            self.peer.send(GoAwayFrame(0, last_stream_id=last, error_code=code))

    def told(self, stream: Stream | None, size: int) -> None:
        """See Peer."""
        if stream is None:
            self._all_look()
            return
        if size:
            self.peer.credit(None, size)
        call = self.calls.get(stream.number)
        if call is None and stream.heads:
            call = self.calls[stream.number] = Call(self, stream)
            call.begin()
        if call is not None:
            call.heard(size)

    def __repr__(self) -> str:
        return f"<Serving at {self.server.address}, {len(self.calls)} calls>"


class Call(Actor):
    """One request, and what it is answered. `begun`: the backend may have done something for it."""

    def __init__(self, serving: Serving, stream: Stream) -> None:
        super().__init__(serving.peer.clock)
        self.serving = serving
        self.stream = stream
        self.begun = True
        self.head = dict(stream.heads[-1])
        self.treatment = ""

    @property
    def name(self) -> str:
        return self.head[":path"].removeprefix("/r/")

    @property
    def _over(self) -> bool:
        return self.serving.over or self.stream.reset is not None or self.stream.given_up is not None

    def begin(self) -> None:
        server, gone = self.serving.server, self.serving.gone_at
        if gone is not None and self.stream.number > gone:
            self.begun = False  # it was on its way when we said good-bye
            return
        if self.serving._shut:
            self.clock.callLater(server.rng.uniform(0, 2.0), self._open_window)
        if self.head[":path"] == "/health":
            self.tell(self._answer_check())
        else:
            self.treatment = server.treatment()
            self.tell(self._treat())

    def _open_window(self) -> None:
        if not self._over and self.treatment != "no credit":
            self.serving.peer.credit(self.stream, 65535)

    def heard(self, size: int) -> None:
        """More of the request has come."""
        if size and self.treatment != "no credit" and not self._over:
            self.serving.peer.credit(self.stream, size)
        self.look()

    def _answer_check(self) -> Story:
        yield (lambda: self.stream.heard_end or self._over), 5.0
        if not self._over:
            rng = self.serving.server.rng
            status = "200" if self.serving.server.calm or rng.random() < 0.9 else "503"
            self.serving.peer.send_block(self.stream.number, [(":status", status)], ended=True)

    def _treat(self) -> Story:
        server, peer, stream, rng = self.serving.server, self.serving.peer, self.stream, self.serving.server.rng
        treatment = self.treatment
        if treatment != "answer":
            server.note(f"treats {self.name}: {treatment}")
        if treatment == "refuse":
            self.begun = False
            peer.give_up(stream, REFUSED_STREAM)
            return
        if treatment == "good-bye to all":
            self.begun = False
            before = [number for number in self.serving.calls if number < stream.number]
            self.serving.good_bye(max(before, default=0))
            return
        if self.head.get("expect") and rng.random() < 0.8:
            peer.send_block(stream.number, [(":status", "100")], ended=False)
        early = treatment in ("answer early", "give up", "die") and rng.random() < 0.7
        if not early:
            yield (lambda: stream.heard_end or self._over), 20.0
            if not stream.heard_end:
                return
        yield rng.choice([0.0, 0.0, rng.uniform(0, 0.5)])
        if self._over:
            return
        if rng.random() < 0.05:
            peer.send_block(stream.number, [(":status", "103"), ("link", "</s.css>")], ended=False)
        if treatment == "never":
            return
        if treatment == "restart":
            server.restart()
            return
        if treatment == "die":
            self.serving.die(reset=rng.random() < 0.5)
            return
        if treatment == "give up":
            peer.give_up(stream, rng.choice([INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM, NO_ERROR]))
            return
        if treatment == "good-bye":
            self.serving.good_bye(max(self.serving.calls))
        if treatment == "answer late":
            yield rng.uniform(0, 8.0)
        if treatment == "garbage":
            self._talk_nonsense()
            return
        if not self._over:
            yield from self._answer()

    def _talk_nonsense(self) -> None:
        rng, peer, number = self.serving.server.rng, self.serving.peer, self.stream.number
        bad = rng.choice(
            [
                [(":status", "101")],
                [("x-a", "b")],
                [(":status", "200"), ("connection", "close")],
                [(":status", "200"), ("content-length", "3"), ("content-length", "4")],
                [(":status", "2000")],
            ]
        )
        peer.send_block(number, bad, ended=rng.random() < 0.5)

    def _answer(self) -> Story:
        server, peer, stream, rng = self.serving.server, self.serving.peer, self.stream, self.serving.server.rng
        nonce = f"n{len(server.answers)}@{server.address}"
        status = rng.choices(["200", "404", "500", "204", "304"], [20, 2, 2, 2, 1])[0]
        bodiless = status in ("204", "304") or self.head[":method"] == "HEAD"
        body = b"" if bodiless else pattern(nonce, size(rng, bulky=server.bulky))
        trails = not bodiless and rng.random() < 0.2
        answer = server.answers[nonce] = Answer(nonce, body, trails)
        fields = [(":status", status), ("x-nonce", nonce), ("x-name", self.name)]
        said = len(body)
        if self.treatment == "another length" and not bodiless:
            said += rng.choice([-1, 1]) if body else 1
        says = not bodiless and (rng.random() < 0.6 or said != len(body))
        if says:
            fields.append(("content-length", str(said)))
        server.note(f"answers {self.name} with {nonce}, {len(body)} bytes{' and trailers' if trails else ''}")
        ended = not body and not trails and rng.random() < 0.8
        peer.send_block(stream.number, fields, ended=ended)
        answer.whole = bodiless or (says and not said) or (ended and said == len(body))
        if ended:
            return
        stops_at = None
        if self.treatment in ("give up in the body", "stall in the body", "die in the body"):
            stops_at = rng.randint(0, max(len(body) - 1, 0))
        left, sent = in_pieces(rng, body) or [], 0
        while left:
            if self._over:
                return
            room = peer.data_room(stream)
            if not room:
                yield (lambda: self._over or peer.data_room(stream) > 0), 40.0
                if not peer.data_room(stream):
                    return
                continue
            piece = left[0][:room]
            left[0] = left[0][room:]
            if not left[0]:
                left.pop(0)
            if stops_at is not None and sent + len(piece) >= stops_at:
                peer.send_data(stream, piece[: stops_at - sent], ended=False)
                if rng.random() < 0.5:
                    yield rng.uniform(0, 1.0)
                self._stop_in_the_body()
                return
            sent += len(piece)
            last = not left and not trails and rng.random() < 0.7
            answer.whole = last and said == len(body)
            peer.send_data(stream, piece, ended=last)
            if last:
                return
            if rng.random() < 0.2:
                yield rng.choice([0.0, rng.uniform(0, 0.4)])
        if self._over:
            return
        if stops_at is not None:
            self._stop_in_the_body()
            return
        answer.whole = said == len(body)
        if trails:
            peer.send_block(stream.number, [("x-sum", "1")], ended=True)
        else:
            peer.send_data(stream, b"", ended=True)

    def _stop_in_the_body(self) -> None:
        rng = self.serving.server.rng
        if self.treatment == "die in the body":
            self.serving.die(reset=rng.random() < 0.5)
        elif self.treatment == "give up in the body" and not self._over:
            self.serving.peer.give_up(self.stream, rng.choice([INTERNAL_ERROR, CANCEL, NO_ERROR]))
