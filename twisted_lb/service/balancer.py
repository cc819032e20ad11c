"""The composition root: a configuration becomes a running load balancer. The only place that names everything together.

`LoadBalancerService` is what `twistd lb` runs and what a Twisted program can add to its own services:

    LoadBalancerService(LoadBalancerConfig(backends=["127.0.0.1:8081"], listen={"port": 8080})).setServiceParent(app)
"""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pwd import getpwuid
from typing import Any, Final

from twisted.application.service import IProcess, MultiService
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_lb import __version__, process
from twisted_lb.access_log.destinations import Destination, Owner
from twisted_lb.admin.dashboard import Dashboard
from twisted_lb.admin.door import AdminDoor, Doors
from twisted_lb.admin.doors import default_path
from twisted_lb.admin.metrics import metrics_text
from twisted_lb.admin.operator import Refused, Reloaded
from twisted_lb.admin.readiness import Readiness, Verdict
from twisted_lb.build_info import build
from twisted_lb.certificate_doubts import certificate_doubts
from twisted_lb.config import LoadBalancerConfig, TimeoutsConfig
from twisted_lb.config.base import KeyPath
from twisted_lb.config.doubts import SAID_EACH_TIME, doubts, not_resolved
from twisted_lb.config.objects import objects_of
from twisted_lb.config.problems import Problem
from twisted_lb.config.replacing import backend_of, with_backends, with_timeouts
from twisted_lb.core.backend import BackendSpec, refuse_twice, specs_of
from twisted_lb.core.events import Event
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.core.overlay import Overlay
from twisted_lb.core.share import ALONE
from twisted_lb.data_plane import DataPlane
from twisted_lb.discovery.provider import Means, Provider
from twisted_lb.discovery.providers import make_provider
from twisted_lb.draining import Grace
from twisted_lb.errors import ConfigError, StartError, report_start_errors
from twisted_lb.event_log import log_event
from twisted_lb.log_file import LogFile
from twisted_lb.log_files import LogFiles
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.over_reactor import make_monotonic, release, runtime_of
from twisted_lb.net.runtime import Runtime
from twisted_lb.openings import STATUS, Change, Openings, openings
from twisted_lb.operating import Operating
from twisted_lb.operating.sight import Sight
from twisted_lb.own_process import OwnProcess
from twisted_lb.plan import DEFAULT, Files, plan_of
from twisted_lb.plan_diff import PlanDiff, diff_of, of_process, plan_diff
from twisted_lb.planned import Plan, TargetsPlan
from twisted_lb.probes import ProbeResult
from twisted_lb.process import raise_descriptor_limit, room_for_clients
from twisted_lb.reload import Reload, Source
from twisted_lb.resolving import Named, Resolving, Unresolved, names_in
from twisted_lb.service.in_force import InForce
from twisted_lb.service.status_door import StatusDoor
from twisted_lb.service.upgrade import HELD, Upgrade
from twisted_lb.service.words import places, said_of
from twisted_lb.signals import while_stopping
from twisted_lb.span_export import SpanExport
from twisted_lb.state_file import SIGNATURES, StateFile, load_state, state_of
from twisted_lb.watch import Watch
from twisted_lb.workers.codec import unsendable
from twisted_lb.workers.crew import Crew
from twisted_lb.workers.facts import AgentSaid, Probed
from twisted_lb.workers.handover import Handover, handed_over
from twisted_lb.workers.inheritance import Inheritance, of_handover, of_orphans
from twisted_lb.workers.slots import clones_of

_SEED_BITS: Final = 32

_log = Logger(namespace="twisted_lb.service")


class LoadBalancerService(MultiService):
    """A load balancer as a Twisted service.

    It binds in `privilegedStartService`, so that `twistd --uid` works, or in `startService` where nobody called that.
    `stopService` returns a Deferred: running exchanges finish first, for at most `drain_s`, or, after `leave_patiently`,
    for `tunnel_drain_s`. `reactor` is the global one unless given. With `listening` off it has no port of its own: a
    resource brings the requests to its `engine`. With `whole_process` it is what the process is for: it hears the signals,
    takes sockets of a service manager and of a running instance, hands them on, tunes the process, and lets the reactor
    count by the monotonic clock. `source` is where the configuration comes from again at a reload; `user` is whom the process is going to be, if that is another one. Everything that is decided by chance follows from `seed`, which the line at start names.
    Raises StartError when it cannot listen.
    """

    def __init__(
        self,
        config: LoadBalancerConfig,
        reactor: Any = None,
        *,
        listening: bool = True,
        seed: int | None = None,
        whole_process: bool = False,
        source: Source | None = None,
        user: int | None = None,
        group: int | None = None,
    ) -> None:
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor as global_reactor

            reactor = global_reactor
        if whole_process:
            make_monotonic(reactor)
        if config.workers != 1 and not (whole_process and listening):
            # A process that others have too cannot be many, and objects of a program cannot go to another one.
            raise ConfigError([Problem(("workers",), "workers need --config")])
        self.config = config
        self._started_by = config
        self.user: Final = user
        self.group: Final = group
        self._files: Files = Files()
        self._tried: Files = self._files  # those of the last reload, applied or not
        self._plan: Plan = plan_of(config, files=self._files)
        self._reactor: Final = reactor
        self._listening: Final = listening
        self._whole_process: Final = whole_process
        self._seed: Final = random.getrandbits(_SEED_BITS) if seed is None else seed
        self._log_files: Final = LogFiles(config.log.file_bytes, config.log.old_files)
        self._log_file: Final = LogFile(self._owner)
        self._spans: Final = SpanExport(reactor)
        self._openings: Openings | None = None
        self._own: Final = OwnProcess(self, reactor, config.takeover, self._all_own) if whole_process else None
        self._status: Final = StatusDoor(self.readiness, reactor)
        self._readiness: Readiness | None = None
        self._plane: DataPlane | None = None
        self._draining: DataPlane | None = None
        self._grace: Grace | None = None
        self._source: Final = source
        self._reload: Final = (
            None
            if source is None
            else Reload(source, self._prepare, self._settled, self._doubts, reactor, self._files.anew, self._stays)
        )
        self._watch: Watch | None = None
        self._state: StateFile | None = None
        self._resolving: Resolving | None = None
        self._unresolved: Unresolved | None = None
        self._limit: int = 0  # of descriptors
        self._doubted: dict[str, str] = {}  # what was said of the configuration, by what it is wherever it stands
        self._operating: Operating | None = None
        self._crew: Crew | None = None  # the workers, where there are any
        self._inheritance: Inheritance | None = None  # what a parent before this one has left
        self._pid_file: str = ""  # of the program before this one
        self._upgrade: Final = Upgrade(reactor, self._handed_over, self._no_upgrade, self._before_upgrade)
        self._clones: dict[
            socket.socket, list[socket.socket]
        ] = {}  # of listening sockets, for workers that are to begin
        self._admin: AdminDoor | None = None
        self._in_force: Final = InForce(source, config, lambda: self._files.digests)
        self._patient: bool = False  # the next stop gives tunnels and endless answers their time

    def privilegedStartService(self) -> None:
        """Bind the listeners while the process still has the privilege to."""
        report_start_errors()
        self._bind()
        super().privilegedStartService()

    def _bind(self) -> None:
        if self._openings is not None:
            return
        if self.config.workers != 1:
            _refuse_unsendable(self._plan)
        self._log_file.open(self._plan)
        if self._own is not None and self._user():
            self._log_files.give(*self._owner())
        if self._own is None:
            self._openings = openings(self._wanted(self.config, self._plan))
        else:
            self._own.refuse_shared()
            self._own.hear_signals()
            inheritance = self._inheritance = self._inherited()
            self._openings = openings(
                self._wanted(self.config, self._plan),
                takeover=self.config.takeover,
                environ=os.environ,
                before=[] if inheritance is None else inheritance.held,
            )
        self._bind_admin(self._openings)
        if self._workers > 1:
            self._clone(self._openings)

    def _inherited(self) -> Inheritance | None:
        """What a parent before this one has left: the program that this process was, or one that has died, and whose workers live."""
        try:
            handover = handed_over(os.environ)
        except ValueError as error:
            raise StartError(f"what the program before this one has left is not understood: {error}") from None
        if handover is not None:
            # Not before they are heard, and before anything is started that would not hear them.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
            self._pid_file = handover.pid_file
            if self._pid_file:
                self._reactor.addSystemEventTrigger("after", "shutdown", _unlink, self._pid_file)
            return of_handover(handover)
        if self._workers == 1:
            return None
        addresses = [one for listener in self._plan.listeners.values() for one in listener.addresses]
        found = of_orphans(addresses, self._user())
        if found is not None:
            _log.warn(
                "the parent before this one has died: its workers are found, and are followed by new ones: {pids}",
                pids=", ".join(f"process {one.pid}" for one in found.workers),
            )
        return found

    def _clone(self, opened: Openings) -> None:
        """Have a socket for each worker: those of a low port, and those of root's, are had while the process may."""
        known = {} if self._inheritance is None else dict(self._inheritance.clones)
        every = [one.sock for name in self._plan.listeners for one in opened.of(name)]
        self._clones = {sock: clones_of(sock, self._workers, known.pop(sock, ())) for sock in every}
        kept = {one.sock for one in opened.held}
        for sock, clones in known.items():  # of what is no listener any more
            for clone in clones:
                if clone is not sock or sock not in kept:
                    clone.close()

    def _bind_admin(self, opened: Openings) -> None:
        """Open the admin door, as far as that has to be done while the process has the privilege to."""
        given = {} if self._inheritance is None else self._inheritance.doors
        door = self._admin = AdminDoor(self._doors(opened), self._reactor, self._user(), given)
        if opened.predecessor is None:
            try:
                door.bind()
            except StartError:
                opened.close()
                self._openings = None
                raise

    def _doors(self, opened: Openings) -> Doors:
        """Where the admin door is to be. A socket that nobody has asked for is only for a process of our own."""
        admin, place = self.config.admin, self.config.admin.place
        path = admin.socket
        if path is None:
            path = default_path(self._called(opened), os.environ) if self._whole_process else ""
        return Doors(
            path=path,
            explicit=admin.socket is not None,
            mode=int(admin.mode, 8),
            group=admin.group,
            interface=None if place is None else place.interface,
            port=0 if place is None else place.port,
            where="" if place is None else place.where,
            local=admin.local,
            hosts=frozenset(admin.hosts),
            tokens={name: token.reveal() for name, token in admin.tokens.items()},
            read_tokens={name: token.reveal() for name, token in admin.read_tokens.items()},
        )

    def _called(self, opened: Openings) -> str:
        """What this balancer is called: by its file, or after the port of its first listener."""
        if self.config.name is not None:
            return self.config.name
        for one in opened.held:
            if one.name != STATUS and one.sock.family != socket.AF_UNIX:
                return str(one.sock.getsockname()[1])
        return "lb"

    def _user(self) -> int | None:
        """The user that the process is going to be: twistd's --uid, or that of the application."""
        return self._of_process("uid") if self.user is None else self.user

    def _owner(self) -> Owner:
        """The user and the group that the process is going to be, as twistd finds them: without a group that of the user."""
        user, group = self._user(), self._of_process("gid") if self.group is None else self.group
        if group is None and user is not None:
            with contextlib.suppress(KeyError):
                group = getpwuid(user).pw_gid
        return -1 if user is None else user, -1 if group is None else group

    def _of_process(self, name: str) -> int | None:
        """What the application, if there is one, has twistd make of its process."""
        root: Any = self
        while getattr(root, "parent", None) is not None:
            root = root.parent
        found = getattr(IProcess(root, None), name, None)
        return found if isinstance(found, int) else None

    def _all_own(self) -> list[OwnProcess]:
        """Of this balancer, and of the others that have the process together with it: those of one application."""
        root: Any = self
        while root.parent is not None:
            root = root.parent
        found: list[OwnProcess] = []
        services = [root]
        for service in services:  # it grows meanwhile
            if isinstance(service, LoadBalancerService) and service._own is not None:
                found.append(service._own)
            if isinstance(service, MultiService):
                services += service
        return found

    def _wanted(self, config: LoadBalancerConfig, plan: Plan) -> dict[str, tuple[ListenAddress, ...]]:
        """Where it listens, by what for."""
        if not self._listening:
            return {}
        status = config.status
        wanted = {name: listener.addresses for name, listener in plan.listeners.items()}
        return {**wanted, **({} if status is None else {STATUS: (status.address,)})}

    def startService(self) -> None:
        """Begin to balance."""
        report_start_errors()
        if self._whole_process:
            self._log_files.take_over()
        self._bind()
        assert self._openings is not None
        opened = self._openings
        self._limit = raise_descriptor_limit()
        workers = self._workers
        if workers > 1:
            self._crew = Crew(self._reactor, workers, self._seed, self._whose, self._inheritance)
        runtime = runtime_of(
            self._reactor,
            self._seed,
            self._nothing_moves,
            whole_process=self._whole_process,
            share=ALONE if self._crew is None else self._crew.table.of_parent(),
        )
        sight = None if self._crew is None else Sight(self._crew)
        operating = self._operating = Operating(self, runtime.wall.read, runtime.time, sight)
        if self._crew is None:
            self._log_file.write(runtime)
        else:
            self._log_file.leave()
        self._spans.follow(self._plan.traces, runtime)
        plane = self._plane = self._made(runtime, operating, opened)
        if self._crew is not None:
            plane.accepted_elsewhere = {name: [one.sock for one in opened.of(name)] for name in self._plan.listeners}
        operating.begin(plane, watched=self._whole_process)
        if self._inheritance is not None:
            operating.followed(_followed(self._inheritance))
        if self.config.state_file is not None:
            self._state = StateFile(self.config.state_file, lambda: plane.overlay, runtime.time, operating.signatures)
        self._watch_files(runtime.time)
        readiness = self._readiness = Readiness(
            lambda: {name: cluster.pool for name, cluster in plane.clusters.items()},
            runtime.time.seconds,
            start_s=self.config.ready_start_s,
            requires=self.config.ready_requires,
            unresolved=lambda: [name for cluster in plane.clusters.values() for name in cluster.unresolved],
            unlisted=lambda: plane.targets.unknown(plane.plan.pools),
        )
        self._status.serve(runtime, opened.of(STATUS))
        if self._admin is not None and self._admin.wanted:
            self._admin.begin(operating, runtime, Dashboard)
        super().startService()
        self._say_start(plane)
        self._unresolved = Unresolved(runtime, self._say_unresolved)
        self._unresolved.follow(self._plan)
        if self._crew is not None:
            self._recall(plane)
            clones, self._clones = self._clones, {}
            self._crew.begin(plane, plane.accepted_elsewhere, clones)
        if opened.predecessor is None:
            self._accept(plane)
        if self._own is not None:
            self._own.begin(
                runtime.time, opened, lambda: readiness.starting or self._workers_start, lambda: self._accept(plane)
            )

    def _recall(self, plane: DataPlane) -> None:
        """Know of backends what the program before this one knew."""
        inheritance, self._inheritance = self._inheritance, None
        for fact in () if inheritance is None else inheritance.facts:
            cluster = plane.clusters.get(fact.pool)
            if cluster is None:
                continue
            match fact:
                case Probed():
                    plane.hear_probe(fact.pool, fact.backend, fact.result())
                case AgentSaid():
                    cluster.hear_agent(fact.backend, fact.said)
                case _:
                    cluster.hear_elsewhere(fact)

    def _made(self, runtime: Runtime, operating: Operating, opened: Openings) -> DataPlane:
        """The data plane, on the sockets that were opened."""

        def provide(pool: str, targets: TargetsPlan) -> Provider:
            means = Means(runtime.time, runtime.stream(f"targets {pool}"), self._reactor)
            return make_provider(targets.where, targets.rules, means)

        crew = self._crew
        return DataPlane(
            runtime,
            self._plan,
            {} if crew is not None else {name: [one.sock for one in opened.of(name)] for name in self._plan.listeners},
            hear=self._hear,
            # Where workers have the clients: so many in all of them.
            room=lambda backends: room_for_clients(self._limit, backends) * self._workers,
            accepting=opened.predecessor is None,
            overlay=self._remembered(operating),
            changed=self._remember,
            provide=provide,
            probed=self._probed,
            agent_said=_not_said if crew is None else crew.agent_said,
            count_descriptors=self._whole_process,
            log_line=self._log_file.line,
            send_spans=self._spans.take,
            whose=operating.whose,
        )

    def _say_start(self, plane: DataPlane) -> None:
        """Log where it listens and over what it balances, and what is doubtful about that."""
        _log.info(
            "twisted_lb {version} ({build}) on {listeners}: {pools}; {status}{descriptors} descriptors, seed {seed}",
            version=__version__,
            build=build(),
            listeners=places(plane),
            pools=", ".join(said_of(name, pool) for name, pool in self._plan.pools.items()) or "no pool",
            status="".join(f"status on {one}, " for one in self._status.addresses),
            descriptors=self._limit,
            seed=self._seed,
        )
        self._started_by = self.config
        self._doubted.clear()
        self._say_doubts(self.config, self._plan)

    def _accept(self, plane: DataPlane) -> None:
        plane.accept()
        self._status.start()
        if self._admin is not None and self._openings is not None:
            self._admin.accept(instead=self._openings.predecessor is not None)

    def _whose(self, pool: str, backend: str) -> str:
        return "" if self._operating is None else self._operating.whose(pool, backend)

    @property
    def _workers(self) -> int:
        """How many processes move requests: as many as there were at the start, whatever a file says since."""
        if self._crew is not None:
            return self._crew.count
        if self._plane is not None:
            return 1
        wanted = self.config.workers
        return process.cpus() if wanted == "auto" else wanted

    @property
    def _workers_start(self) -> bool:
        """Whether workers are still to begin."""
        return self._crew is not None and not self._crew.ready

    def _probed(self, pool: str, backend: str, result: ProbeResult) -> None:
        if self._operating is not None:
            self._operating.probed(pool, backend, result)
        if self._crew is not None:
            self._crew.probed(pool, backend, result)

    def _hear(self, event: Event) -> None:
        log_event(event)
        if self._crew is not None:
            self._crew.hear(event)
        if self._operating is not None:
            self._operating.hear(event)

    def _remembered(self, operating: Operating) -> Overlay:
        """The runtime changes that outlive a restart, as far as the configuration leaves them."""
        path = self.config.state_file
        wishes = {} if self._inheritance is None else self._inheritance.wishes
        if wishes:
            path = path or "of the program before"
            overlay, signatures = state_of(wishes, path)
        elif path is None:
            return Overlay()
        else:
            overlay, signatures = load_state(path)
        operating.recall(signatures)
        pools = self._plan.pools
        listed = [name for name, pool in pools.items() if pool.targets is not None]
        most = {name: pool.settings.said_limit for name, pool in pools.items()}
        _, dropped = overlay.followed({name: pool.backends for name, pool in pools.items()}, listed, most)
        for line in dropped:
            _log.info("state_file {path}: drops: {line}", path=path, line=line)
        return overlay

    def _remember(self) -> None:
        if self._operating is not None:
            self._operating.overlay_changed()
        if self._state is not None:
            self._state.changed()

    def _digests(self) -> dict[str, str]:
        """The SHA-256 of all that was read for what is in force, and at the last reload, by path."""
        assert self._source is not None
        return {
            **self._files.digests,
            **self._tried.digests,
            **{str(path): digest for path, digest in self._source.files().items()},
        }

    def _watch_files(self, time: Any) -> None:
        """Watch what was read, where that is wanted."""
        if self._source is not None and self.config.watch:
            if self._watch is None:
                self._watch = Watch(self._digests, time, lambda: self.reload("watch"))
            self._watch.start()
            self._watch.settle()
        elif self._watch is not None:
            self._watch.stop()

    def readiness(self) -> Verdict:
        """Whether traffic is wanted, and why not, in the words of `/-/ready`."""
        return Verdict(False, "not ready: not running\n") if self._readiness is None else self._readiness.verdict()

    @property
    def ready(self) -> bool:
        """Whether traffic is wanted."""
        return self.readiness().ready

    def _nothing_moves(self) -> None:
        _log.critical("nothing moves any more without the poller: stopping")
        self._stop_reactor()

    def _stop_reactor(self) -> None:
        with contextlib.suppress(ReactorNotRunning):
            self._reactor.stop()

    # What signals ask for.

    def reload(self, by: str = "SIGHUP") -> None:
        """Read the configuration anew and go by it (SIGHUP), or change nothing and say why in the log. A reload that is asked
        for while one is under way follows it; none begins before the start or during a stop. `by`: who asks, for operators.
        """
        if self._reload is None:
            _log.info("reload: nothing has changed: the configuration is a program's, and no file's")
        elif self._plane is None:
            _log.warn("reload: refused, the balancer is not running or stops; nothing was changed")
        else:
            self._tell_reload(begins=True)
            self.operator.asked(by, self._reload.ask()).addBoth(self._reload_ended)
            return
        self._tell_reload(begins=True)
        self._tell_reload(begins=False)

    def _reload_ended(self, result: Any) -> Any:
        self._tell_reload(begins=False)
        if self._operating is not None:
            self._operating.reload_ended(failed=not getattr(result, "applied", False))
        if self._watch is not None and self._source is not None:
            self._watch.tried({str(path): digest for path, digest in self._source.files().items()})
        return result

    def _tell_reload(self, *, begins: bool) -> None:
        """Tell a service manager of a reload, unless a stop has told it more meanwhile."""
        if self._own is not None and self._plane is not None:
            if begins:
                self._own.reloading()
            else:
                self._own.reloaded()

    def reopen_logs(self) -> None:
        """Open the log files anew, by their names: somebody has renamed them (SIGUSR1, logrotate)."""
        self._log_files.reopen()
        if self._crew is not None:
            self._crew.reopen_logs()
        self._log_file.reopen()

    def leave(self, reason: str) -> None:
        """End the process gracefully: running exchanges have `drain_s`."""
        _log.info("stopping: {reason}", reason=reason)
        self._reactor.callWhenRunning(self._stop_reactor)

    def leave_patiently(self, reason: str) -> None:
        """End the process gracefully, with up to `tunnel_drain_s` for tunnels and endless answers; asked for once more
        while a stop is under way, it is over at once.
        """
        if self._draining is not None:
            self._hurry()
            return
        self._patient = True
        self.leave(reason)

    def taken_over(self, pid: int) -> None:
        """Another process has taken over from this one: end it, as patiently as above."""
        self.leave_patiently(f"process {pid} has taken over")

    def upgrade(self) -> None:
        """Become the program that stands where this one was started from (SIGUSR2), or change nothing and say why in the log."""
        self.upgrade_now().addErrback(lambda failure: failure.trap(Refused) and None).addErrback(
            lambda failure: _log.failure("upgrade: nothing was changed", failure=failure)
        )

    def upgrade_now(self) -> "Deferred[int]":
        """Become the new program soon; fires with its number when it has shown that it can start. Refused with the reason, which the log
        says too, and nothing changed.
        """
        number = 0 if self._crew is None else self._crew.generation + 1
        return self._upgrade.begin(self._pid_file).addCallbacks(lambda _: number, _say_refused)

    def _no_upgrade(self) -> str:
        """Why there can be no upgrade now; empty where there can be one."""
        if self._crew is None or self._own is None:
            return "one process has nobody who goes on meanwhile: with workers it can be done, or by a restart with takeover"
        if self._plane is None or self._draining is not None:
            return "the balancer stops"
        if not self._crew.ready:
            return "not all workers serve: lbctl workers says which"
        if self._crew.rolling:
            return "the workers of the program before this one take clients in still"
        if len(self._all_own()) > 1:
            return "other balancers share the process"
        if self._own.handed_on or self._own.preparing:
            return "another process takes over"
        return ""

    def _handed_over(self, pid_file: str) -> Handover:
        """What the next program gets."""
        assert self._crew is not None
        assert self._openings is not None
        assert self._operating is not None
        overlay = self.data_plane.overlay
        wishes = {**overlay.values(), SIGNATURES: self._operating.signatures(overlay)}
        doors = {} if self._admin is None else self._admin.sockets
        return self._crew.hand_over(self._openings.held, doors, wishes, pid_file)

    def _before_upgrade(self) -> None:
        """The process becomes another program now."""
        if self._own is not None:
            self._own.reloading()
        if self._state is not None:
            self._state.close()

    def set_timeouts(self, timeouts: TimeoutsConfig) -> None:
        """Replace the timeouts of what is called `default`, also under load: a wait that has begun lasts as long as it was told."""
        self._change_to(with_timeouts(self.config, timeouts), self._files)

    def update(self, backends: Iterable[BackendSpec | str]) -> None:
        """Replace the backends of the pool `default` (`"host:port,weight=2"` or specs): new ones are checked and used, those
        that are gone finish what they have. ValueError, and nothing changed, for one that is none or is there twice, for no
        backend, or where there is no such pool.
        """
        specs = tuple(specs_of(backends, "backends"))
        if not specs:
            raise ValueError("no backend: at least one is needed")
        refuse_twice(specs)
        self._change_to(with_backends(self.config, specs), self._files)

    def add_backend(self, pool: str, backend: str | Mapping[str, Any]) -> None:
        """Add a backend to a pool at run time, a text or a table as in the file, with what `[defaults.backend]` says. ValueError
        for what is none, or is there already; KeyError when there is no such pool.
        """
        self.data_plane.add_backend(pool, backend_of(self.config, backend))

    def apply(self, config: LoadBalancerConfig) -> PlanDiff:
        """Go by another configuration, also under load, and say what that did; files that it names are read anew. ConfigError
        where one cannot be read, StartError where an address cannot be had, and nothing changed; ValueError during a stop.
        """
        return self._reloaded(config, self._files.anew())

    @inlineCallbacks
    def _prepare(self, config: LoadBalancerConfig, files: Files) -> Any:
        """Look names up that another configuration brings, so that nobody has to wait for them when it is in force. Fires with
        what is to be called then.
        """
        if self._plane is None:
            return _nothing
        self._tried = files
        plan = plan_of(config, self._plan, files)
        resolving = self._resolving = Resolving(self._plane.runtime, names_in(plan))
        yield resolving.done
        return resolving.close

    def _settled(self, config: LoadBalancerConfig, files: Files) -> "PlanDiff | Deferred[PlanDiff]":
        """Go by another configuration, and say what that did when all processes do."""
        diff = self._reloaded(config, files)
        return diff if self._crew is None else self._crew.settle().addCallback(lambda _: diff)

    def _reloaded(self, config: LoadBalancerConfig, files: Files) -> PlanDiff:
        diff = self._change_to(config, files)
        if self._plane is not None:
            self._watch_files(self._plane.runtime.time)
        return diff

    def _change_to(self, config: LoadBalancerConfig, files: Files) -> PlanDiff:
        """Have a configuration in force: everything is planned and bound first, and then changed in one step."""
        if self._draining is not None:
            raise ValueError("the balancer stops")
        plan = plan_of(config, self._plan, files)
        if self._crew is not None:
            _refuse_unsendable(plan)
        opened = None if self._openings is None else self._log_file.of(plan)
        try:
            change = None if self._openings is None else self._openings.change(self._wanted(config, plan))
        except BaseException:
            if opened is not None:
                opened.close()
            raise
        if self._plane is None:
            diff = plan_diff(self._plan, plan)
            if change is not None:
                change.commit_unused()
        else:
            assert change is not None
            diff = self._go_by(self._plane, config, plan, change, opened)
        if self._openings is not None:
            if self._crew is not None:
                self._log_file.follow(plan, opened, None)
                self._log_file.leave()
            else:
                self._log_file.follow(plan, opened, None if self._plane is None else self._plane.runtime)
        if self._plane is not None and plan.traces != self._plan.traces:
            self._spans.follow(plan.traces, self._plane.runtime)
        self._say_what_stays(config)
        diff = diff.beside(of_process(self.config, config))
        self.config, self._plan, self._files, self._tried = config, plan, files, files
        self._in_force.note(config)
        self._tell_of(diff)
        return diff

    def _go_by(
        self, plane: DataPlane, config: LoadBalancerConfig, plan: Plan, change: Change, opened: Destination | None
    ) -> PlanDiff:
        """Have a plan in force that listens at these sockets, and logs there; nothing has changed if that fails."""
        sockets = {name: [one.sock for one in change.of(name)] for name in plan.listeners}
        try:
            diff = diff_of(plane, plan)
            plane.apply(plan, {} if self._crew is not None else sockets)
            if self._crew is not None:
                plane.accepted_elsewhere = sockets
                self._crew.follow(sockets)
        except BaseException:
            change.undo()
            if opened is not None:
                opened.close()
            raise
        self._status.serve(plane.runtime, change.of(STATUS))
        if plane.accepting:  # else the instance before this one answers there
            self._status.start()
        change.commit(files_stay=self._own is not None and self._own.preparing)
        self._say_doubts(config, plan)
        return diff

    def _tell_of(self, diff: PlanDiff) -> None:
        """Tell whom it concerns that another configuration is in force."""
        if self._readiness is not None:
            self._readiness.requires = self.config.ready_requires
        if self._operating is not None and self._plane is not None:
            self._operating.loaded(diff.lines)
        if self._unresolved is not None:
            self._unresolved.follow(self._plan)

    def _doubts(self, config: LoadBalancerConfig, source: Source | None, plan: Plan | None = None) -> list[Problem]:
        """What is doubtful about a configuration and its plan in this process, with its places where a source has read it."""
        if plan is None:
            plan = self._plan if config is self.config else plan_of(config, self._plan, self._files.anew())
        backends = sum(len(pool.backends) for pool in objects_of(config).pools.values())
        room = room_for_clients(self._limit, backends)
        found = [
            one.problem() for one in doubts(config, self._limit, room, listening=self._listening, cpus=process.cpus())
        ]
        found += [one.problem() for one in certificate_doubts(config, plan, time.time())]
        return found if source is None else [*source.placed(config, found), *source.warnings(config)]

    def _say_doubts(self, config: LoadBalancerConfig, plan: Plan) -> None:
        """Log what is doubtful about a configuration and was not about the one before, wherever it stood there; some is said each time."""
        said = {str(replace(one, place=None)): one for one in self._doubts(config, self._source, plan)}
        for text, doubt in said.items():
            if text not in self._doubted or doubt.code in SAID_EACH_TIME:
                _log.warn("{doubt}", doubt=doubt)
        self._doubted = {text: str(doubt) for text, doubt in said.items()}

    def _say_unresolved(self, backend: Named, reason: str) -> None:
        doubt = not_resolved(self.config, backend.pool, backend.number, reason).problem()
        if self._source is not None:
            [doubt] = self._source.placed(self.config, [doubt])
        _log.warn("{doubt}", doubt=doubt)

    def _say_what_stays(self, config: LoadBalancerConfig) -> None:
        """Log which keys say another thing from now on, and are read at a start alone."""
        if self._plane is not None:
            for line in self._others(self.config, config):
                _log.warn("{line}", line=line)

    def _stays(self, config: LoadBalancerConfig) -> Iterator[str]:
        """The keys that say another thing than at the start, and are read there alone, each in a line."""
        return self._others(self._started_by, config)

    def _others(self, before: LoadBalancerConfig, now: LoadBalancerConfig) -> Iterator[str]:
        how = "a restart" if self._crew is None else "an upgrade, or a restart"
        for key in ("takeover", "state_file", "name", "admin", "workers"):
            if getattr(now, key) != getattr(before, key):
                yield f"{key} is only changed by {how}"
        if (before.log.file_bytes, before.log.old_files) != (now.log.file_bytes, now.log.old_files):
            yield f"log.file_bytes and log.old_files are only changed by {how}"

    def metrics(self, *, openmetrics: bool = False) -> bytes:
        """What Prometheus reads, in its text format or in OpenMetrics, while the service runs: see `admin.metrics`."""
        measures, process = self.operator.measures(exemplars=openmetrics)
        return metrics_text(measures, process, openmetrics=openmetrics)

    # What an operator is told and asks for.

    @property
    def log_dropped(self) -> int:
        """How many lines of the access log were dropped since the start: nobody took them fast enough, or at all."""
        return self._log_file.dropped

    @property
    def spans_sent(self) -> int:
        """How many spans a collector has taken since the start."""
        return self._spans.sent

    @property
    def spans_dropped(self) -> int:
        """How many spans were dropped since the start: too many waited, or no collector took them."""
        return self._spans.dropped

    @property
    def operator(self) -> Operating:
        """The operator of this balancer, while it runs."""
        if self._operating is None:
            raise RuntimeError("the load balancer is not running")
        return self._operating

    @property
    def operated_name(self) -> str:
        """What this balancer is called."""
        return "lb" if self._openings is None else self._called(self._openings)

    @property
    def stopping(self) -> bool:
        """Whether it stops: nothing is changed any more."""
        return self._draining is not None or self._plane is None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the configuration in force, one line each."""
        return tuple(self._doubted.values())

    def reload_now(self, *, dry_run: bool) -> "Deferred[Reloaded]":
        """Read the configuration anew, and go by it unless it is a dry run; fires with what that did, or why it did nothing.
        Refused where there is no file, or a reload is under way.
        """
        if self._reload is None:
            raise Refused("busy", "the configuration is a program's, and no file's: there is nothing to read anew")
        if dry_run:
            return self._reload.look(self._diff_of)
        self._tell_reload(begins=True)
        done = self._reload.ask()
        done.addBoth(self._reload_ended)
        return done

    def _diff_of(self, config: LoadBalancerConfig, files: Files) -> PlanDiff:
        """What a configuration would do in place of the one in force."""
        plane = self.data_plane
        return diff_of(plane, plan_of(config, self._plan, files)).beside(of_process(self.config, config))

    def values_in_force(self) -> Iterable[tuple[str, object, str]]:
        """All values of the configuration in force: key, value, source."""
        return self._in_force.values()

    def changed_file(self) -> tuple[str, float | None, str] | None:
        """See InForce."""
        return self._in_force.changed_file()

    def source_of(self, path: KeyPath) -> str:
        """Where what is in force at a path of the configuration comes from; empty where nobody knows."""
        return self._in_force.source_of(path)

    @property
    def data_plane(self) -> DataPlane:
        """The data plane: frontends, routes and clusters by name, while the service runs."""
        if self._plane is None:
            raise RuntimeError("the load balancer is not running")
        return self._plane

    @property
    def balancer(self) -> Cluster:
        """The cluster `default`: its pool at work, while the service runs."""
        return self.data_plane.clusters[DEFAULT]

    @property
    def engine(self) -> Frontend:
        """The frontend `default`, while the service runs: what a BalancedReverseProxyResource wants."""
        return self.data_plane.frontends[DEFAULT]

    @property
    def port(self) -> int:
        """The port of the listener `default`, also when the kernel chose it."""
        opened = self._openings
        if self._crew is not None and opened is not None:
            return int(opened.of(DEFAULT)[0].sock.getsockname()[1])
        return self.data_plane.listeners[DEFAULT][0].port

    @inlineCallbacks
    def stopService(self) -> Any:
        """Stop gracefully: not ready; listeners; exchanges; connections; checks; the rest: one after the other."""
        plane, self._plane = self._plane, None
        handed_on = self._handed_on
        if plane is not None:
            if self._own is not None:
                self._own.stopping()
            self._upgrade.stop()
            if self._watch is not None:
                self._watch.stop()
                self._watch = None
            if self._resolving is not None:
                self._resolving.hurry()
            if self._unresolved is not None:
                self._unresolved.close()
                self._unresolved = None
            yield self._left(plane)
            if self._own is not None:
                self._own.ended()
        if self._openings is not None:
            for those in self._clones.values():
                for clone in those:
                    clone.close()
            self._clones = {}
            self._openings.close(handed_on=handed_on)
            self._openings = None
        yield self._spans.close()
        yield maybeDeferred(super().stopService)
        self._log_file.close()

    @inlineCallbacks
    def _left(self, plane: DataPlane) -> Any:
        """Drain the data plane and close it; a second signal ends the wait."""
        if self._readiness is not None:
            self._readiness.leaving = True
        handed_on = self._handed_on
        if handed_on:
            self._leave_doors()
        self._draining = plane
        restore = while_stopping(self._reactor, self._hurry)
        try:
            hurried = yield self._accepting_on(plane)
            most_s = self._plan.tunnel_drain_s if self._patient else self._plan.drain_s
            left_s = 0.0 if hurried else most_s
            if self._crew is not None:
                yield self._crew.leave(left_s)
                self._crew = None
            yield plane.drain(left_s, handed_on=handed_on)
        finally:
            restore()
            self._draining, self._grace, self._patient = None, None, False
        self._status.close()
        self._readiness = None
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self._operating is not None:
            self._operating.end()
            self._operating = None
        if self._state is not None:
            self._state.close(write=not handed_on)
            self._state = None
        plane.close()
        release(plane.runtime, self._reactor)

    @property
    def _handed_on(self) -> bool:
        """Whether another instance accepts on its sockets."""
        return self._own is not None and self._own.handed_on

    def _leave_doors(self) -> None:
        """Leave the status and the admin door to the instance that has taken over."""
        self._status.leave()
        if self._admin is not None:
            self._admin.leave()

    def _accepting_on(self, plane: DataPlane) -> Deferred[bool]:
        """Accept for a while though traffic is not wanted any more; fires with whether a second signal ended that."""
        grace_s = 0.0 if self._handed_on else self.config.ready_grace_s
        self._grace = Grace(plane.runtime.later, grace_s)
        return self._grace.done

    def _hurry(self) -> None:
        """End what a stop waits for."""
        if self._grace is not None:
            self._grace.hurry()
        if self._crew is not None:
            self._crew.hurry()
        if self._draining is not None:
            self._draining.hurry()


def _refuse_unsendable(plan: Plan) -> None:
    """StartError where workers cannot be told of a plan."""
    why = unsendable(plan)
    if why:
        raise StartError(f"workers need --config: {why}")


def _followed(inheritance: Inheritance) -> str:
    before = "the program before" if inheritance.upgraded else "a parent that had died"
    pids = ", ".join(str(one.pid) for one in inheritance.workers if not one.leaving)
    return f"program {inheritance.generation} follows; workers of {before}: {pids or 'none'}"


def _say_refused(failure: Failure) -> Failure:
    if failure.check(Refused):
        _log.error("upgrade: nothing was changed: {why}", why=failure.getErrorMessage())
    return failure


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _not_said(_pool: str, _backend: str, _said: bytes | None) -> None:
    """There is no worker that wants to know."""


def _nothing() -> None:
    """Nothing is to be done."""
