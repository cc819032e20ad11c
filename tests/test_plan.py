"""The plan: what the configuration becomes, and what it cannot be."""

import dataclasses

import pytest
from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.gradient import AdaptiveRules
from twisted_lb.core.never import NEVER
from twisted_lb.core.script import Script, Step
from twisted_lb.errors import ConfigError
from twisted_lb.http_check import HttpQuestion
from twisted_lb.net.local_reply import HTML, JSON, TEXT
from twisted_lb.plan import DEFAULT, Files, plan_of
from twisted_lb.planned import CheckPlan, Plan

GET = HttpQuestion(b"GET", b"/", b"", (), frozenset(range(200, 400)), b"")


def planned(**options) -> Plan:
    return plan_of(LoadBalancerConfig.model_validate({"backends": ["a:80", "b:80"], **options}))


def test_there_is_one_listener_whose_route_leads_to_the_one_pool():
    plan = planned()
    assert [list(parts) for parts in (plan.listeners, plan.routes, plan.pools)] == [[DEFAULT]] * 3
    assert (plan.listeners[DEFAULT].route, [lead.pool for lead in plan.routes[DEFAULT].leads]) == (DEFAULT, [DEFAULT])
    assert plan.pools[DEFAULT].backends == (BackendSpec.parse("a:80"), BackendSpec.parse("b:80"))


def test_a_plan_does_not_change():
    plan = planned()
    for part in (plan, plan.listeners[DEFAULT], plan.routes[DEFAULT], plan.pools[DEFAULT], plan.pools[DEFAULT].checks):
        name = dataclasses.fields(part)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, None)


def test_what_is_not_bounded_says_so_as_the_parts_read_it():
    plan = planned()
    route = plan.routes[DEFAULT].leads[0].rules
    assert (route.attempt_s, route.body_bytes) == (NEVER, -1)
    assert (plan.listeners[DEFAULT].connections, plan.listeners[DEFAULT].connections_per_client) == (None, 0)


def test_without_an_interval_nobody_checks_and_the_pool_knows_it():
    pool = planned(health_check={"interval_s": 0.0}).pools[DEFAULT]
    assert (pool.checks, pool.settings.checked) == (None, False)


@pytest.mark.parametrize(
    ("check", "planned_check"),
    [
        ({}, CheckPlan(2.0, 1.0, 1.6, GET, None)),
        ({"interval_s": 60.0}, CheckPlan(60.0, 1.0, 5.0, GET, None)),
        (
            {"interval_s": 9.0, "timeout_s": 7.0, "path": "/well"},
            CheckPlan(9.0, 1.0, 7.0, dataclasses.replace(GET, path=b"/well"), None),
        ),
        ({"interval_s": 0.5, "down_interval_s": 3.0}, CheckPlan(0.5, 3.0, 0.4, GET, None)),
        ({"interval_s": 0.5}, CheckPlan(0.5, 0.5, 0.4, GET, None)),
        ({"kind": "tcp", "port": 9}, CheckPlan(2.0, 1.0, 1.6, None, 9)),
        ({"script": [{"expect": "x"}]}, CheckPlan(2.0, 1.0, 1.6, None, None, script=Script((Step(expect=b"x"),)))),
    ],
    ids=["as a rule", "rarely", "as told", "out, as told", "often", "connecting is the question", "a script"],
)
def test_checks_are_planned_with_the_time_for_an_answer(check, planned_check):
    pool = planned(health_check=check).pools[DEFAULT]
    assert (pool.checks, pool.settings.checked) == (planned_check, True)


@pytest.mark.parametrize(
    ("interval_s", "down_interval_s", "retry_after_s"),
    [(0.0, None, 1), (0.4, None, 1), (30.0, None, 1), (2.0, 2.6, 3), (30.0, 30.0, 30), (0.0, 30.0, 1)],
)
def test_whom_nobody_can_serve_is_told_to_come_back_after_the_next_check(interval_s, down_interval_s, retry_after_s):
    """Of a backend that is out, which is another interval; without checks requests try."""
    plan = planned(health_check={"interval_s": interval_s, "down_interval_s": down_interval_s})
    assert plan.routes[DEFAULT].leads[0].rules.retry_after_s == retry_after_s


def test_heads_of_requests_and_of_answers_have_the_same_limits():
    plan = planned(limits={"head_bytes": 5000, "request_line_bytes": 4000, "head_fields": 17, "trailer_bytes": 600})
    both = (plan.listeners[DEFAULT].rules.limits, plan.pools[DEFAULT].upstream.limits)
    assert {(one.head_bytes, one.fields, one.trailer_bytes) for one in both} == {(5000, 17, 600)}
    # Answers have no request line.
    assert both[0].line_bytes == 4000


def test_what_only_proxies_may_say_is_looked_for_in_requests_alone():
    plan = planned(forwarding={"only_from_proxies": ["X-User"]})
    assert plan.listeners[DEFAULT].rules.limits.claims == (b"x-user", b"x-forwarded-prefix", b"x-client-cert-*")
    assert plan.pools[DEFAULT].upstream.limits.claims == ()


def test_the_ending_of_an_error_page_says_what_it_is(tmp_path):
    kinds = {"a.html": HTML, "b.json": JSON, "c.txt": TEXT, "d": TEXT}
    for name in kinds:
        (tmp_path / name).write_text(name)
    files = dict(zip(("400", "502", "503", "504"), kinds, strict=True))
    plan = planned(error_pages={status: str(tmp_path / name) for status, name in files.items()})
    pages = plan.routes[DEFAULT].leads[0].rules.pages
    assert {status: page.body for status, page in pages.items()} == {int(s): n.encode() for s, n in files.items()}
    assert [pages[int(status)].content_type for status in files] == list(kinds.values())
    of_listener = plan.listeners[DEFAULT].rules.pages
    assert {status: page.body for status, page in of_listener.items()} == {one: pages[one].body for one in pages}


def test_an_error_page_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"^error_pages\.503: .*: is a directory$"):
        planned(error_pages={"503": str(tmp_path)})


def test_pages_that_were_read_before_are_not_read_again(tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("sorry")
    config = LoadBalancerConfig(backends=["a:80"], error_pages={"503": str(page)})
    files = Files()
    plan_of(config, files=files)
    page.unlink()
    assert plan_of(config, files=files).routes[DEFAULT].leads[0].rules.pages[503].body == b"sorry"


def test_a_pool_has_no_backend_twice():
    pool = planned().pools[DEFAULT]
    with pytest.raises(ValueError, match="twice"):
        dataclasses.replace(pool, backends=pool.backends * 2)


def test_two_plans_of_one_configuration_agree_on_who_is_there_and_how_to_ask_and_choose():
    one, two = planned().pools[DEFAULT], planned().pools[DEFAULT]
    assert (one.backends, one.policy, one.settings, one.checks) == (two.backends, two.policy, two.settings, two.checks)


def test_an_adaptive_limit_arrives_with_its_rules_and_a_number_without():
    config = LoadBalancerConfig(
        backends=["a:1"],
        max_in_flight="adaptive",
        adaptive={"least": 2, "most": 90, "tolerance_percent": 50, "measure_s": 30},
    )
    settings = plan_of(config).pools[DEFAULT].settings
    assert (settings.max_in_flight, settings.adaptive) == (0, AdaptiveRules(2, 90, 50.0, 30.0))
    settings = plan_of(LoadBalancerConfig(backends=["a:1"], max_in_flight=7)).pools[DEFAULT].settings
    assert (settings.max_in_flight, settings.adaptive) == (7, None)


def test_the_defaults_of_adaptive_limits_are_those_of_the_configuration():
    settings = plan_of(LoadBalancerConfig(backends=["a:1"], max_in_flight="adaptive")).pools[DEFAULT].settings
    assert settings.adaptive == AdaptiveRules()


@pytest.mark.parametrize("wrong", ["fast", -1, 1_000_001, True, 2.5])
def test_a_limit_is_a_number_or_adaptive(wrong):
    with pytest.raises(ValidationError, match=r'should be "adaptive" or a whole number from 0 to 1000000'):
        LoadBalancerConfig(backends=["a:1"], max_in_flight=wrong)


def test_the_least_of_an_adaptive_limit_is_not_more_than_the_most():
    with pytest.raises(ValidationError, match="least = 9 is more than most = 3"):
        LoadBalancerConfig(backends=["a:1"], max_in_flight="adaptive", adaptive={"least": 9, "most": 3})
