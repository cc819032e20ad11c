"""What runs of a simulation say together: means over replications with Student's t, and differences of paired seeds."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev
from typing import Final

from twisted_lb.sim.observe import Run, Unstable

# Two-sided intervals of 95 %.
CONFIDENCE: Final = 0.95
_BISECTIONS: Final = 60


@dataclass(frozen=True)
class Estimate:
    """A mean over replications, and half the width of its interval of 95 %."""

    value: float
    half: float

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float | int) and abs(value - self.value) <= self.half

    @property
    def low(self) -> float:
        """Where the interval begins."""
        return self.value - self.half

    @property
    def high(self) -> float:
        """Where the interval ends."""
        return self.value + self.half

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.half:.2g}"


def estimate(values: Sequence[float]) -> Estimate:
    """The estimate of independent values; ValueError for fewer than two, which have no interval."""
    if len(values) < 2:
        raise ValueError(f"an interval needs two runs at least, not {len(values)}")
    return Estimate(fmean(values), student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values)))


def difference(before: Sequence[float], after: Sequence[float]) -> Estimate:
    """The estimate of `after` less `before`, where each two of them have the same seed, and so the same requests (common random
    numbers): what both have in common is no part of it.
    """
    return estimate([new - old for old, new in zip(before, after, strict=True)])


def batch_means(values: Sequence[float], batches: int = 20) -> Estimate:
    """The estimate of one long run, cut into batches that are taken for independent. Replications are better: near saturation
    batches are not independent, and the interval is too narrow.
    """
    size = len(values) // batches
    return estimate([fmean(values[first * size : (first + 1) * size]) for first in range(batches)])


@cache
def student_t(freedom: int) -> float:
    """Student's t: the value that is exceeded either way with 1 - CONFIDENCE, with so many degrees of freedom."""
    low, high = 0.0, math.pi / 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _within(middle, freedom) < CONFIDENCE:
            low = middle
        else:
            high = middle
    return math.tan(low) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """The chance that |t| is at most sqrt(freedom) * tan(angle): Abramowitz and Stegun 26.7.3 and 26.7.4."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for number in range(odd, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (number + 1) / (number + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


class Replications:
    """The same simulation with several seeds. `unstable` says in words why its latencies mean nothing, in the first run where they
    do not; empty: they do in all of them.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs: Final = list(runs)
        self.unstable: Final = next((run.unstable for run in runs if run.unstable), "")

    def each(self, measure: Callable[[Run], float]) -> list[float]:
        """A measure of each run. Unstable where one of them has none."""
        return [measure(run) for run in self.runs]

    def of(self, measure: Callable[[Run], float]) -> Estimate:
        """The estimate of a measure."""
        return estimate(self.each(measure))

    @property
    def mean(self) -> Estimate:
        """The mean latency, in seconds. Unstable where there is none."""
        return self.of(lambda run: run.mean)

    def quantile(self, share: float) -> Estimate:
        """A quantile of the latencies, in seconds. Unstable where there is none."""
        return self.of(lambda run: run.quantile(share))

    def share(self, name: str) -> Estimate:
        """The share of the requests that a backend got."""
        return self.of(lambda run: run.share(name))

    def against(self, other: "Replications", measure: Callable[[Run], float]) -> Estimate:
        """By how much a measure is more than that of others with the same seeds."""
        return difference(other.each(measure), self.each(measure))

    def __repr__(self) -> str:
        try:
            told = f"mean {self.mean} s" if len(self.runs) > 1 else f"mean {self.runs[0].mean:.4g} s"
        except Unstable as unstable:
            told = f"unstable: {unstable}"
        return f"<Replications {len(self.runs)}, {told}>"


def replicate(run: Callable[[int], Run], seeds: Iterable[int]) -> Replications:
    """Run the same simulation with each of these seeds."""
    return Replications([run(seed) for seed in seeds])
