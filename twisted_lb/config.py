"""Configuration: every option of the balancer, its default, its bounds, and what it may break.

This is the only place of defaults. Build a `LoadBalancerConfig` yourself, or let `config_load`
read it from TOML or the command line; `config_reference` renders what is here as documentation and
`LoadBalancerConfig.model_json_schema()` serves editors.
"""

import dataclasses
import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import HEAVIEST, BackendSpec
from twisted_lb.core.pickers import POLICIES

NO_BACKEND = "no backend: give at least one, such as 127.0.0.1:8081"

# Checks closer together than this measure the balancer and not the backend.
SHORTEST_INTERVAL_S = 0.05

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=0, le=2**40)]


class Model(BaseModel):
    """A table of the configuration: frozen, unknown keys refused, nothing converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


def _split_listen_address(value: object) -> object:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (all interfaces) as the table of a ListenConfig."""
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or (":" in host and host[0] != "["):
        raise ValueError("should be HOST:PORT, such as 127.0.0.1:9000")
    return {"interface": host, "port": int(port)}


class ListenConfig(Model):
    """Where the balancer accepts its clients."""

    port: int = Field(
        default=80,
        ge=0,
        le=65535,
        description="TCP port. 0 lets the kernel choose, which the start line then names. "
        "Danger: below 1024 needs root or CAP_NET_BIND_SERVICE.",
    )
    interface: str = Field(
        default="",
        description="IP address to listen on; empty means all, `localhost` means 127.0.0.1. "
        "Danger: all interfaces is everybody who can reach this machine.",
    )

    @property
    def where(self) -> str:
        """How messages call it: `port 80`, `127.0.0.1:80`, `[::1]:80`."""
        if not self.interface:
            return f"port {self.port}"
        host = f"[{self.interface}]" if ":" in self.interface else self.interface
        return f"{host}:{self.port}"

    @field_validator("interface")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value in ("", "*"):
            return ""
        if value == "localhost":
            return "127.0.0.1"
        try:
            return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
        except ValueError:
            raise ValueError("should be an IP address, such as 127.0.0.1 or ::1") from None


class SiblingConfig(ListenConfig):
    """The sibling backend, `twistd be`."""

    port: int = Field(default=8080, ge=0, le=65535, description="TCP port; 0: the kernel's choice.")
    name: str | None = Field(
        default=None,
        max_length=100,
        pattern="^[!-~]+$",
        description="What its answers call it; left out: `be-` and its port.",
    )


class HealthCheckConfig(Model):
    """The question each backend is asked again and again, and when the answers count."""

    interval_s: float = Field(
        default=2.0,
        ge=0,
        le=86400,
        description="Seconds from one check of a backend to its next; 0 turns checks off. "
        "Danger: without checks a dead backend is only found by the requests it fails.",
    )
    kind: Literal["http", "tcp"] = Field(
        default="http",
        description="`http` sends a GET and passes on any 2xx or 3xx; `tcp` only connects. "
        "Danger: a hung application still accepts connections, so `tcp` calls it healthy.",
    )
    path: str = Field(
        default="/",
        description="Path, with query if any, that `http` asks for. Danger: a dear page is paid "
        "for by every balancer at every interval.",
    )
    timeout_s: Seconds | None = Field(
        default=None,
        description="Seconds to wait for the answer; left out: 0.8 of the interval, at most 5. "
        "Danger: shorter than the slowest healthy answer takes good backends out.",
    )
    rise: int = Field(
        default=2,
        ge=1,
        le=1000,
        description="Checks that must pass in a row before a backend that is down is used again; "
        "the very first check decides alone. Danger: 1 lets a flapping backend flap.",
    )
    fall: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="Checks that must fail in a row before a backend is taken out. "
        "Danger: 1 takes a backend out for one lost packet.",
    )

    @property
    def enabled(self) -> bool:
        """Whether backends are checked at all."""
        return self.interval_s > 0

    @property
    def answer_timeout_s(self) -> float:
        """How long one check waits: `timeout_s`, or what follows from the interval."""
        return min(0.8 * self.interval_s, 5.0) if self.timeout_s is None else self.timeout_s

    @field_validator("interval_s")
    @classmethod
    def _is_off_or_sane(cls, value: float) -> float:
        if 0 < value < SHORTEST_INTERVAL_S:
            raise ValueError(f"should be 0 (off) or at least {SHORTEST_INTERVAL_S}")
        return value

    @field_validator("path")
    @classmethod
    def _is_a_request_target(cls, value: str) -> str:
        # RFC 9112 3.2.1: origin-form; a fragment is never sent.
        if not re.fullmatch(r"/[!\"$-~]*", value):
            raise ValueError("should begin with / and hold no space, # or non-ASCII character")
        return value


class RetryConfig(Model):
    """When a request that a backend failed is given to another one."""

    more_attempts: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Attempts after the first one; 0 never retries. Danger: each attempt adds "
        "to the time a client may wait.",
    )
    bad_statuses: tuple[Annotated[int, Field(ge=500, le=599, strict=True)], ...] = Field(
        default=(),
        strict=False,
        description="Statuses of a backend, 500 to 599, that count as its failure: a request that "
        "may be repeated goes to another backend, and the client sees the answer only when none "
        "is left. Danger: where all are overloaded, `503` here asks each of them again.",
    )
    budget_percent: int = Field(
        default=20,
        ge=0,
        le=100,
        description="Retries allowed as a share of requests. Danger: 100 may double the load on "
        "backends that are failing because of load.",
    )
    budget_per_s: int = Field(
        default=10,
        ge=0,
        le=100_000,
        description="Retries a second that are allowed whatever the share, so that a quiet "
        "balancer retries too. 0 leaves the share alone to decide.",
    )


class TimeoutsConfig(Model):
    """How long each kind of waiting may last; nothing waits for ever."""

    head_s: Seconds = Field(
        default=10,
        description="For a client to send a whole request head, from its first byte. Danger: "
        "long values let slow clients hold connections open.",
    )
    body_idle_s: Seconds = Field(
        default=30,
        description="For the next byte of a request body, and what a client that sends slower than "
        "`limits.client_bytes_per_s` may be late. Danger: short values cut uploads over bad networks.",
    )
    connect_s: Seconds = Field(
        default=5,
        description="For a backend to accept a connection, all addresses of its name together.",
    )
    response_head_s: Seconds = Field(
        default=60,
        description="For a backend to begin its answer, after it has the whole request; over all attempts together. "
        "Danger: shorter than the slowest page turns it into a 504.",
    )
    attempt_s: Seconds | None = Field(
        default=None,
        description="The same for a single attempt, so that time is left to ask another backend where that is safe; left "
        "out: an attempt may take all of it. Danger: shorter than the slowest page asks every backend for it.",
    )
    response_idle_s: Seconds = Field(
        default=60,
        description="For the next byte of an answer that has begun, and for a client to take what it was sent. "
        "Danger: shorter than the silences of an event stream cuts it.",
    )
    client_idle_s: Seconds = Field(
        default=75,
        description="For the next request on a client's connection.",
    )
    tunnel_idle_s: Seconds = Field(
        default=3600,
        description="For the next byte in either direction of a tunnel, such as a WebSocket. Danger: "
        "shorter than the application's own pings cuts quiet clients off.",
    )
    drain_s: Seconds = Field(
        default=8,
        description="For running exchanges to finish when the balancer is stopped; what is not "
        "finished then is cut. Danger: longer than your service manager's patience is cut by it.",
    )


class LimitsConfig(Model):
    """How much of a message is held, or accepted at all; beyond it the client gets a 4xx."""

    request_line_bytes: int = Field(
        default=8192,
        ge=64,
        le=2**20,
        description="Longest request line (414 beyond it). Danger: below 8000 breaks real URLs.",
    )
    head_bytes: int = Field(
        default=32768,
        ge=256,
        le=2**22,
        description="Longest head of a request or an answer, first line included (431 beyond "
        "it). Danger: every connection may hold this much.",
    )
    head_fields: int = Field(
        default=128,
        ge=8,
        le=10_000,
        description="Most header fields in a head (431 beyond it).",
    )
    trailer_bytes: int = Field(
        default=8192,
        ge=0,
        le=2**20,
        description="Longest trailer section of a chunked body.",
    )
    replay_body_bytes: Bytes = Field(
        default=65536,
        description="How much of a request body is held for a retry; a longer one is not retried "
        "once sent. Danger: every running request may hold this much.",
    )
    body_bytes: Bytes | None = Field(
        default=None,
        description="Longest request body (413 beyond it); left out: no limit, bodies are "
        "streamed and never held whole. Danger: without a limit the backends must have one.",
    )
    connections: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Clients' connections that may be open at once; who comes then waits in the kernel's queue until one "
        "closes. Left out: half of the descriptors that the process may open, less some of its own, since each may need one "
        "to a backend. "
        "Danger: more than half runs out of descriptors, and requests get a 503.",
    )
    connections_per_client: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="Of those, how many one address may have open (an IPv6 one: its whole /64); more get a 429 and are "
        "closed. 0: no such limit; `forwarding.trusted_proxies` have none. Danger: many people share one address.",
    )
    client_bytes_per_s: int = Field(
        default=240,
        ge=0,
        le=2**30,
        description="The slowest a client may send its body or take its answer, on average; a body that drips is 408, "
        "an answer that is sipped is cut. 0: no bound. Danger: uploads that trickle by design need 0.",
    )


class UpstreamConfig(Model):
    """Connections to backends that are kept open for the next request."""

    max_idle: int = Field(
        default=32,
        ge=0,
        le=100_000,
        description="Idle connections kept for each backend; 0 opens a new one for each request. "
        "Danger: each costs the backend a connection, in a threaded server a thread.",
    )
    idle_s: Seconds = Field(
        default=60,
        description="How long one may stay idle; less where the backend says so (`Keep-Alive: timeout=N`) or "
        "was seen to close idle ones: 0.8 of that.",
    )
    max_requests: int = Field(
        default=1000,
        ge=1,
        le=2**31,
        description="Requests on one connection before it is replaced.",
    )
    max_age_s: Seconds = Field(
        default=3600,
        description="Age at which a connection is replaced after its current request, so that "
        "changes of a name's addresses are followed.",
    )
    fresh_s: float = Field(
        default=1.0,
        ge=0,
        le=86400,
        description="A request that must not be sent twice takes a connection only if it was in use less than "
        "this ago; 0: always a new one. Danger: longer than the backend's own keep-alive fails such requests.",
    )


class LogConfig(Model):
    """What is logged beside the start and the changes of state."""

    requests: Literal["none", "failed", "all"] = Field(
        default="none",
        description="A line for each request when it is over, with client, status, outcome, backend, attempts and "
        "duration: `failed`: for those that did not simply get their backend's answer at the first attempt. "
        "Danger: `all` costs more than the balancing.",
    )


class ForwardingConfig(Model):
    """What backends are told about clients, and what is believed of clients."""

    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Addresses and networks (`10.0.0.0/8`) of proxies in front of this one, whose "
        "X-Forwarded-* and Forwarded count. Danger: whoever is listed can say to be anybody.",
    )
    forwarded: bool = Field(default=False, description="Send RFC 7239 `Forwarded` beside X-Forwarded-*.")
    via: str = Field(
        default="",
        max_length=100,
        pattern="^[!#$%&'*+.^_`|~0-9A-Za-z-]*$",
        description="Name under which `Via` is added to requests and answers; empty: it is not.",
    )
    request_id: Literal["pass", "make"] = Field(
        default="pass",
        description="`make` gives requests that come without X-Request-ID one; those that have one keep it.",
    )
    traceparent: Literal["pass", "make"] = Field(
        default="pass",
        description="`make` gives requests that come without W3C `traceparent` one, not sampled.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError(f"{text} should be an address or a network, such as 10.0.0.0/8") from None
        return value


class BackendTable(Model):
    """One backend as a table: `address`, and if wanted `weight` and `name`."""

    address: str = Field(
        description="`HOST:PORT` (name or IPv4), `[IPv6]:PORT` or `unix:/path`; a string in place "
        "of the table may add `,weight=3`."
    )
    weight: int | None = Field(
        default=None,
        ge=1,
        le=HEAVIEST,
        description="Its share of the clients relative to the others; left out: 1.",
    )
    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        pattern="^[!-~]+$",
        description="What logs and metrics call it; left out: its address.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"address": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _says_weight_once(self) -> Self:
        self.spec()
        return self

    def spec(self) -> BackendSpec:
        """The backend as the core knows it; ValueError for what is wrong with it."""
        text = self.address if self.weight is None else f"{self.address},weight={self.weight}"
        spec = BackendSpec.parse(text)
        return spec if self.name is None else dataclasses.replace(spec, name=self.name)


class _ReadAsTable:
    """Validates a BackendSpec through BackendTable, so that errors name its keys."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(value: object, inner: core_schema.ValidatorFunctionWrapHandler) -> BackendSpec:
            if isinstance(value, BackendSpec):
                return value
            table: BackendTable = inner(value)
            return table.spec()

        return core_schema.no_info_wrap_validator_function(
            read,
            handler.generate_schema(BackendTable),
            serialization=core_schema.to_string_ser_schema(),
        )


Backend = Annotated[BackendSpec, _ReadAsTable]
StatusAddress = Annotated[ListenConfig, BeforeValidator(_split_listen_address)]


class LoadBalancerConfig(Model):
    """A load balancer: these clients, that policy, those backends."""

    backends: tuple[Backend, ...] = Field(
        strict=False,
        description="The backends, as strings or tables; at least one, none twice.",
    )
    strategy: str = Field(
        default="rr",
        description=f"How a client finds its backend: {', '.join(f'`{p}`' for p in POLICIES)}.",
        json_schema_extra={"enum": list(POLICIES)},
    )
    status: StatusAddress | None = Field(
        default=None,
        description="`HOST:PORT` of a small listener that answers `/-/ready` and `/-/live`; "
        "left out: there is none. Danger: anybody who reaches it learns the balancer's state.",
    )
    upgrades: tuple[str, ...] = Field(
        default=("websocket",),
        strict=False,
        description="Protocols that a client may switch its connection to (`Upgrade`); other offers "
        "are removed and the request goes on as plain HTTP. Danger: what is inside is not looked at.",
    )
    client_half_close: Literal["abort", "finish"] = Field(
        default="abort",
        description="What it means that a client closes its sending side while it is answered: "
        "`abort`: it has left, and its request is taken back; `finish`: answer it all the same.",
    )
    error_pages: dict[str, str] = Field(
        default={},
        description='Files that replace our own error answers, by status: `503 = "/etc/lb/503.html"`; '
        "the ending (.html, .json, else text) says the type. Read once, at the start.",
    )
    listen: ListenConfig = ListenConfig()
    health_check: HealthCheckConfig = HealthCheckConfig()
    retry: RetryConfig = RetryConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    limits: LimitsConfig = LimitsConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    forwarding: ForwardingConfig = ForwardingConfig()
    log: LogConfig = LogConfig()

    @field_validator("upgrades")
    @classmethod
    def _are_tokens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for token in value:
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+", token):
                raise ValueError(f"{token!r} should be a protocol name, such as websocket")
            if token.lower() in ("h2c", "h2") or token.lower().startswith(("http/", "tls/")):
                # What such a switch carries are requests, which nobody would look at any more.
                raise ValueError(f"{token} cannot be allowed: requests inside it would bypass every rule")
        return tuple(token.lower() for token in value)

    @field_validator("error_pages")
    @classmethod
    def _are_statuses(cls, value: dict[str, str]) -> dict[str, str]:
        for status in value:
            if not re.fullmatch("[45][0-9][0-9]", status):
                raise ValueError(f"{status} should be a status from 400 to 599")
        return value

    @field_validator("strategy")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in POLICIES:
            raise ValueError(f"should be one of {', '.join(POLICIES)}")
        return value

    @field_validator("backends")
    @classmethod
    def _are_some_and_distinct(cls, value: tuple[BackendSpec, ...]) -> tuple[BackendSpec, ...]:
        if not value:
            raise ValueError(NO_BACKEND)
        names: set[str] = set()
        addresses: set[str] = set()
        for spec in value:
            if str(spec.address) in addresses:
                raise ValueError(f"{spec.address} is there twice")
            if spec.name in names:
                raise ValueError(f"the name {spec.name} is there twice")
            names.add(spec.name)
            addresses.add(str(spec.address))
        return value

    @model_validator(mode="after")
    def _does_not_feed_itself(self) -> Self:
        own = {self.listen.interface} if self.listen.interface else {"127.0.0.1", "::1"}
        own |= {"localhost"} if own & {"127.0.0.1", "::1"} else set()
        for address in (spec.address for spec in self.backends):
            if isinstance(address, TcpAddress) and address.port == self.listen.port and address.host in own:
                raise ValueError(f"backend {address} is this balancer itself")
        return self
