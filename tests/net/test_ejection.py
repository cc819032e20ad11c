"""A backend that serves badly is taken out by what requests meet there, and comes back by a trial: on a network in memory."""

import re
from collections import Counter

import pytest
from house import GET, House

from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import BackendEjected, BackendReturned, EjectionWithheld
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, ScriptedClient, Wait, response

HOSTS = [f"10.0.0.{number}" for number in range(1, 8)]
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: chess\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chess\r\n\r\n"


@pytest.fixture
def house():
    """Makes balancers, and ends them."""
    made = []

    def make(*names, **options):
        made.append(House(*names, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def always(*steps):
    return lambda request: list(steps)


def come(lb, times, request=GET, hosts=HOSTS, at="lb:8080"):
    """So many requests, each of a new connection, from these hosts in turn: the statuses that they got."""
    seen = Counter()
    for number in range(times):
        client = ScriptedClient(lb.network, at, hosts[number % len(hosts)])
        client.send(request)
        lb.clock.settle()
        seen[int(client.received[9:12] or 0)] += 1
        client.close()
        lb.clock.settle()
    return seen


def happened(lb, kind):
    return [event for event in lb.events if isinstance(event, kind)]


def three(house, **options):
    """Three backends, of which the first does as it is told."""
    lb = house("a:80", "b:80", "c:80", **options)
    return lb, lb.backend("a:80"), lb.backend("b:80"), lb.backend("c:80")


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [((RESET,), "NO_RESPONSE"), ((CLOSE,), "NO_RESPONSE"), ((b"no HTTP\r\n\r\n", CLOSE), "BAD_RESPONSE")],
    ids=["reset", "close", "no HTTP"],
)
def test_who_breaks_connections_is_ejected_and_the_others_get_all(house, steps, outcome):
    lb, a, b, c = three(house)
    a.answer = always(*steps)
    assert come(lb, 30) == {200: 30}  # all were repeated elsewhere
    [ejected] = happened(lb, BackendEjected)
    assert (ejected.backend_name, ejected.rule) == ("a:80", EjectionRule.CONSECUTIVE_FAILURES)
    assert re.fullmatch(f"5 failures in a row of [2-5] clients: 5 {outcome}", ejected.because)
    before = len(a.requests), len(b.requests), len(c.requests)
    assert before[0] == 5
    assert come(lb, 30) == {200: 30}
    assert [len(one.requests) - was for one, was in zip((a, b, c), before, strict=True)] == [0, 15, 15]


def test_who_hangs_is_ejected_by_requests_that_time_out(house):
    lb, a, *_ = three(house, timeouts={"attempt_s": 1.0})
    a.answer = always(NEVER_ANSWER)
    for number in range(15):
        client = ScriptedClient(lb.network, "lb:8080", f"10.0.0.{number}")
        client.send(GET)
        lb.wait(1.5)
        client.close()
        lb.clock.settle()
    [ejected] = happened(lb, BackendEjected)
    assert ejected.because == "5 failures in a row of 5 clients: 5 TIMED_OUT"


def test_who_does_not_answer_connects_is_ejected(house):
    lb = house("a:80", "b:80", "c:80", timeouts={"connect_s": 0.5})
    lb.backend("b:80"), lb.backend("c:80")
    lb.network.hang("a:80")
    for number in range(15):
        client = ScriptedClient(lb.network, "lb:8080", f"10.0.0.{number}")
        client.send(GET)
        lb.wait(1.0)
        client.close()
        lb.clock.settle()
    [ejected] = happened(lb, BackendEjected)
    assert ejected.because == "5 failures in a row of 5 clients: 5 CONNECT_TIMEOUT"


def test_one_client_cannot_take_out_one_backend_after_the_other(house):
    """Query of death: each backend that gets this request of this client breaks off, all others are served."""
    lb, *backends = three(house)
    for one in backends:
        one.answer = lambda request: [CLOSE] if b"/kills" in request else [response(b"ok")]
    kills = GET.replace(b"GET /", b"GET /kills")
    for _ in range(20):
        assert come(lb, 1, kills, ("10.6.6.6",)) == {502: 1}
    assert happened(lb, BackendEjected) == []
    assert all("1 client:" in one.failing for one in lb.members)
    assert come(lb, 6) == {200: 6}
    assert [one.failing for one in lb.members] == ["", "", ""]


def test_who_comes_through_a_trusted_proxy_is_told_from_others_by_what_it_says(house):
    def named(client):
        return GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: %b\r\n\r\n" % client)

    lb, a, *_ = three(house, forwarding={"trusted_proxies": ["10.0.0.0/8"]}, retry={"more_attempts": 0})
    a.answer = always(CLOSE)
    for _ in range(40):
        come(lb, 1, named(b"192.0.2.1"))
    assert happened(lb, BackendEjected) == []
    while not happened(lb, BackendEjected):
        come(lb, 1, named(b"192.0.2.2"))
    assert "of 2 clients" in happened(lb, BackendEjected)[0].because


def test_who_only_says_to_be_many_is_one_client(house):
    lb, a, *_ = three(house)
    a.answer = always(CLOSE)
    for number in range(60):
        told = b"\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n" % number
        come(lb, 1, GET.replace(b"\r\n\r\n", told), ("10.6.6.6",))
    assert happened(lb, BackendEjected) == []


def test_an_ipv6_site_is_one_client(house):
    lb, a, *_ = three(house)
    a.answer = always(CLOSE)
    come(lb, 60, hosts=[f"2001:db8::{number:x}" for number in range(1, 60)])
    assert happened(lb, BackendEjected) == []
    come(lb, 9, hosts=["2001:db8:0:1::1"])
    assert [event.backend_name for event in happened(lb, BackendEjected)] == ["a:80"]


def test_statuses_count_only_where_they_are_named(house):
    lb, a, *_ = three(house)
    a.answer = always(response(b"no", 500))
    assert come(lb, 60)[500] == 20
    assert happened(lb, BackendEjected) == []
    lb.apply(retry={"bad_statuses": [500]})
    come(lb, 30)
    [ejected] = happened(lb, BackendEjected)
    assert re.fullmatch("5 failures in a row of [2-5] clients: 5 BAD_STATUS", ejected.because)


def test_a_status_counts_too_where_the_client_gets_it(house):
    """What must not be sent twice is not retried, and blames its backend all the same."""
    lb, a, *_ = three(house, retry={"bad_statuses": [503]})
    a.answer = always(response(b"no", 503))
    seen = come(lb, 60, POST)
    assert (seen[503], seen[200]) == (5, 55)
    assert [event.outcome for event in happened(lb, BackendEjected)] == [Outcome.BAD_STATUS]


def test_who_answers_500_at_once_gets_under_two_per_cent(house):
    """Of 3,000 requests in a minute: 5 until it goes, and a trial after 10, 30 and 60 s or a little later."""
    lb, a, b, c = three(house, policy="least", retry={"bad_statuses": [500]})
    a.answer = always(response(b"no", 500))
    for _ in range(300):
        assert come(lb, 10) == {200: 10}
        lb.wait(0.2)
    assert 5 <= len(a.requests) <= 8
    assert len(a.requests) / (len(a.requests) + len(b.requests) + len(c.requests)) < 0.02


def test_in_an_outage_of_all_half_stay_in_and_all_are_used_again_when_it_is_over(house):
    lb = house("a:80", "b:80", "c:80", "d:80", retry={"more_attempts": 0}, ejection={"base_s": 2.0})
    backends = [lb.backend(f"{name}:80") for name in "abcd"]
    for one in backends:
        one.answer = always(CLOSE)
    come(lb, 200)
    assert len(happened(lb, BackendEjected)) == 2
    assert len(happened(lb, EjectionWithheld)) == 2
    assert sum(one.usable for one in lb.members) == 2
    withheld = Counter(one.totals.withheld for one in lb.members)
    assert withheld == {0: 2, 1: 2}
    for one in backends:
        one.answer = always(response(b"ok"))
    lb.wait(3.0)
    assert come(lb, 20) == {200: 20}
    assert all(one.usable for one in lb.members)
    assert len(happened(lb, BackendReturned)) == 2


def test_a_sole_backend_is_never_ejected_for_serving_badly(house):
    lb = house("a:80")
    lb.backend("a:80").answer = always(CLOSE)
    come(lb, 50)
    assert lb.members[0].usable
    assert happened(lb, BackendEjected) == []


def failing(house, **options):
    """Two backends, the first of which was ejected just now."""
    lb = house("a:80", "b:80", **options)
    a, b = lb.backend("a:80"), lb.backend("b:80")
    a.answer = always(CLOSE)
    come(lb, 30)
    assert [event.backend_name for event in happened(lb, BackendEjected)] == ["a:80"]
    lb.events.clear()
    a.requests.clear()
    return lb, a, b


def test_one_request_tries_it_and_a_failure_rests_twice_as_long(house):
    lb, a, _ = failing(house)
    lb.wait(11.5)
    assert come(lb, 10) == {200: 10}  # the trial was repeated at the other one
    assert len(a.requests) == 1
    [again] = happened(lb, BackendEjected)
    assert again.because.startswith("a trial request failed: ")
    assert 20.0 <= again.until - again.at <= 22.0
    a.answer = always(response(b"ok"))
    lb.wait(22.5)
    assert come(lb, 10) == {200: 10}
    assert [event.reason for event in happened(lb, BackendReturned)] == ["a trial request was answered"]
    assert len(a.requests) == 1 + 5 or len(a.requests) == 1 + 6


@pytest.mark.parametrize(
    ("request_", "steps"), [(GET, (STREAM, Wait(100.0), CLOSE)), (UPGRADE, (SWITCH,))], ids=["stream", "tunnel"]
)
def test_the_head_of_an_answer_that_may_last_brings_it_back(house, request_, steps):
    lb, a, b = failing(house, upgrades=["chess"])
    a.answer = b.answer = always(*steps)
    lb.wait(11.5)
    clients = [lb.ask(request_) for _ in range(2)]
    assert [event.backend_name for event in happened(lb, BackendReturned)] == ["a:80"]
    assert [one.in_flight for one in lb.members] == [1, 1]
    for one in clients:
        one.reset()
    lb.clock.settle()


def test_a_stream_of_a_bad_status_does_not(house):
    bad = STREAM.replace(b"200 OK", b"500 No")
    lb, a, _ = failing(house, retry={"bad_statuses": [500], "more_attempts": 0})
    a.answer = always(bad, b"0\r\n\r\n")
    lb.wait(11.5)
    come(lb, 4)
    assert happened(lb, BackendReturned) == []
    assert [event.outcome for event in happened(lb, BackendEjected)] == [Outcome.BAD_STATUS]


def test_a_client_that_leaves_says_nothing_of_a_backend(house):
    lb, a, *_ = three(house)
    a.answer = always(NEVER_ANSWER)
    for number in range(60):
        client = ScriptedClient(lb.network, "lb:8080", f"10.0.0.{number}")
        client.send(GET)
        lb.clock.settle()
        client.reset()
        lb.clock.settle()
    assert happened(lb, BackendEjected) == []
    assert [one.failures for one in lb.members] == [0, 0, 0]


def test_rates_are_looked_at_as_time_passes(house):
    lb = house(
        *(f"{name}:80" for name in "abcde"), retry={"bad_statuses": [500]},
        ejection={"consecutive_failures": 0, "failure_percent": 50, "failure_percent_requests": 20},
    )  # fmt: skip
    backends = [lb.backend(f"{name}:80") for name in "abcde"]
    backends[0].answer = always(response(b"no", 500))
    lb.wait(0.6)
    come(lb, 120)
    assert happened(lb, BackendEjected) == []
    lb.wait(0.6)
    [ejected] = happened(lb, BackendEjected)
    assert (ejected.backend_name, ejected.rule, ejected.outcome) == ("a:80", EjectionRule.FAILURE_PERCENT, None)


def test_a_reload_changes_the_rules_and_whoever_is_out_stays_out(house):
    lb, a, _ = failing(house)
    lb.apply(ejection={"consecutive_failures": 0})
    assert not lb.members[0].usable
    lb.wait(11.5)
    a.answer = always(response(b"ok"))
    come(lb, 4)
    assert lb.members[0].usable
    a.answer = always(CLOSE)
    come(lb, 40)
    assert lb.members[0].usable
