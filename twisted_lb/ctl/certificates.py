"""`lbctl certificates`: what listeners serve TLS with, until when, and what is wrong with it."""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any, Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.names import listener_of
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, text_of
from twisted_lb.ctl.tables import Cell, columns, table
from twisted_lb.ctl.text import BOLD, DIM, NONE, RED, YELLOW, Words, plural

_COLUMNS: Final = columns("LISTENER  NAMES  KEY  EXPIRES  FILE")
# So many of its names stand in a row of the table; the others are counted.
_NAMES: Final = 3
_DAY_S: Final = 86_400
# As the daemon warns of it (W61).
_SOON_S: Final = 21 * _DAY_S


def run(session: Session, arguments: Namespace) -> int:
    """Print the certificates; 1 where one has expired or cannot be used."""
    console, status = session.console, session.status()
    listeners = (
        [listener_of(status, arguments.listener)] if arguments.listener is not None else items(status, "listeners")
    )
    found = [certificate for one in listeners for certificate in items(one, "certificates")]
    flaws = flaws_of(listeners)
    now = number_of(status, "now")
    if console.as_json:
        console.say_json({"certificates": found, "flaws": [flaw for one in listeners for flaw in items(one, "flaws")]})
    elif not found:
        console.tell("no listener speaks TLS" if arguments.listener is None else f"{arguments.listener} speaks no TLS")
    else:
        rows = [_row(one, now) for one in found]
        console.say_cut(table(_COLUMNS, rows, ascii_only=console.ascii_only))
        console.say(*([""] if flaws else []), *(flaw_words(one) for one in flaws))
    return Status.REFUSED if any(one.get("grave") for one in flaws) else Status.DONE


def flaws_of(listeners: list[Answer]) -> list[Answer]:
    """What is wrong with certificates and revocation lists of listeners, the gravest first, each once."""
    every = {text_of(flaw, "text"): flaw for one in listeners for flaw in _flaws(one)}
    return sorted(every.values(), key=lambda flaw: not flaw.get("grave"))


def _flaws(listener: Answer) -> Iterator[Answer]:
    for certificate in items(listener, "certificates"):
        yield from items(certificate, "flaws")
    yield from items(listener, "flaws")


def flaw_words(flaw: Answer) -> Words:
    """A flaw as a line."""
    return Words(("✗", RED) if flaw.get("grave") else ("‼", YELLOW), f" {text_of(flaw, 'text')}")


def _row(one: Answer, now: float) -> list[Cell]:
    names = lines_of(one, "names")
    more = len(names) - _NAMES
    said = ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
    return [
        text_of(one, "listener"),
        said or NONE,
        text_of(one, "key_type"),
        expires(one.get("expires_at"), now),
        Words((text_of(one, "file"), DIM)),
    ]


def expires(at: Any, now: float) -> Words:
    """When something expires, as a date (UTC), and in how many days: `2026-12-09, in 12 days`; bold where it is soon, red where it has."""
    if not isinstance(at, int | float):
        return Words(NONE)
    date = time.strftime("%Y-%m-%d", time.gmtime(at))
    left = at - now
    days = int(abs(left) // _DAY_S)
    if left <= 0:
        return Words((f"{date}, {plural(days, 'day')} ago" if days else f"{date}, today", RED))
    said = f"in {plural(days, 'day')}" if days else "within a day"
    return Words((f"{date}, {said}", BOLD if left < _SOON_S else ""))


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("listener", nargs="?", metavar="LISTENER", help="only those of this listener")


VERBS = (Verb("certificates", "certificates [LISTENER]", "what TLS is served with, and until when", _arguments, run),)
