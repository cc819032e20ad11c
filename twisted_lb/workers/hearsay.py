"""Hearsay: what the parent has heard of backends, from checks and agents, for workers that begin later."""

from dataclasses import replace
from typing import Final

from twisted_lb.core.events import BackendEjected
from twisted_lb.core.standing import Skipped
from twisted_lb.data_plane import DataPlane
from twisted_lb.probes import ProbeResult
from twisted_lb.workers.columns import Key
from twisted_lb.workers.facts import AgentSaid, Fact, Probed

# An ejection that ends so much later, in seconds, has no end.
_FOR_EVER_S: Final = 1e6


class Hearsay:
    """What was heard last of each backend."""

    def __init__(self) -> None:
        self._probes: Final[dict[Key, ProbeResult]] = {}
        self._agents: Final[dict[Key, bytes | None]] = {}

    def probed(self, pool: str, backend: str, result: ProbeResult) -> Probed:
        """A check has a result."""
        self._probes[pool, backend] = result
        return _probed(pool, backend, result)

    def agent_said(self, pool: str, backend: str, said: bytes | None) -> AgentSaid:
        """An agent was asked at its port."""
        self._agents[pool, backend] = said
        return AgentSaid(pool, backend, said)

    def recall(self, facts: list[Fact]) -> None:
        """Have heard this, by a parent before this one."""
        for fact in facts:
            match fact:
                case Probed():
                    self._probes[fact.pool, fact.backend] = fact.result()
                case AgentSaid():
                    self._agents[fact.pool, fact.backend] = fact.said

    def keep(self, present: set[Key]) -> None:
        """Forget what was heard of backends that are not among these."""
        for heard in (self._probes, self._agents):
            for key in [key for key in heard if key not in present]:
                del heard[key]

    def facts(self, plane: DataPlane, now: float) -> list[Fact]:
        """All that somebody has to know of backends who has just begun."""
        facts: list[Fact] = []
        for name, cluster in plane.clusters.items():
            for backend in cluster.pool.backends.values():
                said = self._agents.get((name, backend.name))
                if said is not None:
                    facts.append(AgentSaid(name, backend.name, said))
                result = self._probes.get((name, backend.name))
                if result is not None and backend.health.known:
                    reason = result.reason if backend.health.up else backend.reasons.get(Skipped.DOWN, result.reason)
                    facts.append(replace(_probed(name, backend.name, result), passed=backend.health.up, reason=reason))
                ejection = backend.ejection
                if ejection.active:
                    until = None if ejection.until > now + _FOR_EVER_S else ejection.until
                    why = backend.reasons.get(Skipped.EJECTED, "")
                    facts.append(
                        BackendEjected(name, backend.name, None, why, until, False, ejection.began_at, ejection.rule)
                    )
        return facts


def _probed(pool: str, backend: str, result: ProbeResult) -> Probed:
    return Probed(pool, backend, result.passed, result.reason, result.silent, result.busy, result.said, result.asked_at)
