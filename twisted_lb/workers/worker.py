"""A worker: a process that moves requests, by what its parent says (`crew.py`). It reads no configuration and asks no backend.

It is started as `python -m twisted_lb.workers.worker`, with what `Start` says as JSON, a link to its parent and the shared table.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from twisted.internet.defer import Deferred, succeed
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
from twisted_lb.probes import ProbeResult
from twisted_lb.span_export import SpanExport
from twisted_lb.workers.answers import Answers
from twisted_lb.workers.codec import Decoder, loaded
from twisted_lb.workers.facts import AgentSaid, Fact, Generation, Probed
from twisted_lb.workers.levelling import Levelling
from twisted_lb.workers.lines import Lines, LogLine, line_of
from twisted_lb.workers.messages import (
    Ask,
    Channel,
    Configure,
    Counted,
    Found,
    HasEndedError,
    Hurry,
    Leave,
    Leaves,
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
# Without its parent it goes on for so long: time enough for another one to start.
ORPHAN_S: Final = 30.0
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


class Worker(Quiet):
    """The worker at its end of the link. It is the protocol itself, and owns all that runs."""

    def __init__(self, start: Start, reactor: Any) -> None:
        super().__init__()
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
        self._ending = False
        self._over = False
        self._stopped = False
        self._linked = True
        self._looking: Final = LoopingCall(self._look)
        self._levelling: Final = Levelling(self._table, start.slot, self._count_clients, self._take_in, reactor)

    # The link.

    def connectionMade(self) -> None:
        """Everything is imported."""
        self.callRemote(Ready)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The parent is gone, or has sent us away."""
        self._linked = False
        super().connectionLost(reason)
        self._lines.flush()
        if self._over:
            self._stop()
        elif self._plane is None:
            self._end()
        elif not self._leaving:
            _log.warn("the parent is gone: going on for {s:g} s", s=ORPHAN_S)
            self._reactor.callLater(ORPHAN_S, self._leave_alone)

    def _leave_alone(self) -> None:
        assert self._plan is not None
        self._leave(self._plan.drain_s)

    @Sock.responder
    def socket_came(self, number: int, sock: int) -> dict[str, Any]:
        """A listening socket."""
        self._sockets[number] = _socket_of(sock)
        return {}

    @Channel.responder
    def channel_came(self, slot: int, sock: int) -> dict[str, Any]:
        """What brings connections to a slot."""
        self._levelling.connect(slot, socket.socket(fileno=sock))
        return {}

    def _count_clients(self) -> int:
        return 0 if self._plane is None else sum(one.gate.open for one in self._plane.frontends.values())

    def _take_in(self, listener: str, fd: int) -> None:
        """Another worker has accepted a connection for us."""
        listeners = [] if self._plane is None else self._plane.listeners.get(listener, [])
        if listeners:
            listeners[0].take_in(fd)
        else:
            os.close(fd)

    @Configure.responder
    def configure(self, version: int, blob: int) -> dict[str, Any]:
        """Go by another generation."""
        try:
            generation = loaded(read_memory_file(blob))
            assert isinstance(generation, Generation)
            self._go_by(self._decoder.decode(generation.plan), generation)
        except Exception as error:
            _log.failure("generation {version} cannot be applied", version=version)
            self.callRemote(Taken, version=version, problem=f"{type(error).__name__}: {error}"[:1000])
        else:
            self.callRemote(Taken, version=version, problem="")
        return {}

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
            share=Share(self._start.slot, self._start.slots, self._count, self._table.rates, bytes(self._table.secret)),
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

    def _count(self) -> SharedCounts:
        return SharedCounts(self._table.lives, self._start.row)

    def _nothing_moves(self) -> None:
        _log.critical("nothing moves any more without the poller: stopping")
        self._end()

    # Facts.

    @Tell.responder
    def told(self, facts: bytes) -> dict[str, Any]:
        """Facts, from the parent."""
        if self._plane is None:
            return {}  # it could not begin, or has ended
        self._following = True
        try:
            for fact in unpacked(facts):
                self._take(fact)
        finally:
            self._following = False
        self._look_as_often_as_needed()  # an agent may have bounded the first backend
        return {}

    def _take(self, fact: Fact) -> None:
        assert self._plane is not None
        cluster = self._plane.clusters.get(fact.pool)
        if cluster is None:
            return
        match fact:
            case Probed():
                result = ProbeResult(fact.passed, fact.reason, silent=fact.silent, busy=fact.busy)
                result.said, result.asked_at = fact.said, fact.asked_at
                self._plane.hear_probe(fact.pool, fact.backend, result)
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
        if self._following or not isinstance(event, BackendEjected | BackendReturned) or not self._linked:
            return
        if not self._found:
            assert self._runtime is not None
            self._runtime.soon(self._tell_found)
        self._found.append(event)

    def _tell_found(self) -> None:
        found, self._found = self._found, []
        if self._linked:
            for text in packed(found):
                self.callRemote(Found, facts=text)

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

    # Questions.

    @Ask.responder
    def asked(self, question: str, arguments: str) -> dict[str, Any]:
        """A question of the parent."""
        if self._plane is None:
            raise HasEndedError
        assert self._lag is not None
        answers = Answers(self._plane, self._log_file, self._spans, self._lag)
        answer = answers.answer(question, json.loads(arguments))
        # Open until it was read: it is sent when the link takes it.
        self._answered += 1
        fd = self._unread[self._answered] = memory_file("answer", answer)
        return {"number": self._answered, "answer": fd}

    @Read.responder
    def was_read(self, number: int) -> dict[str, Any]:
        """An answer has come."""
        os.close(self._unread.pop(number))
        return {}

    # The log.

    def say(self, event: dict[str, Any]) -> None:
        """Have a line in the log of the parent, or on standard error when it is gone."""
        line = line_of(event)
        if line is None:
            return
        if self._linked:
            self._lines.add(line)
        else:
            self._complain(line)

    def _complain(self, line: LogLine) -> None:
        if not self._over:
            sys.stderr.write(f"worker {self._start.slot}: {' '.join(line)}\n")

    def _send_lines(self, lines: list[LogLine]) -> None:
        if self._linked:
            for data in packed(lines):
                self.callRemote(Said, lines=data)
        else:
            for line in lines:
                self._complain(line)

    def _say_held(self, held_s: float, where: str) -> None:
        # From the thread of the watchdog: the link is this one's, who says it when the turn is over.
        self._reactor.callFromThread(
            _log.warn, "nothing has moved for {held} s: {where}", held=f"{held_s:.2f}", where=where
        )

    @Reopen.responder
    def reopen(self) -> dict[str, Any]:
        """The log has been renamed."""
        self._log_file.reopen()
        return {}

    # The end.

    @Leave.responder
    def leave(self, most_s: float) -> dict[str, Any]:
        """Drain, and end."""
        self._leave(most_s)
        return {}

    @Hurry.responder
    def hurry(self) -> dict[str, Any]:
        """The drain has lasted long enough."""
        if self._plane is not None:
            self._plane.hurry()
        return {}

    def terminate(self) -> None:
        """SIGTERM: drain, as long as the plan has for that. The parent is to put another one in our place."""
        most_s = 0.0 if self._plan is None else self._plan.drain_s
        if self._plane is not None and self._linked and not self._leaving:
            self.callRemote(Leaves, most_s=most_s)
        self._leave(most_s)

    def _leave(self, most_s: float) -> None:
        if self._leaving:
            return
        self._leaving = True
        self._levelling.finish()
        if self._plane is None:
            self._end()
        else:
            self._plane.drain(most_s).addBoth(lambda _: self._end())

    def _end(self) -> None:
        if self._ending:
            return
        self._ending = True
        plane, self._plane = self._plane, None
        if self._looking.running:
            self._looking.stop()
        if self._lag is not None:
            self._lag.stop()
        self._watchdog.stop()
        told: Deferred[Any] = succeed(None)
        if plane is not None:
            assert self._runtime is not None
            told = self._tell_last(plane)
            plane.close()
            release(self._runtime, self._reactor)
            self._log_file.close()
        self._spans.close().addBoth(lambda _: told).addBoth(lambda _: self._part())

    def _tell_last(self, plane: DataPlane) -> "Deferred[Any]":
        """Tell what has been counted since somebody has asked last, which would be lost; fires when it has come, or never will."""
        if not self._linked or self._lag is None:
            return succeed(None)
        answer = Answers(plane, self._log_file, self._spans, self._lag).measures(exemplars=False)
        # Open as long as the process is: it is sent when the link takes it.
        return cast("Deferred[Any]", self.callRemote(Counted, answer=memory_file("counted", answer)))

    def _part(self) -> None:
        """Everything is over: say what is still to be said, and stop when that has gone."""
        self._over = True
        if self._linked:
            self._lines.flush()
            assert self.transport is not None
            self.transport.loseConnection()
        else:
            self._stop()

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._reactor.callLater(0, self._reactor.stop)


def _socket_of(fd: int) -> socket.socket:
    sock = socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def main(words: list[str]) -> None:
    """The process of a worker, from its start to its end."""
    start = Start(**json.loads(words[0]))
    # What an own policy is imported from, wherever the parent found it.
    sys.path[:] = start.path
    from twisted.internet import reactor

    make_monotonic(reactor)
    worker = Worker(start, reactor)
    globalLogBeginner.beginLoggingTo([cast(ILogObserver, worker.say)], redirectStandardIO=False, discardBuffer=True)
    unix: Any = reactor
    unix.adoptStreamConnection(LINK_FD, socket.AF_UNIX, OneProtocol(worker))
    os.close(LINK_FD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who presses Ctrl-C means the parent
    signal.signal(signal.SIGTERM, _from_signal(reactor, worker.terminate))
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    unix.run(installSignalHandlers=False)


def _from_signal(reactor: Any, call: Callable[[], None]) -> Callable[..., None]:
    return lambda *_: reactor.callFromThread(call)


if __name__ == "__main__":
    main(sys.argv[1:])
