"""Identities of a pool: what must add up at any moment, for who looks at it continuously."""

from collections.abc import Iterable

from twisted_lb.core.backend import Backend
from twisted_lb.core.counts import Counts
from twisted_lb.core.queue import Queue


def broken(records: Iterable[Backend], counts: Counts, queue: Queue, waiters: int | None) -> list[str]:
    """The identities that do not hold of these records, counts and queue; none, always: O(backends and tickets). `waiters`: how many
    requests wait for a verdict, as far as the shell knows.
    """
    found: list[str] = []
    here = 0
    for one in records:
        settled = sum(one.outcomes)
        here += one.in_flight
        if not 0 <= one.held <= one.in_flight:
            found.append(f"{one.name} has {one.held} places held of {one.in_flight} in flight")
        if one.requests != settled + one.in_flight - one.held:
            found.append(f"{one.name} has {one.requests} leases, {settled} settled and {one.in_flight - one.held} open")
        if not 0 <= one.tunnels <= one.in_flight:
            found.append(f"{one.name} has {one.tunnels} tunnels of {one.in_flight} in flight")
    if counts.total != here:
        found.append(f"{counts.total} are in flight, {here} of them at a backend")
    tickets = list(queue)
    for_anyone = sum(1 for ticket in tickets if not ticket.tried and ticket.only is None)
    if for_anyone != queue.for_anyone:
        found.append(f"{for_anyone} of {len(tickets)} tickets are for anyone, {queue.for_anyone} are counted")
    if waiters is not None and waiters != len(tickets):
        found.append(f"{waiters} requests wait with {len(tickets)} tickets")
    return found
