"""Standings: what a backend is to its pool from one change to the next, kept as values, so that a decision can be told later."""

import enum
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.never import NEVER
from twisted_lb.core.weighing import Weighing


class Skipped(enum.Enum):
    """Why a backend is skipped; the first reason that holds."""

    ADMIN = "taken out by the operator"
    WEIGHT = "of weight 0"
    DOWN = "down by its checks"
    AGENT = "taken out by its agent"
    BUSY = "busy by its checks"
    EJECTED = "ejected by traffic"
    STANDBY = "of a level that is not in use"
    FULL = "as many requests in flight as it may have"
    TRIED = "tried by this request"
    BOUND = "more than its share in flight (bounded load)"


@mypyc_attr(acyclic=True)
class Standing:
    """What a backend is to its pool, whatever it has in flight; a change makes another one, and nobody changes this one.

    `why`: for what reason it gets no requests, None where it may get them; `trial`: it is ejected, and may get one, to find
    out whether it is back; `panic`: it would get none, but too few are usable. `admin` is what the operator wants, `agent` what
    takes it out by its own word (see `Agent.word`), `weight` is configured, and `effective` what it is by slow start and the like. `reason`: what brought it about, in the words of whoever found
    it; `since` when, and `until` when a trial may be made, in monotonic seconds.
    """

    __slots__ = ("admin", "agent", "effective", "panic", "reason", "since", "trial", "until", "weight", "why")

    def __init__(
        self,
        why: Skipped | None,
        admin: str,
        weighing: Weighing,
        since: float,
        reason: str = "",
        until: float = NEVER,
        *,
        trial: bool = False,
        panic: bool = False,
        agent: str = "",
    ) -> None:
        self.why: Final = why
        self.admin: Final = admin
        self.agent: Final = agent
        self.weight: Final = weighing.configured
        self.effective: Final = weighing.effective
        self.since: Final = since
        self.reason: Final = reason
        self.until: Final = until
        self.trial: Final = trial
        self.panic: Final = panic

    def __repr__(self) -> str:
        state = "trial" if self.trial else "open" if self.why is None else self.why.name
        return f"<Standing {state}, weight {self.weight}>"
