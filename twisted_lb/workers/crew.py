"""The crew: the workers of a balancer at its parent, who starts, tells, asks and restarts them.

Each slot has one worker at a time, and sockets of its own (SO_REUSEPORT) that the parent keeps open. While a slot has none, another
worker accepts on its sockets (cover). Workers are started one after the other.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, ProcessDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
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
from twisted_lb.core.standing import Skipped
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.listener import address_of
from twisted_lb.net.sockets import BACKLOG
from twisted_lb.planned import ListenerPlan, Plan, PoolPlan
from twisted_lb.probes import ProbeResult
from twisted_lb.workers.codec import Encoded, Encoder, dumped
from twisted_lb.workers.facts import AgentSaid, Fact, Generation, Probed
from twisted_lb.workers.levelling import NAME_BYTES
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
from twisted_lb.workers.reports import Reports
from twisted_lb.workers.table import BEAT, CAME, COLUMNS, OPEN, SERVES, WENT, Table, make_table

# Who has lived for so long, in seconds, has not died at its start: the next one is started at once.
_LONG_S: Final = 10.0
_FIRST_BACKOFF_S: Final = 0.2
_MOST_BACKOFF_S: Final = 30.0
# A worker that leaves and has not ended so long after its time is killed, in seconds.
_KILL_S: Final = 5.0
# And one that starts has so long to be ready.
_START_S: Final = 60.0
# How often workers report, in seconds, beside when somebody asks.
_REPORT_S: Final = 1.0
# So long it is waited for all workers to go by another generation, in seconds.
_SETTLE_S: Final = 10.0
# An answer is waited for so long.
_ANSWER_S: Final = 1.0
# A worker in which nothing has moved when it was looked at so often, once a second, hangs; and is killed so long afterwards, in seconds.
# One that is only slow moves: with thousands of backends it answers late, and is needed all the more.
_MOST_STILL: Final = 3
_HANGS_S: Final = 30.0
# Reports take at most such a part of the parent's time.
_REPORTS_PART: Final = 0.1

_log = Logger(namespace="twisted_lb.workers")
_of_workers = Logger(namespace="twisted_lb.worker")


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
        """What its traffic has found out."""
        self._life.crew.found(self._life, unpacked(facts))
        return {}

    @Leaves.responder
    def leaves(self, most_s: float) -> dict[str, Any]:
        """It drains unasked: somebody has sent it SIGTERM."""
        self._life.crew.leaves(self._life, most_s)
        return {}

    @Counted.responder
    def counted(self, answer: int) -> dict[str, Any]:
        """All that it has counted: it ends."""
        self._life.crew.reports.hear_last(self._life, read_memory_file(answer))
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
    """One life of a worker: a process in a slot, and the row that it writes."""

    def __init__(self, crew: "Crew", slot: int, row: int, began_at: float) -> None:
        self.crew: Final = crew
        self.slot: Final = slot
        self.row: Final = row
        self.began_at: Final = began_at
        self.link: Final = Link(self)
        self.pid: int = 0
        self.linked = True
        self._ended: Failure | None = None
        self.imported = False
        self.version: int = 0  # that it goes by
        self.leaving = False
        self.silent = False  # nothing moves there: it hangs
        self.beat: int = 0  # how often it had gone round when it was looked at last
        self.still: int = 0  # how often in a row it was looked at without that
        self.known: set[int] = set()  # parts of plans
        self.sent_sockets: set[int] = set()
        self.sockets: dict[str, list[int]] = {}
        self.blobs: dict[int, list[int]] = {}  # on their way, by version
        self.patience: IDelayedCall | None = None

    @property
    def serving(self) -> bool:
        """Whether it takes clients in."""
        return self.version > 0 and not self.leaving and self.linked

    @property
    def accepting(self) -> bool:
        """Whether it takes clients in, as far as that can be seen."""
        return self.serving and not self.silent

    def kill(self) -> None:
        """End its process at once, unless it has ended: its number may be another one's by now."""
        if self.pid and self._ended is None:
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
            self.crew.kill_later(self, _KILL_S)
        self._end()

    def _end(self) -> None:
        # Both: what it has said last is still to be read when its process has ended.
        if self._ended is not None and not self.linked:
            self.crew.ended(self, self._ended)

    def errReceived(self, data: bytes) -> None:
        """What it writes where there is no log: of Python itself, say."""
        sys.stderr.write(data.decode("utf-8", "replace"))


class Crew:
    """The workers of one balancer, so many of them, from `begin` to the end of `leave`. `seed` is that of all chance; `whose`
    says who wants what of a backend, see `DataPlane`.
    """

    def __init__(self, reactor: Any, count: int, seed: int, whose: Callable[[str, str], str]) -> None:
        self.count: Final = count
        self._reactor: Final = reactor
        self._seed: Final = seed
        self._whose: Final = whose
        self._nothing: Final = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        lives = 2 * count + 4
        self.table: Final = Table(make_table(count, lives), count, lives)
        self._free_rows: Final = list(reversed(range(lives)))
        # By slot, the ends of what brings it connections that others have accepted.
        self._channels: Final = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) for _ in range(count)
        ]
        self.lives: Final[list[Life]] = []
        self._plane: DataPlane | None = None
        self._encoder: Final = Encoder()
        self._encoded: Encoded | None = None
        self._pools: dict[str, tuple[PoolPlan, tuple[Any, ...], PoolPlan]] = {}
        self._listeners: dict[str, tuple[ListenerPlan, ListenerPlan]] = {}
        self._version: int = 0
        self._slots: Final[list[dict[str, list[int]]]] = [{} for _ in range(count)]
        self._sockets: Final[dict[int, socket.socket]] = {}
        self._clones: dict[socket.socket, list[int]] = {}  # numbers, by slot
        self._next_socket: int = 0
        self._columns: Final[dict[tuple[str, str], int]] = {}
        self._gone: Final[
            dict[tuple[str, str], int]
        ] = {}  # backends that have a column still, and the first version without them
        self._free_columns: Final[list[int]] = []
        self._next_column: int = 0
        self._facts: list[Fact] = []
        self._origin: Life | None = None  # who has found out what is heard now
        self._probes: Final[dict[tuple[str, str], ProbeResult]] = {}
        self._agents: Final[dict[tuple[str, str], bytes | None]] = {}
        self._backoff_s: Final[list[float]] = [0.0] * count
        self._starting: Life | None = None
        self._timers: Final[dict[int, IDelayedCall]] = {}  # of restarts, by slot
        self._scheduled = False
        self._unsettled: Final[dict[Deferred[None], IDelayedCall]] = {}
        self._done: Deferred[None] | None = None
        self.restarts: int = 0
        self.reports: Final = Reports(self.ask)
        self._report_at: float = 0.0
        self._looking: Final = LoopingCall(self._look)
        self._looking.clock = reactor

    # Its beginning.

    def begin(
        self,
        plane: DataPlane,
        sockets: Mapping[str, Sequence[socket.socket]],
        clones: Mapping[socket.socket, list[socket.socket]],
    ) -> None:
        """Start the workers, who go by what this data plane does and accept on these sockets, of which there are clones already."""
        self._plane = plane
        self._clones = {sock: [self._number(one) for one in those] for sock, those in clones.items()}
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
            self._open(sockets)
        self._encoded = self._encoder.encode(self._plan_of(plane))
        self._version += 1
        self._settle_columns(plane)
        for life in self.lives:
            if life.imported and not life.leaving:
                self._configure(life)
        self._start_next()

    def _plan_of(self, plane: DataPlane) -> Plan:
        """The plan as workers go by it: with the backends that are in force, and without checks and lists of their own."""
        pools: dict[str, tuple[PoolPlan, tuple[Any, ...], PoolPlan]] = {}
        for name, pool in plane.plan.pools.items():
            specs = tuple(plane.specs_of(name))
            known = self._pools.get(name)
            if known is None or known[0] is not pool or known[1] != specs:
                known = pool, specs, replace(pool, backends=specs, targets=None, checks=None)
            pools[name] = known
        listeners: dict[str, tuple[ListenerPlan, ListenerPlan]] = {}
        for name, listener in plane.plan.listeners.items():
            of = self._listeners.get(name)
            if of is None or of[0] is not listener:
                most = listener.connections
                share = None if most is None else -(-most // self.count)
                of = listener, replace(listener, connections=share)
            listeners[name] = of
        self._pools, self._listeners = pools, listeners
        return replace(
            plane.plan,
            pools={name: known[2] for name, known in pools.items()},
            listeners={name: of[1] for name, of in listeners.items()},
        )

    def _open(self, sockets: Mapping[str, Sequence[socket.socket]]) -> None:
        """Have sockets like these for each slot; those of before stay."""
        clones: dict[socket.socket, list[int]] = {}
        slots: list[dict[str, list[int]]] = [{} for _ in range(self.count)]
        for name, those in sockets.items():
            for sock in those:
                numbers = self._clones.get(sock) or [self._number(one) for one in clones_of(sock, self.count)]
                clones[sock] = numbers
                for sockets_of_slot, number in zip(slots, numbers, strict=True):
                    sockets_of_slot.setdefault(name, []).append(number)
            for sockets_of_slot in slots:
                sockets_of_slot.setdefault(name, [])
        for sock, numbers in self._clones.items():
            if sock not in clones:
                for number in set(numbers):
                    self._sockets.pop(number).close()
        self._clones = clones
        self._slots[:] = slots

    def _number(self, sock: socket.socket) -> int:
        for number, known in self._sockets.items():
            if known is sock:
                return number
        self._next_socket += 1
        self._sockets[self._next_socket] = sock
        return self._next_socket

    # Processes.

    def _start_next(self) -> None:
        """Start the worker of a slot that has none, unless another one is starting."""
        if self._starting is not None or self._done is not None or self._plane is None:
            return
        for slot in range(self.count):
            if slot not in self._timers and self._of(slot) is None and self._free_rows and self._spawn(slot):
                return

    def _of(self, slot: int) -> Life | None:
        return next((life for life in self.lives if life.slot == slot and not life.leaving), None)

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
        life = Life(self, slot, self._free_rows[-1], self.now())
        start = {
            "slot": slot,
            "row": life.row,
            "lives": len(self.table.lives),
            "slots": self.count,
            "seed": self._seed + 1_000_003 * (slot + 1),
            "path": sys.path,
        }
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("LISTEN_") and key not in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
        }
        environment["PYTHONPATH"] = os.pathsep.join(one or os.getcwd() for one in sys.path)
        with ours, theirs:
            transport = self._reactor.spawnProcess(
                life,
                sys.executable,
                # What is imported is what the parent would import: -P keeps out what happens to be in the directory.
                [sys.executable, "-P", "-m", "twisted_lb.workers.worker", json.dumps(start)],
                env=environment,
                childFDs={0: self._nothing, 1: 1, 2: 2, 3: theirs.fileno(), 4: self.table.fd},
            )
            life.pid = transport.pid
            self._free_rows.pop()
            self._starting = life
            self.lives.append(life)
            life.patience = self._reactor.callLater(_START_S, self._too_slow, life)
            ours.setblocking(False)
            try:
                self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, OneProtocol(life.link))
            except OSError:
                life.linked = False
                life.kill()  # and then it has ended, as any other

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
        self.kill_later(life, most_s + _KILL_S)
        self._look_settled()
        self._cover()
        if not self._free_rows:
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
        self._configure(life)
        assert self._plane is not None
        self._tell(life, self._facts_of(self._plane))

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
        self._look_settled()
        if first:
            life.be_patient()
            if self._starting is life:
                self._starting = None
            _log.info("worker {slot} serves, as process {pid}", slot=life.slot, pid=life.pid)
            self._cover()
            self._start_next()

    def ended(self, life: Life, reason: Failure) -> None:
        """A worker has ended."""
        self.lives.remove(life)
        self._look_settled()
        life.close_blobs(self._version)
        self.table.leave(life.row, self._next_column)
        if self._of(life.slot) is None:
            self.table.slots[life.slot][OPEN] = self.table.slots[life.slot][SERVES] = 0
        self.reports.end(life)
        self._free_rows.append(life.row)
        if self._starting is life:
            self._starting = None
        if self._done is not None:
            self._finish_if_over()
            return
        if life.leaving:
            self._start_next()  # where there was no row for one
            return
        how = "in order" if reason.check(ProcessDone) else str(reason.value)
        slot, lived_s = life.slot, self.now() - life.began_at
        wait_s = self._backoff(slot, lived_s)
        self.restarts += 1
        _log.error(
            "worker {slot} (process {pid}) has ended: {how}; the next one starts in {wait_s:g} s",
            slot=slot,
            pid=life.pid,
            how=how,
            wait_s=wait_s,
        )
        self._start_later(slot, wait_s)
        self._cover()
        self._pass_on(slot)

    def _backoff(self, slot: int, lived_s: float) -> float:
        """How long to wait for the next one, where this one has lived for so long."""
        before = self._backoff_s[slot]
        wait_s = 0.0 if lived_s >= _LONG_S else min(max(before * 2, _FIRST_BACKOFF_S), _MOST_BACKOFF_S)
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
            if life.imported and not life.leaving and life.version and life.sockets != self._sockets_of(life):
                self._configure(life)

    def _sockets_of(self, life: Life) -> dict[str, list[int]]:
        """By listener the numbers of the sockets on which a worker is to accept."""
        found = {name: list(numbers) for name, numbers in self._slots[life.slot].items()}
        serving = [one for one in self.lives if one.accepting or one is life]
        if serving[0] is life:
            for slot, sockets in enumerate(self._slots):
                if slot != life.slot and not any(one.slot == slot and one is not life for one in serving):
                    for name, numbers in sockets.items():
                        found[name] += [number for number in numbers if number not in found[name]]
        return found

    def _configure(self, life: Life) -> None:
        """Have a worker go by what holds."""
        assert self._encoded is not None
        sockets = self._sockets_of(life)
        wanted = {number for numbers in sockets.values() for number in numbers}
        for number in sorted(wanted - life.sent_sockets):
            self._sockets[number].listen(BACKLOG)  # now there is somebody who accepts
            self._send(life, Sock, number=number, sock=self._sockets[number].fileno())
        life.sent_sockets = wanted
        life.sockets = sockets
        columns: dict[str, dict[str, int]] = {}
        for (pool, backend), column in self._columns.items():
            columns.setdefault(pool, {})[backend] = column
        plan = self._encoded.for_one_who_knows(life.known)
        blob = memory_file("plan", dumped(Generation(plan, sockets, columns, self._wishes())))
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
        if to is None:
            return
        (_, out), (into, _), own = self._channels[slot], self._channels[to], self.table.slots[slot]
        while True:
            try:
                name, fds, _, _ = socket.recv_fds(out, NAME_BYTES, 1)
            except BlockingIOError:
                return
            try:
                socket.send_fds(into, [name], fds)
                # In this order: for a moment it is counted twice, and never not at all.
                own[WENT + to] += 1
                own[CAME] += 1
            except OSError:  # that one is full, as a rule: it stays where it was
                with contextlib.suppress(OSError):
                    socket.send_fds(self._channels[slot][0], [name], fds)
                return
            finally:
                for fd in fds:
                    os.close(fd)

    # Facts.

    def probed(self, pool: str, backend: str, result: ProbeResult) -> None:
        """A check of the parent has a result."""
        self._probes[pool, backend] = result
        self._note(_probed(pool, backend, result))

    def agent_said(self, pool: str, backend: str, said: bytes | None) -> None:
        """An agent was asked at its port."""
        self._agents[pool, backend] = said
        self._note(AgentSaid(pool, backend, said))

    def hear(self, event: Event) -> None:
        """Hear a change of state at the parent."""
        if isinstance(event, BackendEjected | BackendReturned):
            for life in self.lives:
                if life is not self._origin and life.imported:
                    self._tell(life, [event])
        elif isinstance(event, AdminChanged | BackendAdded | BackendRemoved | BackendChanged):
            self._schedule()

    def found(self, life: Life, facts: Iterable[Fact]) -> None:
        """A worker's traffic has found something out: so it is for all."""
        plane = self._plane
        self._origin = life
        try:
            for fact in facts:
                if plane is not None and isinstance(fact, BackendEjected | BackendReturned):
                    cluster = plane.clusters.get(fact.pool)
                    if cluster is not None:
                        cluster.hear_elsewhere(fact)
        finally:
            self._origin = None

    def _note(self, fact: Fact) -> None:
        if not self._facts:
            self._reactor.callLater(0, self._tell_all)
        self._facts.append(fact)

    def _tell_all(self) -> None:
        facts, self._facts = self._facts, []
        # Whoever has been told how it stands, also if it does not serve yet: what comes behind that is news for it.
        for life in self.lives:
            if life.imported:
                self._tell(life, facts)

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

    def _facts_of(self, plane: DataPlane) -> list[Fact]:
        """All that a worker has to know that has just begun."""
        facts: list[Fact] = []
        for name, cluster in plane.clusters.items():
            for backend in cluster.pool.backends.values():
                said = self._agents.get((name, backend.name))
                if said is not None:
                    facts.append(AgentSaid(name, backend.name, said))
                result = self._probes.get((name, backend.name))
                if result is not None and backend.health.known:
                    reason = result.reason if backend.health.up else backend.reasons.get(Skipped.DOWN, result.reason)
                    facts.append(replace(_probed(name, backend.name, result), passed=backend.health.up, reason=reason))
                ejection = backend.ejection
                if ejection.active:
                    until = None if ejection.until > self.now() + 1e6 else ejection.until
                    why = backend.reasons.get(Skipped.EJECTED, "")
                    facts.append(
                        BackendEjected(name, backend.name, None, why, until, False, ejection.began_at, ejection.rule)
                    )
        return facts

    def _settle_columns(self, plane: DataPlane) -> None:
        """Have a column of the table for each backend, of this version. One that is gone keeps its column until nobody knows it any more, or
        has anything there; what was heard of it is forgotten at once.
        """
        present = {(name, backend) for name, cluster in plane.clusters.items() for backend in cluster.pool.backends}
        for heard in (self._probes, self._agents):
            for key in [key for key in heard if key not in present]:
                del heard[key]
        for key in [key for key in self._columns if key not in present]:
            without = self._gone.setdefault(key, self._version)
            if self.table.load(self._columns[key]) == 0 and all(life.version >= without for life in self.lives):
                self._free_columns.append(self._columns.pop(key))
                del self._gone[key]
        for key in present:
            self._gone.pop(key, None)
            if key not in self._columns:
                if self._free_columns:
                    self._columns[key] = self._free_columns.pop()
                elif self._next_column < COLUMNS:
                    self._columns[key] = self._next_column
                    self._next_column += 1
                else:
                    _log.warn(
                        "{pool}/{backend} is counted by each worker for itself: the table is full",
                        pool=key[0],
                        backend=key[1],
                    )

    # Whether they live, and what they have counted.

    def _look(self) -> None:
        for life in list(self.lives):
            if life.serving:
                self._look_at(life)
        for slot in range(self.count):
            if not any(life.accepting for life in self.lives if life.slot == slot):
                self._pass_on(slot)
        if self.now() >= self._report_at:
            self._report_at = float("inf")
            self.reports.refresh().addBoth(self._reported)

    def _reported(self, _: object) -> None:
        self._report_at = self.now() + self.reports.cost_s / _REPORTS_PART

    def _look_at(self, life: Life) -> None:
        """See whether anything moves in a worker. For one that hangs others accept, and it is killed if it does not come back."""
        beat = self.table.slots[life.slot][BEAT]
        moves, life.beat = beat != life.beat, beat
        life.still = 0 if moves else life.still + 1
        if life.silent and moves:
            _log.warn("worker {slot} (process {pid}) moves again", slot=life.slot, pid=life.pid)
            life.silent = False
            life.be_patient()
            self._cover()
        elif life.still == _MOST_STILL and not life.silent:
            _log.error(
                "nothing moves in worker {slot} (process {pid}): killed in {s:g} s",
                slot=life.slot,
                pid=life.pid,
                s=_HANGS_S,
            )
            life.silent = True
            self.table.slots[life.slot][SERVES] = 0
            self.kill_later(life, _HANGS_S)
            self._look_settled()
            self._cover()

    # Questions.

    def ask(self, question: str, arguments: Mapping[str, Any]) -> "Deferred[dict[Hashable, bytes]]":
        """What the workers that serve, or drain, answer to a question, by their lives; those that do not in time are left out."""
        answers: dict[Hashable, bytes] = {}
        # Nobody waits for one that hangs.
        asked = [life for life in self.lives if life.version and life.linked and not life.silent]
        if not asked:
            return succeed(answers)
        done: Deferred[dict[Hashable, bytes]] = Deferred()
        left = len(asked)

        def over(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0 and not done.called:
                timer.cancel()
                done.callback(answers)

        def late() -> None:
            if not done.called:
                done.callback(answers)

        timer = self._reactor.callLater(_ANSWER_S, late)
        for life in asked:
            answer = life.link.callRemote(Ask, question=question, arguments=json.dumps(arguments))
            answer.addCallback(self._read, life, answers)
            answer.addErrback(_not_answered, life, question)
            answer.addBoth(over)
        return done

    def _read(self, found: dict[str, Any], life: Life, answers: dict[Hashable, bytes]) -> None:
        answers[life] = read_memory_file(found["answer"])
        self._send(life, Read, number=found["number"])

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
        self._look_settled()
        for life in self.lives:
            life.leaving = True
            if life.imported:  # it may have clients from there on, whether it has said so yet or not
                self._send(life, Leave, most_s=most_s)
                self.kill_later(life, most_s + _KILL_S)
            else:
                life.be_patient()
                life.kill()
        self._close_sockets()
        done = self._done
        self._finish_if_over()
        return done

    def _close_sockets(self) -> None:
        for sock in self._sockets.values():
            sock.close()  # else they are queued whom nobody accepts any more
        self._sockets.clear()
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

    def lives_of(self, slot: int) -> list[Life | None]:
        """Who is in a slot, and who leaves it; None where nobody is."""
        found = [life for life in self.lives if life.slot == slot]
        staying: list[Life | None] = [life for life in found if not life.leaving]
        return [*(staying or [None]), *(life for life in found if life.leaving)]

    def covers(self, slot: int) -> int | None:
        """The slot of the worker that accepts for one without its own; None where there is none."""
        numbers = {number for numbers in self._slots[slot].values() for number in numbers}
        return next(
            (
                one.slot
                for one in self.lives
                if one.accepting and one.slot != slot and numbers & {n for those in one.sockets.values() for n in those}
            ),
            None,
        )

    def in_flight(self, pool: str, backend: str) -> int:
        """How many requests all have in flight at a backend, now; at one that was removed too, as long as any has."""
        column = self._columns.get((pool, backend))
        return 0 if column is None else self.table.load(column)

    @property
    def settled(self) -> bool:
        """Whether all that serve go by what holds now."""
        return not self._scheduled and all(life.version == self._version for life in self.lives if life.accepting)

    def settle(self) -> "Deferred[None]":
        """Fires when all go by what holds now, or have had time enough."""
        if self.settled:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._unsettled[done] = self._reactor.callLater(_SETTLE_S, self._give_up, done)
        return done

    def _give_up(self, done: "Deferred[None]") -> None:
        _log.warn("some workers do not go by what holds now after {s:g} s", s=_SETTLE_S)
        del self._unsettled[done]
        done.callback(None)

    def _look_settled(self) -> None:
        # At a stop nobody is to wait for what does not come any more.
        if self._unsettled and (self.settled or self._done is not None):
            waiting = dict(self._unsettled)
            self._unsettled.clear()
            for done, timer in waiting.items():
                timer.cancel()
                done.callback(None)

    @property
    def ready(self) -> bool:
        """Whether every slot has a worker that serves."""
        return all(any(one.slot == slot and one.serving for one in self.lives) for slot in range(self.count))

    def now(self) -> float:
        """Monotonic seconds."""
        return float(self._reactor.seconds())


def clones_of(sock: socket.socket, count: int) -> list[socket.socket]:
    """A listening socket and others at the same address, one for each slot (SO_REUSEPORT): the kernel spreads connections over those that
    listen. A unix socket is shared by all; so is one where the kernel allows no other: whose port or user is not ours, as with a service
    manager's.
    """
    if sock.family == socket.AF_UNIX:
        return [sock] * count
    clones = [sock]
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(count - 1):
            clone = socket.socket(sock.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            clones.append(clone)
            clone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            clone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if sock.family == socket.AF_INET6:
                dual = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                clone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, dual)
            clone.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clone.bind(sock.getsockname())
    except OSError as error:
        for clone in clones[1:]:
            clone.close()
        _log.warn(
            "all workers share the socket at {address}: {error}",
            address=address_of(sock),
            error=error.strerror or error,
        )
        return [sock] * count
    return clones


def _not_answered(failure: Failure, life: Life, question: str) -> None:
    if not failure.check(ConnectionLost, ConnectionDone, HasEndedError):  # who has ended answers nothing
        _log.warn(
            "worker {slot} cannot answer {question}: {why}",
            slot=life.slot,
            question=question,
            why=failure.getErrorMessage(),
        )


def _probed(pool: str, backend: str, result: ProbeResult) -> Probed:
    return Probed(pool, backend, result.passed, result.reason, result.silent, result.busy, result.said, result.asked_at)
