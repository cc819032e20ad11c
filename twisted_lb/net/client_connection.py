"""A client's connection, whatever protocol it speaks: gate, deadlines, slow clients, lingering close and drain."""

from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr, trait

from twisted_lb.core.backend import Backend
from twisted_lb.core.gate import client_key
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note
from twisted_lb.core.running import Running
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import Deadline, Expecting
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.interfaces import UNKNOWN, Producer, StreamTransport
from twisted_lb.net.proxied import proxy_header
from twisted_lb.net.secured import Secured
from twisted_lb.net.settings import ClientRules
from twisted_lb.net.upstream import Upstream
from twisted_lb.wire.origin import Client
from twisted_lb.wire.proxy_protocol import LOCAL_V2, UNKNOWN_V1

# RFC 9112 9.6: after a last answer with bytes of the client unread, closing at once would reset the connection and
# could take that answer away from the client.
LINGER_S: Final = 2.0
# At a drain, an idle connection stays open this long: a request that is on its way is answered, not met by a close.
LAST_REQUEST_S: Final = 0.5

_NOBODY: Final = Client(b"unknown")


@trait
class Speaker(Expecting):
    """The protocol that is spoken with a client (HTTP/1.1, say), as far as the client's connection asks it."""

    def drain(self) -> None:
        """Drain the connection: finish what has begun; each response from now on ends it."""
        raise NotImplementedError

    def tell_good_bye(self) -> None:
        """Tell the client that we go away, where that can be said: in a tunnel whose protocol has words for it."""
        raise NotImplementedError

    def kill(self, why: str = STOPS) -> None:
        """Cancel what is under way, tell the client so if nothing was said yet, and close the connection: at once."""
        raise NotImplementedError

    def at(self) -> Backend | None:
        """The backend that the request under way is at, or that the tunnel leads to; None where there is none."""
        raise NotImplementedError

    def unsent(self) -> bool:
        """Whether the request under way is still to be sent to the backend that it is at."""
        raise NotImplementedError

    def note(self) -> Note | None:
        """What is known so far of the request under way; None where there is none."""
        raise NotImplementedError

    def relayed(self) -> bool:
        """Whether the connection has switched protocols: a tunnel."""
        raise NotImplementedError

    def kept(self) -> bool:
        """Whether the connection is just kept alive: it was used, and nothing of another request is here."""
        raise NotImplementedError

    def retire(self) -> None:
        """Close a connection that is just kept alive."""
        raise NotImplementedError


@mypyc_attr(free_list_len=1)
class ClientConnection:
    """One connection of a client of a frontend, from `open` to `lost`. It reads the rules of its listener alone.

    `rules` are those of the present request: they are read anew when the next one is waited for. `peer_port` outlives the
    connection. `bound` is the connection
    to a backend that is this client's alone (NTLM), while it is not in use: it is closed with the client's.
    """

    __slots__ = (
        "_asking", "_bound_to", "_deadline", "_frontend", "_inside", "_opened_at", "_patience_s", "_running", "_running_for",
        "_speaker", "_spread", "_unread", "bound", "client", "clock", "counted", "full", "peer_port", "rules",
        "shared", "transport",
    )  # fmt: skip

    def __init__(self, frontend: Frontend, speaker: Speaker) -> None:
        self.client: Client = _NOBODY
        self.clock: Final[Clock] = frontend.clock
        self.rules: ClientRules = frontend.client_rules
        self.transport: StreamTransport | None = None
        self.bound: Upstream | None = None
        self._bound_to: str = ""  # of which client's request, behind a trusted proxy
        self.peer_port: int = 0
        self.full: bool = False  # the client does not take what was written
        # A trusted proxy's, whose clients are limited one by one: each request is counted for the client that it is of.
        self.shared: bool = False
        # Whether the request that is under way is counted for its client, by a limit of such requests.
        self.counted: bool = False
        self._running: Sequence[Running] = ()
        self._running_for: str = ""
        self._opened_at: float = NEVER
        self._spread: float = 0.0  # of the bounds of its life; 0.0 while nobody asked
        self._frontend: Final = frontend
        self._speaker: Speaker | None = speaker
        self._deadline: Deadline = frontend.deadlines.take(speaker)
        self._inside: str | None = None  # the key under which the gate has counted it
        self._asking: str = ""  # and that of the client whose request is under way, on a shared one
        self._patience_s: float = NEVER  # what was left of the time for the body when it was paused
        self._unread: int = UNKNOWN  # bytes that the client had not taken at the last look

    def open(self, transport: StreamTransport, scheme: bytes, producer: Producer, certificate: bytes = b"") -> bool:
        """Take in a client that has connected, of whose certificate these lines tell; False when it is over the per-client limit, and is
        to be told so.
        """
        self.transport = transport
        self._opened_at = self.clock.now
        address = transport.peer_name()
        self.peer_port = transport.peer_port()
        rules = self.rules = self._frontend.client_rules
        client = self._frontend.client_at(address, scheme, transport.port_name())
        if certificate:
            client = client.with_certificate(certificate)
        self.client = client
        self._frontend.clients[self] = None
        gate = self._frontend.gate
        # A trusted proxy speaks for many clients.
        self.shared = gate.per_client > 0 and client.trusted
        key = client_key(address) if gate.per_client and not client.trusted else ""
        if not gate.enter(key):
            return False
        self._inside = key
        transport.registerProducer(producer, True)
        # Who arrives while the frontend drains waits no longer than who is here.
        self.arm(LAST_REQUEST_S if self._frontend.draining else min(rules.first_byte_s, rules.idle_s))
        return True

    def go_by(self, rules: ClientRules) -> None:
        """Go by other rules, between two requests. Whom they trust may be another one; how the gate counts the connection stays."""
        self.rules = rules
        transport = self.transport
        if transport is not None:
            frontend = self._frontend
            certificate = self.client.certificate
            client = frontend.client_at(transport.peer_name(), self.client.scheme, transport.port_name())
            self.client = client.with_certificate(certificate) if certificate else client
            self.shared = frontend.gate.per_client > 0 and self.client.trusted

    def lost(self) -> None:
        """The connection is gone."""
        frontend = self._frontend
        self.transport = None
        if self.bound is not None:
            self._close_bound()
        self._speaker = None  # no circle: reference counts free both at once
        self._deadline = frontend.deadlines.give(self._deadline)
        if self in frontend.clients:
            del frontend.clients[self]
        if self._inside is not None:
            frontend.gate.leave(self._inside)
            self._inside = None
        if self.counted:
            self.end_request()

    def admits(self, address: str) -> bool:
        """Whether a request may begin on a shared connection, for the client at this address; False when that is over the
        per-client limit. A trusted proxy has none, also as a client of the one that is connected.
        """
        self._release_asking()
        key = self.key_behind(address)
        if not self._frontend.gate.claim(key):
            return False
        self._asking = key
        self.counted = True
        return True

    def key_behind(self, address: str) -> str:
        """By what the requests of a client behind a trusted proxy are counted; empty for a trusted one."""
        return "" if self.client.trust.covers(address) else client_key(address)

    def count(self, running: Sequence[Running], key: str) -> None:
        """Count the request that begins, for the client with this key; there is room for it."""
        for one in running:
            one.hold(key)
        self._running = running
        self._running_for = key
        self.counted = True

    def end_request(self) -> None:
        """The request has ended: it is counted for nobody any more. Harmless when none was."""
        self._release_asking()
        for one in self._running:
            one.release(self._running_for)
        self._running = ()
        self.counted = False

    def _release_asking(self) -> None:
        if self._asking:
            self._frontend.gate.release(self._asking)
            self._asking = ""

    def lasts(self, requests: int) -> bool:
        """Whether the connection goes on behind the answer to its request of this number: its listener may bound its age and
        its requests, for each connection a bit otherwise (jitter), so that clients spread anew over several balancers.
        """
        rules = self.rules
        if rules.lasting:
            return True
        if not self._spread:
            self._spread = self._frontend.spread()
        return not rules.last(requests, self.clock.now - self._opened_at, self._spread)

    # A connection to a backend that is the client's alone.

    def keep(self, upstream: Upstream, address: str) -> None:
        """Keep it for the next requests of the client at this address."""
        self._close_bound()
        self.bound = upstream
        self._bound_to = address

    def proxy_header(self, version: int, secured: Secured | None) -> bytes:
        """The header of the PROXY protocol that tells a backend who is connected, and where to, and by which TLS of ours."""
        transport = self.transport
        if transport is None:
            return UNKNOWN_V1 if version == 1 else LOCAL_V2
        port = transport.port_name()
        destination = transport.host_name(), int(port) if port.isdecimal() else 0
        return proxy_header(version, (self.client.name, self.peer_port), destination, secured)

    def take_kept(self, address: str) -> Upstream | None:
        """Take it for a request of the client at this address; None when there is none, its backend has closed it, or a proxy
        brings another client's requests now: then it is closed.
        """
        if address != self._bound_to:
            self._close_bound()
        bound = self.bound
        self.bound = None
        return bound if bound is not None and bound.idle else None

    def _close_bound(self) -> None:
        bound = self.bound
        self.bound = None
        if bound is not None and bound.idle:
            bound.close()

    # Deadlines.

    def arm(self, duration_s: float) -> None:
        """Set the deadline of the present wait, in seconds from now."""
        self._frontend.deadlines.arm(self._deadline, self.clock.now + duration_s)

    def arm_sooner(self, duration_s: float) -> None:
        """Set the deadline, in seconds from now, unless it is sooner already."""
        if self.clock.now + duration_s < self._deadline.due:
            self.arm(duration_s)

    def disarm(self) -> None:
        """Take the deadline away: nothing is waited for from the client."""
        self._deadline.due = NEVER

    def begin_request(self) -> None:
        """Begin a request: nothing is waited for. The client has taken what it was sent before."""
        self._unread = UNKNOWN
        self._deadline.due = NEVER

    def await_request(self) -> None:
        """Wait for the next request (keep-alive), by the rules as they are now; not long while the frontend drains."""
        if self.counted:
            self.end_request()
        if self.full:
            return  # first it has to take the last response
        frontend = self._frontend
        rules = frontend.client_rules
        if rules is not self.rules:
            self.go_by(rules)
        patience_s = LAST_REQUEST_S if frontend.draining else rules.idle_s
        frontend.deadlines.arm(self._deadline, self.clock.now + patience_s)

    def extend_body_deadline(self, length: int) -> None:
        """Slow-body (slowloris) protection: each byte extends the deadline by 1 / `client_bytes_per_s`, up to `body_idle_s`."""
        if self.full:
            return  # it is waited for as one that does not take its response, however much it sends
        now = self.clock.now
        rules = self.rules
        deadline = self._deadline
        deadline.due = min(max(deadline.due, now) + length * rules.seconds_per_byte, now + rules.body_idle_s)

    def pause_body(self) -> None:
        """Read no more of a body: its deadline stands still, since it is not the client that is slow. One that does not
        take its response is still waited for.
        """
        if self.full:
            self._patience_s = self.rules.body_idle_s
            return
        self._patience_s = self._deadline.due - self.clock.now
        self._deadline.due = NEVER

    def resume_body(self) -> None:
        """Read a body on: its client has the time that was left, but not to take its response."""
        if not self.full:
            self.arm(min(self._patience_s, self.rules.body_idle_s))

    # Slow reads.

    def stalled(self) -> None:
        """Slow-read protection begins: the client does not take what was written as fast as it comes."""
        self.full = True
        self._unread = self.transport.backlog() if self.transport is not None else UNKNOWN
        self.arm(self.rules.taking_idle_s)

    def keeps_up(self) -> bool:
        """Slow-read protection, asked when the deadline has passed: whether a client that has not taken everything goes
        on taking, and not too slowly. Then it gets the same time again.
        """
        transport = self.transport
        backlog = transport.backlog() if transport is not None else UNKNOWN
        before = self._unread
        self._unread = backlog
        # The kernel counts a FIN of ours as one byte.
        if backlog <= 1 or (before >= 0 and before - backlog < self.rules.min_bytes_per_idle):
            return False
        self.arm(self.rules.taking_idle_s)
        return True

    # Ends.

    def linger(self, *, half_close: bool) -> None:
        """Lingering close: everything was said; close, and wait no longer than LINGER_S for it. `half_close`: send a
        FIN and listen on, since bytes of the client may be on their way; the client's FIN ends it.
        """
        if self.bound is not None:
            self._close_bound()
        if self.counted:
            self.end_request()
        transport = self.transport
        if transport is None:
            return
        transport.unregisterProducer()
        self.full = False
        self._unread = UNKNOWN
        if half_close and transport.can_half_close:
            self.arm(LINGER_S)
            transport.loseWriteConnection()
        else:
            if transport.flushed:
                self._deadline.due = NEVER  # closed at once
            else:
                self.arm(LINGER_S)
            transport.loseConnection()

    @property
    def takes_more(self) -> bool:
        """Whether the client has taken all that was written to it, or, on a foreign transport, as far as is known."""
        transport = self.transport
        return transport is not None and not self.full and (transport.flushed or not transport.can_half_close)

    def end(self, *, told: bool = False) -> None:
        """Close the connection without waiting for its client: in order where it has taken everything, else with a reset.
        `told`: it was told something just now, which a foreign transport may have to send first, in its own time.
        """
        transport = self.transport
        if transport is None:
            return
        self._deadline.due = NEVER
        transport.unregisterProducer()
        if transport.flushed or (told and self.takes_more):
            transport.loseConnection()
        else:
            transport.abortConnection()

    def abort(self) -> None:
        """Close the connection now, with a reset."""
        if self.transport is not None:
            self.transport.abortConnection()

    def drain(self) -> None:
        """See FrontendClient."""
        if self._speaker is not None:
            self._speaker.drain()

    def tell_good_bye(self) -> None:
        """See FrontendClient."""
        if self._speaker is not None:
            self._speaker.tell_good_bye()

    def kill(self, why: str = STOPS) -> None:
        """See FrontendClient."""
        if self._speaker is not None:
            self._speaker.kill(why)

    def at(self) -> Backend | None:
        """See FrontendClient."""
        return None if self._speaker is None else self._speaker.at()

    def unsent(self) -> bool:
        """See FrontendClient."""
        return self._speaker is not None and self._speaker.unsent()

    def note(self) -> Note | None:
        """See FrontendClient."""
        return None if self._speaker is None else self._speaker.note()

    def relayed(self) -> bool:
        """See FrontendClient."""
        return self._speaker is not None and self._speaker.relayed()

    def client_key(self) -> str:
        """See FrontendClient."""
        address = self.client.address.decode("ascii")
        return client_key(address) if ":" in address else address

    def idle_since(self) -> float:
        """See FrontendClient."""
        if self._speaker is None or not self._speaker.kept():
            return NEVER
        return self._deadline.due - self.rules.idle_s

    def retire(self) -> None:
        """See FrontendClient."""
        if self._speaker is not None:
            self._speaker.retire()

    def __repr__(self) -> str:
        return f"<ClientConnection of {self.client.address.decode('ascii')}>"
