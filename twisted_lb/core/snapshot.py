"""Snapshots: the state of a pool and its backends at one moment, for status pages and metrics."""

from dataclasses import dataclass, field
from typing import Final

from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.outcome import Outcome


@dataclass(frozen=True)
class BackendSnapshot:
    """The state of a backend; `tunnels` are those in flight that have switched protocols. `outcomes` counts settled attempts by the name of their outcome, `failures` those that
    blame the backend. `skips`: how often a policy had to step over it, by the name of the reason (`Skipped`).
    """

    name: str
    address: str
    weight: int
    admin: AdminState
    up: bool
    known: bool
    ejected: bool
    usable: bool
    available: bool
    in_flight: int
    requests: int
    failures: int
    outcomes: dict[str, int]
    tunnels: int = 0
    skips: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetsSnapshot:
    """The state of the list that a pool has backends from: where it is; how many it has, None while that is not known; whether
    the last look failed, and the last error, also after it has passed; why the last list was not taken yet, empty where none
    waits; and for how many seconds nobody has found it to be true, None if nobody ever has.
    """

    where: str
    backends: int | None
    failing: bool
    error: str
    doubt: str
    age_s: float | None


@dataclass(frozen=True)
class PoolSnapshot:
    """The state of a pool: its backends in the order of the configuration, how many requests wait in its queue, the backends
    that were removed and are *leaving*, with what they still have in flight, and its target list, if it has one.
    """

    name: str
    backends: tuple[BackendSnapshot, ...]
    waiting: int
    leaving: tuple[BackendSnapshot, ...] = ()
    targets: TargetsSnapshot | None = None


_NAMES: Final = tuple(outcome.name for outcome in Outcome)


def outcomes_of(backend: Backend) -> dict[str, int]:
    """How many attempts there have ended, by the name of their outcome."""
    return {name: count for name, count in zip(_NAMES, backend.outcomes, strict=True) if count}


def snapshot_of(backend: Backend) -> BackendSnapshot:
    """The state of a backend now."""
    return BackendSnapshot(
        name=backend.name,
        address=str(backend.address),
        weight=backend.weight,
        admin=backend.admin,
        up=backend.health.up,
        known=backend.health.known,
        ejected=backend.ejection.active,
        usable=backend.usable,
        available=backend.available,
        in_flight=backend.in_flight,
        requests=backend.requests,
        failures=backend.failures,
        outcomes=outcomes_of(backend),
        tunnels=backend.tunnels,
        skips={why.name: times for why, times in backend.skipped_times.items()},
    )
