"""Pipes in the kernel, through which bulk goes from one socket to another by `splice` and never into this process (zero copy)."""

import fcntl
import os
import resource
from collections.abc import Callable
from typing import Final

# Of one pipe: the most that everybody may have (/proc/sys/fs/pipe-max-size).
PIPE_BYTES: Final = 1 << 20
# Below this a pipe costs more than a copy. It is what a pipe has by itself, unless its user has too many of them.
_LEAST_BYTES: Final = 65536
# In use at once: of all of their pipes those who are not root may have 64 MiB (/proc/sys/fs/pipe-user-pages-soft).
MOST_PIPES: Final = 64
# Of the descriptors that the process may open they take a 64th, two a pipe: connections need them more.
_DESCRIPTORS_A_PIPE: Final = 128
# Kept open while nobody uses them: to make one costs 10 µs.
_KEPT: Final = 8
# Where all are in use, an empty one that nothing went through for so long is taken away from its transport.
_IDLE_S: Final = 1.0
# After one that was refused or too small it is not tried for so many times, each of them the receive of a quarter MiB.
_REST: Final = 64

# Both are known since Linux 2.6.35; Python has their names since 3.10.
_SET_BYTES: Final[int] = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_GET_BYTES: Final[int] = getattr(fcntl, "F_GETPIPE_SZ", 1032)

# Linux alone has it.
_SPLICE: Final[Callable[[int, int, int, None, None, int], int] | None] = getattr(os, "splice", None)
_FLAGS: Final[int] = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)

# Whether there is any of this here.
CAN_SPLICE: Final = _SPLICE is not None


class Pipe:
    """A pipe, and how many bytes are in it (`held`). `room` is how many it takes at the most; as each packet may take a place
    of its own, it may be full with fewer.

    `ending`: nothing more comes into it, and who has it gives it back once it is empty. `let_go` takes it away from its holder.
    """

    __slots__ = ("ending", "held", "let_go", "read_fd", "room", "used_at", "write_fd")

    def __init__(self, read_fd: int, write_fd: int, room: int) -> None:
        self.read_fd: Final = read_fd
        self.write_fd: Final = write_fd
        self.room: Final = room
        self.held: int = 0
        self.ending: bool = False
        self.used_at: float = 0.0
        self.let_go: Callable[[], None] | None = None

    def fill(self, fd: int, most: int, now: float) -> int:
        """Move bytes from a socket into it; how many, 0 at the end of what the peer sends. BlockingIOError: there is nothing, or no room."""
        assert _SPLICE is not None
        moved = _SPLICE(fd, self.write_fd, most, None, None, _FLAGS)
        self.held += moved
        self.used_at = now
        return moved

    def pour(self, fd: int) -> int:
        """Move what is in it to a socket, as much as that takes; how much it was. BlockingIOError: none of it."""
        assert _SPLICE is not None
        moved = _SPLICE(self.read_fd, fd, self.held, None, None, _FLAGS)
        self.held -= moved
        return moved

    def close(self) -> None:
        """Close it, with what is in it."""
        os.close(self.read_fd)
        os.close(self.write_fd)

    def __repr__(self) -> str:
        return f"<Pipe {self.held} of {self.room} bytes{' ending' if self.ending else ''}>"


class Pipes:
    """The pipes of a process: at most `most` in use at once, of which each has one holder, and a few more that wait for the next one.

    None is made before it is needed, and who gets none copies, as everybody does where there is no `splice`.
    """

    __slots__ = ("_idle", "_in_use", "_kept", "_most", "_resting")

    def __init__(self, most: int = MOST_PIPES) -> None:
        self._most: int = most if CAN_SPLICE else 0
        self._kept: int = _KEPT
        self._idle: Final[list[Pipe]] = []
        self._in_use: Final[dict[Pipe, None]] = {}  # an ordered set
        self._resting: int = 0

    @property
    def in_use(self) -> int:
        """How many are in use."""
        return len(self._in_use)

    @property
    def idle(self) -> int:
        """How many are open and wait for the next one."""
        return len(self._idle)

    def take(self, now: float, let_go: Callable[[], None]) -> Pipe | None:
        """Take an empty pipe, which `let_go` may take away again while nothing is in it; None where there is none to be had."""
        if len(self._in_use) >= self._most and not self._reclaim(now):
            return None
        pipe = self._idle.pop() if self._idle else self._make()
        if pipe is not None:
            pipe.used_at = now
            pipe.let_go = let_go
            self._in_use[pipe] = None
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Give a pipe back. With bytes in it it is closed: they must not come out elsewhere."""
        del self._in_use[pipe]
        pipe.let_go = None
        if pipe.held or len(self._idle) >= self._kept:
            pipe.close()
        else:
            pipe.ending = False
            self._idle.append(pipe)

    def close(self) -> None:
        """Close those that nobody uses, and keep none from now on: those in use are closed when they are given back."""
        self._kept = 0
        while self._idle:
            self._idle.pop().close()

    def _reclaim(self, now: float) -> bool:
        """Take a pipe away through which nothing went for a while; whether there is one."""
        for pipe in self._in_use:
            if not pipe.held and now - pipe.used_at > _IDLE_S:
                break
        else:
            return False
        if pipe.let_go is not None:
            pipe.let_go()
        return True

    def _make(self) -> Pipe | None:
        if self._resting:
            self._resting -= 1
            return None
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        pipe = _made() if limit < 0 or len(self._in_use) < limit // _DESCRIPTORS_A_PIPE else None
        if pipe is None:
            self._resting = _REST
        return pipe

    def __repr__(self) -> str:
        return f"<Pipes {len(self._in_use)} of {self._most} in use, {len(self._idle)} idle>"


def _made() -> Pipe | None:
    """A new pipe, as large as may be; None where that is not enough, or the process has no descriptors left."""
    try:
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(write_fd, _SET_BYTES, PIPE_BYTES)
    except OSError:
        pass  # EPERM: its user has too many; it keeps what it has
    pipe = Pipe(read_fd, write_fd, fcntl.fcntl(write_fd, _GET_BYTES))
    if pipe.room < _LEAST_BYTES:
        pipe.close()
        return None
    return pipe
