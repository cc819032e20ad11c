"""A frontend (HAProxy's word): everything behind one listener that all of its clients share."""

from random import Random
from typing import Final, Protocol

from twisted_lb.core.backend import Backend
from twisted_lb.core.flow import Flow, Flows
from twisted_lb.core.gate import SPARE_AFTER_S, Gate, spare_first
from twisted_lb.core.handshake_counts import HandshakeCounts
from twisted_lb.core.http2_counts import Http2Counts
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import TARGET_BYTES, WORD_BYTES, Note, Notes
from twisted_lb.core.outcome import Outcome, Refusal, Reply, refusal_of
from twisted_lb.core.record import Observers, Record
from twisted_lb.core.suppression import Suppression
from twisted_lb.net.challenges import Challenges
from twisted_lb.net.handshakes import Handshakes
from twisted_lb.net.local_reply import (
    TEXT,
    Claim,
    ErrorPage,
    accept_of,
    final_answer,
    grpc_reply,
    local_reply,
    safe_id,
)
from twisted_lb.net.own_answers import answer_for, asked_host
from twisted_lb.net.route import Lead, Route, came_by_https
from twisted_lb.net.routing import Action, Found, RouteTable
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.secured import Serving
from twisted_lb.net.session_table import SessionTable
from twisted_lb.net.settings import ArrivalRules, ClientRules
from twisted_lb.wire.grammar import CRLF, BadMessage
from twisted_lb.wire.grpc import is_grpc
from twisted_lb.wire.http1_reader import SharedFields
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import RequestFields, RequestHead
from twisted_lb.wire.response import ResponseHead

# How often all clients may be looked at for one that makes room: in a crowd a look takes a millisecond.
_LOOK_S: Final = 0.1
# So much of a host is said in a log: the longest name (RFC 1035 2.3.4).
_LONGEST_HOST: Final = 253
# What many clients do alike is said so often, at most.
_SAID_EVERY_S: Final = 1.0
# Parts of clients that are told one thing at a time: a prime, as places in memory are multiples of something.
_PARTS: Final = 997
# The places of refusals in what is counted.
REASONS: Final = tuple(Refusal)
# Why clients are cut at the end of a stop.
STOPS: Final = "the balancer stops"
_PLAIN_ON_TLS: Final = ErrorPage(
    TEXT, b"400 Bad Request\nThis port speaks HTTPS, and the request came as plain HTTP.\n"
)


class FrontendClient(Protocol):
    """A client of a frontend: a connection of ours, or a request that a resource brought."""

    def drain(self) -> None:
        """Drain: finish what has begun; each response from now on ends its connection."""

    def tell_good_bye(self) -> None:
        """Tell a client of a tunnel that the time for finishing is nearly over, where its protocol has words for it."""

    def kill(self, why: str = STOPS) -> None:
        """End the client: the time for finishing is over, `why` says whose. What it had under way ends as CANCELLED, by a
        local reply where nothing of an answer had been relayed, and else by a cut.
        """

    def at(self) -> Backend | None:
        """The backend that its request is at, or that its tunnel leads to; None where there is none."""

    def unsent(self) -> bool:
        """Whether its request is still to be sent to the backend that it is at."""

    def note(self) -> Note | None:
        """What is known so far of its request that is under way; None when there is none."""

    def relayed(self) -> bool:
        """Whether it has switched protocols: a tunnel."""

    def client_key(self) -> str:
        """By what the connections of one client are told from those of others; "" for what is no connection of ours."""

    def idle_since(self) -> float:
        """The moment from which on the connection is just kept alive (keep-alive), in monotonic seconds; NEVER if it is not."""

    def retire(self) -> None:
        """Close the connection, which is just kept alive."""


class Frontend:
    """A frontend: one listener's rules and state. `draining`: every response from now on ends its connection.

    `tcp`: its connections are carried as they are, by `sessions`, which some have beside requests too, by the name of their ClientHello.

    `client_rules` and, by `go_by`, `table` may be replaced while it runs: a connection goes by the new ones from its next
    request on; so may `observers`, and `serving`, what new connections are served TLS with. `straight`: the one route that all requests have, None where one is to be found for each. `challenges` are answered before all routes.
    `gate` counts the clients' connections, `flows` requests by route and pool, and `refusals` those that were refused, by `REASONS`,
    since it is there. `exchanges` are those that run, on whatever client side, and
    `tunnels` those of them that have switched protocols; `observers` are told how they end, and of what was refused before
    there was one. `notes` keeps what somebody may ask for later.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        rules: ClientRules,
        table: RouteTable,
        gate: Gate,
        observers: Observers,
        notes: Notes,
    ) -> None:
        self.name: Final = name
        self.runtime: Final = runtime
        self.clock: Final = runtime.clock
        self.deadlines: Final = runtime.deadlines
        self.client_rules: ClientRules = rules
        self.table: RouteTable = table
        self.challenges: Challenges | None = None
        self.straight: Route | None = table.straight
        self.gate: Final = gate
        self.observers: Observers = observers
        self.notes: Final = notes
        # What comes before the first request: see `Arrival`. `serving`: the certificates; None: it comes in the clear.
        self.arrival_rules: ArrivalRules = ArrivalRules()
        self.serving: Serving | None = None
        self.tcp: bool = False
        # Which versions of HTTP its clients may speak.
        self.http1: bool = True
        self.http2: bool = False
        self.http2_counts: Final = Http2Counts()
        self.sessions: SessionTable | None = None
        # Whether connections have come of which more is known than where they come from: over TLS, or told by a PROXY header.
        self.agreeing: bool = False
        self.handshakes: Final = Handshakes(runtime.hellos, runtime.later)
        self.handshaken: Final = HandshakeCounts()
        self.draining: bool = False
        self.said: Final = Suppression(_SAID_EVERY_S)
        # An ordered set: at a drain, and at its end, whoever came first hears first.
        self.clients: dict[FrontendClient, None] = {}
        self.exchanges: int = 0
        self.tunnels: int = 0
        self.unrouted: int = 0  # requests that no route took
        self.flows: Final = Flows(name)
        self.refusals: Final[list[int]] = [0] * len(REASONS)
        self.shared_fields: Final = SharedFields()
        # Memories of pure functions: many new connections come from one address, with the same few fields.
        self._last_address: str = ""
        self._last_port: str = ""
        self._last_rules: ClientRules | None = None
        self._last_client: Client | None = None
        self._last_lead: Lead | None = None
        self._rng: Random | None = None
        # Who makes room at the limit of connections, the next one last; found at that moment.
        self._spare: list[FrontendClient] = []
        self._looked_at: float = -NEVER

    def make_room(self) -> bool:
        """Close a connection that has been idle for `SPARE_AFTER_S` between requests (keep-alive): somebody waits at the
        limit of connections. Of the client with most of them first. False when there is none.

        All connections are looked at (O(n log n)), at most every `_LOOK_S`; who was found then is asked one by one.
        """
        now = self.clock.read()
        spare = self._spare
        if not spare and now - self._looked_at >= _LOOK_S:
            self._looked_at = now
            clients = list(self.clients)
            order = spare_first([(one.client_key(), one.idle_since()) for one in clients], now - SPARE_AFTER_S)
            spare = self._spare = [clients[index] for index in reversed(order)]
        while spare:
            client = spare.pop()
            if client.idle_since() <= now - SPARE_AFTER_S:
                client.retire()
                return True
        return False

    def client_at(self, address: str, scheme: bytes, port: str) -> Client:
        """The client at this address, which came to this port; mostly it is the last one, as behind another proxy."""
        last = self._last_client
        if (
            last is None
            or address != self._last_address
            or port != self._last_port
            or self.client_rules is not self._last_rules
        ):
            rules = self._last_rules = self.client_rules
            self._last_address, self._last_port = address, port
            last = self._last_client = rules.client(address, scheme, port.encode("ascii"))
        elif last.scheme != scheme:
            return self.client_rules.client(address, scheme, port.encode("ascii"))
        return last

    def lead(self, fields: RequestFields, client: Client, route: Route) -> Lead:
        """The lead of a request to a route, mostly that of the last new connection."""
        last = self._last_lead
        if last is None or fields is not last.fields or client is not last.client or route is not last.route:
            flow = self.flow(route) if last is None or route is not last.route else last.flow
            last = self._last_lead = Lead(fields, client, route, flow, may_switch=True)
        return last

    def lead_unswitched(self, fields: RequestFields, client: Client, route: Route) -> Lead:
        """The lead of a request that cannot switch protocols."""
        return Lead(fields, client, route, self.flow(route), may_switch=False)

    def flow(self, route: Route) -> Flow:
        """Where the requests of a route to its pool are counted."""
        return self.flows.of(route.name, route.cluster.name)

    def count(self, method: bytes, status: int, route: Route | Action | None, bytes_down: int = 0) -> None:
        """Count a request that was answered without an exchange."""
        pool = route.cluster.name if isinstance(route, Route) else ""
        self.flows.of("" if route is None else route.name, pool).answered(method, status, bytes_down)

    def refused(self, refusal: Refusal) -> None:
        """Count a refusal."""
        self.refusals[REASONS.index(refusal)] += 1

    def go_by(self, table: RouteTable) -> None:
        """Go by these routes from now on."""
        self.table = table
        self.straight = table.straight if self.challenges is None else None

    def challenged(self, claim: Claim, reply: tuple[ResponseHead, bytes]) -> None:
        """Count the answer to a challenge of ACME, which comes before all routes and rules, and tell of it."""
        self._told(claim, Reply.ANSWER, reply, None)

    def turn_away(self, found: Found, client: Client, peer_port: int) -> tuple[ResponseHead, bytes] | None:
        """The local reply to a request that goes to no backend: it is not admitted, or its route answers by itself. None where
        it goes on; then its limits are charged.
        """
        denial = found.denied(self.clock.now)
        action = found.action
        if denial is not None:
            detail = self._with_host(denial.detail, found.head)
            return self.refuse(denial.refusal, detail, found.claim(client, peer_port), action, denial.retry_after_s)
        if action is None:
            self.unrouted += 1
            whose = "" if self.name == "default" else f" of listener {self.name}"
            detail = self._with_host(f"no route{whose} takes it", found.head)
            return self.refuse(Refusal.NO_ROUTE, detail, found.claim(client, peer_port))
        if action.forbidden:
            detail = self._with_host("its route denies all", found.head)
            return self.refuse(Refusal.FORBIDDEN, detail, found.claim(client, peer_port), action)
        if found.flaw is not None:
            detail = self._with_host(found.flaw.reason, found.head)
            return self.refuse(refusal_of(found.flaw.status), detail, found.claim(client, peer_port), action)
        answer = action.own_answer(client, found.head.fields)
        if answer is None:
            return None
        claim = found.claim(client, peer_port)
        claim.request_id = safe_id(claim.request_id) or self.runtime.new_id()
        try:
            https = came_by_https(client, found.head.fields)
            reply = answer_for(answer, found.head, action.rules, found.address, claim.request_id, https=https)
        except BadMessage as bad:
            return self.refuse(refusal_of(bad.status), self._with_host(bad.reason, found.head), claim, action)
        self._told(claim, answer.kind, reply, action, self._with_host("", found.head))
        return reply

    def answer_finally(self, head: RequestHead, claim: Claim, route: Route) -> tuple[ResponseHead, bytes]:
        """The local reply to a request whose hops are used up (Max-Forwards): we are its final recipient."""
        reply = final_answer(head)
        self._told(claim, Reply.ANSWER, reply, route)
        return reply

    @property
    def by_name(self) -> bool:
        """Whether the way of a connection depends on the name in its ClientHello."""
        return self.sessions is not None and self.sessions.by_name

    def turn_session_away(self, refusal: Refusal, detail: str, claim: Claim, action: Action | None) -> None:
        """Count a session that goes to no pool, and tell of it."""
        self._tell(claim, refusal, 0, 0, action, detail)

    def _with_host(self, why: str, head: RequestHead) -> str:
        """Why a request goes to no backend, and the host that it asks, where somebody observes: mostly it is that one which
        nobody has thought of.
        """
        if not self.observers.anybody:
            return why
        host = asked_host(head)[:_LONGEST_HOST].decode("ascii", "backslashreplace")
        whom = f"host {host}" if host else "without a host"
        return f"{why}, {whom}" if why else whom

    def spread(self) -> float:
        """A factor between 0.9 and 1.1: what is bounded for all connections alike must not end for all at once."""
        if self._rng is None:
            self._rng = self.runtime.stream(f"clients {self.name}")
        return self._rng.uniform(0.9, 1.1)

    def local_reply(
        self, status: int, lines: bytes = b"", request_id: bytes = b"", retry_after_s: int = 0
    ) -> tuple[ResponseHead, bytes]:
        """Head and body of a local reply to what has no route: as a rule it is no request. `lines` and `request_id` are
        what is known of its fields.
        """
        request_id = safe_id(request_id) or self.runtime.new_id()
        if is_grpc(lines):
            return grpc_reply(status, request_id, retry_after_s)
        return local_reply(
            status,
            request_id,
            accept_of(lines),
            self.client_rules.pages.get(status),
            retry_after_s,
        )

    def plain_on_tls(self, claim: Claim) -> bytes:
        """The answer to plain HTTP on a port for TLS, as its bytes."""
        claim.request_id = self.runtime.new_id()
        reply = local_reply(Refusal.BAD_REQUEST.status, claim.request_id, page=_PLAIN_ON_TLS)
        self._told(claim, Refusal.BAD_REQUEST, reply, None, "plain HTTP on a port for TLS")
        head, body = reply
        return b"HTTP/1.1 " + head.line + CRLF + head.lines + b"Connection: close\r\n\r\n" + body

    def refuse(
        self,
        refusal: Refusal,
        detail: str,
        claim: Claim,
        route: Route | Action | None = None,
        retry_after_s: int = 0,
    ) -> tuple[ResponseHead, bytes]:
        """Refuse what gets no exchange: head and body of a local reply, of its route where it was led to one. `detail` is
        what is wrong with it; `retry_after_s`: in how many seconds it may be asked again, 0 where nobody knows.
        """
        claim.request_id = safe_id(claim.request_id) or self.runtime.new_id()
        owner = self if route is None else route
        reply = owner.local_reply(refusal.status, claim.lines, claim.request_id, retry_after_s)
        self._told(claim, refusal, reply, route, detail)
        return reply

    def _told(
        self,
        claim: Claim,
        why: Refusal | Outcome | Reply,
        reply: tuple[ResponseHead, bytes],
        route: Route | Action | None,
        detail: str = "",
    ) -> None:
        """Count a request that got this local reply, and tell of it."""
        head, body = reply
        self._tell(claim, why, head.status, 0 if claim.method == b"HEAD" else len(body), route, detail)

    def _tell(
        self,
        claim: Claim,
        why: Refusal | Outcome | Reply,
        status: int,
        sent_bytes: int,
        route: Route | Action | None,
        detail: str = "",
    ) -> None:
        """Count a request that got no exchange, and tell observers of it: a local reply with this status, 0 for none."""
        self.count(claim.method, status, route, sent_bytes)
        if isinstance(why, Refusal):
            self.refused(why)
        self._keep(claim, why, status, sent_bytes, route, detail)
        if not self.observers.anybody:
            return
        record = Record(self.clock.now)
        record.ended_at = self.clock.now
        record.client, record.peer = claim.client, claim.peer
        record.peer_port, record.scheme = claim.peer_port, claim.scheme
        record.method, record.target, record.request_id = claim.method, claim.target, claim.request_id
        record.version, record.host, record.fields = claim.version, claim.host, claim.lines
        record.listener, record.agreed = self.name, claim.agreed
        if route is not None:
            record.route = route.name
        if isinstance(route, Route):
            record.pool = route.cluster.name
        record.status = status
        record.response_bytes = sent_bytes
        record.local_reply = record.ended_by = why
        record.detail = detail
        self.observers.tell(record)

    def broken(self) -> list[str]:
        """Of what must be so the identities that do not hold; none, always: O(routes)."""
        found = []
        begun, ended = sum(one.begun for one in self.flows.all), sum(one.ended for one in self.flows.all)
        if begun != ended + self.exchanges:
            found.append(f"{begun} exchanges have begun, {ended} ended and {self.exchanges} run")
        if not 0 <= self.tunnels <= self.exchanges:
            found.append(f"{self.tunnels} of {self.exchanges} exchanges are tunnels")
        return [f"listener {self.name}: {one}" for one in found]

    def _keep(
        self,
        claim: Claim,
        why: Refusal | Outcome | Reply,
        status: int,
        sent_bytes: int,
        route: Route | Action | None,
        detail: str,
    ) -> None:
        """Keep a note of such a request."""
        note = Note()
        note.listener = self.name
        note.route = "" if route is None else route.name
        note.pool = route.cluster.name if isinstance(route, Route) else ""
        note.client = claim.client.encode("ascii", "replace")
        note.agreed = claim.agreed
        note.method = claim.method[:WORD_BYTES]
        note.target = claim.target[:TARGET_BYTES]
        note.request_id = safe_id(claim.request_id)
        note.status = status
        note.response_bytes = sent_bytes
        note.began = note.ended_at = self.clock.now
        note.head_at = NEVER
        note.waited_s = 0.0
        note.attempt = None
        note.story = None
        note.local_reply = note.ended_by = why
        note.detail = detail
        note.number = 0
        self.notes.add(note)

    @property
    def running(self) -> list[Note]:
        """Notes of the requests that are under way: O(clients)."""
        return [note for client in self.clients if (note := client.note()) is not None]

    def drain(self) -> None:
        """Graceful drain: finish what has begun, and begin nothing new on the connections that are here."""
        self.draining = True
        for client in list(self.clients):
            client.drain()

    def tell_good_bye(self, part: float = 1.0) -> None:
        """Tell such a part of the clients of tunnels that we go away, those that were told before among them; nobody is told twice."""
        most = int(part * _PARTS)
        for client in list(self.clients):
            # By its place in memory: as good as any chance, and the same at each call.
            if id(client) % _PARTS < most:
                client.tell_good_bye()

    def kill(self, why: str = STOPS) -> None:
        """Cut the clients off that have not finished."""
        for client in list(self.clients):
            client.kill(why)

    def cut_requests(self, why: str) -> None:
        """Cut the clients off that have not finished, but for those in tunnels."""
        for client in list(self.clients):
            if not client.relayed():
                client.kill(why)

    def unsent_at(self, backend: Backend) -> int:
        """How many requests are at this backend and have not been sent to it yet: O(clients)."""
        return sum(1 for client in self.clients if client.at() is backend and client.unsent())

    def cut_at(self, backend: Backend, why: str, *, tunnels: bool) -> None:
        """Cut the clients off whose requests are at this backend, and those whose tunnels lead there if `tunnels` is set:
        O(clients).
        """
        for client in list(self.clients):
            if client.at() is backend and (tunnels or not client.relayed()):
                client.kill(why)

    def cut_relayed_at(self, backend: Backend, why: str) -> int:
        """Cut the clients off whose tunnels lead to this backend, and no others; how many there were: O(clients)."""
        cut = [client for client in self.clients if client.relayed() and client.at() is backend]
        for client in cut:
            client.kill(why)
        return len(cut)

    def __repr__(self) -> str:
        state = "draining" if self.draining else "open"
        return f"<Frontend {self.name}: {state}, {len(self.clients)} clients, {self.exchanges} exchanges>"
