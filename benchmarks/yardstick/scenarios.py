"""What is asked of the contenders: one row for each scenario."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Scenario:
    """One kind of load."""

    name: str
    title: str
    connections: int
    path: str = "/"
    heads: str = "small"
    """`small` is what wrk sends by itself; `same` and `varying` are a browser's twelve fields."""
    down_bytes: int = 6
    """Bytes of the answer's body."""
    up_bytes: int = 0
    chunked: bool = False
    close: bool = False
    """Each request on a connection of its own."""
    backends: int = 2
    at_once: int = 0
    """Requests under way, by turns on all the connections, which are open before the bill begins. 0: wrk, and all."""
    tls: bool = False
    """Clients speak TLS 1.3 with an ECDSA certificate; with `close` each has a full handshake."""
    resumed: bool = False
    """Each request on a connection of its own, which resumes a session."""
    tcp: bool = False
    """Connections are carried as they are, with the requests in them."""
    streams: int = 0
    """Clients speak HTTP/2, and have so many requests under way on each connection. 0: they speak HTTP/1.1."""
    to_http2: bool = False
    """So do the backends."""
    reference: str = "haproxy"

    @property
    def counted_by_bytes(self) -> bool:
        """Few requests in a round: those that its end cuts count in part."""
        return self.down_bytes >= MIB

    @property
    def words(self) -> list[str]:
        """The arguments of load.lua."""
        told = [f"heads={self.heads}"]
        told += [f"body={self.up_bytes}"] * (self.up_bytes > 0)
        told += ["chunked=1"] * (self.chunked and self.up_bytes > 0)
        return told + ["close=1"] * self.close


def sized(size: int, folder: str = "files") -> str:
    """The path of a body of that size."""
    return f"/{folder}/{size}"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("small-1", "small, keep-alive, 1 connection", 1),
        Scenario("small-64", "small, keep-alive, 64 connections", 64),
        Scenario("small-1000", "small, keep-alive, 1,000 connections", 1000, at_once=1000),
        Scenario("browser-same", "browser's heads, the same every time, 64 connections", 64, heads="same"),
        Scenario("browser-varying", "browser's heads, varying every time, 64 connections", 64, heads="varying"),
        Scenario("new-connection", "a new connection for each request, 64 at a time", 64, close=True),
        Scenario("down-64k", "64 KiB down, 64 connections", 64, sized(64 * KIB), down_bytes=64 * KIB),
        Scenario("down-1m", "1 MiB down, 16 connections", 16, sized(MIB), down_bytes=MIB),
        Scenario("down-64m", "64 MiB down, 2 connections", 2, sized(64 * MIB), down_bytes=64 * MIB),
        Scenario("up-64k", "64 KiB up, 64 connections", 64, "/up", up_bytes=64 * KIB, down_bytes=0),
        Scenario("up-16m", "16 MiB up, 2 connections", 2, "/up", up_bytes=16 * MIB, down_bytes=0),
        Scenario(
            "chunked-down",
            "64 KiB down, chunked, 64 connections",
            64,
            sized(64 * KIB, "chunked"),
            down_bytes=64 * KIB,
            chunked=True,
        ),
        Scenario(
            "chunked-up",
            "64 KiB up, chunked in 16 KiB, 64 connections",
            64,
            "/up",
            up_bytes=64 * KIB,
            down_bytes=0,
            chunked=True,
        ),
        Scenario("backends-50", "small, keep-alive, 64 connections, 50 backends", 64, backends=50),
    )
}

# Of those who are tuned, and can; they stand in docs/tls.md.
OVER_TLS = {
    scenario.name: scenario
    for scenario in (
        Scenario("tls-small-64", "TLS, small, keep-alive, 64 connections", 64, tls=True),
        Scenario("tls-down-1m", "TLS, 1 MiB down, 8 connections", 8, sized(MIB), down_bytes=MIB, tls=True),
        Scenario(
            "tls-down-64k", "TLS, 64 KiB down, 16 connections", 16, sized(64 * KIB), down_bytes=64 * KIB, tls=True
        ),
        Scenario(
            "tls-new-connection", "TLS, a full handshake for each request, 64 at a time", 64, close=True, tls=True
        ),
        Scenario("tls-resumed", "TLS, a session resumed for each request, 8 at a time", 8, tls=True, resumed=True),
    )
}

# Of those who are tuned, and can; they stand in docs/tcp.md.
OVER_TCP = {
    scenario.name: scenario
    for scenario in (
        Scenario("tcp-small-64", "TCP, small, 64 connections", 64, tcp=True),
        Scenario(
            "tcp-down-64k", "TCP, 64 KiB down, 16 connections", 16, sized(64 * KIB), down_bytes=64 * KIB, tcp=True
        ),
        Scenario("tcp-down-64m", "TCP, 64 MiB down, 2 connections", 2, sized(64 * MIB), down_bytes=64 * MIB, tcp=True),
        Scenario(
            "tcp-new-connection", "TCP, a new connection for each request, 64 at a time", 64, close=True, tcp=True
        ),
    )
}

# Of those who are tuned, and can; they stand in docs/http2.md.
OVER_HTTP2 = {
    scenario.name: scenario
    for scenario in (
        Scenario("h2-small", "HTTP/2, small, 8 connections of 32 streams", 8, streams=32),
        Scenario(
            "h2-browser-varying",
            "HTTP/2, browser's heads, varying, 8 connections of 32 streams",
            8,
            heads="varying",
            streams=32,
        ),
        Scenario(
            "h2-tls-browser-varying",
            "HTTP/2 over TLS, browser's heads, varying, 8 connections of 32 streams",
            8,
            heads="varying",
            streams=32,
            tls=True,
        ),
        Scenario("h2-tls-single", "HTTP/2 over TLS, small, 32 connections of one stream", 32, streams=1, tls=True),
        Scenario(
            "h2-down-64k",
            "HTTP/2, 64 KiB down, 8 connections of 8 streams",
            8,
            sized(64 * KIB),
            down_bytes=64 * KIB,
            streams=8,
        ),
        Scenario(
            "h2-up-64k",
            "HTTP/2, 64 KiB up, 8 connections of 4 streams",
            8,
            "/up",
            up_bytes=64 * KIB,
            down_bytes=0,
            streams=4,
        ),
        Scenario(
            "h2-to-h2",
            "HTTP/2 on both sides, small, 8 connections of 32 streams",
            8,
            streams=32,
            to_http2=True,
        ),
    )
}

RATE = Scenario("rate-70", "small, keep-alive, 256 connections, at a constant rate", 256)
LOGGED = Scenario("logging", "small, keep-alive, 64 connections, with an access log and without", 64)
SLOW = Scenario("slow", "answers that are not over", 1, "/slow/65536", down_bytes=64 * KIB)

BY_CONNECTIONS = {
    number: Scenario(f"connections-{number}", f"{number:,} connections", number, at_once=min(number, 64))
    for number in (1, 10, 100, 1000, 10000)
}
BY_BACKENDS = {
    number: Scenario(f"backends-{number}", f"{number:,} backends", 64, backends=number)
    for number in (2, 10, 50, 200, 1000)
}
