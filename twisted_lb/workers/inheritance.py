"""Inheritance: what a parent has of a parent before it: of the program that it was itself (`handover.py`), or of one that has died, whose
workers go on for a while (`meeting.py`).
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.logger import Logger

from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.net.sockets import Held
from twisted_lb.workers.facts import Fact
from twisted_lb.workers.handover import Handover, OldWorker
from twisted_lb.workers.meeting import (
    ALL,
    LINK,
    PROGRAM,
    Belongings,
    Met,
    close_all,
    is_worker,
    meet,
    name_of,
    place_of,
    places_of,
)
from twisted_lb.workers.table import Table, is_understood

# An end of what brings connections to a slot.
Channel = tuple[socket.socket, socket.socket]

_log: Final = Logger(namespace="twisted_lb.workers")


@dataclass(frozen=True)
class Inherited:
    """A worker of a parent before this one. `connection`: to it, if it has answered; `leaves_at`: when it is killed if it drains still."""

    pid: int
    slot: int
    row: int | None
    generation: int
    began_at: float
    leaving: bool
    leaves_at: float | None
    same_program: bool
    connection: socket.socket | None


@dataclass
class Inheritance:
    """What is inherited. `size`: slots and rows of the table, whose descriptor is `table`. `held`: listening sockets, with all clones of each;
    `channels`: both ends, by slot. `counted`: see `Reports`.
    """

    generation: int
    table: int
    size: tuple[int, int]
    control: socket.socket | None
    control_name: str
    channels: dict[int, Channel]
    held: list[Held]
    clones: dict[socket.socket, list[socket.socket]]
    workers: list[Inherited]
    columns: list[tuple[str, str, int]]
    facts: list[Fact] = field(default_factory=list)
    wishes: dict[str, Any] = field(default_factory=dict)
    counted: bytes = b""
    restarts: int = 0
    doors: dict[str, socket.socket] = field(default_factory=dict)
    pid_file: str = ""
    upgraded: bool = False  # by a program that has become this one

    def dead_rows(self, table: Table) -> list[int]:
        """The rows of lives that are over."""
        rows = {one.row for one in self.workers}
        return [row for row in table.pids() if row not in rows]

    def leave_table(self, count: int) -> None:
        """Do without the table, and what belongs to it."""
        os.close(self.table)
        for ends in self.channels.values():
            for end in ends:
                end.close()
        before = self.size[0]
        _log.warn(
            "{why}: what workers before have in flight does not count for these",
            why="the program counts otherwise than the one before"
            if before == count
            else f"{before} workers before, {count} now",
        )

    def close(self) -> None:
        """Nobody wants it: the workers are to find another parent, or to end."""
        os.close(self.table)
        for one in self.workers:
            if one.connection is not None:
                one.connection.close()
        socks = [end for ends in self.channels.values() for end in ends] + list(self.doors.values())
        socks += [clone for those in self.clones.values() for clone in those]
        for sock in socks if self.control is None else [*socks, self.control]:
            sock.close()


# From the program that this process was.


def of_handover(handover: Handover) -> Inheritance:
    """What a program has left that became this one; its workers are met anew."""
    held: list[Held] = []
    clones: dict[socket.socket, list[socket.socket]] = {}
    for one in handover.sockets:
        socks = [socket.socket(fileno=fd) for fd in one.fds]
        held.append(Held(one.name, one.where, socks[0]))
        clones[socks[0]] = socks
    pids = [one.pid for one in handover.workers if not one.starts]
    met = [] if handover.control is None else meet(handover.control_name, LINK, len(pids), pids)
    return Inheritance(
        generation=handover.generation,
        table=handover.table,
        size=(handover.slots, handover.rows),
        control=None if handover.control is None else socket.socket(fileno=handover.control),
        control_name=handover.control_name,
        channels={
            slot: (socket.socket(fileno=into), socket.socket(fileno=out))
            for slot, (into, out) in enumerate(handover.channels)
        },
        held=held,
        clones=clones,
        workers=list(_matched(handover.workers, met)),
        columns=handover.columns,
        facts=handover.facts,
        wishes=handover.wishes,
        counted=handover.counted,
        restarts=handover.restarts,
        doors={where: socket.socket(fileno=fd) for where, fd in handover.doors.items()},
        pid_file=handover.pid_file,
        upgraded=True,
    )


def _matched(workers: Iterable[OldWorker], met: Sequence[Met]) -> Iterator[Inherited]:
    by_pid = {one.hello.pid: one for one in met}
    for one in workers:
        found = by_pid.pop(one.pid, None)
        yield Inherited(
            one.pid,
            one.slot,
            one.row,
            one.generation,
            one.began_at,
            one.leaving or one.starts or (found is not None and found.hello.leaving),
            one.leaves_at,
            found is not None and found.hello.program == PROGRAM,
            None if found is None else found.connection,
        )
    for stranger in by_pid.values():
        stranger.connection.close()


# From workers whose parent has died.


def of_orphans(addresses: Sequence[ListenAddress], user: int | None = None) -> Inheritance | None:
    """What workers have that listen at these addresses, and have no parent; None where there are none. `user`: that we are going to be."""
    for place in places_of(addresses[0]) if addresses else ():
        name = name_of(place)
        met = meet(name, ALL, 1, user=user)
        if met:
            found = _gathered(name, met[0], addresses, user)
            if found is not None:
                return found
    return None


def _gathered(name: str, first: Met, addresses: Sequence[ListenAddress], user: int | None) -> Inheritance | None:
    hello, own = first.hello, first.belongings
    if own is None or hello.program != PROGRAM:
        _log.warn("process {pid} is a worker of another program ({it})", pid=hello.pid, it=hello.program)
        first.connection.close()
        close_all([] if own is None else own.descriptors())
        return None
    size = hello.slots, hello.rows
    if not is_understood(own.table, *size):
        _log.warn("process {pid} is a worker of another program", pid=hello.pid)
        first.connection.close()
        close_all(own.descriptors())
        return None
    pids = Table(own.table, *size).pids()
    living = {row: pid for row, pid in pids.items() if pid != hello.pid and is_worker(pid)}
    met = [first, *meet(name, ALL, len(living), living.values(), user)]
    belongings = [one.belongings for one in met if one.belongings is not None]
    held, clones = _sockets_of(belongings, addresses)
    for one in belongings[1:]:
        close_all((one.table, one.control))
    heard = {one.hello.pid for one in met}
    for pid in living.values():
        if pid not in heard:
            _log.warn("process {pid} is a worker that does not answer: killed", pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
    return Inheritance(
        generation=max(one.hello.generation for one in met) + 1,
        table=own.table,
        size=size,
        control=socket.socket(fileno=own.control),
        control_name=name,
        channels=_channels_of(belongings),
        held=held,
        clones=clones,
        workers=[
            Inherited(
                one.hello.pid,
                one.hello.slot,
                one.hello.row,
                one.hello.generation,
                one.hello.began_at,
                one.hello.leaving,
                None,
                one.hello.program == PROGRAM,
                one.connection,
            )
            for one in met
        ],
        columns=own.columns,
    )


def _channels_of(every: Iterable[Belongings]) -> dict[int, Channel]:
    """What brings connections to slots, where both ends were found; the rest is closed."""
    out: dict[int, int] = {}
    into: dict[int, int] = {}
    spare: list[int] = []
    for one in every:
        for known, found in ((out, one.out), (into, one.into)):
            for slot, fd in found.items():
                if slot in known:
                    spare.append(fd)
                else:
                    known[slot] = fd
    both = out.keys() & into.keys()
    spare += [fd for known in (out, into) for slot, fd in known.items() if slot not in both]
    close_all(spare)
    return {slot: (socket.socket(fileno=into[slot]), socket.socket(fileno=out[slot])) for slot in both}


def _sockets_of(
    every: Iterable[Belongings], addresses: Sequence[ListenAddress]
) -> tuple[list[Held], dict[socket.socket, list[socket.socket]]]:
    """Listening sockets by the addresses that are wanted, each once; two descriptors may be of one socket."""
    places = {place: one.where for one in addresses for place in places_of(one)}
    socks: dict[str, list[socket.socket]] = {}
    known: set[int] = set()
    for fd in [fd for one in every for fd in one.sockets]:
        sock = socket.socket(fileno=fd)
        if os.fstat(fd).st_ino in known:
            sock.close()
            continue
        known.add(os.fstat(fd).st_ino)
        socks.setdefault(places.get(place_of(sock), ""), []).append(sock)
    for sock in socks.pop("", []):
        _log.warn("a socket at {where} is not wanted", where=place_of(sock))
        sock.close()
    held = [Held("", where, those[0]) for where, those in socks.items()]
    return held, {those[0]: those for those in socks.values()}
