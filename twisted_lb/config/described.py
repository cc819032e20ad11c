"""What a configuration describes: listeners, routes and pools, in tables by name or in the flat keys of those called `default`."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from twisted_lb.config.affinity import AffinityConfig
from twisted_lb.config.base import ErrorPages, Name
from twisted_lb.config.ejection import EjectionConfig
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.inheritance import DefaultsConfig
from twisted_lb.config.limits import LimitsConfig, TimeoutsConfig
from twisted_lb.config.listeners import PROTOCOL, PROTOCOLS, ListenConfig, ListenerConfig, Protocol, Versions
from twisted_lb.config.pools import (
    NO_BACKEND,
    AdaptiveConfig,
    Backend,
    ChoiceConfig,
    HedgeConfig,
    PanicConfig,
    PoolConfig,
    QueueConfig,
    RetryConfig,
    ShadowConfig,
    SlowStartConfig,
    UpstreamConfig,
    refuse_twice_in_a_list,
)
from twisted_lb.config.routes import AskConfig, ForwardingConfig, RouteConfig, protocols
from twisted_lb.config.tcp_keepalive import TcpKeepaliveConfig, TcpKeepaliveSwitch
from twisted_lb.config.tls import TlsConfig
from twisted_lb.core.backend import BackendSpec


class DescribedConfig(ChoiceConfig, AskConfig):
    """Listeners, routes and pools by name, and the flat keys, which are one of each."""

    listeners: dict[Name, ListenerConfig] = Field(default={}, description="Listeners, by name.")
    pools: dict[Name, PoolConfig] = Field(default={}, description="Pools, by name.")
    routes: tuple[RouteConfig, ...] = Field(
        default=(), strict=False, description="Routes; the first one that takes a request has it."
    )
    checks: dict[Name, HealthCheckConfig] = Field(default={}, description="Checks that pools name.")
    defaults: DefaultsConfig = DefaultsConfig()
    backends: tuple[Backend, ...] = Field(
        default=(),
        strict=False,
        description="The backends of the pool `default`, as strings or tables; none twice.",
    )
    upgrades: tuple[str, ...] = Field(
        default=("websocket",),
        strict=False,
        description="Protocols that a client may switch its connection to (`Upgrade`); other offers "
        "are removed and the request goes on as plain HTTP. Danger: what a tunnel carries is not looked at.",
    )
    client_half_close: Literal["abort", "finish"] = Field(
        default="abort",
        description="What a client's half-close means while it is answered: "
        "`abort`: it has left, and its request is taken back; `finish`: answer it all the same.",
    )
    error_pages: ErrorPages = Field(
        default={},
        description="Files that replace local replies (error answers of our own), by status: "
        '`503 = "/etc/lb/503.html"`; the ending (.html, .json, else text) says the type. Read at the start and at each reload.',
    )
    listen: ListenConfig = ListenConfig()
    protocol: Protocol = Field(default="http", description=PROTOCOL)
    protocols: Versions | None = Field(default=None, strict=False, description=PROTOCOLS)
    acme_webroot: str = Field(
        default="",
        description="The directory in which an ACME client (certbot, lego, acme.sh) writes its challenges, its webroot: what is in "
        "`.well-known/acme-challenge` there is served to anybody, on any host, before routes, `deny` and redirects.",
    )
    tls: TlsConfig = TlsConfig()
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
    timeouts: TimeoutsConfig = TimeoutsConfig()
    limits: LimitsConfig = LimitsConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    tcp_keepalive: TcpKeepaliveSwitch = TcpKeepaliveConfig()
    forwarding: ForwardingConfig = ForwardingConfig()

    @field_validator("upgrades")
    @classmethod
    def _are_protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return protocols(value)

    @field_validator("backends")
    @classmethod
    def _are_some_and_distinct(cls, value: tuple[BackendSpec, ...], info: ValidationInfo) -> tuple[BackendSpec, ...]:
        # Where one of the others is wrong itself, it is not among the data.
        if not value and not info.data.get("pools", True) and not info.data.get("routes", True):
            raise ValueError(NO_BACKEND)
        refuse_twice_in_a_list(value)
        return value
