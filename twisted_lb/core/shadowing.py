"""Shadowed routes: those that no request can reach, because an earlier route takes whatever they could; and routes that are
passed by an escaped slash, on servers that read it as a slash.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.routing import Conditions, FieldRule, HostTable, How, RouteMatch


def never_reached(matches: Sequence[RouteMatch]) -> list[tuple[int, int]]:
    """The routes that are never reached, each with the first one that takes all of its requests, by their indexes.

    Only what is sure: a single earlier route that takes each of the hosts, paths, prefixes and methods, whose every rule
    follows from one of the later route's, and whose clients are equal or all. Not found are routes that several earlier ones
    take together, and networks within networks. O(1) in routes with other hosts or paths.
    """
    table = HostTable(matches, asks_always=True)
    found: list[tuple[int, int]] = []
    for index, match in enumerate(matches):
        # Who takes all of its requests takes this one.
        host = match.hosts[0] if match.hosts else b""
        path = (match.paths + match.prefixes)[0] if match.paths or match.prefixes else b"*"
        by = table.first(host, path, index, _Covering(match))
        if by < index:
            found.append((index, by))
    return found


def passed(matches: Sequence[RouteMatch], index: int) -> Iterator[tuple[bytes, int]]:
    """By which later routes one is passed, and how spelled: a path that it takes when `%2F` is read as a slash (as WSGI servers
    read it, and NGINX), and that it does not take as it is. Each later route that may take some such request is one, up to
    the one that surely takes them all.

    A spelling escapes one slash, the last one that the route names, so that as much of the path as can be is still below the
    prefixes of others. O(n) in routes.
    """
    for spelling in _spellings(matches[index]):
        probe = replace(matches[index], paths=(spelling,), prefixes=())
        if any(covers(before, probe) for before in matches[: index + 1]):
            continue
        for later in range(index + 1, len(matches)):
            if _share(matches[later], probe):
                yield spelling, later
                if covers(matches[later], probe):
                    break


def _spellings(match: RouteMatch) -> Iterator[bytes]:
    for prefix in match.prefixes:
        if prefix != b"/":
            yield prefix.removesuffix(b"/") + b"%2Fx"
    for path in match.paths:
        above, _, last = path.removesuffix(b"/").rpartition(b"/")
        if above:
            yield above + b"%2F" + last + path[len(above) + 1 + len(last) :]
        if last:
            yield above + b"/%2F" + last + path[len(above) + 1 + len(last) :]


@mypyc_attr(acyclic=True)
class _Covering(Conditions):
    """Asks routes whether they take every request of one."""

    __slots__ = ("_later",)

    def __init__(self, later: RouteMatch) -> None:
        self._later: Final = later

    def meet(self, match: RouteMatch) -> bool:
        return covers(match, self._later)


def covers(one: RouteMatch, other: RouteMatch) -> bool:
    """Whether it is sure that a route takes every request that another one takes."""
    return (
        _covers_hosts(one, other)
        and _covers_paths(one, other)
        and (not one.methods or (bool(other.methods) and set(other.methods) <= set(one.methods)))
        and _follow(one.headers, other.headers)
        and _follow(one.query, other.query)
        and (one.clients is None or one.clients == other.clients)
    )


def _share(one: RouteMatch, other: RouteMatch) -> bool:
    """Whether some request may be taken by both, `other` a route of one path: of the rules about headers, query and clients
    that cannot be told.
    """
    return (
        _share_hosts(one, other)
        and _covers_paths(one, other)
        and (not one.methods or not other.methods or not set(one.methods).isdisjoint(other.methods))
    )


def _share_hosts(one: RouteMatch, other: RouteMatch) -> bool:
    if not one.hosts or not other.hosts:
        return True
    return any(a == b or _is_below(a, {b}) or _is_below(b, {a}) for a in one.hosts for b in other.hosts)


def _covers_hosts(one: RouteMatch, other: RouteMatch) -> bool:
    if not one.hosts:
        return True
    hosts = set(one.hosts)
    return bool(other.hosts) and all(host in hosts or _is_below(host, hosts) for host in other.hosts)


def _is_below(host: bytes, hosts: set[bytes]) -> bool:
    """Whether a wildcard is among the hosts that stands for this one too, which may be a wildcard itself."""
    labels = host.split(b".")
    return any(b".".join([b"*", *labels[start:]]) in hosts for start in range(1, len(labels)))


def _covers_paths(one: RouteMatch, other: RouteMatch) -> bool:
    if not one.paths and not one.prefixes:
        return True
    if not other.paths and not other.prefixes:
        return False
    return all(path in one.paths or _is_within(path, one.prefixes) for path in other.paths) and all(
        _is_within(prefix, one.prefixes) for prefix in other.prefixes
    )


def _is_within(path: bytes, prefixes: tuple[bytes, ...]) -> bool:
    """Whether a path, or all paths with a prefix, have one of these prefixes."""
    return any(path == prefix or path.startswith(prefix.removesuffix(b"/") + b"/") for prefix in prefixes)


def _follow(rules: tuple[FieldRule, ...], known: tuple[FieldRule, ...]) -> bool:
    """Whether each of the rules holds wherever all the known ones do."""
    return all(any(_follows(rule, one) for one in known) for rule in rules)


def _follows(rule: FieldRule, known: FieldRule) -> bool:
    if rule.name != known.name:
        return False
    if rule.how is How.PRESENT:
        return True
    if rule.how is How.EXACT:
        return known.how is How.EXACT and known.value == rule.value
    return (known.how is not How.PRESENT and known.value.startswith(rule.value)) or not rule.value
