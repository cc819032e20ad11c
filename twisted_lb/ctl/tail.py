"""`lbctl tail`: requests as they end."""

from argparse import ArgumentParser, Namespace
from typing import Final

from twisted_lb.ctl.asking import one_line
from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.names import backends_of, endpoints_of, pool_of, resolve
from twisted_lb.ctl.session import Session, Verb, items, text_of
from twisted_lb.ctl.tables import Cell
from twisted_lb.ctl.text import Words, join, words

INTERVAL_S: Final = 1.0
# So many are asked for at once, and so many of those that were before are shown at first.
_MOST: Final = 200
_AT_FIRST: Final = 10
# Lines come one after the other: their columns have a width beforehand. Of time, status, duration and what was not plain.
_WIDTHS: Final = (8, 3, 7, 11)

_Key = tuple[str, object, object]


def run(session: Session, arguments: Namespace) -> int:
    """Print requests as they end, until an interrupt or the daemon's end."""
    wanted = _Wanted(session, arguments)
    # Lines say nothing of decisions, and each second a balancer with many backends would have much to tell.
    query = {"failed" if arguments.failed else "last": _MOST} | ({} if session.console.as_json else {"decisions": 0})
    known: set[_Key] | None = None
    while True:
        told = items(session.api.get("/v1/explain", query), "requests")
        told.sort(key=_ended_at)
        keys = {_key(one) for one in told}
        new = told[-_AT_FIRST:] if known is None else [one for one in told if _key(one) not in known]
        if known and len(new) == _MOST:
            session.console.tell("more have ended than can be shown")
        for one in new:
            if wanted(one):
                _say(session, one)
        known = keys
        session.clock.sleep(INTERVAL_S)


def _key(told: Answer) -> _Key:
    """What tells a request from others: ids are also the clients'."""
    return text_of(told, "id"), told.get("at"), told.get("took_s")


def _ended_at(told: Answer) -> float:
    times = (told.get("at"), told.get("took_s"))
    return sum(one for one in times if isinstance(one, int | float))


class _Wanted:
    """Whether a request is one of those that were asked for; Failure for a backend or a pool that there is not."""

    def __init__(self, session: Session, arguments: Namespace) -> None:
        status = session.status() if arguments.backend or arguments.pool else {}
        self._pool = arguments.pool
        if self._pool:
            pool_of(status, self._pool)
        meant = resolve(backends_of(status), [arguments.backend]) if arguments.backend else []
        self._backends = {name for one in meant for name in endpoints_of(one)}

    def __call__(self, told: Answer) -> bool:
        asked = {text_of(one, "backend") for one in items(told, "attempts")}
        return (not self._backends or bool(asked & self._backends)) and self._pool in (None, text_of(told, "pool"))


def _say(session: Session, told: Answer) -> None:
    console = session.console
    if console.as_json:
        console.say_json(told)
    else:
        console.say_cut([_line(one_line(told, session.clock.time()))])


def _line(cells: list[Cell]) -> Words:
    cells = [words(cell) for cell in cells]
    padded: list[Cell] = []
    for cell, width in zip(cells, _WIDTHS, strict=False):
        space = " " * (width - words(cell).width)
        padded.append(Words(space) + cell if len(padded) == 2 else words(cell) + space)
    return join([*padded, *(cell for cell in cells[len(_WIDTHS) :] if str(cell))], "  ")


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--failed", action="store_true", help="only those that have failed")
    add("--backend", metavar="NAME", help="only those that were sent there: pool/backend, a unique backend, or a glob")
    add("--pool", metavar="NAME", help="only those of this pool")


VERBS = (Verb("tail", "tail [--failed]", "requests as they end", _arguments, run),)
