"""What TLS has agreed on for one connection of a client, and by which policy."""

import ssl
from sys import intern
from typing import Any, Final, Protocol

from twisted_lb.core.agreed import Agreed, ToldByProxy


class Policy(Protocol):
    """A TLS policy: who may connect, and how. The same object for as long as it says the same, so that two are told by identity."""

    @property
    def client_certificate(self) -> str:
        """Whether a certificate is asked of clients: "off", "request" or "require"."""

    def met_by(self, other: Any) -> bool:
        """Whether a connection that was made by another policy meets this one."""


class Chosen(Protocol):
    """What a ClientHello is answered by."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context of its policy."""

    @property
    def policy(self) -> Policy:
        """Its policy."""


class Peer(Protocol):
    """What the certificate of a client says, in printable ASCII."""

    @property
    def subject(self) -> str:
        """Its subject (RFC 4514), empty for none."""

    @property
    def fingerprint(self) -> str:
        """Its SHA-256."""

    def lines(self) -> bytes:
        """Lines for backends about it."""


class Serving(Protocol):
    """The certificates and policies of a listener, by server name."""

    @property
    def single(self) -> bool:
        """Whether one policy is that of all names."""

    def choose(self, server_name: str) -> Chosen | None:
        """What answers the ClientHello with this server name (SNI), empty for none; None: nobody of that name is here."""

    def policy_of(self, host: str) -> Policy:
        """The policy of a host that a request names."""

    def peer(self, tls: Any) -> Peer | None:
        """What the certificate says that the client of this `ssl.SSLObject` has shown; None where it has not."""


class Secured:
    """What was agreed on. `policy` is that by which the client was let in, `server_name` what it asked for (SNI), `told` what a balancer in
    front has told of it.
    """

    def __init__(
        self, serving: Serving, policy: Policy, server_name: str, tls: Any, told: ToldByProxy | None = None
    ) -> None:
        self.policy: Final = policy
        self.server_name: Final = server_name
        # Lines for backends about the client's certificate; they are there once the handshake is over.
        self.certificate: bytes = b""
        # And so is this, for logs and explanations.
        self.agreed: Agreed = Agreed("", "", server_name, told=told)
        # What client and listener agree to speak (ALPN); empty where they have said nothing of it.
        self.protocol: str = ""
        self._serving: Final = serving
        self._tls: Final = tls

    def complete(self) -> None:
        """The handshake is over."""
        tls, peer = self._tls, None
        if self.policy.client_certificate != "off":
            peer = self._serving.peer(tls)
        if peer is not None:
            self.certificate = peer.lines()
        self.protocol = str(tls.selected_alpn_protocol() or "")
        cipher = tls.cipher()
        # A few texts for all connections: what is kept of requests refers to them.
        self.agreed = Agreed(
            intern(str(tls.version() or "")),
            intern(str(cipher[0])) if cipher else "",
            self.server_name,
            resumed=bool(tls.session_reused),
            subject="" if peer is None else peer.subject,
            fingerprint="" if peer is None else peer.fingerprint,
            told=self.agreed.told,
        )

    @property
    def certified(self) -> bool:
        """Whether the client has shown a certificate, which was found to be good."""
        return bool(self._tls.getpeercert())

    @property
    def common_name(self) -> str:
        """The common name in the client's certificate; empty without one."""
        subject = (self._tls.getpeercert() or {}).get("subject", ())
        return next((str(value) for part in subject for key, value in part if key == "commonName"), "")

    def serves(self, host: str, serving: Serving | None) -> bool:
        """Whether the client's check holds for this host too, by what the listener serves TLS with now. If not, it has to connect anew."""
        return serving is None or self.serves_all(serving) or serving.policy_of(host).met_by(self.policy)

    def serves_all(self, serving: Serving | None) -> bool:
        """Whether it surely holds for every host: there is one policy, and no reload has been since."""
        return serving is self._serving and self._serving.single

    def __repr__(self) -> str:
        return f"<Secured {self.agreed.version or 'unfinished'} for {self.server_name or 'no name'}>"
