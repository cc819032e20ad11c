"""TLS handshakes in memory: a client of OpenSSL and a serving, over memory BIOs."""

import hashlib
import ssl
from dataclasses import dataclass

import trustme

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.serving import Policy, Serving
from twisted_lb.tls.settings import PolicySettings, TlsSettings


class Refused(Exception):
    """No context was chosen: the name is refused before OpenSSL hears of it."""


@dataclass
class Shaken:
    """A handshake that was made, seen from both ends."""

    client: ssl.SSLObject
    server: ssl.SSLObject
    policy: Policy

    @property
    def fingerprint(self) -> str:
        """Of the certificate that the server has shown."""
        return hashlib.sha256(self.client.getpeercert(True)).hexdigest()

    @property
    def resumed(self) -> bool:
        return self.server.session_reused

    @property
    def cipher(self) -> str:
        return self.server.cipher()[0]


def client(leaf: trustme.LeafCert | None = None, **more: object) -> ssl.SSLContext:
    """A client that trusts everybody, and shows a certificate if it has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in more.items():
        setattr(context, name, value)
    if leaf is not None:
        leaf.configure_cert(context)
    return context


def shake(
    serving: Serving,
    name: str | None = None,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
    *,
    chosen_by: str | None = None,
) -> Shaken:
    """A handshake, and a byte each way: that is when a client hears of what TLS 1.3 refuses. `chosen_by`: the name by which the
    context is chosen, where that is another one than the client's. ssl.SSLError as the client has it: the alert that it is sent.
    """
    chosen = serving.choose((name or "") if chosen_by is None else chosen_by)
    if chosen is None:
        raise Refused
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = (context or client()).wrap_bio(to_client, to_server, server_hostname=name, session=session)
    theirs = chosen.context.wrap_bio(to_server, to_client, server_side=True)
    todo = [ours, theirs]
    for _ in range(8):
        for one in list(todo):
            try:
                one.do_handshake()
                todo.remove(one)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                if one is theirs:
                    ours.do_handshake() if ours in todo else ours.read(1)
                raise
    assert not todo
    theirs.write(b"x")
    assert ours.read(1) == b"x"
    return Shaken(ours, theirs, chosen.policy)


def serving_of(*certificates: Certificate, strict: bool = False, **policy: object) -> Serving:
    """A serving of one policy."""
    return Serving.of(TlsSettings(certificates, PolicySettings(**policy), (), strict))
