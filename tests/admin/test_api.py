"""The API, request by request: what it answers, what it refuses and with which words, and what it does not keep."""

import json
import re
from urllib.parse import quote

import pytest
from desk import Desk
from operated import DRAIN, GET, SWITCHED, UPGRADE

from twisted_lb.admin.door import _by_token
from twisted_lb.admin.endpoints import ENDPOINTS, MOST_BODY
from twisted_lb.admin.operator import Refused, Reloaded
from twisted_lb.admin.scopes import CHANGE, Tokens
from twisted_lb.admin.site import STATUS_OF, admit_to, paths
from twisted_lb.admin.streams import _MOST_BEHIND
from twisted_lb.operating import Operating
from twisted_lb.testing.backends import NEVER_ANSWER

A = "/v1/backends/app/a%3A80"


@pytest.fixture
def open_desk():
    desks = []

    def one(*names, **options):
        desks.append(Desk(*names, **options))
        return desks[-1]

    yield one
    for desk in desks:
        desk.close()


@pytest.fixture
def desk(open_desk):
    return open_desk("a:80", "b:80", {"name": "unix:/run/a.sock", "address": "unix:/run/a.sock"})


# What is.


def test_the_status_says_who_asks_and_what_he_may(desk):
    said = desk.get("/v1/status").json
    assert (said["scope"], said["actor"], said["etag"], said["name"]) == ("change", "alice", "3b9aca00.1.0", "8080")
    assert [one["name"] for one in said["pools"][0]["backends"]] == ["app/a:80", "app/b:80", "app/unix:/run/a.sock"]
    desk.as_reader()
    assert desk.get("/v1/status").json["scope"] == "read"


def test_answers_are_nobodys_to_keep_and_have_the_etag(desk):
    headers = desk.get("/v1/backends").headers
    assert headers["etag"] == '"3b9aca00.1.0"'
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_backends_all_and_one(desk):
    every = desk.get("/v1/backends").json["backends"]
    assert desk.get(A).json == every[0]
    assert desk.get("/v1/backends/app/unix:%2Frun%2Fa.sock").json == every[2]
    assert desk.get("/v1/backends/app/unix%3a%2Frun%2fa.sock?").json == every[2]


def test_what_is_asked_without_a_body_is_answered_without_one(desk):
    for path in ("/v1/status", A, "/v1/events", "/v1/config", "/v1/openapi.json", "/v1/nothing"):
        whole, head = desk.get(path), desk.ask("HEAD", path)
        assert (head.status, head.body) == (whole.status, b"")
        assert head.headers["content-length"] == str(len(whole.body))
    assert desk.ask("HEAD", "/v1/events", accept="text/event-stream").status == 200


def test_the_configuration_and_the_document(desk):
    desk.operated.owner.values = [("watch", False, "default")]
    assert desk.get("/v1/config").json == {"values": [{"key": "watch", "value": "false", "source": "default"}]}
    assert desk.get("/v1/openapi.json").json["openapi"] == "3.1.0"
    assert set(paths()) == set(desk.get("/v1/openapi.json").json["paths"])


def test_requests_are_told_without_decisions_where_nobody_wants_them(desk):
    desk.operated.backend("a:80")
    desk.operated.ask()
    [whole] = desk.get("/v1/explain?last=5&decisions=1").json["requests"]
    assert desk.get("/v1/explain?last=5").json["requests"] == [whole]
    assert whole["decision"]["picked"] == "app/a:80"
    [told] = desk.get("/v1/explain?decisions=0&last=5").json["requests"]
    assert (told["decision"], told["candidates"], told["skipped"]) == (None, [], [])
    assert [(one["backend"], one["outcome"], one["decision"]) for one in told["attempts"]] == [("app/a:80", "OK", None)]
    assert desk.get("/v1/explain?decisions=0").json["requests"] == [told]
    assert desk.get("/v1/explain?decisions=none").json["code"] == "bad_value"


def test_one_connection_asks_again_and_again(desk):
    connection = desk.connect()
    for _ in range(3):
        connection.send(b"GET /v1/config HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.take().startswith(b"HTTP/1.1 200 ")


# Errors.

PROBLEMS = [
    ("GET", "/", None, 404, "no_such_path", "there is no such path"),
    ("GET", "/v1", None, 404, "no_such_path", "there is no such path"),
    ("GET", "/v1/status/", None, 404, "no_such_path", "there is no such path"),
    ("GET", "/v1/%ff", None, 404, "no_such_path", "there is no such path"),
    ("GET", "/v1/backends/app/%ff", None, 404, "no_such_path", "there is no such path"),
    ("GET", "http://evil.example/v1/status", None, 404, "no_such_path", "there is no such path"),
    ("PUT", "/v1/status", None, 405, "no_such_method", "this path has GET"),
    ("POST", "/v1/status", {}, 405, "no_such_method", "this path has GET"),
    ("BREW", A, None, 405, "no_such_method", "this path has GET, PATCH, DELETE"),
    ("OPTIONS", "/v1/reload", None, 405, "no_such_method", "this path has POST"),
    ("GET", "/v1/backends/ap/x", None, 404, "no_such_pool", 'there is no pool "ap"'),
    ("GET", "/v1/backends/app/a%3A81", None, 404, "no_such_backend", 'there is no backend "app/a:81"'),
    ("GET", "/v1/backends/app/%0A%1b", None, 404, "no_such_backend", 'there is no backend "app/\\n\\x1b"'),
    ("PATCH", "/v1/backends/app/x", {"admin": "drain"}, 404, "no_such_backend", 'there is no backend "app/x"'),
    ("DELETE", "/v1/backends/app/x", None, 404, "no_such_backend", 'there is no backend "app/x"'),
    ("DELETE", "/v1/backends/app/x/changes", None, 404, "no_such_backend", 'there is no backend "app/x"'),
    ("POST", "/v1/pools/ap/backends", {"address": "n:80"}, 404, "no_such_pool", 'there is no pool "ap"'),
    ("PATCH", A, {}, 422, "bad_value", "nothing to change: admin, weight or limit is wanted"),
    ("PATCH", A, {"reason": "x"}, 422, "bad_value", "nothing to change: admin, weight or limit is wanted"),
    ("PATCH", A, {"limit": "auto"}, 422, "bad_value", "limit: should be an integer or adaptive"),
    ("PATCH", A, {"limit": -1}, 422, "bad_value", "limit: should be from 0 to 1000000"),
    ("PATCH", A, {"admin": "off"}, 422, "bad_value", "admin: should be one of ready, drain, maint"),
    ("PATCH", A, [], 422, "bad_value", "the body should be a JSON object"),
    (
        "PATCH",
        f"{A}?wait=soon",
        {},
        422,
        "bad_value",
        "wait: Answer when it is empty, or that time is over: 500ms, 30s, 5m.",
    ),
    ("PATCH", f"{A}?x=1", {}, 422, "bad_value", "x: unknown parameter"),
    ("GET", "/v1/status?x=1", None, 422, "bad_value", "x: unknown parameter"),
    ("GET", f"/v1/status?{'x=1&' * 60}", None, 400, "bad_request", "the query is none"),
    ("GET", "/v1/events?kind=%ff", None, 400, "bad_request", "the query is none"),
    ("POST", "/v1/pools/app/backends", {}, 422, "bad_value", "address is missing"),
    ("POST", "/v1/pools/app/backends", {"address": "b:80"}, 409, "exists", "pool app: b:80 at b:80 is there already"),
    ("PATCH", A, b"{", 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b"\xff", 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b'{"weight": NaN}', 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b'{"weight": -Infinity}', 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b'{"weight": ' + b"9" * 5000 + b"}", 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b'{"admin": "drain", "reason": "\\ud800"}', 400, "bad_request", "the body is no JSON"),
    ("POST", "/v1/pools/app/backends", b'{"address": "n:80", "\\udfff": 1}', 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b'{"admin": "drain", "admin": "ready"}', 400, "bad_request", "admin: is there twice"),
    ("PATCH", A, b'{"weight": 1, "x": [{"\\n": 1, "\\n": 1}]}', 400, "bad_request", "?: is there twice"),
    (
        "POST",
        "/v1/pools/app/backends",
        {"address": "n:80", "wieght": 2},
        422,
        "bad_value",
        'wieght: unknown key; did you mean "weight"?',
    ),
    (
        "POST",
        "/v1/pools/app/backends",
        {"address": "n:80", "labels": {"zone": 3}},
        422,
        "bad_value",
        "labels.zone: should be a string, not 3",
    ),
    ("POST", "/v1/pools/app/backends", {"address": "n"}, 422, "bad_value", "'n': no port, expected HOST:PORT"),
    ("PATCH", A, b"[" * 60000, 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b'{"a":' * 12000, 400, "bad_request", "the body is no JSON"),
    ("PATCH", A, b"x" * (MOST_BODY + 1), 413, "too_large", "a body may have 65536 bytes"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "code", "detail"), PROBLEMS)
def test_each_error_has_its_status_its_code_and_its_words(desk, method, path, body, status, code, detail):
    answer = desk.ask(method, path, body)
    assert answer.problem[:3] == (status, code, detail)
    assert STATUS_OF[code] == status
    assert answer.phrase == answer.json["title"]
    assert desk.get("/v1/status").json["etag"] == "3b9aca00.1.0"


def test_a_wrong_method_is_told_the_right_ones(desk):
    assert desk.ask("PUT", A).headers["allow"] == "GET, PATCH, DELETE"


def test_hints_say_what_was_meant(desk):
    assert desk.get("/v1/backends/app/a%3A81").problem[3] == 'did you mean "app/a:80"?'
    assert desk.get("/v1/nothing").problem[3] == "all paths: /v1/openapi.json"
    assert desk.ask("PATCH", A, {"wieght": 1}).problem[3] == "keys: admin, weight, limit, force, reason"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonx"]
)
def test_bodies_that_a_form_could_send_are_refused(desk, kind):
    answer = desk.ask("PATCH", A, {"admin": "drain"}, content_type=kind)
    assert answer.problem[:3] == (415, "no_json", "the body should be application/json")


def test_the_kind_of_a_body_may_have_parameters(desk):
    assert desk.ask("PATCH", A, {"admin": "drain"}, content_type="Application/JSON; charset=utf-8").status == 200


def test_a_body_of_exactly_what_is_allowed_is_read(desk):
    filler = b" " * (MOST_BODY - len(b'{"admin":"drain"}'))
    assert desk.ask("PATCH", A, b'{"admin":"drain"}' + filler).status == 200


def test_a_long_body_in_chunks_is_refused_and_not_kept(desk):
    connection = desk.connect()
    head = f"PATCH {A} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.send(head.encode())
    for _ in range(40):
        connection.send(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
    request = connection.protocol.wrappedProtocol.requests[0]
    assert request.content.tell() <= MOST_BODY
    connection.send(b"0\r\n\r\n")
    desk.operated.clock.settle()
    heard = connection.take()
    assert heard.startswith(b"HTTP/1.1 413 ")
    connection.send(b"GET /v1/config HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.take().startswith(b"HTTP/1.1 200 ")


def test_a_short_body_in_chunks_is_a_body(desk):
    connection = desk.connect()
    head = f"PATCH {A} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.send(head.encode() + b'11\r\n{"admin":"drain"}\r\n0\r\n\r\n')
    assert connection.take().startswith(b"HTTP/1.1 200 ")


def test_a_bug_is_an_answer_and_in_the_log(desk, logged_errors):
    def broken():
        raise RuntimeError("no")

    desk.operated.owner.values_in_force = broken
    assert desk.get("/v1/config").problem[:3] == (500, "bug", "the balancer has made a mistake; its log says which")
    assert len(logged_errors.take()) == 1


def test_an_answer_that_is_no_json_is_a_bug_and_answered(desk, logged_errors):
    desk.operated.owner.values_in_force = lambda: [("\ud800", 1, "")]
    assert desk.get("/v1/config").problem[:2] == (500, "bug")
    assert len(logged_errors.take()) == 1


# Changes.


def test_a_drain_is_answered_with_what_is_in_force(desk):
    answer = desk.ask("PATCH", A, {"admin": "drain", "weight": 4, "reason": "  de\n\tploy "})
    said = answer.json
    assert (answer.status, answer.headers["etag"]) == (200, '"3b9aca00.1.2"')
    assert (said["backend"]["state"], said["backend"]["weight"]) == ("drained", 4)
    assert said["changes"] == ["ready → drain", "weight 1 → 4"]
    assert said["follows"] == ["app keeps 2 of 3", "new load on the other two +50 %"]
    assert said["backend"]["by"]["reason"] == "de ploy"
    assert "time_over" not in said
    assert desk.operated.said == ["admin: alice (uid 1004 pid 7): app/a:80 ready → drain; weight 1 → 4: “de ploy”"]


def test_what_would_follow_is_there_for_readers_too(desk):
    desk.as_reader()
    for yes in ("1", "true"):
        said = desk.ask("PATCH", f"{A}?dry_run={yes}", {"admin": "drain"}).json
        assert (said["changes"], said["backend"]["state"]) == (["ready → drain"], "ready")
    for no in ("0", "false"):
        assert desk.ask("PATCH", f"{A}?dry_run={no}", {"admin": "drain"}).problem[:2] == (403, "read_only")
    assert desk.get("/v1/status").json["etag"] == "3b9aca00.1.0"


def test_the_last_usable_one_is_a_conflict_unless_forced(desk):
    for name in ("b%3A80", "unix%3A%2Frun%2Fa.sock"):
        assert desk.ask("PATCH", f"/v1/backends/app/{name}", {"weight": 0}).status == 200
    answer = desk.ask("PATCH", A, {"admin": "maint"})
    assert answer.problem == (
        409,
        "last_usable",
        "app/a:80 is the last usable backend of app; every request to app would be refused. Nothing was changed.",
        "All the same: --force",
    )
    assert desk.ask("DELETE", A).problem[:2] == (409, "last_usable")
    assert desk.ask("DELETE", f"{A}?force=0").problem[:2] == (409, "last_usable")
    assert desk.ask("PATCH", A, {"admin": "maint", "force": True}).status == 200
    assert desk.ask("DELETE", f"{A}?force=1").status == 200


def test_added_it_has_a_place_and_removed_it_has_none(desk):
    answer = desk.ask("POST", "/v1/pools/app/backends", {"address": "[::1]:81", "weight": 2, "labels": {"zone": "b"}})
    assert (answer.status, answer.headers["location"]) == (201, "/v1/backends/app/%5B%3A%3A1%5D%3A81")
    said = answer.json
    assert (said["name"], said["backend"]["weight"], said["backend"]["labels"]) == ("[::1]:81", 2, {"zone": "b"})
    assert said["changes"] == ["added app/[::1]:81"]
    assert desk.get(answer.headers["location"]).json == said["backend"]
    gone = desk.ask("DELETE", f"{answer.headers['location']}?reason=enough")
    assert gone.json["removed"] == "app/[::1]:81"
    assert gone.json["left"] == {"requests": 0, "tunnels": 0}
    assert desk.get(answer.headers["location"]).status == 404
    assert desk.operated.said[-1] == "admin: alice (uid 1004 pid 7): app/[::1]:81 removed: “enough”"


def test_an_added_one_has_its_level(desk):
    path = "/v1/pools/app/backends"
    said = desk.ask("POST", path, {"address": "n:80", "priority": 3}).json["backend"]
    assert (said["level"], said["state"]) == (3, "standby")
    said = desk.ask("POST", path, {"address": "o:80", "backup": True}).json["backend"]
    assert (said["level"], said["state"]) == (None, "standby")
    assert desk.ask("POST", path, {"address": "p:80", "priority": 129}).problem[:2] == (422, "bad_value")
    assert desk.ask("POST", path, {"address": "p:80", "backup": True, "priority": 1}).problem[:2] == (422, "bad_value")


def test_changes_are_reset_one_and_all(desk):
    desk.ask("PATCH", A, {"admin": "drain"})
    desk.ask("PATCH", "/v1/backends/app/b%3A80", {"weight": 5})
    said = desk.ask("DELETE", f"{A}/changes").json
    assert (said["changes"], said["backend"]["state"]) == (["admin drain of app/a:80"], "ready")
    assert desk.ask("DELETE", "/v1/changes?reason=x").json == {"changes": ["weight 5 of app/b:80"]}
    assert desk.ask("DELETE", "/v1/changes").json == {"changes": []}


def test_an_added_one_that_is_reset_is_gone(desk):
    desk.ask("POST", "/v1/pools/app/backends", {"address": "n:80"})
    assert desk.ask("DELETE", "/v1/backends/app/n%3A80/changes").json["backend"] is None


def test_a_reset_that_leaves_nobody_is_a_conflict_unless_forced(desk):
    desk.ask("POST", "/v1/pools/app/backends", {"address": "n:80", "name": "n"})
    for one in desk.get("/v1/backends").json["backends"]:
        if one["backend"] != "n":
            desk.ask("PATCH", f"/v1/backends/app/{quote(one['backend'], safe='')}", {"admin": "drain"})
    path = "/v1/backends/app/n/changes"
    assert desk.ask("DELETE", path).problem[:2] == (409, "last_usable")
    assert desk.ask("DELETE", f"{path}?force=1").json["changes"] == ["added of app/n"]


def test_a_name_that_stands_for_several_answers_with_all_of_them(open_desk):
    desk = open_desk("web:80", "z:80", resolved={"web": ["10.0.0.1", "10.0.0.2"]})
    desk.operated.wait(1)
    said = desk.ask("PATCH", "/v1/backends/app/web%3A80", {"admin": "drain"}).json
    assert [one["state"] for one in said["backends"]] == ["drained", "drained"]
    assert said["backend"] == said["backends"][0]
    one = desk.get("/v1/backends/app/web%3A80%4010.0.0.1%3A80").json
    assert one["by"]["actor"] == "alice"
    assert desk.get("/v1/backends/app/web%3A80").problem == (
        404,
        "no_such_backend",
        '"app/web:80" stands for several backends',
        "such as those of app",
    )


# Etag.


@pytest.mark.parametrize("tag", ['"3b9aca00.1.0"', "*", ' "0.0", W/"3b9aca00.1.0"', "3b9aca00.1.0"])
def test_who_has_seen_what_is_may_change_it(desk, tag):
    assert desk.ask("PATCH", A, {"admin": "drain"}, if_match=tag).status == 200


@pytest.mark.parametrize("tag", ['"3b9aca00.1.1"', '"1.0"', '"3b9aca01.1.0"', "", '"*"', "x, y"])
def test_who_has_seen_something_else_may_not(desk, tag):
    for method, path, body in (
        ("PATCH", A, {"admin": "drain"}),
        ("DELETE", A, None),
        ("DELETE", f"{A}/changes", None),
        ("DELETE", "/v1/changes", None),
        ("POST", "/v1/reload", {}),
        ("POST", "/v1/pools/app/backends", {"address": "n:80"}),
    ):
        answer = desk.ask(method, path, body, if_match=tag)
        assert answer.problem == (412, "changed_meanwhile", "it is 3b9aca00.1.0 by now", "look again, and then decide")
    assert desk.operated.said == []
    assert desk.get("/v1/status", if_match=tag).status == 200


def test_of_two_who_have_seen_the_same_one_is_late(desk):
    tag = desk.get("/v1/status").headers["etag"]
    assert desk.ask("PATCH", A, {"admin": "drain"}, if_match=tag).status == 200
    assert desk.ask("PATCH", A, {"admin": "maint"}, if_match=tag).status == 412


# Waiting.


@pytest.fixture
def busy(open_desk):
    """A desk whose backends each have a request and a tunnel under way, and their clients by backend."""
    desk = open_desk("a:80", "b:80")
    for name in ("a:80", "b:80"):
        desk.operated.backend(name, [NEVER_ANSWER, SWITCHED])
    clients = [desk.operated.ask(request) for request in (GET, GET, UPGRADE, UPGRADE)]
    view = desk.get(A).json
    assert (view["in_flight"], view["tunnels"]) == (2, 1)
    return desk, clients


def test_without_a_wait_a_drain_answers_at_once_with_what_goes_on(busy):
    desk, _ = busy
    said = desk.ask("PATCH", A, {"admin": "drain"}).json
    assert said["follows"][0] == "1 request and 1 tunnel go on"
    assert said["backend"]["reason"] == "alice; 1 request and 1 tunnel left"
    assert "time_over" not in said


def test_a_wait_ends_when_the_backend_is_empty(busy):
    desk, clients = busy
    connection = desk.begin("PATCH", f"{A}?wait=30s", {"admin": "drain"})
    desk.operated.wait(5)
    assert connection.take() == b""
    for client in clients:
        client.transport.abortConnection()
    desk.operated.wait(1)
    heard = connection.take()
    said = json.loads(heard.partition(b"\r\n\r\n")[2])
    assert "time_over" not in said
    assert said["backend"]["in_flight"] == 0
    assert said["waited_s"] >= 5


def test_a_long_wait_looks_less_and_less_often_and_still_ends_in_time(busy, monkeypatch):
    desk, clients = busy
    looks, left = [], Operating.left

    def counted(self, pool, backend, **how):
        looks.append(backend)
        return left(self, pool, backend, **how)

    monkeypatch.setattr(Operating, "left", counted)
    connection = desk.begin("PATCH", f"{A}?wait=5m", {"admin": "drain"})
    desk.operated.wait(0.5)
    assert len(looks) >= 8  # a drain of what is short is answered soon
    looks.clear()
    desk.operated.wait(60)
    assert 60 <= len(looks) <= 250  # every 20 ms it would be 3,000
    for client in clients:
        client.transport.abortConnection()
    desk.operated.wait(0.3)
    assert "time_over" not in json.loads(connection.take().partition(b"\r\n\r\n")[2])


def test_a_wait_ends_when_its_time_is_over(busy):
    desk, _ = busy
    connection = desk.begin("PATCH", f"{A}?wait=2s", {"admin": "drain"})
    desk.operated.wait(1.9)
    assert connection.take() == b""
    desk.operated.wait(0.2)
    said = json.loads(connection.take().partition(b"\r\n\r\n")[2])
    assert said["time_over"] is True
    assert said["backend"]["in_flight"] == 2


def test_a_removal_waits_too_and_says_what_is_left(busy):
    desk, _ = busy
    connection = desk.begin("DELETE", f"{A}?wait=2s")
    desk.operated.wait(2.1)
    said = json.loads(connection.take().partition(b"\r\n\r\n")[2])
    assert (said["left"], said["time_over"]) == ({"requests": 1, "tunnels": 1}, True)
    assert said["follows"][0] == "1 request and 1 tunnel go on"


def test_a_removal_waits_for_what_was_removed_and_not_for_one_that_was_added_under_its_name(open_desk):
    desk = open_desk("a:80", "b:80")
    for name in ("a:80", "b:80"):
        desk.operated.backend(name, [NEVER_ANSWER] * 3)
    first = desk.operated.ask()
    desk.operated.ask()
    connection = desk.begin("DELETE", f"{A}?wait=1m")
    assert desk.ask("POST", "/v1/pools/app/backends", {"address": "a:80"}).status == 201
    for _ in range(2):
        desk.operated.ask()
    first.reset()
    desk.operated.wait(1)
    assert desk.get(A).json["in_flight"] == 1
    said = json.loads(connection.take().partition(b"\r\n\r\n")[2])
    assert said["left"] == {"requests": 0, "tunnels": 0}
    assert "time_over" not in said


def test_there_is_nothing_to_wait_for_where_nobody_is_sent_away(busy):
    desk, _ = busy
    assert "time_over" not in desk.ask("PATCH", f"{A}?wait=30s", {"weight": 3}).json
    assert "time_over" not in desk.ask("PATCH", f"{A}?wait=30s", {"admin": "ready"}).json


def test_who_leaves_while_he_waits_leaves_nothing_behind(busy):
    desk, _ = busy
    before = len(desk.operated.clock.getDelayedCalls())
    connection = desk.begin("PATCH", f"{A}?wait=60m", {"admin": "drain"})
    connection.lose()
    desk.operated.wait(0.1)
    assert len(desk.operated.clock.getDelayedCalls()) == before
    assert desk.get(A).json["state"] == "drained"


def test_a_drain_answers_only_when_what_is_being_connected_was_sent(open_desk):
    desk = open_desk("a:80", "b:80")
    desk.operated.network.hang("a:80")
    desk.operated.network.hang("b:80")
    clients = [desk.operated.ask() for _ in range(2)]
    connection = desk.begin("PATCH", A, {"admin": "drain"})
    desk.operated.wait(0.5)
    assert connection.take() == b""
    for client in clients:
        client.transport.abortConnection()
    desk.operated.wait(0.5)
    assert connection.take().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("method", "body"), [("PATCH", {"admin": "drain"}), ("DELETE", None)])
def test_who_waits_is_told_what_is_so_when_another_instance_takes_over(busy, method, body):
    desk, _ = busy
    connection = desk.begin(method, f"{A}?wait=60m", body)
    desk.operated.wait(7)
    desk.resource.close()
    desk.site.leave()
    said = json.loads(connection.take().partition(b"\r\n\r\n")[2])
    assert (said["time_over"], round(said["waited_s"])) == (True, 7)
    assert connection.transport.disconnecting
    assert not desk.operated.operating.snapshot().pools[0].backends[0].usable or method == "DELETE"


def test_who_waits_for_what_is_being_connected_is_told_that_it_is_not_over_at_a_takeover(open_desk):
    desk = open_desk("a:80", "b:80")
    desk.operated.network.hang("a:80")
    desk.operated.network.hang("b:80")
    clients = [desk.operated.ask() for _ in range(2)]
    connection = desk.begin("PATCH", A, {"admin": "drain"})
    desk.resource.close()
    assert json.loads(connection.take().partition(b"\r\n\r\n")[2])["time_over"] is True
    for client in clients:
        client.transport.abortConnection()


def test_no_answer_names_the_program_that_gives_it(desk):
    for connection in (
        desk.begin("GET", "/v1/status"),
        desk.begin("GET", "/nothing"),
        desk.begin("OPTIONS", "*"),
        desk.begin("PATCH", A, b"{"),
        desk.begin("GET", "/v1/events", accept="text/event-stream"),
    ):
        head = connection.take().partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"http/1.1 ")
        assert b"\r\nserver:" not in head
        assert b"twisted" not in head


def test_a_stop_ends_waits_with_an_answer(busy):
    desk, _ = busy
    connection = desk.begin("PATCH", f"{A}?wait=60m", {"admin": "drain"})
    desk.operated.operating.end()
    desk.operated.wait(0.1)
    assert connection.take().startswith(b"HTTP/1.1 503 ")


# Scopes.

CHANGES = [one for one in ENDPOINTS if one.scope == CHANGE]


@pytest.mark.parametrize("endpoint", CHANGES, ids=lambda one: one.call)
def test_who_may_only_read_changes_nothing(desk, endpoint):
    desk.operated.plane.command("app", "b:80", DRAIN)
    before = desk.operated.operating.etag
    desk.as_reader()
    body = {"admin": "drain", "address": "n:80"} if endpoint.body is not None else None
    path = endpoint.path.format(pool="app", backend="a%3A80")
    for more in ("", "?wait=1s", "?reason=x"):
        answer = desk.ask(endpoint.method, path + (more if more[1:5] in endpoint.query else ""), body)
        assert answer.problem == (
            403,
            "read_only",
            "this changes something, and the scope is: read",
            "a token of [admin] tokens",
        )
    assert desk.operated.operating.etag == before
    assert desk.operated.owner.reloads == []
    assert desk.operated.said == []


def test_who_may_only_read_sees_everything(desk):
    desk.as_reader()
    for endpoint in ENDPOINTS:
        if endpoint.scope != CHANGE and endpoint.call not in ("plan", "explain", "explain_next", "route"):
            assert desk.get(endpoint.path.format(pool="app", backend="a%3A80")).status == 200


def by_token(*, local=True):
    tokens = Tokens({"ops": "the-token-of-ops"}, {"see": "the-token-of-see"}, local=local)
    return admit_to(lambda request: _by_token(tokens, request), frozenset({"lb.example"}))


def test_tokens_at_the_port(open_desk):
    desk = open_desk("a:80", "b:80", admit=by_token(local=False))
    assert desk.get("/v1/status").problem == (
        401,
        "no_token",
        "a token is needed",
        "Authorization: Bearer TOKEN; tokens are those of [admin]",
    )
    wrong = desk.get("/v1/status", authorization="Bearer wrong")
    assert wrong.problem[:3] == (401, "no_token", "that is no token of this balancer")
    assert wrong.headers["www-authenticate"] == 'Bearer realm="twisted_lb"'
    see, ops = {"authorization": "Bearer the-token-of-see"}, {"authorization": "Bearer the-token-of-ops"}
    assert desk.get("/v1/status", **see).json["actor"] == "see"
    assert desk.ask("PATCH", A, {"admin": "drain"}, **see).problem[:2] == (403, "read_only")
    assert desk.ask("PATCH", A, {"admin": "drain"}, **ops).status == 200
    assert desk.operated.said[-1].startswith("admin: ops (")


def test_at_a_local_port_reading_needs_no_token(open_desk):
    desk = open_desk("a:80", "b:80", admit=by_token())
    assert desk.get("/v1/status").json["actor"] == "reader"
    assert desk.ask("PATCH", A, {"admin": "drain"}).problem[:2] == (403, "read_only")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "[::1", "", "127.0.0.1@evil.example"])
def test_other_hosts_are_refused_whatever_is_asked(open_desk, host):
    desk = open_desk("a:80", admit=by_token())
    answer = desk.get("/v1/status", host=host, authorization="Bearer the-token-of-ops")
    assert answer.problem == (
        403,
        "bad_host",
        f"this is no host of the admin door: {host or 'none'}",
        "name it in admin.hosts",
    )


def test_requests_of_other_sites_are_refused_whatever_they_bring(open_desk):
    desk = open_desk("a:80", "b:80", admit=by_token())
    ops = {"authorization": "Bearer the-token-of-ops"}
    for fields in ({"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}, {"origin": "null"}):
        answer = desk.ask("PATCH", A, {"admin": "drain"}, **fields, **ops)
        assert answer.problem[:3] == (403, "cross_site", "requests from other sites are refused")
    own = {"origin": "http://localhost", "sec_fetch_site": "same-origin"}
    assert desk.ask("PATCH", A, {"admin": "drain"}, **own, **ops).status == 200


# Reloads.


def test_a_reload_answers_with_what_it_did(desk):
    connection = desk.begin("POST", "/v1/reload", {"reason": "new file"})
    assert connection.take() == b""
    desk.operated.operating.loaded(["changes pool app: +n:80"])
    desk.operated.owner.reloads[0][1].callback(
        Reloaded(True, ["changes pool app: +n:80"], True, warnings=["lb.toml:3:1: key: …   [W27]"])
    )
    said = json.loads(connection.take().partition(b"\r\n\r\n")[2])
    assert said == {
        "applied": True,
        "changed": True,
        "lines": ["changes pool app: +n:80"],
        "warnings": ["lb.toml:3:1: key: …   [W27]"],
        "generation": 2,
        "etag": "3b9aca00.2.0",
    }
    assert desk.operated.said == ["admin: alice (uid 1004 pid 7): reload: “new file”"]


@pytest.mark.parametrize(
    ("method", "path", "body"), [("GET", "/v1/plan", None), ("POST", "/v1/reload", {"dry_run": True})]
)
def test_a_plan_answers_with_what_it_would_do(desk, method, path, body):
    connection = desk.begin(method, path, body)
    dry_run, deferred = desk.operated.owner.reloads[0]
    assert dry_run
    deferred.callback(Reloaded(False, ["x"], True))
    said = json.loads(connection.take().partition(b"\r\n\r\n")[2])
    assert (said["applied"], said["lines"], said["etag"]) == (False, ["x"], "3b9aca00.1.0")
    assert desk.operated.said == []


def test_a_bad_configuration_says_all_that_is_wrong(desk):
    connection = desk.begin("POST", "/v1/reload", {})
    problems = [{"place": "lb.toml:3:1", "text": f"lb.toml:3:1: {n}", "code": "value"} for n in range(3)]
    desk.operated.owner.reloads[0][1].callback(Reloaded(False, problems=problems, report="as --check prints it"))
    heard = connection.take()
    assert heard.startswith(b"HTTP/1.1 422 ")
    said = json.loads(heard.partition(b"\r\n\r\n")[2])
    assert (said["code"], said["detail"]) == ("bad_configuration", "lb.toml:3:1: 0 (and 2 more)")
    assert (said["problems"], said["report"]) == (problems, "as --check prints it")


def test_who_leaves_does_not_stop_a_reload(desk):
    connection = desk.begin("POST", "/v1/reload", {})
    connection.lose()
    deferred = desk.operated.owner.reloads[0][1]
    assert not deferred.called
    deferred.callback(Reloaded(True))


def test_a_reload_that_is_refused_is_a_conflict(desk):
    def refuse(*, dry_run):
        raise Refused("busy", "there is no file")

    desk.operated.owner.reload_now = refuse
    assert desk.ask("POST", "/v1/reload", {}).problem[:3] == (409, "busy", "there is no file")
    assert desk.get("/v1/plan").problem[:2] == (409, "busy")


def test_during_a_stop_nothing_is_changed(desk):
    desk.operated.owner.stopping = True
    for method, path, body in (
        ("PATCH", A, {"admin": "drain"}),
        ("DELETE", A, None),
        ("DELETE", f"{A}/changes", None),
        ("DELETE", "/v1/changes", None),
        ("POST", "/v1/reload", {}),
        ("POST", "/v1/pools/app/backends", {"address": "n:80"}),
    ):
        assert desk.ask(method, path, body).problem[:3] == (
            503,
            "stopping",
            "the balancer stops; nothing is changed any more",
        )
    assert desk.get("/v1/status").status == 200


# Events.


def events_of(heard):
    """The events in a piece of a stream, by number and kind."""
    found = []
    for number, kind, data in re.findall(rb"id: (\d+)\nevent: (\w+)\ndata: (.*)\n\n", heard):
        said = json.loads(data)
        assert (said["id"], said["kind"]) == (int(number), kind.decode())
        found.append((said["id"], said["kind"]))
    return found


def happen(desk, times):
    """So many events."""
    for n in range(times):
        desk.ask("PATCH", A, {"admin": "drain" if n % 2 == 0 else "ready"})


def test_events_are_told_from_a_number_on(desk):
    assert desk.get("/v1/events").json == {"events": [], "last": 0}
    happen(desk, 3)
    said = desk.get("/v1/events?after=1").json
    assert [one["id"] for one in said["events"]] == [2, 3]
    assert said["last"] == 3
    assert said["events"][0] == {
        "id": 2,
        "at": 1_000_000.0,
        "kind": "admin",
        "subject": "app/a:80",
        "text": "drain → ready",
        "actor": "alice",
    }
    assert desk.get("/v1/events?after=3").json == {"events": [], "last": 3}
    assert desk.get("/v1/events?kind=down").json == {"events": [], "last": 3}
    assert len(desk.get("/v1/events?kind=admin&after=0").json["events"]) == 3


def listen(desk, path="/v1/events", **fields):
    return desk.begin("GET", path, accept="text/event-stream", **fields)


def test_a_stream_tells_what_was_and_what_comes(desk):
    happen(desk, 2)
    stream = listen(desk)
    heard = stream.take()
    assert b"\r\nContent-Type: text/event-stream\r\n" in heard
    assert events_of(heard) == [(1, "admin"), (2, "admin")]
    happen(desk, 2)
    assert events_of(stream.take()) == [(3, "admin"), (4, "admin")]


@pytest.mark.parametrize(
    ("path", "fields", "first"),
    [
        ("/v1/events?after=2", {}, 3),
        ("/v1/events", {"last_event_id": "3"}, 4),
        ("/v1/events?after=1", {"last_event_id": "4"}, 5),
        ("/v1/events?after=4", {"last_event_id": "x"}, 5),
        ("/v1/events", {"last_event_id": "9" * 40}, 1),
        ("/v1/events", {"last_event_id": "812"}, 1),
    ],
)
def test_a_stream_resumes_behind_the_last_event_that_was_heard(desk, path, fields, first):
    happen(desk, 5)
    stream = listen(desk, path, **fields)
    desk.ask("PATCH", A, {"admin": "maint"})
    assert [number for number, _ in events_of(stream.take())] == list(range(first, 7))


def test_a_stream_tells_only_what_was_asked_for(desk):
    stream = listen(desk, "/v1/events?kind=removed")
    happen(desk, 2)
    desk.ask("DELETE", A)
    assert events_of(stream.take()) == [(3, "removed")]


def test_a_stream_shows_that_it_is_there(desk):
    stream = listen(desk)
    stream.take()
    desk.operated.wait(16)
    assert b": still here\n\n" in stream.take()
    desk.operated.wait(200)
    assert stream.take().count(b": still here") >= 10
    assert not stream.transport.disconnecting


def test_who_has_gone_is_told_nothing_and_not_kept(desk):
    hearing = desk.operated.operating._events._hearing
    stream = listen(desk)
    assert len(hearing) == 1
    stream.lose()
    assert not hearing
    assert not desk.resource._streams
    happen(desk, 1)


def test_so_many_listen_and_one_more_is_refused_until_one_goes(desk):
    streams = [listen(desk) for _ in range(20)]
    assert desk.get("/v1/events", accept="text/event-stream").problem[:3] == (503, "too_many", "20 listen already")
    assert desk.get("/v1/events").status == 200
    streams[0].lose()
    assert listen(desk).take().startswith(b"HTTP/1.1 200 ")


def test_a_listener_that_does_not_read_is_dropped_and_the_others_are_not(desk):
    slow, other = listen(desk), listen(desk)
    slow.transport.reads = False
    for _ in range(_MOST_BEHIND // 100_000 + 2):
        desk.operated.operating._events.add("reload", "", "x" * 100_000)
    assert slow.transport.aborted
    assert not other.transport.aborted
    sent = len(slow.transport.value())
    slow.lose()
    happen(desk, 1)
    assert len(slow.transport.value()) == sent
    assert sent < _MOST_BEHIND + 300_000


def test_streams_end_with_the_door(desk):
    stream = listen(desk)
    desk.resource.close()
    assert stream.transport.aborted


def test_so_many_connections_and_no_more(desk):
    connections = [desk.connect() for _ in range(100)]
    assert all(one.open for one in connections)
    assert not desk.connect().open
    connections[0].lose()
    assert desk.connect().open


def test_a_connection_that_says_nothing_is_closed_after_a_while(desk):
    connection = desk.connect()
    desk.operated.wait(59)
    assert not connection.transport.disconnecting
    desk.operated.wait(2)
    assert connection.transport.disconnecting


def test_a_wait_is_no_silence(busy):
    desk, _ = busy
    connection = desk.begin("PATCH", f"{A}?wait=5m", {"admin": "drain"})
    desk.operated.wait(200)
    assert not connection.transport.disconnecting
    desk.operated.wait(101)
    assert b'"time_over": true' in connection.take()


def test_the_site_leaves_and_closes(desk):
    one, other = desk.connect(), desk.connect()
    desk.site.leave()
    assert one.transport.disconnecting
    desk.site.close()
    assert other.transport.aborted
