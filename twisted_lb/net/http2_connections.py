"""The connections of HTTP/2 to a pool's backends (connection pool by concurrency): which of them a call goes to, and how many are kept."""

from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.dialer import Attempt
from twisted_lb.net.greeting import Greeting, Greetings
from twisted_lb.net.http1_upstream import Http1Upstream, Keeper
from twisted_lb.net.http2_upstream import CALLS_MOST, CallKeeper, Http2Call, Http2Connection
from twisted_lb.net.interfaces import StreamTransport
from twisted_lb.net.kept import Recent
from twisted_lb.net.runtime import Runtime
from twisted_lb.net.settings import AUTO, EITHER, H1, H2, UpstreamRules
from twisted_lb.net.upstream import Requester, Upstream

# Kept are as many connections as the calls would have needed that ran at once in two of these periods.
_PEAK_PERIOD_S: Final = 30.0
# What ALPN calls it (RFC 9113 3.1).
_H2: Final = "h2"
_NOT_OFFERED: Final = "TLS: it does not take HTTP/2 (ALPN), and the pool speaks nothing else"


class _Place:
    """The connections to one backend that are good for the same requests, and those that are being made."""

    __slots__ = ("backend", "chose", "connections", "dialling", "one_each", "peak")

    def __init__(self, backend: Backend) -> None:
        self.backend: Final = backend
        self.connections: Final[list[Http2Connection]] = []  # that take calls
        self.dialling: Final[list[_Joining]] = []
        self.peak: Final = Recent(_PEAK_PERIOD_S)  # most calls that ran at once
        self.one_each: bool = False  # the backend was last seen to speak HTTP/1.1
        self.chose: str = ""  # what it took last of the two that were offered (ALPN): H1, H2; "" where it was not asked

    def count(self, now: float) -> None:
        """A call more is about to run."""
        peak = self.peak
        if now >= peak.ends_at:
            peak.roll(now)
        peak.now = max(peak.now, 1 + sum([len(one.calls) for one in self.connections]))

    @property
    def wanted(self) -> int:
        """How many connections are worth keeping."""
        return max(1, -(-max(self.peak.now, self.peak.before) // CALLS_MOST))


class _Waiting:
    """A request that waits for a connection which is being made, perhaps for others too."""

    def __init__(self, requester: Requester) -> None:
        self.requester: Final = requester
        self.dialling: _Joining | None = None
        self.over: bool = False
        self.due: float = NEVER
        self.deadline: Final = Deadline(self._timed_out)

    def end(self) -> None:
        """It waits no more."""
        self.over = True
        self.dialling = None
        self.deadline.end()

    def cancel(self) -> None:
        """See Attempt."""
        dialling = self.dialling
        self.end()
        if dialling is not None:
            dialling.left(self)

    def _timed_out(self) -> None:
        if not self.over:
            self.cancel()
            self.requester.unreachable(Outcome.CONNECT_TIMEOUT, "no answer in time")


class _Joining:
    """A connection that is being made, and who waits for it. When it is up it becomes what its backend speaks."""

    def __init__(
        self,
        owner: "Http2Connections",
        place: _Place,
        key: object,
        greetings: Greetings | None,
        greeting: Greeting | None,
    ) -> None:
        self.waiting: Final[dict[_Waiting, None]] = {}
        self.attempt: Attempt | None = None
        self.ends_at: float = NEVER
        self.most: Final = 1 if place.one_each else CALLS_MOST
        self._owner: Final = owner
        self._place: Final = place
        self._key: Final = key
        self._greetings: Final = greetings
        self._greeting: Final = greeting
        self._began: Final[float] = owner.clock.now

    @property
    def greetings(self) -> Greetings | None:
        """By what it is greeted."""
        return self._greetings

    def left(self, one: _Waiting) -> None:
        """Somebody waits no more; nobody is dialled for nobody."""
        self.waiting.pop(one, None)
        if not self.waiting and self.attempt is not None:
            self.attempt.cancel()
            self.end()

    def end(self) -> None:
        """It is made, or is not."""
        self.attempt = None
        if self in self._place.dialling:
            self._place.dialling.remove(self)

    def _take_waiting(self) -> list[_Waiting]:
        self.end()
        waiting = list(self.waiting)
        self.waiting.clear()
        return waiting

    def failed(self, outcome: Outcome, detail: str) -> None:
        """No connection could be made: one failure of its backend, however many waited for it."""
        spared = False
        for one in self._take_waiting():
            one.end()
            if spared:
                one.requester.spare()
            spared = True
            one.requester.unreachable(outcome, detail)

    def makeConnection(self, transport: StreamTransport) -> None:
        """The connection is up."""
        greeting, rules = self._greeting, self._owner.upstream_rules
        secure = greeting is not None and greeting.context is not None
        agreed = greeting.agreed if greeting is not None and secure else _H2 if rules.protocol == H2 else ""
        self._place.one_each = agreed != _H2
        if secure and rules.protocol == EITHER:
            self._place.chose = H2 if agreed == _H2 else H1
        if agreed == _H2:
            self._speak_http2(transport, secure=secure)
        elif rules.protocol == H2:
            transport.switch(_Closing())
            transport.loseConnection()
            self.failed(Outcome.REFUSED, _NOT_OFFERED)
        else:
            self._speak_http1(transport)

    def _speak_http2(self, transport: StreamTransport, *, secure: bool) -> None:
        waiting = self._take_waiting()
        owner = self._owner
        connection = Http2Connection(owner, self._place.backend, self._key, secure=secure)
        transport.switch(connection)
        connection.makeConnection(transport)
        owner.opened(connection, self._place, owner.clock.now - self._began, self._greetings)
        for one in waiting:
            one.end()
            self._place.count(owner.clock.now)
            one.requester.connected(Http2Call(connection))

    def _speak_http1(self, transport: StreamTransport) -> None:
        """The backend has chosen HTTP/1.1: one request has the connection, and each of the others needs one of its own."""
        waiting = self._take_waiting()
        owner = self._owner
        upstream = Http1Upstream(owner.keeper, self._place.backend, waiting[0].requester if waiting else None)
        for one in waiting[:1]:
            one.end()
        upstream.dialled_at = self._began
        upstream.greeted_by = self._greetings
        upstream.place = self._key
        transport.switch(upstream)
        upstream.makeConnection(transport)
        for one in waiting[1:]:
            owner.dial_alone(self._place.backend, one, self._key)

    def dataReceived(self, data: bytes) -> None:
        """See StreamProtocol: it has become another one before."""

    def readConnectionLost(self) -> None:
        """See StreamProtocol."""

    def connectionLost(self, reason: object) -> None:
        """See StreamProtocol."""


class _Closing:
    """A connection that is closed: whatever comes is thrown away."""

    def makeConnection(self, transport: StreamTransport) -> None:
        """See StreamProtocol."""

    def dataReceived(self, data: bytes) -> None:
        """See StreamProtocol."""

    def readConnectionLost(self) -> None:
        """See StreamProtocol."""

    def connectionLost(self, reason: object) -> None:
        """See StreamProtocol."""


class Http2Connections(CallKeeper):
    """The connections of HTTP/2 of one pool. A call goes to the first that has room for it; who finds none waits for one that is being
    made, if that will have room, else has one made. Those that are not needed are closed when they are idle.
    """

    def __init__(self, keeper: Keeper, runtime: Runtime) -> None:
        super().__init__(keeper.clock, keeper.deadlines, runtime.soon)
        self.keeper: Final = keeper
        self._runtime: Final = runtime
        self._places: Final[dict[object, _Place]] = {}
        self._open: Final[dict[Http2Connection, None]] = {}  # an ordered set, also of those that take no calls

    @property
    def upstream_rules(self) -> UpstreamRules:
        """See CallKeeper."""
        return self.keeper.upstream_rules

    # Calls.

    def take(self, key: object, now: float) -> Upstream | None:
        """A call on a connection to this place that has room; None where there is none."""
        place = self._places.get(key)
        if place is None:
            return None
        connection = self._with_room(place, now)
        if connection is None:
            return None
        place.count(now)
        return Http2Call(connection)

    def _with_room(self, place: _Place, now: float) -> Http2Connection | None:
        rules, worn = self.upstream_rules, None
        for connection in place.connections:
            if connection.requests >= rules.max_requests or now - connection.opened_at >= rules.max_age_s:
                worn = connection
            elif connection.room > 0:
                if worn is not None:
                    worn.leave()
                return connection
        if worn is not None:
            worn.leave()
        return None

    def dial(self, backend: Backend, requester: Requester, due: float, key: object) -> Attempt:
        """Have a call to a backend: on a connection that has room, or is being made, or on a new one. The requester is told `connected` or
        `unreachable`, once and not before this returns.
        """
        now = self.clock.now
        place = self._place(backend, key)
        one = _Waiting(requester)
        one.due = due
        if self._with_room(place, now) is not None:
            self.soon(lambda: self._call_soon(backend, one, key))
            return one
        greetings = self.keeper.greetings
        for dialling in place.dialling:
            if len(dialling.waiting) < dialling.most and dialling.greetings is greetings:
                self._join(one, dialling)
                return one
        self._join(one, self._dial(place, key, requester))
        return one

    def _place(self, backend: Backend, key: object) -> _Place:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(backend)
        return place

    def _join(self, one: _Waiting, dialling: _Joining) -> None:
        dialling.waiting[one] = None
        one.dialling = dialling
        if one.due < dialling.ends_at:
            self.deadlines.arm(one.deadline, one.due)

    def _dial(self, place: _Place, key: object, requester: Requester) -> _Joining:
        rules, greeting = self.upstream_rules, self.keeper.greeting_of(place.backend, requester)
        dialling = _Joining(self, place, key, self.keeper.greetings, greeting)
        dialling.ends_at = self.clock.now + rules.connect_s
        place.dialling.append(dialling)
        dial, address = self._runtime.dial, place.backend.address
        if greeting is None and rules.tcp_keepalive is None:
            dialling.attempt = dial.dial(address, dialling, rules.connect_s, dialling.failed)
        else:
            dialling.attempt = dial.dial(
                address, dialling, rules.connect_s, dialling.failed, 0, greeting, rules.tcp_keepalive
            )
        return dialling

    def _call_soon(self, backend: Backend, one: _Waiting, key: object) -> None:
        """There was a connection with room a moment ago."""
        if one.over:
            return
        call = self.take(key, self.clock.now)
        if call is None:
            self.dial_alone(backend, one, key)
        else:
            one.end()
            one.requester.connected(call)

    def dial_alone(self, backend: Backend, one: _Waiting, key: object) -> None:
        """Have a connection made for somebody who has waited for another one, and still does."""
        self._join(one, self._dial(self._place(backend, key), key, one.requester))

    # Connections.

    def opened(self, connection: Http2Connection, place: _Place, took_s: float, greetings: Greetings | None) -> None:
        """A connection is up, so long after it was dialled."""
        self._open[connection] = None
        connection.backend.totals.shared_connections += 1
        place.connections.append(connection)
        if not self.keeper.counts(connection.backend, connection.peer_name(), took_s, greetings):
            connection.leave()

    def leaves(self, connection: Http2Connection) -> None:
        """See CallKeeper."""
        place = self._places.get(connection.place)
        if place is not None and connection in place.connections:
            place.connections.remove(connection)
            self._forget(connection.place, place)

    def _forget(self, key: object, place: _Place) -> None:
        """Of a backend that is gone nothing is remembered."""
        if place.backend.removed and not (place.connections or place.dialling):
            self._places.pop(key, None)

    def gone(self, connection: Http2Connection) -> None:
        """See CallKeeper."""
        self._open.pop(connection, None)

    def fell_idle(self, connection: Http2Connection) -> None:
        """See CallKeeper."""
        rules, now = self.upstream_rules, self.clock.now
        place = self._places.get(connection.place)
        if place is None or connection.backend.removed or rules.max_idle == 0:
            connection.leave()
            return
        if now >= place.peak.ends_at:
            place.peak.roll(now)
        idle = sum([one.idle for one in place.connections])
        if len(place.connections) > place.wanted or (rules.max_idle != AUTO and idle > rules.max_idle):
            connection.leave()
        else:
            connection.keep_until(now + rules.idle_s)

    def leave_at_work(self, call: Upstream) -> bool:
        """See CallKeeper."""
        return self.keeper.leave_at_work(call)

    def belongs(self, keeper: object) -> bool:
        """See CallKeeper."""
        return keeper is self.keeper

    # For the pool.

    def leave(self, backend: Backend | None = None) -> None:
        """Have connections take no new calls, those to this backend, or all of them; the idle ones are closed."""
        for one in list(self._open):
            if backend is None or one.backend is backend:
                one.leave()

    def leave_others(self, backend: Backend, host: str) -> None:
        """Have connections take no new calls that lead elsewhere than to this address of the backend."""
        for one in list(self._open):
            if one.backend is backend and one.peer_name() != host:
                for call in one.calls.values():
                    call.opened_at = -NEVER
                one.leave()

    def leave_removed(self) -> None:
        """The same of those to backends that were removed."""
        for one in list(self._open):
            if one.backend.removed:
                one.leave()
        for key in [key for key, place in self._places.items() if place.backend.removed]:
            self._forget(key, self._places[key])

    def abandon(self) -> None:
        """End all connections now; nobody is told."""
        for one in list(self._open):
            one.abandon()

    @property
    def calls(self) -> list[Upstream]:
        """All calls that are under way: O(calls)."""
        return [call for connection in self._open for call in connection.calls.values()]

    def chosen(self) -> dict[Backend, str]:
        """What backends have chosen, H1 or H2, where both are offered, of those that have chosen yet: O(places)."""
        return {place.backend: place.chose for place in self._places.values() if place.chose}

    @property
    def connections(self) -> list[Http2Connection]:
        """All connections that are open: O(connections)."""
        return list(self._open)

    @property
    def open(self) -> int:
        """How many connections are open, idle or in use."""
        return len(self._open)

    def __repr__(self) -> str:
        return f"<Http2Connections: {len(self._open)} open>"
