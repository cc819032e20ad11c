"""What passes between the balancer and its peers, byte for byte and in order: the ground truth that the oracle judges by."""

import random
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from faults.certificates import RIGHT
from faults.connects import STAYS_FULL, Connects
from faults.kernel import DiallingSocket, Kernel, MemorySocket
from faults.naming import TownResolver
from faults.records import ALERT, DATA, GOOD_BYE, HEADER, NO_TLS, SHAKEN, Direction, Seen, Wire
from faults.timing import Process
from twisted.internet.address import IPv4Address

from twisted_lb.core.address import Address, TcpAddress, parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.greeting import Greeting
from twisted_lb.net.hedge import Hedge
from twisted_lb.net.http1_upstream import Http1Upstream
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.mirror import Mirror
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.tcp_keepalive import TcpKeepalive
from twisted_lb.net.transport import Transport
from twisted_lb.testing import Faults, HeapClock, MemoryNetwork, MemoryTransport
from twisted_lb.testing.faulty_pipe import FaultyPipe, _Mark
from twisted_lb.testing.network import Failed

# Takes in the socket of a client that has come from there.
Take = Callable[[MemorySocket, tuple], None]

# What the balancer does, and what it is told.
PUT = "put"
TOOK = "took"
SAID_FIN = "said fin"
SAID_RST = "said rst"
HEARD_FIN = "heard fin"
HEARD_RST = "heard rst"
# Over TLS a FIN without a close_notify, which anybody may have sent: it is a cut. A close_notify is a FIN.
SAID_CUT = "said cut"
HEARD_CUT = "heard cut"
SAID = (SAID_FIN, SAID_CUT, SAID_RST)
HEARD = (HEARD_FIN, HEARD_CUT, HEARD_RST)
ENDS = SAID + HEARD
# A deadline may be a tick of the wheel late.
LATE_S = 0.11
ROUNDED_S = 1e-6
# And of TLS before its plain text: what came of the handshake, and what nobody can read.
NOTES = {SHAKEN: "finished", ALERT: "alert", NO_TLS: "no tls", HEADER: "header"}


class Entry:
    """One thing on a tape. `at` is a number that orders everything in a town, `when` its time."""

    __slots__ = ("at", "data", "what", "when")

    def __init__(self, at: int, when: float, what: str, data: bytes) -> None:
        self.at = at
        self.when = when
        self.what = what
        self.data = data


class Tape:
    """One connection of the balancer's, to a client or to a backend, as seen by the balancer."""

    def __init__(self, tapes: "Tapes", name: str, wanted_by: str = "") -> None:
        self.name = name
        self.wanted_by = wanted_by  # the request for which it was made
        self.entries: list[Entry] = []
        self.end: Any = None  # the balancer's end
        self.incoming: Any = None  # its two pipes
        self.outgoing: Any = None
        self.wire: Wire | None = None  # where it is not plain text that passes
        self.shaken = 0  # how many sides have ended their handshakes, as the balancer has it
        self.stops = False  # its peer ends no handshake
        self.shows = RIGHT  # what its peer shows as a certificate
        self._tapes = tapes
        self.began = tapes.tick()
        self.began_when = tapes.clock.seconds()

    def note(self, what: str, data: bytes = b"") -> None:
        entry = Entry(self._tapes.tick(), self._tapes.clock.seconds(), what, data)
        self.entries.append(entry)
        self._tapes.heard(self, entry)

    def all(self, what: str) -> bytes:
        return b"".join(entry.data for entry in self.entries if entry.what == what)

    def first(self, *what: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.what in what), None)

    @property
    def up(self) -> bool:
        """Whether the handshake of TLS is over."""
        return self.shaken == 2

    @property
    def arrived(self) -> bool:
        """Whether all has come that comes before a first request."""
        wire = self.wire
        return wire is None or (self.up if wire.tls else bool(wire.from_client.header))

    def good_bye_waited(self, since: float) -> bool:
        """Whether all that kept a connection open from then on was that there was no room for a close_notify."""
        out = self.outgoing
        end = self.first(*SAID)
        waited = out.good_bye_when >= since and any(since <= when <= since + ROUNDED_S for when in out.short)
        return waited and end is not None and end.when == out.good_bye_when

    def unheard(self, now: float) -> bool:
        """Whether bytes are here, and have been, that were not read."""
        return bool(self.incoming.bytes) and self.incoming.landed_when < now

    @property
    def left_by_peer(self) -> Entry | None:
        """The end that came from the other side, unless the balancer had ended it before."""
        said, heard = self.first(*SAID), self.first(*HEARD)
        return heard if said is None or (heard is not None and heard.at < said.at) else None

    def entry_of(self, what: str, offset: int) -> Entry | None:
        """The entry in which the byte with this offset was put or taken, None when it never was."""
        for entry in self.entries:
            if entry.what == what:
                offset -= len(entry.data)
                if offset < 0:
                    return entry
        return None

    def count(self, what: str, before: int) -> int:
        """How many bytes had been put or taken before this moment."""
        return sum(len(entry.data) for entry in self.entries if entry.what == what and entry.at < before)

    def __repr__(self) -> str:
        return f"<Tape {self.name}>"


class Tapes:
    """All of a town's, and the one order of everything."""

    def __init__(self, clock: HeapClock, hear: Callable[[Tape, Entry], None] | None) -> None:
        self.clock = clock
        self.all: list[Tape] = []
        self._hear = hear
        self._ticks = count(1)

    def tick(self) -> int:
        return next(self._ticks)

    def begin(self, name: str, wanted_by: str = "") -> Tape:
        self.all.append(Tape(self, name, wanted_by))
        return self.all[-1]

    def heard(self, tape: Tape, entry: Entry) -> None:
        if self._hear is not None:
            self._hear(tape, entry)


class TapedPipe(FaultyPipe):
    """`tape` is None until it is known whose it is."""

    tape: Tape | None = None
    outwards = False  # the balancer writes
    way: Direction | None = None  # what is read of it where it is not plain text
    held_at = (0.0, 0)  # when it was cut, and how many bytes were on their way then
    landed_when = 0.0  # when the last bytes arrived
    good_bye_when = -1.0  # when the last byte of a close_notify was put, or taken
    said = ""  # how the balancer has ended it, be it after the network has torn it

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self._seen: deque[Seen] = deque()  # what has landed and was not taken
        self._taken = 0
        self.short: list[float] = []  # when it has not taken all that it was given

    def put(self, data: bytes | bytearray) -> int:
        taken = super().put(data)
        if taken < len(data):
            self.short.append(self._clock.seconds())
        if taken and self.tape is not None and self.outwards:
            if self.way is None:
                self.tape.note(PUT, bytes(data[:taken]))
            else:
                for seen in self.way.feed(bytes(data[:taken])):
                    self._note("said", PUT, seen)
        return taken

    def take(self, most: int) -> bytes:
        data = super().take(most)
        if data and self.tape is not None and not self.outwards:
            self._taken += len(data)
            if self.way is None:
                self.tape.note(TOOK, data)
            while self._seen and self._seen[0].end <= self._taken:
                self._note("heard", TOOK, self._seen.popleft())
        return data

    def _arrived(self, data: bytes | bytearray) -> None:
        if self.way is not None and not self.outwards:
            for seen in self.way.feed(bytes(data)):
                if seen.what == GOOD_BYE and self.tape is not None:
                    self.tape.note(HEARD_FIN)
                self._seen.append(seen)
        super()._arrived(data)

    def _note(self, how: str, what: str, seen: Seen) -> None:
        assert self.tape is not None
        if seen.what == DATA:
            self.tape.note(what, seen.data)
        elif seen.what == GOOD_BYE:
            self.good_bye_when = self._clock.seconds()
        else:
            self.tape.note(f"{how} {NOTES[seen.what]}", seen.data)
            if seen.what == SHAKEN:
                self.tape.shaken += 1

    def end(self) -> None:
        self._say(SAID_CUT if self._truncates else SAID_FIN)
        super().end()

    def cut(self) -> None:
        self.held_at = (self._clock.seconds(), self.queued)
        self._say(SAID_RST)
        super().cut()

    def _say(self, what: str) -> None:
        if self.tape is not None and self.outwards and self.said not in (what, SAID_RST):
            self.said = what
            self.tape.note(what)

    def _land(self, what: Any) -> None:
        super()._land(what)
        self.landed_when = self._clock.seconds()
        if self.tape is not None and not self.outwards and isinstance(what, _Mark):
            if what is _Mark.RST:
                self.tape.note(HEARD_RST)
            elif self.way is None or not self.way.good_bye:
                self.tape.note(HEARD_CUT if self._truncates else HEARD_FIN)

    @property
    def _truncates(self) -> bool:
        """Whether an end now is none in order: over TLS that is announced, once the handshake is over."""
        return self.way is not None and self.tape is not None and self.tape.up and not self.way.good_bye


class Dialled:
    """An attempt of the balancer's to connect, for a request; checks are not among them."""

    def __init__(self, at: int, when: float, address: str, timeout_s: float, upstream: Http1Upstream) -> None:
        waiter = upstream.waiter
        exchange = waiter.request if isinstance(waiter, Hedge) else waiter
        assert isinstance(exchange, Exchange)
        attempt = exchange.attempts.beside if isinstance(waiter, Hedge) else exchange.attempts.current
        assert attempt is not None
        self.at = at
        self.when = when
        self.address = address
        self.timeout_s = timeout_s
        self.upstream = upstream
        self.wanted_by = exchange.head.target.decode().removeprefix("/r/")
        self.claimed_at = attempt.lease.opened_at
        self.greeting: Greeting | None = None
        self.detail = ""  # why it failed, in the balancer's words
        self.sock: DiallingSocket | None = None
        self.dial: Any = None  # the Dialer's attempt: whoever has cancelled it is told nothing
        self.earlier: set[str] = set()  # how it failed at other addresses of the same name
        self.failed: str = ""
        self.failed_at: int | None = None
        self.failed_when = 0.0
        self.meant: str = ""  # as what it should have failed
        self.tape: Tape | None = None


class Check:
    """A connection for a check of a backend, or an attempt at one."""

    def __init__(self, at: int, when: float, address: str, timeout_s: float = 0.0) -> None:
        self.at = at
        self.when = when
        self.address = address
        self.timeout_s = timeout_s
        self.greeting: Greeting | None = None
        self.detail = ""
        self.sock: DiallingSocket | None = None
        self.dial: Any = None  # the Dialer's attempt: whoever has cancelled it is told nothing
        self.failed: str = ""
        self.failed_at: int | None = None
        self.failed_when = 0.0
        self.meant: str = ""
        self.tape: Tape | None = None

    @property
    def ended_when(self) -> float:
        """When nothing was left of it at the latest, as far as is seen."""
        if self.failed_at is not None:
            return self.failed_when
        over = None if self.tape is None else self.tape.first(*ENDS)
        return float("inf") if over is None else over.when


class ToMirror(Check):
    """A connection for a mirrored request, or an attempt at one: no client and no judge knows of it."""


class SocketEnd:
    """The balancer's end of a connection: the real Transport, on a socket in memory. Looks like a MemoryTransport."""

    def __init__(self, poller: EpollPoller, sock: MemorySocket, process: Process, attempt: Any) -> None:
        self.transport = Transport(poller, sock)  # type: ignore[arg-type]
        self._sock = sock
        self._attempt = attempt  # that it comes from, None for a client's
        self._poller = poller
        self._process = process

    def open(self, protocol: StreamProtocol) -> None:
        self._process.run(lambda: self._open(protocol))

    def _open(self, protocol: StreamProtocol) -> None:
        if self._attempt is not None and self._attempt.cancelled:
            self._sock.close()  # while the process was held
            return
        self._poller.clock.read()
        self.transport.open(protocol)

    def abortConnection(self) -> None:
        self.transport.abortConnection()

    @property
    def connected(self) -> bool:
        return self.transport.connected

    @property
    def unsent(self) -> int:
        return self.transport.unsent


class ArrivingEnd(SocketEnd):
    """The balancer's end of a client's connection that has to arrive: its transport is made on the way."""

    def __init__(self, poller: EpollPoller, sock: MemorySocket, process: Process, take: Take) -> None:
        super().__init__(poller, sock, process, None)
        self._take = take

    def _open(self, protocol: StreamProtocol) -> None:
        self._poller.clock.read()
        self._take(self._sock, self._sock.getpeername())

    @property
    def connected(self) -> bool:
        return not self._sock.closed

    @property
    def unsent(self) -> int:
        handler = self._poller.handler_of(self._sock.fileno())
        return handler.unsent if isinstance(handler, Transport) else 0


class DialledEnd(ArrivingEnd):
    """The balancer's end of a connection that its Dialer makes: it is told as the kernel tells it, by the socket."""

    def open(self, protocol: StreamProtocol) -> None:
        assert isinstance(self._sock, DiallingSocket)
        self._sock.connected()


class _Told:
    """Stands for the protocol of a connection that the Dialer makes."""


def may_mean(dialled: Dialled | Check, lost_s: float) -> set[str]:
    """What a connect may have failed as that the kernel did not fail: over TLS the end of the handshake is waited for too, within the same
    time. Who ends it before, or shows what nobody may believe, refuses.
    """
    allowed = set()
    waited = dialled.failed_when - dialled.when
    if dialled.timeout_s - ROUNDED_S <= waited <= dialled.timeout_s + LATE_S + lost_s:
        allowed.add("CONNECT_TIMEOUT")
    tape = dialled.tape
    if tape is not None and not tape.up and (tape.first(*HEARD, "heard alert") or tape.shows != RIGHT):
        allowed.add("REFUSED")
    return allowed


class TownNetwork(MemoryNetwork):
    """Clients connect to the balancer, and the balancer dials; both are taped. With a kernel the balancer's ends are real
    Transports, without they are the ones in memory: foreign ones, as Twisted's are.
    """

    def __init__(
        self,
        clock: HeapClock,
        faults: Faults,
        rng: random.Random,
        side: random.Random,
        hear: Callable[[Tape, Entry], None] | None,
    ) -> None:
        super().__init__(clock, faults=faults)
        self.resolver: TownResolver = TownResolver(clock)  # type: ignore[misc]
        self.rng = rng
        self.kernel: Kernel | None = None
        self.web = False  # whether clients come to twisted.web, and not to us
        self.poller: EpollPoller | None = None
        self.now: Clock | None = None
        self.process: Process = Process(clock, lambda held: None)
        self.tapes = Tapes(clock, hear)
        self.asked: Callable[[], None] = lambda: None  # told each of `dials`
        self.dials: list[Dialled] = []
        self.checked: list[Check] = []  # the dials of checks
        self.agents: list[Check] = []  # those that ask agents, at a port of their own
        self.mirrored: list[ToMirror] = []
        self.connects = Connects(clock, side)
        self.largest_unsent = 0
        self._wanted: Dialled | Check | None = None
        self._where: Address | None = None  # that is connected to: of an agent its own port
        self._attempt: Any = None  # that connects
        self._dials_of: dict[int, Dialled | Check] = {}
        # How clients arrive, where they do not just come; and what backends are greeted by, where they are.
        self.take: Take | None = None
        self.arriving_tls = self.arriving_proxy = False
        self.dialer: Dialer | None = None
        self._dialling: Dialled | Check | None = None
        self._places: dict[str, Address] = {}

    def _pipe(self) -> TapedPipe:
        assert self.faults is not None
        return TapedPipe(self.clock, self.capacity_bytes, self.rng, lambda: self.faults.chances)  # type: ignore[union-attr]

    def dial(
        self,
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int = 0,
        greeting: Greeting | None = None,
        keepalive: TcpKeepalive | None = None,
    ) -> Any:
        dialled: Dialled | Check
        upstream = protocol.protocol if isinstance(protocol, Foreign) else protocol
        if isinstance(upstream, Http1Upstream) and isinstance(upstream.waiter, Mirror):
            dialled = ToMirror(self.tapes.tick(), self.clock.seconds(), str(address), timeout_s)
            self.mirrored.append(dialled)
        elif isinstance(upstream, Http1Upstream):
            dialled = Dialled(self.tapes.tick(), self.clock.seconds(), str(address), timeout_s, upstream)
            self._supersede(dialled)
            self.dials.append(dialled)
            self.asked()
        else:
            dialled = Check(self.tapes.tick(), self.clock.seconds(), str(address), timeout_s)
            (self.agents if port else self.checked).append(dialled)

        def told(trouble: Outcome, detail: str) -> None:
            self.process.run(lambda: tell(trouble, detail))

        def tell(trouble: Outcome, detail: str) -> None:
            assert self.now is not None
            self.now.read()
            outcome, dialled.meant = self.connects.explain(address, trouble, detail)
            dialled.failed = outcome.name
            dialled.failed_at = self.tapes.tick()
            dialled.failed_when = self.clock.seconds()
            failed(outcome, detail)

        if self.dialer is not None:
            return self._dial_by(self.dialer, dialled, address, protocol, timeout_s, failed, port, greeting)
        self._dials_of[id(protocol)] = dialled
        return super().dial(address, protocol, timeout_s, told, port)

    # By the Dialer of production, over sockets in memory: it greets.

    def _dial_by(
        self,
        dialer: Dialer,
        dialled: Dialled | Check,
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int,
        greeting: Greeting | None,
    ) -> Any:
        assert isinstance(address, TcpAddress)
        dialled.greeting = greeting
        # A name that is no address would be looked up; where it leads the socket knows.
        place = self._places.setdefault(address.host, parse_address(f"192.0.2.{len(self._places) + 1}:80"))
        assert isinstance(place, TcpAddress)

        def told(outcome: Outcome, detail: str) -> None:
            dialled.failed, dialled.detail = outcome.name, detail
            dialled.failed_at = self.tapes.tick()
            dialled.failed_when = self.clock.seconds()
            if not dialled.meant:
                allowed = may_mean(dialled, self.process.lost_s(dialled.when, dialled.failed_when))
                dialled.meant = outcome.name if outcome.name in allowed else "/".join(sorted(allowed)) or "to come"
            failed(outcome, detail)

        self._dialling = dialled
        to = TcpAddress(place.host, address.port)
        try:
            dialled.dial = dialer.dial(to, protocol, timeout_s, told, port, greeting)
            return dialled.dial
        finally:
            self._dialling = None

    def connects_to(self, sock: DiallingSocket, where: tuple) -> None:
        """A socket begins to connect, for what is being dialled; see Kernel."""
        dialled = self._dialling
        assert dialled is not None
        dialled.sock = sock
        to = parse_address(dialled.address)
        assert isinstance(to, TcpAddress)
        protocol: Any = _Told()
        sock.kept = protocol  # by whose id it is known

        def told(trouble: Outcome, detail: str) -> None:
            code, dialled.meant = self.connects.error(TcpAddress(to.host, where[1]), trouble)
            sock.fail(code)

        self._dials_of[id(protocol)] = dialled
        attempt = super().dial(to, protocol, dialled.timeout_s, told, where[1])
        sock.cancel = attempt.cancel

    def _supersede(self, dialled: Dialled) -> None:
        """The addresses of one name are tried within one attempt: the last one stands for it."""
        before = next((one for one in reversed(self.dials) if one.upstream is dialled.upstream), None)
        if before is not None:
            self.dials.remove(before)
            dialled.earlier = before.earlier | {before.failed}

    def _try(self, attempt: Any, address: Address, protocol: StreamProtocol, timeout_s: float) -> None:
        if not attempt.over and self.connects.meets_full_backlog():

            def go_on(left_s: float) -> None:
                if left_s:
                    self._connect(attempt, address, protocol, left_s)
                else:
                    attempt.fail(Outcome.CONNECT_TIMEOUT, STAYS_FULL)

            self.connects.wait_for_room(timeout_s, lambda: attempt.over, go_on)
        else:
            self._connect(attempt, address, protocol, timeout_s)

    def _connect(self, attempt: Any, address: Address, protocol: StreamProtocol, timeout_s: float) -> None:
        self._wanted, self._attempt, self._where = self._dials_of.pop(id(protocol), None), attempt, address
        try:
            super()._try(attempt, address, protocol, timeout_s)
        finally:
            self._wanted = self._attempt = self._where = None

    def pair(self, here: Any, there: Any) -> tuple[Any, Any]:
        up, down = self._pipe(), self._pipe()
        up.back, down.back = down, up
        wanted = self._wanted
        dialling = wanted is not None
        if wanted is None:
            tape = self.tapes.begin(f"client {here.host}:{here.port}")
        elif isinstance(wanted, Check):
            what = "mirror" if isinstance(wanted, ToMirror) else "check"
            tape = wanted.tape = self.tapes.begin(f"{what} {wanted.address}")
        else:
            tape = wanted.tape = self.tapes.begin(f"backend {wanted.address}", wanted.wanted_by)
        if wanted is not None:
            where = None if self.dialer is None else self._where
            self.connects.reached.add(where or parse_address(wanted.address))
        up.tape = down.tape = tape
        (up if dialling else down).outwards = True
        self._read_by(tape, up, down, wanted)
        near = self._end(down, up, here, there, ours=dialling)
        far = self._end(up, down, there, here, ours=not dialling and not self.web)
        tape.end = near if dialling else far
        tape.incoming, tape.outgoing = (down, up) if dialling else (up, down)
        return near, far

    def _read_by(self, tape: Tape, up: TapedPipe, down: TapedPipe, wanted: Dialled | Check | None) -> None:
        """Have what passes read as what it is."""
        if wanted is None:
            tls, proxy = self.arriving_tls, self.arriving_proxy
        else:
            greeting = wanted.greeting
            tls = greeting is not None and greeting.context is not None
            proxy = greeting is not None and bool(greeting.header)
        if tls or proxy:
            wire = tape.wire = Wire(tls=tls, proxy_from_client=proxy)
            up.way, down.way = wire.from_client, wire.from_server

    def _end(self, incoming: TapedPipe, outgoing: TapedPipe, host: Any, peer: Any, *, ours: bool) -> Any:
        if not ours or self.kernel is None:
            assert isinstance(host, IPv4Address)
            return MemoryTransport(
                self.clock, incoming=incoming, outgoing=outgoing, host=host, peer=peer, standing=self._standing
            )
        assert self.poller is not None
        names = (host.host, host.port), (peer.host, peer.port)
        wanted = self._wanted
        if wanted is not None and wanted.sock is not None:
            wanted.sock.attach(incoming, outgoing, *names)
            return DialledEnd(self.poller, wanted.sock, self.process, lambda sock, peer: None)
        sock = MemorySocket(self.kernel, incoming, outgoing, *names)
        if wanted is None and self.take is not None:
            return ArrivingEnd(self.poller, sock, self.process, self.take)
        return SocketEnd(self.poller, sock, self.process, self._attempt)

    def look_at_buffers(self) -> None:
        for tape in self.tapes.all:
            if tape.end is not None:
                if not tape.end.connected:
                    tape.end = None
                else:
                    self.largest_unsent = max(self.largest_unsent, tape.end.unsent)
