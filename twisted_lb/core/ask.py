"""What a request asks of a policy, as three numbers: hashed and estimated once, before a backend is chosen."""

from hashlib import blake2b
from typing import Final


class Ask:
    """Immutable, and the same for all attempts of a request.

    `key`: requests with the same one should meet the same backend (consistent hashing); 0 when the route has none.
    `cost`: how much work the request is, an ordinary one being 1. `prefix`: a hash of what it begins with, where backends
    remember beginnings (the cache of a language model); 0 when that is nothing.
    """

    __slots__ = ("cost", "key", "prefix")

    def __init__(self, key: int = 0, cost: int = 1, prefix: int = 0) -> None:
        self.key: Final = key
        self.cost: Final = cost
        self.prefix: Final = prefix

    def __repr__(self) -> str:
        return f"<Ask key={self.key:016x} cost={self.cost} prefix={self.prefix:016x}>"


# For all routes that want none of it: any backend will do.
ANY: Final = Ask()


def key_of(data: bytes) -> int:
    """The key that stands for these bytes: the first 64 bits of BLAKE2b (RFC 7693) for a digest of 8 bytes, big-endian.

    It is the same in every process, on every machine and after every start, which Python's own hash is not.
    """
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
