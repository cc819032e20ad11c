"""What a process shares with others that balance together with it: numbers that have to be one for all of them."""

from collections.abc import Callable
from typing import Final

from twisted_lb.core.affinity import AffinityRules, Bindings
from twisted_lb.core.counts import Counts
from twisted_lb.core.rate import CELLS, Hashes, Rates
from twisted_lb.core.reserve import Reserve, SharedReserve
from twisted_lb.core.running import Running
from twisted_lb.core.shared_bindings import Census, SharedBindings
from twisted_lb.core.shared_running import SharedRunning
from twisted_lb.core.tallies import Amount, SharedAmount, Tallies


def _none() -> int:
    return 0


class Share:
    """Which one this is of so many processes (`number`, from 0), and what they share. `counts` makes what a pool counts its requests in
    flight in; `rates` is the memory of rate limits, and `secret` that of their keys: left out, they are a process's own. So are `clients`,
    tallies by the key of a client, `sums`, of one thing each, `reserves` of retries, and `bindings` (affinity), which one of
    them counts. `on_their_way` says how many connections were handed on to another one that has not taken them in yet.
    """

    def __init__(
        self,
        number: int = 0,
        of: int = 1,
        counts: Callable[[], Counts] = Counts,
        rates: memoryview | None = None,
        secret: bytes = b"",
        clients: Tallies | None = None,
        sums: Tallies | None = None,
        reserves: Rates | None = None,
        bindings: memoryview | None = None,
        *,
        counts_bindings: bool = False,
        on_their_way: Callable[[], int] = _none,
    ) -> None:
        self.number: Final = number
        self.of: Final = of
        self.counts: Final = counts
        self.secret: Final = secret
        self.on_their_way: Final = on_their_way
        self._rates: Final = rates
        self._clients: Final = clients
        self._sums: Final = sums
        self._reserves: Final = reserves
        self._bindings: Final = bindings
        self._census: Final = Census(bindings) if bindings is not None and counts_bindings else None

    def new_rates(self) -> Rates:
        """The table of rate limits."""
        return Rates(CELLS, self._rates)

    def running(self, what: str, most: int) -> Running:
        """What runs at once by the key of a client, of what has this name in all of them: `most` for each."""
        if self._clients is None:
            return Running(most)
        return SharedRunning(most, self._clients, Hashes(what, self.secret))

    def reserve(self, pool: str) -> Reserve:
        """The reserve of the retry budget of a pool."""
        return Reserve() if self._reserves is None else SharedReserve(self._reserves, pool, self.secret)

    def bindings(self, pool: str, rules: AffinityRules) -> Bindings:
        """What is bound in a pool by these rules (affinity)."""
        if self._bindings is None:
            return Bindings(rules)
        return SharedBindings(rules, self._bindings, pool, self.secret, self._census)

    def amount(self, what: str) -> Amount | None:
        """How much there is of what has this name in all of them; None where there is one process alone."""
        return None if self._sums is None else SharedAmount(self._sums, Hashes(what, self.secret).of(b""))


# One process, which shares with nobody.
ALONE: Final = Share()
