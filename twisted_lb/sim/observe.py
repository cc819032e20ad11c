"""What one run of a simulation has seen: latencies, shares, how busy the servers were, and whether any of it means anything."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Final

# A server that is offered more than it can serve, and serves on for more than this share of the run when nobody comes any more,
# has no latency: what would be measured is the length of the run.
_BEHIND: Final = 0.03
# So many standard deviations above 1 is no chance any more: what n requests with exponential gaps and service bring of work
# deviates by sqrt(2 / n) of it.
_DEVIATIONS: Final = 3.0


class Unstable(ValueError):
    """A latency was asked for of a run that has none: a server was offered more than it can serve, and its queue grew for as long as
    requests came.
    """


@dataclass(frozen=True)
class Served:
    """A server in a run: how many `requests` have come to it, how much of what it could have served it was `offered` (utilisation;
    more than 1 where it could not), and for how long it served on when nobody came any more.
    """

    requests: int
    offered: float
    behind_s: float


@dataclass(frozen=True, eq=False)
class Run:
    """One run, without its warm-up. `latencies`, in seconds, are those of requests that were answered, in the order of their
    arrival; `servers` are by name, `seconds` is for how long requests came.

    `failed` are requests without an answer of a backend, or with one that says that it failed; `attempts` those that were made
    at all requests.
    """

    latencies: "array[float]"
    servers: dict[str, Served]
    seconds: float
    failed: int = 0
    attempts: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    @cached_property
    def unstable(self) -> str:
        """Why its latencies mean nothing, in words: a server was offered more than it can serve. Empty where they do."""
        worst = max(self.servers.items(), key=lambda one: one[1].offered, default=None)
        if worst is None:
            return ""
        name, server = worst
        chance = _DEVIATIONS * math.sqrt(2.0 / max(server.requests, 1))
        if server.offered <= 1.0 + chance or server.behind_s <= _BEHIND * self.seconds:
            return ""
        return f"{name} is offered {100 * server.offered:.0f} % of what it can serve"

    def _judged(self) -> None:
        if self.unstable:
            raise Unstable(self.unstable)
        if not self.latencies:
            raise Unstable("no request was answered")

    @property
    def mean(self) -> float:
        """The mean latency, in seconds; Unstable where there is none."""
        self._judged()
        return math.fsum(self.latencies) / len(self.latencies)

    @cached_property
    def _sorted(self) -> Sequence[float]:
        return sorted(self.latencies)

    def quantile(self, share: float) -> float:
        """The least latency, in seconds, that such a share of the requests does not exceed; Unstable where there is none."""
        self._judged()
        return self._sorted[max(math.ceil(share * len(self._sorted)) - 1, 0)]

    @property
    def p50(self) -> float:
        """The median latency."""
        return self.quantile(0.5)

    @property
    def p99(self) -> float:
        """The latency that one request in a hundred exceeds."""
        return self.quantile(0.99)

    def share(self, name: str) -> float:
        """The share of the requests that came to a server; also in a run that is unstable."""
        return self.servers[name].requests / sum(server.requests for server in self.servers.values())

    @property
    def digest(self) -> str:
        """A digest of every latency, to the last bit, and of who was asked how often: equal where runs are."""
        told = blake2b(self.latencies.tobytes(), digest_size=8)
        told.update(repr([(name, server.requests) for name, server in self.servers.items()]).encode())
        return told.hexdigest()

    def __repr__(self) -> str:
        return f"<Run {self.unstable or f'{len(self.latencies)} latencies, mean {self.mean:.4g} s'}>"
