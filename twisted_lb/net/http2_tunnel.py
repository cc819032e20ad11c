"""A tunnel on a stream of HTTP/2 (RFC 8441, WebSocket): the stream as a transport, as a Relay wants one for its client."""

from typing import Final

from mypy_extensions import mypyc_attr, trait

from twisted_lb.net.interfaces import Producer, Receiver, StreamProtocol, StreamTransport


@trait
class TunnelStream:
    """The stream under a tunnel, as far as the tunnel asks it."""

    def write(self, payload: bytes) -> None:
        """Send bytes, as soon as the client takes them."""
        raise NotImplementedError

    def end_tunnel(self) -> None:
        """The tunnel is over, in order: what is kept is sent, and the end of the stream behind it."""
        raise NotImplementedError

    def half_close(self) -> None:
        """No more is sent to the client; it may go on."""
        raise NotImplementedError

    def cut_tunnel(self) -> None:
        """Reset the stream: nobody may take what came for all of it."""
        raise NotImplementedError

    def may_send(self) -> None:
        """The tunnel takes more: tell the client so."""
        raise NotImplementedError

    @property
    def unsent_bytes(self) -> int:
        """What is kept for the client."""
        raise NotImplementedError

    def who(self) -> str:
        """The address of the client."""
        raise NotImplementedError


@mypyc_attr(free_list_len=1)
class Http2Tunnel(StreamTransport):
    """The transport. The pace of its client is watched by the stream itself, so that it has no producer. While it is paused the window of the
    stream is not opened any more; what still fits into it comes all the same.
    """

    __slots__ = ("_protocol", "_receiver", "_stream", "closing", "paused")

    def __init__(self, stream: TunnelStream) -> None:
        self.closing: bool = False
        self.paused: bool = False
        self._stream: Final = stream
        self._protocol: StreamProtocol | None = None
        self._receiver: Receiver | None = None

    # From the stream.

    def received(self, data: bytes) -> None:
        """Bytes of the client, never empty."""
        if self._receiver is not None:
            self._receiver.dataReceived(data)
        elif self._protocol is not None:
            self._protocol.dataReceived(data)

    def ended(self) -> None:
        """The client says no more."""
        if self._protocol is not None:
            self._protocol.readConnectionLost()

    # From the relay.

    def switch(self, protocol: StreamProtocol) -> None:
        """See StreamTransport."""
        self._protocol = protocol
        self._receiver = protocol if isinstance(protocol, Receiver) else None

    def write(self, data: bytes) -> None:
        """See StreamTransport."""
        if data and not self.closing:
            self._stream.write(data)

    def write_pieces(self, pieces: list[bytes]) -> None:
        """See StreamTransport."""
        self.write(b"".join(pieces))

    def loseConnection(self) -> None:
        """See StreamTransport."""
        self.closing = True
        self._stream.end_tunnel()

    def abortConnection(self) -> None:
        """See StreamTransport: a reset of the stream is what a reset of a connection becomes (RFC 8441 5)."""
        self.closing = True
        self._stream.cut_tunnel()

    def loseWriteConnection(self) -> None:
        """See StreamTransport."""
        self.closing = True
        self._stream.half_close()

    @property
    def flushed(self) -> bool:
        """See StreamTransport."""
        return not self._stream.unsent_bytes

    @property
    def can_half_close(self) -> bool:
        """See StreamTransport: END_STREAM ends one direction."""
        return True

    def pauseProducing(self) -> None:
        """See StreamTransport."""
        self.paused = True

    def resumeProducing(self) -> None:
        """See StreamTransport."""
        if self.paused:
            self.paused = False
            self._stream.may_send()

    def registerProducer(self, producer: Producer, streaming: bool) -> None:
        """See StreamTransport: nobody does, for a client."""

    def unregisterProducer(self) -> None:
        """See StreamTransport."""

    def backlog(self) -> int:
        """See StreamTransport: what is with the connection's transport is not told apart by streams."""
        return self._stream.unsent_bytes

    def peer_name(self) -> str:
        """See StreamTransport."""
        return self._stream.who()

    def peer_port(self) -> int:
        """See StreamTransport."""
        return 0

    def port_name(self) -> str:
        """See StreamTransport."""
        return ""

    def host_name(self) -> str:
        """See StreamTransport."""
        return ""

    def __repr__(self) -> str:
        return f"<Http2Tunnel of {self._stream!r}>"
