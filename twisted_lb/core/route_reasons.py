"""Why a route takes a request, or does not, in words. It is the router itself that is asked, about one condition at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from twisted_lb.core.routing import FieldRule, How, RouteMatch, Router

# So many alternatives are named; of more it is said how many there are.
_NAMED: Final = 3


@dataclass(frozen=True)
class Asked:
    """A request as a router looks at it: see `Router.find`."""

    host: bytes
    path: bytes
    method: bytes
    query: bytes
    lines: bytes
    client: str


def why_not(match: RouteMatch, asked: Asked) -> str:
    """The first condition of a route that a request does not meet, in words; empty where it meets all of them."""
    if _takes(match, asked):
        return ""
    return next(words for part, words in _parts(match, asked) if not _takes(part, asked))


def _takes(match: RouteMatch, asked: Asked) -> bool:
    router = Router((match,))
    return router.find(asked.host, asked.path, asked.method, asked.query, asked.lines, asked.client) == 0


def _parts(match: RouteMatch, asked: Asked) -> Iterator[tuple[RouteMatch, str]]:
    """Each condition of a route by itself, with what is to be said where it is not met."""
    if match.hosts:
        host = f"host is {_text(asked.host)}, not" if asked.host else "it names no host, and not"
        yield RouteMatch(hosts=match.hosts), f"{host} {_one_of(match.hosts)}"
    if match.paths or match.prefixes:
        yield RouteMatch(paths=match.paths, prefixes=match.prefixes), _of_path(match, asked.path)
    if match.methods:
        yield RouteMatch(methods=match.methods), f"method is {_text(asked.method)}, not {_one_of(match.methods)}"
    for rule in match.headers:
        yield RouteMatch(headers=(rule,)), f"no header {_rule(rule, ': ')}"
    for rule in match.query:
        yield RouteMatch(query=(rule,)), f"no parameter {_rule(rule, '=')} in the query"
    if match.clients is not None:
        yield RouteMatch(clients=match.clients), f"client {asked.client} is not one of its clients"


def _of_path(match: RouteMatch, path: bytes) -> str:
    if not match.paths:
        return f"path {_text(path)} does not begin with {_one_of(match.prefixes)}"
    beginning = f", and does not begin with {_one_of(match.prefixes)}" if match.prefixes else ""
    return f"path is {_text(path)}, not {_one_of(match.paths)}{beginning}"


def _rule(rule: FieldRule, between: str) -> str:
    name = _text(rule.name)
    if rule.how is How.PRESENT:
        return name
    return f"{name}{between}{_text(rule.value)}{'…' if rule.how is How.PREFIX else ''}"


def _one_of(texts: tuple[bytes, ...]) -> str:
    named = " or ".join(_text(one) for one in texts[:_NAMED])
    return named if len(texts) <= _NAMED else f"{named} or {len(texts) - _NAMED} more"


def _text(value: bytes) -> str:
    text = value.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]
