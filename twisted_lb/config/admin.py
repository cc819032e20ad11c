"""The admin door: where operators reach the balancer, and what they have to show for it."""

import os
import re
from ipaddress import ip_address
from typing import Self

from pydantic import Field, field_validator, model_validator

from twisted_lb.config.base import Model, Name
from twisted_lb.config.secret import Secret
from twisted_lb.core.listen_address import ListenAddress

_OWN_MODE = 0o600
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252})")
# What an Authorization field holds as it is.
_TOKEN = re.compile(r"[!-~]+")
# Who guesses them would have a while to do it.
LEAST_TOKEN = 16


class AdminConfig(Model):
    """The admin door: an API on a unix socket, and, on a port, the API, the page and the metrics."""

    socket: str | None = Field(
        default=None,
        description="Path of the unix socket of the API; empty: there is none. Left out: `twisted_lb/NAME.admin.sock` in "
        "`$RUNTIME_DIRECTORY` or `$XDG_RUNTIME_DIR` (a process of our own, where there is one), NAME being the key `name`. "
        "Danger: whoever may write to it may take backends out. Only changed by a restart.",
    )
    mode: str = Field(
        default=f"{_OWN_MODE:04o}",
        description="Mode of the socket's file, in octal. Only changed by a restart.",
    )
    group: str = Field(
        default="",
        description="Group of the socket's file, by name; empty: the process's own. Only changed by a restart.",
    )
    address: str | None = Field(
        default=None,
        description="`IP:PORT` of the page (`/`), the metrics (`/metrics`) and the API (`/v1`); left out: there is none. On a loopback address "
        "whoever connects may read; to change something, and to read elsewhere, a token is needed. Danger: it is not encrypted. "
        "Only changed by a restart.",
    )
    hosts: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Names by which the port is asked for, beside `localhost` and IP addresses; requests for others are refused "
        "(DNS rebinding). Only changed by a restart.",
    )
    tokens: dict[Name, Secret] = Field(
        default={},
        description="Tokens of those who may change things, by their names, which the audit log has: "
        '`tokens = { ops = { file = "/etc/lb/ops.token" } }`; at least 16 characters each, printable ASCII without spaces. None at all, also where there are read_tokens: one is made '
        "at each start, and logged once. Only changed by a restart.",
    )
    read_tokens: dict[Name, Secret] = Field(
        default={},
        description="Tokens of those who may read, by their names. Only changed by a restart.",
    )

    @field_validator("socket")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        if not value:
            return value
        path = ListenAddress.parse(f"unix:{value.removeprefix('unix:')}").path
        # A process number is appended for a moment.
        if len(os.fsencode(path)) > 96:
            raise ValueError("should be a path of at most 96 bytes")
        return path

    @field_validator("mode")
    @classmethod
    def _is_octal(cls, value: str) -> str:
        if not re.fullmatch("0?[0-7]{3}", value):
            raise ValueError('should be a file mode in octal, such as "0660"')
        return value

    @field_validator("address")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        if value is not None:
            place = ListenAddress.parse(value)
            if place.path:
                raise ValueError('is for the port, such as "127.0.0.1:8090"; the unix socket is `socket`')
        return value

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(f"{host!r} is no host name")
        return tuple(host.lower().rstrip(".") for host in value)

    @field_validator("tokens", "read_tokens")
    @classmethod
    def _are_long_enough(cls, value: dict[str, Secret]) -> dict[str, Secret]:
        for name, secret in value.items():
            if len(secret.reveal()) < LEAST_TOKEN:
                raise ValueError(f"{name} should have at least {LEAST_TOKEN} characters")
            if not _TOKEN.fullmatch(secret.reveal()):
                raise ValueError(
                    f"{name} should be printable ASCII without spaces: others come in several encodings, or not at all"
                )
        return value

    @model_validator(mode="after")
    def _has_names_of_its_own(self) -> Self:
        both = set(self.tokens) & set(self.read_tokens)
        if both:
            raise ValueError(f"{min(both)} is among tokens and read_tokens")
        return self

    @property
    def place(self) -> ListenAddress | None:
        """Where the port is."""
        return None if self.address is None else ListenAddress.parse(self.address)

    @property
    def local(self) -> bool:
        """Whether only this machine reaches the port."""
        place = self.place
        return place is not None and bool(place.interface) and ip_address(place.interface).is_loopback
