"""The dialer connects to backends: all addresses of a name within one attempt, and a failure named by its outcome."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

from twisted_lb.core.address import Address
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.names import Names, SocketAddress
from twisted_lb.net.poller import WRITE, Pollable, Poller
from twisted_lb.net.transport import Transport

# No server is there, or no way leads there: the backend is ejected (see core/outcome.py).
_REFUSED: Final = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.ENOENT,
        errno.ECONNRESET,
        errno.ENETDOWN,
    )
)
# This machine has nothing left to connect with: no other address would do better.
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC))
# So are ports: EADDRNOTAVAIL, or EAGAIN where the kernel picks one. For IPv6 the former means that there is none here, and
# a unix socket says the latter when the queue of its server is full.
_PORTS: Final = frozenset((errno.EADDRNOTAVAIL, errno.EAGAIN))
_IN_PROGRESS: Final = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))

Failed = Callable[[Outcome, str], None]


class Attempt(Protocol):
    """A connection being made."""

    def cancel(self) -> None:
        """Give the connect up; neither success nor failure is told any more."""


class Dial(Protocol):
    """The seam to the network: connect `protocol` to an address, or call `failed` once; never both, never before return."""

    def dial(self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed) -> Attempt:
        """Begin to connect."""


class _Dialling(Pollable):
    """One connect: the addresses in turn, until one answers, none is left, or the time is over."""

    def __init__(
        self, dialer: "Dialer", address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed
    ) -> None:
        self._dialer: Final = dialer
        self._address: Final = address
        self._protocol: Final = protocol
        self._failed: Final = failed
        self._ends_at: Final = dialer.poller.clock.read() + timeout_s
        self._left: list[SocketAddress] = []
        self._trying: SocketAddress | None = None
        self._sock: socket.socket | None = None
        self._deadline: Final = Deadline(self._timed_out)
        self._troubles: list[str] = []
        self._timeouts: int = 0
        self._refusals: int = 0
        self._over: bool = False
        self._cancelled: bool = False

    def begin(self) -> None:
        self._dialer.deadlines.arm(self._deadline, self._ends_at)
        self._dialer.names.find(self._address, self._found)

    def _found(self, addresses: list[SocketAddress]) -> None:
        if self._over:
            return
        if not addresses:
            self._fail(Outcome.REFUSED, "the name does not resolve")
            return
        self._left = list(addresses)
        self._next()

    def _next(self) -> None:
        """Try the next address; each gets its share of the time that is left."""
        if not self._left:
            self._dialer.names.failed(self._address)
            self._fail(self._outcome(), ", ".join(self._troubles))
            return
        now = self._dialer.poller.clock.now
        share = max(self._ends_at - now, 0.0) / len(self._left)
        self._trying = self._left.pop(0)
        self._dialer.deadlines.arm(self._deadline, now + share)
        family, where = self._trying
        try:
            self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = sock.connect_ex(where)
            if code in _IN_PROGRESS:
                self._dialer.poller.add(sock.fileno(), self, WRITE)
        except OSError as error:
            self._trouble(error.errno or errno.EIO)
            return
        if code in _IN_PROGRESS:
            return
        if code:
            self._trouble(code)
        else:
            # Connected at once (unix sockets do): told after the batch, so that callers see one order of events.
            self._dialer.poller.soon(self._connected)

    def _outcome(self) -> Outcome:
        """The outcome when no address worked: the worst that was heard from the other side, if anything was."""
        if self._timeouts:
            return Outcome.CONNECT_TIMEOUT
        return Outcome.REFUSED if self._refusals else Outcome.LOCAL_FAILURE

    def ready(self, flags: int) -> None:
        """See Pollable: the connection is made or was refused."""
        sock = self._sock
        if sock is None:
            return
        self._dialer.poller.remove(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._trouble(code)
        else:
            self._connected()

    def _connected(self) -> None:
        sock = self._sock
        if self._over or sock is None:
            return
        self._over = True
        self._deadline.end()
        self._sock = None
        assert self._trying is not None
        _, where = self._trying
        self._dialer.names.worked(self._address, self._trying)
        Transport(self._dialer.poller, sock, where).open(self._protocol)

    def _trouble(self, code: int) -> None:
        """One address did not work; the others may do better, unless this machine cannot connect at all."""
        self._drop_socket()
        text = os.strerror(code).lower()
        family = socket.AF_INET if self._trying is None else self._trying[0]
        if code in _EXHAUSTED or (code in _PORTS and family == socket.AF_INET):
            self._fail(Outcome.LOCAL_FAILURE, text)
            return
        if code == errno.ETIMEDOUT or (code == errno.EAGAIN and family == socket.AF_UNIX):
            self._timeouts += 1
        elif code in _REFUSED:
            self._refusals += 1
        if text not in self._troubles:
            self._troubles.append(text)
        self._next()

    def _timed_out(self) -> None:
        self._timeouts += 1
        if self._sock is None:
            self._fail(Outcome.CONNECT_TIMEOUT, "the name server did not answer in time")
            return
        self._drop_socket()
        self._troubles.append("no answer in time")
        self._next()

    def _fail(self, outcome: Outcome, detail: str) -> None:
        if self._over:
            return
        self._over = True
        self._deadline.end()
        self._dialer.poller.soon(lambda: self._tell(outcome, detail))

    def _tell(self, outcome: Outcome, detail: str) -> None:
        if not self._cancelled:
            self._failed(outcome, detail)

    def cancel(self) -> None:
        """See Attempt."""
        self._over = True
        self._cancelled = True
        self._deadline.end()
        self._drop_socket()

    def crashed(self) -> None:
        """See Pollable."""
        self._drop_socket()
        self._fail(Outcome.LOCAL_FAILURE, "internal error")

    def _drop_socket(self) -> None:
        sock = self._sock
        if sock is not None:
            self._sock = None
            self._dialer.poller.remove(sock.fileno())
            self._dialer.poller.close_later(sock)


class Dialer:
    """A dialer over real sockets."""

    def __init__(self, poller: Poller, deadlines: Deadlines, names: Names) -> None:
        self.poller: Final = poller
        self.deadlines: Final = deadlines
        self.names: Final = names

    def dial(self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed) -> Attempt:
        """See Dial."""
        dialling = _Dialling(self, address, protocol, timeout_s, failed)
        dialling.begin()
        return dialling
