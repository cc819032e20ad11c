"""Names of backends: those that another configuration brings are looked up before it is applied, so that nobody has to wait
for them then; and those that do not resolve are told, for their backends are down.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred

from twisted_lb.core.address import TcpAddress, is_name
from twisted_lb.core.endpoints import address_of_spec
from twisted_lb.net.dialer import unresolved
from twisted_lb.net.runtime import Runtime
from twisted_lb.planned import Plan

# No longer is waited for name servers: who is not known by then is a backend that is down.
RESOLVE_S: Final = 2.0


class Named(NamedTuple):
    """A backend whose address is a name, in the family that it is wanted in: the one of this number, from 0, among those that
    its pool says itself.
    """

    pool: str
    backend: str
    number: int
    address: TcpAddress


def named_in(plan: Plan) -> Iterator[Named]:
    """The backends of a plan whose addresses are names."""
    for name, pool in plan.pools.items():
        for number, spec in enumerate(pool.backends):
            address = address_of_spec(spec, pool.upstream.family)
            if isinstance(address, TcpAddress) and is_name(address):
                yield Named(name, spec.name, number, address)


def names_in(plan: Plan) -> Iterator[TcpAddress]:
    """The names among the addresses of a plan's backends."""
    return (one.address for one in named_in(plan))


class Resolving:
    """A look-up of several names, whatever comes of it. `done` fires when each was answered once, or after RESOLVE_S. What was
    found is kept until `close`, and as long as somebody else watches the name.
    """

    def __init__(self, runtime: Runtime, addresses: Iterable[TcpAddress]) -> None:
        self.done: Final[Deferred[None]] = Deferred()
        self._runtime: Final = runtime
        self._over: bool = False
        self._timer: Final = runtime.later(RESOLVE_S, self._end)
        runtime.names.watch(self, addresses)
        self._look()

    def hurry(self) -> None:
        """Wait no longer. Harmless when nothing is waited for."""
        if not self._over:
            self._timer.cancel()
            self._end()

    def close(self) -> None:
        """Watch no more. Harmless when it was done before."""
        self._runtime.names.watch(self, ())

    def name_answered(self, address: TcpAddress, hosts: list[str]) -> None:
        """See Watcher."""
        self._look()

    def name_leads(self, address: TcpAddress, host: str) -> None:
        """See Watcher: nothing to do."""

    def _look(self) -> None:
        if not self._over and not self._runtime.names.unheard(self):
            self._over = True
            self._timer.cancel()
            self._runtime.soon(self._tell)  # others are told first

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._tell()

    def _tell(self) -> None:
        self.done.callback(None)


class Unresolved:
    """Tells of backends whose names do not resolve: of each once, as long as it is there, and not of one whose name has
    resolved before, since that keeps the addresses that it had. `say` has the backend and the reason.
    """

    def __init__(self, runtime: Runtime, say: Callable[[Named, str], None]) -> None:
        self._runtime: Final = runtime
        self._say: Final = say
        self._backends: list[Named] = []
        self._resolved: set[TcpAddress] = set()
        self._said: set[tuple[str, str, TcpAddress]] = set()

    def follow(self, plan: Plan) -> None:
        """Tell of this plan's backends from now on."""
        self._backends = list(named_in(plan))
        addresses = [one.address for one in self._backends]
        self._resolved.intersection_update(addresses)
        self._said.intersection_update(map(_key, self._backends))
        self._runtime.names.watch(self, addresses)

    def close(self) -> None:
        """Tell nothing more. Harmless when it was done before."""
        self._runtime.names.watch(self, ())

    def name_answered(self, address: TcpAddress, hosts: list[str]) -> None:
        """See Watcher."""
        if hosts:
            self._resolved.add(address)
        elif address not in self._resolved:
            for one in self._backends:
                if one.address == address and _key(one) not in self._said:
                    self._said.add(_key(one))
                    self._say(one, unresolved(address))

    def name_leads(self, address: TcpAddress, host: str) -> None:
        """See Watcher: nothing to do."""


def _key(one: Named) -> tuple[str, str, TcpAddress]:
    """What makes it the same backend in another plan, wherever it stands there."""
    return one.pool, one.backend, one.address
