"""Requests that wait for a backend: first come, first served, bounded in number and in time."""

from collections.abc import Callable, Sequence
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Refusal


class Ticket:
    """A place in a pool's queue, from `Pool.claim` until `Pool.grants` tells its verdict or it is withdrawn.

    `queued_at` and `until` are monotonic seconds: from then on it waits no longer.
    """

    __slots__ = ("ask", "queued_at", "tried", "until")

    def __init__(self, ask: Ask, queued_at: float, until: float, tried: Sequence[Backend]) -> None:
        self.ask: Final = ask
        self.queued_at: Final = queued_at
        self.until: Final = until
        self.tried: Final = tried

    def __repr__(self) -> str:
        return f"<Ticket {self.until - self.queued_at:g} s from {self.queued_at:g}>"


# What serves a ticket: a lease for its request, or None while nobody is available for it.
Claim = Callable[[Ask, float, Sequence[Backend]], Lease | None]


class Queue:
    """First in, first out, and whoever came first expires first."""

    __slots__ = ("tickets", "until")

    def __init__(self) -> None:
        # A dict as an ordered set: who is in the middle leaves in O(1).
        self.tickets: Final[dict[Ticket, None]] = {}
        self.until: float = -NEVER  # when the last one expires

    def join(self, ask: Ask, now: float, wait_s: float, tried: Sequence[Backend]) -> Ticket:
        """A place at the end, for so long; for longer where those before wait longer, as they do after the time was cut."""
        self.until = max(self.until, now + wait_s)
        ticket = Ticket(ask, now, self.until, tried)
        self.tickets[ticket] = None
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give the place up; harmless for who has none any more."""
        if ticket in self.tickets:
            del self.tickets[ticket]
        if not self.tickets:
            self.until = -NEVER

    def serve(self, claim: Claim, now: float) -> list[tuple[Ticket, Lease | Refusal]]:
        """The verdicts that are due: who gets a backend now, and who has waited too long, in the order they came. Who has
        one is out of the queue.
        """
        verdicts: list[tuple[Ticket, Lease | Refusal]] = []
        for ticket in self.tickets:
            lease = claim(ticket.ask, now, ticket.tried)
            if lease is not None:
                verdicts.append((ticket, lease))
            elif now >= ticket.until:
                verdicts.append((ticket, Refusal.NO_BACKEND))
            elif not ticket.tried:
                break  # nobody is available, and whoever comes after it expires after it
        for ticket, _ in verdicts:
            self.leave(ticket)
        return verdicts

    @property
    def next_due(self) -> float:
        """When the first one expires; NEVER when nobody waits."""
        for ticket in self.tickets:
            return ticket.until
        return NEVER

    def __repr__(self) -> str:
        return f"<Queue {len(self.tickets)} waiting>"
