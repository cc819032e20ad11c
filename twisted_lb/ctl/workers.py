"""`lbctl workers`: the processes that move requests."""

from argparse import ArgumentParser, Namespace
from typing import Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.session import Session, Verb, items, number_of, text_of
from twisted_lb.ctl.tables import Cell, columns, table
from twisted_lb.ctl.text import BOLD, DIM, NONE, Words, count, decimal, duration, milliseconds

_COLUMNS: Final = columns(">WORKER  >PROCESS  STATE  >FOR  >CONNECTIONS  >IN FLIGHT  >REQUESTS  >REQ/S  >LAG P99")
_SERVES: Final = "serves"


def run(session: Session, _: Namespace) -> int:
    """Print the workers; 1 where one does not serve that should."""
    console, status = session.console, session.status()
    found, restarts = items(status, "workers"), int(number_of(status, "worker_restarts"))
    if console.as_json:
        console.say_json({"workers": found, "restarts": restarts})
    elif not found:
        console.tell("one process does everything: there are no workers")
    else:
        console.say_cut(table(_COLUMNS, [_row(one) for one in found], ascii_only=console.ascii_only))
        if restarts:
            console.say("", f"started in the place of one that had died: {restarts:,}")
    out = [one for one in found if text_of(one, "state") not in (_SERVES, "drains")]
    return Status.REFUSED if out else Status.DONE


def _row(one: Answer) -> list[Cell]:
    state, cover = text_of(one, "state"), one.get("covered_by")
    said = Words((state, "" if state == _SERVES else BOLD))
    if isinstance(cover, int):
        said += Words((f", covered by {cover}", DIM))
    pid = number_of(one, "pid")
    return [
        count(one.get("slot")),
        f"{pid:.0f}" if pid else NONE,
        said,
        duration(number_of(one, "uptime_s")),
        count(one.get("connections")),
        count(one.get("in_flight")),
        count(one.get("requests")),
        decimal(one.get("rate")),
        milliseconds(one.get("lag_p99_ms")),
    ]


def _arguments(parser: ArgumentParser) -> None:
    """It takes none."""


VERBS = (Verb("workers", "workers", "the processes that move requests", _arguments, run),)
