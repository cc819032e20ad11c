"""The dialer connects to backends: all addresses of a name within one attempt, and a failure named by its outcome."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.connect_errors import outcome_of, together
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.backlogs import Backlogs
from twisted_lb.net.clock import Later
from twisted_lb.net.deadlines import Deadline, Deadlines
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.names import Names, SocketAddress
from twisted_lb.net.poller import WRITE, Pollable, Poller
from twisted_lb.net.reached import Reached
from twisted_lb.net.transport import Transport

_FAMILY_NAMES: Final = {"ipv4": "IPv4", "ipv6": "IPv6"}
_IN_PROGRESS: Final = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))

Failed = Callable[[Outcome, str], None]


class Attempt(Protocol):
    """A connection being made."""

    def cancel(self) -> None:
        """Give the connect up; neither success nor failure is told any more."""


class Dial(Protocol):
    """The seam to the network: connect `protocol` to an address, or call `failed` once; never both, never before return."""

    def dial(
        self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed, port: int = 0
    ) -> Attempt:
        """Begin to connect. `port`: another port than the address has, of the same server: which one it is, where a name has
        several addresses, say connects to its own port alone.
        """


class _Dialling(Pollable):
    """One connect: the addresses in turn, until one answers, none is left, or the time is over."""

    def __init__(
        self,
        dialer: "Dialer",
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int,
    ) -> None:
        self._dialer: Final = dialer
        self._address: Final = address
        self._port: Final = port
        self._protocol: Final = protocol
        self._failed: Final = failed
        self._ends_at: Final = dialer.poller.clock.read() + timeout_s
        self._left: list[SocketAddress] = []
        self._trying: SocketAddress | None = None
        self._sock: socket.socket | None = None
        self._deadline: Final = Deadline(self._timed_out)
        self._troubles: list[str] = []
        self._outcomes: list[Outcome] = []
        self._backlog_full: bool = False
        self._over: bool = False
        self._cancelled: bool = False

    def begin(self) -> None:
        self._dialer.deadlines.arm(self._deadline, self._ends_at)
        self._dialer.names.find(self._address, self._found)

    def _found(self, addresses: list[SocketAddress]) -> None:
        if self._over:
            return
        if not addresses:
            self._fail(Outcome.REFUSED, unresolved(self._address))
            return
        self._left = list(addresses) if not self._port else [_at_port(one, self._port) for one in addresses]
        self._next()

    def _next(self) -> None:
        """Try the next address; each gets its share of the time that is left."""
        if not self._left:
            if not self._port:
                self._dialer.names.failed(self._address)
            self._fail(together(self._outcomes), ", ".join(self._troubles))
            return
        now = self._dialer.poller.clock.now
        share = max(self._ends_at - now, 0.0) / len(self._left)
        self._trying = self._left.pop(0)
        self._dialer.deadlines.arm(self._deadline, now + share)
        family, where = self._trying
        try:
            self._sock = sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if family == socket.AF_UNIX:
                code = errno.EAGAIN if self._dialer.backlogs.full(where) else sock.connect_ex(where)
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                code = sock.connect_ex(where)
        except OSError as error:
            # One without a number is not the kernel's, but Python's.
            self._trouble(error.errno or 0, error.strerror or str(error))
            return
        if code == errno.EAGAIN and family == socket.AF_UNIX:
            self._backlog_full = True
            self._dialer.backlogs.wait(where, self)
        else:
            self._began(sock, code)

    def _began(self, sock: socket.socket, code: int) -> None:
        """The kernel has said how the connect begins: it is under way, done, or has failed."""
        if code in _IN_PROGRESS:
            try:
                self._dialer.poller.add(sock.fileno(), self, WRITE)
            except OSError as error:
                self._drop_socket()
                self._fail(Outcome.LOCAL_FAILURE, (error.strerror or str(error)).lower())
        elif code:
            self._trouble(code, os.strerror(code))
        else:
            # Connected at once (unix sockets do): told after the batch, so that callers see one order of events.
            self._dialer.poller.soon(self._connected)

    def try_again(self) -> bool:
        """See Waiting: the backlog of a unix socket was full."""
        sock = self._sock
        assert sock is not None
        assert self._trying is not None
        code = sock.connect_ex(self._trying[1])
        if code == errno.EAGAIN:
            return False
        self._backlog_full = False
        self._began(sock, code)
        return True

    def ready(self, flags: int) -> None:
        """See Pollable: the connection is made or was refused."""
        sock = self._sock
        if sock is None:
            return
        self._dialer.poller.remove(sock.fileno())
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._trouble(code, os.strerror(code))
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
        family, where = self._trying
        if family != socket.AF_UNIX:
            self._dialer.reached.add(self._trying)
        if not self._port:
            self._dialer.names.worked(self._address, self._trying)
        Transport(self._dialer.poller, sock, where).open(self._protocol)

    def _trouble(self, code: int, text: str) -> None:
        """One address did not work; the others may do better, unless this machine cannot connect at all."""
        self._drop_socket()
        trying = self._trying
        assert trying is not None
        unix = trying[0] == socket.AF_UNIX
        outcome = outcome_of(code, unix=unix, reached=trying in self._dialer.reached)
        if outcome is Outcome.LOCAL_FAILURE:
            self._fail(outcome, text.lower())
        else:
            self._failed_there(outcome, text.lower())

    def _failed_there(self, outcome: Outcome, text: str) -> None:
        self._outcomes.append(outcome)
        if text not in self._troubles:
            self._troubles.append(text)
        self._next()

    def _timed_out(self) -> None:
        if self._sock is None:
            self._fail(Outcome.CONNECT_TIMEOUT, "the name server did not answer in time")
            return
        full = self._backlog_full
        self._drop_socket()
        if full:
            self._failed_there(Outcome.BACKLOG_FULL, "its backlog stays full")
        else:
            self._failed_there(Outcome.CONNECT_TIMEOUT, "no answer in time")

    def _fail(self, outcome: Outcome, detail: str) -> None:
        if self._over:
            return
        self._over = True
        self._deadline.end()
        self._leave_names()
        self._dialer.poller.soon(lambda: self._tell(outcome, detail))

    def _leave_names(self) -> None:
        if self._trying is None:
            self._dialer.names.leave(self._address, self._found)

    def _tell(self, outcome: Outcome, detail: str) -> None:
        if not self._cancelled:
            self._failed(outcome, detail)

    def cancel(self) -> None:
        """See Attempt."""
        self._over = True
        self._cancelled = True
        self._deadline.end()
        self._leave_names()
        self._drop_socket()

    def crashed(self) -> None:
        """See Pollable."""
        self._drop_socket()
        self._fail(Outcome.LOCAL_FAILURE, "internal error")

    def _drop_socket(self) -> None:
        sock = self._sock
        if sock is not None:
            self._sock = None
            if self._backlog_full:
                self._backlog_full = False
                assert self._trying is not None
                self._dialer.backlogs.leave(self._trying[1], self)
            self._dialer.poller.remove(sock.fileno())
            self._dialer.poller.close_later(sock)


def unresolved(address: Address) -> str:
    """Why a name is not connected to."""
    family = address.family if isinstance(address, TcpAddress) else ""
    return f"the name does not resolve to an {_FAMILY_NAMES[family]} address" if family else "the name does not resolve"


def _at_port(where: SocketAddress, port: int) -> SocketAddress:
    family, place = where
    return where if family == socket.AF_UNIX else (family, (place[0], port, *place[2:]))


class Dialer:
    """A dialer over real sockets. It remembers what it ever reached (`reached`), and who waits for room in the backlog of a
    unix socket (`backlogs`).
    """

    def __init__(self, poller: Poller, deadlines: Deadlines, names: Names, later: Later) -> None:
        self.poller: Final = poller
        self.deadlines: Final = deadlines
        self.names: Final = names
        self.reached: Final = Reached()
        self.backlogs: Final = Backlogs(later)

    def dial(
        self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed, port: int = 0
    ) -> Attempt:
        """See Dial."""
        dialling = _Dialling(self, address, protocol, timeout_s, failed, port)
        dialling.begin()
        return dialling
