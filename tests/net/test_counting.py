"""What is counted of requests: each once, whatever becomes of it, and with what happened to it."""

import pytest
from house import GET

from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.flow import METHODS, SOURCES
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.totals import KINDS, Denied
from twisted_lb.net.frontend import REASONS
from twisted_lb.plan import DEFAULT
from twisted_lb.testing import CLOSE, NEVER_ANSWER, Wait, response


@pytest.fixture
def house(build):
    return build


def frontend(house):
    return house.plane.frontends[DEFAULT]


def counted(house, listener=DEFAULT) -> dict[str, int]:
    """The requests that were counted, in words: `GET 2xx backend`."""
    found: dict[str, int] = {}
    for flow in house.plane.frontends[listener].flows.all:
        for at, count in enumerate(flow.requests()):
            method, rest = divmod(at, len(SOURCES) * len(KINDS))
            source, kind = divmod(rest, len(KINDS))
            if count:
                words = f"{METHODS[method]} {KINDS[kind]} {SOURCES[source]}"
                found[words] = found.get(words, 0) + count
    return found


def refused(house) -> dict[Refusal, int]:
    return {reason: n for reason, n in zip(REASONS, frontend(house).refusals, strict=True) if n}


def flow_of(house, pool=DEFAULT):
    [flow] = [one for one in frontend(house).flows.all if one.pool == pool]
    return flow


def denied(house) -> dict[Denied, int]:
    return {why: house.cluster.pool.totals.denied[why] for why in Denied if house.cluster.pool.totals.denied[why]}


def retried(house) -> dict[Outcome, int]:
    return {why: house.cluster.pool.totals.retries[why] for why in Outcome if house.cluster.pool.totals.retries[why]}


def test_a_plain_request_is_counted_once_with_method_kind_and_source(house):
    lb = house("a:80")
    lb.backend("a:80")
    client = lb.client()
    for _ in range(3):
        lb.ask(GET, client)
    lb.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody", client)
    assert counted(lb) == {"GET 2xx backend": 3, "POST 2xx backend": 1}
    flow = flow_of(lb)
    assert (flow.begun, flow.ended, flow.open) == (4, 4, 0)
    assert flow.bytes_up == 4
    assert flow.bytes_down == 4 * len(b"ok\n")
    assert sum(flow.durations(KINDS.index("2xx")).counts) == 4
    [backend] = lb.members
    assert backend.totals.answers() == [0, 0, 4, 0, 0, 0]
    assert backend.totals.connections == 1
    assert lb.cluster.pool.totals.connect.reading().count == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "get"])
def test_a_method_is_counted_by_its_name_and_one_that_nobody_knows_as_other(house, method):
    lb = house("a:80")
    lb.backend("a:80")
    lb.ask(b"%b / HTTP/1.1\r\nHost: x\r\n\r\n" % method.encode())
    assert counted(lb) == {f"{method if method in METHODS else '_OTHER'} 2xx backend": 1}


def test_a_request_that_nobody_answers_is_of_no_kind_and_ours(house):
    lb = house("a:80")
    lb.backend("a:80", [NEVER_ANSWER])
    client = lb.ask(GET)
    assert flow_of(lb).open == 1
    assert counted(lb) == {}
    client.reset()
    lb.clock.settle()
    assert counted(lb) == {"GET other proxy": 1}
    assert flow_of(lb).open == 0


def test_what_we_answer_ourselves_is_counted_as_ours_with_the_refusal(house):
    lb = house("a:80")
    lb.ask(GET)
    lb.ask(GET)
    assert counted(lb) == {"GET 5xx proxy": 2}
    assert refused(lb) == {Refusal.NO_BACKEND: 1}  # the first one was not refused: its backend did not listen
    assert [member.outcomes[Outcome.REFUSED] for member in lb.members] == [1]


def test_what_is_no_request_is_counted_without_a_route(house):
    lb = house("a:80")
    lb.ask(b"NONSENSE\r\n\r\n")
    assert counted(lb) == {"_OTHER 4xx proxy": 1}
    assert refused(lb) == {Refusal.BAD_REQUEST: 1}
    assert flow_of(lb, "").route == ""


def test_a_body_that_its_client_breaks_is_a_refusal(house):
    lb = house("a:80")
    lb.backend("a:80", [NEVER_ANSWER])
    lb.ask(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nnonsense\r\n")
    assert counted(lb) == {"POST 4xx proxy": 1}
    assert refused(lb) == {Refusal.BAD_REQUEST: 1}


def test_the_final_answer_to_a_trace_that_goes_no_further_is_counted(house):
    lb = house("a:80")
    lb.ask(b"TRACE / HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n")
    assert counted(lb) == {"TRACE 2xx proxy": 1}


def test_an_answer_of_a_route_is_counted_by_the_route_and_no_pool(house):
    lb = house("a:80", routes=[{"name": "old", "path": "/", "redirect": {"to": "https://example.com/"}}])
    lb.ask(GET)
    assert counted(lb) == {"GET 3xx proxy": 1}
    assert [(flow.route, flow.pool) for flow in frontend(lb).flows.all] == [("old", "")]
    assert refused(lb) == {}


def test_who_waits_for_the_phases_of_an_answer_is_counted_with_each(house):
    lb = house("a:80")
    lb.backend(
        "a:80", [[Wait(1.0), b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", Wait(2.0), b"ab", Wait(4.0), b"cd"]]
    )
    lb.ask(GET)
    lb.wait(8.0)
    totals = lb.cluster.pool.totals
    assert totals.first_byte.total_s == pytest.approx(1.0)
    assert totals.first_body.total_s == pytest.approx(3.0)
    whole = flow_of(lb).durations(2)
    assert (whole.count, whole.total_s) == (1, pytest.approx(7.0))
    assert lb.members[0].totals.lasted[2].total_s == pytest.approx(7.0)


def test_an_answer_that_is_cut_is_counted_with_its_status_and_not_among_the_times_of_whole_ones(house):
    lb = house("a:80")
    lb.backend("a:80", [[b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", CLOSE]])
    lb.ask(GET)
    assert counted(lb) == {"GET 2xx backend": 1}
    assert lb.members[0].totals.answers() == [0, 0, 1, 0, 0, 0]
    assert lb.members[0].totals.lasted == [None] * len(KINDS)


def test_a_tunnel_is_counted_when_it_ends_with_its_bytes(house):
    lb = house("a:80")
    lb.backend(
        "a:80", [[b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"hello"]]
    )
    client = lb.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert counted(lb) == {}
    assert flow_of(lb).open == 1
    client.reset()
    lb.clock.settle()
    assert counted(lb) == {"GET 1xx backend": 1}
    assert flow_of(lb).bytes_down == 5
    assert lb.members[0].totals.answers()[1] == 1


def test_waits_in_the_queue_are_counted_how_long_they_were(house):
    lb = house("a:80", queue={"no_backend_s": 5.0})
    lb.ask(GET)
    lb.wait(2.0)
    lb.backend("a:80")
    lb.wait(4.0)
    queue = lb.cluster.pool.totals.queue.reading()
    assert queue.count >= 1
    assert 2.0 <= queue.total_s <= 5.0


def test_a_retry_is_counted_by_what_came_before_it(house):
    lb = house("a:80", "b:80")
    lb.backend("b:80")
    lb.ask(GET)
    assert counted(lb) == {"GET 2xx backend": 1}
    assert retried(lb) == {Outcome.REFUSED: 1}
    assert denied(lb) == {}


def test_a_status_that_is_retried_counts_at_both_backends(house):
    lb = house("a:80", "b:80", retry={"bad_statuses": [503]})
    lb.backend("a:80", [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"])
    lb.backend("b:80")
    lb.ask(GET)
    assert retried(lb) == {Outcome.BAD_STATUS: 1}
    assert [member.totals.answers() for member in lb.members] == [[0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("request_", "script", "options", "why"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", [CLOSE], {}, Denied.NOT_IDEMPOTENT),
        (GET, [CLOSE], {"retry": {"more_attempts": 0}}, Denied.ATTEMPTS),
        (GET, [CLOSE], {"retry": {"budget_percent": 0, "budget_per_s": 0}}, Denied.BUDGET),
        (GET, [CLOSE], {}, Denied.TRIED_ALL),
        (GET, [NEVER_ANSWER], {}, Denied.TIME),
        (
            b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789",
            [CLOSE],
            {"limits": {"replay_body_bytes": 1}},
            Denied.BODY_GONE,
        ),
    ],
)
def test_a_retry_that_is_not_made_is_counted_with_the_reason(house, request_, script, options, why):
    lb = house("a:80", **options)
    lb.backend("a:80", [script] * 9)
    lb.ask(request_)
    lb.wait(100.0)
    assert denied(lb) == {why: 1}
    assert retried(lb) == {}


def test_a_fallback_counts_the_request_where_it_ended(house):
    lb = house("a:80", pools={"q": {"backends": ["b:80"]}}, routes=[{"pool": "default", "fallback": "q", "name": "r"}])
    lb.backend("b:80")
    lb.ask(GET)
    lb.ask(GET)
    assert [(one.pool, one.begun, one.ended) for one in frontend(lb).flows.all] == [("default", 0, 0), ("q", 2, 2)]


def test_counts_outlive_reloads(house):
    lb = house("a:80")
    lb.backend("a:80")
    client = lb.ask(GET)
    lb.apply(timeouts={"response_head_s": 7.0})
    lb.ask(GET, client)
    assert counted(lb) == {"GET 2xx backend": 2}
    assert len(frontend(lb).flows.all) == 1


def test_what_a_removed_backend_has_done_stays_with_its_pool(house):
    lb = house("a:80", "b:80")
    lb.backend("a:80", [response(b"x"), NEVER_ANSWER])
    lb.ask(GET)
    client = lb.ask(GET, lb.ask(GET))
    lb.apply(backends=["b:80"])
    totals = lb.cluster.pool.totals
    client.reset()
    lb.clock.settle()
    assert sum(totals.gone_outcomes) + sum(sum(member.outcomes) for member in lb.members) == sum(
        flow.ended for flow in frontend(lb).flows.all
    ) + sum(totals.retries)


def test_ejections_and_changes_of_state_are_counted_at_the_backend(house):
    lb = house("a:80")
    lb.ask(GET)
    [backend] = lb.members
    assert backend.totals.ejections[EjectionRule.REFUSED] == 1
    assert backend.totals.changes == {"ejected": 1}
    lb.cluster.observe_probe("a:80", False, "no", asked_at=lb.clock.seconds() - 0.5)
    lb.cluster.observe_probe("a:80", True, "yes", asked_at=lb.clock.seconds() - 0.25)
    assert backend.totals.checks[False].total_s == pytest.approx(0.5)
    assert backend.totals.checks[True].total_s == pytest.approx(0.25)


def test_clients_are_counted_when_they_come(house):
    lb = house("a:80")
    lb.client()
    lb.client().reset()
    lb.clock.settle()
    gate = frontend(lb).gate
    assert (gate.entered, gate.open) == (2, 1)
