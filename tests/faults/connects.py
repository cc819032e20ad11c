"""Connects that fail as the kernel fails them, with an errno: what that means the balancer decides, and once more we."""

import errno
import random
from collections.abc import Callable

from twisted_lb.core.address import Address
from twisted_lb.core.connect_errors import outcome_of
from twisted_lb.core.outcome import Outcome
from twisted_lb.net.backlogs import Backlogs
from twisted_lb.testing import HeapClock

# What the network means by a trouble, and how the kernel may say it.
ERRNOS = {
    "REFUSED": (
        errno.ECONNREFUSED,
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EACCES,
        errno.EPERM,
    ),
    "CONNECT_TIMEOUT": (errno.ETIMEDOUT,),
    "LOCAL_FAILURE": (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC),
    "NO_PORT": (errno.EADDRNOTAVAIL, errno.EAGAIN),
}
LONGEST_FULL_S = 1.5
STAYS_FULL = "its backlog stays full"


class Connects:
    """The kernel's side of connects. `reached` are the addresses that a connect ever led to; `full_share` of the connects
    meet a full backlog, as those to a unix socket do, and are tried again until there is room.
    """

    def __init__(self, clock: HeapClock, rng: random.Random) -> None:
        self.reached: set[Address] = set()
        self.full_share = 0.0
        self.waited = 0  # connects that met a full backlog
        self._clock = clock
        self._rng = rng
        self._backlogs = Backlogs(clock.callLater)

    def explain(self, address: Address, trouble: Outcome, detail: str) -> tuple[Outcome, str]:
        """What the balancer makes of a trouble there, and what it should."""
        if detail == STAYS_FULL:
            return outcome_of(errno.EAGAIN, unix=True, reached=address in self.reached), "BACKLOG_FULL"
        code, meant = self.error(address, trouble)
        return outcome_of(code, unix=False, reached=address in self.reached), meant

    def error(self, address: Address, trouble: Outcome) -> tuple[int, str]:
        """How the kernel says a trouble there, and what the balancer should make of it."""
        code = self._rng.choice(ERRNOS[trouble.name])
        known = address in self.reached
        return code, "REFUSED" if trouble is Outcome.NO_PORT and not known else trouble.name

    def meets_full_backlog(self) -> bool:
        return self._rng.random() < self.full_share

    def wait_for_room(self, timeout_s: float, over: Callable[[], bool], go_on: Callable[[float], None]) -> "_Waits":
        """Wait while the backlog is full; `go_on` is called with the time that is left then, unless it is `over`."""
        self.waited += 1
        return _Waits(self._clock, self._backlogs, self._rng.uniform(0, LONGEST_FULL_S), timeout_s, over, go_on)


class _Waits:
    """A connect that waits for room in a backlog of its own: it is full for so long."""

    def __init__(
        self,
        clock: HeapClock,
        backlogs: Backlogs,
        full_s: float,
        timeout_s: float,
        over: Callable[[], bool],
        go_on: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._room_at = clock.seconds() + full_s
        self._ends_at = clock.seconds() + timeout_s
        self._over = over
        self._go_on = go_on
        backlogs.wait(f"{id(self)}", self)

    def try_again(self) -> bool:
        if self._over():
            return True
        now = self._clock.seconds()
        if now < min(self._room_at, self._ends_at):
            return False
        self._go_on(max(self._ends_at - now, 0.0))
        return True
