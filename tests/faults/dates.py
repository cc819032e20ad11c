"""Judges the Date fields that the balancer adds: the wall clock's, within a second, whatever that clock has done."""

import math
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from faults.servers import THEIR_DATE
from faults.tape import PUT, TOOK, Tape

if TYPE_CHECKING:
    from faults.oracle import Oracle
    from faults.reader import Reader

# A date is made once a second.
OLD_S = 1.0


class Dates:
    """A backend's date is its own; ours is that of some moment between the request and its answer."""

    def __init__(self, oracle: "Oracle") -> None:
        self._oracle = oracle
        self._wall = oracle.town.wall

    def judge(self, conversations: Sequence[tuple[Tape, "Reader", "Reader"]]) -> None:
        for tape, asked, answered in conversations:
            for request, answer in zip(asked.messages, answered.messages, strict=False):
                began, put = tape.entry_of(TOOK, request.begins_at), tape.entry_of(PUT, answer.final_at)
                if answer.head_ends_at is None or answer.status == 101 or began is None or put is None:
                    continue
                date = answer.get("date")
                if date != THEIR_DATE and not self._was(date, began.when - OLD_S, put.when):
                    self._oracle.complain(f"{answer} to {request} of {began.when} has the date {date!r}")

    def _was(self, date: str, since: float, until: float) -> bool:
        """Whether it was that second at some moment between these."""
        second = parsedate_to_datetime(date).timestamp() if date else math.nan
        return any(math.floor(first) <= second <= last for first, last in self._wall.shown(since, until))
