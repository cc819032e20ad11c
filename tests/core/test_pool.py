"""Who is in, who may be used, who has a claim on whom."""

import random

import pytest
from builders import claim, make_pool, names, specs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.events import (
    AdminChanged,
    BackendAdded,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    BackendUp,
    PoolExhausted,
    PoolRecovered,
)
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Lease, Pool, PoolSettings


def test_leases_are_counted_from_claim_to_settlement():
    pool, told = make_pool("a:1", "b:1")
    leases = [claim(pool) for _ in range(4)]
    assert [backend.in_flight for backend in pool.backends.values()] == [2, 2]
    assert repr(pool) == "<Pool p: 2 usable of 2, 4 in flight>"
    for lease in leases:
        pool.settle(lease, Outcome.OK, 1.0)
    assert [backend.in_flight for backend in pool.backends.values()] == [0, 0]
    assert [backend.outcomes[Outcome.OK] for backend in pool.backends.values()] == [2, 2]
    assert told == []


def test_a_lease_is_settled_exactly_once():
    pool, _ = make_pool("a:1")
    lease = claim(pool)
    pool.settle(lease, Outcome.OK, 0.0)
    with pytest.raises(AssertionError, match="twice"):
        pool.settle(lease, Outcome.OK, 0.0)
    assert pool.backends["a:1"].in_flight == 0


def test_an_empty_pool_refuses():
    pool, _ = make_pool()
    assert pool.lease(None, 0.0) is Refusal.NO_BACKEND


def test_those_already_tried_are_avoided_and_all_tried_is_a_refusal():
    pool, _ = make_pool("a:1", "b:1")
    a, b = pool.backends.values()
    assert {claim(pool, tried=(a,)).backend.name for _ in range(5)} == {"b:1"}
    assert pool.lease(None, 0.0, (a, b)) is Refusal.NO_BACKEND


def test_an_update_keeps_the_record_of_who_stays():
    pool, told = make_pool("a:1", "b:1")
    backend = pool.backends["b:1"]
    lease = claim(pool)
    pool.update(specs("c:1", "b:1,weight=2"), 5.0)
    assert list(pool.backends) == ["c:1", "b:1"]
    assert pool.backends["b:1"] is backend
    assert backend.weight == 2
    assert told == [
        BackendAdded("c:1", 5.0),
        BackendChanged("b:1", "weight 1 -> 2", 5.0),
        BackendRemoved("a:1", 5.0),
    ]
    pool.settle(lease, Outcome.OK, 6.0)
    assert lease.backend.in_flight == 0


def test_a_new_address_under_an_old_name_is_another_server():
    pool, told = make_pool("a:1")
    pool.observe_probe(pool.backends["a:1"], False, "no", 0.0)
    told.clear()
    old = pool.backends["a:1"]
    pool.update([BackendSpec("a:1", BackendSpec.parse("z:9").address)], 1.0)
    assert pool.backends["a:1"] is not old
    assert pool.backends["a:1"].usable
    assert told.take() == [BackendChanged("a:1", "address a:1 -> z:9", 1.0), PoolRecovered("p", 1.0)]


def test_a_change_of_address_and_weight_is_told_as_one():
    pool, told = make_pool("a:1")
    pool.command(pool.backends["a:1"], AdminState.DRAIN, 0.0)
    told.clear()
    pool.update([BackendSpec("a:1", BackendSpec.parse("z:9").address, 3)], 1.0)
    assert told == [BackendChanged("a:1", "address a:1 -> z:9, weight 1 -> 3", 1.0)]
    assert pool.backends["a:1"].weight == 3
    assert pool.backends["a:1"].admin is AdminState.DRAIN  # what the operator wants is of the name


def test_a_backend_that_is_there_twice_changes_nothing():
    pool, told = make_pool("a:1")
    with pytest.raises(ValueError, match="twice"):
        pool.update(specs("b:1", "b:1"), 1.0)
    assert list(pool.backends) == ["a:1"]
    assert told == []


def test_a_removed_backend_gets_nobody_and_its_late_news_are_no_news():
    pool, told = make_pool("a:1", "b:1", checked=False)
    lease = claim(pool)
    gone = lease.backend
    pool.update([BackendSpec.parse(name) for name in pool.backends if name != gone.name], 1.0)
    told.clear()
    pool.settle(lease, Outcome.REFUSED, 2.0, "refused")
    assert told == []
    assert gone.name not in names(pool, 6, 2.0)


@pytest.mark.parametrize("admin", [AdminState.DRAIN, AdminState.MAINT])
def test_what_the_operator_takes_out_gets_nobody_until_it_is_ready(admin):
    pool, told = make_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    pool.command(a, admin, 1.0)
    pool.command(a, admin, 1.5)
    assert names(pool, 6) == {"b:1"}
    pool.command(a, AdminState.READY, 2.0)
    assert names(pool, 6) == {"a:1", "b:1"}
    assert told == [AdminChanged("a:1", admin, 1.0), AdminChanged("a:1", AdminState.READY, 2.0)]


def test_probes_take_out_and_bring_back_with_the_reason():
    pool, told = make_pool("a:1", "b:1")
    a = pool.backends["a:1"]
    pool.observe_probe(a, False, "status 500", 1.0)
    assert names(pool, 6) == {"b:1"}
    pool.observe_probe(a, True, "status 200", 2.0)
    assert names(pool, 6) == {"b:1"}
    pool.observe_probe(a, True, "status 200", 3.0)
    assert names(pool, 6) == {"a:1", "b:1"}
    assert told == [BackendDown("a:1", "status 500", 1.0), BackendUp("a:1", "status 200", 3.0)]


def test_the_last_one_gone_and_the_first_one_back_are_told():
    pool, told = make_pool("a:1", "b:1")
    a, b = pool.backends.values()
    pool.observe_probe(a, False, "x", 1.0)
    pool.command(b, AdminState.MAINT, 2.0)
    assert pool.lease(None, 2.0) is Refusal.NO_BACKEND
    pool.command(b, AdminState.READY, 3.0)
    assert [event for event in told if isinstance(event, (PoolExhausted, PoolRecovered))] == [
        PoolExhausted("p", 2.0),
        PoolRecovered("p", 3.0),
    ]


def test_refused_ejects_at_once_and_asks_for_a_check():
    pool, told = make_pool("a:1", "b:1")
    leases = [claim(pool) for _ in range(4)]
    victim = leases[0].backend
    for lease in leases:
        pool.settle(lease, Outcome.REFUSED if lease.backend is victim else Outcome.OK, 1.0, "connection refused")
    assert victim.name not in names(pool, 6, 1.0)
    # The second refusal of the same moment says nothing new.
    assert told.take() == [BackendEjected(victim.name, Outcome.REFUSED, "connection refused", None, True, 1.0)]
    pool.observe_probe(victim, True, "ok", 2.0)
    assert victim.name not in names(pool, 6, 2.0)
    pool.observe_probe(victim, True, "ok", 3.0)
    assert victim.name in names(pool, 6, 3.0)
    assert told.take() == [BackendReturned(victim.name, "checks pass", 3.0)]


@pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.REFUSED], ids=lambda o: o.name)
def test_no_other_outcome_ejects(outcome):
    pool, told = make_pool("a:1")
    for _ in range(10):
        pool.settle(claim(pool), outcome, 1.0)
    assert pool.backends["a:1"].usable
    assert told == []


def test_without_checks_one_request_at_a_time_tries_an_ejected_one():
    pool, told = make_pool("a:1", checked=False)
    a = pool.backends["a:1"]
    pool.settle(claim(pool), Outcome.REFUSED, 10.0, "no")
    assert told.take() == [BackendEjected("a:1", Outcome.REFUSED, "no", 11.0, False, 10.0), PoolExhausted("p", 10.0)]
    assert pool.lease(None, 10.9) is Refusal.NO_BACKEND
    trial = claim(pool, 11.0)
    assert trial.trial
    assert pool.lease(None, 11.0) is Refusal.NO_BACKEND
    pool.settle(trial, Outcome.REFUSED, 11.5, "no")
    assert told.take() == [BackendEjected("a:1", Outcome.REFUSED, "no", 13.5, False, 11.5)]
    assert pool.lease(None, 13.4) is Refusal.NO_BACKEND
    trial = claim(pool, 13.5)
    pool.settle(trial, Outcome.OK, 14.0)
    assert told.take() == [BackendReturned("a:1", "a trial request was answered", 14.0), PoolRecovered("p", 14.0)]
    assert not claim(pool, 14.0).trial
    assert a.usable


def test_two_leases_before_a_rebuild_are_one_trial():
    pool, _ = make_pool("a:1", "b:1", checked=False)
    a = pool.backends["a:1"]
    while (lease := claim(pool)).backend is not a:
        pool.settle(lease, Outcome.OK, 0.0)
    pool.settle(lease, Outcome.REFUSED, 0.0)
    trials = [lease for lease in (claim(pool, 1.0) for _ in range(10)) if lease.backend is a]
    assert len(trials) == 1


def test_many_changes_between_two_picks_are_one_rebuild():
    class Counting:
        built = 0

        def build(self, backends, previous, rng):
            self.built += 1
            return POLICIES["rr"].build(backends, previous, rng)

    policy = Counting()
    pool = Pool("p", policy, PoolSettings(1, 1), random.Random(1), lambda event: None)
    pool.update(specs("a:1", "b:1", "c:1"), 0.0)
    for backend in list(pool.backends.values()):
        pool.observe_probe(backend, False, "x", 0.0)
        pool.observe_probe(backend, True, "x", 0.0)
    assert policy.built == 0
    for _ in range(5):
        pool.settle(claim(pool), Outcome.OK, 0.0)
    assert policy.built == 1


def allowed(backend: Backend) -> bool:
    return backend.admin is AdminState.READY and backend.health.up


def test_changes_between_two_requests_do_not_make_the_rotation_begin_again():
    """A rotation that began again at each change would give everything to the first few."""
    pool, _ = make_pool("a:1", "b:1", "c:1", "d:1")
    turns = [claim(pool).backend.name for _ in range(4)]
    got = []
    for _ in range(12):
        for weight in (2, 1):
            pool.update(specs("a:1", "b:1", "c:1", f"d:1,weight={weight}"), 0.0)
        got.append(claim(pool).backend.name)
    assert got == turns * 3


OUTCOMES = st.sampled_from(list(Outcome))


class PoolMachine(RuleBasedStateMachine):
    """Anything in any order; the laws hold after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.leases: list[Lease] = []
        self.settled = 0
        self.seen: set = set()
        self.pool, self.told = make_pool("a:1", "b:1,weight=2", checked=False)

    @rule(names=st.sets(st.sampled_from(["a:1", "b:1", "c:1"])), weight=st.integers(1, 3))
    def update(self, names, weight):
        self.pool.update([BackendSpec.parse(f"{name},weight={weight}") for name in sorted(names)], self.now)

    @rule(count=st.integers(1, 3), tried=st.booleans())
    def lease(self, count, tried):
        for _ in range(count):
            self.lease_one(tuple(self.pool.backends.values())[:1] if tried else ())

    def lease_one(self, avoid):
        on_trial = {backend for backend in self.pool.backends.values() if backend.ejection.on_trial}
        lease = self.pool.lease(None, self.now, avoid)
        if not isinstance(lease, Lease):
            assert not [b for b in self.pool.backends.values() if b.usable and b not in avoid]
            return
        backend = lease.backend
        assert backend not in avoid
        assert self.pool.backends[backend.name] is backend
        assert backend.usable or (lease.trial and backend not in on_trial)
        assert allowed(backend)
        self.leases.append(lease)
        self.seen.add(backend)

    @precondition(lambda self: self.leases)
    @rule(outcome=OUTCOMES, which=st.integers(0, 100))
    def settle(self, outcome, which):
        self.end(self.leases.pop(which % len(self.leases)), outcome)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 100))
    def refuse(self, which):
        self.end(self.leases.pop(which % len(self.leases)), Outcome.REFUSED)

    def end(self, lease, outcome):
        self.pool.settle(lease, outcome, self.now)
        self.settled += 1

    @precondition(lambda self: self.pool.backends)
    @rule(passed=st.booleans(), which=st.integers(0, 100))
    def probe(self, passed, which):
        backends = list(self.pool.backends.values())
        self.pool.observe_probe(backends[which % len(backends)], passed, "x", self.now)

    @precondition(lambda self: self.pool.backends)
    @rule(admin=st.sampled_from(list(AdminState)), which=st.integers(0, 100))
    def command(self, admin, which):
        backends = list(self.pool.backends.values())
        self.pool.command(backends[which % len(backends)], admin, self.now)

    @rule(seconds=st.sampled_from([0.1, 1.0, 60.0]))
    def pass_time(self, seconds):
        self.now += seconds
        self.pool.tick(self.now)

    @invariant()
    def in_flight_is_what_is_open(self):
        for backend in self.seen:
            assert backend.in_flight == sum(lease.backend is backend for lease in self.leases)

    @invariant()
    def usable_is_its_three_facts(self):
        for backend in self.pool.backends.values():
            facts = backend.admin is AdminState.READY and backend.health.up and not backend.ejection.active
            assert backend.usable == facts

    @invariant()
    def every_attempt_ended_once(self):
        assert sum(sum(backend.outcomes) for backend in self.seen) == self.settled

    @invariant()
    def an_ejected_one_rests_or_has_exactly_one_trial(self):
        for backend in self.pool.backends.values():
            trials = sum(lease.trial for lease in self.leases if lease.backend is backend)
            assert trials == backend.ejection.on_trial
            if backend.ejection.active and not trials:
                assert backend.ejection.until <= self.now + 30

    def teardown(self):
        """Once everything has ended, whoever is not held back by probes or the operator is used: requests alone do it."""
        for lease in self.leases:
            self.pool.settle(lease, Outcome.CLIENT_GONE, self.now)
        self.now += 1000
        for _ in range(30):
            lease = self.pool.lease(None, self.now)
            if isinstance(lease, Lease):
                self.pool.settle(lease, Outcome.OK, self.now)
        assert not [backend for backend in self.pool.backends.values() if backend.ejection.active and allowed(backend)]


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None, derandomize=True)
