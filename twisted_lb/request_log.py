"""The request log: requests as log lines, when they are over: what their clients saw, what it took, and what was wrong."""

from itertools import groupby
from typing import Final, cast

from twisted.logger import Logger

from twisted_lb.core.attempts import Attempt
from twisted_lb.core.events import DEFAULT_POOL
from twisted_lb.core.outcome import Outcome, Refusal, Reply
from twisted_lb.core.record import Record
from twisted_lb.core.suppression import Suppression

# What happened, and at which backend; "" where it was none's.
Kind = tuple[str, str]

# Each kind is said so often, at most.
_EVERY_S: Final = 1.0

_log = Logger()


class BriefRequestLog:
    """A log of what went wrong, as an observer of a frontend: of each kind, at each backend, a line a second at most, with
    the number of those that it stands for. A client that just leaves is nothing that went wrong. `tick` is to be called a
    few times a second.
    """

    def __init__(self) -> None:
        self._suppression: Final = Suppression(_EVERY_S)

    def __call__(self, record: Record) -> None:
        """Log one request that has ended, unless all that went wrong with it was said just now."""
        counts = {kind: self._suppression.note(kind, record, record.ended_at) for kind in _kinds(record)}
        said = {kind: count for kind, count in counts.items() if count is not None}
        if said:
            log_request(record, _more(said))

    def tick(self, now: float) -> None:
        """Log what was left out, each kind with its last request; NEVER for the end, when nothing is left out any more."""
        lines: dict[Record, dict[Kind, int]] = {}
        for kind, record, count in self._suppression.due(now):
            lines.setdefault(cast(Record, record), {})[cast(Kind, kind)] = count
        for record, counts in lines.items():
            log_request(record, _more(counts))


def _kinds(record: Record) -> list[Kind]:
    """What went wrong with a request: at each of its backends, and with itself."""
    kinds = [
        (one.outcome.name, one.lease.backend.name)
        for one in record.attempts
        if one.outcome is not None and one.outcome is not Outcome.OK and not _of_nobody(one.outcome)
    ]
    ended_by = record.ended_by
    if isinstance(ended_by, Refusal) or (ended_by is not None and _of_nobody(ended_by)):
        kinds.append((ended_by.name, ""))
    # Each once: a request that waits may be refused several times by the same backend.
    return [kind for kind in dict.fromkeys(kinds) if kind[0] != Outcome.CLIENT_GONE.name]


def _of_nobody(outcome: Outcome | Reply) -> bool:
    """Whether an outcome is not of the backend that was asked, nor of the way there."""
    return outcome in (Outcome.CLIENT_GONE, Outcome.CLIENT_FAULT, Outcome.CANCELLED)


def _more(counts: dict[Kind, int]) -> str:
    """How many more there were of each kind: ` (and 12 more REFUSED at a:80)`."""
    more = [f"{count} more {name}{at and f' at {at}'}" for (name, at), count in counts.items() if count]
    return f" (and {', '.join(more)})" if more else ""


def log_request(record: Record, left_out: str = "") -> None:
    """Log one request that has ended, as an observer of a frontend; `left_out` says what this line stands for as well.

    No line can be forged: what clients send is validated characters, and all else is escaped here.
    """
    _log.info(
        "{client} {method} {target} {status} {ended_by} {where}backend={backend} attempts={attempts} {took_ms} ms "
        "id={request_id}{reasons}{left_out}",
        client=_one_word(record.client),
        method=_one_word(record.method.decode("latin-1")),
        target=_one_word(record.target.decode("latin-1")),
        status=record.told_status or "-",
        ended_by="-" if record.ended_by is None else record.ended_by.name,
        where=_where(record),
        route=record.route,
        pool=record.pool,
        backend=record.backend_name or "-",
        attempts=len(record.attempts),
        took_ms=round(record.took_s * 1000, 1),
        request_id=_one_word(record.request_id.decode("latin-1")),
        reasons=_reasons(record),
        left_out=left_out,
        peer=record.peer,
        tried=[(attempt.lease.backend.name, _name(attempt), attempt.detail) for attempt in record.attempts],
        detail=record.detail,
    )


def _where(record: Record) -> str:
    """By which route a request went, and to which pool, as far as they are not those that nobody has named."""
    named = (("route", record.route), ("pool", record.pool))
    return "".join(f"{what}={_one_word(name)} " for what, name in named if name not in ("", DEFAULT_POOL))


def _reasons(record: Record) -> str:
    """What was wrong, at each backend that was asked, in their order, which is nothing for a plain request; or what is known
    of a request that went to none.
    """
    if record.attempts and record.plain:
        return ""
    if record.attempts:
        tried = [f"{one.lease.backend.name} {_name(one)} {one.detail}".rstrip() for one in record.attempts]
        return ": " + "; ".join(_printable(one) for one in _counted(tried))
    return f": {_printable(record.detail)}" if record.detail else ""


def _counted(words: list[str]) -> list[str]:
    """The words, with those that stand there several times in a row once: a request that waits may knock many times."""
    counted: list[str] = []
    for word, group in groupby(words):
        times = len(list(group))
        counted.append(word if times == 1 else f"{word} ({times} times)")
    return counted


def _name(attempt: Attempt) -> str:
    return "-" if attempt.outcome is None else attempt.outcome.name


def _one_word(text: str) -> str:
    """Text from outside as one word of a line, never empty."""
    return _printable(text).replace(" ", "_") or "-"


def _printable(text: str) -> str:
    """Text with each character escaped that a terminal, or the reader of a log, could act upon."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
