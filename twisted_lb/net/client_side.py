"""Whoever brings requests to an exchange: the seam between the data path and its client sides."""

from mypy_extensions import mypyc_attr

from twisted_lb.wire.response import ResponseHead


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientSide:
    """Whoever brought the request: our HTTP/1.1 engine, or a twisted.web resource.

    It calls `begin`, `receive` and `end_request`, and gets exactly one of: `start` … `finish`, `start` … `abort`,
    `tunnel` … `close_tunnel`, or nothing after it reported `client_gone` or `client_fault`. A class and no
    typing.Protocol: compiled, its methods are then called without being looked up.
    """

    def who(self) -> str:
        """The client's address, for the log."""
        raise NotImplementedError

    def inform(self, head: ResponseHead) -> None:
        """An interim answer (1xx)."""
        raise NotImplementedError

    def start(self, head: ResponseHead, framing: int) -> None:
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

    def tunnel(self, head: ResponseHead) -> None:
        """The protocol is switched (101): from here on bytes are just bytes, through `write` and `from_client`."""
        raise NotImplementedError

    def end_tunnel(self) -> None:
        """The backend will say no more: half-close."""
        raise NotImplementedError

    def close_tunnel(self) -> None:
        """Both sides have said everything, or one is gone."""
        raise NotImplementedError

    def pause(self) -> None:
        """Take no more of the request body from the client for now."""
        raise NotImplementedError

    def resume(self) -> None:
        """Take it again."""
        raise NotImplementedError
