"""Sight: what an operator asks of the workers of a balancer, of all of them as of one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred

from twisted_lb.admin.operator import WorkerView
from twisted_lb.core.histogram import Reading
from twisted_lb.core.measures import Beside, Measures
from twisted_lb.workers.crew import Crew
from twisted_lb.workers.life import Life

# Kinds of requests of which the first are not the newest.
_SLOWEST: Final = "slowest"
_RUNNING: Final = "running"


class Sight:
    """What is asked of a crew: see `operating.elsewhere.Elsewhere`."""

    def __init__(self, crew: Crew) -> None:
        self._crew: Final = crew

    @property
    def measures(self) -> Measures:
        """What all workers have counted, as they have told last."""
        return self._crew.reports.measures

    @property
    def beside(self) -> Beside:
        """What all workers have counted beside their data planes."""
        return self._crew.reports.beside

    def refresh(self, *, exemplars: bool) -> "Deferred[None]":
        """Ask them anew, for exemplars too if they are wanted; fires when they have told, or have had time enough."""
        return self._crew.reports.refresh(exemplars=exemplars)

    def in_flight(self, pool: str, backend: str) -> int:
        """How many requests all have in flight at a backend, now; also at one that was removed."""
        return self._crew.in_flight(pool, backend)

    @property
    def settled(self) -> bool:
        """Whether all go by what holds now."""
        return self._crew.settled

    def workers(self) -> list[WorkerView]:
        """Each of them, by slot, those that drain behind the one that has taken its place."""
        return [self._worker(slot, life) for slot in self._crew.places for life in self._crew.lives_of(slot)]

    def _worker(self, slot: int, life: Life | None) -> WorkerView:
        if life is None:
            return WorkerView(slot, 0, "waits", 0.0, 0, 0, 0, self._crew.covers(slot), program=self._crew.generation)
        told = self._crew.reports.of(life)
        return WorkerView(
            slot=slot,
            pid=life.pid,
            state=_state_of(life),
            uptime_s=round(self._crew.now() - life.began_at, 3),
            connections=sum(one.connections for one in told.listeners),
            in_flight=sum(one.in_flight for one in told.pools),
            requests=sum(sum(route.requests) for one in told.listeners for route in one.routes),
            covered_by=None if life.accepting or life.leaving else self._crew.covers(slot),
            program=life.generation,
        )

    def lags(self) -> dict[int, Reading]:
        """How late timers came at each worker that has told (loop lag), by its process."""
        told = ((life.pid, self._crew.reports.beside_of(life)) for life in self._crew.lives)
        return {pid: beside.loop_lag for pid, beside in told if beside is not None}

    @property
    def restarts(self) -> int:
        """How many were started in the place of one that had died."""
        return self._crew.restarts

    def explain(self, request_id: str) -> "Deferred[Mapping[str, Any] | None]":
        """A request of any of them, explained."""
        asked = self._crew.ask("explain", {"request_id": request_id})
        return asked.addCallback(
            lambda answers: next((found for text in answers.values() if (found := json.loads(text)) is not None), None)
        )

    def explained(self, kind: str, count: int, *, decisions: bool) -> "Deferred[Mapping[str, Any]]":
        """The last requests of a kind, of all of them, explained, and how many are held."""

        def together(answers: Mapping[Any, bytes]) -> Mapping[str, Any]:
            every = [json.loads(text) for text in answers.values()]
            requests = [one for answer in every for one in answer["requests"]]
            if kind == _SLOWEST:
                requests.sort(key=lambda one: -(one["took_s"] or 0.0))
            else:
                requests.sort(key=lambda one: one["at"], reverse=kind != _RUNNING)
            oldest = [answer["oldest_at"] for answer in every if answer["oldest_at"] is not None]
            return {
                "requests": requests[:count],
                "held": sum(answer["held"] for answer in every),
                "oldest_at": min(oldest, default=None),
            }

        asked = self._crew.ask("explained", {"kind": kind, "count": count, "decisions": decisions})
        return asked.addCallback(together)

    def explain_next(self, pool: str) -> "Deferred[Mapping[str, Any] | None]":
        """What the next claim in a pool would do at the first of them that says; it says which one that is."""
        return self._crew.ask("explain_next", {"pool": pool}).addCallback(_first)

    def route(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], client: str, listener: str | None
    ) -> "Deferred[Mapping[str, Any] | None]":
        """Where a request would go that came to the first of them that says; its decision says which one that is."""
        arguments = {"method": method, "url": url, "headers": list(headers), "client": client, "listener": listener}

        def first(answers: Mapping[Any, bytes]) -> Mapping[str, Any] | None:
            found = _first(answers)
            if found is None:
                return None
            routed = dict(found)
            worker, decision = routed.pop("worker"), routed["decision"]
            return routed if decision is None else {**routed, "decision": {**decision, "worker": worker}}

        return self._crew.ask("route", arguments).addCallback(first)


def _first(answers: Mapping[Any, bytes]) -> Mapping[str, Any] | None:
    """The answer of the first worker that says something, with its number."""
    for life, text in sorted(answers.items(), key=lambda one: one[0].slot):
        found = json.loads(text)
        if found is not None:
            return {**found, "worker": life.slot}
    return None


def _state_of(life: Life) -> str:
    if life.leaving:
        return "drains"
    if life.silent:
        return "hangs"
    return "serves" if life.serving else "starts"
