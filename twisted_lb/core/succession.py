"""Succession: whose records live on, and under which names, when the addresses of a name change a pool's members."""

from collections.abc import Iterable
from typing import Final

from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.standing import Skipped

# An endpoint that is back within this time finds its record again.
RETURNS_WITHIN_S: Final = 600.0


class Succession:
    """What an update makes of records, by the names of members. A new member `heirs[name]` takes over the health, the
    ejection and the admin state of that member; those that go and are `resting`, by the name they are endpoints of, may
    return. `admin` is what the operator wants of new members, and who has said so; `reasons` why somebody comes or goes.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names: Final = frozenset(names)  # those that are configured
        self.heirs: Final[dict[str, str]] = {}
        self.resting: Final[dict[str, str]] = {}
        self.admin: Final[dict[str, tuple[AdminState, str]]] = {}
        self.reasons: Final[dict[str, str]] = {}


class _Rest:
    def __init__(self, backend: Backend, of: str, since: float) -> None:
        self.backend: Final = backend
        self.of: Final = of
        self.since: Final = since


class Resting:
    """The records of endpoints that have left and may return. Each keeps its slot of the counts until it is forgotten."""

    def __init__(self) -> None:
        self._rests: dict[str, _Rest] = {}

    def rest(self, backend: Backend, of: str, now: float) -> Backend | None:
        """Keep the record of an endpoint of the name `of`, which leaves; an older one of the same endpoint, which another
        record has succeeded, is forgotten, and returned.
        """
        older = self._drop(backend.name)
        backend.resting = True
        self._rests[backend.name] = _Rest(backend, of, now)
        return older

    def take(self, spec: BackendSpec) -> Backend | None:
        """The record of this endpoint, which is back; None when there is none."""
        rest = self._rests.get(spec.name)
        if rest is None or rest.backend.address != spec.address:
            return None
        del self._rests[spec.name]
        return rest.backend

    def command(self, name: str, admin: AdminState, by: str = "") -> None:
        """Set what the operator wants of all endpoints of a name, or of one endpoint; `by`: see `Pool.command`."""
        for endpoint, rest in self._rests.items():
            if name in (endpoint, rest.of) and rest.backend.admin is not admin:
                rest.backend.admin = admin
                rest.backend.reasons[Skipped.ADMIN] = by

    def forget(self, now: float, names: frozenset[str] | None = None) -> list[Backend]:
        """Forget those that were away for too long, and those that are an endpoint of none of these names: who they are."""
        forgotten: list[Backend] = []
        for name, rest in list(self._rests.items()) if self._rests else ():
            if now - rest.since >= RETURNS_WITHIN_S or (names is not None and rest.of not in names):
                self._drop(name)
                forgotten.append(rest.backend)
        return forgotten

    def _drop(self, name: str) -> Backend | None:
        rest = self._rests.pop(name, None)
        if rest is None:
            return None
        rest.backend.resting = False
        rest.backend.leave()
        return rest.backend

    @property
    def backends(self) -> list[Backend]:
        """The records."""
        return [rest.backend for rest in self._rests.values()]

    def __repr__(self) -> str:
        return f"<Resting: {', '.join(self._rests)}>"
