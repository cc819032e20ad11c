"""Minding a policy: what it did wrong, how long it took, and what the pool tells of that. The pool's picks hold up whatever it does."""

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.events import Event, PolicyFailed, PolicyHandedOver, PolicyTakenBack
from twisted_lb.core.load import Loads
from twisted_lb.core.never import NEVER
from twisted_lb.core.suppression import Suppression

# The built-in that picks where a policy of one's own does not.
BUILT_IN: Final = "p2c"
# So many late picks within so long, and the built-in picks for a while.
MOST_LATE: Final = 10
LATE_WITHIN_S: Final = 1.0
HANDED_OVER_S: Final = 10.0
# The same fault is told once in this time, with how many there were.
_TOLD_EVERY_S: Final = 60.0
_MOST_NEWS: Final = 100

# Seconds of any clock that goes on while the process works.
Stopwatch = Callable[[], float]


class Fault(enum.Enum):
    """What a policy of one's own may do wrong. In each case but HOOK the built-in picks."""

    RAISED = "raised"
    NO_MEMBER = "no_member"
    UNAVAILABLE = "unavailable"
    TRIED = "tried"
    NOBODY = "nobody"
    NOT_MADE = "not_made"
    HOOK = "hook"


@dataclass(frozen=True)
class PolicyMeasures:
    """How a policy of one's own does: its faults by kind, picks that took longer than they may, how often the built-in picked for
    it for a while, and whether it does now.
    """

    name: str
    faults: tuple[tuple[str, int], ...]
    late: int
    handed_over: int
    resting: bool

    def merged(self, other: "PolicyMeasures") -> "PolicyMeasures":
        """What two processes have counted."""
        faults = dict(self.faults)
        for kind, count in other.faults:
            faults[kind] = faults.get(kind, 0) + count
        return PolicyMeasures(
            self.name,
            tuple(faults.items()),
            self.late + other.late,
            self.handed_over + other.handed_over,
            self.resting or other.resting,
        )


@dataclass(frozen=True)
class ShadowMeasures:
    """What is known of a shadow: how many claims it saw, at how many it would have picked the same backend, how often it raised, and
    what it would have in flight, by backend.
    """

    name: str
    claims: int
    agreed: int
    failed: int
    in_flight: dict[str, int]

    def merged(self, other: "ShadowMeasures") -> "ShadowMeasures":
        """What two processes have counted."""
        in_flight = dict(self.in_flight)
        for backend, count in other.in_flight.items():
            in_flight[backend] = in_flight.get(backend, 0) + count
        return ShadowMeasures(
            self.name, self.claims + other.claims, self.agreed + other.agreed, self.failed + other.failed, in_flight
        )


@dataclass(frozen=True)
class MindedMeasures:
    """What is known of the policies of a pool beside its backends' loads: of one of one's own, by its `role`, `policy` or `shadow`,
    and of a shadow, whoever's it is.
    """

    own: dict[str, PolicyMeasures] = field(default_factory=dict)
    shadow: ShadowMeasures | None = None

    def merged(self, other: "MindedMeasures") -> "MindedMeasures":
        """What two processes have counted."""
        own = dict(self.own)
        for role, one in other.own.items():
            own[role] = own[role].merged(one) if role in own else one
        if self.shadow is None or other.shadow is None:
            return MindedMeasures(own, self.shadow or other.shadow)
        return MindedMeasures(own, self.shadow.merged(other.shadow))


# Of a pool that has neither.
NOT_MINDED: Final = MindedMeasures()


class Minded(Loads):
    """The loads of a pool, where more is to be minded than loads. All times are monotonic seconds."""

    def time_by(self, stopwatch: Stopwatch | None) -> None:
        """Measure by this how long picks take; None: not at all, as on virtual time."""

    def news(self, pool: str, now: float) -> list[Event]:
        """What has happened since the last call, to be told as events of this pool."""
        raise NotImplementedError

    def minded(self, backends: Iterable[Backend]) -> MindedMeasures:
        """What is known by now, of these backends."""
        raise NotImplementedError


class Minder:
    """Minds one policy of one's own in one pool: counts its faults and its late picks, and says when the built-in is to pick."""

    def __init__(self, name: str, budget_s: float) -> None:
        self.name: Final = name
        self.budget_s: float = budget_s
        self.stopwatch: Stopwatch | None = None
        self.rests_until: float = -NEVER
        self.faults: Final[dict[Fault, int]] = {}
        self.late: int = 0
        self.handed_over: int = 0
        self._late_at: list[float] = []  # of the last ones
        self._resting: bool = False
        self._suppression: Final = Suppression(_TOLD_EVERY_S)
        self._news: list[tuple[str, int, float]] = []

    def fault(self, kind: Fault, text: str, key: str, now: float) -> None:
        """The policy did something wrong, to be told in these words; of the same `key` once in a while."""
        self.faults[kind] = self.faults.get(kind, 0) + 1
        if kind is not Fault.HOOK:
            text = f"{text}; {BUILT_IN} picked instead"
        more = self._suppression.note((kind, key), text, now)
        if more is not None:
            self._news.append((text, more, now))
            del self._news[:-_MOST_NEWS]  # where nobody asks

    def took(self, seconds: float, now: float) -> None:
        """A pick has taken so long. Ten that took too long in a second, and the policy rests."""
        if seconds <= self.budget_s:
            return
        self.late += 1
        self._late_at.append(now)
        del self._late_at[:-MOST_LATE]
        if len(self._late_at) == MOST_LATE and now - self._late_at[0] <= LATE_WITHIN_S:
            self._late_at.clear()
            self.rests_until = now + HANDED_OVER_S
            self.handed_over += 1

    @property
    def why_resting(self) -> str:
        """Why the built-in picks for a while, in a few words."""
        return f"{MOST_LATE} picks within {LATE_WITHIN_S:g} s took more than {self.budget_s * 1e6:g} µs each"

    def news(self, pool: str, now: float) -> list[Event]:
        """See Minded."""
        told: list[Event] = []
        for text, more, at in self._news:
            told.append(PolicyFailed(pool, self.name, text, more, at))
        self._news.clear()
        for _, what, more in self._suppression.due(now):
            told.append(PolicyFailed(pool, self.name, str(what), more, now))
        if not self._resting and now < self.rests_until:
            self._resting = True
            told.append(PolicyHandedOver(pool, self.name, BUILT_IN, self.why_resting, self.rests_until - now, now))
        elif self._resting and now >= self.rests_until:
            self._resting = False
            told.append(PolicyTakenBack(pool, self.name, now))
        return told

    def measures(self) -> PolicyMeasures:
        """What is known by now; whether it rests is as of the last `news`."""
        faults = tuple([(kind.value, count) for kind, count in self.faults.items()])
        return PolicyMeasures(self.name, faults, self.late, self.handed_over, self._resting)

    def aside(self) -> "Minder":
        """One for whoever tries out what the policy would do: what it counts counts nowhere, and it measures no time."""
        other = Minder(self.name, self.budget_s)
        other.rests_until = self.rests_until
        return other

    def __repr__(self) -> str:
        return f"<Minder of {self.name}: {sum(self.faults.values())} faults, {self.late} late>"
