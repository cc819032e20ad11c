"""What a process shares with others that balance together with it: numbers that have to be one for all of them."""

from collections.abc import Callable
from typing import Final

from twisted_lb.core.counts import Counts
from twisted_lb.core.rate import CELLS, Rates


class Share:
    """Which one this is of so many processes (`number`, from 0), and what they share. `counts` makes what a pool counts its requests in
    flight in; `rates` is the memory of rate limits, and `secret` that of their keys: left out, they are a process's own.
    """

    def __init__(
        self,
        number: int = 0,
        of: int = 1,
        counts: Callable[[], Counts] = Counts,
        rates: memoryview | None = None,
        secret: bytes = b"",
    ) -> None:
        self.number: Final = number
        self.of: Final = of
        self.counts: Final = counts
        self.secret: Final = secret
        self._rates: Final = rates

    def new_rates(self) -> Rates:
        """The table of rate limits."""
        return Rates(CELLS, self._rates)


# One process, which shares with nobody.
ALONE: Final = Share()
