"""Names that another configuration brings, looked up before it is applied: nobody is to wait for them then."""

from collections.abc import Iterable, Iterator
from typing import Final

from twisted.internet.defer import Deferred

from twisted_lb.core.address import TcpAddress, is_name
from twisted_lb.core.endpoints import address_of_spec
from twisted_lb.net.runtime import Runtime
from twisted_lb.plan import Plan

# No longer is waited for name servers: who is not known by then is a backend that is down.
RESOLVE_S: Final = 2.0


def names_in(plan: Plan) -> Iterator[TcpAddress]:
    """The addresses of backends that are names, in the family that each is wanted in."""
    for pool in plan.pools.values():
        for spec in pool.backends:
            address = address_of_spec(spec, pool.upstream.family)
            if isinstance(address, TcpAddress) and is_name(address):
                yield address


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
