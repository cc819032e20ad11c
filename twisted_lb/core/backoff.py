"""Backoff: how long a request waits before another attempt: exponential, by chance (full jitter), or as its backend asks (Retry-After)."""

from dataclasses import dataclass
from random import Random
from typing import Final

from twisted_lb.core.outcome import CONSEQUENCE, Blame, Outcome

# Told to come again after so long, a request waits by chance up to this part longer: those that were told together do not come
# together. Envoy does the same.
_SPREAD: Final = 0.5


@dataclass(frozen=True)
class Backoff:
    """The waits before attempts after the first one, in seconds: by chance between 0 and `base_s`, twice as much before each further
    one, `most_s` at most; 0 is no wait. `told_most_s`: the longest wait that a backend may ask for; 0: what it asks for is not heeded.
    """

    base_s: float = 0.0
    most_s: float = 0.0
    told_most_s: float = 0.0

    def wait_s(self, outcome: Outcome, before: int, rng: Random) -> float:
        """How long to wait after this outcome, before which there were so many retries. Where nobody has heard of the request, or its
        backend is merely gone, another one may have it at once; a failure of somebody who listens is mostly load.
        """
        if self.base_s <= 0.0 or not backs_off(outcome):
            return 0.0
        return rng.uniform(0.0, min(self.most_s, self.base_s * 2.0**before))

    def told_s(self, told_s: float, rng: Random) -> float:
        """How long to wait where a backend asks for so long."""
        return told_s * (1.0 + rng.uniform(0.0, _SPREAD))


AT_ONCE: Final = Backoff()


def backs_off(outcome: Outcome) -> bool:
    """Whether an attempt after one with this outcome waits, where any does: somebody listens there, and has failed."""
    consequence = CONSEQUENCE[outcome]
    return consequence.blame is Blame.FAILURE and consequence.alive is True
