"""Why a backend is picked: what `Pool.explain` answers, as values."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted_lb.core.backend import AdminState, Backend


class Skipped(enum.Enum):
    """Why a backend is no candidate; the first that holds."""

    ADMIN = "taken out by the operator"
    DOWN = "down by its checks"
    EJECTED = "ejected by traffic"
    FULL = "as many requests in flight as it may have"
    TRIED = "tried by this request"


@dataclass(frozen=True)
class Candidate:
    """One backend: why it is skipped, or by what number the policy ranks it; None when its picker does not know it yet."""

    backend_name: str
    skipped: Skipped | None
    rank: float | None


@dataclass(frozen=True)
class Decision:
    """What a claim would do now. Candidates stand in the order of the policy, members of no picker last.

    `picked` is a backend's name, None where nobody is left; `trial`: to find out whether it is back; `waits`: the request
    would get a place in the queue.
    """

    pool: str
    picked: str | None
    trial: bool
    waits: bool
    candidates: tuple[Candidate, ...]


def candidates(
    backends: Mapping[str, Backend], ranking: Sequence[tuple[Backend, float]], tried: Sequence[Backend]
) -> tuple[Candidate, ...]:
    """Each of these backends as a candidate, in the order of the ranking."""
    ranks = {backend.name: rank for backend, rank in ranking if backends.get(backend.name) is backend}
    names = [*ranks, *(name for name in backends if name not in ranks)]
    return tuple(_candidate(backends[name], ranks.get(name), tried) for name in names)


def _candidate(backend: Backend, rank: float | None, tried: Sequence[Backend]) -> Candidate:
    why = skipped(backend, tried)
    return Candidate(backend.name, why, rank if why is None else None)


def skipped(backend: Backend, tried: Sequence[Backend]) -> Skipped | None:
    """Why it may not be picked, in words; None where `open_to` says that it may."""
    ejection = backend.ejection
    if backend.admin is not AdminState.READY:
        return Skipped.ADMIN
    if not backend.health.up:
        return Skipped.DOWN
    if ejection.active and not ejection.due:
        return Skipped.EJECTED
    if backend.full:
        return Skipped.FULL
    return Skipped.TRIED if backend in tried else None
