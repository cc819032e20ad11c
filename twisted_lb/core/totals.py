"""Totals: what backends and pools have done since they are there, as plain integers that only grow, for metrics."""

import enum
from typing import Final

from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.grpc import OTHER
from twisted_lb.core.hedging import Hedged
from twisted_lb.core.held import Held
from twisted_lb.core.histogram import Histogram, counted_in
from twisted_lb.core.mirroring import Mirroring
from twisted_lb.core.outcome import Outcome

# Of a status its first digit: 1 to 5; in place 0 stands what has no status, or one of another kind.
KINDS: Final = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")


def kind_of(status: int) -> int:
    """The place in `KINDS` of a status; 0, where nothing was answered, is no status."""
    return status // 100 if 100 <= status < 600 else 0


# The same as a table, for each request.
KIND_OF: Final = tuple(kind_of(status) for status in range(1000))


class Denied(enum.IntEnum):
    """Why a request was not sent once more, though the outcome of its attempt would let some requests be."""

    TIME = 0  # its time is over
    BODY_GONE = 1  # a part of its body is not held any more
    NOT_IDEMPOTENT = 2
    ATTEMPTS = 3  # it has had all attempts that it may have
    BUDGET = 4  # the pool's retry budget is spent
    TRIED_ALL = 5  # no backend is left for it
    TOLD_LATER = 6  # its backend asks for a longer wait (Retry-After) than it may take


class BackendTotals:
    """What a backend has done: how long complete answers took, from lease to last byte, by the `KINDS` of their status; `unfinished`
    answers, of which the head has come and not the end, tunnels and sessions among them; new connections, and which of them were of HTTP/2 (`shared_connections`), with the `calls` that ran on those; failed and passed checks by how
    long they took (`checks[False]`, `checks[True]`); ejections by `EjectionRule`, and how many were `withheld`; changes of state by what
    it became; `reports` of its load that count, and `bad_reports`, which are none or do not say what is compared.
    """

    __slots__ = (
        "bad_reports",
        "calls",
        "changes",
        "checks",
        "connections",
        "ejections",
        "lasted",
        "reports",
        "shared_connections",
        "unfinished",
        "withheld",
    )

    def __init__(self) -> None:
        # None until there was one, as of checks: many backends have none.
        self.lasted: Final[list[Histogram | None]] = [None] * len(KINDS)
        self.unfinished: Final[list[int]] = [0] * len(KINDS)
        self.connections: int = 0
        self.shared_connections: int = 0
        self.calls: int = 0
        self.checks: Final[list[Histogram | None]] = [None, None]
        self.ejections: Final[list[int]] = [0] * len(EjectionRule)
        self.withheld: int = 0
        self.changes: Final[dict[str, int]] = {}
        self.reports: int = 0
        self.bad_reports: int = 0

    def answers(self) -> list[int]:
        """The heads of answers that came, by kind: O(slots)."""
        return [
            more if one is None else sum(one.slots) + more
            for one, more in zip(self.lasted, self.unfinished, strict=True)
        ]

    def checked(self, took_s: float, *, passed: bool) -> None:
        """Count a check."""
        counted_in(self.checks, int(passed)).add(took_s)

    def changed(self, to: str) -> None:
        """Count a change of state."""
        self.changes[to] = self.changes.get(to, 0) + 1


class PoolTotals:
    """What a pool has done that no backend and no route alone has: attempts after a first one, by the outcome of the one before;
    why there was no other one; what became of hedges; and how long requests waited in the queue, connections took to be made, the head and the
    first byte of the body of answers took from when the request was sent, and the gaps between the pieces of streamed answers; which of
    its requests were mirrored. `grpc`: how calls of gRPC ended, by `core/grpc.NAMES` and one more for other codes. `affinity`: claims in which it had a say, by what became of the binding (`Held`).

    Of those that are gone it keeps the sum, so that no total goes down: of removed backends the outcomes of their attempts, and
    the durations of their answers; of routes and listeners the durations of requests, by `KINDS`, and the bytes.
    """

    __slots__ = (
        "affinity", "bytes_down", "bytes_up", "connect", "denied", "durations", "first_body", "first_byte", "gone_durations",
        "gone_outcomes", "grpc", "hedges", "mirroring", "queue", "retries", "stream_gap",
    )  # fmt: skip

    def __init__(self) -> None:
        self.retries: Final[list[int]] = [0] * len(Outcome)
        self.denied: Final[list[int]] = [0] * len(Denied)
        self.affinity: Final[list[int]] = [0] * len(Held)
        self.hedges: Final[list[int]] = [0] * len(Hedged)
        self.grpc: Final[list[int]] = [0] * (OTHER + 1)
        self.queue: Final = Histogram()
        self.connect: Final = Histogram()
        self.first_byte: Final = Histogram()
        self.first_body: Final = Histogram()
        self.stream_gap: Final = Histogram()
        self.gone_outcomes: Final[list[int]] = [0] * len(Outcome)
        self.gone_durations: Final = Histogram()
        self.durations: Final = [Histogram() for _ in KINDS]
        self.bytes_up: int = 0
        self.bytes_down: int = 0
        self.mirroring: Final = Mirroring()

    def bury(self, outcomes: list[int], totals: BackendTotals) -> None:
        """A backend is gone for good: its totals are the pool's alone from now on."""
        for outcome, count in enumerate(outcomes):
            self.gone_outcomes[outcome] += count
        for durations in totals.lasted:
            if durations is not None:
                self.gone_durations.take_in(durations)
