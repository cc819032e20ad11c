"""Rewriting by route: header fields of requests and answers, paths, the Host that backends get, and what may be sent twice."""

import re

import pytest
from crossroads import SIDES, Crossroads, get
from house import House

from twisted_lb.testing import ScriptedClient, response
from twisted_lb.wire import edits

BOTH = pytest.mark.parametrize("side", SIDES)


@pytest.fixture
def build():
    built: list[Crossroads] = []

    def one(side: str, *routes, **options) -> Crossroads:
        built.append(Crossroads(side, *routes, **options))
        return built[-1]

    yield one
    for one_built in built:
        one_built.close()


# What backends get.


@BOTH
def test_a_field_that_is_set_is_not_the_clients_in_any_spelling(build, side):
    roads = build(side, {"pool": "api", "set_request_headers": {"X-User": "none"}})
    seen = roads.ask(get("/", "x", "X-User: root", "x_user: root", "X.USER: root", "X-Users: 3"))
    assert b"root" not in seen.told
    assert (seen.field("X-User"), seen.field("X-Users")) == ("none", "3")


@BOTH
def test_a_field_that_is_removed_is_gone(build, side):
    roads = build(side, {"pool": "api", "remove_request_headers": ["Cookie", "x-secret"]})
    seen = roads.ask(get("/", "x", "Cookie: a=b", "X-Secret: 1", "X_Secret: 2", "Accept: */*"))
    assert [seen.field(name) for name in ("Cookie", "X-Secret", "X_Secret", "Accept")] == [None, None, None, "*/*"]


@BOTH
def test_placeholders_say_what_is_so_for_each_request(build, side):
    value = "{client} {host} {pool} {backend} {request_id}"
    roads = build(side, {"split": {"api": 1, "web": 1}, "set_request_headers": {"X-All": value}})
    client = roads.client()
    one, other = (roads.ask(get("/", "Example.COM:80", f"X-Request-ID: id{at}"), client) for at in range(2))
    assert [seen.field("X-All").split()[1:] for seen in (one, other)] == [
        ["example.com", "api", "api:80", "id0"], ["example.com", "web", "web:80", "id1"],
    ]  # fmt: skip


@BOTH
def test_an_id_that_nobody_brought_is_made_and_is_the_one_of_the_record(build, side):
    roads = build(
        side,
        {
            "pool": "api",
            "set_request_headers": {"X-Id": "{request_id}"},
            "set_response_headers": {"X-Id": "{request_id}"},
        },
    )
    seen = roads.ask(get())
    assert re.fullmatch("[0-9a-f]{32}", seen.field("X-Id"))
    assert seen.answered("X-Id") == seen.field("X-Id") == roads.records[0].request_id.decode()


@BOTH
def test_an_id_that_is_set_is_the_only_one(build, side):
    roads = build(
        side,
        {"pool": "api", "set_request_headers": {"X-Request-ID": "{request_id}"}, "forwarding": {"request_id": "make"}},
    )
    assert re.fullmatch("[0-9a-f]{32}", roads.ask(get()).field("X-Request-ID"))
    assert roads.ask(get("/", "x", "X-Request-ID: mine")).field("X-Request-ID") == "mine"


@BOTH
def test_another_attempt_names_its_own_backend(build, side):
    pools = {"api": {"backends": ["a:80", "b:80"]}}
    roads = build(
        side, {"pool": "api", "set_request_headers": {"X-Backend": "{backend}"}, "forwarding": {"host": "backend"}},
        pool_options=pools,
    )  # fmt: skip
    client = roads.client().send(get())
    first = roads.world.backend()
    first.read()
    first.sock.close()
    roads.world.run()
    second = roads.world.backend()
    second.read()
    for peer in (first, second):
        assert f"X-Backend: {peer.backend}\r\n".encode() in peer.received
        assert f"Host: {peer.backend}\r\n".encode() in peer.received
    assert first.backend != second.backend
    second.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.read().endswith(b"ok")


@BOTH
@pytest.mark.parametrize(
    ("host", "told"), [("keep", "Example.com:8080"), ("backend", "api:80"), ("app.internal:8000", "app.internal:8000")]
)
def test_backends_get_the_host_that_the_route_says(build, side, host, told):
    roads = build(side, {"pool": "api", "forwarding": {"host": host}})
    seen = roads.ask(get("/", "Example.com:8080"))
    assert (seen.field("Host"), seen.field("X-Forwarded-Host")) == (told, "Example.com:8080")


@BOTH
@pytest.mark.parametrize(
    ("host", "told"), [("keep", "api:80"), ("backend", "api:80"), ("app.internal", "app.internal")]
)
def test_a_request_without_host_gets_one_and_only_one(build, side, host, told):
    roads = build(side, {"pool": "api", "forwarding": {"host": host}, "set_request_headers": {"X-Host": "<{host}>"}})
    seen = roads.ask(get("/", None, version="1.0"))
    assert (seen.field("Host"), seen.field("X-Host")) == (told, "<>")
    seen = roads.ask(get("http://there.example/", None, version="1.0"))
    assert (seen.field("Host"), seen.field("X-Host")) == (
        "there.example" if host == "keep" else told,
        "<there.example>",
    )


@pytest.mark.skipif(not edits.__file__.endswith(".py"), reason="compiled, a method cannot be replaced")
def test_a_head_that_does_not_differ_is_made_once(build, monkeypatch):
    made = []
    kept = edits.FieldEdits.kept
    monkeypatch.setattr(edits.FieldEdits, "kept", lambda self, lines: made.append(lines) or kept(self, lines))
    roads = build("engine", {"pool": "api", "set_request_headers": {"X-Pool": "{pool} {client}"}})
    client = roads.client()
    for _ in range(5):
        assert roads.ask(get(), client).field("X-Pool").startswith("api ")
    assert len(made) == 2  # the client's lines and ours, once


# Paths.


@BOTH
def test_a_prefix_is_cut_and_told(build, side):
    roads = build(side, {"path_prefix": "/v1", "pool": "api", "strip_prefix": "/v1"}, {"pool": "web"})
    seen = roads.ask(get("/%761/a%2Fb?c=%64", "x", "X-Forwarded-Prefix: /evil", "X_Forwarded_Prefix: /evil"))
    assert (seen.line, seen.field("X-Forwarded-Prefix")) == ("GET /a%2Fb?c=%64 HTTP/1.1", "/v1")
    assert b"evil" not in seen.told
    assert roads.records[0].target == b"/%761/a%2Fb?c=%64"


@BOTH
def test_a_clients_own_prefix_is_removed_also_where_nothing_is_cut(build, side):
    roads = build(side, {"pool": "api"}, listener={"only_from_proxies": []})
    seen = roads.ask(get("/", "x", "X-Forwarded-Prefix: /evil", "X_Forwarded_Prefix: /evil"))
    assert b"evil" not in seen.told


@BOTH
def test_where_the_prefix_is_not_there_nothing_is_cut_or_told(build, side):
    roads = build(side, {"pool": "api", "strip_prefix": "/v1"})
    seen = roads.ask(get("/v2/a"))
    assert (seen.line, seen.field("X-Forwarded-Prefix")) == ("GET /v2/a HTTP/1.1", None)


@BOTH
@pytest.mark.parametrize("target", ["//v1/a", "/v1//a", "/v1/../v1/a", "/./v1/a", "/v1;x/a", "/v1/%2e%2e/a"])
def test_a_route_that_cuts_refuses_what_it_cannot_cut_plainly(build, side, target):
    roads = build(side, {"pool": "api", "strip_prefix": "/v1"})
    assert roads.ask(get(target)).status == 400
    assert roads.ask(get("/v1/a")).line == "GET /a HTTP/1.1"


@BOTH
def test_a_prefix_is_replaced_and_one_is_put_before_it(build, side):
    roads = build(
        side,
        {"path_prefix": "/old", "pool": "api", "replace_prefix": {"/old": "/new"}, "add_prefix": "/app"},
        {"pool": "web", "add_prefix": "/app"},
    )
    seen = roads.ask(get("/old/a?b"))
    assert (seen.line, seen.field("X-Forwarded-Prefix")) == ("GET /app/new/a?b HTTP/1.1", "/old")
    seen = roads.ask(get("/a"))
    assert (seen.line, seen.field("X-Forwarded-Prefix")) == ("GET /app/a HTTP/1.1", None)


def test_a_prefix_that_a_trusted_proxy_has_cut_stands_before_ours():
    house = House(
        routes=[{"path": "/plain", "pool": "default"}, {"pool": "default", "strip_prefix": "/v1"}],
        forwarding={"trusted_proxies": ["127.0.0.1"]},
    )
    backend = house.backend("a:80")
    request = get("/v1/a", "x", "X-Forwarded-Prefix: /outer/")
    house.ask(request)
    house.ask(request.replace(b"/v1/a", b"/a"))
    house.ask(request.replace(b"/v1/a", b"/plain"))
    told = [re.findall(rb"X-Forwarded-Prefix: (\S+)", one) for one in backend.requests]
    assert told == [[b"/outer/v1"], [b"/outer"], [b"/outer/"]]
    house.close()


@BOTH
def test_escaped_slashes_are_refused_where_the_route_says_so(build, side):
    roads = build(side, {"path_prefix": "/a", "pool": "api", "encoded_slash": "refuse"}, {"pool": "web"})
    assert [roads.ask(get(target)).status for target in ("/a%2fb", "/a/b%252Fc", "/a/b", "/b%2Fc", "/a/b?c=%2f")] == [
        200, 400, 200, 200, 200,
    ]  # fmt: skip
    assert [roads.ask(get(target)).status for target in ("/a/b%2fc", "/a/%2F")] == [400, 400]


# What clients get.


@BOTH
def test_fields_of_answers_are_set_and_removed_and_the_framing_stays(build, side):
    roads = build(
        side,
        {
            "pool": "api",
            "set_response_headers": {"Server": "us", "X-Pool": "{pool} {host}"},
            "remove_response_headers": ["X-Powered-By"],
        },
    )
    answers = [
        b"HTTP/1.1 200 OK\r\nServer: them\r\nx-powered-by: PHP\r\nContent-Length: 2\r\nDate: x\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: them\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nServer: them\r\nETag: x\r\n\r\n",
    ]
    client = roads.client()
    for answer in (*answers, *answers):
        seen = roads.ask(get("/", "a.example"), client, answer)
        assert (seen.answered("Server"), seen.answered("X-Pool"), seen.answered("X-Powered-By")) == (
            "us",
            "api a.example",
            None,
        )
        assert seen.status in (200, 304)
        assert seen.answered("Date") is not None
        assert (b"ok" in seen.body) is (seen.status == 200)


@BOTH
def test_an_answer_may_say_who_gave_it(build, side):
    roads = build(side, {"split": {"api": 1, "web": 1}, "set_response_headers": {"X-Backend": "{backend}"}})
    client = roads.client()
    assert [roads.ask(get(), client).answered("X-Backend") for _ in range(4)] == ["api:80", "web:80"] * 2


@BOTH
def test_an_answer_of_the_route_itself_is_edited_too_and_a_refusal_is_not(build, side):
    roads = build(
        side,
        {
            "path": "/hi",
            "answer": {"text": "hi"},
            "set_response_headers": {"Cache-Control": "max-age=9", "X-Host": "{host}"},
        },
        {"deny": True, "set_response_headers": {"X-Host": "{host}"}},
    )
    seen = roads.ask(get("/hi", "a.example"))
    assert (seen.answered("Cache-Control"), seen.answered("X-Host"), seen.body) == ("max-age=9", "a.example", b"hi")
    assert roads.ask(get("/")).answered("X-Host") is None


# What may be sent twice.


@BOTH
@pytest.mark.parametrize(("repeatable", "status"), [([], 502), (["POST"], 200)])
def test_a_method_that_is_repeatable_here_is_sent_again(build, side, repeatable, status):
    pools = {"api": {"backends": ["a:80", "b:80"]}}
    roads = build(side, {"pool": "api", "repeatable": repeatable}, pool_options=pools)
    client = roads.client().send(get("/", "x", "Content-Length: 2", method="POST") + b"hi")
    roads.world.backend().sock.close()
    roads.world.run()
    if status == 200:
        second = roads.world.backend()
        second.read()
        assert second.received.endswith(b"\r\n\r\nhi")
        second.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.read().startswith(b"HTTP/1.1 %d " % status)


def test_the_host_that_checks_say_is_their_own():
    house = House(
        routes=[{"pool": "default", "forwarding": {"host": "app.internal"}}],
        health_check={"interval_s": 1.0, "path": "/up", "host": "check.internal"},
    )
    backend = house.backend("a:80", lambda request: [response()])
    house.wait(3)
    house.ask(get("/"), ScriptedClient(house.network, "lb:8080"))
    hosts = {re.search(rb"\nHost: (\S+)", one)[1] for one in backend.requests}
    assert hosts == {b"check.internal", b"app.internal"}
    house.close()


# Messages that are not one head.


def test_trailers_are_no_way_around_an_edit(build):
    # Some backends merge them into the head.
    roads = build(
        "engine", {"pool": "api", "set_request_headers": {"X-User": "none"}, "remove_request_headers": ["X-Secret"]}
    )
    body = b"1\r\na\r\n0\r\nx_user: root\r\nX-Secret: 1\r\nX-Sum: 5\r\n\r\n"
    seen = roads.ask(get("/", "x", "Transfer-Encoding: chunked", method="POST") + body)
    assert seen.told.endswith(b"X-User: none\r\n\r\n1\r\na\r\n0\r\nX-Sum: 5\r\n\r\n")


def test_what_is_not_for_clients_is_in_no_trailer_and_no_interim_answer(build):
    roads = build(
        "engine", {"pool": "api", "set_response_headers": {"X-A": "ours"}, "remove_response_headers": ["X-Secret"]}
    )
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Secret: 1\r\nX-A: theirs\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nX-Secret: 2\r\nX-A: theirs\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n0\r\nX-Secret: 3\r\nX-A: theirs\r\nX-Sum: 5\r\n\r\n"
    )
    told = roads.ask(get(), answer=answer).answer
    assert told.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-A: ours\r\n")
    assert told.endswith(b"\r\n\r\n1\r\na\r\n0\r\nX-Sum: 5\r\n\r\n")


def test_a_switch_of_protocols_is_an_answer_too(build):
    roads = build(
        "engine",
        {
            "pool": "api",
            "set_response_headers": {"X-A": "ours", "X-From": "{backend}"},
            "remove_response_headers": "Server",
        },
    )
    client = roads.client()
    answer = b"HTTP/1.1 101 Switching Protocols\r\nServer: x\r\nX-A: theirs\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello"
    seen = roads.ask(get("/", "x", "Upgrade: websocket", "Connection: Upgrade"), client, answer)
    assert (seen.answered("Server"), seen.answered("X-A"), seen.answered("X-From")) == (None, "ours", "api:80")
    assert (seen.answered("Upgrade"), seen.body) == ("websocket", b"hello")
