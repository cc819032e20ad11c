"""Routing of sessions: the first route in order that takes a connection, by the name of its ClientHello (SNI) and its client."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.core.routing import Clients

# So many names are told; of more it is said how many there are.
_NAMED: Final = 3


class SessionMatch:
    """Which connections a route takes: those to one of the names, of one of the clients; without any: all. A name is one, or `*.` and a
    name: whatever is below that, at any depth, and never the name itself; all in lower case.
    """

    __slots__ = ("clients", "names")

    def __init__(self, names: Sequence[str] = (), clients: Clients | None = None) -> None:
        self.names: Final = tuple(names)
        self.clients: Final = clients

    def __repr__(self) -> str:
        return f"<SessionMatch {', '.join(self.names) or 'any name'}>"


class SessionRouter:
    """The matches of a listener's session routes, in their order. Names are keys of tables, so that a thousand of them cost as much
    as one.
    """

    __slots__ = ("_below", "_exact", "_matches", "_unnamed", "by_name")

    def __init__(self, matches: Sequence[SessionMatch]) -> None:
        self._matches: Final = list(matches)
        self._exact: Final[dict[str, list[int]]] = {}
        self._below: Final[dict[str, list[int]]] = {}
        self._unnamed: Final[list[int]] = []
        for index, match in enumerate(self._matches):
            for name in match.names:
                table, key = (self._below, name[2:]) if name.startswith("*.") else (self._exact, name)
                table.setdefault(key, []).append(index)
            if not match.names:
                self._unnamed.append(index)
        # Whether anybody is asked for a name.
        self.by_name: Final[bool] = bool(self._exact or self._below)

    def find(self, name: str, address: str) -> int:
        """The place of the first match that takes a connection of the client at this address to this name, empty where it has said
        none; -1 where none does.
        """
        found = list(self._unnamed)
        if name:
            name = name.lower().removesuffix(".")
            found += self._exact.get(name, ())
            _, dot, parent = name.partition(".")
            while dot:
                found += self._below.get(parent, ())
                _, dot, parent = parent.partition(".")
            found.sort()
        for index in found:
            clients = self._matches[index].clients
            if clients is None or clients.covers(address):
                return index
        return -1

    def why_not(self, index: int, name: str, address: str) -> str:
        """The condition that a match has and the connection does not meet, in words; empty where it meets all: O(names)."""
        match = self._matches[index]
        alone = SessionRouter([SessionMatch(match.names)])
        if alone.find(name, address) < 0:
            named = " or ".join(match.names[:_NAMED])
            more = len(match.names) - _NAMED
            asked = f"the name is {name}" if name else "it says no name"
            return f"{asked}, not {named}{f' or {more} more' if more > 0 else ''}"
        if match.clients is not None and not match.clients.covers(address):
            return f"client {address} is not one of its clients"
        return ""

    def why(self, index: int, address: str) -> str:
        """By which of its conditions a match takes the connection of the client at this address that it takes; empty where it has none."""
        match = self._matches[index]
        named = "it is one of its names" if match.names else ""
        client = "" if match.clients is None else f"client {address} is one of its clients"
        return " and ".join([one for one in (named, client) if one])

    def __repr__(self) -> str:
        return f"<SessionRouter {self._matches}>"
