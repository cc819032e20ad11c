"""gRPC checks: the health service of gRPC (grpc.health.v1), asked by its one call."""

from typing import Final

from twisted_lb.core.address import Address, TcpAddress
from twisted_lb.core.grpc import NAMES, UNIMPLEMENTED
from twisted_lb.http2_check import FrameHearing, call
from twisted_lb.probes import Hearing, ProbeResult
from twisted_lb.wire.grammar import CRLF, Limits
from twisted_lb.wire.grpc import status_in
from twisted_lb.wire.response import ResponseHead

_PATH: Final = b"/grpc.health.v1.Health/Check"
# Before each message: whether it is compressed, and its length.
_PREFIX_BYTES: Final = 5
# Fields of protobuf: its number and how it is written (0: a varint, 2: so many bytes).
_SERVICE: Final = b"\x0a"
_STATUS: Final = 0x08
_SERVING: Final = 1
_STATES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
# An answer is two bytes behind its prefix; more than so much is none.
_ANSWER_BYTES: Final = 64


class GrpcCheck:
    """The question of a gRPC check: whether this service is serving, empty: the server as a whole. `secure`: over TLS."""

    def __init__(self, service: bytes, agent: str, limits: Limits, *, secure: bool) -> None:
        self._message: Final = _SERVICE + bytes((len(service),)) + service if service else b""
        self._service: Final = service.decode("ascii")
        self._agent: Final = agent.encode("ascii")
        self._limits: Final = limits
        self._secure: Final = secure

    def request(self, address: Address) -> bytes:
        """See Question."""
        host = address.authority.encode("ascii") if isinstance(address, TcpAddress) else b"localhost"
        lines = [
            b"POST " + _PATH + b" HTTP/1.1",
            b"Host: " + host,
            b"TE: trailers",
            b"Content-Type: application/grpc",
            b"User-Agent: " + self._agent,
        ]
        body = b"\0" + len(self._message).to_bytes(4, "big") + self._message
        return call(b"POST", CRLF.join(lines) + CRLF + CRLF, body, secure=self._secure)

    def hear(self, address: Address) -> Hearing:
        """See Question."""
        return _Answer(self._service, self._limits)


class _Answer(FrameHearing):
    """The answer to a GrpcCheck: a message that says whether it is serving, and the code of gRPC behind it."""

    def __init__(self, service: str, limits: Limits) -> None:
        super().__init__(limits)
        self._service: Final = service
        self._status = 0
        self._lines = b""
        self._body = b""

    def begin(self, head: ResponseHead) -> None:
        """See FrameHearing."""
        self._status, self._lines = head.status, head.lines

    def more(self, data: bytes) -> None:
        """See FrameHearing."""
        self._body += data
        if len(self._body) > _ANSWER_BYTES:
            self.cut("an answer that is no word of the health service")

    def complete(self, trailers: bytes) -> None:
        """See FrameHearing."""
        code = status_in(trailers or self._lines)
        if self._status != 200:
            self._conclude(ProbeResult(False, f"status {self._status}, which is no answer of gRPC"))
        elif code == UNIMPLEMENTED:
            reason = 'it has no health service (grpc.health.v1): health_check.kind = "tcp", or give it one'
            self._conclude(ProbeResult(False, f"grpc-status {code}, {reason}"))
        elif code:
            name = "missing" if code < 0 else f"{code} ({NAMES[code]})" if code < len(NAMES) else f"{code}"
            unknown = f"; it knows no service {self._service!r}" if code == NAMES.index("not_found") else ""
            self._conclude(ProbeResult(False, f"grpc-status {name}{unknown}"))
        else:
            self._judge(_state_in(self._body))

    def _judge(self, state: int) -> None:
        if state == _SERVING:
            self._conclude(ProbeResult(True, "serving"))
        elif 0 <= state < len(_STATES):
            self._conclude(ProbeResult(False, f"it says {_STATES[state]}"))
        else:
            self._conclude(ProbeResult(False, "an answer that is no word of the health service"))

    def fail(self, reason: str) -> None:
        """See FrameHearing."""
        self._conclude(ProbeResult(False, reason, silent=not self.answered))

    def _conclude(self, result: ProbeResult) -> None:
        self.over = True
        if self.result is None:
            self.result = result


def _state_in(body: bytes) -> int:
    """What a message says of serving (HealthCheckResponse); -1 where it is none. One without a field says UNKNOWN, which is 0."""
    message = body[_PREFIX_BYTES:]
    if len(body) < _PREFIX_BYTES or body[0] or int.from_bytes(body[1:_PREFIX_BYTES], "big") != len(message):
        return -1
    if not message:
        return 0
    return message[1] if len(message) == 2 and message[0] == _STATUS else -1
