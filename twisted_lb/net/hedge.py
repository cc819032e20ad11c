"""The hedge of a request (backup request): a second attempt beside the first one, which does not answer in time. Whichever answers first is heard."""

import enum
from typing import Final, cast

from twisted_lb.core.attempts import Attempt, Attempts
from twisted_lb.core.hedging import Hedged, Hedging
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import TOO_SLOW, Outcome
from twisted_lb.core.totals import kind_of
from twisted_lb.net.cluster import Cluster
from twisted_lb.net.dialer import Attempt as Dialling
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.net.waits import Wait
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead


class Hedgeable(Requester):
    """A request as its hedge sees it: what it is, and who hears the answer. A class for the same reason as `Requester`."""

    def hedge_due(self) -> float:
        """Until when the answer to a hedge that is sent now is waited for."""
        raise NotImplementedError

    def hedged(self) -> RequestHead:
        """Its hedge is sent: there is more to be told of it than of a plain one. The head of the request, as it came."""
        raise NotImplementedError

    def head_for(self, attempt: Attempt) -> bytes:
        """The head of the request for the backend of an attempt."""
        raise NotImplementedError

    def send_again(self, upstream: Upstream) -> None:
        """Send the body, which is held, and end it."""
        raise NotImplementedError

    def owes_answer(self) -> bool:
        """Whether the request is complete and held, and not one byte of its answer has come."""
        raise NotImplementedError

    def refuses(self, head: ResponseHead) -> bool:
        """Whether an answer with this head counts as a failure (`bad_statuses`)."""
        raise NotImplementedError

    def blaming(self, outcome: Outcome) -> str:
        """Whose request it is, where this outcome is blamed on a backend by that."""
        raise NotImplementedError


class _Is(enum.Enum):
    """What a hedge is at."""

    WAITING = "the first attempt has its time"
    UNDER_WAY = "both attempts are under way"
    HEARD = "it is the attempt that is heard"
    OVER = "there is none, or none any more"


_UNDER_WAY: Final = _Is.UNDER_WAY
_HEARD: Final = _Is.HEARD


class Hedge(Requester):
    """The hedge of one request, from when its first attempt begins. When the delay is over, and nothing of the answer has come, it claims
    a backend of its own. Until one of both answers it is told what its connection tells; from when it is heard (it has answered first,
    or the first attempt has failed) all that is passed on to the request. The one that is not heard ends as CANCELLED, blames nobody,
    and its place is free when its connection is closed.
    """

    __slots__ = ("_attempts", "_cluster", "_hedging", "_is", "_since", "_wait", "request")

    def __init__(self, request: Hedgeable, cluster: Cluster, attempts: Attempts, hedging: Hedging) -> None:
        self.request: Final = request
        self._cluster: Final = cluster
        self._attempts: Final = attempts
        self._hedging: Final = hedging
        self._since: Final = cluster.clock.now
        self._is: _Is = _Is.WAITING
        delay_s = hedging.delay_s(self._since)
        self._wait: Wait | None = None
        if delay_s < NEVER:
            self._wait = cluster.waits.until(self._since + delay_s, self._overdue)

    # What becomes of the first attempt.

    @property
    def under_way(self) -> bool:
        """Whether both attempts are under way."""
        return self._is is _UNDER_WAY

    def answered(self) -> None:
        """The first attempt has answered, and is heard; harmless where this one is."""
        if self._is is _HEARD:
            return
        self._observe()
        if self._is is _UNDER_WAY:
            self._decided(Hedged.LOST)
            name = self._attempts.current.lease.backend.name if self._attempts.current is not None else ""
            self._leave(self._attempts.let_go(), Outcome.CANCELLED, f"{name} answered first")
        self.forget()

    def stand_in(self) -> None:
        """The first attempt has failed while this one is under way, which is in its place from now on: nothing is paid for that."""
        self._decided(Hedged.STOOD_IN)
        self._is = _HEARD
        self._attempts.stand_in()

    def cut(self, outcome: Outcome, detail: str) -> None:
        """The request has ended with this outcome before anybody has answered."""
        if self._is is _UNDER_WAY:
            self._decided(Hedged.CUT)
            self._leave(self._attempts.let_go(), outcome, detail)
        self.forget()

    def forget(self) -> None:
        """Nobody is hedged any more: the first attempt has ended, or nobody waits for it."""
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        self._is = _Is.OVER

    # Its own attempt.

    def _overdue(self) -> None:
        """The delay is over."""
        self._wait = None
        if not self.request.owes_answer():
            return
        lease = self._attempts.hedge(self._cluster.clock.now)
        if isinstance(lease, Hedged):
            self._count(lease)
        elif lease is not None:
            self._begin(lease)

    def _begin(self, lease: Lease) -> None:
        self._is = _UNDER_WAY
        cluster = self._cluster
        cluster.hedges += 1
        upstream = cluster.take(lease.backend, True, cluster.clock.now)
        if upstream is None and cluster.greetings is not None:
            upstream = cluster.take_greeted(lease.backend, self, True, cluster.clock.now)
        if upstream is not None:
            self.connected(upstream)
            return
        attempt = self._attempt
        attempt.dialled = True
        attempt.way = cluster.dial(lease.backend, self, self._attempts.due)

    @property
    def _attempt(self) -> Attempt:
        attempt = self._attempts.beside
        assert attempt is not None, "the hedge is not under way"
        return attempt

    def _leave(self, attempt: Attempt, outcome: Outcome, detail: str) -> None:
        """Nobody hears this attempt any more. Where a backend may go on working at it, and its places are counted, its place is held as
        that of a request whose client has gone: to a worker that notices neither they are the same.
        """
        cluster, way, now = self._cluster, attempt.way, self._cluster.clock.now
        if isinstance(way, Upstream) and cluster.holds(way):
            self._attempts.left(attempt, outcome, now, detail)
            cluster.leave_behind(way, attempt)
            return
        if isinstance(way, Upstream):
            way.abandon()
        elif way is not None:
            cast(Dialling, way).cancel()
        self._end(attempt, outcome, detail)

    def _end(self, attempt: Attempt, outcome: Outcome, detail: str) -> None:
        client = self.request.blaming(outcome)
        self._attempts.ended(attempt, outcome, self._cluster.clock.now, detail, client)
        if self._cluster.waiting:
            self._cluster.freed()

    def _fail(self, outcome: Outcome, detail: str) -> None:
        """It has failed, and the first attempt goes on."""
        if outcome in TOO_SLOW and self._cluster.clock.now >= self._attempts.deadline:
            outcome, detail = Outcome.LATE, "the deadline of the request"
        self._is = _Is.OVER
        self._decided(Hedged.FAILED)
        self._end(self._attempts.let_go(), outcome, detail)

    def _win(self) -> None:
        """It has answered first."""
        first = self._attempts.current
        assert first is not None
        self._observe()
        self._decided(Hedged.WON)
        self._is = _HEARD
        self._leave(first, Outcome.CANCELLED, f"its hedge at {self._attempt.lease.backend.name} answered first")
        self._attempts.stand_in()

    def _decided(self, what: Hedged) -> None:
        """One of the two attempts is left."""
        self._cluster.hedges -= 1
        self._count(what)

    def _count(self, what: Hedged) -> None:
        self._cluster.pool.totals.hedges[what] += 1

    def _observe(self) -> None:
        now = self._cluster.clock.now
        self._hedging.observe(now - self._since, now)

    # From its backend.

    def server_name(self) -> str:
        """See Requester."""
        return self.request.server_name()

    def proxy_header(self, version: int) -> bytes:
        """See Requester."""
        return self.request.proxy_header(version)

    def connected(self, upstream: Upstream) -> None:
        """See Requester."""
        if self._is is _HEARD:
            self.request.connected(upstream)
            return
        request, attempt = self.request, self._attempt
        attempt.connected_at = self._cluster.clock.now
        attempt.way = upstream
        due = attempt.due = request.hedge_due()
        head = request.hedged()
        upstream.begin(self, request.head_for(attempt), head, due)
        if head.fields.framing != 0:
            request.send_again(upstream)

    def streamed(self, number: int) -> None:
        """See Requester."""
        if self._is is _HEARD:
            self.request.streamed(number)
        else:
            self._attempt.stream = number

    def unreachable(self, outcome: Outcome, detail: str) -> None:
        """See Requester."""
        if self._is is _HEARD:
            self.request.unreachable(outcome, detail)
        else:
            self._fail(outcome, detail)

    def failed(self, outcome: Outcome, detail: str) -> None:
        """See Requester."""
        if self._is is _HEARD:
            self.request.failed(outcome, detail)
        else:
            self._fail(outcome, detail)

    def spare(self) -> None:
        """See Requester."""
        if self._is is _HEARD:
            self.request.spare()
        else:
            self._attempt.lease.spared = True

    def informed(self, head: ResponseHead) -> None:
        """See Requester: until it is heard an interim answer is nobody's."""
        if self._is is _HEARD:
            self.request.informed(head)

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """See Requester: who offers another protocol is not hedged."""
        raise BadMessage(502, "a switch of protocols that nobody asked for")

    def response_started(self, head: ResponseHead, framing: int) -> None:
        """See Requester."""
        if self._is is not _HEARD:
            if self.request.refuses(head):
                attempt = self._attempt
                attempt.lease.backend.totals.unfinished[kind_of(head.status)] += 1
                cast(Upstream, attempt.way).abandon()
                self._fail(Outcome.BAD_STATUS, f"status {head.status}")
                return
            self._win()
        self.request.response_started(head, framing)

    def payload(self, data: bytes) -> None:
        """See Requester."""
        self.request.payload(data)

    def flush(self) -> None:
        """See Requester."""
        if self._is is _HEARD:
            self.request.flush()

    def response_ended(self, trailers: bytes) -> None:
        """See Requester."""
        self.request.response_ended(trailers)

    def movable_since(self) -> float:
        """See Requester: until it is heard there is another attempt already."""
        return self.request.movable_since() if self._is is _HEARD else NEVER

    def move(self, detail: str) -> bool:
        """See Requester."""
        return self._is is _HEARD and self.request.move(detail)

    def idle_due(self) -> float:
        """See Requester."""
        return self.request.idle_due()

    def keep(self, upstream: Upstream) -> bool:
        """See Requester."""
        return self.request.keep(upstream)

    def upstream_full(self) -> None:
        """See Requester: the whole request is here already."""

    def upstream_drained(self) -> None:
        """See Requester."""

    def __repr__(self) -> str:
        return f"<Hedge: {self._is.value}>"
