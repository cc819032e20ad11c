"""Requests, explained: which backends a request went to and why, what each attempt took, and why it ended as it did.

Everything is read off the notes and leases that requests have left behind; nothing of it is made before somebody asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twisted_lb.core.agreed import Agreed
from twisted_lb.core.attempts import Attempt, Story, up_to
from twisted_lb.core.decision import Candidate, Decision, recalled
from twisted_lb.core.never import NEVER
from twisted_lb.core.notes import Note, Notes
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal, Reply
from twisted_lb.core.retry import RetryRules

# What stands in the place of a method in the note of a connection that is carried as it is.
_SESSION: Final = b"TCP"
_WORD: Final[dict[Outcome, str]] = {
    Outcome.STALE_REUSE: "the kept connection was closed before the request reached anybody (keep-alive race)",
    Outcome.UNPROCESSED: "the backend said that it had not begun",
}


@dataclass(frozen=True)
class ExplainedAttempt:
    """One attempt: at which backend, how it ended, and how it came about.

    `outcome` is a name of the table of outcomes, "" while it runs, and `reason` what was wrong. Lengths are seconds, None for
    what did not happen: in the queue, until there was a connection (`reused`: a kept one, which takes no time), from there to
    the head of the answer, and the rest; `began_s` is when it began, behind the head of the request, and `took_s` how long it
    took from there, None while it runs. `retried` says why there was another attempt after the one before, "" for the
    first; `number` of `most` attempts. `budget_left`: how many retries the pool's budget allowed behind this one, None where
    it was not asked. `protocol` is what was spoken on its connection: HTTP/1.1, or HTTP/2, on the stream of the number `stream`, which is None
    elsewhere; "" where there was no connection, or one that is carried as it is (TCP). `decision` is why this backend, as it was then, None where decisions are left out. `then` is what it has
    brought about, as `ejected for 1 s: connection refused`; "" for nothing, or what is not remembered any more.
    """

    backend: str
    pool: str
    outcome: str
    reason: str
    number: int
    most: int
    retried: str
    reused: bool
    budget_left: int | None
    queue_s: float
    connect_s: float | None
    first_byte_s: float | None
    rest_s: float | None
    began_s: float
    took_s: float | None
    decision: Decision | None
    then: str = ""
    protocol: str = ""
    stream: int | None = None


@dataclass(frozen=True)
class Explained:
    """One request, explained. `began_at` is in seconds since 1970, lengths are seconds, None for what did not happen.

    `id` is that of the request, or a name that it has got for asking (`~1`). `path` is its target without the query; `query`
    says whether there was one. `agreed` is what TLS has agreed on with the client, or a balancer in front has told of it, None where neither is so. `status` is what the client was told, 0 for nothing so far. `outcome` is a name: of an outcome
    or a refusal, ANSWER or REDIRECT for what the route itself answers, "" while it runs. `skipped` are the backends that were
    out at one of the decisions, `candidates` those that were not at the last one. `note` says in words what else decided.
    """

    id: str
    began_at: float
    method: str
    path: str
    query: bool
    status: int
    outcome: str
    running: bool
    local_reply: bool
    detail: str
    client: str
    agreed: Agreed | None
    listener: str
    route: str
    pool: str
    attempts: tuple[ExplainedAttempt, ...]
    decision: Decision | None
    skipped: tuple[Candidate, ...]
    candidates: tuple[Candidate, ...]
    note: tuple[str, ...]
    queue_s: float
    head_s: float | None
    took_s: float | None
    response_bytes: int


def explained(note: Note, notes: Notes, epoch: float, now: float, *, decisions: bool = True) -> Explained:
    """A request, explained; `epoch` is what is to be added to monotonic seconds for those since 1970. Without `decisions` it costs
    the same however many backends there are, and nothing is said of candidates.
    """
    running = note.ended_at == NEVER
    made = up_to(note.attempt)
    if note.story is not None and note.story.beside is not None:
        made.append(note.story.beside)
    attempts = tuple(_attempt(note, made, index, decided=decisions) for index in range(len(made)))
    stuck = note.story
    refused = None if not decisions or stuck is None or stuck.refused is None else stuck.refused.decision()
    known = [one.decision for one in attempts if one.decision is not None]
    if refused is not None and not _well(note):
        known.append(refused)
    last = known[-1] if known else None
    path, question, _ = note.target.partition(b"?")
    return Explained(
        id=notes.named(note).decode("ascii", "replace"),
        began_at=note.began + epoch,
        method=note.method.decode("ascii", "replace"),
        path=path.decode("ascii", "replace"),
        query=bool(question),
        status=note.status,
        outcome="" if running else _name(note.ended_by),
        running=running,
        local_reply=note.local_reply is not None,
        detail=note.detail,
        client=note.client.decode("ascii", "replace"),
        agreed=note.agreed,
        listener=note.listener,
        route=note.route,
        pool=note.pool,
        attempts=attempts,
        decision=last,
        skipped=_skipped(known),
        candidates=() if last is None else tuple(one for one in last.candidates if one.skipped is None),
        note=tuple(_notes(note, stuck, last, now)),
        queue_s=note.waited_s,
        head_s=_between(note.began, note.head_at),
        took_s=None if running else note.took_s,
        response_bytes=note.response_bytes,
    )


def _attempt(note: Note, made: Sequence[Attempt], index: int, *, decided: bool) -> ExplainedAttempt:
    attempt = made[index]
    before = _before(made, index)
    last = attempt is note.attempt
    head_at = note.head_at if last and note.status and note.local_reply is None else NEVER
    ended_at = attempt.ended_at if attempt.ended_at < NEVER else note.ended_at
    answered = head_at if head_at < NEVER else ended_at
    most = 0 if note.story is None else 1 + note.story.more_attempts
    return ExplainedAttempt(
        backend=attempt.lease.backend.name,
        pool=attempt.lease.scene.pool,
        outcome="" if attempt.outcome is None else attempt.outcome.name,
        reason=attempt.detail,
        number=index + 1,
        most=most or index + 1,
        retried="" if before is None else _retried(attempt, before),
        reused=not attempt.dialled,
        budget_left=None if attempt.budget_left < 0 else attempt.budget_left,
        queue_s=attempt.waited_s,
        connect_s=_between(attempt.began, attempt.connected_at),
        first_byte_s=_between(attempt.connected_at, answered),
        rest_s=_between(head_at, ended_at),
        began_s=max(attempt.began - note.began, 0.0),
        took_s=_between(attempt.began, ended_at),
        decision=recalled(attempt.lease) if decided else None,
        then=attempt.lease.backend.brought_about(attempt.lease.opened_at, attempt.connected_at, ended_at),
        protocol=_protocol(note, attempt),
        stream=attempt.stream or None,
    )


def _protocol(note: Note, attempt: Attempt) -> str:
    if attempt.stream or attempt.outcome is Outcome.NO_SWITCH:
        return "HTTP/2"
    return "" if attempt.connected_at == NEVER or note.method == _SESSION else "HTTP/1.1"


def _before(made: Sequence[Attempt], index: int) -> Attempt | None:
    """The attempt after which, or beside which, there was this one: the one that ended last before it began."""
    attempt = made[index]
    if attempt.hedge:
        # The one beside it may have ended in the moment in which it began, and was answered.
        return next(one for one in reversed(made[:index]) if one.ended_at >= attempt.began)
    ended = [one for one in made[:index] if one.ended_at <= attempt.began]
    return max(ended, key=lambda one: one.ended_at, default=made[index - 1] if index else None)


def _retried(attempt: Attempt, before: Attempt) -> str:
    """Why there was another attempt, and how long it waited for that."""
    pause = attempt.pause
    if attempt.hedge:
        return f"hedged: {before.lease.backend.name} had not answered after {attempt.began - before.began:.3f} s"
    if pause is None:
        return _allowed(attempt, before)
    why = "as long as its backend asked for (Retry-After)" if pause.told else "backoff"
    return f"{_allowed(attempt, before)}; it waited {pause.until - pause.since:.3f} s for that: {why}"


def _allowed(attempt: Attempt, before: Attempt) -> str:
    """By what there was another attempt."""
    outcome = before.outcome
    if attempt.lease.scene.pool != before.lease.scene.pool:
        return f"its pool had nobody left: on to the fallback, {attempt.lease.scene.pool}"
    if outcome is None:
        return ""
    if outcome in _WORD:
        return _WORD[outcome]
    if CONSEQUENCE[outcome].alive is False and attempt.waited_s:
        return f"after {outcome.name} nobody was left, and it waited like a new request"
    if RetryRules(1, frozenset()).allow(outcome, idempotent=False):
        return f"after {outcome.name} any request may be sent again: no backend has begun it"
    return f"after {outcome.name} this one may be repeated by its method"


def _skipped(decisions: Sequence[Decision]) -> tuple[Candidate, ...]:
    found: dict[tuple[str, str], Candidate] = {}
    for decision in decisions:
        for one in decision.skipped:
            found.setdefault((one.pool, one.backend_name), one)
    return tuple(found.values())


def _well(note: Note) -> bool:
    """Whether a backend's answer has ended it, or is on its way."""
    return note.local_reply is None and note.status > 0


def _notes(note: Note, stuck: Story | None, last: Decision | None, now: float) -> list[str]:
    told: list[str] = []
    running = note.ended_at == NEVER
    if stuck is not None and stuck.held:
        told.append(stuck.held)
    if stuck is not None and stuck.waiting is not None:
        ticket = stuck.waiting
        told.append(
            f"it waits in the queue for {now - ticket.queued_at:.2f} s, and may for {ticket.until - now:.2f} s more"
        )
        place = f"it is number {stuck.ahead + 1} in the queue now"
        told.append(f"{place}: about {stuck.expected_s:.1f} s more, at this pace" if stuck.expected_s else place)
    if stuck is not None and stuck.pausing_until != NEVER:
        told.append(f"it is tried again in {max(stuck.pausing_until - now, 0.0):.3f} s (backoff)")
    if stuck is not None and stuck.came_as:
        told.append(
            f"it came to the queue as number {stuck.came_as}, and waited {note.waited_s:.2f} s"
            if not running
            else f"it came to the queue as number {stuck.came_as}"
        )
    if note.attempt is None and not running and isinstance(note.ended_by, Refusal | Reply):
        told.append("no backend was asked")
    if note.ended_by in (Refusal.NO_BACKEND, Refusal.ALL_FULL) and last is not None:
        told.append(last.rule)
    if stuck is not None and stuck.stopped is not None and not running and not _well(note):
        told.append(f"not tried again: {stuck.stopped.value}")
    elif stuck is not None and stuck.refused is not None and note.attempt is not None and not _well(note):
        told.append("not tried again: nobody else was left")
    if last is not None and any(one.load is None for one in last.candidates):
        told.append("of so many backends it is not kept what each had in flight, unless somebody looks closely")
    return told


def _name(why: Refusal | Outcome | Reply | None) -> str:
    return "" if why is None else why.name


def _between(begin: float, end: float) -> float | None:
    """How long it was; None where one of the two did not happen."""
    return None if NEVER in (begin, end) else max(end - begin, 0.0)
