"""By level: a picker over the pickers of a pool's levels (priorities, backups), each of the pool's policy. A pool with one level
has none of this.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.levels import Levels, label_of
from twisted_lb.core.pickers.base import Bare, Picker, Recalled, open_to

# By what a level was found.
_ALONE: Final = 0
_DRAWN: Final = 1
_TRIAL: Final = 2
_BEYOND: Final = 3
# A key is a number of 64 bits.
_KEYS: Final = float(1 << 64)


class ByLevel(Picker):
    """A picker that draws a level by the shares that the levels have now, and has its picker choose. O(levels) a pick, and what the
    picker of that level costs.

    A request with a key is drawn by its key, so that requests with the same one stay together. One that finds nobody open in its
    level goes on to others that are in use, first levels first; into one that is not in use only where it has tried everybody
    who is usable before, or if levels spill. Nor while somebody of a level in use is not in its picker yet, which takes long to
    build: then nobody is chosen, and the pool builds it. `known` are the pickers that levels had, for what they know of turns owed.
    """

    def __init__(
        self, levels: Levels, pickers: Sequence[Picker | None], known: Mapping[int, Picker] | None = None
    ) -> None:
        super().__init__()
        self._levels: Final = levels
        self._numbers: Final = tuple(levels.numbers)
        # Who was wanted when it was built.
        self._built: Sequence[frozenset[Backend]] = [
            frozenset([one for one in members if one.wanted]) for members in levels.members
        ]
        self._pickers: Final = list(pickers)
        before = {} if known is None else known
        self.known: Final = {number: before[number] for number in self._numbers if number in before}
        for at, picker in enumerate(self._pickers):
            if picker is not None:
                self.known[self._numbers[at]] = picker
        self.ramps = any(picker.ramps for picker in self._pickers if picker is not None)
        self.large = any(picker.large for picker in self._pickers if picker is not None)
        # The level, by what it was found, the number that was drawn, the shares then, and the mark of its own picker.
        self.mark = (0, _ALONE, 0.0, (), None)

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The backend that the picker of a level chooses."""
        levels = self._levels
        if levels.trial >= 0:
            backend = self._asked(levels.trial, _TRIAL, 0.0, ask, now, rng, tried)
            if backend is not None:
                return backend
        at, point, by = levels.sole, 0.0, _ALONE
        if at < 0:
            point = 100.0 * (ask.key / _KEYS if ask.key else rng.random())
            at, by = levels.at(point), _DRAWN
        backend = self._asked(at, by, point, ask, now, rng, tried)
        return self._beyond(at, ask, now, rng, tried) if backend is None else backend

    def _asked(
        self, at: int, by: int, point: float, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]
    ) -> Backend | None:
        picker = self._pickers[at]
        backend = None if picker is None else picker.pick(ask, now, rng, tried)
        self.mark = (at, by, point, self._levels.shares, None if picker is None else picker.mark)
        return backend

    def _beyond(self, at: int, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """Nobody of that level was open: somebody of the others that it may go on to."""
        shares = self._levels.shares
        standby = not any(self._awaits(other, tried) for other, share in enumerate(shares) if share)
        for in_use in (True, False):
            if not in_use and not standby:
                break
            for other, share in enumerate(shares):
                if other != at and (share > 0) is in_use and self._opens(other, tried):
                    backend = self._asked(other, _BEYOND, float(at), ask, now, rng, tried)
                    if backend is not None:
                        return backend
        return None

    def _awaits(self, at: int, tried: Sequence[Backend]) -> bool:
        """Whether this request is for somebody of it: who will have room again, or, where levels spill, has room now and is not in
        its picker yet.
        """
        members, built = self._levels.members[at], self._built[at]
        if self._levels.spills:
            return any(one.available and one not in tried and one not in built for one in members)
        return any((one.usable or one.standing.panic) and one not in tried for one in members)

    def _opens(self, at: int, tried: Sequence[Backend]) -> bool:
        """Whether somebody in its picker is open: who is asked for nothing counts no skips."""
        return any(open_to(one, tried) for one in self._built[at])

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members as the picker of their level has them, level by level."""
        return [one for picker in self._pickers if picker is not None for one in picker.ranking(ask, now)]

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: how its level was found, and then by what its picker has gone."""
        return _recalled(self._numbers, self._pickers, mark, picked)

    def bare(self) -> Picker:
        """See Picker."""
        return _BareLevels(self._numbers, [None if picker is None else picker.bare() for picker in self._pickers])

    def fork(self) -> Picker:
        """A copy, with copies of its pickers, of who was wanted when it was built, and what is known of levels without a picker."""
        pickers = [None if picker is None else picker.fork() for picker in self._pickers]
        copy = ByLevel(self._levels, pickers, self.known)
        copy._built = self._built
        copy.mark = self.mark
        return copy


class _BareLevels(Bare):
    def __init__(self, numbers: Sequence[int], pickers: Sequence[Picker | None]) -> None:
        super().__init__()
        self._numbers: Final = numbers
        self._pickers: Final = pickers

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        return _recalled(self._numbers, self._pickers, mark, picked)


def _recalled(
    numbers: Sequence[int], pickers: Sequence[Picker | None], mark: object, picked: Backend | None
) -> Recalled:
    assert isinstance(mark, tuple)
    at, by, point, shares, inner = mark
    picker = pickers[at]
    if picked is None or picker is None:
        return Recalled("nobody was open in any level that may be used", ())
    told = picker.recalled(inner, picked)
    label = label_of(numbers[at])
    if by == _DRAWN:
        found = f"{label}, which has {shares[at]} % of the requests (drew {point:.2f})"
    elif by == _TRIAL:
        found = f"{label} has nobody usable, and a trial is due"
    elif by == _BEYOND:
        found = f"nobody was open in {label_of(numbers[int(point)])}, on to {label}"
    else:
        found = f"{label} has all requests"
    return Recalled(f"{found}: {told.rule}", told.ranking, unknown=told.unknown)
