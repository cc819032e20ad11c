"""A balancer on a network in memory, with what a test mostly wants of it: its peers, and another configuration while it runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import Backend
from twisted_lb.core.record import Observer, Record
from twisted_lb.net.clock import Clock
from twisted_lb.plan import plan_of
from twisted_lb.planned import Plan
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient
from twisted_lb.testing.balanced import WALL_TIME, runtime_of

_BEGAN = 1000.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """A balancer in front of `names`, where nobody answers until `backend` puts somebody there; nobody checks, or waits for one.

    With this seed the first of two is asked first. Tables of options are added to: `limits={"head_bytes": 300}`. `resolved`
    are the addresses of host names, which are answered after `resolve_s`. `dated`: the time of day goes on.
    """

    def __init__(
        self,
        *names: Any,
        seed: int = 2,
        observers: tuple[Observer, ...] | None = None,
        resolved: Mapping[str, Sequence[str]] | None = None,
        resolve_s: float = 0.0,
        dated: bool = False,
        **options: Any,
    ) -> None:
        self.clock = HeapClock(_BEGAN)
        self.network = MemoryNetwork(self.clock)
        self.network.resolver.delay_s = resolve_s
        for name, hosts in (resolved or {}).items():
            self.network.name(name, *hosts)
        self._options: dict[str, Any] = {
            "backends": list(names or ("a:80",)),
            "health_check": {"interval_s": 0.0},
            "queue": {"no_backend_s": 0.0},
            "limits": {"client_bytes_per_s": 0},
        }
        wall = Clock(lambda: WALL_TIME + self.clock.seconds() - _BEGAN) if dated else None
        self.balanced = Balanced(
            self.config(**options),
            self.network,
            observers=observers or None,
            runtime=runtime_of(self.clock, self.network, seed=seed, wall=wall),
        )
        self.plane = self.balanced.data_plane
        self.frontend = self.balanced.frontend
        self.cluster = self.balanced.cluster
        self.pool = self.cluster.pool
        self.events = self.balanced.events
        self.records = self.balanced.records
        self._closed = False

    # What it goes by.

    def config(self, **options: Any) -> LoadBalancerConfig:
        """The configuration with these options changed, for good."""
        for name, value in options.items():
            table = self._options.get(name)
            self._options[name] = {**table, **value} if isinstance(table, dict) else value
        if "listeners" in self._options:
            self._options.pop("limits", None)  # flat keys of the listener
        return LoadBalancerConfig.model_validate(self._options)

    def plan(self, **options: Any) -> Plan:
        return plan_of(self.config(**options), self.plane.plan)

    def plan_without(self, *tables: str) -> Plan:
        """The plan without these tables, from now on."""
        for table in tables:
            del self._options[table]
        return self.plan()

    def apply(self, **options: Any) -> None:
        """Go by other options from now on."""
        self.plane.apply(self.plan(**options))

    # Who is there.

    def backend(self, address: str = "a:80", *words: Any, **named: Any) -> ScriptedBackend:
        return ScriptedBackend(self.network, address, *words, **named)

    def open(self, listener: str, address: str) -> None:
        """Let clients of this listener come to this address."""
        self.network.listen(address, lambda: self.balanced.build(listener))

    def client(self, at: str = "lb:8080") -> ScriptedClient:
        return ScriptedClient(self.network, at)

    def ask(self, request: bytes = GET, client: ScriptedClient | None = None) -> ScriptedClient:
        """A client that has sent this; what needs no time has happened."""
        client = client or self.client()
        client.send(request)
        self.clock.settle()
        return client

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @property
    def members(self) -> list[Backend]:
        return list(self.pool.backends.values())

    @property
    def record(self) -> Record:
        """Of the exchange that ended last."""
        return self.records[-1]

    def close(self) -> None:
        """End everything, and see that nothing is left."""
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.settle()
        clusters = self.plane.clusters.values()
        left = {
            "exchanges": self.plane.exchanges,
            "exchanges by count": sum(flow.open for one in self.plane.frontends.values() for flow in one.flows.all),
            "clients": self.plane.clients,
            "gate": self.frontend.gate.open,
            "connections": sum(cluster.open for cluster in clusters),
            "in flight": sum(cluster.pool.leases for cluster in clusters),
            "waiting": sum(cluster.snapshot().waiting for cluster in clusters),
        }
        self.balanced.close()
        self.wait(5)
        left["deadlines"] = self.balanced.runtime.deadlines.armed
        left["calls"] = len(self.clock.getDelayedCalls())
        left["ends"] = len(self.network.open_connections)
        assert not any(left.values()), left
        assert list(self.plane.clusters) == list(self.plane.plan.pools)
