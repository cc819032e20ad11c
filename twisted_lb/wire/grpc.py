"""What gRPC says in header fields and trailers (its specification "gRPC over HTTP2"): requests, their timeouts, how they ended."""

from typing import Final

from twisted_lb.wire.grammar import CRLF, DIGITS

# The longest number that a timeout may have.
_TIMEOUT_DIGITS: Final = 8
_UNITS: Final[dict[bytes, float]] = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CODE_DIGITS: Final = 3
_PUSHBACK_DIGITS: Final = 9
_TYPE: Final = b"application/grpc"


def is_grpc(lines: bytes) -> bool:
    """Whether a request with these field lines is a call of gRPC: not of grpc-web, whose answers have no trailers."""
    kind = value_in(lines, b"content-type").lower()
    return kind.startswith(_TYPE) and kind[len(_TYPE) :][:1] in (b"", b"+", b";", b" ")


def timeout_s(lines: bytes) -> float:
    """How long the client waits for its call, in seconds; below zero where it does not say so, or not well."""
    value = value_in(lines, b"grpc-timeout")
    number, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or not 0 < len(number) <= _TIMEOUT_DIGITS or number.translate(DIGITS) != number:
        return -1.0
    return int(number) * unit


def status_in(lines: bytes) -> int:
    """The code that trailers say, or a head that is all there is; -1 where there is none, or it is no number."""
    value = value_in(lines, b"grpc-status")
    if not 0 < len(value) <= _CODE_DIGITS or value.translate(DIGITS) != value:
        return -1
    return int(value)


def pushback_s(lines: bytes) -> float | None:
    """How long a server wants a call not to be repeated (grpc-retry-pushback-ms), in seconds; below zero: for ever. None: it does not say."""
    value = value_in(lines, b"grpc-retry-pushback-ms")
    if not value:
        return None
    if len(value) > _PUSHBACK_DIGITS or value.translate(DIGITS) != value:
        return -1.0
    return int(value) / 1000


def value_in(lines: bytes, name: bytes) -> bytes:
    """The value of the first field with this lower-case name among lines that are each ended by CRLF; empty where there is none."""
    size = len(name)
    for line in lines.split(CRLF):
        if line[size : size + 1] == b":" and line[:size].lower() == name:
            return line[size + 1 :].strip(b" \t")
    return b""
