"""Routes: what backends are told about a request and its client, and which claims of clients count."""

import ipaddress
import re
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

    @field_validator("via")
    @classmethod
    def _is_a_pseudonym(cls, value: str) -> str:
        # RFC 9110 7.6.3: a token.
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{0,100}", value):
            raise ValueError("should be at most 100 letters, digits and !#$%&'*+-.^_`|~, without spaces")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError(f"{text} should be an address or a network, such as 10.0.0.0/8") from None
        return value
