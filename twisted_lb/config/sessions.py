"""Sessions: the connections that are carried as they are (TCP, TLS passthrough); which routes and pools are theirs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from twisted_lb.config.base import KeyPath, Model
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.limits import ClientLimitsConfig, ClientTimeoutsConfig, RouteTimeoutsConfig
from twisted_lb.config.listeners import ListenerRulesConfig
from twisted_lb.config.pools import PoolConfig, QueueConfig
from twisted_lb.config.references import Misfit
from twisted_lb.config.routes import RouteConfig, RouteRulesConfig

# What a route matches requests by.
_OF_REQUESTS: Final = ("host", "path", "path_prefix", "method", "headers", "query")
# What holds for sessions too of all that a route says.
_OF_SESSIONS: Final = frozenset(
    ("deny_clients", "allow_clients", "rate_limits", "requests_per_client", "key", "urgency", "log", "timeouts")
)
_TIMEOUTS: Final = frozenset(("response_head_s", "deadline_s", "tunnel_idle_s", "half_open_s"))
# What a pool says for requests alone: a key, or one of a table.
_POOLS_OF_REQUESTS: Final[tuple[tuple[str, ...], ...]] = (
    ("mirror",),
    ("hedge",),
    ("upstream",),
    ("buffer_request_bytes",),
    ("buffer_response_bytes",),
    ("affinity", "cookie"),
    ("affinity", "header"),
    ("affinity", "learn"),
    ("queue", "full_status"),
    ("abandoned_s",),
    ("retry", "methods"),
    ("retry", "retry_after_most_s"),
    ("retry", "bad_statuses"),
)
# By what sessions are told from others.
_KEYS: Final = ("client", "route")
# What holds for them too of the tables of a listener, with all that these have.
_OF_LISTENERS: Final[tuple[tuple[str, type[Model], frozenset[str]], ...]] = (
    ("timeouts", ClientTimeoutsConfig, frozenset(("handshake_s",))),
    ("limits", ClientLimitsConfig, frozenset(("connections", "connections_per_client", "handshakes"))),
)
_LISTENERS_OWN: Final = (
    "client_half_close",
    "protocols",
    "client_max_age_s",
    "client_requests",
    "error_pages",
    "acme_webroot",
)


def is_of_sessions(route: RouteConfig, listeners: Mapping[str, ListenerRulesConfig]) -> bool:
    """Whether a route is one of sessions, and not of requests: it goes by the name of the ClientHello, or its listeners carry TCP, which
    are all that there are where it names none.
    """
    if route.sni:
        return True
    own = [listeners[one] for one in route.listeners or listeners if one in listeners]
    return bool(own) and all(one.protocol == "tcp" for one in own)


def takes_sessions(route: RouteConfig, name: str, listeners: Mapping[str, ListenerRulesConfig]) -> bool:
    """Whether a route is one of the sessions of the listener of this name: one that ends TLS is for those alone that can."""
    listener = listeners[name]
    if not is_of_sessions(route, listeners):
        return False
    if route.listeners:
        return name in route.listeners
    if route.terminate_tls and not listener.tls.certificates:
        return False
    return listener.protocol == "tcp" or bool(listener.tls.certificates)


def takes_requests(route: RouteConfig, name: str, listeners: Mapping[str, ListenerRulesConfig]) -> bool:
    """Whether a route is one of the requests of the listener of this name."""
    if listeners[name].protocol == "tcp" or is_of_sessions(route, listeners):
        return False
    return not route.listeners or name in route.listeners


def led_pools(route: RouteConfig) -> Iterator[str]:
    """The pools that a route leads to, that of its fallback among them."""
    yield from route.pools
    if isinstance(route.fallback, str):
        yield route.fallback


def pools_of_sessions(
    routes: Iterable[RouteConfig], listeners: Mapping[str, ListenerRulesConfig], default_pools: Mapping[str, str]
) -> frozenset[str]:
    """The pools that have sessions alone, and no requests; `default_pools`: those of listeners, by name."""
    sessions = {pool for name, pool in default_pools.items() if listeners[name].protocol == "tcp"}
    requests = {pool for name, pool in default_pools.items() if listeners[name].protocol != "tcp"}
    for route in routes:
        (sessions if is_of_sessions(route, listeners) else requests).update(led_pools(route))
    return frozenset(sessions - requests)


def checked_as_sessions(check: HealthCheckConfig) -> HealthCheckConfig:
    """The checks of a pool that has sessions alone: where nobody says what is asked, connecting is the question."""
    if check.model_fields_set & HealthCheckConfig.OF_HTTP or "kind" in check.model_fields_set:
        return check
    return check.model_copy(update={"kind": "tcp"})


def session_misfits(listeners: Mapping[str, ListenerRulesConfig], routes: Iterable[RouteConfig]) -> Iterator[Misfit]:
    """What does not go together in the routes of sessions, with its place."""
    for index, route in enumerate(routes):
        place: KeyPath = ("routes", index)
        tcp = [one for one in route.listeners if one in listeners and listeners[one].protocol == "tcp"]
        if route.terminate_tls and not route.sni:
            yield Misfit((*place, "terminate_tls"), "is for routes with sni", about_key=True)
        if route.sni:
            yield from _of_named(place, route, listeners)
        elif tcp and len(tcp) < len(route.listeners):
            other = next(one for one in route.listeners if one not in tcp)
            text = f"{tcp[0]} carries TCP and {other} speaks HTTP: a route is for one of both"
            yield Misfit((*place, "listeners"), text)
            continue
        if not is_of_sessions(route, listeners):
            continue
        why = "nothing of HTTP is looked at where sni leads"
        if not route.sni:
            why = f"the listener {tcp[0]} carries TCP" if tcp else "all listeners carry TCP"
        for key in _OF_REQUESTS:
            if getattr(route, key):
                yield Misfit((*place, key), f"is of HTTP: {why}", about_key=True)
        for key in ("redirect", "answer"):
            if getattr(route, key) is not None:
                yield Misfit((*place, key), f"is an answer of HTTP: {why}", about_key=True)
        if route.fallback is not None and not isinstance(route.fallback, str):
            yield Misfit((*place, "fallback"), f"should be a pool, and no answer of HTTP: {why}")
        if route.split_by is not None and route.split_by.source != "client":
            yield Misfit((*place, "split_by"), f'should be "client": {why}')


def _of_named(place: KeyPath, route: RouteConfig, listeners: Mapping[str, ListenerRulesConfig]) -> Iterator[Misfit]:
    """What is wrong with the listeners of a route by names of the ClientHello."""
    named = {one: listeners[one] for one in route.listeners if one in listeners}
    if route.terminate_tls and not (named or any(one.tls.certificates for one in listeners.values())):
        yield Misfit((*place, "terminate_tls"), "no listener has tls.certificates to end it with", about_key=True)
    for name, listener in named.items():
        if listener.protocol != "tcp" and not listener.tls.certificates:
            text = f"{name} speaks plain HTTP, and nobody says a name (SNI) there: it has no tls.certificates"
            yield Misfit((*place, "listeners"), text)
        elif route.terminate_tls and not listener.tls.certificates:
            text = f"the listener {name} has no tls.certificates to end it with"
            yield Misfit((*place, "terminate_tls"), text, about_key=True)


def idle_keys(said: Model, *, of_listener: bool = False) -> Iterator[tuple[str, ...]]:
    """The keys that a route, or a listener, of sessions says and that hold for requests alone."""
    if of_listener:
        yield from ((key,) for key in _LISTENERS_OWN if key in said.model_fields_set)
        for table, owner, of_sessions in _OF_LISTENERS:
            given: Model = getattr(said, table)
            own = given.model_fields_set & set(owner.model_fields)
            yield from ((table, one) for one in sorted(own - of_sessions))
        return
    for key in said.model_fields_set:
        if key not in RouteRulesConfig.model_fields:
            continue
        if key == "timeouts":
            timeouts: Model = getattr(said, key)
            yield from ((key, one) for one in sorted(timeouts.model_fields_set - _TIMEOUTS))
        elif key not in _OF_SESSIONS:
            yield (key,)


def idle_flat_keys(said: Model, timeouts: Model) -> Iterator[tuple[str, ...]]:
    """The flat keys of a route that are said and hold for requests alone, where what they are of carries TCP."""
    yield from ((key,) for key in ("cost", "upgrades") if key in said.model_fields_set)
    # Some are of clients too, and told of as their listener's.
    of_routes = set(RouteTimeoutsConfig.model_fields) - set(ClientTimeoutsConfig.model_fields)
    yield from (("timeouts", one) for one in sorted(timeouts.model_fields_set & of_routes - _TIMEOUTS))


def idle_keys_of_pool(said: Model) -> Iterator[tuple[str, ...]]:
    """The keys that a pool of sessions alone says, otherwise than nobody would, and that hold for requests alone."""
    for key in _POOLS_OF_REQUESTS:
        *tables, last = key
        home = said
        for table in tables:
            home = getattr(home, table)
        if last not in home.model_fields_set:
            continue
        usual = type(home).model_fields[last].get_default(call_default_factory=True)
        if getattr(home, last) != usual:
            yield key
    if isinstance(said, PoolConfig):  # flat ones are their listener's too
        yield from (("limits", one) for one in sorted(said.limits.model_fields_set))


def keyed_otherwise(said: Model) -> Iterator[tuple[str | int, ...]]:
    """The keys that a route, or flat keys, say of what sessions do not have: theirs is their client."""
    keys: Mapping[str, Any] = {
        key: getattr(said, key) for key in ("key", "rate_limits") if key in said.model_fields_set
    }
    if "key" in keys and keys["key"].source not in _KEYS:
        yield ("key",)
    for index, limit in enumerate(keys.get("rate_limits", ())):
        if limit.key.source not in _KEYS:
            yield ("rate_limits", index, "key")


def queued_otherwise(queue: QueueConfig) -> Iterator[tuple[str, ...]]:
    """The keys that the queue of a pool of sessions alone has of what they do not have."""
    if queue.fair_by is not None and queue.fair_by.source not in _KEYS:
        yield ("queue", "fair_by")
    if queue.priority_by.header:
        yield ("queue", "priority_by")
