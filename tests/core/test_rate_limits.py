"""Several rate limits of one request: whose key it is, and that they charge together or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.gate import client_key
from twisted_lb.core.rate import Rate, Rates
from twisted_lb.core.rate_limits import RateKey, RateLimit, RateLimits

SECRET = bytes(range(32))
HERE = client_key("192.0.2.1")


def limits_of(*limits: RateLimit, rates: Rates | None = None, previous: RateLimits | None = None) -> RateLimits:
    return RateLimits(limits, Rates(1024) if rates is None else rates, SECRET, previous)


def by_client(name: str = "client", per_s: float = 1, burst: int = 3, **more) -> RateLimit:
    return RateLimit(name, Rate(per_s, burst), RateKey.CLIENT, **more)


def by_header(name: str = "header", per_s: float = 1, burst: int = 3, **more) -> RateLimit:
    return RateLimit(name, Rate(per_s, burst), RateKey.HEADER, field=b"x-api-key", **more)


def of_route(name: str = "route", per_s: float = 1, burst: int = 3, **more) -> RateLimit:
    return RateLimit(name, Rate(per_s, burst), RateKey.ROUTE, **more)


def ask(limits: RateLimits, now: float = 0.0, client: str = HERE, value: bytes | None = None):
    return limits.admit([limit.key_of(client, value) for limit in limits.limits], now)


def said(*verdicts) -> list[str]:
    return [repr(verdict).strip("<>").removeprefix("Verdict ") for verdict in verdicts]


# Keys.


def test_clients_are_counted_one_by_one():
    limits = limits_of(by_client(burst=1))
    assert said(*(ask(limits, client=client_key(one)) for one in ("192.0.2.1", "192.0.2.2", "192.0.2.1"))) == [
        "admitted",
        "admitted",
        "refused by client, wait 1 s",
    ]


def test_an_ipv6_site_is_one_client_and_an_ipv4_one_in_an_ipv6_socket_is_itself():
    limits = limits_of(by_client(burst=1))
    clients = ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1")
    assert [ask(limits, client=client_key(one)).admitted for one in clients] == [True, False, True, True, False]


@pytest.mark.parametrize("key", [RateKey.HEADER, RateKey.COOKIE])
def test_values_of_a_header_or_a_cookie_are_counted_one_by_one_wherever_they_come_from(key):
    limits = limits_of(RateLimit("key", Rate(1, 1), key, field=b"session"))
    values = (b"one", b"two", b"one", b"", b"")
    assert [ask(limits, value=one).admitted for one in values] == [True, True, False, True, False]
    assert not ask(limits, client=client_key("192.0.2.2"), value=b"one").admitted


@pytest.mark.parametrize("key", [RateKey.HEADER, RateKey.COOKIE])
def test_who_leaves_the_header_or_the_cookie_out_is_counted_as_a_client(key):
    limits = limits_of(RateLimit("key", Rate(1, 1), key, field=b"session"))
    asked = [ask(limits), ask(limits), ask(limits, client=client_key("192.0.2.2")), ask(limits, value=b"one")]
    assert [verdict.admitted for verdict in asked] == [True, False, True, True]


@given(st.text(max_size=12), st.binary(max_size=12))
def test_no_value_of_a_header_counts_as_a_client(client, value):
    limit = by_header()
    assert limit.key_of(client, value) != limit.key_of(client, None)
    assert limit.key_of(client, client.encode()) != limit.key_of(client, None)


def test_a_route_is_counted_as_a_whole():
    limits = limits_of(of_route(burst=2))
    clients = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert [ask(limits, client=client_key(one)).admitted for one in clients] == [True, True, False]


def test_a_client_without_an_ip_address_has_no_limit_of_its_own_but_the_routes():
    alone = limits_of(by_client(burst=1))
    assert [ask(alone, client="").admitted for _ in range(9)] == [True] * 9
    both = limits_of(by_client(burst=1), of_route(burst=2))
    assert [ask(both, client="").admitted for _ in range(3)] == [True, True, False]


def test_a_client_by_address_does_not_care_for_values():
    limits = limits_of(by_client(burst=1))
    assert [ask(limits, value=one).admitted for one in (b"a", b"b", None)] == [True, False, False]


# Together.


def test_a_request_that_one_limit_refuses_is_charged_to_none():
    limits = limits_of(by_client(burst=3), of_route(burst=1, per_s=0.1))
    assert said(ask(limits), *(ask(limits, now=1.0) for _ in range(5))) == [
        "admitted",
        *["refused by route, wait 9 s"] * 5,
    ]
    # Of its own three, the client has spent one ten seconds ago; five refusals have cost nothing.
    alone = RateLimits([by_client(burst=3)], limits._rates, SECRET)
    assert [ask(alone, now=1.0).admitted for _ in range(4)] == [True, True, True, False]


def test_the_same_whichever_of_the_limits_refuses():
    limits = limits_of(by_client(burst=1, per_s=0.1), of_route(burst=5, per_s=0.001))
    assert [ask(limits).admitted for _ in range(9)] == [True, *[False] * 8]
    clients = [client_key(f"192.0.2.{number}") for number in range(2, 9)]
    assert [ask(limits, client=one).admitted for one in clients] == [True] * 4 + [False] * 3


@pytest.mark.parametrize("turned", [False, True])
def test_of_several_that_refuse_the_longest_wait_is_told(turned):
    one, other = by_client(burst=1, per_s=1), of_route(burst=1, per_s=0.1)
    limits = limits_of(*((other, one) if turned else (one, other)))
    assert said(ask(limits), ask(limits)) == ["admitted", "refused by route, wait 10 s"]
    assert (limits.tallies["route"].refused, limits.tallies["client"].refused) == (1, 0)


def test_a_request_that_costs_more_is_charged_so():
    limits = limits_of(by_client(burst=10, cost=4))
    assert said(*(ask(limits) for _ in range(3))) == ["admitted", "admitted", "refused by client, wait 2 s"]


def test_the_same_limit_on_two_routes_is_one():
    rates = Rates(1024)
    one, other = limits_of(by_client(burst=2), rates=rates), limits_of(by_client(burst=2), rates=rates)
    assert [ask(limits).admitted for limits in (one, other, one)] == [True, True, False]


@pytest.mark.parametrize(
    ("wait", "retry_after"), [(0.001, 1), (0.999, 1), (1.0, 1), (1.000_001, 2), (59.5, 60), (3600.0, 3600)]
)
def test_retry_after_is_in_whole_seconds_rounded_up(wait, retry_after):
    limits = limits_of(by_client(per_s=1 / 3600, burst=1))
    ask(limits)
    verdict = ask(limits, now=3600 - wait)
    assert verdict.wait_s == pytest.approx(wait, abs=1e-8)
    assert verdict.retry_after_s == retry_after
    assert ask(limits, now=3600 - wait + verdict.retry_after_s).admitted


# Dry run.


def test_a_dry_run_admits_and_counts_what_it_would_refuse():
    limits = limits_of(by_client(burst=2, dry_run=True))
    verdicts = [ask(limits) for _ in range(5)]
    assert said(*verdicts) == [*["admitted"] * 2, *["admitted, spared by client"] * 3]
    assert all(verdict.admitted and not verdict.wait_s for verdict in verdicts)
    assert (limits.tallies["client"].spared, limits.tallies["client"].refused) == (3, 0)


def test_a_dry_run_would_refuse_just_what_the_limit_refuses_in_earnest():
    dry, earnest = limits_of(by_client(burst=3, dry_run=True)), limits_of(by_client(burst=3))
    times = [number * 0.3 for number in range(60)]
    assert [ask(dry, now).spared is None for now in times] == [ask(earnest, now).admitted for now in times]


def test_beside_a_dry_run_the_other_limits_hold():
    limits = limits_of(by_client(burst=1, dry_run=True), of_route(burst=2))
    assert said(*(ask(limits) for _ in range(3))) == [
        "admitted",
        "admitted, spared by client",
        "refused by route, wait 1 s",
    ]
    assert (limits.tallies["client"].spared, limits.tallies["route"].refused) == (1, 1)


def test_a_dry_run_is_not_charged_for_what_another_limit_refuses():
    limits = limits_of(by_client(burst=3, dry_run=True), of_route(burst=1, per_s=0.001))
    assert [ask(limits).admitted for _ in range(9)] == [True, *[False] * 8]
    alone = RateLimits([by_client(burst=3)], limits._rates, SECRET)
    assert [ask(alone).admitted for _ in range(3)] == [True, True, False]


# Over a reload.


def test_a_reload_keeps_what_was_spent_and_what_was_counted():
    rates = Rates(1024)
    before = limits_of(by_client(burst=3), rates=rates)
    assert [ask(before).admitted for _ in range(4)] == [True] * 3 + [False]
    after = limits_of(of_route(burst=9), by_client(burst=3, dry_run=True), rates=rates, previous=before)
    assert said(ask(after), ask(after, now=1.0)) == ["admitted, spared by client", "admitted"]
    assert (after.tallies["client"].refused, after.tallies["client"].spared) == (1, 1)


def test_a_reload_with_another_rate_goes_on_from_what_is_owed():
    rates = Rates(1024)
    slow = limits_of(by_client(per_s=1 / 60, burst=60), rates=rates)
    assert [ask(slow).admitted for _ in range(61)] == [True] * 60 + [False]
    quick = limits_of(by_client(per_s=10, burst=10), rates=rates, previous=slow)
    assert said(ask(quick), ask(quick, now=0.1), ask(quick, now=0.1)) == [
        "refused by client, wait 0.1 s",
        "admitted",
        "refused by client, wait 0.1 s",
    ]


def test_a_limit_of_another_name_begins_anew():
    rates = Rates(1024)
    before = limits_of(by_client("old", burst=1), rates=rates)
    assert [ask(before).admitted for _ in range(2)] == [True, False]
    after = limits_of(by_client("new", burst=1), rates=rates, previous=before)
    assert ask(after).admitted
    assert list(after.tallies) == ["new"]


# Configuration.


@pytest.mark.parametrize("cost", [0, -1, 4])
def test_a_cost_that_would_never_be_admitted_is_refused(cost):
    with pytest.raises(ValueError) as raised:
        by_client("api", burst=3, cost=cost)
    assert str(raised.value) == f"api: a cost of {cost} is not between 1 and the burst, 3"


@pytest.mark.parametrize("key", [RateKey.HEADER, RateKey.COOKIE])
def test_by_header_or_cookie_a_limit_has_to_say_which(key):
    with pytest.raises(ValueError) as raised:
        RateLimit("api", Rate(1, 1), key)
    assert str(raised.value) == f"api: by {key.value} it has to have the name of a field"


@pytest.mark.parametrize("key", [RateKey.CLIENT, RateKey.ROUTE])
def test_by_client_or_route_no_field_means_anything(key):
    with pytest.raises(ValueError) as raised:
        RateLimit("api", Rate(1, 1), key, field=b"x-api-key")
    assert str(raised.value) == f"api: by {key.value} it has no name of a field"


def test_a_route_has_each_limit_once():
    with pytest.raises(ValueError) as raised:
        limits_of(by_client("a"), of_route("b"), by_header("a"))
    assert str(raised.value) == "a route has each limit once: a, b, a"


def test_limits_of_the_same_content_are_equal():
    assert by_client() == by_client()
    others = {
        by_client(),
        by_client("b"),
        by_client(burst=2),
        by_client(dry_run=True),
        by_client(cost=2),
        of_route(),
        by_header(),
    }
    assert len(others) == 7


def test_a_limit_says_what_it_is():
    limits = limits_of(by_client("api", per_s=0.5, dry_run=True))
    assert repr(limits) == "<RateLimits [<RateLimit api: <Rate 0.5/s, burst 3> by client, dry run>]>"
