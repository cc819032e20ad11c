"""Clients of the fault network: what they ask, how they send it, how they read, and how they leave, all by chance."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from faults.actor import Actor, Story
from faults.marks import PLAIN, Mark
from faults.pattern import in_chunks, in_pieces, pattern, size
from faults.reader import Reader
from faults.tls_ends import Layer
from twisted.python.failure import Failure

from twisted_lb.testing import MemoryNetwork, MemoryTransport

# Longer than everything that the balancer may wait for, see town.TIMEOUTS.
PATIENCE_S = 60.0
METHODS = ["GET"] * 8 + ["POST"] * 4 + ["PUT"] * 4 + ["HEAD"] * 2 + ["DELETE", "PATCH", "OPTIONS"]


@dataclass
class Ask:
    """One request: its name is in its target, and its body is made of it."""

    name: str
    method: str
    wire: bytes
    body: bytes
    head_bytes: int
    closes: bool
    expects: bool
    tunnel: bytes | None = None
    faulty: bool = False  # its body is broken, and not by the network
    mark: Mark = PLAIN


def make_ask(
    rng: random.Random, name: str, *, last: bool, upgrade: bool, bulky: bool, login: str = "", mark: Mark = PLAIN
) -> Ask:
    """A request as some client would send it, with these credentials, and this mark."""
    method = "GET" if upgrade else rng.choice(METHODS)
    old = rng.random() < 0.15 and not upgrade
    lines = [f"{method} /r/{name} HTTP/1.{0 if old else 1}", "Host: app"]
    if old and rng.random() < 0.5:
        lines.append("Connection: keep-alive")
    closes = rng.random() < (0.3 if last else 0.03)
    if closes and not old:
        lines.append("Connection: close")
    if login:
        lines.append(f"Authorization: {login} {name}")
    lines += mark.lines
    lines += [f"X-Filler-{index}: {'y' * rng.randrange(200)}" for index in range(rng.choice([0, 0, 1, 8]))]
    body, sent = b"", b""
    expects = faulty = False
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade"]
    elif method in ("POST", "PUT", "PATCH"):
        body = pattern(name, size(rng, bulky=bulky))
        chunked = not old and rng.random() < 0.4
        if chunked:
            lines.append("Transfer-Encoding: chunked")
            faulty = rng.random() < 0.05
            sent = in_chunks(rng, body, b"X-Sum: 1\r\n" if rng.random() < 0.2 else b"", broken=faulty)
        else:
            lines.append(f"Content-Length: {len(body)}")
            sent = body
        expects = not old and bool(body) and rng.random() < 0.2
        if expects:
            lines.append("Expect: 100-continue")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    closes = closes or (old and "Connection: keep-alive" not in lines)
    return Ask(
        name,
        method,
        head + sent,
        body,
        len(head),
        closes,
        expects,
        pattern(name + "t", size(rng, bulky=bulky)) if upgrade else None,
        faulty,
        mark,
    )


class Client(Actor):
    """One connection of a client. `note` is told what it does."""

    def __init__(
        self, network: MemoryNetwork, address: str, name: str, rng: random.Random, note: Callable[[str], None]
    ) -> None:
        super().__init__(network.clock)  # type: ignore[arg-type]
        self.name = name
        self.host = f"10.0.0.{1 + int(name[1:])}"
        self.asks: list[Ask] = []
        self.lost: Failure | None = None
        self.ended = False
        self.left = ""  # how it left by itself
        self.given_up = ""  # what it waited for in vain
        self.finished_at: float | None = None
        self._rng = rng
        self._note = note
        self._reader = Reader(lambda index: self.asks[index].method.encode() if index < len(self.asks) else b"GET")
        self.logins: random.Random | None = None  # chance, where it may log in
        self.mark: Callable[[], Mark] = Mark  # of its next request
        self.eager = False  # sends all of its requests ahead, and reads what it gets slowly
        self._slow = rng.random() < 0.15
        self._resting = False
        self._network = network
        self._address = address
        self.transport: MemoryTransport | Layer | None = None
        self.shown = self.host  # the address that the balancer is to know it by
        self.behind: Callable[[Client], Layer | Client] = lambda client: client  # what its transport is given to

    def connect(self) -> None:
        protocol = self.behind(self)
        try:
            raw = self._network.connect(self._address, protocol, self.host)  # type: ignore[arg-type]
            self.transport = raw if protocol is self else protocol  # type: ignore[assignment]
        except ConnectionRefusedError:
            self.left = "refused"
            self._note("is refused")
            return
        self.tell(self._life())

    # The protocol.

    def makeConnection(self, transport: MemoryTransport | Layer) -> None:
        self.transport = transport

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        if (self._slow or self.eager) and not self._resting:
            assert self.transport is not None
            self._resting = True
            self.transport.pauseProducing()
            self.clock.callLater(self._rng.uniform(0, 0.5), self._read_on)
        self.look()

    def _read_on(self) -> None:
        self._resting = False
        if self.transport is not None:
            self.transport.resumeProducing()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._reader.end()
        self.look()

    def readConnectionCut(self) -> None:
        """What came ended without a good-bye: it may have been cut there (TLS)."""
        self.ended = True
        self._reader.end(reset=True)
        self.look()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = reason
        self._note("is lost" if self.left == "" else "is gone")
        self.look()

    # The life.

    @property
    def over(self) -> bool:
        return self.lost is not None or self.ended

    @property
    def _waits(self) -> bool:
        """Whether it could hear more: what is not HTTP is judged elsewhere, and who has closed hears nothing."""
        assert self.transport is not None
        return not (self.over or self._reader.broken or self.transport.disconnecting)

    def _answers(self) -> int:
        return sum(message.complete for message in self._reader.messages)

    def _life(self) -> Story:
        rng = self._rng
        ahead = rng.random() < 0.3 or self.eager
        count = rng.choice([1, 1, 2, 3, 4, 6])
        upgrades = rng.random() < 0.08
        bulky = rng.random() < (0.35 if ahead else 0.1)
        leaves_within = int(100_000 ** rng.random()) if rng.random() < 0.12 else None
        sent = 0
        yield rng.uniform(0, 1.5)
        for index in range(count):
            last = index == count - 1
            if self.over:
                break
            login = "" if self.logins is None else self.logins.choice(["", "", "NTLM", "Negotiate"])
            ask = make_ask(
                rng,
                f"{self.name}r{index}",
                last=last,
                upgrade=upgrades and last,
                bulky=bulky,
                login=login,
                mark=self.mark(),
            )
            if ask.tunnel is not None and ahead:
                yield (lambda: self.over or self._answers() >= len(self.asks)), PATIENCE_S
            self.asks.append(ask)
            self._note(
                f"asks {ask.method} {ask.name}, {len(ask.wire)} bytes{', tunnel' if ask.tunnel is not None else ''}"
            )
            for piece, pause_s in self._sending(ask):
                if leaves_within is not None and sent + len(piece) > leaves_within:
                    self._write(piece[: leaves_within - sent])
                    yield rng.choice([0.0, rng.uniform(0, 1.0)])
                    yield from self._leave()
                    return
                self._write(piece)
                sent += len(piece)
                if pause_s is None:
                    yield (
                        (lambda: self.over or (bool(self._reader.messages) and self._reader.messages[-1].interim)),
                        1.0,
                    )
                elif pause_s:
                    yield pause_s
                if self.over:
                    break
            if not ahead or last:
                yield from self._wait_for_answers()
                if rng.random() < 0.3:
                    yield rng.choice([rng.uniform(0, 0.5), rng.uniform(0, 4.0)])
        if self.asks and self.asks[-1].tunnel is not None and self._reader.tunnel is not None:
            yield from self._tunnel(self.asks[-1].tunnel)
        yield from self._end()

    def _sending(self, ask: Ask) -> list[tuple[bytes, float | None]]:
        """Pieces, each with the pause behind it; None: until the balancer says 100."""
        rng = self._rng
        if ask.expects:
            head, body = ask.wire[: ask.head_bytes], ask.wire[ask.head_bytes :]
            return [(head, None), *((piece, rng.choice([0.0, 0.1])) for piece in in_pieces(rng, body))]
        how = rng.random()
        if how < 0.6:
            return [(ask.wire, 0.0)]
        pauses = [0.0, rng.uniform(0, 0.4)]
        if how > 0.97:
            pauses = [0.0, rng.uniform(0, 6.0)]
        return [(piece, rng.choice(pauses)) for piece in in_pieces(rng, ask.wire)]

    def _write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def _wait_for_answers(self) -> Story:
        wanted = len(self.asks)
        if self._rng.random() < 0.05:
            yield (lambda: self.over or self._answers() >= wanted), self._rng.uniform(0, 3.0)
        else:
            yield (lambda: self.over or self._answers() >= wanted or bool(self._reader.broken)), PATIENCE_S
            if self._waits and self._answers() < wanted:
                self.given_up = f"answer {wanted}"

    def _tunnel(self, data: bytes) -> Story:
        rng = self._rng
        for piece in in_pieces(rng, data):
            self._write(piece)
            yield rng.choice([0.0, rng.uniform(0, 0.5)])
            if self.over:
                return
        if rng.random() < 0.7 and self.transport is not None:
            self._note("half-closes its tunnel")
            self.transport.loseWriteConnection()
            yield (lambda: self.over), PATIENCE_S
            if self._waits:
                self.given_up = "the end of the tunnel"

    def _leave(self) -> Story:
        how = self._rng.choice(["close", "reset", "half-close", "stop reading"])
        self.left = how
        self._note(f"leaves: {how}")
        assert self.transport is not None
        if how == "close":
            self.transport.loseConnection()
        elif how == "reset":
            self.transport.abortConnection()
        elif how == "half-close":
            self.transport.loseWriteConnection()
            yield (lambda: self.over), PATIENCE_S
            self.transport.loseConnection()
        else:
            self._slow = self.eager = False
            self.transport.pauseProducing()
            yield 30.0
            self.transport.loseConnection()

    def _end(self) -> Story:
        """Stay idle until the balancer closes, or close."""
        self.finished_at = self.clock.seconds()
        if not self.over and self._rng.random() < 0.3:
            yield (lambda: self.over), PATIENCE_S
            if self._waits:
                self.given_up = "the end of an idle connection"
        # Nobody hears of its close while bytes of it have not left, and it reads nothing any more.
        unsent = self.transport is not None and self.transport.unsent > 0
        self.left = self.left or ("stop reading" if unsent else "done")
        if self.transport is not None:
            self.transport.loseConnection()

    def __repr__(self) -> str:
        return f"<Client {self.name}: {len(self.asks)} asks, {self._answers()} answers>"
