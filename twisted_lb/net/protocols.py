"""The protocols of clients: what is spoken on a connection that was accepted, or has arrived."""

from typing import Final

from twisted_lb.core.agreed import Agreed
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.http1 import Http1
from twisted_lb.net.http2 import Http2
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.secured import Secured
from twisted_lb.net.session import Session


class Protocols:
    """What makes a protocol for each client of a frontend; see Build."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend: Final = frontend

    def plain(self) -> StreamProtocol:
        """For one in the clear, of which nothing is known."""
        return self.make(None, None)

    def __call__(self, secured: Secured | None, agreed: Agreed | None = None, *, http2: bool = False) -> StreamProtocol:
        """For one that has arrived, over TLS or in the clear."""
        if http2:
            return Http2(self._frontend, b"http" if secured is None else b"https", secured, agreed)
        return self.make(secured, agreed)

    def make(self, secured: Secured | None, agreed: Agreed | None) -> StreamProtocol:
        """Make what does not speak HTTP/2."""
        frontend = self._frontend
        if frontend.tcp:
            return Session(frontend, secured, "" if secured is None else secured.server_name, agreed=agreed)
        return Http1(frontend, b"http" if secured is None else b"https", secured, agreed)
