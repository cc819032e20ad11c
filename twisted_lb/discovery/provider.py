"""Providers (service discovery): what follows a list of backends, what it is told, and how it is doing."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime

from twisted_lb.core.backend import BackendSpec

# Who takes the backends. ValueError, with one line of text, for those that cannot be taken: the ones before them stay.
Update = Callable[[list[BackendSpec]], None]


@dataclass(frozen=True)
class State:
    """How a provider is doing. Moments are seconds of the clock that it was given, None for what has not happened.

    `backends`: how many it has handed on, None while no list is known. `error` is the last one, also after it has passed;
    `doubt` says why the last list was not taken yet, and is empty where none waits.
    """

    backends: int | None = None
    succeeded_at: float | None = None
    failed_at: float | None = None
    error: str = ""
    doubt: str = ""

    @property
    def failing(self) -> bool:
        """Whether the last look failed."""
        return self.failed_at is not None and (self.succeeded_at is None or self.failed_at > self.succeeded_at)

    def age_s(self, now: float) -> float | None:
        """Seconds since the list was last known to be true; None if it never was."""
        return None if self.succeeded_at is None else now - self.succeeded_at


class Provider(Protocol):
    """What follows a list of backends. One that fails removes nothing."""

    @property
    def state(self) -> State:
        """How it is doing, now."""

    def start(self, update: Update) -> None:
        """Tell `update` the backends, all of them and in an order that does not change by itself, whenever they are others
        than before; never before this returns. To be called once.
        """

    def stop(self) -> None:
        """Tell nothing any more, and let go of everything. Harmless when it was not started, or has been stopped."""


@dataclass(frozen=True)
class ListRules:
    """How a list is followed: seconds between two looks; whether an empty list is believed at once; which share of the list
    may go at the word of a single look. Their meaning for users: `config/targets.py`. `weight`: of backends for which the
    list says none.
    """

    refresh_s: float
    allow_empty: bool
    max_shrink: float
    weight: int = 1


@dataclass(frozen=True)
class Means:
    """What providers work with: time (monotonic), chance, and Twisted's reactor for its sockets."""

    time: IReactorTime
    rng: Random
    reactor: Any


class NoList(Exception):
    """A look that brought no list; the text says why in one line."""


def text_of(error: BaseException) -> str:
    """What went wrong, in one line: an exception's text, or its name where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removesuffix(".")
