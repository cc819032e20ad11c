"""The request log: requests as log lines, when they are over: what their clients saw, and what it took."""

from typing import Final

from twisted.logger import Logger

from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record

_log = Logger()


class RequestLog:
    """A log of requests, as an observer of a frontend. No line can be forged: what clients send is validated
    characters.

    Unless `everything` is wanted, a request that simply got the response of the first backend asked is passed over.
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
