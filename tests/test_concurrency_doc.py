"""docs/concurrency.md is what was measured, and what it says in words is so."""

import json
import tomllib
from pathlib import Path

import pytest
from concurrency_table.limits import Envoy
from concurrency_table.measure import FORMS, LAWS, SERVERS, followed, found
from concurrency_table.page import render
from documented import blocks

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.pools import AdaptiveConfig
from twisted_lb.plan import plan_of

DOCS = Path(__file__).parent.parent / "docs"
MEASURED = json.loads((DOCS / "concurrency.json").read_text())


def test_the_page_is_what_was_measured():
    assert (DOCS / "concurrency.md").read_text() == render(MEASURED), "benchmarks/concurrency.py --render"


@pytest.mark.parametrize("form", FORMS)
def test_what_was_measured_is_what_is_found_now(form):
    make, _ = SERVERS["4 workers"]
    now = found(make, LAWS["lognormal"], FORMS[form]())
    assert now == MEASURED["found"]["4 workers"]["lognormal"][form], "benchmarks/concurrency.py"
    assert followed(8, 4) == MEASURED["followed"]["8 → 4"], "benchmarks/concurrency.py"


def test_every_server_is_busy_and_has_at_most_twice_what_it_needs_and_two():
    for server, laws in MEASURED["found"].items():
        for law, forms in laws.items():
            adaptive, right = forms["adaptive"], forms["right"]
            assert adaptive["percent"] > 98, (server, law)
            assert right <= adaptive["mean"] <= 2 * right + 2, (server, law)


def test_it_swings_no_more_than_envoys_and_leaves_no_more_undone():
    def swing(one):
        return one["to"] - one["from"]

    for laws in MEASURED["found"].values():
        for forms in laws.values():
            assert swing(forms["adaptive"]) <= swing(forms["Envoy"])
            assert forms["adaptive"]["percent"] >= forms["Envoy"]["percent"] - 0.1


def test_with_it_nobody_waits_much_longer_than_with_the_right_number():
    for loads in MEASURED["waited"].values():
        for limits in loads.values():
            assert limits["adaptive"]["p99"] <= 1.1 * limits["4"]["p99"]


def test_round_robin_waits_less_with_it_than_without():
    assert MEASURED["waited"]["rr"]["0.9"]["adaptive"]["p99"] < 0.8 * MEASURED["waited"]["rr"]["0.9"]["0"]["p99"]


def test_the_numbers_of_its_example_are_the_defaults():
    said = LoadBalancerConfig(backends=["a:1"], max_in_flight="adaptive", adaptive=AdaptiveConfig())
    page = (DOCS / "concurrency.md").read_text()
    for name, value in said.adaptive.model_dump().items():
        assert f"\n{name} = {value:g}" in page
    assert plan_of(said).pools["default"].settings.adaptive is not None


def recipes() -> list[LoadBalancerConfig]:
    return [
        LoadBalancerConfig.model_validate(tomllib.loads(text))
        for text, _ in blocks((DOCS / "concurrency.md").read_text())[1:]
    ]


def test_the_recipes_of_the_queue_say_what_their_titles_say():
    fair, urgent, late = (plan_of(config) for config in recipes())
    app, models = fair.pools["default"], urgent.pools["models"]
    assert (app.settings.max_in_flight, app.settings.max_queued, app.settings.queue_timeout_s) == (4, 500, 5)
    assert (app.queue.fair.label, app.queue.full_status) == ("header x-api-key", 429)
    said = [models.queue.urgent.urgency(b"X-Class: %b\r\n" % word, 3) for word in (b"interactive", b"Batch", b"?")]
    assert said == [1, 6, 3]
    leads = [route.leads[0].rules for route in urgent.routes.values()]
    assert sorted(rules.urgency for rules in leads) == [3, 6]
    rules = next(iter(late.routes.values())).leads[0].rules
    assert (rules.deadline_s, rules.deadline.seconds(b"grpc-timeout: 2S\r\n")) == (10, 2)


def test_envoys_limit_is_as_its_source_has_it():
    """It begins with 3, and 50 requests are its unloaded latency; from there its published steps."""
    one = Envoy()
    for _ in range(50):
        one.observe(0.01, 3, 0.01)
    one.limit = 100
    one.observe(0.025, 100, 1.0)
    assert one.limit == 57
