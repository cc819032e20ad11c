"""Levels: priorities, and backups behind them (failover, active and passive): which share of the requests each has, and where
there is panic.

The rules are Envoy's (`priority.rst`, `panic_threshold.rst`, `load_balancer_impl.cc`): a level of which 5 in 7 members are usable
has its whole share, since levels are made with room to spare (overprovisioning factor 1.4); what is missing goes to the next one.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from twisted_lb.core.backend import BACKUP, AdminState, Backend
from twisted_lb.core.standing import Skipped

# In percent, Envoy's factor.
_OVERPROVISIONED: Final = 140


class Census:
    """Of one level: how many members have a weight (`whole`), how many of these the operator wants, how many are usable, and how
    many panic could use.
    """

    __slots__ = ("usable", "wanted", "whole", "willing")

    def __init__(self, whole: int, wanted: int, usable: int, willing: int) -> None:
        self.whole: Final = whole
        self.wanted: Final = wanted
        self.usable: Final = usable
        self.willing: Final = willing

    @property
    def health(self) -> int:
        """How many percent of all requests it can bear."""
        return min(100, _OVERPROVISIONED * self.usable // self.whole) if self.whole else 0

    def fewer_than(self, percent: int) -> bool:
        """Whether fewer than so many percent of those that are wanted are usable."""
        return percent > 0 and (not self.wanted or 100 * self.usable < percent * self.wanted)


class Spread:
    """What levels have: `shares` in percent, together 100, or all 0 where nobody is usable; `panics`: whether those that are not
    usable are used too.
    """

    __slots__ = ("panics", "shares")

    def __init__(self, shares: Sequence[int], panics: Sequence[bool]) -> None:
        self.shares: Final = tuple(shares)
        self.panics: Final = tuple(panics)

    def __repr__(self) -> str:
        return f"<Spread {self.shares}, panics {self.panics}>"


def spread(levels: Sequence[Census], panic_percent: int = 0) -> Spread:
    """How requests are spread over these levels, the first before the others; backups are not among them.

    There is panic in a level where all together cannot bear everything, and fewer than `panic_percent` of its members are
    usable; 0: never. Where all are in panic it counts how many members there are.
    """
    healths = [one.health for one in levels]
    normal = min(100, sum(healths))
    panics = [normal < 100 and one.fewer_than(panic_percent) for one in levels]
    if all(panics):
        return Spread(_by([one.willing for one in levels]), panics)
    shares: list[int] = []
    left = 100
    for health in healths:
        share = min(left, health * 100 // normal) if normal else 0
        shares.append(share)
        left -= share
    return Spread(_rounded(shares, healths, left), panics)


def _by(numbers: Sequence[int]) -> list[int]:
    """Shares in percent by these numbers."""
    total = sum(numbers)
    if not total:
        return [0] * len(numbers)
    shares = [100 * number // total for number in numbers]
    return _rounded(shares, numbers, 100 - sum(shares))


def _rounded(shares: list[int], some: Sequence[int], left: int) -> list[int]:
    """What rounding has left goes to the first level that has anything."""
    first = next((at for at, number in enumerate(some) if number), -1)
    if first >= 0:
        shares[first] += left
    return shares


def spread_with_backups(levels: Sequence[Census], backups: Census, panic_percent: int = 0) -> Spread:
    """The same with backups, who stand last: they are used where nobody of any level is usable, and there is no panic in the
    levels as long as a backup is.
    """
    none = [False] * len(levels)
    if not any(one.usable for one in levels):
        if not backups.usable and panic_percent:
            panicking = spread(levels, panic_percent)
            if sum(panicking.shares):
                return Spread([*panicking.shares, 0], [*panicking.panics, False])
        behind = spread([backups], panic_percent)
        return Spread([*(0 for _ in levels), *behind.shares], [*none, *behind.panics])
    before = spread(levels, panic_percent)
    return Spread([*before.shares, 0], [*before.panics, False])


def label_of(level: int) -> str:
    """What a level is called."""
    return "the backups" if level == BACKUP else f"level {level}"


class Levels:
    """The levels of a pool: `numbers` in their order, BACKUP last, with the `members` of each; and how they stand, as of the last
    `count`. `sole` is the place of the one that has everything, -1 where there is none; `trial` of one that has nobody usable
    and a trial that is due, -1 without.
    """

    __slots__ = ("members", "numbers", "panics", "percent", "shares", "sole", "spills", "trial", "usable")

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.members: list[list[Backend]] = []
        self.percent: int = 0
        self.spills: bool = False  # from a level that is full, into one that is not in use
        self.shares: tuple[int, ...] = ()
        self.panics: tuple[bool, ...] = ()
        self.usable: tuple[int, ...] = ()
        self.sole: int = 0
        self.trial: int = -1

    @property
    def several(self) -> bool:
        """Whether there are at least two."""
        return len(self.numbers) > 1

    @property
    def watched(self) -> bool:
        """Whether it matters how they stand."""
        return len(self.numbers) > 1 or self.percent > 0

    def follow(self, backends: Iterable[Backend]) -> None:
        """Have these members; to be followed by `count`."""
        levels: dict[int, list[Backend]] = {}
        for one in backends:
            levels.setdefault(one.level, []).append(one)
        self.numbers = sorted(levels)
        self.members = [levels[number] for number in self.numbers]

    def count(self, *, even_down: bool) -> None:
        """See how they stand. `even_down`: panic uses those too that are down by their checks. O(members)."""
        counted = [_census(members, even_down=even_down) for members in self.members]
        self.usable = tuple([one.usable for one in counted])
        if len(counted) > 1 and self.numbers[-1] == BACKUP:
            now = spread_with_backups(counted[:-1], counted[-1], self.percent)
        else:
            now = spread(counted, self.percent)
        self.shares = now.shares
        # Where nobody is there whom panic could use besides, there is none to speak of.
        self.panics = tuple([on and counted[at].willing > counted[at].usable for at, on in enumerate(now.panics)])
        self.sole = next((at for at, share in enumerate(self.shares) if share == 100), -1)
        # Behind a level that has everything nobody is tried: whoever stands by there is asked when it is needed.
        ahead = len(counted) if self.sole < 0 else self.sole
        self.trial = next((at for at in range(ahead) if self._tries(at)), -1)

    def mark(self, now: float, *, even_down: bool) -> None:
        """Have each member know whether its level panics or stands by, as of the last `count`. O(members)."""
        used = any(self.shares)
        for at, members in enumerate(self.members):
            panicked = 0 if not self.panics[at] else 2 if even_down else 1
            standby = used and not self.shares[at]
            why = self.why_standby(at) if standby else ""
            for one in members:
                one.panicked, one.standby = panicked, standby
                if standby:
                    one.reasons[Skipped.STANDBY] = why
                one.refresh_usable()
                one.stand(now)

    def _tries(self, at: int) -> bool:
        return not self.usable[at] and any(one.available and one.ejection.due for one in self.members[at])

    def at(self, point: float) -> int:
        """Whose share a point from 0 to 100 falls into; the first one where nobody has any."""
        found = 0
        for at, share in enumerate(self.shares):
            if share:
                found = at
                point -= share
                if point < 0:
                    break
        return found

    def why_standby(self, at: int) -> str:
        """Why a level is not in use, although some of it are usable."""
        used = [other for other, share in enumerate(self.shares) if share]
        others = [f"{self.usable[other]} of {label_of(self.numbers[other])}" for other in used]
        what = "backup" if self.numbers[at] == BACKUP else label_of(self.numbers[at])
        return (
            f"{what}: {' and '.join(others)} {'is' if sum(self.usable[other] for other in used) == 1 else 'are'} usable"
        )

    def in_use(self) -> str:
        """Which levels have requests, with their shares: `level 0 (70 %), level 1 (30 %)`; empty where nobody is usable."""
        used = [at for at, share in enumerate(self.shares) if share]
        if len(used) == 1:
            return label_of(self.numbers[used[0]])
        return ", ".join(f"{label_of(self.numbers[at])} ({self.shares[at]} %)" for at in used)

    def __repr__(self) -> str:
        return f"<Levels {dict(zip(self.numbers, self.shares, strict=False))}>"


def _census(members: Sequence[Backend], *, even_down: bool) -> Census:
    whole = wanted = usable = willing = 0
    for one in members:
        if not one.weighing.steady > 0:
            continue
        whole += 1
        if one.admin is not AdminState.READY or one.agent.withdrawn:
            continue
        wanted += 1
        usable += one.usable
        willing += (one.health.up and not one.agent.down) or even_down
    return Census(whole, wanted, usable, willing)
