"""History for operators: what happened (events, bounded), since when each backend is as it is, and how much went on a minute ago."""

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import lt
from typing import Final

from twisted.logger import Logger

from twisted_lb.admin.operator import By, CheckView, EventView, Hear
from twisted_lb.core.events import (
    AdminChanged,
    AgentChanged,
    AgentGarbled,
    BackendAdded,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    BackendUp,
    ConnectionsCut,
    EjectionWithheld,
    Event,
    LevelsShifted,
    LimitSpared,
    PanicBegan,
    PanicEnded,
    PolicyEvent,
    PolicyFailed,
    PolicyHandedOver,
    PolicyTakenBack,
    PoolExhausted,
    PoolRecovered,
)
from twisted_lb.core.histogram import Reading

# So many events are remembered.
MOST_EVENTS: Final = 1000
# And so many checks of each backend.
MOST_CHECKS: Final = 20
# What is said of the last minute goes by counts of so many seconds, one a second.
WINDOW_S: Final = 60

Key = tuple[str, str]  # pool, backend

# Changes of a backend by which it is the same: what it gets is more or less.
_SAME: Final = re.compile(r"limit .*|weight [1-9]\d* -> [1-9]\d*")

_log = Logger()

_KINDS: Final[dict[type, str]] = {
    BackendDown: "down",
    BackendUp: "up",
    BackendEjected: "ejected",
    EjectionWithheld: "withheld",
    BackendReturned: "returned",
    BackendAdded: "added",
    BackendRemoved: "removed",
    BackendChanged: "changed",
    AdminChanged: "admin",
    AgentChanged: "agent",
    AgentGarbled: "agent_garbled",
    PoolExhausted: "exhausted",
    PoolRecovered: "recovered",
    LevelsShifted: "levels",
    PanicBegan: "panic",
    PanicEnded: "panic_over",
    ConnectionsCut: "cut",
    LimitSpared: "limit_spared",
    PolicyFailed: "policy_failed",
    PolicyHandedOver: "policy_handed_over",
    PolicyTakenBack: "policy_taken_back",
}


class Events:
    """The events of a balancer, the last MOST_EVENTS of them. `wall` gives epoch seconds."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall: Final = wall
        self._kept: Final[deque[EventView]] = deque(maxlen=MOST_EVENTS)
        self._hearing: Final[dict[Hear, None]] = {}
        self.last: int = 0

    def add(self, kind: str, subject: str, text: str, actor: str = "") -> EventView:
        """Remember an event, and tell whoever listens; one that raises is told no more."""
        self.last += 1
        event = EventView(self.last, self._wall(), kind, subject, text, actor)
        self._kept.append(event)
        for hear in list(self._hearing):
            try:
                hear(event)
            except Exception:
                self.unlisten(hear)
                _log.failure("an event could not be told")
        return event

    def after(self, number: int) -> list[EventView]:
        """Those behind the event of this number, oldest first; all of them behind one that is none of this start."""
        if number > self.last:
            number = 0
        return [one for one in self._kept if one.id > number]

    def listen(self, hear: Hear) -> Hear:
        """Tell of each event from now on."""
        self._hearing[hear] = None
        return hear

    def unlisten(self, hear: Hear) -> None:
        """Tell no more."""
        self._hearing.pop(hear, None)


class States:
    """Since when each backend is what it is, and why: what events say of it, and who has changed what."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall: Final = wall
        self._began: Final = wall()
        self._since: Final[dict[Key, float]] = {}
        self._down: Final[dict[Key, str]] = {}
        self._ejected: Final[dict[Key, tuple[str, float | None]]] = {}
        self._by: Final[dict[Key, By]] = {}
        self._checks: Final[dict[Key, deque[CheckView]]] = {}

    def hear(self, event: Event) -> tuple[str, str, str]:
        """Take an event of the core; its kind, subject and text."""
        kind = _KINDS[type(event)]
        if isinstance(event, LimitSpared):
            return kind, event.limit, str(event)
        if isinstance(event, PoolExhausted | PoolRecovered | PolicyEvent | LevelsShifted | PanicBegan | PanicEnded):
            return kind, event.pool, str(event)
        key = (event.pool, event.backend_name)
        if isinstance(event, EjectionWithheld | AgentGarbled | ConnectionsCut):
            return kind, f"{event.pool}/{event.backend_name}", _text(event)
        if not isinstance(event, BackendChanged) or _is_another(event.change):
            self._since[key] = self._wall()
        if isinstance(event, BackendDown):
            self._down[key] = event.reason
        elif isinstance(event, BackendUp):
            self._down.pop(key, None)
        elif isinstance(event, BackendEjected):
            until = None if event.until is None else self._wall() + event.until - event.at
            self._ejected[key] = (event.because, until)
        elif isinstance(event, BackendReturned):
            self._ejected.pop(key, None)
        elif isinstance(event, BackendRemoved):
            for kept in (self._down, self._ejected, self._by, self._checks, self._since):
                kept.pop(key, None)
        return kind, f"{event.pool}/{event.backend_name}", _text(event)

    def checked(self, pool: str, backend: str, *, passed: bool, what: str, ms: float | None) -> None:
        """Remember the result of a check."""
        checks = self._checks.setdefault((pool, backend), deque(maxlen=MOST_CHECKS))
        checks.appendleft(CheckView(self._wall(), passed, what, ms))

    def checks(self, pool: str, backend: str) -> Sequence[CheckView]:
        """The last checks of a backend, the newest first."""
        return tuple(self._checks.get((pool, backend), ()))

    def changed(self, pool: str, backend: str, by: By) -> None:
        """Remember who has changed something of a backend."""
        self._by[pool, backend] = by

    def forget(self, pool: str, backend: str) -> None:
        """What was changed of a backend is no more."""
        self._by.pop((pool, backend), None)

    @property
    def signed(self) -> Mapping[Key, By]:
        """Who has changed something of which backend last."""
        return self._by

    def by(self, pool: str, backend: str) -> By | None:
        """Who has changed something of a backend last."""
        return self._by.get((pool, backend))

    def since_s(self, pool: str, backend: str) -> float:
        """For how long nothing has changed at a backend."""
        return max(0.0, self._wall() - self._since.get((pool, backend), self._began))

    def down(self, pool: str, backend: str) -> str:
        """Why checks took a backend out; after how many failures in a row, as far as those are remembered."""
        reason = self._down.get((pool, backend), "")
        failed = 0
        for check in self._checks.get((pool, backend), ()):
            if check.passed:
                break
            failed += 1
        times = "" if failed < 2 else f", {failed} times" if failed < MOST_CHECKS else f", over {MOST_CHECKS - 1} times"
        return f"check: {reason}{times}" if reason else ""

    def ejected(self, pool: str, backend: str) -> str:
        """Why traffic took a backend out, and for how long still."""
        reason, until = self._ejected.get((pool, backend), ("", None))
        if not reason:
            return ""
        left_s = None if until is None else until - self._wall()
        when = "until checks pass" if left_s is None else f"back in {left_s:.0f} s" if left_s >= 1 else "on trial"
        return f"{reason}; {when}"


def _is_another(change: str) -> bool:
    """Whether a change of a backend is one of its state too: it is elsewhere, or has a weight and had none, or the other way round."""
    return any(_SAME.fullmatch(part) is None for part in change.split(", "))


def _text(event: Event) -> str:
    """What an event says, less what it is about."""
    if isinstance(event, AdminChanged):
        return f"{event.before.value} → {event.admin.value}"
    if isinstance(event, AgentGarbled):
        return f"its agent says what is no word of agents, and ignored: {event.said!r}"
    if isinstance(event, ConnectionsCut):
        return event.what
    text = str(event)
    return text.partition(" is ")[2] or text.partition(" has changed: ")[2].replace(" -> ", " → ") or text


class Rates:
    """Counts of the last minute: of whatever has a name, sampled once a second. A count may only grow; what begins anew, at 0,
    is another one. `seconds` is the time, monotonic. To take a sample is O(names), to ask for one of them O(1): thousands are asked for
    at once.
    """

    def __init__(self, read: Callable[[], Mapping[object, int]], seconds: Callable[[], float]) -> None:
        self._read: Final = read
        self._seconds: Final = seconds
        self._samples: Final[deque[tuple[float, Mapping[object, int]]]] = deque(maxlen=WINDOW_S + 1)
        self._taken: int = 0
        # The numbers of samples: of the first one that is not too old, and, of what has begun meanwhile, of the first one that it is in.
        self._first: int = 0
        self._began: dict[object, int] = {}

    def sample(self) -> None:
        """Take the counts; to be called once a second."""
        now, counts = self._seconds(), self._read()
        if self._samples:
            self._note_beginnings(self._samples[-1][1], counts)
        self._samples.append((now, counts))
        self._taken += 1
        forgotten = self._taken - len(self._samples)
        self._first = max(self._first, forgotten)
        while self._samples[self._first - forgotten][0] < now - WINDOW_S - 1:
            self._first += 1

    def _note_beginnings(self, before: Mapping[object, int], counts: Mapping[object, int]) -> None:
        if before.keys() == counts.keys() and not any(map(lt, map(counts.__getitem__, before), before.values())):
            return
        began = {what: number for what, number in self._began.items() if what in counts and number > self._first}
        for what, count in counts.items():
            was = before.get(what)
            if was is None or count < was:
                began[what] = self._taken
        self._began = began

    def within(self, what: object) -> tuple[int, float] | None:
        """How much was added in the time that is remembered, a minute at most, and in how many seconds; None if it is not
        known yet.
        """
        if not self._samples or what not in self._samples[-1][1]:
            return None
        first = max(self._first, self._began.get(what, 0))
        began_at, oldest = self._samples[first - self._taken]
        now, newest = self._samples[-1]
        return (newest[what] - oldest[what], now - began_at) if now > began_at else None

    def per_s(self, what: object) -> float | None:
        """How much is added in a second."""
        found = self.within(what)
        return None if found is None else found[0] / found[1]


class Windows:
    """Durations and counts of the last minute, of whatever has a name, sampled every few seconds: histograms are larger."""

    def __init__(self, read: Callable[[], Mapping[object, Reading | int]], seconds: Callable[[], float]) -> None:
        self._read: Final = read
        self._seconds: Final = seconds
        self._samples: Final[deque[tuple[float, Mapping[object, Reading | int]]]] = deque()

    def sample(self) -> None:
        """Take the counts; to be called every few seconds."""
        now = self._seconds()
        while self._samples and self._samples[0][0] < now - WINDOW_S - 1:
            self._samples.popleft()
        self._samples.append((now, self._read()))

    def quantile_ms(self, what: object, q: float) -> float | None:
        """The duration that a share `q` of those of the last minute are not beyond, in milliseconds; None where there was none."""
        return self.quantiles_ms(what, q)[0]

    def quantiles_ms(self, what: object, *qs: float) -> tuple[float | None, ...]:
        """The same for several shares."""
        was, now = self._ends(what) or (None, None)
        if not isinstance(was, Reading) or not isinstance(now, Reading):
            return (None,) * len(qs)
        if was.counts == now.counts:  # most of thousands, at night
            return (None,) * len(qs)
        window = now - was
        # What begins anew is another one.
        window = now if min(window.counts) < 0 else window
        return tuple(round(window.quantile(q) * 1000, 3) if window.count else None for q in qs)

    def added(self, what: object) -> int | None:
        """How much was added to a count in the last minute; None if it is not known yet."""
        ends = self._ends(what)
        if ends is None or not isinstance(ends[0], int) or not isinstance(ends[1], int):
            return None
        return ends[1] - ends[0] if ends[1] >= ends[0] else ends[1]

    def _ends(self, what: object) -> tuple[Reading | int, Reading | int] | None:
        """The oldest and the newest sample of it."""
        oldest = next((sample for _, sample in self._samples if what in sample), None)
        newest = next((sample for _, sample in reversed(self._samples) if what in sample), None)
        return None if oldest is None or newest is None or oldest is newest else (oldest[what], newest[what])
