"""A route: a rule that leads requests to a pool, with everything that holds for the exchanges it leads."""

from typing import Final

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.ask import ANY, USUAL, Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.flow import Flow
from twisted_lb.core.gate import client_key
from twisted_lb.core.outcome import CONSEQUENCE, Outcome
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.local_reply import accept_of, grpc_reply, local_reply, safe_id
from twisted_lb.net.own_answers import OwnAnswer
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import RouteRules
from twisted_lb.wire.cookies import without_cookie
from twisted_lb.wire.edits import HSTS, Words
from twisted_lb.wire.fields import without
from twisted_lb.wire.grammar import CRLF
from twisted_lb.wire.grpc import is_grpc
from twisted_lb.wire.origin import Client, Origin
from twisted_lb.wire.paths import matching_host
from twisted_lb.wire.request import RequestFields, RequestHead
from twisted_lb.wire.response import ResponseHead
from twisted_lb.wire.rewrite import upstream_head, upstream_tail, with_host, with_lines

_PREFIX: Final = b"x-forwarded-prefix"
# The field that tells a mirrored request from its original: it names the pool that the original went to.
MIRRORED: Final = b"x-mirrored:"


# Not acyclic: a route leads to all there is, and a frontend keeps its last lead.
class Lead:
    """A lead of requests to a route: the protocols they may switch to (`upgrade`), and their upstream head. A pure
    function of header block, client and route, so that it may be kept for as long as these stay. `flow` is where the requests
    are counted.
    """

    __slots__ = (
        "_answer", "_ask", "_asked_of", "_edited", "_may_switch", "_mirror", "_tail", "_words", "client", "fields", "flow", "last_head", "last_lines",
        "route", "upgrade",
    )  # fmt: skip

    def __init__(self, fields: RequestFields, client: Client, route: "Route", flow: Flow, *, may_switch: bool) -> None:
        self.fields: Final = fields
        self.client: Final = client
        self.route: Final = route
        self.flow: Final = flow
        self.upgrade: Final = route.rules.allowed_upgrade(fields) if may_switch else b""
        self._may_switch: Final = may_switch
        self._words: Words | None = None
        tail = upstream_tail(fields, client, route.rules.forwarding, self.upgrade)
        self._tail: Final = self._edited_tail(tail) if route.rules.edits_head else tail
        # The last upstream head, and the lines it was made of: those of the next request are mostly the same object.
        self.last_lines: bytes | None = None
        self.last_head: bytes = b""
        # What was asked of a policy by key last, and of which lines or target that is a function.
        self._ask: Ask | None = None
        self._asked_of: bytes = b""
        # The same of an answer: its head, and what became of it.
        self._answer: ResponseHead | None = None
        self._edited: ResponseHead | None = None
        self._mirror: Lead | None = None

    def upstream_head(self, lines: bytes) -> bytes:
        """The request head for a backend behind its first line, of a request with these lines."""
        if lines is not self.last_lines:
            self.last_lines = lines
            self.last_head = upstream_head(
                self._edited_lines(lines) if self.route.rules.edits_head else lines, self._tail
            )
        return self.last_head

    def ask(self, head: RequestHead) -> Ask:
        """What a request asks of its pool: its key, where the policy goes by keys, its cost, where not all are as much work,
        where it waits, if it has to, and what binds it to a backend (affinity).
        """
        cluster = self.route.cluster
        bonds, asked = cluster.bonds, self._unbound(head)
        if bonds is None:
            return asked
        address = self.client_name() if bonds.by_client else ""
        return bonds.ask(asked, told_lines(head, self.client), address, cluster.clock.now, cluster.wall_now())

    def _unbound(self, head: RequestHead) -> Ask:
        """The same, whatever binds it."""
        route = self.route
        rules, cluster = route.rules, route.cluster
        cost, queue = rules.cost, cluster.queueing
        keyed = self._keyed(head) if cluster.pool.keyed else ANY
        if cost is None and rules.urgency == USUAL and not queue.tells_apart:
            return keyed
        lines = told_lines(head, self.client)
        costed = ANY if cost is None else cost.ask(head, lines)
        urgency = rules.urgency if queue.urgent is None else queue.urgent.urgency(lines, rules.urgency)
        lane = 0 if queue.fair is None else queue.fair.ask(head.target, lines, self.client_name()).key
        if not lane and urgency == USUAL:
            return costed if keyed is ANY else Ask(keyed.key, costed.cost, by=keyed.by)
        return Ask(keyed.key, costed.cost, by=keyed.by, lane=lane, urgency=urgency)

    def _keyed(self, head: RequestHead) -> Ask:
        """The key of a request, mostly the same as the last one on its connection."""
        key = self.route.rules.key
        kind = key.kind
        of_lines = kind is RateKey.HEADER or kind is RateKey.COOKIE
        part = b"" if kind is RateKey.CLIENT else head.lines if of_lines else head.target
        ask = self._ask
        if ask is None or (part is not self._asked_of and part != self._asked_of):
            self._asked_of = part
            lines = told_lines(head, self.client) if of_lines else b""
            ask = self._ask = key.ask(head.target, lines, self.client_name())
        return ask

    def _edited_lines(self, lines: bytes) -> bytes:
        rules = self.route.rules
        for name in rules.hidden_cookies:
            lines = without_cookie(lines, name)
        return rules.request_edits.kept(lines if rules.host is None else without(lines, b"host"))

    def _edited_tail(self, tail: bytes) -> bytes:
        rules = self.route.rules
        tail = rules.request_edits.kept(tail)
        if rules.path_edit is not None:
            tail = without(tail, _PREFIX)  # told by `fitted`
        lines = rules.request_edits.constant(self.words()) if self.fields.has_host else b""
        if rules.host:
            lines = b"Host: " + rules.host + CRLF + lines
        return with_lines(tail, lines)

    def words(self, request_id: bytes = b"", backend: str = "", authority: bytes = b"") -> Words:
        """What placeholders stand for: in every request, or, where more is known of one, in that."""
        words = self._words
        if words is None:
            host = matching_host(self.fields.host)
            pool = self.route.cluster.name.encode("ascii", "replace")
            words = self._words = Words(client=self.client_name().encode("ascii", "replace"), host=host, pool=pool)
        if not (request_id or backend or authority):
            return words
        return Words(
            client=words.client,
            host=words.host or matching_host(authority),
            pool=words.pool,
            request_id=request_id,
            backend=backend.encode("ascii", "replace"),
        )

    def fitted(self, head: RequestHead, upstream_head: bytes, words: Words, authority: bytes) -> bytes:
        """The whole head, first line included, of a request for one backend: what differs from one attempt to the next is
        put in. `authority` is the backend's own, for a request without Host or a route that wants it.
        """
        rules = self.route.rules
        edits = rules.request_edits
        lines = edits.varying(words)
        if not self.fields.has_host:
            lines = edits.constant(words) + lines  # of which the host was not known
        line = head.line
        edit = rules.path_edit
        if edit is not None:
            line = b"%b %b HTTP/1.1\r\n" % (head.method, edit.target(head.target))
            prefix = _prefix_in(self.fields.claimed) if self.client.trusted else b""
            if edit.cuts(head.target):
                prefix += edit.cut_prefix
            if prefix:
                lines += b"X-Forwarded-Prefix: " + prefix + CRLF
        if lines:
            upstream_head = with_lines(upstream_head, lines)
        if rules.host == b"" or (not self.fields.has_host and not rules.host):
            # RFC 9112 3.2.2: an absolute target stands for the Host that a client of HTTP/1.0 need not send.
            upstream_head = with_host(upstream_head, authority if rules.host == b"" else head.authority or authority)
        return line + upstream_head

    def answer_head(self, head: ResponseHead, words: Words) -> ResponseHead:
        """The head of an answer with what the route edits in it, and with its lines. What does not differ from one request to the
        next is kept for as long as the answer is the same.
        """
        rules = self.route.rules
        edits = rules.response_edits
        # Without a Host it is each request that says which host is asked.
        if head is not self._answer or self._edited is None or not self.fields.has_host:
            self._answer = head
            lines = edits.kept(head.lines) + edits.constant(words)
            if rules.hsts and head.status >= 200 and self.tls:
                lines = without(lines, HSTS) + rules.hsts
            self._edited = head.with_lines(lines + rules.response_lines)
        return self._edited

    def to(self, route: "Route", flow: Flow) -> "Lead":
        """The lead of the same requests to another route, where they are counted in this flow."""
        return Lead(self.fields, self.client, route, flow, may_switch=self._may_switch)

    @property
    def tls(self) -> bool:
        """Whether the client came by https, to us or to its trusted proxy."""
        return came_by_https(self.client, self.fields)

    @property
    def mirror(self) -> "Lead":
        """The lead of the same requests to where they are mirrored; only of a route that has such a place."""
        lead = self._mirror
        if lead is None:
            route = self.route.mirror
            assert route is not None
            lead = self._mirror = Lead(self.fields, self.client, route, self.flow, may_switch=False)
        return lead

    def mirrored(self, head: RequestHead, backend: Backend, request_id: bytes, source: str) -> bytes:
        """The whole head, first line included, of a request that is mirrored from the pool `source` to this backend: as that of its
        original, and a field that says what it is.
        """
        rules, fields = self.route.rules, self.fields
        lines = b"X-Mirrored: %b\r\n" % source.encode("ascii")
        if rules.make_request_id and not fields.request_id:
            lines += b"X-Request-ID: %b\r\n" % request_id
        upstream_head = with_lines(self.upstream_head(head.lines), lines)
        if not rules.fits_backend and fields.has_host:
            return head.line + upstream_head
        wanted = safe_id(request_id) if rules.request_edits.wants_id else b""
        return self.fitted(
            head, upstream_head, self.words(wanted, backend.name, head.authority), authority_of(backend.address)
        )

    def blaming(self, outcome: Outcome) -> str:
        """Whose request a backend has failed, as limits know clients: an address, of IPv6 its /64. All who come by a unix socket,
        and are not named by a trusted proxy, are one. Empty where this outcome is not counted by client.
        """
        if not CONSEQUENCE[outcome].in_a_row:
            return ""
        name = self.client_name()
        return client_key(name) or name

    def client_name(self) -> str:
        """The address that the requests come from: that of the connection, or whom its trusted proxy names."""
        return client_name(self.client, self.fields)


def authority_of(address: Address) -> bytes:
    """What stands as Host for a backend at this address, where its own name is wanted."""
    return address.authority.encode("ascii", "replace") if isinstance(address, TcpAddress) else b"localhost"


def told_lines(head: RequestHead, client: Client) -> bytes:
    """The field lines of a request, with what its trusted proxy claims."""
    return head.lines + head.fields.claimed if client.trusted and head.fields.claimed else head.lines


def client_name(client: Client, fields: RequestFields) -> str:
    """The address that requests with these fields come from: that of the connection, or whom its trusted proxy names."""
    if client.trusted and fields.claims is not None:
        return Origin(client, fields.host, fields.claims).address.decode("ascii")
    return client.name


def came_by_https(client: Client, fields: RequestFields) -> bool:
    """Whether a request came by https, to us or to its trusted proxy."""
    if client.trusted and fields.claims is not None:
        return Origin(client, fields.host, fields.claims).scheme == b"https"
    return client.scheme == b"https"


def _prefix_in(claimed: bytes) -> bytes:
    """The prefix that a trusted proxy has cut (X-Forwarded-Prefix): ours comes behind it. Nothing where it is no path."""
    for line in claimed.split(CRLF):
        name, _, value = line.partition(b":")
        if name.lower() == _PREFIX:
            prefix = value.strip(b" \t").rstrip(b"/")
            return prefix if prefix[:1] == b"/" else b""
    return b""


class Fallback:
    """Where requests go while a pool has nobody: on another route, or to an answer of our own."""

    __slots__ = ("answer", "route")

    def __init__(self, route: "Route | None" = None, answer: OwnAnswer | None = None) -> None:
        self.route: Final = route
        self.answer: Final = answer


class Route:
    """A route of one generation of the configuration to one of its pools. It never changes: a new generation has new ones, and
    an exchange keeps the one it was led by, or fell back to.
    """

    def __init__(
        self,
        name: str,
        rules: RouteRules,
        cluster: Cluster,
        runtime: Runtime,
        fallback: Fallback | None = None,
        mirror: "Route | None" = None,
    ) -> None:
        self.name: Final = name
        self.rules: Final = rules
        self.cluster: Final = cluster
        self.fallback: Final = fallback
        self.mirror: Final = mirror  # where its requests are sent too
        self._runtime: Final = runtime

    def takes(self, body_bytes: int) -> bool:
        """Whether a request body of this size, or larger, is still within the route's limit."""
        return self.rules.body_bytes < 0 or body_bytes <= self.rules.body_bytes

    def local_reply(
        self, status: int, lines: bytes, request_id: bytes, retry_after_s: int = 0
    ) -> tuple[ResponseHead, bytes]:
        """Head and body of a local reply to a request with these field lines and this id."""
        request_id = safe_id(request_id) or self._runtime.new_id()
        if is_grpc(lines):
            return grpc_reply(status, request_id, retry_after_s)
        return local_reply(
            status,
            request_id,
            accept_of(lines),
            self.rules.pages.get(status),
            retry_after_s or (self.rules.retry_after_s if status == 503 else 0),
        )

    def __repr__(self) -> str:
        return f"<Route {self.name} to {self.cluster.name}>"
