"""Names: the socket addresses of a backend, resolved and kept, the one in force first. What a name means is known here alone:
to whoever connects, for traffic and for checks, and to whoever watches it.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IResolutionReceiver
from twisted.logger import Logger
from zope.interface import implementer

from twisted_lb.core.address import Address, TcpAddress, UnixAddress
from twisted_lb.core.never import NEVER
from twisted_lb.net.clock import Clock

# (address family, what `socket.connect` takes)
SocketAddress = tuple[int, Any]

# Who wants to connect, and is told the socket addresses.
Found = Callable[[list[SocketAddress]], None]

# A name is resolved anew this often, in the background, while the old answer serves on: a resolver that is down takes
# no backend out that was reachable before.
REFRESH_S: Final = 5.0
# The same for a name that was not answered, or whose address does not work.
AGAIN_S: Final = 1.0
# So many are asked for at once in the background: Twisted's resolver has ten threads, which the program needs too.
AT_ONCE: Final = 4
# So many literal addresses are kept in the form in which they are connected to.
MOST_LITERAL: Final = 4096
# Later no answer is waited for: Twisted's resolver gives none where getaddrinfo raises anything but a gaierror, such as an
# OSError for want of descriptors. glibc asks at most 3 servers twice, and waits 5 s for each (resolv.conf(5)).
LOST_AFTER_S: Final = 60.0
_FAMILIES: Final = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_TYPES: Final[dict[str, Sequence[type[IAddress]] | None]] = {"ipv4": [IPv4Address], "ipv6": [IPv6Address], "": None}

_log = Logger()


@implementer(IResolutionReceiver)
class _Answers:
    """A receiver of one resolution's addresses (IResolutionReceiver)."""

    def __init__(self, port: int, done: Callable[[list[SocketAddress]], None]) -> None:
        self._port: Final = port
        self._done: Final = done
        self._found: dict[SocketAddress, None] = {}  # an ordered set

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        """Nothing to do."""

    def addressResolved(self, address: object) -> None:
        """Take one address; several records of one host may repeat it."""
        found: SocketAddress | None = None
        if isinstance(address, IPv6Address):
            found = (socket.AF_INET6, (address.host, self._port, address.flowInfo, address.scopeID))
        elif isinstance(address, IPv4Address):
            found = (socket.AF_INET, (address.host, self._port))
        if found is not None:
            self._found[found] = None

    def resolutionComplete(self) -> None:
        """The resolution has ended, without any address when the name does not resolve."""
        self._done(list(self._found))


class Watcher(Protocol):
    """Whoever wants to know what names mean; hosts are IP addresses, the one in force first."""

    def name_answered(self, address: TcpAddress, hosts: list[str]) -> None:
        """A name was looked up; no hosts: it does not resolve, or the resolver failed."""

    def name_leads(self, address: TcpAddress, host: str) -> None:
        """Another one of a name's addresses is in force: that is where it can be reached."""


class _Known:
    """The last good answer for one name."""

    def __init__(self) -> None:
        self.addresses: list[SocketAddress] = []
        self.asked_at = -NEVER  # as long as an answer counts from here on; in the past where a new one is wanted
        self.tried_at = -NEVER
        self.waiting: dict[Found, None] = {}  # an ordered set
        self.asking = False
        self.heard = False  # that it is so or so, or that nobody knows

    @property
    def due_at(self) -> float:
        """When it is to be asked for again, though nobody connects."""
        return max(self.asked_at + REFRESH_S, self.tried_at + AGAIN_S)

    def lost(self, now: float) -> bool:
        """Whether it was asked for so long ago that no answer comes any more."""
        return self.asking and now - self.tried_at >= LOST_AFTER_S


class Names:
    """A resolver of backend addresses, over Twisted's: keeps the answers and remembers which address worked. Names that are
    watched are resolved every REFRESH_S, as `refresh` finds them due. Without a resolver no name is asked for.
    """

    def __init__(self, resolver: IHostnameResolver | None, clock: Clock) -> None:
        self._resolver: Final = resolver
        self._clock: Final = clock
        self._known: dict[TcpAddress, _Known] = {}
        self._literal: dict[Address, list[SocketAddress]] = {}
        self._watched: dict[Watcher, dict[TcpAddress, None]] = {}
        self._due: dict[TcpAddress, None] = {}  # in their order
        self._asking = 0
        self._refreshing = False

    # Those who watch.

    def watch(self, watcher: Watcher, addresses: Iterable[TcpAddress]) -> None:
        """Tell `watcher` what these names mean, and of no others, from now on; at once what is known, be it that a
        name does not resolve.
        """
        before = self._watched.pop(watcher, {})
        wanted = dict.fromkeys(addresses)
        if wanted:
            self._watched[watcher] = wanted
        for address in before:
            if not self._watchers(address):
                self._known.pop(address, None)
                self._due.pop(address, None)
        for address in wanted:
            known = self._known.setdefault(address, _Known())
            if address not in before and known.heard and self._resolver is not None:
                watcher.name_answered(address, _hosts(known))
        if wanted:
            self.refresh()

    def refresh(self) -> None:
        """Look up the watched names whose answers are old, a few at a time."""
        if self._resolver is None:
            return
        now = self._clock.now
        lost: list[TcpAddress] = []
        for addresses in self._watched.values():
            for address in addresses:
                known = self._known[address]
                if not known.asking and now >= known.due_at:
                    self._due[address] = None
                elif known.lost(now):
                    lost.append(address)
        for address in lost:
            self._give_up(address, self._known.get(address))
        self._ask_due()

    def _ask_due(self) -> None:
        if self._refreshing:
            return  # a resolver has answered before it returned
        self._refreshing = True
        while self._due and self._asking < AT_ONCE:
            address = next(iter(self._due))
            del self._due[address]
            known = self._known[address]
            if not known.asking:
                self._ask(address, known)
        self._refreshing = False

    def unheard(self, watcher: Watcher) -> list[str]:
        """The names of which nothing has been heard yet, not even that they do not resolve."""
        addresses = self._watched.get(watcher, {}) if self._resolver is not None else {}
        return [address.host for address in addresses if not self._known[address].heard]

    def _watchers(self, address: TcpAddress) -> list[Watcher]:
        return [watcher for watcher, addresses in self._watched.items() if address in addresses]

    # Those who connect.

    def find(self, address: Address, found: Found) -> None:
        """Call `found` with the socket addresses of a backend, at once when known; an empty list: unresolvable."""
        literal = self._literal.get(address)
        if literal is None and (literal := _literal_address(address)):
            if len(self._literal) >= MOST_LITERAL:
                self._literal.clear()  # endpoints of names that moved, mostly
            self._literal[address] = literal
        if literal is not None:
            found(literal)
            return
        assert isinstance(address, TcpAddress)
        known = self._known.setdefault(address, _Known())
        self._give_up(address, known)
        if not known.asking and self._clock.now - known.asked_at >= REFRESH_S:
            self._ask(address, known)
        if known.addresses:
            found(list(known.addresses))
        elif known.asking:
            known.waiting[found] = None
        else:
            found([])

    def leave(self, address: Address, found: Found) -> None:
        """`found` is not waited for any more. Harmless when it was called."""
        known = self._known.get(address) if isinstance(address, TcpAddress) else None
        if known is not None:
            known.waiting.pop(found, None)

    def worked(self, address: Address, which: SocketAddress) -> None:
        """It worked: this address is in force from now on, and tried first."""
        known = self._known.get(address) if isinstance(address, TcpAddress) else None
        if known is None or not known.addresses or known.addresses[0] == which or which not in known.addresses:
            return
        assert isinstance(address, TcpAddress)
        known.addresses.remove(which)
        known.addresses.insert(0, which)
        for watcher in self._watchers(address):
            watcher.name_leads(address, which[1][0])

    def prefer(self, address: TcpAddress, host: str) -> None:
        """The address of this host is in force, if it is one of the name's."""
        known = self._known.get(address)
        for which in list(known.addresses) if known is not None else ():
            if which[1][0] == host:
                self.worked(address, which)

    def failed(self, address: Address) -> None:
        """None of the addresses worked, or one of several: resolve the name again before the next connect, or soon."""
        known = self._known.get(address) if isinstance(address, TcpAddress) else None
        if known is not None:
            known.asked_at = -NEVER

    def _ask(self, address: TcpAddress, known: _Known) -> None:
        known.asking = True
        known.asked_at = known.tried_at = self._clock.now
        self._asking += 1
        receiver = _Answers(address.port, lambda addresses: self._answered(address, known, addresses))
        try:
            if self._resolver is None:
                receiver.resolutionComplete()
            else:
                self._resolver.resolveHostName(receiver, address.host, address.port, _TYPES[address.family])
        except Exception:
            _log.failure("looking up {name} failed", name=address.host)
            self._answered(address, known, [])

    def _give_up(self, address: TcpAddress, known: _Known | None) -> None:
        """Take a look-up for unanswered that is lost."""
        if known is not None and known.lost(self._clock.now):
            _log.warn("no answer came for the name {name} in {lost_s:g} s", name=address.host, lost_s=LOST_AFTER_S)
            self._answered(address, known, [])

    def _answered(self, address: TcpAddress, known: _Known, addresses: list[SocketAddress]) -> None:
        if not known.asking:
            return  # a resolver that answers and raises
        known.asking = False
        self._asking -= 1
        known.heard = True
        self._clock.read()  # the name server took its time
        found = [one for one in addresses if one[0] == _FAMILIES.get(address.family, one[0])]
        if found:
            if known.addresses and known.addresses[0] in found:
                found.remove(known.addresses[0])
                found.insert(0, known.addresses[0])
            known.addresses = found
        else:
            # Ask again at the next try, not in five seconds: nothing is known.
            known.asked_at = -NEVER
        self._tell(address, known)
        if self._known.get(address) is known:
            hosts = _hosts(known) if found else []
            for watcher in self._watchers(address):
                try:
                    watcher.name_answered(address, hosts)
                except Exception:
                    _log.failure("what {name} means was not taken", name=address.host)
        self._ask_due()

    def _tell(self, address: TcpAddress, known: _Known) -> None:
        """Tell those who wait to connect."""
        waiting, known.waiting = known.waiting, {}
        for found in waiting:
            try:
                found(list(known.addresses))
            except Exception:
                _log.failure("one who waited for {name} failed", name=address.host)


def _hosts(known: _Known) -> list[str]:
    return list(dict.fromkeys(str(where[0]) for _, where in known.addresses))


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
