"""The balancer's state at one moment, for whoever shows it."""

from dataclasses import dataclass

from twisted_lb.core.backend import AdminState


@dataclass(frozen=True)
class BackendSnapshot:
    """One backend. `outcomes` counts settled attempts by the name of their outcome, `failures` those that blame it."""

    name: str
    address: str
    weight: int
    admin: AdminState
    up: bool
    known: bool
    ejected: bool
    usable: bool
    in_flight: int
    requests: int
    failures: int
    outcomes: dict[str, int]


@dataclass(frozen=True)
class BalancerSnapshot:
    """The pool's name and its backends, in the order of the configuration."""

    pool_name: str
    backends: tuple[BackendSnapshot, ...]
