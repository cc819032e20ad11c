"""Readiness: who is asked for traffic, and what a probe is told that is refused."""

import pytest

from twisted_lb.admin.readiness import Readiness
from twisted_lb.core.backend import AdminState
from twisted_lb.testing import NEVER_ANSWER, response

UP = [response()] * 99
SICK = [response(b"", 503)] * 99


def ready(house, *others, start_s: float = 5.0, requires: tuple[str, ...] = ()) -> Readiness:
    """Of these houses, as if they were one: pools `default`, `other1` and so on."""
    pools = {"default": house.pool, **{f"other{i}": other.pool for i, other in enumerate(others, 1)}}
    return Readiness(lambda: pools, house.clock.seconds, start_s=start_s, requires=requires)


@pytest.fixture
def checked(build):
    def one(*names: str, **options):
        return build(*names, health_check={"interval_s": 1.0, "fall": 1, "rise": 1}, **options)

    return one


def test_without_checks_it_is_ready_at_once(build):
    assert ready(build()).verdict() == (True, "ready\n")


def test_with_checks_it_waits_for_the_first_one_of_every_backend(checked):
    house = checked("a:80", "b:80")
    house.backend("a:80", UP)
    house.backend("b:80", [NEVER_ANSWER] * 9)
    one = ready(house)
    assert one.verdict() == (False, "not ready: starting, no check yet of a:80, b:80\n")
    house.wait(1)
    assert one.verdict() == (False, "not ready: starting, no check yet of b:80\n")
    house.wait(2)
    assert one.verdict() == (True, "ready\n")


def test_a_first_check_that_failed_is_one_too(checked):
    house = checked("a:80", "b:80")
    house.backend("a:80", UP)
    house.backend("b:80", SICK)
    one = ready(house)
    house.wait(1)
    assert one.verdict() == (True, "ready\n")


def test_it_waits_for_first_checks_no_longer_than_it_may(checked):
    house = checked("a:80", "b:80")
    house.backend("a:80", UP)
    house.backend("b:80", [NEVER_ANSWER] * 9)
    one = ready(house, start_s=1.5)
    house.wait(1.4)
    assert one.starting
    house.wait(0.2)
    assert one.verdict() == (True, "ready\n")


def test_it_starts_once(checked):
    house = checked("a:80")
    house.backend("a:80", UP)
    one = ready(house)
    house.wait(1)
    assert not one.starting
    house.cluster.update(house.config(backends=["a:80", "b:80"]).backends)
    assert not one.starting


def test_without_a_usable_backend_it_is_not_ready_and_then_again(build):
    house = build("a:80", "b:80")
    one = ready(house)
    house.cluster.command("a:80", AdminState.MAINT)
    assert one.verdict() == (True, "ready\n")
    house.cluster.command("b:80", AdminState.MAINT)
    assert one.verdict() == (
        False,
        "not ready: no pool has a usable backend\nwithout a usable backend: default\n",
    )
    house.cluster.command("a:80", AdminState.READY)
    assert one.verdict() == (True, "ready\n")


def test_one_pool_of_two_is_enough_and_the_other_is_named(build):
    house, other = build("a:80"), build("b:80")
    one = ready(house, other)
    other.cluster.command("b:80", AdminState.MAINT)
    assert one.verdict() == (True, "ready\nwithout a usable backend: other1\n")
    house.cluster.command("a:80", AdminState.MAINT)
    assert one.verdict() == (
        False,
        "not ready: no pool has a usable backend\nwithout a usable backend: default, other1\n",
    )


def test_a_balancer_that_answers_everything_itself_needs_no_pool(build):
    """Redirects alone, say."""
    house = build("a:80")
    one = Readiness(dict, house.clock.seconds, start_s=0)
    assert one.verdict() == (True, "ready\n")


def test_a_pool_that_is_required_must_have_one(build):
    house, other = build("a:80"), build("b:80")
    one = ready(house, other, requires=("other1",))
    assert one.verdict().ready
    house.cluster.command("a:80", AdminState.MAINT)
    assert one.verdict() == (True, "ready\nwithout a usable backend: default\n")
    house.cluster.command("a:80", AdminState.READY)
    other.cluster.command("b:80", AdminState.MAINT)
    assert one.verdict() == (False, "not ready: other1 required\nwithout a usable backend: other1\n")


def test_leaving_it_is_not_ready(build):
    one = ready(build())
    one.leaving = True
    assert one.verdict() == (False, "not ready: stopping\n")


def test_names_are_waited_for_until_they_were_looked_up_once(build):
    house = build(
        "app:80", "db:80", "nowhere:80", resolved={"app": ["10.0.0.1", "10.0.0.2"], "nowhere": []}, resolve_s=1
    )
    one = Readiness(
        lambda: {"default": house.pool}, house.clock.seconds, start_s=5.0, unresolved=lambda: house.cluster.unresolved
    )
    assert one.verdict() == (False, "not ready: starting, no answer yet for the name app, nowhere\n")
    house.wait(1)
    assert one.verdict() == (True, "ready\n")


def test_then_the_first_checks_of_what_they_mean_are(checked):
    house = checked("app:80", resolved={"app": ["10.0.0.1", "10.0.0.2"]}, resolve_s=0.5)
    for host in ("10.0.0.1", "10.0.0.2"):
        house.backend(f"{host}:80", UP)
    one = Readiness(
        lambda: {"default": house.pool}, house.clock.seconds, start_s=5.0, unresolved=lambda: house.cluster.unresolved
    )
    house.wait(0.5)
    assert "no check yet of app:80@10.0.0.1:80, app:80@10.0.0.2:80" in one.verdict().text
    house.wait(1.5)
    assert one.verdict() == (True, "ready\n")
