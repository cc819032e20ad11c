"""Meeting: how a parent finds workers that a parent before it has started, and speaks to them.

All workers of a balancer share one abstract unix socket with their parent, called after the first address where clients come. As long
as it lives the parent accepts there, and sends everybody away: nobody is to be found. Workers that have lost it accept, one connection
each, and say who they are; with the sockets and the table, for who asks for them. From then on the connection is their link.
"""

import contextlib
import hashlib
import json
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_lb import __version__
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.net.sockets import peer_of

# Whose objects another program understands: the messages of this version.
PROGRAM: Final = f"{__version__}/1"
# What a parent asks for.
LINK: Final = b"link\n"
ALL: Final = b"all\n"
# How long either end waits for the other one, in seconds: it is there, and may be busy.
_PATIENCE_S: Final = 2.0
# And how long a parent waits for all of them, who are not all there: they move requests meanwhile, and nobody waits for a parent.
_ALL_S: Final = 10.0
_LENGTH: Final = struct.Struct("!I")
_MOST_FDS: Final = 64  # in a message
_MOST_WORKERS: Final = 1024
_BACKLOG: Final = 1024
# How often it is tried to have a name that another parent has, in seconds.
_TRY_S: Final = 1.0

_log: Final = Logger(namespace="twisted_lb.workers")


@dataclass(frozen=True)
class Hello:
    """Who a worker is: its process, its place, its row of a table of this size (`slots`, `rows`), how many programs came before its own."""

    pid: int
    slot: int
    row: int
    slots: int
    rows: int
    generation: int
    began_at: float
    leaving: bool
    program: str


@dataclass(frozen=True)
class Belongings:
    """What a worker has: descriptors of the table, of the control socket, of listening sockets, and of what brings connections to slots:
    those to read from (its own) and to write to, by slot; and the columns of the table that it knows, by pool and backend.
    """

    table: int
    control: int
    sockets: list[int]
    out: dict[int, int]
    into: dict[int, int]
    columns: list[tuple[str, str, int]]

    def descriptors(self) -> list[int]:
        """All of them, in their order."""
        return [self.table, self.control, *self.sockets, *self.out.values(), *self.into.values()]

    def shape(self) -> dict[str, Any]:
        """What is told of them beside the descriptors."""
        return {
            "sockets": len(self.sockets),
            "out": list(self.out),
            "into": list(self.into),
            "columns": self.columns,
        }

    @classmethod
    def shaped(cls, shape: dict[str, Any], fds: Sequence[int]) -> "Belongings":
        """The belongings of this shape; ValueError where there are not as many."""
        given = iter(fds)
        try:
            table, control = next(given), next(given)
            sockets = [next(given) for _ in range(shape["sockets"])]
            out, into = ({slot: next(given) for slot in shape[end]} for end in ("out", "into"))
            columns = [(pool, backend, column) for pool, backend, column in shape["columns"]]
            return cls(table, control, sockets, out, into, columns)
        except (StopIteration, RuntimeError):
            raise ValueError("descriptors are missing") from None


@dataclass(frozen=True)
class Met:
    """A worker that was found, what it has, if it was asked for that, and the connection to it."""

    hello: Hello
    belongings: Belongings | None
    connection: socket.socket


def name_of(where: str) -> str:
    """The abstract name of the control socket of the balancer that listens there first."""
    return "\0twisted_lb workers " + hashlib.sha256(where.encode()).hexdigest()[:32]


def place_of(sock: socket.socket) -> str:
    """Where a socket listens."""
    found = sock.getsockname()
    return found if isinstance(found, str) else f"{found[0]} {found[1]}"


def places_of(address: ListenAddress) -> Iterator[str]:
    """Where a socket listens that was bound to this address: every address is that of one family or of the other."""
    if address.path:
        yield address.path
    elif address.interface:
        yield f"{_canonical(address.interface)} {address.port}"
    else:
        yield f":: {address.port}"
        yield f"0.0.0.0 {address.port}"


def _canonical(interface: str) -> str:
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, interface))
    except OSError:
        return interface  # with a zone, say


def control_socket(name: str) -> socket.socket | None:
    """A listening control socket of this name; None where somebody has it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(name)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        return None
    return sock


def orphans_at(address: ListenAddress) -> bool:
    """Whether somebody may have workers that listen at this address first, with a parent or without."""
    try:
        names = Path("/proc/net/unix").read_text()
    except OSError:
        return False
    return any(name_of(place).replace("\0", "@") in names for place in places_of(address))


# A parent that looks for workers, before it begins: nothing of it is in the way of a client.


def meet(
    name: str,
    want: bytes,
    most: int = _MOST_WORKERS,
    known: Iterable[int] | None = None,
    user: int | None = None,
) -> list[Met]:
    """The workers that are found at this name, at most so many: our own, and those of the `user` that we are going to be. Anybody may
    have a name, also before we do. Where their processes are `known`, it is waited for those that live.
    """
    found: list[Met] = []
    missing = None if known is None else set(known)
    ends_at = monotonic() + _ALL_S
    while len(found) < most and (missing is None or any(map(is_worker, missing))):
        try:
            met = _meet_one(name, want, {os.geteuid(), user})
            found.append(met)
            if missing is not None:
                missing.discard(met.hello.pid)
        except TimeoutError:
            if monotonic() >= ends_at:
                break
        except (OSError, ValueError, TypeError, KeyError):
            break  # nobody is there, or a parent that lives
    return found


def is_worker(pid: int) -> bool:
    """Whether a process is a worker, and lives: its number may be another one's by now."""
    try:
        return b"twisted_lb.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _meet_one(name: str, want: bytes, users: set[int | None]) -> Met:
    with contextlib.ExitStack() as if_it_fails:
        connection = if_it_fails.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.settimeout(_PATIENCE_S)
        connection.connect(name)
        uid = peer_of(connection)[1]
        if uid not in users:
            _log.warn("workers of user {uid} are no business of ours", uid=uid)
            raise PermissionError
        connection.sendall(want)
        hello, belongings = _read(connection)
        if_it_fails.pop_all()
        return Met(hello, belongings, connection)


def _read(connection: socket.socket) -> tuple[Hello, Belongings | None]:
    fds: list[int] = []
    try:
        size = _LENGTH.unpack(_exactly(connection, _LENGTH.size, fds))[0]
        told = json.loads(_exactly(connection, size, fds))
        hello, shape = Hello(**told["hello"]), told["has"]
        if shape is None:
            return hello, None
        while len(fds) < told["descriptors"]:
            _exactly(connection, 1, fds)
        return hello, Belongings.shaped(shape, fds)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _exactly(connection: socket.socket, count: int, fds: list[int]) -> bytes:
    data = b""
    while len(data) < count:
        more, came, _, _ = socket.recv_fds(connection, count - len(data), _MOST_FDS)
        fds += came
        if not more:
            raise ValueError("it has gone")
        data += more
    return data


# A worker that has lost its parent.


def answer(connection: socket.socket, hello: Hello, belongings: Callable[[], Belongings]) -> None:
    """Say who we are to a parent that has connected, and hand it what it asks for; OSError or ValueError where it is none."""
    connection.settimeout(_PATIENCE_S)
    want = b""
    while not want.endswith(b"\n"):
        more = connection.recv(16)
        if not more or len(want) > 16:
            raise ValueError("not a parent")
        want += more
    if want not in (LINK, ALL):
        raise ValueError("not a parent")
    ours = belongings() if want == ALL else None
    fds = [] if ours is None else ours.descriptors()
    shape = None if ours is None else ours.shape()
    text = json.dumps({"hello": asdict(hello), "has": shape, "descriptors": len(fds)}).encode()
    connection.sendall(_LENGTH.pack(len(text)) + text)
    for first in range(0, len(fds), _MOST_FDS):
        socket.send_fds(connection, [b"."], fds[first : first + _MOST_FDS])
    connection.settimeout(0.0)


@implementer(IReadDescriptor)
class Visitors:
    """The control socket, read: `came` gets each connection of somebody who may, from `start` to `stop`."""

    def __init__(self, sock: socket.socket, came: Callable[[socket.socket], None], reactor: Any) -> None:
        self._sock: Final = sock
        self._came: Final = came
        self._reactor: Final = reactor
        self._reading = False

    def start(self) -> None:
        """Accept from now on."""
        if not self._reading:
            self._reading = True
            self._reactor.addReader(self)

    def stop(self) -> None:
        """Accept no more."""
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return self._sock.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "workers"

    def doRead(self) -> None:
        """Take in who has connected, unless another process was faster."""
        try:
            connection, _ = self._sock.accept()
        except OSError:
            return
        # Whoever comes gets all that we have: nobody but who might take it.
        if peer_of(connection)[1] in (os.geteuid(), 0):
            self._came(connection)
        else:
            connection.close()

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor."""


class Control:
    """The control socket at a parent: as long as it lives, whoever looks for its workers is sent away. `told` gets the descriptor of
    another one.
    """

    def __init__(self, reactor: Any, told: Callable[[int], None]) -> None:
        self._reactor: Final = reactor
        self._told: Final = told
        self.sock: socket.socket | None = None
        self.name: str = ""
        self._visitors: Visitors | None = None
        self._trying: Any = None

    def inherit(self, name: str, sock: socket.socket) -> None:
        """Have the control socket of a parent before this one."""
        self._have(name, sock)

    def follow(self, place: str) -> None:
        """Be found by this place from now on, or as soon as nobody else is: who has taken over waits for the one before."""
        name = name_of(place)
        if name == self.name:
            return
        self._stop_trying()
        sock = control_socket(name)
        if sock is None:
            self._trying = self._reactor.callLater(_TRY_S, self.follow, place)
        else:
            self._have(name, sock)
            self._told(sock.fileno())

    def _have(self, name: str, sock: socket.socket) -> None:
        self._leave()
        self.name, self.sock = name, sock
        self._visitors = Visitors(sock, socket.socket.close, self._reactor)
        self._visitors.start()

    def _stop_trying(self) -> None:
        if self._trying is not None and self._trying.active():
            self._trying.cancel()
        self._trying = None

    def _leave(self) -> None:
        if self._visitors is not None:
            self._visitors.stop()
        if self.sock is not None:
            self.sock.close()

    def close(self) -> None:
        """Be found no more."""
        self._stop_trying()
        self._leave()
        self.sock, self._visitors, self.name = None, None, ""


def close_all(fds: Iterable[int]) -> None:
    """Close these descriptors."""
    for fd in fds:
        os.close(fd)
