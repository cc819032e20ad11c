"""A worker: a process that moves requests, by what its parent says (`crew.py`). It reads no configuration and asks no backend.

It is started as `python -m twisted_lb.workers.worker SLOT`, with what `Start` says as JSON in a memory file (whoever is on the machine sees command
lines, and chance is to be guessed by nobody), a link to its parent and the shared table.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, Logger, globalLogBeginner
from twisted.python.failure import Failure

from twisted_lb import process
from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendEjected, BackendReturned, Event
from twisted_lb.core.share import Share
from twisted_lb.core.shared_counts import SharedCounts
from twisted_lb.data_plane import DataPlane
from twisted_lb.log_file import LogFile
from twisted_lb.loop_lag import LoopLag, Watchdog
from twisted_lb.net.over_reactor import make_monotonic, release, runtime_of
from twisted_lb.net.runtime import Runtime
from twisted_lb.planned import Plan
from twisted_lb.span_export import SpanExport
from twisted_lb.workers.answers import Answers
from twisted_lb.workers.codec import Decoder, loaded
from twisted_lb.workers.facts import AgentSaid, Fact, Generation, Probed
from twisted_lb.workers.levelling import Levelling
from twisted_lb.workers.lines import MOST_LINES, Lines, LogLine, line_of
from twisted_lb.workers.meeting import PROGRAM, Belongings, Hello, Visitors, answer
from twisted_lb.workers.messages import (
    Ask,
    Channel,
    Configure,
    Ends,
    Found,
    GoneError,
    Hurry,
    Leave,
    Leaves,
    Meet,
    OneProtocol,
    Quiet,
    Read,
    Ready,
    Reopen,
    Said,
    Sock,
    Taken,
    Tell,
    memory_file,
    packed,
    read_memory_file,
    unpacked,
)
from twisted_lb.workers.table import Table

LINK_FD: Final = 3
TABLE_FD: Final = 4
START_FD: Final = 5
# Without its parent it goes on for so long: time enough for another one to start.
ORPHAN_S: Final = 30.0
# For so long what is said is kept for a parent that takes the place of the one that is gone, in seconds.
_MOMENT_S: Final = 10.0
# A parent that hears that we end hangs up; one that does not is waited for so long, in seconds.
_PART_S: Final = 3.0
# How often it is looked whether other processes have left places free that are waited for, in seconds.
_LOOK_S: Final = 0.005
# And where no pool has a bound, so that nobody waits for a place: what is told of clients is as old at most.
_SELDOM_S: Final = 0.05

_log = Logger(namespace="twisted_lb.workers.worker")  # it is __main__


@dataclass(frozen=True)
class Start:
    """What a worker is told at its start: its place among so many slots, the row of the table that it writes, the seed of chance."""

    slot: int
    row: int
    lives: int
    slots: int
    seed: int
    path: list[str]
    generation: int
    began_at: float


class ParentLink(Quiet):
    """The worker's end of the link to a parent."""

    def __init__(self, worker: "Worker") -> None:
        super().__init__()
        self._worker: Final = worker

    def connectionMade(self) -> None:
        """There is a parent."""
        self._worker.linked(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The parent is gone, or has sent us away."""
        super().connectionLost(reason)
        self._worker.unlinked(self)

    @Sock.responder
    def socket_came(self, number: int, sock: int) -> dict[str, Any]:
        """A listening socket."""
        self._worker.have_socket(number, sock)
        return {}

    @Channel.responder
    def channel_came(self, slot: int, sock: int) -> dict[str, Any]:
        """What brings connections to a slot."""
        self._worker.have_channel(slot, sock)
        return {}

    @Meet.responder
    def control_came(self, sock: int) -> dict[str, Any]:
        """The control socket."""
        self._worker.have_control(sock)
        return {}

    @Configure.responder
    def configure(self, version: int, blob: int) -> dict[str, Any]:
        """Go by another generation."""
        self._worker.configure(version, blob)
        return {}

    @Tell.responder
    def told(self, facts: bytes) -> dict[str, Any]:
        """Facts, from the parent."""
        self._worker.told(unpacked(facts))
        return {}

    @Ask.responder
    def asked(self, question: str, arguments: str) -> dict[str, Any]:
        """A question of the parent."""
        number, answered = self._worker.asked(question, json.loads(arguments))
        return {"number": number, "answer": answered}

    @Read.responder
    def was_read(self, number: int) -> dict[str, Any]:
        """An answer has come."""
        self._worker.was_read(number)
        return {}

    @Reopen.responder
    def reopen(self) -> dict[str, Any]:
        """The log has been renamed."""
        self._worker.reopen()
        return {}

    @Leave.responder
    def leave(self, most_s: float) -> dict[str, Any]:
        """Drain, and end."""
        self._worker.leave(most_s)
        return {}

    @Hurry.responder
    def hurry(self) -> dict[str, Any]:
        """The drain has lasted long enough."""
        self._worker.hurry()
        return {}


class Worker:
    """The worker: it owns all that runs, and follows the parent at the other end of its link."""

    def __init__(self, start: Start, reactor: Any) -> None:
        self._start: Final = start
        self._reactor: Final = reactor
        self._table: Final = Table(TABLE_FD, start.slots, start.lives)
        self._decoder: Final = Decoder()
        self._sockets: Final[dict[int, socket.socket]] = {}
        self._runtime: Runtime | None = None
        self._plane: DataPlane | None = None
        self._plan: Plan | None = None
        self._log_file: Final = LogFile(lambda: (-1, -1))
        self._spans: Final = SpanExport(reactor)
        self._following = False  # what is heard now comes from the parent, and is no news for it
        self._found: list[Fact] = []
        self._wishes: dict[tuple[str, str], tuple[AdminState, str]] = {}
        self._lines: Final = Lines(self._send_lines, reactor.callLater)
        self._lag: LoopLag | None = None
        self._watchdog: Final = Watchdog(self._say_held)
        self._answered: int = 0
        self._unread: Final[dict[int, int]] = {}
        self._leaving = False
        self._over = False
        self._last: bytes = b""  # what was counted in all, when all is over
        self._link: ParentLink | None = None
        self._held: list[LogLine] = []  # for a parent that may come
        self._forsaken = False  # nobody has come for a while
        self._numbers: dict[str, list[int]] = {}
        self._columns: list[tuple[str, str, int]] = []
        self._control: socket.socket | None = None
        self._visitors: Visitors | None = None
        self._alone: IDelayedCall | None = None
        self._looking: Final = LoopingCall(self._look)
        self._levelling: Final = Levelling(self._table, start.slot, self._count_clients, self._take_in, reactor)

    # The link.

    def linked(self, link: ParentLink) -> None:
        """There is a parent; the first one is told that everything is imported."""
        self._link, self._forsaken = link, False
        if self._plane is None and not self._over:
            link.callRemote(Ready)
        lines, self._held = self._held, []
        self._send_lines(lines)

    def unlinked(self, link: ParentLink) -> None:
        """The parent is gone, or has sent us away."""
        if self._link is not link:
            return
        self._link = None
        self._lines.flush()
        for fd in self._unread.values():
            os.close(fd)
        self._unread.clear()
        if self._over:
            self._stop()
        elif self._plane is None:
            self._end()
        else:
            if not self._leaving:
                self._alone = self._reactor.callLater(ORPHAN_S, self._leave_alone)
            # The next one may be here in a moment: so long lines wait for it.
            self._reactor.callLater(_MOMENT_S, self._say_alone)
            if self._visitors is not None:
                self._visitors.start()

    def _say_alone(self) -> None:
        if self._link is None and not self._over:
            if not self._leaving:
                _log.warn(
                    "the parent has been gone for {gone:g} s: going on for {s:g} s without it, unless a start finds this worker",
                    gone=_MOMENT_S,
                    s=ORPHAN_S - _MOMENT_S,
                )
            self._forsaken = True
            self._send_lines(self._held)
            self._held = []

    def _leave_alone(self) -> None:
        assert self._plan is not None
        self.leave(self._plan.drain_s)

    def have_control(self, fd: int) -> None:
        """Another parent finds us on this socket, if ours is gone."""
        if self._visitors is not None:
            self._visitors.stop()
        self._control = _socket_of(fd)
        self._visitors = Visitors(self._control, self._visited, self._reactor)

    def _visited(self, connection: socket.socket) -> None:
        """Another parent has come."""
        with connection:
            try:
                answer(connection, self._hello(), self._belongings)
                self._reactor.adoptStreamConnection(connection.fileno(), socket.AF_UNIX, OneProtocol(ParentLink(self)))
            except (OSError, ValueError) as error:
                _log.warn("somebody has come who is no parent: {error}", error=error)
                return
        assert self._visitors is not None
        self._visitors.stop()
        if self._alone is not None and self._alone.active():
            self._alone.cancel()
        self._alone = None
        _log.info("there is a parent again")

    def _hello(self) -> Hello:
        start = self._start
        return Hello(
            os.getpid(),
            start.slot,
            start.row,
            start.slots,
            start.lives,
            start.generation,
            start.began_at,
            self._leaving,
            PROGRAM,
        )

    def _belongings(self) -> Belongings:
        assert self._control is not None
        out, into = self._levelling.ends()
        used = {number for those in self._numbers.values() for number in those}
        # Those of listeners that drain are closed.
        socks = [sock for number, sock in self._sockets.items() if number in used and sock.fileno() >= 0]
        return Belongings(TABLE_FD, self._control.fileno(), [sock.fileno() for sock in socks], out, into, self._columns)

    def have_socket(self, number: int, fd: int) -> None:
        """A listening socket has come, and is called so from now on."""
        self._sockets[number] = _socket_of(fd)

    def have_channel(self, slot: int, fd: int) -> None:
        """What brings connections to a slot has come."""
        self._levelling.connect(slot, socket.socket(fileno=fd))

    def _count_clients(self) -> int:
        return 0 if self._plane is None else sum(one.gate.open for one in self._plane.frontends.values())

    def _take_in(self, listener: str, fd: int) -> None:
        """Another worker has accepted a connection for us."""
        listeners = [] if self._plane is None else self._plane.listeners.get(listener, [])
        if listeners:
            listeners[0].take_in(fd)
        else:
            os.close(fd)

    def configure(self, version: int, blob: int) -> None:
        """Go by another generation."""
        try:
            generation = loaded(read_memory_file(blob))
            assert isinstance(generation, Generation)
            self._go_by(self._decoder.decode(generation.plan), generation)
        except Exception as error:
            _log.failure("generation {version} cannot be applied", version=version)
            self._send(Taken, version=version, problem=f"{type(error).__name__}: {error}"[:1000])
        else:
            self._send(Taken, version=version, problem="")

    def _send(self, command: Any, **arguments: Any) -> None:
        if self._link is not None:
            self._link.callRemote(command, **arguments)

    def _go_by(self, plan: Plan, generation: Generation) -> None:
        numbers = generation.sockets
        sockets = {name: [self._sockets[number] for number in those] for name, those in numbers.items()}
        self._following = True
        try:
            if self._plane is None:
                self._begin(plan, sockets)
            else:
                assert self._runtime is not None
                opened = self._log_file.of(plan)
                self._plane.apply(plan, sockets)
                self._log_file.follow(plan, opened, self._runtime)
                self._spans.follow(plan.traces, self._runtime)
            self._follow_wishes(generation.wishes)
            for pool, columns in generation.columns.items():
                self._place(pool, columns)
        finally:
            self._following = False
        self._plan = plan
        self._look_as_often_as_needed()
        self._numbers = numbers
        self._columns = [
            (pool, name, at) for pool, columns in generation.columns.items() for name, at in columns.items()
        ]
        used = {number for those in numbers.values() for number in those}
        for number in [number for number in self._sockets if number not in used]:
            del self._sockets[number]  # its listener has closed it

    def _begin(self, plan: Plan, sockets: Mapping[str, list[socket.socket]]) -> None:
        self._log_file.open(plan)
        runtime = self._runtime = runtime_of(
            self._reactor,
            self._start.seed,
            self._nothing_moves,
            whole_process=True,
            share=self._share(),
        )
        limit = process.raise_descriptor_limit()
        self._log_file.write(runtime)
        self._spans.follow(plan.traces, runtime)
        self._plane = DataPlane(
            runtime,
            plan,
            sockets,
            hear=self._hear,
            room=lambda backends: process.room_for_clients(limit, backends),
            count_descriptors=True,
            log_line=self._log_file.line,
            send_spans=self._spans.take,
            hand_on=self._levelling.hand_on,
        )
        self._plane.accept()
        self._levelling.serve()
        self._looking.clock = runtime.time
        self._lag = LoopLag(runtime.time, self._watchdog.beat)
        self._lag.start()
        self._watchdog.start()
        process.tune()

    def _share(self) -> Share:
        table, row = self._table, self._start.row
        return Share(
            self._start.slot,
            self._start.slots,
            self._count,
            table.rates,
            bytes(table.secret),
            clients=table.clients(row),
            sums=table.sums(row),
            reserves=table.reserves(),
            bindings=table.bindings,
            on_their_way=self._levelling.on_their_way,
        )

    def _count(self) -> SharedCounts:
        return SharedCounts(self._table.lives, self._start.row, self._table.in_use, self._table.learnt(self._start.row))

    def _nothing_moves(self) -> None:
        _log.critical("nothing moves any more without the poller: stopping")
        self._end()

    # Facts.

    def told(self, facts: Iterable[Fact]) -> None:
        """Facts, from the parent."""
        if self._plane is None:
            return  # it could not begin, or has ended
        self._following = True
        try:
            for fact in facts:
                self._take(fact)
        finally:
            self._following = False
        self._look_as_often_as_needed()  # an agent may have bounded the first backend

    def _take(self, fact: Fact) -> None:
        assert self._plane is not None
        cluster = self._plane.clusters.get(fact.pool)
        if cluster is None:
            return
        match fact:
            case Probed():
                self._plane.hear_probe(fact.pool, fact.backend, fact.result())
            case AgentSaid():
                cluster.hear_agent(fact.backend, fact.said)
            case BackendEjected() | BackendReturned():
                cluster.hear_elsewhere(fact)

    def _follow_wishes(self, wishes: Mapping[tuple[str, str], tuple[AdminState, str]]) -> None:
        """Have what the operator wants of backends in force, and nothing else."""
        assert self._plane is not None
        for key in [key for key in self._wishes if key not in wishes]:
            cluster = self._plane.clusters.get(key[0])
            if cluster is not None:
                cluster.expect(key[1], AdminState.READY)
        for (pool, backend), (admin, by) in wishes.items():
            self._plane.clusters[pool].expect(backend, admin, by=by)
        self._wishes = dict(wishes)

    def _place(self, pool: str, columns: Mapping[str, int]) -> None:
        """Count the requests in flight of these backends where all see them."""
        assert self._plane is not None
        cluster = self._plane.clusters.get(pool)
        counts = None if cluster is None else cluster.pool.counts
        if cluster is None or not isinstance(counts, SharedCounts):
            return
        for name, column in columns.items():
            backend = cluster.pool.backends.get(name)
            if backend is not None:
                counts.place(backend.slot, column)

    def _hear(self, event: Event) -> None:
        if self._following or not isinstance(event, BackendEjected | BackendReturned) or self._link is None:
            return
        if not self._found:
            assert self._runtime is not None
            self._runtime.soon(self._tell_found)
        self._found.append(event)

    def _tell_found(self) -> None:
        found, self._found = self._found, []
        for text in packed(found):
            self._send(Found, facts=text)

    def _look_as_often_as_needed(self) -> None:
        assert self._plane is not None
        bounded = any(cluster.pool.counts.bounded for cluster in self._plane.clusters.values())
        interval_s = _LOOK_S if bounded else _SELDOM_S
        if self._looking.running and self._looking.interval != interval_s:
            self._looking.stop()
        if not self._looking.running:
            self._looking.start(interval_s, now=False).addErrback(
                lambda failure: _log.failure("nobody looks at other processes any more", failure=failure)
            )

    def _look(self) -> None:
        if self._plane is not None:
            self._levelling.publish()
            for cluster in self._plane.clusters.values():
                cluster.look_elsewhere()
            self._plane.look_elsewhere()

    # Questions.

    def asked(self, question: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
        """The number and the descriptor of the answer to a question of the parent; GoneError where all has ended."""
        if self._plane is None or self._lag is None:
            raise GoneError
        answers = Answers(self._plane, self._log_file, self._spans, self._lag)
        found = answers.answer(question, arguments)
        # Open until it was read: it is sent when the link takes it.
        self._answered += 1
        fd = self._unread[self._answered] = memory_file("answer", found)
        return self._answered, fd

    def was_read(self, number: int) -> None:
        """An answer has come."""
        os.close(self._unread.pop(number))

    # The log.

    def say(self, event: dict[str, Any]) -> None:
        """Have a line in the log of the parent, or on standard error when it is gone."""
        line = line_of(event)
        if line is not None:
            self._lines.add(line)

    def _send_lines(self, lines: list[LogLine]) -> None:
        if self._link is not None:
            for data in packed(lines):
                self._link.callRemote(Said, lines=data)
        elif self._over or self._forsaken:
            self._complain(lines)
        else:
            self._held += lines[: MOST_LINES - len(self._held)]

    def _complain(self, lines: list[LogLine]) -> None:
        # As lines of the log, which nobody writes now, are.
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        for level, namespace, text in lines:
            sys.stderr.write(f"{when} [{namespace}#{level}] worker {self._start.slot}: {text}\n")

    def _say_held(self, held_s: float, where: str) -> None:
        # From the thread of the watchdog: the link is this one's, who says it when the turn is over.
        self._reactor.callFromThread(
            _log.warn, "nothing has moved for {held} s: {where}", held=f"{held_s:.2f}", where=where
        )

    def reopen(self) -> None:
        """The log has been renamed."""
        self._log_file.reopen()

    # The end.

    def hurry(self) -> None:
        """The drain has lasted long enough."""
        if self._plane is not None:
            self._plane.hurry()

    def terminate(self) -> None:
        """SIGTERM: drain, as long as the plan has for that. The parent is to put another one in our place."""
        most_s = 0.0 if self._plan is None else self._plan.drain_s
        if self._plane is not None and not self._leaving:
            self._send(Leaves, most_s=most_s)
        self.leave(most_s)

    def leave(self, most_s: float) -> None:
        """Drain, and end when all has ended, or after so many seconds."""
        if self._leaving:
            self._reactor.callLater(most_s, self.hurry)  # sooner than it was told first, maybe
            return
        self._leaving = True
        self._levelling.finish()
        if self._plane is None:
            self._end()
        else:
            self._plane.drain(most_s).addBoth(lambda _: self._end())

    def _end(self) -> None:
        plane, self._plane = self._plane, None
        if self._looking.running:
            self._looking.stop()
        if self._lag is not None:
            self._lag.stop()
        self._watchdog.stop()
        if plane is not None:
            assert self._runtime is not None
            self._last = self._counted(plane)
            plane.close()
            release(self._runtime, self._reactor)
            self._log_file.close()
        self._spans.close().addBoth(lambda _: self._part())

    def _counted(self, plane: DataPlane) -> bytes:
        """What was counted in all."""
        assert self._lag is not None
        return Answers(plane, self._log_file, self._spans, self._lag).measures(exemplars=False)

    def _part(self) -> None:
        """Everything is over: say what is still to be said, and stop when the parent has heard it and hangs up. If we did, a question on its
        way to us would fail, and with it what it has not read.
        """
        self._over = True
        if self._visitors is not None:
            self._visitors.stop()
        if self._link is None:
            self._stop()
            return
        self._lines.flush()
        self._send(Ends, counted=memory_file("counted", self._last))
        self._reactor.callLater(_PART_S, self._hang_up, self._link)

    def _hang_up(self, link: ParentLink) -> None:
        if link.transport is not None:
            link.transport.loseConnection()

    def _stop(self) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.callLater(0, self._reactor.stop)


def _socket_of(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def main() -> None:
    """The process of a worker, from its start to its end."""
    start = Start(**json.loads(read_memory_file(START_FD)))
    # What an own policy is imported from, wherever the parent found it.
    sys.path[:] = start.path
    from twisted.internet import reactor

    make_monotonic(reactor)
    worker = Worker(start, reactor)
    globalLogBeginner.beginLoggingTo([cast(ILogObserver, worker.say)], redirectStandardIO=False, discardBuffer=True)
    unix: Any = reactor
    unix.adoptStreamConnection(LINK_FD, socket.AF_UNIX, OneProtocol(ParentLink(worker)))
    os.close(LINK_FD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who presses Ctrl-C means the parent
    signal.signal(signal.SIGTERM, _from_signal(reactor, worker.terminate))
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    unix.run(installSignalHandlers=False)


def _from_signal(reactor: Any, call: Callable[[], None]) -> Callable[..., None]:
    return lambda *_: reactor.callFromThread(call)


if __name__ == "__main__":
    main()
