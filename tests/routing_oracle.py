"""Routing in plain Python, as slow as it is obvious: what `Router` is measured by. Requests come as clients write them."""

import posixpath
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes, urlsplit

from twisted_lb.core.routing import AROUND, FieldRule, RouteMatch, Router
from twisted_lb.wire.grammar import BadMessage, Limits
from twisted_lb.wire.paths import matching_host, matching_path, unresolved_path
from twisted_lb.wire.request import parse_request, resolve_target

LIMITS: Final = Limits()


@dataclass(frozen=True)
class Request:
    """A request as a client writes it."""

    host: bytes = b"example.com"
    target: bytes = b"/"
    method: bytes = b"GET"
    fields: tuple[tuple[bytes, bytes], ...] = ()
    client: str = "192.0.2.1"


@dataclass(frozen=True)
class Those:
    """Clients by a list of addresses."""

    addresses: frozenset[str]

    def covers(self, address: str) -> bool:
        return address in self.addresses


def routed(router: Router, request: Request) -> int | str:
    """What the program makes of it, from the bytes of the head on: the index of a route, or why it is refused."""
    lines = [b"%b %b HTTP/1.1" % (request.method, request.target), b"Host: " + request.host]
    lines += [b"%b: %b" % field for field in request.fields]
    head = parse_request(b"\r\n".join(lines), LIMITS)
    target, authority = resolve_target(head.method, head.target, head.fields)
    try:
        path = matching_path(target)
    except BadMessage as error:
        return error.reason
    query = target.partition(b"?")[2]
    host, unresolved = matching_host(authority or head.fields.host), unresolved_path(target)
    return router.find(host, path, head.method, query, head.lines, request.client, unresolved)


def expected(matches: list[RouteMatch], request: Request, open_routes: tuple[int, ...] = ()) -> int:
    """The first route of which all holds, -1 for none; AROUND where to servers that resolve no dots it is another one, or none,
    that is not open.
    """
    index, other = (_first(matches, request, dots=dots) for dots in (False, True))
    by_path = any(match.paths or match.prefixes for match in matches)
    return AROUND if by_path and other not in (index, *open_routes) else index


def _first(matches: list[RouteMatch], request: Request, *, dots: bool) -> int:
    return next((index for index, match in enumerate(matches) if _takes(match, request, dots=dots)), -1)


def _takes(match: RouteMatch, request: Request, *, dots: bool) -> bool:
    host, target = request.host.decode(), request.target.decode()
    if "://" in target:
        parts = urlsplit(target)
        host, path, query = parts.netloc, parts.path or ("*" if request.method == b"OPTIONS" else "/"), parts.query
    else:
        path, _, query = target.partition("?")
    host = re.sub(r":\d*$", "", host).lower()
    host = host.removesuffix(".")
    fields = [(name.lower(), value.strip()) for name, value in request.fields]
    pairs = [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    ]
    return (
        (not match.hosts or any(_is_host(host, one.decode()) for one in match.hosts))
        and (not (match.paths or match.prefixes) or any(_is_path(match, one) for one in spellings(path, dots=dots)))
        and (not match.methods or request.method in match.methods)
        and all(_has(rule, fields) for rule in match.headers)
        and all(_has(rule, pairs) for rule in match.query)
        and (match.clients is None or match.clients.covers(request.client))
    )


def _is_host(host: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".+"), host) is not None


def spellings(path: str, *, dots: bool) -> list[list[bytes]]:
    """The segments of a path as it is meant, and as those see it who ignore parameters; with `dots`, as those who resolve none."""
    if path == "*":
        return [[b"*"]]
    decoded = unquote_to_bytes(re.sub("%2[fF]", "%252F", path)).decode("latin-1")
    found = []
    for text in (decoded, re.sub(";[^/]*", "", decoded)):
        if dots and ".." in decoded.split("/"):
            found.append(re.sub("(/[.]?)+(?=/|$)", "", text).encode("latin-1").split(b"/"))
            continue
        whole = posixpath.normpath("/" + text.lstrip("/"))
        at_its_end = "/" if whole != "/" and re.search(r"/\.{0,2}$", text) else ""
        found.append((whole + at_its_end).encode("latin-1").split(b"/"))
    return found


def _is_path(match: RouteMatch, segments: list[bytes]) -> bool:
    if b"/".join(segments) in match.paths:
        return True
    for prefix in match.prefixes:
        begin = prefix.split(b"/")
        if begin[-1] == b"":
            begin.pop()
            if len(segments) == len(begin):
                continue
        if segments[: len(begin)] == begin:
            return True
    return False


def _has(rule: FieldRule, pairs: list[tuple[bytes, bytes]]) -> bool:
    values = [value for name, value in pairs if name == rule.name]
    how = rule.how.value
    if how == "exact":
        return rule.value in values
    return bool(values) if how == "present" else any(value.startswith(rule.value) for value in values)
