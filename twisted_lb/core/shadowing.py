"""Shadowed routes: those that no request can reach, because an earlier route takes whatever they could."""

from collections.abc import Sequence
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
