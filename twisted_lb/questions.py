"""What an operator asks of a running data plane: why that backend, and where would this request go. Nothing changes by it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from twisted_lb.core.ask import ANY
from twisted_lb.core.decision import Decision
from twisted_lb.core.explaining import Explained, explained
from twisted_lb.core.notes import Note, Notes
from twisted_lb.core.outcome import Refusal, refusal_of
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.route import Route, told_lines
from twisted_lb.net.routing import Found
from twisted_lb.net.runtime import Runtime
from twisted_lb.wire.grammar import CRLF, BadMessage, Limits
from twisted_lb.wire.http1_reader import Http1Reader, SharedFields
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import RequestHead

KINDS: Final = ("recent", "failed", "refused", "slowest", "running")
# Who looks closely does not do so for ever.
_CLOSELY_S: Final = 600.0


@dataclass(frozen=True)
class Held:
    """How many recent requests are held, and when the oldest of them began, in seconds since 1970; None without any."""

    requests: int
    oldest_at: float | None


@dataclass(frozen=True)
class LookedAtRoute:
    """A route that was looked at, the `n`th of its listener, counted from 1: whether it matches, and why not."""

    n: int
    name: str
    matches: bool
    why: str


@dataclass(frozen=True)
class Routed:
    """Where a request would go. `looked_at` are the routes up to the first one that matches: `route`, None without any.

    `action` is what becomes of it: `pool`, `split`, `answer`, `redirect`, `deny`, `none` (no route), or `refuse` for what is
    no request. `status` is what its client would be told where no backend is asked, and `why` the reason. `pool` is the one
    that it goes to, of a split the one whose turn it is, or the fallback where the first has nobody; `decision` what that
    would do. `mirror` is the pool that would get it too, `mirror_percent` of a hundred times.
    """

    listener: str
    looked_at: tuple[LookedAtRoute, ...]
    route: str | None
    action: str
    status: int | None = None
    why: str = ""
    pool: str | None = None
    decision: Decision | None = None
    mirror: str | None = None
    mirror_percent: float = 0.0


# Said of a pool by key, asked about without a request.
_OF_NO_REQUEST: Final = (
    "no request was given, so its place is drawn: with a path (path=/x) the key of its route is looked at"
)


_BY_CLIENT: Final = RequestKey(RateKey.CLIENT)
_TCP: Final = "tcp://"


class Questions:
    """The questions to a data plane. `frontends` and `clusters` are those that run now, by name."""

    def __init__(
        self, runtime: Runtime, notes: Notes, frontends: Mapping[str, Frontend], clusters: Mapping[str, Cluster]
    ) -> None:
        self._runtime: Final = runtime
        self._notes: Final = notes
        self._frontends: Final = frontends
        self._clusters: Final = clusters

    # Why that backend.

    def explain(self, request_id: str, others: Iterable[Frontend] = ()) -> Explained | None:
        """The request with this id, one that runs before one that has ended, or the last of several; None when it is not
        held. `others`: frontends that are leaving. O(clients).
        """
        wanted = request_id.encode("ascii", "replace")
        running = (note for note in self._running(others) if note.request_id == wanted)
        note = next(running, None) or self._notes.of(wanted) if wanted else None
        return None if note is None else self._explained([note])[0]

    def explained(
        self, kind: str, count: int, others: Iterable[Frontend] = (), *, decisions: bool = True
    ) -> tuple[Explained, ...]:
        """The last requests of a kind (see KINDS), the newest first; of the slowest the slowest first, of those that run those
        first that began first. `decisions`: see `core.explaining.explained`. ValueError for what is no kind.
        """
        if kind == "running":
            found = sorted(self._running(others), key=lambda note: note.began)
        elif kind in KINDS:
            found = self._notes.of_kind(kind)
        else:
            raise ValueError(f"{kind!r} is no kind of requests: {', '.join(KINDS)}")
        return self._explained(found[: max(count, 0)], decisions=decisions)

    def held(self) -> Held:
        """How many recent requests are held, and since when."""
        recent = self._notes.of_kind("recent")
        return Held(len(recent), recent[-1].began + self._runtime.epoch() if recent else None)

    def _running(self, others: Iterable[Frontend]) -> list[Note]:
        return [note for frontend in (*self._frontends.values(), *others) for note in frontend.running]

    def _explained(self, notes: Sequence[Note], *, decisions: bool = True) -> tuple[Explained, ...]:
        epoch, now = self._runtime.epoch(), self._runtime.clock.read()
        return tuple(explained(note, self._notes, epoch, now, decisions=decisions) for note in notes)

    # Where it would go.

    def next(self, pool: str) -> Decision:
        """What the next claim in a pool would do, and why. By key no key is assumed: a request has one, and a pool has none.
        KeyError when there is no such pool.
        """
        if pool not in self._clusters:
            raise KeyError(f"no pool is called {pool}")
        asked = self._clusters[pool].pool
        decision = asked.explain(ANY, self._runtime.clock.read())
        if not asked.policy.keyed or decision.picked is None:
            return decision
        return replace(decision, rule=f"{decision.rule}; {_OF_NO_REQUEST}")

    def look_closely(self, pool: str, seconds: float) -> None:
        """For so long, ten minutes at most, have each claim in a pool remember what every backend had in flight, also where it
        has more than claims remember by themselves. KeyError when there is no such pool.
        """
        if pool not in self._clusters:
            raise KeyError(f"no pool is called {pool}")
        self._clusters[pool].pool.closely_until = self._runtime.clock.read() + min(seconds, _CLOSELY_S)

    def route(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]] = (),
        client: str = "127.0.0.1",
        listener: str | None = None,
    ) -> Routed:
        """Where a request would go; nothing is sent, counted or charged. `url` is absolute, or a path, for a request that names no
        host; or `tcp://NAME`, a connection that is carried as it is, whose ClientHello says this name: `tcp://` for none. `listener`: by default
        the first one that has any. KeyError when there is no such listener, ValueError for what cannot be asked.
        """
        if listener is not None and listener not in self._frontends:
            raise KeyError(f"no listener is called {listener}")
        if url.startswith(_TCP):
            return self._session_routed(url.removeprefix(_TCP).rstrip("/"), client, listener)
        frontend = next(iter(self._frontends.values())) if listener is None else self._frontends[listener]
        if frontend.tcp:
            raise ValueError(f"listener {frontend.name} carries TCP: ask with {_TCP}NAME, or with {_TCP} for no name")
        wire, port = _request(method, url, headers)
        try:
            head = _head(wire, frontend.client_rules.limits)
            scheme = b"http" if frontend.serving is None else b"https"
            who = frontend.client_rules.client(client, scheme, port)
            looked_at = tuple(
                LookedAtRoute(n, one.name, one.matches, one.why)
                for n, one in enumerate(frontend.table.explain(head, who), 1)
            )
            found = frontend.table.find(head, who)
        except BadMessage as bad:
            status = refusal_of(bad.status).status
            return Routed(frontend.name, (), None, "refuse", status, bad.reason)
        return self._routed(frontend.name, looked_at, found, told_lines(head, who), who)

    def _session_routed(self, name: str, client: str, listener: str | None) -> Routed:
        """Where a session would go."""
        carrying = [one for one in self._frontends.values() if one.sessions is not None]
        if listener is not None:
            carrying = [one for one in carrying if one.name == listener]
        if not carrying:
            whose = "no listener" if listener is None else f"the listener {listener} does not"
            raise ValueError(f"{whose} {'carries' if listener is None else 'carry'} TCP, by a name or else")
        frontend = carrying[0]
        table = frontend.sessions
        assert table is not None
        looked_at = tuple(
            LookedAtRoute(n, one.name, one.matches, one.why) for n, one in enumerate(table.explain(name, client), 1)
        )
        way = table.find(name, client)
        if way is None:
            why = "no route takes it" if frontend.tcp else "no route of sessions takes it: it is served HTTP"
            return Routed(frontend.name, looked_at, None, "none", None, why)
        action = way.action
        denial = way.would_be_denied(client, self._runtime.clock.read())
        if denial is not None:
            return Routed(frontend.name, looked_at, action.name, "deny", None, denial.detail)
        if action.forbidden:
            return Routed(frontend.name, looked_at, action.name, "deny", None, "its route denies all")
        ask = _BY_CLIENT.ask(b"", b"", client)

        def decide(cluster: Cluster) -> Decision:
            now, bonds = self._runtime.clock.read(), cluster.bonds
            if bonds is None:
                return cluster.pool.explain(ask, now)
            bound = bonds.ask(ask, b"", client if bonds.by_client else "", now, cluster.wall_now(), touch=False)
            return cluster.pool.explain(bound, now)

        kind = "pool" if action.only is not None else "split"
        routed = Routed(frontend.name, looked_at, action.name, kind)
        return self._led(routed, way.route_foreseen(client), decide)

    def _routed(
        self, listener: str, looked_at: tuple[LookedAtRoute, ...], found: Found, lines: bytes, who: Client
    ) -> Routed:
        action = found.action
        name = None if action is None else action.name
        denial = found.would_be_denied(self._runtime.clock.read())
        if denial is not None:
            return Routed(listener, looked_at, name, "deny", denial.refusal.status, denial.detail)
        if action is None:
            return Routed(listener, looked_at, None, "none", Refusal.NO_ROUTE.status, "no route takes it")
        if action.forbidden:
            return Routed(listener, looked_at, name, "deny", Refusal.FORBIDDEN.status, "its route denies all")
        if found.flaw is not None:
            return Routed(listener, looked_at, name, "refuse", found.flaw.status, found.flaw.reason)
        answer = action.own_answer(who, found.head.fields)
        if answer is not None:
            return Routed(listener, looked_at, name, answer.kind.value, answer.status)
        route = action.route_foreseen(found.split_key)
        ask = action.rules.key.ask(found.head.target, lines, found.address)

        def decide(cluster: Cluster) -> Decision:
            now, bonds = self._runtime.clock.read(), cluster.bonds
            if bonds is None:
                return cluster.pool.explain(ask, now)
            bound = bonds.ask(ask, lines, found.address, now, cluster.wall_now(), touch=False)
            return cluster.pool.explain(bound, now)

        routed = Routed(listener, looked_at, name, "pool" if action.only is not None else "split")
        led = self._led(routed, route, decide)
        settings = route.cluster.pool.settings.mirror
        if route.mirror is None or settings is None or not settings.takes(found.head.method):
            return led
        return replace(led, mirror=route.mirror.cluster.name, mirror_percent=settings.percent)

    def _led(self, routed: Routed, route: Route, decide: Callable[[Cluster], Decision]) -> Routed:
        """With the pool that it goes to, which is the fallback's while the first has nobody."""
        pool = route.cluster.pool
        decision = decide(route.cluster)
        action, status, why = routed.action, None, ""
        if decision.picked is None and route.fallback is not None and pool.exhausted:
            why = f"{pool.name} has nobody: its fallback"
            if route.fallback.answer is not None:
                action, status = route.fallback.answer.kind.value, route.fallback.answer.status
            elif route.fallback.route is not None:
                pool = route.fallback.route.cluster.pool
                decision = decide(route.fallback.route.cluster)
        if decision.picked is None and not decision.waits and status is None:
            status = Refusal.NO_BACKEND.status
        return Routed(routed.listener, routed.looked_at, routed.route, action, status, why, pool.name, decision)


def _request(method: str, url: str, headers: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
    """The bytes of a request for this URL, and the port that it came to."""
    words = (method, url, *(word for pair in headers for word in pair))
    if any(not word.isprintable() for word in words):
        raise ValueError("method, URL and headers hold printable characters only")
    if not url.startswith(("/", "http://", "https://", "*")):
        raise ValueError(f"{url!r}: should be http://HOST/PATH or /PATH")
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    host = parts.netloc.rpartition("@")[2]
    named = any(name.lower() == "host" for name, _ in headers)
    # Without a host it is a request of HTTP/1.0, which need not name one.
    version = "1.1" if host or named else "1.0"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    fields = headers if named or not host else [("Host", host), *headers]
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in fields)]
    try:
        return b"".join(line.encode("ascii") + CRLF for line in lines) + CRLF, b"%d" % port
    except UnicodeEncodeError as error:
        raise ValueError(f"{error.object!r}: other characters than ASCII are written as %XX") from None


def _head(wire: bytes, limits: Limits) -> RequestHead:
    """The head of a request, read as from a client."""
    reader = Http1Reader(SharedFields())
    reader.buffer = wire
    head = reader.take_head(limits)
    if head is None:
        raise BadMessage(400, "no complete head")
    return head
