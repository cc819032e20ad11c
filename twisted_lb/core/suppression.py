"""Log suppression (as of the kernel's printk): the same is said once in a while, and what is left out is counted."""

from collections.abc import Hashable
from typing import Final

from twisted_lb.core.never import NEVER


class _Said:
    """What is known of one key: when something of it was said, and what has been left out since."""

    __slots__ = ("at", "last", "left_out")

    def __init__(self, at: float) -> None:
        self.at: float = at
        self.left_out: int = 0
        self.last: object = None


class Suppression:
    """What may be said of each key, once in `every_s` seconds. All times are monotonic seconds.

    `note` decides at once; what is left out in the end is handed out by `due`, which is to be called a few times a second,
    and forgets the keys of which nothing is left out: nothing grows but with the keys of the last `every_s` seconds.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s: Final = every_s
        self._said: dict[Hashable, _Said] = {}

    def note(self, key: Hashable, what: object, now: float) -> int | None:
        """Something has happened: how many of this key were left out before it, if it is to be said; None if it is left
        out itself.
        """
        said = self._said.get(key)
        if said is None:
            self._said[key] = _Said(now)
            return 0
        if now - said.at < self._every_s:
            said.left_out += 1
            said.last = what
            return None
        left_out, said.left_out, said.last, said.at = said.left_out, 0, None, now
        return left_out

    def due(self, now: float) -> list[tuple[Hashable, object, int]]:
        """What is to be said by now: of each key what was left out last, and how many others were; all of it at NEVER,
        which is the end.
        """
        due: list[tuple[Hashable, object, int]] = []
        for key, said in list(self._said.items()):
            if now - said.at < self._every_s:
                continue
            if said.left_out:
                due.append((key, said.last, said.left_out - 1))
                said.left_out, said.last, said.at = 0, None, now
            else:
                del self._said[key]
        if now == NEVER:
            self._said.clear()
        return due

    def __repr__(self) -> str:
        return f"<Suppression of {len(self._said)} keys>"
