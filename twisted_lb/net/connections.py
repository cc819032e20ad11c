"""The upstream connections that are kept for reuse, and the making of new ones."""

from typing import TYPE_CHECKING, Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.dialer import Attempt, Dial
from twisted_lb.net.upstream import Upstream

if TYPE_CHECKING:
    from twisted_lb.net.engine import Engine
    from twisted_lb.net.exchange import Exchange

# A request that must not be sent twice takes a kept connection only if it was in use this recently: the chance that the
# backend is just closing it is what a retry would have to repair, and here none is allowed.
FRESH_S: Final = 1.0


class KeepRules:
    """How many idle connections are kept per backend, for how many seconds, requests and seconds of life."""

    def __init__(self, *, most_idle: int, idle_s: float, most_requests: int, most_age_s: float) -> None:
        self.most_idle: Final = most_idle
        self.idle_s: Final = idle_s
        self.most_requests: Final = most_requests
        self.most_age_s: Final = most_age_s


class Connections:
    """Idle connections by backend, the youngest on top: the others grow old and are closed."""

    def __init__(self, dial: Dial, rules: KeepRules) -> None:
        self.rules: Final = rules
        self._dial: Final = dial
        self._idle: dict[Backend, list[Upstream]] = {}
        self._open: set[Upstream] = set()
        self._closed: bool = False

    def take_idle(self, backend: Backend, repeatable: bool, now: float) -> Upstream | None:
        """The connection used last, or None when a new one has to be made."""
        idle = self._idle.get(backend)
        if not idle:
            return None
        if not repeatable and now - idle[-1].idle_since >= FRESH_S:
            return None
        return idle.pop()

    def put(self, upstream: Upstream, now: float) -> bool:
        """Keep a connection whose exchange is over; False, and it is to be closed, when it is worn or not wanted."""
        rules = self.rules
        if (
            self._closed
            or rules.most_idle <= 0
            or upstream.requests >= rules.most_requests
            or now - upstream.opened_at >= rules.most_age_s
        ):
            return False
        idle = self._idle.get(upstream.backend)
        if idle is None:
            self._idle[upstream.backend] = [upstream]
            return True
        idle.append(upstream)
        if len(idle) > rules.most_idle:
            idle.pop(0).close()
        return True

    def connect(self, engine: "Engine", backend: Backend, exchange: "Exchange") -> Attempt:
        """Make a connection for an exchange: `exchange.connected` or `exchange.unreachable` is called, once."""
        upstream = Upstream(engine, backend, exchange)

        def failed(outcome: Outcome, detail: str) -> None:
            upstream.waiter = None
            exchange.unreachable(outcome, detail)

        return self._dial.dial(backend.address, upstream, engine.rules.timeouts.connect_s, failed)

    def opened(self, upstream: Upstream) -> None:
        """A connection is up."""
        self._open.add(upstream)

    def forget(self, upstream: Upstream) -> None:
        """A connection is gone, or on its way."""
        self._open.discard(upstream)
        self.withdraw(upstream)

    def withdraw(self, upstream: Upstream) -> None:
        """Take it out of the idle ones, if it is there."""
        idle = self._idle.get(upstream.backend)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
            if not idle:
                del self._idle[upstream.backend]

    def close_idle(self, name: str | None = None) -> None:
        """Close the idle connections of the backends of this name, or of all."""
        for backend in [one for one in self._idle if name is None or one.name == name]:
            for upstream in self._idle.pop(backend, []):
                upstream.close()

    def close_all(self) -> None:
        """Close everything, also what is in use; nothing is kept from now on."""
        self._closed = True
        self.close_idle()
        for upstream in list(self._open):
            upstream.abandon()

    @property
    def idle(self) -> int:
        """How many are kept: O(backends)."""
        return sum(len(idle) for idle in self._idle.values())

    @property
    def open(self) -> int:
        """How many are open, idle or in use."""
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Connections {self.open} open, {self.idle} idle>"
