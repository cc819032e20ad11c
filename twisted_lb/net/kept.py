"""The idle connections kept to one backend, and what was seen of how it keeps them (keep-alive race)."""

from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.net.http1_upstream import Http1Upstream

# Of a backend's idle timeout, announced or observed, this part is used: the rest is for requests that are on their way
# when it closes (keep-alive race). (gunicorn closes after 2 s, uvicorn and Node after 5.)
IDLE_TIMEOUT_MARGIN: Final = 0.8
# How long an observed idle timeout counts: the backend may be configured anew.
LEARNED_FOR_S: Final = 600.0
# A connection that is closed sooner was not closed for being idle, but by a worker that ends.
LEAST_S: Final = 0.1
# A close within this time of an answer that did not announce it is early: whoever uses such a connection may meet it.
EARLY_S: Final = 1.0
# For so long after an early close nothing that must not be repeated goes to that backend on a kept connection.
_WARY_S: Final = 60.0
# A backend is trusted with a client's first request that must not be repeated once it has kept so many connections idle
# for EARLY_S, within two of these periods, and closed none early.
_TRUSTED_AFTER: Final = 100
_TRUST_PERIOD_S: Final = 300.0
# With `max_idle = "auto"` so many idle connections are kept at least, and those in use at once in two of these periods.
_LEAST_KEPT: Final = 32
_PEAK_PERIOD_S: Final = 30.0


class Recent:
    """A number of the last while: of the present period and of the one before it."""

    __slots__ = ("before", "ends_at", "now", "period_s")

    def __init__(self, period_s: float) -> None:
        self.period_s: Final = period_s
        self.now: int = 0
        self.before: int = 0
        self.ends_at: float = -NEVER

    def roll(self, now: float) -> None:
        """Begin the next period if this one is over."""
        if now >= self.ends_at:
            # Nothing of the period before counts where a whole one has passed since.
            self.before = self.now if now < self.ends_at + self.period_s else 0
            self.now = 0
            self.ends_at = now + self.period_s


class Kept:
    """The idle connections to one backend, the one used last at the end, and what was seen of how the backend keeps them."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Final = backend
        self.idle: list[Http1Upstream] = []
        self.idle_timeout_s: float = NEVER
        self.learned_until: float = NEVER
        self.wary_until: float = -NEVER  # it has closed one early
        self.kept_long: Final = Recent(_TRUST_PERIOD_S)  # connections that it kept idle for EARLY_S
        self.peak: Final = Recent(_PEAK_PERIOD_S)  # most that were in use at once

    def saw_kept(self, now: float) -> None:
        """A connection that was idle for EARLY_S is there."""
        self.kept_long.roll(now)
        self.kept_long.now += 1

    def saw_early_close(self, now: float) -> None:
        """The backend closed a connection within EARLY_S of its answer, and had not announced it."""
        self.wary_until = now + _WARY_S
        self.kept_long.now = self.kept_long.before = 0

    def trusted(self, now: float) -> bool:
        """Whether a request that must not be repeated, and that no other one of its client came before, may take one."""
        self.kept_long.roll(now)
        return self.kept_long.now + self.kept_long.before >= _TRUSTED_AFTER

    def most(self, now: float, in_use: int) -> int:
        """How many idle connections are worth keeping while so many are in use."""
        peak = self.peak
        if now >= peak.ends_at:
            peak.roll(now)
        # Of two at a time, which mypyc knows: this is done after each response.
        peak.now = max(peak.now, in_use)
        most = max(peak.now, peak.before)
        return max(most, _LEAST_KEPT)
