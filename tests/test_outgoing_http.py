"""Requests of our own over HTTP: what is seen of them."""

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.web.http_headers import Headers

from twisted_lb.outgoing_http import OneOffClient


class Says(Protocol):
    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_a_request_writes_no_line_in_the_log():
    factory = Factory.forProtocol(Says)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    events = []
    client = OneOffClient(reactor)
    globalLogPublisher.addObserver(events.append)
    try:
        where = b"http://127.0.0.1:%d/" % port.getHost().port
        assert (await client.request(b"GET", where, Headers())).code == 204
        client.hang_up()
    finally:
        globalLogPublisher.removeObserver(events.append)
        await port.stopListening()
    assert events == []
