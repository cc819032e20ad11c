"""Levelling: a connection that was just accepted is handed on to a worker that has clearly fewer, before a byte of it was read.

The kernel spreads connections by a hash, which is chance: of 64 on four workers one has 25 now and then.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_lb.workers.table import BEAT, CAME, OPEN, SERVES, WENT, Table

# Who has so many more than another one, or that part of them, hands on: with three no one of four has more than 18 of 64.
_MORE: Final = 3
_PART: Final = 8
# The name of a listener goes with its connection.
_NAME_BYTES: Final = 256


@implementer(IReadDescriptor)
class Levelling:
    """The levelling of one worker. `count` says how many clients it has, `take` takes a connection in, by listener and descriptor."""

    def __init__(
        self,
        table: Table,
        slot: int,
        count: Callable[[], int],
        take: Callable[[str, int], None],
        reactor: Any,
    ) -> None:
        self._rows: Final = table.slots
        self._slot: Final = slot
        self._own: Final = self._rows[slot]
        self._count: Final = count
        self._take: Final = take
        self._reactor: Final = reactor
        self._to: Final[dict[int, socket.socket]] = {}
        self._from: socket.socket | None = None
        self._serves = False

    def connect(self, slot: int, sock: socket.socket) -> None:
        """What brings connections to a slot: read from for our own."""
        sock.setblocking(False)
        if slot != self._slot:
            self._to[slot] = sock
        else:
            self._from = sock

    def ends(self) -> tuple[dict[int, int], dict[int, int]]:
        """The descriptors of what brings connections to slots: to read from, and to write to."""
        out = {} if self._from is None else {self._slot: self._from.fileno()}
        return out, {slot: sock.fileno() for slot, sock in self._to.items()}

    def serve(self) -> None:
        """Take in what others hand on, from now on."""
        assert self._from is not None
        self._reactor.addReader(self)
        self._serves = True
        self._own[SERVES] = 1

    def publish(self) -> None:
        """Tell the others how many clients there are, as long as the place is ours; and that somebody takes them in, where the parent has
        thought that we hang.
        """
        if self._from is not None:
            self._own[OPEN] = self._count()
            self._own[SERVES] = self._serves
            self._own[BEAT] += 1

    def load(self, slot: int) -> int:
        """How many clients a slot has, with those that are on their way to it."""
        row = self._rows[slot]
        found = row[OPEN] - row[CAME]
        for one in self._rows:
            found += one[WENT + slot]
        return int(found)

    def on_their_way(self) -> int:
        """How many connections were handed on, and are not taken in yet."""
        rows, end = self._rows, WENT + len(self._rows)
        return max(int(sum(sum(row[WENT:end]) - row[CAME] for row in rows)), 0)

    def hand_on(self, listener: str, fd: int) -> bool:
        """Hand a connection on, if somebody has clearly fewer; True when it is his."""
        own = self._own
        count = self._count()
        # As it is when this one is taken in.
        own[OPEN] = count + 1
        if count < _MORE or not self._to:
            return False
        loads = [(self.load(slot), slot) for slot in self._to if self._rows[slot][SERVES]]
        if not loads:
            return False
        least, slot = min(loads)
        # Those that wait to be taken in are ours already.
        if self.load(self._slot) - 1 < least + max(_MORE, least // _PART):
            return False
        own[WENT + slot] += 1
        try:
            socket.send_fds(self._to[slot], [listener.encode()], [fd])
        except OSError:
            own[WENT + slot] -= 1
            return False  # it takes none now
        own[OPEN] = count
        os.close(fd)
        return True

    # What comes.

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return -1 if self._from is None else self._from.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "levelling"

    def doRead(self) -> None:
        """Take in what others have handed on."""
        assert self._from is not None
        while True:
            try:
                name, fds, _, _ = socket.recv_fds(self._from, _NAME_BYTES, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                name, fds = b"", []
            if not fds:
                self.close()  # the parent is gone, and everybody else
                return
            for fd in fds:
                self._take(name.decode(), fd)
            # In this order: for a moment it is counted twice, and never not at all.
            self.publish()
            self._own[CAME] += 1

    def connectionLost(self, reason: Failure) -> None:
        """See IReadDescriptor."""

    def finish(self) -> None:
        """Take in what has come, and then hand on no more, and take none."""
        # In this order: who looks now hands on nothing any more.
        self._serve_no_more()
        if self._from is not None:
            self.doRead()
        self.close()

    def _serve_no_more(self) -> None:
        if self._serves:
            self._serves = False
            self._own[SERVES] = 0
            self._reactor.removeReader(self)

    def close(self) -> None:
        """Hand on no more, and take none."""
        if self._from is not None:
            self._serve_no_more()
            self._from.close()
            self._from = None
        for sock in self._to.values():
            sock.close()
        self._to.clear()


def pass_on(channels: Sequence[tuple[socket.socket, socket.socket]], table: Table, slot: int, to: int) -> None:
    """Have what was handed on to one slot handed on to another one: the first has nobody who takes it in."""
    (back, out), (into, _), own = channels[slot], channels[to], table.slots[slot]
    while True:
        try:
            name, fds, _, _ = socket.recv_fds(out, _NAME_BYTES, 1)
        except BlockingIOError:
            return
        try:
            socket.send_fds(into, [name], fds)
            # In this order: for a moment it is counted twice, and never not at all.
            own[WENT + to] += 1
            own[CAME] += 1
        except OSError:  # that one is full, as a rule: it stays where it was
            with contextlib.suppress(OSError):
                socket.send_fds(back, [name], fds)
            return
        finally:
            for fd in fds:
                os.close(fd)
