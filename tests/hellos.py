"""ClientHellos made by hand, piece by piece (RFC 8446 4.1.2), for what no client says."""


def vector(width: int, data: bytes) -> bytes:
    return len(data).to_bytes(width, "big") + data


def server_name(*names: bytes, kind: int = 0) -> tuple[int, bytes]:
    return 0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names))


def alpn_of(*names: bytes) -> tuple[int, bytes]:
    return 16, vector(2, b"".join(vector(1, name) for name in names))


def versions_of(*versions: int) -> tuple[int, bytes]:
    return 43, vector(1, b"".join(version.to_bytes(2, "big") for version in versions))


def body(
    *extensions: tuple[int, bytes],
    legacy: int = 0x0303,
    session: bytes = b"s" * 32,
    suites: bytes = b"\x13\x01\xc0\x2b",
    compressions: bytes = b"\0",
) -> bytes:
    """The body of a hello, by RFC 8446 4.1.2."""
    known = legacy.to_bytes(2, "big") + b"r" * 32 + vector(1, session) + vector(2, suites) + vector(1, compressions)
    more = b"".join(kind.to_bytes(2, "big") + vector(2, value) for kind, value in extensions)
    return known + vector(2, more) if extensions else known


def message(content: bytes, kind: int = 1) -> bytes:
    return bytes((kind,)) + vector(3, content)


def records(data: bytes, size: int = 1 << 14, version: bytes = b"\x03\x01") -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"\x16" + version + vector(2, piece) for piece in pieces)


def hello(*extensions: tuple[int, bytes], size: int = 1 << 14, **parts) -> bytes:
    return records(message(body(*extensions, **parts)), size)


GREASE = (0x0A0A, 0x1A1A, 0xFAFA)
# As browsers send it today: GREASE, and the key share of X25519MLKEM768, which is 1,216 bytes long.
LIKE_A_BROWSERS = hello(
    (0x2A2A, b""),
    (
        51,
        vector(
            2, b"\x5a\x5a" + vector(2, b"\0") + b"\x11\xec" + vector(2, b"k" * 1216) + b"\0\x1d" + vector(2, b"k" * 32)
        ),
    ),
    alpn_of(b"h2", b"http/1.1"),
    versions_of(0xBABA, 0x0304, 0x0303),
    (10, vector(2, b"\x5a\x5a\x11\xec\0\x1d")),
    (13, vector(2, b"\x04\x03\x08\x04\x04\x01")),
    server_name(b"www.shop.example"),
    (0x8A8A, b"\0"),
    (21, bytes(200)),
)
