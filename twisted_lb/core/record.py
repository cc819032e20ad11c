"""The record of a request: what is known of it when it ends, for access logs, metrics and other observers."""

from collections.abc import Callable, Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.attempts import Attempt, smooth, up_to
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal, Reply
from twisted_lb.core.trace import Trace

# Looked up once, not for each request.
_OK: Final = Outcome.OK
_HTTP_1_0: Final = 10
# NGINX's number for a client that left before it was told anything.
_CLIENT_GONE: Final = 499
_TCP: Final = b"tcp"


# No cycle leads through it: what it refers to knows nothing of it.
@mypyc_attr(acyclic=True, free_list_len=1)
class Record:
    """The record of one request, from its head to its end; also of what was refused before it became one. Its server
    fills it in; observers read it, and may keep it.

    Moments are monotonic seconds, NEVER for what did not happen: `began` (the request's head was complete),
    `connected_at` (the last attempt had a connection), `head_at` (the final head of the response came), `first_byte_at`
    and `last_byte_at` (the first and the last byte of the response body came from the backend), `ended_at` (the client
    has been told all, or has left).

    `gathered_s` is how long its body was gathered before a backend was claimed (request buffering), in seconds; `queued_s` how long
    the request waited in the queue, `queued_behind` how many were in front of it when it
    joined, each time. `request_bytes` and `response_bytes` are what
    was taken from the client and given to it: payload of the bodies without their framing, or all bytes of a tunnel.

    `client` is the address that sent the request, by the claims of trusted proxies; `peer`, the one that is connected
    to us. Both are without port, or a word for those that have no address; `peer_port` is that of the latter, 0 where it has
    none. `method`, `target` and `request_id` hold validated characters only; `target` is as the client sent it, what was
    refused has `_` where it was not valid. The id is the one that an error page shows. `version` is 10 or 11, 0 for what was
    refused before its head was read; `scheme` that of the connection; `host` what was asked for, validated, "" where nothing
    was said. `fields` are the lines of its head that go on to a backend, as the client sent them: these are its words, and
    may hold any byte of a field's value. `agreed` is what our own TLS has agreed on with the client, or a balancer in front has told of it, None where neither is so. `trace` is what was found out of its trace, None where nobody looked. `listener`,
    `route` and `pool` are names, "" where none was found.

    `last` is the attempt that was made last, None where none was; `attempts` are all, in order, each with its backend, its
    outcome and a reason. `status` is what the client was told, 0 for nothing. `local_reply`: why there was one (an answer of our
    own), or None. `ended_by`: that reason; else CLIENT_GONE, CLIENT_FAULT or CANCELLED, if that cut it short; else the outcome
    of its last attempt.
    `grpc_status` is how a call of gRPC ended, by its own code; -1 for what is none, or did not say so.
    `detail` is what was wrong, in the words of whoever found it: a parser, the kernel; "" for nothing; of a request
    that went to no backend the host, too.
    """

    __slots__ = (
        "agreed",
        "began",
        "client",
        "connected_at",
        "detail",
        "ended_at",
        "ended_by",
        "fields",
        "first_byte_at",
        "gathered_s",
        "grpc_status",
        "head_at",
        "host",
        "last",
        "last_byte_at",
        "listener",
        "local_reply",
        "method",
        "peer",
        "peer_port",
        "pool",
        "queued_behind",
        "queued_s",
        "request_bytes",
        "request_id",
        "response_bytes",
        "route",
        "scheme",
        "status",
        "target",
        "trace",
        "version",
    )

    def __init__(self, began: float) -> None:
        self.began: Final = began
        self.connected_at: float = NEVER
        self.head_at: float = NEVER
        self.first_byte_at: float = NEVER
        self.last_byte_at: float = NEVER
        self.ended_at: float = NEVER
        self.gathered_s: float = 0.0
        self.queued_s: float = 0.0
        self.queued_behind: int = 0
        self.request_bytes: int = 0
        self.response_bytes: int = 0
        self.client: str = ""
        self.peer: str = ""
        self.peer_port: int = 0
        self.version: int = 0
        self.scheme: bytes = b""
        self.host: bytes = b""
        self.fields: bytes = b""
        self.agreed: Agreed | None = None
        self.trace: Trace | None = None
        self.listener: str = ""
        self.method: bytes = b""
        self.target: bytes = b""
        self.request_id: bytes = b""
        self.route: str = ""
        self.pool: str = ""
        self.last: Attempt | None = None
        self.status: int = 0
        self.grpc_status: int = -1
        self.local_reply: Refusal | Outcome | Reply | None = None
        self.ended_by: Refusal | Outcome | Reply | None = None
        self.detail: str = ""

    @property
    def took_s(self) -> float:
        """How long the request took, in seconds; infinite while it lasts."""
        return self.ended_at - self.began

    @property
    def session(self) -> bool:
        """Whether it is a connection that was carried as it is (TCP): it has no status, and its target is a name."""
        return self.scheme == _TCP

    @property
    def told_status(self) -> int:
        """The status for a log: 499 of a client that left before it was told any; 0 where nobody was told, and of a session."""
        if self.status or self.ended_by is not Outcome.CLIENT_GONE or self.session:
            return self.status
        return _CLIENT_GONE

    @property
    def attempts(self) -> list[Attempt]:
        """All attempts that were made, in order: O(attempts), made anew at each call."""
        return up_to(self.last)

    @property
    def trace_id(self) -> bytes:
        """That of the trace that was begun here and told to the backend; empty where there is none."""
        trace = self.trace
        return trace.trace_id if trace is not None and not trace.parent and trace.spans else b""

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of the last attempt; None when there was none."""
        return None if self.last is None else self.last.outcome

    @property
    def plain(self) -> bool:
        """Whether the client simply got the answer of the first backend that was asked, or of its hedge, or the one that its route gives."""
        if self.ended_by is _OK:
            return smooth(self.last)
        return isinstance(self.ended_by, Reply)

    @property
    def backend_name(self) -> str:
        """The name of the backend that was asked last; "" when none was."""
        return "" if self.last is None else self.last.lease.backend.name

    def __repr__(self) -> str:
        request = f"{self.method.decode('ascii', 'replace')} {self.target.decode('ascii', 'replace')}"
        return f"<Record {request} {self.status}, {len(self.attempts)} attempts>"


# An observer is told the record of a request that has ended; it must not raise.
Observer = Callable[[Record], None]


class Observers:
    """Who is told of requests: `of_all` the record of each, `of_failures` of those that are not plain. Where nobody is of
    the former (`watching`), a plain request has no record, and costs none. `leavers`: somebody is interested in requests whose clients just
    left, with whom nothing had gone wrong; of these there may be floods (rapid reset).
    """

    __slots__ = ("anybody", "leavers", "of_all", "of_failures", "watching")

    def __init__(
        self, of_all: Sequence[Observer] = (), of_failures: Sequence[Observer] = (), *, leavers: bool = True
    ) -> None:
        self.of_all: Final = tuple(of_all)
        self.of_failures: Final = tuple(of_failures)
        self.watching: Final = bool(of_all)
        self.anybody: Final = bool(of_all or of_failures)
        self.leavers: Final = bool(of_all or (of_failures and leavers))

    def tell(self, record: Record) -> None:
        """Tell all whom it concerns."""
        for observer in self.of_all:
            observer(record)
        if self.of_failures and not record.plain:
            for observer in self.of_failures:
                observer(record)


def version_name(version: int) -> str:
    """What a version of HTTP is called (a record's `version`), as OpenTelemetry does: `1.0`, `1.1`, `2`."""
    return f"{version // 10}.{version % 10}" if version % 10 or version == _HTTP_1_0 else str(version // 10)
