"""Termination states, as HAProxy's log has them: which side ended a request, and what it was at just then."""

from typing import Final

from twisted_lb.core.never import NEVER
from twisted_lb.core.outcome import STALLED, Outcome, Refusal, Reply
from twisted_lb.core.record import Record

# The second letter where the first one alone follows from what ended the request: what it was at.
BY_PHASE: Final = "?"

# What ended a request: the two letters, of which BY_PHASE is to be found out.
STATES: Final[dict[Outcome | Refusal | Reply, str]] = {
    Outcome.OK: "--",
    Outcome.BAD_STATUS: "--",
    Outcome.REFUSED: "SC",
    Outcome.CONNECT_TIMEOUT: "sC",
    Outcome.LOCAL_FAILURE: "RC",
    Outcome.STALE_REUSE: "SH",
    Outcome.NO_RESPONSE: "SH",
    Outcome.BAD_RESPONSE: "PH",
    Outcome.TIMED_OUT: "sH",
    Outcome.CUT_SHORT: "SD",
    Outcome.CLIENT_GONE: "C" + BY_PHASE,
    Outcome.CLIENT_FAULT: "P" + BY_PHASE,
    Outcome.CANCELLED: "K" + BY_PHASE,
    Outcome.UNPROCESSED: "SH",
    Outcome.BACKEND_DOWN: "DH",
    Outcome.NO_PORT: "RC",
    Outcome.BACKLOG_FULL: "sC",
    Outcome.LATE: "sH",
    Outcome.NO_SWITCH: "PH",
    Refusal.BAD_REQUEST: "PR",
    Refusal.FORBIDDEN: "PR",
    Refusal.NO_ROUTE: "PR",
    Refusal.TOO_SLOW: "cR",
    Refusal.BODY_TOO_LARGE: "PR",
    Refusal.URI_TOO_LONG: "PR",
    Refusal.MISDIRECTED: "PR",
    Refusal.RATE_LIMITED: "PR",
    Refusal.HEAD_TOO_LARGE: "PR",
    Refusal.NOT_IMPLEMENTED: "PR",
    Refusal.OVERLOADED: "PR",
    Refusal.NO_BACKEND: "SC",
    Refusal.ALL_FULL: "SC",
    Refusal.LATE: "PR",
    Refusal.VERSION: "PR",
    Reply.ANSWER: "LR",
    Reply.REDIRECT: "LR",
}

_OK: Final = Outcome.OK

# The side that was too slow, in place of the side that did something.
SLOW_CLIENT: Final = "c"
STALLED_ANSWER: Final = "sD"
WAITED_TOO_LONG: Final = "sQ"
_BY_QUEUE: Final = (Refusal.NO_BACKEND, Refusal.ALL_FULL, Refusal.LATE)
_REQUEST_TIMEOUT: Final = 408


def termination(record: Record) -> str:
    """The two letters of a request's end."""
    ended_by = record.ended_by
    if ended_by is None or ended_by is _OK:
        return "--"
    state = STATES[ended_by]
    if state[1] == BY_PHASE:
        phase = _phase(record)
        side = SLOW_CLIENT if _client_was_slow(record, phase) else state[0]
        return side + phase
    if ended_by in _BY_QUEUE and record.queued_s > 0:
        return WAITED_TOO_LONG
    if ended_by is Outcome.CUT_SHORT and record.detail == STALLED:
        return STALLED_ANSWER
    return state


def _phase(record: Record) -> str:
    """What a request was at that was cut short from outside."""
    last = record.last
    if last is None:
        # Its body is read before anybody is asked.
        return "R" if record.ended_by is Outcome.CLIENT_FAULT else "Q"
    if last.outcome is not record.ended_by:
        return "Q"  # it waited for the next one
    if last.connected_at == NEVER:
        return "C"
    return "H" if record.head_at == NEVER else "D"


def _client_was_slow(record: Record, phase: str) -> bool:
    """Whether the client was cut because it sent, or took, nothing in time, and did not just leave or break its message."""
    if record.ended_by is Outcome.CLIENT_FAULT:
        return record.status == _REQUEST_TIMEOUT or record.detail == "the body stalled"
    return record.ended_by is Outcome.CLIENT_GONE and phase == "D" and record.detail != ""
