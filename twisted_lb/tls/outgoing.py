"""TLS to backends: the context by which a pool's connections are made; names are verified unless somebody has said otherwise."""

import ssl
from dataclasses import dataclass, field
from typing import Final

from twisted_lb.tls.certificate import Certificate
from twisted_lb.tls.contexts import PROTOCOLS, load_into
from twisted_lb.tls.memory_file import memory_file


@dataclass(frozen=True)
class OutgoingSettings:
    """The settings of TLS to a pool's backends: `ca` is PEM, empty: the system's. `server_name` empty: the name of each backend, or
    the host that a request is sent on with. `certificate`: what is shown to who asks for one. `protocols` are offered, the preferred
    one first (ALPN).
    """

    verify: bool = True
    ca: bytes = field(default=b"", repr=False)
    server_name: str = ""
    certificate: Certificate | None = None
    protocols: tuple[str, ...] = PROTOCOLS


class Outgoing:
    """The context of TLS to a pool's backends. One is made for each settings, and kept while they are equal: sessions are its own."""

    def __init__(self, settings: OutgoingSettings) -> None:
        self.settings: Final = settings
        self.context: Final = _context(settings)

    @classmethod
    def of(cls, settings: OutgoingSettings, previous: "Outgoing | None" = None) -> "Outgoing":
        """The context for some settings: the one of before where they are equal."""
        return previous if previous is not None and previous.settings == settings else cls(settings)

    def server_name(self, otherwise: str) -> str:
        """The name to ask for and to verify, where it would be another one otherwise."""
        return self.settings.server_name or otherwise

    def __repr__(self) -> str:
        return f"<Outgoing {'verifies' if self.settings.verify else 'verifies nothing'}>"


def _context(settings: OutgoingSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(settings.protocols)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca:
        with memory_file(settings.ca) as path:
            context.load_verify_locations(path)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if settings.certificate is not None:
        load_into(context, settings.certificate)
    return context
