"""Anything that can happen to a pool, in any order: its laws hold after each step, and its events tell the whole story."""

import random
import re
from dataclasses import dataclass, replace

from builders import CountingPolicy, Told, specs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from twisted_lb.core import events
from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.settings import EjectionRules, PoolSettings

NAMES = ["a:1", "b:1", "c:1"]
WHICH = st.integers(0, 100)
RISE, FALL = 2, 3
ROW = EjectionRules(consecutive_failures=2)
RATES = EjectionRules(
    success_rate_factor=0.5, success_rate_requests=2, failure_percent=50, failure_percent_requests=2, min_backends=1
)
QUEUE, WAIT_S = 3, 2.0


@dataclass
class Known:
    """What somebody who hears only the events knows of a backend."""

    up: bool = True
    heard: bool = False  # of its health
    ejected: bool = False
    until: float | None = None
    rule: EjectionRule = EjectionRule.REFUSED
    admin: AdminState = AdminState.READY
    returned_at: float = -1.0

    @property
    def usable(self) -> bool:
        return self.up and not self.ejected and self.admin is AdminState.READY


class Listener:
    """Believes the events; each of them has to be news."""

    def __init__(self, initially_up: bool) -> None:
        self.known: dict[str, Known] = {}
        self.exhausted = False
        self.initially_up = initially_up

    def hear(self, event) -> None:
        if isinstance(event, (events.PoolExhausted, events.PoolRecovered)):
            self.exhausted = isinstance(event, events.PoolExhausted)
            assert self.exhausted == (not any(known.usable for known in self.known.values()))
        elif isinstance(event, events.BackendAdded):
            assert event.backend_name not in self.known
            self.known[event.backend_name] = Known(self.initially_up)
        elif isinstance(event, events.BackendRemoved):
            del self.known[event.backend_name]
        else:
            self.hear_of(self.known[event.backend_name], event)

    def hear_of(self, known: Known, event) -> None:
        match event:
            case events.BackendChanged():
                if "address" in event.change:
                    known.up, known.heard, known.ejected = self.initially_up, False, False
            case events.AdminChanged():
                assert known.admin is event.before is not event.admin
                known.admin = event.admin
            case events.BackendDown() | events.BackendUp():
                up = isinstance(event, events.BackendUp)
                # The first result is news too where it only confirms that a backend is down.
                assert known.up != up or not (known.up or known.heard)
                known.up, known.heard = up, True
            case events.BackendEjected(rule=EjectionRule.REFUSED):
                # Again only after a trial, which ends later than it began; or out for something else before.
                again = known.ejected and known.rule is EjectionRule.REFUSED
                assert not again or (event.until is not None and event.until > known.until)
                assert event.check_wanted == (event.until is None)
                known.ejected, known.until, known.rule = True, event.until, event.rule
            case events.BackendEjected():
                assert not known.ejected or event.detail.startswith("a trial request failed: ")
                assert event.at + 10.0 <= event.until <= event.at + 300.0 * 1.1
                known.ejected, known.until, known.rule = True, event.until, event.rule
            case events.BackendReturned():
                assert known.ejected
                known.ejected, known.returned_at = False, event.at


class PoolMachine(RuleBasedStateMachine):
    """The pool, and everybody who has to do with it."""

    @initialize(
        policy=st.sampled_from(list(POLICIES)),
        checked=st.booleans(),
        most=st.sampled_from([0, 0, 1, 3]),
        queued=st.booleans(),
        initially_up=st.booleans(),
        ejection=st.sampled_from([EjectionRules(), ROW, RATES]),
    )
    def begin(self, policy, checked, most, queued, initially_up, ejection):
        self.now = 100.0
        self.checked = checked
        self.by_turns = policy == "rr"
        self.leases: list[Lease] = []
        self.settled = 0
        self.seen: set[Backend] = set()
        self.told = Told()
        self.listener = Listener(initially_up or not checked)
        self.policy = CountingPolicy(policy)
        self.changed = True  # members, a weight, or what the operator wants, since the last pick
        settings_ = PoolSettings(
            RISE,
            FALL,
            checked=checked,
            initially_up=initially_up,
            max_in_flight=most,
            max_queued=QUEUE if queued else 0,
            queue_timeout_s=WAIT_S,
            no_backend_s=WAIT_S,
            ejection=ejection,
        )
        self.tickets: list[Ticket] = []
        self.held: list[Backend] = []  # a place each
        self.answering: set[Lease] = set()  # trials of which an answer is wanted
        self.waited = False  # whether anybody ever did, which brings trials nearer
        self.pool = Pool("p", self.policy, settings_, random.Random(1), self.hear)
        self.pool.update(specs("a:1", "b:1,weight=2"), self.now)

    def hear(self, event):
        self.told.append(event)
        badly = isinstance(event, events.BackendEjected) and event.rule is not EjectionRule.REFUSED
        if badly and not self.listener.known[event.backend_name].ejected:
            wanted = [backend for backend in self.pool.backends.values() if backend.wanted]
            assert sum(backend.ejection.active for backend in wanted) <= len(wanted) // 2
            assert any(backend.usable for backend in wanted)
        self.listener.hear(event)

    def one(self, which: int) -> Backend:
        backends = list(self.pool.backends.values())
        return backends[which % len(backends)]

    # What can happen.

    @rule(
        names=st.lists(st.sampled_from(NAMES), unique=True),
        weight=st.integers(1, 3),
        moved=st.booleans(),
        limit=st.sampled_from([None, None, 0, 1, 2]),
    )
    def update(self, names, weight, moved, limit):
        address = parse_address("elsewhere:9" if moved else "here:1")
        before = dict(self.pool.backends)
        self.changed = True
        running = {backend: backend.in_flight for backend in before.values()}
        self.pool.update([BackendSpec(name, address, weight, limit=limit) for name in names], self.now)
        assert {backend: backend.in_flight for backend in running} == running, "a lower limit has cut somebody"
        assert list(self.pool.backends) == names
        for name, backend in self.pool.backends.items():
            if name in before and before[name].address == address:
                assert backend is before[name]
            assert (backend.address, backend.weight, backend.own_limit) == (address, weight, limit)

    @rule(name=st.sampled_from(NAMES))
    def update_with_one_twice(self, name):
        before = dict(self.pool.backends)
        self.told.clear()
        try:
            self.pool.update(specs(name, name), self.now)
        except ValueError:
            assert self.pool.backends == before
            assert self.told == []
        else:
            raise AssertionError("one was there twice")

    @rule(count=st.integers(1, 4), tried=st.sets(st.integers(0, 2)))
    def lease(self, count, tried):
        avoid = tuple(backend for index, backend in enumerate(self.pool.backends.values()) if index in tried)
        built = self.policy.built
        for _ in range(count):
            self.lease_one(avoid)
        assert self.policy.built <= built + self.changed
        self.changed = self.changed and self.policy.built == built

    def lease_one(self, avoid):
        on_trial = {backend for backend in self.pool.backends.values() if backend.ejection.on_trial}
        verdict = self.pool.claim(ANY, self.now, avoid)
        if isinstance(verdict, Ticket):
            assert len(self.tickets) < QUEUE + self.room(avoid)
            assert verdict.until >= self.now + WAIT_S
            self.tickets.append(verdict)
            self.waited = True
            return None
        if not isinstance(verdict, Lease):
            assert self.tickets or not self.open_to(avoid)
            return None
        assert all(ticket.tried or ticket.only for ticket in self.tickets), (
            "somebody went past those that wait for anyone"
        )
        self.leased(verdict, avoid, on_trial)
        return verdict

    def room(self, tried):
        """How many of those that wait are served as soon as they are asked."""
        return sum(
            1
            if backend.ejection.active
            else self.most(backend) - backend.in_flight
            if self.most(backend)
            else len(self.tickets) + 1
            for backend in self.open_to(tried)
        )

    def most(self, backend):
        """How many requests it may have: as its spec says, else as the pool does."""
        return self.pool.settings.max_in_flight if backend.own_limit is None else backend.own_limit

    @precondition(lambda self: self.pool.backends or self.leases)
    @rule(which=WHICH)
    def lease_on(self, which):
        """For a client that has a connection of its own there; it may be one that was removed."""
        known = [*self.pool.backends.values(), *(lease.backend for lease in self.leases)]
        backend = known[which % len(known)]
        member = self.pool.backends.get(backend.name) is backend
        full = backend.full
        verdict = self.pool.claim_on(backend, ANY, self.now)
        if isinstance(verdict, Ticket):
            assert member
            # Those who wait for it come first, also where a bound has just been lifted.
            ahead = [one for one in self.tickets if one.only in (None, backend) and backend not in one.tried]
            assert full or ahead
            assert verdict.only is backend
            self.tickets.append(verdict)
        elif verdict is None:
            assert not member or not backend.usable or full or self.tickets
        else:
            assert verdict.backend is backend
            assert backend.usable
            assert not verdict.trial
            self.leased(verdict, (), set())

    def open_to(self, tried):
        return [backend for backend in self.pool.backends.values() if backend.available and backend not in tried]

    def leased(self, lease, avoid, on_trial):
        backend = lease.backend
        assert backend not in avoid
        assert self.pool.backends[backend.name] is backend
        assert not self.most(backend) or backend.in_flight <= self.most(backend)
        assert allowed(backend)
        assert backend.usable != lease.trial
        if lease.trial and backend.ejection.rule is EjectionRule.REFUSED:
            assert not self.checked
            assert backend not in on_trial
            assert self.listener.known[backend.name].until <= self.now
        elif lease.trial:
            # Of one that has no end another one, after as long as the first rest at least.
            others = [one for one in self.leases if one.trial and one.backend is backend]
            assert all(self.now >= one.opened_at + 10.0 for one in others) or self.waited
            self.answering.add(lease)
        self.leases.append(lease)
        self.seen.add(backend)

    @rule()
    def grant(self):
        on_trial = {backend for backend in self.pool.backends.values() if backend.ejection.on_trial}
        built = self.policy.built
        verdicts = self.pool.grants(self.now)
        assert self.policy.built <= built + self.changed
        self.changed = self.changed and self.policy.built == built
        told = [ticket for ticket, _ in verdicts]
        served = [ticket for ticket, verdict in verdicts if isinstance(verdict, Lease)]
        for alike in (
            lambda one: not one.tried and one.only is None,
            *(lambda one, only=only: one.only is only for only in self.pool.backends.values()),
        ):
            came = [ticket for ticket in self.tickets if ticket in served and alike(ticket)]
            assert [ticket for ticket in served if alike(ticket)] == came, "in the order they came"
        self.tickets = [ticket for ticket in self.tickets if ticket not in told]
        for ticket, verdict in verdicts:
            if isinstance(verdict, Lease):
                assert ticket.only in (None, verdict.backend)
                self.leased(verdict, ticket.tried, on_trial)
            else:
                assert ticket.until <= self.now or (ticket.elsewhere and self.listener.exhausted)
        for ticket in self.tickets:
            assert ticket.until > self.now
            assert not self.open_to(ticket.tried) if ticket.only is None else not ticket.only.available

    @precondition(lambda self: self.tickets)
    @rule(which=WHICH)
    def withdraw(self, which):
        self.pool.withdraw(self.tickets.pop(which % len(self.tickets)))

    @precondition(lambda self: self.leases)
    @rule(outcome=st.sampled_from(list(Outcome)), which=WHICH)
    def settle(self, outcome, which):
        self.end(self.leases.pop(which % len(self.leases)), outcome)

    @precondition(lambda self: self.leases)
    @rule(outcome=st.sampled_from([Outcome.TIMED_OUT, Outcome.LATE, Outcome.BACKEND_DOWN]), which=WHICH)
    def give_up(self, outcome, which):
        lease = self.leases.pop(which % len(self.leases))
        before = lease.backend.in_flight
        self.pool.hold(lease.backend)
        self.held.append(lease.backend)
        self.end(lease, outcome)
        assert lease.backend.in_flight == before

    @precondition(lambda self: self.held)
    @rule(which=WHICH)
    def let_go(self, which):
        self.pool.let_go(self.held.pop(which % len(self.held)))

    @precondition(lambda self: self.tickets)
    @rule(which=WHICH)
    def have_another_place_to_go_to(self, which):
        self.tickets[which % len(self.tickets)].elsewhere = True

    @precondition(lambda self: self.leases)
    @rule(which=WHICH)
    def refuse(self, which):
        self.end(self.leases.pop(which % len(self.leases)), Outcome.REFUSED)

    def end(self, lease, outcome):
        backend = lease.backend
        current = self.pool.backends.get(backend.name) is backend
        returned_at = self.listener.known[backend.name].returned_at if current else 0.0
        was_out = backend.ejection.active and not (
            outcome is Outcome.REFUSED and current and self.out_for_serving_badly(backend)
        )
        self.told.clear()
        self.pool.settle(lease, outcome, self.now, "", str(self.settled % 3))
        self.settled += 1
        if not current:
            assert self.told == []
        elif not lease.trial and (was_out or lease.opened_at < returned_at):
            assert self.told == [], "an attempt from before told something new"
        elif outcome is Outcome.REFUSED and not (lease.trial and self.waited):
            # Of a trial that came early, since somebody waited, a refusal is no news.
            assert isinstance(self.told[0], events.BackendEjected)

    def out_for_serving_badly(self, backend):
        return self.listener.known[backend.name].rule is not EjectionRule.REFUSED

    @precondition(lambda self: self.pool.backends)
    @rule(which=WHICH, times=st.integers(1, 4), outcome=st.sampled_from([Outcome.NO_RESPONSE, Outcome.TIMED_OUT]))
    def serve_badly(self, which, times, outcome):
        """One of them fails some requests, of several clients."""
        backend = self.one(which)
        others = tuple(one for one in self.pool.backends.values() if one is not backend)
        for _ in range(times):
            lease = self.lease_one(others)
            if lease is not None:
                self.leases.remove(lease)
                self.end(lease, outcome)

    @precondition(lambda self: self.pool.backends)
    @rule(passed=st.booleans(), which=WHICH, times=st.integers(1, 3))
    def probe(self, passed, which, times):
        backend = self.one(which)
        for _ in range(times):
            known, was_up, was_ejected = backend.health.known, backend.health.up, backend.ejection.active
            self.pool.observe_probe(backend, passed, "x", self.now)
            if not known:
                assert backend.health.up == passed
            elif passed == was_up:
                assert backend.health.up == was_up
            assert not (passed and not was_ejected and backend.ejection.active)
            assert backend.ejection.active == was_ejected or (self.checked and passed)

    @precondition(lambda self: self.pool.backends)
    @rule(admin=st.sampled_from(list(AdminState)), which=WHICH)
    def command(self, admin, which):
        backend = self.one(which)
        self.changed |= backend.admin is not admin
        self.pool.command(backend, admin, self.now)

    @rule(most=st.sampled_from([0, 1, 2, 5]))
    def bound(self, most):
        self.pool.configure(replace(self.pool.settings, max_in_flight=most), self.now)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0, 11.0, 60.0]))
    def pass_time(self, seconds):
        self.now += seconds
        built = self.policy.built
        self.pool.tick(self.now)
        assert self.policy.built == built

    @rule()
    def everybody_who_is_usable_gets_a_turn(self):
        """By turns: within two rounds and a lag of a turn or so each."""
        usable = {backend for backend in self.pool.backends.values() if backend.usable}
        if not self.by_turns or self.tickets or any(backend.full for backend in usable):
            return
        served = set()
        for _ in range(2 * sum(backend.weight for backend in self.pool.backends.values()) + len(NAMES)):
            lease = self.lease_one(())
            if lease is not None:
                self.leases.remove(lease)
                self.end(lease, Outcome.OK)
                served.add(lease.backend)
        assert usable <= served

    # What always holds.

    @invariant()
    def in_flight_is_what_is_open(self):
        for backend in self.seen:
            leased = sum(lease.backend is backend for lease in self.leases)
            assert (backend.in_flight, backend.held) == (leased + self.held.count(backend), self.held.count(backend))
        assert self.pool.broken() == []

    @invariant()
    def a_slot_is_held_by_whoever_is_in_or_has_a_request_in_flight(self):
        holders = set(self.pool.backends.values()) | {lease.backend for lease in self.leases} | set(self.held)
        slots = [backend.slot for backend in holders]
        assert len(set(slots)) == len(slots)
        assert all(slot >= 0 for slot in slots)
        assert all(backend.slot == -1 for backend in self.seen - holders)
        taken = len(self.leases) + len(self.held)
        assert repr(self.pool.counts) == f"<Counts {taken} in flight, {len(holders)} slots>"

    @invariant()
    def those_that_wait_are_counted_and_the_first_expires_first(self):
        assert self.pool.snapshot().waiting == len(self.tickets)
        untils = [ticket.until for ticket in self.tickets]
        assert self.pool.wait_due == min(untils, default=NEVER)

    @invariant()
    def every_attempt_ended_once(self):
        assert sum(sum(backend.outcomes) for backend in self.seen) == self.settled
        assert sum(backend.requests for backend in self.seen) == self.settled + len(self.leases)

    @invariant()
    def usable_is_its_three_facts(self):
        for backend in self.pool.backends.values():
            facts = backend.admin is AdminState.READY and backend.health.up and not backend.ejection.active
            assert backend.usable == facts

    @invariant()
    def available_is_usable_or_due_and_not_full(self):
        for backend in self.seen | set(self.pool.backends.values()):
            most = self.most(backend)
            full = bool(most) and backend.in_flight >= most
            member = self.pool.backends.get(backend.name) is backend
            due = allowed(backend) and backend.ejection.due
            assert backend.available == (member and (backend.usable or due) and not full)

    @invariant()
    def the_events_told_the_whole_story(self):
        assert self.listener.known.keys() == self.pool.backends.keys()
        for name, known in self.listener.known.items():
            backend = self.pool.backends[name]
            assert (known.up, known.ejected, known.admin) == (
                backend.health.up,
                backend.ejection.active,
                backend.admin,
            )
        assert self.listener.exhausted == (not any(backend.usable for backend in self.pool.backends.values()))

    @invariant()
    def an_ejected_one_rests_or_has_exactly_one_trial(self):
        for backend in self.pool.backends.values():
            trials = sum(
                lease.trial for lease in self.leases if lease.backend is backend and lease not in self.answering
            )
            ejection = backend.ejection
            if ejection.rule is not EjectionRule.REFUSED:
                assert not ejection.active or ejection.due or ejection.until <= self.now + 300 * 1.1
                continue
            assert trials == ejection.on_trial
            if not self.checked and ejection.active and not trials:
                assert ejection.due or ejection.until <= self.now + 30

    @invariant()
    def its_repr_counts(self):
        numbers = [int(number) for number in re.findall(r"\d+", repr(self.pool))]
        backends = self.pool.backends.values()
        assert numbers == [sum(b.usable for b in backends), len(backends), sum(b.in_flight for b in backends)]

    def teardown(self):
        """Once everything has ended, requests, and checks where there are any, bring back whoever is well."""
        if not hasattr(self, "pool"):
            return
        self.pool.configure(replace(self.pool.settings, max_in_flight=0), self.now)
        self.pool.update(
            [BackendSpec(one.name, one.address, one.weight) for one in self.pool.backends.values()], self.now
        )
        for ticket in self.tickets:
            self.pool.withdraw(ticket)
        for lease in self.leases:
            self.pool.settle(lease, Outcome.CLIENT_GONE, self.now)
        for backend in self.held:
            self.pool.let_go(backend)
        self.now += 1000
        for backend in self.pool.backends.values():
            if self.checked:
                for _ in range(RISE):
                    self.pool.observe_probe(backend, True, "x", self.now)
        for _ in range(30):
            lease = self.pool.claim(ANY, self.now)
            if isinstance(lease, Lease):
                self.pool.settle(lease, Outcome.OK, self.now)
        assert not [backend for backend in self.pool.backends.values() if backend.ejection.active and allowed(backend)]


def allowed(backend: Backend) -> bool:
    return backend.admin is AdminState.READY and backend.health.up


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=250, stateful_step_count=50, deadline=None, derandomize=True)


def test_a_long_random_life_keeps_the_books():
    """20,000 steps in one life: what a few dozen cannot reach."""
    rng = random.Random(12)
    told = Told()
    pool = Pool("p", POLICIES["rr"], PoolSettings(RISE, FALL, checked=False), random.Random(2), told.append)
    leases: list[Lease] = []
    seen: set[Backend] = set()
    settled = 0
    for step in range(20_000):
        now = step * 0.05
        if step % 400 == 0:
            names = rng.sample(NAMES, rng.randint(1, 3))
            pool.update(specs(*(f"{name},weight={rng.choice([1, 1, 4])}" for name in names)), now)
        lease = pool.claim(ANY, now)
        if isinstance(lease, Lease):
            leases.append(lease)
            seen.add(lease.backend)
        while len(leases) > 10 or (leases and rng.random() < 0.4):
            pool.settle(leases.pop(rng.randrange(len(leases))), rng.choice(list(Outcome)), now)
            settled += 1
    assert sum(backend.in_flight for backend in seen) == len(leases)
    assert sum(sum(backend.outcomes) for backend in seen) == settled
    kinds = [type(event) for event in told]
    assert abs(kinds.count(events.PoolExhausted) - kinds.count(events.PoolRecovered)) <= 1
    assert kinds.count(events.BackendReturned) > 100
