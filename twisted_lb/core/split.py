"""Splits: which share of a route's requests, or of its clients, each of several pools gets (canary, traffic splitting)."""

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Final

# Credits are whole numbers of this part of a turn, so that little is lost when another split takes them over.
_GRAIN: Final = 1_000_000
# Keys are 64 bits.
_KEYS: Final = 1 << 64


def _shared(shares: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """The shares that are not 0; ValueError for what is no division."""
    names = [name for name, _ in shares]
    if len(set(names)) < len(names):
        raise ValueError("a split names a pool twice")
    if any(weight < 0 for _, weight in shares):
        raise ValueError("a split has a negative weight")
    kept = [(name, weight) for name, weight in shares if weight]
    if not kept:
        raise ValueError("a split has no weight above 0")
    return kept


class Split:
    """A split of requests by smooth weighted round robin: exact over time. With 90 and 10, of each 100 requests in a row
    just 10 go to the second pool, each tenth. O(n) a turn, in pools.

    `shares` are names of pools with their weights; one of weight 0 gets nothing. ValueError where all are 0, one is
    negative, or a name comes twice.
    """

    __slots__ = ("_credits", "_names", "_total", "_weights")

    def __init__(self, shares: Sequence[tuple[str, int]]) -> None:
        kept = _shared(shares)
        self._names: Final = [name for name, _ in kept]
        self._weights: Final = [weight * _GRAIN for _, weight in kept]
        self._total: Final = sum(self._weights)
        # How many turns each pool is owed, in parts of `_total`; together they are 0.
        self._credits: Final = [0] * len(kept)

    def take(self, key: int) -> str:
        """The pool of the next request: the one that is owed most, the earlier one of two. No key makes a difference."""
        owed = self._credits
        best = 0
        for index in range(len(owed)):
            owed[index] += self._weights[index]
            if owed[index] > owed[best]:
                best = index
        owed[best] -= self._total
        return self._names[best]

    def foreseen(self, key: int) -> str:
        """The pool that `take` would name; nothing changes."""
        fork = Split([(name, weight // _GRAIN) for name, weight in zip(self._names, self._weights, strict=True)])
        fork._credits[:] = self._credits
        return fork.take(key)

    def take_over(self, previous: "Split") -> None:
        """Go on where another split stopped: pools of the same name are owed what they were. What is owed to or by those
        that are gone all share.
        """
        before = dict(zip(previous._names, previous._credits, strict=True))
        owed = [before.get(name, 0) * self._total // previous._total for name in self._names]
        surplus = sum(owed)
        share, rest = divmod(surplus, len(owed))
        for index in range(len(owed)):
            self._credits[index] = owed[index] - share - (1 if index < rest else 0)

    def __repr__(self) -> str:
        shares = ", ".join(
            f"{name} {weight // _GRAIN}" for name, weight in zip(self._names, self._weights, strict=True)
        )
        return f"<Split {shares}>"


class StickySplit:
    """A sticky split, of clients: who has the same key meets the same pool, in every process and after every start, by
    weighted rendezvous (highest random weight) over key and name. O(n) a request, in pools.

    Each pool draws a number for the key, and the lowest one for its weight wins. When the weight of one pool rises, its
    numbers alone get better, so that clients move to it and nowhere else; as many as its share grows by. `shares` are as of
    `Split`. There is no state that a new split would have to take over.
    """

    __slots__ = ("_names", "_states", "_weights")

    def __init__(self, shares: Sequence[tuple[str, int]]) -> None:
        kept = _shared(shares)
        self._names: Final = [name for name, _ in kept]
        self._weights: Final = [weight for _, weight in kept]
        # A zero ends the name, so that no other name and key make the same bytes.
        self._states: Final = [blake2b(name.encode() + b"\0", digest_size=8) for name in self._names]

    def take(self, key: int) -> str:
        """The pool of this key, a hash of 64 bits, as `ask.key_of` makes them."""
        data = key.to_bytes(8, "big")
        best = 0
        lowest = self._draw(0, data)
        for index in range(1, len(self._names)):
            drawn = self._draw(index, data)
            if drawn < lowest:
                best, lowest = index, drawn
        return self._names[best]

    def foreseen(self, key: int) -> str:
        """The same as `take`: nobody has turns."""
        return self.take(key)

    def _draw(self, index: int, data: bytes) -> float:
        """The number that a pool draws for a key: exponentially distributed, with its weight for a rate."""
        state = self._states[index].copy()
        state.update(data)
        # Half a step off, since 0 has no logarithm.
        return -log((int.from_bytes(state.digest(), "big") + 0.5) / _KEYS) / self._weights[index]

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {weight}" for name, weight in zip(self._names, self._weights, strict=True))
        return f"<StickySplit {shares}>"
