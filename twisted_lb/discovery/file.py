"""A list in a file: looked at every few seconds, read when it has changed and stands still. What counts is its content: a
ConfigMap changes by a symlink to another file, editors rename one over it, and others write into the one that is there.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from twisted_lb.core.backend import BackendSpec
from twisted_lb.discovery.prometheus import MOST_BYTES, Malformed, read_targets
from twisted_lb.discovery.provider import NoList, text_of

# Whoever writes a file piece by piece is done when nothing has changed for so long.
SETTLE_S: Final = 0.2
# Longer than this times SETTLE_S nobody waits for that.
_SETTLES: Final = 10
# Two writes within one tick of a file system's clock (2 s on FAT) leave the same time: what was read once is read again at the
# next look, and only then is the time believed.
_READ_TWICE: Final = 2

# What tells one state of a file from another: device, inode, size, the times of the last change to content and inode.
Stamp = tuple[int, int, int, int, int]


def stamp_of(path: str) -> Stamp:
    """The stamp of a file, or of the one that a symlink leads to; OSError where there is none."""
    it = os.stat(path)
    return it.st_dev, it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns


def content_of(path: str) -> bytes:
    """A regular file's content, up to a byte more than a list may have; OSError, or NoList for anything else than a file."""
    # Without O_NONBLOCK the opening of a pipe waits for somebody who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoList("not a file")
        return file.read(MOST_BYTES + 1)


class FileSource:
    """The list in the file at `path`. It is read in the reactor's thread: the file should be on a disk of this machine."""

    def __init__(
        self,
        path: str,
        time: IReactorTime,
        refresh_s: float,
        *,
        weight: int = 1,
        stamp: Callable[[str], Stamp] = stamp_of,
        content: Callable[[str], bytes] = content_of,
    ) -> None:
        self.where: Final = f"file {path}"
        self.pause_s: float = refresh_s
        self._path: Final = path
        self._time: Final = time
        self._weight: Final = weight
        self._stamp_of: Final = stamp
        self._content_of: Final = content
        self._stamp: Stamp | None = None
        self._times_read = 0
        self._digest = b""
        # What is wrong with the content that was read last, if anything is.
        self._fault = ""

    def look(self) -> Deferred[list[BackendSpec] | None]:
        """See Source."""
        return Deferred.fromCoroutine(self._look())

    def close(self) -> None:
        """See Source: nothing stays open."""

    async def _look(self) -> list[BackendSpec] | None:
        stamp = self._stamp_now()
        if stamp == self._stamp and self._times_read >= _READ_TWICE:
            self._refuse_fault()
            return None
        # At the start nobody waits: what is only half there is no JSON.
        settled = stamp == self._stamp or self._stamp is None
        content, stamp = (self._read(), stamp) if settled else await self._read_settled(stamp)
        self._times_read = self._times_read + 1 if stamp == self._stamp else 1
        self._stamp = stamp
        digest = hashlib.sha256(content).digest()
        if digest == self._digest:
            self._refuse_fault()
            return None
        self._digest, self._fault = digest, ""
        try:
            return read_targets(content, sockets=True, weight=self._weight)
        except Malformed as error:
            self._fault = str(error)
            raise NoList(self._fault) from None

    def _refuse_fault(self) -> None:
        """The content is what it was: NoList if it was refused."""
        if self._fault:
            raise NoList(self._fault)

    async def _read_settled(self, stamp: Stamp) -> tuple[bytes, Stamp]:
        """The content, and its stamp, once nothing has changed for SETTLE_S before it was read and while it was."""
        for _ in range(_SETTLES):
            await deferLater(self._time, SETTLE_S)
            before, stamp = stamp, self._stamp_now()
            if stamp == before:
                content = self._read()
                if self._stamp_now() == stamp:
                    return content, stamp
        raise NoList("somebody is writing it all the time")

    def _stamp_now(self) -> Stamp:
        try:
            return self._stamp_of(self._path)
        except OSError as error:
            raise NoList(_words(error)) from None

    def _read(self) -> bytes:
        try:
            return self._content_of(self._path)
        except OSError as error:
            raise NoList(_words(error)) from None


def _words(error: OSError) -> str:
    return "not there" if isinstance(error, FileNotFoundError) else (error.strerror or text_of(error)).lower()
