"""The settings of a pool: its configuration in the form that the core reads."""

from dataclasses import dataclass

from twisted_lb.core.weighing import AT_ONCE, SlowStart


@dataclass(frozen=True)
class PoolSettings:
    """The settings of a pool. Each is read where it is used, so that replacing them is one assignment.

    `rise` and `fall` are in probes; `checked`: whether the backends have checks at all; `initially_up`: whether one that
    has, and was not probed yet, is used; `move`: whether requests leave a backend that probes find silent.
    `max_in_flight`: requests at a time for each backend, 0 for no bound. `max_queued`: how many requests may wait for a backend, 0 for none;
    `queue_wait_s`: for how long. `budget_percent` and `budget_per_s`: the retries that are allowed, see RetryBudget.
    `slow_start`: how a backend that is back comes to its weight. `spill`: whether a request whose level is full goes on to one that
    is not in use, or waits. `panic_percent`: where fewer of those that are wanted are usable, ejected ones are used too, 0:
    never; `panic_even_down`: those too that are down by their checks.
    """

    rise: int = 2
    fall: int = 3
    checked: bool = True
    initially_up: bool = True
    move: bool = True
    max_in_flight: int = 0
    max_queued: int = 0
    queue_wait_s: float = 0.0
    budget_percent: int = 20
    budget_per_s: int = 10
    slow_start: SlowStart = AT_ONCE
    spill: bool = False
    panic_percent: int = 0
    panic_even_down: bool = False
