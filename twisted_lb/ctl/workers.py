"""`lbctl workers` and `upgrade`: the processes that move requests, and the program that they are of."""

from argparse import ArgumentParser, Namespace
from typing import Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.session import Session, Verb, items, number_of, text_of
from twisted_lb.ctl.steering import duration_typed
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
    serve, places = served(found)
    return Status.REFUSED if serve < places else Status.DONE


def served(found: list[Answer]) -> tuple[int, int]:
    """How many places have a worker that serves, and how many should; in an upgrade it may be the one of before."""
    there = [one for one in found if text_of(one, "state") != "drains"]
    serve = {one.get("slot") for one in there if text_of(one, "state") == _SERVES}
    return len(serve), len({one.get("slot") for one in there})


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


def upgrade(session: Session, arguments: Namespace) -> int:
    """Have the daemon become the program that is installed now, and wait until that serves; 1 where nothing was changed, or it does not
    come up.
    """
    console, clock = session.console, session.clock
    body: Answer = {"reason": arguments.reason} if arguments.reason else {}
    answer = session.api.ask("POST", "/v1/upgrade", body=body, wait_s=REHEARSAL_S)
    program, began = int(number_of(answer, "program")), clock.monotonic()
    console.tell("the new program can start, and takes the place of the one that runs")
    found: list[Answer] = []
    while not _serve(found, program):
        if clock.monotonic() - began > arguments.wait:
            raise Failure(Status.REFUSED, *_why_not(found, program, arguments.wait))
        clock.sleep(_LOOK_S)
        try:
            found = items(session.status(), "workers")
        except Failure as failure:
            # While one program is followed by the other nobody is there.
            if failure.status != Status.NOT_REACHED:
                raise
            found = []
    if console.as_json:
        console.say_json({"program": program, "workers": found})
    else:
        drain = sum(text_of(one, "state") == "drains" for one in found)
        still = f"; {drain} of before drain" if drain else ""
        console.say(f"upgraded: {len(found) - drain} workers of the new program serve{still}")
    return Status.DONE


def _serve(found: list[Answer], program: int) -> bool:
    """Whether all workers that take clients in are of this program, and none is missing."""
    there = [one for one in found if text_of(one, "state") != "drains"]
    return bool(there) and all(
        text_of(one, "state") == _SERVES and number_of(one, "program") == program for one in there
    )


def _why_not(found: list[Answer], program: int, wait_s: float) -> list[str]:
    if not found:
        return [
            f"nobody answers after {wait_s:g} s: the new program has not come up",
            "Its workers go on for 30 s without it; start it again, and look at its log.",
        ]
    new, _ = served([one for one in found if number_of(one, "program") == program])
    _, places = served(found)
    return [
        f"{new} of {places} workers are of the new program after {wait_s:g} s; those of before go on",
        "lbctl workers, and the log, say more.",
    ]


# The new program rehearses so long at most.
REHEARSAL_S: Final = 70.0
_WAIT_S: Final = 120.0
_LOOK_S: Final = 0.1


def _arguments(parser: ArgumentParser) -> None:
    """It takes none."""


def _upgrade_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=duration_typed, default=_WAIT_S, metavar="TIME", help="at most so long, 120s if not given"
    )
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept in the audit log")


VERBS: Final = (Verb("workers", "workers", "the processes that move requests", _arguments, run),)
UPGRADE: Final = Verb(
    "upgrade", "upgrade [--wait TIME]", "become the program that is installed now", _upgrade_arguments, upgrade
)
