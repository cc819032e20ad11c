"""One story of the fault network: a balancer, its clients and its backends, all from one seed, on virtual time."""

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

from faults.agents import Agents
from faults.clients import Client
from faults.climate import settings, weather, with_hedging
from faults.kernel import Kernel, ReactorDescriptor
from faults.ledger import Change, Generations, Members, Moment, Record, TakenOut, Try, taken_out
from faults.mirroring import Mirroring
from faults.naming import BACKEND, Naming
from faults.operator import ASKED, ENDED, Operator
from faults.panicking import panicked, with_panic
from faults.securing import Securing
from faults.servers import Server
from faults.tape import PUT, Tape, TownNetwork
from faults.tempers import tempers
from faults.timing import Hours, Process, Reactor, WallClock, production_runtime, with_dial
from faults.turns import Line
from faults.web import site_of, standing_wall_clock
from twisted.logger import LogLevel, globalLogPublisher

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core import record as core_record
from twisted_lb.core.backend import BACKUP, AdminState, Backend, BackendSpec
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.events import AdminChanged, BackendDown, BackendEjected, BackendReturned, EjectionWithheld, Event
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.net.clock import Clock
from twisted_lb.net.over_reactor import release
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.runtime import Runtime
from twisted_lb.plan import DEFAULT
from twisted_lb.testing import Balanced, Faults, HeapClock
from twisted_lb.testing.balanced import runtime_of

LB = "lb:8080"
LB_ADDRESS = "10.6.0.1:8080"  # where backends are told of it, as an address
START = 1000.0
WALL_CLOCK = "wall clock"
WAITED = (Outcome.TIMED_OUT, Outcome.CUT_SHORT)
UNHEARD = (Outcome.REFUSED, Outcome.CONNECT_TIMEOUT)  # nobody listened
RAMP_LATE_S = 1.0
ADMIN = [AdminState.DRAIN, AdminState.MAINT]


class Town:
    """Everything of one seed. `hear` is told what happens, as a line. Without `steps` its wall clock does not step."""

    def __init__(self, seed: int, hear: Callable[[str], None] | None = None, *, steps: bool = True) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.operator = Operator(seed)
        self.naming = Naming(seed, wanted=not self.operator.members)
        self.agents = Agents(seed, wanted=not self.naming.on)
        self.mirroring = Mirroring(seed, wanted=not self.naming.on)
        self.clock = HeapClock(START)
        self._hear = hear
        self.records: list[Record] = []
        self.led = 0  # by a route that a request has to be like
        self.paused = 0  # attempts that have waited before (backoff)
        self.refused: dict[str, int] = {}  # what got no exchange: the ids in the log, with their status
        self.changes: list[Change] = []
        # When a backend was ejected, wherever it may have been asked, and for what; and when checks took one out.
        self.ejections: list[tuple[Moment, set[str], str]] = []
        self.downs: list[tuple[Moment, set[str]]] = []
        # Who was taken out for serving badly, and how often somebody would have been.
        self.taken_out: list[TakenOut] = []
        self.withheld = 0
        self.still_out: list[str] = []  # of whom it was told that they are back, and are not
        self.logged: list[dict[str, Any]] = []
        self.left: dict[str, object] = {}
        self.closed: Moment | None = None
        self.commanded = False  # whether any backend was to be left out for a while
        self.faults = Faults(self.clock, rng, weather(rng), lambda fault: self.note("network", str(fault)))
        hear_tape = None if hear is None else lambda tape, e: self.note(tape.name, f"{e.what} {_shown(e.data)}")
        self.network = TownNetwork(self.clock, self.faults, rng, random.Random(f"{seed}/connects"), hear_tape)
        self.network.connects.full_share = self.faults.chances.refused
        names = [f"{name}:80" for name in "abcd"[: rng.choice([1, 2, 2, 3, 4])]]
        self.servers = [self._server(name) for name in names]
        finish_half_closed = rng.random() < 0.3
        self.network.web = self.web = self.operator.web
        self._kernel = self.network.kernel = Kernel(self.clock, rng) if rng.random() < 0.75 else None
        self.securing = Securing(seed, sockets=self._kernel is not None, web=self.web, named=self.naming.on)
        self.address = LB_ADDRESS if self.securing.greets else LB
        self.hours = Hours(seed, sockets=self._kernel is not None, web=self.web)
        self.wall = WallClock(self.clock)
        self.runtime = self._runtime()
        self.network.now = self.runtime.clock
        self.securing.begin(self.network, self.runtime)
        self.poller = self.network.poller = cast(EpollPoller | None, self.runtime.poller)
        if self._kernel is not None:
            self._kernel.after = self.network.look_at_buffers
        self.process = self.network.process = Process(self.clock, self._hold)
        self._steps = steps
        config = settings(rng, names, finish_half_closed=finish_half_closed)
        more_addresses = [f"{host}:80" for host in self.naming.more_hosts]
        self.servers += [self._server(address) for address in (*self.operator.more_addresses, *more_addresses)]
        for server in self.servers:
            server.bulky = self.operator.bulky
            server.manners.treatments |= self.operator.treatments
            server.logins = self.operator.logins
            server.say_of_themselves(self.agents)
            self.securing.serve(server)
        for address, temper in tempers(seed, names).items():
            server = next(one for one in self.servers if one.address == address)
            server.begin(temper, random.Random(f"{seed}/{address}"))
        levels = {str(spec.address): spec for spec in config.backends}
        specs = [
            replace(one, priority=levels[str(one.address)].priority, backup=levels[str(one.address)].backup)
            for one in self.operator.first_specs(names)
        ]
        if self.naming.on:
            self.naming.begin(self, [server.address.removesuffix(":80") for server in self.servers])
            specs = [BackendSpec.parse(BACKEND)]
        self.line = Line(seed, config)
        config = self.line.configured(with_hedging(seed, with_panic(seed, config)))
        self.mirroring.begin(self.network, seed, self.note)
        self._build(self.agents.configured(config).model_copy(update={"backends": tuple(specs)}))
        self.clients = [self._client(f"c{index}") for index in range(rng.choice([1, 2, 4, 6, 8]) + self.line.more)]
        for client in self.clients:
            client.eager = self.operator.bulky
            client.logins = self.operator.logins
            client.mark = self.line.mark
            self.securing.dress(client)

    @property
    def foreign(self) -> bool:
        """Whether the transports of clients are not the balancer's own: it cannot half-close them."""
        return self._kernel is None or self.web

    # Making it.

    def _server(self, address: str) -> Server:
        return Server(self.network, address, self.rng, lambda text: self.note(address, text))

    def _client(self, name: str) -> Client:
        return Client(self.network, self.address, name, self.rng, lambda text: self.note(name, text))

    def _runtime(self) -> Runtime:
        """Time and sockets: a test's, or production's."""
        now, kernel = Clock(self.clock.seconds), self._kernel
        self._reactor: Reactor | None = None
        if kernel is None:
            return with_dial(runtime_of(self.clock, self.network, now=now), self.wall, self.seed)
        poller = kernel.poller(now, self.clock.callLater, self._poller_lost)
        greeting = self.network if self.securing.dials else None
        if self.hours.kind == "given":
            made = runtime_of(self.clock, self.network, now=now, poller=poller)
            return with_dial(made, self.wall, self.seed, None, greeting)
        self._reactor = Reactor(self.clock, self.wall, kernel)
        made = production_runtime(self.hours.kind, self._reactor, self.clock, self.wall, kernel)
        return with_dial(made, self.wall, self.seed, self.network, greeting)

    def _hold(self, held: bool) -> None:
        assert self._kernel is not None
        self.note("town", "holds the process" if held else "lets the process go on")
        self._kernel.hold(held=held)

    def _build(self, config: LoadBalancerConfig) -> None:
        runtime = self.runtime
        self.balanced = Balanced(
            self.configured(config),
            self.network,
            address=self.address,
            hear=self._heard_event,
            observers=(self._heard_end,),
            runtime=runtime,
            # Behind it: what it says may open who is down, where there is panic, and is no event then.
            probed=lambda *_: runtime.soon(self.note_usable),
        )
        self.follow()
        self.frontend = self.balanced.frontend
        self.listener = self.balanced.listener
        if self.securing.arrives:
            self.securing.arrivals(self.frontend, runtime, self.network)
        if self.web:
            self.listener.stop()
            site = site_of(self.frontend, self._reactor if self.hours.kind == "own" else self.clock)
            self.listener = self.network.listen(self.address, lambda: site.buildProtocol(None))
        self.cluster = self.balanced.cluster
        self.pool = self.cluster.pool
        self.deadlines = runtime.deadlines
        self.members = Members(self.network, self.pool)
        self.members.begin(self.naming.specs() if self.naming.on else config.backends)
        self.generations = Generations(self.moment(), config)
        self.note_usable()

    def configured(self, config: LoadBalancerConfig) -> LoadBalancerConfig:
        """These settings, with all that no generation of them says."""
        return self.securing.over(self.mirroring.over(config))

    def follow(self) -> None:
        """The balancer goes by another configuration."""
        plane = self.balanced.data_plane
        self.mirroring.follow(plane.clusters)
        self.securing.follow(plane)

    @property
    def checked(self) -> bool:
        """Whether anybody checks the backends."""
        return self.cluster.checks is not None

    def _poller_lost(self) -> None:
        raise AssertionError("the poller was lost")

    def moment(self) -> Moment:
        """Now, behind all that has happened so far."""
        return Moment(self.network.tapes.tick(), self.clock.seconds())

    @property
    def client_tapes(self) -> list[Tape]:
        """The connections of clients."""
        return [tape for tape in self.network.tapes.all if tape.name.startswith("client ")]

    # What is heard.

    def note(self, who: str, text: str) -> None:
        if self._hear is not None:
            self._hear(f"{self.clock.seconds() - START:8.3f}  {who:<22} {text}")

    def _heard_event(self, event: Event) -> None:
        if getattr(event, "pool", DEFAULT) != DEFAULT:
            self.note("balancer", f"{event}")
            return
        self.note_usable()
        if isinstance(event, BackendEjected) and event.rule is EjectionRule.REFUSED:
            assert event.outcome is not None
            self.ejections.append((self.moment(), self._places(event.backend_name), event.outcome.name))
        elif isinstance(event, BackendEjected):
            backends = self.pool.backends
            ejected = taken_out(
                backends[event.backend_name],
                self._places(event.backend_name),
                self.moment(),
                event,
                list(backends.values()),
            )
            self.taken_out.append(ejected)
        elif isinstance(event, BackendReturned):
            record = self.pool.backends[event.backend_name]
            if record.ejection.active:
                self.still_out.append(f"{event}, and it is out")
            for ejected in self.taken_out:
                if ejected.record is record:
                    ejected.back = min(ejected.back, event.at)
        elif isinstance(event, EjectionWithheld):
            self.withheld += 1
        elif isinstance(event, BackendDown):
            self.downs.append((self.moment(), self._places(event.backend_name)))
        elif isinstance(event, AdminChanged) and event.backend_name in self.members.now:
            moment = self.moment()
            self.members.now[event.backend_name].wanted(event.admin, moment.when, moment.at)
        self.note("balancer", f"{event}")

    def _places(self, name: str) -> set[str]:
        """Where a backend may have been asked."""
        record = self.pool.backends[name]
        return {str(record.address)} | self.members.places(record)

    def note_usable(self) -> None:
        place = self.members.place if self.naming.on else lambda backend: str(backend.address)
        usable = [b for b in self.pool.backends.values() if b.usable]
        primaries = any(b.level != BACKUP and b.weighing.configured for b in usable)
        standing_by = frozenset(place(b) for b in usable if primaries and b.level == BACKUP)
        # What it says while it is made is said before anything is settled for the town.
        rules = self.generations.now.panic
        others = frozenset(map(place, panicked(self.pool.backends.values(), rules)))
        unwanted = frozenset(place(b) for b in self.pool.backends.values() if b.admin is not AdminState.READY)
        well = frozenset(
            place(b)
            for b in self.pool.backends.values()
            if b.admin is AdminState.READY and b.weighing.configured and b.health.up and not b.ejection.active
        )
        keeping = frozenset(
            place(b)
            for b in (self.pool.backends.values() if self.generations.now.affinity.said else ())
            if b.admin is not AdminState.MAINT and b.health.up and not b.ejection.active
        )
        usable_now = frozenset(map(place, usable))
        self.changes.append(Change(*self.moment(), usable_now, standing_by, others, unwanted, well, keeping))

    def _heard_end(self, ended: core_record.Record) -> None:
        late = ended.local_reply is Refusal.LATE
        if isinstance(ended.local_reply, Refusal) and ended.local_reply.status != 503 and not late:
            self.refused[ended.request_id.decode()] = ended.status
            self.note("balancer", f"refuses what is no request: {ended.status}, {ended.detail}")
            return
        self.led += ended.route.startswith("routes[")
        self.paused += sum(one.pause is not None for one in ended.attempts)
        name = ended.target.decode().removeprefix("/r/")
        last = ended.last
        hedges = [one for one in ended.attempts if one.hedge]
        member = None if last is None else self.members.of(last.lease.backend)
        record = Record(
            *self.moment(),
            ended.began,
            name,
            ended.method.decode(),
            len(ended.attempts),
            "" if ended.outcome is None else ended.outcome.name,
            "" if ended.ended_by is None else ended.ended_by.name,
            ended.status,
            member,
            self._is_unread(name, set() if last is None else self.members.places(last.lease.backend)),
            ended.request_id.decode(),
            last is not None and last.outcome in WAITED and self._is_unheard(name),
            ended.queued_s > 0,
            self._waits(ended),
            ended.local_reply is Refusal.NO_BACKEND,
            len(self.cluster.waiting),
            any(backend.admin is AdminState.READY for backend in self.pool.backends.values()),
            tuple(Try(one.began, one.ended_at, one.lease.backend) for one in ended.attempts),
            ended.gathered_s,
            self.members.of(hedges[0].lease.backend) if hedges else None,
            bool(hedges) and hedges[0] is last,
        )
        self.records.append(record)
        self.operator.hears(ENDED)
        self.note(
            "balancer",
            f"ends {record.name}: {record.ended_by} {record.status}, {record.attempts} attempts",
        )

    def _is_unheard(self, name: str) -> bool:
        """Whether what its backend has said lies here, unread."""
        head = f" /r/{name} ".encode()
        tapes = [one.tape for one in self.network.dials if one.tape is not None and head in one.tape.all(PUT)]
        return self._kernel is not None and any(tape.unheard(self.clock.seconds()) for tape in tapes)

    def _waits(self, ended: core_record.Record) -> list[tuple[float, float]]:
        """When it waited in the queue, be it for no time at all behind an attempt that nobody has listened to."""
        name = ended.target.decode().removeprefix("/r/")
        dials = [one for one in self.network.dials if one.wanted_by == name]
        failed = iter([one.failed_when for one in dials if one.failed in ("REFUSED", "CONNECT_TIMEOUT")])
        # Who waited for a name server in vain has dialled nobody.
        nobody = ended.ended_at
        failed_at = {a: next(failed, nobody) for a in ended.attempts if a.outcome in UNHEARD}
        made, attempt = [], ended.last  # one that was beside another one is before it
        while attempt is not None:
            made.insert(0, attempt)
            attempt = attempt.before
        since = [ended.began + ended.gathered_s, *(failed_at.get(attempt) for attempt in made)]
        # Of two at a time the one that was made beside the other one is before it, though it began later.
        until = [*(min(one.began for one in made[at:]) for at in range(len(made))), ended.ended_at]
        until[0] = min(until)
        waits = [(begins, ends) for begins, ends in zip(since, until, strict=True) if begins is not None]
        waits = waits if waits[0][1] > waits[0][0] else waits[1:]
        return [(begins, ends) for begins, ends in waits if ends >= begins]

    def _is_unread(self, name: str, places: set[str]) -> bool:
        """Whether nobody but the balancer keeps a request from going on."""
        host = f"10.0.0.{1 + int(name.partition('r')[0][1:])}"
        clients = [tape for tape in self.network.tapes.all if tape.name.startswith(f"client {host}:")]
        if not clients[-1].incoming.bytes:
            return False
        names = {f"backend {place}" for place in places}
        backends = [tape.outgoing for tape in self.network.tapes.all if tape.name in names]
        now = self.clock.seconds()
        return not any(pipe.queued or (pipe.held_at[0] == now and pipe.held_at[1]) for pipe in backends)

    def _heard_log(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None or event.get("log_level") is LogLevel.critical:
            self.logged.append(event)

    # Living it.

    def run(self) -> "Town":
        """The whole story, to its end, and what is left over then."""
        globalLogPublisher.addObserver(self._heard_log)
        try:
            with (
                nullcontext() if self._kernel is None else self._kernel.system_calls(),
                standing_wall_clock() if self.web else nullcontext(),
            ):
                self._live()
                self._end()
        finally:
            globalLogPublisher.removeObserver(self._heard_log)
        return self

    def _live(self) -> None:
        rng = self.rng
        for at_s, by_s in self.hours.steps if self._steps else ():
            self.clock.callLater(at_s, self._step, by_s)
        if self.hours.pause is not None:
            self.clock.callLater(self.hours.pause[0], self.process.hold, self.hours.pause[1])
        for place, client in enumerate(self.clients):
            begins_s = rng.uniform(0, 6.0) * (8 if self.naming.on else 1)
            rushes = place >= len(self.clients) - self.line.more
            self.clock.callLater(self.line.rush_s + begins_s / 10 if rushes else begins_s, client.connect)
        if rng.random() < 0.3:
            self.clock.callLater(rng.uniform(0, 5.0), self._told, self._command, rng.choice(ADMIN))
        self.balanced.data_plane.self_check.every_s = 1.0
        self.operator.begin(self)
        if self.naming.on:
            self.naming.live()
        self.network.asked = lambda: self.operator.hears(ASKED)
        for _ in range(30):
            self.clock.advance(5.0)
            if self._kernel is None:
                self.network.look_at_buffers()
            quiet = all(client.done for client in self.clients) and self.operator.over and self.naming.over
            if self.clock.seconds() > START + 8.0 and quiet:
                break

    def _step(self, by_s: float) -> None:
        self.note(WALL_CLOCK, f"steps by {by_s} s")
        self.wall.step(by_s)

    def _command(self, admin: AdminState) -> None:
        if not self.pool.backends:
            return
        name = self.rng.choice([*self.pool.backends])
        if self.naming.on and self.rng.random() < 0.5:
            name = BACKEND
        self._tell(name, admin)
        if admin is not AdminState.READY:
            self.clock.callLater(self.rng.uniform(0, 4.0), self._told, self._command_ready, name)

    def _told(self, command: Callable[..., None], *words: object) -> None:
        """A process that is held hears nothing."""
        self.commanded = True
        self.process.run(lambda: command(*words))

    def _tell(self, name: str, admin: AdminState) -> None:
        if self.naming.on and name == BACKEND:
            self.members.admin = admin
        self.cluster.command(name, admin)

    def _command_ready(self, name: str) -> None:
        if name in self.pool.backends or (self.naming.on and name == BACKEND and self.closed is None):
            self._tell(name, AdminState.READY)

    def close(self) -> None:
        """The end of the balancer, in the middle or at last."""
        self.members.change([], self.balanced.data_plane.close)
        self.closed = self.moment()
        self.note_usable()

    def _end(self) -> None:
        """Every wait ends by itself; then the balancer is stopped, and nothing may be left."""
        self.note("town", "calms down")
        self.faults.calm()
        for server in self.servers:
            server.calm = True
            server.thaw()
        self.mirroring.calm()
        self.network.connects.full_share = 0.0
        for client in self.clients:
            client.stop()
            if client.transport is not None and self.web and client.transport.disconnecting:
                # Transports as Twisted's read no more once they close: two that have more to send than there is room for wait
                # for one another, and twisted.web does not limit the time of that.
                client.transport.abortConnection()
            elif client.transport is not None:
                client.transport.loseConnection()
                client.transport.resumeProducing()
        self.clock.advance(12.0)
        self.clock.advance(self.line.abandoned_s)  # for so long a place is held of a request that has ended just now
        self._leftover(
            exchanges=self.frontend.exchanges,
            clients=len(self.frontend.clients),
            inside=self.frontend.gate.open,
            in_flight=sum(member.record.in_flight for member in self.members.all),
            handshakes=self.frontend.handshakes.open + self.frontend.handshakes.waiting,
            busy_connections=self.cluster.open - self.cluster.idle,
            held=self.runtime.memory.taken,
            wait_to_be_held=self.runtime.memory.waiting,
        )
        clusters = [self.cluster, *self.balanced.data_plane.leaving.clusters]
        self._leftover(hedges=sum(one.hedges for one in clusters), waits=sum(one.waits.waiting for one in clusters))
        self._leftover(ramps=[one for one in self.pool.backends.values() if self._ramps_on(one)])
        plane = self.balanced.data_plane
        self._leftover(
            frontends_leaving=len(plane.leaving.frontends),
            clusters_leaving=len(plane.leaving.clusters),
            another_frontend=plane.frontends[DEFAULT] is not self.frontend,
            another_cluster=plane.clusters[DEFAULT] is not self.cluster,
        )
        if self.closed is None:
            self.close()
        self._leftover(mirrored=self.mirroring.running)
        self.clock.advance(1.0)
        self._leftover(mirroring=self.mirroring.counts.running, to_mirrors=self.mirroring.open)
        self._leftover(
            connections=self.cluster.open,
            idle=self.cluster.idle,
            deadlines=self.deadlines.armed,
            slots=[member for member in self.members.all if member.record.slot >= 0],
        )
        if self._kernel is not None and self.poller is not None:
            self._leftover(sockets=len(self._kernel.sockets))
        self.clock.advance(60.0)
        self._leftover(
            ends=self.network.open_connections,
            wheel=self.deadlines.armed,
            delayed_calls=self._calls_to_come(),
        )
        if self._kernel is not None and self.poller is not None:
            if self._reactor is not None:
                release(self.runtime, self._reactor)
            else:
                self.poller.stop()
            files = [file for file in self._kernel.files.values() if not isinstance(file, ReactorDescriptor)]
            self._leftover(files=files, watched=self.poller.watched)

    def _ramps_on(self, backend: Backend) -> bool:
        """Whether a slow start has not ended in its time; it goes on with each look at the pool."""
        most = self.generations.now.slow_start.window_s + RAMP_LATE_S
        return backend.weighing.ramping and self.clock.seconds() - backend.weighing.since > most

    def _calls_to_come(self) -> list[object]:
        """The alarm of production's timers may be set for a call that was taken back."""
        calls = self.runtime.time.getDelayedCalls()
        return [*calls, *(self.clock.getDelayedCalls() if self._reactor is None else ())]

    def _leftover(self, **things: object) -> None:
        self.left.update({name: thing for name, thing in things.items() if thing})


def _shown(data: bytes) -> str:
    line = data.partition(b"\r\n")[0][:60]
    return f"{len(data)} bytes {line!r}" if data else ""
