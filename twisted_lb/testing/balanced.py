"""A whole balancer in two lines: the data plane of production, on a network in memory."""

import json
from collections.abc import Callable
from typing import Any, Final, cast

from twisted.internet.interfaces import IReactorTime

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.events import Event
from twisted_lb.core.record import Observer, Record
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.clock import Clock
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.net.dialer import Dial, GreetingDial
from twisted_lb.net.foreign import Foreign, ForeignDial
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.http1 import Http1
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.names import Names
from twisted_lb.net.poller import Poller
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.session import Session
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.planned import TargetsPlan
from twisted_lb.probes import ProbeResult
from twisted_lb.testing.lists import ScriptedList
from twisted_lb.testing.names import NamedDial
from twisted_lb.testing.network import MemoryListener, MemoryNetwork

# Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110 5.6.7.
WALL_TIME: Final = 784111777.0


def runtime_of(
    time: IReactorTime,
    dial: Dial,
    *,
    seed: int = 1,
    now: Clock | None = None,
    wall: Clock | None = None,
    poller: Poller | None = None,
    stopwatch: Callable[[], float] | None = None,
) -> Runtime:
    """A runtime on a test's time (a HeapClock, as a rule) and a test's network; its wall clock stands at WALL_TIME, if none is given,
    and how long a pick takes is what the `stopwatch` says, if there is one. Without a poller the network's transports are taken for foreign ones; with one `dial` is a GreetingDial.
    """
    clock = Clock(time.seconds) if now is None else now
    names = Names(dial.resolver if isinstance(dial, MemoryNetwork) else None, clock)
    if isinstance(dial, MemoryNetwork):
        dial = NamedDial(dial, names)

    def soon(call: Callable[[], None]) -> None:
        time.callLater(0, call)

    return Runtime(
        clock=clock,
        wall=wall or Clock(lambda: WALL_TIME),
        later=time.callLater,
        soon=soon if poller is None else poller.soon,
        time=time,
        dial=ForeignDial(dial, clock) if poller is None else cast(GreetingDial, dial),
        names=names,
        deadlines=Deadlines(clock, time.callLater),
        poller=poller,
        seed=seed,
        stopwatch=stopwatch,
    )


class Balanced:
    """A balancer with this configuration on a MemoryNetwork, at `address`; its backends are those of the test.

    `events` are the changes of state so far, `records` those of the requests that have ended, or were refused,
    unless there are other `observers`, `log_lines` what the access log has of them, `spans` what traces have, as in OTLP. `lists` are the target lists, by pool: they tell what the test says. `probed` is told each result of a check, as `DataPlane` has it. `close` ends it; exchanges that are still running then are cut.
    """

    def __init__(
        self,
        config: LoadBalancerConfig,
        network: MemoryNetwork,
        *,
        address: str = "lb:8080",
        seed: int = 1,
        hear: Callable[[Event], None] | None = None,
        observers: tuple[Observer, ...] | None = None,
        runtime: Runtime | None = None,
        probed: Callable[[str, str, ProbeResult], None] = lambda _pool, _backend, _result: None,
    ) -> None:
        self.config: Final = config
        self.network: Final = network
        self.events: list[Event] = []
        self.records: list[Record] = []
        self.log_lines: list[bytes] = []
        self.spans: list[dict[str, Any]] = []
        self.lists: Final[dict[str, ScriptedList]] = {}
        self.runtime: Final = runtime_of(network.clock, network, seed=seed) if runtime is None else runtime
        self.data_plane: Final = DataPlane(
            self.runtime,
            plan_of(config),
            hear=self.events.append if hear is None else hear,
            observers=(self.records.append,) if observers is None else observers,
            provide=self._list,
            probed=probed,
            log_line=self.log_lines.append,
            send_spans=lambda texts, _: self.spans.extend(json.loads(b"[%b]" % texts)),
        )
        self.listener: Final = network.listen(address, self.build)

    def _list(self, pool: str, targets: TargetsPlan) -> ScriptedList:
        self.lists[pool] = ScriptedList(targets.where, targets.rules, self.runtime.time)
        return self.lists[pool]

    def listen(self, address: str, listener: str) -> MemoryListener:
        """Listen at another address, for this listener of the configuration."""
        return self.network.listen(address, lambda: self.build(listener))

    def build(self, listener: str = DEFAULT) -> StreamProtocol:
        """A protocol for the connection of one client of a listener."""
        frontend = self.data_plane.frontends[listener]
        protocol: Session | Http1 = Session(frontend) if frontend.tcp else Http1(frontend)
        return protocol if self.runtime.poller is not None else Foreign(self.runtime.clock, protocol)

    @property
    def frontend(self) -> Frontend:
        """The frontend `default`."""
        return self.data_plane.frontends[DEFAULT]

    @property
    def cluster(self) -> Cluster:
        """The cluster `default`."""
        return self.data_plane.clusters[DEFAULT]

    def outcomes(self) -> dict[str, int]:
        """How the attempts at all present backends ended, by name; outcomes that did not happen are left out."""
        total: dict[str, int] = {}
        for backend in self.cluster.snapshot().backends:
            for name, count in backend.outcomes.items():
                total[name] = total.get(name, 0) + count
        return total

    def close(self) -> None:
        """Refuse new clients, cut running exchanges, stop the checks."""
        self.listener.stop()
        self.data_plane.close()
        self.network.clock.callLater(0, self.runtime.deadlines.stop)

    def __repr__(self) -> str:
        return f"<Balanced {self.data_plane!r}>"
