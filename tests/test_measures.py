"""Measures of a whole data plane: sums over everything, which no reload takes away, and which add up over processes."""

import pytest
from house import GET

from twisted_lb.core.histogram import NOTHING, Histogram
from twisted_lb.core.measures import Measures
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.totals import KINDS
from twisted_lb.testing import NEVER_ANSWER, Wait, response


@pytest.fixture
def house(build):
    return build


def pool_of(measures: Measures, name: str = "default"):
    [pool] = [one for one in measures.pools if one.name == name]
    return pool


def requests(measures: Measures) -> int:
    return sum(sum(route.requests) for listener in measures.listeners for route in listener.routes)


def test_measures_have_what_was_counted_by_listener_pool_and_backend(house):
    lb = house("a:80")
    lb.backend("a:80", [[Wait(0.5), response(b"hello")]])
    lb.ask(GET)
    lb.wait(1.0)
    measures = lb.plane.measures()
    [listener] = measures.listeners
    assert (listener.name, listener.connections, listener.connections_total) == ("default", 1, 1)
    assert listener.transferred == (("default", 0, 5),)
    [route] = listener.routes
    assert (route.route, route.pool, route.running, sum(route.requests)) == ("default", "default", 0, 1)
    pool = pool_of(measures)
    assert [one.count for one in pool.durations] == [0, 0, 1, 0, 0, 0]
    assert (pool.first_byte.count, pool.first_body.count, pool.connect.count, pool.queue.count) == (1, 1, 1, 0)
    assert (pool.bytes_up, pool.bytes_down, pool.usable, pool.in_flight, pool.queued) == (0, 5, 1, 0, 0)
    [backend] = pool.backends
    assert (backend.name, backend.admin, backend.up, backend.known, backend.ejected) == (
        "a:80", "ready", True, False, False,
    )  # fmt: skip
    assert (backend.idle_connections, backend.busy_connections, backend.connections_total) == (1, 0, 1)
    assert (backend.weight, backend.weight_effective, backend.load, backend.limit) == (1, 1, 0.0, 0)
    assert backend.duration.total_s == pytest.approx(0.5)
    assert backend.outcomes[Outcome.OK] == 1


def test_what_runs_is_shown_while_it_runs(house):
    lb = house("a:80")
    lb.backend("a:80", [NEVER_ANSWER])
    lb.ask(GET)
    measures = lb.plane.measures()
    assert measures.listeners[0].routes[0].running == 1
    assert pool_of(measures).in_flight == 1
    assert pool_of(measures).backends[0].busy_connections == 1


def test_an_answer_that_comes_at_once_is_counted_in_the_phases_too(house):
    lb = house("a:80")
    lb.backend("a:80")
    client = lb.ask(GET)
    lb.ask(GET, client)
    pool = pool_of(lb.plane.measures())
    assert pool.first_byte.count == pool.first_body.count == pool.durations[2].count == 2


def test_no_total_of_a_pool_goes_down_when_routes_and_backends_go(house):
    routes = [{"name": "one", "path_prefix": "/1", "pool": "default"}, {"name": "two", "pool": "default"}]
    lb = house("a:80", "b:80", routes=routes)
    lb.backend("a:80")
    lb.backend("b:80")
    client = lb.client()
    for target in (b"/1", b"/2", b"/1", b"/2"):
        lb.ask(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % target, client)
    before = lb.plane.measures()
    lb.apply(routes=[{"name": "three", "pool": "default"}], backends=["b:80", "c:80"])
    lb.ask(GET, client)
    after = lb.plane.measures()
    assert {one.route for one in after.listeners[0].routes} == {"three"}
    was, now = pool_of(before), pool_of(after)
    assert now.durations[2].count == was.durations[2].count + 1 == 5
    assert now.first_byte.count == 5
    assert sum(now.outcomes) == 5
    assert now.backend_durations.count == 5
    assert now.bytes_down == 5 * len(b"ok\n")
    assert after.listeners[0].transferred == (("default", 0, 15),)
    assert all(count >= 0 for count in (now.durations[2] - was.durations[2]).counts)


def test_a_route_that_is_gone_is_counted_until_its_last_exchange_has_ended(house):
    lb = house("a:80", routes=[{"name": "one", "pool": "default"}])
    lb.backend("a:80", [[Wait(5.0), response(b"late")]])
    lb.ask(GET)
    lb.apply(routes=[{"name": "two", "pool": "default"}])
    assert [one.route for one in lb.plane.measures().listeners[0].routes] == ["one"]
    lb.wait(6.0)
    measures = lb.plane.measures()
    assert measures.listeners[0].routes == ()
    assert pool_of(measures).durations[2].count == 1
    assert measures.listeners[0].transferred == (("default", 0, 4),)


def test_what_a_listener_that_is_gone_has_counted_stays_with_its_pool(house):
    lb = house("a:80", listen={"port": 8080}, listeners={"two": {"address": "127.0.0.1:8081"}})
    lb.backend("a:80")
    lb.open("two", "lb:8081")
    lb.ask(GET, lb.client("lb:8081")).close()
    lb.clock.settle()
    assert pool_of(lb.plane.measures()).durations[2].count == 1
    lb.plane.apply(lb.plan_without("listeners"))
    lb.ask(GET)
    lb.wait(1.0)
    measures = lb.plane.measures()
    assert "two" not in [one.name for one in measures.listeners]
    assert pool_of(measures).durations[2].count == 2


def test_measures_of_two_processes_add_up(house):
    lb = house("a:80", "b:80")
    lb.backend("a:80")
    lb.backend("b:80", [NEVER_ANSWER])
    lb.ask(GET)
    lb.ask(GET)
    one = lb.plane.measures()
    both = one.merged(one)
    assert requests(both) == 2 * requests(one) == 2
    mine, ours = pool_of(one), pool_of(both)
    assert (ours.in_flight, ours.durations[2].count, ours.bytes_down) == (2, 2, 6)
    assert (ours.usable, len(ours.backends)) == (mine.usable, len(mine.backends)) == (2, 2)
    assert sum(ours.outcomes) == 2 * sum(mine.outcomes)
    assert [backend.connections_total for backend in ours.backends] == [2, 2]
    assert both.listeners[0].connections == 4
    nobody = Measures((), ())
    assert one.merged(nobody) == nobody.merged(one) == one


def test_the_latency_of_a_backend_within_a_window_is_the_difference_of_two_moments(house):
    lb = house("a:80")
    script = [[Wait(0.01), response(b"x")]] * 10 + [[Wait(1.0), response(b"x")]] * 10
    lb.backend("a:80", script)
    client = lb.client()
    for _ in range(10):
        lb.ask(GET, client)
        lb.wait(2.0)
    before = pool_of(lb.plane.measures()).backends[0].duration
    for _ in range(10):
        lb.ask(GET, client)
        lb.wait(2.0)
    window = pool_of(lb.plane.measures()).backends[0].duration - before
    assert before.quantile(0.99) == pytest.approx(0.01, rel=0.125)
    assert window.count == 10
    assert window.quantile(0.5) == pytest.approx(1.0, rel=0.125)


def test_kinds_are_those_of_a_status():
    assert KINDS == ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
    assert Histogram().reading() == NOTHING
