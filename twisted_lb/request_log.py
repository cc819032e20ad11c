"""Requests as log lines, when they are over: what their clients saw, and what it took."""

from typing import Final

from twisted.logger import Logger

from twisted_lb.core.outcome import Outcome
from twisted_lb.net.clock import Clock
from twisted_lb.net.exchange import Exchange

_log = Logger()


class RequestLog:
    """An observer of an Engine. Nothing in a line can be forged: method and target are checked characters, the rest is ours.

    Unless `everything` is wanted, a request that simply got the answer of the first backend asked is passed over.
    """

    def __init__(self, clock: Clock, *, everything: bool) -> None:
        self._clock: Final = clock
        self._everything: Final = everything

    def __call__(self, exchange: Exchange) -> None:
        """Log one exchange that has ended."""
        if not self._everything and exchange.outcome is Outcome.OK and exchange.attempts == 1:
            return
        outcome = exchange.outcome
        _log.info(
            "{client} {method} {target} {status} {outcome} backend={backend} attempts={attempts} {took_ms} ms",
            client=exchange.client.who(),
            method=exchange.head.method.decode("ascii"),
            target=exchange.head.target.decode("ascii"),
            # nginx's number for a client that left, where it was told nothing.
            status=exchange.status or (499 if outcome is Outcome.CLIENT_GONE else 0),
            outcome="NO_BACKEND" if outcome is None else outcome.name,
            backend=exchange.backend_name or "-",
            attempts=exchange.attempts,
            took_ms=round((self._clock.now - exchange.began_at) * 1000, 1),
        )
