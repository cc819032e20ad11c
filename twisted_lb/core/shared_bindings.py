"""Bindings that several processes share (affinity): a table in shared memory that each of them writes, so that whoever answers a client
knows at once where it is bound.

A cell is four aligned 64-bit numbers: the tag of a key, the home that it leads to, when it was used last, and a check of the first two.
Two processes that take one cell at the same moment may leave the tag of one and the home of the other: then the check is wrong, and
nobody is bound by it. Homes are known by the addresses of backends, as with cookies.
"""

from collections.abc import Iterable
from typing import Final

from twisted_lb.core.affinity import AffinityRules, Bindings, Home
from twisted_lb.core.backend import Backend
from twisted_lb.core.never import NEVER
from twisted_lb.core.rate import Hashes, limit_of

# Bindings of all pools together: 8 MiB, of which what nobody writes to takes none.
CELLS: Final = 1 << 18
BYTES: Final = 4 * 8 * CELLS
# Cells that are looked at for a key: with as many keys as half of all cells one in 250 buckets has more.
_BUCKET: Final = 16
_NS: Final = 1_000_000_000
# So many cells are looked at together whether anybody is there.
_PART: Final = 512
_NOBODY: Final = bytes(8 * _PART)
# A cell that is just being written is read again, so often.
_AGAIN: Final = 3


class Census:
    """Who is bound in such a memory: when each was used last, by what the hashes of a pool's keys have in common. All is looked at once for all
    pools that are asked at one moment: 0.5 ms where hardly anybody is bound, 40 (not compiled) where half of all cells are taken.
    """

    __slots__ = ("_at", "_bytes", "_found", "_words")

    def __init__(self, memory: memoryview) -> None:
        self._bytes: Final = memory.cast("B")
        self._words: Final = self._bytes.cast("q")
        self._at: float = -NEVER
        self._found: dict[int, list[int]] = {}

    def used(self, limit: int, now: float) -> list[int]:
        """When each key of this limit was used last, in ns."""
        if now != self._at:
            self._at = now
            self._found = self._look()
        return self._found.get(limit, [])

    def _look(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        words = self._words
        cells = len(words) // 4
        for begin in range(0, cells, _PART):
            end = min(begin + _PART, cells)
            if self._bytes[8 * begin : 8 * end].tobytes() == _NOBODY[: 8 * (end - begin)]:
                continue
            tags, homes, used = (words[row * cells + begin : row * cells + end].tolist() for row in range(3))
            for tag, home, at in zip(tags, homes, used, strict=True):
                if home:
                    found.setdefault(limit_of(tag), []).append(at)
        return found


class SharedBindings(Bindings):
    """The bindings of a pool in one of several processes. `memory` is what they share, zeros at first, `secret` that of its tags. `census`:
    by this one of them says how many there are; the others say none.

    The key that was used least recently of the 16 that meet makes room for another one; `most` is not asked.
    """

    __slots__ = (
        "_by_id",
        "_census",
        "_checks",
        "_gone",
        "_hashes",
        "_homes_by",
        "_ids",
        "_pool",
        "_secret",
        "_tags",
        "_used",
    )

    def __init__(
        self, rules: AffinityRules, memory: memoryview, pool: str, secret: bytes, census: Census | None = None
    ) -> None:
        super().__init__(rules)
        words = memory.cast("B").cast("q")
        cells = len(words) // 4
        assert cells % _BUCKET == 0, f"{cells} cells are no buckets of {_BUCKET}"
        self._tags: Final = words[:cells]
        self._ids: Final = words[cells : 2 * cells]
        self._used: Final = words[2 * cells : 3 * cells]
        self._checks: Final = words[3 * cells :]
        self._pool: Final = pool
        self._secret: Final = secret
        self._census: Final = census
        self._hashes: Hashes = self._hashes_by(rules)
        self._homes_by: Final = Hashes(f"homes of {pool}", secret)
        self._by_id: dict[int, Home] = {}
        self._gone: Final = Home(None)

    def _hashes_by(self, rules: AffinityRules) -> Hashes:
        # Where they bind by something else, no key means what it did.
        return Hashes(f"bound to {self._pool} by {rules.by}", self._secret)

    def configure(self, rules: AffinityRules) -> None:
        """See Bindings."""
        super().configure(rules)
        self._hashes = self._hashes_by(rules)

    def follow(self, backends: Iterable[Backend]) -> None:
        """See Bindings."""
        self._by_id = {self._homes_by.of(str(one.address).encode()): self.home_of(one) for one in backends}

    def find(self, key: int, now: float, *, touch: bool = True) -> Home | None:
        """See Bindings."""
        tag = self._tag(key)
        at = self._at(tag)
        found = 0 if at < 0 else self._id_at(at, tag)
        now_ns = int(now * _NS)
        if not found or now_ns - self._used[at] >= int(self.rules.max_age_s * _NS):
            return None
        if touch:
            self._used[at] = now_ns
        return self._by_id.get(found, self._gone)

    def bind(self, key: int, backend: Backend, now: float) -> None:
        """See Bindings. The key of the same bucket that was used least recently makes room, if there is none."""
        tag, now_ns = self._tag(key), int(now * _NS)
        home = self._homes_by.of(str(backend.address).encode())
        at = self._at(tag)
        if at < 0:
            at = self._room(tag)
            if self._ids[at] and now_ns - self._used[at] < int(self.rules.max_age_s * _NS):
                self.forgotten += 1
        self._write(at, tag, home)
        self._used[at] = now_ns

    def forget(self, key: int) -> None:
        """See Bindings."""
        tag = self._tag(key)
        at = self._at(tag)
        if at >= 0:
            self._write(at, tag, 0)

    def tick(self, now: float) -> None:
        """See Bindings: what is too old is found to be, and makes room for others."""

    def count(self, now: float) -> int:
        """See Bindings."""
        if self._census is None:
            return 0
        since_ns = int((now - self.rules.max_age_s) * _NS)
        return sum(1 for used in self._census.used(self._hashes.limit, now) if used > since_ns)

    def _tag(self, key: int) -> int:
        return self._hashes.of(key.to_bytes(8, "little"))

    def _at(self, tag: int) -> int:
        """Where a tag is, or -1."""
        tags = self._tags
        begin = tag % (len(tags) // _BUCKET) * _BUCKET
        for at in range(begin, begin + _BUCKET):
            there = tags[at]
            if there == tag:
                return at
            if not there:
                return -1  # cells are taken in their order, and none is given back: behind an empty one there is nobody
        return -1

    def _room(self, tag: int) -> int:
        """Where a tag that is nowhere may be: in an empty cell, one that was forgotten, or that which was used least recently."""
        tags, ids, used = self._tags, self._ids, self._used
        begin = tag % (len(tags) // _BUCKET) * _BUCKET
        oldest = begin
        for at in range(begin, begin + _BUCKET):
            if not tags[at] or not ids[at]:
                return at
            if used[at] < used[oldest]:
                oldest = at
        return oldest

    def _id_at(self, at: int, tag: int) -> int:
        for _ in range(_AGAIN):
            found: int = self._ids[at]
            if self._checks[at] == tag ^ found:
                return found if self._tags[at] == tag else 0
        return 0

    def _write(self, at: int, tag: int, home: int) -> None:
        self._ids[at] = home
        self._tags[at] = tag
        self._checks[at] = tag ^ home

    def __repr__(self) -> str:
        return f"<SharedBindings by {self.rules.by}>"
