"""Waits before retries: how long, and what a request has meanwhile: no lease, no connection, its client and its time."""

from email.utils import formatdate

import pytest
from house import GET

from twisted_lb.core.backend import AdminState
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import CLOSE, NEVER_ANSWER, Wait, response

OK = b"HTTP/1.1 200 OK"
BUSY = response(b"busy\n", 503, b"Retry-After: 2")
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


@pytest.fixture
def two(build):
    """Two backends of which the first one is asked first; waits before retries are 10 s at most."""
    return build("a:80", "b:80", retry={"backoff_s": 10.0, "backoff_most_s": 10.0, "bad_statuses": [503]})


def waited(house):
    (_, attempt) = house.record.attempts
    return attempt.pause.until - attempt.pause.since


def outcomes(house):
    return [attempt.outcome for attempt in house.record.attempts]


def test_after_a_failure_of_a_backend_that_listens_a_retry_waits_and_holds_nothing(two):
    first, second = two.backend("a:80", [CLOSE]), two.backend("b:80")
    client = two.ask()
    assert (len(first.requests), len(second.requests), two.pool.leases) == (1, 0, 0)
    assert (client.received, two.cluster.waits.waiting) == (b"", 1)
    two.wait(10.0)
    assert client.received.startswith(OK)
    assert len(second.requests) == 1
    assert outcomes(two) == [Outcome.NO_RESPONSE, Outcome.OK]
    assert 0.0 < waited(two) <= 10.0
    assert two.record.took_s == waited(two)


def test_after_a_refused_connect_it_does_not_wait(two):
    two.backend("b:80")
    assert two.ask().received.startswith(OK)
    assert outcomes(two) == [Outcome.REFUSED, Outcome.OK]


def test_the_seed_says_how_long_and_no_pick_moves_by_it(build):
    def asked(**retry):
        house = build("a:80", "b:80", "c:80", policy="rand", retry={"bad_statuses": [503], **retry}, seed=5)
        for name in ("a:80", "b:80", "c:80"):
            house.backend(name, [response(b"", 503)])
        house.ask()
        house.wait(30.0)
        return [one.lease.backend.name for one in house.record.attempts], house.record.took_s

    at_once, waits, again = asked(), asked(backoff_s=1.0), asked(backoff_s=1.0)
    assert at_once[0] == waits[0]
    assert at_once[1] == 0.0 < waits[1] == again[1]


def test_the_time_that_a_busy_backend_asks_for_is_waited_for(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    first, second = house.backend("a:80", [BUSY]), house.backend("b:80")
    client = house.ask()
    assert not first.connections[0].open, "its answer is left, and its place is free"
    assert house.pool.leases == 0
    house.wait(1.99)
    assert second.requests == []
    house.wait(1.01)
    assert client.received.startswith(OK)
    assert 2.0 <= waited(house) <= 3.0
    assert outcomes(house) == [Outcome.BAD_STATUS, Outcome.OK]


def test_so_is_that_of_a_date(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    wall = house.balanced.runtime.wall.read()
    told = f"Retry-After: {formatdate(wall + 90, usegmt=True)}".encode()
    date = f"Date: {formatdate(wall + 88, usegmt=True)}".encode()
    house.backend("a:80", [response(b"", 503, date, told)])
    house.backend("b:80")
    client = house.ask()
    house.wait(3.0)
    assert client.received.startswith(OK)
    assert 2.0 <= waited(house) <= 3.0


@pytest.mark.parametrize(
    "options",
    [
        {"timeouts": {"response_head_s": 1.5}},
        {"timeouts": {"deadline_s": 1.5}},
        {"retry": {"budget_percent": 0, "budget_per_s": 0}},
    ],
    ids=["no time left", "too late for its deadline", "no budget"],
)
def test_where_it_cannot_be_waited_for_the_client_gets_that_answer(build, options):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    house.apply(**options)
    house.backend("a:80", [BUSY])
    second = house.backend("b:80")
    client = house.ask()
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 2\r\n" in client.received
    assert client.received.endswith(b"busy\n")
    assert second.requests == []


def test_who_is_away_for_longer_than_anybody_waits_is_left_at_once(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    house.backend("a:80", [response(b"maintenance\n", 503, b"Retry-After: 300")])
    house.backend("b:80")
    assert house.ask().received.startswith(OK)


def test_a_time_that_is_not_heeded_costs_none(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503], "retry_after_most_s": 0.0})
    house.backend("a:80", [BUSY])
    house.backend("b:80")
    assert house.ask().received.startswith(OK)


def test_where_nobody_else_is_there_the_answer_is_not_left(build):
    house = build("a:80", retry={"bad_statuses": [503]})
    house.backend("a:80", [BUSY])
    assert house.ask().received.endswith(b"busy\n")


def test_a_client_that_leaves_ends_the_wait(two):
    two.backend("a:80", [CLOSE])
    second = two.backend("b:80")
    client = two.ask()
    client.close()
    two.clock.settle()
    assert (two.cluster.waits.waiting, len(two.records)) == (0, 1)
    two.wait(20.0)
    assert second.requests == []
    assert two.record.ended_by is Outcome.CLIENT_GONE


def test_a_drain_that_is_over_ends_the_wait(two):
    two.backend("a:80", [CLOSE])
    second = two.backend("b:80")
    client = two.ask()
    two.frontend.kill()
    two.wait(20.0)
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert two.record.ended_by is Outcome.CANCELLED
    assert (two.cluster.waits.waiting, second.requests) == (0, [])


def test_who_is_usable_no_more_when_the_wait_is_over_gives_the_status_of_the_answer_that_was_left(build):
    house = build("a:80", "b:80", retry={"bad_statuses": [503]})
    house.backend("a:80", [BUSY])
    client = house.ask()
    house.cluster.command("b:80", AdminState.MAINT)
    house.wait(5.0)
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert house.record.local_reply is Outcome.BAD_STATUS


def test_a_reload_meanwhile_has_its_say_at_the_claim(two):
    """The wait goes on by the rules with which it began, and whoever is a member then is asked."""
    two.backend("a:80", [CLOSE])
    two.backend("c:80")
    client = two.ask()
    two.apply(backends=["a:80", "c:80"], retry={"backoff_s": 0.0})
    two.wait(10.0)
    assert client.received.startswith(OK)
    assert [one.lease.backend.name for one in two.record.attempts] == ["a:80", "c:80"]


def test_a_pool_that_goes_meanwhile_gives_an_answer_of_our_own(build):
    house = build("a:80", "b:80", retry={"backoff_s": 10.0})
    house.backend("a:80", [CLOSE])
    client = house.ask()
    house.cluster.retire()
    house.wait(10.0)
    assert client.received.startswith(b"HTTP/1.1 502 ")


def test_a_pool_that_a_reload_takes_away_stays_until_nobody_waits_before_a_retry(build):
    pools = {
        name: {"backends": [f"{name}:80", f"{name}{name}:80"], "health_check": {"interval_s": 0.0}} for name in "cd"
    }
    pools["c"]["retry"] = {"bad_statuses": [503]}
    house = build("a:80", pools=pools, routes=[{"path": "/", "pool": "c"}])
    for name in ("c:80", "cc:80"):
        house.backend(name, [BUSY])
    client = house.ask()
    going = house.plane.clusters["c"]
    assert (client.received, going.pool.leases, going.waits.waiting) == (b"", 0, 1)
    house._options.update(pools={"d": pools["d"]}, routes=[])
    house.apply()
    house.wait(1.0)
    assert going in house.plane.leaving.clusters
    house.wait(5.0)
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert going not in house.plane.leaving.clusters


def test_after_the_wait_it_goes_to_the_head_of_the_queue(build):
    house = build("a:80", "b:80", max_in_flight=1, queue={"timeout_s": 30.0}, retry={"backoff_s": 0.5})
    house.backend("a:80", [[Wait(1.0), CLOSE], [Wait(9.0), response()]])
    second = house.backend("b:80", [[Wait(4.0), response()], [Wait(1.0), response()]])
    repeated = house.ask(b"GET /repeated HTTP/1.1\r\nHost: x\r\n\r\n")
    house.ask(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
    house.wait(1.0)
    house.ask(b"GET /new HTTP/1.1\r\nHost: x\r\n\r\n")
    waiting = house.ask(b"GET /waiting HTTP/1.1\r\nHost: x\r\n\r\n")
    house.wait(4.5)
    assert repeated.received.startswith(OK)
    assert [request.split(b" ")[1] for request in second.requests] == [b"/long", b"/repeated", b"/waiting"]
    house.wait(9.0)
    assert waiting.received.startswith(OK)


def test_the_body_is_held_meanwhile_and_what_comes_still(build):
    house = build("a:80", "b:80", retry={"methods": ["POST"], "backoff_s": 1.0})
    house.backend("a:80", [CLOSE], early=True)
    second = house.backend("b:80")
    client = house.ask(POST[:-2])
    client.send(b"bc")
    house.wait(1.0)
    assert client.received.startswith(OK)
    assert second.requests[0].endswith(b"\r\n\r\nabc")


# Methods.


def test_a_pool_may_say_which_methods_are_sent_twice(build):
    house = build("a:80", "b:80", retry={"methods": ["POST"]})
    house.backend("a:80", [CLOSE])
    house.backend("b:80")
    assert house.ask(POST).received.startswith(OK)


def test_without_that_what_may_have_been_done_is_not_done_twice(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [CLOSE])
    second = house.backend("b:80")
    assert house.ask(POST).received.startswith(b"HTTP/1.1 502 ")
    assert second.requests == []


@pytest.mark.parametrize(("methods", "status"), [([], b"502"), (["POST"], b"200")])
def test_in_the_fallback_the_methods_of_its_own_pool_hold(build, methods, status):
    house = build(
        "a:80",
        pools={"other": {"backends": ["b:80", "c:80"], "retry": {"methods": methods}}},
        routes=[{"name": "all", "pool": "default", "fallback": "other"}],
        retry={"methods": ["POST"]},
    )
    house.backend("b:80", [CLOSE])
    house.backend("c:80", [CLOSE] if not methods else [])
    client = house.ask(POST)
    assert client.received.split(b" ")[1] == status


# What is told.


def test_explain_tells_of_the_wait(two):
    two.backend("a:80", [NEVER_ANSWER, CLOSE])
    two.backend("b:80", [CLOSE])
    two.apply(timeouts={"attempt_s": 1.0})
    two.ask(GET.replace(b"Host", b"X-Request-ID: w\r\nHost"))
    two.wait(1.5)
    told = two.plane.explain("w")
    assert any("is tried again in" in note for note in told.note)
    two.wait(30.0)
    told = two.plane.explain("w")
    assert told.attempts[1].retried.startswith("after TIMED_OUT this one may be repeated by its method; it waited ")
    assert told.attempts[1].retried.endswith(" s for that: backoff")
