"""Routes: to whom a request goes, by host, path and the rest, and what becomes of it where it goes to nobody."""

import pytest
from crossroads import OK, SIDES, Crossroads, get

from twisted_lb.core.outcome import Outcome, Refusal, Reply
from twisted_lb.net import routing

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


# Whose request it is.


@BOTH
@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("api.example.com", "api:80"),
        ("API.Example.COM", "api:80"),
        ("api.example.com.", "api:80"),
        ("api.example.com:8080", "api:80"),
        ("a.b.example.com", "web:80"),
        ("example.com", ""),
        ("example.org", ""),
    ],
)
def test_a_host_has_its_route(build, side, host, asked):
    roads = build(side, {"host": "api.example.com", "pool": "api"}, {"host": "*.example.com", "pool": "web"})
    seen = roads.ask(get("/", host))
    assert seen.asked == asked
    assert seen.status == (200 if asked else 404)


@BOTH
def test_an_absolute_target_says_the_host(build, side):
    roads = build(side, {"host": "api.example.com", "pool": "api"}, {"pool": "web"})
    assert roads.ask(get("http://api.example.com/a", "api.example.com")).asked == "api:80"
    assert roads.ask(get("http://API.example.com:80/a", None, version="1.0")).asked == "api:80"


@BOTH
def test_a_request_without_host_has_only_routes_without_one(build, side):
    roads = build(side, {"host": "x", "pool": "api"}, {"pool": "web"})
    assert roads.ask(get("/", None, version="1.0")).asked == "web:80"
    assert roads.ask(get("/", "x", version="1.0")).asked == "api:80"


@BOTH
@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("/v1", "api:80"),
        ("/v1/", "api:80"),
        ("/v1/x?y=/v2", "api:80"),
        ("/%761/x", "api:80"),
        ("/a/../v1/x", "api:80"),
        ("/.//v1", "api:80"),
        ("/v1x", "web:80"),
        ("/v1%2Fx", "web:80"),
        ("/?/v1", "web:80"),
    ],
)
def test_a_path_has_its_route_in_any_spelling_and_goes_on_as_it_came(build, side, target, asked):
    roads = build(side, {"path_prefix": "/v1", "pool": "api"}, {"pool": "web"})
    seen = roads.ask(get(target))
    assert (seen.asked, seen.line) == (asked, f"GET {target} HTTP/1.1")


@BOTH
@pytest.mark.parametrize(
    "target", ["/%2e%2e/v1", "/a\\v1", "/a%5Cv1", "/%00", "/a/..%2fv1", "/..;/v1", "/../v1", "/%zz"]
)
def test_where_routes_go_by_paths_one_that_nobody_can_judge_is_refused(build, side, target):
    roads = build(side, {"path_prefix": "/v1", "deny": True}, {"pool": "web"})
    client = roads.client()
    seen = roads.ask(get(target), client)
    assert (seen.asked, seen.status) == ("", 400)
    client.read()
    assert client.closed
    [record] = roads.records
    assert (record.ended_by, record.status, record.target) == (Refusal.BAD_REQUEST, 400, target.encode())


@BOTH
@pytest.mark.parametrize("target", ["/%2e%2e/v1", "/a\\v1", "/..;/v1", "/%zz"])
@pytest.mark.parametrize("routes", [[], [{"host": "other", "pool": "api"}]])
def test_where_no_route_goes_by_paths_they_pass_as_they_are(build, side, target, routes):
    roads = build(side, *routes, pools=("api", "default"))
    assert roads.ask(get(target)).line == f"GET {target} HTTP/1.1"


@BOTH
@pytest.mark.parametrize("target", ["/v1;a=1/x", "/v1/..", "/v1/x/../../y", "/v1;a/../../y", "/a/../v1;b"])
def test_who_reads_a_path_otherwise_gets_around_no_route(build, side, target):
    # Servers that ignore parameters in a path, and those that resolve no dot segments.
    roads = build(side, {"path_prefix": "/v1", "deny": True}, {"pool": "web"})
    seen = roads.ask(get(target))
    assert seen.asked == ""
    assert seen.status in (400, 403)


@BOTH
@pytest.mark.parametrize("target", ["/public/../admin", "/public/x/../../admin", "/admin/../public", "/public/.."])
@pytest.mark.parametrize("rest", [[], [{"deny": True}], [{"pool": "api", "allow_clients": "203.0.113.0/24"}]])
def test_a_route_that_is_open_is_no_way_past_what_is_closed(build, side, target, rest):
    roads = build(side, {"path_prefix": "/public", "pool": "api"}, *rest)
    seen = roads.ask(get(target))
    assert seen.asked == ""
    assert seen.status in (400, 403, 404)
    assert roads.ask(get("/public/x/../y")).line == "GET /public/x/../y HTTP/1.1"


@BOTH
def test_the_first_route_in_order_has_a_request(build, side):
    roads = build(
        side,
        {"path": "/v1/only", "pool": "web"},
        {"path_prefix": "/v1", "method": "POST", "pool": "web"},
        {"path_prefix": "/v1", "headers": {"X-Beta": "1"}, "pool": "web"},
        {"path_prefix": "/v1", "query": {"beta": {"present": True}}, "pool": "web"},
        {"path_prefix": "/v1", "clients": ["203.0.113.0/24"], "pool": "web"},
        {"pool": "api"},
    )
    assert roads.ask(get("/v1/only")).asked == "web:80"
    assert roads.ask(get("/v1/x", method="POST")).asked == "web:80"
    assert roads.ask(get("/v1/x", "x", "x-beta: 1")).asked == "web:80"
    assert roads.ask(get("/v1/x?a=1&beta=")).asked == "web:80"
    assert roads.ask(get("/v1/x", "x", "X-Beta: 10")).asked == "api:80"
    assert roads.ask(get("/v1/x?a=beta")).asked == "api:80"


@BOTH
def test_a_route_by_clients_goes_by_the_one_that_trusted_proxies_name(build, side):
    # Over a socketpair nobody has an address; a proxy that is trusted by its own would have one.
    roads = build(side, {"clients": ["203.0.113.0/24"], "pool": "api"}, {"pool": "web"})
    trusting = roads.world.engine.client_rules
    seen = roads.ask(get("/", "x", "X-Forwarded-For: 203.0.113.7"))
    assert seen.asked == "web:80"
    assert not trusting.trust.covers("203.0.113.7")


@BOTH
def test_each_request_of_a_connection_has_its_own_route(build, side):
    roads = build(
        side, {"path_prefix": "/v1", "pool": "api"}, {"path": "/closed", "answer": {"status": 503}}, {"pool": "web"}
    )
    client = roads.client()
    asked = [roads.ask(get(target), client).asked for target in ("/v1", "/", "/v1", "/v1", "/closed", "/")]
    assert asked == ["api:80", "web:80", "api:80", "api:80", "", "web:80"]
    assert [(one.route, one.pool) for one in roads.records] == [
        ("routes[0]", "api"), ("routes[2]", "web"), ("routes[0]", "api"), ("routes[0]", "api"), ("routes[1]", ""), ("routes[2]", "web"),
    ]  # fmt: skip


@pytest.mark.skipif(not routing.__file__.endswith(".py"), reason="compiled, a method cannot be replaced")
def test_the_same_head_on_the_same_connection_is_not_looked_at_again(build, monkeypatch):
    roads = build("engine", {"path_prefix": "/v1", "pool": "api"}, {"pool": "web"})
    table, looks = roads.world.engine.table, []
    find = type(table).find
    monkeypatch.setattr(type(table), "find", lambda self, head, client: looks.append(head) or find(self, head, client))
    client = roads.client()
    for target in ("/v1", "/v1", "/", "/", "/v1"):
        roads.ask(get(target), client)
    assert [head.target for head in looks] == [b"/v1", b"/", b"/v1"]


@BOTH
def test_where_one_route_has_all_requests_nobody_looks(build, side):
    one = build(side, pools=("default",))
    assert one.world.engine.straight is one.world.plane.routes["default"].only
    for routes in (
        [{"host": "x", "pool": "default"}],
        [{"pool": "default", "strip_prefix": "/x"}],
        [{"pool": "default", "encoded_slash": "refuse"}],
        [{"pool": "default", "deny_clients": ["192.0.2.1"]}],
        [{"pool": "default", "requests_per_client": 3}],
        [{"deny": True}],
    ):
        assert build(side, *routes, pools=("default",)).world.engine.straight is None


@BOTH
def test_a_host_that_no_route_takes_is_said_in_a_bounded_way(build, side):
    roads = build(side, {"host": "x", "pool": "api"})
    roads.ask(get("/", "y" * 2000))
    roads.ask(get("/", None, version="1.0"))
    assert [record.detail for record in roads.records] == [
        f"no route takes it, host {'y' * 253}",
        "no route takes it, without a host",
    ]


@BOTH
def test_what_no_route_takes_is_404_and_counted(build, side):
    roads = build(side, {"host": "x", "pool": "api"})
    seen = roads.ask(get("/nobody", "y", "Accept: application/json"))
    assert (seen.status, seen.asked) == (404, "")
    assert b'"error": "Not Found"' in seen.body
    [record] = roads.records
    assert (record.ended_by, record.route, record.pool) == (Refusal.NO_ROUTE, "", "")
    assert record.detail == "no route takes it, host y"
    assert roads.world.engine.unrouted == 1


@BOTH
def test_routes_of_other_listeners_do_not_count_here(build, side):
    listeners = {"default": {"address": ":8080"}, "other": {"address": ":8081"}}
    roads = build(side, {"listeners": "other", "pool": "web"}, {"pool": "api"}, listeners=listeners)
    assert roads.ask(get()).asked == "api:80"


@BOTH
def test_what_no_route_takes_has_the_listeners_default_pool(build, side):
    roads = build(side, {"host": "x", "pool": "api"}, listener={"default_pool": "web"})
    assert [roads.ask(get("/", host)).asked for host in ("x", "y")] == ["api:80", "web:80"]
    assert [(record.route, record.pool) for record in roads.records] == [("routes[0]", "api"), ("to web", "web")]


# Splits.


@BOTH
def test_a_split_is_exact(build, side):
    roads = build(side, {"split": {"api": 9, "web": 1}})
    client = roads.client()
    asked = [roads.ask(get(), client).asked for _ in range(30)]
    for begin in range(0, 30, 10):
        assert asked[begin : begin + 10].count("web:80") == 1


@BOTH
@pytest.mark.parametrize(
    ("key", "targets"),
    [
        ({"query": "user"}, lambda user: get(f"/?user={user}")),
        ({"header": "X-User"}, lambda user: get("/", "x", f"x-user: {user}")),
        ({"cookie": "user"}, lambda user: get("/", "x", f"Cookie: a=b; user={user}")),
    ],
)
def test_a_split_by_a_key_leads_the_same_one_to_the_same_pool(build, side, key, targets):
    roads = build(side, {"split": {"api": 1, "web": 1}, "split_by": key})
    users = range(16)
    first = [roads.ask(targets(user)).asked for user in users]
    again = [roads.ask(targets(user)).asked for user in users]
    assert first == again
    assert set(first) == {"api:80", "web:80"}


@BOTH
def test_a_split_by_client_is_by_the_site_of_an_ipv6_address(build, side):
    roads = build(
        side,
        {"split": {"api": 1, "web": 1}, "split_by": "client"},
        listener={"trusted_proxies": ["127.0.0.0/8"]},
    )
    asked = [
        {roads.ask(get("/", "x", f"X-Forwarded-For: 2001:db8:0:{site}::{host}")).asked for host in range(4)}
        for site in range(8)
    ]
    assert max(len(one) for one in asked) == 1
    assert set.union(*asked) == {"api:80", "web:80"}


@BOTH
def test_a_pool_of_weight_0_gets_nothing(build, side):
    roads = build(side, {"split": {"api": 1, "web": 0}})
    assert {roads.ask(get()).asked for _ in range(8)} == {"api:80"}


# Fallback.


@BOTH
def test_while_the_pool_has_nobody_the_fallback_has_its_requests(build, side):
    roads = build(side, {"pool": "api", "fallback": "web"})
    assert roads.ask(get()).asked == "api:80"
    roads.down("api")
    assert roads.ask(get()).asked == "web:80"
    roads.down("api", up=True)
    assert roads.ask(get()).asked == "api:80"
    assert [(record.pool, record.ended_by) for record in roads.records] == [
        ("api", Outcome.OK), ("web", Outcome.OK), ("api", Outcome.OK),
    ]  # fmt: skip


@BOTH
def test_a_request_goes_to_the_fallback_rather_than_wait(build, side):
    roads = build(side, {"pool": "api", "fallback": "web"}, pool_options={"api": {"queue": {"no_backend_s": 5.0}}})
    roads.down("api")
    assert roads.ask(get()).asked == "web:80"
    assert roads.world.plane.clusters["api"].snapshot().waiting == 0


@BOTH
def test_whom_the_last_backend_refuses_the_fallback_has_too_and_its_body(build, side):
    roads = build(side, {"pool": "api", "fallback": "web"})
    roads.world.dial.refuse.add("api:80")
    seen = roads.ask(get("/", "x", "Content-Length: 4", method="POST") + b"body")
    assert (seen.asked, seen.told[-4:]) == ("web:80", b"body")
    [record] = roads.records
    assert [one.outcome for one in record.attempts] == [Outcome.REFUSED, Outcome.OK]
    assert record.pool == "web"


@BOTH
def test_what_may_not_be_sent_twice_is_not_sent_to_the_fallback(build, side):
    roads = build(side, {"pool": "api", "fallback": "web"})
    client = roads.client()
    client.send(get("/", "x", "Content-Length: 4", method="POST") + b"body")
    roads.world.backend().sock.close()
    roads.world.run()
    assert client.read().startswith(b"HTTP/1.1 502 ")
    assert {peer.backend for peer in roads.world.backend_connections} == {"api:80"}


@BOTH
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_fallback_may_be_an_answer(build, side, method):
    roads = build(side, {"pool": "api", "fallback": {"status": 503, "text": "back at 9", "retry_after_s": 60}})
    roads.down("api")
    client = roads.client()
    for _ in range(2):
        seen = roads.ask(get(method=method), client)
        assert (seen.status, seen.body, seen.answered("Retry-After")) == (
            503,
            b"back at 9" if method == "GET" else b"",
            "60",
        )
        assert seen.answered("Content-Length") == "9"
    assert [(one.ended_by, one.status) for one in roads.records] == [(Refusal.NO_BACKEND, 503)] * 2


@BOTH
def test_where_the_fallback_has_nobody_either_it_is_503(build, side):
    roads = build(side, {"pool": "api", "fallback": "web"})
    roads.down("api")
    roads.down("web")
    assert roads.ask(get()).status == 503
    assert roads.records[0].ended_by is Refusal.NO_BACKEND


# Redirects.


@BOTH
@pytest.mark.parametrize(
    ("to", "target", "location"),
    [
        ("https://new.example.com", "/a/b?c=d", "https://new.example.com/a/b?c=d"),
        ("https://new.example.com", "/", "https://new.example.com/"),
        ("https://new.example.com", "//evil.example/%0d%0a", "https://new.example.com//evil.example/%0d%0a"),
        ("https://new.example.com/", "/a?b", "https://new.example.com/"),
        ("https://new.example.com/here", "/a?b", "https://new.example.com/here"),
        ("/here", "/a?b", "/here"),
        ("https://{host}", "/a?b", "https://old.example.com/a?b"),
        ("https://{host}:8443/x", "/a?b", "https://old.example.com:8443/x"),
    ],
)
def test_a_redirect_leads_there(build, side, to, target, location):
    roads = build(side, {"host": "old.example.com", "redirect": {"status": 307, "to": to}})
    seen = roads.ask(get(target, "OLD.example.com:80"))
    assert (seen.status, seen.answered("Location"), seen.asked) == (307, location, "")
    [record] = roads.records
    assert (record.ended_by, record.status, record.route, record.plain) == (Reply.REDIRECT, 307, "routes[0]", True)


@BOTH
def test_a_redirect_to_the_host_needs_one(build, side):
    roads = build(side, {"redirect": {"to": "https://{host}"}})
    assert roads.ask(get("/", None, version="1.0")).status == 400


@BOTH
def test_an_answer_keeps_the_connection_and_a_head_has_no_body(build, side):
    roads = build(
        side,
        {"path": "/go", "redirect": {"to": "/there"}},
        {"path": "/hi", "answer": {"text": "hello"}},
        {"pool": "api"},
    )
    client = roads.client()
    for target, method, body in (
        ("/go", "GET", b"/there\n"), ("/hi", "GET", b"hello"), ("/go", "HEAD", b""), ("/hi", "HEAD", b""),
    ):  # fmt: skip
        seen = roads.ask(get(target, method=method), client)
        assert seen.body == body
        assert seen.answered("Content-Length") == ("7" if target == "/go" else "5")
    assert roads.ask(get("/"), client).asked == "api:80"


def test_requests_that_are_answered_by_us_may_be_pipelined(build):
    roads = build("engine", {"path": "/hi", "answer": {"text": "hello"}}, {"pool": "api"})
    client = roads.client().send(get("/hi") * 3 + get("/") + get("/hi"))
    roads.world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    answers = client.read()
    assert [answers.count(body) for body in (b"\r\n\r\nhello", b"\r\n\r\nok")] == [4, 1]
    assert answers.endswith(b"hello")


def test_behind_a_body_that_nobody_wants_the_connection_ends(build):
    roads = build("engine", {"answer": {"status": 503, "text": "closed"}})
    client = roads.client()
    seen = roads.ask(get("/", "x", "Content-Length: 9", method="POST") + b"body", client)
    assert (seen.status, seen.answered("Connection"), seen.body) == (503, "close", b"closed")
    client.read()
    assert client.closed


# Answers.


@BOTH
@pytest.mark.parametrize(
    ("answer", "status", "kind", "body"),
    [
        ({"status": 503, "text": "closed"}, 503, "text/plain; charset=utf-8", b"closed"),
        ({"text": "{}", "content_type": "application/json"}, 200, "application/json", b"{}"),
        ({"status": 204}, 204, None, b""),
        ({"text": ""}, 200, None, b""),
        ({"status": 299, "text": "odd"}, 299, "text/plain; charset=utf-8", b"odd"),
    ],
)
def test_an_answer_is_what_it_is_said_to_be(build, side, answer, status, kind, body):
    roads = build(side, {"answer": answer})
    client = roads.client()
    seen = roads.ask(get(), client)
    assert (seen.status, seen.answered("Content-Type"), seen.body) == (status, kind, body)
    assert seen.answered("Content-Length") == (None if status == 204 else str(len(body)))
    assert roads.ask(get(), client).status == status
    assert roads.records[0].ended_by is Reply.ANSWER


@BOTH
def test_an_answer_without_text_is_that_of_its_status_or_the_routes_page(build, side, tmp_path):
    roads = build(side, {"answer": {"status": 410}})
    seen = roads.ask(get("/", "x", "Accept: application/json", "X-Request-ID: abc"))
    assert (seen.status, seen.body) == (410, b'{"status": 410, "error": "Gone", "request_id": "abc"}\n')
    (tmp_path / "gone.html").write_text("<p>gone")
    roads = build(side, {"answer": {"status": 410}, "error_pages": {"410": str(tmp_path / "gone.html")}})
    assert roads.ask(get()).body == b"<p>gone"


@BOTH
def test_an_answer_may_be_a_file(build, side, tmp_path):
    (tmp_path / "robots.txt").write_bytes(b"User-agent: *\n")
    (tmp_path / "x.svg").write_bytes(b"<svg/>")
    roads = build(
        side,
        {"path": "/robots.txt", "answer": {"file": str(tmp_path / "robots.txt")}},
        {"answer": {"file": str(tmp_path / "x.svg")}},
    )
    seen = roads.ask(get("/robots.txt"))
    assert (seen.body, seen.answered("Content-Type")) == (b"User-agent: *\n", "text/plain; charset=utf-8")
    assert roads.ask(get("/")).answered("Content-Type") == "image/svg+xml"


@BOTH
def test_a_route_that_denies_is_403(build, side):
    roads = build(side, {"path_prefix": "/admin", "deny": True}, {"pool": "api"})
    assert [roads.ask(get(target)).status for target in ("/admin", "/x")] == [403, 200]
    assert (roads.records[0].ended_by, roads.records[0].route) == (Refusal.FORBIDDEN, "routes[0]")


@BOTH
def test_while_it_drains_an_answer_of_ours_ends_its_connection_too(build, side):
    roads = build(side, {"answer": {"text": "hello"}})
    client = roads.client()
    roads.ask(get(), client)
    roads.world.engine.drain()
    seen = roads.ask(get(), client)
    assert (seen.status, (seen.answered("Connection") or "").lower()) == (200, "close")


# Their life.


@BOTH
def test_other_routes_hold_from_the_next_request_on(build, side):
    roads = build(side, {"path": "/a", "pool": "api"}, {"pool": "web"})
    client = roads.client()
    assert roads.ask(get("/a"), client).asked == "api:80"
    roads.configure({"path": "/b", "pool": "api"}, {"pool": "web"})
    assert [roads.ask(get(target), client).asked for target in ("/a", "/b")] == ["web:80", "api:80"]


@BOTH
def test_an_exchange_keeps_the_route_it_was_led_by(build, side):
    roads = build(side, {"pool": "api"})
    client = roads.client().send(get())
    roads.configure({"pool": "web"})
    roads.world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    assert client.read().endswith(b"ok")
    assert roads.ask(get(), client).asked == "web:80"


def test_a_route_that_stays_the_same_is_the_same_object_and_its_split_goes_on(build):
    roads = build("engine", {"name": "s", "split": {"api": 2, "web": 1}}, {"name": "other", "deny": True})
    plane = roads.world.plane
    before = dict(plane.routes)
    assert [roads.ask(get()).asked for _ in range(2)] == ["api:80", "web:80"]
    roads.configure({"name": "s", "split": {"api": 2, "web": 1}}, {"name": "other", "answer": {"status": 200}})
    assert plane.routes["s"] is not None
    assert plane.routes["other"] is not before["other"]
    assert roads.ask(get()).asked == "api:80"


def test_a_client_that_is_logged_in_at_one_pool_stays_so_while_it_asks_another(build):
    roads = build("engine", {"path": "/a", "pool": "api"}, {"pool": "web"})
    client = roads.client()
    login = get("/a", "x", "Authorization: NTLM abc")
    assert roads.ask(login, client).asked == "api:80"
    bound = roads.world.backend()
    assert roads.ask(get("/b"), client).asked == "web:80"
    assert not bound.closed
    assert roads.ask(get("/a"), client).asked == "api:80"
    assert len([peer for peer in roads.world.backend_connections if peer.backend == "api:80"]) == 1


def test_a_client_that_is_logged_in_at_one_pool_stays_so_while_it_waits_for_another(build):
    waits = {"web": {"queue": {"no_backend_s": 5.0}}}
    roads = build("engine", {"path": "/a", "pool": "api"}, {"pool": "web"}, pool_options=waits)
    client = roads.client()
    roads.ask(get("/a", "x", "Authorization: NTLM abc"), client)
    roads.down("web")
    assert roads.ask(get("/b"), client).asked == ""
    assert roads.world.plane.clusters["web"].snapshot().waiting == 1
    roads.down("web", up=True)
    web = roads.world.backend_connections[-1]
    assert web.read().startswith(b"GET /b ")
    web.send(OK)
    assert client.read().endswith(b"ok")
    assert roads.ask(get("/a"), client).asked == "api:80"
    assert len([peer for peer in roads.world.backend_connections if peer.backend == "api:80"]) == 1


def test_a_client_that_is_logged_in_stays_at_its_pool_of_a_split(build):
    # Else the steps of a login would go by turns to the pools.
    roads = build("engine", {"split": {"api": 1, "web": 1}})
    client = roads.client()
    login = get("/", "x", "Authorization: NTLM abc")
    asked = [roads.ask(login, client).asked for _ in range(4)]
    assert len(set(asked)) == 1
    assert len(roads.world.backend_connections) == 1
    assert {roads.ask(get()).asked for _ in range(4)} == {"api:80", "web:80"}
    [other] = {"api:80", "web:80"} - set(asked)
    roads.configure({"split": {asked[0][:3]: 0, other[:3]: 1}})
    assert roads.ask(login, client).asked == other


def test_a_client_logs_in_at_the_fallback_and_stays_there_while_the_pool_has_nobody(build):
    roads = build("engine", {"pool": "api", "fallback": "web"})
    roads.down("api")
    client = roads.client()
    login = get("/", "x", "Authorization: NTLM abc")
    assert [roads.ask(login, client).asked for _ in range(3)] == ["web:80"] * 3
    assert len(roads.world.backend_connections) == 1
    roads.down("api", up=True)
    assert roads.ask(login, client).asked == "api:80"


def test_a_client_that_is_logged_in_waits_for_its_backend_of_the_fallback(build):
    roads = build("engine", {"pool": "api", "fallback": "web"}, pool_options={"web": {"queue": {"no_backend_s": 5.0}}})
    roads.down("api")
    client = roads.client()
    login = get("/", "x", "Authorization: NTLM abc")
    assert roads.ask(login, client).asked == "web:80"
    roads.down("web")
    assert roads.ask(login, client).asked == ""
    roads.down("web", up=True)
    peer = roads.world.backend_connections[-1]
    assert peer.read().count(b"GET / ") == 1
    peer.send(OK)
    assert client.read().endswith(b"ok")


@BOTH
def test_a_route_by_the_scheme_goes_by_what_a_backend_would_be_told(build, side):
    # The usual redirect behind a proxy that ends TLS.
    http = {"headers": {"X-Forwarded-Proto": "http"}, "redirect": {"to": "https://{host}"}}
    roads = build(side, http, {"pool": "web"})
    seen = roads.ask(get("/a", "x", "X-Forwarded-Proto: https"))
    assert (seen.status, seen.answered("Location")) == (308, "https://x/a")
    roads = build(side, http, {"pool": "web"}, listener={"trusted_proxies": ["127.0.0.0/8"]})
    assert roads.ask(get("/a", "x", "X-Forwarded-Proto: https")).asked == "web:80"
    assert roads.ask(get("/a", "x", "X-Forwarded-Proto: http")).status == 308
    assert roads.ask(get("/a", "x", "Forwarded: for=192.0.2.1;proto=https")).asked == "web:80"


@BOTH
def test_a_route_by_a_field_that_only_proxies_may_send_takes_what_they_send(build, side):
    rule = {"headers": {"X-Real-IP": {"present": True}}, "pool": "api"}
    roads = build(side, rule, {"pool": "web"})
    assert roads.ask(get("/", "x", "X-Real-IP: 192.0.2.1")).asked == "web:80"
    roads = build(side, rule, {"pool": "web"}, listener={"trusted_proxies": ["127.0.0.0/8"]})
    assert roads.ask(get("/", "x", "X-Real-IP: 192.0.2.1")).asked == "api:80"


@BOTH
def test_a_route_by_an_upgrade_goes_by_what_the_client_offers(build, side):
    roads = build(side, {"headers": {"Upgrade": "websocket"}, "pool": "api"}, {"pool": "web"})
    assert roads.ask(get("/", "x", "Connection: Upgrade", "Upgrade: WebSocket")).asked == "api:80"
    assert roads.ask(get("/", "x", "Upgrade: websocket")).asked == "web:80"  # without Connection it is no offer
    assert roads.ask(get("/")).asked == "web:80"


@pytest.mark.parametrize(
    "route",
    [{"path": "/a", "answer": {"text": "hi"}}, {"path": "/a", "redirect": {"to": "/b"}}, {"path": "/a", "deny": True}],
)
def test_what_was_sent_ahead_for_a_tunnel_is_no_request_behind_an_answer_of_our_own(build, route):
    roads = build("engine", route, {"pool": "api"})
    client = roads.client()
    seen = roads.ask(get("/a", "x", "Upgrade: websocket", "Connection: Upgrade") + get("/smuggled"), client)
    assert (seen.asked, seen.answered("Connection")) == ("", "close")
    client.read()
    assert client.closed
    assert roads.ask(get("/a", "x", "Upgrade: websocket", "Connection: Upgrade")).answered("Connection") is None


@BOTH
@pytest.mark.parametrize(
    ("rule", "target"),
    [({"strip_prefix": "/a"}, "/a//b"), ({"encoded_slash": "refuse"}, "/a/b%2fc"), ({"add_prefix": "/b"}, "/a/..;")],
)
def test_a_path_that_its_route_does_not_take_is_refused_as_the_route_refuses(build, side, rule, target, tmp_path):
    page = tmp_path / "400.html"
    page.write_text("the page of the route")
    route = {"name": "r", "host": "x", "pool": "api", "error_pages": {"400": str(page)}, **rule}
    roads = build(side, route, {"pool": "web"}, listener={"trusted_proxies": ["127.0.0.0/8"]})
    client = roads.client()
    seen = roads.ask(get(target, "x", "X-Forwarded-For: 192.0.2.1"), client)
    assert (seen.asked, seen.status, seen.body) == ("", 400, b"the page of the route")
    [record] = roads.records
    assert (record.route, record.client, record.ended_by) == ("r", "192.0.2.1", Refusal.BAD_REQUEST)
    client.read()
    assert client.closed


@BOTH
def test_who_has_no_access_is_not_told_what_is_wrong_with_a_path_and_who_has_pays_for_it(build, side):
    route = {"host": "x", "pool": "api", "encoded_slash": "refuse"}
    roads = build(side, {**route, "deny_clients": "127.0.0.1"}, {"pool": "web"})
    assert roads.ask(get("/%2f")).status == 403
    roads = build(side, {**route, "rate_limits": {"per_s": 0.001}}, {"pool": "web"})
    assert [roads.ask(get("/%2f")).status for _ in range(2)] == [400, 429]


@BOTH
def test_what_is_refused_is_told_of_the_client_behind_a_trusted_proxy(build, side):
    route = {"path": "/a", "pool": "api", "limits": {"body_bytes": 1}}
    roads = build(side, route, listener={"trusted_proxies": ["127.0.0.0/8"]})
    named = ("x", "X-Forwarded-For: 192.0.2.1")
    roads.ask(get("/a\\b", *named))
    roads.ask(get("/a", *named, "Content-Length: 2", method="POST") + b"ab")
    assert [(record.status, record.client, record.peer) for record in roads.records] == [
        (400, "192.0.2.1", "127.0.0.1"), (413, "192.0.2.1", "127.0.0.1"),
    ]  # fmt: skip


@BOTH
@pytest.mark.parametrize(
    "routes", [[], [{"host": "x", "pool": "default"}], [{"clients": "192.0.2.0/24", "pool": "default"}]]
)
def test_a_proxy_that_is_trusted_no_more_is_not_believed_on_the_connections_that_it_keeps(build, side, routes):
    trusting = {"default": {"address": ":8080", "trusted_proxies": ["127.0.0.0/8"]}}
    roads = build(side, *routes, pools=("default",), listeners=trusting)
    client = roads.client()
    request = get("/", "x", "X-Forwarded-For: 192.0.2.1")
    assert roads.ask(request, client).field("X-Forwarded-For") == "192.0.2.1, 127.0.0.1"
    roads.configure(*routes, listeners={"default": {"address": ":8080"}})
    assert roads.ask(request, client).field("X-Forwarded-For") == "127.0.0.1"
    assert (roads.records[-1].client, roads.records[-1].peer) == ("127.0.0.1", "127.0.0.1")
    roads.configure(*routes, listeners=trusting)
    assert roads.ask(request, client).field("X-Forwarded-For") == "192.0.2.1, 127.0.0.1"
