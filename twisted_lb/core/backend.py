"""A backend: where one server is, and the living record of how it does."""

import dataclasses
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.address import Address, TcpAddress, parse_address, same_place
from twisted_lb.core.agent import Agent
from twisted_lb.core.counts import Counts
from twisted_lb.core.ejection import Ejection
from twisted_lb.core.gradient import AdaptiveRules, Gradient
from twisted_lb.core.health import Health
from twisted_lb.core.load import Load
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.standing import Skipped, Standing
from twisted_lb.core.streak import Streak
from twisted_lb.core.totals import BackendTotals
from twisted_lb.core.weighing import Weighing
from twisted_lb.core.window import Window

HEAVIEST: Final = 256
LIGHTEST: Final = 0
MOST_PORT: Final = 65535
# The largest limit: more than one machine has connections.
MOST_LIMIT: Final = 1_000_000
# In place of a limit: it is learnt.
ADAPTIVE: Final = -1
# The last level; more than a few nobody can think through.
LOWEST: Final = 128
# The level of backups: behind every priority.
BACKUP: Final = LOWEST + 1
# `Backend.panicked`, where those are used too that are down by their checks.
_EVEN_DOWN: Final = 2
# So much of what attempts have brought about is remembered of each backend.
_MOST_REMEMBERED: Final = 32
# What a backend's text cannot say.
_KEYS_OF_A_TABLE: Final = ("name", "check_port", "resolve", "family", "priority", "backup", "labels")


def limit_said(limit: int) -> str:
    """A limit of requests in flight as it is written: a number, or `adaptive`."""
    return "adaptive" if limit == ADAPTIVE else str(limit)


@dataclass(frozen=True)
class BackendSpec:
    """The configuration of a backend. Names are unique within a pool; the default is the address. `check_port`: the port of
    its host that checks ask, None for theirs, or the one that traffic goes to. `resolve` and `family` say what is made of a
    host name, see `endpoints.py`; empty: what the pool says. `labels`: names and values. A backend of weight 0 gets no requests.
    `limit`: how many requests it may have in flight, 0: no bound, ADAPTIVE: as many as is learnt, None: as its pool says. `priority`: its level, 0 first;
    `backup`: it is behind all of them.
    ValueError for a weight outside 0 to 256, a limit outside 0 to 1,000,000 or a priority outside 0 to 128, for a backup with a
    priority, and for a check's port that is none, or of a unix socket.
    """

    name: str
    address: Address
    weight: int = 1
    check_port: int | None = None
    resolve: str = ""
    family: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    limit: int | None = None
    priority: int = 0
    backup: bool = False

    def __post_init__(self) -> None:
        if not LIGHTEST <= self.weight <= HEAVIEST:
            raise ValueError(
                f"{self.name!r}: {self.weight} is not a weight, a whole number from {LIGHTEST} to {HEAVIEST}"
            )
        if self.limit is not None and not ADAPTIVE <= self.limit <= MOST_LIMIT:
            raise ValueError(f"{self.name!r}: {self.limit} is not a limit between 0 and {MOST_LIMIT}")
        if not 0 <= self.priority <= LOWEST:
            raise ValueError(f"{self.name!r}: {self.priority} is not a priority between 0 and {LOWEST}")
        if self.backup and self.priority:
            raise ValueError(f"{self.name!r}: a backup has no priority, it is behind all of them")
        if self.check_port is None:
            return
        if not isinstance(self.address, TcpAddress):
            raise ValueError(f"{self.name!r}: a unix socket has no check_port")  # noqa: TRY004, as for any bad value
        if not 1 <= self.check_port <= MOST_PORT:
            raise ValueError(f"{self.name!r}: {self.check_port} is not a port between 1 and {MOST_PORT}")

    @property
    def level(self) -> int:
        """The level that it is of: its priority, or BACKUP."""
        return BACKUP if self.backup else self.priority

    def check_address(self, port: int | None) -> Address:
        """Where checks ask that have this port, if any: at the backend's own port for them, else at this one of its host; a
        unix socket itself.
        """
        address = self.address
        port = self.check_port or port
        if port is None or port == getattr(address, "port", port):
            return address
        assert isinstance(address, TcpAddress)
        return dataclasses.replace(address, port=port, traffic_port=address.port)

    def agent_address(self, port: int) -> Address | None:
        """Where its agent answers, at this port of its host; None for a unix socket, which has none."""
        address = self.address
        if not isinstance(address, TcpAddress) or port == address.port:
            return address if isinstance(address, TcpAddress) else None
        return dataclasses.replace(address, port=port, traffic_port=address.port)

    @classmethod
    def parse(cls, text: str) -> "BackendSpec":
        """`ADDRESS` or `ADDRESS,weight=N`; ValueError says in one line what is wrong."""
        where, *options = text.split(",")
        address = parse_address(where)
        weight: int | None = None
        for option in options:
            if ":" in option:
                raise ValueError(
                    f"{text!r}: backends are separated by spaces, and in a list each is a string of its own"
                )
            key, equals, value = option.partition("=")
            if key in _KEYS_OF_A_TABLE:
                raise ValueError(f"{text!r}: {key} is for a backend that is a table of the file, [[backends]]")
            if key != "weight" or not equals:
                raise ValueError(f"{text!r}: {option!r} is not an option, expected weight=N")
            if weight is not None:
                raise ValueError(f"{text!r}: weight is given twice")
            if not re.fullmatch("[0-9]{1,6}", value) or not LIGHTEST <= int(value) <= HEAVIEST:
                raise ValueError(f"{text!r}: {value!r} is not a weight, a whole number from {LIGHTEST} to {HEAVIEST}")
            weight = int(value)
        return cls(str(address), address, 1 if weight is None else weight)


def specs_of(given: object, what: str) -> list[BackendSpec]:
    """The specs of texts and specs, as a program gives them; ValueError for what is neither, or is no list of them.
    `what` is what the caller calls them: `servers`.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ValueError(f"{given!r}: a list of {what} is wanted, not one {type(given).__name__}")  # noqa: TRY004, as for any bad value
    return [_spec_of(one) for one in given]


def _spec_of(one: object) -> BackendSpec:
    if isinstance(one, BackendSpec):
        return one
    if isinstance(one, str):
        return BackendSpec.parse(one)
    raise ValueError(f"{one!r}: should be a string, as 10.0.0.1:80, or a BackendSpec")


class ThereTwice(ValueError):
    """A backend that is there already: the one of this `number` is the `first` one again."""

    def __init__(self, text: str, number: int, first: int) -> None:
        super().__init__(text)
        self.number = number
        self.first = first


def refuse_twice(specs: Iterable[BackendSpec]) -> None:
    """ThereTwice for a name or an address that is there twice, whatever its spelling."""
    names: dict[str, int] = {}
    places: dict[Address, tuple[int, str]] = {}
    for number, spec in enumerate(specs):
        place, where = same_place(spec.address), str(spec.address)
        if place in places:
            first, other = places[place]
            raise ThereTwice(
                f"{where} is there twice" + ("" if other == where else f", also as {other}"), number, first
            )
        if spec.name in names:
            raise ThereTwice(f"the name {spec.name} is there twice", number, names[spec.name])
        names[spec.name] = number
        places[place] = number, where


class AdminState(enum.Enum):
    """What the operator wants of a backend."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@mypyc_attr(acyclic=True)
class Who:
    """Which record of a backend it is, and what it is called: for who tells of it later, and has no use for the record."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: Final = name


class Backend:
    """The living record of a backend. It outlives updates that keep its name and address, and ends when the backend was
    removed and its last request has ended. One that is `resting` was removed too, but may return, and keeps its slot.

    `usable` and `available` are stored, so that a pick only reads them: `refresh_usable` derives them. `load` is what
    the policy compares; None when it does not. `up` is what it is taken for until its first probe.

    `weighing` is its weight, configured and now. `level` is its priority, or BACKUP; `standby`: that level is not in use.
    `panicked`: so few of its level are usable that it is used while it is ejected (1), or also while it is down by its checks (2).

    `told` hears of each lease: `load`, or what tells its adaptive limit, `gradient`, too; None where there is neither.

    `limit` is how many requests it may have in flight now, 0 for no bound, `most` without slow start, and `own_limit` what its
    spec says of that, ADAPTIVE or a number, None for nothing; `bound` sets them.

    `agent` is what it says of itself in answer to checks.

    `streak` are its failures in a row, None as a rule; `window` what it has answered of late, None where no rate is looked at.

    `reasons` are what took it out, in the words of whoever did: by the operator, its checks, its traffic. `aftermath` is what
    its last attempts have brought about: the moments of the lease and of that, and what it was.

    `standing` is what decisions are explained by: `stand` follows each change. Pickers count in `passed_over` how often they
    stepped over the backend because it was not available, in `passed_as_tried` because the request had tried it, and in
    `passed_by_bound` because it had more than its share in flight.
    """

    __slots__ = (
        "address",
        "admin",
        "aftermath",
        "agent",
        "available",
        "counts",
        "ejection",
        "failures",
        "gradient",
        "health",
        "held",
        "labels",
        "level",
        "limit",
        "load",
        "most",
        "name",
        "outcomes",
        "own_limit",
        "panicked",
        "passed_as_tried",
        "passed_by_bound",
        "passed_over",
        "reasons",
        "removed",
        "requests",
        "resting",
        "skips",
        "slot",
        "standby",
        "standing",
        "streak",
        "told",
        "totals",
        "tunnels",
        "usable",
        "weighing",
        "who",
        "window",
    )

    def __init__(self, spec: BackendSpec, counts: Counts, *, up: bool = True) -> None:
        self.name: Final = spec.name
        self.who: Final = Who(spec.name)
        self.address: Address = spec.address
        self.weighing: Weighing = Weighing(spec.weight)
        self.labels: tuple[tuple[str, str], ...] = spec.labels
        self.level: int = spec.level
        self.standby: bool = False
        self.panicked: int = 0
        self.admin: AdminState = AdminState.READY
        self.agent: Agent = Agent()
        self.health: Health = Health(up=up)
        self.ejection: Ejection = Ejection()
        self.streak: Streak | None = None
        self.window: Window | None = None
        self.usable: bool = up
        self.available: bool = up
        self.load: Load | None = None
        self.told: Load | None = None
        self.gradient: Gradient | None = None
        # Where its requests in flight are counted, and in which slot; -1 when it is gone for good.
        self.counts: Final = counts
        self.slot: int = counts.open()
        self.limit: int = 0
        self.most: int = 0
        self.own_limit: int | None = None
        self.removed: bool = False
        self.resting: bool = False
        self.requests: int = 0
        self.failures: int = 0  # outcomes that blame it
        self.tunnels: int = 0  # of those in flight
        self.held: int = (
            0  # of those in flight: places of requests that have ended, and that it may still be at work on
        )
        self.outcomes: list[int] = [0] * len(Outcome)
        self.totals: Final = BackendTotals()
        self.standing: Standing = Standing(None if up else Skipped.DOWN, AdminState.READY.value, self.weighing, -NEVER)
        self.passed_over: int = 0  # since its standing has changed
        self.passed_as_tried: int = 0
        self.passed_by_bound: int = 0
        self.skips: Final[dict[Skipped, int]] = {}  # before that
        self.reasons: Final[dict[Skipped, str]] = {}
        self.aftermath: Final[list[tuple[float, float, str]]] = []

    @property
    def weight(self) -> int:
        """The weight that is configured, or was set at run time."""
        return self.weighing.configured

    @weight.setter
    def weight(self, weight: int) -> None:
        self.weighing.configure(weight)

    @property
    def in_flight(self) -> int:
        """How many leases on the backend are open in this process."""
        return 0 if self.slot < 0 else self.counts.own(self.slot)

    @property
    def load_now(self) -> int:
        """How many requests the backend has in flight, those of other processes among them."""
        return 0 if self.slot < 0 else self.counts.load(self.slot)

    @property
    def share(self) -> float:
        """The weight that counts now: 0 while it gets no requests, or only those that try it."""
        in_use = not self.standby and (self.usable or self.standing.panic)
        return self.weighing.effective if in_use else 0.0

    def bound(self, own: int | None, most: int) -> None:
        """Set its limit: its `own`, or as much as its pool lets each have, which may be adaptive, or what its agent wants, if that is less. What is in
        flight beyond that goes on. To be followed by `refresh_usable`.
        """
        self.own_limit = own
        if self.gradient is not None:
            most = self.gradient.limit
        limit, wanted = most if own is None or own == ADAPTIVE else own, self.agent.limit
        self.most = min(limit, wanted) if limit and wanted else limit or wanted
        self.follow_weight()

    @property
    def learns(self) -> bool:
        """Whether its limit is adaptive, and no number stands in the place of that, of file or operator."""
        return self.gradient is not None and (self.own_limit is None or self.own_limit == ADAPTIVE)

    def adapt(self, rules: AdaptiveRules | None) -> None:
        """Learn its limit by these rules, going on from what was learnt, or not any more. To be followed by `bound`."""
        if rules is None:
            self.gradient = None
        elif self.gradient is None:
            self.gradient = self.counts.gradient(self.slot, rules)
        elif self.gradient.rules != rules:
            self.gradient.configure(rules)

    def follow_weight(self) -> None:
        """Its weight is another one, and its limit with it: slow start bounds what is in flight too, or a backend that bounds
        nobody else would be full at once. To be followed by `refresh_usable`.
        """
        self.limit = ceil(self.most * self.weighing.part)
        if self.slot >= 0:
            self.counts.bound(self.slot, self.limit)

    def leave(self) -> None:
        """Retire a backend that was removed: its slot is given back when nothing is in flight any more. To be called
        again at the end of each lease.
        """
        self.removed = True
        self.available = False
        if self.slot >= 0 and not self.resting and self.counts.own(self.slot) == 0:
            self.counts.close(self.slot)
            self.slot = -1

    def rejoin(self) -> None:
        """The backend is a member again, and is what it was when it left."""
        self.removed = self.resting = False
        self.refresh_usable()

    def inherit(self, other: "Backend", now: float, *, checked: bool) -> None:
        """Take over what is known of the same server under another name, which is removed: health, agent, adaptive limit, ejection, failures in a row, admin. Of its
        health both know what is found from now on, since it may still owe answers. A trial request that is under way tells
        `other` alone. `checked`: see `Ejection.eject`.
        """
        self.admin = other.admin
        self.health = other.health
        self.agent = other.agent
        self.gradient = None if other.gradient is None else other.gradient.handed_to(self.slot)
        self.weighing.cold = other.weighing.cold
        self.weighing.since = other.weighing.since
        self.reasons.update(other.reasons)
        self.ejection, other.ejection = other.ejection, self.ejection
        self.streak, other.streak = other.streak, None
        if self.ejection.on_trial:
            self.ejection.end_trial(now, listens=False, checked=checked)
        self.refresh_usable()

    @property
    def wanted(self) -> bool:
        """Whether the operator wants it to get requests: it is READY, and has a weight."""
        return self.admin is AdminState.READY and self.weighing.steady > 0

    @property
    def full(self) -> bool:
        """Whether the backend has as many requests in flight as it may."""
        return 0 < self.limit <= self.load_now

    @property
    def limit_why(self) -> str:
        """Why its adaptive limit is what it is; empty where it has none, or another one stands in its place."""
        gradient = self.gradient
        if gradient is None or not self.learns:
            return ""
        if self.most != gradient.limit:
            return f"its agent wants less than the {gradient.limit} that were found"
        if self.limit != self.most:
            return f"slow start, on the way to {self.most}"
        return gradient.because

    @property
    def failing(self) -> str:
        """Why traffic would have taken it out, had others not been out already; else its failures in a row. Empty for none."""
        if self.window is not None and self.window.withheld:
            return self.window.withheld
        return "" if self.streak is None else str(self.streak)

    @property
    def withheld(self) -> bool:
        """Whether traffic would have taken it out, had others not been out already."""
        streak, window = self.streak, self.window
        return (streak is not None and streak.withheld) or (window is not None and bool(window.withheld))

    def refresh_usable(self) -> None:
        """Update `usable` and `available`. An ejected backend is available for one trial request, once that is due; in panic for
        any.
        """
        ejection = self.ejection
        wanted = self.wanted and self.health.up and not self.agent.away
        self.usable = wanted and not ejection.active
        self.available = wanted and not self.removed and (ejection.due or not ejection.active) and not self.full
        if self.panicked:
            self.available = self.used_in_panic and not self.removed and not self.full

    @property
    def used_in_panic(self) -> bool:
        """Whether panic lets it get requests, be it usable or not."""
        return self.panicked > 0 and self.out is None

    @property
    def cold(self) -> bool:
        """Whether something takes it out, so that it will have to warm up. That nobody has asked it yet is no such thing."""
        return not self.usable and (self.out is not Skipped.DOWN or self.health.known)

    @property
    def lost(self) -> Skipped | None:
        """What says that the server behind it is not well, whatever the operator wants of it: checks, its agent, or traffic. None where
        nobody does, or panic uses it all the same.
        """
        if self.used_in_panic:
            return None
        if not self.health.up and self.health.known:
            return Skipped.DOWN
        if self.agent.down:
            return Skipped.AGENT
        return Skipped.EJECTED if self.ejection.active else None

    @property
    def out(self) -> Skipped | None:
        """Why it gets no requests, whatever it has in flight: the first reason that holds. None where it may get them."""
        if self.admin is not AdminState.READY:
            return Skipped.ADMIN
        if not self.weighing.steady > 0:
            return Skipped.WEIGHT
        if not self.health.up and self.panicked < _EVEN_DOWN:
            return Skipped.DOWN
        agent = self.agent
        if agent.away and (agent.withdrawn or self.panicked < _EVEN_DOWN):
            return Skipped.AGENT if agent.word != "busy" else Skipped.BUSY
        if self.ejection.active and not self.ejection.due and not self.panicked:
            return Skipped.EJECTED
        return Skipped.STANDBY if self.standby else None

    def remember(self, opened_at: float, now: float, what: str) -> None:
        """Remember what an attempt has brought about, whose lease was opened then."""
        self.aftermath.append((opened_at, now, what))
        del self.aftermath[:-_MOST_REMEMBERED]

    def brought_about(self, opened_at: float, *moments: float) -> str:
        """What an attempt has brought about at one of these moments, whose lease was opened then; empty for nothing, or what is
        not remembered.
        """
        found = [what for opened, at, what in self.aftermath if opened == opened_at and at in moments]
        return "; ".join(dict.fromkeys(found))

    def stand(self, now: float) -> bool:
        """Follow a change: whether the standing is another one now, or has another reason."""
        why, was, ejection = self.out, self.standing, self.ejection
        panic = why is None and self.panicked > 0 and not self.usable
        reason = self.reasons.get(why, "") if why is not None else self._in_spite_of()
        if (
            why is was.why
            and panic == was.panic
            and self.weight == was.weight
            and self.weighing.effective == was.effective
            and self.admin.value == was.admin
            and self.agent.word == was.agent
            and ejection.until == was.until
            and ejection.due == was.trial
            and reason == was.reason
            and was.since > -NEVER
        ):
            return False
        self._book_skips()
        same = why is was.why and self.admin.value == was.admin and was.since > -NEVER
        self.standing = Standing(
            why,
            self.admin.value,
            self.weighing,
            was.since if same else now,
            reason,
            ejection.until,
            trial=ejection.due,
            panic=panic,
            agent=self.agent.word,
        )
        return True

    def _in_spite_of(self) -> str:
        """What would take it out, and does not: a trial is due, or there is panic."""
        if not self.health.up:
            return self.reasons.get(Skipped.DOWN, "")
        if self.agent.away:
            return self.reasons.get(Skipped.AGENT, "")
        return self.reasons.get(Skipped.EJECTED, "") if self.ejection.active else ""

    def _book_skips(self) -> None:
        if self.passed_over:
            why = self.standing.why or Skipped.FULL
            self.skips[why] = self.skips.get(why, 0) + self.passed_over
            self.passed_over = 0
        if self.passed_as_tried:
            self.skips[Skipped.TRIED] = self.skips.get(Skipped.TRIED, 0) + self.passed_as_tried
            self.passed_as_tried = 0
        if self.passed_by_bound:
            self.skips[Skipped.BOUND] = self.skips.get(Skipped.BOUND, 0) + self.passed_by_bound
            self.passed_by_bound = 0

    @property
    def skipped_times(self) -> dict[Skipped, int]:
        """How often a picker came to it and stepped over it, by the reason. Who is taken out by the operator, or has no weight,
        is not among those that pickers come to.
        """
        self._book_skips()
        return dict(self.skips)

    def __repr__(self) -> str:
        facts = [self.admin.value, "up" if self.health.up else "down"]
        if self.ejection.active:
            facts.append("on trial" if self.ejection.on_trial else "ejected")
        return f"<Backend {self.name}: {', '.join(facts)}, {self.in_flight} in flight>"
