"""The whole configuration of a load balancer: its top level, and the tables in it."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from twisted_lb.config.base import ErrorPages, Label, Model, SecondsOrNone
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.inheritance import with_backend_defaults
from twisted_lb.config.limits import LimitsConfig, TimeoutsConfig
from twisted_lb.config.listeners import ListenConfig, ListenerConfig, ListenerRulesConfig
from twisted_lb.config.observe import LogConfig, StatusAddress
from twisted_lb.config.pools import (
    NO_BACKEND,
    Backend,
    BackendRulesConfig,
    ChoiceConfig,
    PoolConfig,
    PoolRulesConfig,
    QueueConfig,
    RetryConfig,
    UpstreamConfig,
)
from twisted_lb.config.references import misfits
from twisted_lb.config.routes import ForwardingConfig, RouteConfig, RouteRulesConfig, protocols
from twisted_lb.core.address import TcpAddress, same_place
from twisted_lb.core.backend import BackendSpec, refuse_twice

# What the flat keys are a short form of: the listener, the pool and the route of this name.
DEFAULT = "default"


class DefaultsConfig(Model):
    """Defaults: what holds for every listener, route, pool and backend that does not say it itself."""

    listener: ListenerRulesConfig = ListenerRulesConfig()
    route: RouteRulesConfig = RouteRulesConfig()
    pool: PoolRulesConfig = PoolRulesConfig()
    backend: BackendRulesConfig = BackendRulesConfig()


class LoadBalancerConfig(ChoiceConfig):
    """The configuration of a load balancer: listeners, routes and pools by name, or, in flat keys, one of each that is called
    `default`; and what holds for the whole process.
    """

    version: Literal[1] = Field(default=1, description="Version of this form of the file.")
    listeners: dict[Label, ListenerConfig] = Field(default={}, description="Listeners, by name.")
    pools: dict[Label, PoolConfig] = Field(default={}, description="Pools, by name.")
    routes: tuple[RouteConfig, ...] = Field(
        default=(), strict=False, description="Routes; the first one that takes a request has it."
    )
    checks: dict[Label, HealthCheckConfig] = Field(default={}, description="Checks that pools name.")
    defaults: DefaultsConfig = DefaultsConfig()
    backends: tuple[Backend, ...] = Field(
        default=(),
        strict=False,
        description="The backends of the pool `default`, as strings or tables; none twice.",
    )
    status: StatusAddress | None = Field(
        default=None,
        description="`HOST:PORT` of a small listener that answers `/-/ready` and `/-/live`; "
        "left out: there is none. Danger: anybody who reaches it learns the balancer's state.",
    )
    ready_start_s: SecondsOrNone = Field(
        default=5,
        description="How long `/-/ready` says no after the start, at most, while the name of a backend is being "
        "resolved for the first time, or a checked backend has not had its first check; 0: it does not wait for that.",
    )
    ready_requires: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Pools without which `/-/ready` says no; left out: it says no when no pool has a usable backend. Danger: "
        "one pool that is down takes the whole instance out.",
    )
    ready_grace_s: SecondsOrNone = Field(
        default=0,
        description="How long clients are still accepted when a stop begins and `/-/ready` says no already, so that whoever "
        "sends them has time to notice. Danger: your service manager has to wait so much longer.",
    )
    takeover: str | None = Field(
        default=None,
        description="Path of a unix socket: an instance that starts with the same path takes over the sockets of the one that "
        "runs, once it is ready; the other one accepts no more and finishes what it has. For `twistd lb`, `python -m "
        "twisted_lb` and `load_balancer` in a .tac file; left out: a restart has a gap. Danger: whoever may write in its "
        "directory can put another socket there.",
    )
    watch: bool = Field(
        default=False,
        description="Reload when a file that was read says another thing, as SIGHUP does: the content of each is looked at once a "
        "second, and counts once it has stayed for 200 ms. Danger: a file that is saved half done, and is right all the same, is "
        "applied.",
    )
    state_file: str | None = Field(
        default=None,
        description="Path of a file for what was changed at run time (a backend drained, weighed, added or removed): it holds on "
        "after a restart as after a reload. Written in place of the old one, with mode 0600, soon after each change; a broken one "
        "is a warning. Left out: a restart forgets. Only changed by a restart.",
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
    health_check: HealthCheckConfig = HealthCheckConfig()
    queue: QueueConfig = QueueConfig()
    retry: RetryConfig = RetryConfig()
    timeouts: TimeoutsConfig = TimeoutsConfig()
    limits: LimitsConfig = LimitsConfig()
    upstream: UpstreamConfig = UpstreamConfig()
    forwarding: ForwardingConfig = ForwardingConfig()
    log: LogConfig = LogConfig()

    if TYPE_CHECKING:
        # What type checkers would not know: backends may be texts, tables mappings, and keys have older names.
        def __init__(
            self, *, backends: Iterable[str | BackendSpec | Mapping[str, object]] = (), **keys: Any
        ) -> None: ...

    @model_validator(mode="wrap")
    @classmethod
    def _fits_together(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Everything that is wrong at once: in each table, and between them."""
        if not isinstance(values, Mapping):
            return handler(values)
        errors: list[InitErrorDetails] = [
            {"type": PydanticCustomError("misfit", "{text}", {"text": text}), "loc": place, "input": None}
            for place, text in misfits(values)
        ]
        try:
            config = handler(with_backend_defaults(values))
        except ValidationError as error:
            errors += [_again(one) for one in error.errors()]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return config

    @field_validator("upgrades")
    @classmethod
    def _are_protocols(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return protocols(value)

    @field_validator("takeover")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        # A unix socket's path has 107 bytes at most, and a process number is appended for a moment.
        if value is not None and not 0 < len(os.fsencode(value)) <= 96:
            raise ValueError("should be a path of 1 to 96 bytes")
        return value

    @field_validator("state_file")
    @classmethod
    def _is_a_file(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value or value.endswith("/")):
            raise ValueError("should be the path of a file")
        return value

    @field_validator("backends")
    @classmethod
    def _are_some_and_distinct(cls, value: tuple[BackendSpec, ...], info: ValidationInfo) -> tuple[BackendSpec, ...]:
        # Where one of the others is wrong itself, it is not among the data.
        if not value and not info.data.get("pools", True) and not info.data.get("routes", True):
            raise ValueError(NO_BACKEND)
        refuse_twice(value)
        return value

    @model_validator(mode="after")
    def _does_not_feed_itself(self) -> Self:
        own = {self.listen.interface} if self.listen.interface else {"127.0.0.1", "::1"}
        own |= {"localhost"} if own & {"127.0.0.1", "::1"} else set()
        for spec in self.backends:
            place = same_place(spec.address)
            if isinstance(place, TcpAddress) and place.port == self.listen.port and place.host in own:
                raise ValueError(f"backend {spec.address} is this balancer itself")
        return self


def _again(error: Any) -> InitErrorDetails:
    """An error that was raised already, to be raised together with others."""
    return {
        "type": PydanticCustomError(error["type"], "{text}", {"text": error["msg"]}),
        "loc": error["loc"],
        "input": error["input"],
    }
