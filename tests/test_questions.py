"""What an operator asks of a running balancer: why that backend, why that answer, and where would this request go."""

import dataclasses
import gc
import re
from types import FunctionType, ModuleType

import pytest
from http2_house import Http2House
from hypothesis import given
from hypothesis import strategies as st
from route_tables import MATCH, REQUESTS
from routing_oracle import LIMITS
from some import examples

from twisted_lb.answers import explained_json
from twisted_lb.build_info import build
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import key_of
from twisted_lb.core.attempts import Attempts
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.notes import FAILED, RECENT, SLOWEST, SLOWEST_OF_S
from twisted_lb.core.standing import Skipped
from twisted_lb.net.client_connection import ClientConnection
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.exchange import Exchange
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.http1 import Http1
from twisted_lb.net.http1_upstream import Http1Upstream
from twisted_lb.net.route import Lead, Route
from twisted_lb.net.routing import Action, RouteTable
from twisted_lb.plan import plan_of
from twisted_lb.questions import _head
from twisted_lb.testing import (
    CLOSE,
    NEVER_ANSWER,
    Balanced,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    Wait,
)
from twisted_lb.testing.balanced import runtime_of
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import RequestFields, RequestHead

OK = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\n\r\nok"


def get(path: str = "/", *lines: str, request_id: str = "mine", host: str = "x", method: str = "GET") -> bytes:
    told = (f"X-Request-ID: {request_id}",) if request_id else ()
    return "\r\n".join((f"{method} {path} HTTP/1.1", f"Host: {host}", *told, *lines, "", "")).encode()


@pytest.fixture
def make(build):
    return build


# Why that backend.


def test_a_plain_request_tells_its_backend_and_why_it_was_that_one(make):
    house = make("a:80", "b:80")
    house.backend("a:80", [OK])
    house.ask(get("/v1?secret=1"))
    told = house.plane.explain("mine")
    assert told is not None
    assert (told.method, told.path, told.query, told.status, told.outcome) == ("GET", "/v1", True, 200, "OK")
    assert (told.listener, told.route, told.pool, told.running) == ("default", "default", "default", False)
    assert told.client == house.record.client
    [attempt] = told.attempts
    assert (attempt.backend, attempt.outcome, attempt.number, attempt.reused) == ("a:80", "OK", 1, False)
    assert attempt.decision.rule == "in turn: its turn, number 1 of 2"
    assert [(one.backend_name, one.load) for one in told.candidates] == [("a:80", 0), ("b:80", 0)]
    assert (told.skipped, told.note) == ((), ())


def test_a_kept_connection_is_said_to_be_one(make):
    house = make("a:80")
    house.backend("a:80", [OK, OK])
    client = house.ask(get(request_id="one"))
    house.ask(get(request_id="two"), client)
    assert [house.plane.explain(name).attempts[0].reused for name in ("one", "two")] == [False, True]
    assert house.plane.explain("two").attempts[0].connect_s == 0.0


def test_an_attempt_says_over_which_protocol_it_went(make):
    house = make("a:80")
    house.backend("a:80", [OK])
    house.ask(get())
    [attempt] = house.plane.explain("mine").attempts
    assert (attempt.protocol, attempt.stream) == ("HTTP/1.1", None)


def test_an_attempt_without_a_connection_went_over_none(make):
    house = make("a:80")
    house.ask(get())
    [attempt] = house.plane.explain("mine").attempts
    assert (attempt.outcome, attempt.protocol, attempt.stream) == ("REFUSED", "", None)


@pytest.fixture
def speaking():
    """Makes balancers that speak HTTP/2 with their backends."""
    made = []

    def one(*names, **options):
        made.append(Http2House(*names, **options))
        return made[-1]

    yield one
    for house in made:
        house.close()


def test_an_attempt_over_http2_tells_its_stream_be_the_request_plain_or_slow(speaking):
    house = speaking("a:80")
    held = []
    backend = house.http2("a:80", [lambda one: one.answer(), held.append, lambda one: one.answer()])
    client = house.ask(get(request_id="one"))
    slow = house.ask(get(request_id="two"))
    house.ask(get(request_id="three"), client)
    running = house.plane.explain("two").attempts[0]
    assert (running.outcome, running.protocol, running.stream) == ("", "HTTP/2", 3)
    house.wait(1.0)
    held[0].answer()
    house.wait(0.0)
    told = [house.plane.explain(name).attempts[0] for name in ("one", "two", "three")]
    assert [(one.outcome, one.protocol, one.stream, one.reused) for one in told] == [
        ("OK", "HTTP/2", 1, False), ("OK", "HTTP/2", 3, True), ("OK", "HTTP/2", 5, True)
    ]  # fmt: skip
    assert len(backend.connections) == 1
    assert slow.open
    assert [explained_json(house.plane.explain(name))["attempts"][0]["stream"] for name in ("one", "three")] == [1, 5]


def test_each_of_several_attempts_tells_its_own_stream(speaking):
    house = speaking("a:80", "b:80")
    house.http2("a:80", [lambda one: one.answer(), lambda one: one.give_up(7)])
    house.http2("b:80")
    client = house.ask(get(request_id="one"))
    house.ask(get(request_id="two"), client)
    house.ask(get(request_id="mine"), client)
    told = house.plane.explain("mine").attempts
    assert [(one.backend, one.outcome, one.stream) for one in told] == [("a:80", "UNPROCESSED", 3), ("b:80", "OK", 3)]


def test_a_switch_that_is_not_offered_was_asked_of_nobody_who_speaks_http1(speaking):
    house = speaking("a:80")
    house.http2("a:80")
    house.ask(get("/", "Connection: Upgrade", "Upgrade: websocket"))
    [attempt] = house.plane.explain("mine").attempts
    assert (attempt.outcome, attempt.protocol, attempt.stream) == ("NO_SWITCH", "HTTP/2", None)


def test_the_times_of_a_request_are_told_part_by_part(make):
    house = make("a:80")
    house.backend("a:80", [[Wait(2.0), OK[:-1], Wait(0.5), OK[-1:]]])
    house.ask(get())
    house.wait(3.0)
    told = house.plane.explain("mine")
    [attempt] = told.attempts
    assert (attempt.queue_s, attempt.connect_s) == (0.0, pytest.approx(0.0, abs=0.1))
    assert (attempt.first_byte_s, attempt.rest_s) == (pytest.approx(2.0, abs=0.1), pytest.approx(0.5, abs=0.1))
    assert (attempt.began_s, attempt.took_s) == (0.0, pytest.approx(2.5, abs=0.1))
    assert told.took_s == pytest.approx(2.5, abs=0.1)
    assert told.head_s == pytest.approx(2.0, abs=0.1)


def test_a_retried_request_tells_each_attempt_and_why_there_was_another(make):
    house = make("a:80", "b:80")
    house.backend("a:80", [CLOSE])
    house.backend("b:80", [OK])
    house.ask(get())
    told = house.plane.explain("mine")
    first, second = told.attempts
    assert (first.backend, first.outcome, first.retried) == ("a:80", "NO_RESPONSE", "")
    assert first.reason
    assert (second.backend, second.outcome, second.number, second.most) == ("b:80", "OK", 2, 3)
    assert second.retried == "after NO_RESPONSE this one may be repeated by its method"
    assert second.budget_left == house.pool.budget.left
    assert {one.backend_name: one.skipped for one in second.decision.candidates} == {
        "a:80": Skipped.TRIED,
        "b:80": None,
    }
    assert (told.status, told.outcome) == (200, "OK")
    assert [one.id for one in house.plane.explained("failed", 9)] == ["mine"]


def test_a_request_that_may_be_sent_again_by_what_happened_says_so(make):
    house = make("a:80", "b:80")
    house.backend("b:80", [OK])
    house.ask(get(method="POST"))
    told = house.plane.explain("mine")
    assert [one.outcome for one in told.attempts] == ["REFUSED", "OK"]
    assert told.attempts[1].retried == "after REFUSED any request may be sent again: no backend has begun it"


@pytest.mark.parametrize(
    ("method", "retry", "why"),
    [
        ("POST", {}, "its method must not be repeated, and the backend may have begun"),
        ("GET", {"more_attempts": 0}, "it had all the attempts that its route allows"),
        ("GET", {"budget_percent": 0, "budget_per_s": 0}, "the retry budget of the pool was spent"),
    ],
)
def test_a_request_that_was_not_tried_again_says_why(make, method, retry, why):
    house = make("a:80", "b:80", retry=retry)
    house.backend("a:80", [CLOSE])
    house.backend("b:80", [OK])
    house.ask(get(method=method))
    told = house.plane.explain("mine")
    assert (told.status, told.outcome) == (502, "NO_RESPONSE")
    assert told.note == (f"not tried again: {why}",)


def test_a_refused_request_tells_that_it_has_waited_and_who_was_full(make):
    house = make("a:80")
    bounded = dataclasses.replace(
        house.pool.settings, max_in_flight=1, max_queued=5, queue_timeout_s=2.0, no_backend_s=2.0
    )
    house.pool.configure(bounded, house.clock.seconds())
    house.backend("a:80", [NEVER_ANSWER])
    first = house.ask(get(request_id="first"))
    house.ask(get())
    waiting = house.plane.explain("mine")
    assert (waiting.running, waiting.status, waiting.attempts) == (True, 0, ())
    assert waiting.note[0].startswith("it waits in the queue for 0.00 s, and may for 2.00 s more")
    house.wait(3.0)
    told = house.plane.explain("mine")
    assert (told.status, told.outcome, told.local_reply, told.attempts) == (503, "ALL_FULL", True, ())
    assert [(one.backend_name, one.skipped, one.load, one.limit) for one in told.skipped] == [
        ("a:80", Skipped.FULL, 1, 1)
    ]
    assert told.queue_s == pytest.approx(2.0, abs=0.3)
    assert "no backend was asked" in told.note
    assert told.decision.rule == "of 1 none could be picked: 1 as many requests in flight as it may have"
    first.close()
    house.clock.settle()


def test_a_request_that_waited_and_was_served_tells_how_long(make):
    house = make("a:80", queue={"no_backend_s": 5.0})
    house.ask(get())
    house.wait(0.2)
    house.backend("a:80", [OK])
    house.wait(4.0)
    told = house.plane.explain("mine")
    assert told.status == 200
    assert told.attempts[-1].queue_s > 0.0
    assert told.attempts[-1].retried == "after REFUSED nobody was left, and it waited like a new request"
    assert any(one.startswith("it came to the queue as number 1") for one in told.note)


def test_a_request_that_waited_and_met_nothing_else_tells_that_it_did(make):
    house = make("a:80", queue={"no_backend_s": 5.0})
    house.backend("a:80")
    for _ in range(3):
        house.cluster.observe_probe("a:80", False, "status 500")
    house.ask(get())
    house.wait(0.5)
    house.cluster.observe_probe("a:80", True, "")
    house.cluster.observe_probe("a:80", True, "")
    house.wait(0.5)
    told = house.plane.explain("mine")
    assert (told.status, told.attempts[0].queue_s) == (200, pytest.approx(0.5, abs=0.1))
    assert told.note == (f"it came to the queue as number 1, and waited {told.queue_s:.2f} s",)
    assert house.plane.explained("failed", 9) == ()


@pytest.mark.parametrize("state", [AdminState.DRAIN, AdminState.MAINT])
def test_a_backend_that_is_taken_out_is_said_to_be_and_by_which_word(make, state):
    house = make("a:80", "b:80")
    house.backend("b:80", [OK])
    house.plane.command("default", "a:80", state)
    house.wait(1.0)
    house.ask(get())
    [skipped] = house.plane.explain("mine").skipped
    assert (skipped.backend_name, skipped.skipped, skipped.admin) == ("a:80", Skipped.ADMIN, state.value)
    assert skipped.for_s == pytest.approx(1.0)
    house.plane.command("default", "a:80", AdminState.READY)
    assert house.plane.explain("mine").skipped == (skipped,)


def test_an_ejected_backend_is_said_to_be_with_what_it_met_and_when_a_trial_is_due(make):
    house = make("a:80", "b:80")
    house.backend("b:80", [OK, OK])
    house.ask(get(request_id="first"))
    house.wait(0.25)
    house.ask(get())
    [skipped] = house.plane.explain("mine").skipped
    assert (skipped.backend_name, skipped.skipped) == ("a:80", Skipped.EJECTED)
    assert "refused" in skipped.reason.lower()
    assert (skipped.for_s, skipped.left_s) == (pytest.approx(0.25, abs=0.05), pytest.approx(0.75, abs=0.05))


def test_an_unhealthy_backend_is_said_to_be_with_what_its_check_has_found(make):
    house = make("a:80", "b:80")
    house.backend("b:80", [OK])
    for _ in range(3):
        house.cluster.observe_probe("a:80", False, "status 500")
    house.ask(get())
    [skipped] = house.plane.explain("mine").skipped
    assert (skipped.backend_name, skipped.skipped, skipped.reason) == ("a:80", Skipped.DOWN, "status 500")


def test_a_rate_limited_client_is_told_to_be_by_which_limit(make):
    house = make("a:80", routes=[{"name": "r", "pool": "default", "rate_limits": [{"per_s": 0.1, "burst": 1}]}])
    house.backend("a:80", [OK])
    client = house.ask(get(request_id="one"))
    house.ask(get(request_id="two"), client)
    told = house.plane.explain("two")
    assert (told.status, told.outcome, told.route, told.attempts) == (429, "RATE_LIMITED", "r", ())
    assert told.detail.startswith("beyond the rate limit ")
    assert told.note == ("no backend was asked",)
    assert [one.id for one in house.plane.explained("refused", 9)] == ["two"]
    assert house.plane.explained("failed", 9) == ()
    asked = house.plane.route("GET", "http://x/", client=told.client)
    assert (asked.action, asked.status, f"{asked.why}, host x") == ("deny", 429, told.detail)


def test_a_request_that_runs_tells_where_it_is(make):
    house = make("a:80")
    house.backend("a:80", [NEVER_ANSWER])
    client = house.ask(get("/slow"))
    house.wait(3.0)
    told = house.plane.explain("mine")
    assert (told.running, told.status, told.outcome, told.took_s) == (True, 0, "", None)
    [attempt] = told.attempts
    assert (attempt.backend, attempt.outcome, attempt.first_byte_s) == ("a:80", "", None)
    assert [one.path for one in house.plane.explained("running", 9)] == ["/slow"]
    client.close()
    house.clock.settle()
    assert house.plane.explained("running", 9) == ()
    assert house.plane.explain("mine").outcome == "CLIENT_GONE"


def test_the_id_on_an_error_page_leads_to_why(make):
    house = make("a:80")
    client = house.ask(get(request_id=""))
    [shown] = re.findall(rb"X-Request-ID: ([0-9a-zA-Z]+)", client.received)
    told = house.plane.explain(shown.decode())
    assert (told.status, told.outcome) == (502, "REFUSED")


def test_who_has_no_id_gets_a_name_when_somebody_asks(make):
    house = make("a:80")
    house.backend("a:80", [OK, OK])
    client = house.ask(get(request_id=""))
    house.ask(get("/two", request_id=""), client)
    names = [one.id for one in house.plane.explained("recent", 9)]
    assert names == ["~1", "~2"]
    assert names == [one.id for one in house.plane.explained("recent", 9)]
    assert house.plane.explain("~1").path == "/two"
    assert house.plane.explain("~") is None
    assert house.plane.explain("") is None


def test_a_request_that_runs_without_an_id_is_nobody_elses_name(make):
    house = make("a:80")
    house.backend("a:80", [NEVER_ANSWER, OK])
    house.ask(get("/slow", request_id=""))
    [running] = house.plane.explained("running", 9)
    assert house.plane.explain(f"~{int(running.id[1:]) + 1}") is None


@pytest.fixture
def two_pools():
    """A data plane in front of the pools one, where nobody is, and two; a route `r` with these keys."""
    made: list[Balanced] = []

    def one(**route) -> tuple[Balanced, MemoryNetwork]:
        pools = {name: {"backends": [f"{name}:80"], "queue": {"no_backend_s": 0.0}} for name in ("one", "two")}
        network = MemoryNetwork(HeapClock(1000.0))
        config = LoadBalancerConfig.model_validate({"pools": pools, "routes": [{"name": "r", **route}]})
        made.append(Balanced(config, network))
        ScriptedBackend(network, "two:80")
        return made[-1], network

    yield one
    for balanced in made:
        balanced.close()
        balanced.network.clock.advance(5)


def test_a_fallback_is_told(two_pools):
    balanced, network = two_pools(pool="one", fallback="two")
    client = ScriptedClient(network, "lb:8080")
    client.send(get())
    network.clock.settle()
    told = balanced.data_plane.explain("mine")
    assert [one.pool for one in told.attempts] == ["one", "two"]
    assert told.attempts[1].retried == "its pool had nobody left: on to the fallback, two"
    asked = balanced.data_plane.route("GET", "/")
    assert (asked.action, asked.pool, asked.why) == ("pool", "two", "one has nobody: its fallback")
    assert asked.decision.picked == "two:80"
    client.close()
    network.clock.settle()


def test_who_was_out_is_called_by_the_pool_that_it_is_of_and_not_by_the_fallback(two_pools):
    balanced, network = two_pools(pool="one", fallback="two")
    balanced.data_plane.add_backend("one", BackendSpec("gone:80", parse_address("gone:80")))
    balanced.data_plane.command("one", "gone:80", AdminState.DRAIN)
    client = ScriptedClient(network, "lb:8080")
    client.send(get())
    network.clock.settle()
    told = explained_json(balanced.data_plane.explain("mine"))
    assert [one["backend"] for one in told["attempts"]] == ["one/one:80", "two/two:80"]
    assert [one["backend"] for one in told["skipped"]] == ["one/gone:80"]
    client.close()
    network.clock.settle()


def test_a_request_without_a_route_says_so(two_pools):
    balanced, network = two_pools(pool="one", host="other")
    client = ScriptedClient(network, "lb:8080")
    client.send(get())
    network.clock.settle()
    told = balanced.data_plane.explain("mine")
    assert (told.status, told.outcome, told.route, told.pool) == (404, "NO_ROUTE", "", "")
    assert (told.detail, told.note) == ("no route takes it, host x", ("no backend was asked",))
    asked = balanced.data_plane.route("GET", "http://x/")
    assert (asked.action, asked.status, asked.route) == ("none", 404, None)
    assert [one.why for one in asked.looked_at] == ["host is x, not other"]
    assert [one.why for one in balanced.data_plane.route("GET", "/").looked_at] == ["it names no host, and not other"]
    assert balanced.data_plane.route("GET", "/", [("Host", "other")]).route == "r"
    client.close()
    network.clock.settle()


def test_without_decisions_a_request_tells_all_but_who_else_there_was(make):
    house = make("a:80", "b:80")
    house.backend("a:80", [CLOSE])
    house.backend("b:80", [OK])
    house.ask(get())
    [whole] = house.plane.explained("recent", 9)
    [told] = house.plane.explained("recent", 9, decisions=False)
    assert [one.decision for one in told.attempts] == [None, None]
    assert (told.decision, told.skipped, told.candidates) == (None, (), ())
    assert [one.decision.picked for one in whole.attempts] == ["a:80", "b:80"]
    attempts = tuple(dataclasses.replace(one, decision=None) for one in whole.attempts)
    assert told == dataclasses.replace(
        whole, attempts=attempts, decision=None, skipped=(), candidates=(), note=told.note
    )


def test_without_decisions_nothing_is_recalled_for_a_request_that_nobody_took(make):
    house = make("a:80")
    house.plane.command("default", "a:80", AdminState.DRAIN)
    house.ask(get())
    [told] = house.plane.explained("failed", 9, decisions=False)
    assert (told.outcome, told.decision, told.skipped) == ("NO_BACKEND", None, ())


def test_what_the_next_claim_would_do_is_told_and_changes_nothing(make):
    house = make("a:80", "b:80")
    house.backend("a:80", [OK])
    assert house.plane.explain_next("default") == house.plane.explain_next("default")
    assert house.plane.explain_next("default").picked == "a:80"
    with pytest.raises(KeyError, match="no pool is called other"):
        house.plane.explain_next("other")


def test_what_a_pool_by_key_would_do_with_no_request_says_that_no_key_is_assumed(make):
    house = make("a:80", "b:80", policy="rendezvous", key="path")
    decision = house.plane.explain_next("default")
    assert decision.picked in ("a:80", "b:80")
    assert decision.rule.startswith("rendezvous: no key, by chance, hash ")
    assert decision.rule.endswith(
        "; no request was given, so its place is drawn: with a path (path=/x) the key of its route is looked at"
    )
    routed = house.plane.route("GET", "http://x/a").decision.rule
    assert "key path" in routed
    assert "no request" not in routed


# What is kept.


def test_each_kind_is_bounded_for_itself(make):
    house = make("a:80", routes=[{"name": "closed", "path": "/closed", "deny": True}])
    house.ask(get(request_id="broken"))
    client = house.client()
    for number in range(RECENT + 9):
        house.ask(get("/closed", request_id=f"n{number}"), client)
    notes = house.plane.notes
    assert (len(notes.recent), len(notes.refused), len(notes.failed)) == (RECENT, FAILED, 1)
    assert house.plane.questions.held().requests == RECENT
    assert house.plane.explain("n8") is None
    assert house.plane.explain("n9").outcome == "FORBIDDEN"
    assert house.plane.explain("broken").outcome == "REFUSED"


def test_the_slowest_of_this_hour_and_the_last_are_kept_and_no_tunnels(make):
    house = make("a:80")
    house.backend("a:80", [[Wait(0.01 * number), OK] for number in range(SLOWEST + 10)])
    client = house.client()
    for number in range(SLOWEST + 10):
        house.ask(get(request_id=f"n{number}"), client)
        house.wait(1.0)
    slowest = house.plane.explained("slowest", 999)
    assert [one.id for one in slowest] == [f"n{number}" for number in range(SLOWEST + 9, 9, -1)]
    for kept in (SLOWEST, 0):
        house.wait(SLOWEST_OF_S)
        assert len(house.plane.explained("slowest", 999)) == kept


def test_a_kind_that_is_none_is_refused(make):
    with pytest.raises(ValueError, match="'best' is no kind of requests: recent, failed, refused, slowest, running"):
        make("a:80").plane.explained("best", 1)


def reachable(root: object) -> list[object]:
    """All objects that are kept alive by this one."""
    seen, left = {}, [root]
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, type | ModuleType | FunctionType):
            continue
        seen[id(one)] = one
        left += gc.get_referents(one)
    return list(seen.values())


@pytest.mark.skipif(build() == "compiled", reason="what is acyclic does not say to what it refers")
def test_notes_keep_no_head_no_buffer_and_no_connection_alive(make):
    house = make(
        "a:80", "b:80", routes=[{"name": "r", "path_prefix": "/r", "pool": "default"}], retry={"more_attempts": 1}
    )
    house.backend("a:80", [OK, CLOSE, OK])
    house.backend("b:80", [OK, OK, CLOSE])
    client = house.client()
    for request_id in "abcd":
        house.ask(get("/r", "Cookie: secret", "Content-Length: 6", request_id=request_id) + b"secret", client)
    house.ask(get("/none"), house.client())
    kinds = (
        RequestHead,
        RequestFields,
        Http1Upstream,
        Http1,
        Exchange,
        Cluster,
        Lead,
        Route,
        Frontend,
        ClientConnection,
    )
    kept = reachable(house.plane.notes)
    assert len(house.plane.notes.recent) >= 4
    assert not [one for one in kept if isinstance(one, (*kinds, Attempts))]
    assert not [one for one in kept if isinstance(one, bytes) and b"secret" in one]


# Where it would go.


def test_the_routes_that_were_looked_at_say_why_they_do_not_match(make):
    house = make(
        "a:80",
        routes=[
            {"name": "v1", "host": "api.example.com", "pool": "default"},
            {"name": "static", "path_prefix": "/static/", "pool": "default"},
            {"name": "exact", "path": ["/a", "/b"], "pool": "default"},
            {"name": "posts", "method": "POST", "pool": "default"},
            {"name": "rest", "pool": "default"},
            {"name": "never", "path": "/upload/a", "deny": True},
        ],
    )
    told = house.plane.route("GET", "http://x.org/upload/a")
    assert [(one.n, one.name, one.matches, one.why) for one in told.looked_at] == [
        (1, "v1", False, "host is x.org, not api.example.com"),
        (2, "static", False, "path /upload/a does not begin with /static/"),
        (3, "exact", False, "path is /upload/a, not /a or /b"),
        (4, "posts", False, "method is GET, not POST"),
        (5, "rest", True, ""),
    ]
    assert (told.listener, told.route, told.action, told.pool, told.status) == (
        "default",
        "rest",
        "pool",
        "default",
        None,
    )
    assert told.decision.picked == "a:80"


@pytest.mark.parametrize(
    ("route", "action", "status"),
    [
        ({"deny": True}, "deny", 403),
        ({"redirect": {"to": "https://y"}}, "redirect", 308),
        ({"answer": {"status": 503}}, "answer", 503),
        ({"deny_clients": ["127.0.0.1"], "pool": "default"}, "deny", 403),
        ({"pool": "default"}, "pool", None),
    ],
)
def test_what_becomes_of_a_request_is_told(make, route, action, status):
    house = make("a:80", routes=[{"name": "r", **route}])
    told = house.plane.route("GET", "http://x/")
    assert (told.action, told.status) == (action, status)


@pytest.mark.parametrize("policy", ["ring", "maglev", "rendezvous"])
def test_where_a_request_would_go_by_its_key_is_told_without_the_value(make, policy):
    house = make("a:80", "b:80", "c:80", policy=policy, routes=[{"pool": "default", "key": {"header": "X-User"}}])
    for name in ("a:80", "b:80", "c:80"):
        house.backend(name, [OK])
    for user in ("ann", "bob", "eve"):
        told = house.plane.route("GET", "http://x/", [("X-User", user)])
        rule = f"{policy}: key header x-user, hash {key_of(user.encode()):016x}, is owned by {told.decision.picked}"
        assert told.decision.rule == rule
        house.ask(get("/", f"X-User: {user}", request_id=user))
        explained = house.plane.explain(user)
        assert (explained.decision.picked, explained.decision.rule) == (told.decision.picked, rule)
        assert user not in explained.decision.rule.replace(told.decision.picked, "")
    told = house.plane.route("GET", "http://x/", client="192.0.2.7")
    assert f"key client, without header x-user, hash {key_of(b'192.0.2.7'):016x}" in told.decision.rule


def test_a_pool_without_anybody_is_a_503(make):
    house = make("a:80")
    house.plane.command("default", "a:80", AdminState.DRAIN)
    told = house.plane.route("GET", "/")
    assert (told.action, told.status, told.decision.picked) == ("pool", 503, None)


@pytest.mark.parametrize(
    ("url", "why"),
    [("/a/../../b", "400"), ("/%zz", "400")],
)
def test_a_path_that_is_refused_is_told_to_be(make, url, why):
    house = make("a:80", routes=[{"name": "r", "path": "/x", "pool": "default"}])
    told = house.plane.route("GET", f"http://x{url}")
    assert (told.action, str(told.status), told.route) == ("refuse", why, None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("GET", "ftp://x/"), "'ftp://x/': should be http://HOST/PATH or /PATH"),
        (("GET", "http://x:99999/"), "Port out of range"),
        (("GET", "/\r\nX: y"), "printable characters only"),
        (("GET", "/é"), "other characters than ASCII are written as %XX"),
    ],
)
def test_what_cannot_be_asked_is_an_error_in_one_line(make, words, why):
    house = make("a:80")
    with pytest.raises(ValueError, match=re.escape(why)) as error:
        house.plane.route(*words)
    assert "\n" not in str(error.value)


def test_a_listener_that_is_none_is_an_error(make):
    with pytest.raises(KeyError, match="no listener is called web"):
        make("a:80").plane.route("GET", "/", listener="web")


def test_whose_turn_it_is_in_a_split_stays_so(two_pools):
    balanced, _ = two_pools(split={"one": 1, "two": 1})
    for _ in range(3):
        told = balanced.data_plane.route("GET", "/")
        assert (told.action, told.pool) == ("split", "one")


RUNTIME = runtime_of(HeapClock(), MemoryNetwork(HeapClock()))
RULES = plan_of(LoadBalancerConfig(backends=["a:80"])).routes["default"].leads[0].rules


@examples(300)
@given(matches=st.lists(MATCH, max_size=6), request=REQUESTS)
def test_the_route_that_is_told_is_the_one_that_is_found(matches, request):
    actions = [Action(f"r{number}", RULES, RUNTIME) for number in range(len(matches))]
    table = RouteTable(matches, actions, [None] * len(matches))
    lines = [b"%b %b HTTP/1.1" % (request.method, request.target), b"Host: " + request.host]
    lines += [b"%b: %b" % field for field in request.fields]
    head = _head(b"\r\n".join([*lines, b"", b""]), LIMITS)
    client = Client(request.client.encode(), b"http", b"80")
    try:
        found = table.find(head, client)
    except BadMessage as bad:
        if "two routes" not in bad.reason:
            with pytest.raises(BadMessage):
                table.explain(head, client)
        return
    told = table.explain(head, client)
    assert [one.name for one in told if one.matches] == ([] if found.action is None else [found.action.name])
    assert all(bool(one.why) is not one.matches for one in told)
    assert len(told) == (len(matches) if found.action is None else actions.index(found.action) + 1)
