"""The crew: the workers of a balancer at its parent, who starts, tells, asks and restarts them.

Each slot has one worker at a time, and sockets of its own (SO_REUSEPORT) that the parent keeps open. While a slot has none, another
worker accepts on its sockets (cover). Workers are started one after the other; those of a program before this one (`old`) go on until
the slot has one of its own, and drain then.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import (
    AdminChanged,
    BackendAdded,
    BackendChanged,
    BackendEjected,
    BackendRemoved,
    BackendReturned,
    Event,
)
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.sockets import BACKLOG, Held
from twisted_lb.probes import ProbeResult
from twisted_lb.workers.asking import ask
from twisted_lb.workers.codec import Encoded, dumped
from twisted_lb.workers.columns import Columns
from twisted_lb.workers.facts import Fact, Generation
from twisted_lb.workers.handover import Handover, OldSocket, OldWorker
from twisted_lb.workers.inheritance import Inheritance, Inherited
from twisted_lb.workers.learning import Learning
from twisted_lb.workers.levelling import pass_on
from twisted_lb.workers.life import KILL_S, Life, Watched, how_of, reason_of
from twisted_lb.workers.meeting import Control, place_of
from twisted_lb.workers.messages import (
    Channel,
    Configure,
    Hurry,
    Leave,
    Meet,
    OneProtocol,
    Reopen,
    Sock,
    Tell,
    memory_file,
    packed,
)
from twisted_lb.workers.news import News
from twisted_lb.workers.plans import Plans
from twisted_lb.workers.pulse import HANGS_S, Pulse, look_at
from twisted_lb.workers.reports import Reports
from twisted_lb.workers.settling import Settling
from twisted_lb.workers.slots import Numbers, Slots, all_of, with_those_of
from twisted_lb.workers.table import MOST_OLD, OPEN, SERVES, Table, is_understood, lives_of, make_table

# Who has served for so long, in seconds, has not died at its start: the next one is started at once.
_LONG_S: Final = 10.0
_FIRST_BACKOFF_S: Final = 0.2
_MOST_BACKOFF_S: Final = 30.0
# A worker that starts has so long to be ready, in seconds.
_START_S: Final = 60.0
# How often workers report, in seconds, beside when somebody asks.
_REPORT_S: Final = 1.0
# Reports take at most such a part of the parent's time.
_REPORTS_PART: Final = 0.1

_log = Logger(namespace="twisted_lb.workers")


class Crew:
    """The workers of one balancer, so many of them, from `begin` to the end of `leave`. `seed` is that of all chance; `whose`
    says who wants what of a backend, see `DataPlane`.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        seed: int,
        whose: Callable[[str, str], str],
        inheritance: Inheritance | None = None,
    ) -> None:
        self.count: Final = count
        self.generation: Final = 0 if inheritance is None else inheritance.generation
        self._reactor: Final = reactor
        self._seed: Final = seed
        self._whose: Final = whose
        self._nothing: Final = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        lives = lives_of(count)
        # One of another size is of no use: who has begun with it is counted there, and not here.
        fits = (
            inheritance is not None
            and inheritance.size == (count, lives)
            and is_understood(inheritance.table, count, lives)
        )
        table = inheritance.table if inheritance is not None and fits else make_table(count, lives)
        self.table: Final = Table(table, count, lives)
        # By slot, the ends of what brings it connections that others have accepted: to write to, and to read from.
        self._channels: Final = [
            (inheritance.channels.get(slot) if inheritance is not None and fits else None) or _channel()
            for slot in range(count)
        ]
        self.lives: Final[list[Life]] = []
        self._plane: DataPlane | None = None
        self._plans: Final = Plans()
        self._encoded: Encoded | None = None
        self._version: int = 0
        self.slots: Final = Slots(count)
        self._columns: Final = Columns(self.table)
        self._news: Final = News(self.lives, self._tell, reactor)
        self._backoff_s: Final[list[float]] = [0.0] * count
        self._starting: Life | None = None
        self._timers: Final[dict[int, IDelayedCall]] = {}  # of restarts, by slot
        self._scheduled = False
        self._settling: Final = Settling(lambda: self.settled, reactor)
        self._done: Deferred[None] | None = None
        self.restarts: int = 0
        self.reports: Final = Reports(self.ask)
        self._learning: Final = Learning(self.table, reactor)
        self._report_at: float = 0.0
        self._looking: Final = LoopingCall(self._look)
        self._looking.clock = reactor
        self._control: Final = Control(reactor, self._send_control)
        if inheritance is not None:
            self._inherit(inheritance, fits=fits)

    # Its beginning.

    def _inherit(self, inheritance: Inheritance, *, fits: bool) -> None:
        """Have the workers of a parent before this one, and what is known of backends."""
        self.restarts = inheritance.restarts
        self._news.hearsay.recall(inheritance.facts)
        if fits:
            self._columns.recall(inheritance.columns)
            for row in inheritance.dead_rows(self.table):
                self.table.leave(row)
        else:
            inheritance.leave_table(self.count)
        if inheritance.control is not None:
            self._control.inherit(inheritance.control_name, inheritance.control)
        for one in inheritance.workers:
            self._adopt(one, fits=fits)
        self.reports.recall(inheritance.counted, {life.pid: life for life in self.lives})

    def _adopt(self, one: Inherited, *, fits: bool) -> None:
        """Have a worker that a parent before this one has started."""
        life = Life(self, one.slot, one.row if fits else None, one.began_at, one.generation)
        life.old, life.same_program, life.pid = True, one.same_program, one.pid
        life.leaving, life.version, life.served_from = one.leaving, 1, one.began_at
        self.lives.append(life)
        try:
            life.watched = Watched(one.pid, life.processEnded, self._reactor)
        except OSError:
            life.linked = False
            self._reactor.callLater(0, life.processEnded, reason_of(one.pid))
            return
        if one.connection is None:
            if not one.leaving:
                _log.warn("worker {slot} (process {pid}) does not answer its new parent", slot=one.slot, pid=one.pid)
            life.unlinked()
            return
        with one.connection:
            one.connection.setblocking(False)
            self._reactor.adoptStreamConnection(one.connection.fileno(), socket.AF_UNIX, OneProtocol(life.link))
        if one.leaves_at is not None:
            self.kill_later(life, max(0.0, one.leaves_at - self.now()))

    def begin(
        self,
        plane: DataPlane,
        sockets: Mapping[str, Sequence[socket.socket]],
        clones: Mapping[socket.socket, list[socket.socket]],
    ) -> None:
        """Start the workers, who go by what this data plane does and accept on these sockets, of which there are clones already."""
        self._plane = plane
        self.slots.begin(clones)
        self._cut_oldest()
        self._looking.start(_REPORT_S, now=False).addErrback(
            lambda failure: _log.failure("no reports any more", failure=failure)
        )
        self.follow(sockets)

    def follow(self, sockets: Mapping[str, Sequence[socket.socket]] | None = None) -> None:
        """The data plane goes by something else, or listens elsewhere: have the workers do so."""
        plane = self._plane
        if plane is None or self._done is not None:
            return
        if sockets is not None:
            self.slots.open(sockets)
            self._be_found(sockets)
        self._encoded = self._plans.encoded(plane)
        self._version += 1
        present = {(name, backend) for name, cluster in plane.clusters.items() for backend in cluster.pool.backends}
        self._news.hearsay.keep(present)
        # What workers of another program know is known as long as they live.
        taken = [0 if life.old else life.version for life in self.lives if life.row is not None]
        self._columns.settle(present, self._version, taken)
        self._learning.follow(plane, self._columns.by_key)
        for life in self.lives:
            if life.follows:
                self._configure(life)
        self._start_next()

    def _be_found(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Be found by the first address, by who starts when this process has died."""
        first = next((sock for those in sockets.values() for sock in those), None)
        if first is not None:
            self._control.follow(place_of(first))

    def _send_control(self, fd: int) -> None:
        # Those of before too: the next program is to find all of them at one place.
        for life in self.lives:
            if life.follows or life.old:
                self._send(life, Meet, sock=fd)

    # The program that this process is going to be.

    def hand_over(
        self, sockets: Sequence[Held], doors: Mapping[str, int], wishes: dict[str, Any], pid_file: str
    ) -> Handover:
        """What is left to the next program: these sockets, doors and wishes of the operator with what is here."""
        plane = self._plane
        assert plane is not None
        clones = dict(self.slots.clones())
        return Handover(
            generation=self.generation + 1,
            table=self.table.fd,
            slots=self.count,
            rows=len(self.table.lives),
            control=None if self._control.sock is None else self._control.sock.fileno(),
            control_name=self._control.name,
            channels=[(into.fileno(), out.fileno()) for into, out in self._channels],
            sockets=[
                OldSocket(one.name, one.where, [sock.fileno() for sock in clones.get(one.sock, [one.sock])])
                for one in sockets
            ],
            doors=dict(doors),
            workers=[
                OldWorker(
                    life.pid,
                    life.slot,
                    life.row,
                    life.generation,
                    life.began_at,
                    life.leaving,
                    life.leaves_at,
                    starts=life.version == 0,
                )
                for life in self.lives
            ],
            columns=self._columns.values(),
            facts=self._news.hearsay.facts(plane, self.now()),
            wishes=wishes,
            counted=self.reports.hand_over(plane.measures(), {life.pid: life for life in self.lives}),
            restarts=self.restarts,
            pid_file=pid_file,
        )

    def _cut_oldest(self) -> None:
        """Of programs before this one at most so many have workers still: those of the oldest are cut."""
        generations = sorted({life.generation for life in self.lives if life.old})
        for generation in generations[:-MOST_OLD]:
            cut = [life for life in self.lives if life.generation == generation]
            _log.warn(
                "{count} programs before this one have workers still: those of the oldest are cut, {pids}",
                count=len(generations),
                pids=", ".join(f"process {life.pid}" for life in cut),
            )
            for life in cut:
                self._send(life, Hurry)
                self.kill_later(life, KILL_S)

    # Processes.

    def _start_next(self) -> None:
        """Start the worker of a slot that has none, unless another one is starting."""
        if self._starting is not None or self._done is not None or self._plane is None:
            return
        for slot in range(self.count):
            if slot not in self._timers and self._of(slot) is None and not self.table.full and self._spawn(slot):
                return

    def _of(self, slot: int) -> Life | None:
        """The worker of this program in a slot."""
        return next((one for one in self.lives if one.slot == slot and not one.leaving and not one.old), None)

    def _spawn(self, slot: int) -> bool:
        """Start a worker; where the machine has no process or descriptor for one, it is tried again later."""
        try:
            self._begin_life(slot)
            return True
        except OSError as error:
            wait_s = self._backoff(slot, 0.0)
            _log.error(
                "worker {slot} cannot be started: {error}; tried again in {wait_s:g} s",
                slot=slot,
                error=error.strerror or error,
                wait_s=wait_s,
            )
            self._start_later(slot, wait_s)
            return False

    def _begin_life(self, slot: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours, theirs:
            row = self.table.take()
            assert row is not None
            life = Life(self, slot, row, self.now(), self.generation)
            try:
                self._spawn_process(life, theirs)
            except BaseException:
                self.table.leave(row)
                raise
            self.table.name(row, life.pid)
            self._starting = life
            self.lives.append(life)
            life.patience = self._reactor.callLater(_START_S, self._too_slow, life)
            ours.setblocking(False)
            try:
                self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, OneProtocol(life.link))
            except OSError:
                life.linked = False
                life.kill()  # and then it has ended, as any other

    def _spawn_process(self, life: Life, theirs: socket.socket) -> None:
        start = {
            "slot": life.slot,
            "row": life.row,
            "lives": len(self.table.lives),
            "slots": self.count,
            "seed": self._seed + 1_000_003 * (life.slot + 1),
            "path": sys.path,
            "generation": self.generation,
            "began_at": life.began_at,
        }
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("LISTEN_") and key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        environment["PYTHONPATH"] = os.pathsep.join(one or os.getcwd() for one in sys.path)
        with os.fdopen(memory_file("start", json.dumps(start).encode())) as given:
            transport = self._reactor.spawnProcess(
                life,
                sys.executable,
                # What is imported is what the parent would import: -P keeps out what happens to be in the directory.
                [sys.executable, "-P", "-m", "twisted_lb.workers.worker", str(life.slot)],
                env=environment,
                childFDs={0: self._nothing, 1: 1, 2: 2, 3: theirs.fileno(), 4: self.table.fd, 5: given.fileno()},
            )
        life.pid = transport.pid

    def kill_later(self, life: Life, after_s: float) -> None:
        """Have a worker killed that has not ended by then."""
        life.be_patient()
        life.patience = self._reactor.callLater(after_s, life.kill)

    def leaves(self, life: Life, most_s: float) -> None:
        """A worker drains that nobody has told to: another one takes its place at once, not when it has ended."""
        if life.leaving:
            return
        _log.warn("worker {slot} (process {pid}) was told to end, and drains", slot=life.slot, pid=life.pid)
        life.leaving = True
        self.kill_later(life, most_s + KILL_S)
        self._settling.look()
        self._cover()
        if self.table.full:
            next(one for one in self.lives if one.leaving).kill()
        self._start_next()

    def _too_slow(self, life: Life) -> None:
        _log.error("worker {slot} (process {pid}) is not ready after {s:g} s", slot=life.slot, pid=life.pid, s=_START_S)
        life.kill()

    def imported(self, life: Life) -> None:
        """A worker has imported everything: it is told all that holds."""
        life.imported = True
        if self._done is not None:
            return
        for slot, (into, out) in enumerate(self._channels):
            end = out if slot == life.slot else into
            self._send(life, Channel, slot=slot, sock=end.fileno())
        if self._control.sock is not None:
            self._send(life, Meet, sock=self._control.sock.fileno())
        self._configure(life)
        assert self._plane is not None
        self._tell(life, self._news.hearsay.facts(self._plane, self.now()))

    def taken(self, life: Life, version: int, problem: str) -> None:
        """A worker goes by a generation, or does not."""
        life.close_blobs(version)
        if problem:
            _log.error(
                "worker {slot} (process {pid}) cannot go by generation {version}: {problem}",
                slot=life.slot,
                pid=life.pid,
                version=version,
                problem=problem,
            )
            life.kill()  # one that goes by another one than the rest is worse than none
            return
        first = life.version == 0
        life.version = version
        self._settling.look()
        if first:
            life.be_patient()
            life.served_from = self.now()
            if self._starting is life:
                self._starting = None
            _log.info("worker {slot} serves, as process {pid}", slot=life.slot, pid=life.pid)
            self._retire(life.slot)
            self._cover()
            self._start_next()

    def _retire(self, slot: int) -> None:
        """A slot has a worker of this program: those of programs before drain, with time for tunnels."""
        assert self._plane is not None
        for life in self.lives:
            if life.old and life.slot % self.count == slot and not life.leaving:
                most_s = self._plane.plan.tunnel_drain_s
                life.leaving = True
                life.leaves_at = self.now() + most_s + KILL_S
                self._send(life, Leave, most_s=most_s)
                self.kill_later(life, most_s + KILL_S)
                if not self.rolling:
                    _log.info("all workers are of this program; those of the one before drain")

    @property
    def rolling(self) -> bool:
        """Whether workers of a program before this one take clients in still."""
        return any(life.old and not life.leaving for life in self.lives)

    def counted(self, life: Life, told: bytes) -> None:
        """A worker ends, and has counted so much."""
        self.reports.last(life, told)

    def ended(self, life: Life, reason: Failure) -> None:
        """A worker has ended."""
        self.lives.remove(life)
        self._settling.look()
        life.close_blobs(self._version)
        if life.row is not None:
            self.table.leave(life.row)
            if not any(one.slot == life.slot and not one.leaving for one in self.lives):
                self.table.slots[life.slot][OPEN] = self.table.slots[life.slot][SERVES] = 0
        self.reports.end(life)
        if self._starting is life:
            self._starting = None
        if self._done is not None:
            self._finish_if_over()
            return
        if life.leaving:
            self._start_next()  # where there was no row for one
            return
        slot = life.slot
        # Not from its start, which takes long where the machine is busy.
        wait_s = self._backoff(slot, 0.0 if life.served_from is None else self.now() - life.served_from)
        self.restarts += 1
        _log.error(
            "worker {slot} (process {pid}) has ended {how}; the next one starts {when}",
            slot=slot,
            pid=life.pid,
            how=how_of(reason),
            when=f"in {wait_s:g} s" if wait_s else "at once",
        )
        self._start_later(slot, wait_s)
        self._cover()
        self._pass_on(slot)

    def _backoff(self, slot: int, served_s: float) -> float:
        """How long to wait for the next one, where this one has served for so long."""
        before = self._backoff_s[slot]
        wait_s = 0.0 if served_s >= _LONG_S else min(max(before * 2, _FIRST_BACKOFF_S), _MOST_BACKOFF_S)
        self._backoff_s[slot] = wait_s
        return wait_s

    def _start_later(self, slot: int, wait_s: float) -> None:
        self._timers[slot] = self._reactor.callLater(wait_s, self._again, slot)

    def _again(self, slot: int) -> None:
        del self._timers[slot]
        self._start_next()

    def _cover(self) -> None:
        """Have each slot without a worker covered by another one, and by none where it has its own again."""
        for life in self.lives:
            if life.follows and life.version and life.sockets != self._sockets_of(life):
                self._configure(life)

    def _sockets_of(self, life: Life) -> Numbers:
        """By listener the numbers of the sockets on which a worker is to accept."""
        serving = [one for one in self.lives if one.accepting or one is life]
        missing = [slot for slot in range(self.count) if not any(one.slot == slot for one in serving)]
        first = next(one for one in serving if not one.old)
        return with_those_of(self.slots.of(life.slot), [self.slots.of(slot) for slot in missing if first is life])

    def _configure(self, life: Life) -> None:
        """Have a worker go by what holds."""
        assert self._encoded is not None
        sockets = self._sockets_of(life)
        wanted = all_of(sockets)
        for number in sorted(wanted - life.sent_sockets):
            sock = self.slots.numbered(number)
            sock.listen(BACKLOG)  # now there is somebody who accepts
            self._send(life, Sock, number=number, sock=sock.fileno())
        life.sent_sockets = wanted
        life.sockets = sockets
        plan = self._encoded.for_one_who_knows(life.known)
        generation = Generation(plan, sockets, self._columns.by_pool(), self._wishes())
        blob = memory_file("plan", dumped(generation))
        life.known = self._encoded.numbers
        self._send(life, Configure, version=self._version, blob=blob)
        # Open until it has come: it is sent when the link takes it.
        life.blobs[self._version] = [*life.blobs.get(self._version, ()), blob]

    def _wishes(self) -> dict[tuple[str, str], tuple[AdminState, str]]:
        """What the operator wants of backends, by pool and name, and who that was."""
        plane = self._plane
        assert plane is not None
        return {
            (pool, backend): (admin, self._whose(pool, backend))
            for pool in plane.clusters
            for backend, admin in plane.overlay.of(pool).admin.items()
        }

    def _send(self, life: Life, command: Any, **arguments: Any) -> None:
        if life.linked:
            life.link.callRemote(command, **arguments)

    def _pass_on(self, slot: int) -> None:
        """What others have handed on to a slot in which nobody takes it in goes to a worker that does; without one it waits for the next."""
        to = next((life.slot for life in self.lives if life.accepting and life.slot != slot), None)
        if to is not None:
            pass_on(self._channels, self.table, slot, to)

    # Facts.

    def probed(self, pool: str, backend: str, result: ProbeResult) -> None:
        """A check of the parent has a result."""
        self._news.probed(pool, backend, result)

    def agent_said(self, pool: str, backend: str, said: bytes | None) -> None:
        """An agent was asked at its port."""
        self._news.agent_said(pool, backend, said)

    def hear(self, event: Event) -> None:
        """Hear a change of state at the parent."""
        if isinstance(event, BackendEjected | BackendReturned):
            self._news.ejected(event)
        elif isinstance(event, AdminChanged | BackendAdded | BackendRemoved | BackendChanged):
            self._schedule()

    def found(self, life: Life, facts: Iterable[Fact]) -> None:
        """A worker's traffic has found something out."""
        if self._plane is not None:
            self._news.found(life, facts, self._plane)

    def _tell(self, life: Life, facts: list[Fact]) -> None:
        for text in packed(facts):
            self._send(life, Tell, facts=text)

    def _schedule(self) -> None:
        """Backends are others: have the workers told, once, behind this turn."""
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._follow)

    def _follow(self) -> None:
        self._scheduled = False
        self.follow()

    # Whether they live, and what they have counted.

    def _look(self) -> None:
        for life in [one for one in self.lives if one.serving]:
            pulse = look_at(life, self.table)
            if pulse is Pulse.HANGS:
                self.kill_later(life, HANGS_S)
                self._settling.look()
            if pulse is not Pulse.NOTHING:
                self._cover()  # others accept for it, or do not any more
        for slot in range(self.count):
            if not any(life.accepting for life in self.lives if life.slot == slot):
                self._pass_on(slot)
        if self.now() >= self._report_at:
            self._report_at = float("inf")
            self.reports.refresh().addBoth(self._reported)

    def _reported(self, _: object) -> None:
        self._report_at = self.now() + self.reports.cost_s / _REPORTS_PART

    # Questions.

    def ask(self, question: str, arguments: Mapping[str, Any]) -> "Deferred[dict[Hashable, bytes]]":
        """What the workers that serve, or drain, answer to a question, by their lives; those that do not in time are left out."""
        # Nobody waits for one that hangs.
        asked = [one for one in self.lives if one.version and one.linked and not one.silent and one.same_program]
        return ask(asked, question, arguments, self._reactor)

    def reopen_logs(self) -> None:
        """The log files have been renamed."""
        for life in self.lives:
            self._send(life, Reopen)

    # Its end.

    def leave(self, most_s: float) -> "Deferred[None]":
        """Have all workers drain; fires when the last one has ended. Who waits to be accepted is: of the sockets of all slots but one nobody
        else has a copy, also where another instance has taken over.
        """
        self._done = Deferred()
        if self._looking.running:
            self._looking.stop()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._learning.stop()
        self._settling.look(over=True)
        for life in self.lives:
            life.leaving = True
            if life.imported:  # it may have clients from there on, whether it has said so yet or not
                self._send(life, Leave, most_s=most_s)
                self.kill_later(life, most_s + KILL_S)
            else:
                life.be_patient()
                life.kill()
        self._close_sockets()
        done = self._done
        self._finish_if_over()
        return done

    def _close_sockets(self) -> None:
        self._control.close()
        self.slots.close()
        for ends in self._channels:
            for end in ends:
                end.close()

    def hurry(self) -> None:
        """That has lasted long enough."""
        for life in self.lives:
            self._send(life, Hurry)

    def _finish_if_over(self) -> None:
        if not self.lives and self._done is not None and not self._done.called:
            os.close(self._nothing)
            os.close(self.table.fd)
            self._done.callback(None)

    @property
    def places(self) -> list[int]:
        """The slots, also those that were some before: somebody may drain there."""
        return sorted({*range(self.count), *(life.slot for life in self.lives)})

    def lives_of(self, slot: int) -> list[Life | None]:
        """Who is in a slot, and who leaves it; None where nobody is."""
        found = [life for life in self.lives if life.slot == slot]
        staying: list[Life | None] = [life for life in found if not life.leaving]
        nobody: list[Life | None] = [None] if slot < self.count else []
        return [*(staying or nobody), *(life for life in found if life.leaving)]

    def covers(self, slot: int) -> int | None:
        """The slot of the worker that accepts for one without its own; None where there is none."""
        numbers = all_of(self.slots.of(slot))
        return next(
            (one.slot for one in self.lives if one.accepting and one.slot != slot and numbers & all_of(one.sockets)),
            None,
        )

    def in_flight(self, pool: str, backend: str) -> int:
        """How many requests all have in flight at a backend, now; at one that was removed too, as long as any has."""
        column = self._columns.of(pool, backend)
        return 0 if column is None else self.table.load(column)

    @property
    def settled(self) -> bool:
        """Whether all that serve go by what holds now."""
        return not self._scheduled and all(
            life.version == self._version for life in self.lives if life.accepting and not life.old
        )

    def settle(self) -> "Deferred[None]":
        """Fires when all go by what holds now, or have had time enough."""
        return self._settling.wait()

    @property
    def ready(self) -> bool:
        """Whether every slot has a worker that serves."""
        return all(any(one.slot == slot and one.serving for one in self.lives) for slot in range(self.count))

    def now(self) -> float:
        """Monotonic seconds."""
        return float(self._reactor.seconds())


def _channel() -> tuple[socket.socket, socket.socket]:
    into, out = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    return into, out
