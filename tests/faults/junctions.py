"""Towns with several listeners, routes and pools in random shape, in a bad network: each answer says who gave it, and a plain
look at the routes says who must have.
"""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.plan import plan_of
from twisted_lb.testing import (
    Balanced,
    Chances,
    Faults,
    HeapClock,
    MemoryNetwork,
    ScriptedBackend,
    ScriptedClient,
    response,
)

LISTENERS = ("one", "two", "three")
HOSTS = ("a.example", "b.example", "x.a.example")
PATTERNS = (*HOSTS, "*.example", "*.a.example")
# As they may come, and as they are meant.
PATHS = {
    "/": "/", "/x": "/x", "/x/": "/x/", "/x/y": "/x/y", "/xy": "/xy", "/%78/y": "/x/y", "/./x": "/x", "/x//y": "/x/y",
    "/x%2Fy": "/x%2Fy", "/z/../x/y": "/x/y",
}  # fmt: skip
UNCLEAR = ("/%2e%2e/x", "/..%2fx", "/x\\y", "/..;/x", "/%zz")
POOLS = ("p", "q", "r")
# What a pool may cause that is no answer of a backend: a fault of the network, or nobody is there.
TROUBLE = {"502", "503", "504"}


@dataclass
class Asked:
    """One request: what is in its answer if a backend gives it."""

    id: str
    listener: str
    host: str
    path: str
    method: str

    def wire(self) -> bytes:
        return f"{self.method} {self.path}?id={self.id} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode()


def some(rng: random.Random, of: tuple[str, ...]) -> list[str]:
    return rng.sample(of, rng.randrange(1, len(of)))


def make_routes(rng: random.Random, listeners: tuple[str, ...], pools: tuple[str, ...]) -> list[dict[str, Any]]:
    routes = []
    for number in range(rng.randrange(1, 8)):
        route: dict[str, Any] = {}
        if rng.random() < 0.4:
            route["listeners"] = [rng.choice(listeners)]
        if rng.random() < 0.5:
            route["host"] = some(rng, PATTERNS)
        if rng.random() < 0.6:
            route[rng.choice(["path", "path_prefix"])] = some(rng, ("/x", "/x/y", "/xy", "/x%2Fy".replace("%2F", "-")))
        if rng.random() < 0.2:
            route["method"] = rng.choice(["GET", "DELETE"])
        route |= make_action(rng, number, pools)
        routes.append(route)
    return routes


def make_action(rng: random.Random, number: int, pools: tuple[str, ...]) -> dict[str, Any]:
    how = rng.random()
    if how < 0.4 or len(pools) < 2:
        return {"pool": rng.choice(pools)}
    one, other = rng.sample(pools, 2)
    if how < 0.55:
        return {"split": {one: rng.randrange(1, 4), other: 1}}
    if how < 0.8:
        return {"pool": one, "fallback": rng.choice([other, {"status": 503, "text": f"fallback {number}"}])}
    if how < 0.87:
        return {"answer": {"text": f"answer {number}"}}
    return {"redirect": {"status": 307, "to": f"/there/{number}"}} if how < 0.93 else {"deny": True}


# Who must have answered.


def takes(route: dict[str, Any], asked: Asked) -> bool:
    """A plain look: no tables."""
    return takes_path(route, asked, PATHS[asked.path])


def takes_path(route: dict[str, Any], asked: Asked, path: str) -> bool:
    return (
        asked.listener in route.get("listeners", [asked.listener])
        and any(host_fits(pattern, asked.host) for pattern in route.get("host", [asked.host]))
        and path in route.get("path", [path])
        and any(path == one or path.startswith(one + "/") for one in route.get("path_prefix", [path]))
        and asked.method == route.get("method", asked.method)
    )


def host_fits(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def who_may_answer(routes: list[dict[str, Any]], asked: Asked) -> set[str]:
    """What an answer may be of: `pool p`, a text of our own, or a status."""
    here = reachable([route for route in routes if asked.listener in route.get("listeners", [asked.listener])])
    if asked.path not in PATHS:
        return {"400"} if any("path" in route or "path_prefix" in route for route in here) else of_any(here, asked)
    if "/../" in asked.path and any("path" in route or "path_prefix" in route for route in here):
        meant, other = (
            next((route for route in here if takes_path(route, asked, path)), {"deny": True})
            for path in (PATHS[asked.path], asked.path)
        )
        if other != meant and not other.keys() & {"pool", "split"}:
            return {"400"}
    return next((of_route(route) for route in here if takes(route, asked)), {"404"})


def reachable(routes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those up to the first that takes everything."""
    for at, route in enumerate(routes):
        if not route.keys() & {"host", "path", "path_prefix", "method"}:
            return routes[: at + 1]
    return routes


def of_any(routes: list[dict[str, Any]], asked: Asked) -> set[str]:
    """The same where no route looks at paths."""
    return next(
        (of_route(route) for route in routes if takes(route, Asked("", asked.listener, asked.host, "/", asked.method))),
        {"404"},
    )


def of_route(route: dict[str, Any]) -> set[str]:
    if "answer" in route:
        return {route["answer"]["text"]}
    if "redirect" in route:
        return {route["redirect"]["to"]}
    if "deny" in route:
        return {"403"}
    found = {f"pool {one}" for one in ([route["pool"]] if "pool" in route else route["split"])} | TROUBLE
    fallback = route.get("fallback")
    if fallback is not None:
        found.add(f"pool {fallback}" if isinstance(fallback, str) else fallback["text"])
    return found


@dataclass
class Guest:
    client: ScriptedClient
    asked: list[Asked] = field(default_factory=list)


class Junctions:
    """One of them, from its seed."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.clock = HeapClock(1000.0)
        bad = rng.choice([0.0, 0.3, 1.0])
        chances = Chances(
            refused=0.1 * bad, hanging=0.03 * bad, reset=0.08 * bad, closed=0.08 * bad, stalled=0.03 * bad,
            split=0.4, delayed=0.3 * bad, longest_delay_s=0.2, within_bytes=2_000,
        )  # fmt: skip
        self.network = MemoryNetwork(self.clock, faults=Faults(self.clock, rng, chances))
        self.listeners = LISTENERS[: rng.randrange(1, 4)]
        self.pools = POOLS[: rng.randrange(1, 4)]
        self.generations = [make_routes(rng, self.listeners, self.pools)]
        self.backends = {
            f"{pool}{number}:80": ScriptedBackend(
                self.network, f"{pool}{number}:80", lambda request, pool=pool: answer(pool, request)
            )
            for pool in self.pools
            for number in range(rng.randrange(1, 3))
        }
        # Who is there now, of all of them.
        self.open = self.listeners
        self.used = self.pools
        self.balanced = Balanced(self._config(), self.network, address="unused:1", seed=seed)
        self._doors = {name: self.balanced.listen(f"{name}:80", name) for name in self.listeners}
        self.shapes = 0  # reloads by which listeners or pools came or went
        self.guests: list[Guest] = []
        self.complaints: list[str] = []

    def _config(self) -> LoadBalancerConfig:
        backends = {pool: [name for name in self.backends if name.startswith(pool)] for pool in self.used}
        return LoadBalancerConfig.model_validate(
            {
                "listeners": {name: {"address": f":{8000 + self.listeners.index(name)}"} for name in self.open},
                "pools": {
                    name: {"backends": members, "health_check": {"interval_s": 0.0}, "queue": {"no_backend_s": 0.5}}
                    for name, members in backends.items()
                },
                "routes": self.generations[-1],
            }
        )

    def run(self) -> list[str]:
        rng = self.rng
        for number in range(rng.randrange(4, 14)):
            self.clock.callLater(rng.uniform(0, 8), self._visit, f"g{number}")
        for pool in self.pools:
            if rng.random() < 0.5:
                self.clock.callLater(rng.uniform(0, 6), self._stop, pool)
        for _ in range(rng.choice([0, 1, 1, 3, 8])):
            self.clock.callLater(rng.uniform(1, 7), self._reload)
        self.clock.advance(120)
        for guest in self.guests:
            self._judge(guest)
        self._end()
        return self.complaints

    def _visit(self, name: str) -> None:
        rng = self.rng
        listener = rng.choice(self.open)
        guest = Guest(ScriptedClient(self.network, f"{listener}:80"))
        self.guests.append(guest)
        at_s = 0.0
        for number in range(rng.randrange(1, 7)):
            path = rng.choice(UNCLEAR) if rng.random() < 0.15 else rng.choice(list(PATHS))
            host = rng.choice(HOSTS)
            asked = Asked(f"{name}r{number}", listener, host, path, rng.choice(["GET", "GET", "GET", "DELETE", "HEAD"]))
            self.clock.callLater(at_s, self._send, guest, asked)
            at_s += rng.choice([0.0, 0.0, rng.uniform(0, 2)])

    def _send(self, guest: Guest, asked: Asked) -> None:
        if guest.client.open:
            guest.asked.append(asked)
            guest.client.send(asked.wire())

    def _stop(self, pool: str) -> None:
        for name, backend in self.backends.items():
            if name.startswith(pool):
                backend.stop()

    def _reload(self) -> None:
        """Other routes, now and then the same, or between other listeners and pools: some have gone, some are back."""
        rng = self.rng
        before = self.open, self.used
        if rng.random() < 0.5:
            self.open = tuple(rng.sample(self.listeners, rng.randrange(1, len(self.listeners) + 1)))
            self.used = tuple(rng.sample(self.pools, rng.randrange(1, len(self.pools) + 1)))
        other = {*before[0]} != {*self.open} or {*before[1]} != {*self.used}
        self.shapes += other
        if other or rng.random() < 0.8:
            self.generations.append(make_routes(rng, self.open, self.used))
        for name in before[0]:
            if name not in self.open:
                self._doors[name].stop()
        plane = self.balanced.data_plane
        stays = {name: plane.frontends[name] for name in before[0] if name in self.open}
        clusters = {name: plane.clusters[name] for name in before[1] if name in self.used}
        plane.apply(plan_of(self._config(), plane.plan))
        for name in self.open:
            if name not in before[0]:
                self._doors[name] = self.balanced.listen(f"{name}:80", name)
        if any(plane.frontends[name] is not one for name, one in stays.items()):
            self.complaints.append("a listener that stays has another frontend")
        if any(plane.clusters[name] is not one for name, one in clusters.items()):
            self.complaints.append("a pool that stays has another cluster")

    def _judge(self, guest: Guest) -> None:
        rest = guest.client.received
        for asked in guest.asked:
            head, blank, rest = rest.partition(b"\r\n\r\n")
            found = re.search(rb"\r\nContent-Length: (\d+)", head)
            size = int(found[1]) if found and asked.method != "HEAD" else 0
            if not blank or len(rest) < size:
                return
            body, rest = rest[:size].decode(), rest[size:]
            said = head.split()[1].decode()
            if asked.method != "HEAD" and (match := re.fullmatch(r"(pool \w) of (\w+)", body)):
                said = match[1] if match[2] == asked.id else f"the answer to {match[2]}"
            elif said in ("200", "307", "503") and asked.method != "HEAD" and not body.startswith("503"):
                said = body.strip()
            self._compare(asked, said, head)

    def _compare(self, asked: Asked, said: str, head: bytes) -> None:
        may = set().union(*(who_may_answer(routes, asked) for routes in self.generations))
        if asked.method == "HEAD":
            texts = {one for one in may if not one.isdigit()}
            may = {one for one in may if one.isdigit()} | ({"200", "307", "503"} if texts else set())
        if said not in may:
            self.complaints.append(f"{asked} was answered by {said!r}, and not by one of {sorted(may)}: {head[:80]!r}")

    @property
    def fallen_back(self) -> int:
        """How many requests went to the other pool, as far as that can be told."""
        [routes, *others] = self.generations
        other = {f"routes[{at}]": route.get("fallback") for at, route in enumerate(routes)}
        return 0 if others else sum(other.get(record.route) == record.pool for record in self.balanced.records)

    def _end(self) -> None:
        for end in self.network.open_connections:
            end.abortConnection()
        self.clock.advance(5)
        plane = self.balanced.data_plane
        left = {
            "exchanges": plane.exchanges,
            "clients": plane.clients,
            "leases": sum(cluster.pool.leases for cluster in plane.clusters.values()),
            "waiting": sum(len(cluster.waiting) for cluster in plane.clusters.values()),
            "leaving": len(plane.leaving.clusters) + len(plane.leaving.frontends),
        }
        self.balanced.close()
        self.clock.advance(5)
        left["deadlines"] = self.balanced.runtime.deadlines.armed
        left["calls"] = len(self.clock.getDelayedCalls())
        self.complaints += [f"left: {name} {count}" for name, count in left.items() if count]


def answer(pool: str, request: bytes) -> list[bytes]:
    found = re.search(rb"[?]id=(\w+) ", request)
    assert found is not None
    said = response(b"pool %b of %b" % (pool.encode(), found[1]))
    return [said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.startswith(b"HEAD ") else said]
