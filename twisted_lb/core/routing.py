"""Routing: the first route in order that a request matches (virtual hosts, path prefixes, header rules).

Hosts and paths are keys of tables, compiled once; conditions that are no keys (methods, fields, query, clients) are looked
at one by one, and only of routes whose host and path match. Host and path of a request come in the form that is matched:
without port, query, escapes and dot segments.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol
from urllib.parse import unquote_to_bytes

from mypy_extensions import mypyc_attr

# In the place of a route's index: a path that servers read as those of two routes.
AROUND: Final = -2


class How(Enum):
    """How a value is compared: as a whole, by how it begins, or not at all."""

    EXACT = "exact"
    PREFIX = "prefix"
    PRESENT = "present"


@dataclass(frozen=True)
class FieldRule:
    """A rule about a header field or a parameter of the query: one of this name is there, with such a value. Of several
    with the name any will do. The name of a field is in lower case; a value is compared byte for byte, a field's as one
    line, whether it is a list or not.
    """

    name: bytes
    how: How = How.PRESENT
    value: bytes = b""

    def accepts(self, value: bytes) -> bool:
        """Whether this value is such a one."""
        if self.how is How.EXACT:
            return value == self.value
        return self.how is How.PRESENT or value.startswith(self.value)


class Clients(Protocol):
    """Some of all clients, by their addresses."""

    def covers(self, address: str) -> bool:
        """Whether the client at this address is one of them."""


@dataclass(frozen=True)
class RouteMatch:
    """What a route takes; whatever is empty takes all. All of it must hold: one of the hosts, one of the paths or prefixes,
    one of the methods, each rule about headers and query, and the client.

    A host is a name, or `*.` and a name: whatever is below that, at any depth, and never the name itself. A prefix is of
    whole segments: `/v1` takes `/v1`, `/v1/` and `/v1/x`, not `/v1x`; `/v1/` only what is below, `/v1/` itself included.
    """

    hosts: tuple[bytes, ...] = ()
    paths: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] = ()
    methods: tuple[bytes, ...] = ()
    headers: tuple[FieldRule, ...] = ()
    query: tuple[FieldRule, ...] = ()
    clients: Clients | None = None

    @property
    def conditional(self) -> bool:
        """Whether host and path alone do not decide."""
        return bool(self.methods or self.headers or self.query) or self.clients is not None

    @property
    def everything(self) -> bool:
        """Whether every request matches."""
        return not (self.hosts or self.paths or self.prefixes or self.conditional)


@mypyc_attr(acyclic=True)
class Conditions:
    """What decides about routes whose host and path match already."""

    def meet(self, match: RouteMatch) -> bool:
        """Whether the conditions of this match are met."""
        raise NotImplementedError


@mypyc_attr(acyclic=True, free_list_len=1)
class RequestConditions(Conditions):
    """What a request brings beside host and path. Header lines and query are taken apart when a rule asks for them."""

    __slots__ = ("_client", "_lines", "_lower", "_method", "_parameters", "_query")

    def __init__(self, method: bytes, query: bytes, lines: bytes, client: str) -> None:
        self._method: Final = method
        self._query: Final = query
        self._lines: Final = lines
        self._client: Final = client
        self._lower: bytes = b""
        self._parameters: list[tuple[bytes, bytes]] | None = None

    def meet(self, match: RouteMatch) -> bool:
        """Whether method, client, header lines and query are such as the match wants."""
        if match.methods and self._method not in match.methods:
            return False
        if match.clients is not None and not match.clients.covers(self._client):
            return False
        return all(self._has_field(rule) for rule in match.headers) and all(
            self._has_parameter(rule) for rule in match.query
        )

    def _has_field(self, rule: FieldRule) -> bool:
        if not self._lower:
            self._lower = (b"\r\n" + self._lines).lower()
        lower = self._lower
        start = b"\r\n" + rule.name + b":"
        at = lower.find(start)
        while at >= 0:
            end = lower.find(b"\r\n", at + 2)
            # Without the CRLF that `lower` begins with, what is at `at + 2` there is at `at` here.
            if rule.accepts(self._lines[at + len(start) - 2 : end - 2].strip(b" \t")):
                return True
            at = lower.find(start, end)
        return False

    def _has_parameter(self, rule: FieldRule) -> bool:
        if self._parameters is None:
            self._parameters = parameters(self._query)
        return any(name == rule.name and rule.accepts(value) for name, value in self._parameters)


def parameters(query: bytes) -> list[tuple[bytes, bytes]]:
    """The decoded names and values of a query, as forms send it (application/x-www-form-urlencoded, WHATWG URL 5.1)."""
    return [
        (unquote_to_bytes(name), unquote_to_bytes(value))
        for name, _, value in [part.partition(b"=") for part in query.replace(b"+", b" ").split(b"&") if part]
    ]


def without_parameters(path: bytes) -> bytes:
    """A path without the parameters of its segments (RFC 3986 3.3: `/a;x=1/b`), as Tomcat and its like resolve it."""
    segments = [segment.partition(b";")[0] for segment in path.split(b"/")]
    kept = [segment for segment in segments if segment]
    if kept and not segments[-1]:
        kept.append(b"")
    return b"/" + b"/".join(kept)


class PathTable:
    """The routes of one host or of any, by path. Lists of routes are in order, and end at one that has no conditions.

    `exact` are the routes of a path, those with a prefix that is just this path among them; `within` those with this prefix,
    without the slash at its end, for paths that go on behind it with a slash.
    """

    __slots__ = ("_borders", "_conditions", "_exact", "_lowest", "_pathless", "_within")

    def __init__(self, conditions: list[RouteMatch | None]) -> None:
        self._conditions: Final = conditions
        self._exact: Final[dict[bytes, list[int]]] = {}
        self._within: Final[dict[bytes, list[int]]] = {}
        self._pathless: Final[list[int]] = []
        self._lowest: int = -1
        # How many slashes of a path are looked at: those of the longest prefix, and one.
        self._borders: int = 0

    def add(self, index: int, match: RouteMatch) -> None:
        """Add the next route in order."""
        if self._lowest < 0:
            self._lowest = index
        if not match.paths and not match.prefixes:
            self._append(self._pathless, index)
        for path in match.paths:
            self._append(self._exact.setdefault(path, []), index)
        for prefix in match.prefixes:
            key = prefix.removesuffix(b"/")
            if key == prefix:
                self._append(self._exact.setdefault(key, []), index)
            self._append(self._within.setdefault(key, []), index)
            self._borders = max(self._borders, key.count(b"/") + 1)

    def _append(self, routes: list[int], index: int) -> None:
        if not routes or (routes[-1] != index and self._conditions[routes[-1]] is not None):
            routes.append(index)

    def first(self, path: bytes, best: int, asked: Conditions | None) -> int:
        """The first route for this path before `best`, or `best`: one look-up for the path, one for each of its slashes."""
        if self._lowest >= best:
            return best
        best = self._first_of(self._pathless, best, asked)
        if best == self._lowest:
            return best
        routes = self._exact.get(path)
        if routes is not None:
            best = self._first_of(routes, best, asked)
        at = -1
        for _ in range(self._borders):
            at = path.find(b"/", at + 1)
            if at < 0:
                break
            routes = self._within.get(path[:at])
            if routes is not None:
                best = self._first_of(routes, best, asked)
        return best

    def _first_of(self, routes: list[int], best: int, asked: Conditions | None) -> int:
        for index in routes:
            if index >= best:
                break
            match = self._conditions[index]
            if match is None or (asked is not None and asked.meet(match)):
                return index
        return best


class HostTable:
    """The routes by host, and of each host by path. With `asks_always` all routes have conditions."""

    __slots__ = ("_any", "_below", "_exact", "_labels", "size")

    def __init__(self, matches: Sequence[RouteMatch], *, asks_always: bool = False) -> None:
        self.size: Final = len(matches)
        conditions = [match if asks_always or match.conditional else None for match in matches]
        self._any: Final = PathTable(conditions)
        self._exact: Final[dict[bytes, PathTable]] = {}
        # By the name that a wildcard stands before; how many labels of a host are looked at: those of the longest one.
        self._below: Final[dict[bytes, PathTable]] = {}
        self._labels: int = 0
        for index, match in enumerate(matches):
            if not match.hosts:
                self._any.add(index, match)
            for host in dict.fromkeys(match.hosts):
                if host.startswith(b"*."):
                    self._labels = max(self._labels, host.count(b"."))
                    self._below.setdefault(host[2:], PathTable(conditions)).add(index, match)
                else:
                    self._exact.setdefault(host, PathTable(conditions)).add(index, match)

    def first(self, host: bytes, path: bytes, best: int, asked: Conditions | None) -> int:
        """The first route for host and path before `best`, or `best`."""
        table = self._exact.get(host)
        if table is not None:
            best = table.first(path, best, asked)
        at = len(host)
        for _ in range(self._labels):
            at = host.rfind(b".", 0, at)
            if at <= 0:
                break
            table = self._below.get(host[at + 1 :])
            if table is not None:
                best = table.first(path, best, asked)
        return self._any.first(path, best, asked)


class Router:
    """A router over the routes of one listener, which it knows by their index; it never changes.

    `find` costs the same however many hosts and routes there are: it looks up the host, and where there are wildcards each of
    its labels; in what it has found the path, and as many of its segments as the longest prefix has. It is O(n) in those
    routes with conditions that match host and path alike, up to the first that matches.

    `open_routes` ask nothing of their requests and change nothing in them, so that it does no harm to miss one of them.

    `sole`: the first route takes every request, so that nobody need ask. `looks_at_path`, `looks_at_query` and
    `looks_at_client`: whether these decide anything; else they may be left empty. `fields` are the names that rules go by.
    """

    __slots__ = (
        "_asks", "_open", "_table", "fields", "looks_at_client", "looks_at_path", "looks_at_query", "matches", "sole",
    )  # fmt: skip

    def __init__(self, matches: Sequence[RouteMatch], open_routes: Iterable[int] = ()) -> None:
        self.matches: Final = tuple(matches)
        self._table: Final = HostTable(matches)
        self._open: Final = frozenset(open_routes)
        self.fields: Final = frozenset(rule.name for match in matches for rule in match.headers)
        self._asks: Final = any(match.conditional for match in matches)
        self.sole: Final = len(matches) > 0 and matches[0].everything
        self.looks_at_path: Final = any(match.paths or match.prefixes for match in matches)
        self.looks_at_query: Final = any(match.query for match in matches)
        self.looks_at_client: Final = any(match.clients is not None for match in matches)

    def find(
        self,
        host: bytes,
        path: bytes,
        method: bytes,
        query: bytes,
        lines: bytes,
        client: str,
        unresolved: bytes = b"",
    ) -> int:
        """The index of the first route that matches, -1 for none. `lines` are header lines, each ended by CRLF; `client` is
        an address; `unresolved` is the path with its `..` segments where it has some.

        Some servers resolve no dot segments. Where to those the path would be another route's, or nobody's, that one must be
        open: else the index is AROUND, since whichever of the two has the request, a server could be led to what the other
        one keeps (path traversal).
        """
        asked = RequestConditions(method, query, lines, client) if self._asks else None
        index = self._first(host, path, asked)
        if unresolved and self.looks_at_path:
            other = self._first(host, unresolved, asked)
            if other != index and other not in self._open:
                return AROUND
        return index

    def _first(self, host: bytes, path: bytes, asked: Conditions | None) -> int:
        """The first route of a path, read in one way, or -1. Some servers ignore the parameters in it (`/a;x=1/b`): so that
        nobody gets around a route by them, it is matched with and without, and the first route of all counts.
        """
        table = self._table
        best = table.first(host, path, table.size, asked)
        if self.looks_at_path and b";" in path:
            best = table.first(host, without_parameters(path), best, asked)
        return best if best < table.size else -1

    def __repr__(self) -> str:
        return f"<Router {self._table.size} routes>"
