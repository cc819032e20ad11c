"""The rules of the data path, by their owner: a listener's, a route's, a pool's. No class reads those of two owners.

They are values, made by `plan.py` from one generation of the configuration, and replaced as a whole when it changes.
"""

from collections.abc import Mapping
from typing import Final

from twisted_lb.core.ask import USUAL
from twisted_lb.core.never import NEVER
from twisted_lb.core.rate_limits import RateKey
from twisted_lb.core.retry import IDEMPOTENT, RetryRules
from twisted_lb.net.greeting import server_name_of
from twisted_lb.net.local_reply import ErrorPage
from twisted_lb.net.path_edit import PathEdit
from twisted_lb.net.queueing import DeadlineField
from twisted_lb.net.request_cost import RequestCost
from twisted_lb.net.request_keys import RequestKey
from twisted_lb.net.tcp_keepalive import TcpKeepalive
from twisted_lb.wire.edits import NO_EDITS, FieldEdits
from twisted_lb.wire.fields import tokens
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.origin import AddressSet, Client, Trust
from twisted_lb.wire.request import RequestFields
from twisted_lb.wire.rewrite import Forwarding

_NOBODY: Final = Trust()
_CLIENT: Final = RequestKey(RateKey.CLIENT)


class ArrivalRules:
    """A listener's rules for what comes before the first request. `proxy`: whether a header of the PROXY protocol is looked for, from
    peers in `proxy_from` alone, None: from all; `proxy_only`: others are closed. `patience_s`: how long all of it may take.
    """

    def __init__(
        self,
        *,
        proxy: bool = False,
        proxy_only: bool = False,
        proxy_from: AddressSet | None = None,
        patience_s: float = 10.0,
    ) -> None:
        self.proxy: Final = proxy
        self.proxy_only: Final = proxy_only
        self.proxy_from: Final = proxy_from
        self.patience_s: Final = patience_s

    def speaks_for_others(self, address: str) -> bool:
        """Whether a peer at this address is to send a header of the PROXY protocol; one of a unix socket always is."""
        return self.proxy and (self.proxy_from is None or address == "unix" or self.proxy_from.covers(address))


class ClientRules:
    """A listener's rules, for its clients' connections: head limits, client timeouts, pace, trust. Times in seconds.

    A new client has `first_byte_s`, or `idle_s` where that is less, to say
    anything, then `head_s` for the rest of its head; a kept one `idle_s` between requests.

    `client_bytes_per_s` is the slowest a client may send a body or take an answer, on average (slowloris, slow read; 0: no
    bound); `taking_idle_s` how long it may take nothing at all. They apply from a connection's next request on.

    A connection ends with its answer number `most_requests`, or the first one at the age of `max_age_s`, both give or take a
    tenth; 0: with none.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        first_byte_s: float,
        head_s: float,
        body_idle_s: float,
        idle_s: float,
        taking_idle_s: float,
        client_bytes_per_s: int = 0,
        max_age_s: float = 0.0,
        most_requests: int = 0,
        trust: Trust = _NOBODY,
        finish_half_closed: bool = False,
        pages: Mapping[int, ErrorPage],
    ) -> None:
        self.limits: Final = limits
        self.first_byte_s: Final = first_byte_s
        self.head_s: Final = head_s
        self.body_idle_s: Final = body_idle_s
        self.idle_s: Final = idle_s
        self.taking_idle_s: Final = taking_idle_s
        # By how much each byte of a body moves the body's deadline; all of it where there is no bound.
        self.seconds_per_byte: Final = 1 / client_bytes_per_s if client_bytes_per_s else body_idle_s
        # Slow read: what a client has to take of its response within taking_idle_s.
        self.min_bytes_per_idle: Final = max(1, int(client_bytes_per_s * taking_idle_s))
        self.max_age_s: Final = max_age_s if max_age_s > 0 else NEVER
        self.most_requests: Final = most_requests
        # Whether connections last for as long as their clients want.
        self.lasting: Final = max_age_s <= 0 and not most_requests
        self.trust: Final = trust
        self.finish_half_closed: Final = finish_half_closed
        self.pages: Final = pages
        self._client_bytes_per_s: Final = client_bytes_per_s

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {
            "limits": self.limits,
            "first_byte_s": self.first_byte_s,
            "head_s": self.head_s,
            "body_idle_s": self.body_idle_s,
            "idle_s": self.idle_s,
            "taking_idle_s": self.taking_idle_s,
            "client_bytes_per_s": self._client_bytes_per_s,
            "max_age_s": 0.0 if self.max_age_s == NEVER else self.max_age_s,
            "most_requests": self.most_requests,
            "trust": self.trust,
            "finish_half_closed": self.finish_half_closed,
            "pages": self.pages,
        }

    def last(self, requests: int, age_s: float, spread: float) -> bool:
        """Whether the answer to its request of this number is the last one on a connection of this age; `spread` is a factor for
        both bounds.
        """
        if self.most_requests and requests >= max(round(self.most_requests * spread), 1):
            return True
        return age_s >= self.max_age_s * spread

    def client(self, address: str, scheme: bytes, port: bytes) -> Client:
        """The client of a connection, and whether it is a trusted proxy."""
        trust = self.trust
        plain = _plain_address(address).encode("ascii", "replace")
        return Client(plain, scheme, port, trusted=trust.covers(address), trust=trust)


def _plain_address(address: str) -> str:
    """The address without its IPv4-mapped prefix: on a dual-stack listener 1.2.3.4 comes as ::ffff:1.2.3.4."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


class RouteRules:
    """A route's rules, for the exchanges that it leads: timeouts in seconds, retries, sizes in bytes, what is forwarded.

    `body_bytes` -1 means no limit. `gather_bytes`: how much of a request body is gathered before a backend is claimed; -1: nothing, and
    what is here is looked at. `buffer_response_bytes`: how far a response is read ahead of its client. `repeatable` are the methods that
    may be sent twice, `hedges`: to two backends at a time, where the first does not answer in time. `host` is what backends get as Host:
    None: the client's; empty: the backend's own name. `key`: what policies by key go by. `cost`: how much work a request is; None: all are
    1. `urgency`: how urgent it is in a queue. `deadline_s`: by when its answer should begin; `deadline_field`: a field (its name in lower
    case) in which the client says that; empty: none. `trace_ratio`: the share of traces that begin here whose spans are wanted, below
    zero where nobody wants any. `bound`: the pool binds requests to backends (affinity), and `hidden_cookies` are the names of the cookies by which it
    and others that the route leads to do, which no backend is told. An exchange keeps the rules with which its head was routed to its end, retries included.

    What follows: `edits_head`: a backend's head is more than the client's lines and what is said of the client; `fits_backend`:
    it may be another one at each attempt; `fits`: or at each request; `traces`: because of the trace that it belongs to;
    `edits_answers`: an answer's head is not just passed on.
    """

    def __init__(
        self,
        *,
        response_head_s: float,
        attempt_s: float = NEVER,
        response_idle_s: float,
        tunnel_idle_s: float,
        half_open_s: float,
        retries: RetryRules,
        hedges: bool = False,
        body_bytes: int = -1,
        replay_bytes: int,
        gather_bytes: int = 0,
        buffer_response_bytes: int = 0,
        forwarding: Forwarding,
        upgrades: frozenset[bytes] = frozenset(),
        make_request_id: bool = False,
        make_traceparent: bool = False,
        trace_ratio: float = -1.0,
        repeatable: frozenset[bytes] = IDEMPOTENT,
        request_edits: FieldEdits = NO_EDITS,
        response_edits: FieldEdits = NO_EDITS,
        path_edit: PathEdit | None = None,
        refuse_escaped_slash: bool = False,
        host: bytes | None = None,
        cost: RequestCost | None = None,
        key: RequestKey = _CLIENT,
        urgency: int = USUAL,
        deadline_s: float = NEVER,
        deadline_field: bytes = b"",
        bound: bool = False,
        hidden_cookies: tuple[bytes, ...] = (),
        hsts: bytes = b"",
        https_port: int = 0,
        pages: Mapping[int, ErrorPage],
        retry_after_s: int,
    ) -> None:
        self.response_head_s: Final = response_head_s
        self.attempt_s: Final = attempt_s
        self.response_idle_s: Final = response_idle_s
        self.tunnel_idle_s: Final = tunnel_idle_s
        self.half_open_s: Final = half_open_s
        self.retries: Final = retries
        self.hedges: Final = hedges
        self.body_bytes: Final = body_bytes
        self.replay_bytes: Final = replay_bytes
        self.gather_bytes: Final = gather_bytes
        self.buffer_response_bytes: Final = buffer_response_bytes
        self.forwarding: Final = forwarding
        self.upgrades: Final = upgrades
        # Not beside what an edit sets.
        self.make_request_id: Final = make_request_id and b"x-request-id" not in request_edits.removed
        self.tells_trace: Final = b"traceparent" not in request_edits.removed
        self.make_traceparent: Final = make_traceparent and self.tells_trace
        self.trace_ratio: Final = trace_ratio
        self.repeatable: Final = repeatable
        self.request_edits: Final = request_edits
        self.response_edits: Final = response_edits
        self.path_edit: Final = path_edit
        self.refuse_escaped_slash: Final = refuse_escaped_slash
        self.host: Final = host
        # The same as certificates have it, without its port; empty: that of each backend.
        self.server_name: Final = "" if host is None else server_name_of(host)
        self.cost: Final = cost
        self.key: Final = key
        self.urgency: Final = urgency
        # Whether its requests ask for more than any backend, whatever their pool goes by.
        self.asks: Final = cost is not None or urgency != USUAL or bound
        self.bound: Final = bound
        self.hidden_cookies: Final = hidden_cookies
        self.deadline_s: Final = deadline_s
        self.deadline: Final = DeadlineField(deadline_field) if deadline_field else None
        self.hurries: Final = deadline_s != NEVER or bool(deadline_field)
        edited = request_edits is not NO_EDITS or host is not None or path_edit is not None
        self.edits_head: Final = edited or bool(hidden_cookies)
        self.fits_backend: Final = request_edits.varies or path_edit is not None or host == b""
        self.traces: Final = self.make_traceparent or trace_ratio >= 0.0
        self.fits: Final = self.make_request_id or self.traces or self.fits_backend
        self.pages: Final = pages
        self.retry_after_s: Final = retry_after_s
        # RFC 9110 7.6.3: a gateway may say Via on responses too.
        self.response_lines: Final = b"Via: 1.1 %b\r\n" % forwarding.via if forwarding.via else b""
        # RFC 6797 7.2: it is said over https alone.
        self.hsts: Final = b"Strict-Transport-Security: %b\r\n" % hsts if hsts else b""
        self.https_port: Final = https_port  # where requests are sent that came without TLS and may not; 0: they may
        self.edits_answers: Final = response_edits is not NO_EDITS or bound or bool(hsts)
        self._deadline_field: Final = deadline_field
        self._hsts: Final = hsts

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        return {
            "response_head_s": self.response_head_s,
            "attempt_s": self.attempt_s,
            "response_idle_s": self.response_idle_s,
            "tunnel_idle_s": self.tunnel_idle_s,
            "half_open_s": self.half_open_s,
            "retries": self.retries,
            "hedges": self.hedges,
            "body_bytes": self.body_bytes,
            "replay_bytes": self.replay_bytes,
            "gather_bytes": self.gather_bytes,
            "buffer_response_bytes": self.buffer_response_bytes,
            "forwarding": self.forwarding,
            "upgrades": self.upgrades,
            "make_request_id": self.make_request_id,
            "make_traceparent": self.make_traceparent,
            "trace_ratio": self.trace_ratio,
            "repeatable": self.repeatable,
            "request_edits": self.request_edits,
            "response_edits": self.response_edits,
            "path_edit": self.path_edit,
            "refuse_escaped_slash": self.refuse_escaped_slash,
            "host": self.host,
            "cost": self.cost,
            "key": self.key,
            "urgency": self.urgency,
            "deadline_s": self.deadline_s,
            "deadline_field": self._deadline_field,
            "bound": self.bound,
            "hidden_cookies": self.hidden_cookies,
            "hsts": self._hsts,
            "https_port": self.https_port,
            "pages": self.pages,
            "retry_after_s": self.retry_after_s,
        }

    def allowed_upgrade(self, fields: RequestFields) -> bytes:
        """The protocols that a client may switch to (Upgrade), out of those it offers."""
        if not fields.upgrade or not self.upgrades:
            return b""
        return b", ".join(token for token in tokens(fields.upgrade) if token in self.upgrades)


# `UpstreamRules.max_idle`: as many idle connections are kept as were in use at once.
AUTO: Final = -1
# `UpstreamRules.protocol`.
H1: Final = "h1"
H2: Final = "h2"
EITHER: Final = "auto"


class UpstreamRules:
    """A pool's rules, for the connections to its backends. Read at each claim or connect: a change is an assignment.

    Of idle connections (keep-alive) at most `max_idle` are kept for each backend (AUTO: as many as were in use at once),
    for `idle_s` seconds, `max_requests` requests and `max_age_s` seconds of life; a request that must not be sent twice
    takes only one that was in use less than `reuse_unsafe_within_s` ago, and, unless `reuse_always`, only where the backend
    was not seen to close kept connections early. `limits` are those of the heads of responses.

    `resolve` and `family` say what is made of names, for backends that do not say it themselves; see `core/endpoints.py`.
    `tcp_keepalive`: how a new connection has the kernel ask a silent backend whether it is there; None: not at all. `protocol`: what is
    spoken: H1, H2, or what each backend chooses of both in its handshake (EITHER, ALPN).
    """

    def __init__(
        self,
        *,
        connect_s: float,
        limits: Limits,
        max_idle: int,
        idle_s: float,
        max_requests: int,
        max_age_s: float,
        reuse_unsafe_within_s: float,
        reuse_always: bool = False,
        resolve: str,
        family: str,
        tcp_keepalive: TcpKeepalive | None = None,
        protocol: str = H1,
    ) -> None:
        self.connect_s: Final = connect_s
        self.limits: Final = limits
        self.max_idle: Final = max_idle
        self.idle_s: Final = idle_s
        self.max_requests: Final = max_requests
        self.max_age_s: Final = max_age_s
        self.reuse_unsafe_within_s: Final = reuse_unsafe_within_s
        self.reuse_always: Final = reuse_always
        self.resolve: Final = resolve
        self.family: Final = family
        self.tcp_keepalive: Final = tcp_keepalive
        self.protocol: Final = protocol
