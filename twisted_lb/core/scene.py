"""Scenes: what a pool was, from one change to the next, so that claims in between need keep nothing but a reference to it."""

from collections import deque
from collections.abc import Collection
from typing import Final

from twisted_lb.core.backend import Backend, Who
from twisted_lb.core.pickers.base import MOST_REMEMBERED, Picker
from twisted_lb.core.standing import Standing

# Pickers are kept over so many members in all: of pools that change fast the last ones, and the one before in any case.
KEPT_MEMBERS: Final = 4096
# One counts as so many members at least: 256 are kept, and 8 of those that are large (a table of maglev takes 264 kB).
LEAST_SIZE: Final = 16
LEAST_LARGE_SIZE: Final = 512
# So many scenes are kept of a pool of more than MOST_REMEMBERED members; one of 10,000 takes 320 kB.
KEPT_SCENES: Final = 8
# And nothing that has been over for longer.
KEPT_S: Final = 600.0


class Kept:
    """A picker, as long as it is kept: all scenes in which it picked share it. `size` is what it counts as."""

    __slots__ = ("began", "picker", "size")

    def __init__(self, picker: Picker | None, size: int = 0, began: float = 0.0) -> None:
        self.picker: Picker | None = picker
        self.size: Final = size
        self.began: Final = began

    def forget(self) -> None:
        """Keep what tells its marks alone."""
        if self.picker is not None:
            self.picker = self.picker.bare()


class Scene:
    """A pool's members with their standings, its picker, and how much each may have in flight; it never changes, but may be
    forgotten in part: the picker, and, where the pool is large, the members, of which only the number is left then.

    `small`: each claim remembers all loads.
    """

    __slots__ = ("_kept", "began", "limits", "pool", "size", "slots", "small", "standings", "whos")

    def __init__(self, pool: str, kept: Kept, backends: Collection[Backend], began: float = 0.0) -> None:
        self.pool: Final = pool
        self._kept: Final = kept
        self.began: Final = began
        # And not the records: of who has left they are not kept for who may ask later.
        self.whos: tuple[Who, ...] = tuple([one.who for one in backends])
        self.standings: tuple[Standing, ...] = tuple([one.standing for one in backends])
        self.slots: tuple[int, ...] = tuple([one.slot for one in backends])
        self.limits: tuple[int, ...] = tuple([one.limit for one in backends])
        self.size: Final = len(self.whos)
        self.small: Final = self.size <= MOST_REMEMBERED

    @property
    def picker(self) -> Picker | None:
        """Who picked, or what still tells its marks."""
        return self._kept.picker

    @property
    def forgotten(self) -> bool:
        """Whether it is not known any more who the members were."""
        return len(self.whos) < self.size

    def forget(self) -> None:
        """Forget the members."""
        self.whos, self.standings, self.slots, self.limits = (), (), (), ()

    def __repr__(self) -> str:
        return f"<Scene {self.pool}: {list(self.standings)}>"


class Scenes:
    """The scenes of a pool, as they come: what takes much of old ones is forgotten, whoever still holds them."""

    __slots__ = ("_large", "_pickers", "_pool", "_size")

    def __init__(self, pool: str) -> None:
        self._pool: Final = pool
        self._pickers: Final[deque[Kept]] = deque()
        self._large: Final[deque[Scene]] = deque()
        self._size: int = 0  # of all pickers

    def next(self, picker: Picker | None, backends: Collection[Backend], now: float) -> Scene:
        """The scene of the claims from now on. O(members)."""
        pickers = self._pickers
        if not pickers or pickers[-1].picker is not picker:
            least = LEAST_LARGE_SIZE if picker is not None and picker.large else LEAST_SIZE
            pickers.append(Kept(picker, max(len(backends), least), now))
            self._size += pickers[-1].size
            while len(pickers) > 2 and self._size > KEPT_MEMBERS:
                self._forget_picker()
        scene = Scene(self._pool, pickers[-1], backends, now)
        if not scene.small:
            self._large.append(scene)
            if len(self._large) > KEPT_SCENES:
                self._large.popleft().forget()
        return scene

    def tick(self, now: float) -> None:
        """Forget what has been over for long."""
        while len(self._pickers) > 1 and now >= self._pickers[1].began + KEPT_S:
            self._forget_picker()
        while len(self._large) > 1 and now >= self._large[1].began + KEPT_S:
            self._large.popleft().forget()

    def _forget_picker(self) -> None:
        kept = self._pickers.popleft()
        self._size -= kept.size
        kept.forget()
