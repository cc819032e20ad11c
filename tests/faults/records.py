"""What passes on a connection over TLS, read from its bytes and the secrets of its ends alone (RFC 8446, RFC 5246, RFC 5288).

Nothing of the package is asked, nor of OpenSSL: what is here was on the wire, in this order.
"""

import hmac
import re
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from faults.keylog import KEYS

# What is seen.
DATA = "data"  # plain text
GOOD_BYE = "close_notify"
ALERT = "alert"
SHAKEN = "finished"  # this side has ended its handshake
NO_TLS = "no TLS"
HEADER = "PROXY header"

_CCS, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_CLIENT_HELLO, _SERVER_HELLO, _FINISHED = 1, 2, 20
_VERSIONS = 43
_V1_LINE = re.compile(rb"PROXY [^\r\n]{1,100}\r\n")
_V2 = b"\r\n\r\n\0\r\nQUIT\n"
_SUITES = {
    0x1301: (AESGCM, 16, "sha256"),
    0x1302: (AESGCM, 32, "sha384"),
    0x1303: (ChaCha20Poly1305, 32, "sha256"),
    0xC02B: (AESGCM, 16, "sha256"),
}


class Seen(NamedTuple):
    """One thing that was seen, and the offset behind its last byte."""

    what: str
    data: bytes
    end: int


class Wire:
    """A connection: its two directions, and what both have said in the clear. `tls`: it speaks that."""

    def __init__(self, *, tls: bool, proxy_from_client: bool) -> None:
        self.tls = tls
        self.client_random = self.server_random = b""
        self.suite = 0
        self.modern = False  # TLS 1.3
        self.from_client = Direction(self, "CLIENT", proxy=proxy_from_client)
        self.from_server = Direction(self, "SERVER", proxy=False)

    @property
    def up(self) -> bool:
        """Whether both sides have ended their handshakes."""
        return self.from_client.shaken and self.from_server.shaken


class Direction:
    """One direction: `shaken` when its side has ended its handshake, and said `good_bye` or an `alert` of an error. `header` is that of the
    PROXY protocol in front.
    """

    def __init__(self, wire: Wire, side: str, *, proxy: bool) -> None:
        self.shaken = self.good_bye = False
        self.alert = b""
        self.header = b""
        self.broken = ""
        self.hello = b""  # of the side, as far as it has come
        self._wire = wire
        self._side = side
        self._proxy = proxy
        self._buffer = b""
        self._offset = 0  # of the buffer's beginning
        self._cipher: AESGCM | ChaCha20Poly1305 | None = None
        self._iv = b""
        self._sequence = 0
        self._messages = b""

    @property
    def in_a_record(self) -> bool:
        """Whether a record has begun whose end has not come: nobody can read what is in it."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[Seen]:
        """Take the next bytes of the wire."""
        self._buffer += data
        seen: list[Seen] = []
        if self._proxy and not self._take_header(seen):
            return seen
        if not self._wire.tls:
            if self._buffer:
                plain = self._take(len(self._buffer))
                seen.append(Seen(DATA, plain, self._offset))
            return seen
        while not self.broken and len(self._buffer) >= 5:
            kind, _, size = struct.unpack("!BHH", self._buffer[:5])
            if kind not in (_CCS, _ALERT, _HANDSHAKE, _DATA) or self._buffer[1] != 3 or size > 16384 + 256:
                self._break(seen)
            elif len(self._buffer) < 5 + size:
                break
            else:
                record = self._take(5 + size)
                self._look(kind, record[:5], record[5:], seen)
        return seen

    def _take(self, count: int) -> bytes:
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        self._offset += count
        return data

    def _break(self, seen: list[Seen]) -> None:
        self.broken = repr(self._buffer[:40])
        seen.append(Seen(NO_TLS, self._take(len(self._buffer)), self._offset))

    def _take_header(self, seen: list[Seen]) -> bool:
        size = header_size(self._buffer)
        if not size:
            return False
        self._proxy = False
        self.header = self._take(size)
        seen.append(Seen(HEADER, self.header, self._offset))
        return True

    # Records.

    def _look(self, kind: int, head: bytes, content: bytes, seen: list[Seen]) -> None:
        if kind == _CCS:
            if not self._wire.modern:
                self._encrypt_by_master()
            return
        # OpenSSL encrypts no alert in the middle of a handshake; in TLS 1.3 what is encrypted goes by as data.
        if self._cipher is not None and (kind == _DATA or not self._wire.modern):
            try:
                kind, content = self._decrypt(head, content)
            except InvalidTag:
                self.broken = f"a record that cannot be read, {self._sequence} behind the last keys"
                seen.append(Seen(NO_TLS, b"", self._offset))
                return
        if kind == _HANDSHAKE:
            self._messages += content
            while self._take_message(seen):
                pass
        elif kind == _ALERT and content[1:] == b"\0":
            self.good_bye = True
            seen.append(Seen(GOOD_BYE, b"", self._offset))
        elif kind == _ALERT:
            self.alert = content
            seen.append(Seen(ALERT, content, self._offset))
        elif self.shaken and self._cipher is not None:
            seen.append(Seen(DATA, content, self._offset))
        else:
            self.broken = "data before the end of the handshake"
            seen.append(Seen(NO_TLS, content, self._offset))

    def _take_message(self, seen: list[Seen]) -> bool:
        size = 4 + int.from_bytes(self._messages[1:4], "big")
        if len(self._messages) < max(size, 4):
            return False
        message, self._messages = self._messages[:size], self._messages[size:]
        kind = message[0]
        if kind == _CLIENT_HELLO:
            self._wire.client_random = message[6:38]
        elif kind == _SERVER_HELLO:
            self._hear_server(message)
        elif kind == _FINISHED and not self.shaken:
            self.shaken = True
            seen.append(Seen(SHAKEN, b"", self._offset))
            if self._wire.modern:
                self._encrypt_by(f"{self._side}_TRAFFIC_SECRET_0")
        return True

    def _hear_server(self, message: bytes) -> None:
        wire = self._wire
        wire.server_random = message[6:38]
        at = 39 + message[38]
        wire.suite = int.from_bytes(message[at : at + 2], "big")
        at += 5
        while at < len(message):
            kind, size = struct.unpack("!HH", message[at : at + 4])
            wire.modern = wire.modern or kind == _VERSIONS
            at += 4 + size
        if wire.modern:
            wire.from_client._encrypt_by("CLIENT_HANDSHAKE_TRAFFIC_SECRET")
            wire.from_server._encrypt_by("SERVER_HANDSHAKE_TRAFFIC_SECRET")

    # Keys.

    def _encrypt_by(self, label: str) -> None:
        """RFC 8446 7.3."""
        made, size, digest = _SUITES[self._wire.suite]
        secret = KEYS.find(self._wire.client_random, label)
        self._cipher = made(_expanded(secret, b"key", size, digest))
        self._iv = _expanded(secret, b"iv", 12, digest)
        self._sequence = 0

    def _encrypt_by_master(self) -> None:
        """RFC 5246 6.3."""
        wire = self._wire
        _, size, digest = _SUITES[wire.suite]
        master = KEYS.find(wire.client_random, "CLIENT_RANDOM")
        seed = b"key expansion" + wire.server_random + wire.client_random
        block, chained = b"", seed
        while len(block) < 2 * size + 8:
            chained = hmac.digest(master, chained, digest)
            block += hmac.digest(master, chained + seed, digest)
        mine = 0 if self._side == "CLIENT" else 1
        self._cipher = AESGCM(block[mine * size :][:size])
        self._iv = block[2 * size + 4 * mine :][:4]
        self._sequence = 0

    def _decrypt(self, head: bytes, content: bytes) -> tuple[int, bytes]:
        """The type and the plain text of a record."""
        assert self._cipher is not None
        counted = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        if not self._wire.modern:
            said = counted + head[:3] + (len(content) - 24).to_bytes(2, "big")
            return head[0], self._cipher.decrypt(self._iv + content[:8], content[8:], said)
        nonce = (int.from_bytes(self._iv, "big") ^ self._sequence - 1).to_bytes(12, "big")
        plain = self._cipher.decrypt(nonce, content, head).rstrip(b"\0")
        return plain[-1], plain[:-1]


def header_size(data: bytes) -> int:
    """How long the header of the PROXY protocol is that these bytes begin with; 0 while it is not whole."""
    if data.startswith(_V2) and len(data) >= 16:
        size = 16 + int.from_bytes(data[14:16], "big")
        return size if len(data) >= size else 0
    line = _V1_LINE.match(data)
    return 0 if line is None else line.end()


def _expanded(secret: bytes, label: bytes, size: int, digest: str) -> bytes:
    """HKDF-Expand-Label, of no more than one block."""
    name = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0" + b"\x01"
    return hmac.digest(secret, info, digest)[:size]
