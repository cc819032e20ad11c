"""Listeners, routes and pools of a configuration as they are in force: flat keys, tables and defaults made one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from twisted_lb.config.base import DEFAULT, KeyPath, Model
from twisted_lb.config.described import DescribedConfig
from twisted_lb.config.inheritance import inherited
from twisted_lb.config.listeners import AddressTable, ListenerConfig, ListenerRulesConfig
from twisted_lb.config.pools import ChoiceConfig, PoolConfig, PoolRulesConfig
from twisted_lb.config.problems import dotted
from twisted_lb.config.profiles import PROFILES, Profile, says
from twisted_lb.config.routes import RouteConfig, RouteRulesConfig
from twisted_lb.config.sessions import checked_as_sessions, pools_of_sessions

M = TypeVar("M", bound=Model)
# How each object of a kind is made, by its name, and where it stands.
Makers = dict[str, tuple[KeyPath, Callable[[], M]]]


@dataclass(frozen=True)
class Objects:
    """What a configuration describes, by name; routes in their order. `to_default` are the routes, by pool, that lead
    requests there which no other route takes.
    """

    listeners: dict[str, ListenerConfig]
    routes: dict[str, RouteConfig]
    pools: dict[str, PoolConfig]
    to_default: dict[str, RouteConfig]


def objects_of(config: DescribedConfig) -> Objects:
    """The objects that a configuration describes; ValidationError where one does not go together with what it inherits,
    which no LoadBalancerConfig has.
    """
    return Objects(
        listeners=_made(_listeners(config)),
        routes=_made(_routes(config)),
        pools=_made(_pools(config)),
        to_default=_made(_to_default(config)),
    )


def unfit(config: DescribedConfig) -> Iterator[tuple[KeyPath, ErrorDetails]]:
    """What does not go together with what it inherits: the place of the object, and what is wrong there."""
    for kind in (_listeners(config), _routes(config), _pools(config), _to_default(config)):
        for place, make in kind.values():
            try:
                make()
            except ValidationError as error:
                yield from ((place, one) for one in error.errors())


def name_of(route: RouteConfig, index: int) -> str:
    """What a route is called that has this index among those of the configuration: by its name, or, as in errors, by its
    path, which no name can be.
    """
    return route.name or dotted(("routes", index))


def profile_at(objects: Objects, path: KeyPath) -> str | None:
    """The profile that says what is at the path of an object, where nobody else does; None where none does."""
    if len(path) < 3 or path[0] not in ("routes", "pools"):
        return None
    kind, name, *rest = path
    if kind == "pools":
        pool = objects.pools.get(str(name))
        found = None if pool is None else pool.profile
        return found if found is not None and says(PROFILES[found].pool, tuple(rest)) else None
    routes = {**objects.routes, **objects.to_default}
    route = list(objects.routes.values())[name] if isinstance(name, int) else routes[name]
    profiles = (objects.pools[pool].profile for pool in route.pools if pool in objects.pools)
    return next((one for one in profiles if one is not None and says(PROFILES[one].route, tuple(rest))), None)


def home_of_choice(config: DescribedConfig, pool: str, key: str | int) -> KeyPath:
    """Where a key that a pool has in force is said: in its own table, in flat keys, or, where neither says it, in its defaults."""
    own: Model = config.pools.get(pool, config)
    if key not in own.model_fields_set and key in config.defaults.pool.model_fields_set:
        return ("defaults", "pool", key)
    return ("pools", pool, key) if pool in config.pools else (key,)


def home_of_listener(config: DescribedConfig, listener: str) -> KeyPath:
    """Where the rules of a listener are said: in its own table, or in flat keys."""
    return ("listeners", listener) if listener in config.listeners else ()


def check_of(pool: PoolConfig, config: DescribedConfig) -> str | None:
    """The name of a pool's checks among those of the configuration: what it says, else `default`, where that is there."""
    return pool.check or (DEFAULT if DEFAULT in config.checks else None)


def _made(makers: Makers[M]) -> dict[str, M]:
    return {name: make() for name, (_, make) in makers.items()}


def _listeners(config: DescribedConfig) -> Makers[ListenerConfig]:
    base = config.defaults.listener
    found: Makers[ListenerConfig] = {
        name: (("listeners", name), partial(inherited, one, base)) for name, one in config.listeners.items()
    }
    if not config.listeners or "listen" in config.model_fields_set:
        found[DEFAULT] = (), lambda: inherited(_flat_listener(config), base)
    return found


def _routes(config: DescribedConfig) -> Makers[RouteConfig]:
    return {
        name_of(one, index): (("routes", index), partial(_route, config, one))
        for index, one in enumerate(config.routes)
    }


def _route(config: DescribedConfig, route: RouteConfig) -> RouteConfig:
    """A route with its defaults, and what the first of its pools with a profile that speaks of routes says of them."""
    profiles = [profile for pool in route.pools if (profile := _profile_of(config, pool)) is not None]
    return inherited(route, config.defaults.route, *(profile.route for profile in profiles))


def _profile_of(config: DescribedConfig, pool: str) -> Profile | None:
    """The profile of a pool, where it has one: it may be one that is not there."""
    own: ChoiceConfig = config.pools.get(pool, config)
    name = own.profile if "profile" in own.model_fields_set else config.defaults.pool.profile
    return None if name is None else PROFILES[name]


def _pools(config: DescribedConfig) -> Makers[PoolConfig]:
    of_sessions = _pools_of_sessions(config)
    found: Makers[PoolConfig] = {
        name: (("pools", name), partial(_pool, config, pool, of_sessions=name in of_sessions))
        for name, pool in config.pools.items()
    }
    if config.backends:
        found[DEFAULT] = (), lambda: _pool(config, _flat_pool(config), of_sessions=DEFAULT in of_sessions)
    return found


def _pools_of_sessions(config: DescribedConfig) -> frozenset[str]:
    """The pools that have sessions alone; what does not go together with what it inherits is told elsewhere."""
    try:
        listeners = _made(_listeners(config))
    except ValidationError:
        return frozenset()
    pools = {name: one.default_pool or DEFAULT for name, one in listeners.items()}
    return pools_of_sessions(config.routes, listeners, pools)


def _pool(config: DescribedConfig, pool: PoolConfig, *, of_sessions: bool) -> PoolConfig:
    said = _pool_said(config, pool)
    return said.model_copy(update={"health_check": checked_as_sessions(said.health_check)}) if of_sessions else said


def _pool_said(config: DescribedConfig, pool: PoolConfig) -> PoolConfig:
    check = check_of(pool, config)
    # A name that means nothing is told where it stands.
    checks = [PoolRulesConfig(health_check=config.checks[check])] if check in config.checks else []
    said = inherited(pool, *checks, config.defaults.pool)
    return said if said.profile is None else inherited(said, PROFILES[said.profile].pool)


def _to_default(config: DescribedConfig) -> Makers[RouteConfig]:
    listeners = [one.default_pool for one in config.listeners.values()]
    if not config.listeners or "listen" in config.model_fields_set:
        listeners.append(None)
    wanted = [pool or config.defaults.listener.default_pool or DEFAULT for pool in listeners]
    there = {*config.pools, *([DEFAULT] if config.backends else [])}
    return {pool: ((), partial(_route_to, pool, config)) for pool in dict.fromkeys(wanted) if pool in there}


def _route_to(pool: str, config: DescribedConfig) -> RouteConfig:
    values = _given(config, RouteRulesConfig) if pool == DEFAULT else {}
    return _route(config, RouteConfig.model_validate({**values, "name": pool, "pool": pool}))


def _flat_pool(config: DescribedConfig) -> PoolConfig:
    return PoolConfig.model_validate({**_given(config, PoolRulesConfig), "backends": config.backends})


def _flat_listener(config: DescribedConfig) -> ListenerConfig:
    trust = {key: getattr(config.forwarding, key) for key in config.forwarding.model_fields_set}
    values = {
        **{key: value for key, value in trust.items() if key in ListenerRulesConfig.model_fields},
        **_given(config, ListenerRulesConfig),
        "address": AddressTable(address=config.listen.address.text),
    }
    return ListenerConfig.model_validate(values)


def _given(config: DescribedConfig, owner: type[Model]) -> dict[str, Any]:
    """The flat keys that are given and that an owner has, in the owner's own tables."""
    values: dict[str, Any] = {}
    for key, field in owner.model_fields.items():
        if key not in config.model_fields_set or key not in type(config).model_fields:
            continue
        value, kind = getattr(config, key), field.annotation
        if isinstance(value, Model) and not (isinstance(kind, type) and issubclass(kind, Model)):
            continue  # another thing of the same name, the process's own: `log`
        values[key] = _part(value, kind) if isinstance(value, Model) and isinstance(kind, type) else value
    return values


def _part(value: Model, kind: type[Any]) -> Model:
    """The part of a flat table that an owner's table has."""
    given = {key: getattr(value, key) for key in kind.model_fields if key in value.model_fields_set}
    part: Model = kind.model_validate(given)
    return part
