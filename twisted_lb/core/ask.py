"""The ask of a request: what a policy may go by (hash key, cost, prefix), worked out once, before the first pick."""

from hashlib import blake2b
from typing import Final

# What a request costs at most: whoever may say it cannot make a backend look as if it were full for ever.
MOST_COST: Final = 1000


class Ask:
    """What a request asks of a policy: immutable, and the same for all its attempts.

    `key`: requests with the same one should meet the same backend (consistent hashing); 0 when the route has none.
    `cost`: how much work the request is, an ordinary one being 1. `prefix`: a hash of how the request begins, for
    backends that cache by it (the prompt cache of a language model); 0 when the route has none.
    """

    __slots__ = ("cost", "key", "prefix")

    def __init__(self, key: int = 0, cost: int = 1, prefix: int = 0) -> None:
        self.key: Final = key
        self.cost: Final = cost
        self.prefix: Final = prefix

    def __repr__(self) -> str:
        return f"<Ask key={self.key:016x} cost={self.cost} prefix={self.prefix:016x}>"


# The ask of a route that hashes and estimates nothing: any backend will do.
ANY: Final = Ask()


def key_of(data: bytes) -> int:
    """The hash key of these bytes: BLAKE2b (RFC 7693) with a digest of 8 bytes, read as a big-endian number.

    The key is the same in every process, on every machine and after every start; Python's own hash is not.
    """
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
