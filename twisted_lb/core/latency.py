"""Peak EWMA: load as expected latency, the moving average of latencies times what is in flight."""

from math import exp
from typing import Final

from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Load
from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome

# Finagle's and linkerd's: what was seen so long ago counts for 1/e.
DECAY_S: Final = 10.0
# What a failure counts for at least, and what it is doubled to at most.
FAILURE_S: Final = 1.0
_MOST_S: Final = 60.0
# What is in flight where no latency is known yet: more than any latency, so that one request finds out (Finagle: 2**47 ns).
UNKNOWN_S: Final = float(1 << 17)
# Looking a member up in its enumeration costs more than all else here.
_OK: Final = Outcome.OK


def charged(outcome: Outcome, elapsed_s: float, known_s: float) -> float:
    """What an attempt that ended so counts for as a latency, where this much is known of its backend: twice that for a failure,
    1 s at least, so that it is slow in a pool of slow ones too. -1 where it is no failure.
    """
    if outcome is _OK or CONSEQUENCE[outcome].blame is Blame.NONE:
        return -1.0
    return max(elapsed_s, known_s, FAILURE_S, min(2 * known_s, _MOST_S))


class PeakEwma(Load):
    """Peak EWMA: the load is the latency that was seen last, times one more than what is in flight, of which connects are a part.

    A latency above the average replaces it (peak), one below moves it by how much time has passed (Finagle's PeakEwma):
    `w = exp(-dt/10 s)`, `average = latency if latency > average else average * w + latency * (1 - w)`.

    While nothing is in flight the average decays, so that who was slow is tried again; what is in flight then has the whole of it:
    one request tries, and neither a backend that came to rest nor one that hangs draws a burst. A failure counts as slow, however
    fast it was (sinkhole), see `charged`.
    """

    __slots__ = ("_at", "_average_s", "_counts", "_slot")

    def __init__(self, counts: Counts, slot: int) -> None:
        self._counts: Final = counts
        self._slot: Final = slot
        self._average_s: float = -1.0  # nothing is known
        self._at: float = 0.0

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """A latency: until the head of the response, since a body takes what it is long."""
        self._observe(elapsed_s, now)

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """A failure is as slow as can be told; other ends say nothing of latency."""
        latency = charged(outcome, elapsed_s, self._average_s)
        if latency >= 0:
            self._observe(latency, now)

    def _observe(self, latency_s: float, now: float) -> None:
        average = self._average_s
        if latency_s < average:
            kept = exp((self._at - now) / DECAY_S)
            latency_s = average * kept + latency_s * (1.0 - kept)
        self._average_s = latency_s
        self._at = now

    def value(self, weight: float, now: float) -> float:
        """Seconds that a request would take, for each unit of weight; 0 where nothing is known, and nothing in flight."""
        pending = self._counts.load(self._slot)
        average = self._average_s
        if average < 0:
            return UNKNOWN_S + pending / weight if pending else 0.0
        if not pending:
            return average * exp((self._at - now) / DECAY_S) / weight
        return average * (pending + 1) / weight
