"""Profiles: a word for the settings of a pool, and of the routes that lead there. They hold where nobody says anything else."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twisted_lb.config.base import KeyPath, Model
from twisted_lb.config.limits import RouteTimeoutsConfig
from twisted_lb.config.pools import PoolRulesConfig
from twisted_lb.config.routes import RouteRulesConfig


@dataclass(frozen=True)
class Profile:
    """What a profile says of its pools, and of the routes to them."""

    pool: PoolRulesConfig
    route: RouteRulesConfig


# None of them changes which requests may be sent twice.
PROFILES: Final[Mapping[str, Profile]] = {
    "wsgi": Profile(PoolRulesConfig(buffer_request_bytes=65536, buffer_response_bytes=1 << 20), RouteRulesConfig()),
    "inference": Profile(
        PoolRulesConfig(policy="least", abandoned_s=30, buffer_request_bytes=0, buffer_response_bytes=0),
        RouteRulesConfig(timeouts=RouteTimeoutsConfig(response_head_s=600, response_idle_s=120)),
    ),
}


def said_by(model: Model) -> Iterator[tuple[KeyPath, Any]]:
    """What a table says, and the tables in it: each key with its value."""
    for key in type(model).model_fields:
        value = getattr(model, key)
        if key not in model.model_fields_set:
            continue
        if isinstance(value, Model):
            yield from (((key, *path), one) for path, one in said_by(value))
        else:
            yield (key,), value


def says(model: Model, path: KeyPath) -> bool:
    """Whether a table says what is at a path in it."""
    for part in path[:-1]:
        inner = getattr(model, str(part), None) if part in model.model_fields_set else None
        if not isinstance(inner, Model):
            return False
        model = inner
    return bool(path) and path[-1] in model.model_fields_set
