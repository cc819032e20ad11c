"""What runs at once for each key in several processes together: a bound that is one for all of them."""

from typing import Final

from twisted_lb.core.rate import Hashes
from twisted_lb.core.running import Running
from twisted_lb.core.tallies import Tallies


class SharedRunning(Running):
    """See Running: `most` is that of all processes that share these tallies. `hashes` make tags of keys, alike in all of them."""

    __slots__ = ("_hashes", "_tags", "_tallies")

    def __init__(self, most: int, tallies: Tallies, hashes: Hashes) -> None:
        super().__init__(most)
        self._tallies: Final = tallies
        self._hashes: Final = hashes
        self._tags: Final[dict[str, int]] = {}  # of keys for which something runs here

    def full(self, key: str) -> bool:
        """See Running."""
        return self.of(key) >= self.most if key else False

    def claim(self, key: str) -> bool:
        """See Running."""
        if not key:
            return True
        tag = self._tag(key)
        if not self._tallies.take(tag, 1, self.most):
            self.refused += 1
            return False
        self._note(key, tag)
        return True

    def hold(self, key: str) -> None:
        """See Running."""
        if key:
            tag = self._tag(key)
            self._tallies.add(tag, 1)
            self._note(key, tag)

    def release(self, key: str) -> None:
        """See Running."""
        super().release(key)
        if key:
            self._tallies.add(self._tags[key] if key in self._running else self._tags.pop(key), -1)

    def of(self, key: str) -> int:
        """See Running."""
        tag = self._tag(key)
        return self._tallies.own(tag) + self._tallies.elsewhere(tag)

    def _tag(self, key: str) -> int:
        tag = self._tags.get(key)
        return self._hashes.of(key.encode()) if tag is None else tag

    def _note(self, key: str, tag: int) -> None:
        self._running[key] = self._running.get(key, 0) + 1
        self._tags[key] = tag
