"""Each change of state as a value, and as the line that a log shows."""

import pytest

from twisted_lb.core.backend import AdminState
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import (
    AdminChanged,
    AgentChanged,
    AgentGarbled,
    BackendAdded,
    BackendChanged,
    BackendDown,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    BackendUp,
    ConnectionsCut,
    EjectionWithheld,
    Event,
    LevelsShifted,
    LimitSpared,
    PanicBegan,
    PanicEnded,
    PolicyFailed,
    PolicyHandedOver,
    PolicyTakenBack,
    PoolExhausted,
    PoolRecovered,
)
from twisted_lb.core.outcome import Outcome

SHOWN = [
    (BackendDown("default", "a:1", "status 500", 7.0), "a:1 is down: status 500"),
    (BackendUp("default", "a:1", "status 200", 7.0), "a:1 is up: status 200"),
    (
        BackendEjected("default", "a:1", Outcome.REFUSED, "errno 111", 11.0, False, 7.0),
        "a:1 is ejected for 4 s: errno 111",
    ),
    (
        BackendEjected("default", "a:1", Outcome.REFUSED, "", None, True, 7.0),
        "a:1 is ejected until checks pass: REFUSED",
    ),
    (
        BackendEjected(
            "default",
            "a:1",
            Outcome.TIMED_OUT,
            "5 failures in a row",
            17.4321,
            True,
            7.0,
            EjectionRule.CONSECUTIVE_FAILURES,
        ),
        "a:1 is ejected for 10.4 s: 5 failures in a row",
    ),
    (
        BackendEjected("default", "a:1", None, "50 of 100 failed", 336.3, True, 7.0, EjectionRule.FAILURE_PERCENT),
        "a:1 is ejected for 329 s: 50 of 100 failed",
    ),
    (
        EjectionWithheld("p", "a:1", EjectionRule.SUCCESS_RATE, "50 % is below 52 %", "nobody else is usable", 7.0),
        "p/a:1 is not ejected, since nobody else is usable: 50 % is below 52 %",
    ),
    (AgentChanged("p", "a:1", "", "drain", 7.0, "deploy"), "p/a:1 is drained by its agent: deploy"),
    (AgentChanged("p", "a:1", "", "busy", 7.0), "p/a:1 is busy"),
    (AgentChanged("p", "a:1", "maint", "", 7.0), "p/a:1 is not in maintenance by its agent any more"),
    (
        AgentGarbled("p", "a:1", "<html>", 7.0),
        "p/a:1 has an agent that says what is no word of agents, and ignored: '<html>'",
    ),
    (BackendReturned("default", "a:1", "checks pass", 7.0), "a:1 is used again: checks pass"),
    (BackendAdded("default", "a:1", 7.0), "a:1 is added"),
    (BackendRemoved("default", "a:1", 7.0), "a:1 is removed"),
    (BackendChanged("default", "a:1", "weight 1 -> 2", 7.0), "a:1 has changed: weight 1 -> 2"),
    (AdminChanged("default", "a:1", AdminState.READY, AdminState.DRAIN, 7.0), "a:1 is set from ready to drain"),
    (
        AdminChanged("default", "a:1", AdminState.DRAIN, AdminState.MAINT, 7.0, "by alice: “deploy”"),
        "a:1 is set from drain to maint by alice: “deploy”",
    ),
    (PoolExhausted("p", 7.0), "pool p has no usable backend"),
    (PoolRecovered("p", 7.0), "pool p has a usable backend again"),
    (LevelsShifted("p", "level 0 (70 %), level 1 (30 %)", 7.0), "pool p uses level 0 (70 %), level 1 (30 %)"),
    (LevelsShifted("p", "the backups", 7.0), "pool p uses the backups"),
    (PanicBegan("p", 1, 4, 7.0), "pool p is in panic: 1 of 4 backends is usable, others are used too"),
    (PanicEnded("p", 7.0), "pool p is not in panic any more"),
    (ConnectionsCut("default", "a:1", 1, "its backend is down", 7.0), "a:1: a tunnel is cut: its backend is down"),
    (ConnectionsCut("p", "a:1", 3, "its backend is down", 7.0), "p/a:1: 3 tunnels are cut: its backend is down"),
    (
        LimitSpared("listener web, number 1", 3, 7.0),
        "the rate limit listener web, number 1 would have refused 3 requests (dry run)",
    ),
    (PolicyFailed("p", "x:X", "returned 7", 0, 7.0), "pool p: policy x:X returned 7"),
    (
        PolicyFailed("p", "x:X", "returned 7", 3, 7.0),
        "pool p: policy x:X returned 7 (3 more since it was said last)",
    ),
    (
        PolicyHandedOver("p", "x:X", "p2c", "it is slow", 10.0, 7.0),
        "pool p: p2c picks for 10 s in place of policy x:X: it is slow",
    ),
    (PolicyTakenBack("p", "x:X", 7.0), "pool p: policy x:X picks again"),
]


@pytest.mark.parametrize(("event", "line"), SHOWN, ids=lambda one: type(one).__name__)
def test_an_event_shows_as_one_line_with_its_reason(event, line):
    assert str(event) == line


def test_in_another_pool_a_backend_is_called_by_both_names():
    assert str(BackendDown("api", "a:1", "status 500", 7.0)) == "api/a:1 is down: status 500"


def test_all_kinds_of_events_are_shown_here():
    assert {type(event) for event, _ in SHOWN} == set(Event.__args__)
