"""The prompt cache of a backend, as far as a balancer can know it: the blocks of the requests that it was given last (LRU)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.load import Load, Loads
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.prefix import Seen

# So much memory a block takes at most, about 100 as a rule: a number of 60 bits, and up to seven places in a set that has just grown.
BLOCK_COSTS_BYTES: Final = 150


class PromptCache:
    """The blocks that a backend is taken to hold, `most` of them at most, and no fewer than the last `most // 2` that it was given.

    They lie in two sets: what is given goes into the younger one; when that has half of what may be, it is the older one, and what
    was there is forgotten. Of a request the last block goes in first, so that none is ever held without those before it: how many are
    held of a request is found in O(log blocks).
    """

    __slots__ = ("_new", "_old", "most")

    def __init__(self, most: int) -> None:
        self.most: int = most
        self._new: set[int] = set()
        self._old: set[int] = set()

    def __len__(self) -> int:
        return len(self._new) + len(self._old - self._new)

    def matched(self, blocks: Sequence[int]) -> int:
        """How many of these blocks are held, from the first one on."""
        new, old = self._new, self._old
        low, high = 0, len(blocks)
        while low < high:
            middle = (low + high) // 2
            block = blocks[middle]
            if block in new or block in old:
                low = middle + 1
            else:
                high = middle
        return low

    def remember(self, blocks: Sequence[int]) -> None:
        """The backend was given these blocks. O(blocks)."""
        half = max(self.most // 2, 1)
        for index in range(len(blocks) - 1, -1, -1):
            if len(self._new) >= half:
                self._old = self._new
                self._new = set()
            self._new.add(blocks[index])

    def forget(self) -> None:
        """Forget all: the backend has begun anew."""
        self._new = set()
        self._old = set()

    def __repr__(self) -> str:
        return f"<PromptCache {len(self)} of {self.most} blocks>"


@dataclass(frozen=True)
class PrefixMeasures:
    """What is counted of prefixes: requests by how much of their bodies was `seen`, in the order of `prefix.Seen`, how many blocks all of
    them had, and how many of these the backend was given before that they went to.
    """

    seen: tuple[int, ...]
    blocks: int
    matched: int

    def merged(self, other: "PrefixMeasures") -> "PrefixMeasures":
        """What two processes have counted."""
        seen = tuple([one + more for one, more in zip(self.seen, other.seen, strict=True)])
        return PrefixMeasures(seen, self.blocks + other.blocks, self.matched + other.matched)


class PrefixLoads(Loads):
    """What measures the backends of a pool whose policy goes by prefixes: their loads, as another policy compares them, and their prompt
    caches, which hold `blocks` each. It counts, by lease: requests by how much of them was `seen`, and of all their blocks, the
    `given`, those that were `matched` where they went.
    """

    def __init__(self, loads: Loads, blocks: int) -> None:
        self._loads: Final = loads
        self.blocks: int = blocks
        self.seen: Final = [0] * len(Seen)
        self.given: int = 0
        self.matched: int = 0

    def of(self, slot: int) -> Load:
        """See Loads."""
        return PrefixLoad(self, self._loads.of(slot))

    def measures(self) -> PrefixMeasures:
        """What is counted by now."""
        return PrefixMeasures(tuple(self.seen), self.given, self.matched)


class PrefixLoad(Load):
    """The load of one backend, and its prompt cache."""

    __slots__ = ("cache", "load", "loads")

    def __init__(self, loads: PrefixLoads, load: Load) -> None:
        self.loads: Final = loads
        self.load: Final = load
        self.cache: Final = PromptCache(loads.blocks)

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """Remember what it was given, also where no policy has picked it."""
        loads, prefix = self.loads, ask.prefix
        loads.seen[prefix.seen] += 1
        if prefix.blocks:
            loads.given += len(prefix.blocks)
            loads.matched += self.cache.matched(prefix.blocks)
            self.cache.most = loads.blocks
            self.cache.remember(prefix.blocks)
        return self.load.leased(weight, ask, now)

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """See Load."""
        self.load.responded(note, elapsed_s, now)

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """See Load."""
        self.load.settled(note, outcome, elapsed_s, now)

    def restarted(self) -> None:
        """Its cache is empty."""
        self.cache.forget()
        self.load.restarted()

    def value(self, weight: float, now: float) -> float:
        """See Load."""
        return self.load.value(weight, now)
