"""The file of the access log: opened while the process has the privilege to, and followed through changes of the configuration."""

from collections.abc import Callable
from typing import Final

from twisted_lb.access_log.destinations import Destination, Owner, destination_of
from twisted_lb.access_log.writer import Writer
from twisted_lb.net.runtime import Runtime
from twisted_lb.planned import Plan


class LogFile:
    """Where the access log goes. `owner` says whose a file is to be that is made.

    `open` at first, then `write`; `of` and `follow` for another configuration, around everything that may fail.
    """

    def __init__(self, owner: Callable[[], Owner]) -> None:
        self._owner: Final = owner
        self._file: str | None = None
        self._opened: Destination | None = None  # and not yet written to
        self._writer: Writer | None = None
        self._dropped: int = 0  # by writers before that one

    def open(self, plan: Plan) -> None:
        """Open what this plan names, unless that is open; StartError where it cannot be."""
        file = _file_of(plan)
        if file is not None and self._opened is None:
            self._opened = destination_of(file, self._owner())
        self._file = file

    def of(self, plan: Plan) -> Destination | None:
        """The destination of another plan, opened, if that is not the one which is open."""
        file = _file_of(plan)
        return None if file in (None, self._file) else destination_of(str(file), self._owner())

    def follow(self, plan: Plan, opened: Destination | None, runtime: Runtime | None) -> None:
        """Go where this plan says, of which `of` has opened the destination; written is once there is a runtime."""
        if _file_of(plan) == self._file:
            return
        self._file = _file_of(plan)
        if self._opened is not None:
            self._opened.close()
        self._opened = opened
        if runtime is not None:
            self.write(runtime)

    def leave(self) -> None:
        """Hold nothing open: other processes write. One that is renamed and removed would take its place on the disk for good."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def write(self, runtime: Runtime) -> None:
        """Write to what was opened; what waits for the destination before goes there."""
        before, opened = self._writer, self._opened
        self._opened = None
        self._writer = None if opened is None else Writer(opened, runtime.soon, runtime.later)
        if before is not None:
            before.close()
            self._dropped += before.dropped

    def line(self, line: bytes) -> None:
        """Write a line, if there is a log."""
        writer = self._writer
        if writer is not None:
            writer.line(line)

    def reopen(self) -> None:
        """Open the file anew, by its name."""
        if self._writer is not None:
            self._writer.reopen()

    @property
    def dropped(self) -> int:
        """How many lines were dropped: nobody took them fast enough, or at all."""
        return self._dropped + (0 if self._writer is None else self._writer.dropped)

    def close(self) -> None:
        """Write what waits, and let go of the file."""
        if self._writer is not None:
            self._writer.close()
            self._dropped += self._writer.dropped
            self._writer = None
        if self._opened is not None:
            self._opened.close()
            self._opened = None


def _file_of(plan: Plan) -> str | None:
    return None if plan.access_log is None else plan.access_log.file
