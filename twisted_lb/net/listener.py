"""A listening socket: accepts in bounded batches, rests without descriptors, empties its accept queue at the end."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from twisted_lb.core.gate import Gate
from twisted_lb.net.arrival import Arrivals
from twisted_lb.net.clock import Later, Timer
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.poller import READ, Pollable, Poller
from twisted_lb.net.sockets import BACKLOG, bind_tcp, bind_unix
from twisted_lb.net.tcp_keepalive import TcpKeepalive, set_keepalive
from twisted_lb.net.transport import Transport

__all__ = ["Listener", "bind_tcp", "bind_unix"]

# Fairness: connections accepted in one event; more are reported again at once, after the others had their turn.
_BATCH: Final = 64
# After so many events that brought as many connections as expected, more are expected.
_OFTEN: Final = 4
# While as many are open as may be the accept queue stands; it is logged again only when fewer than this part are.
_ROOM_AGAIN: Final = 0.9
# How often idle clients are asked for room, while somebody waits for it.
_ASK_AGAIN_S: Final = 0.25
# How long accepting rests when there is no descriptor or memory for one more.
_REST_S: Final = 0.25
# accept(2): the connection that was next is to blame, and gone. All other errors are ours and would come back.
_GONE: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ETIMEDOUT,
    )
)

_log = Logger("twisted_lb.net.listener")  # by name: compiled, there is no frame to learn it from


class Listener(Pollable):
    """A listener: accepts connections and gives each to a protocol of its own. `later(delay_s, f)` calls f once. While
    the gate is full none is accepted: new clients wait in the kernel's accept queue, and `make_room` is to close a connection
    that can be spared, if there is one. `arrivals` take what has to show who it is, or to speak TLS, before it is given to a protocol.
    """

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        build: Callable[[], StreamProtocol],
        later: Later,
        gate: Gate | None = None,
        make_room: Callable[[], bool] | None = None,
        arrivals: Arrivals | None = None,
    ) -> None:
        self.accepted: int = 0
        self._poller: Final = poller
        self._sock: Final = sock
        # What socket.socket.accept is made of: the descriptor and the peer, and no object around them.
        self._take: Final[Callable[[], tuple[int, Any]]] = sock._accept  # type: ignore[attr-defined]
        self._family: Final = sock.family
        # Every connection comes to the same port.
        self._port_name: Final = "" if sock.family == socket.AF_UNIX else str(sock.getsockname()[1])
        self._build: Callable[[], StreamProtocol] = build
        self._arrivals: Arrivals | None = arrivals
        self._later: Final = later
        self._gate: Gate | None = gate
        self._make_room: Callable[[], bool] | None = make_room
        self._asking: Timer | None = None  # asks for room again
        self._expected: int = _BATCH
        self._all_came: int = 0  # events in a row in which as many came as were expected
        self._full: bool = False  # waits for room
        self._said_full: bool = False
        self._listening: bool = False
        self._resting: bool = False
        self._rested: bool = False  # and nobody was accepted since
        self._going_on: Timer | None = None
        # Where other processes accept for the same clients: takes a connection that one of them is to have, and closes its descriptor.
        self.hand_on: Callable[[int], bool] | None = None

    def start(self) -> None:
        """Accept from now on."""
        if not self._listening:
            self._listening = True
            self._poller.add(self._sock.fileno(), self, READ)

    def lead_to(
        self,
        build: Callable[[], StreamProtocol],
        gate: Gate,
        make_room: Callable[[], bool],
        arrivals: Arrivals | None = None,
    ) -> None:
        """Give connections that are accepted from now on to other protocols, behind another gate: the address has changed
        hands.
        """
        self._build, self._gate, self._make_room, self._arrivals = build, gate, make_room, arrivals
        self._room()

    def keep_alive(self, keepalive: TcpKeepalive | None) -> None:
        """Have clients that are accepted from now on asked whether they are still there, or not any more: one call for each socket that
        listens, since Linux hands it on, and none for a connection.
        """
        set_keepalive(self._sock, keepalive)

    def ready(self, flags: int) -> None:
        """See Pollable."""
        gate = self._gate
        # As many as came last time, and twice as many if they all came a few times: asking for one too many is an exception.
        for taken in range(self._expected):
            if gate is not None and gate.full:
                if not taken:
                    self._wait_for_room(gate)
                return  # whether anybody waits is told by the next event
            if not self._accept():
                self._expected = max(taken, 1)
                self._all_came = 0
                return
        self._all_came += 1
        if self._all_came >= _OFTEN:
            self._all_came = 0
            self._expected = min(self._expected * 2, _BATCH)

    def _accept(self) -> bool:
        """Take one connection from the accept queue; False when there is none, or no room for it."""
        try:
            fd, peer = self._take()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _GONE:
                return True
            self._rest(error)
            return False
        self._rested = False
        if self.hand_on is not None and self.hand_on(fd):
            return True
        return self._take_in(fd, peer)

    def take_in(self, fd: int) -> None:
        """Take in a connection that another process has accepted, by its descriptor, which is ours from now on."""
        sock = socket.socket(fileno=fd)
        try:
            peer = sock.getpeername()
        except OSError:
            sock.close()  # it has gone already
            return
        sock.detach()
        self._take_in(fd, peer)

    def _take_in(self, fd: int, peer: Any) -> bool:
        self.accepted += 1
        if self._said_full and self._gate is not None and self._gate.held < self._gate.most * _ROOM_AGAIN:
            self._said_full = False
        os.set_blocking(fd, False)
        arrivals = self._arrivals
        if arrivals is not None and arrivals.staged:
            try:
                arrivals.take(fd, peer, self._port_name, self._family)
            except Exception:
                _log.failure("a connection could not be taken in; the next one may")
            return True
        transport = Transport(self._poller, fd, peer, self._port_name, self._family)
        try:
            transport.open(self._build())
        except Exception:
            _log.failure("a connection could not be taken in; the next one may")
            transport.loseConnection()  # harmless where it is closed already
        return True

    def _wait_for_room(self, gate: Gate) -> None:
        """Accept no connection until one is closed."""
        if not self._full and self._listening:
            self._full = True
            if not self._said_full:
                self._said_full = True
                _log.warn("accepting waits, {most} connections are open", most=gate.most)
            self._poller.change(self._sock.fileno(), 0)
            gate.wait(self._room)
            self._ask_for_room()

    def _ask_for_room(self) -> None:
        """Ask for a connection to be spared, again and again while somebody waits."""
        self._asking = None
        if self._full and self._make_room is not None:
            self._make_room()
            self._asking = self._later(_ASK_AGAIN_S, self._ask_for_room)

    def _room(self) -> None:
        if self._full:
            self._stop_asking()
            self._poller.change(self._sock.fileno(), READ)

    def _stop_asking(self) -> None:
        self._full = False
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def _rest(self, error: OSError) -> None:
        """Rest after an error: level-triggered readiness would spin until a descriptor is free."""
        if self._listening and not self._resting:
            self._resting = True
            if not self._rested:
                self._rested = True
                _log.warn("accepting rests for {rest} s: {error}", rest=_REST_S, error=os.strerror(error.errno or 0))
            self._poller.change(self._sock.fileno(), 0)
            self._going_on = self._later(_REST_S, self._go_on)

    def _go_on(self) -> None:
        if self._resting:
            self._resting = False
            self._poller.change(self._sock.fileno(), READ)

    def crashed(self) -> None:
        """See Pollable: a listener outlives a bug in one connection."""

    def stop(self, *, handed_on: bool = False) -> None:
        """Accept all that is in the accept queue, then close. Harmless when stopped. `handed_on`: another process accepts
        on the socket too, and the accept queue is left to it.
        """
        if not self._listening:
            self._sock.close()
            return
        # Bounded: the accept queue fills as long as it is there.
        for _ in range(0 if handed_on else BACKLOG):
            if not self._accept():
                break
        self._listening = False
        self._stop_asking()
        if self._resting:
            self._resting = False
            if self._going_on is not None:
                self._going_on.cancel()
        self._poller.remove(self._sock.fileno())
        self._poller.close_later(self._sock)

    @property
    def sock(self) -> socket.socket:
        """Its socket, for another process that takes over; it stays the listener's to close."""
        return self._sock

    @property
    def address(self) -> str:
        """The address that it listens on, as text: `host:port`, `[v6]:port` or `unix:/path`."""
        return address_of(self._sock)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._sock.getsockname()[1])


def address_of(sock: socket.socket) -> str:
    """The address that a socket is bound to, as text: `host:port`, `[v6]:port` or `unix:/path`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
