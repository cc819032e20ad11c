"""What backends say of themselves as an operator sees it: status, explanations, events, metrics, and what follows from a command."""

import pytest
from operated import ALICE, DRAIN, READY, Operated

from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.admin.operator import Command
from twisted_lb.admin.words import admitted
from twisted_lb.answers import decision_json
from twisted_lb.core.ask import ANY
from twisted_lb.core.measures import ProcessMeasures

HEARD = {"interval_s": 1.0, "agent": "header", "busy_statuses": [429]}


@pytest.fixture
def lb():
    pool = {"backends": ["a:80", "b:80"], "max_in_flight": 9, "health_check": HEARD}
    one = Operated(pools={"app": pool})
    for name in ("a:80", "b:80"):
        one.backend(name)
    yield one
    one.close()


def say(lb, line):
    lb.plane.clusters["app"].hear_agent("a:80", line)


def metric(lb, name, *more):
    [family] = [one for one in FAMILIES if one.name == name]
    return dict(family.series(lb.plane.measures(), ProcessMeasures("1", "3", False, 0.0)))


def candidate(lb):
    decision = lb.plane.clusters["app"].pool.explain(ANY, lb.plane.runtime.clock.read())
    [one] = [one for one in decision_json(decision)["candidates"] if one["backend"] == "app/a:80"]
    return one


@pytest.mark.parametrize(
    ("line", "state", "label", "said"),
    [
        (b"drain 50% maxconn:4 # deploy", "drained by its agent", "agent_drain", "drain 50% maxconn:4"),
        (b"maint", "in maintenance by its agent", "agent_maint", "maint"),
        (b"fail", "down by its agent", "agent_down", "fail"),
        (b"0%", "drained by its agent", "agent_drain", "0%"),
    ],
)
def test_who_is_out_by_its_agent_is_told_from_who_is_out_by_others(lb, line, state, label, said):
    say(lb, line)
    view = lb.view("app/a:80")
    assert (view.admin, view.up, view.ejected, view.usable) == ("ready", True, False, False)
    assert (view.state, view.agent, view.agent_state) == (state, said, state)
    one = candidate(lb)
    assert (one["state"], one["skipped"]) == (state, "taken out by its agent")
    assert metric(lb, "backend_state")["app", "a:80", label] == 1.0
    assert metric(lb, "backend_state")["app", "a:80", "drain"] == 0.0
    assert metric(lb, "state_changes_total")["app", "a:80", label] == 1.0
    say(lb, b"up ready 100%")
    assert metric(lb, "backend_state")["app", "a:80", label] == 0.0
    assert metric(lb, "state_changes_total")["app", "a:80", "agent_over"] == 1.0
    events = [one for one in lb.operating.events(0) if one.kind == "agent"]
    assert [one.subject for one in events] == ["app/a:80"] * 2
    assert events[0].text.startswith(state)
    assert events[1].text == f"not {state} any more: its agent says up ready 100%"


def test_weight_and_limit_are_those_that_count(lb):
    say(lb, b"50% maxconn:4")
    view = lb.view("app/a:80")
    assert (view.state, view.weight, view.weight_effective, view.limit) == ("ready", 1, 0.5, 4)
    assert (view.agent, view.agent_state, view.reason) == ("50% maxconn:4", "", "its agent says 50% maxconn:4")
    assert metric(lb, "backend_weight_effective")["app", "a:80"] == 0.5
    assert metric(lb, "backend_limit")["app", "a:80"] == 4.0


def test_a_busy_one_is_called_busy(lb):
    lb.plane.clusters["app"].hear_busy("a:80", True, "status 429, which means busy")
    assert (lb.view("app/a:80").state, candidate(lb)["state"]) == ("busy", "busy")
    assert metric(lb, "backend_state")["app", "a:80", "busy"] == 1.0


def test_words_that_are_none_are_counted_and_are_one_event(lb):
    for _ in range(3):
        say(lb, b"hello")
    assert metric(lb, "agent_garbled_total") == {("app", "a:80"): 3.0}
    [event] = [one for one in lb.operating.events(0) if one.kind == "agent_garbled"]
    assert event.text == "its agent says what is no word of agents, and ignored: 'hello'"


def test_who_makes_it_ready_is_told_that_its_agent_keeps_it_out(lb):
    say(lb, b"drain")
    lb.operating.command(Command("app", "a:80", DRAIN, force=True), ALICE)
    [pool] = lb.operating.snapshot().pools
    assert admitted(pool, lb.view("app/a:80"), 1) == ["app/a:80 still gets nothing: it is drained by its agent"]
    lb.operating.command(Command("app", "a:80", READY, force=True), ALICE)
    assert lb.view("app/a:80").state == "drained by its agent"
