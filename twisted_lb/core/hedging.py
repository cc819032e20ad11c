"""Hedging (backup requests, "The Tail at Scale"): after which delay a request that has no answer yet is sent to a second backend too."""

import enum
from dataclasses import dataclass
from math import ceil
from typing import Final

from twisted_lb.core.histogram import LONGEST_S, Histogram, Reading, edges
from twisted_lb.core.never import NEVER

# The window in which the delay is measured, in slices: what is older than 20 to 30 s is forgotten. Finagle's has three of 10 s too.
_SLICES: Final = 3
_SLICE_S: Final = 10.0
# How often the delay is worked out anew: O(slots), and it moves slowly.
_RENEWED_S: Final = 1.0
# So many requests of the window have to be beyond a percentile before it means anything: their number deviates by its root.
_LEAST_BEYOND: Final = 5


@dataclass(frozen=True)
class HedgeRules:
    """When a request is hedged: after `delay_s`, or, where that is 0, after the time in which `percentile` of a hundred begin to be
    answered, and never before `least_delay_s`.
    """

    percentile: float = 95.0
    delay_s: float = 0.0
    least_delay_s: float = 0.0


class Hedged(enum.IntEnum):
    """What became of a request whose delay was over: what its hedge came to, or why it had none."""

    WON = 0  # the hedge answered first
    LOST = 1  # the first attempt did
    STOOD_IN = 2  # the first attempt failed while the hedge was under way, which is the attempt from then on
    FAILED = 3  # the hedge failed, and the first attempt went on
    CUT = 4  # the client left, or the request was cancelled
    NO_ROOM = 5  # nobody else had a place free at once
    NO_BUDGET = 6  # the retry budget was spent


class Hedging:
    """The hedging of a pool: its rules, and the delay that follows from how long answers take to begin (`observe`), of all that may be
    hedged. Where the hedge answers first, what the first attempt took until then is what is known of it: it is beyond the delay, and
    counts there, so that the delay does not fall by what it brings about.
    """

    def __init__(self, rules: HedgeRules) -> None:
        self.rules: HedgeRules = rules
        self._slices: list[Histogram] = [Histogram() for _ in range(_SLICES)]
        self._slice_ends: float = -NEVER
        self._delay_s: float = NEVER
        self._renew_at: float = -NEVER

    def observe(self, took_s: float, now: float) -> None:
        """An answer has begun, so long after its request was sent, or was about to be."""
        if now >= self._slice_ends:
            self._turn(now)
        self._slices[0].add(took_s)

    def delay_s(self, now: float) -> float:
        """After how long a request is hedged; NEVER while too little is known for a percentile."""
        rules = self.rules
        if rules.delay_s > 0.0:
            return rules.delay_s
        if now >= self._renew_at:
            self._renew_at = now + _RENEWED_S
            self._delay_s = self._measured(now)
        return self._delay_s

    @property
    def known_s(self) -> float | None:
        """After how long requests are hedged, as of the last one that may be; None while that is not known."""
        delay_s = self.rules.delay_s or self._delay_s
        return delay_s if delay_s < NEVER else None

    def renew(self) -> None:
        """Work the delay out anew when it is asked for."""
        self._renew_at = -NEVER

    def _measured(self, now: float) -> float:
        if now >= self._slice_ends:
            self._turn(now)
        known = sum((one.reading() for one in self._slices[1:]), self._slices[0].reading())
        share = self.rules.percentile / 100.0
        if known.count < ceil(_LEAST_BEYOND / (1.0 - share)):
            return NEVER
        return max(_within(known, share), self.rules.least_delay_s)

    def _turn(self, now: float) -> None:
        """Forget the oldest slice, or all that are too old."""
        passed = min(int((now - self._slice_ends) / _SLICE_S) + 1, _SLICES) if self._slice_ends > -NEVER else _SLICES
        self._slices = [*(Histogram() for _ in range(passed)), *self._slices[: _SLICES - passed]]
        self._slice_ends = now + _SLICE_S

    def __repr__(self) -> str:
        delay_s = self.rules.delay_s or self._delay_s
        return f"<Hedging after {delay_s:g} s>"


def hedged_by(rules: HedgeRules | None, before: Hedging | None) -> Hedging | None:
    """The hedging of a pool by these rules, None: by none. What was measured before holds."""
    if rules is None:
        return None
    if before is None:
        return Hedging(rules)
    if before.rules != rules:
        before.rules = rules
        before.renew()
    return before


def _within(known: Reading, share: float) -> float:
    """The duration that a share of all are not beyond, found within its slot as if those there were evenly spread: with slots of an
    eighth, 5 of a hundred beyond it are then not 4.
    """
    rank, running, before = share * known.count, 0, 0.0
    for count, edge in zip(known.counts, edges(), strict=True):
        if count and running + count >= rank:
            return before + (min(edge, LONGEST_S) - before) * (rank - running) / count
        running += count
        before = edge
    return LONGEST_S
