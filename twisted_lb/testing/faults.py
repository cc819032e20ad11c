"""Faults: what goes wrong in the network in memory by itself, at random moments, the same ones for the same seed."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from twisted.internet.interfaces import IReactorTime

from twisted_lb.core.address import Address
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing.chances import Chances
from twisted_lb.testing.faulty_pipe import FaultyPipe
from twisted_lb.testing.transport import MemoryTransport


@dataclass(frozen=True)
class Fault:
    """One fault that happened: when, in the clock's seconds, what, and to which connection or address."""

    at: float
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.where} {self.what}"


_BEFALLS: Final = ("reset", "closed", "half-closed", "stalled")
_TROUBLES: Final = (
    (Outcome.REFUSED, "connection refused"),
    (Outcome.CONNECT_TIMEOUT, "no answer in time"),
    (Outcome.LOCAL_FAILURE, "too many open files"),
    (Outcome.NO_PORT, "cannot assign requested address"),
)


class Faults:
    """The faults of a MemoryNetwork. `rng` decides what goes wrong and when: a seed is a story that can be told again.

    `happened` are the faults so far; `hear` is told each, as it happens. What a network does to every byte (partial
    writes, pieces, delays) is not among them. `calm` ends it all.
    """

    def __init__(
        self, clock: IReactorTime, rng: Random, chances: Chances, hear: Callable[[Fault], object] | None = None
    ) -> None:
        self.chances = chances
        self.happened: list[Fault] = []
        self._rng: Final = rng
        self._hear: Final = hear
        self._clock: Final = clock

    def calm(self) -> None:
        """End all faults: from now on nothing goes wrong any more, not even to connections that exist."""
        self.chances = Chances()

    # The network asks.

    def pipe(self, capacity_bytes: int) -> FaultyPipe:
        """A faulty pipe for one direction of a connection."""
        return FaultyPipe(self._clock, capacity_bytes, self._rng, lambda: self.chances)

    def delay_s(self) -> float:
        """How long a connect takes."""
        chances = self.chances
        return self._rng.uniform(0, chances.longest_delay_s) if self._rng.random() < chances.delayed else 0.0

    def trouble(self, address: Address) -> tuple[Outcome, str] | None:
        """How an attempt to connect fails, None when it does not."""
        chances = self.chances
        index = self._drawn(chances.of_a_connect)
        if index is None:
            return None
        self._note(_TROUBLES[index][0].name.lower(), str(address))
        return _TROUBLES[index]

    def befall(self, tried: MemoryTransport, peer: MemoryTransport, where: str) -> None:
        """Decide what happens to a new connection; `peer` is the end that does it."""
        index = self._drawn(self.chances.of_a_connection)
        if index is None:
            return
        rng, chances = self._rng, self.chances
        what = _BEFALLS[index]
        stall_s = rng.uniform(0, chances.longest_stall_s)
        to_peer, from_peer = peer.pipes
        assert isinstance(to_peer, FaultyPipe)
        assert isinstance(from_peer, FaultyPipe)

        def happen() -> None:
            if self.chances is not chances or not peer.connected:
                return
            self._note(what, where)
            if what == "reset":
                to_peer.tear()
                from_peer.tear()
            elif what == "closed":
                peer.loseConnection()
            elif what == "half-closed":
                peer.loseWriteConnection()
            else:
                to_peer.stall(stall_s)

        if rng.random() < 0.5:
            self._clock.callLater(rng.uniform(0, chances.within_s), happen)
        else:
            behind = int(chances.within_bytes ** rng.random())
            rng.choice((to_peer, from_peer)).after(behind, happen)

    def _drawn(self, chances: tuple[float, ...]) -> int | None:
        dice = self._rng.random()
        for index, chance in enumerate(chances):
            dice -= chance
            if dice < 0:
                return index
        return None

    def _note(self, what: str, where: str) -> None:
        fault = Fault(self._clock.seconds(), what, where)
        self.happened.append(fault)
        if self._hear is not None:
            self._hear(fault)

    def __repr__(self) -> str:
        return f"<Faults: {len(self.happened)} happened>"
