"""Listening sockets: bound, inherited (socket activation), taken over from another instance, and handed to the next one."""

import contextlib
import errno
import grp
import json
import os
import socket
import stat
import struct
from collections.abc import MutableMapping, Sequence
from typing import Final, NamedTuple

# The length of the accept queue; the kernel caps it at net.core.somaxconn.
BACKLOG: Final = 4096
# sd_listen_fds(3): the first of the descriptors that a service manager hands over.
_FIRST_FD: Final = 3
# How long a running instance may take to answer.
_PATIENCE_S: Final = 5.0
_MOST_SOCKETS: Final = 64
_MESSAGE_BYTES: Final = 65536
# SO_PEERCRED: pid, uid, gid.
_CREDENTIALS: Final = struct.Struct("3i")

# What a new instance says to the one that runs, and hears from it.
GIVE: Final = b"sockets\n"
TAKEN: Final = b"taken\n"
BUSY: Final = b"busy\n"


class Held(NamedTuple):
    """A listening socket: what it is for, and where it was wanted (as configured); "" where a service manager chose."""

    name: str
    where: str
    sock: socket.socket


# Bound.


def bind_tcp(interface: str, port: int) -> socket.socket:
    """A listening TCP socket; the empty interface is every address, IPv6 and IPv4, where the machine has both."""
    sock = bound_tcp(interface, port)
    try:
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def bound_tcp(interface: str, port: int) -> socket.socket:
    """The same socket before it listens: nobody can connect to it yet. OSError where the address cannot be had, as where
    somebody listens there.
    """
    family = socket.AF_INET6 if ":" in interface or (not interface and socket.has_dualstack_ipv6()) else socket.AF_INET
    try:
        return _bound(family, (interface, port), dual=not interface and family == socket.AF_INET6)
    except OSError as error:
        # A machine can know IPv6 and have it switched off.
        if interface or family == socket.AF_INET or error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(socket.AF_INET, (interface, port), dual=False)


def _bound(family: int, address: tuple[str, int], *, dual: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        # Linux hands TCP_NODELAY on to accepted sockets: one call instead of one a connection.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(path: str, mode: int = 0o666, group: str = "") -> socket.socket:
    """A listening unix socket; a stale one at the path, on which no server listens, is replaced. LookupError when there is no
    such group.
    """
    if group:
        _gid(group)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if _is_stale(path):
            os.unlink(path)
        sock.bind(path)
        try:
            allow(path, mode, group)
            sock.listen(BACKLOG)
        except BaseException:
            unlink_own(path, inode_of(path))
            raise
    except BaseException:
        sock.close()
        raise
    return sock


def allow(path: str, mode: int, group: str = "") -> None:
    """Say who may connect at this path, whatever the umask is (a daemon's is 077). LookupError when there is no such group."""
    if group:
        os.chown(path, -1, _gid(group))
    os.chmod(path, mode)


def inode_of(path: str) -> tuple[int, int] | None:
    """The file at this path: device and inode; None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unlink_own(path: str, inode: tuple[int, int] | None) -> None:
    """Remove the file at this path if it is still this one: another program may listen there by now. What may not be removed
    stays: the next who listens there replaces it.
    """
    if inode is not None and inode_of(path) == inode:
        with contextlib.suppress(OSError):
            os.unlink(path)


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise LookupError(f"there is no group {group}") from None


def _is_stale(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    # Not blocking: a server whose queue is full would let us wait for it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


# Inherited.


def inherited(environ: MutableMapping[str, str], pid: int) -> list[Held]:
    """The sockets that a service manager has opened for this process (LISTEN_FDS, LISTEN_FDNAMES), by their names there.

    The variables are removed: they hold once. ValueError for what is no listening stream socket.
    """
    meant_for, count, names = (environ.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if meant_for != str(pid) or not count.isdecimal():
        return []
    called = names.split(":") if names else []
    found: list[Held] = []
    for i in range(int(count)):
        name = called[i] if i < len(called) else ""
        try:
            found.append(Held(name, "", _adopted(_FIRST_FD + i)))
        except OSError as error:
            for one in found:
                one.sock.close()
            raise ValueError(f"LISTEN_FDS: descriptor {_FIRST_FD + i} {name}: {error.strerror}") from None
    return found


def _adopted(fd: int) -> socket.socket:
    """A listening socket with this descriptor, as `bind_tcp` would have made it."""
    sock = socket.socket(fileno=fd)
    try:
        _refuse_other(sock)
        sock.set_inheritable(False)
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.detach()
        raise
    return sock


def _refuse_other(sock: socket.socket) -> None:
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(errno.EINVAL, "not a listening stream socket")


# Taken over, and handed on.


class Predecessor:
    """A running instance that hands its sockets to this one; it goes on accepting until `relieve`, or for good if this
    process ends before.
    """

    def __init__(self, connection: socket.socket, held: Sequence[Held]) -> None:
        self.pid: Final = peer_of(connection)[0]
        self.held: Final = list(held)
        self.relieved: bool = False
        self._connection: Final = connection

    def relieve(self) -> None:
        """Tell it that this instance accepts now. It may have ended meanwhile: its sockets are here."""
        self.relieved = True
        try:
            self._connection.sendall(TAKEN)
        except OSError:
            pass  # it has ended, and nobody has to be told
        self.close()

    def close(self) -> None:
        """Leave it alone."""
        self._connection.close()


def listens(path: str) -> bool:
    """Whether a server listens on a unix socket at this path."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) in (0, errno.EAGAIN)


def predecessor_at(path: str) -> Predecessor | None:
    """The running instance that listens at this path, and its sockets; None where there is none. ValueError when it does
    not hand them over.
    """
    with contextlib.ExitStack() as if_it_fails:
        connection = if_it_fails.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.settimeout(_PATIENCE_S)
        try:
            connection.connect(path)
            held = _asked(connection)
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except TimeoutError:
            raise ValueError("the running instance does not answer") from None
        except OSError as error:
            raise ValueError(os.strerror(error.errno or 0)) from None
        if_it_fails.pop_all()
        return Predecessor(connection, held)


def _asked(connection: socket.socket) -> list[Held]:
    if not may_meet(peer_of(connection)[1]):
        raise ValueError("what listens there is another user's")
    connection.sendall(GIVE)
    return _received(connection)


def hand(connection: socket.socket, held: Sequence[Held]) -> None:
    """Hand these sockets to the process at the other end (SCM_RIGHTS)."""
    message = json.dumps([(one.name, one.where) for one in held]).encode("ascii") + b"\n"
    socket.send_fds(connection, [message], [one.sock.fileno() for one in held])


def _received(connection: socket.socket) -> list[Held]:
    data, fds, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, _MOST_SOCKETS)
    socks: list[socket.socket] = []
    try:
        socks.extend(_adopted(fd) for fd in fds)
        return [
            Held(name, where, sock) for (name, where), sock in zip(_described(data, len(socks)), socks, strict=True)
        ]
    except BaseException:
        for sock in socks:
            sock.detach()
        for fd in fds:
            os.close(fd)
        raise


def _described(data: bytes, count: int) -> list[tuple[str, str]]:
    """What the sockets are, so many, that come with this message; ValueError when it is none of ours."""
    if data == BUSY:
        raise ValueError("another instance is taking over already")
    try:
        described = [(str(name), str(where)) for name, where in json.loads(data)]
    except (ValueError, TypeError):
        described = []
    if not described or len(described) != count:
        raise ValueError("the running instance does not hand its sockets over")
    return described


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end of a unix connection, as they were when it was made."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def may_meet(uid: int) -> bool:
    """Whether sockets may pass between us and a process of this user: of our own, or one of the two is root's."""
    return uid == os.geteuid() or 0 in (uid, os.geteuid())
