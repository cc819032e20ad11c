"""Windows: how many of a backend's answers of the last seconds were good, by a true sliding window of bounded memory."""

from collections import deque
from typing import Final

# A window is looked at in so many steps, so that it begins too early by one step at most: by less than two per cent.
STEPS: Final = 60


class Window:
    """What a backend has answered well and badly within the last `window_s` seconds.

    Nothing is counted here. What is counted since the backend is there is remembered as it was at moments a step apart and at the last
    look, and the window is what has come since the youngest of them that is `window_s` old. So the numbers are exact, and where the window begins is early
    by one step at most; it slides, and does not jump at the end of an interval (buckets), nor does it last for as long as
    something keeps happening (nginx's `fail_timeout`). Memory: STEPS + 3 moments.

    `withheld`: why it would have been ejected, and was told that it stays; empty where it was not.
    """

    __slots__ = ("_moments", "withheld")

    def __init__(self, now: float, good: int, bad: int) -> None:
        self.withheld: str = ""
        self._moments: Final[deque[tuple[float, int, int]]] = deque(((now, good, bad),))

    def look(self, now: float, good: int, bad: int, window_s: float) -> tuple[int, int]:
        """Good and bad answers within the window, of those that were counted since the backend is there: `good` and `bad`. O(1) as a
        rule: who was not looked at for long forgets all of it.
        """
        moments = self._moments
        while len(moments) > 1 and moments[1][0] <= now - window_s:
            moments.popleft()
        if len(moments) > 1 and moments[-1][0] - moments[-2][0] < window_s / STEPS:
            moments[-1] = now, good, bad
        else:
            moments.append((now, good, bad))
        _, good_before, bad_before = moments[0]
        return good - good_before, bad - bad_before

    def __repr__(self) -> str:
        return f"<Window of {len(self._moments)} moments>"
