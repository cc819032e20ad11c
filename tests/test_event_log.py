"""Changes of state as log lines."""

import json
from collections.abc import Iterator

import pytest
from twisted.logger import LogLevel, eventAsJSON, formatEvent, globalLogPublisher

from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import (
    AdminChanged,
    AgentGarbled,
    BackendChanged,
    BackendDown,
    BackendEjected,
    PolicyFailed,
    PolicyHandedOver,
    PoolExhausted,
)
from twisted_lb.core.outcome import Outcome
from twisted_lb.event_log import log_event


@pytest.fixture
def logged() -> Iterator[list]:
    events: list = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (BackendDown("default", "a:1", "status 500", 7.0), "a:1 is down: status 500"),
        (BackendEjected("default", "a:1", Outcome.REFUSED, "", 11.0, False, 7.0), "a:1 is ejected for 4 s: REFUSED"),
        (PoolExhausted("p", 7.0), "pool p has no usable backend"),
        # What stands in the event is shown, not formatted.
        (BackendDown("default", "a:1", "{reason} {0}", 7.0), "a:1 is down: {reason} {0}"),
        (BackendChanged("default", "unix:/run/{a}", "weight 1 -> 2", 7.0), "unix:/run/{a} has changed: weight 1 -> 2"),
    ],
    ids=["down", "ejected", "exhausted", "braces in a reason", "braces in a name"],
)
def test_an_event_is_one_line_with_the_event_as_a_field(event, line, logged):
    log_event(event)
    assert [formatEvent(one) for one in logged] == [line]
    assert logged[0]["event"] is event
    assert logged[0]["log_level"] is LogLevel.info
    assert logged[0]["log_namespace"] == "twisted_lb.event_log"


@pytest.mark.parametrize(
    "event",
    [
        AgentGarbled("p", "a:1", "hm", 7.0),
        PolicyFailed("p", "mine:Mine", "raised KeyError", 0, 7.0),
        PolicyHandedOver("p", "mine:Mine", "p2c", "slow", 10.0, 7.0),
    ],
    ids=["garbled", "failed", "handed over"],
)
def test_what_somebody_has_to_mend_is_a_warning(event, logged):
    log_event(event)
    assert logged[0]["log_level"] is LogLevel.warn


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (
            BackendEjected("default", "a:1", Outcome.REFUSED, "permission denied", None, True, 7.0),
            {"kind": "BackendEjected", "backend_name": "a:1", "outcome": "REFUSED", "detail": "permission denied"},
        ),
        (
            AdminChanged("p", "a:1", AdminState.READY, AdminState.DRAIN, 7.0),
            {"kind": "AdminChanged", "pool": "p", "backend_name": "a:1", "before": "READY", "admin": "DRAIN"},
        ),
        (PoolExhausted("p", 7.0), {"kind": "PoolExhausted", "pool": "p"}),
    ],
    ids=["ejected", "admin", "exhausted"],
)
def test_the_fields_of_an_event_are_in_a_log_of_json(event, fields, logged):
    log_event(event)
    written = json.loads(eventAsJSON(logged[0]))
    assert {name: written[name] for name in fields} == fields
