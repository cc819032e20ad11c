"""TLS of the peers of the fault network: a layer between a transport in memory and a client or a backend, in whose hands is plain text.

To them it is a transport. What the network does it does to the records below; its end without a close_notify is a cut (`truncated`).
"""

import ssl
from collections.abc import Callable, Iterable
from typing import Any

from faults.certificates import RIGHT
from faults.records import header_size
from tls_peers import TlsEnd
from twisted.python.failure import Failure

from twisted_lb.testing import MemoryTransport

_RECORD_BYTES = 16384


class Layer:
    """One end of a connection: first a PROXY `header`, in the clear, then TLS, if there is an `end`. `holds`: what of its handshake it keeps to
    itself, for ever: "all", "half" of its first bytes, or what it would say "next". `introduced`: the other end begins with a header; `shows`: what
    its certificate is; `vanishes`: how it ends when its process dies, without a good-bye.
    """

    def __init__(
        self,
        protocol: Any,
        end: TlsEnd | None,
        *,
        header: bytes = b"",
        holds: str = "",
        introduced: bool = False,
        shows: str = RIGHT,
        vanishes: bool = False,
    ) -> None:
        self.truncated = False
        self.failed = ""  # why there is no TLS
        self.shaken: Callable[[], None] = lambda: None  # told of the end of the handshake
        self._protocol = protocol
        self._end = end
        self._header = header
        self._holds = holds
        self._introduced = introduced
        self._shows = shows
        self._vanishes = vanishes
        self._unread = b""
        self._said = 0  # how often it had something to say in its handshake
        self._transport: MemoryTransport | None = None
        self._waiting: list[bytes] = []  # what is to be sent behind the handshake
        self._ending: Callable[[], None] | None = None  # and what is to be done then
        self._ended = False  # the other side says no more
        self._closed = False  # nor do we

    # To the transport: a protocol.

    def makeConnection(self, transport: MemoryTransport) -> None:
        self._transport = transport
        tape = transport.pipes[0].tape  # type: ignore[attr-defined]
        tape.stops, tape.shows = bool(self._holds), self._shows
        if self._header:
            transport.write(self._header)
        self._protocol.makeConnection(self)
        if self._end is not None and not self._end.tls.server_side:
            self._shake()

    def dataReceived(self, data: bytes) -> None:
        if self._introduced:
            self._unread += data
            size = header_size(self._unread)
            if not size:
                return
            data, self._introduced = self._unread[size:], False
        if not data:
            return
        if self._end is None:
            self._protocol.dataReceived(data)
            return
        if self.failed:
            return
        self._end.inbound.write(data)
        if self._end.up or self._shake():
            self._decrypt()

    def readConnectionLost(self) -> None:
        if self._end is not None and not self._ended:
            self.truncated = self._end.up
            self._ended = True
            cut = getattr(self._protocol, "readConnectionCut", None)
            (cut if self.truncated and cut is not None else self._protocol.readConnectionLost)()
        elif self._end is None:
            self._protocol.readConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        self._protocol.connectionLost(reason)

    # TLS.

    def _shake(self) -> bool:
        assert self._end is not None
        try:
            up = self._end.shake()
        except ssl.SSLError as error:
            self.failed = str(error.reason or error)
            self._send()
            self._raw.loseConnection()
            return False
        self._send()
        if up and not self.failed:
            self.shaken()
            waiting, self._waiting = self._waiting, []
            for data in waiting:
                self.write(data)
            if self._ending is not None:
                self._ending()
        return up

    def _send(self) -> None:
        """Send what TLS has to say."""
        assert self._end is not None
        data = self._end.outbound.read()
        if data and not self._end.up:
            self._said += 1
        if self._holds and data:
            if self._holds == "half":
                self._raw.write(data[: len(data) // 2])
            if self._holds != "next" or self._said > 1:
                self._holds, self.failed = "", "it stops in its handshake"
                return
        if data and not self.failed.startswith("it stops"):
            self._raw.write(data)

    def _decrypt(self) -> None:
        assert self._end is not None
        if self._ended:
            return
        try:
            plain = self._end.read()
        except ssl.SSLError as error:
            self.failed = str(error.reason or error)
            self._send()
            self._raw.loseConnection()
            return
        if plain:
            self._protocol.dataReceived(plain)
        if self._end.ended and not self._ended:
            self._ended = True
            self._protocol.readConnectionLost()

    # To the client or the backend: a transport.

    @property
    def _raw(self) -> MemoryTransport:
        assert self._transport is not None
        return self._transport

    def write(self, data: bytes) -> None:
        end = self._end
        if end is None:
            self._raw.write(data)
        elif not end.up:
            self._waiting.append(data)
        elif not (self._closed or self.disconnecting):
            for at in range(0, len(data), _RECORD_BYTES):
                end.tls.write(data[at : at + _RECORD_BYTES])
            self._send()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self._say_good_bye()
        self._raw.loseConnection()

    def leave(self) -> None:
        """Close in the middle of a handshake, if it has not been closed."""
        if self._transport is not None:
            self._raw.loseConnection()

    def die(self) -> None:
        """Close as a process that has ended."""
        if not self._vanishes:
            self._say_good_bye()
        self._raw.loseConnection()

    @property
    def session(self) -> Any:
        """The session that a later connection may resume, None for none."""
        return self._end.tls.session if self._end is not None and self._end.up else None

    def loseWriteConnection(self) -> None:
        if self._end is not None and not self._end.up and not self.failed:
            self._ending = self.loseWriteConnection  # nobody half-closes in a handshake
            return
        self._say_good_bye()
        self._raw.loseWriteConnection()

    def _say_good_bye(self) -> None:
        if self._end is not None and self._end.up and not (self._closed or self.disconnecting):
            self._closed = True
            self._end.say_good_bye()
            self._send()

    def abortConnection(self) -> None:
        self._raw.abortConnection()

    def pauseProducing(self) -> None:
        self._raw.pauseProducing()

    def resumeProducing(self) -> None:
        self._raw.resumeProducing()

    @property
    def unsent(self) -> int:
        return self._raw.unsent + sum(map(len, self._waiting))

    @property
    def disconnecting(self) -> bool:
        return self._raw.disconnecting

    @property
    def connected(self) -> bool:
        return self._raw.connected

    @property
    def pipes(self) -> Any:
        return self._raw.pipes

    def getHost(self) -> Any:
        return self._raw.getHost()

    def getPeer(self) -> Any:
        return self._raw.getPeer()
