"""Routes: what backends are told about a request and its client, and which claims of clients count."""

import ipaddress
from typing import Literal

from pydantic import Field, field_validator

from twisted_lb.config.base import Model


class ForwardingConfig(Model):
    """Forwarding: what backends are told about clients, and which clients' own claims count."""

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
