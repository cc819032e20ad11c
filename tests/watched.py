"""An operator that tests fill, and a connection in memory to the door's site with its page."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from twisted_lb.admin.api import Api
from twisted_lb.admin.chart_history import ChartHistory
from twisted_lb.admin.dashboard import Dashboard
from twisted_lb.admin.door import Root
from twisted_lb.admin.feed import Feed
from twisted_lb.admin.operator import (
    BackendView,
    CheckView,
    Clause,
    ConfigValue,
    EventView,
    ListenerView,
    PoolView,
    Refused,
    RouteView,
    Sample,
    Snapshot,
    VerdictView,
    WorkerView,
)
from twisted_lb.admin.scopes import READ, Visitor
from twisted_lb.admin.site import AdminSite, ApiResource, admit_to
from twisted_lb.testing import HeapClock

EPOCH = 1_795_616_220.0


def backend(name: str, pool: str = "app", **others: Any) -> BackendView:
    """A backend that is used, with what is said to be otherwise."""
    usual: dict[str, Any] = {
        "name": f"{pool}/{name}",
        "pool": pool,
        "backend": name,
        "address": f"{name}:80",
        "labels": {},
        "weight": 1,
        "weight_effective": 1.0,
        "limit": 0,
        "in_flight": 0,
        "tunnels": 0,
        "requests": 1,
        "failures": 0,
        "outcomes": {"OK": 1},
        "admin": "ready",
        "up": True,
        "known": True,
        "ejected": False,
        "usable": True,
        "available": True,
        "state": "ready",
        "since_s": 60.0,
        "reason": "",
        "by": None,
        "rate": 1.0,
        "share": 50.0,
        "intended": 50.0,
        "errors_60s": 0,
        "checks": [CheckView(EPOCH - 1, True, "status 200", 3.9), CheckView(EPOCH - 3, True, "status 200", 4.0)],
        "sources": {},
    }
    return BackendView(**{**usual, **others})


def pool(*backends: BackendView, name: str = "app", **others: Any) -> PoolView:
    usable = sum(one.usable for one in backends)
    return PoolView(
        **{
            "name": name,
            "policy": "rr",
            "check": "GET / every 2 s",
            "queued": 0,
            "queue": 100,
            "usable": usable,
            "in_flight": 0,
            "rate": 2.0,
            "errors_60s": 0,
            "backends": list(backends),
            "leaving": [],
            **others,
        }
    )


class Watched:
    """An operator as a test wants it."""

    def __init__(self, *pools: PoolView, clock: HeapClock | None = None) -> None:
        self.clock = clock or HeapClock(1000.0)
        self.pools = list(pools) or [pool(backend("b1"), backend("b2"))]
        self.verdict = VerdictView("well", "All 2 backends are used.")
        self.happened: list[EventView] = []
        self.hearing: list[Any] = []
        self.counts: dict[tuple[str, str], int] = {}
        self.levels: dict[str, float | None] = {"in_flight": 0}
        self.latencies: dict[str, float | None] = {}
        self.backend_p99: dict[str, float | None] = {}
        self.generation = 1
        self.values = [ConfigValue("pools.app.policy", "rr", "lb.toml:3")]
        self.file: Mapping[str, Any] | None = None
        self.requests: dict[str, list[dict[str, Any]]] = {"failed": [], "slowest": []}
        self.warnings: list[str] = []
        self.workers: list[WorkerView] = []
        self.restarts = 0
        self.stopped = False
        self.asked = 0

    def wall(self) -> float:
        return EPOCH + self.clock.seconds() - 1000.0

    @property
    def etag(self) -> str:
        return f"{self.generation}.0"

    def snapshot(self) -> Snapshot:
        self.asked += 1
        if self.stopped:
            raise Refused("stopping", "the balancer is not running")
        now = self.wall()
        return Snapshot(
            now=now,
            name="edge-1",
            version="1",
            build="pure",
            pid=1,
            ready=True,
            ready_text="ready",
            uptime_s=now - EPOCH + 100,
            generation=self.generation,
            loaded_at=EPOCH,
            loaded_by="start",
            etag=self.etag,
            file=self.file,
            verdict=self.verdict,
            listeners=[ListenerView("web", ["0.0.0.0:80"], 3, 100, 9, 0.5, 4)],
            routes=[RouteView("all", 1, ["web"], [], [], ["/"], [], "app", "lb.toml:9", errors_60s=7, rate=2.5)],
            pools=[
                replace(one, backends=[replace(b, since_s=b.since_s + now - EPOCH) for b in one.backends])
                for one in self.pools
            ],
            changes=[],
            warnings=self.warnings,
            workers=[replace(one, uptime_s=one.uptime_s + now - EPOCH) if one.pid else one for one in self.workers],
            worker_restarts=self.restarts,
        )

    def look(self) -> Deferred[Snapshot]:
        return maybeDeferred(self.snapshot)

    def sample(self) -> Sample:
        if self.stopped:
            raise Refused("stopping", "the balancer is not running")
        return Sample(self.counts, self.levels, self.latencies, self.backend_p99)

    def refresh(self) -> Deferred[None]:
        return succeed(None)

    def explained(self, kind: str, count: int, *, decisions: bool = True) -> Deferred[dict[str, Any]]:
        return succeed({"requests": self.requests[kind][:count], "held": {}, "oldest_at": None})

    def config(self) -> list[ConfigValue]:
        return self.values

    def events(self, after: int) -> list[EventView]:
        return [one for one in self.happened if one.id > after]

    def listen(self, hear: Any) -> Any:
        self.hearing.append(hear)
        return hear

    def unlisten(self, hear: Any) -> None:
        self.hearing.remove(hear)

    def happen(self, kind: str, subject: str = "", text: str = "", actor: str = "") -> EventView:
        event = EventView(len(self.happened) + 1, self.wall(), kind, subject, text, actor)
        self.happened.append(event)
        for hear in list(self.hearing):
            hear(event)
        return event

    def down(self, number: int = 0) -> None:
        """Let a backend of the first pool be down."""
        backends = list(self.pools[0].backends)
        one = backends[number]
        backends[number] = replace(
            one, usable=False, up=False, state="down", reason="check: refused", weight_effective=0.0
        )
        self.pools[0] = replace(self.pools[0], backends=backends, usable=sum(b.usable for b in backends))
        clause = Clause(one.name, "down", "for 1 s, check: refused")
        self.verdict = VerdictView("partly", "1 of 2 backends is not used; every pool answers.", [clause])


class Site:
    """The door's site over a connection in memory. `visitor` raises Refused for who may not come in."""

    def __init__(self, operator: Watched, visitor: Any = lambda request: Visitor(READ, "reader")) -> None:
        self.operator = operator
        self.clock = operator.clock
        self.history = ChartHistory(operator, self.clock, operator.wall)
        self.history.begin()
        self.feed = Feed(operator, self.history, self.clock)
        admit = admit_to(visitor, frozenset())
        api = ApiResource(Api(operator, self.clock, self.history, self.feed), operator, admit, self.clock, self.feed)
        self._site = AdminSite(Root(api, Dashboard(self.feed, admit)), self.clock)
        self._open: list[Any] = []

    def connect(self) -> tuple[Any, StringTransport]:
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection
        transport.unsent = 0
        protocol = self._site.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        self._open.append(protocol)
        return protocol, transport

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Status, header fields and body of an answer."""
        protocol, transport = self.connect()
        lines = "".join(
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items()
        )
        protocol.dataReceived(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        self.clock.settle()
        head, _, content = transport.value().partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in fields), content

    def look(self) -> "Look":
        """Open the stream of the page."""
        return Look(self)

    def close(self) -> None:
        """End all, so that nothing is left behind."""
        self.history.end()
        for protocol in list(self._open):
            self.lose(protocol)
        self.clock.settle()

    def lose(self, protocol: Any) -> None:
        """Let a connection be lost."""
        self._open.remove(protocol)
        protocol.connectionLost(Failure(ConnectionDone()))


class Look:
    """Somebody who looks at the page."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.protocol, self.transport = site.connect()
        self.protocol.dataReceived(b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
        site.clock.settle()

    def leave(self) -> None:
        """Look no more."""
        self.site.lose(self.protocol)

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """The events since the last time: kind and data."""
        text = self.transport.value().decode()
        self.transport.clear()
        found, kind = [], ""
        for line in text.split("\n"):
            if line.startswith("event: "):
                kind = line[7:].strip()
            elif line.startswith("data: "):
                found.append((kind, json.loads(line[6:])))
        return found
