"""Admission: what a listener and a route ask of a request before it goes on (access lists, rate limits, concurrency limits)."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.core.access import AccessRules
from twisted_lb.core.outcome import Refusal
from twisted_lb.core.rate_limits import RateLimits, Tally
from twisted_lb.core.running import Running
from twisted_lb.net.request_keys import RequestKey


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
        for access in self._accesses:
            if not access.allows(address):
                self.denials.refused += 1
                return Denial(Refusal.FORBIDDEN, "the client has no access")
        for running in self.running:
            if running.full(client_key):
                running.refused += 1
                return Denial(Refusal.RATE_LIMITED, "too many requests of one client at a time")
        if self.limits is None:
            return None
        verdict = self.limits.admit(keys, now)
        limit = verdict.limit
        return (
            None
            if limit is None
            else Denial(Refusal.RATE_LIMITED, f"beyond the rate limit {limit.name}", verdict.retry_after_s)
        )
