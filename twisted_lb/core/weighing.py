"""Weighing: what a backend's weight is now: what is configured, times what its agent says, times slow start.

Slow start (warm-up): who has just come back has cold caches and unopened connections, and gets its share little by little.
"""

from dataclasses import dataclass
from typing import Final

from twisted_lb.core.never import NEVER

# The least age that counts. Envoy's documentation says a second, its code has a millisecond.
_LEAST_S: Final = 0.001


@dataclass(frozen=True)
class SlowStart:
    """The rules of slow start: within `window_s` a backend comes to its whole weight, 0: at once. `aggression` bends the ramp: 1
    is a straight line, more begins steeper. `floor` is the least part of its weight.
    """

    window_s: float = 0.0
    aggression: float = 1.0
    floor: float = 0.1

    def part(self, age_s: float) -> float:
        """Which part of its weight a backend has that came back so long ago (Envoy's formula, `slow_start.rst`)."""
        if age_s >= self.window_s:
            return 1.0
        # An annotation keeps mypyc from a power of unknown kind.
        bent: float = (max(age_s, _LEAST_S) / self.window_s) ** (1.0 / self.aggression)
        return min(max(self.floor, bent), 1.0)


AT_ONCE: Final = SlowStart()


class Weighing:
    """The weight of one backend: the one owner of what it is now, `effective`. `configured` is what file or operator say, a whole
    number; `said` which part of it the backend's agent wants, `part` which part slow start leaves of that. `steady` is the
    weight without slow start.

    `since`: when the ramp began, -NEVER while there is none. `cold`: it has got nothing of late, and its return begins a ramp;
    who is there from the start of the process is not cold until something takes it out.
    """

    __slots__ = ("cold", "configured", "effective", "part", "said", "since", "steady")

    def __init__(self, configured: int) -> None:
        self.configured: int = configured
        self.said: float = 1.0
        self.part: float = 1.0
        self.since: float = -NEVER
        self.cold: bool = False
        self.steady: float = float(configured)
        self.effective: float = float(configured)

    def configure(self, weight: int) -> None:
        """Follow file or operator."""
        self.configured = weight
        self._work_out()

    def say(self, part: float) -> None:
        """Follow the backend's agent: it wants this part of its weight, 1 for all of it."""
        self.said = part
        self._work_out()

    def _work_out(self) -> None:
        self.steady = self.configured * self.said
        self.effective = self.steady * self.part

    @property
    def ramping(self) -> bool:
        """Whether it is on its way to its weight."""
        return self.since > -NEVER

    def begin(self, now: float, rules: SlowStart) -> bool:
        """The backend is back: its ramp begins, if there are any; whether the weight is another one now."""
        self.cold = False
        self.since = now if rules.window_s > 0 else -NEVER
        return self.follow(now, rules)

    def follow(self, now: float, rules: SlowStart) -> bool:
        """Go on with the ramp; whether the weight is another one now."""
        part = rules.part(now - self.since)
        if part >= 1.0:
            self.since = -NEVER
        if part == self.part:
            return False
        self.part = part
        self._work_out()
        return True

    def end(self) -> bool:
        """End the ramp: the whole weight at once; whether it is another one now."""
        self.since = -NEVER
        before, self.part = self.part, 1.0
        self._work_out()
        return before != self.part

    def left_s(self, now: float, rules: SlowStart) -> float:
        """How long until it has its whole weight."""
        return max(self.since + rules.window_s - now, 0.0) if self.ramping else 0.0

    def __repr__(self) -> str:
        return f"<Weighing {self.effective:g} of {self.configured}>"
