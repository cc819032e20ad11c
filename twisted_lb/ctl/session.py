"""A session: what a verb works with, the console, the clock and the daemon, which is looked for when it is first asked."""

import os
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from twisted_lb.ctl.client import Answer, Api, Where, find, token
from twisted_lb.ctl.console import Console


class Clock:
    """Time as verbs know it; tests have one of their own."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Session:
    """One call of `lbctl`."""

    def __init__(
        self, console: Console, clock: Clock, *, admin: str | None = None, token_file: str | None = None
    ) -> None:
        self.console: Final = console
        self.clock: Final = clock
        self._admin = admin
        self._token_file = token_file

    @cached_property
    def api(self) -> Api:
        """The daemon; Failure where there is none."""
        where = find(self._admin, os.environ)
        return Api(where, token(self._token_file, os.environ))

    @property
    def where(self) -> Where:
        """The daemon's door."""
        return self.api.where

    def status(self) -> Answer:
        """The daemon's status."""
        return self.api.get("/v1/status")


@dataclass(frozen=True)
class Verb:
    """A verb: how it is typed, one line on it, its arguments, and what it does, with the status to end with."""

    name: str
    usage: str
    summary: str
    arguments: Callable[[ArgumentParser], Any]
    run: Callable[[Session, Namespace], int]


def items(answer: Any, key: str) -> list[Answer]:
    """The objects of a list in an answer; none where it has none."""
    found = answer.get(key) if isinstance(answer, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def part(answer: Any, key: str) -> Answer:
    """An object in an answer; an empty one where it has none."""
    found = answer.get(key) if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else {}


def lines_of(answer: Answer, key: str) -> list[str]:
    """The texts of a list in an answer."""
    found = answer.get(key)
    return [str(one) for one in found] if isinstance(found, list) else []


def text_of(answer: Answer, key: str, default: str = "") -> str:
    """A text in an answer."""
    found = answer.get(key)
    return default if found is None else str(found)


def left_at(backend: Answer) -> tuple[int, int]:
    """What still runs at a backend: requests, and tunnels, which the API counts among those in flight."""
    tunnels = int(number_of(backend, "tunnels"))
    return max(0, int(number_of(backend, "in_flight")) - tunnels), tunnels


def number_of(answer: Answer, key: str) -> float:
    """A number in an answer; 0 where it has none."""
    found = answer.get(key)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else 0
