"""The front door of the core: everything that the shell asks, tells or commands goes through here."""

from collections.abc import Iterable, Sequence
from typing import Final

from twisted_lb.core.ask import ANY
from twisted_lb.core.backend import AdminState, Backend, BackendSpec
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.snapshot import PoolSnapshot


class Balancer:
    """One pool and the rules of retrying. All times are monotonic seconds."""

    def __init__(self, pool: Pool, retries: RetryRules) -> None:
        self.pool: Final = pool
        self.retries: Final = retries

    def update(self, specs: Iterable[BackendSpec], now: float) -> None:
        """Have just these backends from now on; see `Pool.update`."""
        self.pool.update(specs, now)

    def admit(self, key: bytes | None, now: float) -> Lease | Refusal:
        """A backend for a new request."""
        self.pool.budget.deposit(now)
        return self._claim(now, ())

    def readmit(self, key: bytes | None, now: float, tried: Sequence[Backend]) -> Lease | Refusal:
        """A backend for another attempt at a request, not one of `tried`."""
        return self._claim(now, tried)

    def _claim(self, now: float, tried: Sequence[Backend]) -> Lease | Refusal:
        """For those who cannot wait: nothing configures a queue where they are."""
        verdict = self.pool.claim(ANY, now, tried)
        assert not isinstance(verdict, Ticket), "nobody here takes what a ticket is granted"
        return verdict

    def settle(self, lease: Lease, outcome: Outcome, now: float, detail: str = "") -> None:
        """An attempt ended; once for each lease."""
        self.pool.settle(lease, outcome, now, detail)

    def permits_retry(
        self, outcome: Outcome, attempt: int, *, idempotent: bool, held: bool, relayed: bool, now: float
    ) -> bool:
        """Whether attempt number `attempt`, which ended so, may be followed by another one; a yes is paid for from the budget.

        `held`: every byte of the body that was taken from the client is still here. `relayed`: something has reached it.
        """
        retries = self.retries
        if relayed or not held or attempt > retries.more_attempts or not retries.allow(outcome, idempotent=idempotent):
            return False
        return self.pool.budget.withdraw(now)

    def observe_probe(self, name: str, passed: bool, reason: str, now: float) -> None:
        """A check of this backend ended; nothing if it has been removed meanwhile."""
        backend = self.pool.backends.get(name)
        if backend is not None:
            self.pool.observe_probe(backend, passed, reason, now)

    def command(self, name: str, admin: AdminState, now: float) -> None:
        """The operator's word; KeyError when there is no such backend."""
        backend = self.pool.backends.get(name)
        if backend is None:
            raise KeyError(f"no backend is called {name}")
        self.pool.command(backend, admin, now)

    def tick(self, now: float) -> None:
        """Notice what time alone has changed; a few times a second is enough."""
        self.pool.tick(now)

    def snapshot(self) -> PoolSnapshot:
        """How everything stands."""
        return self.pool.snapshot()

    def __repr__(self) -> str:
        return f"<Balancer of {self.pool!r}>"
