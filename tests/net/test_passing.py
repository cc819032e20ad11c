"""What backends are told about clients, what is believed of clients, and what the balancer says itself."""

import json

import pytest
from world import World

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.net.local_reply import accept_of, preferred_type, safe_id
from twisted_lb.net.settings import ClientRules
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.wire.rewrite import Forwarding

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello"
CLAIMS = (
    b"X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\n"
    b"X-Forwarded-Port: 443\r\nForwarded: for=6.6.6.6\r\n"
)
REQUEST = b"GET / HTTP/1.1\r\nHost: inner\r\n%b\r\n"


@pytest.fixture(params=["engine", "resource", "tls"])
def make(request):
    worlds = []

    def one(**options):
        pages = options.pop("error_pages", {})
        world = World(side=request.param, forwarding=options, error_pages=pages)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


def fields_of(message: bytes) -> dict[bytes, bytes]:
    lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}


def told(world: World, more: bytes = b"") -> dict[bytes, bytes]:
    """What the backend is told of a request with these lines."""
    client = world.client().send(REQUEST % more)
    fields = fields_of(world.backend().read())
    world.backend().send(OK)
    client.read()
    return fields


def test_a_stranger_is_not_believed(make):
    world = make(trusted_proxies=["10.0.0.0/8"])
    fields = told(world, CLAIMS)
    assert fields[b"x-forwarded-for"] == b"127.0.0.1"
    assert fields[b"x-forwarded-proto"] == world.scheme
    assert fields[b"x-forwarded-host"] == b"inner"
    assert fields[b"x-forwarded-port"] not in (b"443", b"")
    assert b"forwarded" not in fields


def test_a_trusted_proxy_is_believed_and_added(make):
    fields = told(make(trusted_proxies=["127.0.0.0/8"]), CLAIMS)
    assert fields[b"x-forwarded-for"] == b"6.6.6.6, 7.7.7.7, 127.0.0.1"
    assert fields[b"x-forwarded-proto"] == b"https"
    assert fields[b"x-forwarded-host"] == b"outer"
    assert fields[b"x-forwarded-port"] == b"443"
    assert fields[b"forwarded"] == (
        b"for=6.6.6.6, for=7.7.7.7;proto=https;host=outer, for=127.0.0.1;proto=https;host=outer"
    )


def test_a_trusted_proxy_that_says_nothing_is_the_client(make):
    fields = told(make(trusted_proxies=["127.0.0.1"]))
    assert fields[b"x-forwarded-for"] == b"127.0.0.1"
    assert fields[b"x-forwarded-host"] == b"inner"


def test_forwarded_is_sent_on_request(make):
    world = make(forwarded=True)
    ours = b"for=127.0.0.1;proto=%b;host=inner" % world.scheme
    assert told(world, CLAIMS)[b"forwarded"] == ours
    trusting = make(forwarded=True, trusted_proxies=["127.0.0.1"])
    assert told(trusting)[b"forwarded"] == ours
    assert told(trusting, b"Forwarded: for=6.6.6.6;proto=https\r\n")[b"forwarded"] == (
        b"for=6.6.6.6;proto=https, for=127.0.0.1;proto=https;host=inner"
    )


def test_what_a_stranger_says_in_the_names_of_proxies_is_removed_in_every_spelling(make):
    """X-Forwarded-Ssl alone makes gunicorn refuse the request, with our X-Forwarded-Proto beside it."""
    lines = b"".join(
        b"%b: 6.6.6.6\r\n" % name
        for name in b"X-Real-IP X_Real_IP X.Real.IP X-Forwarded-Ssl X-Forwarded-Prefix X.Forwarded.Server X-Forwarded-User "
        b"X_Forwarded_For x.forwarded.proto X_Request_Id".split()
    )
    world = make()
    client = world.client().send(REQUEST % (lines + b"X-Mine: 6\r\n"))
    request = world.backend().read()
    assert b"6.6.6.6" not in request
    assert b"mine: 6\r\n" in request.lower()
    world.backend().send(OK)
    client.read()


def test_what_a_trusted_proxy_says_in_those_names_passes_as_it_is_and_in_that_spelling_alone(make):
    fields = told(
        make(trusted_proxies=["127.0.0.1"]),
        b"X-Real-IP: 7.7.7.7\r\nX_Real_IP: 6.6.6.6\r\nX-Forwarded-Prefix: /app\r\nX.Forwarded.For: 6.6.6.6\r\n",
    )
    assert (fields[b"x-real-ip"], fields[b"x-forwarded-prefix"]) == (b"7.7.7.7", b"/app")
    assert fields[b"x-forwarded-for"] == b"127.0.0.1"
    assert not any(b"_" in name or b"." in name for name in fields)


def test_which_names_are_for_proxies_alone_is_configured(make):
    world = make(only_from_proxies=["X-User"])
    lines = b"X-Real-IP: 6.6.6.6\r\nX-User: root\r\nx_user: root\r\nX-Forwarded-For: 6.6.6.6\r\n"
    fields = told(world, lines)
    assert (fields[b"x-real-ip"], fields[b"x-forwarded-for"]) == (b"6.6.6.6", b"127.0.0.1")
    assert not any(b"user" in name for name in fields)


def test_x_real_ip_is_said_on_request(make):
    assert b"x-real-ip" not in told(make())
    assert told(make(real_ip=True, only_from_proxies=[]), b"X-Real-IP: 6.6.6.6\r\n")[b"x-real-ip"] == b"127.0.0.1"
    trusting = make(real_ip=True, trusted_proxies=["127.0.0.1"])
    assert told(trusting, b"X-Forwarded-For: 7.7.7.7\r\n")[b"x-real-ip"] == b"7.7.7.7"


def test_other_names_for_proxies_hold_from_the_next_request_on():
    world = World()
    client = world.client()
    for names, passed in (([], True), (["X-User"], False), ([], True)):
        world._options["forwarding"] = {"only_from_proxies": names}
        world.plane.apply(world._plan())
        client.send(REQUEST % b"X-User: me\r\n")
        assert (b"\r\nX-User: me\r\n" in world.backend().read()) is passed
        world.backend().send(OK)
        client.read()
    world.close()


def test_via_is_said_both_ways_on_request(make):
    world = make(via="lb")
    client = world.client().send(REQUEST % b"Via: 1.0 fred\r\n")
    request = world.backend().read()
    assert request.index(b": 1.0 fred\r\n") < request.index(b"Via: 1.1 lb\r\n")
    world.backend().send(OK)
    assert fields_of(client.read())[b"via"] == b"1.1 lb"
    assert b"via" not in told(make())


def test_a_request_id_is_passed_and_made_only_on_request(make):
    assert b"x-request-id" not in told(make())
    assert told(make(), b"X-Request-ID: mine\r\n")[b"x-request-id"] == b"mine"
    world = make(request_id="make")
    made = [told(world)[b"x-request-id"] for _ in range(3)]
    assert len(set(made)) == 3
    assert all(len(one) == 32 for one in made)
    assert told(world, b"x-request-id: mine\r\n")[b"x-request-id"] == b"mine"


def test_a_traceparent_is_passed_and_made_only_on_request(make):
    assert b"traceparent" not in told(make())
    world = make(traceparent="make")
    parts = told(world)[b"traceparent"].split(b"-")
    assert [len(part) for part in parts] == [2, 32, 16, 2]
    assert (parts[0], parts[3]) == (b"00", b"00")
    assert told(world, b"traceparent: theirs\r\n")[b"traceparent"] == b"theirs"


def test_every_attempt_has_the_same_id(make):
    world = make(request_id="make")
    world.client().send(REQUEST % b"")
    first = fields_of(world.backend().read())[b"x-request-id"]
    world.update("a:80", "b:80")
    world.backend().close()
    assert fields_of(world.backend().read())[b"x-request-id"] == first


def test_every_attempt_has_the_same_trace_and_a_span_of_its_own(make):
    # W3C trace context: the trace is that of the request, the parent id that of who sends it.
    world = make(traceparent="make")
    world.client().send(REQUEST % b"")
    spans = [fields_of(world.backend().read())[b"traceparent"].split(b"-")]
    world.update("a:80", "b:80")
    world.backend().close()
    spans.append(fields_of(world.backend().read())[b"traceparent"].split(b"-"))
    (_, trace, span, _), (_, again, other, _) = spans
    assert again == trace
    assert other != span


def refused(world: World, more: bytes) -> bytes:
    world.dial.refuse.update({"a:80"})
    return world.client().send(REQUEST % more).read()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"", b"text/plain"),
        (b"Accept: */*\r\n", b"text/plain"),
        (b"accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n", b"text/html"),
        (b"Accept: application/json\r\n", b"application/json"),
    ],
)
def test_an_error_answer_is_in_the_form_the_client_prefers(make, accept, kind):
    answer = refused(make(), accept + b"X-Request-ID: id-1\r\n")
    fields = fields_of(answer)
    body = answer.partition(b"\r\n\r\n")[2]
    assert fields[b"content-type"].startswith(kind)
    assert fields[b"x-request-id"] == b"id-1"
    assert int(fields[b"content-length"]) == len(body)
    assert b"502" in body
    assert b"id-1" in body
    assert b"a:80" not in answer
    if kind == b"application/json":
        assert json.loads(body) == {"status": 502, "error": "Bad Gateway", "request_id": "id-1"}


def test_an_error_answer_can_be_replaced(make, tmp_path):
    page = tmp_path / "sorry.html"
    page.write_text("<h1>sorry</h1>")
    answer = refused(make(error_pages={"502": str(page)}), b"Accept: application/json\r\n")
    assert answer.endswith(b"\r\n\r\n<h1>sorry</h1>")
    assert fields_of(answer)[b"content-type"].startswith(b"text/html")


def test_an_error_answer_to_head_has_no_body(make):
    world = make()
    world.dial.refuse.add("a:80")
    answer = world.client().send(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").read()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_cannot_write_into_an_error_answer(make):
    answer = refused(make(), b'Accept: text/html\r\nX-Request-ID: <script>"\\\r\n')
    assert b"<script>" not in answer
    assert b"_script___" in answer


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (b"text/html;q=0.1, application/json;q=0.9", b"application/json"),
        (b"text/html;q=0, text/plain", b"text/plain"),
        (b"application/problem+json", b"application/json"),
        (b"image/png", b"text/plain"),
        (b"text/html;q=nonsense", b"text/plain"),
        (b",,;;=,text/html", b"text/html"),
    ],
)
def test_preferences_are_weighed(accept, kind):
    assert preferred_type(accept) == kind


def test_accept_is_found_in_any_case():
    assert accept_of(b"Host: x\r\naCCept: y\r\n") == b"y"
    assert accept_of(b"Host: x\r\n") == b""


def test_ids_are_cut_and_cleaned():
    assert safe_id(b"a" * 300) == b"a" * 128
    assert safe_id(b"ok-1_2.3:4/5+6=@ \t\xff\"'<>{}") == b"ok-1_2.3:4/5+6=@_________"


def rules_trusting(*networks: str) -> ClientRules:
    config = LoadBalancerConfig(backends=["a:80"], forwarding={"trusted_proxies": networks})
    return plan_of(config).listeners[DEFAULT].rules


@pytest.mark.parametrize(
    ("address", "network", "trusted"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("2001:db8::1", "2001:db8::/32", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("unix", "0.0.0.0/0", False),
    ],
)
def test_trust_goes_by_address(address, network, trusted):
    assert rules_trusting(network).client(address, b"http", b"80").trusted is trusted


def test_an_ipv4_client_of_a_dual_stack_listener_is_named_as_ipv4():
    assert rules_trusting().client("::ffff:1.2.3.4", b"http", b"80").address == b"1.2.3.4"


def test_an_ipv6_client_is_quoted_in_forwarded():
    from messages import head_for_backend

    from twisted_lb.wire.grammar import Limits
    from twisted_lb.wire.origin import Client
    from twisted_lb.wire.request import parse_request_fields

    parsed = parse_request_fields(11, b"Host: h:8080", Limits())
    head = head_for_backend(parsed, Client(b"2001:db8::1"), Forwarding(forwarded=True))
    assert b'\r\nForwarded: for="[2001:db8::1]";proto=http;host="h:8080"\r\n' in head


# Half-closed clients, and small things of the RFC.


@pytest.fixture
def engine_world():
    worlds = []

    def one(**passing):
        world = World(**passing)
        worlds.append(world)
        return world

    yield one
    for world in worlds:
        world.close()


def test_a_half_closed_client_is_gone_unless_it_is_to_be_answered(engine_world):
    world = engine_world()
    client = world.client().send(REQUEST % b"")
    world.backend()
    client.shut()
    assert world.outcomes() == {"CLIENT_GONE": 1}


def test_a_half_closed_client_is_answered_where_that_is_configured(engine_world):
    world = engine_world(client_half_close="finish")
    client = world.client().send(REQUEST % b"" + REQUEST % b"")
    client.shut()
    for _ in range(2):
        world.backend().read()
        world.backend().send(OK)
    assert client.read().count(b"hello") == 2
    assert client.closed
    assert world.outcomes() == {"OK": 2}


def test_a_client_that_resets_is_gone_even_where_a_half_closed_one_is_answered(engine_world):
    world = engine_world(client_half_close="finish")
    client = world.client().send(REQUEST % b"")
    backend = world.backend()
    backend.read()
    client.shut()
    client.reset()
    backend.read()
    assert backend.closed or backend.was_reset
    assert world.outcomes() == {"CLIENT_GONE": 1}


def test_a_half_closed_client_is_answered_all_it_asked_for_whoever_answers(engine_world):
    """The first by the backend, the others by us, in one go."""
    world = engine_world(client_half_close="finish")
    client = world.client().send(4 * (REQUEST % b""))
    client.shut()
    world.dial.refuse.add("a:80")
    world.backend().read()
    world.backend().send(OK.replace(b"Date: now", b"Connection: close"))
    answers = client.read()
    assert answers.count(b"HTTP/1.1 ") == 4
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert client.closed


def test_half_a_request_and_a_fin_is_nobody(engine_world):
    world = engine_world(client_half_close="finish")
    client = world.client().send(b"GET / HTTP/1.1\r\nHo")
    client.shut()
    assert client.read() == b""
    assert client.closed


def test_a_date_is_added_where_the_origin_omits_it(engine_world):
    world = engine_world()
    client = world.client().send(REQUEST % b"")
    world.backend().send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(client.read())[b"date"] == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_an_expectation_of_http_1_0_goes_no_further(engine_world):
    world = engine_world()
    client = world.client().send(b"POST / HTTP/1.0\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na")
    assert b"xpect" not in world.backend().read()
    world.backend().send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK)
    assert client.read().startswith(b"HTTP/1.1 200 ")


def test_an_expectation_that_nobody_answers_does_not_stop_the_body(engine_world):
    world = engine_world()
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    first = world.backend()
    assert first.read().endswith(b"\r\n\r\n")
    client.send(b"abc")
    assert first.read() == b"abc"
    first.send(OK)
    assert client.read().endswith(b"hello")


def test_an_expectation_follows_its_request_to_the_next_backend(engine_world):
    world = engine_world()
    world.update("a:80", "b:80")
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    world.backend().read()
    world.backend().close()
    second = world.backend()
    assert b"Expect: 100-continue\r\n" in second.read()
    second.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert second.read() == b"abc"
    second.send(OK)
    assert client.read().endswith(b"hello")


def test_a_final_answer_to_an_expectation_closes_the_upload(engine_world):
    world = engine_world()
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    world.backend().read()
    world.backend().send(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(client.read())[b"connection"] == b"close"
    assert client.closed
