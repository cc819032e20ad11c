"""The attempts at one request: which backend it goes to, and whether it may go to another one (retries)."""

import enum
from typing import Final

from mypy_extensions import mypyc_attr

from twisted_lb.core.ask import Ask
from twisted_lb.core.backend import Backend
from twisted_lb.core.decision import Refused
from twisted_lb.core.hedging import Hedged
from twisted_lb.core.lease import Lease
from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal, Retry
from twisted_lb.core.pool import Pool
from twisted_lb.core.queue import Ticket
from twisted_lb.core.retry import RetryRules
from twisted_lb.core.totals import Denied

# Looked up once, not at the end of each attempt.
_OK: Final = Outcome.OK
_CANCELLED: Final = Outcome.CANCELLED
_STALE: Final = Outcome.STALE_REUSE
_DOWN: Final = Outcome.BACKEND_DOWN
_UNPROCESSED: Final = Outcome.UNPROCESSED
# How often a request may be told that it was not begun (RFC 9113 8.7), and costs nothing: a backend that says so again
# and again would be asked for ever.
_MOST_UNPROCESSED: Final = 2


class Stopped(enum.Enum):
    """Why a request was not tried again (retry)."""

    TIME = "its time was over"
    SENT = "a part of the request is not held any more, or of the answer was relayed"
    METHOD = "its method must not be repeated, and the backend may have begun"
    OUTCOME = "what happened is nothing that another attempt could mend"
    ATTEMPTS = "it had all the attempts that its route allows"
    BUDGET = "the retry budget of the pool was spent"
    UNPROCESSED = "it was turned away unbegun too often"
    TOLD_LATER = "its backend asked for a longer wait (Retry-After) than it has time for"


@mypyc_attr(acyclic=True)
class Story:
    """What is to be told later of attempts that were not plain: `stopped` is why there was no further one, None where nobody
    wanted one; `refused` the pool that had nobody; `came_as` which one in the queue the request was, 0 where it has not waited;
    `waiting` its place there, while it waits, `ahead` how many are in front of it now, and `expected_s` how long it will wait still, 0
    where that is not known. `beside`: its hedge, while that is under way. `pausing_until`: when it will be tried again, while it waits for that (backoff).
    `held`: what was held for a slow client, in words; empty for nothing.
    """

    __slots__ = (
        "ahead", "beside", "came_as", "expected_s", "held", "more_attempts", "pausing_until", "refused", "stopped", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.stopped: Stopped | None = None
        self.refused: Refused | None = None
        self.came_as: int = 0
        self.ahead: int = 0
        self.expected_s: float = 0.0
        self.held: str = ""
        self.more_attempts: int = 0
        self.waiting: Ticket | None = None
        self.pausing_until: float = NEVER
        self.beside: Attempt | None = None


@mypyc_attr(acyclic=True)
class Pause:
    """A wait before another attempt, which is allowed and paid for (backoff): the request holds no lease meanwhile, and claims when it is
    over. `since` and `until` are monotonic seconds; `told`: its backend has asked for it (Retry-After).
    """

    __slots__ = ("after", "since", "told", "until")

    def __init__(self, after: Outcome, since: float, until: float, *, told: bool) -> None:
        self.after: Final = after
        self.since: Final = since
        self.until: Final = until
        self.told: Final = told

    def __repr__(self) -> str:
        return f"<Pause of {self.until - self.since:g} s>"


# As metrics count it; whatever no other attempt could mend is nobody's denial.
_DENIED: Final[dict[Stopped, Denied]] = {
    Stopped.TIME: Denied.TIME,
    Stopped.SENT: Denied.BODY_GONE,
    Stopped.METHOD: Denied.NOT_IDEMPOTENT,
    Stopped.ATTEMPTS: Denied.ATTEMPTS,
    Stopped.UNPROCESSED: Denied.ATTEMPTS,
    Stopped.BUDGET: Denied.BUDGET,
    Stopped.TOLD_LATER: Denied.TOLD_LATER,
}


# Not acyclic: the way may lead back to whoever holds the attempt, until it has ended.
@mypyc_attr(free_list_len=1)
class Attempt:
    """One attempt at a request, from its lease to its outcome. All times are monotonic seconds.

    `way` belongs to the shell: the dial that is under way, then the connection; None again when the attempt has ended.
    `due`: how long the shell waits for this attempt, `connected_at`: since when it has a connection; NEVER while that
    is not known. `outcome` and `detail` are how it ended, None while it has not; `before` is the one before it.

    `dialled`: a new connection was made for it, or was to be. `ended_at`: when it ended, if it was not well. `waited_s`: how
    long the request was in the queue before. `pause`: the wait before it (backoff), if there was one. `budget_left`: how many retries
    were left behind this one, if it is one that was paid for; else -1. `hedge`: it was made beside another one that had no answer yet.
    `stream`: the number of its stream, where it is a call on a connection of HTTP/2; 0 where it is none.
    """

    __slots__ = (
        "before", "began", "budget_left", "connected_at", "detail", "dialled", "due", "ended_at", "hedge", "lease", "outcome",
        "pause", "stream", "waited_s", "way",
    )  # fmt: skip

    def __init__(self, lease: Lease, began: float, before: "Attempt | None") -> None:
        self.lease: Final = lease
        self.began: Final = began
        self.before: Attempt | None = before
        self.way: object | None = None
        self.due: float = NEVER
        self.connected_at: float = NEVER
        self.outcome: Outcome | None = None
        self.detail: str = ""
        self.dialled: bool = False
        self.ended_at: float = NEVER
        self.waited_s: float = 0.0
        self.pause: Pause | None = None
        self.budget_left: int = -1
        self.hedge: bool = False
        self.stream: int = 0

    @property
    def told_nothing(self) -> bool:
        """Whether it was the first one, and its client left before anything was known of its backend."""
        return self.before is None and self.outcome is Outcome.CLIENT_GONE

    def __repr__(self) -> str:
        outcome = self.outcome
        return f"<Attempt at {self.lease.backend.name}: {'under way' if outcome is None else outcome.name}>"


@mypyc_attr(free_list_len=1)
class Attempts:
    """All attempts at one request, one after the other, driven by its server: net, the facade, a simulator. One may be beside another
    one: `hedge` makes it, `beside` is it until one of the two is left; `current` is the one whose answer is waited for.

    `begin` or `begin_on`, then for each attempt `ended`, and `again` for another one. A Lease is taken up at once: the new attempt is
    `current`. A Ticket is kept in `waiting` until `granted` or `withdraw` is called, a Pause in `pausing` until `resume` or `withdraw`.
    `due` is the moment after which no
    attempt may begin, `deadline` when an answer is of no use any more, and `tried` are the backends not to ask; all may be set before
    the first.
    """

    __slots__ = (
        "_free", "_story", "_wait_until", "ask", "beside", "count", "current", "deadline", "due", "idempotent", "pausing", "pool", "retries",
        "tried", "waiting",
    )  # fmt: skip

    def __init__(self, pool: Pool, retries: RetryRules, ask: Ask, *, idempotent: bool) -> None:
        self.pool: Pool = pool
        self.retries: RetryRules = retries
        self.ask: Ask = ask
        self.idempotent: bool = idempotent
        self.due: float = NEVER
        self.deadline: float = NEVER
        self.tried: tuple[Backend, ...] = ()
        self.count: int = 0  # attempts that were made
        # Of these, such as cost nothing: nobody listened to them, and the request waited as if new; or they met a kept
        # connection that was closed (keep-alive race); or their backend says that it has not begun.
        self._free: int = 0
        self._wait_until: float = NEVER  # the end of its wait, if it has begun one
        self.current: Attempt | None = None
        self.beside: Attempt | None = None
        self.waiting: Ticket | None = None
        self.pausing: Pause | None = None
        self._story: Story | None = None  # of none that is plain

    def begin(self, now: float) -> Lease | Refusal | Ticket:
        """The first attempt. The request pays into the retry budget, whatever becomes of it."""
        pool = self.pool
        pool.budget.deposit(now)
        verdict = pool.claim(self.ask, now, self.tried, NEVER, self.deadline)
        if isinstance(verdict, Lease):  # as a rule, and then without a detour
            self.count = 1
            self.current = Attempt(verdict, now, None)
            return verdict
        return self._take_up(verdict, now)

    def begin_on(self, backend: Backend, now: float) -> Lease | Refusal | Ticket | None:
        """The first attempt, on this backend and no other one; see `Pool.claim_on`. None, and nothing has begun, where it is
        not to be used.
        """
        verdict = self.pool.claim_on(backend, self.ask, now, self.deadline)
        if verdict is None:
            return None
        self.pool.budget.deposit(now)
        self._take_up(verdict, now)
        return verdict

    def again(
        self, outcome: Outcome, now: float, *, replayable: bool, told_s: float = -1.0, allowed: bool = False
    ) -> Lease | Refusal | Ticket | Pause | None:
        """Retry: another attempt after the current one, which has this outcome or will; None when there may be none.

        The time that is left, what was relayed (then the request is not `replayable`, nor is it when a part of its body
        is gone), the outcome table, the attempts that are left and the budget are asked in this order: only a yes is
        paid for. Where nobody listened and nobody is usable the request waits like a new one, and no attempt is counted;
        nor is it where a kept connection turned out to be closed (keep-alive race): nobody has read the request, and the
        next attempt is on a new connection; nor, the first two times, where the backend says that it has not begun. A
        Refusal: a retry is allowed, but no backend is left.

        A Pause: it is allowed and paid for, and waits before it claims, where somebody is left to be asked then (backoff). `told_s`: the
        backend has asked for such a wait (Retry-After), -1: it has not. `allowed`: whatever the table and the method, the configuration has
        said that such an answer is to be repeated (gRPC).
        """
        current = self.current
        if current is None:
            return None
        stopped = self._barred(outcome, now, replayable=replayable, allowed=allowed)
        if stopped is None and CONSEQUENCE[outcome].alive is False and self.retries.more_attempts:
            verdict = self.pool.await_return(self.ask, now, self._wait_until, self.deadline)
            if verdict is not None:
                self._tale.stopped = None
                self._free += 1
                return self._take_up(verdict, now, outcome)
        free = (outcome is _STALE or outcome is _UNPROCESSED) and self.retries.more_attempts > 0
        pause = None
        if stopped is None and self._others_left(current):
            pause = self._pause(outcome, now, told_s)
            if pause is not None and pause.until >= self.due:
                stopped = Stopped.TOLD_LATER if pause.told else Stopped.TIME
        if stopped is None:
            stopped = self._unpaid(current, outcome, now, free=free)
        self._tale.stopped = stopped
        if stopped is not None:
            denied = _DENIED.get(stopped)
            if denied is not None and CONSEQUENCE[outcome].retry is not Retry.NEVER:
                self.pool.totals.denied[denied] += 1
            return None
        self._remember(current, outcome)
        if pause is not None:
            self.pausing = pause
            return pause
        return self._claim_again(outcome, now, free=free)

    def resume(self, now: float) -> Lease | Refusal | Ticket:
        """The pause is over: the attempt that was paid for."""
        pause = self.pausing
        assert pause is not None, f"{self!r} does not pause"
        self.pausing = None
        verdict = self._claim_again(pause.after, now, free=False)
        if isinstance(verdict, Lease) and self.current is not None:
            self.current.pause = pause
        return verdict

    def _claim_again(self, outcome: Outcome, now: float, *, free: bool) -> Lease | Refusal | Ticket:
        """Claim for another attempt after one with this outcome: one that is allowed, and paid for unless it is `free`."""
        again = self.pool.claim(self.ask, now, self.tried, self._wait_until, self.deadline, again=True)
        if isinstance(again, Refusal):
            self.pool.totals.denied[Denied.TIME if again is Refusal.LATE else Denied.TRIED_ALL] += 1
        claimed = self._take_up(again, now, outcome)
        attempt = self.current
        if isinstance(claimed, Lease) and attempt is not None and not free:
            attempt.budget_left = self.pool.budget.left
        return claimed

    def _others_left(self, current: Attempt) -> bool:
        """Whether a wait may bring the request to somebody: without that it need not wait for its answer."""
        return self.pool.has_others((*self.tried, current.lease.backend))

    def _pause(self, outcome: Outcome, now: float, told_s: float) -> Pause | None:
        """The wait before another attempt after the current one; None where it is made at once."""
        backoff, rng = self.retries.backoff, self.pool.jitter
        if told_s > backoff.told_most_s:
            # It speaks of that backend, as in maintenance, and not of a moment in which all have too much to do.
            told_s = -1.0
        wait_s = backoff.wait_s(outcome, self.count - self._free - 1, rng)
        if told_s > 0.0:
            wait_s = max(wait_s, backoff.told_s(told_s, rng))
        return Pause(outcome, now, now + wait_s, told=told_s > 0.0) if wait_s > 0.0 else None

    def _barred(self, outcome: Outcome, now: float, *, replayable: bool, allowed: bool) -> Stopped | None:
        """Why there may be no other attempt after this outcome, whatever is left of attempts and budget."""
        if now >= self.due:
            return Stopped.TIME
        if not replayable:
            return Stopped.SENT
        if not allowed and not self.retries.allow(outcome, idempotent=self.idempotent):
            repeatable = self.retries.allow(outcome, idempotent=True)
            return Stopped.METHOD if repeatable else Stopped.OUTCOME
        return None

    def _unpaid(self, current: Attempt, outcome: Outcome, now: float, *, free: bool) -> Stopped | None:
        """Pay for another attempt, unless it is `free`; why there may be none, None where it is paid for."""
        if outcome is _UNPROCESSED and _unprocessed_before(current) >= _MOST_UNPROCESSED:
            return Stopped.UNPROCESSED
        if free:
            self._free += 1
            return None
        if self.count - self._free > self.retries.more_attempts:
            return Stopped.ATTEMPTS
        return None if self.pool.budget.withdraw(now) else Stopped.BUDGET

    def fall_back(
        self, pool: Pool, retries: RetryRules, ask: Ask, now: float, own: Backend | None = None
    ) -> Lease | Refusal | Ticket:
        """Go on in another pool, by these rules and with this ask, as a request that is new there: nobody is left in its own. What was tried
        stays on record; whether it may be repeated there (`idempotent`) its rules say. `own`: the backend to which its client has a connection of its own, as for `begin_on`; any other one
        where that is not to be used.
        """
        self.withdraw()
        self.pool = pool
        self.retries = retries
        self.ask = ask
        self.tried = ()
        self._free = self.count
        self._wait_until = NEVER
        pool.budget.deposit(now)
        verdict = None if own is None else pool.claim_on(own, self.ask, now, self.deadline)
        return self._take_up(pool.claim(self.ask, now, (), NEVER, self.deadline) if verdict is None else verdict, now)

    def may_move(self, now: float, *, replayable: bool) -> bool:
        """Whether the request may leave the backend of its current attempt, which owes it the whole answer, for another
        one: if it may be sent twice, has attempts left, and was not moved before. What is in the budget, and who has
        room, is not asked.
        """
        return (
            self.current is not None
            and self.current.outcome is None
            and now < self.due
            and replayable
            and self.retries.allow(_DOWN, idempotent=self.idempotent)
            and self.count - self._free <= self.retries.more_attempts
            and not any(attempt.outcome is _DOWN for attempt in self.made)
        )

    def move(self, now: float) -> Lease | None:
        """Another attempt elsewhere, where `may_move`: the current one ends as BACKEND_DOWN. None, and nothing is changed,
        when the budget does not allow it, or nobody else has room: then it goes on.
        """
        current = self.current
        assert current is not None
        if not self.pool.has_room((*self.tried, current.lease.backend)):
            return None
        verdict = self.again(_DOWN, now, replayable=True)
        if isinstance(verdict, Lease):
            return verdict
        self.withdraw()
        return None

    @property
    def hedged(self) -> bool:
        """Whether it has had its hedge: O(attempts)."""
        return self.beside is not None or any(one.hedge for one in self.made)

    def hedge(self, now: float) -> Lease | Hedged | None:
        """Hedging: an attempt beside the current one, which has no answer yet; the new one is `beside`. It is paid for by the retry
        budget and counts among the attempts that its route allows. NO_ROOM or NO_BUDGET where only that is missing; None where
        the request is not one that may be hedged now.
        """
        current, pool = self.current, self.pool
        if current is None or current.outcome is not None or not self.idempotent or self.hedged or now >= self.due:
            return None
        if self.count - self._free > self.retries.more_attempts or self.ask.bond is not None:
            return None  # elsewhere nobody knows the session of one that affinity binds
        if self.deadline != NEVER and now + pool.quickest_s(now) >= self.deadline:
            return None
        tried = (*self.tried, current.lease.backend)
        if not pool.has_room(tried):
            return Hedged.NO_ROOM
        if not pool.budget.withdraw(now):
            return Hedged.NO_BUDGET
        lease = pool.claim_spare(self.ask, now, tried)
        if lease is None:
            return Hedged.NO_ROOM
        self.count += 1
        attempt = self.beside = Attempt(lease, now, current)
        attempt.hedge = True
        attempt.budget_left = pool.budget.left
        return lease

    def stand_in(self) -> Attempt:
        """The attempt beside the current one is in its place from now on: that has ended, or is about to."""
        attempt = self.beside
        assert attempt is not None, f"{self!r} is not hedged"
        self.beside = None
        self.current = attempt
        return attempt

    def let_go(self) -> Attempt:
        """The attempt beside the current one is not waited for any more: it has ended, or is about to. It is on record before it."""
        attempt, current = self.beside, self.current
        assert attempt is not None, f"{self!r} is not hedged"
        assert current is not None
        self.beside = None
        attempt.before, current.before = current.before, attempt
        return attempt

    def ended(self, attempt: Attempt, outcome: Outcome, now: float, detail: str = "", client: str = "") -> None:
        """End an attempt with its outcome; exactly once for each, a second time is an AssertionError. `client`: see `Pool.settle`."""
        attempt.outcome = outcome
        attempt.detail = detail
        attempt.way = None
        if outcome is not _OK:
            attempt.ended_at = now
            self._remember(attempt, outcome)
        self.pool.settle(attempt.lease, outcome, now, detail, client)

    def left(self, attempt: Attempt, outcome: Outcome, now: float, detail: str) -> None:
        """An attempt has ended for its request with this outcome, and its lease is still to be settled by somebody else: its backend
        may be at work on it.
        """
        attempt.outcome = outcome
        attempt.detail = detail
        attempt.way = None
        attempt.ended_at = now

    def granted(self, ticket: Ticket, verdict: Lease | Refusal, now: float) -> None:
        """Take up the verdict of `Pool.grants`: the wait in the queue is over."""
        assert ticket is self.waiting, f"{ticket!r} is not what is waited for"
        self._take_up(verdict, now)
        if isinstance(verdict, Lease) and self.current is not None:
            self.current.waited_s = now - ticket.queued_at

    def story(self) -> Story:
        """What is to be told of them later, beside the attempts themselves."""
        story = self._story or Story()
        story.more_attempts = self.retries.more_attempts
        story.waiting = self.waiting
        story.beside = self.beside
        story.pausing_until = NEVER if self.pausing is None else self.pausing.until
        if self.waiting is not None:
            story.ahead, story.expected_s = self.pool.foretold(self.waiting)
        return story

    @property
    def _tale(self) -> Story:
        story = self._story
        if story is None:
            story = self._story = Story()
        return story

    def withdraw(self) -> None:
        """Leave the queue, or end the pause; harmless when the request does not wait."""
        self.pausing = None
        if self.waiting is not None:
            self.pool.withdraw(self.waiting)
            self.waiting = None

    def _take_up(
        self, verdict: Lease | Refusal | Ticket, now: float, after: Outcome | None = None
    ) -> Lease | Refusal | Ticket:
        """Take up a verdict. `after`: the outcome of the attempt before, where that has not ended yet."""
        self.waiting = None
        if isinstance(verdict, Lease):
            self.count += 1
            before = self.current
            if before is not None:
                why = after if before.outcome is None else before.outcome
                if why is not None:
                    self.pool.totals.retries[why] += 1
            self.current = Attempt(verdict, now, self.current)
        elif isinstance(verdict, Ticket):
            self.waiting = verdict
            if verdict.until > verdict.queued_at:  # else it is served in this turn or not at all
                self._wait_until = min(self._wait_until, verdict.until)
            self._tale.came_as = verdict.behind + 1
        else:
            self._tale.refused = self.pool.refused(self.tried, now)
        return verdict

    @property
    def made(self) -> list[Attempt]:
        """All attempts so far, in order: O(attempts), made anew at each call."""
        made = up_to(self.current)
        return made if self.beside is None else [*made, self.beside]

    def _remember(self, attempt: Attempt, outcome: Outcome) -> None:
        """Remember a backend as tried, unless a new connection might still reach it."""
        backend = attempt.lease.backend
        if not CONSEQUENCE[outcome].new_connection and backend not in self.tried:
            self.tried = (*self.tried, backend)

    def __repr__(self) -> str:
        return f"<Attempts {self.count} made{', waiting' if self.waiting else ''}>"


def up_to(last: Attempt | None) -> list[Attempt]:
    """All attempts at a request of which this is the last one, in the order in which they began: O(attempts), made anew at each call.
    One that was beside it is before it on record, and began later.
    """
    made: list[Attempt] = []
    hedged = False
    while last is not None:
        made.append(last)
        hedged = hedged or last.hedge
        last = last.before
    made.reverse()
    if hedged:
        made.sort(key=lambda one: (one.began, one.hedge))
    return made


def smooth(last: Attempt | None) -> bool:
    """Whether nothing went wrong before this attempt, the last one: there was none, or it was the other one of a hedge, and was left."""
    if last is None:
        return False
    before = last.before
    return before is None or (before.outcome is _CANCELLED and before.before is None)


def _unprocessed_before(attempt: Attempt) -> int:
    """How many attempts before this one ended in UNPROCESSED: O(attempts)."""
    count = 0
    before = attempt.before
    while before is not None:
        if before.outcome is _UNPROCESSED:
            count += 1
        before = before.before
    return count
