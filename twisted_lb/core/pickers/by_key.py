"""By key (consistent hashing): requests with the same key meet the same backend, as long as it is there and not overloaded.

What the hash policies have in common: what becomes of a request without a key, of one whose backend is out or has more than its
share (bounded load), and how that is told. How a key finds its owner: `ring`, `maglev`, `rendezvous`.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads
from twisted_lb.core.pickers.base import Bare, Picker, Recalled, open_to, step_over
from twisted_lb.core.pickers.groundwork import Gradual, Groundwork
from twisted_lb.core.pickers.members import Members

_KEY_BITS: Final = 64
# So many entries of a table are looked at for another backend; with half of the pool out one pick in 2^64 needs more.
_MOST_STEPS: Final = 64


# How a pick went, in a mark.
_OWNER: Final = "its owner"
_OUT: Final = "out"
_TRIED: Final = "tried"
_BOUND: Final = "bound"


# Small, and never changed: a claim keeps one.
@mypyc_attr(acyclic=True)
class KeyMark:
    """What a pick by key went by: the key and what it is of, whose it was, and, where another one has it, what the owner had in
    flight of how many, and how many were passed over `behind` it.
    """

    __slots__ = ("behind", "by", "had", "how", "key", "most", "owner")

    def __init__(self, key: int, by: str, owner: int, how: str, had: int = 0, most: int = 0, behind: int = 0) -> None:
        self.key: Final = key
        self.by: Final = by
        self.owner: Final = owner
        self.how: Final = how
        self.had: Final = had
        self.most: Final = most
        self.behind: Final = behind


class ByKey(Picker):
    """A picker by key, over all members: who is out is passed at each pick, so that no key of the others moves by it.

    Who passes for the owner is the next one in an order that is the key's own, and differs from key to key: what a backend leaves
    is spread over all others, and is back where it was as soon as the backend is.
    """

    def __init__(self, members: Members, word: str) -> None:
        super().__init__()
        self.ramps = False
        self.members: Final = members
        self._word: Final = word
        self.mark = KeyMark(0, "", 0, _OWNER)

    def owner(self, key: int) -> int:
        """Whose key it is, whether it is open or not."""
        raise NotImplementedError

    def following(self, key: int) -> list[int]:
        """Whom to ask for a key, in their order, its owner first, nobody twice; some may be left out."""
        raise NotImplementedError

    def ranked(self, key: int) -> list[tuple[Backend, float]]:
        """All members in the order of a key, with the number that puts each there."""
        raise NotImplementedError

    def shares(self) -> list[tuple[Backend, float]]:
        """The members by their share of all keys."""
        raise NotImplementedError

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The owner of the key, if it is open and has room; else the next one in the order of the key. A request without a key
        has one by chance.
        """
        key = ask.key or rng.getrandbits(_KEY_BITS) or 1
        by = ask.by or "of the request" if ask.key else ""
        members = self.members
        owner = self.owner(key)
        backend = members.all[owner]
        if backend.available and (not tried or backend not in tried) and members.light(owner):
            self.mark = KeyMark(key, by, owner, _OWNER)
            return backend
        return self._pass(key, by, owner, tried)

    def _pass(self, key: int, by: str, owner: int, tried: Sequence[Backend]) -> Backend | None:
        """The owner is out, or may have its share: the exact bound, and whoever is next. O(n)."""
        members = self.members
        first = members.all[owner]
        room = members.room(tried)
        had, most, how = members.had(owner), room.most(owner), _OWNER
        if not open_to(first, tried):
            how = _TRIED if first.available else _OUT
            step_over(first)
        elif had >= most:
            how = _BOUND
            first.passed_by_bound += 1
        if how == _OWNER:
            self.mark = KeyMark(key, by, owner, how)
            return first
        order = self.following(key) if room.weight else []
        for behind in range(1, len(order)):
            backend = members.all[order[behind]]
            if not open_to(backend, tried):
                step_over(backend)
            elif members.had(order[behind]) >= room.most(order[behind]):
                backend.passed_by_bound += 1
            else:
                self.mark = KeyMark(key, by, owner, how, had, most, behind - 1)
                return backend
        self.mark = KeyMark(key, by, owner, how, had, most, max(len(order) - 1, 0))
        return members.highest_open(key, tried, room) if room.weight else None

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members in the order of the key; without one by their share of all keys."""
        return self.ranked(ask.key) if ask.key else self.shares()

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: which key it was and its hash, whose it is, and how far it went past its owner."""
        assert isinstance(mark, KeyMark)
        rule = _rule(self._word, mark, self.members.all[mark.owner].name, self.members.percent, picked)
        return Recalled(rule, self.ranked(mark.key) if mark.by else self.shares())

    def bare(self) -> Picker:
        """See Picker: who the owner was is told where it was picked."""
        return _Bare(self._word, self.members.percent)


class _Bare(Bare):
    def __init__(self, word: str, percent: int) -> None:
        super().__init__()
        self._word: Final = word
        self._percent: Final = percent

    def told(self, mark: object, picked: Backend | None) -> str:
        assert isinstance(mark, KeyMark)
        owner = picked.name if picked is not None and mark.how == _OWNER else "another one"
        return _rule(self._word, mark, owner, self._percent, picked)


def _rule(word: str, mark: KeyMark, owner: str, percent: int, picked: Backend | None) -> str:
    by = f"key {mark.by}" if mark.by else "no key, by chance"
    rule = f"{word}: {by}, hash {mark.key:016x}, is owned by {owner}"
    if mark.how == _OUT:
        rule += ", which was out"
    elif mark.how == _TRIED:
        rule += ", which the request had tried"
    elif mark.how == _BOUND:
        rule += f", which had {mark.had} in flight of {mark.most} (bounded load, {percent / 100:g})"
    if picked is None:
        rule += "; nobody was open"
    elif mark.how != _OWNER:
        others = "" if not mark.behind else f", past {mark.behind} other{'s' if mark.behind > 1 else ''}"
        rule += f": the next in the order of the key{others}"
    return rule


class Table(ByKey):
    """A picker that looks a key up in a table: whose each entry is, and where a key belongs. The next in the order of a key is
    whose the entries behind it are.
    """

    def __init__(self, members: Members, word: str, owners: Sequence[int]) -> None:
        super().__init__(members, word)
        self.large = True
        self.owners: Final = owners

    def place(self, key: int) -> int:
        """The entry of a key."""
        raise NotImplementedError

    def whose(self, entries: Sequence[int]) -> list[int]:
        """Which members these entries of the table stand for."""
        return list(entries)

    def owner(self, key: int) -> int:
        """Whose entry it is."""
        return self.owners[self.place(key)]

    def following(self, key: int) -> list[int]:
        """Whose the next entries are."""
        return self._from(key, _MOST_STEPS)

    def _from(self, key: int, most: int) -> list[int]:
        at, owners = self.place(key), self.owners
        end = at + min(most, len(owners))
        return list(dict.fromkeys(self.whose([*owners[at:end], *owners[: max(end - len(owners), 0)]])))

    def ranked(self, key: int) -> list[tuple[Backend, float]]:
        """All members as a pick would come to them, with their places in that: those of the next entries, then all others by
        rendezvous. O(n log n).
        """
        order = dict.fromkeys([*self.following(key), *self.members.order(key)])
        return [(self.members.all[index], float(place)) for place, index in enumerate(order)]


class TableWork(Groundwork):
    """A table in the making."""

    def table(self) -> ByKey:
        """The picker with the table, once all is done."""
        raise NotImplementedError

    def coarse_table(self) -> ByKey:
        """A picker with a coarser table: O(n) to make."""
        raise NotImplementedError

    def under(self, picker: Picker | None) -> Picker | None:
        """See Groundwork."""
        return self.table()

    def coarse(self, picker: Picker | None) -> Picker | None:
        """See Groundwork."""
        return self.coarse_table()


class KeyPolicy(Gradual):
    """A policy by key: the way to choose, how pickers are built for it, and its bound, in percent; 0: none. Two of the same way
    and bound are equal. `begin` is how a table is made in slices; a way without one has no table, and is eager.
    """

    def __init__(
        self,
        choose: str,
        describe: str,
        percent: int,
        build: Callable[[Members, Picker | None], ByKey],
        begin: Callable[[Members, Picker | None], TableWork] | None = None,
    ) -> None:
        self.choose: Final = choose
        self.describe: Final = describe
        self.percent: Final = percent
        self.eager: Final = begin is None
        self.keyed: Final = True
        self._build: Final = build
        self._begin: Final = begin

    def loads(self, counts: Counts) -> Loads | None:
        """None: a key does not look at load, and a bound at requests in flight alone, which the pool counts."""
        return None

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members; what of `previous` stays as it is need not be made anew."""
        return self._build(self._members(members, previous), previous)

    def begin(self, members: Sequence[Backend], previous: Picker | None) -> Groundwork | None:
        """See Gradual."""
        return None if self._begin is None else self._begin(self._members(members, previous), previous)

    def _members(self, members: Sequence[Backend], previous: Picker | None) -> Members:
        """These members; those of `previous` where nothing has changed."""
        if isinstance(previous, ByKey) and previous.members.over(members, self.percent):
            return previous.members
        return Members(members, self.percent)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyPolicy) and (self.choose, self.percent) == (other.choose, other.percent)

    def __hash__(self) -> int:
        return hash((self.choose, self.percent))
