"""Admission: what a listener and a route ask of a request before it goes on (access lists, rate limits, concurrency limits)."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.core.access import AccessRules
from twisted_lb.core.outcome import Refusal
from twisted_lb.core.rate_limits import RateLimits, Tally, Verdict
from twisted_lb.core.running import Running
from twisted_lb.net.request_keys import RequestKey

_NO_ACCESS: Final = "the client has no access"
_TOO_MANY: Final = "too many requests of one client at a time"


class Denial:
    """Why a request does not go on: what its client is told, and, where that is known, in how many seconds it may."""

    __slots__ = ("detail", "refusal", "retry_after_s")

    def __init__(self, refusal: Refusal, detail: str, retry_after_s: int = 0) -> None:
        self.refusal: Final = refusal
        self.detail: Final = detail
        self.retry_after_s: Final = retry_after_s


class Admission:
    """What is asked of the requests of one route of one listener, by both: who may come in, how much of one client may run at
    once, and how often. In this order, so that who is refused has spent nothing; all limits at once, so that a request is
    charged for all or none.

    `running` are claimed by whoever begins the request, and released at its end. `denials` counts those without access.
    """

    __slots__ = ("_accesses", "_keys", "denials", "limits", "running")

    def __init__(
        self,
        accesses: Sequence[AccessRules],
        running: Sequence[Running],
        limits: RateLimits | None,
        denials: Tally,
    ) -> None:
        self._accesses: Final = tuple(accesses)
        self.limits: Final = limits
        limited = () if limits is None else limits.limits
        self._keys: Final = [RequestKey(one.key, one.field) for one in limited]
        self.running: Final = tuple(running)
        self.denials: Final = denials

    def keys(self, target: bytes, lines: bytes, client_key: str) -> list[bytes]:
        """The keys of a request with this target and these field lines, for the rate limits in their order; `client_key` is its
        client's.
        """
        limits = self.limits
        if limits is None:
            return []
        return [
            limit.key_of(client_key, key.value(target, lines))
            for limit, key in zip(limits.limits, self._keys, strict=True)
        ]

    def denies(self, address: str, client_key: str, keys: Sequence[bytes], now: float) -> Denial | None:
        """Why a request of the client at this address does not go on; None where it does, and then it is paid for."""
        if self._keeps_out(address):
            self.denials.refused += 1
            return Denial(Refusal.FORBIDDEN, _NO_ACCESS)
        for running in self.running:
            if running.full(client_key):
                running.refused += 1
                return Denial(Refusal.RATE_LIMITED, _TOO_MANY)
        return None if self.limits is None else _beyond(self.limits.admit(keys, now))

    def would_deny(self, address: str, client_key: str, keys: Sequence[bytes], now: float) -> Denial | None:
        """What `denies` would say, for somebody who only asks: nothing is counted, and nothing paid for."""
        if self._keeps_out(address):
            return Denial(Refusal.FORBIDDEN, _NO_ACCESS)
        if any(running.full(client_key) for running in self.running):
            return Denial(Refusal.RATE_LIMITED, _TOO_MANY)
        return None if self.limits is None else _beyond(self.limits.foreseen(keys, now))

    def _keeps_out(self, address: str) -> bool:
        return not all(access.allows(address) for access in self._accesses)


def _beyond(verdict: Verdict) -> Denial | None:
    limit = verdict.limit
    if limit is None:
        return None
    return Denial(Refusal.RATE_LIMITED, f"beyond the rate limit {limit.name}", verdict.retry_after_s)
