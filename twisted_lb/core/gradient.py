"""The adaptive limit of one backend: how many requests it should have in flight, learnt from its latency (gradient).

A server answers as fast as it can until all its workers are busy; behind that, requests wait inside it, and latency grows with their
number. So the limit follows the ratio of two latencies: what the backend takes when it is not loaded, times a tolerance, and what it
takes now. It is Envoy's gradient (`adaptive_concurrency`, `gradient_controller.cc`), smoothed as Netflix's Gradient2 is. Different
from both is how the unloaded latency is found: see `Gradient`.
"""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Final

from twisted_lb.core.never import NEVER

# Envoy's bounds of the gradient, so that no single window moves the limit by much more than a half.
_LEAST_GRADIENT: Final = 0.5
_MOST_GRADIENT: Final = 2.0
# Of what a window finds so much is followed at once: the rest of it is chance (Netflix has 0.2, for windows of a single request).
SMOOTHING: Final = 0.5
# Envoy's `request_count`. The mean of the logarithms of so many lognormal latencies (cv 1) is right to 12 %.
SAMPLES: Final = 50
# Halving the limit found queueing if the latency fell below this part of what it was: of pure queueing it is a half.
_FLAT: Final = 0.8
# What the unloaded latency seems to be beyond these factors is measured anew.
_FASTER: Final = 0.7
_FALLEN: Final = 0.5
# So many windows lie between two measurements that something else than time has called for.
_REST: Final = 8
# Where a backend begins of which nothing is known.
START: Final = 8
# Why a limit is what it is.
_LEARNS: Final = "nothing is known yet"
_SPARE: Final = "it is not used up"
_FOLLOWS: Final = "it follows latency"
_MEASURES: Final = "the unloaded latency is measured"
_MEASURED: Final = "the unloaded latency was measured"
# Less than a clock can tell is no latency, and has no logarithm.
_LEAST_S: Final = 1e-6


@dataclass(frozen=True)
class AdaptiveRules:
    """Between which bounds a limit is looked for. `tolerance_percent`: how much more than when it is unloaded a backend may take;
    `measure_s`: how often its unloaded latency is measured anew.
    """

    least: int = 1
    most: int = 1000
    tolerance_percent: float = 25.0
    measure_s: float = 60.0


@dataclass(frozen=True)
class Gathered:
    """What was seen elsewhere of the answers of a backend since it was asked last: how many `samples`, the sum of the logarithms of their
    latencies, how many were of requests that nothing is learnt of (`early`), and how many were in flight at most in this window.
    """

    samples: int
    logs: float
    early: int
    peak: int


def log_of(latency_s: float) -> float:
    """The logarithm of a latency."""
    return log(max(latency_s, _LEAST_S))


def gradient_step(limit: float, unloaded_s: float, sample_s: float, tolerance_percent: float = 25.0) -> float:
    """The limit that follows a window with this latency (Envoy): `limit * gradient` and, as headroom for bursts, the square root of
    that. The gradient is the unloaded latency with its tolerance over that of the window, 0.5 to 2.
    """
    raw = unloaded_s * (1.0 + tolerance_percent / 100.0) / sample_s
    moved = limit * max(_LEAST_GRADIENT, min(_MOST_GRADIENT, raw))
    return moved + sqrt(moved)


class Gradient:
    """The adaptive limit of one backend. All times are monotonic seconds.

    `limit` is in force. After each window of SAMPLES requests, or of twice the limit if that is more, it follows `gradient_step`.
    It grows only where it was reached, and falls only where half of it was: how fast a backend is that has little to do
    says nothing of what it can do.

    The unloaded latency is measured at the start, every `measure_s`, and when the limit has fallen by half or latency to 0.7 of
    it: for a window the limit is halved, and halved again as long as that brings the latency down, which tells that requests had
    queued. So a measurement takes no more from the backend than it needs, where Envoy's goes down to 3 at once; requests wait
    for it where the pool has a queue. A backend that had that little to do anyway is measured for nothing.

    A window has the mean of the logarithms of latencies: no sample has to be kept, and few slow requests do not move it.
    """

    __slots__ = (
        "_counted_from",
        "_estimate",
        "_full_s",
        "_logs",
        "_measured_at",
        "_measured_for",
        "_peak",
        "_probe",
        "_rest",
        "_samples",
        "_unloaded_in",
        "limit",
        "measurements",
        "rules",
        "sample_s",
        "unloaded_s",
        "why",
        "windows",
    )

    def __init__(self, rules: AdaptiveRules) -> None:
        self.rules: AdaptiveRules = rules
        self._estimate: float = self._within(float(START))
        self.limit: int = int(self._estimate)
        self.unloaded_s: float = 0.0  # nothing is known
        self.sample_s: float = 0.0  # of the last window
        self.windows: int = 0
        self.measurements: int = 0
        self.why: str = _LEARNS
        self._probe: int = 0  # what the limit was halved to, 0 while nothing is measured
        self._full_s: float = 0.0  # the latency of the window before the measurement
        self._measured_at: float = -NEVER
        self._measured_for: float = 0.0  # the limit that was found after the last measurement, at most
        self._unloaded_in: int = 0  # with so many in flight it is known to be unloaded
        self._rest: int = 0
        self._logs: float = 0.0
        self._samples: int = 0
        self._peak: int = 0
        # Of requests that began before that nothing is learnt; at first, as long as none was answered: they came to an idle server.
        self._counted_from: float = NEVER

    def _within(self, limit: float) -> float:
        return max(float(self.rules.least), min(float(self.rules.most), limit))

    def configure(self, rules: AdaptiveRules) -> None:
        """Go by other rules: what was learnt stays, within their bounds."""
        self.rules = rules
        self._estimate = self._within(self._estimate)
        self.limit = int(self._estimate)
        if self._probe:
            self.limit = max(rules.least, min(self._probe, self.limit))

    def begin_at(self, limit: int) -> None:
        """Begin with this limit, which was found before this process began; nothing else is known."""
        self._estimate = self._within(float(limit))
        self.limit = int(self._estimate)

    def leased(self, in_flight: int) -> None:
        """The backend has got a request, and has so many now."""
        self._peak = max(self._peak, in_flight)

    def observe(self, latency_s: float, in_flight: int, now: float, *, answered: bool = True) -> bool:
        """A request was answered, so long after it was sent, or was not in time; so many are still in flight, itself among them.
        Whether the limit is another one now.

        What was not answered measures no unloaded latency: a server that hangs is not taken for one that is slow by nature.
        """
        if self._probe and not answered:
            return False
        if now - latency_s < self._counted_from:
            self._begin_anew(in_flight, now)
            return False
        self._logs += log_of(latency_s)
        self._samples += 1
        return self._end_window(in_flight, now)

    def gather(self, gathered: "Gathered", in_flight: int, now: float) -> bool:
        """Requests were answered elsewhere; so many are in flight everywhere. Whether the limit is another one now."""
        if gathered.early:
            self._begin_anew(in_flight, now)
        self._peak = max(self._peak, gathered.peak)
        self._logs += gathered.logs
        self._samples += gathered.samples
        return gathered.samples > 0 and self._end_window(in_flight, now)

    @property
    def counted_from(self) -> float:
        """Of requests that began before this nothing is learnt; NEVER: of none, until one was answered."""
        return self._counted_from

    @property
    def measures(self) -> bool:
        """Whether the unloaded latency is measured now."""
        return self._probe > 0

    def follow(self) -> bool:
        """Follow what was learnt elsewhere, if anything is. Whether the limit is another one now."""
        return False

    def handed_to(self, slot: int) -> "Gradient":
        """What is learnt of the same server in another slot."""
        return self

    def _begin_anew(self, in_flight: int, now: float) -> None:
        """Something was answered that nothing is learnt of. A measurement begins when what was in flight beyond it has ended."""
        if in_flight > self.limit or self._counted_from == NEVER:
            self._counted_from = now

    def _end_window(self, in_flight: int, now: float) -> bool:
        """End a window that has samples enough. Whether the limit is another one now."""
        if self._samples < max(SAMPLES, 0 if self._probe else 2 * self.limit):
            return False
        before = self.limit
        sample = exp(self._logs / self._samples)
        self.windows += 1
        if self._probe:
            self._measured(sample, now)
        else:
            self._follow(sample, now)
        self.sample_s = sample
        self._logs, self._samples, self._peak = 0.0, 0, in_flight
        return self.limit != before

    def _follow(self, sample: float, now: float) -> None:
        """Follow a window in which nothing was measured."""
        self._rest -= 1
        if self._peak <= min(self._unloaded_in, self.limit // 2) and self.unloaded_s:
            self.unloaded_s += (sample - self.unloaded_s) * SMOOTHING
            self._measured_at = now
            self.why = _SPARE
            return
        if self._is_to_be_measured(sample, now):
            self._full_s = sample
            self._halve(now)
            return
        limit = self._estimate
        target = gradient_step(limit, self.unloaded_s, sample, self.rules.tolerance_percent)
        if (target > limit and self._peak < self.limit) or 2 * self._peak < self.limit:
            self.why = _SPARE
            return
        self._estimate = self._within(limit + (target - limit) * SMOOTHING)
        self._measured_for = max(self._measured_for, self._estimate)
        self.limit = int(self._estimate)
        self.why = _FOLLOWS

    def _is_to_be_measured(self, sample: float, now: float) -> bool:
        if not self.unloaded_s or now - self._measured_at >= self.rules.measure_s:
            return True
        off = sample < self.unloaded_s * _FASTER or self._estimate < self._measured_for * _FALLEN
        return off and self._rest <= 0

    def _halve(self, now: float) -> None:
        """Measure with half as many in flight."""
        half = max(self.limit // 2, self.rules.least)
        if half == self.limit:
            self._end_measuring(self.sample_s or self.unloaded_s, now)
            return
        self._probe = self.limit = half
        self._counted_from = now
        self.why = _MEASURES

    def _measured(self, sample: float, now: float) -> None:
        """A window of a measurement has ended: it is the unloaded latency, or the limit is halved again."""
        confirmed = _FLAT < sample / self.unloaded_s < 1 / _FLAT if self.unloaded_s else False
        if confirmed:
            self._end_measuring((sample + self.unloaded_s) / 2, now)
        elif sample > self.sample_s * _FLAT:
            self._end_measuring((sample + self.sample_s) / 2, now)
        else:
            self.sample_s = sample
            self._halve(now)

    def _end_measuring(self, unloaded_s: float, now: float) -> None:
        self.unloaded_s = unloaded_s
        self._unloaded_in = self.limit
        tolerated = unloaded_s * (1.0 + self.rules.tolerance_percent / 100.0)
        if self._full_s * _LEAST_GRADIENT > tolerated:  # far too much: there at once, instead of by halves
            whole = self._estimate * tolerated / self._full_s
            self._estimate = self._within(whole + sqrt(whole))
        self._measured_at, self._measured_for = now, self._estimate
        self._probe, self._rest = 0, _REST
        self.measurements += 1
        self.limit = int(self._estimate)
        self._counted_from = now
        self.why = _MEASURED

    @property
    def because(self) -> str:
        """Why the limit is what it is, with the latencies that it goes by: `it follows latency: 140 ms, unloaded 100 ms`."""
        if not self.unloaded_s:
            return self.why
        return f"{self.why}: {self.sample_s * 1e3:.3g} ms, unloaded {self.unloaded_s * 1e3:.3g} ms"

    def __repr__(self) -> str:
        return f"<Gradient {self.limit}, {self.sample_s * 1e3:.3g} ms, unloaded {self.unloaded_s * 1e3:.3g} ms>"
