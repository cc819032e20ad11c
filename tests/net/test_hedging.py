"""Hedging: a second attempt beside a first one that does not answer in time; whichever answers first is heard, and never both."""

import pytest
from house import GET

from twisted_lb.core.attempts import Stopped
from twisted_lb.core.backend import AdminState
from twisted_lb.core.hedging import Hedged
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, Wait, response

OK = b"HTTP/1.1 200 OK"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
PUT = POST.replace(b"POST", b"PUT")
DELAY_S = 0.05
SLOW = [Wait(1.0), response(b"first\n")]
QUICK = [Wait(0.01), response(b"second\n")]
LATER = [Wait(2.0), response(b"second\n")]


@pytest.fixture
def two(build):
    """Two backends of which the first one is asked first; a request that has no answer after 50 ms is hedged."""
    return hedging(build)


def hedging(build, *names, **options):
    hedge = {"delay_s": DELAY_S, **options.pop("hedge", {})}
    return build(*(names or ("a:80", "b:80")), hedge=hedge, **options)


def hedges(house):
    """What became of hedges, as it is counted."""
    return {what.name: count for what, count in zip(Hedged, house.pool.totals.hedges, strict=True) if count}


def attempts(house):
    return [(one.lease.backend.name, one.outcome) for one in house.record.attempts]


def answer(client):
    head, _, body = client.received.partition(b"\r\n\r\n")
    assert client.received.count(b"HTTP/1.1") == 1
    return head.split(b" ")[1], body


# Who is heard.


def test_an_answer_in_time_is_not_hedged(two):
    two.backend("a:80", [[Wait(0.04), response()]])
    second = two.backend("b:80")
    client = two.ask()
    two.wait(1.0)
    assert client.received.startswith(OK)
    assert (second.requests, hedges(two), two.cluster.waits.waiting) == ([], {}, 0)


def test_what_affinity_binds_is_not_hedged(build):
    two = hedging(build, affinity={"client": True})
    two.backend("a:80", [SLOW])
    second = two.backend("b:80")
    client = two.ask()
    two.wait(1.5)
    assert client.received.startswith(OK)
    assert (second.requests, hedges(two)) == ([], {})


def test_a_hedge_that_answers_first_is_heard_and_the_first_attempt_is_taken_back(two):
    first, second = two.backend("a:80", [SLOW]), two.backend("b:80", [QUICK])
    client = two.ask()
    two.wait(0.049)
    assert second.requests == []
    two.wait(0.002)
    assert (len(second.requests), two.pool.leases) == (1, 2)
    two.wait(0.02)
    assert answer(client) == (b"200", b"second\n")
    assert not first.connections[0].open
    assert attempts(two) == [("a:80", Outcome.CANCELLED), ("b:80", Outcome.OK)]
    assert (hedges(two), two.pool.leases, two.record.backend_name) == ({"WON": 1}, 0, "b:80")
    two.wait(3.0)
    assert answer(client) == (b"200", b"second\n")


def test_a_first_attempt_that_answers_first_is_heard_and_the_hedge_is_taken_back(two):
    first, second = two.backend("a:80", [SLOW]), two.backend("b:80", [LATER])
    client = two.ask()
    two.wait(1.1)
    assert answer(client) == (b"200", b"first\n")
    assert not second.connections[0].open
    assert first.connections[0].open
    assert attempts(two) == [("a:80", Outcome.OK), ("b:80", Outcome.CANCELLED)]
    assert (hedges(two), two.pool.leases, two.record.backend_name) == ({"LOST": 1}, 0, "a:80")


def test_the_loser_blames_nobody_and_its_request_went_well(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [QUICK])
    two.ask()
    two.wait(2.0)
    assert [one.failures for one in two.members] == [0, 0]
    assert two.record.plain
    assert two.plane.explained("failed", 9) == ()


def test_the_connection_of_the_winner_is_kept(two):
    two.backend("a:80", [SLOW])
    second = two.backend("b:80", [QUICK])
    client = two.ask()
    two.wait(1.0)
    assert (two.cluster.open, two.cluster.idle) == (1, 1)
    two.cluster.command("a:80", AdminState.MAINT)
    two.ask(client=client)
    assert len(second.connections) == 1


def test_a_hedge_may_take_a_kept_connection(two):
    two.backend("a:80", [response(), SLOW])
    second = two.backend("b:80", [response(), QUICK])
    client = two.ask(client=two.ask())  # one each
    two.ask(client=client)
    two.wait(2.0)
    assert (hedges(two), len(second.connections), len(second.requests)) == ({"WON": 1}, 1, 2)


def test_a_streamed_answer_of_the_hedge_comes_whole(two):
    two.backend("a:80", [NEVER_ANSWER])
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"
    two.backend("b:80", [[chunks, Wait(1.0), b"2\r\nef\r\n0\r\nX-T: 1\r\n\r\n"]])
    client = two.ask()
    two.wait(0.5)
    assert client.received.endswith(b"\r\n\r\n4\r\nabcd\r\n")
    two.wait(1.0)
    assert client.received.endswith(b"2\r\nef\r\n0\r\nX-T: 1\r\n\r\n")
    assert two.record.response_bytes == 6


def test_the_body_of_the_hedge_s_answer_cut_short_is_cut_short(two):
    two.backend("a:80", [NEVER_ANSWER])
    two.backend("b:80", [[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Wait(0.1), RESET]])
    client = two.ask()
    two.wait(1.0)
    assert client.received.endswith(b"\r\n\r\nabc")
    assert client.ended
    assert attempts(two) == [("a:80", Outcome.CANCELLED), ("b:80", Outcome.CUT_SHORT)]


def test_a_client_that_is_slow_pauses_the_backend_of_the_hedge(two):
    two.backend("a:80", [NEVER_ANSWER])
    two.backend("b:80", [response(b"x" * 3_000_000)])
    client = two.ask()
    client.stop_reading()
    two.wait(1.0)
    assert not two.records
    client.go_on_reading()
    two.wait(1.0)
    assert client.received.count(b"x") == 3_000_000
    assert attempts(two) == [("a:80", Outcome.CANCELLED), ("b:80", Outcome.OK)]


@pytest.mark.parametrize(
    "request_", [b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"], ids=["HEAD", "HTTP/1.0"]
)
def test_any_request_that_may_be_repeated_is_hedged(two, request_):
    two.backend("a:80", [NEVER_ANSWER])
    second = two.backend("b:80")
    client = two.ask(request_)
    two.wait(1.0)
    assert client.received.startswith(OK)
    assert second.requests[0].startswith(request_.split(b"HTTP")[0])
    assert hedges(two) == {"WON": 1}


# Failures.


@pytest.mark.parametrize("fails", [CLOSE, RESET, b"nonsense\r\n\r\n"], ids=["closes", "resets", "no HTTP"])
def test_where_the_first_attempt_fails_the_hedge_stands_in_and_no_retry_is_paid_for(two, fails):
    two.backend("a:80", [[Wait(0.1), fails]])
    two.backend("b:80", [[Wait(0.2), response(b"second\n")]])
    client = two.ask()
    left = None
    two.wait(0.06)
    left = two.pool.budget.left
    two.wait(1.0)
    assert answer(client) == (b"200", b"second\n")
    assert attempts(two)[0][1] in (Outcome.NO_RESPONSE, Outcome.BAD_RESPONSE)
    assert attempts(two)[1] == ("b:80", Outcome.OK)
    assert (hedges(two), two.pool.budget.left, sum(two.pool.totals.retries)) == ({"STOOD_IN": 1}, left, 0)


def test_where_the_hedge_fails_the_first_attempt_goes_on(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [[Wait(0.1), CLOSE]])
    client = two.ask()
    two.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert attempts(two) == [("a:80", Outcome.OK), ("b:80", Outcome.NO_RESPONSE)]
    assert (hedges(two), [one.failures for one in two.members]) == ({"FAILED": 1}, [0, 1])


def test_a_refused_hedge_ejects_as_any_attempt_does(two):
    two.backend("a:80", [SLOW])
    client = two.ask()
    two.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert attempts(two) == [("a:80", Outcome.OK), ("b:80", Outcome.REFUSED)]
    assert "BackendEjected" in [type(event).__name__ for event in two.events]


def test_where_both_fail_the_retry_rules_hold(build):
    house = hedging(build, "a:80", "b:80", "c:80", policy="first")
    house.backend("a:80", [[Wait(0.1), CLOSE]])
    house.backend("b:80", [[Wait(0.2), CLOSE]])
    house.backend("c:80")
    client = house.ask()
    house.wait(1.0)
    assert client.received.startswith(OK)
    assert attempts(house) == [("a:80", Outcome.NO_RESPONSE), ("b:80", Outcome.NO_RESPONSE), ("c:80", Outcome.OK)]
    assert sum(house.pool.totals.retries) == 1


def test_in_the_other_order_too(build):
    house = hedging(build, "a:80", "b:80", "c:80", policy="first")
    house.backend("a:80", [[Wait(0.3), CLOSE]])
    house.backend("b:80", [[Wait(0.1), CLOSE]])
    house.backend("c:80")
    client = house.ask()
    house.wait(1.0)
    assert client.received.startswith(OK)
    assert attempts(house) == [("a:80", Outcome.NO_RESPONSE), ("b:80", Outcome.NO_RESPONSE), ("c:80", Outcome.OK)]


def test_a_hedge_is_one_of_the_attempts_that_are_allowed(build):
    house = hedging(build, "a:80", "b:80", "c:80", policy="first", retry={"more_attempts": 1})
    house.backend("a:80", [[Wait(0.1), CLOSE]])
    house.backend("b:80", [[Wait(0.2), CLOSE]])
    third = house.backend("c:80")
    client = house.ask(GET.replace(b"Host", b"X-Request-ID: w\r\nHost"))
    house.wait(1.0)
    assert client.received.startswith(b"HTTP/1.1 502 ")
    assert third.requests == []
    assert f"not tried again: {Stopped.ATTEMPTS.value}" in house.plane.explain("w").note


def test_a_status_that_counts_as_a_failure_is_not_heard_while_the_other_is_under_way(build):
    house = hedging(build, retry={"bad_statuses": [503]})
    house.backend("a:80", [[Wait(0.1), response(b"", 503)]])
    house.backend("b:80", [[Wait(0.2), response(b"second\n")]])
    client = house.ask()
    house.wait(1.0)
    assert answer(client) == (b"200", b"second\n")
    assert attempts(house) == [("a:80", Outcome.BAD_STATUS), ("b:80", Outcome.OK)]


def test_nor_is_that_of_the_hedge(build):
    house = hedging(build, retry={"bad_statuses": [503]})
    house.backend("a:80", [SLOW])
    house.backend("b:80", [response(b"", 503)])
    client = house.ask()
    house.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert attempts(house) == [("a:80", Outcome.OK), ("b:80", Outcome.BAD_STATUS)]


def test_where_both_answer_so_the_last_one_is_told(build):
    house = hedging(build, retry={"bad_statuses": [503]})
    house.backend("a:80", [[Wait(0.1), response(b"one", 503)]])
    house.backend("b:80", [[Wait(0.2), response(b"two", 503)]])
    client = house.ask()
    house.wait(1.0)
    assert answer(client) == (b"503", b"two")


def test_one_that_hangs_is_timed_out_and_the_other_one_goes_on(build):
    house = hedging(build, timeouts={"attempt_s": 0.5}, hedge={"delay_s": 0.3})
    house.backend("a:80", [NEVER_ANSWER])
    house.backend("b:80", [[Wait(0.4), response(b"second\n")]])
    client = house.ask()
    house.wait(2.0)
    assert attempts(house)[0] == ("a:80", Outcome.TIMED_OUT)
    assert answer(client)[0] == b"200"


def test_both_that_hang_are_timed_out_once_each(build):
    house = hedging(build, timeouts={"attempt_s": 0.5, "response_head_s": 2.0})
    house.backend("a:80", [NEVER_ANSWER])
    house.backend("b:80", [NEVER_ANSWER])
    client = house.ask()
    house.wait(5.0)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert attempts(house) == [("a:80", Outcome.TIMED_OUT), ("b:80", Outcome.TIMED_OUT)]


def test_a_connect_that_hangs_is_hedged_too(two):
    two.network.hang("a:80")
    two.backend("b:80")
    client = two.ask()
    two.wait(1.0)
    assert client.received.startswith(OK)
    assert attempts(two) == [("a:80", Outcome.CANCELLED), ("b:80", Outcome.OK)]


def test_the_hedge_s_connect_may_hang_and_is_given_up(two):
    two.backend("a:80", [SLOW])
    two.network.hang("b:80")
    client = two.ask()
    two.wait(1.5)
    assert answer(client) == (b"200", b"first\n")
    assert attempts(two) == [("a:80", Outcome.OK), ("b:80", Outcome.CANCELLED)]


def test_a_hedge_that_is_connecting_stands_in(two):
    two.backend("a:80", [[Wait(0.1), CLOSE]])
    two.network.hang("b:80")
    client = two.ask()
    two.wait(10.0)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert attempts(two) == [("a:80", Outcome.NO_RESPONSE), ("b:80", Outcome.CONNECT_TIMEOUT)]


# What is hedged, and where.


def test_what_must_not_be_done_twice_is_not_hedged(two):
    two.backend("a:80", [SLOW])
    second = two.backend("b:80")
    client = two.ask(POST)
    two.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert (second.requests, hedges(two)) == ([], {})


def test_a_method_that_may_be_repeated_is_with_its_whole_body(build):
    house = hedging(build, retry={"methods": ["POST"]})
    house.backend("a:80", [NEVER_ANSWER])
    second = house.backend("b:80")
    client = house.ask(POST)
    house.wait(1.0)
    assert client.received.startswith(OK)
    assert second.requests[0].endswith(b"\r\n\r\nabc")


def test_the_delay_counts_from_the_end_of_the_request(build):
    house = hedging(build)
    house.backend("a:80", [NEVER_ANSWER], early=True)
    second = house.backend("b:80")
    client = house.ask(PUT[:-1])
    house.wait(5.0)
    assert second.requests == []
    client.send(b"c")
    house.wait(0.049)
    assert second.requests == []
    house.wait(0.01)
    assert client.received.startswith(OK)


def test_a_chunked_body_is_sent_again_with_its_trailers(build):
    house = hedging(build)
    house.backend("a:80", [NEVER_ANSWER])
    second = house.backend("b:80")
    chunks = b"3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    client = house.ask(b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
    house.wait(1.0)
    assert client.received.startswith(OK)
    assert second.requests[0].endswith(chunks)


def test_a_body_that_is_not_held_is_not_sent_again(build):
    house = hedging(build, limits={"replay_body_bytes": 1000})
    house.backend("a:80", [SLOW])
    second = house.backend("b:80")
    client = house.ask(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3000)
    house.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert second.requests == []


@pytest.mark.parametrize(
    "fields",
    [b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Authorization: NTLM TlRMTVNTUAABAAAA\r\n"],
    ids=["upgrade", "ntlm"],
)
def test_neither_an_offer_of_another_protocol_nor_a_login_is_hedged(two, fields):
    two.backend("a:80", [SLOW])
    second = two.backend("b:80")
    client = two.ask(b"GET / HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n")
    two.wait(2.0)
    assert client.received.startswith(OK)
    assert second.requests == []


@pytest.mark.parametrize("begins", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTT"], ids=["interim", "a byte"])
def test_of_whose_answer_a_byte_has_come_is_not_hedged(two, begins):
    rest = response(b"first\n") if begins.endswith(b"\n") else response(b"first\n")[3:]
    two.backend("a:80", [[begins, Wait(1.0), rest]])
    second = two.backend("b:80")
    client = two.ask()
    two.wait(2.0)
    assert client.received.endswith(b"first\n")
    assert (second.requests, hedges(two)) == ([], {})


def test_hints_of_a_hedge_that_is_not_heard_are_nobody_s(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [[b"HTTP/1.1 103 Early Hints\r\n\r\n", Wait(5.0), response()]])
    client = two.ask()
    two.wait(2.0)
    assert answer(client) == (b"200", b"first\n")


def test_a_switch_that_nobody_asked_for_is_a_failure_of_the_hedge(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"])
    client = two.ask()
    two.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert attempts(two)[1] == ("b:80", Outcome.BAD_RESPONSE)


def test_it_is_never_the_same_backend_nor_one_that_was_tried(build):
    house = hedging(build, "a:80", "b:80")
    house.backend("a:80", [CLOSE])
    house.backend("b:80", [SLOW])
    client = house.ask()
    house.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert hedges(house) == {"NO_ROOM": 1}


def test_a_retry_is_hedged_where_the_first_attempt_was_not(build):
    house = hedging(build, "a:80", "b:80", "c:80", policy="first")
    house.backend("a:80", [CLOSE])
    house.backend("b:80", [SLOW])
    house.backend("c:80", [QUICK])
    client = house.ask()
    house.wait(2.0)
    assert answer(client) == (b"200", b"second\n")
    assert attempts(house) == [("a:80", Outcome.NO_RESPONSE), ("b:80", Outcome.CANCELLED), ("c:80", Outcome.OK)]


def test_a_request_is_hedged_once(build):
    house = hedging(build, "a:80", "b:80", "c:80", "d:80", policy="first", retry={"more_attempts": 5})
    for name in ("a:80", "b:80", "c:80", "d:80"):
        house.backend(name, [[Wait(0.3), CLOSE]])
    house.ask()
    house.wait(5.0)
    assert sum(one.hedge for one in house.record.attempts) == 1
    assert hedges(house) == {"STOOD_IN": 1}


def test_who_is_full_gets_no_hedge_and_nobody_is_overtaken(build):
    house = hedging(build, max_in_flight=1, queue={"timeout_s": 30.0})
    house.backend("a:80", [SLOW, SLOW])
    second = house.backend("b:80", [[Wait(0.5), response()], [Wait(0.5), response()]])
    house.ask()
    house.ask()
    house.wait(0.2)
    assert (hedges(house), len(second.requests)) == ({"NO_ROOM": 2}, 1)
    house.wait(10.0)
    assert house.pool.leases == 0


def test_the_place_of_the_loser_is_free_for_who_waits(build):
    house = hedging(build, max_in_flight=1, queue={"timeout_s": 30.0})
    first = house.backend("a:80", [[Wait(9.0), response()]])
    house.backend("b:80", [[Wait(0.1), response()], [Wait(9.0), response()]])
    house.ask()
    house.wait(0.1)
    waiting, other = house.ask(), house.ask()
    assert house.pool.waiting == 2
    house.wait(0.1)
    assert house.pool.waiting == 0
    assert len(first.requests) >= 2
    house.wait(20.0)
    assert waiting.received.startswith(OK)
    assert other.received.startswith(OK)


def test_where_places_of_abandoned_requests_are_held_that_of_the_loser_is(build):
    """A worker that does not notice goes on working, whoever has left."""
    house = hedging(build, max_in_flight=1, abandoned_s=30.0, queue={"timeout_s": 30.0})
    first = house.backend("a:80", [[Wait(5.0), response()]])
    house.backend("b:80", [[Wait(0.1), response()]])
    client = house.ask()
    house.wait(1.0)
    assert client.received.startswith(OK)
    assert (house.pool.leases, len(house.cluster.abandoned), len(house.records)) == (1, 1, 1)
    assert house.members[0].load_now == 1
    house.wait(4.5)
    assert (house.pool.leases, first.connections[0].open) == (0, False)
    assert house.members[0].outcomes[Outcome.CANCELLED] == 1


def test_the_budget_pays_for_it(build):
    house = hedging(build, retry={"budget_percent": 0, "budget_per_s": 0})
    house.backend("a:80", [SLOW])
    second = house.backend("b:80")
    client = house.ask()
    house.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert (second.requests, hedges(house)) == ([], {"NO_BUDGET": 1})


def test_an_ejected_backend_is_not_tried_out_by_a_hedge(build):
    """Its trial is for a request that waits for the answer."""
    house = hedging(build, "a:80", "b:80", health_check={"interval_s": 0.0})
    house.backend("a:80", [SLOW, SLOW, SLOW])
    house.ask()
    house.wait(1.5)  # b refuses the hedge, and is out for a second
    assert [type(event).__name__ for event in house.events].count("BackendEjected") == 1
    house.ask()
    house.wait(0.5)
    assert [one.outcomes[Outcome.REFUSED] for one in house.members] == [0, 1] or house.members[1].ejection.until > 0


# How it ends otherwise.


@pytest.mark.parametrize("after", [0.02, 0.06, 0.2])
def test_a_client_that_leaves_takes_both_back(two, after):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [SLOW])
    client = two.ask()
    two.wait(after)
    client.close()
    two.wait(3.0)
    assert {outcome for _, outcome in attempts(two)} == {Outcome.CLIENT_GONE}
    assert (two.pool.leases, two.cluster.open, len(two.records)) == (0, 0, 1)
    assert hedges(two) == ({} if after < DELAY_S else {"CUT": 1})


def test_where_places_are_held_for_clients_that_have_gone_both_are(build):
    house = hedging(build, max_in_flight=1, abandoned_s=30.0)
    house.backend("a:80", [SLOW])
    house.backend("b:80", [SLOW])
    client = house.ask()
    house.wait(0.2)
    client.close()
    house.clock.settle()
    assert (house.pool.leases, len(house.cluster.abandoned)) == (2, 2)
    house.wait(2.0)
    assert house.pool.leases == 0


def test_a_stop_cancels_both(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [SLOW])
    client = two.ask()
    two.wait(0.2)
    two.frontend.kill()
    two.wait(3.0)
    assert client.received.startswith(b"HTTP/1.1 503 ")
    assert {outcome for _, outcome in attempts(two)} == {Outcome.CANCELLED}


def test_the_request_s_own_deadline_ends_both(build):
    house = hedging(build, timeouts={"deadline_s": 0.5})
    house.backend("a:80", [SLOW])
    house.backend("b:80", [SLOW])
    client = house.ask()
    house.wait(3.0)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert len(house.records) == 1
    assert [one.failures for one in house.members] == [0, 0]


def test_nor_is_a_hedge_to_blame_that_is_still_being_connected_by_then(build):
    house = hedging(build, timeouts={"deadline_s": 0.5, "connect_s": 5.0})
    house.backend("a:80", [NEVER_ANSWER])
    house.network.hang("b:80")
    client = house.ask()
    house.wait(3.0)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert [outcome for _, outcome in attempts(house)] == [Outcome.LATE, Outcome.LATE]
    assert [one.failures for one in house.members] == [0, 0]


def test_a_reload_that_turns_it_off_leaves_what_runs(two):
    two.backend("a:80", [SLOW, SLOW])
    second = two.backend("b:80", [LATER, LATER])
    client = two.ask()
    two.wait(0.1)
    two.apply(hedge={"delay_s": 0.0})
    two.wait(2.0)
    assert answer(client) == (b"200", b"first\n")
    assert len(second.requests) == 1
    two.ask()
    two.ask()
    two.wait(3.0)
    assert len(second.requests) == 2, "each has one more"
    assert hedges(two) == {"LOST": 1}


def test_a_reload_that_turns_it_on_holds_for_the_next_request(build):
    house = build("a:80", "b:80")
    house.backend("a:80", [SLOW, SLOW])
    house.backend("b:80", [SLOW, QUICK])
    house.ask()
    house.apply(hedge={"delay_s": DELAY_S})
    house.wait(2.0)
    assert hedges(house) == {}
    house.ask()
    house.wait(2.0)
    assert hedges(house) == {"LOST": 1}


def test_a_pool_that_goes_meanwhile_finishes_both(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [LATER])
    client = two.ask()
    two.wait(0.1)
    two.cluster.retire()
    two.wait(3.0)
    assert answer(client) == (b"200", b"first\n")


def test_what_runs_adds_up_at_every_moment(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [LATER])
    two.ask()
    for _ in range(30):
        assert two.plane.self_check.violations == 0
        two.plane.self_check.tick(two.clock.seconds() + 100)
        two.wait(0.05)
    assert two.plane.self_check.violations == 0


# The delay.


def warmed(house, quick=100):
    """So many requests that took 10 ms each."""
    for name in ("a:80", "b:80"):
        house.backend(name, lambda _: [Wait(0.01), response()])
    for _ in range(quick):
        house.ask()
        house.wait(0.02)
    return house


def test_the_delay_follows_from_what_the_pool_s_answers_take(build):
    house = warmed(build("a:80", "b:80", hedge={"percentile": 95.0}))
    assert hedges(house) == {}
    house.wait(1.0)
    assert house.pool.hedging.delay_s(house.clock.seconds()) == pytest.approx(0.01, rel=0.13)


def test_before_enough_is_known_nothing_is_hedged(build):
    house = build("a:80", "b:80", hedge={"percentile": 95.0})
    house.backend("a:80", [SLOW])
    second = house.backend("b:80")
    house.ask()
    house.wait(2.0)
    assert second.requests == []


# What is told.


def asked_and_told(house):
    house.ask(GET.replace(b"Host", b"X-Request-ID: w\r\nHost"))
    house.wait(0.1)
    running = house.plane.explain("w")
    house.wait(5.0)
    return running, house.plane.explain("w")


def test_explain_tells_of_both_attempts_and_who_has_won(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [[Wait(0.2), response()]])
    running, told = asked_and_told(two)
    assert [one.outcome for one in running.attempts] == ["", ""]
    first, hedge = told.attempts
    assert (first.outcome, first.reason) == ("CANCELLED", "its hedge at b:80 answered first")
    assert hedge.retried == "hedged: a:80 had not answered after 0.050 s"
    assert (hedge.outcome, hedge.budget_left is None) == ("OK", False)
    assert hedge.first_byte_s == pytest.approx(0.2)
    assert told.outcome == "OK"


def test_explain_tells_of_a_hedge_that_was_late(two):
    two.backend("a:80", [SLOW])
    two.backend("b:80", [LATER])
    _, told = asked_and_told(two)
    first, hedge = told.attempts
    assert (first.backend, first.outcome, first.retried) == ("a:80", "OK", "")
    assert first.first_byte_s == pytest.approx(1.0)
    assert (hedge.outcome, hedge.reason) == ("CANCELLED", "a:80 answered first")
    assert hedge.took_s == pytest.approx(0.95)


def test_each_attempt_has_its_own_trace_span(build):
    house = hedging(build, forwarding={"traceparent": "make"})
    first, second = house.backend("a:80", [SLOW]), house.backend("b:80", [QUICK])
    house.ask()
    house.wait(2.0)
    spans = [
        line.split(b"-")[2]
        for backend in (first, second)
        for line in backend.requests[0].split(b"\r\n")
        if b"traceparent" in line
    ]
    assert len(set(spans)) == 2
    assert [house.record.trace.spans[one] for one in house.record.attempts] == spans
