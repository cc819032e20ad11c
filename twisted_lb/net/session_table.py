"""The routes of a listener's sessions, in their order: which one has a connection, and what that is asked of it before."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.core.ask import key_of
from twisted_lb.core.gate import client_key
from twisted_lb.core.session_routing import SessionMatch, SessionRouter
from twisted_lb.net.admission import Admission, Denial
from twisted_lb.net.route import Route
from twisted_lb.net.routing import Action, LookedAt


class Way:
    """The way of the sessions that one route takes: what becomes of them, and what they are asked before. `terminates`: their TLS ends at
    the listener.
    """

    __slots__ = ("action", "admission", "terminates")

    def __init__(self, action: Action, admission: Admission | None, *, terminates: bool = False) -> None:
        self.action: Final = action
        self.admission: Final = admission
        self.terminates: Final = terminates

    def denied(self, address: str, now: float) -> Denial | None:
        """Why a session of the client at this address does not go on; None where it does, and then it is paid for."""
        admission = self.admission
        if admission is None:
            return None
        key = client_key(address)
        return admission.denies(address, key, admission.keys(b"", b"", key), now)

    def would_be_denied(self, address: str, now: float) -> Denial | None:
        """The same for somebody who only asks: nothing is counted or charged."""
        admission = self.admission
        if admission is None:
            return None
        key = client_key(address)
        return admission.would_deny(address, key, admission.keys(b"", b"", key), now)

    def route(self, address: str) -> Route:
        """The route to the pool that has the next session of the client at this address."""
        return self.action.route(self._split_key(address))

    def route_foreseen(self, address: str) -> Route:
        """The same for somebody who only asks: it is nobody's turn."""
        return self.action.route_foreseen(self._split_key(address))

    def _split_key(self, address: str) -> int:
        if self.action.split_by is None:
            return 0
        return key_of((client_key(address) if ":" in address else address).encode("ascii", "replace"))

    def __repr__(self) -> str:
        return f"<Way of {self.action!r}>"


class SessionTable:
    """The session routes of a listener; the first that matches has a connection, or `otherwise`, where the listener carries TCP. It never
    changes.
    """

    __slots__ = ("_otherwise", "_router", "_ways", "by_name")

    def __init__(self, matches: Sequence[SessionMatch], ways: Sequence[Way], otherwise: Way | None = None) -> None:
        self._router: Final = SessionRouter(matches)
        self._ways: Final = list(ways)
        self._otherwise: Final = otherwise
        self.by_name: Final = self._router.by_name

    def find(self, name: str, address: str) -> Way | None:
        """The way of a connection of the client at this address to this name, empty where it has said none; None where it has none."""
        index = self._router.find(name, address)
        return self._otherwise if index < 0 else self._ways[index]

    def explain(self, name: str, address: str) -> list[LookedAt]:
        """The routes that are looked at for a connection, up to the first one that takes it, with why the others do not."""
        looked_at: list[LookedAt] = []
        for index, way in enumerate(self._ways):
            why = self._router.why_not(index, name, address)
            if not why:
                looked_at.append(LookedAt(way.action.name, True, self._router.why(index, address)))
                return looked_at
            looked_at.append(LookedAt(way.action.name, False, why))
        if self._otherwise is not None:
            looked_at.append(LookedAt(self._otherwise.action.name, True, ""))
        return looked_at

    def __repr__(self) -> str:
        return f"<SessionTable {self._ways}>"
