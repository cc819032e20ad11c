"""Doors: where operators come in. A unix socket, made before privileges are given up, and a port for the page; neither stops a start
that was not asked for it.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from twisted_lb.errors import LISTEN_REFUSALS, StartError
from twisted_lb.net.sockets import bind_tcp, bind_unix, inode_of, listens, unlink_own

# How long, and how often, a port is asked for that the instance before this one is about to leave.
_PATIENCE_S: Final = 10.0
_EVERY_S: Final = 0.25
_FOLDER: Final = "twisted_lb"

_log = Logger()


def default_path(name: str, environ: Mapping[str, str]) -> str:
    """Where the socket of a balancer of this name is by default; empty where there is no folder for it."""
    # systemd names several directories, the first one is the service's.
    for folder in (environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], environ.get("XDG_RUNTIME_DIR", "")):
        if folder and os.path.isdir(folder):
            return os.path.join(folder, _FOLDER, f"{name}.admin.sock")
    return ""


class UnixDoor:
    """The unix socket of the admin door. `explicit`: somebody has asked for this path, so that a start fails without it.
    `owner` is the user that the process is going to be, None for the one that it is. `given`: it listens there already.
    """

    def __init__(
        self,
        path: str,
        mode: int,
        group: str,
        *,
        explicit: bool,
        owner: int | None = None,
        given: socket.socket | None = None,
    ) -> None:
        self.path: Final = path
        self.sock: socket.socket | None = None
        self._mode: Final = mode
        self._group: Final = group
        self._explicit: Final = explicit
        self._owner: Final = owner
        self._inode: tuple[int, int] | None = None
        if given is not None:
            self.sock, self._inode = given, inode_of(path)

    def open(self, *, instead: bool = False) -> bool:
        """Listen there; whether it does now. `instead`: of another instance, which is about to end. StartError where it was
        asked for and cannot be had; else a warning.
        """
        if self.sock is not None:
            return True
        try:
            self.sock = self._bound(instead=instead)
        except (OSError, LookupError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            if self._explicit:
                raise StartError(f"admin.socket {self.path}: {reason}") from None
            _log.warn("no admin socket at {path}: {reason}", path=self.path, reason=reason)
            return False
        self._inode = inode_of(self.path)
        return True

    def _bound(self, *, instead: bool) -> socket.socket:
        if not self._explicit:
            self._make_folder(Path(self.path).parent)
        if not instead and listens(self.path):
            raise OSError(0, "another process listens there")
        # Under its own name only when everything is right with it; the file of another instance is replaced in one step.
        new = f"{self.path}.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        before = os.umask(0o177)
        try:
            sock = bind_unix(new, self._mode, self._group)
        finally:
            os.umask(before)
        try:
            self._own(new)
            self._refuse_other()
            os.replace(new, self.path)
        except BaseException:
            sock.close()
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        return sock

    def _make_folder(self, folder: Path) -> None:
        """Make the folder of a default path, so that the group of a socket comes through, whatever the umask is."""
        if not folder.exists():
            folder.mkdir(mode=0o700)
            folder.chmod(0o755)
        self._own(str(folder))

    def _refuse_other(self) -> None:
        """Replace no file that is something else."""
        if os.path.lexists(self.path) and not Path(self.path).is_socket():
            raise OSError(0, "there is a file that is no socket")

    def _own(self, path: str) -> None:
        if self._owner is not None and os.geteuid() == 0 and os.stat(path).st_uid == 0:
            os.chown(path, self._owner, -1)

    def close(self) -> None:
        """Listen no more; the file goes if it is still this one."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            unlink_own(self.path, self._inode)


class PortDoor:
    """The port of the admin door. A start never fails without it. `given`: a socket that listens there already."""

    def __init__(self, interface: str, port: int, where: str, later: Any, given: socket.socket | None = None) -> None:
        self.sock: socket.socket | None = given
        self.where: Final = where
        self._interface: Final = interface
        self._port: Final = port
        self._later: Final = later
        self._waiting: Any = None

    def open(self, opened: Any, *, instead: bool = False, waited_s: float = 0.0) -> None:
        """Listen there, and call `opened` with the socket; a warning where it cannot be had. `instead`: see UnixDoor."""
        self._waiting = None
        try:
            if self.sock is None:
                self.sock = bind_tcp(self._interface, self._port)
        except OSError as error:
            if instead and waited_s < _PATIENCE_S:
                self._waiting = self._later(
                    _EVERY_S, lambda: self.open(opened, instead=True, waited_s=waited_s + _EVERY_S)
                )
                return
            reason = LISTEN_REFUSALS.get(error.errno or 0, "") or error.strerror or str(error)
            _log.warn("no admin page on {where}: {reason}", where=self.where, reason=reason)
            return
        opened(self.sock)

    def close(self) -> None:
        """Listen no more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self.sock is not None:
            self.sock.close()
            self.sock = None
