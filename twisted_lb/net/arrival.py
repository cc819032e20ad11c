"""The arrival of a connection: from an accepted socket to a known client and a protocol.

First the header of the PROXY protocol, where the listener wants one, then the ClientHello, where its name leads somewhere or the listener has
certificates, and TLS, unless that is somebody else's to end. Each stage is bounded, all of them have one deadline, and the connection counts at the listener's gate from its `accept` on.
"""

import _socket
import os
import socket
from typing import Any, Final, Protocol

from mypy_extensions import mypyc_attr
from twisted.logger import Logger

from twisted_lb.core.agreed import Agreed, ToldByProxy
from twisted_lb.core.backend import Backend
from twisted_lb.core.gate import client_key
from twisted_lb.core.handshake_counts import Failure
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note
from twisted_lb.core.suppression import Suppression
from twisted_lb.net.client_connection import LINGER_S
from twisted_lb.net.deadlines import Deadline
from twisted_lb.net.frontend import STOPS, Frontend
from twisted_lb.net.interfaces import StreamProtocol
from twisted_lb.net.local_reply import Claim
from twisted_lb.net.poller import PEER_CLOSED, READ, Pollable, Poller
from twisted_lb.net.proxied import told_by
from twisted_lb.net.secured import Secured
from twisted_lb.net.session import Session
from twisted_lb.net.session_table import Way
from twisted_lb.net.tls import LEFT, TlsTransport
from twisted_lb.net.transport import Transport
from twisted_lb.wire.client_hello import (
    DECODE_ERROR,
    UNRECOGNIZED_NAME,
    BadHello,
    ClientHello,
    alert,
    looks_like_http,
    read_hello,
)
from twisted_lb.wire.http2.frames import PREFACE
from twisted_lb.wire.proxy_protocol import BadProxy, ProxyHeader, read_proxy

# One receive: the longest PROXY header and the longest ClientHello fit into a few of them.
_RECEIVE_BYTES: Final = 16384
# Read while it waits for its turn, at its end alone: the kernel says no more of a peer that has closed its side.
_MOST_WAITING_BYTES: Final = 65536

# A reason is said so often, at most.
_SAID_EVERY_S: Final = 1.0

_log = Logger("twisted_lb.net.arrival")  # by name: compiled, there is no frame to learn it from


class Build(Protocol):
    """What makes the protocol of a connection that has arrived."""

    def __call__(self, secured: Secured | None, agreed: Agreed | None = None, *, http2: bool = False) -> StreamProtocol:
        """It is told what TLS has agreed on, None: it came in the clear; and what is known then of one that did, None for nothing; and
        whether it speaks HTTP/2.
        """


class Arrivals:
    """The arrivals of one listener's connections, by the rules of its frontend as they are when each begins. `build` makes the protocol
    of one that has arrived.
    """

    def __init__(
        self,
        frontend: Frontend,
        poller: Poller,
        build: Build,
    ) -> None:
        self.frontend: Final = frontend
        self.poller: Final = poller
        self.build: Final = build
        self.said: Final = Suppression(_SAID_EVERY_S)

    @property
    def staged(self) -> bool:
        """Whether anything comes before the first request."""
        frontend = self.frontend
        return frontend.arrival_rules.proxy or frontend.serving is not None or frontend.by_name or frontend.http2

    def take(self, sock: _socket.socket | int, peer: Any, port_name: str, family: int) -> None:
        """Take in an accepted socket, or its descriptor, which does not block."""
        arrival = Arrival(self, sock, peer, port_name, family)
        try:
            arrival.begin()
        except Exception:
            arrival.crashed()  # it holds neither its place nor its descriptor
            raise


@mypyc_attr(free_list_len=1)
class Arrival(Pollable):
    """One connection on its way, a client of the frontend from `begin` until a protocol has it, or it is closed."""

    __slots__ = (
        "_arrivals", "_deadline", "_family", "_fd", "_frontend", "_handshaking", "_hello", "_here", "_key", "_lingering", "_peer",
        "_port_name", "_proxied", "_received", "_secured", "_sock", "_told", "_transport", "_waits_for_proxy",
    )  # fmt: skip

    def __init__(self, arrivals: Arrivals, sock: _socket.socket | int, peer: Any, port_name: str, family: int) -> None:
        self._arrivals: Final = arrivals
        self._frontend: Final = arrivals.frontend
        self._sock: Final = sock
        self._fd: Final = sock if isinstance(sock, int) else sock.fileno()
        self._peer: Any = peer
        self._port_name: str = port_name
        self._family: int = family
        self._received: bytes = b""
        self._here: bool = False  # it counts at the gate and is a client of the frontend
        self._key: str = ""  # the client for whom it is counted
        self._lingering: bool = False
        self._handshaking: bool = False
        self._waits_for_proxy: bool = False
        self._proxied: ProxyHeader | None = None
        self._told: ToldByProxy | None = None
        self._hello: ClientHello | None = None
        self._secured: Secured | None = None
        self._transport: Transport | None = None  # once it has the descriptor
        self._deadline: Final = Deadline(self._timed_out)

    def begin(self) -> None:
        """Begin: the connection counts from here on."""
        frontend = self._frontend
        rules = frontend.arrival_rules
        frontend.gate.arrive()
        frontend.clients[self] = None
        self._here = True
        self._arrivals.poller.add(self._fd, self, READ | PEER_CLOSED)
        frontend.deadlines.arm(self._deadline, frontend.clock.now + rules.patience_s)
        if rules.proxy:
            self._waits_for_proxy = rules.speaks_for_others(self._address())
            if not self._waits_for_proxy and rules.proxy_only:
                self._refuse(Failure.NO_PROXY, "it may not speak for others (proxy_protocol_from)")
                return
        if not self._waits_for_proxy:
            self._client_known()

    def _client_known(self) -> None:
        """The client is known: it has so many on their way as it may have connections, unless it is a trusted proxy."""
        frontend = self._frontend
        if frontend.serving is None and not frontend.by_name:
            self._look_for_preface()
            return
        gate = frontend.gate
        if gate.per_client:
            client = frontend.client_at(self._address(), b"https", self._port_name)
            key = "" if client.trusted else self.client_key()
            if not gate.arriving.claim(key):
                self._refuse(Failure.TOO_MANY, "its client has too many on their way")
                return
            self._key = key
        if self._received:
            self._look_for_hello()

    def _address(self) -> str:
        return "unix" if self._family == socket.AF_UNIX else str(self._peer[0])

    def _peer_port(self) -> int:
        return 0 if self._family == socket.AF_UNIX else int(self._peer[1])

    # Reading.

    def ready(self, flags: int) -> None:
        """See Pollable."""
        try:
            data = os.read(self._fd, _RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            if not self._lingering:
                self._frontend.handshaken.failed(Failure.LEFT)
            self._close()
        elif not self._lingering:
            self._received += data
            if self._hello is None:
                self._go_on()
            elif len(self._received) > _MOST_WAITING_BYTES:
                self._close()

    def crashed(self) -> None:
        """See Pollable."""
        self._close()

    def _go_on(self) -> None:
        """Work off the stages that what has come is enough for."""
        if self._waits_for_proxy:
            try:
                header = read_proxy(self._received)
            except BadProxy as bad:
                self._refuse(Failure.BAD_PROXY, str(bad))
                return
            if header is None:
                return
            self._waits_for_proxy = False
            self._received = self._received[header.size :]
            self._go_by(header)
            self._client_known()
        elif self._frontend.serving is None and not self._frontend.by_name:
            self._look_for_preface()
        else:
            self._look_for_hello()

    def _go_by(self, header: ProxyHeader) -> None:
        """The client is who the header names."""
        self._proxied = header
        self._told = told_by(header)
        if header.source:
            self._family = socket.AF_INET6 if ":" in header.source else socket.AF_INET
            self._peer = (header.source, header.source_port)
            self._port_name = str(header.destination_port)

    def _say_host(self, transport: Transport) -> None:
        header = self._proxied
        if header is not None and header.destination:
            transport.say_host(header.destination, header.destination_port)

    def _look_for_preface(self) -> None:
        """In the clear it is its first bytes that tell HTTP/2 (RFC 9113 3.3): nothing of HTTP/1.1 begins with them."""
        frontend, received = self._frontend, self._received
        if frontend.tcp or not frontend.http2:
            self._hand_over()
        elif received.startswith(PREFACE) or not frontend.http1:
            self._hand_over(http2=True)
        elif received and not PREFACE.startswith(received):
            self._hand_over()

    def _look_for_hello(self) -> None:
        frontend = self._frontend
        in_the_clear = frontend.tcp and frontend.serving is None
        if looks_like_http(self._received) and not in_the_clear:
            self._answer_http()
            return
        try:
            hello = read_hello(self._received)
        except BadHello as bad:
            if in_the_clear:
                self._hand_over()  # it is no TLS, and says no name
            else:
                self._alert(DECODE_ERROR, Failure.NO_TLS, str(bad))
            return
        if hello is None:
            return
        if frontend.by_name and self._passes_on(hello):
            return
        self._hello = hello
        # Nothing more is read until its turn: what TLS takes from here on is bounded by the kernel.
        self._arrivals.poller.change(self._fd, PEER_CLOSED)
        if self._frontend.handshakes.claim(self):
            self.begin_handshake()

    def _passes_on(self, hello: ClientHello) -> bool:
        """Whether the name in the ClientHello leads to where its TLS ends elsewhere, or to nobody: then the connection is carried there
        as it is, or closed.
        """
        frontend, name = self._frontend, hello.server_name
        sessions = frontend.sessions
        way = None if sessions is None else sessions.find(name, self._address())
        if way is None and frontend.serving is None:
            self._alert(UNRECOGNIZED_NAME, Failure.NO_ROUTE, f"no route takes {name or 'what says no name'}")
            return True
        ends_here = way is None or (way.terminates and frontend.serving is not None)
        if not ends_here:
            self._hand_over(name, way)
        return not ends_here

    # The handshake.

    def begin_handshake(self) -> None:
        """See Beginner. Nobody else who waits is held up by a bug in this one."""
        self._handshaking = True
        try:
            self._answer_hello()
        except Exception:
            _log.failure("a handshake could not be begun; its connection is closed")
            self._close()

    def _answer_hello(self) -> None:
        serving, hello = self._frontend.serving, self._hello
        assert hello is not None
        chosen = None if serving is None else serving.choose(hello.server_name)
        if serving is None or chosen is None:
            self._alert(
                UNRECOGNIZED_NAME, Failure.NO_CERTIFICATE, f"no certificate is for {hello.server_name or 'no name'}"
            )
            return
        arrivals = self._arrivals
        transport = self._transport = TlsTransport(
            arrivals.poller,
            self._sock,
            chosen.context,
            self,
            server_side=True,
            peer=self._peer,
            port_name=self._port_name,
            family=self._family,
        )
        self._say_host(transport)
        self._secured = Secured(serving, chosen.policy, hello.server_name, transport.tls, self._told)
        received = self._received
        self._received = b""
        arrivals.poller.change(self._fd, READ | PEER_CLOSED)
        transport.begin(received, watched=True)

    def secured(self, transport: TlsTransport) -> None:
        """See Handshake."""
        self._end_handshake()
        secured = self._secured
        assert secured is not None
        secured.complete()
        agreed = secured.agreed
        self._frontend.handshaken.succeeded(agreed.version, agreed.cipher, resumed=agreed.resumed)
        self._frontend.agreeing = True
        self._leave()
        transport.take_over(self._protocol(secured), b"")

    def failed(self, transport: TlsTransport, reason: str) -> None:
        """See Handshake."""
        self._end_handshake()
        if not self._here:
            return  # closed by us, and counted by why it was
        if reason.startswith(LEFT):
            self._frontend.handshaken.failed(Failure.LEFT)
        else:
            self._frontend.handshaken.refused(reason)
        self._say(reason.partition(":")[0], reason)
        if transport.connected:
            self._linger()
        else:
            self._leave()

    def lost(self, transport: TlsTransport) -> None:
        """See Handshake: it holds its place no longer than its client is there."""
        self._leave()

    def _end_handshake(self) -> None:
        if self._handshaking:
            self._handshaking = False
            self._frontend.handshakes.end()

    # Ends.

    def _protocol(self, secured: Secured) -> StreamProtocol:
        """What is spoken inside of TLS: HTTP, or what nobody here looks at."""
        frontend = self._frontend
        sessions, name = frontend.sessions, secured.server_name
        # By ALPN; who says nothing of it speaks what was spoken before there was any, if anybody does here.
        http2 = not frontend.tcp and (secured.protocol == "h2" or not (secured.protocol or frontend.http1))
        if sessions is None or frontend.tcp:
            return self._arrivals.build(secured, http2=http2)
        way = sessions.find(name, self._address())
        return self._arrivals.build(secured, http2=http2) if way is None else self._session(secured, name, way)

    def _session(self, secured: Secured | None, server_name: str, way: Way) -> StreamProtocol:
        return Session(self._frontend, secured, server_name, way, None if secured is not None else self._agreed)

    def _hand_over(self, server_name: str = "", way: Way | None = None, *, http2: bool = False) -> None:
        """Everything is known, and nothing is secured. `way`: where the name in the ClientHello leads, which stays as it is."""
        transport = self._transport = Transport(
            self._arrivals.poller, self._sock, self._peer, self._port_name, self._family
        )
        self._say_host(transport)
        received = self._received
        self._received = b""
        self._leave()
        self._arrivals.poller.change(self._fd, READ | PEER_CLOSED)
        agreed = self._agreed
        if agreed is not None:
            self._frontend.agreeing = True
        protocol = (
            self._arrivals.build(None, agreed, http2=http2) if way is None else self._session(None, server_name, way)
        )
        transport.take_over(protocol, received)

    @property
    def _agreed(self) -> Agreed | None:
        """What is known of it in the clear: what a header has told."""
        told = self._told
        return None if told is None else Agreed("", "", told=told)

    def _answer_http(self) -> None:
        """Plain HTTP on a port for TLS: say so, in words that its client understands."""
        frontend = self._frontend
        frontend.handshaken.failed(Failure.PLAIN_HTTP)
        self._say(Failure.PLAIN_HTTP.value, "it speaks HTTP without TLS")
        address = self._address()
        client = frontend.client_at(address, b"http", self._port_name)
        claim = Claim(address, self._received).over(client, self._peer_port())
        claim.agreed = self._agreed
        self._write(frontend.plain_on_tls(claim))
        self._finish()

    def _alert(self, description: int, failure: Failure, reason: str) -> None:
        """Refuse a ClientHello, or what is none."""
        self._end_handshake()
        self._frontend.handshaken.failed(failure)
        self._say(failure.value, reason)
        self._write(alert(description))
        self._finish()

    def _refuse(self, failure: Failure, reason: str) -> None:
        """Close what must not be read on."""
        self._frontend.handshaken.failed(failure)
        self._say(failure.value, reason)
        self._close()

    def _say(self, kind: str, reason: str) -> None:
        """Log why it did not arrive, one of a kind a second: all of them are counted, and whoever likes may send a flood."""
        left_out = self._arrivals.said.note(kind, reason, self._frontend.clock.now)
        if left_out is not None:
            text = f"{reason} (and {left_out} more before)" if left_out else reason
            _log.debug("a connection of {address} did not arrive: {reason}", address=self._address(), reason=text)

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)  # the first bytes of a connection, a few: the kernel takes all or its peer is gone
        except OSError:
            pass

    def _finish(self) -> None:
        """Close behind what was said: a FIN, and what still comes is thrown away, since a reset would take away what was said."""
        known = _socket.socket(self._family, socket.SOCK_STREAM, 0, self._fd)
        try:
            known.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        finally:
            known.detach()  # the descriptor stays ours
        self._arrivals.poller.change(self._fd, READ | PEER_CLOSED)
        self._linger()

    def _linger(self) -> None:
        self._lingering = True
        self._frontend.deadlines.arm(self._deadline, self._frontend.clock.now + LINGER_S)

    def _timed_out(self) -> None:
        if self._waits_for_first_byte:
            self._hand_over()  # where its server speaks first, a client says no name
            return
        if not self._lingering:
            self._frontend.handshaken.failed(Failure.TIMED_OUT)
            self._say(Failure.TIMED_OUT.value, "it took too long")
        self._close()

    @property
    def _waits_for_first_byte(self) -> bool:
        """Whether it may be TCP of which the server speaks first: nothing has come, and nothing has to."""
        frontend = self._frontend
        plain = frontend.tcp and frontend.serving is None and not self._waits_for_proxy
        return plain and self._here and not (self._lingering or self._received)

    def _close(self) -> None:
        """Close it now."""
        self._end_handshake()
        transport = self._transport
        if transport is not None:
            self._leave()
            transport.abortConnection()
        elif self._here:
            self._leave()
            self._arrivals.poller.forget(self._fd)
            self._arrivals.poller.close_later(self._sock)

    def _leave(self) -> None:
        """It is no arrival any more: a protocol has it, or it is closed. Harmless when it has left."""
        self._deadline.end()
        self._received = b""
        if self._here:
            self._here = False
            self._frontend.handshakes.withdraw(self)
            self._frontend.clients.pop(self, None)
            self._frontend.gate.arriving.release(self._key)
            self._frontend.gate.depart()

    # A client of the frontend: see FrontendClient.

    def drain(self) -> None:
        """See FrontendClient: it is let in, as one is that was accepted a moment before."""

    def tell_good_bye(self) -> None:
        """See FrontendClient."""

    def kill(self, why: str = STOPS) -> None:
        """See FrontendClient."""
        self._close()

    def at(self) -> Backend | None:
        """See FrontendClient."""
        return None

    def unsent(self) -> bool:
        """See FrontendClient."""
        return False

    def note(self) -> Note | None:
        """See FrontendClient."""
        return None

    def relayed(self) -> bool:
        """See FrontendClient."""
        return False

    def client_key(self) -> str:
        """See FrontendClient."""
        address = self._address()
        return client_key(address) if ":" in address else address

    def idle_since(self) -> float:
        """See FrontendClient."""
        return NEVER

    def retire(self) -> None:
        """See FrontendClient."""
        self._close()

    def __repr__(self) -> str:
        return f"<Arrival of {self._address()}>"
