"""First available: in the order of the configuration, the next one where those before it are full (overflow, spill-over)."""

from collections.abc import Sequence
from random import Random
from typing import Final

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Loads
from twisted_lb.core.never import NEVER
from twisted_lb.core.pickers.base import Bare, Picker, Recalled, open_to, step_over

# Members are looked through for a trial that is due so often: O(n), and behind one that is open it would never come.
_TRIALS_EVERY_S: Final = 0.1
# In a mark, in the place of a number: a trial was due.
_TRIAL: Final = -1


class InOrder(Picker):
    """The first member that is open: O(1) while it is the first one, O(n) where those before it are full or out. One whose trial is due
    comes before that, wherever it stands.

    Weights say nothing here. With limits as few backends as possible are in use (HAProxy's `balance first`), and the rest can be
    turned off; without them the later ones only stand by.
    """

    def __init__(self, members: Sequence[Backend]) -> None:
        super().__init__()
        self._members: Final = list(members)
        self._look_at: float = -NEVER
        self.mark = 0  # how many were not open before it, or _TRIAL

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The first one in order that is open; one whose trial is due before that."""
        if now >= self._look_at:
            for backend in self._members:
                if backend.ejection.due and not backend.usable and open_to(backend, tried):
                    self.mark = _TRIAL
                    return backend
            self._look_at = now + _TRIALS_EVERY_S
        for index, backend in enumerate(self._members):
            if open_to(backend, tried):
                self.mark = index
                return backend
            step_over(backend)
        self.mark = len(self._members)
        return None

    def ranking(self, ask: Ask, now: float) -> Sequence[tuple[Backend, float]]:
        """The members by their place."""
        return [(backend, float(index)) for index, backend in enumerate(self._members)]

    def recalled(self, mark: object, picked: Backend | None) -> Recalled:
        """See Picker: how many were not open before it."""
        return Recalled(_rule(mark, picked, len(self._members)), self.ranking(ANY, 0.0))

    def fork(self) -> Picker:
        """A copy that looks for trials when this one would."""
        copy = InOrder(self._members)
        copy._look_at = self._look_at
        return copy

    def bare(self) -> Picker:
        """See Picker: its place."""
        return _Bare(len(self._members))


class _Bare(Bare):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._size: Final = size

    def told(self, mark: object, picked: Backend | None) -> str:
        return _rule(mark, picked, self._size)


def _rule(mark: object, picked: Backend | None, size: int) -> str:
    assert isinstance(mark, int)
    if picked is None:
        return f"first in order: none of {size} was open"
    if mark == _TRIAL:
        return "a trial was due: one request finds out whether it is back, wherever it stands"
    if not mark:
        return "first in order: the first one was open"
    before = "the one before it was" if mark == 1 else f"the {mark} before it were"
    return f"first in order: number {mark + 1} of {size}, {before} full or out"


class FirstPolicy:
    """The first policy: in the order of the configuration."""

    def __init__(self) -> None:
        self.describe: Final = "first available: in the order of the configuration, full ones passed over"
        self.eager: Final = True
        self.keyed: Final = False

    def loads(self, counts: Counts) -> Loads | None:
        """None: what is full is not the policy's to know."""
        return None

    def build(self, members: Sequence[Backend], previous: Picker | None, rng: Random, now: float) -> Picker:
        """A picker over these members, which come in the order of the configuration."""
        return InOrder(members)
