"""Exemplars: requests that stand for others in metrics, so that a bucket of a histogram leads to one that can be explained."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Notes
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.totals import KINDS, kind_of

# Of an answer that has come to its end.
_COMPLETE: Final = (Outcome.OK, Outcome.BAD_STATUS)
_SWITCHED: Final = 101


@dataclass(frozen=True)
class Exemplar:
    """A request that has ended, and has an id: by what it is counted (`code_class` is one of `totals.KINDS`), and how long it took
    in all, at the backend that answered completely, and from when it was sent to the head of the answer; None for what was not.
    `at` is when it ended, in seconds since 1970.
    """

    request_id: str
    pool: str
    backend: str
    code_class: str
    at: float
    took_s: float
    backend_s: float | None
    first_byte_s: float | None


def exemplars_of(notes: Notes, epoch: float) -> Iterator[Exemplar]:
    """Of all requests that are remembered: O(notes). `epoch` is what is to be added to monotonic seconds for those since 1970."""
    for note in notes.identified():
        attempt = note.attempt
        if attempt is None and note.began == note.ended_at:
            continue  # refused at once: none of those whose durations are counted
        backend_s = first_byte_s = None
        if attempt is not None:
            if attempt.outcome in _COMPLETE and note.status != _SWITCHED:
                backend_s = note.ended_at - attempt.began
            if note.head_at != NEVER:
                first_byte_s = note.head_at - attempt.connected_at
        yield Exemplar(
            note.request_id.decode("ascii", "replace"),
            note.pool,
            "" if attempt is None else attempt.lease.backend.name,
            KINDS[kind_of(note.status)],
            note.ended_at + epoch,
            note.took_s,
            backend_s,
            first_byte_s,
        )
