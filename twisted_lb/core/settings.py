"""The settings of a pool: its configuration in the form that the core reads."""

from dataclasses import dataclass
from typing import Final

from twisted_lb.core.affinity import AffinityRules
from twisted_lb.core.backend import ADAPTIVE
from twisted_lb.core.gradient import AdaptiveRules
from twisted_lb.core.hedging import HedgeRules
from twisted_lb.core.mirroring import MirrorSettings
from twisted_lb.core.weighing import AT_ONCE, SlowStart

_USUAL: Final = AdaptiveRules()


@dataclass(frozen=True)
class EjectionRules:
    """By which rules traffic takes a backend out of a pool, beside a refused connection, which always does; 0 turns one off.

    `consecutive_failures` in a row, of `min_clients` at least. `success_rate_factor`: so many standard deviations below the mean
    of the others and itself; `failure_percent`: so many of a hundred; each of as many requests as it says at least, within
    `window_s`, and while `min_backends` had as many. For how long: `base_s` for each ejection, `longest_s` at most. `max_percent`:
    how many of a hundred may be out at once; `checks_end`: whether checks end it before its time, see `Ejection.observe`.
    """

    consecutive_failures: int = 0
    min_clients: int = 2
    success_rate_factor: float = 0.0
    success_rate_requests: int = 100
    failure_percent: float = 0.0
    failure_percent_requests: int = 50
    min_backends: int = 5
    window_s: float = 30.0
    base_s: float = 10.0
    longest_s: float = 300.0
    max_percent: int = 50
    checks_end: bool = True


@dataclass(frozen=True)
class PoolSettings:
    """The settings of a pool. Each is read where it is used, so that replacing them is one assignment.

    `rise` and `fall` are in probes; `checked`: whether the backends have checks at all; `initially_up`: whether one that
    has, and was not probed yet, is used; `move`: whether requests leave a backend that probes find silent.
    `max_in_flight`: requests at a time for each backend, 0 for no bound; where `adaptive` is set it is learnt instead, and by `own_adaptive` for a
    backend that says so itself. `abandoned_s`: for how long
    a request that nobody waits for any more may hold its place there. `max_queued`: how many requests may wait for a backend, 0 for none; `queue_timeout_s`: for how long while those that are usable are full,
    `no_backend_s` while none is; `tells_apart`: whether it is fair between lanes, or goes by what requests say of how urgent they are.
    `ejection`: when traffic takes a backend out. `budget_percent` and `budget_per_s`: the retries
    that are allowed, see RetryBudget; `hedge`: when requests are sent to a second backend too, None: never. `agents`: whether what backends say of themselves is heard; `busy`: whether some statuses of
    checks mean that they are busy. `slow_start`: how a backend that is back comes to its weight. `spill`: whether a request whose
    level is full goes on to one that is not in use, or waits. `panic_percent`: where fewer of those that are wanted are usable,
    ejected ones are used too, 0: never; `panic_even_down`: those too that are down by their checks. `affinity`: how requests are bound to
    backends (sticky sessions); None: they are not. `close_when_down`: tunnels to a backend that checks or traffic have taken out are cut;
    `leave_backups`: those to backups are, when its primaries are used again. `mirror`: which of its requests are sent to another pool too, None: none.
    """

    rise: int = 2
    fall: int = 3
    checked: bool = True
    initially_up: bool = True
    move: bool = True
    agents: bool = False
    busy: bool = False
    max_in_flight: int = 0
    adaptive: AdaptiveRules | None = None
    own_adaptive: AdaptiveRules = _USUAL
    abandoned_s: float = 0.0
    max_queued: int = 0
    queue_timeout_s: float = 0.0
    no_backend_s: float = 0.0
    tells_apart: bool = False
    budget_percent: int = 20
    budget_per_s: int = 10
    hedge: HedgeRules | None = None
    slow_start: SlowStart = AT_ONCE
    spill: bool = False
    panic_percent: int = 0
    panic_even_down: bool = False
    affinity: AffinityRules | None = None
    close_when_down: bool = False
    leave_backups: bool = False
    ejection: EjectionRules = EjectionRules()
    mirror: MirrorSettings | None = None

    @property
    def said_limit(self) -> int:
        """What the configuration says of the limit of a backend that has none of its own: a number, 0 for no bound, or ADAPTIVE."""
        return self.max_in_flight if self.adaptive is None else ADAPTIVE
