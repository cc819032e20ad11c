"""The mirror (shadow traffic): who is mirrored, what the other pool gets, and that no client notices any of it."""

import pytest
from doubled import Doubled
from house import GET

from twisted_lb.admin.metrics import metrics_text
from twisted_lb.answers import routed_json
from twisted_lb.core.measures import MirrorMeasures, ProcessMeasures
from twisted_lb.core.outcome import Outcome
from twisted_lb.self_check import broken
from twisted_lb.testing import NEVER_ANSWER, RESET, Wait, response

POST = b"POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK"
CHUNKED_HEAD = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def build():
    houses = []

    def make(**options):
        houses.append(Doubled(**options))
        return houses[-1]

    yield make
    for one in houses:
        assert broken(one.plane.frontends.values(), one.plane.clusters.values()) == []
        running = one.counted
        one.close()
        assert running.running == 0
        assert not one.next.mirrors


@pytest.fixture
def two(build):
    return build()


def head_of(request: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    line, *lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    return line, dict(one.split(b": ", 1) for one in lines)


# What the other pool gets.


def test_a_request_goes_to_both_and_the_client_hears_one(two):
    live, mirror = two.both(mirror=[response(b"mirrored")])
    client = two.ask()
    assert client.received.startswith(OK)
    assert b"mirrored" not in client.received
    assert (len(live.requests), len(mirror.requests)) == (1, 1)
    assert (two.counted.sent, two.counted.running, two.unsent, two.outcomes) == (1, 0, {}, {"OK": 1})


def test_the_mirrored_head_is_that_of_the_original_and_says_what_it_is(two):
    live, mirror = two.both()
    two.ask(b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nX-Own: 1\r\nX-Request-ID: abc\r\n\r\n")
    line, fields = head_of(mirror.requests[0])
    own_line, own = head_of(live.requests[0])
    assert line == own_line
    assert fields == {**own, b"X-Mirrored": b"default"}
    assert fields[b"Host"] == b"shop.example", "its Host is not marked: the other pool may go by it"


def test_it_is_made_by_the_rules_of_the_route(build):
    house = build(
        route={
            "strip_prefix": "/api",
            "set_request_headers": {"X-To": "{pool}/{backend}/{request_id}"},
            "forwarding": {"host": "backend", "request_id": "make"},
        }
    )
    live, mirror = house.both()
    house.ask(b"GET /api/a HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    (line, fields), (_, own) = head_of(mirror.requests[0]), head_of(live.requests[0])
    assert line == b"GET /a HTTP/1.1"
    assert fields[b"Host"] == b"m:80"
    assert fields[b"X-Request-ID"] == own[b"X-Request-ID"], "by which they are found together"
    assert fields[b"X-To"] == b"next/m:80/" + own[b"X-Request-ID"]
    assert own[b"X-To"] == b"default/a:80/" + own[b"X-Request-ID"]


@pytest.mark.parametrize("size", [5, 4000])
def test_a_body_goes_with_it(two, size):
    live, mirror = two.both()
    body = bytes(range(256)) * 16
    client = two.client()
    client.send(b"POST /w HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + body[: size // 2])
    two.clock.settle()
    assert mirror.connections == [], "it is sent when it is complete"
    client.send(body[size // 2 : size])
    two.clock.settle()
    assert mirror.requests[0].partition(b"\r\n\r\n")[2] == body[:size]
    assert live.requests[0].partition(b"\r\n\r\n")[2] == body[:size]


def test_a_chunked_body_goes_with_it_and_its_trailers(two):
    live, mirror = two.both()
    two.ask(CHUNKED_HEAD + b"5\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert mirror.requests[0].partition(b"\r\n\r\n")[2] == live.requests[0].partition(b"\r\n\r\n")[2]
    assert b"X-Sum: 7" in mirror.requests[0]


def test_a_head_of_http_1_0_without_host_has_that_of_the_mirror(two):
    _, mirror = two.both()
    two.ask(b"GET / HTTP/1.0\r\n\r\n")
    line, fields = head_of(mirror.requests[0])
    assert (line, fields[b"Host"]) == (b"GET / HTTP/1.1", b"m:80")


def test_an_answer_to_head_has_no_body(two):
    _, mirror = two.both()
    for _ in range(2):
        two.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (len(mirror.requests), len(mirror.connections), two.outcomes) == (2, 1, {"OK": 2})


# Who is mirrored.


def test_methods_that_change_something_are_not_mirrored_unless_somebody_says_so(build):
    house = build(methods=["GET", "HEAD"])
    live, mirror = house.both()
    house.ask(POST)
    house.ask(GET)
    house.ask(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (len(live.requests), len(mirror.requests), house.unsent) == (3, 2, {})


@pytest.mark.parametrize(("percent", "least", "most"), [(0.0, 0, 0), (100.0, 400, 400), (25.0, 70, 130)])
def test_a_share_of_requests_is_mirrored(build, percent, least, most):
    # Binomial: 400 draws at 25 % have a standard deviation of 8.7; the seed is fixed.
    house = build(percent=percent)
    house.both()
    client = house.client()
    for _ in range(400):
        house.ask(GET, client)
    assert least <= house.counted.sent <= most
    assert house.counted.sent == sum(house.outcomes.values())


def test_the_draw_moves_no_other_chance(build):
    picked = []
    for percent in (0.0, 50.0, 100.0):
        house = build(
            percent=percent,
            live={"backends": ["a:80", "b:80"], "policy": "rand"},
            route={"forwarding": {"request_id": "make"}},
        )
        house.both()
        house.backend("b:80")
        for _ in range(40):
            house.ask()
        picked.append([(one.attempts[0].lease.backend.name, one.request_id) for one in house.records])
    assert picked[0] == picked[1] == picked[2]
    assert len({name for name, _ in picked[0]}) == 2


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Negotiate abc=\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Mirrored: elsewhere\r\n\r\n",
    ],
    ids=["a tunnel", "a login on a connection", "what was mirrored already"],
)
def test_what_cannot_be_sent_twice_is_not_mirrored(two, request_):
    live, mirror = two.both()
    two.ask(request_)
    assert (len(live.requests), mirror.connections, two.unsent) == (1, [], {})


def test_a_client_with_a_connection_of_its_own_is_not_mirrored(two):
    challenge = response(b"", 401, b"WWW-Authenticate: NTLM")
    live, mirror = two.both(live=[challenge, response()])
    client = two.ask()
    assert (two.counted.sent, len(mirror.requests)) == (1, 1), "nothing was known of it yet"
    two.ask(GET, client)
    assert (len(live.requests), len(live.connections)) == (2, 1)
    assert (two.counted.sent, len(mirror.requests), two.counted.running) == (1, 1, 0)


def test_a_mirror_of_the_mirror_s_pool_is_for_its_own_requests_alone(build):
    house = build(following={"mirror": {"to": "default"}})
    live, mirror = house.both()
    house.ask()
    assert (len(live.requests), len(mirror.requests)) == (1, 1)


def test_a_mirror_that_goes_by_how_bodies_begin_knows_how_this_one_does(build):
    policy = {"choose": "prefix", "block_bytes": 64}
    house = build(following={"backends": ["m:80", "n:80"], "policy": policy}, body_bytes=100_000)
    house.backend("a:80")
    places = [house.backend(name) for name in ("m:80", "n:80")]
    for prompt in (b"a", b"b", b"a", b"a", b"b", b"b", b"a"):
        house.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 640\r\n\r\n" + prompt * 640)
    asked = [{one[-1:] for one in place.requests} for place in places]
    assert sorted(map(len, asked)) in ([1, 1], [0, 2])
    assert house.next.pool.prefixes["policy"].matched == 50


def test_no_more_than_so_many_are_under_way(build):
    house = build(most=2)
    live, mirror = house.both(mirror=[NEVER_ANSWER, NEVER_ANSWER, NEVER_ANSWER])
    for _ in range(5):
        assert house.ask().received.startswith(OK)
    assert (len(live.requests), len(mirror.requests)) == (5, 2)
    assert (house.counted.running, house.unsent) == (2, {"BUSY": 3})


def test_a_request_whose_body_is_coming_is_under_way(build):
    house = build(most=1)
    house.both()
    slow = house.ask(POST[:-1])
    house.ask(POST)
    assert (house.counted.sent, house.unsent) == (0, {"BUSY": 1})
    house.ask(b"o", slow)
    assert (house.counted.sent, house.counted.running) == (1, 0)


def test_a_long_body_is_not_mirrored(build):
    house = build(body_bytes=4)
    live, mirror = house.both()
    house.ask(POST)
    house.ask(CHUNKED_HEAD + b"2\r\nab\r\n")
    assert house.counted.running == 1
    client = house.ask(CHUNKED_HEAD + b"2\r\nab\r\n3\r\nabc\r\n0\r\n\r\n")
    assert client.received.startswith(OK)
    assert (len(live.requests), mirror.connections, house.unsent) == (2, [], {"TOO_LONG": 2})
    assert house.counted.running == 1


def test_a_body_as_long_as_the_bound_is(build):
    house = build(body_bytes=5)
    _, mirror = house.both()
    house.ask(POST)
    house.ask(CHUNKED_HEAD + b"5\r\nhello\r\n0\r\n\r\n")
    assert (len(mirror.requests), house.unsent) == (2, {})


# Whatever becomes of it.


def test_a_client_that_leaves_before_its_body_is_complete_is_not_mirrored(two):
    _, mirror = two.both()
    two.ask(POST[:-1]).close()
    two.clock.settle()
    assert (mirror.connections, two.unsent, two.counted.running) == ([], {"INCOMPLETE": 1}, 0)


def test_a_client_that_leaves_after_that_changes_nothing(two):
    _, mirror = two.both(live=[NEVER_ANSWER], mirror=[[Wait(2.0), response()]])
    two.ask(POST).close()
    two.wait(3.0)
    assert (len(mirror.requests), two.outcomes) == (1, {"OK": 1})


def test_a_request_that_is_answered_before_its_end_is_not_mirrored(two):
    live = two.backend("a:80", [response(b"", 413)], early=True)
    mirror = two.backend("m:80")
    client = two.ask(POST[:-1])
    assert client.received.startswith(b"HTTP/1.1 413")
    assert len(live.connections) == 1
    assert (mirror.connections, two.unsent, two.counted.running) == ([], {"INCOMPLETE": 1}, 0)


def test_a_broken_body_is_not_mirrored(two):
    _, mirror = two.both()
    two.ask(CHUNKED_HEAD + b"zz\r\n")
    assert (mirror.connections, two.unsent) == ([], {"INCOMPLETE": 1})


def test_it_is_mirrored_once_whatever_is_retried(build):
    house = build(live={"backends": ["a:80", "b:80"]})
    first, second = house.backend("a:80", [RESET]), house.backend("b:80", [RESET])
    mirror = house.backend("m:80")
    house.ask()
    assert len(first.requests) + len(second.requests) == 2
    assert len(mirror.requests) == 1


def test_it_is_mirrored_where_the_original_finds_nobody(two):
    mirror = two.backend("m:80")
    client = two.ask()
    assert client.received.startswith(b"HTTP/1.1 502")
    assert len(mirror.requests) == 1


def test_it_does_not_wait_while_the_original_does(build):
    house = build(live={"max_in_flight": 1, "queue": {"timeout_s": 50.0, "no_backend_s": 0.0}})
    live, mirror = house.both(live=[[Wait(5.0), response()]])
    house.ask()
    waiting = house.ask()
    assert (len(live.requests), len(mirror.requests), waiting.received) == (1, 2, b"")
    house.wait(6)
    assert waiting.received.startswith(OK)


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (RESET, "NO_RESPONSE"),
        (b"nonsense\r\n\r\n", "BAD_RESPONSE"),
        (NEVER_ANSWER, "TIMED_OUT"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", RESET], "CUT_SHORT"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "BAD_RESPONSE"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", response()], "OK"),
        (response(b"", 500), "OK"),
        (response(b"", 503), "BAD_STATUS"),
    ],
)
def test_whatever_the_other_pool_does_is_its_own_and_the_client_notices_nothing(build, script, outcome):
    house = build(following={"retry": {"bad_statuses": [503]}}, timeout_s=4.0)
    live, mirror = house.both(mirror=[script])
    client = house.ask(POST)
    assert client.received.startswith(OK)
    house.wait(5.0)
    assert (len(live.requests), len(mirror.requests), house.outcomes) == (1, 1, {outcome: 1})
    assert house.record.attempts[0].lease.backend.name == "a:80"
    assert len(house.record.attempts) == 1
    house.ask(GET, client)
    assert client.received.count(OK) == 2


def test_a_refused_connect_ejects_there_as_usual_and_a_mirrored_request_is_the_trial(two):
    two.backend("a:80")
    two.ask()
    [backend] = two.next.pool.backends.values()
    assert (backend.ejection.active, two.outcomes) == (True, {"REFUSED": 1})
    two.ask()
    assert two.unsent == {"NO_PLACE": 1}
    two.backend("m:80")
    two.wait(2.0)
    two.ask()
    assert (backend.ejection.active, two.outcomes) == (False, {"REFUSED": 1, "OK": 1})


def test_a_connect_that_hangs_is_given_up_in_time(build):
    house = build(timeout_s=3.0)
    house.backend("a:80")
    house.network.hang("m:80")
    assert house.ask().received.startswith(OK)
    house.wait(3.5)
    assert (house.outcomes, house.counted.running) == ({"CONNECT_TIMEOUT": 1}, 0)


def test_nobody_waits_in_the_queue_of_the_other_pool(build):
    house = build(following={"max_in_flight": 1, "queue": {"timeout_s": 50.0, "no_backend_s": 50.0}})
    _, mirror = house.both(mirror=[NEVER_ANSWER])
    house.ask()
    house.ask()
    assert (len(mirror.requests), house.next.pool.waiting, house.unsent) == (1, 0, {"NO_PLACE": 1})


def test_it_overtakes_nobody_who_waits_there(build):
    house = build(following={"max_in_flight": 1, "queue": {"timeout_s": 50.0}})
    house.apply(routes=[{"name": "next", "path_prefix": "/next", "pool": "next"}])
    _, mirror = house.both(mirror=[[Wait(1.0), response()], [Wait(1.0), response()]])
    house.ask(b"GET /next/1 HTTP/1.1\r\nHost: x\r\n\r\n")
    waiting = house.ask(b"GET /next/2 HTTP/1.1\r\nHost: x\r\n\r\n")
    house.ask()
    assert house.unsent == {"NO_PLACE": 1}
    house.wait(2.5)
    assert waiting.received.startswith(OK)
    assert len(mirror.requests) == 2


def test_its_lease_counts_there_and_its_end_lets_others_in(build):
    house = build(following={"max_in_flight": 1, "queue": {"timeout_s": 50.0}})
    house.apply(routes=[{"name": "next", "path_prefix": "/next", "pool": "next"}])
    _, mirror = house.both(mirror=[[Wait(2.0), response()]])
    house.ask()
    client = house.ask(b"GET /next/1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (house.next.pool.leases, house.next.pool.waiting) == (1, 1)
    house.wait(2.1)
    assert client.received.startswith(OK)
    assert len(mirror.requests) == 2


def test_a_long_answer_is_cut_without_blame(two):
    _, mirror = two.both(mirror=[response(bytes(3_000_000))])
    two.ask()
    two.wait(1.0)
    [backend] = two.next.pool.backends.values()
    assert (two.outcomes, backend.failures, two.next.open) == ({"CANCELLED": 1}, 0, 0)
    assert not mirror.connections[0].open


def test_an_answer_that_takes_long_is_cut_without_blame(build):
    house = build(timeout_s=5.0)
    piece = b"5\r\nhello\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    house.both(mirror=[[head, *[step for _ in range(20) for step in (piece, Wait(1.0))]]])
    house.ask()
    house.wait(4.5)
    assert house.counted.running == 1
    house.wait(1.0)
    [backend] = house.next.pool.backends.values()
    assert (house.outcomes, backend.failures, house.next.open) == ({"CANCELLED": 1}, 0, 0)


def test_an_answer_that_goes_silent_is_the_backend_s_fault(build):
    house = build(timeout_s=50.0, route={"timeouts": {"response_idle_s": 2.0}})
    house.both(mirror=[[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", NEVER_ANSWER]])
    house.ask()
    house.wait(3.0)
    assert house.outcomes == {"CUT_SHORT": 1}


def test_connections_are_kept_and_used_again(two):
    _, mirror = two.both()
    client = two.client()
    for _ in range(3):
        two.ask(POST, client)
    assert (len(mirror.requests), len(mirror.connections)) == (3, 1)


def test_a_kept_connection_that_was_closed_costs_that_one_mirrored_request(two):
    two.both(mirror=[response(), RESET, response()])
    for _ in range(3):
        two.ask()
    assert two.outcomes == {"OK": 2, "STALE_REUSE": 1}


# What is counted.


def test_it_is_no_request_of_the_listener(two):
    two.both()
    two.ask()
    assert (len(two.records), sum(one.begun for one in two.frontend.flows.all)) == (1, 1)
    assert {(one.route, one.pool) for one in two.frontend.flows.all} == {("default", "default")}


def test_its_answer_is_one_of_the_backend(two):
    two.both(mirror=[[Wait(0.5), response(b"", 404)]])
    two.ask()
    two.wait(1.0)
    measures = two.plane.measures()
    [following] = [one for one in measures.pools if one.name == "next"]
    [backend] = following.backends
    assert (backend.answers[4], backend.duration.count, following.first_byte.count) == (1, 1, 1)
    [live] = [one for one in measures.pools if one.name == "default"]
    assert (live.mirror, following.mirror) == (MirrorMeasures(sent=1, running=0, unsent=(0, 0, 0, 0)), None)


# Stops and changes.


def test_at_a_stop_they_are_cut_and_nobody_waits_for_them(two):
    two.both(mirror=[NEVER_ANSWER])
    client = two.ask()
    client.close()
    two.clock.settle()
    assert two.counted.running == 1
    drained = two.plane.drain(8.0)
    two.wait(0.1)
    assert drained.called
    [backend] = two.next.pool.backends.values()
    two.end()
    assert (two.next.pool.leases, two.counted.running) == (0, 0)
    assert (backend.outcomes[Outcome.CANCELLED], sum(backend.outcomes)) == (1, 1)


def test_one_whose_connect_is_under_way_is_cut_too(two):
    two.backend("a:80")
    two.network.hang("m:80")
    two.ask()
    assert two.counted.running == 1
    two.end()
    assert (two.next.pool.leases, two.counted.running) == (0, 0)


def test_one_whose_body_is_coming_when_all_is_closed_is_not_sent(two):
    _, mirror = two.both()
    two.ask(POST[:-1])
    two.end()
    two.clock.settle()
    assert (mirror.requests, two.unsent, two.counted.running) == ([], {"INCOMPLETE": 1}, 0)


def test_another_share_holds_from_the_next_request_on(two):
    _, mirror = two.both()
    client = two.ask()
    two.change(percent=0.0)
    two.ask(GET, client)
    assert len(mirror.requests) == 1
    two.change(percent=100.0, methods=["PUT"])
    two.ask(GET, client)
    assert len(mirror.requests) == 1


def test_a_mirror_that_is_gone_gets_nothing_more(two):
    live, mirror = two.both(mirror=[[Wait(3.0), response()]])
    client = two.ask()
    two.without_mirror()
    two.ask(GET, client)
    assert (len(live.requests), len(mirror.requests)) == (2, 1)
    two.wait(4.0)
    assert (two.counted.running, two.next.over, list(two.plane.leaving.clusters)) == (0, True, [])


def test_a_mirror_whose_pool_is_gone_for_too_long_is_cut(build):
    house = build(timeout_s=1000.0)
    house.both(mirror=[NEVER_ANSWER])
    house.ask()
    house.without_mirror(timeouts={"drain_s": 3.0})
    house.wait(2.0)
    assert house.counted.running == 1
    house.wait(2.0)
    assert (house.counted.running, house.next.over, list(house.plane.leaving.clusters)) == (0, True, [])


def test_a_body_that_is_coming_when_the_mirror_goes_is_sent_nowhere(two):
    live, mirror = two.both()
    client = two.ask(POST[:-1])
    two.without_mirror()
    two.ask(b"o", client)
    assert client.received.startswith(OK)
    assert (len(live.requests), mirror.requests, two.unsent, two.counted.running) == (1, [], {"NO_PLACE": 1}, 0)


def test_another_pool_is_mirrored_to_after_a_reload(two):
    _, mirror = two.both()
    other = two.backend("o:80")
    client = two.ask()
    two.mirror_options = {**two.mirror_options, "to": "other"}
    tables = two.tables()
    tables["pools"]["other"] = {**tables["pools"]["next"], "backends": ["o:80"]}
    two.apply(**tables)
    two.ask(GET, client)
    assert (len(mirror.requests), len(other.requests), two.counted.sent) == (1, 1, 2)


def test_metrics_tell_of_the_pool_that_is_mirrored(build):
    house = build(most=1)
    house.both(mirror=[NEVER_ANSWER])
    house.ask()
    house.ask()
    process = ProcessMeasures("0", "3", False, 1.0)
    told = [line for line in metrics_text(house.plane.measures(), process).decode().splitlines() if "mirror" in line]
    assert [line.removeprefix("twisted_lb_") for line in told if line[0] != "#"] == [
        'mirrored_total{pool="default"} 1.0',
        'mirrored_not_total{pool="default",reason="busy"} 1.0',
        'mirrored_not_total{pool="default",reason="too_long"} 0.0',
        'mirrored_not_total{pool="default",reason="incomplete"} 0.0',
        'mirrored_not_total{pool="default",reason="no_place"} 0.0',
        'mirrors_in_flight{pool="default"} 1.0',
    ]


def test_what_two_processes_have_mirrored_adds_up():
    one, other = MirrorMeasures(3, 1, (1, 0, 0, 2)), MirrorMeasures(4, 0, (0, 5, 0, 1))
    assert one.merged(other) == MirrorMeasures(7, 1, (1, 5, 0, 3))


def test_whoever_asks_where_a_request_goes_is_told_where_it_goes_too(build):
    house = build(percent=25.0, methods=["POST"])
    posted, got = (house.plane.route(method, "http://x/a") for method in ("POST", "GET"))
    assert (posted.pool, posted.mirror, posted.mirror_percent) == ("default", "next", 25.0)
    assert (got.pool, got.mirror, got.mirror_percent) == ("default", None, 0.0)
    assert routed_json(posted)["mirror"] == "next"
    assert house.counted.sent == 0
