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
