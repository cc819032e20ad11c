"""The ask of a request: what a policy may go by (hash key, cost, prefix), worked out once, before the first pick."""

from hashlib import md5
from typing import Final

from twisted_lb.core.prefix import NO_PREFIX, Prefix

# What a request costs at most: whoever may say it cannot make a backend look as if it were full for ever.
MOST_COST: Final = 1000
# RFC 9218, 4.1: the urgency of a request that says none.
USUAL: Final = 3


class Tie:
    """A tie: what binds a request to a backend (affinity); `core/affinity.py` knows what it is."""

    __slots__ = ()


class Ask:
    """What a request asks of a policy: immutable, and the same for all its attempts.

    `key`: requests with the same one should meet the same backend (consistent hashing); 0 when the request has none. `by`
    names what it is the hash of, as `header x-user`: never the value, which may be a credential.
    `cost`: how much work the request is, an ordinary one being 1. `prefix`: how its body begins, for backends that cache by it (the
    prompt cache of a language model); NO_PREFIX where the pool does not look at it.

    In the queue, requests of one `lane` wait in one line, and lanes are served by turns; `urgency`: 0 for what is served before
    all others, to 7 (RFC 9218, 4.1).

    `bond` is what binds it to one backend (affinity), None where its pool has none: the one part of it that is the request's own, and
    in which the pool notes what has become of that.
    """

    __slots__ = ("bond", "by", "cost", "key", "lane", "prefix", "urgency")

    def __init__(
        self,
        key: int = 0,
        cost: int = 1,
        prefix: Prefix = NO_PREFIX,
        by: str = "",
        lane: int = 0,
        urgency: int = USUAL,
        bond: Tie | None = None,
    ) -> None:
        self.key: Final = key
        self.cost: Final = cost
        self.prefix: Final = prefix
        self.by: Final = by
        self.lane: Final = lane
        self.urgency: Final = urgency
        self.bond: Final = bond

    def bound_by(self, bond: Tie | None) -> "Ask":
        """The same, bound by this, or by nothing."""
        return Ask(self.key, self.cost, self.prefix, self.by, self.lane, self.urgency, bond)

    def with_prefix(self, prefix: Prefix) -> "Ask":
        """The same ask, of a request whose body begins so."""
        return Ask(self.key, self.cost, prefix, self.by, self.lane, self.urgency, self.bond)

    def __repr__(self) -> str:
        return f"<Ask key={self.key:016x} cost={self.cost} prefix={len(self.prefix.blocks)} blocks>"


# The ask of a route that hashes and estimates nothing: any backend will do.
ANY: Final = Ask()


def key_of(data: bytes) -> int:
    """The hash key of these bytes: the first 8 bytes of their MD5 (RFC 1321), read as a little-endian number, and never 0, which
    stands for no key. Its lower half is what libketama looks for on its ring.

    The key is the same in every process, on every machine and after every start; Python's own hash is not. MD5 keeps no
    secret here: who wants to meet one backend need only send the same key.
    """
    return int.from_bytes(md5(data, usedforsecurity=False).digest()[:8], "little") or 1
