"""The upstream: a request's way to a backend and back, whatever is spoken there; and who asks on it."""

from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.relay import Leg
from twisted_lb.wire.proxy_protocol import LOCAL_V2, UNKNOWN_V1
from twisted_lb.wire.request import RequestHead
from twisted_lb.wire.response import ResponseHead


@mypyc_attr(allow_interpreted_subclasses=True)
class Requester:
    """The requester of an upstream, which sends a request there: what it is told, in this order.

    `connected` or `unreachable`; `streamed`, where it has become a call of HTTP/2; then `informed` (1xx) any number of times; then `response_started`, `payload` any
    number of times, `response_ended`; or `switched` (101); or `failed` at any point. A class and no typing.Protocol:
    compiled, its methods are then called without being looked up.
    """

    def server_name(self) -> str:
        """The host that the request is for at the backend, for a connection over TLS; empty: the backend itself."""
        return ""

    def proxy_header(self, version: int) -> bytes:
        """The header of the PROXY protocol, of this version, that tells the backend of a new connection whose it is."""
        return UNKNOWN_V1 if version == 1 else LOCAL_V2

    def connected(self, upstream: "Upstream") -> None:
        """The way is there, and nobody else's: call `Upstream.begin` at once."""
        raise NotImplementedError

    def unreachable(self, outcome: Outcome, detail: str) -> None:
        """No connection could be made."""
        raise NotImplementedError

    def streamed(self, number: int) -> None:
        """The request is sent as a call of HTTP/2, on the stream of this number."""

    def informed(self, head: ResponseHead) -> None:
        """An interim response (1xx, but not 101) came."""
        raise NotImplementedError

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """The backend has switched protocols (101), and `rest` came behind that. BadMessage if nobody asked for it."""
        raise NotImplementedError

    def response_started(self, head: ResponseHead, framing: int) -> None:
        """The final head came; `framing` is the length of the body in bytes, CHUNKED or UNTIL_CLOSE."""
        raise NotImplementedError

    def payload(self, data: bytes) -> None:
        """A piece of the response body came, never empty."""
        raise NotImplementedError

    def flush(self) -> None:
        """Nothing follows at once: what was told may be sent."""
        raise NotImplementedError

    def response_ended(self, trailers: bytes) -> None:
        """The response is complete, and the upstream has let go of its requester."""
        raise NotImplementedError

    def failed(self, outcome: Outcome, detail: str) -> None:
        """The exchange cannot be finished there: the connection is closed, or the call on it is over."""
        raise NotImplementedError

    def spare(self) -> None:
        """`unreachable` or `failed` comes next, for what is counted with somebody else's request already: a connection that many share is
        one failure of its backend.
        """

    def movable_since(self) -> float:
        """When the request was sent, if it may be sent to another backend too; NEVER if it may not."""
        raise NotImplementedError

    def move(self, detail: str) -> bool:
        """Move the request to another backend, since this one owes the whole answer and is down, as `detail` says. False,
        and nothing is changed, when none has room or the retry budget is spent.
        """
        raise NotImplementedError

    def idle_due(self) -> float:
        """The moment until which the next byte of the response body is waited for (monotonic seconds)."""
        raise NotImplementedError

    def keep(self, upstream: "Upstream") -> bool:
        """A response on a connection that is the client's alone is nearly told (`Upstream.bound`): keep it for the client's
        next requests, and for nobody else's; False, and it is closed, when that cannot be.
        """
        return False

    def upstream_full(self) -> None:
        """The backend does not take the request as fast as it is sent (back-pressure)."""
        raise NotImplementedError

    def upstream_drained(self) -> None:
        """The backend takes more of the request."""
        raise NotImplementedError


class Upstream:
    """A request's way to a backend: a connection of HTTP/1.1, or a call on one of HTTP/2. A class for the same reason as `Requester`.

    It is written to through `begin`, `send`, `finish`; the response is told to the requester. A requester that wants no
    more calls `abandon`; after the response is complete it lets go of the requester by itself.

    `bound`: it is its client's alone (see `Http1Upstream`). `full`: the backend does not take what was written. `opened_at`: since
    when its connection is up; -NEVER: that is worn, and leads nobody else anywhere. `reuse_until`: until when an idle one may be used.
    """

    __slots__ = ("backend", "bound", "full", "opened_at", "requester", "reuse_until")

    def __init__(self, backend: Backend) -> None:
        self.backend: Final = backend
        self.requester: Requester | None = None
        self.opened_at: float = NEVER
        self.reuse_until: float = NEVER
        self.bound: bool = False
        self.full: bool = False

    def begin(self, requester: Requester, head: bytes, request: RequestHead, due: float) -> None:
        """Send the head of a request, and wait for the head of its response until `due`. A head with a body waits for
        `send`, `finish` or `flush`, so that both leave together.
        """
        raise NotImplementedError

    def send(self, payload: bytes) -> None:
        """Send a piece of the request body, never empty."""
        raise NotImplementedError

    def finish(self, trailers: bytes) -> None:
        """End the request body: it is complete."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send a request head whose body is not there yet."""
        raise NotImplementedError

    def arm(self, due: float) -> None:
        """Move the deadline of the wait for this backend."""
        raise NotImplementedError

    def pause(self) -> None:
        """Read no more (back-pressure): the client takes no more. The backend is not blamed for the wait."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read on: the client takes more. First what is here already."""
        raise NotImplementedError

    def abandon(self) -> None:
        """End it now: what is still to come is of no use."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it in order; only one without an exchange."""
        raise NotImplementedError

    def leave_behind(self, requester: Requester, due: float) -> None:
        """Tell what still comes to another requester, until `due`: nobody waits for it."""
        raise NotImplementedError

    def release(self, rest: bytes) -> Leg:
        """Give the connection to a tunnel; `rest` is what was read last. From here on only its end is told."""
        raise NotImplementedError

    @property
    def owes_all(self) -> bool:
        """Whether a request is on its way, and not one byte of its answer has come."""
        raise NotImplementedError

    @property
    def sent_all(self) -> bool:
        """Whether the request was sent whole: its backend may be at work on it."""
        raise NotImplementedError

    @property
    def proxied(self) -> bool:
        """Whether it is its client's alone since it began with a PROXY header."""
        return False

    @property
    def idle(self) -> bool:
        """Whether it is open, and nothing is asked of it."""
        return False

    def belongs_to(self, keeper: object) -> bool:
        """Whether it leads to a backend of this owner's pool."""
        raise NotImplementedError
