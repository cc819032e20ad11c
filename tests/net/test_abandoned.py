"""Requests whose clients have gone, and that their backends may still work at: they hold their places for as long as is set."""

import pytest
from house import GET

from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import NEVER_ANSWER, RESET, Wait, response

OK = b"HTTP/1.1 200 OK"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel"


@pytest.fixture
def one(build):
    """One backend that has one request at a time, whose place is held for 30 s."""
    return build("a:80", max_in_flight=1, abandoned_s=30.0, queue={"timeout_s": 100.0})


def test_a_worker_that_goes_on_working_gets_no_other_request_until_it_has_answered(one):
    backend = one.backend("a:80", [[Wait(5.0), response()]])
    client = one.ask()
    one.wait(1.0)
    client.close()
    one.clock.settle()
    waiting = one.ask()
    assert (one.pool.leases, one.pool.waiting, len(backend.requests)) == (1, 1, 1)
    one.wait(3.9)
    assert len(backend.requests) == 1
    one.wait(0.2)
    assert (waiting.received[:15], len(backend.requests)) == (OK, 2)
    assert one.pool.leases == 0


def test_its_end_is_told_at_once_and_once(one):
    one.backend("a:80", [[Wait(5.0), response()]])
    client = one.ask()
    client.close()
    one.clock.settle()
    assert (one.record.ended_by, [attempt.outcome for attempt in one.record.attempts]) == (
        Outcome.CLIENT_GONE,
        [Outcome.CLIENT_GONE],
    )
    one.wait(6.0)
    assert len(one.records) == 1
    assert one.members[0].outcomes[Outcome.CLIENT_GONE] == sum(one.members[0].outcomes) == 1


def test_who_closes_when_it_is_told_is_free_at_once(one):
    backend = one.backend("a:80", [NEVER_ANSWER])
    client = one.ask()
    waiting = one.ask()
    client.close()
    one.clock.settle()
    assert one.pool.leases == 1
    backend.connections[0].transport.loseConnection()
    one.clock.settle()
    assert waiting.received.startswith(OK)


def test_a_reset_ends_it_too(one):
    one.backend("a:80", [[Wait(2.0), RESET]])
    one.ask().close()
    one.clock.settle()
    assert one.pool.leases == 1
    one.wait(2.0)
    assert one.pool.leases == 0
    assert one.members[0].failures == 0, "nobody blames it"


def test_who_never_answers_is_free_when_the_time_is_over(one):
    backend = one.backend("a:80", [NEVER_ANSWER])
    one.ask().close()
    one.clock.settle()
    waiting = one.ask()
    one.wait(29.8)
    assert (one.pool.leases, waiting.received) == (1, b"")
    one.wait(0.6)
    assert waiting.received.startswith(OK)
    assert not backend.connections[0].open


def test_a_stream_that_goes_on_is_thrown_away_and_holds_no_longer_than_that(one):
    piece = b"5\r\nhello\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    one.backend("a:80", [[head, *[step for _ in range(100) for step in (piece, Wait(1.0))]]])
    client = one.ask()
    one.wait(3.5)
    client.close()
    one.clock.settle()
    one.wait(29.0)
    assert one.pool.leases == 1
    one.wait(1.5)
    assert (one.pool.leases, one.cluster.open) == (0, 0)


ENDS = {
    "TIMED_OUT": {"timeouts": {"attempt_s": 2.0}},
    "LATE": {"timeouts": {"deadline_header": "X-Wait"}},
}


@pytest.mark.parametrize("outcome", ENDS)
def test_who_is_given_up_keeps_its_place_for_as_long_as_its_backend_works_at_it_and_is_told_at_once(build, outcome):
    one = build("a:80", max_in_flight=1, abandoned_s=30.0, queue={"timeout_s": 100.0}, **ENDS[outcome])
    backend = one.backend("a:80", [[Wait(5.0), response(b"too late")]])
    client = one.ask(b"GET / HTTP/1.1\r\nHost: x\r\nX-Wait: 2000\r\n\r\n")
    one.wait(2.5)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    [member] = one.members
    assert (one.record.ended_by.name, member.outcomes[one.record.ended_by], member.held) == (outcome, 1, 1)
    assert one.pool.broken() == []
    waiting = one.ask(b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (len(backend.requests), one.pool.waiting) == (1, 1)
    backend.script.append(response())
    one.wait(2.6)
    assert waiting.received.startswith(OK)
    assert b"too late" not in client.received + waiting.received
    assert (one.pool.leases, member.held, len(backend.connections)) == (0, 0, 2)


def test_a_retry_goes_elsewhere_and_the_old_place_is_held(build):
    one = build("a:80", "b:80", max_in_flight=1, abandoned_s=30.0, timeouts={"attempt_s": 2.0})
    for address in ("a:80", "b:80"):
        one.backend(address, [[Wait(6.0 if address == "a:80" else 1.0), response(address.encode())]])
    client = one.ask()
    one.wait(2.5)
    assert [member.in_flight for member in one.members] == [1, 1]
    one.wait(1.0)
    assert client.received.endswith(b"b:80")
    assert [member.in_flight for member in one.members] == [1, 0]
    one.wait(3.0)
    assert [(member.in_flight, member.held) for member in one.members] == [(0, 0), (0, 0)]
    assert [member.failures for member in one.members] == [1, 0], "it is blamed once, when it was late"


def test_a_stream_that_stalls_is_cut_and_its_place_is_held(build):
    one = build("a:80", max_in_flight=1, abandoned_s=30.0, timeouts={"response_idle_s": 2.0})
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    one.backend("a:80", [[head, NEVER_ANSWER]])
    one.ask()
    one.wait(2.5)
    assert (one.record.ended_by, one.pool.leases) == (Outcome.CUT_SHORT, 1)
    one.wait(30.0)
    assert (one.pool.leases, one.cluster.open) == (0, 0), "as long as it may, and no longer"


def test_what_is_moved_away_from_a_backend_that_is_silent_has_its_place_there_until_that_is_back(build):
    one = build("a:80", "b:80", max_in_flight=1, abandoned_s=60.0, timeouts={"response_head_s": 60.0})
    frozen = one.backend("a:80", [[Wait(20.0), response(b"late")]])
    one.backend("b:80", [response(b"b")])
    client = one.ask()
    one.wait(1.0)
    for _ in range(3):
        one.cluster.observe_probe("a:80", False, "no answer in time", silent=True, asked_at=one.clock.seconds())
    one.wait(1.0)
    assert client.received.endswith(b"b")
    for _ in range(3):
        one.cluster.observe_probe("a:80", True, "200")
    a, _ = one.members
    assert (a.usable, a.available, a.in_flight) == (True, False, 1)
    one.wait(20.0)
    assert (a.available, a.in_flight, frozen.connections[0].open) == (True, 0, False)


def test_one_that_is_removed_meanwhile_has_gone_when_its_last_one_has(build):
    one = build("a:80", max_in_flight=1, abandoned_s=30.0, timeouts={"attempt_s": 2.0})
    one.backend("a:80", [[Wait(5.0), response()]])
    one.ask()
    one.wait(2.5)
    [gone] = one.members
    one.cluster.update([])
    assert (list(one.pool.leaving), one.pool.broken()) == ([gone], [])
    one.wait(3.0)
    assert (list(one.pool.leaving), gone.slot) == ([], -1)


def test_whose_request_is_not_there_as_a_whole_has_no_place_any_more_when_it_is_given_up(build):
    one = build("a:80", max_in_flight=1, abandoned_s=30.0, timeouts={"response_head_s": 2.0, "body_idle_s": 60.0})
    one.backend("a:80")
    one.ask(POST)
    one.wait(2.5)
    assert (one.pool.leases, one.cluster.open) == (0, 0)


def test_without_a_place_or_a_time_who_is_given_up_is_reset(build):
    one = build("a:80", max_in_flight=1, timeouts={"attempt_s": 2.0})
    backend = one.backend("a:80", [[Wait(5.0), response()]])
    one.ask()
    one.wait(2.5)
    assert (one.pool.leases, backend.connections[0].open) == (0, False)


def test_a_client_that_read_too_slowly_leaves_no_pause_behind(one):
    one.backend("a:80", [response(bytes(8_000_000))])
    slow = one.client()
    slow.stop_reading()
    one.ask(client=slow)
    one.wait(1.0)
    assert one.pool.leases == 1
    slow.reset()
    one.clock.settle()
    one.wait(1.0)
    assert one.pool.leases == 0, "the rest was read, and thrown away"


def test_a_request_that_is_not_there_as_a_whole_is_taken_back_at_once(one):
    backend = one.backend("a:80")
    client = one.ask(POST)
    assert one.pool.leases == 1
    client.close()
    one.clock.settle()
    assert (one.pool.leases, backend.connections[0].open, backend.requests) == (0, False, [])


def test_nothing_is_held_where_nothing_was_sent(one):
    one.network.hang("a:80")
    one.ask().close()
    one.clock.settle()
    assert one.pool.leases == 0


@pytest.mark.parametrize(
    "options", [{"abandoned_s": 0.0, "max_in_flight": 1}, {"abandoned_s": 30.0, "max_in_flight": 0}]
)
def test_without_a_place_or_a_time_the_connection_is_reset_at_once(build, options):
    house = build("a:80", **options)
    backend = house.backend("a:80", [[Wait(5.0), response()]])
    house.ask().close()
    house.clock.settle()
    assert (house.pool.leases, backend.connections[0].open) == (0, False)


def test_a_backend_that_is_removed_has_gone_when_its_last_one_has(one):
    one.backend("a:80", [[Wait(5.0), response()]])
    one.ask().close()
    one.clock.settle()
    [gone] = one.members
    one.cluster.update([])
    assert list(one.pool.leaving) == [gone]
    one.wait(5.1)
    assert (list(one.pool.leaving), gone.slot) == ([], -1)


def test_nothing_is_kept_of_such_a_connection(one):
    backend = one.backend("a:80", [[Wait(1.0), response()]])
    one.ask().close()
    one.wait(1.5)
    one.ask(GET)
    assert len(backend.connections) == 2


def test_at_a_stop_they_end_with_everything_else(one):
    one.backend("a:80", [NEVER_ANSWER])
    one.ask().close()
    one.clock.settle()
    assert (one.pool.leases, one.plane.exchanges) == (1, 0)
    one.plane.drain(0.0)
    one.cluster.close_all()
    assert (one.pool.leases, len(one.cluster.abandoned)) == (0, 0)


def test_the_identities_of_the_self_check_hold(one):
    from twisted_lb.self_check import broken

    one.backend("a:80", [NEVER_ANSWER])
    one.ask().close()
    one.clock.settle()
    one.ask()
    assert broken(one.plane.frontends.values(), one.plane.clusters.values()) == []
