"""Chart history: what the charts of the page show, kept by the server in fixed memory: each second of a quarter of an hour, and
means of ten seconds of six hours.
"""

import math
from array import array
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb.admin.operator import EventView, Operator, Refused, Sample
from twisted_lb.admin.words import became

FINE_S: Final = 900
STEP_S: Final = 10
LONG_S: Final = 6 * 3600
# Series have names that this program gives them; more than these would be a mistake.
MOST_SERIES: Final = 40
# So many marks are remembered, and so many seconds of the latency of each backend.
MOST_MARKS: Final = 200
SPARK: Final = 60

# What stands on the charts of all that happens.
MARKED: Final = ("reload", "ejected", "admin", "down", "exhausted")
_NAN: Final = math.nan

_log = Logger()


class Series:
    """One series: 3,060 numbers of 8 bytes, 24 KiB. `worst`: ten seconds count as the greatest of them, else as their mean.
    Seconds are counted from anywhere, and only forth.
    """

    def __init__(self, *, worst: bool) -> None:
        self._worst: Final = worst
        self._fine: Final = array("d", [_NAN]) * FINE_S
        self._coarse: Final = array("d", [_NAN]) * (LONG_S // STEP_S)

    def put(self, second: int, value: float) -> None:
        """Remember a value."""
        self._fine[second % FINE_S] = value

    def gather(self, step: int) -> None:
        """Ten seconds are over: those from `step` times ten on."""
        values = [one for one in map(self.at, range(step * STEP_S, (step + 1) * STEP_S)) if not math.isnan(one)]
        found = _NAN if not values else max(values) if self._worst else sum(values) / len(values)
        self._coarse[step % len(self._coarse)] = found

    def at(self, second: int) -> float:
        """The value of a second, NaN where nobody knows; of the last quarter of an hour."""
        return self._fine[second % FINE_S]

    def at_step(self, step: int) -> float:
        """The value of ten seconds; of the last six hours."""
        return self._coarse[step % len(self._coarse)]

    @property
    def size_bytes(self) -> int:
        """What it takes, whatever it holds."""
        return (len(self._fine) + len(self._coarse)) * self._fine.itemsize


class ChartHistory:
    """The history of a balancer. `seconds` are monotonic, `wall` epoch seconds. `begin` has it sampled once a second until `end`."""

    def __init__(self, operator: Operator, time: Any, wall: Callable[[], float]) -> None:
        self._operator: Final = operator
        self._seconds: Final[Callable[[], float]] = time.seconds
        self._wall: Final = wall
        self._zero: float = (
            time.seconds()
        )  # its seconds are counted from here, to the nearest: what samples tremble by skips none
        self._series: Final[dict[str, Series]] = {}
        self._counts: dict[tuple[str, str], int] = {}
        self._sparks: dict[str, deque[float | None]] = {}
        self._marks: Final[deque[EventView]] = deque(maxlen=MOST_MARKS)
        self._sampled_at: float | None = None
        self._last: int = 0  # the last second that is known
        self._sampling: Final = LoopingCall(self.sample)
        self._sampling.clock = time

    def begin(self) -> None:
        """Remember from now on, and what has happened before."""
        self._zero = self._seconds()
        for event in self._operator.events(0):
            self.hear(event)
        self._operator.listen(self.hear)
        self._sampling.start(1.0).addErrback(lambda failure: _log.failure("no history any more", failure=failure))

    def end(self) -> None:
        """Remember no more. Harmless when it does not."""
        if self._sampling.running:
            self._sampling.stop()
            self._operator.unlisten(self.hear)

    def hear(self, event: EventView) -> None:
        """Take an event: it may be a mark."""
        if event.kind in MARKED:
            self._marks.append(event)

    def sample(self) -> None:
        """Take a sample; twice in a second is once."""
        now = self._seconds()
        second = math.floor(now - self._zero + 0.5)
        before = self._sampled_at
        if before is not None and second <= self._last:
            return
        try:
            taken = self._operator.sample()
        except Refused:  # it stops
            return
        if second - self._last > FINE_S:
            self._series.clear()
        first = second if before is None or not self._series else self._last + 1
        # Seconds that were left out, by a turn of the loop that took long, had the same rate; nobody knows their levels.
        values = self._rates(taken, 0.0 if before is None else now - before)
        levels = {**taken.levels, **taken.latencies_ms}
        for one in range(first, second + 1):
            self._forget(one)
            for name, rate in values.items():
                self._put(name, one, rate, worst=False)
            if one % STEP_S == STEP_S - 1:
                self._put_levels(taken, levels if one == second else {}, one)
                self._gather(one // STEP_S)
        self._put_levels(taken, levels, second)
        self._spark(taken)
        self._sampled_at, self._last = now, second

    def _put_levels(self, taken: Sample, levels: Mapping[str, float | None], second: int) -> None:
        for name, level in levels.items():
            self._put(name, second, _NAN if level is None else level, worst=name in taken.latencies_ms)

    def _rates(self, taken: Sample, passed_s: float) -> dict[str, float]:
        """How much was added in a second to each series. What has come just now, or begun anew, is counted from now on."""
        added: dict[str, int] = {name: 0 for name, _ in taken.counts}
        for key, count in taken.counts.items():
            added[key[0]] += max(0, count - self._counts.get(key, count))
        self._counts = dict(taken.counts)
        return {name: count / passed_s for name, count in added.items()} if passed_s > 0 else {}

    def _forget(self, second: int) -> None:
        for series in self._series.values():
            series.put(second, _NAN)

    def _put(self, name: str, second: int, value: float, *, worst: bool) -> None:
        series = self._series.get(name)
        if series is None:
            if math.isnan(value) or len(self._series) >= MOST_SERIES:
                return
            series = self._series[name] = Series(worst=worst)
        series.put(second, value)

    def _gather(self, step: int) -> None:
        for series in self._series.values():
            series.gather(step)

    def _spark(self, taken: Sample) -> None:
        self._sparks = {
            name: self._sparks.get(name) or deque([None] * SPARK, maxlen=SPARK) for name in taken.backend_p99_ms
        }
        for name, p99_ms in taken.backend_p99_ms.items():
            self._sparks[name].append(p99_ms)

    # What is told of it.

    def window(self, window_s: int) -> dict[str, Any]:
        """The last `window_s` seconds, of which six hours are known at most: `start` (epoch seconds of the first value),
        `step_s`, and the values of each series, None where nobody knows.
        """
        if window_s <= FINE_S:
            step_s, last = 1, self._last
            get: Callable[[Series, int], float] = Series.at
        else:
            step_s, last = STEP_S, (self._last + 1) // STEP_S - 1
            get = Series.at_step
        count = max(1, min(window_s, LONG_S) // step_s)
        numbers = range(last - count + 1, last + 1)
        start = self._moment(numbers[0] * step_s)
        return {
            "start": round(start, 1),
            "step_s": step_s,
            "series": {name: [_shown(get(one, n)) for n in numbers] for name, one in self._series.items()},
            "marks": self.marks(start),
        }

    def _moment(self, second: int) -> float:
        """When a second was, in epoch seconds."""
        return self._wall() - self._seconds() + self._zero + second

    @property
    def last(self) -> int:
        """The last second that is known."""
        return self._last

    def after(self, second: int) -> dict[str, Any]:
        """The values of the seconds behind one, as `window` tells them."""
        numbers = range(max(second, self._last - FINE_S) + 1, self._last + 1)
        return {
            "start": round(self._moment(numbers.start), 1),
            "series": {name: [_shown(one.at(n)) for n in numbers] for name, one in self._series.items()},
        }

    def marks(self, since: float = 0.0) -> list[dict[str, Any]]:
        """What stands on the charts, oldest first, since a moment (epoch seconds)."""
        return [marked(one) for one in self._marks if one.at >= since]

    def sparks(self) -> Mapping[str, Sequence[float | None]]:
        """The 99th percentile of each backend's last minute, second by second, as far as it is known."""
        return {name: list(values) for name, values in self._sparks.items()}

    def last_sparks(self) -> Mapping[str, float | None]:
        """The same of the last second alone."""
        return {name: values[-1] for name, values in self._sparks.items()}


def marked(event: EventView) -> dict[str, Any]:
    """An event as a mark: `glyph` names its sign."""
    state = became(event.text)
    glyph = {"admin": state if state in ("drain", "maint") else "ready", "exhausted": "down"}
    word = state if event.kind == "admin" else event.kind
    told = event.text.partition(":")[0] if event.kind == "reload" else event.subject
    return {"at": event.at, "glyph": glyph.get(event.kind, event.kind), "text": f"{word} {told}".strip()}


def _shown(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)
