"""Portions: what takes long to make, as of thousands of backends, is made a bit at a turn of the reactor, so that requests go on."""

from collections.abc import Generator, Iterator
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Cooperator

# So many backends, or whatever a list has, are one portion: some milliseconds.
AT_ONCE: Final = 100

_Made = TypeVar("_Made")
# Makes something, and yields behind each portion of it.
Making = Generator[None, None, _Made]


class Portions:
    """Makes things in portions. What needs only one is there at once; of what needs more, so many are made in a turn as 10 ms allow
    (`Cooperator`). `time` is IReactorTime.
    """

    def __init__(self, time: Any) -> None:
        self._cooperator: Final = Cooperator(scheduler=lambda go_on: time.callLater(0, go_on))

    def make(self, making: Making[_Made]) -> "Deferred[_Made]":
        """Fires with what is made, or with what the making has raised."""
        try:
            next(making)
        except StopIteration as over:
            return succeed(over.value)
        except Exception:
            return fail()
        made: list[_Made] = []

        def rest() -> Iterator[None]:
            made.append((yield from making))

        return self._cooperator.coiterate(rest()).addCallback(lambda _: made[0])


def whole(making: Making[_Made]) -> _Made:
    """What is made, all of it at once."""
    while True:
        try:
            next(making)
        except StopIteration as over:
            made: _Made = over.value
            return made
