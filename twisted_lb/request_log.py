"""Requests as log lines, when they are over: what their clients saw, and what it took."""

from typing import Final

from twisted.logger import Logger

from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record

_log = Logger()


class RequestLog:
    """An observer of a frontend. Nothing in a line can be forged: method and target are checked characters, the rest is ours.

    Unless `everything` is wanted, a request that simply got the answer of the first backend asked is passed over.
    """

    def __init__(self, *, everything: bool) -> None:
        self._everything: Final = everything

    def __call__(self, record: Record) -> None:
        """Log one request that has ended."""
        outcome = record.outcome
        if not self._everything and outcome is Outcome.OK and len(record.attempts) == 1:
            return
        _log.info(
            "{client} {method} {target} {status} {outcome} backend={backend} attempts={attempts} {took_ms} ms",
            client=record.client,
            method=record.method.decode("ascii"),
            target=record.target.decode("ascii"),
            # nginx's number for a client that left, where it was told nothing.
            status=record.status or (499 if outcome is Outcome.CLIENT_GONE else 0),
            outcome="NO_BACKEND" if outcome is None else outcome.name,
            backend=record.backend_name or "-",
            attempts=len(record.attempts),
            took_ms=round(record.took_s * 1000, 1),
        )
