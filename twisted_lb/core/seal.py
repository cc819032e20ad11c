"""Seals: signed values (HMAC-SHA256) that tell a backend and a moment to nobody but whoever has the secret."""

import hmac
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Sequence
from typing import Final

# 64 bits tell backends apart; 128 of a MAC cannot be guessed, and what could be gained is a choice of backend.
_ID_BYTES: Final = 8
_TIME_BYTES: Final = 6
_MAC_BYTES: Final = 16
# No padding: their sum can be divided by three.
_VALUE_BYTES: Final = (_ID_BYTES + _TIME_BYTES + _MAC_BYTES) * 4 // 3
_BODY_BYTES: Final = _ID_BYTES + _TIME_BYTES
_LATEST: Final = (1 << (8 * _TIME_BYTES)) - 1


class Opened:
    """What an opened value says: the id of a backend, and when it was sealed, in seconds since 1970; `secret` is the number of the
    secret that sealed it.
    """

    __slots__ = ("backend_id", "sealed_at", "secret")

    def __init__(self, secret: int, backend_id: bytes, sealed_at: int) -> None:
        self.secret: Final = secret
        self.backend_id: Final = backend_id
        self.sealed_at: Final = sealed_at


class Seals:
    """The seals of one pool. The first of its secrets seals, all of them open (key rotation). What was sealed for one pool is nothing
    to another, whatever their secrets.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Sequence[bytes], pool: str) -> None:
        assert secrets, "nothing is sealed without a secret"
        purpose = b"twisted_lb affinity of pool " + pool.encode()
        self._keys: Final = [hmac.digest(secret, purpose, "sha256") for secret in secrets]

    def ids_of(self, address: str) -> list[bytes]:
        """The ids of the backend at this address, one for each secret. They are keyed hashes: who guesses addresses learns nothing."""
        text = b"backend " + address.encode("utf-8", "surrogateescape")
        return [hmac.digest(key, text, "sha256")[:_ID_BYTES] for key in self._keys]

    def seal(self, backend_id: bytes, now: float) -> bytes:
        """The value that tells this backend, sealed at `now` seconds since 1970: 40 letters, digits, `-` and `_`."""
        body = backend_id + min(max(int(now), 0), _LATEST).to_bytes(_TIME_BYTES, "big")
        return urlsafe_b64encode(body + self._mac(self._keys[0], body))

    def open(self, value: bytes) -> Opened | None:
        """What a value says; None unless one of the secrets has sealed it, for this pool."""
        if len(value) != _VALUE_BYTES:
            return None
        try:
            raw = b64decode(value, b"-_", validate=True)
        except NotBase64:
            return None
        body, mac = raw[:_BODY_BYTES], raw[_BODY_BYTES:]
        for number, key in enumerate(self._keys):
            if hmac.compare_digest(mac, self._mac(key, body)):
                return Opened(number, body[:_ID_BYTES], int.from_bytes(body[_ID_BYTES:], "big"))
        return None

    def _mac(self, key: bytes, body: bytes) -> bytes:
        return hmac.digest(key, b"cookie " + body, "sha256")[:_MAC_BYTES]

    def __repr__(self) -> str:
        return f"<Seals by {len(self._keys)} secrets>"
