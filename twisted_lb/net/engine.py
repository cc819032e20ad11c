"""What every connection of a balancer shares: the rules, the clock, the balancer and the ways to its backends."""

from collections.abc import Callable
from email.utils import formatdate
from ipaddress import IPv4Network, IPv6Network, ip_address
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from twisted_lb.core.balancer import Balancer
from twisted_lb.core.gate import Gate
from twisted_lb.core.never import NEVER
from twisted_lb.net.answers import ErrorPage, accept_of, own_answer, safe_id
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.wire.fields import Memory, tokens
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.request import RequestFields, parse_request_fields
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.rewrite import Client, Forwarding

if TYPE_CHECKING:
    from twisted_lb.net.connections import Connections
    from twisted_lb.net.downstream import Downstream
    from twisted_lb.net.exchange import Exchange


_NO_LIMIT: Final = 1 << 62


class Timeouts:
    """How long each wait may take, in seconds; and how slow a client may be on average, in bytes a second (0: no bound)."""

    def __init__(
        self,
        *,
        head_s: float,
        body_idle_s: float,
        connect_s: float,
        response_head_s: float,
        response_idle_s: float,
        client_idle_s: float,
        tunnel_idle_s: float,
        client_bytes_per_s: int = 0,
        attempt_s: float = NEVER,
    ) -> None:
        self.head_s: Final = head_s
        self.body_idle_s: Final = body_idle_s
        self.connect_s: Final = connect_s
        self.response_head_s: Final = response_head_s
        self.attempt_s: Final = attempt_s
        self.response_idle_s: Final = response_idle_s
        self.client_idle_s: Final = client_idle_s
        self.tunnel_idle_s: Final = tunnel_idle_s
        # What one byte of a body is worth of the client's time; all of it where there is no bound.
        self.s_per_byte: Final = 1 / client_bytes_per_s if client_bytes_per_s else body_idle_s
        # What a client that takes its answer slowly has to take within response_idle_s.
        self.least_taken: Final = max(1, int(client_bytes_per_s * response_idle_s))


Network = IPv4Network | IPv6Network


class Passing:
    """What is passed on about clients and connections, and believed of them."""

    def __init__(
        self,
        *,
        told: Forwarding,
        trusted: tuple[Network, ...] = (),
        upgrades: frozenset[bytes] = frozenset(),
        make_request_id: bool = False,
        make_traceparent: bool = False,
        finish_half_closed: bool = False,
        pages: dict[int, ErrorPage],
    ) -> None:
        self.told: Final = told
        self.trusted: Final = trusted
        self.upgrades: Final = upgrades
        self.make_request_id: Final = make_request_id
        self.make_traceparent: Final = make_traceparent
        self.stamps: Final[bool] = make_request_id or make_traceparent
        self.finish_half_closed: Final = finish_half_closed
        self.pages: Final = pages

    def client(self, address: str, scheme: bytes, port: bytes) -> Client:
        """Who a connection comes from, and whether it is one of our own proxies."""
        trusted = False
        if self.trusted:
            try:
                ip = ip_address(address.partition("%")[0])
            except ValueError:
                ip = None
            mapped = getattr(ip, "ipv4_mapped", None)
            trusted = ip is not None and any((mapped or ip) in network for network in self.trusted)
        return Client(_plain_address(address).encode("ascii", "replace"), scheme, port, trusted=trusted)

    def allowed_upgrade(self, fields: RequestFields) -> bytes:
        """The protocols that a client may switch to, out of those it offers."""
        if not fields.upgrade or not self.upgrades:
            return b""
        return b", ".join(token for token in tokens(fields.upgrade) if token in self.upgrades)


def _plain_address(address: str) -> str:
    """On a dual-stack listener an IPv4 client comes as ::ffff:1.2.3.4; backends are told 1.2.3.4."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


class Rules:
    """The configuration in the form that the hot path reads. Sizes in bytes; `body_bytes` -1 means no limit.
    `bad_statuses` are those of an answer, 500 or above, that count as its backend's failure.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        limits: Limits,
        passing: Passing,
        replay_bytes: int,
        body_bytes: int,
        retry_after_s: int,
        bad_statuses: frozenset[int] = frozenset(),
    ) -> None:
        self.timeouts: Final = timeouts
        self.limits: Final = limits
        self.passing: Final = passing
        self.replay_bytes: Final = replay_bytes
        self.body_bytes: Final = body_bytes
        self.retry_after_s: Final = retry_after_s
        self.bad_statuses: Final = bad_statuses
        # RFC 9110 7.6.3: a gateway may say Via on answers too.
        self.response_lines: Final = b"Via: 1.1 %b\r\n" % passing.told.via if passing.told.via else b""

    def with_timeouts(self, timeouts: Timeouts) -> "Rules":
        """The same with other timeouts."""
        return Rules(
            timeouts=timeouts,
            limits=self.limits,
            passing=self.passing,
            replay_bytes=self.replay_bytes,
            body_bytes=self.body_bytes,
            retry_after_s=self.retry_after_s,
            bad_statuses=self.bad_statuses,
        )


class Guest(Protocol):
    """A client side on a connection that is not ours."""

    def kill(self) -> None:
        """The time for finishing is over."""


class Engine:
    """One balancer's data path. `draining`: every answer from now on ends its connection.

    `rules` may be replaced while it runs: what has begun to wait waits as it was told, all else goes by the new ones.
    `walltime` gives seconds since the epoch, for Date fields only. `soon` calls something when all others had their turn
    (`Poller.soon`). `observer` is told each exchange that ends; it must not raise. `gate` counts the clients' connections; without one anybody may come in.
    """

    def __init__(
        self,
        balancer: Balancer,
        connections: "Connections",
        deadlines: Deadlines,
        clock: Clock,
        rules: Rules,
        walltime: Clock,
        rng: Random,
        soon: Callable[[Callable[[], None]], None],
        gate: Gate | None = None,
    ) -> None:
        self.balancer: Final = balancer
        self.connections: Final = connections
        self.deadlines: Final = deadlines
        self.clock: Final = clock
        self.rules: Rules = rules
        self.soon: Final = soon
        self.gate: Final[Gate] = Gate(_NO_LIMIT) if gate is None else gate
        self.draining: bool = False
        self.downstreams: set[Downstream] = set()
        self.guests: set[Guest] = set()
        self.observer: Callable[[Exchange], None] | None = None
        # What the last header block of a new connection was understood to be: many clients send the same few fields.
        self.last_version: int = 0
        self.last_block: bytes = b""
        self.last_fields: RequestFields | None = None
        self.last_rules: Rules | None = None
        self.exchanges: int = 0  # running, on whatever client side
        self._walltime: Final = walltime
        self._rng: Final = rng
        self._date: bytes = b""
        self._date_until: float = float("-inf")

    def fields_of(self, version: int, block: bytes, memory: Memory) -> RequestFields:
        """Understand a header block, which mostly is the one that was understood last. BadMessage as parse_request_fields."""
        rules = self.rules
        last = self.last_fields
        if last is not None and block == self.last_block and version == self.last_version and rules is self.last_rules:
            return last
        first = not memory.lines
        fields = parse_request_fields(version, block, rules.limits, memory)
        if first:
            self.last_version = version
            self.last_block = block
            self.last_fields = fields
            self.last_rules = rules
        return fields

    def new_id(self, bits: int = 128) -> bytes:
        """A random id in hexadecimal, never all zeros."""
        return b"%0*x" % (bits // 4, self._rng.getrandbits(bits) or 1)

    def answer(self, status: int, lines: bytes = b"", request_id: bytes = b"") -> tuple[ResponseHead, bytes]:
        """Our own answer to a request with these field lines and this id, if it has come that far."""
        return own_answer(
            status,
            safe_id(request_id) or self.new_id(),
            accept_of(lines),
            self.rules.passing.pages.get(status),
            self.rules.retry_after_s if status == 503 else 0,
        )

    def http_date(self) -> bytes:
        """Now, as a Date field wants it (RFC 9110 5.6.7), made once a second."""
        now = self.clock.now
        if now >= self._date_until:
            wall = self._walltime.read()
            self._date = formatdate(wall, usegmt=True).encode("ascii")
            self._date_until = now + 1.0 - wall % 1.0
        return self._date
