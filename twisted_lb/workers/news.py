"""News of backends: what the parent or a worker has found out, for all others."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted_lb.core.events import BackendEjected, BackendReturned
from twisted_lb.data_plane import DataPlane
from twisted_lb.probes import ProbeResult
from twisted_lb.workers.facts import Fact
from twisted_lb.workers.hearsay import Hearsay
from twisted_lb.workers.life import Life


class News:
    """The news of a crew. `lives` are those that are told, by `tell`."""

    def __init__(self, lives: list[Life], tell: Callable[[Life, list[Fact]], None], reactor: Any) -> None:
        self._lives: Final = lives
        self._tell: Final = tell
        self._reactor: Final = reactor
        self._waiting: list[Fact] = []
        self._origin: Life | None = None  # who has found out what is heard now
        self.hearsay: Final = Hearsay()

    def probed(self, pool: str, backend: str, result: ProbeResult) -> None:
        """A check of the parent has a result."""
        self._note(self.hearsay.probed(pool, backend, result))

    def agent_said(self, pool: str, backend: str, said: bytes | None) -> None:
        """An agent was asked at its port."""
        self._note(self.hearsay.agent_said(pool, backend, said))

    def _note(self, fact: Fact) -> None:
        if not self._waiting:
            self._reactor.callLater(0, self._tell_all)
        self._waiting.append(fact)

    def _tell_all(self) -> None:
        facts, self._waiting = self._waiting, []
        # Whoever has been told how it stands, also if it does not serve yet: what comes behind that is news for it.
        for life in self._lives:
            if life.imported:
                self._tell(life, facts)

    def ejected(self, event: BackendEjected | BackendReturned) -> None:
        """The parent hears that a backend is out, or back; at once, as requests go there meanwhile."""
        for life in self._lives:
            if life is not self._origin and life.imported:
                self._tell(life, [event])

    def found(self, life: Life, facts: Iterable[Fact], plane: DataPlane) -> None:
        """A worker's traffic has found something out: so it is for all."""
        self._origin = life
        try:
            for fact in facts:
                cluster = plane.clusters.get(fact.pool)
                if cluster is not None and isinstance(fact, BackendEjected | BackendReturned):
                    cluster.hear_elsewhere(fact)
        finally:
            self._origin = None
