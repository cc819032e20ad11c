"""What tells the adaptive limit of a backend of its requests, beside the load that its policy compares, if any."""

from collections.abc import Callable
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.load import Load
from twisted_lb.core.outcome import Outcome


class Limiting(Load):
    """Tells a backend's gradient of its leases, and its load too; `moved` is called when the limit is another one.

    A latency is the time until the head of an answer, of whatever status, since a body takes what it is long. Where none came in time,
    that time counts. Other ends say nothing: a connect that is refused is fast, and a client that left was too.
    As long as a number is in force in its place, of file or operator, nothing is learnt: that says how many are in flight.
    """

    __slots__ = ("_backend", "_moved", "load")

    def __init__(self, backend: Backend, load: Load | None, moved: Callable[[Backend, float], None]) -> None:
        self._backend: Final = backend
        self._moved: Final = moved
        self.load: Final = load

    def leased(self, weight: float, ask: Ask, now: float) -> int:
        """See Load."""
        backend = self._backend
        if backend.gradient is not None and backend.learns:
            backend.gradient.leased(backend.load_now)
        return 0 if self.load is None else self.load.leased(weight, ask, now)

    def responded(self, note: int, elapsed_s: float, now: float) -> None:
        """See Load."""
        if self.load is not None:
            self.load.responded(note, elapsed_s, now)
        self._observe(elapsed_s, self._backend.load_now, now, answered=True)

    def settled(self, note: int, outcome: Outcome, elapsed_s: float, now: float) -> None:
        """See Load."""
        if self.load is not None:
            self.load.settled(note, outcome, elapsed_s, now)
        if outcome is Outcome.TIMED_OUT or outcome is Outcome.CONNECT_TIMEOUT:
            self._observe(elapsed_s, self._backend.load_now + 1, now, answered=False)

    def _observe(self, latency_s: float, in_flight: int, now: float, *, answered: bool) -> None:
        backend = self._backend
        gradient = backend.gradient
        if gradient is None or not backend.learns:
            return
        if gradient.observe(latency_s, in_flight, now, answered=answered):
            self._moved(backend, now)

    def restarted(self) -> None:
        """See Load."""
        if self.load is not None:
            self.load.restarted()

    def value(self, weight: float, now: float) -> float:
        """Nobody compares this: the load itself is compared."""
        return float(self._backend.load_now) if self.load is None else self.load.value(weight, now)
