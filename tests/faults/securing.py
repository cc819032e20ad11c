"""TLS and the PROXY protocol in a town: who speaks them, and how handshakes go wrong."""

import random
from typing import Any

from faults.certificates import APP, RIGHT, WRONG, backend_context, client_context, folder
from faults.clients import Client
from faults.keylog import KEYS
from faults.servers import Server, Serving
from faults.tape import TownNetwork
from faults.tls_ends import Layer
from tls_peers import TlsEnd

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.objects import objects_of
from twisted_lb.config.tls import PoolTls, TlsConfig
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.arrival import Arrivals
from twisted_lb.net.dialer import Dialer
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.names import Names
from twisted_lb.net.protocols import Protocols
from twisted_lb.net.runtime import Runtime
from twisted_lb.plan import DEFAULT

HANDSHAKE_S = 2.0
# How handshakes go on the other side, beside what the network does to them.
HOLDS = ["all", "half", "next"]


SHARE = 0.3


def stream(seed: int) -> random.Random:
    """Chance, for this alone: what it draws moves nothing of a town that speaks no TLS."""
    return random.Random(f"{seed}/tls")


def drawn(seed: int) -> bool:
    """Whether a town speaks any of this, if it can."""
    return stream(seed).random() < SHARE


class Securing:
    """What the connections of one town speak, from a stream of its own; `clients` and `backends`: TLS. `proxied`: clients come through somebody
    who says who they are, in this version of the PROXY protocol; `greets`: backends are told in that one. 0: nobody says anything.
    """

    def __init__(self, seed: int, *, sockets: bool, web: bool, named: bool) -> None:
        self._rng = rng = stream(seed)
        begins = rng.random() < SHARE
        clients, proxied = rng.random() < 0.75, rng.choice([0, 0, 1, 2])
        backends, greets = rng.random() < 0.75, rng.choice([0, 0, 0, 1, 2])
        self._old, self._resumes = rng.random() < 0.25, rng.random() < 0.5
        self._wrong_share = rng.choice([0.0, 0.0, 0.1, 0.5])
        self._stop_share = rng.choice([0.0, 0.1, 0.3])
        on = sockets and begins
        self.clients, self.proxied = on and clients and not web, proxied if on and not web else 0
        self.backends, self.greets = on and backends and not named, greets if on and not named else 0
        self.on = bool(self.clients or self.backends or self.proxied or self.greets)
        self.shown: dict[str, int] = {}  # how often backends showed what
        self._last_client: Layer | None = None
        if self.on:
            KEYS.forget()

    @property
    def arrives(self) -> bool:
        """Whether anything comes before a client's first request."""
        return bool(self.clients or self.proxied)

    @property
    def dials(self) -> bool:
        """And before the first one to a backend."""
        return bool(self.backends or self.greets)

    def over(self, config: LoadBalancerConfig) -> LoadBalancerConfig:
        """These settings, over TLS."""
        keys: dict[str, Any] = {}
        if self.clients:
            keys["tls"] = TlsConfig(certificates=(folder().app,))
        if self.arrives:
            keys["timeouts"] = config.timeouts.model_copy(update={"handshake_s": HANDSHAKE_S})
        if self.proxied:
            said = {"proxy_protocol": "require", "proxy_protocol_from": ("10.0.0.0/8",)}
            keys["forwarding"] = config.forwarding.model_copy(update=said)
        if self.dials:
            tls = PoolTls(ca=folder().ca) if self.backends else None
            greeted = {"tls": tls, "send_proxy": f"v{self.greets}" if self.greets else "off"}
            pool = objects_of(config).pools[DEFAULT].model_copy(update=greeted)
            keys |= {"pools": {**config.pools, DEFAULT: pool}, "backends": ()}
        return config.model_copy(update=keys) if keys else config

    def begin(self, network: TownNetwork, runtime: Runtime) -> None:
        """Let the network know how connections begin."""
        if self.dials:
            assert runtime.poller is not None
            names = Names(None, runtime.clock)
            network.dialer = Dialer(runtime.poller, runtime.deadlines, names, runtime.later)
            network.connects.full_share = 0.0  # of unix sockets alone
            assert network.kernel is not None
            network.kernel.connects = network.connects_to

    def follow(self, plane: DataPlane) -> None:
        """The balancer goes by another configuration: hear of the secrets of its connections too."""
        for serving in plane.servings.values():
            KEYS.listen(serving.choose("").context)
            for context in serving._names.leaves.values():
                KEYS.listen(context)
        for greetings in plane.greetings.values():
            if greetings.tls is not None:
                KEYS.listen(greetings.tls.context)

    # Clients.

    def arrivals(self, frontend: Frontend, runtime: Runtime, network: TownNetwork) -> None:
        """Let clients arrive at a frontend."""
        assert runtime.poller is not None
        made = Arrivals(frontend, runtime.poller, Protocols(frontend))
        network.arriving_tls, network.arriving_proxy = bool(self.clients), bool(self.proxied)
        network.take = lambda sock, peer: made.take(sock, peer, "8080", sock.family)  # type: ignore[arg-type]

    def dress(self, client: Client) -> None:
        """Have a client speak as clients do here."""
        if not self.arrives:
            return
        if self.proxied:
            client.shown = client.host.replace("10.0.0.", "10.7.0.")
        stops = self.clients and self._rng.random() < self._stop_share
        holds = self._rng.choice(HOLDS) if stops else ""
        leaves_s = self._rng.uniform(0, HANDSHAKE_S) if stops and self._rng.random() < 0.5 else None
        client.behind = lambda one: self._before_client(one, holds, leaves_s)

    def _before_client(self, client: Client, holds: str, leaves_s: float | None) -> Layer:
        header = b"" if not self.proxied else header_of(self.proxied, client.shown, "10.8.0.1", 40000, 8080)
        end = None
        if self.clients:
            context = client_context(old=self._old)
            last = self._last_client.session if self._resumes and self._last_client is not None else None
            end = TlsEnd(context, name=APP, session=last)
        layer = self._last_client = Layer(client, end, header=header, holds=holds)
        if leaves_s is not None:
            client.clock.callLater(leaves_s, layer.leave)
        return layer

    # Backends.

    def serve(self, server: Server) -> None:
        """Have a backend speak as backends do here."""
        if self.dials:
            server.behind = lambda serving: self._before_server(server, serving)

    def _before_server(self, server: Server, serving: Serving) -> Layer:
        rng, end, holds, shows = self._rng, None, "", RIGHT
        if self.backends:
            calm = server.calm
            wrong = not calm and rng.random() < self._wrong_share
            shows = rng.choice(WRONG) if wrong else RIGHT
            self.shown[shows] = self.shown.get(shows, 0) + 1
            end = TlsEnd(backend_context(shows, old=self._old), server_side=True)
            stops = not calm and rng.random() < self._stop_share / 8
            holds = rng.choice(HOLDS) if stops else ""
        vanishes = rng.random() < 0.5
        return Layer(serving, end, holds=holds, introduced=bool(self.greets), shows=shows, vanishes=vanishes)


def header_of(version: int, source: str, destination: str, source_port: int, destination_port: int) -> bytes:
    """A header of the PROXY protocol, by its specification."""
    if version == 1:
        return f"PROXY TCP4 {source} {destination} {source_port} {destination_port}\r\n".encode()
    hosts = bytes(map(int, f"{source}.{destination}".split(".")))
    ports = source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    return b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(hosts + ports).to_bytes(2, "big") + hosts + ports


def source_of(header: bytes) -> str:
    """The address of the client that a header names, empty where it names none."""
    if header.startswith(b"PROXY "):
        words = header.split()
        return words[2].decode() if words[1] == b"TCP4" else ""
    return ".".join(map(str, header[16:20])) if header[12:14] == b"\x21\x11" else ""
