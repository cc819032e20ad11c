"""Decisions, explained: which backend is picked and why the others are not, as the values of `Pool.explain`."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted_lb.core.backend import AdminState, Backend


class Skipped(enum.Enum):
    """Why a backend is skipped; the first reason that holds."""

    ADMIN = "taken out by the operator"
    WEIGHT = "of weight 0"
    DOWN = "down by its checks"
    EJECTED = "ejected by traffic"
    FULL = "as many requests in flight as it may have"
    TRIED = "tried by this request"


@dataclass(frozen=True)
class Candidate:
    """One backend of a decision: why it is skipped, or its rank by the policy; None when the picker lacks it still."""

    backend_name: str
    skipped: Skipped | None
    rank: float | None


@dataclass(frozen=True)
class Decision:
    """What a claim would do now. Candidates stand in the order of the policy, those that the picker does not know last.

    `picked` is a backend's name, None when none is available; `trial`: the request would find out whether an ejected
    backend is back; `waits`: the request would get a ticket of the queue.
    """

    pool: str
    picked: str | None
    trial: bool
    waits: bool
    candidates: tuple[Candidate, ...]


def candidates(
    backends: Mapping[str, Backend], ranking: Sequence[tuple[Backend, float]], tried: Sequence[Backend]
) -> tuple[Candidate, ...]:
    """The candidates of a decision: each of these backends, in the order of the ranking."""
    ranks = {backend.name: rank for backend, rank in ranking if backends.get(backend.name) is backend}
    names = [*ranks, *(name for name in backends if name not in ranks)]
    return tuple(_candidate(backends[name], ranks.get(name), tried) for name in names)


def _candidate(backend: Backend, rank: float | None, tried: Sequence[Backend]) -> Candidate:
    why = skipped(backend, tried)
    return Candidate(backend.name, why, rank if why is None else None)


def skipped(backend: Backend, tried: Sequence[Backend]) -> Skipped | None:
    """Why a backend may not be picked; None where `open_to` says that it may."""
    ejection = backend.ejection
    if backend.admin is not AdminState.READY:
        return Skipped.ADMIN
    if not backend.weight:
        return Skipped.WEIGHT
    if not backend.health.up:
        return Skipped.DOWN
    if ejection.active and not ejection.due:
        return Skipped.EJECTED
    if backend.full:
        return Skipped.FULL
    return Skipped.TRIED if backend in tried else None
