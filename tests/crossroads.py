"""A balancer with several routes and pools, on one of the two client sides: who was asked, what it was told, what the client saw."""

from typing import Any

from world import Peer, World

from twisted_lb.core.record import Record

OK = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok"
SIDES = ("engine", "resource")


def get(target: str = "/", host: str | None = "x", *lines: str, method: str = "GET", version: str = "1.1") -> bytes:
    named = () if host is None else (f"Host: {host}",)
    return "\r\n".join((f"{method} {target} HTTP/{version}", *named, *lines, "", "")).encode("latin-1")


class Seen:
    """What became of a request: the address of the backend that was asked ("" for none), what it was sent, and the answer."""

    def __init__(self, asked: str, told: bytes, answer: bytes) -> None:
        self.asked = asked
        self.told = told
        self.answer = answer

    @property
    def status(self) -> int:
        return int(self.answer[9:12])

    @property
    def line(self) -> str:
        return self.told.partition(b"\r\n")[0].decode("latin-1")

    def field(self, name: str) -> str | None:
        """What the backend was told in a field; None where it was told nothing of it."""
        return values(self.told, name)

    def answered(self, name: str) -> str | None:
        """What the client was told in a field."""
        return values(self.answer, name)

    @property
    def body(self) -> bytes:
        return self.answer.partition(b"\r\n\r\n")[2]


def values(message: bytes, name: str) -> str | None:
    lines = message.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    found = [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].lower() == name.lower()]
    return " | ".join(found) if found else None


class Crossroads:
    """Pools of one backend each, called like it: `api` is at api:80. Requests that no route takes have no pool, unless there is one
    called `default`.
    """

    def __init__(
        self, side: str, *routes: dict[str, Any], pools: tuple[str, ...] = ("api", "web"), **options: Any
    ) -> None:
        self.records: list[Record] = []
        given = {name: {"backends": [f"{name}:80"], "queue": {"no_backend_s": 0.0}} for name in pools}
        for name, keys in options.pop("pool_options", {}).items():
            given[name] = {**given[name], **keys}
        options.setdefault("listeners", {"default": {"address": ":8080", **options.pop("listener", {})}})
        self.world = World(
            (),
            side=side,
            observers=(self.records.append,),
            pools=given,
            routes=list(routes),
            **options,
        )

    def client(self) -> Peer:
        return self.world.client()

    def ask(self, request: bytes, client: Peer | None = None, answer: bytes = OK) -> Seen:
        """Send a request, on a connection of its own unless there is one, and let whoever is asked answer."""
        before = {peer: len(peer.received) for peer in self.world.backend_connections}
        client = client or self.client()
        client.send(request)
        asked, told = "", b""
        for peer in self.world.backend_connections:
            peer.read()
            new = peer.received[before.get(peer, 0) :]
            if new:
                asked, told = peer.backend, new
                peer.send(answer)
        return Seen(asked, told, client.read())

    def configure(self, *routes: dict[str, Any], **options: Any) -> None:
        """Have these routes from now on."""
        self.world.configure(routes=list(routes), **options)

    def down(self, pool: str, *, up: bool = False) -> None:
        """Let a pool's backend be found down, or up, by its checks."""
        cluster = self.world.plane.clusters[pool]
        for name in list(cluster.pool.backends):
            for _ in range(5):
                cluster.observe_probe(name, up, "a test says so")
        self.world.run()

    def close(self) -> None:
        self.world.close()
