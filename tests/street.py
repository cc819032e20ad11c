"""A world whose backends speak TLS, and its peers."""

import ssl
from typing import Any

from authority import Authority
from world import TlsPeer, World

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
A, B = "a.test:443", "b.test:443"


class Street:
    """A world whose backends speak TLS, each with a certificate of the authority for its own name."""

    def __init__(self, folder: Any) -> None:
        self.authority = Authority(folder)
        self.folder = folder
        self.worlds: list[World] = []

    def serving(self, *names: str, **more: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.leaf(*names, **more).configure_cert(context)
        return context

    def world(self, *names: str, tls: dict[str, Any] | None = None, **options: Any) -> World:
        pool = {
            "backends": list(names or (A,)),
            "tls": {"ca": self.authority.path, **(tls or {})},
            "queue": {"no_backend_s": 0.0},
            **options.pop("pool", {}),
        }
        options.setdefault("routes", [{"pool": "app"}])
        world = World((), pools={"app": pool}, **options)
        self.worlds.append(world)
        for name in names or (A,):
            world.dial.tls[name] = self.serving(name.rpartition(":")[0])
        return world


def at(world: World, index: int = -1) -> TlsPeer:
    peer = world.backend(index)
    assert isinstance(peer, TlsPeer)
    return peer
