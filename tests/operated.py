"""A balancer on a network in memory that operators see and steer, with a service's part played by the test."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb.admin.operator import Actor, BackendView, Reloaded
from twisted_lb.admin.readiness import Verdict
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.replacing import backend_of
from twisted_lb.core.backend import AdminState
from twisted_lb.core.overlay import Overlay
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http1 import Http1
from twisted_lb.operating import Operating
from twisted_lb.plan import plan_of
from twisted_lb.testing import HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient
from twisted_lb.testing.balanced import runtime_of

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
ALICE = Actor("alice", "deploy", "uid 1004 pid 7")

DRAIN, MAINT, READY = AdminState.DRAIN, AdminState.MAINT, AdminState.READY


class Owner:
    """A service, as far as it is asked; what it answers is the test's."""

    operated_name = "8080"
    log_dropped = spans_sent = spans_dropped = 0

    def __init__(self, operated: "Operated") -> None:
        self._operated = operated
        self.stopping = False
        self.warnings: list[str] = []
        self.verdict = Verdict(True, "ready\n")
        self.reloads: list[tuple[bool, Deferred[Reloaded]]] = []
        self.values: list[tuple[str, object, str]] = []
        self.sources: dict[tuple[str | int, ...], str] = {}
        self.file: tuple[str, float | None, str] | None = None

    def readiness(self) -> Verdict:
        return self.verdict

    def add_backend(self, pool: str, backend: str | Mapping[str, Any]) -> None:
        self._operated.plane.add_backend(pool, backend_of(self._operated.config, backend))

    def reload_now(self, *, dry_run: bool) -> Deferred[Reloaded]:
        self.reloads.append((dry_run, Deferred()))
        return self.reloads[-1][1]

    def values_in_force(self) -> Iterable[tuple[str, object, str]]:
        return self.values

    def changed_file(self) -> tuple[str, float | None, str] | None:
        return self.file

    def source_of(self, path: tuple[str | int, ...]) -> str:
        return self.sources.get(path, "default")


class Operated:
    """A balancer with a pool `app` of these backends, nobody checks them, unless options say more. Time stands at 1000, and at the
    epoch's 1,000,000. `overlay` and `signatures` are what was changed before, and who has done it;
    `elsewhere` are workers.
    """

    def __init__(
        self,
        *names: Any,
        resolved: Mapping[str, Sequence[str]] | None = None,
        max_in_flight: int = 0,
        overlay: Overlay | None = None,
        signatures: object = None,
        elsewhere: Any = None,
        **options: Any,
    ) -> None:
        self.clock = HeapClock(1000.0)
        self.network = MemoryNetwork(self.clock)
        for name, hosts in (resolved or {}).items():
            self.network.name(name, *hosts)
        options.setdefault("pools", {"app": {"backends": list(names), "health_check": {"interval_s": 0.0}}})
        options.setdefault("listeners", {"web": {"address": "127.0.0.1:8080", "default_pool": "app"}})
        self.config = LoadBalancerConfig.model_validate(options)
        self.owner = Owner(self)
        plan = plan_of(self.config)
        pools = {
            name: dataclasses.replace(pool, settings=dataclasses.replace(pool.settings, max_in_flight=max_in_flight))
            for name, pool in plan.pools.items()
        }
        self.operating = Operating(self.owner, lambda: 999_000.0 + self.clock.seconds(), self.clock, elsewhere)
        self.operating.recall(signatures)
        self.plane = DataPlane(
            runtime_of(self.clock, self.network, seed=2),
            dataclasses.replace(plan, pools=pools),
            hear=self.operating.hear,
            overlay=overlay,
            changed=self.operating.overlay_changed,
            whose=self.operating.whose,
            probed=self.operating.probed,
        )
        self.operating.begin(self.plane)
        frontend = next(iter(self.plane.frontends.values()))
        self.network.listen("lb:8080", lambda: Foreign(self.plane.runtime.clock, Http1(frontend)))
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._observe)

    def _observe(self, event: dict[str, Any]) -> None:
        if event["log_namespace"] == "twisted_lb.operating.steering":
            self.said.append(formatEvent(event))

    def backend(self, address: str, *words: Any) -> ScriptedBackend:
        return ScriptedBackend(self.network, address, *words)

    def ask(self, request: bytes = GET) -> ScriptedClient:
        """A client that has sent this; what needs no time has happened."""
        client = ScriptedClient(self.network, "lb:8080")
        client.send(request)
        self.clock.settle()
        return client

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def view(self, name: str) -> BackendView:
        found = self.operating.snapshot().backend(name)
        assert found is not None, name
        return found

    def close(self) -> None:
        globalLogPublisher.removeObserver(self._observe)
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.settle()
        self.operating.end()
        self.plane.close()
        self.clock.callLater(0, self.plane.runtime.deadlines.stop)
        self.clock.advance(5)
        assert not self.clock.getDelayedCalls()


def at_once(answer: Any) -> Any:
    """What a Deferred has fired with already."""
    found: list[Any] = []
    answer.addCallback(found.append)
    [value] = found
    return value
