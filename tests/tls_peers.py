"""Peers for tests of TLS: certificates of an authority that is made for them, and a client in memory over a socket."""

import contextlib
import ssl
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import trustme

from twisted_lb.tls.peer import Peer, peer_of


@cache
def authority() -> trustme.CA:
    """The authority of all tests."""
    return trustme.CA()


@cache
def server_context(name: str = "localhost") -> ssl.SSLContext:
    """A server's context with a certificate for this name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    authority().issue_cert(name).configure_cert(context)
    return context


@cache
def client_context() -> ssl.SSLContext:
    """A client's context, which trusts the authority."""
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


class TlsEnd:
    """One end of TLS in memory: bytes of the wire in and out, plain text in and out. `ended`: the other one said close_notify."""

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool = False, name: str | None = "localhost", session: Any = None
    ) -> None:
        self.inbound, self.outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.inbound,
            self.outbound,
            server_side=server_side,
            server_hostname=None if server_side else name,
            session=session,
        )
        self.up = False
        self.ended = False

    def shake(self) -> bool:
        """Go on with the handshake; whether it is over. An SSLError of it leaves here, its alert is in `outbound`."""
        if not self.up:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                self.up = True
        return self.up

    def read(self) -> bytes:
        """All plain text that has come."""
        parts = []
        while not self.ended:
            try:
                plain = self.tls.read(1 << 14)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                plain = b""
            if not plain:
                self.ended = True
            parts.append(plain)
        return b"".join(parts)

    def say_good_bye(self) -> None:
        """Say close_notify."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()


@dataclass(frozen=True)
class Policy:
    """A TLS policy."""

    name: str = "intermediate"
    client_certificate: str = "off"

    def met_by(self, other: "Policy") -> bool:
        return self == other


@dataclass(frozen=True)
class Chosen:
    """What a ClientHello is answered by."""

    context: ssl.SSLContext
    policy: Policy


@dataclass
class Serving:
    """The certificates of a listener: one for everybody, and of the names in `others` what those have; nobody else where it is strict."""

    default: Chosen = field(default_factory=lambda: Chosen(server_context(), Policy()))
    others: dict[str, Chosen] = field(default_factory=dict)
    strict: bool = False

    @property
    def single(self) -> bool:
        return not self.others

    def choose(self, server_name: str) -> Chosen | None:
        found = self.others.get(server_name, self.default)
        return None if self.strict and found is self.default and server_name != "localhost" else found

    def peer(self, tls: Any) -> Peer | None:
        return peer_of(tls.getpeercert(), tls.getpeercert(True))

    def policy_of(self, host: str) -> Policy:
        return self.others.get(host, self.default).policy
