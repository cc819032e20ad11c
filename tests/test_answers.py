"""Answers to an operator's questions as JSON values: whole, without secrets, and with the names of the admin API."""

import json

import pytest
from house import House

from twisted_lb.answers import decision_json, explained_json, routed_json
from twisted_lb.core.backend import AdminState
from twisted_lb.testing import CLOSE

GET = b"GET /v1?secret=1 HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nCookie: secret\r\nAuthorization: secret\r\n\r\n"


@pytest.fixture
def house():
    house = House("a:80", "b:80", "c:80")
    house.backend("a:80", [CLOSE])
    house.backend("b:80")
    house.plane.command("default", "c:80", AdminState.DRAIN)
    yield house
    house.close()


def test_a_request_is_told_without_its_query_and_its_fields(house):
    house.ask(GET)
    told = explained_json(house.plane.explain("mine"))
    text = json.dumps(told, allow_nan=False)
    assert "secret" not in text
    assert (told["id"], told["path"], told["query"], told["status"]) == ("mine", "/v1", True, 200)
    assert [(one["backend"], one["outcome"]) for one in told["attempts"]] == [
        ("default/a:80", "NO_RESPONSE"),
        ("default/b:80", "OK"),
    ]
    assert [(one["backend"], one["state"]) for one in told["skipped"]] == [
        ("default/c:80", "drained"),
        ("default/a:80", "tried"),
    ]


def test_a_decision_has_each_candidate(house):
    decision = decision_json(house.plane.explain_next("default"))
    assert (decision["pool"], decision["picked"], decision["waits"]) == ("default", "default/a:80", False)
    assert {one["backend"]: one["state"] for one in decision["candidates"]} == {
        "default/a:80": "ready",
        "default/b:80": "ready",
        "default/c:80": "drained",
    }
    json.dumps(decision, allow_nan=False)


def test_where_a_request_would_go_has_its_decision(house):
    told = routed_json(house.plane.route("GET", "http://x/"))
    assert (told["listener"], told["action"], told["status"], told["pool"]) == ("default", "pool", None, "default")
    assert told["looked_at"] == [{"n": 1, "name": "default", "matches": True, "why": ""}]
    assert told["decision"]["picked"] == "default/a:80"
    json.dumps(told, allow_nan=False)
