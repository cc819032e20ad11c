"""A network in memory: connections that behave as TCP's do, on a clock that the test moves.

Everything that a peer does arrives in a turn of the clock (`callLater(0)`). Each direction holds a bounded number of
bytes, as the kernel's buffers do, so that a writer notices a reader that does not read (back-pressure).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_lb.core.address import Address, TcpAddress, UnixAddress, parse_address
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.dialer import Failed
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.testing.pipe import Pipe
from twisted_lb.testing.resolver import MemoryResolver
from twisted_lb.testing.transport import MemoryTransport

if TYPE_CHECKING:
    from twisted_lb.testing.faults import Faults

# The buffers of a loopback connection are larger; small ones show sooner what a full one does.
CAPACITY_BYTES: Final = 65536
_FIRST_PORT: Final = 32768

_log = Logger()


class MemoryListener:
    """A listener: an address that takes connections, until `stop`."""

    def __init__(self, network: "MemoryNetwork", address: Address, build: Callable[[], StreamProtocol]) -> None:
        self.address: Final = address
        self.accepted = 0
        self.listening = True
        self._network: Final = network
        self._build: Final = build

    def stop(self) -> None:
        """Refuse connections from now on; those that are accepted live on, those still waiting are reset."""
        self.listening = False
        self._network._unlisten(self)

    def accept(self, transport: MemoryTransport) -> None:
        """Give a connection to a protocol of its own."""
        if not self.listening:
            transport.abortConnection()
            return
        self.accepted += 1
        try:
            transport.open(self._build())
        except Exception:
            _log.failure("a protocol could not be started; its connection is closed")
            transport.abortConnection()


class _Attempt:
    """A connection being made."""

    def __init__(self, failed: Failed) -> None:
        self._failed: Final = failed
        self.connected: Callable[[], None] = lambda: None  # told before the protocol is
        self.over = False
        self.cancelled = False

    def cancel(self) -> None:
        """Give the connect up; nothing is told any more."""
        self.over = self.cancelled = True

    def fail(self, outcome: Outcome, detail: str) -> None:
        """Tell the failure, unless the connect was given up."""
        if not self.over:
            self.over = True
            self._failed(outcome, detail)


class MemoryNetwork:
    """A network: addresses, their listeners, and what lies between. A Dial, as clusters and probes take one.

    Addresses are given as in a configuration (`"app:80"`, `"unix:/run/app.sock"`) or parsed. A name is a place of its own
    unless `name` gives it addresses. An address where nobody listens refuses. `open_connections` are the ends that are not closed: none, after a test. With
    `faults` things go wrong by themselves.
    """

    def __init__(
        self, clock: IReactorTime, capacity_bytes: int = CAPACITY_BYTES, faults: "Faults | None" = None
    ) -> None:
        self.clock: Final = clock
        self.capacity_bytes: Final = capacity_bytes
        self.faults: Final = faults
        self.resolver: Final = MemoryResolver(clock)
        # Every attempt to connect, in order.
        self.dialled: list[Address] = []
        self._listeners: dict[Address, MemoryListener] = {}
        self._troubles: dict[Address, tuple[Outcome, str]] = {}
        self._standing: dict[MemoryTransport, None] = {}
        self._next_port = _FIRST_PORT

    # Listeners.

    def listen(self, address: Address | str, build_protocol: Callable[[], StreamProtocol]) -> MemoryListener:
        """Give each connection to this address a protocol of its own. ValueError when somebody listens there."""
        where = _parsed(address)
        if where in self._listeners:
            raise ValueError(f"{where} is in use")
        self._listeners[where] = listener = MemoryListener(self, where, build_protocol)
        return listener

    def _unlisten(self, listener: MemoryListener) -> None:
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    def refuse(self, address: Address | str) -> None:
        """Refuse connections to an address, whoever listens; those that exist live on. `heal` ends it."""
        self.fail(address, Outcome.REFUSED, "connection refused")

    def hang(self, address: Address | str) -> None:
        """Swallow attempts to connect to an address: they end by their timeout. `heal` ends it."""
        self.fail(address, Outcome.CONNECT_TIMEOUT, "no answer in time")

    def fail(self, address: Address | str, outcome: Outcome, detail: str = "made to fail") -> None:
        """Let attempts to connect to an address end with this outcome. `heal` ends it."""
        self._troubles[_parsed(address)] = (outcome, detail)

    def heal(self, address: Address | str) -> None:
        """Let connections to an address be made again."""
        self._troubles.pop(_parsed(address), None)

    def name(self, name: str, *addresses: str) -> None:
        """Let a host name have these addresses from now on, which are hosts as well; none: it does not resolve. A balancer
        learns of it as from a name server, when it asks; `resolver` has more to say about that.
        """
        self.resolver.table[name] = list(addresses)

    # Connecting.

    def dial(
        self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed, port: int = 0
    ) -> _Attempt:
        """See Dial; nothing is resolved. Nothing is told before this returns."""
        if isinstance(address, TcpAddress):
            address = TcpAddress(address.host, port or address.port)
        self.dialled.append(address)
        attempt = _Attempt(failed)
        delay_s = 0.0 if self.faults is None else self.faults.delay_s()
        if delay_s < timeout_s:
            self.clock.callLater(delay_s, self._try, attempt, address, protocol, timeout_s - delay_s)
        else:
            self.clock.callLater(timeout_s, attempt.fail, Outcome.CONNECT_TIMEOUT, "no answer in time")
        return attempt

    def _try(self, attempt: _Attempt, address: Address, protocol: StreamProtocol, timeout_s: float) -> None:
        if attempt.over:
            return
        trouble = self._troubles.get(address)
        if trouble is None and address not in self._listeners:
            trouble = (Outcome.REFUSED, "connection refused")
        if trouble is None and self.faults is not None:
            trouble = self.faults.trouble(address)
        if trouble is None:
            attempt.over = True
            attempt.connected()
            near, far = self._joined(address, protocol)
            if self.faults is not None:
                self.faults.befall(near, far, str(address))
        elif trouble[0] is Outcome.CONNECT_TIMEOUT:
            self.clock.callLater(timeout_s, attempt.fail, *trouble)
        else:
            attempt.fail(*trouble)

    def connect(self, address: Address | str, protocol: StreamProtocol, host: str = "127.0.0.1") -> MemoryTransport:
        """Connect from `host`, at once; the other side is told in a turn. ConnectionRefusedError if that is refused."""
        where = _parsed(address)
        if where not in self._listeners or where in self._troubles:
            raise ConnectionRefusedError(f"nobody takes connections at {where}")
        near, far = self._joined(where, protocol, host)
        if self.faults is not None:
            self.faults.befall(far, near, host)
        return near

    def _joined(
        self, where: Address, protocol: StreamProtocol, host: str = "127.0.0.1"
    ) -> tuple[MemoryTransport, MemoryTransport]:
        self._next_port += 1
        here = UNIXAddress(None) if isinstance(where, UnixAddress) else IPv4Address("TCP", host, self._next_port)
        near, far = self.pair(here, _shown(where))
        self.clock.callLater(0, self._listeners[where].accept, far)
        near.open(protocol)
        return near, far

    def pair(
        self, here: IPv4Address | UNIXAddress, there: IPv4Address | UNIXAddress
    ) -> tuple[MemoryTransport, MemoryTransport]:
        """Two ends of one connection, neither of them opened."""
        up, down = self._pipe(), self._pipe()
        up.back, down.back = down, up
        near = MemoryTransport(self.clock, incoming=down, outgoing=up, host=here, peer=there, standing=self._standing)
        far = MemoryTransport(self.clock, incoming=up, outgoing=down, host=there, peer=here, standing=self._standing)
        return near, far

    def _pipe(self) -> Pipe:
        return Pipe(self.capacity_bytes) if self.faults is None else self.faults.pipe(self.capacity_bytes)

    @property
    def open_connections(self) -> list[MemoryTransport]:
        """The ends of connections that are not closed."""
        return list(self._standing)

    def __repr__(self) -> str:
        return f"<MemoryNetwork: {len(self._listeners)} listening, {len(self._standing)} ends open>"


def _parsed(address: Address | str) -> Address:
    return parse_address(address) if isinstance(address, str) else address


def _shown(address: Address) -> IPv4Address | UNIXAddress:
    """Twisted's address object; the host may be a name, since it is not resolved."""
    if isinstance(address, TcpAddress):
        return IPv4Address("TCP", address.host, address.port)
    return UNIXAddress(address.path.encode())
