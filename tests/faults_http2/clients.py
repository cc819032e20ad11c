"""Clients of HTTP/2: connections, and the requests that share them as streams, each a story of its own."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from faults.actor import Actor, Story
from faults.clients import METHODS, PATIENCE_S
from faults.pattern import pattern, size
from faults_http2.peer import CANCEL, STREAMS, TABLE_SIZE, WINDOW, WINDOW_BYTES, Fields, Peer, Stream
from hyperframe.frame import GoAwayFrame
from twisted.python.failure import Failure

from twisted_lb.testing import HeapClock, MemoryNetwork

# How a client gives credit: for all at once, by and by, not before a while has passed, or never.
CREDITS = ["at once"] * 5 + ["by and by"] * 3 + ["late", "never"]
# What is wrong with a request.
FAULTS = ["too little", "too much", "no end"]


@dataclass
class Ask:
    """One request: its name is in its path, and its body is made of it. `fault`: what is wrong with it, if anything."""

    name: str
    method: str
    body: bytes
    fields: Fields
    says_length: bool
    expects: bool
    trails: bool
    fault: str
    gives_up: float | None  # after so long


class Asking(Actor):
    """One request on its way."""

    def __init__(self, client: "Client", ask: Ask) -> None:
        super().__init__(client.clock)
        self.ask = ask
        self.client = client
        self.stream: Stream | None = None
        self.gave_up_at: float | None = None
        self.given_up = ""  # what it waited for in vain
        self.starves = False  # its body waits, since the connection takes no more
        self._credit = 0
        self._crediting = False
        self._how = client.rng.choice(CREDITS) if client.credits == "mixed" else client.credits

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.client.over or (self.stream is not None and self.stream.over)

    def live(self) -> Story:
        """Ask, send what there is to send, and wait for the end."""
        client, ask, rng = self.client, self.ask, self.client.rng
        yield rng.choice([0.0, 0.0, rng.uniform(0, 2.0)])
        if client.over or client.leaves:
            return
        bodiless = not ask.body and ask.fault != "no end" and not ask.trails
        stream = self.stream = client.begin(self)
        ended = bodiless and rng.random() < 0.8
        client.note(f"asks {ask.method} {ask.name} on {stream.number}, {len(ask.body)} bytes {ask.fault}")
        client.peer.send_block(stream.number, ask.fields, ended=ended)
        if ask.gives_up is not None:
            self.clock.callLater(ask.gives_up, self._give_up)
        if ask.expects and not ended:
            yield (lambda: self.over or bool(stream.heads)), 1.0
        if not ended:
            yield from self._send(stream)
        for _ in range(1000):
            heard = len(stream.body), len(stream.heads)
            yield (lambda heard=heard: self.over or (len(stream.body), len(stream.heads)) != heard), PATIENCE_S
            if self.over:
                break
            if (len(stream.body), len(stream.heads)) == heard:
                self.given_up = f"the end of {ask.name}"
                client.note(f"waits in vain for {ask.name}")
                break
            if len(stream.body) == heard[0]:
                continue
            yield 0.3

    def _send(self, stream: Stream) -> Story:
        ask, peer, rng = self.ask, self.client.peer, self.client.rng
        left = ask.body + b"!" if ask.fault == "too much" else ask.body
        left = left[: rng.randrange(len(left))] if ask.fault == "too little" else left
        small = rng.random() < 0.15
        while True:
            if self._done(stream):
                return
            room = peer.data_room(stream)
            self.starves = bool(left) and peer.window <= 0
            if left and not room:
                yield (lambda: self._done(stream) or peer.data_room(stream) > 0), PATIENCE_S
                if not self._done(stream) and not peer.data_room(stream):
                    self.given_up = f"room for the body of {ask.name}"
                    return
                continue
            most = min(room, rng.choice([1, 100, 5000]) if small and len(left) < 20000 else room)
            piece, left = left[:most], left[most:]
            last = not left and not ask.trails and ask.fault != "no end" and rng.random() < 0.7
            if piece or last:
                peer.send_data(stream, piece, ended=last)
            if not left:
                break
            if rng.random() < 0.1:
                yield rng.choice([0.0, rng.uniform(0, 0.5), rng.uniform(0, 2.0)])
        if stream.said_end or ask.fault == "no end" or self._done(stream):
            return
        yield rng.choice([0.0, rng.uniform(0, 1.0)])
        if self._done(stream):
            return
        if ask.trails:
            peer.send_block(stream.number, [("x-sum", "1")], ended=True)
        else:
            peer.send_data(stream, b"", ended=True)

    def _done(self, stream: Stream) -> bool:
        return self.client.over or stream.reset is not None or stream.given_up is not None or self.client.peer.mute

    def _give_up(self) -> None:
        stream = self.stream
        if stream is not None and not self.over:
            self.client.note(f"gives {self.ask.name} up")
            self.gave_up_at = self.clock.seconds()
            self.client.peer.give_up(stream, CANCEL)
            self.look()

    # Credit for what has come.

    def heard(self, size: int) -> None:
        """Something has come, of which so much takes of the windows."""
        self._credit += size
        if self._credit and not self._crediting and self._how != "never":
            rng = self.client.rng
            wait_s = {"at once": 0.0, "by and by": rng.uniform(0, 0.3), "late": rng.uniform(0, 6.0)}[self._how]
            if wait_s:
                self._crediting = True
                self.clock.callLater(wait_s, self._pay)
            else:
                self._pay()
        self.look()

    def open_window(self) -> None:
        """The window was shut from the beginning: open it, unless the client never does."""
        if self._how != "never" and self.stream is not None and not self.client.over:
            self.client.peer.credit(self.stream, self.client.rng.choice([1000, 30_000, 100_000]))

    def _pay(self) -> None:
        self._crediting = False
        credit, self._credit = self._credit, 0
        if self.stream is not None and not self.client.over:
            self.client.peer.credit(self.stream, credit)

    def __repr__(self) -> str:
        return f"<Asking {self.ask.name} of {self.client.name}>"


class ClientPeer(Peer):
    """The wire of a client."""

    def __init__(self, client: "Client", *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._client = client

    def without_body(self, stream: Stream) -> bool:
        asking = self._client.by_stream[stream.number]
        return asking.ask.method == "HEAD" or stream.head.get(":status") == "304"

    def told(self, stream: Stream | None, size: int = 0) -> None:
        self._client.told(stream, size)


class Client(Actor):
    """One connection of a client."""

    def __init__(
        self,
        network: MemoryNetwork,
        address: str,
        name: str,
        rng: random.Random,
        note: Callable[[str], None],
        complain: Callable[[str], None],
    ) -> None:
        clock: HeapClock = network.clock  # type: ignore[assignment]
        super().__init__(clock)
        self.name = name
        self.host = f"10.0.0.{1 + int(name[1:])}"
        self.rng = rng
        self.note = note
        self.askings: list[Asking] = []
        self.by_stream: dict[int, Asking] = {}
        self.lost: Failure | None = None
        self.ended = False
        self.left = ""  # how it left by itself
        self.leaves = False  # asks no more
        settings = {2: 0}
        windows = rng.choice([{}, {}, {}, {WINDOW: 0}, {WINDOW: 1}, {WINDOW: 100}, {WINDOW: 5000}, {WINDOW: 1 << 20}])
        settings |= windows
        if rng.random() < 0.2:
            settings[TABLE_SIZE] = rng.choice([0, 100, 65536])
        self.credits = rng.choice(["at once", "at once", "mixed", "mixed"])
        self._shut = settings.get(WINDOW, WINDOW_BYTES) < 5000
        self.dribbles = self._shut  # opens windows by little
        self._wide = rng.random() < 0.4
        # Sends more than the window of a connection takes at a time.
        self.heavy = rng.random() < 0.04
        # With the window of the connection: it gives nothing before half of it is used, or before some time has passed.
        self._stingy = rng.choice(["", "", "half", "late"])
        self._credit = 0
        self._slow = rng.random() < 0.1
        self._resting = False
        pause_s = rng.choice([0.0, 0.0, 0.0, 0.01, 0.1])
        self.reads_at_once = not (self._slow or pause_s)
        self.peer = ClientPeer(self, clock, rng, settings, lambda text: complain(f"{name}: {text}"), pause_s)
        self._network = network
        self._address = address
        self.transport: Any = None

    def connect(self) -> None:
        try:
            self.transport = self._network.connect(self._address, self, self.host)  # type: ignore[arg-type]
        except ConnectionRefusedError:
            self.left = "refused"
            self.note("is refused")
            return
        self.tell(self._life())

    # The protocol.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.peer.begin(transport)
        if self._wide:
            self.peer.credit(None, 1 << 20)

    def dataReceived(self, data: bytes) -> None:
        self.peer.hear(data)
        if self._slow and not self._resting:
            self._resting = True
            self.transport.pauseProducing()
            self.clock.callLater(self.rng.uniform(0, 0.5), self._read_on)
        self.look()

    def _read_on(self) -> None:
        self._resting = False
        self.transport.resumeProducing()

    def told(self, stream: Stream | None, size: int) -> None:
        """See Peer."""
        if stream is None:
            for asking in self.askings:
                asking.look()
            return
        if size:
            self._credit += size
            if not self._stingy or (self._stingy == "half" and self._credit > WINDOW_BYTES // 2):
                self._pay()
            elif self._credit == size:
                self.clock.callLater(self.rng.uniform(0.1, 1.0), self._pay)
        asking = self.by_stream.get(stream.number)
        if asking is not None:
            asking.heard(size)

    def _pay(self) -> None:
        credit, self._credit = self._credit, 0
        if not self.over:
            self.peer.credit(None, credit)

    def readConnectionLost(self) -> None:
        self.ended = True
        self._all_look()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason
        self.note("is lost" if self.left == "" else "is gone")
        self._all_look()

    def _all_look(self) -> None:
        for asking in self.askings:
            asking.look()
        self.look()

    # The life.

    @property
    def over(self) -> bool:
        return self.lost is not None or self.ended or self.transport is None or self.transport.disconnecting

    @property
    def done_all(self) -> bool:
        """Whether nobody of it waits for anything."""
        return self.done and all(asking.done for asking in self.askings)

    def begin(self, asking: Asking) -> Stream:
        """Open a stream for a request."""
        number = max(self.peer.streams, default=-1) + 2
        self.by_stream[number] = asking
        stream = self.peer.open(number)
        if self._shut:
            self.clock.callLater(self.rng.choice([0.0, self.rng.uniform(0, 3.0)]), asking.open_window)
        return stream

    def _ask(self, index: int, *, bulky: bool) -> Ask:
        rng = self.rng
        name = f"{self.name}r{index}"
        method = "PUT" if self.heavy else rng.choice(METHODS)
        has_body = method in ("POST", "PUT", "PATCH")
        length = rng.randrange(150_000, 350_000) if self.heavy else size(rng, bulky=bulky)
        body = pattern(name, length) if has_body else b""
        fault = rng.choice(FAULTS) if has_body and body and rng.random() < 0.06 else ""
        says_length = bool(body) and (fault in ("too little", "too much") or rng.random() < 0.6)
        expects = bool(body) and rng.random() < 0.15
        trails = has_body and not fault and rng.random() < 0.15
        fields = [(":method", method), (":scheme", "http"), (":authority", "app"), (":path", f"/r/{name}")]
        rng.shuffle(fields)
        if says_length:
            fields.append(("content-length", str(len(body))))
        if expects:
            fields.append(("expect", "100-continue"))
        fields += [(f"x-filler-{one}", "y" * rng.randrange(200)) for one in range(rng.choice([0, 0, 1, 8]))]
        fields += [("cookie", f"a{one}=b") for one in range(rng.choice([0, 0, 0, 3]))]
        gives_up = rng.choice([0.0, rng.uniform(0, 0.1), rng.uniform(0, 4.0)]) if rng.random() < 0.12 else None
        return Ask(name, method, body, fields, says_length, expects, trails, fault, gives_up)

    def _life(self) -> Story:
        rng = self.rng
        bulky = rng.random() < 0.2
        yield rng.uniform(0, 1.0)
        if rng.random() < 0.25:
            self.clock.callLater(rng.uniform(0, 4.0), self._leave)
        index = 0
        for _ in range(rng.choice([1, 1, 2, 3])):
            if self.over or self.leaves or self.peer.went:
                break
            some = []
            many = 150 if rng.random() < 0.01 else rng.choice([1, 1, 2, 3, 5, 12])
            for _ in range(6 if self.heavy else many):
                some.append(Asking(self, self._ask(index, bulky=bulky)))
                index += 1
            self.askings += some
            for asking in some:
                asking.tell(asking.live())
            if rng.random() < 0.5:
                self.clock.callLater(rng.choice([0.0, rng.uniform(0, 3.0)]), self._say_something)
            yield (lambda some=some: self.over or all(one.done for one in some)), 5 * PATIENCE_S
            if rng.random() < 0.3:
                yield rng.choice([rng.uniform(0, 0.5), rng.uniform(0, 4.0)])
        yield (lambda: self.over or all(one.done for one in self.askings)), 5 * PATIENCE_S
        if not self.over and rng.random() < 0.3:
            yield (lambda: self.over), PATIENCE_S
            if not self.over and not self.left:
                self.left = "waited in vain for the end of an idle connection"
        self.left = self.left or "done"
        self.transport.loseConnection()

    def _say_something(self) -> None:
        rng, peer = self.rng, self.peer
        if self.over or self.left:
            return
        if rng.random() < 0.4:
            peer.chat()
        else:
            window = rng.choice([0, 1, 100, 20_000, 65535, 100_000])
            self.dribbles = True
            peer.change_settings({WINDOW: window, STREAMS: 7})
            # Windows may have become negative; what is missing is given later.
            self.clock.callLater(rng.uniform(0, 2.0), self._open_again)

    def _open_again(self) -> None:
        if not self.over:
            self.peer.change_settings({WINDOW: 65535})

    def _leave(self) -> None:
        if self.over or self.done:
            return
        how = self.rng.choice(["close", "reset", "half-close", "stop reading", "goaway", "mute", "half a head"])
        self.left = how
        self.leaves = True
        self.note(f"leaves: {how}")
        if how == "close":
            self.transport.loseConnection()
        elif how == "reset":
            self.transport.abortConnection()
        elif how == "half-close":
            self.peer.mute = True
            self.transport.loseWriteConnection()
        elif how == "stop reading":
            self._slow = False
            self.transport.pauseProducing()
            self.clock.callLater(30.0, self.transport.loseConnection)
        elif how == "goaway":
            self.peer.send(GoAwayFrame(0))
        elif how == "mute":
            self.peer.mute = True
        else:
            number = max(self.peer.streams, default=-1) + 2
            self.peer.send_block(number, [(":method", "GET"), (":path", "/")], ended=False, whole=False)
            self.peer.mute = True
        self._all_look()

    def __repr__(self) -> str:
        return f"<Client {self.name}: {len(self.askings)} asked>"
