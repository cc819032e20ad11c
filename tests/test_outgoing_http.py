"""Requests of our own over HTTP: what is seen of them, and which answers are given up."""

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.web.http_headers import Headers

from twisted_lb.outgoing_http import HEAD_BYTES, OneOffClient, words_of


class Says(Protocol):
    """Answers with a text, and then with another one again and again, until it is hung up on."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.first)
        if self.factory.more:
            self.transport.registerProducer(self, False)
        else:
            self.transport.loseConnection()

    def resumeProducing(self) -> None:
        self.factory.said += len(self.factory.more)
        self.transport.write(self.factory.more)

    def stopProducing(self) -> None:
        self.transport.unregisterProducer()


@pytest_twisted.async_yield_fixture
async def server():
    """Makes servers that answer so, and says where they are."""
    ports = []

    def one(first: bytes, more: bytes = b""):
        factory = Factory.forProtocol(Says)
        factory.noisy, factory.first, factory.more, factory.said = False, first, more, 0
        ports.append(reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return factory, b"http://127.0.0.1:%d/" % ports[-1].getHost().port

    yield one
    for port in ports:
        await port.stopListening()


class Whole(Protocol):
    """A body, once it is there."""

    def __init__(self) -> None:
        self.done, self.body = Deferred(), b""

    def dataReceived(self, data: bytes) -> None:
        self.body += data

    def connectionLost(self, reason=ConnectionDone) -> None:
        self.done.callback(self.body)


@pytest_twisted.ensureDeferred
async def test_a_request_writes_no_line_in_the_log(server):
    _, where = server(b"HTTP/1.1 204 No Content\r\n\r\n")
    events = []
    client = OneOffClient(reactor)
    globalLogPublisher.addObserver(events.append)
    try:
        assert (await client.request(b"GET", where, Headers())).code == 204
        client.hang_up()
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert events == []


@pytest.mark.parametrize(
    ("first", "more"),
    [(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"a" * 1000 + b"\r\n"), (b"", b"HTTP/1.1 102 Processing\r\n\r\n")],
)
@pytest_twisted.ensureDeferred
async def test_a_head_that_does_not_end_is_given_up(server, first, more):
    _, where = server(first, more)
    with pytest.raises(ValueError, match="has more than") as caught:
        await OneOffClient(reactor).request(b"GET", where, Headers())
    assert words_of(caught.value) == f"the head of the answer has more than {HEAD_BYTES} bytes"


@pytest_twisted.ensureDeferred
async def test_a_body_may_be_longer_than_a_head(server):
    body = b"x" * (4 * HEAD_BYTES)
    _, where = server(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n" + body)
    client = OneOffClient(reactor)
    whole = Whole()
    (await client.request(b"GET", where, Headers())).deliverBody(whole)
    assert await whole.done == body
    client.hang_up()
