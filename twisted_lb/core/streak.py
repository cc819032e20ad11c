"""Streaks: what a backend has failed since its last success, and for how many clients."""

from collections.abc import Mapping
from typing import Final

from twisted_lb.core.outcome import Outcome

# So many clients are told from one another; of more than that nobody asks how many they are.
MOST_CLIENTS: Final = 100


class Streak:
    """Failures in a row of one backend: made at the first one, and thrown away at a success. It counts those outcomes of which the
    table says `in_a_row`, and the clients whose requests they were.

    `withheld`: they were reason enough to eject the backend, and it was told that it stays. Bounded: MOST_CLIENTS names.
    """

    __slots__ = ("_clients", "_outcomes", "failures", "withheld")

    def __init__(self) -> None:
        self.failures: int = 0
        self.withheld: bool = False
        self._clients: Final[set[str]] = set()
        self._outcomes: Final[dict[Outcome, int]] = {}

    def add(self, outcome: Outcome, client: str) -> None:
        """One more, of this client."""
        self.failures += 1
        self._outcomes[outcome] = self._outcomes.get(outcome, 0) + 1
        if len(self._clients) < MOST_CLIENTS:
            self._clients.add(client)

    @property
    def clients(self) -> int:
        """Of how many clients they are, MOST_CLIENTS for as many or more."""
        return len(self._clients)

    @property
    def outcomes(self) -> Mapping[Outcome, int]:
        """How often which outcome was among them."""
        return self._outcomes

    def __str__(self) -> str:
        """`5 failures in a row of 3 clients: 4 TIMED_OUT, 1 NO_RESPONSE`."""
        failures = "1 failure" if self.failures == 1 else f"{self.failures} failures in a row"
        clients = "1 client" if self.clients == 1 else f"{self.clients} clients"
        more = " or more" if self.clients == MOST_CLIENTS else ""
        most_first = sorted(self._outcomes.items(), key=lambda item: (-item[1], int(item[0])))
        told = ", ".join(f"{times} {outcome.name}" for outcome, times in most_first)
        return f"{failures} of {clients}{more}: {told}"

    def __repr__(self) -> str:
        return f"<Streak {self}>"
