"""Pools: backends, retries, and the connections to them that are kept alive. Their checks: `health_check.py`."""

import dataclasses
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, GetCoreSchemaHandler, field_validator, model_validator
from pydantic_core import core_schema

from twisted_lb.config.affinity import AffinityConfig
from twisted_lb.config.base import SEVERAL, Bytes, Label, Method, Model, Name, Seconds, TextOrTable, error_at
from twisted_lb.config.ejection import EjectionConfig
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.keys import PolicyKey
from twisted_lb.config.limits import HeadLimitsConfig, PoolTimeoutsConfig
from twisted_lb.config.mirror import MirrorConfig
from twisted_lb.config.own_policies import OwnChoice
from twisted_lb.config.policies import DESCRIBED, PolicyChoice, PolicyTable, ShadowChoice
from twisted_lb.config.targets import TargetsConfig
from twisted_lb.config.tcp_keepalive import TcpKeepaliveConfig, TcpKeepaliveSwitch
from twisted_lb.config.tls import PoolTls
from twisted_lb.config.urgency import BY_ROUTE, Urgency
from twisted_lb.core.address import UnixAddress, is_name
from twisted_lb.core.backend import (
    ADAPTIVE,
    HEAVIEST,
    LIGHTEST,
    LOWEST,
    MOST_LIMIT,
    MOST_PORT,
    BackendSpec,
    ThereTwice,
    refuse_twice,
)

NO_BACKEND = "no backend: give at least one, such as 127.0.0.1:8081"

_MOST_IDLE = 100_000


# What is made of a host name with several addresses, and which of its addresses are used.
Resolve = Literal["auto", "first"]
Family = Literal["auto", "ipv4", "ipv6"]


def number_or_adaptive(value: object) -> object:
    """A limit of requests in flight; ValueError for what is none. Of a union pydantic would say what is wrong with each of its kinds."""
    if value == "adaptive" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_LIMIT):
        return value
    raise ValueError(f'should be "adaptive" or a whole number from 0 to {MOST_LIMIT}')


class BackendRulesConfig(Model):
    """What holds for a backend, beside its address and name."""

    weight: int | None = Field(
        default=None,
        ge=LIGHTEST,
        le=HEAVIEST,
        description="Its share of the clients relative to the others; 0: no new requests; left out: 1.",
    )
    priority: int | None = Field(
        default=None,
        ge=0,
        le=LOWEST,
        description="Its level: 0, the first, has all requests as long as 5 in 7 of its backends are usable; what is missing then "
        "goes to the next level. Left out: 0. Danger: each level should be able to bear everything.",
    )
    backup: bool | None = Field(
        default=None,
        description="Whether it is used only while no other backend is usable, of whatever priority; all backups are then used "
        "together. Left out: `false`. Danger: nobody knows whether it works until it is needed: check it too.",
    )
    check_port: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PORT,
        description="Port of its host that checks ask; left out: `health_check.port`, else that of its address. Danger: "
        "whoever answers there may be well while the backend is not.",
    )
    resolve: Resolve | None = Field(
        default=None,
        description="What is made of its host name, in place of the pool's `resolve`.",
    )
    family: Family | None = Field(
        default=None,
        description="Which addresses of its host name are used, in place of the pool's `family`.",
    )

    max_in_flight: Annotated[int, Field(ge=0, le=MOST_LIMIT)] | Literal["adaptive"] | None = Field(
        default=None,
        description="How many requests it may have at a time, in place of the pool's `max_in_flight`; 0: no bound; `adaptive`: as many "
        "as its latency shows it to have workers for, by the pool's `adaptive`. Left out: as the pool says.",
    )
    labels: dict[Label, Label] = Field(
        default={},
        description='What tells it from others, in metrics and by policies: `{ zone = "a" }`.',
    )

    @field_validator("max_in_flight", mode="before")
    @classmethod
    def _is_a_number_or_adaptive(cls, value: object) -> object:
        return value if value is None else number_or_adaptive(value)

    @property
    def limit(self) -> int | None:
        """`max_in_flight` as the core has it."""
        return ADAPTIVE if self.max_in_flight == "adaptive" else self.max_in_flight


class BackendTable(BackendRulesConfig, TextOrTable):
    """One backend as a table: `address`, and if wanted the other keys."""

    _key = "address"

    address: str = Field(
        description="`HOST:PORT` (name or IPv4), `[IPv6]:PORT` or `unix:/path`; a string in place "
        "of the table may add `,weight=3`."
    )
    name: Label | None = Field(
        default=None,
        description="What logs call it; left out: its address.",
    )

    @model_validator(mode="after")
    def _says_weight_once(self) -> Self:
        self.spec()
        return self

    def spec(self) -> BackendSpec:
        """The backend as the core knows it; ValueError for what is wrong with it."""
        spec = BackendSpec.parse(self.address)
        if self.weight is not None:
            if "," in self.address:
                raise ValueError(f"the weight is given twice: in {self.address!r}, and as weight = {self.weight}")
            spec = dataclasses.replace(spec, weight=self.weight)
        if self.backup and self.priority:
            raise ValueError(
                f"a backup is behind all priorities: priority = {self.priority} has no meaning beside backup = true"
            )
        for key in ("resolve", "family"):
            if getattr(self, key) is not None and not is_name(spec.address):
                raise ValueError(f"{key} is for host names, and {spec.address} has none")
        return dataclasses.replace(
            spec,
            name=self.name or spec.name,
            check_port=self.check_port,
            resolve=self.resolve or "",
            family=self.family or "",
            labels=tuple(self.labels.items()),
            limit=self.limit,
            priority=self.priority or 0,
            backup=bool(self.backup),
        )


class _ReadAsTable:
    """Validates a BackendSpec through BackendTable, so that errors name its keys."""

    table = BackendTable

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


def refuse_twice_in_a_list(backends: tuple[BackendSpec, ...]) -> None:
    """The error of a backend that is in a list already, at its place there."""
    try:
        refuse_twice(backends)
    except ThereTwice as error:
        raise error_at(str(error), error.number, beside=(error.first,)) from None


class QueueConfig(Model):
    """The queue of a pool: requests that wait while no backend is usable, or all are full."""

    length: int = Field(
        default=1000,
        validation_alias=AliasChoices("length", "most"),
        ge=0,
        le=1_000_000,
        description="How many requests may wait; beyond that they are refused at once (`full_status`). Danger: all of them come at "
        "once to the first backend that is back.",
    )
    timeout_s: float = Field(
        default=10.0,
        ge=0,
        le=3600,
        description="How long a request waits while all usable backends have as many as `max_in_flight` lets them; 0: not at all. "
        "Danger: longer than clients wait, and backends work for those that have gone.",
    )

    no_backend_s: float = Field(
        default=1.0,
        ge=0,
        le=3600,
        description="How long a request waits for a backend while none is usable, as during a restart; 0: not at all. One whose backend was refused waits too. Danger: a long wait holds clients while nobody can serve them.",
    )
    fair_by: PolicyKey | None = Field(
        default=None,
        description='Whose requests are served by turns, so that who sends many does not hold up who sends few: `"client"`, `"path"`, '
        "`{ header = NAME }`, `{ cookie = NAME }` or `{ query = NAME }`, as a route's `key`. A turn is of equal `cost` for each. Left "
        "out: first come, first served.",
    )
    priority_by: Urgency = Field(
        default=BY_ROUTE,
        description='Who says how urgent a request is; the most urgent one is served first, whoever waits: `"route"`, its route\'s '
        '`urgency`; `{ header = "Priority" }`, a header field as RFC 9218 has it (`u=0` to `u=7`); `{ header = NAME, classes = '
        "{ interactive = 1, batch = 6 } }`, its words; what says nothing is as its route says. Danger: whoever sends the field says it, "
        "and the least urgent may never be served in time.",
    )
    full_status: Literal[503, 429] = Field(
        default=503,
        description="Status of requests that find the queue full, or have waited for `timeout_s`. `Retry-After` says when those that "
        "wait now will have been served, by how many requests ended in the last seconds.",
    )
    when_full: Literal["wait", "spill"] = Field(
        default="wait",
        description="What becomes of a request where all backends of a level have as many requests in flight as they may: it waits "
        "(`wait`), or goes on to a level that is not in use, backups at last (`spill`). Danger: `spill` takes load to where "
        "nobody may have meant it to be, as another site.",
    )


class AdaptiveConfig(Model):
    """The adaptive limit (gradient): how many requests each backend may have at a time is learnt from its latency, where
    `max_in_flight` is `adaptive`, that of the pool or its own. Latency is until the head of an answer.
    """

    least: int = Field(
        default=1,
        ge=1,
        le=MOST_LIMIT,
        description="What the limit never falls below. Danger: more than a backend has workers, and its unloaded latency is never seen.",
    )
    most: int = Field(
        default=1000,
        ge=1,
        le=MOST_LIMIT,
        description="What the limit never grows beyond.",
    )
    tolerance_percent: float = Field(
        default=25,
        ge=0,
        le=1000,
        description="How much slower than unloaded a backend may get before its limit falls. Where latency grows with each request "
        "long before throughput is full, as with batches on a GPU, 50 to 100. Danger: much of it is a queue inside the backend.",
    )
    measure_s: float = Field(
        default=60,
        ge=1,
        le=86_400,
        description="How often the unloaded latency is measured anew: for 50 requests the limit is half of what it was, less only "
        "where that has brought latency down; requests wait for it in the queue. Backends that have little to do are measured "
        "without that. Danger: seldom, and a backend that has become slower at everything is held back for as long.",
    )

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least = {self.least} is more than most = {self.most}")
        return self


class SlowStartConfig(Model):
    """Slow start (warm-up): a backend that has come back, or is new, gets its share of the requests little by little."""

    window_s: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="How long it takes until a backend has its whole weight, and its whole limit of requests in flight: after its "
        "checks found it up again, an ejection, maintenance, or when it is added; never at the start of the process, nor while "
        "fewer than half of the usable weight of its level are past it. 0: at once. Policies by key do not follow it.",
    )
    aggression: float = Field(
        default=1.0,
        ge=0.1,
        le=100,
        description="How the ramp bends: 1 is a straight line; more begins steeper, with 2 a quarter of the time brings half of "
        "the weight. Danger: less than 1 gives nearly everything at the end.",
    )
    floor_percent: int = Field(
        default=10,
        ge=1,
        le=100,
        description="The least part of its weight that it gets from the first moment on. Danger: too little to warm anything up.",
    )


class PanicConfig(Model):
    """Panic: so few backends are usable that the others are used too, since those few would break down. Never used is what an
    operator has taken out.
    """

    threshold_percent: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Where fewer of the backends of a level that the operator wants are usable than this, those that traffic has "
        "ejected are used too; not as long as all levels together can bear everything, as they can with 5 in 7 of one level. 0: "
        "never. Danger: some requests go to backends that fail.",
    )
    even_down: bool = Field(
        default=False,
        description="Whether those are used too that their checks have found unhealthy. Danger: they have said so themselves.",
    )


GrpcCode = Literal[
    "cancelled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists", "permission_denied",
    "resource_exhausted", "failed_precondition", "aborted", "out_of_range", "unimplemented", "internal", "unavailable", "data_loss",
    "unauthenticated",
]  # fmt: skip


class RetryConfig(Model):
    """Retries: when a request that a backend failed is given to another one, and the budget for that."""

    more_attempts: int = Field(
        default=2,
        ge=0,
        le=10,
        description="Attempts after the first one (retries); 0 never retries. Danger: each attempt adds "
        "to the time a client may wait.",
    )
    methods: Annotated[tuple[Method, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Methods that may be sent twice to these backends, beside those that always may (RFC 9110 9.2.2), whichever route "
        "leads here; a route's `repeatable` says it for its own requests. Danger: what such a request does may be done twice.",
    )
    bad_statuses: tuple[Annotated[int, Field(ge=500, le=599, strict=True)], ...] = Field(
        default=(),
        strict=False,
        description="Statuses of a backend, 500 to 599, that count as its failure: a request that "
        "may be repeated goes to another backend, and the client sees the answer only when none "
        "is left. Danger: where all are overloaded, `503` here asks each of them again.",
    )
    grpc: Annotated[tuple[GrpcCode, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Codes of gRPC, as `unavailable`, with which a call is given to another backend, whatever its method does, where nothing "
        "but that code was answered (trailers only). A server that says when to come again (`grpc-retry-pushback-ms`) is heeded, and one "
        "that says never too. Danger: a server that has done its work before it answers so does it twice.",
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
    backoff_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="Wait before a retry (exponential backoff, full jitter): by chance between 0 and this, before each further one twice "
        "as much. Only after failures of backends that listen: 5xx, no answer, a broken or late one, a full backlog; where nobody "
        "has heard of the request another backend is asked at once. 0: always at once, since a retry goes to another backend, and "
        "the budget bounds them. Danger: clients wait for it.",
    )
    backoff_most_s: Seconds | None = Field(
        default=None,
        description="What `backoff_s` grows to at most; left out: ten times `backoff_s`.",
    )
    retry_after_most_s: float = Field(
        default=5.0,
        ge=0,
        le=300,
        description="The longest wait that is taken before a retry where an answer with one of `bad_statuses` asks for one "
        "(`Retry-After`); where there is no time for it, the client gets that answer. What asks for more speaks of itself, as in "
        "maintenance, and another backend is asked at once; 0: always. Danger: clients wait for it.",
    )

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.backoff_most_s is not None and self.backoff_most_s < self.backoff_s:
            raise ValueError(f"backoff_most_s = {self.backoff_most_s:g} is less than backoff_s = {self.backoff_s:g}")
        return self

    @property
    def longest_s(self) -> float:
        """`backoff_most_s`, also where it is left out."""
        return 10 * self.backoff_s if self.backoff_most_s is None else self.backoff_most_s


class HedgeConfig(Model):
    """Hedging (backup requests): a request that has no answer yet after a while is sent to a second backend too, and whichever answers
    first is heard. Only what may be repeated, with its body held, and while somebody else has a place free; paid by the retry budget.
    Backends that finish what is taken back need `max_in_flight` and `abandoned_s`.
    """

    percentile: float = Field(
        default=0.0,
        ge=0,
        le=99.9,
        description="After the time in which so many of a hundred answers of this pool begin, as measured over the last 20 to 30 s, 50 at "
        "least; 95 makes one more request of 20. 0, as `delay_s`: no hedging. Danger: as much more load, bounded by the budget alone.",
    )
    delay_s: float = Field(
        default=0.0,
        ge=0,
        le=3600,
        description="After this time, whatever is measured, in place of `percentile`; 0: by that. Danger: where all become slower than "
        "that, each request is hedged that the budget pays for.",
    )
    least_delay_s: float = Field(
        default=0.001,
        ge=0,
        le=60,
        description="What the measured time counts as at least: where most answers take no time, chance alone is beyond it.",
    )

    @field_validator("percentile")
    @classmethod
    def _is_the_slower_half(cls, value: float) -> float:
        if 0 < value < 50:
            raise ValueError("should be 50 to 99.9, or 0 for no hedging by what is measured")
        return value

    @property
    def on(self) -> bool:
        """Whether anything is hedged."""
        return self.percentile > 0 or self.delay_s > 0


class UpstreamConfig(Model):
    """Connections to backends that are kept open for the next request (keep-alive, connection pool)."""

    max_idle: Annotated[int, Field(ge=0, le=_MOST_IDLE)] | Literal["auto"] = Field(
        default="auto",
        description="Idle connections kept for each backend; `auto`: as many as were in use at once in the last minute, at "
        "least 32; 0 opens a new one for each request. Danger: each costs the backend a connection, in a threaded server a "
        "thread.",
    )
    reuse: Literal["safe", "always"] = Field(
        default="safe",
        description="Which requests that must not be sent twice may take a kept connection (keep-alive race): `safe`: a "
        "client's first one only where the backend was seen to keep 100 connections idle for a second and closed none early, "
        "and none for a minute where one was closed within a second of an answer; `always`: each within "
        "`reuse_unsafe_within_s`. Danger: `always` fails a request now and then where backends close without a word.",
    )
    idle_s: Seconds = Field(
        default=60,
        description="How long a connection may stay idle; less where the backend says so (`Keep-Alive: timeout=N`) or "
        "was seen to close idle ones: 0.8 of that. A connection on which a client may be logged in (NTLM, Negotiate) is that "
        "client's alone, for as long as its own is open: no bound here is for it.",
    )
    max_requests: int = Field(
        default=1000,
        ge=1,
        le=2**31,
        description="Requests on one connection before it is replaced.",
    )
    max_age_s: Seconds = Field(
        default=3600,
        description="Age at which a connection is replaced after its current request, so that whatever stands in between, as "
        "another balancer, can lead it elsewhere. Changes of a name's addresses are followed without that.",
    )
    reuse_unsafe_within_s: float = Field(
        default=1.0,
        validation_alias=AliasChoices("reuse_unsafe_within_s", "fresh_s"),
        ge=0,
        le=86400,
        description="A request that must not be sent twice takes a connection only if it was in use less than "
        "this ago; 0: always a new one. Danger: longer than the backend's own keep-alive fails such requests "
        "(keep-alive race).",
    )

    @field_validator("max_idle", mode="before")
    @classmethod
    def _is_a_number_or_auto(cls, value: object) -> object:
        # Of a union pydantic would say what is wrong with each of its kinds.
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_IDLE):
            return value
        raise ValueError(f'should be "auto" or a whole number from 0 to {_MOST_IDLE}')

    @property
    def fresh_s(self) -> float:
        """`reuse_unsafe_within_s`, by the older name of its key."""
        return self.reuse_unsafe_within_s


class ChoiceConfig(Model):
    """How a pool finds a backend for a request, and what is made of host names."""

    profile: Literal["wsgi", "inference"] | None = Field(
        default=None,
        description='What its backends are, a word for settings: `"wsgi"`, synchronous workers (gunicorn, uWSGI), which are kept from slow '
        'clients; `"inference"`, language models, whose answers take long and are never held back. See Profiles, below. Whatever is said '
        "in the file wins over it, key by key, also in `[defaults.pool]` and `[defaults.route]`. Left out: none.",
    )
    policy: PolicyChoice = Field(
        default="rr", validation_alias=AliasChoices("policy", "strategy"), description=DESCRIBED
    )
    max_in_flight: Annotated[int, Field(ge=0, le=MOST_LIMIT)] | Literal["adaptive"] = Field(
        default=0,
        description="How many requests each backend may have at a time, from when it is given one to the end of the answer, tunnels "
        "among them; 0: no bound; `adaptive`: as many as its latency shows it to have workers for, see `adaptive`. Where all have as many, requests wait in the queue. Danger: too few, and requests wait for backends "
        "that have nothing to do.",
    )
    abandoned_s: float = Field(
        default=0.0,
        ge=0,
        le=86400,
        description="For how long a request that nobody waits for any more still counts among the `max_in_flight` of its backend, "
        "which may go on working at it: its client has gone, it took longer than `timeouts` allow, or it was moved to another backend. Until "
        "the backend has answered or closed the connection, at most so long. 0: its place is free at once. Danger: backends that "
        "notice nothing of it are given no other request meanwhile.",
    )
    buffer_request_bytes: Bytes = Field(
        default=0,
        description="A request gets a backend only when its body is here, or so much of it, so that slow uploads hold no worker; 0: "
        "at once. Held are as many bytes as `limits.memory_bytes` allows all together; more bodies wait, for `queue.timeout_s`, "
        "and then go on without. A client that expects `100 Continue` gets it. Danger: an application that answers while it reads, "
        "and its client that waits for that, both wait.",
    )
    buffer_response_bytes: Bytes = Field(
        default=0,
        description="How far an answer is read ahead of a client that does not keep up, so that the backend is free when it has said "
        "all; 0: no more than the buffers of the client's connection. Every byte goes on at once to who takes it. Danger: what is "
        "read ahead of a client that leaves was made for nobody.",
    )
    resolve: Resolve = Field(
        default="auto",
        description="What is made of a backend's host name: `auto`: where it has several addresses of one family, as a headless "
        "service or a scaled container has, each of them is a backend called NAME@ADDRESS, and others are tried in turn for "
        "each connection; `first`: all are tried in turn, the one that worked last first. Names are resolved every 5 s. Danger: "
        "each address has the weight that the backend has.",
    )
    family: Family = Field(
        default="auto",
        description="Which addresses of host names are used: `ipv4`, `ipv6`, or `auto`: those that there are, and to spread over "
        "them the IPv4 ones where there is any.",
    )

    close_when_down: bool = Field(
        default=False,
        description="Whether tunnels (WebSockets) are cut that lead to a backend which checks, its agent or traffic have taken out "
        "(`on-marked-down shutdown-sessions`), so that clients connect anew, elsewhere; requests are not: they have retries, and "
        "`health_check.move`. Danger: a backend that refuses new connections while it finishes its tunnels, as at a graceful restart, "
        "loses them.",
    )
    leave_backups: bool = Field(
        default=False,
        description="Whether tunnels that lead to a `backup` are cut when other backends of the pool are used again "
        "(`on-marked-up shutdown-backup-sessions`). Danger: all of them connect anew at once.",
    )
    send_proxy: Literal["off", "v1", "v2"] = Field(
        default="off",
        description="Begin each connection to its backends with a header of the PROXY protocol, of this version, that says who is "
        "connected to us; those of checks say that they are ours. Danger: a backend that does not expect it refuses everything, and each "
        "client's connection has connections to backends of its own, which others do not use.",
    )
    policy_budget_us: int = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="How many microseconds a pick of a policy of your own may take: one that takes longer is used and counted, and "
        "after ten within a second `p2c` picks for 10 s; 0: as long as it likes. Danger: nothing else moves meanwhile.",
    )

    @field_validator("max_in_flight", mode="before")
    @classmethod
    def _is_a_number_or_adaptive(cls, value: object) -> object:
        return number_or_adaptive(value)

    @property
    def strategy(self) -> str | PolicyTable | OwnChoice:
        """`policy`, by the older name of its key."""
        return self.policy


class ShadowConfig(Model):
    """A second policy that sees the same claims and routes nothing (shadow mode)."""

    policy: ShadowChoice = Field(
        default=None,
        description="What it would have picked, and what it would have in flight, is in metrics and in what explains requests; as "
        "`policy`; left out: none. Danger: each claim takes the time of two.",
    )


class PoolRulesConfig(ChoiceConfig):
    """What holds for a pool, whoever its backends are."""

    check: Name | None = Field(
        default=None, description="Checks of `[checks.NAME]`; what `health_check` says here is said in their place."
    )
    health_check: HealthCheckConfig = HealthCheckConfig()
    ejection: EjectionConfig = EjectionConfig()
    queue: QueueConfig = QueueConfig()
    affinity: AffinityConfig = AffinityConfig()
    adaptive: AdaptiveConfig = AdaptiveConfig()
    slow_start: SlowStartConfig = SlowStartConfig()
    panic: PanicConfig = PanicConfig()
    retry: RetryConfig = RetryConfig()
    hedge: HedgeConfig = HedgeConfig()
    shadow: ShadowConfig = ShadowConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    tcp_keepalive: TcpKeepaliveSwitch = TcpKeepaliveConfig()
    timeouts: PoolTimeoutsConfig = PoolTimeoutsConfig()
    limits: HeadLimitsConfig = HeadLimitsConfig()


class PoolConfig(PoolRulesConfig):
    """A pool: interchangeable backends behind one policy."""

    backends: tuple[Backend, ...] = Field(
        default=(),
        strict=False,
        description="The backends, as strings or tables; none twice. May be left out beside `targets`, whose backends come "
        "besides.",
    )
    targets: TargetsConfig | None = Field(
        default=None, description="Where a list of backends is kept that somebody else changes; left out: nowhere."
    )
    mirror: MirrorConfig | None = Field(
        default=None, description="To which other pool a share of its requests is sent too; left out: to none."
    )
    tls: PoolTls | None = Field(
        default=None,
        description="TLS to its backends, and to its checks; the table may be empty. Left out: plain HTTP.",
    )
    protocol: Literal["h1", "h2", "auto"] = Field(
        default="h1",
        description="What is spoken to its backends, checks included: `h1`, HTTP/1.1; `h2`, HTTP/2, over TLS by ALPN and else begun with at "
        "once (prior knowledge); `auto`, over `tls` what each backend chooses, else HTTP/1.1. Danger: with `h2` a backend that speaks "
        "HTTP/1.1 alone refuses everything, and clients that want to switch protocols (WebSockets) get 501.",
    )

    @field_validator("backends")
    @classmethod
    def _are_some_and_distinct(cls, value: tuple[BackendSpec, ...]) -> tuple[BackendSpec, ...]:
        refuse_twice_in_a_list(value)
        return value

    @model_validator(mode="after")
    def _has_backends(self) -> Self:
        if not self.backends and self.targets is None:
            raise ValueError(NO_BACKEND)
        return self

    @model_validator(mode="after")
    def _is_asked_what_it_speaks(self) -> Self:
        if self.health_check.kind == "grpc" and self.protocol == "h1":
            raise ValueError('health_check.kind = "grpc" needs protocol = "h2": calls of gRPC are spoken in HTTP/2')
        return self

    @model_validator(mode="after")
    def _shares_what_can_be_shared(self) -> Self:
        if self.send_proxy != "off" and self.protocol != "h1":
            raise ValueError(
                f"send_proxy = {self.send_proxy!r} tells whose a connection is, and with protocol = {self.protocol!r} "
                "connections are shared: one of both"
            )
        return self

    @model_validator(mode="after")
    def _can_be_verified(self) -> Self:
        if self.tls is not None and self.tls.verify and self.tls.server_name is None:
            nameless = [one.address for one in self.backends if isinstance(one.address, UnixAddress)]
            if nameless:
                raise ValueError(f"{nameless[0]} has no name that a certificate could be for: say tls.server_name")
        return self
