"""Slow clients hold no worker: bodies are gathered before a backend is claimed, answers are read ahead of their clients (buffering)."""

import time

import pytest
from house import GET
from wires import PATIENCE_S, End
from world import World

from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.totals import Denied
from twisted_lb.testing import NEVER_ANSWER, Wait, response

OK = b"HTTP/1.1 200 OK"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
KIB = 1024
BIG = 3 << 20


def post(length: int, *lines: bytes) -> bytes:
    said = b"".join(line + b"\r\n" for line in lines)
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%b\r\n" % (length, said)


@pytest.fixture
def one(build):
    """One backend that has one request at a time; bodies are gathered up to 64 KiB."""
    return build("a:80", max_in_flight=1, buffer_request_bytes=64 * KIB, queue={"timeout_s": 20.0})


# Requests.


def test_a_slow_upload_holds_no_worker(one):
    backend = one.backend("a:80")
    slow = one.ask(post(10) + b"hello")
    one.wait(5.0)
    assert (one.pool.leases, backend.connections) == (0, [])
    fast = one.ask()
    assert fast.received.startswith(OK)
    one.ask(b"world", slow)
    assert slow.received.startswith(OK)
    assert backend.requests[-1].endswith(b"\r\n\r\nhelloworld")
    assert one.record.gathered_s == pytest.approx(5.0)
    assert one.record.queued_s == 0


def test_a_body_that_comes_with_its_head_waits_for_nothing(one):
    backend = one.backend("a:80")
    assert one.ask(post(5) + b"hello").received.startswith(OK)
    assert one.record.gathered_s == 0
    assert backend.requests[-1].endswith(b"hello")


def test_of_a_longer_body_so_much_is_gathered_and_the_rest_flows(one):
    backend = one.backend("a:80")
    client = one.ask(post(200_000) + b"x" * (64 * KIB - 1))
    assert backend.connections == []
    one.ask(b"x", client)
    assert len(backend.connections) == 1
    one.ask(b"x" * (200_000 - 64 * KIB), client)
    assert client.received.startswith(OK)
    assert backend.requests[-1].count(b"x" * 1000) == 200
    assert one.plane.runtime.memory.taken == 0


@pytest.mark.parametrize("trailers", [b"", b"X-Sum: 1\r\n"], ids=["", "trailers"])
def test_a_chunked_body_is_gathered_until_it_ends(one, trailers):
    backend = one.backend("a:80")
    client = one.ask(CHUNKED + b"5\r\nhello\r\n")
    one.wait(3.0)
    assert backend.connections == []
    one.ask(b"0\r\n" + trailers + b"\r\n", client)
    assert client.received.startswith(OK)
    assert backend.requests[-1].endswith(b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")


def test_a_client_that_expects_100_gets_it_from_us_and_once(one):
    backend = one.backend("a:80", [[b"HTTP/1.1 100 Continue\r\n\r\n", response()]])
    client = one.ask(post(5, b"Expect: 100-continue"))
    assert client.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert backend.connections == []
    one.ask(b"hello", client)
    assert client.received.count(b"100 Continue") == 1
    assert OK in client.received


def test_a_client_that_leaves_meanwhile_has_asked_nobody(one):
    backend = one.backend("a:80")
    client = one.ask(post(10) + b"hello")
    client.close()
    one.clock.settle()
    assert (one.record.ended_by, one.record.attempts, backend.connections) == (Outcome.CLIENT_GONE, [], [])
    assert one.plane.runtime.memory.taken == 0


def test_a_body_that_stalls_is_408_and_no_backend_hears_of_it(one):
    backend = one.backend("a:80")
    client = one.ask(post(10) + b"hello")
    one.wait(40.0)
    assert client.received.startswith(b"HTTP/1.1 408 ")
    assert backend.connections == []
    assert one.record.ended_by is Outcome.CLIENT_FAULT


def test_a_body_that_is_broken_later_is_refused_before_a_backend_hears_of_it(one):
    backend = one.backend("a:80")
    client = one.ask(CHUNKED + b"5\r\nhello\r\n")
    one.ask(b"zz\r\n", client)
    assert client.received.startswith(b"HTTP/1.1 400 ")
    assert backend.connections == []


def test_who_has_gathered_waits_in_the_queue_like_others(one):
    backend = one.backend("a:80", [[Wait(5.0), response()], response()])
    first = one.ask()
    second = one.ask(post(10) + b"hello")
    one.wait(1.0)
    one.ask(b"world", second)
    assert one.pool.waiting == 1
    one.wait(4.1)
    assert (first.received[:15], second.received[:15]) == (OK, OK)
    assert (one.record.gathered_s, one.record.queued_s) == (pytest.approx(1.0), pytest.approx(4.0))
    assert len(backend.requests) == 2


def test_a_body_that_was_gathered_is_sent_again_where_that_is_safe(build):
    one = build(
        "a:80",
        "b:80",
        buffer_request_bytes=64 * KIB,
        defaults={"route": {"repeatable": ["POST"]}},
        limits={"replay_body_bytes": 0},
    )
    first = one.backend("a:80", [NEVER_ANSWER])
    second = one.backend("b:80")
    client = one.ask(post(10) + b"hello")
    one.wait(1.0)
    one.ask(b"world", client)
    first.stop()
    one.clock.settle()
    assert client.received.startswith(OK)
    assert second.requests[-1].endswith(b"helloworld")


def test_a_deadline_counts_from_the_head(build):
    one = build("a:80", buffer_request_bytes=64 * KIB, timeouts={"deadline_s": 2.0})
    backend = one.backend("a:80")
    client = one.ask(post(10) + b"hello")
    one.wait(3.0)
    one.ask(b"world", client)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert (one.record.ended_by, backend.connections) == (Refusal.LATE, [])


def test_who_sends_its_body_past_its_deadline_is_told_so_at_the_deadline(build):
    one = build("a:80", buffer_request_bytes=64 * KIB, timeouts={"deadline_header": "X-Wait"})
    backend = one.backend("a:80")
    client, late = one.ask(post(10, b"X-Wait: 2000") + b"hello"), one.ask(post(10, b"X-Wait: 0") + b"hello")
    assert late.received.startswith(b"HTTP/1.1 504 ")
    one.wait(1.9)
    assert client.received == b""
    one.wait(0.3)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert (one.record.ended_by, one.record.gathered_s, backend.connections) == (
        Refusal.LATE,
        pytest.approx(2.0, abs=0.11),
        [],
    )
    assert one.plane.runtime.memory.taken == 0


def test_a_pool_that_has_nobody_by_then_leads_to_the_fallback(build):
    one = build(
        "a:80",
        buffer_request_bytes=64 * KIB,
        pools={"other": {"backends": ["b:80"], "health_check": {"interval_s": 0.0}}},
        routes=[{"pool": "default", "fallback": "other"}],
    )
    other = one.backend("b:80")
    one.ask()
    client = one.ask(post(10) + b"hello")
    one.wait(1.0)
    one.ask(b"world", client)
    assert client.received.startswith(OK)
    assert other.requests[-1].endswith(b"helloworld")


# The memory of the process.


@pytest.fixture
def tight(build):
    """Room for the bodies of two."""
    return build(
        "a:80", buffer_request_bytes=64 * KIB, limits={"memory_bytes": 128 * KIB}, queue={"timeout_s": 10.0},
        timeouts={"body_idle_s": 3600.0},
    )  # fmt: skip


def test_above_the_bound_a_new_body_waits_until_another_one_is_through(tight):
    backend = tight.backend("a:80")
    memory = tight.plane.runtime.memory
    first, second, third = [tight.ask(post(64 * KIB) + b"x" * 100) for _ in range(3)]
    assert (memory.taken, memory.waiting, memory.waits) == (128 * KIB, 1, 1)
    tight.ask(b"x" * (64 * KIB - 100), third)
    assert third.received == b""
    tight.ask(b"x" * (64 * KIB - 100), first)
    assert first.received.startswith(OK)
    assert third.received.startswith(OK)
    assert second.received == b""
    assert len(backend.requests) == 2
    assert memory.denied == 0


def test_who_has_waited_as_long_as_for_a_backend_goes_on_without(tight):
    backend = tight.backend("a:80")
    held = [tight.ask(post(64 * KIB) + b"x") for _ in range(2)]
    third = tight.ask(post(10) + b"hello")
    tight.wait(9.0)
    assert backend.connections == []
    tight.wait(1.2)
    assert len(backend.connections) == 1
    tight.ask(b"world", third)
    assert third.received.startswith(OK)
    assert tight.plane.runtime.memory.denied == 1
    for one in held:
        tight.ask(b"x" * (64 * KIB - 1), one)
        assert one.received.startswith(OK)
    assert tight.plane.runtime.memory.taken == 0


def test_who_leaves_the_line_makes_room_for_those_behind(tight):
    tight.backend("a:80")
    held = [tight.ask(post(60 * KIB) + b"x") for _ in range(2)]
    third, fourth = tight.ask(post(60 * KIB) + b"x"), tight.ask(post(1 * KIB) + b"x" * KIB)
    fifth = tight.ask(post(1 * KIB) + b"x" * (KIB - 1))
    assert tight.plane.runtime.memory.waiting == 2
    assert fourth.received.startswith(OK)  # all of it is here
    third.reset()
    tight.clock.settle()
    tight.ask(b"x", fifth)
    assert fifth.received.startswith(OK)
    assert not any(one.received for one in held)


def test_a_reload_may_bound_it_otherwise(tight):
    tight.backend("a:80")
    clients = [tight.ask(post(64 * KIB) + b"x") for _ in range(3)]
    tight.apply(limits={"memory_bytes": 1 << 20})
    tight.clock.settle()
    assert tight.plane.runtime.memory.waiting == 0
    for one in clients:
        tight.ask(b"x" * (64 * KIB - 1), one)
        assert one.received.startswith(OK)


def test_who_waits_for_room_past_its_deadline_is_told_so_at_the_deadline(build):
    one = build(
        "a:80", buffer_request_bytes=64 * KIB, limits={"memory_bytes": 10}, queue={"timeout_s": 20.0},
        timeouts={"deadline_header": "X-Wait", "body_idle_s": 3600.0},
    )  # fmt: skip
    one.ask(post(64 * KIB) + b"x")
    client = one.ask(post(10, b"X-Wait: 2000") + b"x")
    assert one.plane.runtime.memory.waiting == 1
    one.wait(1.5)
    assert client.received == b""
    one.wait(1.5)
    assert client.received.startswith(b"HTTP/1.1 504 ")
    assert (one.record.ended_by, one.plane.runtime.memory.waiting) == (Refusal.LATE, 0)


@pytest.mark.parametrize("wait_s", [0.0, 10.0])
def test_who_went_on_without_room_holds_no_more_than_without_a_buffer(build, wait_s):
    one = build(
        "a:80", "b:80", buffer_request_bytes=4 << 20, limits={"memory_bytes": 64 * KIB, "replay_body_bytes": 64 * KIB},
        queue={"timeout_s": wait_s}, timeouts={"body_idle_s": 3600.0, "attempt_s": 2.0},
    )  # fmt: skip
    backends = [one.backend(name, [NEVER_ANSWER]) for name in ("a:80", "b:80")]
    one.ask(post(BIG) + b"x")
    client = one.ask(post(BIG).replace(b"POST", b"PUT") + b"x")
    one.wait(wait_s + 0.5)
    assert (one.plane.runtime.memory.denied, one.pool.leases) == (1, 1)
    for _ in range(10):
        one.ask(b"x" * (BIG // 20), client)
    one.wait(10.0)
    [attempt] = one.record.attempts
    assert (attempt.outcome, one.pool.totals.denied[Denied.BODY_GONE]) == (Outcome.TIMED_OUT, 1)
    assert sum(len(backend.connections) for backend in backends) == 1


def test_a_body_that_is_larger_than_all_the_memory_is_gathered_alone(build):
    one = build("a:80", buffer_request_bytes=64 * KIB, limits={"memory_bytes": 10})
    backend = one.backend("a:80")
    client = one.ask(post(10) + b"hello")
    assert backend.connections == []
    one.ask(b"world", client)
    assert client.received.startswith(OK)


# Answers.


def reader(**options):
    """A client that reads nothing, in front of one backend that has one request at a time."""
    world = World(max_in_flight=1, queue={"timeout_s": 50.0, "no_backend_s": 0.0}, **options)
    client = world.client().send(GET)
    return world, client, world.backend()


def answer(length: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length


@pytest.fixture(params=["engine", "resource", "tls"])
def side(request):
    return request.param


def feed(world, backend, data: bytes) -> None:
    """Send without waiting for who does not read."""
    backend.sock.setblocking(False)
    sent = 0
    while sent < len(data):
        try:
            sent += backend.sock.send(data[sent:])
        except BlockingIOError:
            if not world.run():
                raise AssertionError(f"{len(data) - sent} bytes are not taken") from None
    ends_at = time.monotonic() + PATIENCE_S
    while End.of(backend.sock).unacked and time.monotonic() < ends_at:
        world.run()  # what was sent a second time is not counted as under way
    world.run()


def test_a_backend_is_free_when_it_has_said_all_however_slowly_its_client_reads(side):
    world, client, backend = reader(side=side, buffer_response_bytes=4 << 20)
    feed(world, backend, answer(BIG) + b"x" * BIG)
    assert world.pool.leases == 0
    assert world.engine.exchanges == 1
    other = world.client().send(GET)
    backend.send(response())
    assert other.read().startswith(OK)
    assert world.runtime.memory.taken > 0
    client.read()
    assert client.received.endswith(b"x" * BIG)
    assert (world.engine.exchanges, world.runtime.memory.taken) == (0, 0)
    world.close()


def test_without_it_the_backend_waits_for_the_client(side):
    world, _, backend = reader(side=side)
    with pytest.raises(AssertionError, match="are not taken"):
        feed(world, backend, answer(4 * BIG) + b"x" * (4 * BIG))
    assert world.pool.leases == 1
    world.close()


def test_no_more_is_read_ahead_than_is_set(side):
    world, client, backend = reader(side=side, buffer_response_bytes=200 * KIB)
    length = 8 << 20
    with pytest.raises(AssertionError, match="are not taken"):
        feed(world, backend, answer(length) + b"x" * length)
    assert 0 < world.runtime.memory.taken <= 200 * KIB + 65536
    assert world.pool.leases == 1
    client.close()
    world.run()
    assert world.runtime.memory.taken == 0
    world.close()


def test_who_leaves_before_it_has_taken_all_is_said_to_have_left():
    records = []
    world, client, backend = reader(buffer_response_bytes=4 << 20, observers=(records.append,))
    feed(world, backend, answer(BIG) + b"x" * BIG)
    assert records == []
    client.close()
    world.run()
    [record] = records
    assert (record.ended_by, record.outcome, record.status) == (Outcome.CLIENT_GONE, Outcome.OK, 200)
    assert world.outcomes() == {"OK": 1}
    world.close()


def test_its_record_tells_when_the_backend_was_done_and_when_the_client_was():
    records = []
    world, client, backend = reader(buffer_response_bytes=4 << 20, observers=(records.append,))
    feed(world, backend, answer(BIG) + b"x" * BIG)
    world.advance(7.0)
    client.read()
    [record] = records
    assert record.ended_by is Outcome.OK
    assert record.ended_at - record.last_byte_at == pytest.approx(7.0)
    assert record.response_bytes == BIG
    world.close()


def test_an_answer_that_ends_with_the_connection_or_in_chunks_is_read_ahead_too():
    world, client, backend = reader(buffer_response_bytes=4 << 20)
    feed(
        world,
        backend,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n" % (BIG, b"x" * BIG)
        + b"0\r\nX-Sum: 1\r\n\r\n",
    )
    assert world.pool.leases == 0
    client.read()
    assert client.received.endswith(b"0\r\nX-Sum: 1\r\n\r\n")
    client.send(GET)
    feed(world, world.backend(), b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * BIG)
    world.backend().read()  # what is unread would make it a reset
    world.backend().close()
    assert world.pool.leases == 0
    client.read()
    assert client.received.endswith(b"y" * 100 + b"\r\n0\r\n\r\n")
    world.close()


def test_a_client_that_takes_nothing_is_cut_as_ever():
    records = []
    world, _, backend = reader(buffer_response_bytes=4 << 20, response_idle_s=10.0, observers=(records.append,))
    feed(world, backend, answer(BIG) + b"x" * BIG)
    world.advance(30.0)
    [record] = records
    assert record.ended_by is Outcome.CLIENT_GONE
    assert world.engine.exchanges == 0
    world.close()


def test_where_there_is_no_memory_the_backend_waits_as_without():
    world, _, backend = reader(buffer_response_bytes=4 << 20, limits={"memory_bytes": 100 * KIB})
    with pytest.raises(AssertionError, match="are not taken"):
        feed(world, backend, answer(4 * BIG) + b"x" * (4 * BIG))
    assert world.pool.leases == 1
    assert world.runtime.memory.denied >= 1
    world.close()


def test_the_next_request_of_its_client_waits_for_the_end_of_the_answer():
    world, client, backend = reader(buffer_response_bytes=4 << 20)
    client.send(GET)
    feed(world, backend, answer(BIG) + b"x" * BIG)
    assert (world.pool.leases, len(world.backend_connections)) == (0, 1)
    client.read()
    backend.read()
    assert backend.received.count(b"GET / ") == 2
    backend.send(response())
    assert client.read().startswith(OK)
    world.close()


def test_a_stop_cuts_visibly_what_was_not_taken():
    records = []
    world, client, backend = reader(buffer_response_bytes=4 << 20, observers=(records.append,))
    feed(world, backend, answer(BIG) + b"x" * BIG)
    for one in list(world.engine.clients):
        one.kill("it stops")
    world.run()
    client.read()
    assert not client.received.endswith(b"x" * BIG) or client.was_reset or client.closed
    assert [one.ended_by for one in records] == [Outcome.CANCELLED]
    world.close()


# What is told of it.


def notes_of(house, kind: str) -> list[str]:
    return [note for one in house.plane.explained(kind, 5) for note in one.note]


def test_of_a_running_request_it_is_told_what_it_waits_for(tight):
    tight.backend("a:80")
    for _ in range(3):
        tight.ask(post(64 * KIB) + b"x" * 100)
    told = notes_of(tight, "running")
    assert told.count("its body is gathered before a backend is asked: 100 of 65536 bytes are here") == 2
    assert "its body waits until there is room for it among those that are held (limits.memory_bytes)" in told


def test_later_it_is_told_for_how_long_its_body_was_gathered(one):
    one.backend("a:80")
    client = one.ask(post(10) + b"hello")
    one.wait(2.5)
    one.ask(b"world", client)
    assert notes_of(one, "recent") == ["its body was gathered for 2.50 s before a backend was asked"]


def test_of_an_answer_that_is_delivered_it_is_told_that_the_backend_is_done():
    world, _, backend = reader(buffer_response_bytes=4 << 20)
    feed(world, backend, answer(BIG) + b"x" * BIG)
    [one] = world.plane.explained("running", 5)
    assert one.note == ("the backend has said all, and the client has still to take the end",)
    world.close()
