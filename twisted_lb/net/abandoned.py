"""A request that was abandoned: nobody waits for its answer any more, and its backend may work on it all the same (a synchronous worker)."""

from collections.abc import Callable
from typing import Final

from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.upstream import Requester, Upstream
from twisted_lb.wire.grammar import BadMessage
from twisted_lb.wire.response import ResponseHead


class Abandoned(Requester):
    """A request that nobody waits for any more: its client has gone, its time was over, or another attempt has outrun it (hedging). It
    holds its place among those that its backend may have at a time until the backend has answered whole or closed the connection, at
    most until `due`; what comes is thrown away. `ended` is told its end, once.
    """

    __slots__ = ("_ended", "due", "over", "upstream")

    def __init__(self, upstream: Upstream, due: float, ended: Callable[["Abandoned"], None]) -> None:
        self.upstream: Final = upstream
        self.due: Final = due
        self.over: bool = False
        self._ended: Final = ended

    def begin(self) -> None:
        """Tell the backend that nobody waits any more: a FIN, which ends the connection where somebody watches it."""
        self.upstream.leave_behind(self, self.due)

    def end(self) -> None:
        """The place is free; harmless when it was."""
        if not self.over:
            self.over = True
            self._ended(self)

    def informed(self, head: ResponseHead) -> None:
        """See Requester: it is thrown away."""

    def switched(self, head: ResponseHead, rest: bytes) -> None:
        """See Requester: nobody is there who would speak it."""
        raise BadMessage(502, "a switch of protocols that nobody waits for")

    def response_started(self, head: ResponseHead, framing: int) -> None:
        """See Requester: it is thrown away."""

    def payload(self, data: bytes) -> None:
        """See Requester: it is thrown away."""

    def flush(self) -> None:
        """See Requester: nothing is kept."""

    def response_ended(self, trailers: bytes) -> None:
        """See Requester: the backend has done its work."""
        self.end()

    def failed(self, outcome: Outcome, detail: str) -> None:
        """See Requester: the backend has closed the connection, or the time is over."""
        self.end()

    def movable_since(self) -> float:
        """See Requester: it goes nowhere else."""
        return NEVER

    def move(self, detail: str) -> bool:
        """See Requester."""
        return False

    def idle_due(self) -> float:
        """See Requester: pieces do not prolong it."""
        return self.due

    def upstream_full(self) -> None:
        """See Requester: nothing is sent any more."""

    def upstream_drained(self) -> None:
        """See Requester."""
