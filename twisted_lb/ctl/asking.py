"""`lbctl route` and `explain`: where a request would go, and why one went where it did."""

from argparse import ArgumentParser, Namespace
from typing import Any, Final

from twisted_lb.ctl.client import Answer, path_of
from twisted_lb.ctl.decisions import decision_lines, labelled, local_name, named, out_lines, outlook, split
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.numbers import whole
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, part, text_of
from twisted_lb.ctl.tables import Cell, aligned
from twisted_lb.ctl.text import BOLD, DIM, GREEN, RED, Words, count, join, plural, seconds, time_of_day, words

_KEPT_LONGER: Final = "Failed and slow ones are kept longer: lbctl explain --failed"
_KIB: Final = 1024
# How the reason of an attempt begins that was made beside another one.
_HEDGED: Final = "hedged: "

# -- route


def _run_route(session: Session, arguments: Namespace) -> int:
    """Print what would become of a request; 1 where no route takes it."""
    console = session.console
    found = session.api.get("/v1/route", _request(arguments))
    if console.as_json:
        console.say_json(found)
    elif found.get("route") is None and found.get("action") == "refuse":
        console.say(f"no request: the client would get a {count(found.get('status'))}: {text_of(found, 'why')}")
    elif found.get("route") is None:
        looked_at = plural(len(items(found, "looked_at")), "route")
        console.say_cut(_looked_at(found))
        of_session = found.get("status") is None and text_of(found, "why")
        told = of_session or f"the client would get a {found.get('status') or 404}"
        console.say(f"no route: {told} ({looked_at} looked at)")
    else:
        console.say_cut([*labelled("listener", [_listener(session, found)]), *_looked_at(found)])
        decision = part(found, "decision")
        console.say_cut(decision_lines(decision) if decision else [])
        if decision and found.get("why"):
            console.say_cut(labelled("because", [text_of(found, "why")]))
        if mirror := text_of(found, "mirror"):
            console.say_cut(
                labelled("mirrored", [f"to {mirror} too, {number_of(found, 'mirror_percent'):g} % of the time"])
            )
        console.say(f"Nothing was sent. {outlook(decision) if decision else _own_answer(found)}")
    return Status.REFUSED if found.get("route") is None else Status.DONE


def _request(arguments: Namespace) -> list[tuple[str, str]]:
    """The request that is asked about, as a query."""
    asked = [("method", arguments.method.upper()), ("url", arguments.url)]
    for line in arguments.header:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise Failure(Status.USAGE, f"-H is NAME:VALUE, not {line!r}")
        asked.append(("header", f"{name.strip()}:{value.strip()}"))
    return asked + [(key, value) for key in ("client", "listener") if (value := getattr(arguments, key))]


def _listener(session: Session, found: Answer) -> str:
    name = text_of(found, "listener")
    for one in items(session.status(), "listeners"):
        if text_of(one, "name") == name:
            return " ".join([name, ", ".join(lines_of(one, "addresses"))]).rstrip()
    return name


def _looked_at(found: Answer) -> list[Words]:
    rows: list[list[Cell]] = []
    for one in items(found, "looked_at"):
        yes = bool(one.get("matches"))
        answer = Words(("yes", BOLD) if yes else "no")
        rows.append(
            [
                count(one.get("n")).ljust(8),
                answer,
                f" {text_of(one, 'why') or ('it takes everything' if yes else '')}",
                Words((text_of(one, "place"), DIM)),
            ]
        )
    lines = aligned([[row[0], row[1], row[2]] for row in rows], [False] * 3)
    # Places stand far enough to the right not to be read as a part of the reason.
    widest = max((line.width for line in lines), default=0)
    return [
        line + " " * (max(widest, 55) + 2 - line.width) + row[3] if str(row[3]) else line
        for line, row in zip(lines, rows, strict=True)
    ]


def _own_answer(found: Answer) -> str:
    status, why = count(found.get("status")), text_of(found, "why")
    if text_of(found, "action") in ("answer", "redirect"):
        return f"The route answers itself: {status}."
    if found.get("status") is None:
        return f"The client's connection would be reset: {why}."
    return f"The client would get a {status}{': ' if why else ''}{why}."


# -- explain


def _run_explain(session: Session, arguments: Namespace) -> int:
    """Explain one request that was, several in a line each, or one that may come."""
    if arguments.next is not None:
        return _next(session, arguments.next)
    lists = {key: getattr(arguments, key) for key in ("last", "failed", "slowest")}
    wanted = {key: number for key, number in lists.items() if number is not None}
    if arguments.id is None and not wanted:
        raise Failure(
            Status.USAGE, "which request? an ID, --last, --failed, --slowest or --next; see lbctl explain --help"
        )
    if arguments.id is not None:
        return _one(session, arguments.id)
    return _several(session, wanted)


def _one(session: Session, name: str) -> int:
    try:
        told = session.api.get(path_of("explain", name))
    except Failure as failure:
        if failure.code == "not_held" and failure.problem:
            detail = text_of(failure.problem, "detail", failure.sentence).rstrip(".")
            hint = text_of(failure.problem, "hint") or _KEPT_LONGER
            raise Failure(failure.status, detail, hint, problem=failure.problem) from None
        raise
    if session.console.as_json:
        session.console.say_json(told)
    else:
        session.console.say(*explanation(told, session.clock.time()))
    return Status.DONE


def explanation(told: Answer, now: float) -> list[Words]:
    """A request, explained: what became of it, each attempt, and what decided beside."""
    lines = [_title(told, now), Words((_surroundings(told), DIM)), Words()]
    attempts = items(told, "attempts")
    cells = [_attempt(at, one, told, last=at == len(attempts)) for at, one in enumerate(attempts, 1)]
    indent = " " * (max((words(row[0]).width + words(row[1]).width for row in cells), default=0) + 4)
    for head, one in zip(aligned(cells, [False] * 4), attempts, strict=True):
        lines += [head, *(Words(indent) + said for said in _how(one, told))]
    lines += [Words()] if attempts else [Words("No backend was asked.")]
    return [*lines, *_beside(told)]


def _title(told: Answer, now: float) -> Words:
    moment = told.get("at")
    when = time_of_day(moment, now=now, precise=True)
    if isinstance(moment, int | float):
        when += f".{int(moment * 1000) % 1000:03d}"
    head = f"{text_of(told, 'method')} {text_of(told, 'path')}{'?…' if told.get('query') else ''}  {when}  "
    if told.get("running"):
        for_s = f" for {seconds(max(0.0, now - moment))}" if isinstance(moment, int | float) else ""
        return Words(head, ("still running", BOLD), for_s)
    word = word_of(told)
    status = str(told.get("status") or ("closed" if _is_session(told) and told.get("attempts") else "nothing"))
    spans: list[str | tuple[str, str]] = [head, "→ ", (status, BOLD), f" after {seconds(told.get('took_s'))}"]
    spans += [", ", (word, BOLD)] if word else []
    return Words(*spans)


def _is_session(told: Answer) -> bool:
    """Whether it is a connection that was carried as it is."""
    return text_of(told, "method") == "TCP"


def word_of(told: Answer) -> str:
    """What was not plain about a request: `retried`, `hedged`, or what it ended by; nothing for most."""
    outcome = text_of(told, "outcome")
    if told.get("running"):
        return "running"
    if outcome not in ("OK", ""):
        return outcome
    more = [text_of(one, "retried") for one in items(told, "attempts")[1:]]
    return ("hedged" if all(one.startswith(_HEDGED) for one in more) else "retried") if more else ""


def _surroundings(told: Answer) -> str:
    named_parts = (("client", "client"), ("listener", "listener"), ("route", "route"), ("pool", "pool"))
    said = [f"{label} {text_of(told, key)}" for label, key in named_parts if told.get(key)]
    over = text_of(part(told, "tls"), "text")
    before = text_of(part(told, "proxy"), "text")
    said += [f"over {over}"] if over else []
    return " · ".join([*said, *([f"told by its proxy: {before}"] if before else [])])


def _attempt(at: int, one: Answer, told: Answer, *, last: bool) -> list[Cell]:
    outcome, reason = text_of(one, "outcome"), text_of(one, "reason")
    good = outcome == "OK"
    if good and last and not reason:
        reason = ", ".join(filter(None, [str(told.get("status") or ""), _size(told.get("response_bytes"))]))
    sign = Words(("✓", GREEN) if good else ("✗", RED) if outcome else "…")
    return [str(at), Words((text_of(one, "backend"), BOLD)), sign + Words(" ", (outcome or "running", BOLD)), reason]


def _how(one: Answer, told: Answer) -> list[Words]:
    """The times of an attempt, and why it was made, and there."""
    connect = "0 (reused)" if one.get("reused") else seconds(one.get("connect_s"))
    times = [("queue", seconds(one.get("queue_s"))), ("connect", connect)]
    first = "open" if _is_session(told) else "first byte"
    times += [(label, seconds(one.get(key))) for label, key in ((first, "first_byte_s"), ("rest", "rest_s"))]
    told_times = [Words((label, DIM), f" {took}") for label, took in times if took not in ("–", "")]
    lines = [join([*told_times, *filter(None, [over(one)])], "   ")]
    if retried := text_of(one, "retried"):
        number, most = number_of(one, "number"), number_of(one, "most")
        # Some attempts cost none, as one that lost a keep-alive race: there may be more than the route allows.
        more = [f"attempt {count(number)} of {count(most)}"] if 0 < number <= most else []
        more += (
            [f"{one['budget_left']:g} more in the budget"] if isinstance(one.get("budget_left"), int | float) else []
        )
        label, why = ("hedged", retried.removeprefix(_HEDGED)) if retried.startswith(_HEDGED) else ("retried", retried)
        lines.append(Words((f"{label}:", DIM), f" {'; '.join([why, *more])}"))
    if rule := text_of(part(one, "decision"), "rule") or text_of(one, "rule"):
        lines.append(Words(("chosen:", DIM), f" {rule}"))
    return lines


def over(one: Answer) -> str:
    """What an attempt has used, where that is not HTTP/1.1: `over HTTP/2, stream 5`."""
    protocol, stream = text_of(one, "protocol"), one.get("stream")
    if protocol in ("", "HTTP/1.1"):
        return ""
    return f"over {protocol}" + (f", stream {count(stream)}" if stream else "")


def _beside(told: Answer) -> list[Words]:
    """Who else there was, and what else decided."""
    pool = text_of(told, "pool")
    tried = {local_name(one, pool) for one in items(told, "attempts")}
    free, full, out = split([*items(told, "candidates"), *items(told, "skipped")])
    others = [one for one in free if local_name(one, pool) not in tried]
    queue = [note for note in lines_of(told, "note") if "queue" in note]
    notes = [note for note in lines_of(told, "note") if note not in queue and note != "no backend was asked"]
    if detail := text_of(told, "detail"):
        notes.append(detail)
    lines = labelled("queue", queue)
    lines += labelled("full", [named(full, pool)]) if full else []
    lines += labelled("skipped", out_lines(out, pool, "before"))
    lines += labelled("also", [f"{named(others, pool)} had room"]) if others else []
    then = [f"{local_name(one, pool)} was {one['then']}" for one in items(told, "attempts") if one.get("then")]
    return [*lines, *labelled("so", notes), *labelled("then", then)]


def _size(number: Any) -> str:
    if not isinstance(number, int | float) or not number:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < _KIB or unit == "GiB":
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= _KIB
    return ""


def _several(session: Session, wanted: dict[str, int]) -> int:
    console = session.console
    told = session.api.get("/v1/explain", wanted | ({} if console.as_json else {"decisions": 0}))
    if console.as_json:
        console.say_json(told)
        return Status.DONE
    rows = [one_line(one, session.clock.time()) for one in items(told, "requests")]
    if not rows:
        console.tell("there is none")
    console.say_cut(aligned(rows, [False, False, True, False, False, False, False], ascii_only=console.ascii_only))
    return Status.DONE


def one_line(told: Answer, now: float) -> list[Cell]:
    """A request as cells of a row."""
    tried = [text_of(one, "backend") for one in items(told, "attempts")]
    status = number_of(told, "status")
    failed = status >= 500 or not status
    return [
        Words((time_of_day(told.get("at"), now=now, precise=True), DIM)),
        Words((str(told.get("status") or "–"), BOLD if failed else "")),
        seconds(told.get("took_s")),
        Words((word_of(told), BOLD)),
        f"{text_of(told, 'method')} {text_of(told, 'path')}",
        " → ".join(tried),
        Words((text_of(told, "id"), DIM)),
    ]


def _next(session: Session, typed: str) -> int:
    console = session.console
    url = typed.removeprefix("path=") if typed.startswith(("path=", "/", "http://", "https://")) else ""
    query = {"method": "GET", "url": url} if url else {"pool": typed.removeprefix("pool=")}
    decision = session.api.get("/v1/explain/next", query)
    if console.as_json:
        console.say_json(decision)
    else:
        console.say_cut(decision_lines(decision))
        console.say(f"Nothing was sent. {outlook(decision)}")
    return Status.DONE if decision.get("picked") or decision.get("waits") else Status.REFUSED


def _route_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("method", metavar="METHOD")
    add("url", metavar="URL", help="http://host/path; tcp://name of a connection")
    add("-H", "--header", action="append", default=[], metavar="NAME:VALUE", help="a field of the request")
    add("--client", metavar="ADDRESS", help="who would send it")
    add("--listener", metavar="NAME", help="where it would come in; the first one, if not given")


def _explain_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("id", nargs="?", metavar="ID", help="as on an error page, in X-Request-ID, in the log")
    for key, which in (
        ("last", "that have ended last"),
        ("failed", "that have failed last"),
        ("slowest", "that took longest"),
    ):
        add(f"--{key}", nargs="?", type=whole(1, 1000), const=10, metavar="N", help=f"those {which}, 10 if not given")
    add("--next", metavar="WHAT", help="what would be decided now: a pool, or 'path=/x'")


EXPLAIN = Verb(
    "explain", "explain ID", "why that backend, why that answer (--last, --failed)", _explain_arguments, _run_explain
)
ROUTE = Verb("route", "route METHOD URL", "which route and backends a request would get", _route_arguments, _run_route)
VERBS = (EXPLAIN, ROUTE)
