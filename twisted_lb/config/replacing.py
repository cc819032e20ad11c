"""Replacing: a configuration in which a program has changed something of what is called `default`, in whichever form it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from twisted_lb.config.balancer import LoadBalancerConfig
from twisted_lb.config.base import DEFAULT, Model
from twisted_lb.config.limits import TimeoutsConfig
from twisted_lb.config.problems import dotted
from twisted_lb.config.reasons import problems
from twisted_lb.core.backend import BackendSpec
from twisted_lb.errors import one_line


def with_backends(config: LoadBalancerConfig, backends: Sequence[BackendSpec]) -> LoadBalancerConfig:
    """The configuration with these backends of the pool `default`, and no others; ValueError where there is no such pool."""
    specs = tuple(backends)
    if DEFAULT in config.pools:
        pool = config.pools[DEFAULT].model_copy(update={"backends": specs, "targets": None})
        return config.model_copy(update={"pools": {**config.pools, DEFAULT: pool}})
    if not config.backends:
        raise ValueError(f"there is no pool {DEFAULT} (pools: {', '.join(config.pools)})")
    return config.model_copy(update={"backends": specs})


def backend_of(config: LoadBalancerConfig, backend: str | Mapping[str, Any]) -> BackendSpec:
    """A backend as the file would have it, a text or a table, with what `[defaults.backend]` says; ValueError in one line for
    what is none.
    """
    defaults = config.defaults.backend.model_dump(exclude_unset=True)
    try:
        [spec] = LoadBalancerConfig(backends=[backend], defaults={"backend": defaults}).backends
    except ValidationError as error:
        first = next(problems(LoadBalancerConfig, error.errors(), {"backends": [backend]}, {}))
        said = "; ".join(filter(None, [first.message, first.hint]))
        raise ValueError(one_line(": ".join(filter(None, [dotted(first.path[2:]), said])))) from None
    return spec


def with_timeouts(config: LoadBalancerConfig, timeouts: TimeoutsConfig) -> LoadBalancerConfig:
    """The configuration with these timeouts, for all that is called `default` and for the process."""
    changes: dict[str, Any] = {"timeouts": timeouts}
    for key in ("listeners", "pools"):
        tables: dict[str, Model] = getattr(config, key)
        if DEFAULT in tables:
            changes[key] = {**tables, DEFAULT: _with_timeouts(tables[DEFAULT], timeouts)}
    return config.model_copy(update=changes)


def _with_timeouts(table: Model, timeouts: TimeoutsConfig) -> Model:
    kind: type[Model] = type(table.timeouts)  # type: ignore[attr-defined]
    given = {key: getattr(timeouts, key) for key in kind.model_fields if key in timeouts.model_fields_set}
    return table.model_copy(update={"timeouts": kind.model_validate(given)})
