"""Glitches (HAProxy's word): what a peer of HTTP/2 does that costs us and brings nothing, such as rapid resets; each connection has a budget.

Resets of streams (rapid reset, CVE-2023-44487; MadeYouReset, CVE-2025-8671), floods of SETTINGS, PING, PRIORITY, WINDOW_UPDATE, empty DATA
and frames that nobody knows are one thing: much of it is abuse, and a little of it is what every client does at times.
"""

from typing import Final

from mypy_extensions import mypyc_attr

# Above so many it is over: two hundred resets at once, which no browser brings about that leaves a page.
GLITCHES_MOST: Final = 400
# A connection may be there for days, and is asked by pings all the time: so many are forgiven each second, which cost nobody anything.
FORGIVEN_PER_S: Final = 10.0
# What may be saved up for later of what answers have paid for: a burst of so many frames takes milliseconds.
PAID_MOST: Final = 4096


@mypyc_attr(acyclic=True)
class Glitches:
    """The budget of one connection. `paid`: frames that the bodies sent so far have paid for: windows are opened and round trips are measured
    because something was sent. `why`: what the last glitch was.
    """

    __slots__ = ("_at", "count", "paid", "why")

    def __init__(self) -> None:
        self.count: float = 0.0
        self.paid: int = 0
        self.why: str = ""
        self._at: float = 0.0

    def note(self, cost: int, why: str, now: float) -> bool:
        """Note what costs so much; whether the budget is spent with it."""
        if self.count > 0.0:
            self.count = max(self.count - (now - self._at) * FORGIVEN_PER_S, 0.0)
        self._at = now
        self.count += cost
        self.why = why
        return self.count > GLITCHES_MOST

    def note_unless_paid(self, cost: int, why: str, now: float) -> bool:
        """Note it unless answers have paid for it; whether the budget is spent."""
        paid = min(self.paid, PAID_MOST)
        if paid >= cost:
            self.paid = paid - cost
            return False
        return self.note(cost, why, now)

    def forgive(self, most: float = 1.0) -> None:
        """A request has ended well: one glitch is forgiven, or as many as that."""
        if self.count > 0.0:
            self.count = max(self.count - most, 0.0)

    def __repr__(self) -> str:
        return f"<Glitches {self.count:.0f}, {self.paid} paid>"
