"""Answers to an operator's questions as JSON values: whole, without secrets, and with the names of the admin API."""

import dataclasses
import json

import pytest
from house import House

from twisted_lb.admin.openapi import document
from twisted_lb.admin.shapes import SHAPES
from twisted_lb.answers import _ADMIN_STATES, _STATES, decision_json, explained_json, routed_json
from twisted_lb.core.agreed import Agreed, ToldByProxy
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


def test_what_tls_has_agreed_on_is_told_field_by_field_and_in_words(house):
    house.ask(GET)
    explained = house.plane.explain("mine")
    assert explained_json(explained)["tls"] is None
    agreed = Agreed("TLSv1.3", "TLS_X", "a.test", resumed=True, subject="CN=alice", fingerprint="ab12")
    told = explained_json(dataclasses.replace(explained, agreed=agreed))["tls"]
    assert told == {
        "text": "TLSv1.3 (a.test), resumed, certificate CN=alice",
        "version": "TLSv1.3",
        "cipher": "TLS_X",
        "server_name": "a.test",
        "resumed": True,
        "client_subject": "CN=alice",
        "client_fingerprint": "ab12",
    }
    assert list(told) == list(SHAPES["Agreed"]["properties"])


def test_what_a_balancer_in_front_has_told_is_told_field_by_field_and_in_words(house):
    house.ask(GET)
    explained = house.plane.explain("mine")
    assert explained_json(explained)["proxy"] is None
    told = ToldByProxy(authority="a.test", unique_id="id-1", tls_version="TLSv1.3", client_cn="alice")
    answer = explained_json(dataclasses.replace(explained, agreed=Agreed("", "", told=told)))
    assert answer["tls"] is None, "with us the client spoke in the clear"
    assert answer["proxy"] == {
        "text": "TLSv1.3 (a.test), certificate CN=alice (not verified), id id-1",
        "authority": "a.test",
        "alpn": "",
        "unique_id": "id-1",
        "tls_version": "TLSv1.3",
        "tls_cipher": "",
        "client_cn": "alice",
        "client_verified": False,
        "aws_vpce_id": "",
        "azure_pel_id": "",
        "gcp_conn_id": "",
    }
    assert list(answer["proxy"]) == list(SHAPES["ToldByProxy"]["properties"])


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


SCHEMAS = document()["components"]["schemas"]
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "array": list,
}


def misfits(value, schema, where=""):
    """In what a value is not of a schema: as much of JSON Schema as the document uses."""
    if "$ref" in schema:
        return misfits(value, SCHEMAS[schema["$ref"].rpartition("/")[2]], where)
    if "anyOf" in schema:
        found = [misfits(value, one, where) for one in schema["anyOf"]]
        return [] if [] in found else found[0]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, TYPES[kind]) and isinstance(value, bool) == (kind == "boolean") for kind in kinds):
        return [f"{where}: {value!r} is no {kinds}"]
    if isinstance(value, dict):
        unknown, missing = value.keys() - schema["properties"].keys(), set(schema["required"]) - value.keys()
        wrong = [f"{where}.{key}" for key in unknown | missing]
        return wrong + [
            line
            for key, one in value.items()
            if key in schema["properties"]
            for line in misfits(one, schema["properties"][key], f"{where}.{key}")
        ]
    if isinstance(value, list):
        return [line for n, one in enumerate(value) for line in misfits(one, schema["items"], f"{where}[{n}]")]
    return []


def test_what_is_told_has_the_shape_that_the_document_says(house):
    house.ask(GET)
    house.ask(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
    told = [explained_json(one) for one in house.plane.explained("recent", 9)]
    assert [len(one["attempts"]) for one in told] == [1, 2]
    assert any(attempt["then"] for one in told for attempt in one["attempts"]) is False
    for one in told:
        assert misfits(one, {"$ref": "Explanation"}) == []
    decision = decision_json(house.plane.explain_next("default"))
    assert misfits(decision, {"$ref": "Decision"}) == misfits({**decision, "worker": 0}, {"$ref": "Decision"}) == []
    assert misfits({**decision, "who": 0}, {"$ref": "Decision"}) == [".who"]
    del decision["rule"]
    assert misfits(decision, {"$ref": "Decision"}) == [".rule"]
    routed = routed_json(house.plane.route("GET", "http://x/"))
    for one in routed["looked_at"]:
        one["place"] = ""  # the operator's side knows it
    assert misfits(routed, {"$ref": "Routed"}) == []
    assert misfits(routed | {"more": 1, "status": "x"}, {"$ref": "Routed"}) == [
        ".more",
        ".status: 'x' is no ['integer', 'null']",
    ]


def test_each_state_of_a_backend_is_named_in_the_document(house):
    said = SCHEMAS["Candidate"]["properties"]["state"]["description"]
    states = {*_STATES.values(), *_ADMIN_STATES.values(), "ready"}
    assert {word for word in states if word in said} == states
