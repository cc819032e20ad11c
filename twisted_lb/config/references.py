"""References: names in a configuration that should mean something else in it, and keys that say the same thing twice.

These look at the values as they were given, so that everything that is wrong is told at once, whatever else is.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from twisted_lb.config.base import DEFAULT, KeyPath, Model, names_of
from twisted_lb.config.limits import (
    BodyLimitsConfig,
    ClientLimitsConfig,
    ClientTimeoutsConfig,
    HeadLimitsConfig,
    PoolTimeoutsConfig,
    RouteTimeoutsConfig,
)
from twisted_lb.config.listeners import AddressTable, ListenConfig, ListenerRulesConfig
from twisted_lb.config.pools import ChoiceConfig, PoolRulesConfig
from twisted_lb.config.routes import RouteRulesConfig, ToldConfig
from twisted_lb.config.similar import similar
from twisted_lb.config.trust import TrustConfig
from twisted_lb.core.listen_address import ListenAddress


class Misfit(NamedTuple):
    """What does not fit, at a path; `other` is the path of what it does not fit with, if that is one place. `about_key`: it is
    the key that does not, and not its value.
    """

    path: KeyPath
    text: str
    other: KeyPath = ()
    about_key: bool = False


def _keys(table: str, *models: type[Model]) -> frozenset[str]:
    return frozenset(f"{table}.{key}" for model in models for key in model.model_fields)


def _whole(model: type[Model], *keys: str) -> frozenset[str]:
    return frozenset(name for key in keys for name in names_of(model, key))


# The flat keys, by the objects that they are the short form of. Some are for two.
FLAT: Mapping[str, frozenset[str]] = {
    "listeners": _whole(
        ListenerRulesConfig,
        "protocol",
        "protocols",
        "client_half_close",
        "error_pages",
        "acme_webroot",
        "tls",
        "tcp_keepalive",
    )
    | {"listen"}
    | _keys("timeouts", ClientTimeoutsConfig)
    | _keys("limits", ClientLimitsConfig)
    | _keys("forwarding", TrustConfig),
    "routes": _whole(RouteRulesConfig, "key", "cost", "upgrades", "error_pages")
    | _keys("timeouts", RouteTimeoutsConfig)
    | _keys("limits", BodyLimitsConfig)
    | _keys("forwarding", ToldConfig),
    "pools": _whole(ChoiceConfig, *ChoiceConfig.model_fields)
    | _whole(PoolRulesConfig, "health_check", "ejection", "queue", "affinity", "adaptive")
    | _whole(PoolRulesConfig, "slow_start", "panic", "retry", "hedge", "shadow", "upstream", "tcp_keepalive")
    | {"backends"}
    | _keys("timeouts", PoolTimeoutsConfig)
    | _keys("limits", HeadLimitsConfig),
}
_TABLES = ("timeouts", "limits", "forwarding")


def misfits(values: Mapping[str, Any]) -> Iterator[Misfit]:
    """What does not fit together, with its place."""
    flat = list(_flat(values))
    pools, listeners = _names(values, "pools"), _names(values, "listeners")
    yield from _twice(values, flat, pools, listeners)
    yield from _ownerless(flat, pools, listeners, routed=bool(_list(values, "routes")))
    if _has(flat, {"backends"}) or not (pools or _list(values, "routes")):
        pools = [*pools, DEFAULT]
    if not listeners or _has(flat, {"listen"}):
        listeners = [*listeners, DEFAULT]
    yield from _strangers(values, pools, listeners)
    yield from _mirrors(values, pools)
    yield from _namesakes(values)
    yield from _reserved(values)
    yield from _overlaps(values, flat)


def _flat(values: Mapping[str, Any]) -> Iterator[str]:
    """The flat keys that are there, dotted where they stand in a table that is shared."""
    for key, value in values.items():
        if key not in _TABLES:
            yield key
        elif isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in value)
        elif isinstance(value, Model):
            yield from (f"{key}.{inner}" for inner in value.model_fields_set)


def _has(flat: Iterable[str], keys: Iterable[str]) -> bool:
    return not set(keys).isdisjoint(flat)


def _place(dotted: str) -> KeyPath:
    return tuple(dotted.split("."))


def _twice(values: Mapping[str, Any], flat: list[str], pools: list[str], listeners: list[str]) -> Iterator[Misfit]:
    """Flat keys beside the table of the same object."""
    for kind, names in (("pools", pools), ("listeners", listeners)):
        if DEFAULT in names:
            for key in flat:
                if key in FLAT[kind] and _only_of(key, kind, pools, listeners):
                    yield _both(key, kind)
    if "health_check" in flat and DEFAULT in _names(values, "checks"):
        yield _both("health_check", "checks")


def _both(key: str, kind: str) -> Misfit:
    text = f"is of {kind}.{DEFAULT} in short, and [{kind}.{DEFAULT}] is there too: give it there"
    return Misfit(_place(key), text, (kind, DEFAULT), about_key=True)


def _only_of(key: str, kind: str, pools: list[str], listeners: list[str]) -> bool:
    """Whether a flat key can mean this kind of object alone: another one that it is for has a table of its own, or is none."""
    others = [other for other in FLAT if other != kind and key in FLAT[other]]
    owners = {"pools": pools, "listeners": listeners, "routes": pools}
    return all(DEFAULT in owners[other] or owners[other] for other in others)


def _ownerless(flat: list[str], pools: list[str], listeners: list[str], *, routed: bool) -> Iterator[Misfit]:
    """Flat keys where there is no object `default` that they could speak of."""
    has_pool = DEFAULT in pools or _has(flat, {"backends"}) or not (pools or routed)
    has_listener = DEFAULT in listeners or _has(flat, {"listen"}) or not listeners
    there = {"pools": has_pool, "routes": has_pool, "listeners": has_listener}
    for key in flat:
        kinds = [kind for kind in FLAT if key in FLAT[kind]]
        if kinds and not any(there[kind] for kind in kinds):
            yield Misfit(_place(key), _homeless(kinds[0], pools, listeners), about_key=True)


def _homeless(kind: str, pools: list[str], listeners: list[str]) -> str:
    what, names = ("listener", listeners) if kind == "listeners" else ("pool", pools)
    one = kind.removesuffix("s")
    there = f" ({what}s: {', '.join(names)})" if names else ""
    home = "[[routes]]" if kind == "routes" else f"[{kind}.{names[0] if names else DEFAULT}]"
    return f"is for the {what} {DEFAULT}, which is not there{there}: give it in {home} or [defaults.{one}]"


def _strangers(values: Mapping[str, Any], pools: list[str], listeners: list[str]) -> Iterator[Misfit]:
    """Names of what is not there."""
    checks = _names(values, "checks")
    for index, route in enumerate(_list(values, "routes")):
        for key, name in _pools_of(route):
            if name not in pools:
                yield Misfit(("routes", index, *key), _no("pool", name, pools), about_key=key[0] == "split")
        for name in _texts(_get(route, "listeners")):
            if name not in listeners:
                yield Misfit(("routes", index, "listeners"), _no("listener", name, listeners))
    for name, pool in _items(values, "pools"):
        check = _get(pool, "check")
        if isinstance(check, str) and check not in checks:
            yield Misfit(("pools", name, "check"), _no("check", check, checks))
    defaults = values.get("defaults")
    if isinstance(check := _get(_get(defaults, "pool"), "check"), str) and check not in checks:
        yield Misfit(("defaults", "pool", "check"), _no("check", check, checks))
    homes: list[tuple[KeyPath, Any]] = [(("listeners", name), one) for name, one in _items(values, "listeners")]
    for place, listener in [*homes, (("defaults", "listener"), _get(defaults, "listener"))]:
        pool = _get(listener, "default_pool")
        if isinstance(pool, str) and pool not in pools:
            yield Misfit((*place, "default_pool"), _no("pool", pool, pools))
    for name in _texts(values.get("ready_requires")):
        if name not in pools:
            yield Misfit(("ready_requires",), _no("pool", name, pools))


def _mirrors(values: Mapping[str, Any], pools: list[str]) -> Iterator[Misfit]:
    """Mirrors that are no other pool."""
    for name, pool in _items(values, "pools"):
        to, place = _get(_get(pool, "mirror"), "to"), ("pools", name, "mirror", "to")
        if isinstance(to, str) and to == name:
            yield Misfit(place, f"{name} is the pool itself: its requests are mirrored to another one")
        elif isinstance(to, str) and to not in pools:
            yield Misfit(place, _no("pool", to, pools))


def _namesakes(values: Mapping[str, Any]) -> Iterator[Misfit]:
    """Routes that are called alike."""
    found: dict[str, int] = {}
    for index, route in enumerate(_list(values, "routes")):
        name = _get(route, "name")
        if not isinstance(name, str):
            continue
        if name == DEFAULT:
            yield Misfit(
                ("routes", index, "name"),
                f"{DEFAULT} is what the route is called that leads to the pool {DEFAULT} whatever no other one takes",
            )
        elif name in found:
            yield Misfit(("routes", index, "name"), f"{name} is routes[{found[name]}] already", ("routes", found[name]))
        found.setdefault(name, index)


def _reserved(values: Mapping[str, Any]) -> Iterator[Misfit]:
    """Listeners with the name of other sockets."""
    if "status" in _names(values, "listeners"):
        yield Misfit(
            ("listeners", "status"), "status is what the socket of the status address is called", about_key=True
        )


def _pools_of(route: Any) -> Iterator[tuple[KeyPath, str]]:
    for key in ("pool", "fallback"):
        name = _get(route, key)
        if isinstance(name, str):
            yield (key,), name
    split = _get(route, "split")
    if isinstance(split, Mapping):
        for name in split:
            yield ("split", name), str(name)


def _no(what: str, name: str, names: list[str]) -> str:
    meant = similar(name, names)
    advice = f'; did you mean "{meant}"?' if meant else ""
    there = f" ({what}s: {', '.join(names)})" if names else f"; there is no {what} at all"
    return f'there is no {what} "{name}"{advice}{there}'


def _overlaps(values: Mapping[str, Any], flat: list[str]) -> Iterator[Misfit]:
    """Listeners that cannot both have their address."""
    taken: list[tuple[ListenAddress, str, KeyPath]] = []
    listen = values.get("listen")
    if "listen" in flat and isinstance(listen, Mapping | ListenConfig):
        try:
            taken.append((ListenConfig.model_validate(listen).address, "listen", ("listen",)))
        except ValueError:
            pass  # it is told where it stands
    for name, listener in _items(values, "listeners"):
        place: KeyPath = ("listeners", name, "address")
        for at, address in _addresses(_get(listener, "address"), place):
            found = next((one for one in taken if address.overlaps(one[0])), None)
            if found is not None:
                other, owner, there = found
                as_part = "" if address.where == other.where else f", with {other.where}"
                yield Misfit(at, f"{address.where} is taken by {owner}{as_part}", there)
            taken.append((address, f"listeners.{name}", at))
    yield from _with_status(values, taken)
    yield from _with_takeover(values, taken)


def _with_status(values: Mapping[str, Any], taken: list[tuple[ListenAddress, str, KeyPath]]) -> Iterator[Misfit]:
    """The status address, where a listener has it."""
    for _, address in _addresses(values.get("status"), ()):
        for other, owner, there in taken:
            if address.overlaps(other):
                yield Misfit(("status",), f"{address.where} is taken by {owner}", there)


def _with_takeover(values: Mapping[str, Any], taken: list[tuple[ListenAddress, str, KeyPath]]) -> Iterator[Misfit]:
    """The path for a successor, where a listener has it: each would take it away from the other."""
    path = values.get("takeover")
    if isinstance(path, str):
        for other, owner, there in taken:
            if other.path and os.path.normpath(os.path.abspath(path)) == os.path.normpath(other.path):
                yield Misfit(("takeover",), f"{path} is taken by {owner}", there)


def _addresses(value: Any, place: KeyPath) -> Iterator[tuple[KeyPath, ListenAddress]]:
    """Addresses, each with its place."""
    listed = isinstance(value, list | tuple)
    for number, one in enumerate(value if listed else [value]):
        text = (
            one.address if isinstance(one, AddressTable) else _get(one, "address") if isinstance(one, Mapping) else one
        )
        try:
            yield (*place, number) if listed else place, ListenAddress.parse(text)
        except (ValueError, AttributeError, TypeError):
            continue  # it is told where it stands


def _get(table: Any, key: str) -> Any:
    if isinstance(table, Mapping):
        return table.get(key)
    return getattr(table, key, None) if isinstance(table, Model) else None


def _names(values: Mapping[str, Any], key: str) -> list[str]:
    return [name for name, _ in _items(values, key)]


def _items(values: Mapping[str, Any], key: str) -> list[tuple[str, Any]]:
    found = values.get(key)
    return [(str(name), one) for name, one in found.items()] if isinstance(found, Mapping) else []


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key)
    return list(found) if isinstance(found, list | tuple) else []


def _texts(value: Any) -> list[str]:
    some = value if isinstance(value, list | tuple) else [value]
    return [one for one in some if isinstance(one, str)]
