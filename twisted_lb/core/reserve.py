"""The reserve of a retry budget: so many retries a second whatever the traffic is, in one process or in several together."""

from typing import Final

from twisted_lb.core.rate import Hashes, Rate, Rates

# It holds what comes in so many seconds.
_HOLDS_S: Final = 10
_RETRY: Final = 1000


class Reserve:
    """A token bucket of `per_s` retries a second, which holds 10 s worth of them, and is full at first. O(1)."""

    __slots__ = ("_amount", "_most", "_refilled_at", "per_s")

    def __init__(self) -> None:
        self.per_s: int = 0
        self._amount: int = 0
        self._most: int = -1
        self._refilled_at: float = 0.0

    def configure(self, per_s: int) -> None:
        """Have another rate. What is saved stays, but it holds no more than it may; it fills up with time."""
        self.per_s = per_s
        most = per_s * _HOLDS_S * _RETRY
        self._amount = most if self._most < 0 else min(self._amount, most)
        self._most = most

    def withdraw(self, now: float) -> bool:
        """Spend one retry; False, and nothing spent, when there is none."""
        self._refill(now)
        if self._amount < _RETRY:
            return False
        self._amount -= _RETRY
        return True

    @property
    def left(self) -> int:
        """How many retries there are, as of the last one that was asked for."""
        return self._amount // _RETRY

    def _refill(self, now: float) -> None:
        if self._amount >= self._most:
            self._refilled_at = now
            return
        rate = self.per_s * _RETRY
        refill = int((now - self._refilled_at) * rate)
        if refill > 0:
            self._amount = min(self._amount + refill, self._most)
            # Only as far as was paid for: asked often, the fractions add up to the whole rate.
            self._refilled_at += refill / rate


class SharedReserve(Reserve):
    """One that several processes spend together, as a rate of this `name` in a table that they share; the time is the same for all."""

    __slots__ = ("_left", "_rate", "_rates", "_tag")

    def __init__(self, rates: Rates, name: str, secret: bytes) -> None:
        super().__init__()
        self._rates: Final = rates
        self._tag: Final = Hashes("reserve", secret).of(name.encode())
        self._rate: Rate | None = None
        self._left: int = 0

    def configure(self, per_s: int) -> None:
        """See Reserve."""
        self.per_s = per_s
        self._rate = Rate(per_s, per_s * _HOLDS_S) if per_s else None
        self._left = per_s * _HOLDS_S

    def withdraw(self, now: float) -> bool:
        """See Reserve."""
        rate = self._rate
        if rate is None:
            return False
        spent = not self._rates.take(self._tag, rate, 1, now)
        self._left = self._rates.left(self._tag, rate, now)
        return spent

    @property
    def left(self) -> int:
        """See Reserve."""
        return self._left
