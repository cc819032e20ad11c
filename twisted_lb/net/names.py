"""Names: the socket addresses of a backend, resolved and kept, the one that worked first."""

import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from twisted_lb.core.address import Address, TcpAddress, UnixAddress
from twisted_lb.net.clock import Clock

# (address family, what `socket.connect` takes)
SocketAddress = tuple[int, Any]

# A name is resolved anew this often, in the background, while the old answer serves on: a resolver that is down takes
# no backend out that was reachable before.
REFRESH_S: Final = 5.0

_log = Logger()


@implementer(IResolutionReceiver)
class _Answers:
    """A receiver of one resolution's addresses (IResolutionReceiver)."""

    def __init__(self, port: int, done: Callable[[list[SocketAddress]], None]) -> None:
        self._port: Final = port
        self._done: Final = done
        self._found: list[SocketAddress] = []

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        """Nothing to do."""

    def addressResolved(self, address: object) -> None:
        """Take one address; several records of one host may repeat it."""
        found: SocketAddress | None = None
        if isinstance(address, IPv6Address):
            found = (socket.AF_INET6, (address.host, self._port, address.flowInfo, address.scopeID))
        elif isinstance(address, IPv4Address):
            found = (socket.AF_INET, (address.host, self._port))
        if found is not None and found not in self._found:
            self._found.append(found)

    def resolutionComplete(self) -> None:
        """The resolution has ended, without any address when the name does not resolve."""
        self._done(self._found)


class _Known:
    """The last good answer for one name."""

    def __init__(self) -> None:
        self.addresses: list[SocketAddress] = []
        self.asked_at = float("-inf")
        self.waiting: list[Callable[[list[SocketAddress]], None]] = []
        self.asking = False


class Names:
    """A resolver of backend addresses, over Twisted's: keeps the answers and remembers which address worked."""

    def __init__(self, resolver: IHostnameResolver, clock: Clock) -> None:
        self._resolver: Final = resolver
        self._clock: Final = clock
        self._known: dict[TcpAddress, _Known] = {}
        self._literal: dict[Address, list[SocketAddress]] = {}

    def find(self, address: Address, found: Callable[[list[SocketAddress]], None]) -> None:
        """Call `found` with the socket addresses of a backend, at once when known; an empty list: unresolvable."""
        literal = self._literal.get(address)
        if literal is None and (literal := _literal_address(address)):
            self._literal[address] = literal
        if literal is not None:
            found(literal)
            return
        assert isinstance(address, TcpAddress)
        known = self._known.setdefault(address, _Known())
        if not known.asking and self._clock.now - known.asked_at >= REFRESH_S:
            self._ask(address, known)
        if known.addresses:
            found(list(known.addresses))
        elif known.asking:
            known.waiting.append(found)
        else:
            found([])

    def worked(self, address: Address, which: SocketAddress) -> None:
        """Try this address first from now on."""
        known = self._known.get(address) if isinstance(address, TcpAddress) else None
        if known is not None and which in known.addresses and known.addresses[0] != which:
            known.addresses.remove(which)
            known.addresses.insert(0, which)

    def failed(self, address: Address) -> None:
        """None of the addresses worked: resolve the name again before the next connect."""
        known = self._known.get(address) if isinstance(address, TcpAddress) else None
        if known is not None:
            known.asked_at = float("-inf")

    def _ask(self, address: TcpAddress, known: _Known) -> None:
        known.asking = True
        known.asked_at = self._clock.now
        receiver = _Answers(address.port, lambda addresses: self._answered(address, known, addresses))
        try:
            self._resolver.resolveHostName(receiver, address.host, address.port)
        except Exception:
            _log.failure("looking up {name} failed", name=address.host)
            self._answered(address, known, [])

    def _answered(self, address: TcpAddress, known: _Known, addresses: list[SocketAddress]) -> None:
        known.asking = False
        self._clock.read()  # the name server took its time
        if addresses:
            good = known.addresses[0] if known.addresses else None
            known.addresses = addresses
            if good is not None:
                self.worked(address, good)
        else:
            # Ask again at the next try, not in five seconds: nothing is known.
            known.asked_at = float("-inf")
        waiting, known.waiting = known.waiting, []
        for found in waiting:
            try:
                found(list(known.addresses))
            except Exception:
                _log.failure("one who waited for {name} failed", name=address.host)


def _literal_address(address: Address) -> list[SocketAddress] | None:
    """The socket address of an IP literal or a unix path; None for a name."""
    if isinstance(address, UnixAddress):
        return [(socket.AF_UNIX, address.path)]
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address.host)
        except OSError:
            continue
        return [(family, (address.host, address.port))]
    return None
