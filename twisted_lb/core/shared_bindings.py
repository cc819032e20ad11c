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
from twisted_lb.core.rate import Hashes

# Bindings of all pools together: 8 MiB, of which what nobody writes to takes none.
CELLS: Final = 1 << 18
BYTES: Final = 4 * 8 * CELLS
# Cells that are looked at for a key: with as many keys as half of all cells one in 250 buckets has more.
_BUCKET: Final = 16
_NS: Final = 1_000_000_000
# A cell that is just being written is read again, so often.
_AGAIN: Final = 3


class SharedBindings(Bindings):
    """The bindings of a pool in one of several processes. `memory` is what they share, zeros at first, `secret` that of its tags. `counts`:
    this process says how many there are, which takes some milliseconds; the others say none.

    The key that was used least recently of the 16 that meet makes room for another one; `most` is not asked.
    """

    __slots__ = (
        "_by_id",
        "_checks",
        "_counts",
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
        self, rules: AffinityRules, memory: memoryview, pool: str, secret: bytes, *, counts: bool = False
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
        self._counts: Final = counts
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
        """See Bindings. O(cells), at the one that counts."""
        if not self._counts:
            return 0
        ids, used, since_ns = self._ids, self._used, int((now - self.rules.max_age_s) * _NS)
        taken = [at for at, tag in enumerate(self._tags.tolist()) if tag]
        return sum(1 for at in taken if used[at] > since_ns and ids[at] and self._hashes.made(self._tags[at]))

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
