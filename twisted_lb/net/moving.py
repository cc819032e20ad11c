"""Requests that are moved away from a frozen backend: its connections live, and nothing comes out of them."""

from collections.abc import Callable, Iterable
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.pool import Pool
from twisted_lb.net.clock import Timer
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.upstream import Upstream

# Of a pool's open leases this share is moved at most in each of these periods, and one at least: what froze one backend
# must not run over the others.
_SHARE: Final = 0.10
_PERIOD_S: Final = 1.0


class Moving:
    """The move of requests from backends that probes found silent to others (HAProxy's `on-marked-down shutdown-sessions`,
    for what may be sent twice, and slowly).

    Moved are requests that may be repeated, of whose answer not one byte came, and that were sent before as many probes
    failed in a row as take a backend out, the oldest first, each once, paid by the retry budget. What cannot be moved now
    waits on, for another period or for the backend. `ways` are the pool's connections and calls.
    """

    def __init__(self, runtime: Runtime, pool: Pool, ways: Callable[[], Iterable[Upstream]]) -> None:
        self._runtime: Final = runtime
        self._pool: Final = pool
        self._ways: Final = ways
        self._silent: dict[Backend, str] = {}  # with what probes said
        # Those whose name means another server now: what was sent before this is overdue at the old one.
        self._left: dict[Backend, float] = {}
        self._timer: Timer | None = None
        self._next_at: float = -NEVER

    def begin(self, backend: Backend, reason: str) -> None:
        """Probes took this backend out, because it was silent, as `reason` says: move what it owes."""
        self._silent[backend] = reason
        if self._timer is None:
            self._timer = self._runtime.later(max(self._next_at - self._runtime.clock.read(), 0.0), self._move)

    def leave(self, backend: Backend) -> None:
        """The name of this backend means another server from now on: what probes find there says nothing of what the old one
        owes, where connections are worn.
        """
        if backend in self._silent:
            self._left[backend] = backend.health.silent_since

    def _move(self) -> None:
        """Move what may be moved in this period, and come back for the rest in the next one."""
        self._timer = None
        if not self._pool.settings.move:
            self._forget()  # switched off meanwhile
            return
        now = self._runtime.clock.read()
        for backend in [one for one in self._silent if one.health.up and one not in self._left]:
            del self._silent[backend]
        owed = self._owed()
        owing = {upstream.backend for _, upstream in owed}
        for backend in [one for one in self._left if one not in owing]:
            del self._left[backend]
        most = max(1, int(self._pool.leases * _SHARE))
        moved = 0
        for sent_at, upstream in owed:
            requester = upstream.requester
            if (
                moved < most
                and sent_at < self._overdue_before(upstream)
                and requester is not None
                and upstream.owes_all
                and requester.move(self._detail(upstream))
            ):
                moved += 1
        if moved:
            self._next_at = now + _PERIOD_S
        if any(backend.in_flight for backend in self._silent):  # one may be connecting, or be moved later
            self._timer = self._runtime.later(_PERIOD_S, self._move)
        else:
            self._forget()

    def _overdue_before(self, upstream: Upstream) -> float:
        """What was sent on this connection before this moment is overdue."""
        backend = upstream.backend
        if upstream.opened_at == -NEVER and backend in self._left:
            return self._left[backend]
        return backend.health.silent_since

    def _forget(self) -> None:
        self._silent.clear()
        self._left.clear()

    def _owed(self) -> list[tuple[float, Upstream]]:
        """The connections to silent backends whose requests may be moved, with when these were sent: the oldest first."""
        owed = []
        for upstream in self._ways():
            if upstream.backend in self._silent and upstream.owes_all:
                requester = upstream.requester
                assert requester is not None
                sent_at = requester.movable_since()
                if sent_at != NEVER:
                    owed.append((sent_at, upstream))
        owed.sort(key=lambda one: one[0])
        return owed

    def _detail(self, upstream: Upstream) -> str:
        return f"its checks find it down: {self._silent[upstream.backend]}"

    def stop(self) -> None:
        """Move nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forget()
