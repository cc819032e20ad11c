"""The ClientHello of TLS (RFC 8446 4.1.2): which host a client wants (SNI), and what it can speak, read before anything answers.

So a certificate's policy can be chosen before the handshake begins, and a connection be led on by its name without being
terminated (passthrough). The bytes stay as they are: whoever gets them reads them anew.

Only the first hello is read. After a HelloRetryRequest a client says hello again, with the same name (RFC 8446 4.1.2); OpenSSL does
not compare, and asks a server's callback for the name of the second one: whoever chose by the first has to refuse another.
"""

import re
from typing import Final

from mypy_extensions import mypyc_attr

# What an alert tells (RFC 8446 6): why there is no handshake.
HANDSHAKE_FAILURE: Final = 40
DECODE_ERROR: Final = 50
PROTOCOL_VERSION: Final = 70
INTERNAL_ERROR: Final = 80
UNRECOGNIZED_NAME: Final = 112

# RFC 8446 5.1
RECORD_MOST_BYTES: Final = 1 << 14
# The records of a hello, all together: what a connection may make us keep before it is anybody. Those of browsers take 0.5 to
# 2 KiB, with post-quantum key shares.
HELLO_MOST_BYTES: Final = 1 << 14
# Tools against censorship cut a hello into records of a few bytes; all of them are looked at again whenever more comes.
RECORDS_MOST: Final = 256

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD_HEAD: Final = 5
_MESSAGE_HEAD: Final = 4
# RFC 8446 4.1.2: version and random, then a session's id of at most 32 bytes.
_BEFORE_SESSION: Final = 34
_SESSION_MOST: Final = 32
# Extensions.
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_SUPPORTED_VERSIONS: Final = 43

# A name of DNS, in lower case, as certificates and routes have it: underscores occur. 253 bytes at most, labels of 63.
_NAME: Final = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[a-z0-9_-]{1,63}")

# The beginning of a request. PRI is HTTP/2's.
_METHODS: Final = tuple(b"%b " % name for name in b"GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH PRI".split())
_METHOD_SHOWS: Final = 3
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [!-~]{1,8192} HTTP/[0-9]\.[0-9]\r?\n")


class BadHello(Exception):
    """Bytes that are no ClientHello, and will not become one. `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason


@mypyc_attr(acyclic=True)
class ClientHello:
    """What a client says first.

    `server_name`: the host that it wants (SNI), in lower case and without a dot at its end; empty where it names none, or what
    is no name of DNS: an IP address, illegal characters. With ECH it is the outer name. `alpn`: the protocols that it offers, the
    preferred one first. `versions`: those of TLS, 0x0304 for 1.3, in its order and without GREASE; of one that only knows older
    ones, the newest of them. `size`: how many bytes its records took.
    """

    __slots__ = ("alpn", "server_name", "size", "versions")

    def __init__(self, server_name: str, alpn: tuple[str, ...], versions: tuple[int, ...], size: int) -> None:
        self.server_name: Final[str] = server_name
        self.alpn: Final[tuple[str, ...]] = alpn
        self.versions: Final[tuple[int, ...]] = versions
        self.size: Final[int] = size

    def __repr__(self) -> str:
        return f"<ClientHello {self.server_name or 'without a name'}, {self.size} bytes>"


def read_hello(data: bytes) -> ClientHello | None:
    """The ClientHello with which a connection begins; None while it is not complete. What stands behind its last record is not
    looked at.

    BadHello as soon as none can become of these bytes: more is never waited for then.
    """
    have = len(data)
    ends: list[int] = []  # where each record ends, so far as they have come
    at = 0
    got = 0  # bytes of the message that these records say they hold
    wanted = 0  # bytes of the message, once its head is there
    while not wanted or got < wanted:
        length = _record_length(data, at)
        if not length:
            return None
        if len(ends) == RECORDS_MOST:
            raise BadHello(f"ClientHello in more than {RECORDS_MOST} records")
        at += _RECORD_HEAD + length
        ends.append(at)
        got += length
        if at > HELLO_MOST_BYTES:
            raise BadHello(f"ClientHello of more than {HELLO_MOST_BYTES} bytes")
        if not wanted:
            wanted = _message_bytes(_message(data, ends))
        if wanted and got > wanted:
            raise BadHello("more than a ClientHello in its records")
        if have < at:
            return None
    return _read_message(_message(data, ends), at)


def _record_length(data: bytes, at: int) -> int:
    """The length of the record at `at`; 0 while its head is not complete. BadHello unless that can be one of a handshake."""
    have = len(data) - at
    if have > 0 and data[at] != _HANDSHAKE:
        raise BadHello("another record within a ClientHello" if at else "no TLS handshake")
    # The minor version is 1 or 3, and of no importance (RFC 8446 5.1).
    if have > 1 and data[at + 1] != 3:
        raise BadHello(f"TLS record of version {data[at + 1]}")
    if have < _RECORD_HEAD:
        return 0
    length = data[at + 3] << 8 | data[at + 4]
    if not length:
        raise BadHello("TLS record of length 0")
    if length > RECORD_MOST_BYTES:
        raise BadHello(f"TLS record of more than {RECORD_MOST_BYTES} bytes")
    return length


def _message(data: bytes, ends: list[int]) -> bytes:
    """What the records hold that end there; of the last one what has come."""
    if len(ends) == 1:
        return data[_RECORD_HEAD : ends[0]]
    return b"".join([data[begin + _RECORD_HEAD : end] for begin, end in zip([0, *ends], ends, strict=False)])


def _message_bytes(begin: bytes) -> int:
    """How many bytes a handshake message takes, with its head; 0 while that is not there. BadHello unless it is a ClientHello."""
    if begin and begin[0] != _CLIENT_HELLO:
        raise BadHello(f"handshake message {begin[0]} in the place of a ClientHello")
    if len(begin) < _MESSAGE_HEAD:
        return 0
    size = _MESSAGE_HEAD + (begin[1] << 16 | begin[2] << 8 | begin[3])
    if size > HELLO_MOST_BYTES:
        raise BadHello(f"ClientHello of more than {HELLO_MOST_BYTES} bytes")
    return size


def _read_message(message: bytes, size: int) -> ClientHello:
    """What a whole ClientHello says, which begins with the head of its handshake message."""
    session = _MESSAGE_HEAD + _BEFORE_SESSION
    suites = _vector_end(message, session, 1)
    compressions = _vector_end(message, suites, 2)
    end = _vector_end(message, compressions, 1)
    if suites - session - 1 > _SESSION_MOST:
        raise BadHello("session id of more than 32 bytes")
    if compressions - suites == 2 or (compressions - suites) % 2:
        raise BadHello("no list of cipher suites")
    if end - compressions == 1:
        raise BadHello("no list of compression methods")
    name = ""
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = (message[_MESSAGE_HEAD] << 8 | message[_MESSAGE_HEAD + 1],)
    # Hellos of old ends there.
    for kind, value in _extensions(message, end) if end < len(message) else ():
        if kind == _SERVER_NAME:
            name = _server_name(value)
        elif kind == _ALPN:
            alpn = _protocols(value)
        elif kind == _SUPPORTED_VERSIONS:
            versions = _versions(value)
    return ClientHello(name, alpn, versions, size)


def _vector_end(data: bytes, at: int, width: int) -> int:
    """Where the vector at `at` ends, whose length stands in `width` bytes; BadHello where that is not in these bytes."""
    begin = at + width
    if begin > len(data):
        raise BadHello("ClientHello that is cut off")
    end = begin + int.from_bytes(data[at:begin], "big")
    if end > len(data):
        raise BadHello("vector that is longer than what it is in")
    return end


def _extensions(message: bytes, at: int) -> list[tuple[int, bytes]]:
    """The extensions, to the last byte of the message."""
    if _vector_end(message, at, 2) != len(message):
        raise BadHello("something behind the extensions")
    found: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    at += 2
    while at < len(message):
        end = _vector_end(message, at + 2, 2)
        kind = message[at] << 8 | message[at + 1]
        # RFC 8446 4.2: of no type more than one.
        if kind in seen:
            raise BadHello(f"extension {kind} twice")
        seen.add(kind)
        found.append((kind, message[at + 4 : end]))
        at = end
    return found


def _server_name(value: bytes) -> str:
    """The name in an extension server_name; empty where it is none of DNS."""
    # RFC 6066 3: a list of names, of each type one; and there is only one type.
    if _vector_end(value, 0, 2) != len(value) or len(value) < 6:
        raise BadHello("server_name that is no list of names")
    if value[2] != 0 or _vector_end(value, 3, 2) != len(value):
        raise BadHello("server_name with another name than a host's")
    if not value[5:].isascii():
        # OpenSSL would hand it on, and Python print a traceback.
        raise BadHello("server_name that is no ASCII")
    name = value[5:].decode("ascii").removesuffix(".")
    lower = name.lower()
    return lower if _NAME.fullmatch(lower) is not None else ""


def _protocols(value: bytes) -> tuple[str, ...]:
    """The names in an extension for ALPN (RFC 7301 3.1)."""
    if _vector_end(value, 0, 2) != len(value) or len(value) == 2:
        raise BadHello("ALPN that is no list of protocols")
    found: list[str] = []
    at = 2
    while at < len(value):
        end = _vector_end(value, at, 1)
        if end == at + 1:
            raise BadHello("ALPN with a protocol without a name")
        found.append(value[at + 1 : end].decode("latin-1"))
        at = end
    return tuple(found)


def _versions(value: bytes) -> tuple[int, ...]:
    """The versions in an extension supported_versions, without GREASE."""
    if _vector_end(value, 0, 1) != len(value) or len(value) == 1 or len(value) % 2 == 0:
        raise BadHello("supported_versions that is no list of versions")
    versions = [value[at] << 8 | value[at + 1] for at in range(1, len(value), 2)]
    # RFC 8701 2: both bytes alike, and A in their lower halves.
    return tuple([version for version in versions if version & 0x0F0F != 0x0A0A or version >> 8 != version & 0xFF])


def looks_like_http(data: bytes) -> bool:
    """Whether plain HTTP comes where TLS should: a method that is known and a space, or at least three letters of it; or a whole
    request line. Nothing of TLS begins so.
    """
    for method in _METHODS:
        if data[: len(method)] == method or (len(data) >= _METHOD_SHOWS and method.startswith(data)):
            return True
    return _REQUEST_LINE.match(data) is not None


def alert(description: int) -> bytes:
    """The record of a fatal alert, in plain, as it is before there are keys."""
    return b"\x15\x03\x03\x00\x02\x02" + bytes((description,))
