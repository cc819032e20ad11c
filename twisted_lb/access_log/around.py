"""What all forms of a line ask beside the record: how things stand, when it was, what may be said."""

from collections.abc import Callable
from typing import Final, Protocol

from twisted_lb.access_log.heads import Heads
from twisted_lb.access_log.moments import Moments
from twisted_lb.access_log.privacy import Privacy
from twisted_lb.access_log.rules import LogRules
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record

# NGINX's number for a client that left, where it was told nothing.
_CLIENT_GONE: Final = 499


class Standing(Protocol):
    """How things stand when a request has ended: numbers that somebody counts anyway."""

    @property
    def clients(self) -> int:
        """How many clients are connected, to all listeners together."""

    def clients_of(self, listener: str) -> int:
        """How many clients a listener has."""

    def requests_of(self, pool: str) -> int:
        """How many requests a pool has at its backends and in its queue."""


class Around:
    """What forms ask beside the record, for one generation of the rules."""

    def __init__(self, rules: LogRules, standing: Standing, wall: Callable[[], float]) -> None:
        self.standing: Final = standing
        self.moments: Final = Moments(wall)
        self.heads: Final = Heads()
        self.privacy: Final = Privacy(query=rules.query, network=rules.network)


# A form of a line: what is made of a record, its line feed included.
Form = Callable[[Record], bytes]


def told_status(record: Record) -> int:
    """The status that a log has which needs one: 499 for a client that left before it was told any, 0 where nobody was told."""
    return record.status or (_CLIENT_GONE if record.ended_by is Outcome.CLIENT_GONE else 0)


def request_line(record: Record, uri: bytes) -> bytes:
    """The request line, as far as it is known; empty where nothing is."""
    method, version = record.method, record.version
    if version and method and uri:
        return b"%b %b HTTP/1.%d" % (method, uri, version - 10)
    return b" ".join(word for word in (method, uri) if word)
