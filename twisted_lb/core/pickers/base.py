"""What a policy is: it builds pickers, and a picker answers picks."""

from collections.abc import Sequence
from random import Random
from typing import Protocol

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend


class Picker(Protocol):
    """A snapshot of the usable backends that answers one pick after the other. It copies and sorts nothing."""

    def pick(self, ask: Ask, now: float, rng: Random, tried: Sequence[Backend]) -> Backend | None:
        """The backend for a request. `tried` (tried or full ones) is () in the hot case; None when all are avoided."""


class Policy(Protocol):
    """The configured way of choosing. `describe` is one line for help and documentation, the field's word first."""

    describe: str

    def build(self, backends: Sequence[Backend], previous: Picker | None, rng: Random) -> Picker:
        """A picker over these (never empty, all usable). What `previous` knows of who is owed a turn is carried over."""
