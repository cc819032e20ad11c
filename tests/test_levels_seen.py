"""Weights, slow start, levels and panic as an operator sees them: status, explanations, events, metrics."""

import pytest
from operated import ALICE, MAINT, READY, Operated

from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.admin.operator import Command, LevelView
from twisted_lb.answers import decision_json
from twisted_lb.core.ask import ANY
from twisted_lb.core.measures import ProcessMeasures
from twisted_lb.core.outcome import Outcome


@pytest.fixture
def operate():
    """Makes operated balancers, which are closed behind the test."""
    made = []

    def one(*backends, **options):
        pool = {"backends": list(backends), "health_check": {"interval_s": 0.0}, **options}
        made.append(Operated(pools={"app": pool}))
        return made[-1]

    yield one
    for operated in made:
        operated.close()


def at(name, **more):
    return {"name": name, "address": f"{name}:80", **more}


def command(operated, name, admin):
    operated.operating.command(Command("app", name, admin, force=True), ALICE)


def pool_of(operated):
    [pool] = operated.operating.snapshot().pools
    return pool


def metric(operated, name):
    [family] = [one for one in FAMILIES if one.name == name]
    return dict(family.series(operated.plane.measures(), ProcessMeasures("1", "3", False, 0.0)))


def kinds(operated):
    return [(one.kind, one.subject, one.text) for one in operated.operating.events(0)]


def test_a_backend_that_starts_slowly_says_how_much_it_has_and_for_how_long(operate):
    lb = operate(at("a", weight=10), at("b", weight=10), at("c", weight=10), slow_start={"window_s": 60.0})
    command(lb, "a", MAINT)
    lb.wait(10)
    command(lb, "a", READY)
    lb.wait(24)
    one = lb.view("app/a")
    assert (one.state, one.reason) == ("slow start", "40 % of its weight, full in 36 s")
    assert (one.weight, one.weight_effective, one.usable) == (10, pytest.approx(4.0), True)
    assert metric(lb, "backend_weight_effective")["app", "a"] == pytest.approx(4.0)
    assert one.intended == pytest.approx(100 * 4 / 24, abs=2.0)
    lb.wait(37)
    assert (lb.view("app/a").state, lb.view("app/a").weight_effective) == ("ready", 10.0)


def test_a_backend_that_stands_by_says_why_and_the_pool_its_levels(operate):
    lb = operate(at("a"), at("b", priority=1), at("s", backup=True))
    assert [(one.state, one.reason, one.level) for one in pool_of(lb).backends] == [
        ("ready", "", 0),
        ("standby", "level 1: 1 of level 0 is usable", 1),
        ("standby", "backup: 1 of level 0 is usable", None),
    ]
    assert [one.weight_effective for one in pool_of(lb).backends] == [1.0, 0.0, 0.0]
    assert [one.intended for one in pool_of(lb).backends] == [100.0, 0.0, 0.0]
    command(lb, "a", MAINT)
    command(lb, "b", MAINT)
    assert pool_of(lb).levels == [
        LevelView(0, 1, 0, 0, False),
        LevelView(1, 1, 0, 0, False),
        LevelView(None, 1, 1, 100, False),
    ]
    assert metric(lb, "level_share") == {("app", "0"): 0.0, ("app", "1"): 0.0, ("app", "backup"): 1.0}
    assert metric(lb, "level_usable") == {("app", "0"): 0.0, ("app", "1"): 0.0, ("app", "backup"): 1.0}
    assert [one for one in kinds(lb) if one[0] == "levels"] == [
        ("levels", "app", "pool app uses level 1"),
        ("levels", "app", "pool app uses the backups"),
    ]


def test_a_pool_with_one_level_says_nothing_of_levels(operate):
    lb = operate(at("a"), at("b"))
    assert (pool_of(lb).levels, pool_of(lb).panic) == ([], False)
    assert metric(lb, "level_share") == {}


def test_panic_is_in_the_verdict_the_status_the_metric_and_the_events(operate):
    lb = operate(at("a"), at("b"), at("c"), panic={"threshold_percent": 50})
    for name in "ab":
        pool = lb.plane.clusters["app"].pool
        others = tuple(one for one in pool.backends.values() if one.name != name)
        lease = pool.claim(ANY, lb.clock.seconds(), others)
        pool.settle(lease, Outcome.REFUSED, lb.clock.seconds(), "connection refused")
    snapshot = lb.operating.snapshot()
    assert (snapshot.verdict.level, snapshot.verdict.text) == (
        "partly",
        "app is in panic: 1 of 3 backends is usable, so others are used too.",
    )
    assert pool_of(lb).panic
    one = lb.view("app/a")
    assert one.state == "ejected"
    assert one.reason.startswith("used all the same, in panic: connection refused; ")
    assert (one.usable, one.available, one.weight_effective) == (False, True, 1.0)
    assert metric(lb, "panic") == {("app",): 1.0}
    told = decision_json(lb.plane.clusters["app"].pool.explain(ANY, lb.clock.seconds()))
    assert {one["state"] for one in told["candidates"]} == {"ready"}
    assert {one["backend"] for one in told["candidates"] if one["panic"]} == {"app/a", "app/b"}
    lb.wait(2)  # trials are due, and nobody comes: still panic
    assert [one for one in kinds(lb) if one[0].startswith("panic")] == [
        ("panic", "app", "pool app is in panic: 1 of 3 backends is usable, others are used too"),
    ]
