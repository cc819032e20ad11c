"""Inheritance: what a table does not say itself is what its defaults say, key by key."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from twisted_lb.config.base import Model, again
from twisted_lb.config.listeners import ListenerRulesConfig
from twisted_lb.config.pools import BackendRulesConfig, PoolRulesConfig
from twisted_lb.config.routes import RouteRulesConfig
from twisted_lb.core.address import TcpAddress, is_name
from twisted_lb.core.backend import BackendSpec

# Tables that are one value: what they say is not added to what is inherited.
_WHOLE = frozenset(("replace_prefix", "script"))

M = TypeVar("M", bound=Model)


class DefaultsConfig(Model):
    """Defaults: what holds for every listener, route, pool and backend that does not say it itself. Tables are inherited key by
    key, lists as a whole.
    """

    listener: ListenerRulesConfig = ListenerRulesConfig()
    route: RouteRulesConfig = RouteRulesConfig()
    pool: PoolRulesConfig = PoolRulesConfig()
    backend: BackendRulesConfig = BackendRulesConfig()


def inherited(own: M, *defaults: Model) -> M:
    """A table with what each of its defaults says in turn where it says nothing itself. ValidationError where the two do not
    go together.
    """
    for one in defaults:
        own = _over(own, one)
    return own


def _over(own: M, base: Model) -> M:
    if not base.model_fields_set:
        return own
    values: dict[str, Any] = {}
    for name in type(own).model_fields:
        mine, theirs = name in own.model_fields_set, name in base.model_fields_set
        if mine and theirs:
            values[name] = _joined(name, getattr(own, name), getattr(base, name))
        elif mine or theirs:
            values[name] = getattr(own if mine else base, name)
    return type(own).model_validate(values)


def _joined(name: str, mine: Any, theirs: Any) -> Any:
    if name in _WHOLE:
        return mine
    if isinstance(mine, Model) and type(mine) is type(theirs):
        try:
            return _over(mine, theirs)
        except ValidationError as error:
            errors = [again(one, (name,)) for one in error.errors()]
            raise ValidationError.from_exception_data(error.title, errors) from None
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return {**theirs, **mine}
    return mine


def with_backend_defaults(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a file, in which each backend says what `[defaults.backend]` says where it says nothing itself."""
    defaults = _table(values.get("defaults")).get("backend")
    try:
        given = BackendRulesConfig.model_validate(defaults or {})
    except ValidationError:
        return values  # it is told where it stands
    if not given.model_fields_set:
        return values
    values = dict(values)
    if "backends" in values:
        values["backends"] = _each_with(values["backends"], given)
    pools = _table(values.get("pools"))
    if pools:
        values["pools"] = {
            name: {**pool, "backends": _each_with(pool["backends"], given)}
            if isinstance(pool, Mapping) and "backends" in pool
            else pool
            for name, pool in pools.items()
        }
    return values


def with_defaults(backend: Any, defaults: BackendRulesConfig) -> Any:
    """A backend as a file or a program gives it, a text or a table, that says what the defaults say where it says nothing
    itself, and where that means anything: an IP address has no name to resolve, a unix socket no port. A BackendSpec says all.
    """
    table = {"address": backend} if isinstance(backend, str) else backend
    if not isinstance(table, Mapping):
        return backend
    meaningless = _meaningless(table.get("address"))
    values = {
        key: getattr(defaults, key) for key in sorted(defaults.model_fields_set) if key not in {*meaningless, *table}
    }
    labels = table.get("labels")
    if isinstance(labels, Mapping):
        values["labels"] = {**defaults.labels, **labels}
    return {**table, **values}


def _meaningless(text: Any) -> tuple[str, ...]:
    """What nobody can say of a backend with such an address. Of one that is none it is told."""
    try:
        spec = BackendSpec.parse(text)
    except (ValueError, AttributeError):
        return ()
    own = ("weight",) if "," in text else ()
    if not isinstance(spec.address, TcpAddress):
        return (*own, "resolve", "family", "check_port")
    return own if is_name(spec.address) else (*own, "resolve", "family")


def _table(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _each_with(backends: Any, defaults: BackendRulesConfig) -> Any:
    if not isinstance(backends, list | tuple):
        return backends
    return [with_defaults(one, defaults) for one in backends]
