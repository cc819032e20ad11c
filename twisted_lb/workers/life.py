"""Lives of workers: a process in a slot, the row of the table that it writes, and the parent's end of the link to it.

A life is one that this parent has started, or that a parent before it has: then it is watched by its pidfd.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_lb.workers.facts import Fact
from twisted_lb.workers.messages import Ends, Found, Leaves, Quiet, Ready, Said, Taken, read_memory_file, unpacked

# A worker that leaves and has not ended so long after its time is killed, in seconds.
KILL_S: Final = 5.0

_of_workers = Logger(namespace="twisted_lb.worker")


class Owner(Protocol):
    """The crew, as its lives know it."""

    def imported(self, life: "Life") -> None:
        """A worker has imported everything."""

    def taken(self, life: "Life", version: int, problem: str) -> None:
        """A worker goes by a generation, or does not."""

    def found(self, life: "Life", facts: list[Fact]) -> None:
        """A worker's traffic has found something out."""

    def leaves(self, life: "Life", most_s: float) -> None:
        """A worker drains that nobody has told to."""

    def counted(self, life: "Life", told: bytes) -> None:
        """A worker ends, and has counted so much."""

    def kill_later(self, life: "Life", after_s: float) -> None:
        """Have a worker killed that has not ended by then."""

    def ended(self, life: "Life", reason: Failure) -> None:
        """A worker has ended."""


class Link(Quiet):
    """The parent's end of the link to one life of a worker."""

    def __init__(self, life: "Life") -> None:
        super().__init__()
        self._life: Final = life

    @Ready.responder
    def ready(self) -> dict[str, Any]:
        """It has imported everything."""
        self._life.crew.imported(self._life)
        return {}

    @Taken.responder
    def taken(self, version: int, problem: str) -> dict[str, Any]:
        """It goes by a generation, or cannot."""
        self._life.crew.taken(self._life, version, problem)
        return {}

    @Found.responder
    def found(self, facts: bytes) -> dict[str, Any]:
        """What its traffic has found out; of another program it may mean anything."""
        if self._life.same_program:
            self._life.crew.found(self._life, unpacked(facts))
        return {}

    @Leaves.responder
    def leaves(self, most_s: float) -> dict[str, Any]:
        """It drains unasked: somebody has sent it SIGTERM."""
        self._life.crew.leaves(self._life, most_s)
        return {}

    @Ends.responder
    def ends(self, counted: int) -> dict[str, Any]:
        """It ends, with all that it has counted, if anything; nothing comes behind that, and it waits for us to hang up."""
        told = read_memory_file(counted)
        if told and self._life.same_program:
            self._life.crew.counted(self._life, told)
        if self.transport is not None:
            self.transport.loseConnection()
        return {}

    @Said.responder
    def said(self, lines: bytes) -> dict[str, Any]:
        """Lines for the log."""
        for level, namespace, text in unpacked(lines):
            _of_workers.emit(
                LogLevel.lookupByName(level), "worker {slot}: {text}", slot=self._life.slot, text=text, of=namespace
            )
        return {}

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has ended, or is about to."""
        super().connectionLost(reason)
        self._life.unlinked()


class Life(ProcessProtocol):
    """One life of a worker: a process in a slot, and the row that it writes; none where that is of another table. `generation`: how
    many programs came before the one that has started it.
    """

    def __init__(self, crew: Owner, slot: int, row: int | None, began_at: float, generation: int = 0) -> None:
        self.crew: Final = crew
        self.slot: Final = slot
        self.row: Final = row
        self.began_at: Final = began_at
        self.generation: Final = generation
        self.link: Final = Link(self)
        self.pid: int = 0
        self.linked = True
        self._ended: Failure | None = None
        self.served_from: float | None = None  # in monotonic seconds
        self.imported = False
        self.version: int = 0  # that it goes by
        self.old = False  # a parent before this one has started it: it is not told of anything new
        self.same_program = True  # what it says of objects is understood
        self.leaving = False
        self.silent = False  # nothing moves there: it hangs
        self.beat: int = 0  # how often it had gone round when it was looked at last
        self.still: int = 0  # how often in a row it was looked at without that
        self.known: set[int] = set()  # parts of plans
        self.sent_sockets: set[int] = set()
        self.sockets: dict[str, list[int]] = {}
        self.blobs: dict[int, list[int]] = {}  # on their way, by version
        self.patience: IDelayedCall | None = None
        self.leaves_at: float | None = None  # it is killed then, in monotonic seconds
        self.watched: Watched | None = None

    @property
    def serving(self) -> bool:
        """Whether it takes clients in."""
        return self.version > 0 and not self.leaving and self.linked

    @property
    def accepting(self) -> bool:
        """Whether it takes clients in, as far as that can be seen."""
        return self.serving and not self.silent

    @property
    def follows(self) -> bool:
        """Whether it is told what holds."""
        return self.imported and not self.leaving and not self.old

    def kill(self) -> None:
        """End its process at once, unless it has ended: its number may be another one's by now."""
        if self.pid and self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def be_patient(self) -> None:
        """Not to be killed any more for what it was to be killed for."""
        if self.patience is not None and self.patience.active():
            self.patience.cancel()

    def close_blobs(self, version: int) -> None:
        """Plans up to this version have come, or never will."""
        for one in [one for one in self.blobs if one <= version]:
            for fd in self.blobs.pop(one):
                os.close(fd)

    def processEnded(self, reason: Failure) -> None:
        """It has ended."""
        self.be_patient()
        self._ended = reason
        self._end()

    def unlinked(self) -> None:
        """Nothing comes from it any more: it ends, or is ended."""
        self.linked = False
        if self._ended is None:
            self.crew.kill_later(self, KILL_S)
        self._end()

    def _end(self) -> None:
        # Both: what it has said last is still to be read when its process has ended.
        if self._ended is not None and not self.linked:
            self.crew.ended(self, self._ended)

    def errReceived(self, data: bytes) -> None:
        """What it writes where there is no log: of Python itself, say."""
        sys.stderr.write(data.decode("utf-8", "replace"))


@implementer(IReadDescriptor)
class Watched:
    """The process of a life that another parent has started, watched by its pidfd until it ends."""

    def __init__(self, pid: int, ended: Callable[[Failure], None], reactor: Any) -> None:
        self._pid: Final = pid
        self._told: Final = ended
        self._reactor: Final = reactor
        self._fd: int = os.pidfd_open(pid)
        reactor.addReader(self)

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return self._fd

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "worker"

    def doRead(self) -> None:
        """It has ended."""
        self.close()
        self._told(reason_of(self._pid))

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor."""

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1


def reason_of(pid: int) -> Failure:
    """Why a process has ended, as far as we are who is told: whose child it is, and nobody has asked yet."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        found, status = 0, 0
    if found == pid and os.WIFSIGNALED(status):
        return Failure(ProcessTerminated(None, os.WTERMSIG(status), status))
    if found == pid and os.WEXITSTATUS(status) != 0:
        return Failure(ProcessTerminated(os.WEXITSTATUS(status), None, status))
    return Failure(ProcessDone(status))


def how_of(reason: Failure) -> str:
    """How a process has ended, for the log: `by SIGKILL`, `with status 1`, `in order`."""
    if not isinstance(reason.value, ProcessTerminated):
        return "in order"
    number = reason.value.signal
    if number is None:
        return f"with status {reason.value.exitCode}"
    try:
        return f"by {signal.Signals(number).name}"
    except ValueError:
        return f"by signal {number}"
