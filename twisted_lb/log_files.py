"""Log files: bounded, and opened anew when somebody has renamed them (logrotate). twistd opens them, and we take them over."""

import contextlib
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from io import TextIOWrapper
from typing import IO, Any, Final, cast

from twisted.logger import FileLogObserver, Logger, globalLogPublisher
from twisted.python import logfile

# How often a file is looked for under its name: a line in a renamed one is at most so old.
_LOOK_S: Final = 1.0
_ANEW: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC

_log = Logger("twisted_lb.log_files")  # by name: compiled, there is no frame to learn it from


class LogFile:
    """A log file, as what a FileLogObserver writes to. Each write is whole and goes to the end of the file, whoever else
    writes there or has cut it (copytruncate).

    It is looked for under its name once a second, and opened anew where that is another file, or none, by now. One that
    would grow beyond `most_bytes` (0: however long) is renamed to `NAME.1`, and those before it move on, up to `NAME.n`
    with n = `old_files`; what is beyond that is removed, without a look at the folder. Where it may not be renamed or
    opened (another user, a chroot, a full disk), what is open is written on, and says so once.
    """

    def __init__(
        self,
        path: str,
        descriptor: int,
        *,
        most_bytes: int,
        old_files: int,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path: Final = os.path.abspath(path)
        self._descriptor: int = descriptor
        self._most_bytes: Final = most_bytes
        self._old_files: Final = old_files
        self._seconds: Final = seconds
        self._bytes: int = os.fstat(descriptor).st_size
        self._look_at: float = seconds() + _LOOK_S
        self._rotate_from: int = most_bytes
        self._complained: set[str] = set()
        # Whoever logs from another thread must not find it closed; a complaint is a line of its own.
        self._lock: Final = threading.RLock()
        # twistd opens it to write at the place where it was; after a copytruncate that would leave a hole.
        fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_APPEND)

    def write(self, data: str | bytes) -> None:
        """Append a piece, as a rule a line. Raises OSError where the kernel takes none of it, as on a full disk."""
        if isinstance(data, str):
            data = data.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._seconds() >= self._look_at:
                self._look()
            # When it has become too long it may be another one's by now, or be cut.
            if self._too_long(data) and self._look() and self._too_long(data):
                self._rotate()
            while data:
                data = data[self._append(data) :]

    def append(self, data: bytes) -> int:
        """Append as many bytes as the kernel takes at once, and say how many. Raises OSError where it takes none. For a file that
        one thread has to itself at a time.
        """
        if self._seconds() >= self._look_at:
            self._look()
        return self._append(data)

    def _append(self, data: bytes) -> int:
        sent = os.write(self._descriptor, data)
        self._bytes += sent
        return sent

    def _too_long(self, data: bytes) -> bool:
        return bool(self._most_bytes and self._bytes) and self._bytes + len(data) > self._rotate_from

    def flush(self) -> None:
        """Nothing is held back."""

    def _look(self) -> bool:
        """Look whether the file still has its name, and its length; False when it has another one, and none can be opened
        in its place.
        """
        self._look_at = self._seconds() + _LOOK_S
        own = os.fstat(self._descriptor)
        self._bytes = own.st_size
        try:
            moved = not os.path.samestat(own, os.stat(self.path))
        except FileNotFoundError:
            moved = True
        except OSError:
            return False  # nobody can say
        return not moved or self.reopen()

    def reopen(self) -> bool:
        """Open the file of this name, or make one of the same mode; False where that fails, and what is open stays."""
        with self._lock:
            try:
                descriptor = self._open()
            except OSError as error:
                self._complain("opened anew", error)
                return False
            self._complained.clear()
            old, self._descriptor = self._descriptor, descriptor
            os.close(old)
            self._bytes = os.fstat(descriptor).st_size
            self._rotate_from = self._most_bytes
            return True

    def _open(self) -> int:
        mode = stat.S_IMODE(os.fstat(self._descriptor).st_mode)
        try:
            descriptor = os.open(self.path, _ANEW | os.O_EXCL, mode)
        except FileExistsError:
            return os.open(self.path, _ANEW, mode)
        with contextlib.suppress(OSError):
            os.fchmod(descriptor, mode)  # whatever the umask is: a daemon's is 077
        return descriptor

    def _rotate(self) -> None:
        # Whatever comes of it, it is tried again only after as much more.
        self._rotate_from = self._bytes + self._most_bytes
        try:
            for number in range(self._old_files - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            if self._old_files:
                os.replace(self.path, f"{self.path}.1")
            else:
                os.unlink(self.path)
        except OSError as error:
            self._complain("renamed", error)
            return
        self.reopen()

    def _complain(self, what: str, error: OSError) -> None:
        """Say it once, in the file itself, until it has come right."""
        if what not in self._complained:
            self._complained.add(what)
            _log.warn(
                "{path} cannot be {what} and is written on: {reason}",
                path=self.path,
                what=what,
                reason=(error.strerror or str(error)).lower(),
            )

    def close(self) -> None:
        """Close the file; it cannot be used any more."""
        os.close(self._descriptor)
        self._descriptor = -1

    def __repr__(self) -> str:
        return f"<LogFile {self.path}: {self._bytes} bytes>"


class LogFiles:
    """The log files of a process of our own. What it logs to, standard output or a file, says twistd's command line; a
    file is taken over when the service starts, and stays open to the end of the process.
    """

    def __init__(self, most_bytes: int, old_files: int) -> None:
        self.most_bytes: Final = most_bytes
        self.old_files: Final = old_files
        self.files: list[LogFile] = []

    def take_over(self) -> None:
        """Take over the files that log observers of this process write to; one that is ours already stays as it is."""
        taken: dict[int, LogFile] = {}
        for observer in _file_observers():
            # twistd makes the observer, and there is no other way to what it writes to.
            out: Any = observer._outFile
            ours = taken.get(id(out), out)
            if not isinstance(ours, LogFile):
                opened = _opened(out)
                if opened is None:
                    continue
                ours = self._taken(out, *opened)
            taken[id(out)] = ours
            observer._outFile = cast(IO[Any], ours)
        self.files = list(taken.values())

    def give(self, user: int, group: int) -> None:
        """Have the files of root's belong to who this process is going to be: else it, and the program that it becomes at an upgrade, could
        not open them anew. Not behind a link: that may lead to what is nobody else's business.
        """
        for observer in _file_observers():
            opened = _opened(observer._outFile)
            if opened is None:
                continue
            path, descriptor = opened
            with contextlib.suppress(OSError):
                own = os.fstat(descriptor)
                if own.st_uid == 0 and own.st_nlink == 1 and os.path.samestat(own, os.lstat(path)):
                    os.fchown(descriptor, user, group)

    def _taken(self, out: Any, path: str, descriptor: int) -> LogFile:
        ours = LogFile(path, os.dup(descriptor), most_bytes=self.most_bytes, old_files=self.old_files)
        out.close()  # else a file that is removed would stay on the disk
        # What twistd's own handler of SIGUSR1 calls.
        if isinstance(out, logfile.LogFile):
            out.rotate = ours.reopen  # type: ignore[method-assign]
        return ours

    def reopen(self) -> None:
        """Open all log files anew, by their names: somebody has renamed them (SIGUSR1, logrotate)."""
        for file in self.files:
            file.reopen()

    def __repr__(self) -> str:
        return f"<LogFiles {self.files}>"


def _file_observers() -> Iterator[FileLogObserver]:
    """The observers of the process that write to files: twistd's, or twist's behind its filter of levels."""
    for observer in list(globalLogPublisher._observers):
        inner = getattr(observer, "_observer", observer)
        if isinstance(inner, FileLogObserver):
            yield inner


def _opened(out: Any) -> tuple[str, int] | None:
    """Name and descriptor of a log file as twistd or twist opened it; None for anything else, such as standard output,
    which may be a file too, but is that of whoever has started us.
    """
    if type(out) is logfile.LogFile:
        return out.path, out._file.fileno()
    if isinstance(out, TextIOWrapper) and isinstance(out.name, str):
        with contextlib.suppress(OSError):
            there = os.stat(out.name)
            if stat.S_ISREG(there.st_mode) and os.path.samestat(there, os.fstat(out.fileno())):
                return out.name, out.fileno()
    return None
