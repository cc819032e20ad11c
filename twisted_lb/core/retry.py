"""Whether another attempt may be made: the outcome table, the attempts left, and a budget."""

from typing import Final

from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Retry

# RFC 9110 9.2.2.
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

# Finagle's RetryBudget: what requests deposit can be spent within this time.
_TTL_S: Final = 10
_DEPOSIT: Final = 1000


class RetryBudget:
    """Retries for `percent` of the requests of the last 10 s, and `per_s` a second besides. O(1), in whole numbers.

    Requests deposit 1000 each and a retry costs 1000 * 100 / percent, kept by the second; the reserve of `per_s` is a
    token bucket that holds 10 s worth of it. Finagle's numbers: 10 000 failing requests at once get 2 100 retries.
    """

    def __init__(self, percent: int = 20, per_s: int = 10) -> None:
        self._cost: Final = _DEPOSIT * 100 // percent if percent > 0 else 0
        self._reserve_most: Final = per_s * _TTL_S * _DEPOSIT
        self._per_s: Final = per_s
        self._reserve: int = self._reserve_most
        self._refilled_at: float = 0.0
        self._slots: Final = [0] * _TTL_S
        self._sum: int = 0
        self._second: int = 0
        # Deposits of this second that are not in their slot yet, and when it ends.
        self._fresh: int = 0
        self._second_ends: float = 1.0

    def deposit(self, now: float) -> None:
        """A request came."""
        if now >= self._second_ends:
            self._expire(now)
        self._fresh += _DEPOSIT

    def withdraw(self, now: float) -> bool:
        """Spend one retry; False, and nothing spent, when the budget does not allow it."""
        self._expire(now)
        if self._cost and self._sum >= self._cost:
            self._spend(self._cost)
            return True
        if self._reserve >= _DEPOSIT:
            self._reserve -= _DEPOSIT
            return True
        return False

    def _spend(self, amount: int) -> None:
        """Take it from the oldest deposits, which would expire first."""
        self._sum -= amount
        for age in range(_TTL_S - 1, -1, -1):
            slot = (self._second - age) % _TTL_S
            taken = min(amount, self._slots[slot])
            self._slots[slot] -= taken
            amount -= taken
            if not amount:
                return

    def _expire(self, now: float) -> None:
        self._slots[self._second % _TTL_S] += self._fresh
        self._sum += self._fresh
        self._fresh = 0
        second = int(now)
        passed = second - self._second
        if passed > 0:
            self._second_ends = second + 1.0
            for step in range(1, min(passed, _TTL_S) + 1):
                slot = (self._second + step) % _TTL_S
                self._sum -= self._slots[slot]
                self._slots[slot] = 0
            self._second = second
        self._refill(now)

    def _refill(self, now: float) -> None:
        if self._reserve >= self._reserve_most:
            self._refilled_at = now
            return
        rate = self._per_s * _DEPOSIT
        refill = int((now - self._refilled_at) * rate)
        if refill > 0:
            self._reserve = min(self._reserve + refill, self._reserve_most)
            # Only as far as was paid for: asked often, the fractions add up to the whole rate.
            self._refilled_at += refill / rate


class RetryPolicy:
    """`more_attempts` after the first, within the budget."""

    def __init__(self, more_attempts: int, budget: RetryBudget, *, bad_status: bool = False) -> None:
        self.more_attempts: Final = more_attempts
        self.budget: Final = budget
        self._bad_status: Final = bad_status

    def permits(
        self, outcome: Outcome, attempt: int, *, idempotent: bool, held: bool, relayed: bool, now: float
    ) -> bool:
        """Whether attempt number `attempt` (the first is 1), which ended so, may be followed by another one.

        `held`: every byte of the body that was taken from the client is still here. `relayed`: something has reached the
        client. A yes is paid for from the budget.
        """
        retry = CONSEQUENCE[outcome].retry
        wanted = (
            retry is Retry.ALWAYS
            or (retry is Retry.IF_IDEMPOTENT and idempotent)
            or (retry is Retry.IF_CONFIGURED and self._bad_status and idempotent)
        )
        if not wanted or relayed or not held or attempt > self.more_attempts:
            return False
        return self.budget.withdraw(now)
