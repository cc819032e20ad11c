"""What a plan is going to do, before it is applied: what comes, goes, changes and stays (dry run, `terraform plan`)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Final, Protocol

from twisted_lb.access_log.rules import LogRules
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.base import Model
from twisted_lb.config.described import DescribedConfig
from twisted_lb.config.listeners import ListenConfig
from twisted_lb.config.secret import hides
from twisted_lb.core.backend import BackendSpec, limit_said
from twisted_lb.errors import one_line
from twisted_lb.plan import OF_POOLS, TLS_FILES
from twisted_lb.planned import ListenerPlan, Plan, PoolPlan, RoutePlan
from twisted_lb.tracing.rules import TraceRules

Parts = Mapping[str, ListenerPlan] | Mapping[str, RoutePlan] | Mapping[str, PoolPlan]

# By the name of a policy that hashes: the share of keys that move when these backends become those. Of the policies that
# there are none does.
MOVED_KEYS: Final[dict[str, Callable[[Sequence[BackendSpec], Sequence[BackendSpec]], float]]] = {}
# What no key of a file is called.
_IN_WORDS: Final = {"default_route": "requests that no route takes", TLS_FILES: ""}
# A value in a line has this many characters at most.
_MOST: Final = 80
# And what comes to a list and goes.
_MOST_MOVED: Final = 240
# Keys of the process that are read at a start alone.
AT_START: Final = ("version", "ready_start_s", "takeover", "state_file", "log", "name", "admin", "workers")


@dataclass(frozen=True)
class PlanDiff:
    """What a plan does to the one in force. `changes`: one line each, none where nothing changes. `kept`: how many listeners,
    routes and pools stay as they are, by kind. `moved_keys`: by pool, the share of keys that another backend gets from then on
    (hashing); pools where none move are left out. `dropped` and `kept_changes`: runtime changes, one line each.
    No connection is ever cut by a plan: what is taken away finishes what it has, in its time.
    """

    changes: tuple[str, ...]
    kept: Mapping[str, int]
    moved_keys: Mapping[str, float]
    dropped: tuple[str, ...] = ()
    kept_changes: tuple[str, ...] = ()
    connections_cut: int = 0

    def beside(self, changes: Iterable[str]) -> "PlanDiff":
        """The same with changes of what is no plan's."""
        return replace(self, changes=(*self.changes, *changes))

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not self.changes and not self.dropped

    @property
    def lines(self) -> list[str]:
        """All of it, one line each; a single one where nothing changes."""
        if self.empty:
            return ["nothing has changed"]
        kept = ", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in self.kept.items() if count)
        lines = [*self.changes, *(f"drops: {one}" for one in self.dropped)]
        if self.kept_changes:
            lines.append(f"keeps what was changed at run time: {', '.join(self.kept_changes)}")
        lines += [f"moves {share:.1%} of the keys of pool {pool}" for pool, share in self.moved_keys.items()]
        lines.append(f"keeps {kept or 'nothing'} as before; connections cut: {self.connections_cut}")
        return lines


def plan_diff(before: Plan, after: Plan, *, dropped: Sequence[str] = (), kept_changes: Sequence[str] = ()) -> PlanDiff:
    """What `after` does in place of `before`. Parts that are the same object are the same."""
    kinds: dict[str, tuple[Parts, Parts]] = {
        "listener": (before.listeners, after.listeners),
        "route": (before.routes, after.routes),
        "pool": (before.pools, after.pools),
    }
    changes = [line for kind, (old, new) in kinds.items() for line in _of_kind(kind, old, new)]
    changes += _of_process(before, after)
    kept = {
        kind: sum(new[name] is part for name, part in old.items() if name in new) for kind, (old, new) in kinds.items()
    }
    return PlanDiff(tuple(changes), kept, _moved_keys(before, after), tuple(dropped), tuple(kept_changes))


class Running(Protocol):
    """What runs by a plan: a data plane."""

    plan: Plan

    def fate_of_changes(self, plan: Plan) -> tuple[list[str], list[str]]:
        """Which runtime changes would be kept with this plan, and which dropped, one line each."""


def diff_of(running: Running, plan: Plan) -> PlanDiff:
    """What a plan does in place of the one that runs, and to what was changed at run time."""
    kept, dropped = running.fate_of_changes(plan)
    return plan_diff(running.plan, plan, dropped=dropped, kept_changes=kept)


def _of_kind(kind: str, before: Parts, after: Parts) -> Iterator[str]:
    for name, part in after.items():
        if name not in before:
            yield f"adds {_called(kind, name)}{_about(part)}"
    for name, part in before.items():
        if name not in after:
            yield f"removes {_called(kind, name)}{_about(part)}"
        elif after[name] is not part and (details := list(_details(part, after[name]))):
            pool = _about(part) if _is_for_others(kind, name) else ""
            yield f"changes {_called(kind, name)}{pool}: {', '.join(details)}"
    stays, now = [name for name in before if name in after], [name for name in after if name in before]
    if kind == "route" and stays != now:
        yield f"changes the order of routes: {', '.join(now)}"


def _called(kind: str, name: str) -> str:
    """A part as messages call it. The route to the pool of requests that no other one takes has a name that nobody gave it."""
    return "route of all other requests" if _is_for_others(kind, name) else f"{kind} {name}"


def _is_for_others(kind: str, name: str) -> bool:
    return kind == "route" and name.startswith("to ")


def _about(part: ListenerPlan | RoutePlan | PoolPlan) -> str:
    """A few words on what comes or goes."""
    if isinstance(part, ListenerPlan):
        places = ", ".join(address.where for address in part.addresses)
        return f" on {places}" if places else ""
    if isinstance(part, RoutePlan):
        pools = ", ".join(lead.pool for lead in part.leads)
        return f" to {pools}" if pools else ""
    backends = [spec.name for spec in part.backends]
    if len(backends) > 8:
        backends = [f"{len(backends)} backends"]
    return f": {', '.join(backends + ([] if part.targets is None else [f'those of {part.targets.where}']))}"


def _details(before: ListenerPlan | RoutePlan | PoolPlan, after: ListenerPlan | RoutePlan | PoolPlan) -> Iterator[str]:
    """The keys that have changed, with the old and the new value."""
    # What a route takes from its pools is said there; what the one is made of and the other is not, in other words.
    keys = [key for key in after.made_of if key != OF_POOLS and key in before.made_of]
    said = [differences(before.made_of[key], after.made_of[key], _IN_WORDS.get(key, key)) for key in keys]
    # Networks are what the file says, and what was made of that: the same words twice.
    yield from dict.fromkeys(chain.from_iterable(said))


def differences(before: object, after: object, place: str = "") -> Iterator[str]:
    """In what two values of the configuration differ, key by key: `health_check.interval_s 5 -> 1`."""
    if before == after:
        return
    if isinstance(before, Model) and type(before) is type(after):
        for key in type(before).model_fields:
            was, now = getattr(before, key), getattr(after, key)
            if was != now and _is_hidden(type(before), key, was):
                yield f"{_below(place, key)}: other values"
            else:
                yield from differences(was, now, _below(place, key))
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            yield from differences(before.get(key), after.get(key), _below(place, str(key)))
    elif _are_backends(before) and _are_backends(after):
        yield from _backends(before, after)  # type: ignore[arg-type]
    elif _is_content(before) or _is_content(after):
        yield f"{place}: other content"
    elif isinstance(before, tuple) and isinstance(after, tuple) and max(len(_said(before)), len(_said(after))) > _MOST:
        yield f"{place} {_cut(', '.join(_moved(before, after)), _MOST_MOVED)}"
    else:
        yield f"{place} {_shown(before)} -> {_shown(after)}"


def _moved(before: Sequence[object], after: Sequence[object]) -> list[str]:
    """What comes to a long list and what goes, and else its order."""
    moved = [f"+{_shown(one)}" for one in after if one not in before]
    moved += [f"-{_shown(one)}" for one in before if one not in after]
    return moved or ["in another order"]


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


def _is_content(value: object) -> bool:
    """Whether this is what is in a file, or in several."""
    return any(isinstance(one, bytes) for one in (value if isinstance(value, tuple | list) else (value,)))


def _are_backends(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, BackendSpec) for one in value)


def _backends(before: Sequence[BackendSpec], after: Sequence[BackendSpec]) -> Iterator[str]:
    old, new = {one.name: one for one in before}, {one.name: one for one in after}
    yield from (f"+{name}" for name in new if name not in old)
    yield from (f"-{name}" for name in old if name not in new)
    for name, spec in new.items():
        if name in old and old[name] != spec:
            for key in ("address", "weight", "priority", "backup", "check_port", "resolve", "family", "labels"):
                was, now = getattr(old[name], key), getattr(spec, key)
                if was != now:
                    yield f"{name} {key} {_shown(was)} -> {_shown(now)}"
            if old[name].limit != spec.limit:
                yield f"{name} max_in_flight {_limit(old[name])} -> {_limit(spec)}"
    if [name for name in old if name in new] != [name for name in new if name in old]:
        yield f"backends in the order {_cut(', '.join(new))}"


def _limit(spec: BackendSpec) -> str:
    return "that of its pool" if spec.limit is None else limit_said(spec.limit)


def _shown(value: object) -> str:
    """A value in a line, as the file has it, without quotes; secrets say themselves what they show."""
    return _cut(_said(value))


def _said(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, tuple | list | set | frozenset):
        return "[" + ", ".join(map(_said, value)) + "]"
    if isinstance(value, Model) and type(value).__str__ is Model.__str__:
        given = {
            key: "***" if _is_hidden(type(value), key, getattr(value, key)) else getattr(value, key)
            for key in type(value).model_fields
            if key in value.model_fields_set
        }
        # Where a text stands for a table it is this key.
        return _said(given["address"]) if list(given) == ["address"] else _said(given)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_said(one)}" for key, one in value.items()) + " }" if value else "{}"
    return str(value)


def _is_hidden(kind: type[Model], key: str, value: object) -> bool:
    """Whether what a key says is not shown; tables that have secrets hide those alone."""
    return not isinstance(value, Model) and hides(kind, (key,))


def _cut(text: str, most: int = _MOST) -> str:
    text = one_line(text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _of_process(before: Plan, after: Plan) -> Iterator[str]:
    for key, name in (
        ("log_requests", "log.requests"),
        ("drain_s", "timeouts.drain_s"),
        ("tunnel_drain_s", "timeouts.tunnel_drain_s"),
        ("memory_bytes", "limits.memory_bytes"),
    ):
        was, now = getattr(before, key), getattr(after, key)
        if was != now:
            yield f"changes {name} {_shown(was)} -> {_shown(now)}"
    yield from _of_access_log(before.access_log, after.access_log)
    yield from _of_traces(before.traces, after.traces)


def _of_access_log(before: LogRules | None, after: LogRules | None) -> Iterator[str]:
    if before is None or after is None:
        if before is not after:
            was, now = ("none" if one is None else one.file for one in (before, after))
            yield f"changes log.file {_cut(was)} -> {_cut(now)}"
        return
    for one in fields(LogRules):
        was, now = getattr(before, one.name), getattr(after, one.name)
        if was == now:
            continue
        if one.name == "network":
            was, now = ("network" if is_network else "whole" for is_network in (was, now))
        yield f"changes log.{'addresses' if one.name == 'network' else one.name} {_shown(was)} -> {_shown(now)}"


def _of_traces(before: TraceRules | None, after: TraceRules | None) -> Iterator[str]:
    if before is None or after is None:
        if before is not after:
            was, now = ("none" if one is None else one.endpoint for one in (before, after))
            yield f"changes traces.endpoint {_cut(was)} -> {_cut(now)}"
        return
    for key in ("endpoint", "ratio", "service"):
        was, now = getattr(before, key), getattr(after, key)
        if was != now:
            yield f"changes traces.{key} {_shown(was)} -> {_shown(now)}"
    if before.headers != after.headers:
        yield "changes traces.headers"  # they may be secret


def of_process(before: LoadBalancerConfig, after: LoadBalancerConfig) -> Iterator[str]:
    """What changes in the process around a plan: the status address, say."""
    for key in LoadBalancerConfig.model_fields:
        if key not in DescribedConfig.model_fields and key not in AT_START and key != "traces":
            was, now = getattr(before, key), getattr(after, key)
            if was != now:
                yield f"changes {key} {_placed(was)} -> {_placed(now)}"


def _placed(value: object) -> str:
    return value.where if isinstance(value, ListenConfig) else _shown(value)


def _moved_keys(before: Plan, after: Plan) -> dict[str, float]:
    """By pool, the share of keys that move to another backend, where its policy hashes and any do."""
    shares = {
        name: MOVED_KEYS[pool.policy_name](before.pools[name].backends, pool.backends)
        for name, pool in after.pools.items()
        if name in before.pools and before.pools[name] is not pool and pool.policy_name in MOVED_KEYS
    }
    return {name: share for name, share in shares.items() if share}
