"""Events: one for each change of state of a backend or a pool, with its reason.

In the text of an event a backend is called `pool/name`, and by its name alone in the default pool.
"""

from dataclasses import dataclass
from typing import Final

from twisted_lb.core.agent import LABELS, STATES
from twisted_lb.core.backend import AdminState
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.outcome import Outcome

# The name of the pool of a balancer that has only one.
DEFAULT_POOL: Final = "default"


def _called(pool: str, backend_name: str) -> str:
    return backend_name if pool == DEFAULT_POOL else f"{pool}/{backend_name}"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


@dataclass(frozen=True)
class BackendDown:
    """Probes took a backend out: its health is down."""

    pool: str
    backend_name: str
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is down: {self.reason}"


@dataclass(frozen=True)
class BackendUp:
    """Probes brought a backend back: its health is up."""

    pool: str
    backend_name: str
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is up: {self.reason}"


@dataclass(frozen=True)
class BackendEjected:
    """Traffic took a backend out (passive ejection). `until`: when a trial request may be made; None: checks decide,
    and `check_wanted` asks for a probe at once. `rule` is which one did, with its figures in `detail`; `outcome` that of the attempt
    which was the last straw, None where it was no attempt.
    """

    pool: str
    backend_name: str
    outcome: Outcome | None
    detail: str
    until: float | None
    check_wanted: bool
    at: float
    rule: EjectionRule = EjectionRule.REFUSED

    @property
    def because(self) -> str:
        """What traffic met, in a few words."""
        return self.detail or ("" if self.outcome is None else self.outcome.name)

    @property
    def how_long(self) -> str:
        """Until when it is out."""
        return "until checks pass" if self.until is None else f"for {self.until - self.at:.3g} s"

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is ejected {self.how_long}: {self.because}"


@dataclass(frozen=True)
class EjectionWithheld:
    """By this rule traffic would have taken a backend out, for `because`, and it stays in, since `instead` says so: enough others
    are out. Told once, until it is well again or has been taken out.
    """

    pool: str
    backend_name: str
    rule: EjectionRule
    because: str
    instead: str
    at: float

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is not ejected, since {self.instead}: {self.because}"


@dataclass(frozen=True)
class BackendReturned:
    """The ejection of a backend ended."""

    pool: str
    backend_name: str
    reason: str
    at: float

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is used again: {self.reason}"


@dataclass(frozen=True)
class BackendAdded:
    """An update, or a name that has one more address, added a backend. `reason`: empty for an update."""

    pool: str
    backend_name: str
    at: float
    reason: str = ""

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is added{_because(self.reason)}"


@dataclass(frozen=True)
class BackendRemoved:
    """An update, or a name that has lost an address, removed a backend: it gets no new requests, running ones end. `reason`:
    empty for an update.
    """

    pool: str
    backend_name: str
    at: float
    reason: str = ""

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} is removed{_because(self.reason)}"


@dataclass(frozen=True)
class BackendChanged:
    """An update changed a backend's weight or address, or its name leads to another address."""

    pool: str
    backend_name: str
    change: str
    at: float

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} has changed: {self.change}"


@dataclass(frozen=True)
class AdminChanged:
    """The operator changed what is wanted of a backend: ready, drain or maintenance. `by` says who did it, and why: `by alice:
    “deploy”`; empty where nobody is known.
    """

    pool: str
    backend_name: str
    before: AdminState
    admin: AdminState
    at: float
    by: str = ""

    def __str__(self) -> str:
        who = f" {self.by}" if self.by else ""
        return f"{_called(self.pool, self.backend_name)} is set from {self.before.value} to {self.admin.value}{who}"


@dataclass(frozen=True)
class AgentChanged:
    """A backend has taken itself out by the word of its agent, or by a status of a check that means busy, or that is over. `word` is
    what holds now, empty for nothing (see `Agent.word`), `before` what held; `because`: what the agent says of it, or why that is over.
    """

    pool: str
    backend_name: str
    before: str
    word: str
    at: float
    because: str = ""

    def __str__(self) -> str:
        state = STATES.get(self.word) or f"not {STATES[self.before]} any more"
        return f"{_called(self.pool, self.backend_name)} is {state}{_because(self.because)}"


@dataclass(frozen=True)
class AgentGarbled:
    """The agent of a backend has said what is no word of agents: it is ignored. Told once, and counted."""

    pool: str
    backend_name: str
    said: str
    at: float

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)} has an agent that says what is no word of agents, and ignored: {self.said!r}"


@dataclass(frozen=True)
class PoolExhausted:
    """The last usable backend of a pool is gone; requests are refused from now on."""

    pool: str
    at: float

    def __str__(self) -> str:
        return f"pool {self.pool} has no usable backend"


@dataclass(frozen=True)
class PoolRecovered:
    """A pool has a usable backend again."""

    pool: str
    at: float

    def __str__(self) -> str:
        return f"pool {self.pool} has a usable backend again"


@dataclass(frozen=True)
class LevelsShifted:
    """The requests of a pool go to other levels than before, its backups among them: `level 0 (70 %), level 1 (30 %)`. `before`: where
    they went last.
    """

    pool: str
    in_use: str
    at: float
    before: str = ""

    def __str__(self) -> str:
        return f"pool {self.pool} uses {self.in_use}"


@dataclass(frozen=True)
class PanicBegan:
    """So few backends of a pool are usable that those are used too that traffic, or checks, have taken out."""

    pool: str
    usable: int
    wanted: int
    at: float

    def __str__(self) -> str:
        return f"pool {self.pool} is in panic: {self.usable} of {self.wanted} backends {'is' if self.usable == 1 else 'are'} usable, others are used too"


@dataclass(frozen=True)
class PanicEnded:
    """Enough backends of a pool are usable again."""

    pool: str
    at: float

    def __str__(self) -> str:
        return f"pool {self.pool} is not in panic any more"


@dataclass(frozen=True)
class LimitSpared:
    """A rate limit in dry run has let requests pass that it would refuse: so many since it was said last."""

    limit: str
    requests: int
    at: float

    def __str__(self) -> str:
        what = "a request" if self.requests == 1 else f"{self.requests} requests"
        return f"the rate limit {self.limit} would have refused {what} (dry run)"


@dataclass(frozen=True)
class ConnectionsCut:
    """Tunnels that led to a backend were cut, so many, since it went down, or is a backup that is not needed any more."""

    pool: str
    backend_name: str
    count: int
    reason: str
    at: float

    @property
    def what(self) -> str:
        """How many, and why."""
        return f"{'a tunnel is' if self.count == 1 else f'{self.count} tunnels are'} cut: {self.reason}"

    def __str__(self) -> str:
        return f"{_called(self.pool, self.backend_name)}: {self.what}"


@dataclass(frozen=True)
class PolicyFailed:
    """A policy of one's own did something wrong, and as much `more` times since that was said last."""

    pool: str
    policy: str
    what: str
    more: int
    at: float

    def __str__(self) -> str:
        times = f" ({self.more} more since it was said last)" if self.more else ""
        return f"pool {self.pool}: policy {self.policy} {self.what}{times}"


@dataclass(frozen=True)
class PolicyHandedOver:
    """A policy of one's own took too long, again and again: a built-in picks for a while."""

    pool: str
    policy: str
    built_in: str
    reason: str
    for_s: float
    at: float

    def __str__(self) -> str:
        return f"pool {self.pool}: {self.built_in} picks for {self.for_s:.0f} s in place of policy {self.policy}: {self.reason}"


@dataclass(frozen=True)
class PolicyTakenBack:
    """The time is over for which a built-in picked in place of a policy of one's own."""

    pool: str
    policy: str
    at: float

    def __str__(self) -> str:
        return f"pool {self.pool}: policy {self.policy} picks again"


# Events of a pool's policy, which are about no backend.
PolicyEvent = PolicyFailed | PolicyHandedOver | PolicyTakenBack


def state_after(event: "Event") -> str:
    """What a backend is from an event on, in a word; empty where the event says nothing of it."""
    if isinstance(event, AdminChanged):
        return event.admin.value
    if isinstance(event, AgentChanged):
        return LABELS.get(event.word, "agent_over")
    if isinstance(event, BackendDown):
        return "down"
    if isinstance(event, BackendUp):
        return "up"
    if isinstance(event, BackendEjected):
        return "ejected"
    return "returned" if isinstance(event, BackendReturned) else ""


Event = (
    BackendDown
    | BackendUp
    | BackendEjected
    | EjectionWithheld
    | BackendReturned
    | BackendAdded
    | BackendRemoved
    | BackendChanged
    | AdminChanged
    | AgentChanged
    | AgentGarbled
    | PoolExhausted
    | PoolRecovered
    | LevelsShifted
    | PanicBegan
    | PanicEnded
    | ConnectionsCut
    | LimitSpared
    | PolicyFailed
    | PolicyHandedOver
    | PolicyTakenBack
)
