"""The queue of a pool: requests that wait for a backend, first in first out, bounded in number and in time."""

from collections.abc import Callable, Sequence
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Refusal


class Ticket:
    """A place in a pool's queue, from `Pool.claim` until `Pool.grants` tells its verdict or it is withdrawn.

    `queued_at` and `until` are monotonic seconds; a ticket that has no lease at `until` is refused. `behind`: how many
    others were in front of it when it joined.
    """

    __slots__ = ("ask", "behind", "queued_at", "tried", "until")

    def __init__(self, ask: Ask, queued_at: float, until: float, tried: Sequence[Backend], behind: int = 0) -> None:
        self.ask: Final = ask
        self.queued_at: Final = queued_at
        self.until: Final = until
        self.tried: Final = tried
        self.behind: Final = behind

    def __repr__(self) -> str:
        return f"<Ticket {self.until - self.queued_at:g} s from {self.queued_at:g}>"


# What serves a ticket: a lease for its request, or None while no backend is available for it.
Claim = Callable[[Ask, float, Sequence[Backend]], Lease | None]


class Queue:
    """A first-in-first-out queue of tickets, of which the first also expires first. `for_anyone`: how many of them wait for
    whoever is free first, and not for some of the backends alone (`tried`).
    """

    __slots__ = ("for_anyone", "tickets", "until")

    def __init__(self) -> None:
        # A dict as an ordered set: a ticket in the middle leaves in O(1).
        self.tickets: Final[dict[Ticket, None]] = {}
        self.for_anyone: int = 0
        self.until: float = -NEVER  # when the last one expires

    def join(self, ask: Ask, now: float, wait_s: float, tried: Sequence[Backend], until: float = NEVER) -> Ticket:
        """Add a ticket. It expires after `wait_s`, but never before those in front of it, which had longer when the time
        was cut. One that has waited before expires at `until` all the same, and stands where it would have stood: in
        front of those that expire later.
        """
        if not tried:
            self.for_anyone += 1
        ends_at = max(self.until, now + wait_s)
        if until >= ends_at:
            self.until = ends_at
            ticket = Ticket(ask, now, ends_at, tried, len(self.tickets))
            self.tickets[ticket] = None
            return ticket
        behind = [one for one in self.tickets if one.until >= until]
        ticket = Ticket(ask, now, until, tried, len(self.tickets) - len(behind))
        self.tickets[ticket] = None
        for one in behind:  # to the end again, in their order
            del self.tickets[one]
            self.tickets[one] = None
        self.until = max(self.until, until)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket out; harmless when it is out already."""
        if ticket in self.tickets:
            del self.tickets[ticket]
            if not ticket.tried:
                self.for_anyone -= 1
        if not self.tickets:
            self.until = -NEVER

    def serve(self, claim: Claim, now: float) -> list[tuple[Ticket, Lease | Refusal]]:
        """The verdicts that are due, in the order of the tickets: a lease, or a refusal for one that has waited too
        long. A ticket with a verdict is out of the queue.
        """
        verdicts: list[tuple[Ticket, Lease | Refusal]] = []
        for ticket in self.tickets:
            lease = claim(ticket.ask, now, ticket.tried)
            if lease is not None:
                verdicts.append((ticket, lease))
            elif now >= ticket.until:
                verdicts.append((ticket, Refusal.NO_BACKEND))
            elif not ticket.tried:
                break  # no backend is available, and all behind it expire later
        for ticket, _ in verdicts:
            self.leave(ticket)
        return verdicts

    @property
    def next_due(self) -> float:
        """When the first ticket expires; NEVER when the queue is empty."""
        for ticket in self.tickets:
            return ticket.until
        return NEVER

    def __repr__(self) -> str:
        return f"<Queue {len(self.tickets)} waiting>"
