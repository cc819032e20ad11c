"""Retries: whether another attempt may be made, by the outcome table, the attempts left, and a retry budget."""

from dataclasses import dataclass
from typing import Final

from twisted_lb.core.backoff import AT_ONCE, Backoff
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Retry
from twisted_lb.core.reserve import Reserve

# The idempotent methods (RFC 9110 9.2.2).
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

# Finagle's RetryBudget: what requests deposit can be spent within this time.
_TTL_S: Final = 10
_DEPOSIT: Final = 1000


class RetryBudget:
    """A retry budget: retries for `percent` of the requests of the last 10 s, and `per_s` a second besides. O(1).

    Requests deposit 1000 each and a retry costs 1000 * 100 / percent, kept by the second; the reserve of `per_s` is a
    token bucket that holds 10 s worth of it. Finagle's numbers: 10 000 failing requests at once get 2 100 retries.

    `reserve`: one that is shared with other processes; else it is the budget's own.
    """

    def __init__(self, percent: int, per_s: int, reserve: Reserve | None = None) -> None:
        self.percent: int = 0
        self.per_s: int = 0
        self._cost: int = 0
        self._reserve: Final = Reserve() if reserve is None else reserve
        self.configure(percent, per_s)
        self._slots: Final = [0] * _TTL_S
        self._sum: int = 0
        self._second: int = 0
        # Deposits of this second that are not in their slot yet, and when it ends.
        self._uncounted: int = 0
        self._second_ends: float = 1.0

    def configure(self, percent: int, per_s: int) -> None:
        """Replace the shares. What is saved stays, but the reserve holds no more than it may; it fills up with time."""
        self.percent = percent
        self.per_s = per_s
        self._cost = _DEPOSIT * 100 // percent if percent > 0 else 0
        self._reserve.configure(per_s)

    def deposit(self, now: float) -> None:
        """Pay in for one request."""
        if now >= self._second_ends:
            self._expire(now)
        self._uncounted += _DEPOSIT

    def withdraw(self, now: float) -> bool:
        """Spend one retry; False, and nothing spent, when the budget does not allow it."""
        self._expire(now)
        if self._cost and self._sum >= self._cost:
            self._spend(self._cost)
            return True
        return self._reserve.withdraw(now)

    @property
    def left(self) -> int:
        """How many retries could be paid for now, as of the last one that was asked for."""
        return (self._sum // self._cost if self._cost else 0) + self._reserve.left

    def _spend(self, amount: int) -> None:
        """Take an amount from the oldest deposits, which would expire first."""
        self._sum -= amount
        for age in range(_TTL_S - 1, -1, -1):
            slot = (self._second - age) % _TTL_S
            taken = min(amount, self._slots[slot])
            self._slots[slot] -= taken
            amount -= taken
            if not amount:
                return

    def _expire(self, now: float) -> None:
        self._slots[self._second % _TTL_S] += self._uncounted
        self._sum += self._uncounted
        self._uncounted = 0
        second = int(now)
        passed = second - self._second
        if passed > 0:
            self._second_ends = second + 1.0
            for step in range(1, min(passed, _TTL_S) + 1):
                slot = (self._second + step) % _TTL_S
                self._sum -= self._slots[slot]
                self._slots[slot] = 0
            self._second = second


@dataclass(frozen=True)
class RetryRules:
    """The retry rules of a route: how many more attempts, which statuses of a response count as failures, and how long to wait
    before each. `grpc`: with which codes of gRPC a call is repeated of which nothing but that was answered.
    """

    more_attempts: int
    bad_statuses: frozenset[int]
    backoff: Backoff = AT_ONCE
    grpc: frozenset[int] = frozenset()

    def allow(self, outcome: Outcome, *, idempotent: bool) -> bool:
        """Whether the outcome table lets another attempt follow one with this outcome."""
        retry = CONSEQUENCE[outcome].retry
        return (
            retry is Retry.ALWAYS
            or (retry is Retry.IF_IDEMPOTENT and idempotent)
            or (retry is Retry.IF_CONFIGURED and idempotent and bool(self.bad_statuses))
        )
