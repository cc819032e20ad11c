"""A pool in the hands of chance: whatever may happen to one happens, and each thing that it does is held against its laws."""

import collections
from dataclasses import dataclass, replace
from random import Random

from twisted_lb.core.address import parse_address
from twisted_lb.core.affinity import AffinityRules, Bond, fate
from twisted_lb.core.agent import read_agent
from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.backend import BACKUP, AdminState, Backend, BackendSpec
from twisted_lb.core.decision import recalled
from twisted_lb.core.held import Held
from twisted_lb.core.lease import Lease
from twisted_lb.core.load_report import read_report
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import BY_KEY, BY_LOAD, LOADS, POLICIES, Policy, by_key, policy_of
from twisted_lb.core.pickers.own import own_policy
from twisted_lb.core.pickers.shadow import ShadowedPolicy
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.settings import EjectionRules, PoolSettings
from twisted_lb.core.succession import Succession
from twisted_lb.core.weighing import SlowStart

NAMES = "abcdefgh"
ROUNDS = 1000  # whose shares are looked at
# What explain says of a policy of one's own that it cannot ask twice.
UNKNOWN = "cannot be copied"
AGENT_LINES = [
    b"ready", b"up", b"drain", b"maint", b"down # disk", b"50%", b"0%", b"25600%", b"0", b"7", b"maxconn:1", b"maxconn:0", b"ready up 100%", b"nonsense, maybe",
]  # fmt: skip


class Naughty:
    """A policy of one's own that leaves, picks who is no member, and picks one that must not be, now and then."""

    def __init__(self, members, previous=None):
        self.members = members
        self.picks = 0

    def pick(self, ask, now, rng, tried):
        self.picks += 1
        match self.picks % 7:
            case 3:
                raise SystemExit(3)
            case 4:
                return "nobody"
            case 5:
                return self.members[0]
        return min((one for one in self.members if one.open_to(tried)), key=lambda one: one.in_flight, default=None)


class NaughtyAndLate(Naughty):
    eager = False


OWN = [own_policy(Naughty, "my:Naughty", 1.0), own_policy(NaughtyAndLate, "my:NaughtyAndLate", 1.0)]


def any_policy(rng: Random, *, shadowed: bool = True) -> Policy:
    match rng.randrange(8):
        case 0 | 1 | 2:
            return rng.choice(list(POLICIES.values()))
        case 3:
            return policy_of(rng.choice(list(BY_LOAD)), rng.choice(list(LOADS)))
        case 4:
            return by_key(rng.choice(list(BY_KEY)), rng.choice([0, 100, 125, 300]))
        case 5:
            return rng.choice(OWN)
    if shadowed:
        return ShadowedPolicy(any_policy(rng, shadowed=False), any_policy(rng, shadowed=False), "shadow")
    return POLICIES["rr"]


RAMPS = [SlowStart(), SlowStart(30.0), SlowStart(1e9, 1.0, 0.0), SlowStart(5.0, 2.0, 0.01)]
RULES = [
    EjectionRules(),
    EjectionRules(consecutive_failures=2, min_clients=1),
    EjectionRules(consecutive_failures=1, min_clients=1, max_percent=100),
    EjectionRules(
        success_rate_factor=0.5, success_rate_requests=2, failure_percent=50, failure_percent_requests=2, min_backends=1
    ),
]


def apart(rng: Random) -> Random:
    """Chance by which nothing else of the story moves."""
    other = Random()
    other.setstate(rng.getstate())
    return other


def any_affinity(rng: Random) -> AffinityRules | None:
    rules = AffinityRules(
        "the header x", rng.choice([5.0, 1e4]), rng.choice([2, 100]), drain_s=rng.choice([0.0, 5.0, 1e9])
    )
    return rng.choice([None, rules, replace(rules, waits=True)])


def any_settings(rng: Random) -> PoolSettings:
    return PoolSettings(
        affinity=any_affinity(apart(rng)),
        rise=rng.choice([1, 2]),
        fall=rng.choice([1, 3]),
        checked=rng.random() < 0.6,
        initially_up=rng.random() < 0.7,
        agents=rng.random() < 0.7,
        busy=rng.random() < 0.5,
        max_in_flight=rng.choice([0, 0, 1, 3]),
        max_queued=rng.choice([0, 2, 5]),
        queue_timeout_s=rng.choice([0.0, 2.0, 5.0]),
        no_backend_s=rng.choice([0.0, 2.0, 5.0]),
        slow_start=rng.choice(RAMPS),
        spill=rng.random() < 0.5,
        panic_percent=rng.choice([0, 0, 50, 100]),
        panic_even_down=rng.random() < 0.4,
        ejection=rng.choice(RULES),
    )


def any_specs(rng: Random) -> list[BackendSpec]:
    level = rng.random() < 0.3  # all of them of one
    return [any_spec(rng, name, level=level) for name in rng.sample(NAMES, rng.choice([0, 1, 1, 2, 3, 4, 6, 8]))]


def any_spec(rng: Random, name: str, *, level: bool) -> BackendSpec:
    backup = not level and rng.random() < 0.2
    return BackendSpec(
        name,
        parse_address(f"{name}:{rng.choice([1, 1, 1, 2])}"),
        rng.choice([0, 1, 1, 1, 2, 5, 256]),
        limit=rng.choice([None, None, None, 0, 1, 2]),
        priority=0 if level or backup else rng.choice([0, 0, 0, 1, 2, 5]),
        backup=backup,
    )


@dataclass(frozen=True)
class Facts:
    """Whatever decides whether a backend may have a request."""

    backend: Backend
    wanted: bool
    up: bool
    away: bool
    withdrawn: bool
    ejected: bool
    due: bool
    panicked: int
    full: bool
    keeps: bool

    @classmethod
    def of(cls, one: Backend, now: float, drain_s: float) -> "Facts":
        agent, ejection = one.agent, one.ejection
        return cls(
            one, one.wanted, one.health.up, agent.away, agent.withdrawn, ejection.active, ejection.due, one.panicked, one.full,
            fate(one, now, drain_s) is Held.KEPT,
        )  # fmt: skip

    def why_not(self) -> str:
        """Why it must not have one."""
        if not self.wanted:
            return "the operator does not want it"
        if self.full:
            return "it is full"
        if not self.up and self.panicked < 2:
            return "it is down"
        if self.away and (self.withdrawn or self.panicked < 2):
            return "its agent takes it out"
        return "it is ejected" if self.ejected and not self.due and not self.panicked else ""


def kept_by(ask: Ask) -> bool:
    """Whether it went, or waits to go, where it is bound."""
    return ask.bond is not None and ask.bond.held is Held.KEPT


class WildPool:
    """The pool, the leases and tickets that are open, and what has happened so far, in `story`."""

    # How often each happens, of their sum.
    HAPPENS = (
        ("update", 8), ("choose", 4), ("configure", 4), ("hear_agent", 5), ("hear_busy", 2), ("command", 4), ("probe", 9), ("tick", 8), ("pass_time", 4),
        ("claim", 24), ("claim_on", 4), ("grant", 4), ("withdraw", 2), ("answer", 2), ("report", 2), ("settle", 17),
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now = 1000.0
        self.leases: list[Lease] = []
        self.tickets: list[Ticket] = []
        self.responded: set[Lease] = set()
        self.events: list[object] = []
        self.story: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        policy, settings = any_policy(self.rng), any_settings(self.rng)
        self.pool = Pool("p", policy, settings, Random(seed), self.events.append)
        self.tell("begin", policy.describe, settings)

    def tell(self, *words: object) -> None:
        self.story.append(" ".join(map(str, words)))

    def live(self, steps: int) -> None:
        """So many things happen, and then everything comes to its end; AssertionError tells the story."""
        kinds, weights = zip(*self.HAPPENS, strict=True)
        try:
            self.update()
            for kind in self.rng.choices(kinds, weights, k=steps):
                getattr(self, kind)()
                self.counts[kind] += 1
                self.check()
            self.end()
        except Exception as error:
            raise AssertionError("\n".join([repr(error), *self.story[-40:]])) from error

    def one(self) -> Backend | None:
        return self.rng.choice(list(self.pool.backends.values()) or [None])

    # What happens.

    def update(self) -> None:
        wanted, rng = any_specs(self.rng), self.rng
        names = {one.name for one in wanted}
        gone = [name for name in self.pool.backends if name not in names]
        new = [one.name for one in wanted if one.name not in self.pool.backends]
        succession = Succession(list(NAMES)) if rng.random() < 0.5 else None
        if succession is not None:
            succession.resting.update({name: name for name in gone if rng.random() < 0.7})
            if gone and new and rng.random() < 0.4:
                succession.heirs[new[0]] = gone[0]
                succession.resting.pop(gone[0], None)
        self.tell("update", wanted, succession and (succession.heirs, succession.resting))
        self.pool.update(wanted, self.now, succession)
        assert list(self.pool.backends) == [one.name for one in wanted]

    def choose(self) -> None:
        policy = any_policy(self.rng)
        self.tell("choose", policy.describe)
        self.pool.choose_by(policy)

    def configure(self) -> None:
        settings = any_settings(self.rng)
        self.tell("configure", settings)
        self.pool.configure(settings, self.now)

    def hear_agent(self) -> None:
        one, line = self.one(), self.rng.choice([*AGENT_LINES, None])
        if one is not None:
            self.tell("agent", one.name, line)
            self.pool.hear_agent(one, None if line is None else read_agent(line), self.now)

    def hear_busy(self) -> None:
        one, busy = self.one(), self.rng.random() < 0.5
        if one is not None:
            self.tell("busy", one.name, busy)
            self.pool.hear_busy(one, busy, "429", self.now)

    def command(self) -> None:
        one, admin = (
            self.one(),
            self.rng.choice([AdminState.READY, AdminState.READY, AdminState.DRAIN, AdminState.MAINT]),
        )
        if one is not None:
            self.tell("command", one.name, admin)
            self.pool.command(one, admin, self.now, "me")

    def probe(self) -> None:
        one, passed, silent = self.one(), self.rng.random() < 0.5, self.rng.random() < 0.3
        if one is not None and self.pool.settings.checked:
            self.tell("probe", one.name, passed)
            self.pool.observe_probe(one, passed, "why", self.now, silent=silent)

    def tick(self) -> None:
        self.now += self.rng.choice([0.0, 0.1, 0.25, 1.0, 10.0, 3600.0, 1e6])
        self.tell("tick", self.now)
        self.pool.tick(self.now)

    def pass_time(self) -> None:
        """It passes, and no tick comes."""
        self.now += self.rng.choice([0.0, 0.01, 0.3, 1.0, 11.0, 600.0])
        self.tell("time", self.now)

    def claim(self) -> None:
        pool, members, rng = self.pool, list(self.pool.backends.values()), self.rng
        ask = rng.choice([ANY, Ask(key_of(b"%d" % rng.randrange(50)), by="k"), Ask(0, rng.choice([1, 7, 1000]))])
        ask = self.bound(ask, apart(rng))
        tried = tuple(rng.sample(members, rng.randint(0, len(members)))) if rng.random() < 0.3 else ()
        told = pool.explain(ask, self.now, tried)
        before = self.facts()
        # Somebody waits who would take whoever is free, or one who is free.
        behind = pool.settings.max_queued and any(
            (not one.tried and one.only is None)
            or any(free.available and free not in one.tried and one.only in (None, free) for free in members)
            for one in self.tickets
        )
        verdict = pool.claim(ask, self.now, tried)
        self.tell("claim", ask, [one.name for one in tried], verdict, "foretold", told.picked, told.waits, told.rule)
        known = UNKNOWN not in told.rule
        if isinstance(verdict, Lease):
            self.leased(verdict, before, tried, kept=kept_by(ask))
            assert not known or told.picked == verdict.backend.name, "explain foretold another one"
            assert not known or told.trial == verdict.trial, "explain foretold no trial, or one"
            again = recalled(verdict)
            assert again.picked == verdict.backend.name
            assert not known or again.rule == told.rule, "it is told in other words afterwards"
            return
        assert not known or told.picked is None, "explain foretold somebody"
        assert not known or told.waits == isinstance(verdict, Ticket), "explain foretold another wait"
        if isinstance(verdict, Ticket):
            self.tickets.append(verdict)
            if verdict.only is not None:
                assert kept_by(ask)
                assert verdict.only not in tried
                return
        assert behind or not self.open_to(tried), "nobody was found, and somebody is open"
        assert pool.refused(tried, self.now).decision().picked is None

    def bound(self, ask: Ask, rng: Random) -> Ask:
        """The same, perhaps bound: by what leads to a member, or by a key."""
        bindings, member = self.pool.bindings, rng.choice([None, *self.pool.backends.values()])
        if bindings is None or rng.random() < 0.3:
            return ask
        key = rng.randrange(1, 9)
        if rng.random() < 0.5:
            return ask.bound_by(Bond(bindings.find(key, self.now), Held.NEW, key, early=True))
        return ask.bound_by(Bond(None if member is None else bindings.home_of(member), Held.UNKNOWN))

    def open_to(self, tried) -> list[str]:
        """Who has to be found by a request that has tried these: usable, not full, and of a level that may be used."""
        members = list(self.pool.backends.values())
        awaited = [
            one for one in members if (one.usable or one.standing.panic) and not one.standby and one not in tried
        ]
        behind = self.pool.settings.spill or not awaited
        return [
            one.name
            for one in members
            if one.usable and not one.full and one not in tried and (behind or not one.standby)
        ]

    def claim_on(self) -> None:
        one = self.one()
        if one is None:
            return
        before = self.facts()
        verdict = self.pool.claim_on(one, ANY, self.now)
        self.tell("claim_on", one.name, verdict)
        if isinstance(verdict, Lease):
            assert verdict.backend is one
            self.leased(verdict, before, ())
        elif verdict is not None:
            self.tickets.append(verdict)

    def grant(self) -> None:
        before = self.facts()
        several: set[Backend] = set()
        for ticket, verdict in self.pool.grants(self.now):
            self.tell("grant", ticket, verdict)
            self.tickets.remove(ticket)
            if isinstance(verdict, Lease):
                due = before[verdict.backend]
                # A trial becomes due by time alone, and what it has had in flight is another number after the first.
                if verdict.backend not in several and not verdict.trial:
                    kept = kept_by(ticket.ask) or ticket.only is not None
                    self.leased(verdict, {verdict.backend: due}, ticket.tried, kept=kept)
                else:
                    self.leases.append(verdict)
                several.add(verdict.backend)
            else:
                assert ticket.until <= self.now, "refused before its wait was over"
        for ticket in self.tickets:
            assert ticket.until > self.now, "it waits for ever"

    def withdraw(self) -> None:
        if self.tickets:
            self.tell("withdraw")
            self.pool.withdraw(self.tickets.pop(self.rng.randrange(len(self.tickets))))

    def answer(self) -> None:
        if not self.leases:
            return
        lease = self.rng.choice(self.leases)
        self.tell("answer", lease)
        if lease not in self.responded:
            self.responded.add(lease)
            self.pool.responded(lease, self.now)
        self.pool.answered(lease, self.now)

    def report(self) -> None:
        one, said = self.one(), b"TEXT cpu_utilization=%f" % self.rng.choice([0.0, 0.3, 1.0, 1e6, self.rng.random()])
        if one is not None:
            self.tell("report", one.name, said)
            report = read_report(said)
            assert report is not None
            self.pool.observe_load(one.name, report, self.now)

    def settle(self) -> None:
        if not self.leases:
            return
        lease = self.leases.pop(self.rng.randrange(len(self.leases)))
        outcome = self.rng.choice([Outcome.OK, Outcome.OK, *Outcome])
        self.tell("settle", lease, outcome)
        self.pool.settle(lease, outcome, self.now, "detail", self.rng.choice("xyz"))

    # What holds.

    def facts(self) -> dict[Backend, Facts]:
        affinity = self.pool.settings.affinity
        return {one: Facts.of(one, self.now, affinity.drain_s if affinity else 0.0) for one in self.pool.records}

    def leased(self, lease: Lease, before: dict[Backend, Facts], tried, *, kept: bool = False) -> None:
        backend = lease.backend
        assert self.pool.backends.get(backend.name) is backend, "leased who is no member"
        assert backend not in tried, "leased who was tried"
        if not (kept and before[backend].keeps and not before[backend].full):
            assert not before[backend].why_not(), f"leased {backend}: {before[backend].why_not()}"
        assert not lease.trial or before[backend].ejected
        self.leases.append(lease)

    def check(self) -> None:
        """What holds at any time."""
        pool = self.pool
        assert not pool.broken(len(self.tickets)), pool.broken(len(self.tickets))
        assert pool.counts.total == len(self.leases), "in flight is what is open"
        open_at = collections.Counter(lease.backend for lease in self.leases)
        assert all(one.in_flight == open_at[one] for one in pool.records), "in flight is what is open at each"
        meant = sum(pool.meant().values())
        assert meant == 0 or abs(meant - 1) < 1e-6, f"the shares that are meant are {meant} together"
        for one in pool.backends.values():
            assert all(times > 0 for times in one.skipped_times.values())
            assert 0 <= one.weighing.effective <= max(one.weighing.steady, 0) <= 256
        assert repr(pool)
        assert len(pool.snapshot().backends) == len(pool.backends)

    # The end.

    def end(self) -> None:
        """Everything ends; then all is well."""
        self.tell("the end")
        for ticket in self.tickets:
            self.pool.withdraw(ticket)
        for lease in self.leases:
            self.pool.settle(lease, Outcome.OK, self.now)
        self.tickets, self.leases = [], []
        self.check()
        assert not self.pool.leaving, "who has nothing in flight leaves"
        minded = self.pool.minded
        if minded is not None and minded.shadow is not None:
            assert not any(minded.shadow.in_flight.values()), "the shadow has nothing in flight"
        self.all_is_well()
        self.whoever_is_well_comes_back()
        self.shares_are_as_meant()
        self.check()

    def all_is_well(self) -> None:
        """Agents are silent, nobody is bounded, and the operator wants all."""
        pool = self.pool
        pool.configure(replace(
            pool.settings, max_in_flight=0, max_queued=0, panic_percent=0, agents=False, busy=False, slow_start=SlowStart(30.0), ejection=EjectionRules()
        ), self.now)  # fmt: skip
        members = pool.backends.values()
        wanted: list[BackendSpec] = []
        for one in members:
            level = {"backup": True} if one.level == BACKUP else {"priority": one.level}
            wanted.append(BackendSpec(one.name, one.address, min(one.weight, 5) or 1, **level))
        pool.update(wanted, self.now)
        for one in pool.backends.values():
            pool.command(one, AdminState.READY, self.now)

    def whoever_is_well_comes_back(self) -> None:
        """Checks pass, and requests are answered: nobody stays out, and nobody on a ramp. Of a level that is not in use, or by a
        policy that asks for others first, nobody is tried, but may be at once.
        """
        members = self.pool.backends.values()
        self.serve_for_a_while()
        out = [one for one in members if not (one.usable or one.ejection.due) or one.weighing.part != 1.0]
        assert not out, f"{out} are well, and stay out"
        self.pool.choose_by(POLICIES["rr"])
        self.serve_for_a_while()
        out = [one for one in members if not (one.usable or one.standby)]
        assert not out, f"{out} are well, and are not tried"

    def serve_for_a_while(self) -> None:
        for _ in range(100):
            self.now += 11.0
            self.pool.tick(self.now)
            for one in self.pool.backends.values():
                if self.pool.settings.checked:
                    self.pool.observe_probe(one, True, "well", self.now)
            for _ in self.pool.backends:
                self.serve(Ask(key_of(b"%d" % self.rng.randrange(50)), by="k"))

    def serve(self, ask: Ask) -> Backend | None:
        lease = self.pool.claim(ask, self.now)
        if not isinstance(lease, Lease):
            return None
        self.pool.settle(lease, Outcome.OK, self.now)
        return lease.backend

    def shares_are_as_meant(self) -> None:
        """By chance and by turns each gets the share of its weight and its level."""
        for policy in (POLICIES["rr"], POLICIES["rand"]) if self.pool.backends else ():
            self.pool.choose_by(policy)
            got = collections.Counter(self.serve(ANY) for _ in range(ROUNDS))
            for name, part in self.pool.meant().items():
                # Chance is binomial: within six standard deviations (one in 500 millions), and two for what rotation owes.
                off = 6 * (ROUNDS * part * (1 - part)) ** 0.5 + 2
                found, meant = got[self.pool.backends[name]], ROUNDS * part
                assert abs(found - meant) <= off, f"{name} has {found} by {policy.describe}, {meant:.0f} are meant"
