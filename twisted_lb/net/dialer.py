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
from twisted_lb.net.greeting import Greeting
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.names import Names, SocketAddress
from twisted_lb.net.poller import WRITE, Pollable, Poller
from twisted_lb.net.reached import Reached
from twisted_lb.net.tcp_keepalive import TcpKeepalive, set_keepalive
from twisted_lb.net.tls import LEFT, TlsTransport
from twisted_lb.net.transport import Transport

_FAMILY_NAMES: Final = {"ipv4": "IPv4", "ipv6": "IPv6"}
_IN_PROGRESS: Final = frozenset((errno.EINPROGRESS, errno.EALREADY, errno.EINTR))

# What begins what is told of a connect that TLS has ended.
TLS_FAILED: Final = "TLS: "

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


class GreetingDial(Protocol):
    """A Dial that greets."""

    def dial(
        self,
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int = 0,
        greeting: Greeting | None = None,
        keepalive: TcpKeepalive | None = None,
    ) -> Attempt:
        """See Dial. `protocol` is connected when the greeting is over, which the time has to be enough for too. `keepalive`: how the kernel
        is to ask whether the peer is still there; None: not at all.
        """


class _Dialling(Pollable):
    """One connect: the addresses in turn, until one answers, none is left, or the time is over. Where TLS is spoken, to answer is to end
    the handshake.
    """

    def __init__(
        self,
        dialer: "Dialer",
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int,
        greeting: Greeting | None,
        keepalive: TcpKeepalive | None,
    ) -> None:
        self._dialer: Final = dialer
        self._greeting: Final = greeting
        self._keepalive: Final = keepalive
        self._address: Final = address
        self._port: Final = port
        self._protocol: Final = protocol
        self._failed: Final = failed
        self._ends_at: Final = dialer.poller.clock.read() + timeout_s
        self._left: list[SocketAddress] = []
        self._trying: SocketAddress | None = None
        self._sock: socket.socket | None = None
        self._transport: TlsTransport | None = None  # while its handshake is under way, and it has the socket
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
                if self._keepalive is not None:
                    set_keepalive(sock, self._keepalive)
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
        trying, greeting = self._trying, self._greeting
        assert trying is not None
        if trying[0] != socket.AF_UNIX:
            self._dialer.reached.add(trying)
        if greeting is not None and greeting.context is not None:
            self._begin_tls(sock, trying[1], greeting)
            return
        self._sock = None
        self._worked(trying)
        transport = Transport(self._dialer.poller, sock, trying[1])
        if greeting is None:
            transport.open(self._protocol)
        else:
            transport.open_behind(greeting.header, self._protocol, apart=greeting.apart)

    def _worked(self, trying: SocketAddress) -> None:
        """The address answers: the connection is made."""
        self._over = True
        self._deadline.end()
        if not self._port:
            self._dialer.names.worked(self._address, trying)

    # TLS.

    def _begin_tls(self, sock: socket.socket, where: object, greeting: Greeting) -> None:
        """The connection is there: begin the handshake, which has what is left of this address's time."""
        context = greeting.context
        assert context is not None
        if context.check_hostname and not greeting.name:
            self._drop_socket()
            self._failed_there(Outcome.REFUSED, f"{TLS_FAILED}there is no name to verify (tls.server_name)")
            return
        try:
            transport = TlsTransport(
                self._dialer.poller,
                sock,
                context,
                self,
                server_side=False,
                server_name=greeting.name or None,
                session=greeting.session,
                peer=where,
            )
        except ValueError as error:
            # A name that cannot be asked for, as UnicodeError too.
            self._drop_socket()
            self._failed_there(Outcome.REFUSED, f"{TLS_FAILED}{error}")
            return
        self._sock = None
        self._transport = transport
        transport.begin_behind(greeting.header)

    def secured(self, transport: TlsTransport) -> None:
        """See Handshake."""
        trying, greeting = self._trying, self._greeting
        if self._over or trying is None or greeting is None:
            return
        self._transport = None
        self._worked(trying)
        greeting.secured(transport.tls)
        transport.take_over(self._protocol, b"")

    def failed(self, transport: TlsTransport, reason: str) -> None:
        """See Handshake: another address may do better."""
        if self._over or transport is not self._transport:
            return
        self._drop_tls()
        self._failed_there(Outcome.REFUSED, TLS_FAILED + reason.removeprefix(f"{LEFT}: "))

    def lost(self, transport: TlsTransport) -> None:
        """See Handshake: it was told of the failure, and has gone on."""

    def _drop_tls(self) -> None:
        """Close the connection whose handshake is under way, or has failed, behind what its other end was told."""
        transport = self._transport
        if transport is not None:
            self._transport = None
            transport.loseConnection()
            transport.abortConnection()  # where that was not taken

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
        if self._transport is not None:
            self._drop_tls()
            self._failed_there(Outcome.CONNECT_TIMEOUT, f"{TLS_FAILED}no end of the handshake in time")
            return
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
        self._drop_tls()

    def crashed(self) -> None:
        """See Pollable."""
        self._drop_socket()
        self._drop_tls()
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
        self,
        address: Address,
        protocol: StreamProtocol,
        timeout_s: float,
        failed: Failed,
        port: int = 0,
        greeting: Greeting | None = None,
        keepalive: TcpKeepalive | None = None,
    ) -> Attempt:
        """See GreetingDial."""
        dialling = _Dialling(self, address, protocol, timeout_s, failed, port, greeting, keepalive)
        dialling.begin()
        return dialling
