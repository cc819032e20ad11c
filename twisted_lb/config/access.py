"""Access: which clients may ask here, and how much of it."""

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from twisted_lb.config.base import SEVERAL, Model
from twisted_lb.config.keys import CLIENT, Key
from twisted_lb.core.rate import Rate


def a_network(text: str) -> str:
    """The text; ValueError where it is no address and no network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text} should be an address or a network, such as 10.0.0.0/8") from None
    if "%" in text:
        raise ValueError(f"{text} should be without a zone: what is written after % is different on every machine")
    return text


Network = Annotated[str, AfterValidator(a_network)]


class RateLimitConfig(Model):
    """A limit of how often requests may come (GCRA): on average `per_s` of each key, and `burst` of them at once."""

    per_s: float = Field(gt=0, le=1_000_000, description="Requests a second, on average; fractions allowed.")
    burst: int = Field(
        default=1, ge=1, le=1_000_000, description="Requests that may come at once after a while without any."
    )
    key: Key = Field(
        default=CLIENT,
        description='What has the limit: `"client"`, each client\'s address (of an IPv6 one its /64); `"route"`, all requests '
        "together; `{ header = NAME }`, `{ cookie = NAME }` or `{ query = NAME }`, each value of it, and the client where "
        "a request has none. Danger: whoever may choose the value of a header chooses another one each time.",
    )
    dry_run: bool = Field(default=False, description="Only count and log what would be refused.")

    @model_validator(mode="after")
    def _is_a_rate(self) -> Self:
        Rate(self.per_s, self.burst)
        return self


class AccessConfig(Model):
    """Access: who may ask, and how often."""

    deny_clients: Annotated[tuple[Network, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Addresses and networks of clients that get 403. The client is the one that `trusted_proxies` name.",
    )
    allow_clients: Annotated[tuple[Network, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Addresses and networks of the only clients that may ask here; others get 403; left out: all. `deny_clients` "
        "comes first.",
    )
    rate_limits: Annotated[tuple[RateLimitConfig, ...], SEVERAL] = Field(
        default=(),
        strict=False,
        description="Limits of how often requests may come; beyond one they get 429 with Retry-After, and none of the others "
        "is charged.",
    )
    requests_per_client: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Requests of one client that may run at once; more get 429; 0: no limit.",
    )
