"""The laws of a simulation: when requests arrive, and how much work each of them is. All are drawn by inversion of `random()`,
which is the same on every version of Python, in blocks, each from a stream of its own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import Final, Protocol

# Long enough that what happens once a block costs nothing, and not so long that a short run draws much too much.
BLOCK: Final = 4096
_NORMAL: Final = NormalDist()


def stream(seed: int, name: str) -> Random:
    """A random stream of its own, as `Runtime.stream` has them: the same for the same seed and name. Objects that shared one
    would behave as one.
    """
    return Random(f"{seed}/{name}")


class Law(Protocol):
    """A law of service times, in seconds of a server of speed 1."""

    @property
    def mean(self) -> float:
        """The mean, in seconds."""

    def block(self, rng: Random, count: int) -> list[float]:
        """So many values, each drawn with the same number of random numbers, whatever becomes of it."""


class Arrivals(Protocol):
    """A law of arrivals (an open loop: nobody waits for an answer before asking again)."""

    def blocks(self, rng: Random) -> Iterator[list[float]]:
        """The moments at which requests arrive, in seconds and in order, a block at a time; none is empty."""


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} should be more than 0, not {value:g}")


# Service times.


@dataclass(frozen=True)
class Exponential:
    """Exponential service times: memoryless, coefficient of variation 1."""

    mean: float

    def __post_init__(self) -> None:
        _positive("mean", self.mean)

    def block(self, rng: Random, count: int) -> list[float]:
        """See Law."""
        log, random, mean = math.log, rng.random, self.mean
        return [-mean * log(1.0 - random()) for _ in range(count)]


@dataclass(frozen=True)
class Fixed:
    """Service times that are all the same (deterministic)."""

    mean: float

    def __post_init__(self) -> None:
        _positive("mean", self.mean)

    def block(self, rng: Random, count: int) -> list[float]:
        """See Law; nothing is drawn."""
        return [self.mean] * count


@dataclass(frozen=True)
class Lognormal:
    """Lognormal service times: `cv` is the coefficient of variation (standard deviation over mean); web requests have 1 to 3."""

    mean: float
    cv: float = 1.0

    def __post_init__(self) -> None:
        _positive("mean", self.mean)
        _positive("cv", self.cv)

    def block(self, rng: Random, count: int) -> list[float]:
        """See Law."""
        # mean = exp(mu + sigma^2 / 2), cv^2 = exp(sigma^2) - 1
        variance = math.log(1.0 + self.cv**2)
        mu, sigma = math.log(self.mean) - variance / 2, math.sqrt(variance)
        exp, normal, random = math.exp, _NORMAL.inv_cdf, rng.random
        # random() may be 0, which is minus infinity; it is never 1.
        return [exp(mu + sigma * normal(random() or 2**-54)) for _ in range(count)]


@dataclass(frozen=True)
class Pareto:
    """Pareto service times (heavy tail) with exponent `alpha` above 1, the longest of them cut to `most` seconds. `mean` is that
    of the law before the cut.
    """

    mean: float
    alpha: float
    most: float = math.inf

    def __post_init__(self) -> None:
        _positive("mean", self.mean)
        if self.alpha <= 1:
            raise ValueError(f"alpha should be more than 1, not {self.alpha:g}: the mean would be infinite")

    def block(self, rng: Random, count: int) -> list[float]:
        """See Law."""
        least = self.mean * (self.alpha - 1) / self.alpha
        power, most, random = -1.0 / self.alpha, self.most, rng.random
        return [min(least * (1.0 - random()) ** power, most) for _ in range(count)]


@dataclass(frozen=True)
class Empirical:
    """Service times as they were measured: each of these values is as likely as any other."""

    values: Sequence[float]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values should have one at least")
        for value in self.values:
            _positive("each value", value)

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return math.fsum(self.values) / len(self.values)

    def block(self, rng: Random, count: int) -> list[float]:
        """See Law."""
        values, size, random = self.values, len(self.values), rng.random
        return [values[int(random() * size)] for _ in range(count)]


# Arrivals.


@dataclass(frozen=True)
class Poisson:
    """Poisson arrivals, `rate` a second."""

    rate: float

    def __post_init__(self) -> None:
        _positive("rate", self.rate)

    def blocks(self, rng: Random) -> Iterator[list[float]]:
        """See Arrivals."""
        return _spaced(rng, self.rate)


def _spaced(rng: Random, rate: float) -> Iterator[list[float]]:
    log, random, now = math.log, rng.random, 0.0
    while True:
        block = []
        for _ in range(BLOCK):
            now -= log(1.0 - random()) / rate
            block.append(now)
        yield block


@dataclass(frozen=True)
class Steps:
    """Poisson arrivals whose rate changes: `rates` are pairs of a moment and the rate from then on, the first at 0. After a last
    rate of 0 nobody comes any more.
    """

    rates: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        moments = [at for at, _ in self.rates]
        if not moments or moments[0] != 0 or moments != sorted(set(moments)):
            raise ValueError("rates should begin at 0 and go on in order of time")
        if any(rate < 0 for _, rate in self.rates):
            raise ValueError("no rate may be less than 0")

    def blocks(self, rng: Random) -> Iterator[list[float]]:
        """See Arrivals."""
        # Unit exponentials are spent at the rate in force (time change): a draw for each request, whatever the rates are.
        step, now, block = 0, 0.0, []
        while True:
            left = -math.log(1.0 - rng.random())
            while True:
                rate = self.rates[step][1]
                if step + 1 == len(self.rates):
                    break
                until = self.rates[step + 1][0]
                if rate > 0 and now + left / rate < until:
                    break
                left -= rate * (until - now)
                now, step = until, step + 1
            if rate == 0:
                break
            now += left / rate
            block.append(now)
            if len(block) == BLOCK:
                yield block
                block = []
        if block:
            yield block


@dataclass(frozen=True)
class Trace:
    """Arrivals at given moments, in seconds and in order: recorded ones, say."""

    moments: Sequence[float]

    def __post_init__(self) -> None:
        if list(self.moments) != sorted(self.moments):
            raise ValueError("moments should be in order")

    def blocks(self, rng: Random) -> Iterator[list[float]]:
        """See Arrivals; nothing is drawn."""
        for first in range(0, len(self.moments), BLOCK):
            yield list(self.moments[first : first + BLOCK])
