"""Routes of a listener, in their order: which one has a request, what it does with it, and what that is asked of it before."""

from collections.abc import Mapping, Sequence
from typing import Final

from twisted_lb.core.ask import key_of
from twisted_lb.core.gate import client_key
from twisted_lb.core.routing import Router
from twisted_lb.core.split import Split, StickySplit
from twisted_lb.net.admission import Admission, Denial
from twisted_lb.net.local_reply import Claim, accept_of, local_reply, safe_id
from twisted_lb.net.own_answers import OwnAnswer, asked_host
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.route import Route, client_name
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import RouteRules
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.origin import Client
from twisted_lb.wire.paths import escaped_slash, matching_path, unresolved_path
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead


class Action:
    """What becomes of the requests of one route: they go to its pool, or to one of several, or get an answer of our own, or none
    at all (`forbidden`).

    `routes` are those that it leads to, by pool; `split` chooses among several, for requests with the same `split_by` always the
    same one. `plain`: all go to one pool, and nothing is looked at before.
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
        self.plain: Final = self.only is not None and rules.path_edit is None and not rules.refuse_escaped_slash
        self._runtime: Final = runtime

    def route(self, split_key: int) -> Route:
        """The route of the next request that is led to a pool; each look is a turn of the split."""
        only = self.only
        if only is not None:
            return only
        split = self.split
        assert split is not None
        return self.routes[split.take(split_key)]

    def split_key(self, head: RequestHead, address: str) -> int:
        """By what a request finds its pool in a split that stays the same; who has no such header or cookie, by its address."""
        key = self.split_by
        if key is None:
            return 0
        value = key.value(head)
        return key_of(address.encode("ascii", "replace") if value is None else b"=" + value)

    def check(self, head: RequestHead) -> None:
        """BadMessage (400) where the path of a request is none that the route takes."""
        rules = self.rules
        if rules.refuse_escaped_slash and escaped_slash(head.target):
            raise BadMessage(400, "escaped slash in the path")
        if rules.path_edit is not None:
            rules.path_edit.target(head.target)

    def local_reply(
        self, status: int, lines: bytes, request_id: bytes, retry_after_s: int = 0
    ) -> tuple[ResponseHead, bytes]:
        """Head and body of a local reply to a request with these field lines and this id."""
        request_id = safe_id(request_id) or self._runtime.new_id()
        return local_reply(status, request_id, accept_of(lines), self.rules.pages.get(status), retry_after_s)

    def __repr__(self) -> str:
        where = "nowhere" if self.forbidden else "an answer" if self.answer is not None else ", ".join(self.routes)
        return f"<Action of {self.name}: to {where}>"


class Found:
    """What is known of a request before it goes on: its route (None: no route), its client and the keys of limits. A pure function
    of head, client and table: the next request of a connection that is the same to the byte has the same.
    """

    __slots__ = ("action", "address", "admission", "client_key", "head", "keys", "split_key", "table")

    def __init__(
        self, table: "RouteTable", head: RequestHead, address: str, action: Action | None, admission: Admission | None
    ) -> None:
        self.table: Final = table
        self.head: Final = head
        self.address: Final = address
        self.action: Final = action
        self.admission: Final = admission
        self.split_key: Final = 0 if action is None else action.split_key(head, address)
        self.client_key: Final = client_key(address) if admission is not None else ""
        self.keys: Final = [] if admission is None else admission.keys(head, self.client_key)

    def claim(self, peer: str) -> Claim:
        """What is to be said of the request in a local reply, over the connection of this peer."""
        head = self.head
        return Claim(peer, head.line, head.lines, head.fields.request_id, self.address)

    def denied(self, now: float) -> Denial | None:
        """Why the request does not go on; None where it does."""
        admission = self.admission
        return None if admission is None else admission.denies(self.address, self.client_key, self.keys, now)


class RouteTable:
    """The routes of a listener, in their order; the first that matches has a request. It never changes.

    `admissions` are what is asked before, by route; None: nothing. `unrouted` is what is asked of requests without a route.
    `straight`: the one route to a pool that all requests have, and nothing is to be asked; then nobody need look.
    """

    def __init__(
        self,
        router: Router,
        actions: Sequence[Action],
        admissions: Sequence[Admission | None],
        unrouted: Admission | None = None,
    ) -> None:
        self.router: Final = router
        self.actions: Final = list(actions)
        self._admissions: Final = list(admissions)
        self._unrouted: Final = unrouted
        self.straight: Final[Route | None] = (
            actions[0].only if router.sole and actions[0].plain and admissions[0] is None else None
        )

    def find(self, head: RequestHead, client: Client) -> Found:
        """Find the route of a request; BadMessage (400) where its path is none that could be matched beyond doubt.

        Paths are looked at, and refused, where any route that can be reached goes by them: a spelling that one route cannot judge
        must not get to the next. Elsewhere they pass as they are.
        """
        router = self.router
        target = head.target
        address = client_name(client, head.fields)
        index = router.find(
            asked_host(head),
            matching_path(target) if router.looks_at_path else b"",
            head.method,
            target.partition(b"?")[2] if router.looks_at_query else b"",
            head.lines,
            address,
            unresolved_path(target) if router.looks_at_path else b"",
        )
        if index < 0:
            return Found(self, head, address, None, self._unrouted)
        action = self.actions[index]
        action.check(head)
        return Found(self, head, address, action, self._admissions[index])

    def __repr__(self) -> str:
        return f"<RouteTable {self.actions}>"
