"""The client side: the seam between an exchange and what brings requests to it."""

from mypy_extensions import mypyc_attr

from twisted_lb.core.agreed import Agreed
from twisted_lb.net.abandoned import Abandoned
from twisted_lb.net.relay import Leg
from twisted_lb.net.upstream import Upstream
from twisted_lb.wire.proxy_protocol import LOCAL_V2, UNKNOWN_V1
from twisted_lb.wire.response import ResponseHead


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSide:
    """The client side of an exchange, which brought the request: our HTTP/1.1 engine, or a twisted.web resource.

    It calls `begin`, `receive` and `end_request`, and gets exactly one of: `start` … `finish`, `start` … `abort`,
    `release`, or nothing after it reported `client_gone` or `client_fault`. `extra` are field lines of our own for this
    response, each ended by CRLF. A class and no typing.Protocol: compiled, its methods are called without a look-up.
    """

    @property
    def first(self) -> bool:
        """Whether the request is the first of its client's connection, as far as is known."""
        return True

    def who(self) -> str:
        """The address that is connected to us: the client's, or that of a proxy in front of it."""
        raise NotImplementedError

    @property
    def peer_port(self) -> int:
        """The port of whoever is connected to us; 0 where there is none."""
        return 0

    @property
    def agreed(self) -> Agreed | None:
        """What our own TLS has agreed on with the client, or a balancer in front has told of it; None where nothing is known."""
        return None

    def inform(self, head: ResponseHead, extra: bytes) -> None:
        """Send an interim response (1xx)."""
        raise NotImplementedError

    def start(self, head: ResponseHead, framing: int, extra: bytes) -> None:
        """Send the final head, perhaps not before `flush`; `framing` is the body's length, CHUNKED or UNTIL_CLOSE."""
        raise NotImplementedError

    def write(self, payload: bytes) -> None:
        """Send a piece of the response body, never empty. May wait for `flush`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what waits: nothing follows at once."""
        raise NotImplementedError

    def finish(self, trailers: bytes) -> None:
        """End the response: it is complete."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the response incomplete, so that the client sees that it is cut short."""
        raise NotImplementedError

    def check_switch(self, head: ResponseHead) -> None:
        """BadMessage if a backend's 101 is not what the client side has asked for, beyond what its client has."""

    def release(self) -> Leg:
        """Give the connection to a tunnel, after a 101 was sent by `inform`: bytes are just bytes from here on."""
        raise NotImplementedError

    def keep(self, upstream: Upstream) -> bool:
        """Keep a connection to a backend that is this client's alone (NTLM) for its next requests, until it leaves; False, and
        it is closed, where nobody knows which requests are of the same connection.
        """
        return False

    def take_kept(self) -> Upstream | None:
        """Take back the connection that was kept; None when there is none, or it is closed."""
        return None

    def left_behind(self, abandoned: Abandoned) -> None:
        """The client has gone, and the backend may be at work on what it has asked, for as long as `abandoned` is not over. Nobody is
        interested where a connection has one request at a time.
        """

    def proxy_header(self, version: int) -> bytes:
        """A header of the PROXY protocol, of this version, that says who is connected to us."""
        return UNKNOWN_V1 if version == 1 else LOCAL_V2

    def pause(self) -> None:
        """Read no more of the request body from the client for now (back-pressure)."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read the request body from the client on."""
        raise NotImplementedError
