"""The upstream connections that are kept for reuse, and the making of new ones."""

from typing import TYPE_CHECKING, Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.dialer import Attempt, Dial
from twisted_lb.net.upstream import Upstream

if TYPE_CHECKING:
    from twisted_lb.net.engine import Engine
    from twisted_lb.net.exchange import Exchange

# Of the time after which a backend closes an idle connection, announced or seen, this part is used: the rest is for what
# is on its way when it does. (gunicorn closes after 2 s, uvicorn and Node after 5.)
_TRUSTED_PART: Final = 0.8
# How long what was seen is believed: the backend may be configured anew.
_BELIEVED_S: Final = 600.0
# A connection that is closed sooner was not closed for being idle, but by a worker that ends.
_LEAST_S: Final = 0.1


class KeepRules:
    """How many idle connections are kept per backend, for how many seconds, requests and seconds of life; and how long one
    may have been idle for a request that must not be sent twice.
    """

    def __init__(
        self, *, most_idle: int, idle_s: float, most_requests: int, most_age_s: float, fresh_s: float = 1.0
    ) -> None:
        self.most_idle: Final = most_idle
        self.idle_s: Final = idle_s
        self.most_requests: Final = most_requests
        self.most_age_s: Final = most_age_s
        self.fresh_s: Final = fresh_s


class _Kept:
    """The idle connections to one backend, the one used last at the end, and how long it lets them be."""

    def __init__(self) -> None:
        self.idle: list[Upstream] = []
        self.patience_s: float = NEVER
        self.believed_until: float = NEVER


class Connections:
    """Idle connections by backend, the youngest on top: the others grow old and are closed.

    No connection is used again when the backend is about to close it: after 0.8 of the time that it announces
    (`Keep-Alive: timeout=N`), or after 0.8 of the time after which it was seen to close an idle one in the last 10 minutes.
    """

    def __init__(self, dial: Dial, rules: KeepRules) -> None:
        self.rules: Final = rules
        self._dial: Final = dial
        self._kept: dict[Backend, _Kept] = {}
        self._open: set[Upstream] = set()
        self._closed: bool = False

    def take_idle(self, backend: Backend, repeatable: bool, now: float) -> Upstream | None:
        """The connection used last, or None when a new one has to be made.

        A request that is not `repeatable` takes one only if it was in use this very second: the chance that the backend
        is just closing it is what a retry would have to repair, and here none is allowed.
        """
        kept = self._kept.get(backend)
        if kept is None or not kept.idle:
            return None
        upstream = kept.idle[-1]
        if now >= upstream.reuse_until:
            return None  # its deadline closes it, and those below it
        if not repeatable and now - upstream.idle_since >= self.rules.fresh_s:
            return None
        upstream.idle_s = now - upstream.idle_since
        return kept.idle.pop()

    def put(self, upstream: Upstream, now: float, announced_s: int) -> bool:
        """Keep a connection whose exchange is over, until `upstream.reuse_until`; False, and it is to be closed, when it is
        worn or not wanted. `announced_s`: how long the backend says that it keeps it, -1 if it does not say.
        """
        rules = self.rules
        if (
            self._closed
            or rules.most_idle <= 0
            or upstream.requests >= rules.most_requests
            or now - upstream.opened_at >= rules.most_age_s
            or announced_s == 0
        ):
            return False
        kept = self._kept.get(upstream.backend)
        if kept is None:
            kept = self._kept[upstream.backend] = _Kept()
        elif now >= kept.believed_until:
            kept.patience_s = kept.believed_until = NEVER
        patience_s = min(rules.idle_s, kept.patience_s)
        if announced_s > 0:
            patience_s = min(patience_s, announced_s * _TRUSTED_PART)
        upstream.idle_since = now
        upstream.reuse_until = now + patience_s
        kept.idle.append(upstream)
        if len(kept.idle) > rules.most_idle:
            kept.idle.pop(0).close()
        return True

    def closed_by_backend(self, upstream: Upstream, idle_s: float, now: float) -> None:
        """The backend has closed a connection that was idle for so long, perhaps just when it was used again.

        That tells how long it keeps them, unless it keeps one that has been idle for longer.
        """
        kept = self._kept.get(upstream.backend)
        if kept is None or idle_s < _LEAST_S:
            return
        if kept.idle and kept.idle[0] is not upstream and now - kept.idle[0].idle_since > idle_s:
            return
        patience_s = idle_s * _TRUSTED_PART
        if patience_s < kept.patience_s:
            kept.patience_s = patience_s
            kept.believed_until = now + _BELIEVED_S
            for one in kept.idle:
                one.keep_until(min(one.reuse_until, one.idle_since + patience_s))

    def connect(self, engine: "Engine", backend: Backend, exchange: "Exchange") -> Attempt:
        """Make a connection for an exchange: `exchange.connected` or `exchange.unreachable` is called, once."""
        upstream = Upstream(engine, backend, exchange)

        def failed(outcome: Outcome, detail: str) -> None:
            upstream.waiter = None
            exchange.unreachable(outcome, detail)

        # No longer than an answer is waited for, over all attempts.
        left_s = max(exchange.answer_due - engine.clock.now, 0.0)
        return self._dial.dial(backend.address, upstream, min(engine.rules.timeouts.connect_s, left_s), failed)

    def opened(self, upstream: Upstream) -> None:
        """A connection is up."""
        self._open.add(upstream)

    def forget(self, upstream: Upstream) -> None:
        """A connection is gone, or on its way."""
        self._open.discard(upstream)
        kept = self._kept.get(upstream.backend)
        if kept is not None and upstream in kept.idle:
            kept.idle.remove(upstream)
            if not kept.idle and kept.patience_s == NEVER:
                del self._kept[upstream.backend]

    def believe_anew(self, name: str) -> None:
        """The backend of this name went away: whoever comes back under it may be configured otherwise."""
        for backend, kept in self._kept.items():
            if backend.name == name:
                kept.patience_s = kept.believed_until = NEVER

    def close_idle(self, name: str | None = None) -> None:
        """Close the idle connections of the backends of this name, or of all, and forget what was learnt about them."""
        for backend in [one for one in self._kept if name is None or one.name == name]:
            for upstream in self._kept.pop(backend).idle:
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
        return sum(len(kept.idle) for kept in self._kept.values())

    @property
    def open(self) -> int:
        """How many are open, idle or in use."""
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Connections {self.open} open, {self.idle} idle>"
