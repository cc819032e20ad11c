"""Adaptive limits as an operator sees them: status, explanations, metrics, and what a limit set by hand does to them."""

import pytest
from operated import ALICE, Operated
from pydantic import ValidationError

from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.admin.operator import Command
from twisted_lb.answers import decision_json
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import ADAPTIVE
from twisted_lb.core.gradient import SAMPLES, START
from twisted_lb.core.lease import Lease
from twisted_lb.core.measures import ProcessMeasures
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.overlay import Overlay
from twisted_lb.ctl.backends import why
from twisted_lb.plan import plan_of


@pytest.fixture
def lb():
    pool = {"backends": ["a:80"], "max_in_flight": "adaptive", "health_check": {"interval_s": 0}}
    one = Operated(pools={"app": pool})
    one.backend("a:80")
    yield one
    one.close()


def serve(lb, rounds, now=0.0):
    pool = lb.plane.clusters["app"].pool
    for _ in range(rounds):
        leases = [pool.claim(ANY, now) for _ in range(next(iter(pool.backends.values())).limit)]
        assert all(isinstance(one, Lease) for one in leases)
        now += 0.1
        for one in leases:
            pool.responded(one, now)
            pool.settle(one, Outcome.OK, now)


def limit_in_metrics(lb):
    [family] = [one for one in FAMILIES if one.name == "backend_limit"]
    return dict(family.series(lb.plane.measures(), ProcessMeasures("1", "3", False, 0.0)))["app", "a:80"]


def test_the_limit_in_force_is_seen_everywhere_and_why_it_is_so(lb):
    assert (lb.view("app/a:80").limit, lb.view("app/a:80").limit_why) == (START, "nothing is known yet")
    serve(lb, 30)
    view = lb.view("app/a:80")
    assert view.limit > START
    assert view.limit_why == "it follows latency: 100 ms, unloaded 100 ms"
    assert limit_in_metrics(lb) == view.limit
    [candidate] = decision_json(lb.plane.clusters["app"].pool.explain(ANY, 9.0))["candidates"]
    assert candidate["limit"] == view.limit


def test_a_limit_set_by_hand_stands_in_its_place_until_it_is_taken_back(lb):
    serve(lb, 30)
    learnt = lb.view("app/a:80").limit
    lb.operating.command(Command("app", "a:80", limit=3), ALICE)
    view = lb.view("app/a:80")
    assert (view.limit, view.limit_why) == (3, "")
    assert lb.operating._views.said("app", "a:80", "limit") == "by default adaptive"
    lb.operating.reset("app", "a:80", ALICE)
    assert lb.view("app/a:80").limit == learnt


def test_no_bound_by_hand_is_another_thing_than_what_the_file_says(lb):
    lb.operating.command(Command("app", "a:80", limit=0), ALICE)
    assert (lb.view("app/a:80").limit, lb.view("app/a:80").limit_why) == (0, "")
    lb.operating.reset("app", "a:80", ALICE)
    assert lb.view("app/a:80").limit == START


def test_a_limit_by_hand_is_kept_until_the_file_says_a_number(lb):
    lb.operating.command(Command("app", "a:80", limit=3), ALICE)
    wider = {"backends": ["a:80", "b:80"], "health_check": {"interval_s": 0}}
    listeners = {"web": {"address": "127.0.0.1:8080", "default_pool": "app"}}
    for pool, limit in (({**wider, "max_in_flight": "adaptive"}, 3), ({**wider, "max_in_flight": 9}, 9)):
        config = LoadBalancerConfig(pools={"app": pool}, listeners=listeners)
        lb.plane.apply(plan_of(config, lb.plane.plan))
        assert lb.view("app/a:80").limit == limit
    adaptive = LoadBalancerConfig(pools={"app": {**wider, "max_in_flight": "adaptive"}}, listeners=listeners)
    lb.plane.apply(plan_of(adaptive, lb.plane.plan))
    assert [lb.view(f"app/{name}:80").limit for name in "ab"] == [START, START]


def test_an_agent_that_wants_less_is_why(lb):
    [backend] = lb.plane.clusters["app"].pool.backends.values()
    backend.agent.limit = 2
    backend.bound(None, 0)
    assert lb.view("app/a:80").limit_why == f"its agent wants less than the {START} that were found"


def test_a_number_has_no_why():
    one = Operated("a:80", max_in_flight=9)
    one.backend("a:80")
    assert (one.view("app/a:80").limit, one.view("app/a:80").limit_why) == (9, "")
    one.close()


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ({"admin": "ready", "limit_why": "it is not used up"}, "limit: it is not used up"),
        ({"admin": "ready", "limit_why": ""}, ""),
        ({"admin": "ready", "limit_why": "it is not used up", "reason": "status 500"}, "status 500"),
    ],
)
def test_lbctl_says_it_where_nothing_else_is_to_be_said(backend, said):
    assert why(backend) == said


def test_the_engine_tells_it_of_each_answer(lb):
    [backend] = lb.plane.clusters["app"].pool.backends.values()
    for _ in range(SAMPLES + 1):
        lb.ask()
    assert backend.in_flight == 0
    assert (backend.gradient.windows, backend.limit) == (1, START // 2)


# A backend's own.


def test_a_backend_may_be_adaptive_by_itself_in_its_table_by_default_or_in_a_list():
    plans = [
        plan_of(LoadBalancerConfig.model_validate({"max_in_flight": 4, "adaptive": {"most": 7}, **one}))
        for one in (
            {"backends": [{"address": "a:80", "max_in_flight": "adaptive"}, "b:80"]},
            {"backends": ["a:80"], "defaults": {"backend": {"max_in_flight": "adaptive"}}},
        )
    ]
    limits = [[one.limit for one in plan.pools["default"].backends] for plan in plans]
    assert limits == [[ADAPTIVE, None], [ADAPTIVE]]
    settings = plans[0].pools["default"].settings
    assert (settings.max_in_flight, settings.adaptive, settings.own_adaptive.most) == (4, None, 7)
    listed = {"app": {"targets": {"file": "/x"}}}
    by_default = {"backend": {"max_in_flight": "adaptive"}}
    web = {"web": {"address": "127.0.0.1:8080", "default_pool": "app"}}
    listed_plan = plan_of(
        LoadBalancerConfig.model_validate({"pools": listed, "listeners": web, "defaults": by_default})
    )
    assert listed_plan.pools["app"].targets.limit == ADAPTIVE


@pytest.mark.parametrize("said", [True, -1, 1_000_001, "auto", 1.5])
def test_what_is_no_limit_is_told_in_one_line(said):
    with pytest.raises(ValidationError) as caught:
        LoadBalancerConfig.model_validate({"backends": [{"address": "a:80", "max_in_flight": said}]})
    [error] = caught.value.errors()
    assert error["msg"].endswith('should be "adaptive" or a whole number from 0 to 1000000')


def test_an_operator_may_have_one_learn_its_limit_until_it_is_taken_back():
    one = Operated(pools={"app": {"backends": ["a:80", "b:80"], "health_check": {"interval_s": 0}}}, max_in_flight=3)
    changed = one.operating.command(Command("app", "a:80", limit=ADAPTIVE), ALICE)
    assert changed.changes == ["limit 3 → adaptive"]
    view, other = one.view("app/a:80"), one.view("app/b:80")
    assert (view.limit, view.limit_why, view.sources["limit"]) == (START, "nothing is known yet", "runtime")
    assert (other.limit, other.limit_why) == (3, "")
    assert one.plane.overlay.lines() == ["limit adaptive of a:80 in app"]
    assert Overlay.of_values(one.plane.overlay.values()).lines() == one.plane.overlay.lines()
    assert one.operating.command(Command("app", "a:80", limit=ADAPTIVE), ALICE).changes == []
    assert one.operating.command(Command("app", "a:80", limit=5), ALICE).changes == ["limit adaptive → 5"]
    one.operating.reset("app", "a:80", ALICE)
    assert one.view("app/a:80").limit == 3
    one.close()


def test_its_own_is_what_the_file_says_and_a_number_by_hand_is_told_beside_it():
    own = {"address": "a:80", "max_in_flight": "adaptive"}
    one = Operated(pools={"app": {"backends": [own], "health_check": {"interval_s": 0}}}, max_in_flight=3)
    one.operating.command(Command("app", "a:80", limit=5), ALICE)
    assert (one.view("app/a:80").limit, one.operating._views.said("app", "a:80", "limit")) == (5, "by default adaptive")
    one.operating.reset("app", "a:80", ALICE)
    assert one.view("app/a:80").limit == START
    one.close()
