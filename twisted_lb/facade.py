"""The facade: load-balancing decisions alone, as a class that assigns clients to servers without any reactor."""

import random
import time
from collections.abc import Callable, Iterable, Mapping
from math import inf
from types import TracebackType
from typing import Final, Self

from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.attempts import Attempt, Attempts
from twisted_lb.core.backend import AdminState, Backend, BackendSpec, specs_of
from twisted_lb.core.events import DEFAULT_POOL, Event
from twisted_lb.core.load_report import LoadReport
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.pickers import POLICIES, Policy
from twisted_lb.core.pickers.own import own_policy
from twisted_lb.core.pool import Pool
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.settings import PoolSettings
from twisted_lb.core.snapshot import BackendSnapshot

Server = str | BackendSpec

# A retry is another assignment: only the caller knows what may be repeated.
_ONE_ATTEMPT: Final = RetryRules(0, frozenset())


class NoServerAvailable(Exception):
    """No server is available: each is down, drained, ejected or to be avoided."""


class Assignment:
    """A client's claim on a server, from `assign` until it is settled by `done` or `failed`.

    As a context manager it settles itself: an exception that leaves the block counts as a failure of the server, unless
    it is one that ends the block from outside (KeyboardInterrupt, CancelledError). Settling twice is an AssertionError.
    """

    def __init__(self, attempts: Attempts, attempt: Attempt, clock: Callable[[], float]) -> None:
        self._attempts: Final = attempts
        self._attempt: Final = attempt
        self._clock: Final = clock

    @property
    def server(self) -> str:
        """The name of the server: its address, unless a BackendSpec named it otherwise."""
        return self._attempt.lease.backend.name

    @property
    def open(self) -> bool:
        """Whether the assignment is not settled yet."""
        return self._attempt.lease.open

    def done(self, *, ok: bool = True) -> None:
        """Settle the assignment: the server served the client; `ok=False`: it did not, as `failed`."""
        if ok:
            self._attempts.pool.responded(self._attempt.lease, self._clock())
            self._settle(Outcome.OK)
        else:
            self.failed()

    def failed(self, reason: str = "", *, refused: bool = False) -> None:
        """Settle the assignment: the server did not serve the client. `refused`: nobody listens there, so it is ejected
        for a second, doubling to 30; then one client tries it.
        """
        self._settle(Outcome.REFUSED if refused else Outcome.NO_RESPONSE, reason)

    def _settle(self, outcome: Outcome, detail: str = "") -> None:
        self._attempts.ended(self._attempt, outcome, self._clock(), detail)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.open:
            return
        if error is None:
            self.done()
        elif not isinstance(error, Exception):
            self._settle(Outcome.CANCELLED)
        else:
            self.failed(str(error), refused=isinstance(error, ConnectionRefusedError))

    def __repr__(self) -> str:
        return f"<Assignment to {self.server}, {'open' if self.open else 'settled'}>"


class LoadBalancer:
    """Assigns clients to servers.

    >>> lb = LoadBalancer(["a:80", "b:80,weight=2"], "rr")
    >>> with lb.assign() as assignment:
    ...     assignment.server in ("a:80", "b:80")
    True
    >>> lb.report_down("b:80", "on fire")
    >>> with lb.assign() as assignment:
    ...     assignment.server
    'a:80'
    >>> lb
    <LoadBalancer <Pool default: 1 usable of 2, 0 in flight>>

    `servers` are `HOST:PORT`, `[IPv6]:PORT` or `unix:/path`, each with `,weight=N` if wanted, or BackendSpecs;
    ValueError says what is wrong with one. `strategy` names the policy, one of `twisted_lb.core.pickers.POLICIES`, or is one:
    `policy_of("two", "cost")` of that module, or a class of your own (docs/writing-a-policy.md).
    `seed` makes the balancer repeatable. `clock` gives monotonic seconds. `on_event` is told every change of a server's
    state. One thread at a time.
    """

    def __init__(
        self,
        servers: Iterable[Server],
        strategy: str | Policy | type = "rr",
        *,
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if isinstance(strategy, str) and strategy not in POLICIES:
            raise ValueError(f"{strategy!r} is not a strategy, expected one of {', '.join(POLICIES)}")
        policy: Policy
        if isinstance(strategy, type):
            policy = own_policy(strategy, strategy.__qualname__, inf)
        else:
            policy = POLICIES[strategy] if isinstance(strategy, str) else strategy
        self._clock: Final = clock
        rng = random.Random(seed)
        settings = PoolSettings(checked=False)
        self._pool: Final = Pool(DEFAULT_POOL, policy, settings, rng, on_event or _ignore)
        self.update(servers)

    def assign(self, client: str | bytes | None = None, *, avoid: Iterable[str] = (), cost: int = 1) -> Assignment:
        """A server for a client, not one of those named in `avoid`; NoServerAvailable when there is none. The assignment
        counts until it is settled: use it in a `with`, or call `done` or `failed`.

        `client` is what the policies `ring`, `maglev` and `rendezvous` go by, text in UTF-8; without one they go by chance, and the
        others ignore it. It is hashed once, to 64 bits, by
        `twisted_lb.core.ask.key_of`: the same client is the same number in every process and on every machine. `cost` is how
        much work it is, an ordinary one being 1, for policies that compare costs.
        """
        if cost < 1:
            raise ValueError(f"cost should be 1 or more, not {cost}")
        if isinstance(avoid, str):
            raise ValueError(f"{avoid!r}: a list of servers is wanted, not one str")  # noqa: TRY004, as for any bad value
        key = 0 if client is None else key_of(client.encode() if isinstance(client, str) else client)
        ask = ANY if client is None and cost == 1 else Ask(key, cost, by="" if client is None else "client")
        backends = self._pool.backends
        attempts = Attempts(self._pool, _ONE_ATTEMPT, ask, idempotent=False)
        attempts.tried = tuple(backends[name] for name in avoid if name in backends)
        verdict = attempts.begin(self._clock())
        if isinstance(verdict, Refusal):
            raise NoServerAvailable(f"{verdict.reason}: {self._pool!r}")
        assert attempts.current is not None, "without a queue nobody waits"
        return Assignment(attempts, attempts.current, self._clock)

    def report_down(self, server: str, reason: str = "reported down") -> None:
        """Report a server that is not well: no clients until two `report_up` in a row. KeyError for a stranger."""
        backend = self._known(server)
        now = self._clock()
        self._pool.observe_probe(backend, False, reason, now)
        while backend.health.up:
            self._pool.observe_probe(backend, False, reason, now)

    def report_up(self, server: str, reason: str = "reported up") -> None:
        """Report a server that is well; one that was down is used again after the second report in a row."""
        self._pool.observe_probe(self._known(server), True, reason, self._clock())

    def report_load(self, server: str, metrics: Mapping[str, float]) -> None:
        """Report a server's load, for policies that compare what is reported: by ORCA's names, such as `cpu_utilization`. It counts
        for 10 s. KeyError for a stranger, ValueError for what is no load.
        """
        self._pool.observe_load(self._known(server).name, LoadReport(metrics), self._clock())

    def drain(self, server: str) -> None:
        """Drain a server: it gets no new clients, whatever its health, until `ready`."""
        self._command(server, AdminState.DRAIN)

    def ready(self, server: str) -> None:
        """Take a server's `drain` back."""
        self._command(server, AdminState.READY)

    def _command(self, server: str, admin: AdminState) -> None:
        now = self._clock()
        self._pool.command(self._known(server), admin, now)
        self._pool.tick(now)
        self._pool.finish_tables(now)

    def update(self, servers: Iterable[Server]) -> None:
        """Replace the servers; those that stay keep their state. ValueError, and nothing changed, if there is none."""
        specs = specs_of(servers, "servers")
        if not specs:
            raise ValueError("no server: give at least one, such as 10.0.0.1:80")
        now = self._clock()
        self._pool.update(specs, now)
        self._pool.tick(now)
        self._pool.finish_tables(now)  # nobody else would

    @property
    def servers(self) -> dict[str, BackendSnapshot]:
        """The state of each server, by name, in the order they were given."""
        return {snapshot.name: snapshot for snapshot in self._pool.snapshot().backends}

    def _known(self, server: str) -> Backend:
        backend = self._pool.backends.get(server)
        if backend is None:
            raise KeyError(f"no server is called {server}")
        return backend

    def __repr__(self) -> str:
        return f"<LoadBalancer {self._pool!r}>"


def _ignore(_event: Event) -> None:
    """The `on_event` of a balancer that has none."""
