"""Rate limits by GCRA (leaky bucket, token bucket): a table of fixed size in which keys spend what they are allowed."""

from fractions import Fraction
from hashlib import blake2b
from typing import Final

from twisted_lb.core.never import NEVER

_NS: Final = 1_000_000_000
# 1 in 11 days; and a period of 1 µs, of which a part of a nanosecond is less than a thousandth.
_LEAST_PER_S: Final = 1e-6
_MOST_PER_S: Final = 1e6
# A year: how long a burst may take to come back.
_LONGEST_NS: Final = 365 * 24 * 3600 * _NS

# Cells of a table, 2 MiB: as many keys that have spent something lately.
CELLS: Final = 1 << 17
# Cells that are looked at for a key: two cache lines of 64 bytes.
ROW: Final = 8
# A hash is 16 bits of the limit and 45 of the key: a compiled int of 61 bits is no object.
_KEY_BITS: Final = 45
_LIMIT_BITS: Final = 16


class Rate:
    """A rate: `per_s` requests a second on average, and `burst` at once by a key that was quiet.

    In the words of GCRA (generic cell rate algorithm, ITU-T I.371, virtual scheduling): the increment T is 1 / per_s, the
    tolerance tau is (burst - 1) T. A key has one number, the theoretical arrival time TAT, at which everything that it was
    admitted for is paid off. A request that costs n is admitted at the time t if max(TAT, t) + n T <= t + burst T, which is
    I.371's TAT <= t + tau for n = 1; then TAT becomes max(TAT, t) + n T. This is a token bucket that holds `burst` and gets
    one each T; TAT is when it will be full.

    Times are whole nanoseconds: sums of floats are off by a bit, and then a full bucket is one short. T is rounded down, so
    that who keeps to the rate is never refused. ValueError for what is no rate.
    """

    __slots__ = ("burst", "burst_ns", "per_s", "period_ns")

    def __init__(self, per_s: float, burst: int) -> None:
        if not _LEAST_PER_S <= per_s <= _MOST_PER_S:
            raise ValueError(f"a rate of {per_s:g} a second is not between {_LEAST_PER_S:g} and {_MOST_PER_S:,.0f}")
        if burst < 1:
            raise ValueError(f"a burst of {burst} admits nobody; it should be at least 1")
        self.per_s: Final = per_s
        self.burst: Final = burst
        # 5 a minute is no binary fraction, and its period is 12 s all the same.
        self.period_ns: Final = int(_NS / Fraction(per_s).limit_denominator(10**6))
        self.burst_ns: Final = burst * self.period_ns
        if self.burst_ns > _LONGEST_NS:
            raise ValueError(f"a burst of {burst:,} at {per_s:g} a second takes more than a year to come back")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and (self.period_ns, self.burst) == (other.period_ns, other.burst)

    def __hash__(self) -> int:
        return hash((self.period_ns, self.burst))

    def __repr__(self) -> str:
        return f"<Rate {self.per_s:g}/s, burst {self.burst}>"


class Hashes:
    """The hashes under which one limit counts its keys: BLAKE2b (RFC 7693) keyed by a secret of 16 to 64 random bytes,
    so that nobody can find keys that meet in the table. Whoever shares a table shares the secret. A key has another hash
    in each limit.
    """

    __slots__ = ("_begun", "_limit")

    def __init__(self, limit: str, secret: bytes) -> None:
        if not 16 <= len(secret) <= 64:
            raise ValueError(f"a secret of {len(secret)} bytes does not have 16 to 64")
        name = limit.encode()
        # With its length: no name and key run into those of another limit.
        self._begun: Final = blake2b(len(name).to_bytes(4, "big") + name, digest_size=8, key=secret)
        number = int.from_bytes(self._begun.digest(), "big")
        self._limit: Final = (number % ((1 << _LIMIT_BITS) - 1) + 1) << _KEY_BITS

    @property
    def limit(self) -> int:
        """What `limit_of` says of the hashes of this limit's keys."""
        return self._limit >> _KEY_BITS

    def of(self, key: bytes) -> int:
        """The hash of a key: the first bits say the limit, and it is never 0."""
        state = self._begun.copy()
        state.update(key)
        return self._limit | (int.from_bytes(state.digest(), "big") & ((1 << _KEY_BITS) - 1))


def limit_of(slot_hash: int) -> int:
    """Of which limit a hash is a key's."""
    return slot_hash >> _KEY_BITS


class Rates:
    """The table of rate limits: `cells` pairs of (tag, TAT), 16 bytes each, for the keys of all limits. It never grows, and a
    key makes no object in it.

    A key is looked for in the row of 8 cells that its hash says. One that is new takes an empty cell, or that of the key
    whose TAT is longest past (`replaced` counts them): that one's burst is whole again, as if it had never come. A cell
    whose TAT is still to come is never replaced, so that a flood of other keys frees nobody.

    A row of which all are such is full (`full` counts the looks that meet one). A newcomer then spends together with a key
    of its own limit: the two may be limited too strictly, as in a count-min sketch, and get no more together than one may.
    Only where the whole row is of other limits it is admitted without being counted (`uncounted`): a flood that one limit
    holds back must not lock the clients of all others out. NGINX, and HAProxy without `nopurge`, forget whoever came longest
    ago, busy or not, which frees an attacker; with it HAProxy tracks no newcomer, which frees those.

    `memory`: 16 bytes a cell, zeros at first, for a table that several processes share; left out, it is the table's own. All
    times are monotonic seconds; one before the last is taken for the last.
    """

    __slots__ = ("_cells", "_now_ns", "_rows", "cells", "full", "replaced", "uncounted")

    def __init__(self, cells: int, memory: memoryview | None = None) -> None:
        if cells < ROW or cells % ROW:
            raise ValueError(f"{cells} cells are no rows of {ROW}")
        self.cells: Final = cells
        self.full: int = 0
        self.replaced: int = 0
        self.uncounted: int = 0
        self._rows: Final = cells // ROW
        self._cells: Final = (memoryview(bytearray(16 * cells)) if memory is None else memory).cast("B").cast("q")
        assert len(self._cells) == 2 * cells, f"{cells} cells in {len(self._cells)} words"
        self._now_ns: int = 0

    def take(self, slot_hash: int, rate: Rate, cost: int, now: float) -> float:
        """Charge a request that costs so many to the key with this hash, and say 0; or charge nothing, and say how many
        seconds it has to wait: NEVER where it costs more than the burst.
        """
        now_ns = self._at(now)
        at = self._place(slot_hash, now_ns)
        wait_s = self._wait_s(at, slot_hash, rate, cost, now_ns)
        if not wait_s:
            self._spend(at, slot_hash, cost * rate.period_ns, now_ns)
        return wait_s

    def look(self, slot_hash: int, rate: Rate, cost: int, now: float) -> float:
        """What `take` would say; nothing is charged."""
        now_ns = self._at(now)
        return self._wait_s(self._place(slot_hash, now_ns), slot_hash, rate, cost, now_ns)

    def left(self, slot_hash: int, rate: Rate, now: float) -> int:
        """How many requests that cost 1 would be admitted now, one after the other."""
        now_ns = self._at(now)
        at = self._place(slot_hash, now_ns)
        tat = now_ns if at < 0 else max(self._cells[at + 1], now_ns)
        return max((now_ns + rate.burst_ns - tat) // rate.period_ns, 0)

    def charge(self, slot_hash: int, rate: Rate, cost: int, now: float) -> None:
        """Charge a request for which `look` has just said 0."""
        now_ns = self._at(now)
        self._spend(self._place(slot_hash, now_ns), slot_hash, cost * rate.period_ns, now_ns)

    def _wait_s(self, at: int, slot_hash: int, rate: Rate, cost: int, now_ns: int) -> float:
        if cost > rate.burst:
            return NEVER
        if at < 0:
            self.full += 1
            self.uncounted += 1
            return 0.0
        cells = self._cells
        tat = cells[at + 1]
        if tat <= now_ns:
            return 0.0
        if cells[at] != slot_hash:
            self.full += 1
        full_ns = now_ns + rate.burst_ns
        if tat > full_ns:
            # A reload made the burst smaller or the rate higher: nobody owes more than a whole burst.
            tat = cells[at + 1] = full_ns
        wait_ns = tat + cost * rate.period_ns - full_ns
        return wait_ns / _NS if wait_ns > 0 else 0.0

    def _spend(self, at: int, slot_hash: int, spent_ns: int, now_ns: int) -> None:
        if at < 0:
            return
        cells = self._cells
        tat = cells[at + 1]
        if tat > now_ns:
            cells[at + 1] = tat + spent_ns
            return
        if cells[at] != slot_hash:
            if cells[at]:
                self.replaced += 1
            cells[at] = slot_hash
        cells[at + 1] = now_ns + spent_ns

    def busy(self, now: float) -> int:
        """How many cells cannot be replaced: something that was spent there is not back. O(cells)."""
        now_ns = self._at(now)
        return sum(tat > now_ns for tat in self._cells[1::2])

    def _at(self, now: float) -> int:
        # To the nearest: sums of floats fall short of the moment that they mean.
        now_ns = int(now * _NS + 0.5)
        if now_ns < self._now_ns:
            return self._now_ns
        self._now_ns = now_ns
        return now_ns

    def _place(self, slot_hash: int, now_ns: int) -> int:
        """Where the cell of a key begins: its own, one that it may take, or in a full row one that it shares; -1 for none."""
        cells = self._cells
        begin = slot_hash % self._rows * (2 * ROW)
        oldest = begin
        oldest_tat = cells[begin + 1]
        for at in range(begin, begin + 2 * ROW, 2):
            tag = cells[at]
            # Cells are taken in their order and none is given back: behind an empty one there is nobody.
            if tag == slot_hash or not tag:
                return at
            tat = cells[at + 1]
            if tat < oldest_tat:
                oldest, oldest_tat = at, tat
        return oldest if oldest_tat <= now_ns else self._shared(slot_hash, begin)

    def _shared(self, slot_hash: int, begin: int) -> int:
        """Which cell of a full row a newcomer shares: one of its limit, by its hash."""
        cells = self._cells
        limit = slot_hash >> _KEY_BITS
        kin = [at for at in range(begin, begin + 2 * ROW, 2) if cells[at] >> _KEY_BITS == limit]
        return kin[slot_hash // self._rows % len(kin)] if kin else -1

    def __repr__(self) -> str:
        return f"<Rates {self.cells} cells, {self.replaced} replaced, {self.full} looks at full rows>"
