"""Doubts: what a configuration may say, and probably does not mean; each a warning with a code of its own."""

from collections import Counter
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from itertools import islice
from math import sqrt
from typing import Any, Final, NamedTuple

from twisted_lb.config.affinity import AffinityConfig
from twisted_lb.config.balancer import LoadBalancerConfig
from twisted_lb.config.base import DEFAULT, KeyPath, Model, names_of
from twisted_lb.config.costs import ORDINARY
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.limits import RouteTimeoutsConfig
from twisted_lb.config.listeners import ListenerConfig
from twisted_lb.config.loops import loops
from twisted_lb.config.matching import match_of
from twisted_lb.config.mirror import SAFE
from twisted_lb.config.objects import Objects, check_of, home_of_choice, home_of_listener, name_of, objects_of
from twisted_lb.config.observe import OF_ACCESS_LOG
from twisted_lb.config.own_policies import OwnChoice
from twisted_lb.config.policies import PolicyTable, policy_for
from twisted_lb.config.pools import AdaptiveConfig, PoolConfig, RetryConfig
from twisted_lb.config.problems import Problem, Severity
from twisted_lb.config.profiles import PROFILES, says
from twisted_lb.config.routes import RouteConfig, RouteRulesConfig
from twisted_lb.config.sessions import (
    idle_flat_keys,
    idle_keys,
    idle_keys_of_pool,
    is_of_sessions,
    keyed_otherwise,
    led_pools,
    pools_of_sessions,
    queued_otherwise,
    takes_requests,
    takes_sessions,
)
from twisted_lb.config.shape import field_of, model_at
from twisted_lb.config.tcp_keepalive import TcpKeepaliveConfig
from twisted_lb.config.tls import TlsPolicyConfig, weak_ciphers
from twisted_lb.config.trust import TrustConfig
from twisted_lb.core.address import TcpAddress, UnixAddress, is_name
from twisted_lb.core.backend import ADAPTIVE
from twisted_lb.core.pickers.by_prefix import PrefixPolicy
from twisted_lb.core.prompt_cache import BLOCK_COSTS_BYTES
from twisted_lb.core.routing import RouteMatch
from twisted_lb.core.shadowing import never_reached, passed

_MOST_REMEMBERED_BYTES: Final = 512 << 20

# What each code means. A code keeps its meaning for ever; one that is gone is not given again.
CODES: Final = {
    "W01": "A file with a secret can be read by everybody on the machine.",
    "W02": "A key has an older name, which is understood for two releases.",
    "W03": "A route is never reached: an earlier one takes every request that it could.",
    "W04": "`default_pool` gets nothing: a route takes every request before.",
    "W05": "A pool is used by nobody: no route and no listener leads there.",
    "W06": "A listener leads to no pool: whatever comes there gets an answer of our own, 404 where no route takes it.",
    "W07": "A check may wait for its answer until the next one is due, or longer.",
    "W08": 'A key of checks has no effect: `kind = "tcp"` only connects.',
    "W09": "`timeouts.attempt_s` has no effect: `response_head_s` bounds all attempts together.",
    "W10": "Everybody is a trusted proxy, and can say to be anybody.",
    "W11": "A backend is one of this balancer's own listeners: requests may come back again and again.",
    "W12": "More connections are allowed than the descriptors of the process are enough for.",
    "W13": "`limits.connections_per_client` has no effect: `connections` is less.",
    "W14": "`retry.bad_statuses` has no effect: there is no second backend to ask.",
    "W15": "`fallback` is the pool that has nobody itself.",
    "W16": "Checks are used by nobody: no pool names them.",
    "W17": "A route that keeps clients out is passed by `%2F` in the place of a slash, which many servers decode: a later route "
    'leads such a path to a pool without `encoded_slash = "refuse"`.',
    "W18": "The name of a backend does not resolve: the backend is down until it does. In the log alone, at the start or after a "
    "reload, once for each backend: `--check` looks no name up.",
    "W19": "There are pools or routes by name and no listener: port 80 of all addresses is listened on.",
    "W20": "A key of the access log has no effect: without `log.file` there is none.",
    "W21": '`policy = "first"` without a limit: all requests go to the first backend that is usable, and the others only stand by.',
    "W22": "A rule of `ejection` that looks at rates takes nobody out: its pool has too few backends.",
    "W23": "Nobody gets a request: every backend of a pool has weight 0.",
    "W24": "Every backend of a pool is a backup: they are used like any others, and none is kept back.",
    "W25": "The module of a policy of one's own is another one on disk than was imported: a process imports it once, so that a restart, "
    "or `takeover`, brings the new one.",
    "W26": "`policy_budget_us` has no effect: the policy is a built-in.",
    "W27": "`key` has no effect: no pool that the route leads to goes by keys.",
    "W28": "Nobody is heard: checks are off, or backends on unix sockets have no port for an agent, or `agent` does not name a header.",
    "W29": "`panic.even_down` has no effect: without `threshold_percent` there is no panic.",
    "W30": '`queue.when_full = "spill"` has no effect: all backends of the pool are of one level.',
    "W31": '`load = "cost"` counts requests: no route that leads to the pool gives them a `cost`.',
    "W32": "`adaptive` has no effect, since `max_in_flight` is a number; or refuses requests while it measures, since none may wait.",
    "W33": "`abandoned_s` has no effect: without `max_in_flight` there are no places to be held.",
    "W34": "The cookie of `affinity` has no `secret`: cookies hold until the process ends, and for no other balancer.",
    "W35": "A key of `affinity` has no effect.",
    "W36": "The cookie of `affinity` is no cookie to some browsers: they take `SameSite=None` only where it is `Secure`.",
    "W37": "Two pools have one cookie: who goes to both has another backend each time.",
    "W38": '`choose = "prefix"` with `load_factor = 0` and no limit: all prompts that begin alike go to one backend, however many they are.',
    "W39": "What is remembered of prompts may take more than half a gigabyte: `blocks` of each backend.",
    "W40": '`policy = "prefix"` waits for bodies, and there is no second backend to choose from.',
    "W41": "A key of `retry` has no effect: nothing is tried again, or nothing for which it would count.",
    "W42": "`hedge` hedges nothing: there is no second backend, no further attempt, or no retry budget, or requests are bound by affinity.",
    "W43": "`hedge.percentile` hedges more requests than the retry budget pays for: retries find it spent.",
    "W44": "`hedge.percentile` has no effect: `delay_s` says when.",
    "W45": "A backend of a pool is one of its mirror's pool too: it may get the same request twice.",
    "W46": "`mirror.body_bytes` has no effect: only methods are mirrored that have no bodies as a rule.",
    "W47": "What is said of buffers takes away what `profile` is for.",
    "W48": "A timeout of a route is shorter than the profile of its pool would have it.",
    "W53": "What is to be held for one slow client is more than `limits.memory_bytes`, which all of them share.",
    "W60": "A key of `tls` has no effect: TLS 1.3 takes no `ciphers`, nobody is asked for a certificate, or there are no certificates.",
    "W61": "A certificate, or one of its chain, has expired, is not yet valid, or expires within 21 days.",
    "W62": "A certificate names no host (no subjectAltName): clients refuse it.",
    "W63": "The chain of a certificate lacks the intermediate one, or has others that are no part of it.",
    "W64": "The group of a private key's file can read it.",
    "W65": "A revocation list is past its next update: no client certificate is accepted.",
    "W66": "A host of `tls.hosts` has no certificate.",
    "W67": "TLS at port 80, where browsers speak plain HTTP.",
    "W68": "`verify = false`: whoever answers is taken for a backend, and hears and answers its requests.",
    "W69": "Ciphers of `tls.ciphers` encrypt or authenticate nothing, or are broken.",
    "W70": "A backend at port 443 of a pool without `tls`: plain HTTP is spoken there.",
    "W71": "Backends are addresses, and verified as such by the CAs of the system, which certify names: `tls.server_name`.",
    "W72": "`proxy_protocol_from` without `proxy_protocol`: no header is looked for.",
    "W73": 'A key of a route, a listener or a pool has no effect: its connections are carried as they are (`protocol = "tcp"`, `sni`).',
    "W74": "TLS goes inside TLS: a route passes it on to a pool with `tls`.",
    "W75": "A route by `sni` is for nobody: no listener speaks TLS or carries TCP.",
    "W76": "`path` of checks has no effect: a `script` sends what it says itself.",
    "W77": "The script `mysql` without `user`: servers count connections that end before a login, and block who has too many of them "
    "(`max_connect_errors`).",
    "W78": "`tcp_keepalive` has no effect: all addresses of the listener, or all backends of the pool, are unix sockets.",
    "W79": "`leave_backups` has no effect: the pool has no backups beside other backends.",
    "W80": '`max_in_flight = "adaptive"` of a pool that has sessions alone: how long an answer takes is not seen there, and what it learns from '
    "is how quickly backends accept.",
    "W81": "More `workers` than CPUs that this process may use (affinity, quota of its cgroup).",
}


# What a log says at each reload too, and not only when it is new.
SAID_EACH_TIME: Final = ("W68",)
# Where it is a key that is doubtful, and no value.
_ABOUT_KEYS: Final = ("W02", "W03", "W05", "W06", "W16", "W17", "W19")


class Doubt(NamedTuple):
    """One thing that is doubtful: its code, the path of the key in the file, and what is so. `other` is the path of what it is
    doubtful because of, if that is one place.
    """

    code: str
    path: KeyPath
    text: str
    other: KeyPath = ()

    def __str__(self) -> str:
        return str(self.problem())

    def problem(self) -> Problem:
        """It as a warning among other problems."""
        about_key = self.code in _ABOUT_KEYS
        return Problem(self.path, self.text, self.code, Severity.WARNING, about_key=about_key, other=self.other)


def doubts(
    config: LoadBalancerConfig, descriptors: int, room: int, *, listening: bool = True, cpus: int | None = None
) -> Iterator[Doubt]:
    """What is doubtful about a configuration, in a process that may open so many `descriptors`, enough for `room` clients, and use so
    many `cpus`, None where nobody knows. Without `listening` it opens no port, whatever the configuration says.
    """
    objects = objects_of(config)
    workers = _workers(config, cpus)
    yield from _of_workers(workers, cpus)
    ways = _Ways(config, objects)
    yield from ways.doubts()
    yield from _of_pools(config, objects)
    yield from _of_same_cookies(config, objects)
    yield from _of_unused_checks(config)
    for index, route in enumerate(config.routes):
        effective = objects.routes[name_of(route, index)]
        yield from _of_attempts(("routes", index), effective)
        yield from _of_profiled_route(("routes", index), route, effective, objects)
        yield from _of_key(("routes", index), route, objects)
        yield from _of_sessions(("routes", index), route, objects)
        if isinstance(route.fallback, str) and route.fallback in route.pools and len(route.pools) == 1:
            yield Doubt("W15", ("routes", index, "fallback"), f"{route.fallback} is the pool that the route leads to")
    if "key" in config.model_fields_set and DEFAULT in objects.to_default:
        yield from _of_key((), objects.to_default[DEFAULT], objects)
    for name, route in objects.to_default.items():
        if name == DEFAULT:
            yield from _of_attempts((), route)
        yield from _of_profiled_route((), config if name == DEFAULT else RouteRulesConfig(), route, objects)
    for name, listener in objects.listeners.items():
        yield from _of_trust(_home(config.listeners, "listeners", name), listener)
        yield from _of_limits(_home(config.listeners, "listeners", name), listener)
        yield from _of_tls(home_of_listener(config, name), listener)
        said = config.listeners.get(name, config)
        for key in idle_keys(said, of_listener=True) if listener.protocol == "tcp" else ():
            yield Doubt("W73", (*home_of_listener(config, name), *key), 'has no effect: protocol = "tcp"')
    flat = objects.listeners.get(DEFAULT)
    if flat is not None and DEFAULT not in config.listeners and flat.protocol == "tcp":
        for key in idle_flat_keys(config, config.timeouts):
            yield Doubt("W73", key, 'has no effect: protocol = "tcp"')
        for path in keyed_otherwise(config):
            yield Doubt("W73", path, 'has no effect: protocol = "tcp", and connections go by their client')
    yield from _of_tcp_keepalive(config)
    if listening:
        yield from _of_unsaid_listener(config)
    yield from _of_room(config, objects, descriptors, room * workers)
    if config.log.file is None:
        yield from _of_access_log(config)
    yield from (
        Doubt("W11", loop.path, f"{loop.address} is the listener {loop.listener}")
        for loop in loops(config, objects)
        if not loop.sure
    )


def _of_pools(config: LoadBalancerConfig, objects: Objects) -> Iterator[Doubt]:
    """What is doubtful about each pool by itself."""
    default_pools = {name: one.default_pool or DEFAULT for name, one in objects.listeners.items()}
    of_sessions = pools_of_sessions(config.routes, objects.listeners, default_pools)
    for name, pool in objects.pools.items():
        yield from _of_checks(_home(config.pools, "pools", name), pool)
        yield from _of_retries(_home(config.pools, "pools", name), pool)
        yield from _of_waits(_home(config.pools, "pools", name), config.pools.get(name, config).retry, pool)
        yield from _of_hedging(_home(config.pools, "pools", name), pool)
        yield from _of_order(_home(config.pools, "pools", name), pool)
        yield from _of_levels(_home(config.pools, "pools", name), pool)
        yield from _of_panic(_home(config.pools, "pools", name), pool)
        yield from _of_policy(config, name, pool)
        yield from _of_cost(config, name, objects)
        yield from _of_prefix(config, name, pool)
        yield from _of_abandoned(config, name, pool)
        yield from _of_profile(config, name, pool)
        yield from _of_buffers(_home(config.pools, "pools", name), pool, config.limits.memory_bytes)
        yield from _of_affinity(config, name, pool)
        yield from _of_outgoing_tls(_home(config.pools, "pools", name), pool, of_sessions=name in of_sessions)
        yield from _of_adaptive(_home(config.pools, "pools", name), config.pools.get(name, config).adaptive, pool)
        if name in of_sessions:
            yield from _of_adaptive_sessions(_home(config.pools, "pools", name), pool)
        yield from _of_ejection(_home(config.pools, "pools", name), pool)
        if name in of_sessions:
            for key in idle_keys_of_pool(config.pools.get(name, config)):
                text = "has no effect: the connections to this pool are carried as they are"
                yield Doubt("W73", (*_home(config.pools, "pools", name), *key), text)
            for path, choice in _policies(config, name, pool).items():
                if _needs_requests(choice):
                    text = "has nothing to go by: the connections to this pool are carried as they are"
                    yield Doubt("W73", path, text)
            for key in queued_otherwise(config.pools.get(name, config).queue):
                text = "has no effect: the connections to this pool are carried as they are, and go by their client"
                yield Doubt("W73", (*_home(config.pools, "pools", name), *key), text)
        yield from _of_severing(
            _home(config.pools, "pools", name), config.pools.get(name, config).model_fields_set, pool
        )
        yield from _of_mirror(("pools", name, "mirror"), pool, objects)


def _of_tls(place: KeyPath, listener: ListenerConfig) -> Iterator[Doubt]:
    """Keys of TLS without effect, by the table that they hold for; and what nobody would find or want."""
    tls, home = listener.tls, (*place, "tls")
    if not tls.certificates:
        for key in sorted(tls.model_fields_set - {"certificates"}):
            yield Doubt(
                "W60", (*home, key), "has no effect: there are no certificates, and the listener speaks plain HTTP"
            )
        return
    for host in tls.patterns:
        own, there = (tls, home) if host is None else (tls.hosts[host], (*home, "hosts", host))
        yield from _of_tls_policy(there, own.model_fields_set, tls.for_host(host))
    for address in listener.addresses:
        if address.port == 80:
            yield Doubt(
                "W67",
                (*place, "address") if place else ("tls", "certificates"),
                f"{address.where} speaks TLS: browsers look for it at port 443",
            )


def _of_outgoing_tls(place: KeyPath, pool: PoolConfig, *, of_sessions: bool) -> Iterator[Doubt]:
    """What is doubtful about TLS to backends; `of_sessions`: whether they speak HTTP at all is their clients' business."""
    if pool.tls is not None and not pool.tls.verify:
        yield Doubt("W68", (*place, "tls", "verify"), "false: whoever answers is taken for a backend of this pool")
        if pool.tls.ca is not None:
            yield Doubt("W60", (*place, "tls", "ca"), "has no effect: verify = false takes any certificate")
    own = [(n, one.address) for n, one in enumerate(pool.backends) if isinstance(one.address, TcpAddress)]
    if pool.tls is None:
        for number, address in own:
            if address.port == 443 and not of_sessions:
                yield Doubt(
                    "W70",
                    (*place, "backends", number),
                    f"{address} is spoken to in plain HTTP: there is no [pools.X.tls]",
                )
                return
    elif pool.tls.verify and pool.tls.ca is None and pool.tls.server_name is None:
        for number, address in own:
            if not is_name(address):
                text = f"verifies the address {address.host}, and the CAs of the system certify names: say server_name"
                yield Doubt("W71", (*place, "tls"), text, (*place, "backends", number))
                return


def _of_tls_policy(place: KeyPath, said: set[str], policy: TlsPolicyConfig) -> Iterator[Doubt]:
    if "ciphers" in said and policy.policy == "modern":
        yield Doubt(
            "W60",
            (*place, "ciphers"),
            'has no effect: policy = "modern" speaks TLS 1.3 alone, whose ciphers are OpenSSL\'s own',
        )
    elif "ciphers" in said and (weak := weak_ciphers(policy.ciphers or "")):
        yield Doubt("W69", (*place, "ciphers"), f"selects what anybody can read or change: {', '.join(weak)}")
    if policy.client_certificate == "off":
        for key in ("client_ca", "crl"):
            if key in said:
                yield Doubt("W60", (*place, key), 'has no effect: client_certificate = "off" asks nobody for one')


def _of_policy(config: LoadBalancerConfig, name: str, pool: PoolConfig) -> Iterator[Doubt]:
    own = _policies(config, name, pool)
    for path, policy in own.items():
        if isinstance(policy, OwnChoice) and policy.stale:
            text = f"{policy.stale} has changed since it was imported; what runs is what it was: restart to run the new one"
            yield Doubt("W25", path, text)
    said = "policy_budget_us" in config.pools.get(name, config).model_fields_set
    if said and not any(isinstance(one, OwnChoice) for one in own.values()):
        path = home_of_choice(config, name, "policy_budget_us")
        yield Doubt("W26", path, f"has no effect: {pool.policy} is a built-in, and no policy of your own")


def _needs_requests(choice: object) -> bool:
    """Whether a policy goes by what requests or their answers say."""
    if not isinstance(choice, str | PolicyTable):
        return False
    reported = isinstance(choice, PolicyTable) and choice.load == "reported"
    return reported or isinstance(policy_for(choice, 0), PrefixPolicy)


def _of_prefix(config: LoadBalancerConfig, name: str, pool: PoolConfig) -> Iterator[Doubt]:
    bounded = pool.max_in_flight or (pool.backends and all(one.limit for one in pool.backends))
    for path, choice in _policies(config, name, pool).items():
        policy = policy_for(choice, 0) if isinstance(choice, str | PolicyTable) else None
        if not isinstance(policy, PrefixPolicy):
            continue
        if pool.targets is None and len(pool.backends) == 1:
            yield Doubt("W40", path, f"waits for bodies to no effect: {pool.backends[0].name} is the only backend")
        if not policy.factor and not bounded:
            text = "load_factor = 0 without max_in_flight: all prompts that begin alike go to one backend"
            yield Doubt("W38", path, text)
        most = policy.blocks * BLOCK_COSTS_BYTES * max(len(pool.backends), 1)
        if most > _MOST_REMEMBERED_BYTES:
            text = (
                f"blocks = {policy.blocks} of {len(pool.backends)} backends may take {most // 1_000_000} MB of memory"
            )
            yield Doubt("W39", path, text)


def _policies(config: LoadBalancerConfig, name: str, pool: PoolConfig) -> dict[KeyPath, object]:
    """A pool's policy and its shadow, each by where it is said."""
    shadow = (*home_of_choice(config, name, "shadow"), "policy")
    return {home_of_choice(config, name, "policy"): pool.policy, shadow: pool.shadow.policy}


def _of_cost(config: LoadBalancerConfig, name: str, objects: Objects) -> Iterator[Doubt]:
    """The cost of requests, compared where nobody says what they cost."""
    routes = [one for one in (*objects.routes.values(), *objects.to_default.values()) if name in led_pools(one)]
    if not routes or any(one.cost != ORDINARY for one in routes):
        return
    pool = objects.pools[name]
    for path, policy in _policies(config, name, pool).items():
        if isinstance(policy, PolicyTable) and policy.load == "cost":
            yield Doubt("W31", path, "counts requests: no route that leads here gives a cost")


def not_resolved(config: LoadBalancerConfig, pool: str, index: int, reason: str) -> Doubt:
    """That the name of a pool's backend does not resolve, which somebody has found."""
    path = (*_home(config.pools, "pools", pool), "backends", index)
    backend = objects_of(config).pools[pool].backends[index]
    called = backend.name if pool == DEFAULT else f"{pool}/{backend.name}"
    return Doubt("W18", path, f"{called} is down until its name resolves: {reason}")


def older_names(values: Mapping[str, Any]) -> Iterator[Doubt]:
    """The keys of a file that have older names there."""
    yield from _older(values, ())


def _older(values: Any, path: KeyPath) -> Iterator[Doubt]:
    if isinstance(values, list | tuple):
        for index, one in enumerate(values):
            yield from _older(one, (*path, index))
    elif isinstance(values, Mapping):
        model = model_at(LoadBalancerConfig, path)
        for name, value in values.items():
            key = field_of(model, name) if model is not None else None
            if model is not None and key is not None and name != names_of(model, key)[0]:
                yield Doubt("W02", (*path, name), f"is called {key} now; this name is understood for two releases")
            yield from _older(value, (*path, name))


def _home(tables: Mapping[str, Model], kind: str, name: str) -> KeyPath:
    """Where the keys of an object stand: in its table, or, flat, at the top."""
    return (kind, name) if name in tables else ()


class _Ways:
    """The ways from listeners over routes to pools."""

    def __init__(self, config: LoadBalancerConfig, objects: Objects) -> None:
        self._config: Final = config
        self._objects: Final = objects
        # By listener: its routes' numbers in the file, in their order.
        listeners = objects.listeners
        self._routes: Final = {
            listener: [index for index, one in enumerate(config.routes) if takes_requests(one, listener, listeners)]
            for listener in listeners
        }
        self._of_sessions: Final = {
            listener: [index for index, one in enumerate(config.routes) if takes_sessions(one, listener, listeners)]
            for listener in listeners
        }
        self._matches: Final = [match_of(route) for route in config.routes]
        self._hidden: Final = {listener: self._hidden_at(listener) for listener in objects.listeners}

    def _hidden_at(self, listener: str) -> dict[int | None, int]:
        """What is never reached at a listener, by what takes it all; None is whatever no route takes."""
        numbers: list[int | None] = [*self._routes[listener], None]
        found = never_reached([*(self._matches[number] for number in self._routes[listener]), RouteMatch()])
        return {numbers[index]: self._routes[listener][by] for index, by in found}

    def doubts(self) -> Iterator[Doubt]:
        """All that is doubtful about them."""
        yield from self._routes_never_reached()
        yield from self._routes_passed()
        for name, listener in self._objects.listeners.items():
            yield from self._of_listener(name, listener)
        used = {pool for route in self._config.routes for pool in led_pools(route)}
        used |= {pool for name in self._objects.listeners if (pool := self._pool_of_the_rest(name)) is not None}
        used |= {one.mirror.to for name, one in self._objects.pools.items() if name in used and one.mirror is not None}
        for pool in self._objects.pools:
            if pool not in used:
                path = ("pools", pool) if pool in self._config.pools else ("backends",)
                yield Doubt("W05", path, f"nothing leads to the pool {pool}")

    def _routes_never_reached(self) -> Iterator[Doubt]:
        for number in range(len(self._config.routes)):
            by = [self._hidden[listener].get(number) for listener, routes in self._routes.items() if number in routes]
            first = by[0] if by else None
            if first is not None and None not in by:
                text = f"never reached: routes[{first}] takes every request that it could"
                yield Doubt("W03", ("routes", number), text, ("routes", first))

    def _routes_passed(self) -> Iterator[Doubt]:
        for number, match in enumerate(self._matches):
            if (match.paths or match.prefixes) and _keeps_out(self._effective(number)):
                yield from islice((one for name in self._routes for one in self._passed(number, name)), 1)

    def _passed(self, number: int, listener: str) -> Iterator[Doubt]:
        """The ways past a route that keeps clients out of a path."""
        routes = self._routes[listener]
        if number not in routes or number in self._hidden[listener]:
            return
        kept = self._effective(number)
        for spelling, at in passed([*(self._matches[one] for one in routes), RouteMatch()], routes.index(number)):
            is_route = at < len(routes)
            later = self._effective(routes[at]) if is_route else self._way_of_the_rest(listener)
            if later is not None and _lets_in(later, kept):
                who = f"routes[{routes[at]}]" if is_route else f"the default pool of {listener}"
                remedy = "there" if is_route else "of [defaults.route]"
                text = (
                    f"{spelling.decode()} is led past it by {who}, and many servers read %2F as a slash: "
                    f'encoded_slash = "refuse" {remedy} gives it 400'
                )
                yield Doubt(
                    "W17", ("routes", number), text, self._place_of_way(listener, routes[at] if is_route else None)
                )

    def _effective(self, number: int) -> RouteConfig:
        return self._objects.routes[name_of(self._config.routes[number], number)]

    def _way_of_the_rest(self, listener: str) -> RouteConfig | None:
        pool = self._pool_of_the_rest(listener)
        return None if pool is None else self._objects.to_default[pool]

    def _place_of_way(self, listener: str, number: int | None) -> KeyPath:
        """Where it is written that requests go to a pool: in a route, or in a listener."""
        if number is not None:
            return ("routes", number)
        home = _home(self._config.listeners, "listeners", listener)
        given = home and self._config.listeners[listener].default_pool
        return (*home, "default_pool") if given else home

    def _of_listener(self, name: str, listener: ListenerConfig) -> Iterator[Doubt]:
        path = _home(self._config.listeners, "listeners", name)
        by = self._hidden[name].get(None)
        if by is not None and "default_pool" in listener.model_fields_set:
            text = f"{listener.default_pool} gets nothing: routes[{by}] takes every request"
            yield Doubt("W04", (*path, "default_pool"), text, ("routes", by))
        numbers = [*self._routes[name], *self._of_sessions[name]]
        pools = [pool for number in numbers for pool in led_pools(self._config.routes[number])]
        if not pools and self._pool_of_the_rest(name) is None:
            yield Doubt("W06", path or ("listen",), "leads to no pool")

    def _pool_of_the_rest(self, listener: str) -> str | None:
        """The pool that has what no route takes, where that is anything."""
        pool = self._objects.listeners[listener].default_pool or DEFAULT
        return pool if pool in self._objects.pools and None not in self._hidden[listener] else None


def _of_sessions(place: KeyPath, route: RouteConfig, objects: Objects) -> Iterator[Doubt]:
    """What is doubtful about a route of sessions."""
    if not is_of_sessions(route, objects.listeners):
        return
    why = "its connections are carried as they are"
    for key in idle_keys(route):
        yield Doubt("W73", (*place, *key), f"has no effect: {why}")
    for path in keyed_otherwise(route):
        yield Doubt("W73", (*place, *path), f"has no effect: {why}, and go by their client")
    if route.sni and not any(takes_sessions(route, one, objects.listeners) for one in objects.listeners):
        yield Doubt("W75", (*place, "sni"), "leads nobody: no listener has tls.certificates or carries TCP")
    for name in led_pools(route) if route.sni and not route.terminate_tls else ():
        if name in objects.pools and objects.pools[name].tls is not None:
            text = f"the TLS of its clients goes inside the TLS of the pool {name}"
            yield Doubt("W74", (*place, "sni"), text, ("pools", name, "tls"))


def _keeps_out(route: RouteConfig) -> bool:
    """Whether a route is there to keep clients out of something: all of them, or some. An answer of 5xx says that something
    is not there now, and a redirect where it is.
    """
    refuses = route.answer is not None and 400 <= route.answer.status < 500
    return route.deny or refuses or bool(route.allow_clients or route.deny_clients)


def _lets_in(route: RouteConfig, kept: RouteConfig) -> bool:
    """Whether a route leads to a pool what another one keeps out: with an escaped slash, and whoever asks."""
    if not any(led_pools(route)) or route.encoded_slash == "refuse":
        return False
    same = (route.allow_clients, route.deny_clients) == (kept.allow_clients, kept.deny_clients)
    return not (any(led_pools(kept)) and same)


def _of_checks(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    checks = pool.health_check
    if checks.enabled and checks.answer_timeout_s >= checks.interval_s:
        yield Doubt(
            "W07",
            (*path, "health_check", "timeout_s"),
            f"{checks.answer_timeout_s:g} is not shorter than interval_s = {checks.interval_s:g}: "
            "a backend that does not answer is checked more seldom",
        )
    if checks.kind == "tcp" and "path" in checks.model_fields_set:
        yield Doubt("W08", (*path, "health_check", "path"), 'has no effect: kind = "tcp" only connects')
    if checks.kind == "script" and "path" in checks.model_fields_set:
        yield Doubt("W76", (*path, "health_check", "path"), "has no effect: a script sends what it says itself")
    if checks.enabled and checks.script is not None and checks.script.preset == "mysql" and not checks.script.user:
        yield Doubt(
            "W77",
            (*path, "health_check", "script"),
            "mysql without a user: servers count connections that end before a login, and block who has too many (max_connect_errors); "
            'name one that has no password, { preset = "mysql", user = "check" }',
        )
    for key, why in _unheard(checks, pool).items():
        yield Doubt("W28", (*path, "health_check", key), f"has no effect: {why}")


def _unheard(checks: HealthCheckConfig, pool: PoolConfig) -> dict[str, str]:
    """Which keys of checks speak of what backends say of themselves, and are not heard, and why."""
    found: dict[str, str] = {}
    if "agent_header" in checks.model_fields_set and checks.agent != "header":
        found["agent_header"] = f'agent = "{checks.agent}" reads no header'
    deaf = [one.name for one in pool.backends if not isinstance(one.address, TcpAddress)]
    if checks.agent_port is not None and deaf:
        found["agent_port"] = f"{deaf[0]} is a unix socket" if len(deaf) == 1 else f"{', '.join(deaf)} are unix sockets"
    if not checks.enabled:
        said = {"agent": checks.agent != "off", "agent_port": checks.agent_port, "busy_statuses": checks.busy_statuses}
        found |= {key: "interval_s = 0 turns checks off" for key, there in said.items() if there}
    return found


def _of_retries(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    if len(pool.backends) == 1 and _all_known(pool) and pool.retry.bad_statuses:
        text = f"has no effect: {pool.backends[0].name} is the only backend"
        yield Doubt("W14", (*path, "retry", "bad_statuses"), text)


def _of_waits(path: KeyPath, said: RetryConfig, pool: PoolConfig) -> Iterator[Doubt]:
    retry = pool.retry
    for key in ("methods", "backoff_s", "backoff_most_s", "retry_after_most_s"):
        if key not in said.model_fields_set or not getattr(said, key):
            continue
        if not retry.more_attempts:
            yield Doubt("W41", (*path, "retry", key), "has no effect: more_attempts = 0, and nothing is tried again")
        elif key == "backoff_most_s" and not retry.backoff_s:
            yield Doubt("W41", (*path, "retry", key), "has no effect: backoff_s is 0, and there is no wait")
        elif key == "retry_after_most_s" and not retry.bad_statuses:
            text = "has no effect: without bad_statuses no answer is a reason to try again"
            yield Doubt("W41", (*path, "retry", key), text)


def _of_hedging(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    hedge, retry = pool.hedge, pool.retry
    key = (*path, "hedge", "delay_s" if hedge.delay_s else "percentile")
    if not hedge.on:
        return
    if len(pool.backends) == 1 and _all_known(pool):
        yield Doubt("W42", key, f"hedges nothing: {pool.backends[0].name} is the only backend")
    elif not retry.more_attempts:
        text = "hedges nothing: a hedge is one of the attempts, and more_attempts = 0"
        yield Doubt("W42", key, text, (*path, "retry", "more_attempts"))
    elif not (retry.budget_percent or retry.budget_per_s):
        text = "hedges nothing: the retry budget pays for it, and there is none"
        yield Doubt("W42", key, text, (*path, "retry", "budget_percent"))
    elif pool.affinity.said:
        yield Doubt(
            "W42", key, "hedges nothing: affinity binds the requests, and another backend knows no session of theirs"
        )
    if hedge.percentile and hedge.percentile < 100 - retry.budget_percent:
        text = f"hedges {100 - hedge.percentile:g} % of the requests, and budget_percent = {retry.budget_percent} pays for no more than that"
        yield Doubt("W43", key, text, (*path, "retry", "budget_percent"))
    if hedge.percentile and hedge.delay_s:
        yield Doubt("W44", (*path, "hedge", "percentile"), "has no effect: delay_s says when")


def _of_levels(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    if not pool.backends or pool.targets is not None:
        return
    if all(one.weight == 0 for one in pool.backends):
        yield Doubt("W23", (*path, "backends"), "nobody gets a request: every weight is 0")
    if all(one.backup for one in pool.backends):
        yield Doubt("W24", (*path, "backends"), "every backend is a backup: none is kept back")
    if pool.queue.when_full == "spill" and len({(one.backup, one.priority) for one in pool.backends}) == 1:
        text = "spill has no effect: all backends are of one level, and there is none to go on to"
        yield Doubt("W30", (*path, "queue", "when_full"), text)


def _of_panic(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    if pool.panic.even_down and not pool.panic.threshold_percent:
        text = "has no effect: threshold_percent is 0, and there is no panic"
        yield Doubt("W29", (*path, "panic", "even_down"), text)


def _all_known(pool: PoolConfig) -> bool:
    """Whether a pool has just as many backends as its file says: no name may mean several, and no list says more."""
    return pool.targets is None and not any(is_name(one.address) for one in pool.backends)


def _of_ejection(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    """Rates that are looked at in vain: too few are compared, or too few for anyone to be so far off (see `least_success_rate`)."""
    rules, backends = pool.ejection, len(pool.backends)
    if not _all_known(pool):
        return
    for key in ("success_rate_factor", "failure_percent"):
        if getattr(rules, key) and backends < rules.min_backends:
            text = f"has no effect: min_backends = {rules.min_backends}, and the pool has {backends}"
            yield Doubt("W22", (*path, "ejection", key), text)
    factor = rules.success_rate_factor
    if rules.min_backends <= backends <= factor**2 + 1:
        text = f"has no effect: of {backends} backends none is ever more than {sqrt(backends - 1):.4g} standard deviations below the mean"
        yield Doubt("W22", (*path, "ejection", "success_rate_factor"), text)


def _of_unused_checks(config: LoadBalancerConfig) -> Iterator[Doubt]:
    objects = objects_of(config)
    used = {check_of(pool, config) for pool in objects.pools.values()}
    yield from (Doubt("W16", ("checks", name), "no pool names them") for name in config.checks if name not in used)


def _of_attempts(path: KeyPath, route: RouteConfig) -> Iterator[Doubt]:
    timeouts = route.timeouts
    if timeouts.attempt_s is not None and timeouts.attempt_s >= timeouts.response_head_s:
        yield Doubt(
            "W09",
            (*path, "timeouts", "attempt_s"),
            f"{timeouts.attempt_s:g} has no effect: response_head_s = {timeouts.response_head_s:g} bounds all attempts together",
        )


def _of_key(path: KeyPath, route: RouteConfig, objects: Objects) -> Iterator[Doubt]:
    """What is said of a route's own key that nobody goes by; the defaults' is for whichever route has such a pool."""
    pools = {name: objects.pools[name] for name in led_pools(route) if name in objects.pools}
    if "key" in route.model_fields_set and not any(
        policy_for(pool.policy, pool.policy_budget_us).keyed for pool in pools.values()
    ):
        whose = (
            ", ".join(f"{name} goes by {pool.policy}" for name, pool in pools.items()) or "the route leads to no pool"
        )
        yield Doubt(
            "W27",
            (*path, "key"),
            f"has no effect: {whose}, which looks at no key" if pools else f"has no effect: {whose}",
        )


def _of_trust(path: KeyPath, trust: TrustConfig) -> Iterator[Doubt]:
    home = path or ("forwarding",)
    for key, networks in (
        ("trusted_proxies", trust.trusted_proxies),
        ("proxy_protocol_from", trust.proxy_protocol_from),
    ):
        for network in networks:
            if ip_network(network).prefixlen == 0:
                yield Doubt("W10", (*home, key), f"{network} is everybody: each client can say to be anybody")
    if trust.proxy_protocol_from and trust.proxy_protocol == "off":
        yield Doubt("W72", (*home, "proxy_protocol_from"), "has no effect: proxy_protocol is off")


def _of_severing(path: KeyPath, said: set[str], pool: PoolConfig) -> Iterator[Doubt]:
    """What cuts tunnels, and never will: what is said of the pool itself, since the defaults may be for others."""
    several = pool.targets is not None or len({bool(one.backup) for one in pool.backends}) > 1
    if pool.leave_backups and "leave_backups" in said and not several:
        yield Doubt("W79", (*path, "leave_backups"), "has no effect: the pool has no backups beside other backends")


def _of_tcp_keepalive(config: LoadBalancerConfig) -> Iterator[Doubt]:
    """What is asked of unix sockets alone, by their own tables; the defaults' is for whoever has others."""
    places: list[tuple[KeyPath, TcpKeepaliveConfig, bool]] = [
        (("listeners", name), one.tcp_keepalive, all(address.path for address in one.addresses))
        for name, one in config.listeners.items()
    ]
    for name, pool in config.pools.items():
        unix = all(isinstance(one.address, UnixAddress) for one in pool.backends)
        places.append((("pools", name), pool.tcp_keepalive, unix and pool.targets is None))
    for place, keepalive, unix in places:
        if unix and keepalive.on:
            text = "has no effect: there are unix sockets alone, whose peers cannot go unnoticed"
            yield Doubt("W78", (*place, "tcp_keepalive"), text)


def _of_limits(path: KeyPath, listener: ListenerConfig) -> Iterator[Doubt]:
    limits = listener.limits
    if limits.connections is not None and limits.connections_per_client > limits.connections:
        yield Doubt(
            "W13",
            (*path, "limits", "connections_per_client"),
            f"{limits.connections_per_client} has no effect: connections = {limits.connections} is less",
        )


def _of_order(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    """The policy that fills one backend after the other, where none is ever full."""
    several = len(pool.backends) > 1 or pool.targets is not None
    if pool.policy == "first" and several and not pool.max_in_flight and not any(one.limit for one in pool.backends):
        yield Doubt(
            "W21", (*path, "policy"), "first without max_in_flight: the backends after the first one only stand by"
        )


def _of_abandoned(config: LoadBalancerConfig, name: str, pool: PoolConfig) -> Iterator[Doubt]:
    check = pool.health_check
    if not _says(config, name, "abandoned_s"):
        return  # a profile does
    path = _home(config.pools, "pools", name)
    bounded = pool.max_in_flight or any(one.limit for one in pool.backends)
    # An agent may say `maxconn:N`.
    if pool.abandoned_s and not bounded and check.agent == "off" and check.agent_port is None:
        yield Doubt(
            "W33", (*path, "abandoned_s"), "has no effect: without max_in_flight there are no places to be held"
        )


def _says(config: LoadBalancerConfig, pool: str, key: str) -> bool:
    """Whether the file says itself what a key of a pool is: there, or in its defaults."""
    return any(key in one.model_fields_set for one in (config.pools.get(pool, config), config.defaults.pool))


def _of_profile(config: LoadBalancerConfig, name: str, pool: PoolConfig) -> Iterator[Doubt]:
    """What is said beside a profile, and takes away what that is for."""
    doubtful: dict[str, str] = {}
    if pool.profile == "wsgi":
        keys = ("buffer_request_bytes", "buffer_response_bytes")
        doubtful = {
            key: "0 leaves workers to slow clients: wsgi keeps them away" for key in keys if not getattr(pool, key)
        }
    elif pool.profile == "inference" and pool.buffer_response_bytes:
        text = f"{pool.buffer_response_bytes}: inference reads nothing ahead, so that nothing is made for clients that leave"
        doubtful = {"buffer_response_bytes": text}
    for key, text in doubtful.items():
        if _says(config, name, key):
            yield Doubt("W47", home_of_choice(config, name, key), text, home_of_choice(config, name, "profile"))


def _of_profiled_route(own: KeyPath, said: Model, route: RouteConfig, objects: Objects) -> Iterator[Doubt]:
    """Timeouts of a route that are shorter than the profile of its pool would have them. What it does not say itself (`said`, which
    is at `own`) is said in its defaults.
    """
    profiles = {name: objects.pools[name].profile for name in route.pools if name in objects.pools}
    for pool, profile in profiles.items():
        asked = RouteTimeoutsConfig() if profile is None else PROFILES[profile].route.timeouts
        for key in asked.model_fields_set:
            wanted, found = getattr(asked, key), getattr(route.timeouts, key)
            if found < wanted:
                path = own if says(said, ("timeouts", key)) else ("defaults", "route")
                text = (
                    f"{found:g} is less than the {wanted:g} of {profile}, the profile of {pool}: longer answers are cut"
                )
                yield Doubt("W48", (*path, "timeouts", key), text)


def _of_mirror(path: KeyPath, pool: PoolConfig, objects: Objects) -> Iterator[Doubt]:
    mirror = pool.mirror
    if mirror is None:
        return
    places = {str(one.address) for one in pool.backends}
    shared = [str(one.address) for one in objects.pools[mirror.to].backends if str(one.address) in places]
    if shared:
        text = f"{shared[0]} is in both pools: it may get the same request twice"
        yield Doubt("W45", (*path, "to"), text)
    if "body_bytes" in mirror.model_fields_set and set(mirror.methods) <= set(SAFE):
        text = f"has no effect: methods = {', '.join(mirror.methods)}, which have no bodies as a rule"
        yield Doubt("W46", (*path, "body_bytes"), text)


def _of_buffers(path: KeyPath, pool: PoolConfig, memory_bytes: int) -> Iterator[Doubt]:
    """What is to be held for one client, and what all of them may hold together."""
    for key in ("buffer_request_bytes", "buffer_response_bytes"):
        wanted = getattr(pool, key)
        if wanted > memory_bytes:
            text = f"{wanted} is more than limits.memory_bytes = {memory_bytes}, which all clients share"
            yield Doubt("W53", (*path, key), text, ("limits", "memory_bytes"))


def _of_adaptive(path: KeyPath, said: AdaptiveConfig, pool: PoolConfig) -> Iterator[Doubt]:
    own = next((number for number, one in enumerate(pool.backends) if one.limit == ADAPTIVE), None)
    if pool.max_in_flight != "adaptive" and own is None:
        for key in said.model_fields_set:
            text = f'has no effect: max_in_flight = {pool.max_in_flight}, and not "adaptive"'
            yield Doubt("W32", (*path, "adaptive", key), text)
    elif not (pool.queue.length and pool.queue.timeout_s):
        key = "timeout_s" if pool.queue.length else "length"
        text = (
            "adaptive without a queue: while a limit is low, as it is when it is measured, what is beyond it gets 503"
        )
        where = ("max_in_flight",) if own is None else ("backends", own, "max_in_flight")
        yield Doubt("W32", (*path, *where), text, (*path, "queue", key))


def _of_adaptive_sessions(path: KeyPath, pool: PoolConfig) -> Iterator[Doubt]:
    own = next((number for number, one in enumerate(pool.backends) if one.limit == ADAPTIVE), None)
    if pool.max_in_flight == "adaptive" or own is not None:
        where = ("max_in_flight",) if own is None else ("backends", own, "max_in_flight")
        text = "adaptive learns from how quickly backends accept: answers in a connection that is carried as it is are not seen"
        yield Doubt("W80", (*path, *where), text)


def _of_affinity(config: LoadBalancerConfig, name: str, pool: PoolConfig) -> Iterator[Doubt]:
    affinity = pool.affinity
    path = home_of_choice(config, name, "affinity")
    cookie = affinity.cookie
    if cookie is not None and not affinity.secret:
        text = "no secret is given: cookies hold until the process ends, and for no other balancer"
        yield Doubt("W34", (*path, "cookie"), text)
    if cookie is not None and cookie.same_site == "none" and cookie.secure == "never":
        text = 'SameSite=None without Secure: browsers throw it away; same_site = "auto" is right for both schemes'
        yield Doubt("W36", (*path, "cookie", "same_site"), text)
    own: Model = config.pools.get(name, config)
    said: AffinityConfig = config.pools[name].affinity if name in config.pools else config.affinity
    if "affinity" not in own.model_fields_set:
        return  # what is inherited is for whichever pool it means something to
    for key, why in _unused_of_affinity(pool).items():
        if key in said.model_fields_set:
            yield Doubt("W35", (*path, key), f"has no effect: {why}")


def _unused_of_affinity(pool: PoolConfig) -> dict[str, str]:
    """The keys of affinity that mean nothing in a pool, and why."""
    affinity = pool.affinity
    keys = [key for key in type(affinity).model_fields if key not in ("cookie", "header", "client", "learn")]
    if not affinity.said:
        return dict.fromkeys(keys, "requests are bound by nothing: cookie, header, client or learn says by what")
    if affinity.cookie is not None:
        found = {"most": "a cookie takes no room: its client keeps it"}
    else:
        found = {"secret": f"nothing is signed: requests are bound by {affinity.said[0]}"}
    check = pool.health_check
    # An agent may say `maxconn:N`, and a list has the limit of `[defaults.backend]`.
    unknown = check.agent != "off" or check.agent_port is not None or pool.targets is not None
    full = unknown or pool.max_in_flight or any(one.limit for one in pool.backends)
    if affinity.when_full == "wait" and not full:
        found["when_full"] = "without max_in_flight no backend is ever full"
    elif affinity.when_full == "wait" and not (pool.queue.length and pool.queue.timeout_s):
        found["when_full"] = "the queue lets nobody wait"
    return found


def _of_same_cookies(config: LoadBalancerConfig, objects: Objects) -> Iterator[Doubt]:
    """Pools whose cookies have one name, domain and path: each overwrites the other's, where a host leads to both."""
    seen: dict[tuple[str, str | None, str], str] = {}
    for name, pool in objects.pools.items():
        cookie = pool.affinity.cookie
        if cookie is None or cookie.name is None:
            continue
        place = cookie.name, cookie.domain, cookie.path
        if place in seen:
            path, other = (home_of_choice(config, one, "affinity") for one in (name, seen[place]))
            text = f"{cookie.name} is the cookie of the pool {seen[place]} too: without a name each has its own"
            yield Doubt("W37", (*path, "cookie"), text, (*other, "cookie") if other != path else ())
        seen.setdefault(place, name)


def _of_unsaid_listener(config: LoadBalancerConfig) -> Iterator[Doubt]:
    """A file of tables that forgot one; who writes flat keys, or says port or interface in a flag, has that listener in mind."""
    by_name = config.pools or config.routes
    if by_name and not (config.backends or config.listeners or "listen" in config.model_fields_set):
        where = config.listen.address.where
        yield Doubt(
            "W19",
            ("listeners",),
            f"none is given: {where} is listened on; [listeners.NAME], [listen] or --port says where",
        )


def _of_access_log(config: LoadBalancerConfig) -> Iterator[Doubt]:
    """What is said of an access log that there is not; that somebody is not in it is no doubt."""
    places: list[KeyPath] = [("log", key) for key in OF_ACCESS_LOG if key in config.log.model_fields_set]
    owners: dict[KeyPath, object] = {
        **{("listeners", name): one.log for name, one in config.listeners.items()},
        **{("routes", index): one.log for index, one in enumerate(config.routes)},
        ("defaults", "listener"): config.defaults.listener.log,
        ("defaults", "route"): config.defaults.route.log,
    }
    places += [(*path, "log") for path, log in owners.items() if isinstance(log, str)]
    yield from (Doubt("W20", path, "has no effect: without log.file there is no access log") for path in places)


def _workers(config: LoadBalancerConfig, cpus: int | None) -> int:
    return config.workers if isinstance(config.workers, int) else cpus or 1


def _of_workers(workers: int, cpus: int | None) -> Iterator[Doubt]:
    if cpus is not None and workers > max(cpus, 1):
        there = "there is one CPU" if cpus == 1 else f"there are {cpus} CPUs"
        text = f"{workers} workers, and {there} for them: each request costs more, and none is faster"
        yield Doubt("W81", ("workers",), text)


def _of_room(config: LoadBalancerConfig, objects: Objects, descriptors: int, room: int) -> Iterator[Doubt]:
    wanted = Counter({name: one.limits.connections or 0 for name, one in objects.listeners.items()})
    if wanted.total() <= room:
        return
    name, connections = wanted.most_common(1)[0]
    together = f", {wanted.total()} with those of the other listeners," if wanted.total() > connections else ""
    yield Doubt(
        "W12",
        (*_home(config.listeners, "listeners", name), "limits", "connections"),
        f"{connections}{together} is more than {descriptors} descriptors are enough for: above {room} clients, each with a "
        "connection to a backend, requests get a 503",
    )
