"""Whoever brings requests to an exchange: the seam between the data path and its client sides."""

from mypy_extensions import mypyc_attr

from twisted_lb.net.relay import Leg
from twisted_lb.wire.response import ResponseHead


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSide:
    """Whoever brought the request: our HTTP/1.1 engine, or a twisted.web resource.

    It calls `begin`, `receive` and `end_request`, and gets exactly one of: `start` … `finish`, `start` … `abort`, `release`,
    or nothing after it reported `client_gone` or `client_fault`. `extra` are field lines of our own for this answer, each
    ended by CRLF. A class and no typing.Protocol: compiled, its methods are then called without being looked up.
    """

    def who(self) -> str:
        """The client's address, for the log."""
        raise NotImplementedError

    def inform(self, head: ResponseHead, extra: bytes) -> None:
        """An interim answer (1xx)."""
        raise NotImplementedError

    def start(self, head: ResponseHead, framing: int, extra: bytes) -> None:
        """The final head; `framing` is the length of the body in bytes, CHUNKED or UNTIL_CLOSE. May wait for `flush`."""
        raise NotImplementedError

    def write(self, payload: bytes) -> None:
        """A piece of the body, never empty. May wait for `flush`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Nothing follows at once: send what waits."""
        raise NotImplementedError

    def finish(self, trailers: bytes) -> None:
        """The answer is complete."""
        raise NotImplementedError

    def abort(self) -> None:
        """The answer ends here, incomplete, and the client must see that."""
        raise NotImplementedError

    def release(self) -> Leg:
        """Give the connection away, after a 101 was sent by `inform`: bytes are just bytes from here on."""
        raise NotImplementedError

    def pause(self) -> None:
        """Take no more of the request body from the client for now."""
        raise NotImplementedError

    def resume(self) -> None:
        """Take it again."""
        raise NotImplementedError
