"""What was in force when: who was in the pool and by which settings the balancer went, as its operator wanted it, and what it
says of itself.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from faults.naming import BACKEND
from faults.tape import Dialled, Tape, TownNetwork

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.events import BackendEjected
from twisted_lb.core.pool import Pool


class Moment(NamedTuple):
    """A number that orders everything in a town, and the time."""

    at: int
    when: float


FOREVER = float("inf")


@dataclass(eq=False)
class Member:
    """A backend, from when it came until it went, or its name got another address. `record` is what the balancer has of it.

    When it went, `begun` requests were under way or over on each of its connections, and `busy` were those in use, or with
    something left to send; it `rests` if it is an endpoint that may return, to all that is known of it. `maintained`: from when
    until when it was in maintenance, `rested` the moments at which that began. `follows`: who it was before, by whose record it began.
    """

    spec: BackendSpec
    record: Backend
    since: Moment
    until: Moment | None = None
    begun: dict[Tape, int] = field(default_factory=dict)
    busy: set[Tape] = field(default_factory=set)
    rests: bool = False
    maintained: list[tuple[float, float]] = field(default_factory=list)
    rested: list[tuple[int, float]] = field(default_factory=list)
    follows: "Member | None" = None

    def wanted(self, admin: AdminState, when: float, at: int = 0) -> None:
        """The operator wants this of it from now on."""
        if admin is AdminState.MAINT and at:
            self.rested.append((at, when))
        if admin is AdminState.MAINT and not (self.maintained and self.maintained[-1][1] == FOREVER):
            self.maintained.append((when, FOREVER))
        elif admin is not AdminState.MAINT and self.maintained and self.maintained[-1][1] == FOREVER:
            self.maintained[-1] = (self.maintained[-1][0], when)

    @property
    def address(self) -> str:
        return str(self.spec.address)

    def there(self, at: float) -> bool:
        return self.since.at <= at and (self.until is None or at < self.until.at)

    def __repr__(self) -> str:
        return f"<Member {self.spec.name} at {self.address}>"


class Members:
    """Who is in the pool. Each change is compared with what the balancer makes of it: `complaints` are the differences."""

    def __init__(self, network: TownNetwork, pool: Pool) -> None:
        self.all: list[Member] = []
        self.now: dict[str, Member] = {}  # by name
        self.complaints: list[str] = []
        self.admin = AdminState.READY  # what is wanted of the name that they all have, where they have one
        self.back = 0  # how many endpoints came back
        self._away: dict[str, Member] = {}
        self._network = network
        self._pool = pool

    def begin(self, specs: Sequence[BackendSpec]) -> None:
        """With these, who are in the pool already."""
        moment = self._moment()
        for spec in specs:
            self._come(spec, moment)

    def change(self, specs: Sequence[BackendSpec], tell: Callable[[], None]) -> None:
        """Have just these from now on; `tell` tells the balancer."""
        moment = self._moment()
        policy = self._pool.policy
        before = {name: (member, _facts(member.record)) for name, member in self.now.items()}
        wanted = {spec.name: spec for spec in specs}
        for name, member in list(self.now.items()):
            if name not in wanted or wanted[name].address != member.spec.address:
                self._go(member, moment)
        tell()
        if list(self._pool.backends) != [spec.name for spec in specs]:
            self.complaints.append(f"told to have {list(wanted)}, has {list(self._pool.backends)}")
            return
        for spec in specs:
            if spec.name in self.now:
                self._stay(spec, before[spec.name][1], same_policy=self._pool.policy is policy)
            else:
                replaced = before.get(spec.name)
                self._come(spec, moment, AdminState.READY if replaced is None else replaced[0].record.admin)
        self.now = {spec.name: self.now[spec.name] for spec in specs}

    def stay(self, tell: Callable[[], None]) -> None:
        """Have whom there is, though the balancer is told something. What a name server answers in the middle of that is a
        change of its own, see `rename`: whoever it leaves alone stays.
        """
        policy = self._pool.policy
        before = [(member, _facts(member.record)) for member in self.now.values()]
        tell()
        if sorted(self._pool.backends) != sorted(self.now):
            self.complaints.append(f"there should be {list(self.now)}, there are {list(self._pool.backends)}")
            return
        for member, facts in before:
            if self.now.get(member.spec.name) is member:
                self._stay(member.spec, facts, same_policy=self._pool.policy is policy)

    def rename(
        self, specs: Sequence[BackendSpec], tell: Callable[[], None], origins: Mapping[str, tuple[str, str]]
    ) -> None:
        """Have just these from now on, since the name of them all means them; `tell` lets the balancer hear it. `origins`: how
        new members begin, and as whom; others that were there before are the same.
        """
        moment = self._moment()
        policy = self._pool.policy
        before = {name: (member, _facts(member.record)) for name, member in self.now.items()}
        wanted = {spec.name: spec for spec in specs}
        gone = [m for name, m in before.items() if name not in wanted or wanted[name].address != m[0].spec.address]
        for member, _ in gone:
            self._go(member, moment)
        tell()
        if sorted(self._pool.backends) != sorted(wanted):
            self.complaints.append(f"names mean {list(wanted)}, there are {list(self._pool.backends)}")
            return
        for spec in specs:
            if spec.name in self.now:
                self._stay(spec, before[spec.name][1], same_policy=self._pool.policy is policy)
            else:
                how, origin = origins.get(spec.name, ("", ""))
                self._join(spec, moment, how, before.get(origin))
        heirs = {origin for how, origin in origins.values() if how == "inherits"}
        for member, _ in gone:
            if member.spec.name != BACKEND and member.spec.name not in heirs:
                self._away[member.spec.name] = member
                member.rests = True

    def _join(
        self, spec: BackendSpec, moment: Moment, how: str, origin: tuple[Member, tuple[object, ...]] | None
    ) -> None:
        """Somebody joins: with the record that it had, with what is known of whom it follows, or as new."""
        away = self._away.pop(spec.name, None) if how != "inherits" else None
        record = self._pool.backends[spec.name]
        member = Member(spec, record, moment)
        self.back += away is not None
        if how == "moves" or away is not None:
            same = away.record if away is not None else origin[0].record if origin is not None else None
            if record is not same:
                self.complaints.append(f"{member} {how or 'is back'} and has another record")
        elif how == "inherits" and origin is not None:
            if any(record is one.record for one in self.all):
                self.complaints.append(f"{member} has the record of somebody else")
            known = [_facts(record)[at] for at in INHERITED]
            if known != [origin[1][at] for at in INHERITED]:
                self.complaints.append(f"{member} follows {origin[0]} and begins with {known}")
            member.follows = origin[0]
        else:
            self._come(spec, moment, self.admin)
            return
        self.now[spec.name] = member
        self.all.append(member)
        member.wanted(record.admin, moment.when)

    def _moment(self) -> Moment:
        return Moment(self._network.tapes.tick(), self._network.clock.seconds())

    def _come(self, spec: BackendSpec, moment: Moment, admin: AdminState = AdminState.READY) -> None:
        record = self._pool.backends[spec.name]
        member = self.now[spec.name] = Member(spec, record, moment)
        fresh = not any(record.outcomes) and not record.requests and not record.in_flight
        known = any(record is one.record for one in self.all)
        self.all.append(member)
        member.wanted(record.admin, moment.when)
        if known or not fresh:
            self.complaints.append(f"{member} begins with {_facts(record)}")
        if record.admin is not admin or record.usable is not (admin is AdminState.READY):
            self.complaints.append(f"{member} begins as {record}, wanted is {admin}")
        self._compare(spec, record)

    def _stay(self, spec: BackendSpec, facts: tuple[object, ...], *, same_policy: bool) -> None:
        """Who stays keeps its record, and all that is in it; only its load is what the policy makes of it."""
        record = self._pool.backends[spec.name]
        self.now[spec.name].spec = spec
        if _facts(record)[:-1] != facts[:-1] or (same_policy and record.load is not facts[-1]):
            self.complaints.append(f"{self.now[spec.name]} stays: {facts} becomes {_facts(record)}")
        self._compare(spec, record)

    def _compare(self, spec: BackendSpec, record: Backend) -> None:
        if spec.name != BACKEND and (record.address, record.weight) != (spec.address, spec.weight):
            self.complaints.append(f"{record} is at {record.address} with {record.weight}, wanted is {spec}")

    def _go(self, member: Member, moment: Moment) -> None:
        del self.now[member.spec.name]
        member.until = moment
        for dialled in self._network.dials:
            tape, upstream = dialled.tape, dialled.upstream
            mine = dialled.address == member.address and dialled.at >= member.since.at
            if tape is not None and mine and self.asked(dialled) is member:
                used = upstream.requester is not None or upstream.waiter is not None
                member.begun[tape] = upstream.requests + used
                if used or (tape.end is not None and tape.end.unsent):
                    member.busy.add(tape)

    # Asked by the oracle.

    def at(self, address: str, at: float) -> Member | None:
        """Who was at this address then."""
        return next((member for member in self.all if member.address == address and member.there(at)), None)

    def asked(self, dialled: Dialled) -> Member | None:
        """Who was meant: the backend for which it was dialled, wherever its name led."""
        mine = [member for member in self.all if member.record is dialled.upstream.backend]
        here = [member for member in mine if member.address == dialled.address]
        there = [member for member in here if member.there(dialled.at)]
        return (there or here[-1:] or mine[-1:] or [None])[0]

    def of(self, record: Backend) -> Member:
        """Whose record it is, the last one where a name has moved."""
        return next(member for member in reversed(self.all) if member.record is record)

    def known_as(self, member: Member) -> list[Backend]:
        """Its record, and those of all whose health and ejection it has inherited."""
        records: list[Backend] = []
        waiting = [one for one in self.all if one.record is member.record]
        while waiting:
            record = waiting.pop().record
            if not any(record is one for one in records):
                records.append(record)
                mine = [one.follows for one in self.all if one.record is record]
                waiting += [one for one in mine if one is not None]
        return records

    def places(self, record: Backend) -> set[str]:
        """Where a backend has ever been."""
        return {member.address for member in self.all if member.record is record}

    def place(self, record: Backend) -> str:
        """Where a backend is; the one that a name leads to is not where its address says."""
        return next((one.address for one in self.now.values() if one.record is record), str(record.address))


# Of the facts below: admin, health, and whether it is ejected.
INHERITED = (1, 6, 9)


def _facts(record: Backend) -> tuple[object, ...]:
    """What a record knows, without what an update may change; the last is its load."""
    health, ejection = record.health, record.ejection
    return (
        id(record),
        record.admin,
        tuple(record.outcomes),
        record.requests,
        record.failures,
        record.in_flight,
        (health.up, health.known),
        (ejection.active, ejection.due, ejection.on_trial, ejection.until),
        record.usable,
        ejection.active,
        record.load,
    )


class Generations:
    """The settings, generation for generation."""

    def __init__(self, moment: Moment, config: LoadBalancerConfig) -> None:
        self.all: list[tuple[Moment, LoadBalancerConfig]] = [(moment, config)]

    @property
    def now(self) -> LoadBalancerConfig:
        return self.all[-1][1]

    def add(self, moment: Moment, config: LoadBalancerConfig) -> None:
        self.all.append((moment, config))

    def between(self, first: float, last: float) -> Iterator[LoadBalancerConfig]:
        """Those that were in force at some moment of these."""
        ends: list[Any] = [moment.at for moment, _ in self.all[1:]]
        for (begins, config), end in zip(self.all, [*ends, float("inf")], strict=True):
            if begins.at <= last and first < end:
                yield config

    def since(self, when: float, at: int) -> list[LoadBalancerConfig]:
        """Those that were in force at some moment from this time on until then."""
        ends = [moment.when for moment, _ in self.all[1:]]
        spans = zip(self.all, [*ends, float("inf")], strict=True)
        return [config for (begins, config), end in spans if begins.at <= at and end >= when]


class Try(NamedTuple):
    """An attempt as the balancer tells of it: when it began and ended, and the record of whom it asked."""

    began: float
    ended: float
    record: Backend


@dataclass
class Record:
    """What the balancer says of an exchange that has ended."""

    at: int
    when: float
    began: float
    name: str
    method: str
    attempts: int
    outcome: str  # of its last attempt
    ended_by: str  # what ended it: that outcome, or what has cut it short, or refused it
    status: int
    member: Member | None  # whom it asked last
    unread: bool  # bytes of its client's are here, and its backend has taken all that it was sent
    request_id: str
    unheard: bool  # bytes of its backend's are here, and were before this moment
    queued: bool  # it waited while nobody was usable: whoever came back first might have it
    waits: list[tuple[float, float]]  # from when until when, as far as its attempts show
    refused_by_pool: bool  # nobody was usable, and it did not wait any more
    waiting: int  # how many others waited then
    somebody_ready: bool  # whether the operator wanted any backend to be used
    tries: tuple[Try, ...]
    gathered_s: float  # for how long its body was gathered before it asked for a backend
    hedge: Member | None = None  # where its hedge was, if it had one
    hedge_heard: bool = False  # whether that was heard, or stood in, and is the last attempt


@dataclass
class Change:
    """Who was usable from when on, by address; who of these is a backup that only stands by, since others are usable; who else may be
    asked, since there is panic; who of all the operator wants to be asked for nothing; and who is `well`, whatever it says of itself; who may still get what is bound to it (affinity).
    """

    at: int
    when: float
    usable: frozenset[str]
    standing_by: frozenset[str] = frozenset()
    panicked: frozenset[str] = frozenset()
    unwanted: frozenset[str] = frozenset()
    well: frozenset[str] = frozenset()
    keeping: frozenset[str] = frozenset()

    @property
    def open(self) -> frozenset[str]:
        """Who may be asked, and has to be before anybody waits."""
        return self.usable | self.panicked


@dataclass
class TakenOut:
    """An ejection by another rule than a refused connection: whose, at which places it may have been asked, when, what was told, and how the pool stood right after. `trial`: it
    was out, and a request has tried it. `back`: when that was over, by a trial or by checks.
    """

    record: Backend
    places: set[str]
    moment: Moment
    event: BackendEjected
    wanted: int
    out: int
    usable: int
    trial: bool
    back: float = math.inf


def taken_out(
    record: Backend, places: set[str], moment: Moment, event: BackendEjected, members: Sequence[Backend]
) -> TakenOut:
    """What is to be judged of it later."""
    wanted = [one for one in members if one.wanted]
    out, usable = sum(one.ejection.active for one in wanted), sum(one.usable for one in wanted)
    return TakenOut(record, places, moment, event, len(wanted), out, usable, event.detail.startswith("a trial request"))
