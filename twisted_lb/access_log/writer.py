"""The writer of the access log: batched, bounded, and never in anybody's way for long."""

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final, Protocol

from twisted.logger import Logger

from twisted_lb.access_log.destinations import Destination

# Lines are written once a turn of the reactor, and sooner when so many bytes have come together.
_BATCH_BYTES: Final = 65536
# What may wait to be written: lines beyond that are dropped.
MOST_BYTES: Final = 4 * 1024 * 1024
# A write that takes longer has kept all clients waiting: the next ones are a thread's, until one is fast again.
SLOW_S: Final = 0.02
_FAST_S: Final = 0.002
# A reader that takes nothing is asked again so often.
_RETRY_S: Final = 0.1
# At the end what is left may be written for so long.
_LAST_S: Final = 2.0
# Dropped lines are said so often.
_SAY_EVERY_S: Final = 60.0

_log = Logger("twisted_lb.access_log.writer")  # by name: compiled, there is no frame to learn it from

Seconds = Callable[[], float]


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """It is not to come."""


Later = Callable[[float, Callable[[], None]], Timer]


class Writer:
    """The writer of lines to a destination, until `close`. `soon` calls back when all others of this turn had theirs.

    At most `most_bytes` wait; further lines are dropped and counted.
    """

    def __init__(
        self,
        destination: Destination,
        soon: Callable[[Callable[[], None]], None],
        later: Later,
        *,
        most_bytes: int = MOST_BYTES,
        seconds: Seconds = time.monotonic,
    ) -> None:
        self.destination: Final = destination
        self._may_block: Final[bool] = destination.may_block
        self._soon: Final = soon
        self._later: Final = later
        self._most_bytes: Final = most_bytes
        self._seconds: Final = seconds
        self._lines: list[bytes] = []
        self._bytes: int = 0  # of all that waits here
        self._rest: bytes = b""  # of a batch that was not taken whole
        self._torn: bool = False  # what was written last is a part of a line whose rest is lost
        self._due: bool = False
        self._end_turn: Final = self._turn_ends  # bound once, and not for each turn
        self._retry: Timer | None = None
        self._behind: Behind | None = None
        self._lock: Final = Lock()  # whoever drops, here or behind
        self._dropped: int = 0
        self._said: int = 0
        self._say_at: float = float("-inf")
        self._closed: bool = False

    @property
    def dropped(self) -> int:
        """How many lines were dropped."""
        return self._dropped + self.destination.lost

    def line(self, line: bytes) -> None:
        """Write a line, which ends with its line feed, at the end of this turn."""
        waits = self._bytes + len(line)
        if waits > self._most_bytes or self._closed:
            self._drop(1, "nobody takes them fast enough")
            return
        self._lines.append(line)
        self._bytes = waits
        if not self._due:
            self._due = True
            self._soon(self._end_turn)
        elif waits >= _BATCH_BYTES and not self._rest:
            self.flush()

    def _turn_ends(self) -> None:
        self._due = False
        if self._retry is None:
            self.flush()

    def flush(self) -> None:
        """Write all that waits, as far as it is taken."""
        lines, self._lines = self._lines, []
        if self._rest:
            lines.insert(0, self._rest)
            self._rest = b""
        data = lines[0] if len(lines) == 1 else b"".join(lines)
        self._bytes = 0
        if not data:
            return
        behind = self._behind
        if behind is not None:
            if not behind.done:
                self._give(behind, data)
                return
            behind.close(_LAST_S)
            self._behind = None
        if not self._may_block:
            self._write(data)
            return
        began = self._seconds()
        self._write(data)
        if self._seconds() - began >= SLOW_S and not self._closed:
            self._behind = Behind(self._write_behind, self._seconds)

    def _give(self, behind: "Behind", data: bytes) -> None:
        if behind.waits + len(data) > self._most_bytes:
            self._drop(data.count(b"\n"), "the disk is too slow")
        else:
            behind.give(data)

    def _write(self, data: bytes) -> None:
        """Write, and keep what is not taken."""
        rest = self._written(data)
        if not rest:
            return
        self._rest = rest
        self._bytes += len(rest)
        if self._retry is None and not self._closed:
            self._retry = self._later(_RETRY_S, self._again)

    def _again(self) -> None:
        self._retry = None
        self.flush()

    def _write_behind(self, data: bytes) -> None:
        """The same in the thread, which has the destination for itself meanwhile."""
        while data := self._written(data):
            time.sleep(_RETRY_S)

    def _written(self, data: bytes) -> bytes:
        """What is not taken of some lines. What can never be is dropped."""
        destination, lost = self.destination, self.destination.lost
        most = len(data)
        if self._torn:
            data = b"\n" + data  # the end of a line whose rest is lost already
        try:
            while data:
                taken = destination.write(data)
                if not taken:
                    break
                self._torn = data[taken - 1 : taken] != b"\n"
                data = data[taken:]
        except OSError as error:
            self._drop(data[-most:].count(b"\n"), (error.strerror or str(error)).lower())
            return b""
        if destination.lost > lost:
            self._tell("the system's log does not take them")
        # Whole again once the rest has come.
        self._torn = False
        return data

    def _drop(self, lines: int, reason: str) -> None:
        with self._lock:
            self._dropped += lines
        self._tell(reason)

    def _tell(self, reason: str) -> None:
        """Say, once in a while, that lines were dropped."""
        now = self._seconds()
        if now < self._say_at:
            return
        dropped = self.dropped
        self._say_at = now + _SAY_EVERY_S
        _log.warn(
            "access log {where}: {lines} lines were dropped: {reason}",
            where=self.destination.where,
            lines=dropped - self._said,
            reason=reason,
        )
        self._said = dropped

    def reopen(self) -> None:
        """Somebody has renamed it: what waits goes where it went so far, then it begins anew under the name."""
        self.flush()
        if self._behind is None:
            self.destination.reopen()
        else:
            self._behind.call(self.destination.reopen)

    def close(self) -> None:
        """Write what waits, for a moment at most, and let go of the destination."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self.flush()
        until = self._seconds() + _LAST_S
        while self._rest and self._seconds() < until:
            self.destination.wait(until - self._seconds())
            self.flush()
        if self._rest:
            self._drop(self._rest.count(b"\n"), "nobody takes them")
            self._rest = b""
        behind, self._behind = self._behind, None
        if behind is None or behind.close(_LAST_S):
            self.destination.close()
        # Else the thread is stuck in it, and the descriptor is the process's to close.

    def __repr__(self) -> str:
        behind = ", behind" if self._behind is not None else ""
        return f"<Writer to {self.destination.where}: {self._bytes} bytes wait, {self.dropped} lines dropped{behind}>"


class Behind:
    """A thread that writes while the disk is slow, one batch after the other. `waits`: bytes that it has not written yet."""

    def __init__(self, write: Callable[[bytes], None], seconds: Seconds) -> None:
        self._write: Final = write
        self._seconds: Final = seconds
        self._tasks: Final[SimpleQueue[bytes | Callable[[], None] | None]] = SimpleQueue()
        self._lock: Final = Lock()
        self._waits: int = 0
        self._fast: bool = False
        self._at_work: Final = Thread(target=self._run, name="access log", daemon=True)
        self._at_work.start()

    @property
    def waits(self) -> int:
        """How many bytes it has not written yet."""
        return self._waits

    @property
    def done(self) -> bool:
        """Whether everything is written, and the last of it quickly: it is not needed any more."""
        return self._fast and not self._waits and self._tasks.empty()

    def give(self, data: bytes) -> None:
        """Write this behind what waits."""
        with self._lock:
            self._waits += len(data)
        self._tasks.put(data)

    def call(self, what: Callable[[], None]) -> None:
        """Call a function behind what waits."""
        self._fast = False
        self._tasks.put(what)

    def close(self, most_s: float) -> bool:
        """Write what waits and end; False when that takes longer."""
        self._tasks.put(None)
        self._at_work.join(most_s)
        return not self._at_work.is_alive()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not isinstance(task, bytes):
                task()
                continue
            began = self._seconds()
            self._write(task)
            self._fast = self._seconds() - began < _FAST_S
            with self._lock:
                self._waits -= len(task)
