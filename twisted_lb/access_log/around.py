"""What all forms of a line ask beside the record: how things stand, when it was, what may be said."""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.access_log.heads import Heads
from twisted_lb.access_log.moments import Moments
from twisted_lb.access_log.privacy import Privacy
from twisted_lb.access_log.rules import LogRules
from twisted_lb.core.pool import Pool
from twisted_lb.core.record import Record


class Standing:
    """How things stand when a request has ended: numbers that somebody counts anyway."""

    def __init__(self) -> None:
        self._clients: list[Sized] = []
        self._by_listener: dict[str, list[Sized]] = {}
        self._pools: Mapping[str, Pool] = {}

    def follow(self, clients: Sequence[tuple[str, Sized]], pools: Mapping[str, Pool]) -> None:
        """Look at these from now on: the clients of listeners by name, of those too that were taken away, and pools."""
        self._clients = [ones for _, ones in clients]
        self._by_listener = {}
        for name, ones in clients:
            self._by_listener.setdefault(name, []).append(ones)
        self._pools = dict(pools)

    def clients(self) -> int:
        """How many clients are connected, to all listeners together."""
        count = 0
        for ones in self._clients:
            count += len(ones)
        return count

    def clients_of(self, listener: str) -> int:
        """How many clients a listener has; one that was taken away counts as long as it has some."""
        count = 0
        for ones in self._by_listener.get(listener, ()):
            count += len(ones)
        return count

    def requests_of(self, pool: str) -> int:
        """How many requests a pool has at its backends and in its queue: O(backends), and 0 for one that was taken away."""
        found = self._pools.get(pool)
        return 0 if found is None else found.counts.total + found.waiting


class Around:
    """What forms ask beside the record, for one generation of the rules."""

    def __init__(self, rules: LogRules, standing: Standing, wall: Callable[[], float]) -> None:
        self.standing: Final = standing
        self.moments: Final = Moments(wall)
        self.heads: Final = Heads()
        self.privacy: Final = Privacy(query=rules.query, network=rules.network)


@mypyc_attr(allow_interpreted_subclasses=True)
class Form:
    """A form of a line."""

    def line(self, record: Record) -> bytes:
        """The line of a request, its line feed included."""
        raise NotImplementedError


def request_line(record: Record, uri: bytes) -> bytes:
    """The request line, as far as it is known; empty where nothing is."""
    method, version = record.method, record.version
    if version and method and uri:
        return b"%b %b HTTP/%d.%d" % (method, uri, version // 10, version % 10)
    return b" ".join([word for word in (method, uri) if word])
