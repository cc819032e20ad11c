"""Backends of the fault network: they answer well, badly, late or not at all, and die and come back."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from faults.actor import Actor, Story
from faults.agents import PORT, Agents, Line
from faults.pattern import in_chunks, in_pieces, pattern, size
from faults.reader import Message, Reader
from faults.tempers import Temper, begin_spells
from faults.tls_ends import Layer
from twisted.python.failure import Failure

from twisted_lb.testing import HeapClock, MemoryListener, MemoryNetwork, MemoryTransport

GARBAGE = [
    b"HTTP/1.1 600 What\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: unheard-of\r\nConnection: Upgrade\r\n\r\n",
]
THEIR_DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
# What comes behind an answer without being asked for, at once or a little later.
EXTRA = [b"!", b"extra bytes\r\n\r\n", b"\r\n\r\n<html>"]

# How a request is treated, and how often.
TREATMENTS = {
    "answer": 70,
    "answer early": 8,
    "answer late": 3,
    "never": 1,
    "close": 3,
    "reset": 3,
    "die in the head": 3,
    "die in the body": 5,
    "stall in the body": 1,
    "garbage": 4,
    "bad chunk": 2,
    "extra": 3,
    "talk on": 2,
    "restart": 1,
    "read slowly": 2,
}


@dataclass
class Answer:
    """What a backend has to say to one request; `nonce` is in the head, and the body is made of it."""

    nonce: str
    body: bytes
    wire: bytes
    head_bytes: int
    closes: bool
    framing: str

    @property
    def until_close(self) -> bool:
        return self.framing == "close"


@dataclass
class Manners:
    """What a backend is like."""

    idle_s: float
    announces: bool
    closes_often: float
    calm: bool = False
    treatments: dict[str, int] = field(default_factory=lambda: dict(TREATMENTS))


class Server:
    """A backend at an address of the network."""

    def __init__(self, network: MemoryNetwork, address: str, rng: random.Random, note: Callable[[str], None]) -> None:
        self.address = address
        self.connections: list[Serving] = []
        self.answers: dict[str, Answer] = {}
        self.agents = Agents(0, wanted=False)
        self.calm = False
        self.logins: random.Random | None = None  # chance, where it asks for a login
        self.bulky = False  # whether its answers are mostly beyond every buffer
        self.temper = Temper()
        self.side = random.Random()  # decides what follows from its temper
        self.frozen = False
        self.froze = 0  # how often
        self.outages = 0
        self.hasty = 0  # how often it closed behind an answer
        self.manners = Manners(
            idle_s=rng.choice([0.5, 2.0, 30.0]), announces=rng.random() < 0.3, closes_often=rng.choice([0.02, 0.2])
        )
        self.network = network
        self.rng = rng
        self.note = note
        self.behind: Callable[[Serving], Layer | Serving] = lambda serving: serving  # what transports are given to
        self._listener: MemoryListener | None = None
        self.start()

    def say_of_themselves(self, agents: Agents) -> None:
        """Have an agent from now on, if there are any in this town."""
        self.agents = agents
        if agents.kind == "port":
            self.network.listen(f"{self.address.removesuffix(':80')}:{PORT}", lambda: Line(agents, self))

    def start(self) -> None:
        if self._listener is None:
            self._listener = self.network.listen(self.address, self._accept)

    def _accept(self) -> "Layer | Serving":
        self.connections.append(Serving(self))
        return self.behind(self.connections[-1])

    def begin(self, temper: Temper, side: random.Random) -> None:
        """Be so from now on."""
        self.temper = temper
        self.side = side
        clock: HeapClock = self.network.clock  # type: ignore[assignment]
        begin_spells(clock, temper.frosts, self.freeze, self.thaw)
        begin_spells(clock, temper.outages, self._go_down, self._come_back)

    def freeze(self) -> None:
        """Accept from now on, and neither read nor say anything (SIGSTOP)."""
        if not (self.frozen or self.calm):
            self.note("freezes")
            self.frozen = True
            self.froze += 1
            for one in self.connections:
                one.freeze()

    def thaw(self) -> None:
        """Go on: what was asked meanwhile is answered, or, by one that thaws slowly, closed without a word."""
        if self.frozen:
            self.note("thaws")
            self.frozen = False
            for one in self.connections:
                one.thaw()

    def _go_down(self) -> None:
        if not self.calm:
            self.note("goes down")
            self.outages += 1
            self.stop()

    def stop(self) -> None:
        """Die: refuse from now on, reset or close what is connected."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        resets = self.rng.random() < 0.5
        for one in self.connections:
            one.die(reset=resets)

    def restart(self) -> None:
        self.note("dies")
        self.stop()
        self.network.clock.callLater(self.rng.uniform(0.0, 4.0), self._come_back)

    def _come_back(self) -> None:
        if self._listener is None:
            self.note("comes back")
            self.start()

    def closes_behind(self, answer: "Answer") -> bool:
        """Whether it closes now, though its answer did not say so."""
        haste = self.temper.haste
        if haste is None or self.calm or answer.closes or self.side.random() >= haste.share:
            return False
        self.hasty += 1
        return True

    def treatment(self) -> str:
        if self.calm:
            return "answer"
        treatments = self.manners.treatments
        return self.rng.choices(list(treatments), list(treatments.values()))[0]

    def answer_to(self, request: Message) -> Answer:
        """Any good answer."""
        rng = self.rng
        nonce = f"n{len(self.answers)}@{self.address}"
        name = request.target.decode().removeprefix("/r/")
        body = pattern(nonce, size(rng, bulky=self.bulky))
        status = rng.choices(
            ["200 OK", "404 Not Found", "500 Oops", "204 No Content", "304 Not Modified"], [20, 2, 2, 2, 1]
        )[0]
        lines = [f"X-Nonce: {nonce}", f"X-Name: {name}"]
        if self.logins is not None and status == "200 OK" and self.logins.random() < 0.3:
            status = "401 Who"
            lines.append('WWW-Authenticate: Basic realm="a, b", NTLM')
        if rng.random() < 0.5:
            lines.append(f"Date: {THEIR_DATE}")
        closes = rng.random() < self.manners.closes_often
        framing = rng.choices(["length", "chunked", "close"], [12, 6, 2])[0]
        bodiless = status[:3] in ("204", "304")
        sent = b""
        version = 1
        if framing == "length":
            if status[:3] != "204":
                lines.append(f"Content-Length: {len(body)}")
            sent = body
        elif framing == "chunked" and not bodiless:
            lines.append("Transfer-Encoding: chunked")
            sent = in_chunks(rng, body, b"X-Sum: 1\r\n" if rng.random() < 0.2 else b"")
        else:
            version = rng.choice([0, 1])
            closes = closes or (not bodiless and request.method != b"HEAD")
            sent = body
        if bodiless or request.method == b"HEAD":
            sent = body = b""
            framing = "none"
        closes = closes or version == 0
        if closes and version == 1 and rng.random() < 0.7:
            lines.append("Connection: close")
        if self.manners.announces and not closes:
            lines.append(f"Keep-Alive: timeout={max(int(self.manners.idle_s), 1)}")
        head = "\r\n".join([f"HTTP/1.{version} {status}", *lines]).encode() + b"\r\n\r\n"
        self.answers[nonce] = answer = Answer(nonce, body, head + sent, len(head), closes, framing)
        return answer


class Serving(Actor):
    """One connection to a backend."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.network.clock)  # type: ignore[arg-type]
        self.ended = False
        self.lost: Failure | None = None
        self.transport: MemoryTransport | Layer | None = None
        self._server = server
        self._rng = server.rng
        self._reader = Reader()

    def makeConnection(self, transport: MemoryTransport | Layer) -> None:
        self.transport = transport
        if self._server.frozen:
            self.freeze()
        self.tell(self._life())

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        self.look()

    def freeze(self) -> None:
        super().freeze()
        if self.transport is not None:
            self.transport.pauseProducing()

    def thaw(self) -> None:
        if self.transport is not None and self.lost is None:
            if self._server.temper.slow_to_thaw and self.transport.pipes[0].bytes:
                self.die(reset=False)
            self.transport.resumeProducing()
        super().thaw()

    def readConnectionLost(self) -> None:
        self.ended = True
        self.look()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason
        self.stop()

    def die(self, *, reset: bool) -> None:
        self.stop()
        if self.transport is not None and reset:
            self.transport.abortConnection()
        elif isinstance(self.transport, Layer):
            self.transport.die()
        elif self.transport is not None:
            self.transport.loseConnection()

    def _life(self) -> Story:
        assert self.transport is not None
        for index in range(1000):
            requests = self._reader.messages
            yield (
                (lambda requests=requests, index=index: self.ended or _has_head(requests, index)),
                self._server.manners.idle_s,
            )
            if not _has_head(requests, index):
                break
            request = requests[index]
            if request.target == b"/health":
                story = self._answer_check()
            elif b"upgrade" in request.fields and self._rng.random() < 0.8:
                story = self._switch(request)
            else:
                story = self._treat(request, self._server.treatment())
            goes_on = yield from story
            if not goes_on:
                break
        self.transport.loseConnection()

    def _answer_check(self) -> Iterator[object]:
        status = "200 OK" if self._server.calm or self._rng.random() < 0.9 else self._rng.choice(["503 No", "204 Fine"])
        if not self._server.calm and self._rng.random() < 0.05:
            yield self._rng.uniform(0, 2.0)
        self._say(self._server.agents.answer(status, calm=self._server.calm))
        return True

    def _say(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def _treat(self, request: Message, treatment: str) -> Iterator[object]:
        rng, server = self._rng, self._server
        if treatment != "answer":
            server.note(f"treats {request.target.decode()}: {treatment}")
        early = treatment in ("answer early", "die in the head", "close", "reset") and rng.random() < 0.7
        if treatment == "read slowly":
            assert self.transport is not None
            self.transport.pauseProducing()
            yield rng.uniform(0, 3.0)
            self.transport.resumeProducing()
        if b"expect" in request.fields and rng.random() < 0.8:
            self._say(b"HTTP/1.1 100 Continue\r\n\r\n")
        if not early:
            yield (lambda: request.complete or self.ended), 20.0
            if not request.complete:
                return False
        yield rng.choice([0.0, 0.0, rng.uniform(0, 0.5)])
        if rng.random() < 0.05:
            self._say(b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n")
        if treatment == "never":
            yield (lambda: self.ended), 40.0
            return False
        if treatment == "restart":
            server.restart()
            return False
        if treatment in ("close", "reset"):
            self.die(reset=treatment == "reset")
            return False
        if treatment == "answer late":
            yield rng.uniform(0, 8.0)
        if treatment == "garbage":
            self._say(rng.choice(GARBAGE))
            yield rng.choice([0.0, 1.0])
            return False
        answer = server.answer_to(request)
        server.note(f"answers {request.target.decode()} with {answer.nonce}, {len(answer.wire)} bytes")
        return (yield from self._send(answer, treatment, request))

    def _send(self, answer: Answer, treatment: str, request: Message) -> Iterator[object]:
        rng, server = self._rng, self._server
        wire = answer.wire
        stop_at: int | None = None
        if treatment == "die in the head":
            stop_at = rng.randrange(answer.head_bytes)
        elif treatment in ("die in the body", "stall in the body"):
            stop_at = rng.randint(answer.head_bytes, max(len(wire) - 1, answer.head_bytes))
        elif treatment == "bad chunk" and answer.framing == "chunked":
            wire = wire[: answer.head_bytes] + in_chunks(rng, answer.body, broken=True)
        elif treatment == "extra" and not answer.until_close:
            wire += rng.choice(EXTRA)
        pieces = [wire] if rng.random() < 0.6 else in_pieces(rng, wire)
        said = 0
        for piece in pieces:
            if stop_at is not None and said + len(piece) >= stop_at:
                self._say(piece[: stop_at - said])
                if treatment == "stall in the body":
                    yield (lambda: self.ended), 20.0
                elif rng.random() < 0.5:
                    yield rng.uniform(0, 1.0)
                self.die(reset=rng.random() < 0.5)
                return False
            self._say(piece)
            said += len(piece)
            if len(pieces) > 1:
                yield rng.choice([0.0, rng.uniform(0, 0.4)])
        if answer.closes:
            return False
        if request.complete and treatment == "answer" and server.closes_behind(answer):
            assert server.temper.haste is not None
            yield server.temper.haste.pause_s
            return False
        if not request.complete:
            yield (lambda: request.complete or self.ended), 20.0
        if treatment == "talk on":
            yield rng.uniform(0, 0.5)
            self._say(rng.choice(EXTRA))
        return request.complete

    def _switch(self, request: Message) -> Iterator[object]:
        """Speak another protocol: some bytes of our own, and heed the end of the other side."""
        rng, server = self._rng, self._server
        nonce = f"n{len(server.answers)}@{server.address}"
        body = pattern(nonce, size(rng))
        name = request.target.decode().removeprefix("/r/")
        head = (
            f"HTTP/1.1 101 Switching Protocols\r\nX-Nonce: {nonce}\r\nX-Name: {name}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        ).encode()
        server.answers[nonce] = Answer(nonce, body, head + body, len(head), closes=True, framing="tunnel")
        server.note(f"switches {name} to a tunnel with {nonce}, {len(body)} bytes")
        self._reader.tunnel = bytearray()
        self._say(head)
        for piece in in_pieces(rng, body):
            self._say(piece)
            yield rng.choice([0.0, rng.uniform(0, 0.5)])
        if rng.random() < 0.5:
            assert self.transport is not None
            self.transport.loseWriteConnection()
        yield (lambda: self.ended), 20.0
        return False


def _has_head(messages: list[Message], index: int) -> bool:
    return len(messages) > index and messages[index].head_ends_at is not None
