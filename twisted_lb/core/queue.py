"""The queue of a pool: requests that wait for a backend, bounded in number and in time; fair between clients, urgent ones first."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER

# RFC 9218, 4.1: how urgent a request is, 0 for what is served first.
URGENCIES: Final = 8

# So many dead entries a heap may have beside one for each ticket.
_SLACK: Final = 64


class Ticket:
    """A place in a pool's queue, from `Pool.claim` until `Pool.grants` tells its verdict or it is withdrawn.

    `queued_at` and `until` are monotonic seconds; a ticket that has no lease at `until` is refused. `late`: because its request could not
    be answered in time any more (deadline); `latest`: until when it could. `behind`: how many
    others were in front of it when it joined, by urgency; turns are not foreseen. `only`: the one backend that will do, until that is lost; None for any but those that were `tried`.
    `again`: its request has had an attempt already. `elsewhere`: it has another place to go to while nobody is usable (fallback).
    """

    __slots__ = (
        "again", "ask", "behind", "elsewhere", "joined", "late", "latest", "only", "queued_at", "tried", "until",
    )  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        queued_at: float,
        until: float,
        tried: Sequence[Backend] = (),
        only: Backend | None = None,
        *,
        again: bool = False,
        latest: float = NEVER,
    ) -> None:
        self.ask: Final = ask
        self.queued_at: Final = queued_at
        self.until: float = min(until, latest)
        self.latest: Final = latest
        self.late: bool = latest < until
        self.tried: Final = tried
        self.only: Backend | None = only
        self.again: Final = again or len(tried) > 0
        self.behind: int = 0
        self.elsewhere: bool = False
        self.joined: int = 0  # as which one it has joined; 0: it is not in a queue

    def __repr__(self) -> str:
        return f"<Ticket {self.until - self.queued_at:g} s from {self.queued_at:g}>"


# What serves a ticket: a lease for its request, or None while no backend is available for it.
Claim = Callable[[Ticket, float], Lease | None]

# When a ticket expires, as which one it has joined, itself.
_Expiry = tuple[float, int, Ticket]

# Tickets in their order, as an ordered set: one in the middle leaves in O(1). Of a plain dict the first is found only past all that
# have left: with 100,000 in it that is most of a second for a few thousand.
_Line = OrderedDict[Ticket, None]


class _Lane:
    """The tickets of one client, or of whatever else is served by turns, and what is left of its turn (deficit)."""

    __slots__ = ("deficit", "tickets", "visited")

    def __init__(self) -> None:
        self.tickets: Final[_Line] = OrderedDict()
        self.deficit: int = 0
        self.visited: bool = False  # its turn has begun

    def join(self, ticket: Ticket) -> None:
        """Add a ticket: at the end, or where its age puts it, O(tickets), if it has waited for something else so far."""
        tickets = self.tickets
        older = not tickets or next(reversed(tickets)).joined < ticket.joined
        tickets[ticket] = None
        if not older:
            for one in sorted(tickets, key=lambda one: one.joined):
                tickets.move_to_end(one)


class _Turns:
    """Lanes that are served by turns, deficit round robin (Shreedhar and Varghese, 1995): each turn gives a lane as much cost as the
    dearest request that waits, so that it serves one at least, and what it does not use is kept for its next turn. O(1) a ticket.
    Tickets that are all of one lane are first in, first out.
    """

    __slots__ = ("_costs", "dearest", "lanes", "waiting")

    def __init__(self) -> None:
        self.waiting: int = 0
        self.dearest: int = 1  # the cost
        self._costs: Final[dict[int, int]] = {}  # how many of each cost wait
        # In the order of their turns.
        self.lanes: Final[OrderedDict[int, _Lane]] = OrderedDict()

    def join(self, ticket: Ticket) -> None:
        """Add a ticket at the end of its lane; a new lane is the last one to have its turn."""
        lane = self.lanes.get(ticket.ask.lane)
        if lane is None:
            lane = self.lanes[ticket.ask.lane] = _Lane()
        lane.join(ticket)
        self.waiting += 1
        cost = ticket.ask.cost
        self._costs[cost] = self._costs.get(cost, 0) + 1
        self.dearest = max(self.dearest, cost)

    def first(self) -> Ticket | None:
        """Whose turn it is; the same one until it leaves."""
        while self.lanes:
            number = next(iter(self.lanes))
            lane = self.lanes[number]
            if not lane.visited:
                lane.visited = True
                lane.deficit += self.dearest
            ticket = next(iter(lane.tickets))
            if ticket.ask.cost <= lane.deficit:
                return ticket
            lane.visited = False
            self.lanes.move_to_end(number)
        return None

    def served(self, ticket: Ticket) -> None:
        """The first one has its lease, which its lane pays for."""
        self.lanes[ticket.ask.lane].deficit -= ticket.ask.cost
        self.leave(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket out; a lane that is empty keeps nothing for later."""
        lane = self.lanes[ticket.ask.lane]
        del lane.tickets[ticket]
        self.waiting -= 1
        if not lane.tickets:
            del self.lanes[ticket.ask.lane]
        cost = ticket.ask.cost
        left = self._costs[cost] - 1
        if left:
            self._costs[cost] = left
            return
        del self._costs[cost]
        if cost == self.dearest:
            # No more than a thousand costs. A turn that stayed as long as it was would let whoever has many that are cheap hold up all others.
            self.dearest = max(self._costs, default=1)


class Queue:
    """The queue. Requests that have had an attempt are at its head, in the order in which they came back; behind them come the others,
    by urgency, and of one urgency the lanes by turns. Who waits for one backend alone lets all others go past it to other backends,
    and at its own is served in the order of arrival.

    `for_anyone`: how many wait for whoever is free first, and not for some of the backends alone (`tried`, `only`).
    """

    __slots__ = ("_again", "_classes", "_expiring", "_joined", "_own", "_retries", "for_anyone", "waiting")

    def __init__(self) -> None:
        self.waiting: int = 0
        self.for_anyone: int = 0
        self._joined: int = 0
        self._again: int = 0  # how many have had an attempt
        # By the backends that were tried: who is first there stands for all of them.
        self._retries: Final[dict[tuple[Backend, ...], _Line]] = {}
        self._own: Final[dict[Backend, _Line]] = {}
        self._classes: Final[list[_Turns]] = [_Turns() for _ in range(URGENCIES)]
        # A heap of when they expire; those that have left are in it until then, unless they are many.
        self._expiring: list[_Expiry] = []

    def join(self, ticket: Ticket) -> None:
        """Add a ticket, which is new."""
        self._joined += 1
        ticket.joined = self._joined
        ticket.behind = self.waiting
        if ticket.again:
            self._retries.setdefault(tuple(ticket.tried), OrderedDict())[ticket] = None
            ticket.behind = self._again
            self._again += 1
        elif ticket.only is not None:
            self._own.setdefault(ticket.only, OrderedDict())[ticket] = None
        else:
            urgency = ticket.ask.urgency
            for turns in self._classes[urgency + 1 :]:
                ticket.behind -= turns.waiting
            self._classes[urgency].join(ticket)
        self.waiting += 1
        if ticket.only is None and not ticket.tried:
            self.for_anyone += 1
        heappush(self._expiring, (ticket.until, ticket.joined, ticket))

    def leave(self, ticket: Ticket) -> None:
        """Take a ticket out; harmless when it is out already. O(1), as a rule."""
        if ticket.joined:
            self._take_out(ticket)
            if not (ticket.again or ticket.only is not None):
                self._classes[ticket.ask.urgency].leave(ticket)

    def _take_out(self, ticket: Ticket) -> None:
        """Take a ticket out of everything but its turns."""
        ticket.joined = 0
        self.waiting -= 1
        if ticket.only is None and not ticket.tried:
            self.for_anyone -= 1
        if ticket.again:
            self._again -= 1
            tried = tuple(ticket.tried)
            line = self._retries[tried]
            del line[ticket]
            if not line:
                del self._retries[tried]
        elif ticket.only is not None:
            line = self._own[ticket.only]
            del line[ticket]
            if not line:
                del self._own[ticket.only]
        if len(self._expiring) > 2 * self.waiting + _SLACK:
            self._expiring = [entry for entry in self._expiring if _holds(entry)]
            heapify(self._expiring)

    @property
    def own(self) -> list[Backend]:
        """The backends that somebody waits for alone."""
        return list(self._own)

    def release(self, backend: Backend) -> None:
        """A backend is lost: who waits for it alone waits for anyone from now on, and is as old as it is."""
        for ticket in list(self._own.pop(backend, ())):
            ticket.only = None
            self._classes[ticket.ask.urgency].join(ticket)
            self.for_anyone += 1

    def serve(self, claim: Claim, now: float) -> list[tuple[Ticket, Lease]]:
        """The leases that there are for tickets, in the order in which they were served; these are out of the queue. O(leases), but
        for those that wait for some of the backends alone: there one is asked for each set of them.
        """
        granted: list[tuple[Ticket, Lease]] = []
        if self._retries:
            for line in list(self._retries.values()):
                self._serve(line, claim, now, granted, NEVER)
        if self._own:
            first = self._first()
            self._serve_own(claim, now, granted, NEVER if first is None else first.joined)
        while (ticket := self._first()) is not None:
            lease = claim(ticket, now)
            if lease is None:
                break
            self._classes[ticket.ask.urgency].served(ticket)
            self._take_out(ticket)
            granted.append((ticket, lease))
        if self._own:
            self._serve_own(claim, now, granted, NEVER)
        return granted

    def _serve_own(self, claim: Claim, now: float, granted: list[tuple[Ticket, Lease]], before: float) -> None:
        """Serve those that wait for one backend alone, and joined before this number."""
        for line in list(self._own.values()):
            self._serve(line, claim, now, granted, before)

    def _serve(self, line: _Line, claim: Claim, now: float, granted: list[tuple[Ticket, Lease]], before: float) -> None:
        """Serve a line from its first one on, until somebody has to wait on."""
        while line:
            ticket = next(iter(line))
            lease = claim(ticket, now) if ticket.joined < before else None
            if lease is None:
                return
            self._take_out(ticket)
            granted.append((ticket, lease))

    def overdue(self, now: float) -> list[Ticket]:
        """Those that have waited for as long as they may, who is due first in front. They stay in the queue."""
        due: list[_Expiry] = []
        while self.next_due <= now:
            due.append(heappop(self._expiring))
        for entry in due:
            heappush(self._expiring, entry)
        return [entry[2] for entry in due]

    def prolong(self, ticket: Ticket, until: float) -> None:
        """A ticket of the queue may wait for longer, if not past its `latest`."""
        ticket.late = ticket.latest < until
        ticket.until = min(until, ticket.latest)
        heappush(self._expiring, (ticket.until, ticket.joined, ticket))

    def awaits(self, backend: Backend) -> bool:
        """Whether somebody would take this backend, if it had room. O(sets of backends that were tried)."""
        return (
            self.for_anyone > 0
            or backend in self._own
            or (len(self._retries) > 0 and any(backend not in tried for tried in self._retries))
        )

    def _first(self) -> Ticket | None:
        """Who is the first of those that have had no attempt, and wait for anyone."""
        for turns in self._classes:
            if turns.lanes:
                return turns.first()
        return None

    @property
    def next_due(self) -> float:
        """When the next ticket expires; NEVER when the queue is empty."""
        while self._expiring and not _holds(self._expiring[0]):
            heappop(self._expiring)
        return self._expiring[0][0] if self._expiring else NEVER

    def ahead_of(self, ticket: Ticket) -> int:
        """How many would be served before a ticket if nobody else came and places were free for all; turns are taken for equal. O(n)."""
        if ticket.again:
            return _before(self._retries[tuple(ticket.tried)], ticket)
        if ticket.only is not None:
            return _before(self._own[ticket.only], ticket)
        urgency, ahead = ticket.ask.urgency, self._again
        for turns in self._classes[:urgency]:
            ahead += turns.waiting
        lanes = self._classes[urgency].lanes
        own = _before(lanes[ticket.ask.lane].tickets, ticket)
        in_front = True
        for number, lane in lanes.items():
            if number == ticket.ask.lane:
                in_front = False
                ahead += own
            else:
                ahead += min(len(lane.tickets), own + in_front)
        return ahead

    def __iter__(self) -> Iterator[Ticket]:
        """All tickets, in the order in which they joined. O(n log n)."""
        return iter(sorted((entry[2] for entry in self._expiring if _holds(entry)), key=lambda one: one.joined))

    def __repr__(self) -> str:
        return f"<Queue {self.waiting} waiting>"


def _before(line: _Line, ticket: Ticket) -> int:
    """How many stand before a ticket in its line."""
    for place, one in enumerate(line):
        if one is ticket:
            return place
    return len(line)


def _holds(entry: _Expiry) -> bool:
    """Whether a ticket is still in the queue, and expires then."""
    until, joined, ticket = entry
    return ticket.joined == joined and ticket.until == until
