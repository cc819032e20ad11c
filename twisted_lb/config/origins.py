"""Origins: where each value that is in force comes from: `default`, a place in the file, a flag, or a profile."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from twisted_lb.config.balancer import LoadBalancerConfig
from twisted_lb.config.base import DEFAULT, KeyPath, Model, names_of
from twisted_lb.config.described import DescribedConfig
from twisted_lb.config.flags import flag_at
from twisted_lb.config.objects import Objects, check_of, name_of, objects_of, profile_at
from twisted_lb.config.problems import Problem
from twisted_lb.config.shape import field_of, model_at
from twisted_lb.config.trust import TrustConfig

# Tells a place in the file: `lb.toml:14`.
Placing = Callable[[KeyPath], str]

# Keys of listeners and routes that are called as a table of the process is, and are no flat keys.
_OF_THE_PROCESS: Final = ("log",)
# And one of pools that is called as a table of the listener is.
_OF_THE_LISTENER: Final = ("tls",)


class Origins:
    """The origins of a configuration's values. `given` is what the file says, before flags; `typed` the flags, by the paths
    that they set; `placing` tells where in the file a path of it stands.
    """

    def __init__(
        self, config: LoadBalancerConfig, given: Mapping[str, Any], typed: Mapping[KeyPath, str], placing: Placing
    ) -> None:
        self._config: Final = config
        self._given: Final = given
        self._typed: Final = typed
        self._placing: Final = placing
        self._backends: Final[dict[str, dict[str, int]]] = {}  # of pools that somebody has asked for

    @cached_property
    def _objects(self) -> Objects:
        # Only when somebody asks: a start does not.
        return objects_of(self._config)

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        """The routes of the configuration by their names."""
        return {name_of(one, index): index for index, one in enumerate(self._config.routes)}

    def _backends_of(self, pool: str) -> Mapping[str, int]:
        """The backends of a pool by their names, the first one of a name."""
        found = self._backends.get(pool)
        if found is None:
            found = self._backends[pool] = {}
            for number, backend in enumerate(self._objects.pools[pool].backends):
                found.setdefault(backend.name, number)
        return found

    def of(self, path: KeyPath) -> str:
        """Where what is in force at a path comes from. Objects are named as in a plan: `("pools", "api", "queue", "most")`,
        also the pool, listener and route `default` of a file of flat keys; backends by number or name, routes too. KeyError
        for an object that is not there.
        """
        for one in self._candidates(path):
            flag = flag_at(one, self._typed)
            if flag is not None:
                return flag
            found = self._found(one)
            if found is not None:
                return self._placing(found)
        profile = profile_at(self._objects, path)
        return DEFAULT if profile is None else f"profile {profile}"

    def flagged(self, problem: Problem) -> Problem:
        """A problem with the flag that set what it is about, if one did."""
        flag = flag_at(problem.path, self._typed) if problem.place is None else None
        return problem if flag is None else replace(problem, flag=flag)

    def every(self) -> Iterator[tuple[KeyPath, Any, str]]:
        """All values in force, those of the process first: their paths, they themselves, and where they come from."""
        yield from (
            found for found in self._leaves(self._config, ()) if found[0][0] not in DescribedConfig.model_fields
        )
        objects = self._objects
        kinds: tuple[tuple[str, Mapping[str, Model]], ...] = (
            ("listeners", objects.listeners),
            ("routes", {**objects.routes, **objects.to_default}),
            ("pools", objects.pools),
        )
        for kind, named in kinds:
            for name, one in named.items():
                yield from self._leaves(one, (kind, name))

    def _leaves(self, model: Model, path: KeyPath) -> Iterator[tuple[KeyPath, Any, str]]:
        for key in type(model).model_fields:
            value = getattr(model, key)
            if isinstance(value, Model):
                yield from self._leaves(value, (*path, key))
            else:
                yield (*path, key), value, self.of((*path, key))

    def _candidates(self, path: KeyPath) -> Iterator[KeyPath]:
        """The paths in a file that what is at a path of an object may be said at, the one that wins first."""
        kind, rest = path[0], path[2:]
        if kind == "listeners" and len(path) > 1:
            yield from self._of_listener(str(path[1]), rest)
        elif kind == "routes" and len(path) > 1:
            yield from self._of_route(path[1], rest)
        elif kind == "pools" and len(path) > 1:
            yield from self._of_pool(str(path[1]), rest)
        else:
            yield path

    def _of_listener(self, name: str, rest: KeyPath) -> Iterator[KeyPath]:
        if name not in self._objects.listeners:
            raise KeyError(f"listeners.{name}")
        yield ("listeners", name, *rest)
        if name == DEFAULT and rest and name not in self._config.listeners:
            if rest[0] == "address":
                parts: tuple[KeyPath, ...] = (("listen", "port"), ("listen", "interface"))
                yield from sorted(parts, key=lambda one: one not in self._typed)
            if rest[0] not in _OF_THE_PROCESS:
                yield ("forwarding", *rest) if rest[0] in TrustConfig.model_fields else rest
        yield ("defaults", "listener", *rest)

    def _of_route(self, name: str | int, rest: KeyPath) -> Iterator[KeyPath]:
        numbers = self._numbers
        if isinstance(name, int) or name in numbers:
            yield ("routes", name if isinstance(name, int) else numbers[name], *rest)
        elif name not in self._objects.to_default:
            raise KeyError(f"routes.{name}")
        elif name == DEFAULT and rest and rest[0] not in _OF_THE_PROCESS:
            yield rest
        yield ("defaults", "route", *rest)

    def _of_pool(self, name: str, rest: KeyPath) -> Iterator[KeyPath]:
        if name not in self._objects.pools:
            raise KeyError(f"pools.{name}")
        home: KeyPath = ("pools", name) if name in self._config.pools else ()
        if rest[:1] == ("backends",) and len(rest) > 1:
            yield from self._of_backend(name, home, rest[1], rest[2:])
            return
        if home or (rest and rest[0] not in _OF_THE_LISTENER):
            yield (*home, *rest)
        check = check_of(self._objects.pools[name], self._config)
        if check is not None and rest[:1] == ("health_check",):
            yield ("checks", check, *rest[1:])
        yield ("defaults", "pool", *rest)

    def _of_backend(self, pool: str, home: KeyPath, which: str | int, rest: KeyPath) -> Iterator[KeyPath]:
        if isinstance(which, int):
            number = which if 0 <= which < len(self._objects.pools[pool].backends) else None
        else:
            number = self._backends_of(pool).get(which)
        if number is None:
            raise KeyError(f"pools.{pool}.backends.{which}")
        item = (*home, "backends", number)
        found = self._value(item)
        # In `a:80,weight=3` all of it is in one text.
        if isinstance(found, str) and (rest in ((), ("address",)) or (rest == ("weight",) and "," in found)):
            yield item
        yield (*item, *rest)
        if rest and rest[0] not in ("address", "name"):
            yield ("defaults", "backend", *rest)

    def _found(self, path: KeyPath) -> KeyPath | None:
        """A path as it is in the file, where keys may have older names; None if it is not there."""
        here: Any = self._given
        found: KeyPath = ()
        for part in path:
            model = model_at(LoadBalancerConfig, found)
            key = field_of(model, part) if model is not None and isinstance(part, str) else None
            names = [part] if key is None or model is None else names_of(model, key)
            there = next((name for name in names if _has(here, name)), None)
            if there is None:
                return None
            found, here = (*found, there), here[there]
        return found

    def _value(self, path: KeyPath) -> Any:
        found = self._found(path)
        here: Any = self._given
        for part in found or ():
            here = here[part]
        return None if found is None else here


def _has(values: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(values, list) and 0 <= part < len(values)
    return isinstance(values, dict) and part in values
