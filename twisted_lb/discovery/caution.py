"""Caution: which lists are believed at once, and which only when another look says so too."""


class Caution:
    """Whether a list may be taken. A registry that is just starting, or is half broken, answers with a part of the truth, or
    with nothing at all: a list that is empty, or that shrinks by more than a share `max_shrink`, has to be seen twice.
    """

    def __init__(self, *, allow_empty: bool, max_shrink: float) -> None:
        self._allow_empty = allow_empty
        self._max_shrink = max_shrink
        # How many were in the list that waits for another look.
        self._doubted: int | None = None

    def admits(self, before: int, now: int) -> bool:
        """Whether a list of `now` may be taken in place of one of `before`. To be asked once for each look that brought a
        list: no counts as the first of two looks. One that shrinks again as much, beside the first, is a first look too.
        """
        if not self._sudden(before, now) or (self._doubted is not None and not self._sudden(self._doubted, now)):
            self._doubted = None
            return True
        self._doubted = now
        return False

    def _sudden(self, before: int, now: int) -> bool:
        if now >= before:
            return False
        if now == 0:
            return not self._allow_empty
        return before - now > self._max_shrink * before
