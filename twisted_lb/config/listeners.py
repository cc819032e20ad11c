"""Listeners: where sockets listen, and the rules of the clients that connect there."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from twisted_lb.config.access import AccessConfig
from twisted_lb.config.base import SEVERAL, ErrorPages, Label, Model, Name, SecondsOrNone, TextOrTable
from twisted_lb.config.limits import ClientLimitsConfig, ClientTimeoutsConfig
from twisted_lb.config.log_format import OwnLog
from twisted_lb.config.tcp_keepalive import TcpKeepaliveConfig, TcpKeepaliveSwitch
from twisted_lb.config.tls import TlsConfig
from twisted_lb.config.trust import TrustConfig
from twisted_lb.core.listen_address import DEFAULT_MODE, ListenAddress, interface_of

Protocol = Literal["http", "tcp"]
Version = Literal["h2", "http/1.1"]
PROTOCOLS = (
    "The versions of HTTP that clients may speak, the preferred one first: `h2`, `http/1.1`. Left out: both over TLS, where client and "
    "server agree on one (ALPN), else `http/1.1` alone. Without TLS `h2` is for clients that know of it, and begin with it on the same port."
)


def _are_versions(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("should be at least one version")
    if len(set(value)) < len(value):
        raise ValueError("has a version twice")
    return value


Versions = Annotated[tuple[Version, ...], SEVERAL, AfterValidator(_are_versions)]
PROTOCOL = (
    "What clients speak: `http`, each request is balanced; `tcp`, anything else, in the clear or behind the listener's `tls`: each "
    "connection is balanced, and carried as it is. Danger: with `tcp` no rule that looks at requests is asked."
)


class ListenConfig(Model):
    """The listener: where the balancer accepts its clients."""

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
    def address(self) -> ListenAddress:
        """The place to listen at."""
        return ListenAddress(self.interface, self.port)

    @property
    def where(self) -> str:
        """The address as messages call it: `port 80`, `127.0.0.1:80`, `[::1]:80`."""
        return self.address.where

    @field_validator("interface")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return interface_of(value)


class SiblingConfig(ListenConfig):
    """The configuration of the sibling backend, `twistd be`."""

    port: int = Field(default=8080, ge=0, le=65535, description="TCP port; 0: the kernel's choice.")
    name: Label | None = Field(
        default=None,
        description="What its answers call it; left out: `be-` and its port.",
    )


class AddressTable(TextOrTable):
    """One address of a listener as a table, for what a unix socket needs beside its path."""

    _key = "address"

    address: str = Field(description="`IP:PORT`, `[IPv6]:PORT`, `:PORT` (all addresses) or `unix:/path`.")
    mode: str = Field(
        default=f"{DEFAULT_MODE:04o}",
        description="Mode of a unix socket's file, in octal. Danger: whoever may write to it is a client.",
    )
    group: str = Field(default="", description="Group of a unix socket's file, by name; empty: the process's own.")

    @field_validator("mode")
    @classmethod
    def _is_octal(cls, value: str) -> str:
        if not re.fullmatch("0?[0-7]{3}", value):
            raise ValueError('should be a file mode in octal, such as "0660"')
        return value

    @model_validator(mode="after")
    def _is_a_place(self) -> Self:
        place = self.parsed()
        for key in ("mode", "group"):
            if not place.path and key in self.model_fields_set:
                raise ValueError(f"{key} is for unix sockets, and {place.text} is none")
        return self

    def parsed(self) -> ListenAddress:
        """The place; ValueError for what is none."""
        return ListenAddress.parse(self.address, mode=int(self.mode, 8), group=self.group)


Addresses = Annotated[tuple[AddressTable, ...], SEVERAL]


class ListenerRulesConfig(AccessConfig, TrustConfig):
    """What holds for the connections of a listener's clients."""

    protocol: Protocol = Field(default="http", description=PROTOCOL)
    protocols: Versions | None = Field(default=None, strict=False, description=PROTOCOLS)
    default_pool: Name | None = Field(
        default=None,
        description="The pool of requests that no route takes; left out: the pool `default`, and where there is none they "
        'get 404. Of a listener with `protocol = "tcp"`: the pool of connections that no route takes; where there is none they are '
        "closed.",
    )
    client_half_close: Literal["abort", "finish"] = Field(
        default="abort",
        description="What a client's half-close means while it is answered: "
        "`abort`: it has left, and its request is taken back; `finish`: answer it all the same.",
    )
    client_max_age_s: SecondsOrNone = Field(
        default=0,
        description="Age at which a client's connection is closed after its current answer, give or take a tenth, so that "
        "clients spread anew over several balancers; 0: at no age.",
    )
    client_requests: int = Field(
        default=0,
        ge=0,
        le=2**31,
        description="Requests of one connection after which it is closed, give or take a tenth; 0: no bound.",
    )
    error_pages: ErrorPages = Field(
        default={},
        description="Files that replace local replies to what has no route, by status.",
    )
    log: OwnLog = Field(
        default=True,
        description="Whether its requests are in the access log (`log.file`), or the format that they have there. A route may say "
        "it otherwise.",
    )
    acme_webroot: str = Field(
        default="",
        description="The directory in which an ACME client (certbot, lego, acme.sh) writes its challenges, its webroot: what is in "
        "`.well-known/acme-challenge` there is served to anybody, on any host, before routes, `deny` and redirects.",
    )
    tls: TlsConfig = TlsConfig()
    tcp_keepalive: TcpKeepaliveSwitch = TcpKeepaliveConfig()
    timeouts: ClientTimeoutsConfig = ClientTimeoutsConfig()
    limits: ClientLimitsConfig = ClientLimitsConfig()


class ListenerConfig(ListenerRulesConfig):
    """A listener: where clients connect, and what holds for their connections."""

    address: Addresses = Field(
        strict=False,
        description="Where it listens, one or a list: `IP:PORT`, `[IPv6]:PORT`, `:PORT` (all addresses), `unix:/path`, or a "
        'table of that with `mode` and `group`: `{ address = "unix:/run/lb.sock", mode = "0660", group = "www" }`. Danger: '
        "all addresses is everybody who can reach this machine.",
    )

    @field_validator("address")
    @classmethod
    def _are_some(cls, value: tuple[AddressTable, ...]) -> tuple[AddressTable, ...]:
        if not value:
            raise ValueError("should be at least one address")
        return value

    @property
    def versions(self) -> tuple[str, ...]:
        """What its clients may speak."""
        usual = ("h2", "http/1.1") if self.tls.certificates else ("http/1.1",)
        return self.protocols or usual

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where it listens."""
        return tuple(one.parsed() for one in self.address)
