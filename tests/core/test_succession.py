"""Succession: whose record lives on, under which name, and for how long one that has left may return."""

import pytest
from builders import claim, make_pool, specs

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendAdded, BackendRemoved
from twisted_lb.core.load import Apart, Requests
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.succession import RETURNS_WITHIN_S, Succession


def away(name: str = "b:80") -> Succession:
    """It goes, and may return."""
    succession = Succession(["app"])
    succession.resting[name] = "app"
    return succession


def home() -> Succession:
    return Succession(["app"])


def heir(new: str, old: str) -> Succession:
    succession = Succession(["app"])
    succession.heirs[new] = old
    return succession


@pytest.fixture
def pool():
    return make_pool("a:80", "b:80")[0]


def test_an_endpoint_that_is_back_finds_its_record(pool):
    before = pool.backends["b:80"]
    pool.observe_probe(before, False, "sick", 1.0)
    pool.command(before, AdminState.DRAIN, 1.0)
    before.requests, load = 7, before.load
    pool.update(specs("a:80"), 2.0, away())
    assert (before.removed, before.available, before.slot >= 0) == (True, False, True)
    pool.update(specs("a:80", "b:80,weight=3"), 3.0, home())
    record = pool.backends["b:80"]
    assert record is before
    assert (record.removed, record.resting, record.weight, record.requests) == (False, False, 3, 7)
    assert (record.health.up, record.admin, record.load) == (False, AdminState.DRAIN, load)


def test_requests_that_run_on_an_endpoint_that_leaves_are_counted_on_when_it_is_back():
    pool, _ = make_pool("a:80", "b:80", max_in_flight=1)
    leases = [claim(pool), claim(pool)]
    backend = pool.backends["b:80"]
    pool.update(specs("a:80"), 2.0, away())
    pool.update(specs("a:80", "b:80"), 3.0, home())
    assert (backend.in_flight, backend.full) == (1, True)
    for lease in leases:
        pool.settle(lease, Outcome.OK, 4.0)
    assert (backend.in_flight, backend.available) == (0, True)


def test_an_ejection_that_ended_meanwhile_is_tried():
    pool, _ = make_pool("a:80", "b:80", checked=False)
    leases = {lease.backend.name: lease for lease in (claim(pool), claim(pool))}
    pool.settle(leases["b:80"], Outcome.REFUSED, 1.0)
    pool.update(specs("a:80"), 1.1, away())
    pool.update(specs("a:80", "b:80"), 9.0, home())
    pool.tick(9.0)
    assert pool.backends["b:80"].available


def test_one_that_comes_too_late_is_new(pool):
    before = pool.backends["b:80"]
    pool.update(specs("a:80"), 2.0, away())
    pool.tick(2.0 + RETURNS_WITHIN_S - 0.1)
    assert before.slot >= 0
    pool.tick(2.0 + RETURNS_WITHIN_S)
    assert before.slot == -1
    pool.update(specs("a:80", "b:80"), 700.0, home())
    assert pool.backends["b:80"] is not before


def test_one_that_is_forgotten_while_it_serves_has_its_slot_to_the_end(pool):
    leases = {lease.backend.name: lease for lease in (claim(pool), claim(pool))}
    before = pool.backends["b:80"]
    pool.update(specs("a:80"), 2.0, away())
    pool.tick(2.0 + RETURNS_WITHIN_S)
    assert before.slot >= 0
    pool.settle(leases["b:80"], Outcome.OK, 900.0)
    assert before.slot == -1


def test_of_a_name_that_is_removed_nothing_is_kept(pool):
    before = pool.backends["b:80"]
    pool.update(specs("a:80"), 2.0, away())
    pool.update(specs("a:80"), 3.0, Succession(["other"]))
    assert before.slot == -1
    pool.update(specs("a:80", "b:80"), 4.0, home())
    assert pool.backends["b:80"] is not before


def test_nor_where_checks_are_turned_off(pool):
    before = pool.backends["b:80"]
    pool.update(specs("a:80"), 2.0, away())
    pool.configure(PoolSettings(2, 3, checked=False), 3.0)
    assert before.slot == -1


def test_of_one_endpoint_one_record_is_kept(pool):
    first = pool.backends["b:80"]
    pool.update(specs("a:80"), 2.0, away())
    pool.update(specs("b:80"), 3.0, heir("b:80", "a:80"))
    second = pool.backends["b:80"]
    assert second is not first
    pool.update([], 4.0, away())
    assert (first.slot, second.slot >= 0) == (-1, True)
    pool.update([], 5.0)
    assert second.slot == -1


def test_a_policy_that_is_new_compares_one_that_is_back_as_well():
    pool, _ = make_pool("a:80", "b:80")
    pool.update(specs("a:80"), 2.0, away())

    class Policy:
        eager = True
        keyed = False

        def loads(self, counts):
            return Apart(counts, Requests)

        def build(self, *words):
            return POLICIES["rr"].build(*words)

    pool.choose_by(Policy())
    pool.update(specs("a:80", "b:80"), 3.0, home())
    lease = pool.claim_on(pool.backends["b:80"], ANY, 3.0)
    assert pool.backends["b:80"].load.value(1, 3.0) == 1
    assert lease.backend is pool.backends["b:80"]


def test_what_is_wanted_of_the_name_holds_for_one_that_is_back(pool):
    pool.update(specs("a:80"), 2.0, away())
    pool.command_resting("other", AdminState.MAINT)
    pool.command_resting("app", AdminState.DRAIN)
    pool.update(specs("a:80", "b:80"), 3.0, home())
    assert pool.backends["b:80"].admin is AdminState.DRAIN


def test_an_heir_is_as_well_as_who_it_follows():
    """A new one is down until it was checked: the pool would be empty."""
    pool, told = make_pool("app:80", initially_up=False)
    old = pool.backends["app:80"]
    pool.observe_probe(old, True, "fine", 1.0)
    told.clear()
    pool.update(specs("x:80", "y:80"), 2.0, heir("x:80", "app:80"))
    new = pool.backends["x:80"]
    assert new is not old
    assert (new.usable, new.health.known, pool.backends["y:80"].usable) == (True, True, False)
    assert [type(event) for event in told] == [BackendAdded, BackendAdded, BackendRemoved]
    assert old.slot == -1


@pytest.mark.parametrize("checked", [True, False])
def test_an_heir_is_ejected_as_who_it_follows_and_nobody_waits_for_the_others_trial(checked):
    pool, _ = make_pool("app:80", checked=checked)
    pool.settle(claim(pool), Outcome.REFUSED, 1.0)
    old = pool.backends["app:80"]
    trial = None if checked else claim(pool, 5.0)
    pool.update(specs("x:80"), 6.0, heir("x:80", "app:80"))
    new = pool.backends["x:80"]
    assert (new.ejection.active, new.ejection.on_trial, new.usable) == (True, False, False)
    if trial is not None:
        pool.tick(6.0)
        assert new.available, "a request may try it"
        pool.settle(trial, Outcome.OK, 7.0)
        assert new.ejection.active, "the other one's trial says nothing"
    assert not old.ejection.active


def test_an_heir_is_wanted_as_who_it_follows():
    pool, _ = make_pool("app:80")
    pool.command(pool.backends["app:80"], AdminState.MAINT, 1.0, "by alice")
    succession = heir("x:80", "app:80")
    succession.admin["y:80"] = AdminState.DRAIN, "by bob"
    pool.update(specs("x:80", "y:80", "z:80"), 2.0, succession)
    assert [one.admin.value for one in pool.backends.values()] == ["maint", "drain", "ready"]
    assert [one.standing.reason for one in pool.backends.values()] == ["by alice", "by bob", ""]


def test_the_news_say_why():
    pool, told = make_pool("a:80", "b:80")
    succession = away()
    succession.reasons.update({"b:80": "it was missing", "c:80": "it is there"})
    pool.update(specs("a:80", "c:80"), 2.0, succession)
    assert [str(event) for event in told] == ["p/c:80 is added: it is there", "p/b:80 is removed: it was missing"]


def test_a_name_that_leads_elsewhere_is_tried_at_once_where_nobody_checks():
    pool, told = make_pool("app:80", checked=False)
    pool.settle(claim(pool), Outcome.REFUSED, 1.0)
    told.clear()
    pool.moved(pool.backends["app:80"], "address 10.0.0.1 -> 10.0.0.2", 1.1)
    assert claim(pool, 1.1).trial
    pool.moved(pool.backends["app:80"], "", 1.2)
    assert [str(event) for event in told] == ["p/app:80 has changed: address 10.0.0.1 -> 10.0.0.2"]
