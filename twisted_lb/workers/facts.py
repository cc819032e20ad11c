"""Facts of backends, as they go between parent and workers: what was seen, said or wanted, and not what follows from it, so that
each pool comes to the same state by the same rules.
"""

from dataclasses import dataclass

from twisted_lb.core.backend import AdminState
from twisted_lb.core.events import BackendEjected, BackendReturned
from twisted_lb.probes import ProbeResult


@dataclass(frozen=True)
class Probed:
    """A check has passed, or has not: see `probes.ProbeResult`."""

    pool: str
    backend: str
    passed: bool
    reason: str
    silent: bool = False
    busy: bool = False
    said: bytes | None = None
    asked_at: float | None = None

    def result(self) -> ProbeResult:
        """The result of that check."""
        result = ProbeResult(self.passed, self.reason, silent=self.silent, busy=self.busy)
        result.said, result.asked_at = self.said, self.asked_at
        return result


@dataclass(frozen=True)
class AgentSaid:
    """The agent of a backend was asked at a port of its own, and has said this line, or nothing."""

    pool: str
    backend: str
    said: bytes | None


Fact = Probed | AgentSaid | BackendEjected | BackendReturned


@dataclass(frozen=True)
class Generation:
    """What a worker goes by: the plan as bytes (`codec.py`), the numbers of the sockets by listener, the columns of the shared table by pool
    and backend, and what the operator wants of backends, and who that was.
    """

    plan: bytes
    sockets: dict[str, list[int]]
    columns: dict[str, dict[str, int]]
    wishes: dict[tuple[str, str], tuple[AdminState, str]]
