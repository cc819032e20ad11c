"""Trust: which proxies in front of this one are believed, and in which fields."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from twisted_lb.config.access import a_network
from twisted_lb.config.base import Model

# Fields that route a message, frame it, or belong to a connection: a client has to be able to send them.
_NEEDED = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer", "date")
)


class TrustConfig(Model):
    """Trust: the proxies in front of this one, and which claims of clients count."""

    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Addresses and networks (`10.0.0.0/8`) of proxies in front of this one, whose "
        "X-Forwarded-* and Forwarded count: by them the client is whoever the last one of them names that is not listed. "
        "Danger: whoever is listed can say to be anybody.",
    )
    trusted_fields: Literal["any", "x-forwarded", "forwarded"] = Field(
        default="any",
        description="The fields in which `trusted_proxies` tell about their clients: `x-forwarded` (X-Forwarded-*), "
        "`forwarded` (RFC 7239), or `any`: X-Forwarded-* where a request has one, else Forwarded. What is not believed is "
        "removed, and what is sent on never contradicts what is. Danger: most proxies pass on what clients send of the other.",
    )
    only_from_proxies: tuple[str, ...] = Field(
        default=("X-Forwarded-*", "X-Real-IP"),
        strict=False,
        description="Further fields that only `trusted_proxies` may send; `*` at the end stands for any rest. Of all other "
        "clients they are removed, in every spelling (`X_Real.IP`), as the X-Forwarded-* that the balancer writes itself are "
        "anyway. Danger: backends may take what is not listed from anybody.",
    )

    proxy_protocol: Literal["off", "trusted", "require"] = Field(
        default="off",
        description="The PROXY protocol (versions 1 and 2), by which a balancer in front tells on a connection's first bytes who its "
        "client is, before TLS: `trusted`: addresses in `proxy_protocol_from` must send it, and of others it is not looked for; "
        "`require`: who does not send it, or is not one of these, is closed. Nothing is guessed from bytes. Danger: who may send "
        "it can say to be anybody.",
    )
    proxy_protocol_from: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Addresses and networks of the balancers that send it; needed for `trusted`. With `require` and none of them "
        "everybody is to send it. Clients of a unix socket are always among them.",
    )

    @field_validator("only_from_proxies")
    @classmethod
    def _are_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.fullmatch(r"[!#$%&'+.^_`|~0-9A-Za-z-]+\*?", name):
                raise ValueError(f"{name!r} should be a field name, such as X-Real-IP or X-Auth-*")
            if name.lower() in _NEEDED:
                raise ValueError(f"{name} cannot be one of them: no request is understood without it")
        return value

    @field_validator("trusted_proxies", "proxy_protocol_from")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            a_network(text)
        return value

    @model_validator(mode="after")
    def _says_of_whom(self) -> Self:
        if self.proxy_protocol == "trusted" and not self.proxy_protocol_from:
            raise ValueError(
                "proxy_protocol: trusted needs proxy_protocol_from: the addresses of the balancers in front"
            )
        return self
