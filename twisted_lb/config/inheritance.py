"""Inheritance: what a table does not say itself is what its defaults say."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from twisted_lb.config.base import Model
from twisted_lb.config.pools import BackendRulesConfig

M = TypeVar("M", bound=Model)


def inherited(own: M, *defaults: Model) -> M:
    """A table with what each of its defaults says in turn where it says nothing itself, table by table."""
    for one in defaults:
        own = _over(own, one)
    return own


def _over(own: M, base: Model) -> M:
    values: dict[str, Any] = {}
    for name in type(own).model_fields:
        mine = getattr(own, name)
        theirs = getattr(base, name) if name in base.model_fields_set else None
        if name not in own.model_fields_set:
            if name in base.model_fields_set:
                values[name] = theirs
        elif isinstance(mine, Model) and isinstance(theirs, Model) and type(mine) is type(theirs):
            values[name] = _over(mine, theirs)
        else:
            values[name] = mine
    return type(own).model_validate(values)


def with_backend_defaults(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a file, in which each backend says what `[defaults.backend]` says where it says nothing itself."""
    defaults = _table(_table(values, "defaults"), "backend")
    if not defaults:
        return values
    try:
        BackendRulesConfig.model_validate(defaults)
    except ValidationError:
        return values  # it is told where it stands
    values = dict(values)
    if "backends" in values:
        values["backends"] = _each_with(values["backends"], defaults)
    pools = _table(values, "pools")
    if pools:
        values["pools"] = {
            name: {**pool, "backends": _each_with(pool["backends"], defaults)}
            if isinstance(pool, Mapping) and "backends" in pool
            else pool
            for name, pool in pools.items()
        }
    return values


def _table(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = values.get(key)
    return found if isinstance(found, Mapping) else {}


def _each_with(backends: Any, defaults: Mapping[str, Any]) -> Any:
    if not isinstance(backends, list | tuple):
        return backends
    return [_with(one, defaults) for one in backends]


def _with(backend: Any, defaults: Mapping[str, Any]) -> Any:
    if isinstance(backend, Mapping):
        return {**defaults, **backend}
    if not isinstance(backend, str):
        return backend
    # A weight behind the address is its own.
    return {
        **{key: value for key, value in defaults.items() if key != "weight" or "," not in backend},
        "address": backend,
    }
