"""Affinity as an operator sees it: what a drain leaves behind, metrics, and what is counted over several processes."""

import dataclasses

import pytest
from operated import ALICE, DRAIN, GET, MAINT, READY, Operated

from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.admin.operator import Command
from twisted_lb.core.held import Held
from twisted_lb.core.measures import ProcessMeasures
from twisted_lb.testing import response

OWN = "what is bound to it still comes, for 60 s (affinity.drain_s)"


@pytest.fixture
def lb():
    affinity = {"header": "X-User", "drain_s": 60.0, "most": 2}
    one = Operated(
        pools={"app": {"backends": ["a:80", "b:80"], "affinity": affinity, "health_check": {"interval_s": 0}}}
    )
    for name in ("a:80", "b:80"):
        one.backend(name, lambda _, name=name: [response(name.encode())])
    yield one
    one.close()


def ask(lb, user: str) -> str:
    client = lb.ask(GET.replace(b"Host: x", b"Host: x\r\nX-User: " + user.encode()))
    return client.take().rpartition(b"\r\n\r\n")[2].decode()


def series(lb, name: str) -> dict[tuple[str, ...], float]:
    [family] = [one for one in FAMILIES if one.name == name]
    return dict(family.series(lb.plane.measures(), ProcessMeasures("1", "3", False, 0.0)))


def test_a_drain_says_that_what_is_bound_still_comes_and_is_over_when_nothing_does(lb):
    said = lb.operating.command(Command("app", "a:80", admin=DRAIN), ALICE, dry_run=True)
    assert OWN in said.follows
    lb.operating.command(Command("app", "a:80", admin=DRAIN), ALICE)
    assert lb.view("app/a:80").keeps_own_s == 60
    assert not lb.operating.left("app", "a:80").empty
    lb.clock.advance(45)
    assert lb.view("app/a:80").keeps_own_s == 15
    lb.clock.advance(15)
    assert lb.view("app/a:80").keeps_own_s == 0
    assert lb.operating.left("app", "a:80").empty


@pytest.mark.parametrize(
    ("command", "said"),
    [({"weight": 0}, True), ({"admin": MAINT}, False), ({"admin": READY}, False), ({"weight": 3}, False)],
)
def test_so_does_weight_0_and_nothing_else(lb, command, said):
    done = lb.operating.command(Command("app", "a:80", **command), ALICE)
    assert (OWN in done.follows) is said
    assert (lb.view("app/a:80").keeps_own_s > 0) is said


def test_metrics_tell_what_became_of_bindings_and_how_many_there_are(lb):
    home = ask(lb, "alice")
    assert ask(lb, "alice") == home
    ask(lb, "bob")
    ask(lb, "carol")
    lb.operating.command(Command("app", home, admin=MAINT), ALICE)
    ask(lb, "carol")
    counted = {key: count for key, count in series(lb, "affinity_claims_total").items() if count}
    assert counted[("app", "new")] == 3
    assert counted[("app", "kept")] + counted.get(("app", "admin"), 0) == 2
    assert series(lb, "affinity_bindings") == {("app",): 2}
    assert series(lb, "affinity_bindings_forgotten_total") == {("app",): 1}


def test_a_pool_without_affinity_has_no_series():
    plain = Operated("a:80")
    try:
        for name in ("affinity_claims_total", "affinity_bindings", "affinity_bindings_forgotten_total"):
            assert series(plain, name) == {}
    finally:
        plain.close()


def test_what_two_processes_have_counted_adds_up(lb):
    ask(lb, "alice")
    [pool] = lb.plane.measures().pools
    both = pool.merged(pool)
    assert both.affinity is not None
    assert (both.affinity[Held.NEW], both.bindings) == (2, 2)
    other = dataclasses.replace(pool, affinity=None, bindings=0)
    assert pool.merged(other).affinity == other.merged(pool).affinity == pool.affinity
