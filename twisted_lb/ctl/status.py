"""`lbctl status`: is all well? One screen."""

from argparse import ArgumentParser, Namespace

from twisted_lb.ctl.certificates import flaws_of
from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, part, text_of
from twisted_lb.ctl.tables import Cell, aligned, columns, table
from twisted_lb.ctl.text import (
    BOLD,
    DIM,
    Words,
    count,
    decimal,
    duration,
    glyph,
    join,
    milliseconds,
    of_limit,
    plural,
    short_actor,
    time_of_day,
)
from twisted_lb.ctl.workers import served

# From this many errors a minute on the number is bold.
MANY_ERRORS = 4
# And from this share of the limit on that of requests in flight.
NEARLY_FULL = 0.9


def run(session: Session, arguments: Namespace) -> int:
    """Print the status; 1 where a pool has no usable backend."""
    console, status = session.console, session.status()
    ending = Status.REFUSED if _answers_nothing(status) else Status.DONE
    verdict = part(status, "verdict")
    if console.as_json:
        console.say_json(status)
    elif arguments.quiet:
        console.say(text_of(verdict, "text"))
    else:
        console.say(_title(status), "")
        console.say(console.level(text_of(verdict, "level")) + Words(" ", (text_of(verdict, "text"), BOLD)))
        console.say_cut(_clauses(verdict, ascii_only=console.ascii_only))
        for lines in (listeners(status), pools(status), _notes(status)):
            if lines:
                console.say("")
                console.say_cut(lines)
    return ending


def _answers_nothing(status: Answer) -> bool:
    failing = text_of(part(status, "verdict"), "level") == "failing"
    return failing or any(pool.get("usable") == 0 for pool in items(status, "pools"))


def _title(status: Answer) -> Words:
    uptime = duration(status.get("uptime_s"))
    ready = f"ready for {uptime}" if status.get("ready") else f"not ready: {text_of(status, 'ready_text', 'starting')}"
    loaded = time_of_day(status.get("loaded_at"), now=status.get("now"))
    by = short_actor(status.get("loaded_by"))
    how = "at the start" if by == "start" else f"by {by}"
    generation = f"generation {count(status.get('generation'))}, loaded {loaded} {how}"
    return join(
        [
            Words((text_of(status, "name"), BOLD)),
            ready if status.get("ready") else Words((ready, BOLD)),
            Words((generation, DIM)),
            Words((f"twisted_lb {text_of(status, 'version')}", DIM)),
        ],
        "  ",
    )


def _clauses(verdict: Answer, *, ascii_only: bool) -> list[Words]:
    rows: list[list[Cell]] = []
    for clause in items(verdict, "clauses"):
        state = text_of(clause, "state")
        name = Words("  ") + glyph(state) + f" {text_of(clause, 'subject')}"
        rows.append([name, Words((state, BOLD)), text_of(clause, "text")])
    return aligned(rows, [False] * 3, ascii_only=ascii_only)


def listeners(status: Answer) -> list[Words]:
    """A table of the listeners."""
    rows: list[list[Cell]] = [
        [
            text_of(one, "name"),
            Words((", ".join(lines_of(one, "addresses")), DIM)),
            of_limit(one.get("connections"), one.get("limit")),
            decimal(one.get("rate")),
        ]
        for one in items(status, "listeners")
    ]
    return table(columns("LISTENER  ADDRESS  >CONNECTIONS  >NEW/S"), rows)


def pools(status: Answer) -> list[Words]:
    """A table of the pools. What is spoken with backends has a column where that is not HTTP/1.1 alone."""
    every = items(status, "pools")
    told = any(text_of(pool, "protocol", "h1") != "h1" for pool in every)
    return table(
        columns(f"POOL  POLICY  {'PROTOCOL  ' if told else ''}USED  >REQ/S  >IN FLIGHT  >QUEUED  >ERR  >P99"),
        [
            [
                text_of(pool, "name"),
                text_of(pool, "policy"),
                *([text_of(pool, "protocol", "h1")] if told else []),
                used(pool),
                decimal(pool.get("rate")),
                in_flight(pool.get("in_flight"), _room(pool)),
                of_limit(pool.get("queued"), pool.get("queue")),
                errors(pool.get("errors_60s")),
                milliseconds(pool.get("p99_ms")),
            ]
            for pool in every
        ],
    )


def used(pool: Answer) -> str:
    """How many backends get requests, how many stand by, and which levels have the requests, where there are several: `2 of 4,
    1 stands by, level 1: 30 %, panic`.
    """
    standing = sum(_stands_by(one) for one in items(pool, "backends"))
    said = [f"{count(number_of(pool, 'usable') - standing)} of {count(len(items(pool, 'backends')))}"]
    said += [f"{count(standing)} {'stands' if standing == 1 else 'stand'} by"] if standing else []
    levels = items(pool, "levels")
    if any(one.get("share") for one in levels[1:]):
        called = [(f"level {one['level']}" if one.get("level") is not None else "backups", one) for one in levels]
        said += [f"{name}: {one['share']} %" for name, one in called if one.get("share")]
    return ", ".join([*said, *(["panic"] if pool.get("panic") else [])])


def _stands_by(backend: Answer) -> bool:
    return text_of(backend, "state") == "standby"


def _room(pool: Answer) -> float:
    """How many requests may run at once at the backends that get any; 0 for no bound."""
    backends = [one for one in items(pool, "backends") if one.get("usable") and not _stands_by(one)]
    limits = [number_of(one, "limit") for one in backends]
    return sum(limits) if all(limits) else 0


def in_flight(number: object, limit: object) -> Words:
    """Requests in flight of their limit, bold where there is hardly room."""
    full = isinstance(number, int | float) and isinstance(limit, int | float) and 0 < limit * NEARLY_FULL <= number
    return Words((of_limit(number, limit), BOLD if full else ""))


def errors(number: object) -> Words:
    """A number of errors, bold where it is large, dim where it is none."""
    many = isinstance(number, int | float) and number > MANY_ERRORS
    return Words((count(number), BOLD if many else "" if number else DIM))


def _missing(status: Answer) -> list[list[str]]:
    """How many workers serve, where one does not that should."""
    serve, places = served(items(status, "workers"))
    return [[f"{count(serve)} of {count(places)} workers serve", "lbctl workers"]] if serve < places else []


def _notes(status: Answer) -> list[Words]:
    """Workers that are missing, what is wrong with certificates, what is in force beside the file, and what stands in that and is not in force; with what to type."""
    rows = _missing(status)
    rows += [[text_of(one, "text"), "lbctl certificates"] for one in flaws_of(items(status, "listeners"))]
    file = part(status, "file")
    if changes := len(items(status, "changes")):
        over = "file" if file else "command line"
        rows.append([f"{plural(changes, 'runtime change')} over the {over}", "lbctl config --sources, lbctl reset"])
    if file.get("changed_s") is not None:
        ago = duration(file["changed_s"])
        rows.append(
            [f"{text_of(file, 'changed') or text_of(file, 'path')} changed {ago} ago, not loaded", "lbctl diff"]
        )
    return aligned([[said, Words((hint, DIM))] for said, hint in rows], [False, False], between="   ")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("-q", "--quiet", action="store_true", help="only the verdict, one sentence")


VERBS = (Verb("status", "status", "is all well? one screen", _arguments, run),)
