"""What every connection of a balancer shares: the rules, the clock, the balancer and the ways to its backends."""

from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from twisted_lb.core.balancer import Balancer
from twisted_lb.net.clock import Clock
from twisted_lb.net.deadlines import Deadlines
from twisted_lb.wire.grammar import Limits

if TYPE_CHECKING:
    from twisted_lb.net.connections import Connections
    from twisted_lb.net.downstream import Downstream


class Timeouts:
    """How long each wait may take, in seconds."""

    def __init__(
        self,
        *,
        head_s: float,
        body_idle_s: float,
        connect_s: float,
        response_head_s: float,
        response_idle_s: float,
        client_idle_s: float,
    ) -> None:
        self.head_s: Final = head_s
        self.body_idle_s: Final = body_idle_s
        self.connect_s: Final = connect_s
        self.response_head_s: Final = response_head_s
        self.response_idle_s: Final = response_idle_s
        self.client_idle_s: Final = client_idle_s


class Rules:
    """The configuration in the form that the hot path reads. Sizes in bytes; `body_bytes` -1 means no limit."""

    def __init__(
        self,
        *,
        timeouts: Timeouts,
        limits: Limits,
        replay_bytes: int,
        body_bytes: int,
        retry_after_s: int,
    ) -> None:
        self.timeouts: Final = timeouts
        self.limits: Final = limits
        self.replay_bytes: Final = replay_bytes
        self.body_bytes: Final = body_bytes
        self.retry_after_s: Final = retry_after_s


class Engine:
    """One balancer's data path. `draining`: every answer from now on ends its connection.

    `walltime` gives seconds since the epoch, for Date fields only.
    """

    def __init__(
        self,
        balancer: Balancer,
        connections: "Connections",
        deadlines: Deadlines,
        clock: Clock,
        rules: Rules,
        walltime: Clock,
    ) -> None:
        self.balancer: Final = balancer
        self.connections: Final = connections
        self.deadlines: Final = deadlines
        self.clock: Final = clock
        self.rules: Final = rules
        self.draining: bool = False
        self.downstreams: set[Downstream] = set()
        self.exchanges: int = 0  # running, on whatever client side
        self._walltime: Final = walltime
        self._date: bytes = b""
        self._date_until: float = float("-inf")

    def http_date(self) -> bytes:
        """Now, as a Date field wants it (RFC 9110 5.6.7), made once a second."""
        now = self.clock.now
        if now >= self._date_until:
            wall = self._walltime.read()
            self._date = formatdate(wall, usegmt=True).encode("ascii")
            self._date_until = now + 1.0 - wall % 1.0
        return self._date
