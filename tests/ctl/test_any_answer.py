"""Whatever stands where in an answer, `lbctl` prints something, and ends as it should: a daemon may be older, newer, or ill."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from ctl_sample import EVENTS, OVERLOADED, PLAN, RETRIED, ROUTED, VALUES, status

from twisted_lb.ctl.client import Api

INSTEAD = (None, "x", 1e300, {}, [None])
B3 = next(one for one in status()["pools"][0]["backends"] if one["name"] == "app/b3")
CHANGED = {"backend": B3, "changes": ["ready → drain"], "follows": ["x goes on"], "backends": [B3]}
EVENT_ANSWER = {"events": EVENTS[:4], "last": 9}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value; of the elements of a list the first ones."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, one in inside:
        yield from places(one, (*at, key))


def replaced(answer: Any, place: tuple[Any, ...], value: Any) -> Any:
    told = deepcopy(answer)
    inside = told
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return told


CASES = [
    ("GET /v1/status", status(), ["status"]),
    ("GET /v1/status", status(), ["backends", "-o", "wide"]),
    ("GET /v1/status", status(), ["top", "--once"]),
    ("GET /v1/status", status(), ["top", "--once", "--tab", "3", "--columns", "120", "--lines", "40"]),
    ("GET /v1/status", status(), ["healthcheck"]),
    ("GET /v1/status", status(), ["drain", "app/b3", "--wait", "0"]),
    ("PATCH /v1/backends/app/b3", CHANGED, ["drain", "app/b3", "--wait", "0"]),
    ("PATCH /v1/backends/app/b3", CHANGED, ["weight", "app/b3", "3"]),
    ("GET /v1/backends", {"backends": [B3]}, ["drain", "app/b3", "--wait", "1s"]),
    ("DELETE /v1/backends/app/b3", {"removed": "x", "left": {"requests": 1, "tunnels": 1}}, ["remove", "app/b3"]),
    ("POST /v1/pools/app/backends", {"backend": B3}, ["add", "app", "x:1"]),
    ("DELETE /v1/changes", {"changes": ["x"]}, ["reset"]),
    ("GET /v1/plan", PLAN, ["diff"]),
    ("POST /v1/reload", PLAN, ["reload"]),
    ("GET /v1/config", {"values": VALUES[:2]}, ["config", "--sources"]),
    ("GET /v1/events", EVENT_ANSWER, ["events"]),
    ("GET /v1/events", EVENT_ANSWER, ["top", "--once", "--tab", "5"]),
    ("GET /v1/explain/x", RETRIED, ["explain", "x"]),
    ("GET /v1/explain/x", OVERLOADED, ["explain", "x"]),
    ("GET /v1/explain", {"requests": [RETRIED]}, ["explain", "--last"]),
    ("GET /v1/route", ROUTED, ["route", "GET", "/"]),
    ("GET /v1/explain/next", ROUTED["decision"], ["explain", "--next", "app"]),
    ("GET /v1/config", {"values": VALUES[:2]}, ["support-dump", "--anonymous"]),
]


def one_of_them(number: int) -> tuple[Any, ...]:
    return (INSTEAD[number % len(INSTEAD)],)


# Something else in each place; in the long tests all in each.
@pytest.mark.parametrize("instead", [one_of_them, pytest.param(lambda number: INSTEAD, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("question", "answer", "words"), CASES, ids=[" ".join(case[2]) + case[0][:6] for case in CASES]
)
def test_no_answer_is_a_traceback(lbctl, api, monkeypatch, question, answer, words, instead):
    api.answers |= {name: one for name, one, _ in CASES}
    api.answers["GET /metrics"] = ""
    # There are thousands: without a socket for each.
    monkeypatch.setattr(
        Api,
        "_exchange",
        lambda self, method, target, *_: json.dumps(api.answer(method, target.partition("?")[0])).encode(),
    )
    for number, place in enumerate(places(answer)):
        for value in instead(number) if place else ({}, {"a": 1}):
            api.answers[question] = replaced(answer, place, value) if place else value
            ended = lbctl(*words)
            assert ended in (0, 1, 3, 4, 5), (place, value)
            assert "mistake of lbctl" not in " ".join(lbctl.err.split()), (place, value, lbctl.err)
