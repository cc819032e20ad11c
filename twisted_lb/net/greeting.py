"""The greeting of a connection to a backend: what comes before its first request, a PROXY header and the handshake of TLS."""

import ssl
from typing import Any, Final, Protocol

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.backend import Backend
from twisted_lb.wire.paths import matching_host
from twisted_lb.wire.proxy_protocol import LOCAL_V2, UNKNOWN_V1


class OutgoingTls(Protocol):
    """How TLS is spoken to the backends of a pool."""

    @property
    def context(self) -> ssl.SSLContext:
        """The context of its connections, and of no others: sessions are its own."""

    def server_name(self, otherwise: str) -> str:
        """The name to ask for and to verify, where it would be another one otherwise."""


class Greeting:
    """The greeting of one connection: first `header`, in the clear, empty for none; then TLS by `context`, None for none, where `name` is
    asked for (SNI) and verified; an IP address is verified alone. `session`: that of a connection before, to be resumed. `apart`: the
    header is sent by itself, and not together with what follows. `agreed`: the protocol that both ends have agreed on (ALPN), once the
    handshake is over; empty for none.
    """

    __slots__ = ("_greetings", "_place", "agreed", "apart", "context", "header", "name", "session")

    def __init__(
        self,
        header: bytes,
        context: ssl.SSLContext | None = None,
        name: str = "",
        session: Any = None,
        greetings: "Greetings | None" = None,
        place: object = None,
        *,
        apart: bool = False,
    ) -> None:
        self.header: Final = header
        self.context: Final = context
        self.name: Final = name
        self.session: Final[Any] = session
        self.apart: Final = apart
        self.agreed: str = ""
        self._greetings: Final = greetings
        self._place: Final = place

    def secured(self, tls: Any) -> None:
        """The handshake is over; `tls` is its `ssl.SSLObject`, whose session a later one may resume."""
        self.agreed = tls.selected_alpn_protocol() or ""
        if self._greetings is not None:
            self._greetings.remember(self._place, tls)


class Greetings:
    """The greetings of a pool's connections, of one generation of its configuration: `tls` None: in the clear; `proxy`: the version of the
    PROXY protocol that they begin with, 0 for none. Connections with a PROXY header are their client's alone.

    A connection is for one name. Where none is configured for all of them (`tls.server_name`) they are kept apart by that.
    """

    def __init__(self, tls: OutgoingTls | None, proxy: int = 0) -> None:
        self.tls: Final = tls
        self.proxy: Final = proxy
        self._apart: Final = tls is not None and not tls.server_name("")
        # The last handshake by backend and name. Its object is kept, not its session: TLS 1.3 has tickets come any time after it.
        self._last: Final[dict[object, Any]] = {}

    def place(self, backend: Backend, wanted: str) -> object:
        """Where connections to a backend are kept that are good for a request to the host `wanted`, empty for the backend itself."""
        return (backend, wanted or host_of(backend.address)) if self._apart else backend

    def greeting(self, backend: Backend, wanted: str, header: bytes) -> Greeting:
        """The greeting of a connection to a backend, for requests to the host `wanted`, empty for the backend itself."""
        tls = self.tls
        if tls is None:
            return Greeting(header)
        place = self.place(backend, wanted)
        last = self._last.get(place)
        name = tls.server_name(wanted or host_of(backend.address))
        return Greeting(header, tls.context, name, None if last is None else last.session, self, place)

    def of_check(self, address: Address, wanted: str) -> Greeting:
        """The greeting of a check of a backend there, to the host `wanted`, empty for the backend itself. Its handshake is always a full
        one, in which the certificate is verified as it is now.
        """
        header = b"" if not self.proxy else UNKNOWN_V1 if self.proxy == 1 else LOCAL_V2
        tls = self.tls
        if tls is None:
            return Greeting(header, apart=True)
        return Greeting(header, tls.context, tls.server_name(wanted or host_of(address)))

    def remember(self, place: object, tls: Any) -> None:
        """Remember the last handshake with a backend."""
        self._last[place] = tls

    def forget_removed(self) -> None:
        """Forget the handshakes with backends that were removed."""
        for place in [place for place in self._last if _backend_of(place).removed]:
            del self._last[place]

    def __repr__(self) -> str:
        return f"<Greetings: PROXY {self.proxy or 'off'}, {self.tls!r}>"


def host_of(address: Address) -> str:
    """The host by which a backend is configured, as certificates have it; empty for a unix socket."""
    if not isinstance(address, TcpAddress):
        return ""
    return (address.name or address.host).partition("%")[0].removesuffix(".").lower()


def server_name_of(host: bytes) -> str:
    """The host that a Host field names, as certificates have it; empty where it names none."""
    return matching_host(host).strip(b"[]").decode("ascii", "replace")


def _backend_of(place: object) -> Backend:
    backend = place[0] if isinstance(place, tuple) else place
    assert isinstance(backend, Backend)
    return backend
