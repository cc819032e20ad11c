"""The table of endpoints: what is found at which path, and what bodies and queries are refused for."""

import pytest

from twisted_lb.admin.api import Api
from twisted_lb.admin.endpoints import (
    ENDPOINTS,
    MOST_WAIT_S,
    Call,
    Endpoint,
    Value,
    checked_body,
    checked_query,
    endpoint_of,
    methods_at,
)
from twisted_lb.admin.openapi import ANSWERS, document
from twisted_lb.admin.operator import Actor, Refused
from twisted_lb.admin.scopes import CHANGE, READ


def at(method, path):
    found = endpoint_of(method, path.strip("/").split("/"))
    return None if found is None else (found[0].call, found[1])


def refusal(call, *args):
    with pytest.raises(Refused) as caught:
        call(*args)
    return caught.value


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda one: one.call)
def test_each_endpoint_is_found_at_its_path_and_answered_by_the_api(endpoint):
    assert at(endpoint.method, endpoint.path) == (endpoint.call, {name: f"{{{name}}}" for name in endpoint.names})
    assert callable(getattr(Api, endpoint.call))
    assert endpoint.call in ANSWERS
    assert document()["paths"][endpoint.path][endpoint.method.lower()]["operationId"] == endpoint.call


def test_what_changes_something_is_no_get_and_needs_the_scope_for_it():
    assert {one.method for one in ENDPOINTS if one.scope == READ} == {"GET"}
    assert {one.method for one in ENDPOINTS if one.scope == CHANGE} == {"PATCH", "POST", "DELETE"}


def test_two_endpoints_never_share_method_and_path():
    assert len({(one.method, one.path) for one in ENDPOINTS}) == len(ENDPOINTS)


def test_names_in_a_path_are_whatever_stands_there():
    found = endpoint_of("PATCH", ["v1", "backends", "app", "unix:/run/a.sock@x"])
    assert found is not None
    assert found[1] == {"pool": "app", "backend": "unix:/run/a.sock@x"}


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1"), ("GET", "/v1/status/x"), ("PUT", "/v1/status"), ("GET", "/v2/status")]
)
def test_there_is_nothing_else(method, path):
    assert at(method, path) is None


def test_the_methods_of_a_path():
    assert methods_at(["v1", "backends", "app", "b1"]) == ["GET", "PATCH", "DELETE"]
    assert methods_at(["v1", "nothing"]) == []


def call(**query):
    return Call({}, query, {}, Actor(""), READ)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), ("1.5s", 1.5), ("5m", 300.0), ("0s", 0.0), ("999999m", MOST_WAIT_S)],
)
def test_how_long_an_answer_is_waited_for(text, seconds):
    assert call(wait=text).wait_s == seconds


def test_without_a_time_nothing_is_waited_for():
    assert call().wait_s is None
    assert call(wait="soon").wait_s is None  # never said: `checked_query` refuses it


def test_what_a_flag_says():
    assert [call(force=text).flag("force") for text in ("1", "true", "0", "false")] == [True, True, False, False]
    assert not call().flag("force")


CHANGES = next(one for one in ENDPOINTS if one.call == "change")
ADDS = next(one for one in ENDPOINTS if one.call == "add")
EVENTS = next(one for one in ENDPOINTS if one.call == "events")


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ([], "the body should be a JSON object"),
        (None, "the body should be a JSON object"),
        ({"wieght": 3}, "wieght: unknown key"),
        ({"\x1b[2J\n": 3}, "?[2J?: unknown key"),
        ({"admin": "off"}, "admin: should be one of ready, drain, maint"),
        ({"admin": 3}, "admin: should be a string"),
        ({"admin": None}, "admin: should be a string"),
        ({"weight": "3"}, "weight: should be an integer"),
        ({"weight": True}, "weight: should be an integer"),
        ({"weight": 1.0}, "weight: should be an integer"),
        ({"weight": -1}, "weight: should be from 0 to 256"),
        ({"weight": 257}, "weight: should be from 0 to 256"),
        ({"force": 1}, "force: should be a boolean"),
        ({"reason": "x" * 201}, "reason: should have at most 200 characters"),
    ],
)
def test_bodies_that_are_wrong_say_where(body, detail):
    refused = refusal(checked_body, CHANGES, body)
    assert (refused.code, refused.detail) == ("bad_value", detail)


def test_bodies_that_are_right_are_what_they_are():
    body = {"admin": "drain", "weight": 256, "force": False, "reason": "x" * 200}
    assert checked_body(CHANGES, body) == body
    assert checked_body(CHANGES, {}) == {}
    assert checked_body(EVENTS, ["whatever"]) == {}


def test_an_open_body_has_what_it_needs_and_may_have_more():
    assert checked_body(ADDS, {"address": "a:80", "zone": "b"})["zone"] == "b"
    assert refusal(checked_body, ADDS, {"name": "b9"}).detail == "address is missing"
    assert refusal(checked_body, ADDS, {"address": "a" * 8193}).detail == "address: should have at most 8192 characters"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"wait": ["soon"]}, "wait: Answer when it is empty, or that time is over: 500ms, 30s, 5m."),
        ({"wait": ["30"]}, "wait: Answer when it is empty, or that time is over: 500ms, 30s, 5m."),
        ({"wait": ["-1s"]}, "wait: Answer when it is empty, or that time is over: 500ms, 30s, 5m."),
        ({"wait": ["٣s"]}, "wait: Answer when it is empty, or that time is over: 500ms, 30s, 5m."),
        ({"wait": ["1" * 13 + "s"]}, "wait: should have at most 12 characters"),
        ({"dry_run": ["yes"]}, "dry_run: 1: say what would follow, and change nothing."),
        ({"dry_run": ["1", "0"]}, "dry_run: given 2 times"),
        ({"wiat": ["1s"]}, "wiat: unknown parameter"),
    ],
)
def test_queries_that_are_wrong_say_where(query, detail):
    refused = refusal(checked_query, CHANGES, query)
    assert (refused.code, refused.detail) == ("bad_value", detail)


def test_hints_name_what_there_is():
    assert refusal(checked_query, CHANGES, {"x": ["1"]}).hint == "parameters: wait, dry_run"
    assert refusal(checked_query, Endpoint("GET", "/v1/x", "x", ""), {"x": ["1"]}).hint == "there are none here"
    assert refusal(checked_body, CHANGES, {"x": 1}).hint == "keys: admin, weight, limit, force, reason"


@pytest.mark.parametrize("after", ["", "-1", "1e3", "1" * 16, "٣"])
def test_the_number_of_an_event_is_digits(after):
    assert refusal(checked_query, EVENTS, {"after": [after]}).code == "bad_value"
    assert checked_query(EVENTS, {"after": ["12"], "kind": ["down"]}) == {"after": "12", "kind": "down"}


def test_values_as_json_schema():
    assert Value("integer", "w", least=0, most=256).schema() == {
        "type": "integer",
        "description": "w",
        "minimum": 0,
        "maximum": 256,
    }
    assert Value("string", "s", choices=("a", "b")).schema() == {
        "type": "string",
        "description": "s",
        "enum": ["a", "b"],
    }
    assert Value("string", "s", most=5, pattern="^a$").schema() == {
        "type": "string",
        "description": "s",
        "maxLength": 5,
        "pattern": "^a$",
    }
    assert Value("object", "o").schema() == {"type": "object", "description": "o"}


def test_a_value_without_bounds_is_from_zero_on():
    Value("integer", "n").refuse("n", 1 << 70)
    assert refusal(Value("integer", "n").refuse, "n", -1).code == "bad_value"
    assert refusal(Value("object", "o").refuse, "o", []).detail == "o: should be an object"
