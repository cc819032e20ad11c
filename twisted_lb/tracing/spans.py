"""Spans of a request (OTLP as JSON): a server span of its own, and a client span for each attempt, by OpenTelemetry's names."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.attempts import Attempt
from twisted_lb.core.flow import METHODS
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome, Refusal, Reply
from twisted_lb.core.record import Record, version_name
from twisted_lb.core.trace import Trace

# Of opentelemetry.proto.trace.v1: Span.SpanKind, Status.StatusCode, and what Span.flags says of a parent.
_SERVER: Final = 2
_CLIENT: Final = 3
_ERROR: Final = 2
_SAMPLED: Final = 0x01
_KNOWS_WHERE: Final = 0x100
_IS_REMOTE: Final = 0x200

_OTHER: Final = "_OTHER"
_NANO: Final = 1_000_000_000
_TEXT_BYTES: Final = 1024
# Nobody's failure: a client may leave.
_LEFT: Final = (Outcome.CLIENT_GONE, Outcome.CANCELLED)

# An id of so many bits, in hexadecimal.
NewId = Callable[[int], bytes]
# What becomes of a request without an exchange: the trace that its field lines speak of.
Look = Callable[[bytes], Trace]
Span = dict[str, Any]


class Tracer:
    """Makes the spans of records, as JSON, one text a request, and has `send` take it with their number; an observer of all
    requests. `wall` and `now` are the two clocks; `look` says what trace a request belongs to of which nobody has asked that.
    """

    def __init__(
        self,
        send: Callable[[bytes, int], None],
        wall: Callable[[], float],
        now: Callable[[], float],
        new_id: NewId,
        look: Look,
    ) -> None:
        self._send: Final = send
        self._wall: Final = wall
        self._now: Final = now
        self._new_id: Final = new_id
        self._look: Final = look

    def observe(self, record: Record) -> None:
        """Send the spans of a request, if they are wanted."""
        trace = self._look(record.fields) if record.trace is None else record.trace
        if not trace.sampled:
            return
        spans = list(spans_of(record, trace, self._wall() - self._now(), self._new_id))
        self._send(",".join(json.dumps(one, separators=(",", ":")) for one in spans).encode("ascii"), len(spans))


def spans_of(record: Record, trace: Trace, epoch: float, new_id: NewId) -> Iterator[Span]:
    """The spans of a request. `epoch` is what is to be added to monotonic seconds for those since 1970."""
    yield _server_span(record, trace, epoch)
    for number, attempt in enumerate(record.attempts):
        yield _client_span(record, trace, epoch, number, attempt, trace.spans.get(attempt) or new_id(64))


def _span(trace: Trace, span: bytes, parent: bytes, kind: int, *, remote: bool) -> Span:
    found: Span = {"traceId": _text(trace.trace_id), "spanId": _text(span), "kind": kind}
    if parent:
        found["parentSpanId"] = _text(parent)
    found["flags"] = _SAMPLED | _KNOWS_WHERE | (_IS_REMOTE if remote else 0)
    return found


def _server_span(record: Record, trace: Trace, epoch: float) -> Span:
    span = _span(trace, trace.span, trace.parent, _SERVER, remote=bool(trace.parent))
    method = _method(record)
    name = "HTTP" if method == _OTHER else method
    host, port = _host(record.host)
    failed = record.status >= 500 or (record.status == 0 and record.ended_by not in _LEFT)
    span |= {
        "name": f"{name} {record.route}" if record.route else name,
        **_times(record.began, record.ended_at, epoch),
        "attributes": _attributes(
            {
                **_methods(record),
                "url.scheme": _text(record.scheme) or "http",
                "url.path": _path(record),
                "http.route": record.route,
                "http.response.status_code": record.status,
                "server.address": host,
                "server.port": port,
                "client.address": record.client,
                "network.peer.address": record.peer,
                "network.peer.port": record.peer_port,
                "network.protocol.version": version_name(record.version) if record.version else "",
                "http.request.body.size": record.request_bytes,
                "http.response.body.size": record.response_bytes,
                "http.request.id": _text(record.request_id),
                "error.type": _why(record.ended_by, record.status) if failed else "",
                "lb.listener": record.listener,
                "lb.pool": record.pool,
                "lb.backend": record.backend_name,
                "lb.outcome": "" if record.ended_by is None else record.ended_by.name,
                "lb.attempt_count": len(record.attempts),
                "lb.times.body": record.gathered_s or None,
                "lb.times.queue": record.queued_s or None,
                "lb.why": record.detail[:_TEXT_BYTES],
            }
        ),
    }
    return span | ({"status": {"code": _ERROR}} if failed else {})


def _client_span(record: Record, trace: Trace, epoch: float, number: int, attempt: Attempt, name: bytes) -> Span:
    span = _span(trace, name, trace.span, _CLIENT, remote=False)
    last = number == len(record.attempts) - 1
    outcome = attempt.outcome
    # Only the last one's answer went to the client.
    status = record.status if last and record.local_reply is None else 0
    failed = status >= 400 or (outcome is not Outcome.OK and outcome not in _LEFT)
    backend = attempt.lease.backend
    address = backend.address
    host, port = (address.host, address.port) if isinstance(address, TcpAddress) else (str(address), None)
    connected = attempt.connected_at < NEVER
    span |= {
        "name": "HTTP" if _method(record) == _OTHER else _method(record),
        **_times(attempt.began, min(attempt.ended_at, record.ended_at), epoch),
        "attributes": _attributes(
            {
                **_methods(record),
                "url.full": f"http://{address}{_path(record)}" if isinstance(address, TcpAddress) else "",
                "http.response.status_code": status,
                "http.request.resend_count": number,
                "server.address": host,
                "server.port": port,
                "network.protocol.version": "2" if attempt.stream else "1.1",
                "error.type": _why(outcome, status) if failed else "",
                "lb.pool": attempt.lease.scene.pool,
                "lb.backend": backend.name,
                "lb.outcome": "" if outcome is None else outcome.name,
                "lb.times.queue": attempt.waited_s or None,
                "lb.times.connect": attempt.connected_at - attempt.began if connected else None,
                "lb.why": attempt.detail[:_TEXT_BYTES],
            }
        ),
    }
    return span | ({"status": {"code": _ERROR}} if failed else {})


# What they are made of.


def _why(ended_by: Refusal | Outcome | Reply | None, status: int) -> str:
    """What went wrong, in one word: an outcome, a refusal, or the status that a backend or a route has chosen."""
    return str(status) if ended_by in (None, Outcome.OK) or isinstance(ended_by, Reply | None) else ended_by.name


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The attributes that have a value, as OTLP has them: 64-bit numbers are texts in JSON."""
    found = []
    for key, value in values.items():
        if isinstance(value, float):
            found.append({"key": key, "value": {"doubleValue": value}})
        elif isinstance(value, int):
            if value:
                found.append({"key": key, "value": {"intValue": str(value)}})
        elif value:
            found.append({"key": key, "value": {"stringValue": value}})
    return found


def _times(began: float, ended: float, epoch: float) -> dict[str, str]:
    """Moments in nanoseconds since 1970; whole microseconds, which is what a float has of them."""
    begin = round((began + epoch) * 1e6) * 1000
    return {"startTimeUnixNano": str(begin), "endTimeUnixNano": str(begin + max(0, round((ended - began) * _NANO)))}


def _method(record: Record) -> str:
    method = _text(record.method)
    return method if method in METHODS else _OTHER


def _methods(record: Record) -> dict[str, str]:
    method, told = _method(record), _text(record.method)
    return {"http.request.method": method, "http.request.method_original": told if method == _OTHER else ""}


def _path(record: Record) -> str:
    """The path of the target, without its query, which may hold secrets."""
    target = record.target.partition(b"?")[0]
    if target[:1] != b"/" and b"://" in target:
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    return _text(target[:_TEXT_BYTES])


def _host(host: bytes) -> tuple[str, int | None]:
    name, colon, port = host.rpartition(b":")
    if colon and port.isdigit() and len(port) <= 5:
        return _text(name).strip("[]"), int(port)
    return _text(host).strip("[]"), None


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace")
