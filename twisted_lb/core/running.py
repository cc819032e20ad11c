"""What runs at once (concurrency limit) for each key, such as a client: how much there is, and how much may be."""

from typing import Final


class Running:
    """Requests or connections at a time, by key: `most` for each, which may be replaced while they run; beyond it `claim`
    refuses, and `refused` counts. An empty key is never limited.

    What `claim` granted is given back by one `release`, to the same object and with the same key, when it has ended, however
    that was. The table holds the keys for which something runs, so it is bounded by that.
    """

    __slots__ = ("_running", "most", "refused")

    def __init__(self, most: int) -> None:
        self.most: int = most
        self.refused: int = 0
        self._running: Final[dict[str, int]] = {}

    def full(self, key: str) -> bool:
        """Whether `claim` would refuse; nothing is counted. It is for who has more to ask before the request is admitted."""
        return self._running.get(key, 0) >= self.most if key else False

    def claim(self, key: str) -> bool:
        """Count one more that runs; False, and only `refused` counted, where the key has `most` already."""
        if not key:
            return True
        running = self._running.get(key, 0)
        if running >= self.most:
            self.refused += 1
            return False
        self._running[key] = running + 1
        return True

    def hold(self, key: str) -> None:
        """Count one more that runs, however many there are: there was room a moment ago, and another process may have been faster."""
        if key:
            self._running[key] = self._running.get(key, 0) + 1

    def release(self, key: str) -> None:
        """Count the end of what `claim` or `hold` counted for this key."""
        if not key:
            return
        running = self._running[key] - 1
        if running:
            self._running[key] = running
        else:
            del self._running[key]

    def of(self, key: str) -> int:
        """How many run for this key."""
        return self._running.get(key, 0)

    def __len__(self) -> int:
        return len(self._running)

    def __repr__(self) -> str:
        return f"<Running {sum(self._running.values())} of {len(self)} keys, {self.most} for each>"
