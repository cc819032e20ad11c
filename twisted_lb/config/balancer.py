"""The whole configuration of a load balancer: its top level, and the tables in it."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator

from twisted_lb.config.base import Model, SecondsOrNone
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.limits import LimitsConfig, TimeoutsConfig
from twisted_lb.config.listeners import ListenConfig
from twisted_lb.config.observe import LogConfig, StatusAddress
from twisted_lb.config.pools import NO_BACKEND, Backend, Family, QueueConfig, Resolve, RetryConfig, UpstreamConfig
from twisted_lb.config.routes import ForwardingConfig
from twisted_lb.core.address import TcpAddress, same_place
from twisted_lb.core.backend import BackendSpec, refuse_twice
from twisted_lb.core.pickers import POLICIES

# The names of the pools that a configuration describes.
POOLS = ("default",)

_POLICIES = "; ".join(f"`{name}`, {policy.describe}" for name, policy in POLICIES.items())


class LoadBalancerConfig(Model):
    """The configuration of a load balancer: listener, policy, backends, and tables for the rest."""

    backends: tuple[Backend, ...] = Field(
        strict=False,
        description="The backends, as strings or tables; at least one, none twice.",
    )
    policy: str = Field(
        default="rr",
        validation_alias=AliasChoices("policy", "strategy"),
        description=f"How a client finds its backend: {_POLICIES}.",
        json_schema_extra={"enum": list(POLICIES)},
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
        description="Pools (so far there is one, `default`) without which `/-/ready` says no; left out: it says no when no "
        "pool has a usable backend. Danger: one pool that is down takes the whole instance out.",
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
    error_pages: dict[str, str] = Field(
        default={},
        description="Files that replace local replies (error answers of our own), by status: "
        '`503 = "/etc/lb/503.html"`; the ending (.html, .json, else text) says the type. Read once, at the start.',
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
        def __init__(self, *, backends: Iterable[str | BackendSpec | Mapping[str, object]], **keys: Any) -> None: ...

    @property
    def strategy(self) -> str:
        """`policy`, by the older name of its key."""
        return self.policy

    @field_validator("upgrades")
    @classmethod
    def _are_tokens(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for token in value:
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+", token):
                raise ValueError(f"{token!r} should be a protocol name, such as websocket")
            if token.lower() in ("h2c", "h2") or token.lower().startswith(("http/", "tls/")):
                # Such a switch carries requests, which would pass unseen (request smuggling).
                raise ValueError(f"{token} cannot be allowed: requests inside it would bypass every rule")
        return tuple(token.lower() for token in value)

    @field_validator("takeover")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        # A unix socket's path has 107 bytes at most, and a process number is appended for a moment.
        if value is not None and not 0 < len(os.fsencode(value)) <= 96:
            raise ValueError("should be a path of 1 to 96 bytes")
        return value

    @field_validator("ready_requires")
    @classmethod
    def _are_pools(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in POOLS:
                raise ValueError(f"no pool is called {name}; there is {', '.join(POOLS)}")
        return value

    @field_validator("error_pages")
    @classmethod
    def _are_statuses(cls, value: dict[str, str]) -> dict[str, str]:
        for status in value:
            if not re.fullmatch("[45][0-9][0-9]", status):
                raise ValueError(f"{status} should be a status from 400 to 599")
        return value

    @field_validator("policy")
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
