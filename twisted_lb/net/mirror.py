"""The mirror (shadow traffic): a request of a client that is sent once more, to another pool, and whose answer nobody waits for."""

from typing import Final, cast

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import Backend
from twisted_lb.core.histogram import counted_in
from twisted_lb.core.lease import Lease
from twisted_lb.core.mirroring import Mirroring, MirrorSettings, Unmirrored
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.totals import kind_of
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.dialer import Attempt as Dialling
from twisted_lb.net.peeking import peeked
from twisted_lb.net.replay import Replay
from twisted_lb.net.route import MIRRORED, Lead
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead

# 1 MiB: what is read of an answer that is thrown away, so that its connection can be used again. Longer ones are cut.
_MOST_ANSWER: Final = 1 << 20


def mirror_of(head: RequestHead, lead: Lead) -> "Mirror | None":
    """The mirror of a request that its lead's pool mirrors; None for one that is not chosen. Never mirrored is what may become a
    tunnel, what logs its client in on a connection (NTLM), and what was mirrored already, here or elsewhere.
    """
    source = lead.route.cluster
    settings, fields = source.pool.settings.mirror, head.fields
    if settings is None or lead.upgrade or fields.binds or MIRRORED in head.lines.lower():
        return None
    if not source.pool.totals.mirroring.chooses(settings, head.method, fields.framing, source.mirror_chance):
        return None
    return Mirror(head, lead.mirror, source, settings)


class Mirror(Requester):
    """A mirrored request, from when its original begins. What comes of the body is told to `hold`, and when that is whole to
    `complete`: then, and after everything else of this turn, it is sent, if somebody has a place at once. It is sent at most once: there is no
    queue for it, and no retry. Its outcome is the other pool's alone.

    `left`: the original is over. From when it is complete on that means nothing. `over` is said once, of whatever way it ended.
    """

    __slots__ = (
        "_bad_status", "_body_bytes", "_client", "_cluster", "_complete", "_connected_at", "_due", "_head", "_lead", "_lease", "_mirroring",
        "_pieces", "_received", "_settings", "_source", "_status", "_trailers", "_way", "header", "over", "request_id",
    )  # fmt: skip

    def __init__(self, head: RequestHead, lead: Lead, source: Cluster, settings: MirrorSettings) -> None:
        self.request_id: bytes = b""  # that of the original, as far as it has one
        self.header: bytes = b""  # of the PROXY protocol, where the other pool wants one: the original's client
        self.over: bool = False
        self._head: Final = head
        self._lead: Final = lead
        self._cluster: Final = lead.route.cluster
        self._source: Final = source.name
        self._mirroring: Final[Mirroring] = source.pool.totals.mirroring
        self._settings: Final = settings
        self._pieces: list[bytes] = []
        self._body_bytes: int = 0
        self._trailers: bytes = b""
        self._complete: bool = False
        self._lease: Lease | None = None
        self._way: object | None = None  # the dial that is under way, then the connection
        self._due: float = NEVER
        self._connected_at: float = NEVER
        self._status: int = 0
        self._bad_status: bool = False
        self._received: int = 0

    # From the original.

    def hold(self, payload: bytes) -> None:
        """Hold a piece of the body; past the bound all of it is let go, and the request is not mirrored."""
        if self.over:
            return
        self._body_bytes += len(payload)
        if self._body_bytes > self._settings.body_bytes:
            self._unsent(Unmirrored.TOO_LONG)
        else:
            self._pieces.append(payload)

    def complete(self, trailers: bytes) -> None:
        """The request is complete: it is sent when everybody else had his turn."""
        if not self.over:
            self._complete = True
            self._trailers = trailers
            self._cluster.runtime.soon(self._send)

    def left(self) -> None:
        """The original is over, however it ended."""
        if not self._complete and not self.over:
            self._unsent(Unmirrored.INCOMPLETE)

    def forget(self) -> None:
        """It is none that is mirrored, after all; harmless when it was sent, or is over."""
        if self._lease is None and not self.over:
            self._pieces = []
            self.over = True
            self._mirroring.over()

    def _unsent(self, why: Unmirrored) -> None:
        self._pieces = []
        self.over = True
        self._mirroring.over(why)

    @property
    def cluster(self) -> Cluster:
        """Where it goes."""
        return self._cluster

    def server_name(self) -> str:
        """See Requester."""
        return self._lead.route.rules.server_name

    def proxy_header(self, version: int) -> bytes:
        """See Requester."""
        return self.header

    # To the other pool.

    def _send(self) -> None:
        if self.over:
            return
        cluster, lead = self._cluster, self._lead
        pool, now = cluster.pool, cluster.clock.now
        ask = lead.ask(self._head) if lead.route.rules.asks or pool.asks else ANY
        if pool.peek is not None:
            ask = ask.with_prefix(peeked(pool.peek, self._head, self._held(), ended=True))
        lease = self._lease = pool.claim_at_once(ask, now)
        if lease is None:
            self._unsent(Unmirrored.NO_PLACE)
            return
        self._mirroring.sent += 1
        cluster.mirrors[self] = None
        self._due = now + self._settings.timeout_s
        # One that is lost in a keep-alive race is no harm to anybody.
        upstream = cluster.take(lease.backend, True, now)
        if upstream is None and cluster.greetings is not None:
            upstream = cluster.take_greeted(lease.backend, self, True, now)
        if upstream is None:
            self._way = cluster.dial(lease.backend, self, self._due)
        else:
            self.connected(upstream)

    def _held(self) -> Replay:
        """The whole body, as whoever looks at how it begins knows one."""
        held = Replay(self._settings.body_bytes)
        for piece in self._pieces:
            held.keep(piece)
        return held

    def connected(self, upstream: Upstream) -> None:
        """See Requester: send all of it."""
        lease, now = self._lease, self._cluster.clock.now
        assert lease is not None
        self._way = upstream
        self._connected_at = now
        if lease.trial:
            self._cluster.pool.reached(lease, now)
        head = self._head
        route_rules = self._lead.route.rules
        due = min(self._due, now + route_rules.response_head_s)
        upstream.begin(self, self._lead.mirrored(head, upstream.backend, self.request_id, self._source), head, due)
        if head.fields.framing != 0:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                upstream.send(piece)
            upstream.finish(self._trailers)

    def unreachable(self, outcome: Outcome, detail: str) -> None:
        """See Requester."""
        self._end(outcome, detail)

    @property
    def backend(self) -> Backend | None:
        """Where it is; None while it is nowhere."""
        lease = self._lease
        return None if lease is None or self.over else lease.backend

    def cut(self, detail: str) -> None:
        """Take it back: its time is over, or ours is."""
        way = self._way
        if isinstance(way, Upstream):
            way.abandon()
        elif way is not None:
            cast(Dialling, way).cancel()
        self._end(Outcome.CANCELLED, detail)

    # From there.

    def informed(self, head: ResponseHead) -> None:
        """See Requester: nobody is there who would be told."""

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """See Requester: nobody is there who would speak it."""
        raise BadMessage(502, "a switch of protocols that nobody asked for")

    def response_started(self, head: ResponseHead, framing: int) -> None:
        """See Requester: what its head says of the backend counts, as that of any other answer."""
        lease, cluster = self._lease, self._cluster
        assert lease is not None
        pool, now = cluster.pool, cluster.clock.now
        self._status = head.status
        self._bad_status = head.status >= 500 and head.status in self._lead.route.rules.retries.bad_statuses
        pool.totals.first_byte.add(now - self._connected_at)
        if lease.trial and not self._bad_status:
            pool.answered(lease, now)
        if lease.backend.told is not None:
            pool.responded(lease, now)
            if head.load_report:
                pool.hear_load(lease.backend, head.load_report, now)

    def payload(self, data: bytes) -> None:
        """See Requester: it is thrown away, up to a bound."""
        self._received += len(data)
        if self._received > _MOST_ANSWER:
            self.cut("its answer is long, and nobody waits for it")

    def flush(self) -> None:
        """See Requester: nothing is kept."""

    def response_ended(self, trailers: bytes) -> None:
        """See Requester."""
        self._end(Outcome.BAD_STATUS if self._bad_status else Outcome.OK, "")

    def spare(self) -> None:
        """See Requester."""
        if self._lease is not None:
            self._lease.spared = True

    def failed(self, outcome: Outcome, detail: str) -> None:
        """See Requester. It is no fault of a backend that has begun to answer if the time is over before it ends."""
        if self._status and self._cluster.clock.now >= self._due:
            outcome, detail = Outcome.CANCELLED, "its answer takes long, and nobody waits for it"
        self._end(outcome, detail)

    def _end(self, outcome: Outcome, detail: str) -> None:
        lease = self._lease
        if self.over or lease is None:
            return
        cluster = self._cluster
        now = cluster.clock.now
        self.over = True
        self._way = None
        self._pieces = []
        self._mirroring.over()
        cluster.mirrors.pop(self, None)
        if self._status:
            totals, kind = lease.backend.totals, kind_of(self._status)
            if outcome is Outcome.OK or outcome is Outcome.BAD_STATUS:
                counted_in(totals.lasted, kind).add(now - lease.opened_at)
            else:
                totals.unfinished[kind] += 1
        cluster.pool.settle(lease, outcome, now, detail, self._lead.blaming(outcome))
        if cluster.waiting:
            cluster.freed()

    def movable_since(self) -> float:
        """See Requester: it goes nowhere else."""
        return NEVER

    def move(self, detail: str) -> bool:
        """See Requester."""
        return False

    def idle_due(self) -> float:
        """See Requester."""
        return min(self._due, self._cluster.clock.now + self._lead.route.rules.response_idle_s)

    def upstream_full(self) -> None:
        """See Requester: all of it was written, and it is bounded."""

    def upstream_drained(self) -> None:
        """See Requester."""

    def __repr__(self) -> str:
        state = "over" if self.over else "sent" if self._lease is not None else "waiting for its body"
        return f"<Mirror of {self._head!r} to {self._cluster.name}, {state}>"
