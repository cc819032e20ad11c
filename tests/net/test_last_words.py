"""The end of a stop: what clients are told whose requests still wait, and how connections are closed."""

import pytest
from world import Peer, World

from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record
from twisted_lb.wire.chunked import chunk, last_chunk

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 9\r\n\r\nhal"


class Stopped:
    """A balancer that is stopped while its clients wait."""

    def __init__(self, side: str) -> None:
        self.records: list[Record] = []
        self.world = World(side=side, observers=(self.records.append,), queue={"no_backend_s": 60.0})

    def stop(self) -> None:
        """The time of the drain is over."""
        self.world.engine.draining = True
        self.world.plane.close()
        self.world.run()

    @property
    def ends(self) -> list[tuple[str, int]]:
        return [(one.ended_by.name, one.status) for one in self.records if one.ended_by is not None]

    def close(self) -> None:
        for peer in [*self.world._clients, *self.world.backend_connections]:
            peer.sock.close()
        self.world.advance(5)
        assert (self.world.plane.exchanges, self.world.deadlines.armed, self.world.cluster.open) == (0, 0, 0)
        self.world.poller.stop()


@pytest.fixture(params=["engine", "fallback"])
def stopped(request):
    one = Stopped(request.param)
    yield one
    one.close()


@pytest.fixture(params=["engine", "fallback", "resource", "tls"])
def either(request):
    one = Stopped(request.param)
    yield one
    one.close()


def refused(answer: bytes) -> bool:
    """Whether this is one whole answer, a 503 that says that it is the last."""
    return (
        answer.startswith(b"HTTP/1.1 503 ")
        and answer.count(b"HTTP/1.1 ") == 1
        and b"\r\nconnection: close\r\n" in answer.lower()
        and answer.endswith(b"\n")
    )


def asked(world: World, request: bytes = GET) -> Peer:
    return world.client().send(request)


def answer_more_than_is_taken(world: World) -> None:
    """A whole answer, of which the kernel does not take everything, though less is left than the mark."""
    backend = world.backend()
    backend.send(CHUNKED)
    while not any(one.transport.unsent for one in world.engine.clients):
        backend.send(chunk(b"x" * 8000))
    backend.send(last_chunk(b""))


def test_who_waits_in_the_queue_is_told(either):
    world = either.world
    world.dial.refuse.add("a:80")
    client = asked(world)
    world.advance(1)
    assert either.records == []
    either.stop()
    assert (refused(client.read()), client.closed, client.was_reset) == (True, True, False)
    assert either.ends == [("CANCELLED", 503)]
    assert either.records[0].outcome is Outcome.REFUSED
    assert either.records[0].detail == "the balancer stops"


@pytest.mark.parametrize("hang", [True, False], ids=["connecting", "connected"])
def test_who_waits_for_a_backend_is_told(either, hang):
    world = either.world
    if hang:
        world.dial.hang.add("a:80")
    client = asked(world)
    either.stop()
    assert (refused(client.read()), client.closed, client.was_reset) == (True, True, False)
    assert either.ends == [("CANCELLED", 503)]


def test_who_is_still_sending_is_told(stopped):
    client = asked(stopped.world, POST + b"half")
    stopped.stop()
    assert (refused(client.read()), client.closed, client.was_reset) == (True, True, False)
    assert stopped.ends == [("CANCELLED", 503)]


def test_a_head_is_answered_without_a_body(stopped):
    client = asked(stopped.world, GET.replace(b"GET", b"HEAD"))
    stopped.stop()
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith(b"\r\n\r\n")
    assert (stopped.records[0].status, stopped.records[0].response_bytes) == (503, 0)


def test_an_answer_that_has_begun_is_cut(stopped):
    client = asked(stopped.world)
    stopped.world.backend().send(BEGUN)
    assert client.read() == BEGUN
    stopped.stop()
    assert (client.read(), client.was_reset) == (b"", True)
    assert stopped.ends == [("CANCELLED", 200)]


def test_who_does_not_take_its_last_answer_gets_no_other_one(stopped):
    """It would have to be waited for: the record says that nothing was told."""
    client = asked(stopped.world, GET + GET)
    answer_more_than_is_taken(stopped.world)
    stopped.stop()
    assert stopped.ends == [("OK", 200), ("CANCELLED", 0)]
    client.read()
    assert client.was_reset


def test_whose_requests_were_all_answered_is_closed_in_order(stopped):
    """A reset would take away what it has not read yet."""
    client = asked(stopped.world)
    stopped.world.backend().send(b"HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\nhello")
    stopped.stop()
    assert client.read().endswith(b"hello")
    assert (client.closed, client.was_reset) == (True, False)


def test_who_has_said_nothing_is_closed_in_order(stopped):
    client = stopped.world.client()
    stopped.stop()
    assert (client.read(), client.closed, client.was_reset) == (b"", True, False)


def test_the_end_of_an_answer_that_nobody_takes_is_not_waited_for(stopped):
    client = asked(stopped.world)
    answer_more_than_is_taken(stopped.world)
    stopped.stop()
    assert stopped.world.plane.clients == 0
    client.read()
    assert client.was_reset
