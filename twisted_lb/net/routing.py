"""Routes of a listener, in their order: which one has a request, what it does with it, and what that is asked of it before."""

from collections.abc import Mapping, Sequence
from typing import Final

from twisted_lb.core.ask import key_of
from twisted_lb.core.gate import client_key
from twisted_lb.core.route_reasons import Asked, why_not
from twisted_lb.core.routing import AROUND, RouteMatch, Router
from twisted_lb.core.split import Split, StickySplit
from twisted_lb.net.admission import Admission, Denial
from twisted_lb.net.local_reply import Claim, accept_of, claim_of, grpc_reply, local_reply, safe_id
from twisted_lb.net.own_answers import OwnAnswer, asked_host, to_https
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.route import Route, came_by_https, client_name, told_lines
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import RouteRules
from twisted_lb.net.upstream import Upstream
from twisted_lb.wire.fields import tokens
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.grpc import is_grpc
from twisted_lb.wire.origin import Client, Origin
from twisted_lb.wire.paths import escaped_slash, matching_path, unresolved_path
from twisted_lb.wire.request import RequestFields, RequestHead
from twisted_lb.wire.response import ResponseHead


class Action:
    """What becomes of the requests of one route: they go to its pool, or to one of several, or get an answer of our own, or none
    at all (`forbidden`).

    `routes` are those that it leads to, by pool; `split` chooses among several, for requests with the same `split_by` always the
    same one. `plain`: all go to one pool, and nothing is looked at before. `passes`: they go to a pool just as they are.
    """

    def __init__(
        self,
        name: str,
        rules: RouteRules,
        runtime: Runtime,
        *,
        routes: Mapping[str, Route] | None = None,
        split: Split | StickySplit | None = None,
        split_by: RequestKey | None = None,
        answer: OwnAnswer | None = None,
    ) -> None:
        self.name: Final = name
        self.rules: Final = rules
        self.answer: Final = answer
        self.split: Final = split
        self.split_by: Final = split_by
        self.routes: Final = dict(routes or {})
        self.only: Final[Route | None] = next(iter(self.routes.values())) if len(self.routes) == 1 else None
        self.forbidden: Final = not self.routes and answer is None
        # Whether the path of a request may be looked at once more, and refused.
        self.checks: Final = rules.path_edit is not None or rules.refuse_escaped_slash
        # What came without TLS, and may not.
        self.to_https: Final = to_https(rules.https_port) if rules.https_port else None
        self.plain: Final = self.only is not None and not (self.checks or rules.https_port)
        self.passes: Final = bool(self.routes) and not (self.checks or rules.edits_head or rules.https_port)
        self.websockets: Final = bool(self.routes) and b"websocket" in rules.upgrades
        self._runtime: Final = runtime

    @property
    def pools(self) -> list[str]:
        """The names of all pools that requests of the route may get to, that of a fallback among them."""
        fallbacks = [one.fallback.route for one in self.routes.values() if one.fallback is not None]
        return [*self.routes, *(one.cluster.name for one in fallbacks if one is not None)]

    def own_answer(self, client: Client, fields: RequestFields) -> OwnAnswer | None:
        """What it answers by itself to a request of this client with these fields; None: it leads to a pool."""
        if self.to_https is not None and not came_by_https(client, fields):
            return self.to_https
        return self.answer

    def route(self, split_key: int) -> Route:
        """The route of the next request that is led to a pool; each look is a turn of the split."""
        only = self.only
        if only is not None:
            return only
        split = self.split
        assert split is not None
        return self.routes[split.take(split_key)]

    def route_foreseen(self, split_key: int) -> Route:
        """The route that the next request would have; it is nobody's turn."""
        only = self.only
        if only is not None:
            return only
        split = self.split
        assert split is not None
        return self.routes[split.foreseen(split_key)]

    def route_of(self, bound: Upstream, split_key: int) -> Route:
        """The same for a client with a connection to a backend of its own (NTLM): to whose pool it stays, where that is one of
        these. Elsewhere it would have to log in anew, with each step at another pool.
        """
        mine = next((route for route in self.routes.values() if bound.belongs_to(route.cluster)), None)
        return self.route(split_key) if mine is None else mine

    def split_key(self, target: bytes, lines: bytes, address: str) -> int:
        """By what a request finds its pool in a split that stays the same; who has no such header or cookie, by its client, of
        whom an IPv6 address may be another one every day.
        """
        key = self.split_by
        if key is None:
            return 0
        value = key.value(target, lines)
        client = client_key(address) if ":" in address else address
        return key_of(client.encode("ascii", "replace") if value is None else b"=" + value)

    def flaw(self, head: RequestHead) -> BadMessage | None:
        """What is wrong with the path of a request, if it is none that the route takes."""
        rules = self.rules
        if rules.refuse_escaped_slash and escaped_slash(head.target):
            return BadMessage(400, "escaped slash in the path")
        if rules.path_edit is not None:
            try:
                rules.path_edit.target(head.target)
            except BadMessage as bad:
                return bad
        return None

    def local_reply(
        self, status: int, lines: bytes, request_id: bytes, retry_after_s: int = 0
    ) -> tuple[ResponseHead, bytes]:
        """Head and body of a local reply to a request with these field lines and this id."""
        request_id = safe_id(request_id) or self._runtime.new_id()
        if is_grpc(lines):
            return grpc_reply(status, request_id, retry_after_s)
        return local_reply(status, request_id, accept_of(lines), self.rules.pages.get(status), retry_after_s)

    def __repr__(self) -> str:
        where = "nowhere" if self.forbidden else "an answer" if self.answer is not None else ", ".join(self.routes)
        return f"<Action of {self.name}: to {where}>"


class Found:
    """What is known of a request before it goes on: its route (None: no route), its client and the keys of limits, and why its
    route does not take its path (`flaw`). A pure function of head, client and table: the next request of a connection that is
    the same to the byte has the same.
    """

    __slots__ = ("action", "address", "admission", "client_key", "flaw", "head", "keys", "split_key", "table")

    def __init__(
        self,
        table: "RouteTable",
        head: RequestHead,
        lines: bytes,
        address: str,
        action: Action | None,
        admission: Admission | None,
    ) -> None:
        self.table: Final = table
        self.head: Final = head
        self.address: Final = address
        self.action: Final = action
        self.admission: Final = admission
        self.flaw: Final[BadMessage | None] = action.flaw(head) if action is not None and action.checks else None
        self.split_key: Final = 0 if action is None else action.split_key(head.target, lines, address)
        self.client_key: Final = client_key(address) if admission is not None else ""
        self.keys: Final = [] if admission is None else admission.keys(head.target, lines, self.client_key)

    def claim(self, client: Client, peer_port: int) -> Claim:
        """What is to be said of the request in a local reply, over the connection of this client."""
        return claim_of(self.head, self.address, client, peer_port)

    def would_be_denied(self, now: float) -> Denial | None:
        """Why the request would not go on, for somebody who only asks: nothing is counted or charged."""
        admission = self.admission
        return None if admission is None else admission.would_deny(self.address, self.client_key, self.keys, now)

    def denied(self, now: float) -> Denial | None:
        """Why the request does not go on; None where it does."""
        admission = self.admission
        return None if admission is None else admission.denies(self.address, self.client_key, self.keys, now)


class LookedAt:
    """A route that was looked at for a request: whether it matches, and why not."""

    __slots__ = ("matches", "name", "why")

    def __init__(self, name: str, matches: bool, why: str) -> None:
        self.name: Final = name
        self.matches: Final = matches
        self.why: Final = why


class RouteTable:
    """The routes of a listener, in their order; the first that matches has a request. It never changes.

    `admissions` are what is asked before, by route; None: nothing. `unrouted` is what is asked of requests without a route.
    `straight`: the one route to a pool that all requests have, and nothing is to be asked; then nobody need look. `websockets`: whether any of
    them lets its clients switch to them.
    """

    def __init__(
        self,
        matches: Sequence[RouteMatch],
        actions: Sequence[Action],
        admissions: Sequence[Admission | None],
        unrouted: Admission | None = None,
    ) -> None:
        self.actions: Final = list(actions)
        self._admissions: Final = list(admissions)
        router = self.router = Router(
            matches,
            [at for at, one in enumerate(self.actions) if one.passes and self._admissions[at] is None],
        )
        self._unrouted: Final = unrouted
        self.websockets: Final = any(one.websockets for one in self.actions)
        self._asks_origin: Final = any(name.startswith(b"x-forwarded-") for name in router.fields)
        self.straight: Final[Route | None] = (
            actions[0].only if router.sole and actions[0].plain and admissions[0] is None else None
        )

    def find(self, head: RequestHead, client: Client) -> Found:
        """Find the route of a request; BadMessage (400) where its path is none that could be matched beyond doubt.

        Paths are looked at, and refused, where any route that can be reached goes by them: a spelling that one route cannot judge
        must not get to the next. Elsewhere they pass as they are.
        """
        address = client_name(client, head.fields)
        lines = told_lines(head, client)
        host, path, query, told = self._asked(head, lines, client)
        router = self.router
        unresolved = unresolved_path(head.target) if router.looks_at_path else b""
        index = router.find(host, path, head.method, query, told, address, unresolved)
        if index == AROUND:
            raise BadMessage(400, "path that servers read as those of two routes")
        if index < 0:
            return Found(self, head, lines, address, None, self._unrouted)
        return Found(self, head, lines, address, self.actions[index], self._admissions[index])

    def explain(self, head: RequestHead, client: Client) -> list[LookedAt]:
        """The routes that are looked at for a request, up to the first one that matches, with why the others do not. BadMessage
        where `find` cannot judge the path.
        """
        host, path, query, told = self._asked(head, told_lines(head, client), client)
        asked = Asked(host, path, head.method, query, told, client_name(client, head.fields))
        looked_at: list[LookedAt] = []
        for action, match in zip(self.actions, self.router.matches, strict=True):
            why = why_not(match, asked)
            looked_at.append(LookedAt(action.name, not why, why))
            if not why:
                break
        return looked_at

    def _asked(self, head: RequestHead, lines: bytes, client: Client) -> tuple[bytes, bytes, bytes, bytes]:
        """Host, path, query and field lines of a request, as far as the routes go by them."""
        router = self.router
        target = head.target
        return (
            asked_host(head),
            matching_path(target) if router.looks_at_path else b"",
            target.partition(b"?")[2] if router.looks_at_query else b"",
            self._told(head, lines, client) if router.fields else lines,
        )

    def _told(self, head: RequestHead, lines: bytes, client: Client) -> bytes:
        """The field lines that rules go by: what a backend would be told, and to what the client offers to switch (Upgrade)."""
        fields = head.fields
        if self._asks_origin:
            lines += Origin(client, fields.host, fields.claims).lines() if client.trusted else client.lines(fields.host)
        if fields.upgrade:
            lines += b"Upgrade: %b\r\n" % b", ".join(tokens(fields.upgrade))
        return lines

    def __repr__(self) -> str:
        return f"<RouteTable {self.actions}>"
