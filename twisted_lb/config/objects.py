"""Listeners, routes and pools of a configuration as they are in force: flat keys, tables and defaults made one."""

from dataclasses import dataclass
from typing import Any, TypeVar

from twisted_lb.config.balancer import DEFAULT, LoadBalancerConfig
from twisted_lb.config.base import Model
from twisted_lb.config.inheritance import inherited
from twisted_lb.config.listeners import AddressTable, ListenerConfig, ListenerRulesConfig
from twisted_lb.config.pools import PoolConfig, PoolRulesConfig
from twisted_lb.config.routes import RouteConfig, RouteRulesConfig

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Objects:
    """What a configuration describes, by name; routes in their order. `to_default` are the routes, by pool, that lead
    requests there which no other route takes.
    """

    listeners: dict[str, ListenerConfig]
    routes: dict[str, RouteConfig]
    pools: dict[str, PoolConfig]
    to_default: dict[str, RouteConfig]


def objects_of(config: LoadBalancerConfig) -> Objects:
    """The objects that a configuration describes."""
    pools = {name: _pool(config, pool) for name, pool in config.pools.items()}
    if config.backends:
        pools[DEFAULT] = _pool(config, _flat_pool(config))
    listeners = {name: inherited(one, config.defaults.listener) for name, one in config.listeners.items()}
    if not config.listeners or "listen" in config.model_fields_set:
        listeners[DEFAULT] = inherited(_flat_listener(config), config.defaults.listener)
    leads_to = [one.default_pool or DEFAULT for one in listeners.values()]
    return Objects(
        listeners=listeners,
        routes={
            one.name or f"route-{number}": inherited(one, config.defaults.route)
            for number, one in enumerate(config.routes, 1)
        },
        pools=pools,
        to_default={name: _route_to(name, config) for name in leads_to if name in pools},
    )


def _pool(config: LoadBalancerConfig, pool: PoolConfig) -> PoolConfig:
    if pool.check is not None:
        checks = PoolRulesConfig(health_check=config.checks[pool.check])
        return inherited(pool, checks, config.defaults.pool)
    return inherited(pool, config.defaults.pool)


def _route_to(pool: str, config: LoadBalancerConfig) -> RouteConfig:
    values = _given(config, RouteRulesConfig) if pool == DEFAULT else {}
    return inherited(RouteConfig.model_validate({**values, "name": pool, "pool": pool}), config.defaults.route)


def _flat_pool(config: LoadBalancerConfig) -> PoolConfig:
    return PoolConfig.model_validate({**_given(config, PoolRulesConfig), "backends": config.backends})


def _flat_listener(config: LoadBalancerConfig) -> ListenerConfig:
    trust = {key: getattr(config.forwarding, key) for key in config.forwarding.model_fields_set}
    values = {
        **{key: value for key, value in trust.items() if key in ListenerRulesConfig.model_fields},
        **_given(config, ListenerRulesConfig),
        "address": AddressTable(address=config.listen.address.where.replace("port ", ":")),
    }
    return ListenerConfig.model_validate(values)


def _given(config: Model, owner: type[Model]) -> dict[str, Any]:
    """The flat keys that are given and that an owner has, in the owner's own tables."""
    values: dict[str, Any] = {}
    for key, field in owner.model_fields.items():
        if key not in config.model_fields_set or key not in type(config).model_fields:
            continue
        value, kind = getattr(config, key), field.annotation
        values[key] = _part(value, kind) if isinstance(value, Model) and isinstance(kind, type) else value
    return values


def _part(value: Model, kind: type[Any]) -> Model:
    """The part of a flat table that an owner's table has."""
    given = {key: getattr(value, key) for key in kind.model_fields if key in value.model_fields_set}
    part: Model = kind.model_validate(given)
    return part
