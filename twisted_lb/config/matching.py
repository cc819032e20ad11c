"""Matching: what a route of the configuration takes, as the core's router knows it."""

from typing import Final

from twisted_lb.config.routes import MatchConfig, NetworksFile, ValueRule
from twisted_lb.core.routing import Clients, FieldRule, How, RouteMatch


def match_of(route: MatchConfig, clients: Clients | None = None) -> RouteMatch:
    """What a route takes. `clients` are those of its `clients`, with what is in their files; left out: some, which are equal
    for routes that say the same and cannot be asked.
    """
    if clients is None and route.clients:
        clients = _Unread(route.clients)
    return RouteMatch(
        hosts=tuple(host.encode() for host in route.host),
        paths=tuple(path.encode() for path in route.path),
        prefixes=tuple(path.encode() for path in route.path_prefix),
        methods=tuple(method.encode() for method in route.method),
        headers=tuple(_rule(name.lower(), rule) for name, rule in route.headers.items()),
        query=tuple(_rule(name, rule) for name, rule in route.query.items()),
        clients=clients,
    )


def _rule(name: str, rule: ValueRule) -> FieldRule:
    if rule.exact is not None:
        return FieldRule(name.encode(), How.EXACT, rule.exact.encode())
    if rule.prefix is not None:
        return FieldRule(name.encode(), How.PREFIX, rule.prefix.encode())
    return FieldRule(name.encode())


class _Unread:
    """Clients whose files nobody has read."""

    def __init__(self, said: tuple[str | NetworksFile, ...]) -> None:
        self._said: Final = frozenset(one if isinstance(one, str) else (one.file,) for one in said)

    def covers(self, address: str) -> bool:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unread) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)
