"""Round robin: by turns, smoothly by weight (nginx's algorithm, commit 52327e0627f4).

After k picks of total weight W, a backend of weight w that was picked n times is owed k*w/W - n turns. That number is
what survives a rebuild: the next picker goes on where this one stopped, whoever came or left.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from twisted_lb.core.backend import Backend
from twisted_lb.core.pickers.base import Picker


class Rotation:
    """Equal weights: one after the other, O(1) unless some are avoided."""

    def __init__(self, members: Sequence[Backend], start: int = 0, owed: dict[Backend, float] | None = None) -> None:
        self._members: Final = list(members)
        self._owed_before: Final[dict[Backend, float]] = owed or {}
        self._size: Final = len(members)
        self._next: int = start
        self._begun_at: Final = start
        self._spare: int = start

    def pick(self, key: bytes | None, now: float, rng: Random, avoid: Sequence[Backend]) -> Backend | None:
        """The next in turn. A turn of one to be avoided goes to the others in a rotation of its own, O(n), so that no
        neighbour gets it every time.
        """
        index = self._next
        self._next = index + 1 if index + 1 < self._size else 0
        backend = self._members[index]
        if not avoid or backend not in avoid:
            return backend
        for _ in range(self._size):
            self._spare = self._spare + 1 if self._spare + 1 < self._size else 0
            backend = self._members[self._spare]
            if backend not in avoid:
                return backend
        return None

    def owed(self) -> dict[Backend, float]:
        """How many turns each member is owed: what it was owed before this rotation, and its place in it."""
        done = (self._next - self._begun_at) % self._size
        share = done / self._size
        owed: dict[Backend, float] = {}
        for place, backend in enumerate(self._members):
            served = (place - self._begun_at) % self._size < done
            owed[backend] = self._owed_before.get(backend, 0.0) + share - served
        return owed


class SmoothRotation:
    """Unequal weights: whoever is owed most, O(n) a pick. Weights 5, 1, 1 give a a b a c a a."""

    def __init__(self, members: Sequence[Backend], owed: dict[Backend, float]) -> None:
        self._members: Final = list(members)
        self._weights: Final = [backend.weight for backend in members]
        self._total: Final = sum(self._weights)
        self._credits: Final = [owed.get(backend, 0.0) * self._total for backend in members]
        self._spare_credits: Final = [0.0] * len(members)

    def pick(self, key: bytes | None, now: float, rng: Random, avoid: Sequence[Backend]) -> Backend | None:
        """Whoever is owed most; the turn of one to be avoided goes to whoever of the others is owed most such turns."""
        backend = self._step(self._credits, ())
        if backend is not None and avoid and backend in avoid:
            return self._step(self._spare_credits, avoid)
        return backend

    def _step(self, owed: list[float], avoid: Sequence[Backend]) -> Backend | None:
        best = -1
        total = 0
        for index in range(len(owed)):
            if avoid and self._members[index] in avoid:
                continue
            weight = self._weights[index]
            total += weight
            owed[index] += weight
            if best < 0 or owed[index] > owed[best]:
                best = index
        if best < 0:
            return None
        owed[best] -= total
        return self._members[best]

    def owed(self) -> dict[Backend, float]:
        """How many turns each member is owed."""
        return {backend: self._credits[index] / self._total for index, backend in enumerate(self._members)}


class RoundRobinPolicy:
    """Builds the one or the other."""

    def build(self, backends: Sequence[Backend], previous: Picker | None, rng: Random) -> Picker:
        """See Policy. The very first rotation begins anywhere: many balancers must not begin with the same backend."""
        weights = {backend.weight for backend in backends}
        if isinstance(previous, (Rotation, SmoothRotation)):
            owed = _carried(backends, previous.owed())
        elif len(weights) == 1:
            return Rotation(backends, int(rng.random() * len(backends)))
        else:
            owed = {}
        if len(weights) == 1:
            return Rotation(sorted(backends, key=lambda backend: -owed.get(backend, 0.0)), 0, owed)
        return SmoothRotation(backends, owed)


def _carried(backends: Sequence[Backend], owed: dict[Backend, float]) -> dict[Backend, float]:
    """What the remaining ones are owed; what is owed to or by those who left is shared by all."""
    kept = {backend: owed.get(backend, 0.0) for backend in backends}
    surplus = sum(kept.values()) / len(kept)
    return {backend: turns - surplus for backend, turns in kept.items()}
