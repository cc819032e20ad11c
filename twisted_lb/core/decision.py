"""Decisions, explained: which backend is picked and why the others are not, as the values of `Pool.explain` and `recalled`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from twisted_lb.core.affinity import Bound
from twisted_lb.core.backend import Backend, Who
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.scene import Scene
from twisted_lb.core.standing import Skipped

# The mark of a claim that no picker was asked for, see `Pool.claim_on`.
OWN: Final = "own"
# For what reasons one may be skipped by the policy and have the request all the same: a level spills, or affinity leads there.
_PICKED_ALL_THE_SAME: Final = (Skipped.STANDBY, Skipped.ADMIN, Skipped.WEIGHT, Skipped.AGENT)


@dataclass(frozen=True)
class Candidate:
    """One backend of a decision: why it is skipped, or its rank by the policy; None when the picker lacks it still.

    `pool` is its own, also where a request went on to another one (fallback). `load` is how many requests it had in flight, None where that was not kept, and `limit` how many it may have, 0 for no
    bound. `weight` is configured, `weight_effective` what it was by slow start and the like. `panic`: it would be skipped, for this
    `reason`, if more were usable. `agent`: what takes it out by its own word. `reason` says what took it out, in the words of whoever found it, and `for_s` since how long; `left_s`: after how
    long a trial may be made, None where time does not decide.
    """

    backend_name: str
    skipped: Skipped | None
    rank: float | None
    load: int | None = 0
    limit: int = 0
    weight: int = 1
    admin: str = "ready"
    reason: str = ""
    for_s: float | None = 0.0
    left_s: float | None = None
    pool: str = ""
    weight_effective: float = 1.0
    panic: bool = False
    agent: str = ""


@dataclass(frozen=True)
class Decision:
    """What a claim would do, or did. Candidates stand in the order of the policy, those that the picker does not know last.

    `picked` is a backend's name, None when none is available; `trial`: the request would find out whether an ejected
    backend is back; `waits`: the request would get a ticket of the queue. `rule` is what decided, with its number.
    """

    pool: str
    picked: str | None
    trial: bool
    waits: bool
    candidates: tuple[Candidate, ...]
    rule: str = ""

    @property
    def skipped(self) -> tuple[Candidate, ...]:
        """Those that could not be picked."""
        return tuple(one for one in self.candidates if one.skipped is not None)


def decided(
    scene: Scene,
    loads: Sequence[int],
    tried: Sequence[Backend],
    ranking: Sequence[tuple[Backend, float]],
    now: float,
    picked: Backend | None = None,
) -> tuple[Candidate, ...]:
    """The candidates of a decision: all members, in the order of the ranking. `loads` are by slot; empty: nobody knows. Who was
    `picked` was not skipped, be it that its level was not in use, or that in drain it gets its own alone (affinity).
    """
    places = {who: place for place, who in enumerate(scene.whos)}
    ranks = {places[backend.who]: rank for backend, rank in ranking if backend.who in places}
    order = [*ranks, *(place for place in range(len(scene.whos)) if place not in ranks)]
    before = [one.who for one in tried]
    found: list[Candidate] = []
    for place in order:
        one = _candidate(scene, place, loads, before, ranks.get(place), now)
        if one.skipped in _PICKED_ALL_THE_SAME and picked is not None and scene.whos[place] is picked.who:
            one = replace(one, skipped=None, rank=ranks.get(place))
        found.append(one)
    return tuple(found)


def _candidate(
    scene: Scene, place: int, loads: Sequence[int], tried: Sequence[Who], rank: float | None, now: float
) -> Candidate:
    who, standing = scene.whos[place], scene.standings[place]
    load, limit = loads[scene.slots[place]] if loads else None, scene.limits[place]
    why = standing.why
    if why is None and load is not None and 0 < limit <= load:
        why = Skipped.FULL
    if why is None and who in tried:
        why = Skipped.TRIED
    return Candidate(
        who.name,
        why,
        rank if why is None else None,
        load,
        limit,
        standing.weight,
        standing.admin,
        standing.reason,
        now - standing.since if standing.since > -NEVER else None,
        max(standing.until - now, 0.0) if standing.until < NEVER and standing.why is Skipped.EJECTED else None,
        scene.pool,
        standing.effective,
        panic=standing.panic,
        agent=standing.agent,
    )


def recalled(lease: Lease) -> Decision:
    """The decision that a lease came of, as it was then, whatever has become of pool and picker since; without what is not kept
    any more, which its rule says: see `Scenes`.
    """
    scene, backend = lease.scene, lease.backend
    rule = ""
    ranking: Sequence[tuple[Backend, float]] = ()
    mark, bound, asked = lease.mark, "", True
    if isinstance(mark, Bound):
        bound, asked, mark = mark.told, mark.asked, mark.mark
    if mark is OWN:
        rule = "its client has a connection there that is its own"
    elif not asked:
        rule = bound
    elif scene.picker is not None:
        told = scene.picker.recalled(mark, backend)
        rule, ranking = told.rule, told.ranking
        rule = f"{rule}; {bound}" if bound else rule
    if scene.forgotten:
        rule = f"{rule}; {_forgotten(scene)}" if rule else _forgotten(scene)
        return Decision(scene.pool, backend.name, trial=lease.trial, waits=False, candidates=(), rule=rule)
    place = scene.whos.index(backend.who)
    loads: Sequence[int] = lease.loads
    if loads:
        before = list(loads)
        before[scene.slots[place]] -= 1  # this claim
        loads = before
    trial = scene.standings[place].trial
    candidates = decided(scene, loads, lease.tried, ranking, lease.opened_at, backend)
    return Decision(scene.pool, backend.name, trial=trial, waits=False, candidates=candidates, rule=rule)


def _forgotten(scene: Scene) -> str:
    return f"of {scene.size} members it is not kept any more how each stood"


class Refused:
    """What a claim was that found nobody: the pool then, and who was tried. For `refused`."""

    __slots__ = ("at", "loads", "scene", "tried", "waiting")

    def __init__(self, scene: Scene, loads: tuple[int, ...], tried: Sequence[Backend], at: float, waiting: int) -> None:
        self.scene: Final = scene
        self.loads: Final = loads
        self.tried: Final = tried
        self.at: Final = at
        self.waiting: Final = waiting  # others in the queue

    def decision(self) -> Decision:
        """Why nobody was picked, as it was then."""
        scene = self.scene
        if scene.forgotten:
            rule = f"of {scene.size} none could be picked; {_forgotten(scene)}"
            return Decision(scene.pool, None, trial=False, waits=False, candidates=(), rule=rule)
        candidates = decided(scene, self.loads, self.tried, (), self.at)
        return Decision(scene.pool, None, trial=False, waits=False, candidates=candidates, rule=why_nobody(candidates))


def why_nobody(candidates: Sequence[Candidate]) -> str:
    """Why none of them was picked, in a few words."""
    if not candidates:
        return "the pool has no backend"
    counts: dict[str, int] = {}
    for one in candidates:
        word = one.skipped.value if one.skipped is not None else "behind others that wait, or new to the policy"
        counts[word] = counts.get(word, 0) + 1
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    return f"of {len(candidates)} none could be picked: {told}"
