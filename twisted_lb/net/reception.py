"""The reception of requests: what becomes of each on a client's connection before it is an exchange, whatever version of HTTP brought it."""

from collections.abc import Sequence
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.outcome import Refusal, refusal_of
from twisted_lb.core.running import Running
from twisted_lb.net.client_connection import ClientConnection
from twisted_lb.net.frontend import Frontend
from twisted_lb.net.local_reply import Claim, claim_of
from twisted_lb.net.own_answers import asked_host
from twisted_lb.net.route import Lead, Route, client_name
from twisted_lb.net.routing import Found
from twisted_lb.net.secured import Secured
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead


class Counted(Protocol):
    """Who a request is counted with for as long as it runs: its connection, or its stream."""

    def count(self, running: Sequence[Running], key: str) -> None:
        """Count it for the client with this key; there is room for it."""


@mypyc_attr(free_list_len=1)
class Reception:
    """What leads the requests of one connection, one after the other, and keeps what mostly is the same for the next one. `reply`: the local
    reply to the last one that it has turned away; `broken`: that one's message is not to be trusted, nor what comes behind it.
    """

    __slots__ = ("_agreed", "_connection", "_found", "_frontend", "_lead", "_secured", "broken", "reply")

    def __init__(
        self, frontend: Frontend, connection: ClientConnection, secured: Secured | None, agreed: Agreed | None
    ) -> None:
        self._frontend: Final = frontend
        self._connection: Final = connection
        self._secured: Final = secured
        self._agreed: Final = agreed
        self._lead: Lead | None = None
        self._found: Found | None = None
        self.reply: tuple[ResponseHead, bytes] | None = None
        self.broken: bool = False

    def lead(self, head: RequestHead, counted: Counted) -> Lead | None:
        """The route of a request, and what follows from that; None when it is turned away."""
        frontend, secured = self._frontend, self._secured
        if secured is not None and not secured.serves_all(frontend.serving) and not self._serves(head, secured):
            return None
        route = frontend.straight
        if route is None:
            route = self._find_route(head, counted)
            if route is None:
                return None
        fields = head.fields
        if fields.max_forwards == 0 and head.goes_no_further:
            self._answer(frontend.answer_finally(head, self.claim(head), route))
            return None
        framing = fields.framing
        if framing > 0 and not route.takes(framing):
            refusal, detail = Refusal.BODY_TOO_LARGE, "Content-Length is beyond the limit"
            self._break(frontend.refuse(refusal, detail, self.claim(head), route))
            return None
        lead, client = self._lead, self._connection.client
        if lead is None or fields is not lead.fields or route is not lead.route or client is not lead.client:
            lead = self._lead = frontend.lead(fields, client, route)
        return lead

    def _serves(self, head: RequestHead, secured: Secured) -> bool:
        """Whether the connection was let in by the policy of the host that a request names (RFC 9110 15.5.20). What names none is of the
        policy of all other hosts.
        """
        host = asked_host(head)
        if secured.serves(host.decode("ascii", "replace"), self._frontend.serving):
            return True
        whose = f"host {host.decode('ascii', 'backslashreplace')}" if host else "what names no host"
        detail = f"{whose} is of another TLS policy than the connection"
        self._answer(self._frontend.refuse(Refusal.MISDIRECTED, detail, self.claim(head)))
        return False

    def _find_route(self, head: RequestHead, counted: Counted) -> Route | None:
        """Find the route of a request that is admitted to one. The same head on the same connection is not looked at again."""
        frontend, connection = self._frontend, self._connection
        if frontend.challenges is not None:
            reply = frontend.challenges.answer(head)
            if reply is not None:
                frontend.challenged(self.claim(head), reply)
                self._answer(reply)
                return None
        found = self._found
        if found is None or head is not found.head or found.table is not frontend.table:
            try:
                found = self._found = frontend.table.find(head, connection.client)
            except BadMessage as bad:
                self._break(frontend.refuse(refusal_of(bad.status), bad.reason, self.claim(head)))
                return None
        turned_away = frontend.turn_away(found, connection.client, connection.peer_port)
        if turned_away is not None:
            if found.flaw is None:
                self._answer(turned_away)
            else:
                self._break(turned_away)
            return None
        action, admission = found.action, found.admission
        assert action is not None
        if admission is not None and admission.running:
            counted.count(admission.running, found.client_key)
        bound = connection.bound
        if bound is None or bound.proxied:
            return action.route(found.split_key)
        return action.route_of(bound, found.split_key)

    def claim(self, head: RequestHead) -> Claim:
        """The claim of a request that gets no exchange."""
        connection = self._connection
        claim = claim_of(head, client_name(connection.client, head.fields), connection.client, connection.peer_port)
        claim.agreed = self._agreed
        return claim

    def claim_of_none(self, start: bytes) -> Claim:
        """The claim of what is no request; it starts like this."""
        connection = self._connection
        claim = Claim(connection.client.name, start).over(connection.client, connection.peer_port)
        claim.agreed = self._agreed
        return claim

    def refuse_one_more(self, head: RequestHead, route: Route) -> tuple[ResponseHead, bytes]:
        """Refuse a request of a client behind a trusted proxy that has as many as it may."""
        detail = "too many requests of one client at a time"
        return self._frontend.refuse(Refusal.RATE_LIMITED, detail, self.claim(head), route)

    def _answer(self, reply: tuple[ResponseHead, bytes]) -> None:
        self.reply = reply
        self.broken = False

    def _break(self, reply: tuple[ResponseHead, bytes]) -> None:
        self.reply = reply
        self.broken = True
