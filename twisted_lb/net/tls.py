"""TLS on a connection: a filter between a socket and its protocol, over memory BIOs.

All reading and writing of the descriptor stays the plain transport's: interest, pauses, half-close, unsent bytes, water marks.
"""

import _socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from mypy_extensions import mypyc_attr
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from twisted_lb.net.poller import PEER_CLOSED, READ, Poller
from twisted_lb.net.transport import RECEIVE_BYTES, Transport

# RFC 8446 5.1: the plain text of a record. One receive is to hold a whole record of that, with what is around it.
_RECORD_BYTES: Final = 16384
_LEAST_RECEIVE_BYTES: Final = 17408
_RECEIVE_GROWTH: Final = 4
# A BIO keeps what it has grown to: it is given so much at a time, and a record at a time on the way out, where less costs no more.
_PIECE_BYTES: Final = 32768
# How reading ended: the peer's close_notify came.
_GOOD_BYE: Final = "close_notify"
# Of `writev`: half of what it takes at once.
_MOST_PIECES: Final = 512
# Why a handshake failed whose peer is gone.
LEFT: Final = "it closed the connection"


class Handshake(Protocol):
    """Who has begun a handshake, and is told once how it went."""

    def secured(self, transport: "TlsTransport") -> None:
        """It is over, and the connection is to be given to a protocol."""

    def failed(self, transport: "TlsTransport", reason: str) -> None:
        """It failed; what the peer is told is on its way, and what it still sends is thrown away until the transport is closed. A
        reason that begins with `LEFT`: the peer has.
        """

    def lost(self, transport: "TlsTransport") -> None:
        """The connection is gone whose handshake had failed."""


@mypyc_attr(free_list_len=1)
class TlsTransport(Transport):
    """A transport whose bytes are TLS records (RFC 8446, RFC 5246). `begin` starts the handshake, whose end `handshake` is told;
    after that it is given to a protocol by `take_over`.

    `truncated`: the peer's end of the connection came without a close_notify, so that somebody else may have cut it there.
    """

    __slots__ = (
        "_discarding",
        "_failed",
        "_handshake",
        "_inbound",
        "_outbound",
        "_read_tls",
        "_tls",
        "_up",
        "_write_tls",
        "truncated",
    )

    def __init__(
        self,
        poller: Poller,
        sock: _socket.socket | int,
        context: ssl.SSLContext,
        handshake: Handshake,
        *,
        server_side: bool,
        server_name: str | None = None,
        session: Any = None,
        peer: Any = None,
        port_name: str | None = None,
        family: int = _socket.AF_INET,
    ) -> None:
        super().__init__(poller, sock, peer, port_name, family)
        self.truncated: bool = False
        self._receive_bytes = _LEAST_RECEIVE_BYTES
        self._handshake: Handshake | None = handshake
        self._failed: Handshake | None = None  # what it was, and waits for the end of the connection
        self._inbound: Final[Any] = ssl.MemoryBIO()
        self._outbound: Final[Any] = ssl.MemoryBIO()
        tls: Any = context.wrap_bio(
            self._inbound, self._outbound, server_side=server_side, server_hostname=server_name, session=session
        )
        self._tls: Final[Any] = tls
        # Looked up once, without the object in Python around them.
        self._read_tls: Final[Callable[[int], bytes]] = tls._sslobj.read
        self._write_tls: Final[Callable[[bytes | memoryview], int]] = tls._sslobj.write
        self._up: bool = False
        self._discarding: bool = False

    @property
    def tls(self) -> Any:
        """The `ssl.SSLObject`, to be asked what was agreed on."""
        return self._tls

    def begin(self, received: bytes = b"", *, watched: bool = False) -> None:
        """Begin the handshake with the bytes that have come already. `watched`: the poller watches the descriptor, for reading."""
        self._interest = READ | PEER_CLOSED
        if watched:
            self._poller.hand_over(self._fd, self)
        else:
            self._poller.add(self._fd, self, self._interest)
        if received:
            self._inbound.write(received)
        if self._shake():
            self._decrypt()

    def begin_behind(self, header: bytes) -> None:
        """Begin the handshake as `begin` does. The header is sent first, in the clear, in one piece with what TLS says."""
        self._keep(memoryview(header))
        self.begin()
        if self.unsent:
            self._flush()
            self._watch()

    # Events.

    def ready(self, flags: int) -> None:
        """See Pollable."""
        if (flags != READ or not self._interest & READ) and not self._wants_read(flags):
            return
        max_bytes = _LEAST_RECEIVE_BYTES if self._poller.crowded else self._receive_bytes
        try:
            data = self._read_fd(self._fd, max_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end_badly(f"{LEFT}: {(error.strerror or str(error)).lower()}")
            return
        if not data:
            self._cut_off()
            return
        size = len(data)
        if size == max_bytes:
            self._receive_bytes = min(max_bytes * _RECEIVE_GROWTH, RECEIVE_BYTES)
        elif size < _LEAST_RECEIVE_BYTES:
            self._receive_bytes = _LEAST_RECEIVE_BYTES
        if self._discarding:
            return
        if size > _PIECE_BYTES:
            self._decrypt_pieces(data)
            return
        self._inbound.write(data)
        if self._up or self._shake():
            self._decrypt()

    def _cut_off(self) -> None:
        """The peer sent its FIN, and no close_notify before it."""
        if self._up:
            self.truncated = True
            self._read_end()
        elif self._discarding:
            self._lose(Failure(ConnectionLost("no handshake")))
        else:
            self._end_badly(LEFT)

    def _decrypt(self) -> None:
        """Deliver the plain text of all records that are here, as one."""
        try:
            plain = self._read_tls(_RECORD_BYTES)
        except ssl.SSLWantReadError:
            self._pump()
            return
        except ssl.SSLZeroReturnError:  # so it is where we have said it too
            plain = b""
        except ssl.SSLError as error:
            self._end_badly(reason_of(error))
            return
        if not plain:
            self._peer_said_good_bye()
        elif self._inbound.pending:
            parts = [plain]
            end = self._read_into(parts)
            self._deliver(b"".join(parts), end)
        else:  # one record, as a rule, and then as `_deliver`, without the calls
            if self._outbound.pending:
                self._pump()
            receiver = self._receiver
            if receiver is None or self._closing or self._gone:
                self._deliver(plain, "")
            else:
                receiver.dataReceived(plain)

    def _decrypt_pieces(self, data: bytes) -> None:
        """Decrypt one large receive piece by piece, and deliver it as one."""
        parts: list[bytes] = []
        end = ""
        view = memoryview(data)
        for at in range(0, len(data), _PIECE_BYTES):
            self._inbound.write(view[at : at + _PIECE_BYTES])
            if not self._up and not self._shake():
                if self._discarding or self._gone:
                    return
                continue
            end = self._read_into(parts)
            if end:
                break
        self._deliver(b"".join(parts), end)

    def _read_into(self, parts: list[bytes]) -> str:
        """Take the plain text of what is in the BIO. How reading ended: empty where more may come, `_GOOD_BYE`, or an error."""
        try:
            while self._inbound.pending:
                plain = self._read_tls(_RECORD_BYTES)
                if not plain:
                    return _GOOD_BYE
                parts.append(plain)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return _GOOD_BYE
        except ssl.SSLError as error:
            return reason_of(error)
        return ""

    def _deliver(self, plain: bytes, end: str) -> None:
        """Deliver plain text, and then what was behind it."""
        self._pump()  # a KeyUpdate is answered
        if plain and not self._closing and not self._gone:
            self._give(plain)
        if end == _GOOD_BYE:
            self._peer_said_good_bye()
        elif end:
            self._end_badly(end)

    def _peer_said_good_bye(self) -> None:
        """The peer's close_notify came: it sends no more. As a FIN is, which comes next."""
        if not self._closing and not self._gone and not self._read_ended:
            self._read_end()

    def _end_badly(self, reason: str) -> None:
        """What came is no TLS, or the connection broke: its other end is told, where it can be."""
        handshake = self._handshake
        self._handshake = None
        if handshake is None:
            self._pump()
            self._lose(Failure(ConnectionLost(reason.removeprefix(f"{LEFT}: "))))
            return
        self._fail(handshake, reason)

    # The handshake.

    def _shake(self) -> bool:
        """Go on with the handshake; whether the connection is up, and was not closed at once."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._pump()
            return False
        except ssl.SSLError as error:
            handshake = self._handshake
            self._handshake = None
            if handshake is not None:
                self._fail(handshake, reason_of(error))
            return False
        self._pump()
        self._up = True
        handshake = self._handshake
        self._handshake = None
        if handshake is not None and not self._gone:
            handshake.secured(self)
        return not self._closing and not self._gone

    def _fail(self, handshake: Handshake, reason: str) -> None:
        """The handshake failed: send the alert and a FIN, and throw away what comes: a reset would take the alert away."""
        self._pump()
        self._discarding = True
        if not self._broken:
            super().loseWriteConnection()
        if not self._gone:
            self._failed = handshake
        handshake.failed(self, reason)

    # Writing.

    def _pump(self) -> None:
        """Send what TLS has to say by itself."""
        if self._outbound.pending:
            super().write(self._outbound.read())

    def write(self, data: bytes) -> None:
        """Encrypt, and send what the kernel takes now."""
        if self._closing or self._gone or self._half_closing or self._broken or not data:
            return
        if len(data) <= _RECORD_BYTES:
            self._write_tls(data)
            Transport.write(self, self._outbound.read())  # `super` is an object more each time
            return
        records: list[bytes] = []
        view = memoryview(data)
        for at in range(0, len(data), _RECORD_BYTES):
            self._write_tls(view[at : at + _RECORD_BYTES])
            records.append(self._outbound.read())
        for at in range(0, len(records), _MOST_PIECES):
            super().write_pieces(records[at : at + _MOST_PIECES])

    def write_pieces(self, pieces: list[bytes]) -> None:
        """Encrypt several pieces as one: a record costs more than a copy."""
        self.write(b"".join(pieces))

    # Closing.

    def loseConnection(self) -> None:
        """Read no more, send what is kept and close_notify, close; `connectionLost` comes later."""
        self._say_good_bye()
        super().loseConnection()

    def loseWriteConnection(self) -> None:
        """Half-close: send close_notify and a FIN after what is kept; reading goes on."""
        self._say_good_bye()
        super().loseWriteConnection()

    def _say_good_bye(self) -> None:
        if not self._up or self._closing or self._gone or self._half_closing or self._broken:
            return
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it waits for the peer's, and we do not
        self._pump()

    def _lose(self, reason: Failure) -> None:
        super()._lose(reason)
        handshake, failed = self._handshake, self._failed
        self._handshake = self._failed = None
        if handshake is not None:
            handshake.failed(self, "the connection was closed")
        elif failed is not None:
            failed.lost(self)

    def __repr__(self) -> str:
        return f"<TlsTransport {'up' if self._up else 'in its handshake'}, over {super().__repr__()}>"


def reason_of(error: ssl.SSLError) -> str:
    """Why TLS failed, in OpenSSL's words, as `NO_SHARED_CIPHER`; of a certificate that is not good, why it is not."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"CERTIFICATE_VERIFY_FAILED: {error.verify_message}"
    untyped: Any = error  # its type says that it has a reason; where OpenSSL has no word for it, it is None
    return str(untyped.reason or error)
