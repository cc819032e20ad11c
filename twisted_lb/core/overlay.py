"""The overlay: what was changed at run time, between what the file says and what health says.

Three layers of truth: file, runtime change, health. Each change is to one value of one backend, and the file wins it back by
its own rule when it says something new.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import AdminState, BackendSpec, limit_said

# The form of `values`.
VERSION: Final = 1
# Where an effective value comes from when it was changed at run time.
RUNTIME: Final = "runtime"
# Where a backend is that only checks a number.
_ANYWHERE: Final = parse_address("x:1")

_DEFAULTS: Final = {
    "weight": 1,
    "check_port": None,
    "resolve": "",
    "family": "",
    "limit": None,
    "priority": 0,
    "backup": False,
}


class _Number:
    """A weight or a limit, and what the file said when it was set."""

    __slots__ = ("now", "was")

    def __init__(self, now: int, was: int) -> None:
        self.now: Final = now
        self.was: Final = was


class PoolOverlay:
    """The runtime changes to the backends of one pool."""

    __slots__ = ("added", "admin", "limits", "removed", "weights")

    def __init__(self) -> None:
        self.admin: Final[dict[str, AdminState]] = {}
        self.weights: Final[dict[str, _Number]] = {}
        self.limits: Final[dict[str, _Number]] = {}
        self.added: Final[dict[str, BackendSpec]] = {}
        self.removed: Final[dict[str, None]] = {}  # an ordered set

    @property
    def numbers(self) -> tuple[tuple[str, dict[str, _Number]], ...]:
        """Weights and limits, each with its word."""
        return ("weight", self.weights), ("limit", self.limits)

    @property
    def empty(self) -> bool:
        """Whether nothing is changed."""
        return not (self.admin or self.weights or self.limits or self.added or self.removed)

    def over(self, base: Sequence[BackendSpec]) -> list[BackendSpec]:
        """The backends in force, where the file has those of `base`; those that were added stand behind them."""
        names = {one.name for one in base}
        specs = [one for one in base if one.name not in self.removed]
        specs += [one for name, one in self.added.items() if name not in names]
        return [self._changed(one) for one in specs]

    def _changed(self, spec: BackendSpec) -> BackendSpec:
        weight, limit = self.weights.get(spec.name), self.limits.get(spec.name)
        if weight is not None:
            spec = replace(spec, weight=weight.now)
        return spec if limit is None else replace(spec, limit=limit.now)

    def lines(self) -> Iterator[str]:
        """The changes, one each: `weight 0 of b3`."""
        yield from (f"{admin.value} of {name}" for name, admin in self.admin.items())
        for word, numbers in self.numbers:
            yield from (f"{word} {limit_said(one.now)} of {name}" for name, one in numbers.items())
        yield from (f"added {name}" for name in self.added)
        yield from (f"removed {name}" for name in self.removed)

    def followed(
        self, base: Sequence[BackendSpec], *, whole: bool = True, most: int = 0
    ) -> tuple["PoolOverlay", list[str]]:
        """What is left of the changes where the file has these backends, and what is dropped, one line each. Where they are not
        the `whole`, since a list is not known yet, what is about one that is not among them is left. `most`: see Overlay.limit.

        A weight or a limit is dropped when the file says another one than it did, whatever is about a backend that is gone with
        it; a backend that was added and is in the file now is the file's.
        """
        file = {one.name: one for one in base}
        left, dropped = PoolOverlay(), []
        addresses = {one.address for one in base}
        left.added.update(
            {name: one for name, one in self.added.items() if name not in file and one.address not in addresses}
        )
        for name in self.removed:
            if name in file or not whole:
                left.removed[name] = None
            else:
                dropped.append(f"removed {name}")
        there = {*file, *left.added} - left.removed.keys()
        for name, admin in self.admin.items():
            if not whole or name in there or name_of(name) in there:
                left.admin[name] = admin
            else:
                dropped.append(f"{admin.value} of {name}")
        for (word, numbers), (_, kept) in zip(self.numbers, left.numbers, strict=True):
            for name, one in numbers.items():
                said = file.get(name, left.added.get(name))
                if not whole if said is None else _said(said, word, most) == one.was:
                    kept[name] = one
                else:
                    dropped.append(f"{word} {limit_said(one.now)} of {name}")
        return left, dropped

    def reset(self, name: str) -> bool:
        """Forget what was changed of this backend, and of its endpoints; whether anything was."""
        found = [part.pop(name, None) for part in (self.admin, self.weights, self.limits, self.added)]
        found += [self.admin.pop(one) for one in list(self.admin) if name_of(one) == name]
        removed = name in self.removed
        self.removed.pop(name, None)
        return removed or any(one is not None for one in found)


class Overlay:
    """The runtime changes to the backends of all pools. It knows no living records; whoever changes it applies it."""

    __slots__ = ("pools",)

    def __init__(self, pools: Mapping[str, PoolOverlay] | None = None) -> None:
        self.pools: Final[dict[str, PoolOverlay]] = {} if pools is None else dict(pools)

    def of(self, pool: str) -> PoolOverlay:
        """The changes to this pool, to be read."""
        return self.pools.get(pool) or PoolOverlay()

    def over(self, pool: str, base: Sequence[BackendSpec]) -> list[BackendSpec]:
        """The backends of a pool in force, where the file has those of `base`."""
        return self.of(pool).over(base)

    # Changes.

    def command(self, pool: str, name: str, admin: AdminState) -> None:
        """Set what the operator wants of a backend, and of its endpoints, whatever was wanted of those; READY is what the file
        says, and ends the change, unless it is an endpoint whose name is changed.
        """
        changes = self._changes(pool)
        for one in [one for one in changes.admin if name in (one, name_of(one))]:
            del changes.admin[one]
        if admin is not AdminState.READY or name_of(name) in changes.admin:
            changes.admin[name] = admin  # behind that of its name: they are followed in this order
        self._forget_empty(pool)

    def admin(self, pool: str, name: str) -> AdminState:
        """What the operator wants of a backend, or of an endpoint."""
        admin = self.of(pool).admin
        return admin.get(name) or admin.get(name_of(name)) or AdminState.READY

    def weigh(self, pool: str, name: str, weight: int, base: Sequence[BackendSpec]) -> None:
        """Set a backend's weight, until the file says another one than now. KeyError when there is no such backend, ValueError
        for what is no weight.
        """
        self._set(pool, name, "weight", weight, base)

    def limit(self, pool: str, name: str, limit: int, base: Sequence[BackendSpec], most: int = 0) -> None:
        """Set how many requests a backend may have in flight, 0 for no bound, ADAPTIVE for what is learnt, until the file says another number than now. `most`
        is what the pool says for those that have no limit of their own, ADAPTIVE among them. KeyError when there is no such backend, ValueError for
        what is no limit.
        """
        self._set(pool, name, "limit", limit, base, most)

    def _set(self, pool: str, name: str, word: str, number: int, base: Sequence[BackendSpec], most: int = 0) -> None:
        spec = self._spec(pool, name, base)
        replace(spec, **{word: number})  # type: ignore[arg-type]  # it is checked there
        said = _said(spec, word, most)
        numbers = dict(self._changes(pool).numbers)[word]
        if number == said:
            numbers.pop(name, None)
        else:
            numbers[name] = _Number(number, said)
        self._forget_empty(pool)

    def add(self, pool: str, spec: BackendSpec, base: Sequence[BackendSpec]) -> None:
        """Add a backend; one that was removed at run time is back. ValueError when its name or address is there."""
        for one in self.over(pool, base):
            if one.name == spec.name or one.address == spec.address:
                raise ValueError(f"pool {pool}: {one.name} at {one.address} is there already")
        changes = self._changes(pool)
        file = {one.name: one for one in base}
        changes.removed.pop(spec.name, None)
        if spec.name not in file:
            changes.added[spec.name] = spec
        elif file[spec.name] != spec:
            changes.removed[spec.name] = None
            raise ValueError(f"pool {pool}: {spec.name} is another backend in the file, at {file[spec.name].address}")
        self._forget_empty(pool)

    def remove(self, pool: str, name: str, base: Sequence[BackendSpec]) -> None:
        """Remove a backend. KeyError when there is no such backend."""
        self._spec(pool, name, base)
        changes = self._changes(pool)
        changes.reset(name)
        if any(one.name == name for one in base):
            changes.removed[name] = None
        self._forget_empty(pool)

    def reset(self, pool: str, name: str) -> bool:
        """Go by the file again in all that concerns this backend; whether anything was changed."""
        changed = pool in self.pools and self.pools[pool].reset(name)
        self._forget_empty(pool)
        return changed

    def _changes(self, pool: str) -> PoolOverlay:
        return self.pools.setdefault(pool, PoolOverlay())

    def _forget_empty(self, pool: str) -> None:
        if pool in self.pools and self.pools[pool].empty:
            del self.pools[pool]

    def _spec(self, pool: str, name: str, base: Sequence[BackendSpec]) -> BackendSpec:
        """A backend as the file has it, or as it was added."""
        changes = self.of(pool)
        for spec in (*base, *changes.added.values()):
            if spec.name == name and name not in changes.removed:
                return spec
        raise KeyError(f"pool {pool}: no backend is called {name}")

    # What is in force, and why.

    def source(self, pool: str, name: str, key: str) -> str:
        """RUNTIME where this value of a backend (`admin`, `weight`, `limit`, or `backend`: whether it is there) was changed at
        run time, else empty.
        """
        changes = self.pools.get(pool)
        if changes is None:
            return ""
        changed = {
            "admin": name in changes.admin,
            "weight": name in changes.weights,
            "limit": name in changes.limits,
            "backend": name in changes.added or name in changes.removed,
        }
        return RUNTIME if changed[key] or name in changes.added else ""

    def followed(
        self,
        bases: Mapping[str, Sequence[BackendSpec]],
        partly: Collection[str] = (),
        most: Mapping[str, int] | None = None,
    ) -> tuple["Overlay", list[str]]:
        """What is left of the changes where the file has these pools, and what is dropped, one line each. `partly`: the pools
        whose backends are not all known yet. `most`: by pool, see `limit`.
        """
        left, dropped = Overlay(), []
        for pool, changes in self.pools.items():
            kept, gone = (
                changes.followed(bases[pool], whole=pool not in partly, most=(most or {}).get(pool, 0))
                if pool in bases
                else (PoolOverlay(), list(changes.lines()))
            )
            if not kept.empty:
                left.pools[pool] = kept
            dropped += [_in_pool(line, pool) for line in gone]
        return left, dropped

    def lines(self) -> list[str]:
        """The changes, one each: `weight 0 of b3`, with the pool unless it is `default`."""
        return [_in_pool(line, pool) for pool, changes in self.pools.items() for line in changes.lines()]

    # As plain values, for a file.

    def values(self) -> dict[str, Any]:
        """All of it as plain values: what JSON can hold."""
        return {"version": VERSION, "pools": {pool: _values_of(changes) for pool, changes in self.pools.items()}}

    @classmethod
    def of_values(cls, values: Any) -> "Overlay":
        """The overlay of such values; ValueError for what is none."""
        if not isinstance(values, dict) or values.get("version") != VERSION:
            raise ValueError(f"should be of version {VERSION}")
        try:
            return cls({str(pool): _changes_of(changes) for pool, changes in values["pools"].items()})
        except (KeyError, TypeError, AttributeError):
            raise ValueError("is not complete") from None


def name_of(endpoint: str) -> str:
    """The backend that a member is an endpoint of, by the name of the member; empty for others."""
    return endpoint.rpartition("@")[0]


def _said(spec: BackendSpec, word: str, most: int) -> int:
    """A weight or a limit as the file has it."""
    if word == "weight":
        return spec.weight
    return most if spec.limit is None else spec.limit


def _in_pool(line: str, pool: str) -> str:
    return line if pool == "default" else f"{line} in {pool}"


def _values_of(changes: PoolOverlay) -> dict[str, Any]:
    return {
        "admin": {name: admin.value for name, admin in changes.admin.items()},
        **{
            f"{word}s": {name: [one.now, one.was] for name, one in numbers.items()} for word, numbers in changes.numbers
        },
        "added": [_spec_values(spec) for spec in changes.added.values()],
        "removed": list(changes.removed),
    }


def _changes_of(values: dict[str, Any]) -> PoolOverlay:
    changes = PoolOverlay()
    changes.admin.update({str(name): AdminState(admin) for name, admin in values["admin"].items()})
    # Files of versions that knew no limits have none.
    for numbers, said in ((changes.weights, values["weights"]), (changes.limits, values.get("limits", {}))):
        for name, (now, was) in said.items():
            if type(now) is not int or type(was) is not int:
                raise TypeError
            numbers[str(name)] = _Number(now, was)
    for name, one in changes.weights.items():
        BackendSpec(name, _ANYWHERE, weight=one.now)
    for name, one in changes.limits.items():
        BackendSpec(name, _ANYWHERE, limit=one.now)
    changes.added.update({spec.name: spec for spec in map(_spec_of, values["added"])})
    changes.removed.update(dict.fromkeys(map(str, values["removed"])))
    return changes


def _spec_values(spec: BackendSpec) -> dict[str, Any]:
    """A backend, without what it does not say."""
    said = {key: getattr(spec, key) for key, default in _DEFAULTS.items() if getattr(spec, key) != default}
    labels = {"labels": [list(one) for one in spec.labels]} if spec.labels else {}
    return {"name": spec.name, "address": str(spec.address), **said, **labels}


def _spec_of(values: dict[str, Any]) -> BackendSpec:
    labels: Iterable[Any] = values.get("labels", ())
    name = str(values["name"])
    if not (name.isascii() and name.isprintable() and name.strip()):
        raise ValueError(f"{name!r} is no name of a backend")
    return BackendSpec(
        name=name,
        address=parse_address(values["address"]),
        weight=values.get("weight", 1),
        check_port=values.get("check_port"),
        resolve=str(values.get("resolve", "")),
        family=str(values.get("family", "")),
        labels=tuple((str(key), str(value)) for key, value in labels),
        limit=values.get("limit"),
        priority=values.get("priority", 0),
        backup=bool(values.get("backup", False)),
    )
