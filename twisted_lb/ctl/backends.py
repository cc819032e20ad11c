"""`lbctl backends`: every backend with its state, load and times."""

from argparse import ArgumentParser, Namespace

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.names import backends_of, pool_of
from twisted_lb.ctl.session import Session, Verb, items, left_at, number_of, part, text_of
from twisted_lb.ctl.status import errors, in_flight
from twisted_lb.ctl.tables import columns, table
from twisted_lb.ctl.text import (
    BOLD,
    DIM,
    GREEN,
    NONE,
    RED,
    Words,
    both,
    count,
    decimal,
    duration,
    milliseconds,
    percent,
    plural,
    short_actor,
    state_words,
    weight,
)

# A share is off when it is so far from what is meant, with so many requests of the pool in a minute.
OFF = 0.08
SEEN = 100

_NARROW = columns("BACKEND  STATE  FOR  >WEIGHT  >IN FLIGHT  >REQ/S  >SHARE  >ERR  >P99")
_WIDE = columns(
    "BACKEND  ADDRESS  STATE  FOR  >WEIGHT  >IN FLIGHT  >TUNNELS  >REQ/S  >SHARE IS/MEANT  >ERR  >P50  >P99  >REUSE"
    "  CONNECTIONS  LAST CHECK  WHY"
)


def run(session: Session, arguments: Namespace) -> int:
    """Print the backends."""
    console, status = session.console, session.status()
    pools = [pool_of(status, arguments.pool)] if arguments.pool else items(status, "pools")
    wanted = _problems(status) if arguments.problems else {text_of(one, "name") for one in backends_of(status)}
    rows = [(pool, one) for pool in pools for one in items(pool, "backends") if text_of(one, "name") in wanted]
    if console.as_json:
        console.say_json({"backends": [backend for _, backend in rows]})
    elif arguments.quiet:
        for pool, one in rows:
            console.say_tabbed(_wide(pool, one) if arguments.output == "wide" else [text_of(one, "name")])
    elif not rows:
        console.tell("every backend is well" if arguments.problems else "there are no backends")
    else:
        wide = arguments.output == "wide"
        cells = [_wide(pool, one) if wide else _narrow(one) for pool, one in rows]
        console.say_cut(table(_WIDE if wide else _NARROW, cells, ascii_only=console.ascii_only))
    return Status.DONE


def _problems(status: Answer) -> set[str]:
    """The names of backends that are not ready, or that the verdict speaks of."""
    spoken_of = {text_of(clause, "subject") for clause in items(part(status, "verdict"), "clauses")}
    well = ("ready", "standby")
    return spoken_of | {text_of(one, "name") for one in backends_of(status) if one.get("state") not in well}


def _narrow(backend: Answer) -> list[Words | str]:
    return [
        text_of(backend, "name"),
        state_words(text_of(backend, "state")),
        duration(backend.get("since_s")),
        weights(backend),
        in_flight(backend.get("in_flight"), backend.get("limit")),
        decimal(backend.get("rate")),
        decimal(backend.get("share")),
        errors(backend.get("errors_60s")),
        _or_dim(milliseconds(backend.get("p99_ms"))),
    ]


def _wide(pool: Answer, backend: Answer) -> list[Words | str]:
    return [
        text_of(backend, "name"),
        Words((text_of(backend, "address"), DIM)),
        state_words(text_of(backend, "state")),
        duration(backend.get("since_s")),
        weights(backend),
        in_flight(backend.get("in_flight"), backend.get("limit")),
        _or_dim(count(backend.get("tunnels"))),
        decimal(backend.get("rate")),
        shares(pool, backend),
        errors(backend.get("errors_60s")),
        _or_dim(milliseconds(backend.get("p50_ms"))),
        _or_dim(milliseconds(backend.get("p99_ms"))),
        _or_dim(percent(backend.get("reuse"))),
        _or_dim(connections(backend)),
        _last_check(backend),
        why(backend),
    ]


def weights(backend: Answer) -> str:
    """The weight; where another one is in effect, that too: `1→0.4`."""
    meant = backend.get("weight")
    effective = backend.get("weight_effective")
    return weight(meant) if meant is None or effective in (meant, None) else f"{weight(meant)}→{weight(effective)}"


def connections(backend: Answer) -> str:
    """Those that are open, by what is spoken on them: `4 h1`, `2 h2: 57 calls`; and what the backend took, where it has the choice."""
    open_ = part(backend, "connections")
    http1, http2, chose = open_.get("http1"), open_.get("http2"), text_of(open_, "chose")
    said = [f"{count(http2)} h2: {plural(int(number_of(open_, 'calls')), 'call')}"] if http2 else []
    said += [f"{count(http1)} h1"] if http1 else []
    said += [f"took {chose}"] if chose else []
    return ", ".join(said) or (NONE if http1 is None else "0")


def shares(pool: Answer, backend: Answer) -> Words:
    """The share of the pool's requests, and the one that is meant; marked where they are far apart."""
    actual, meant = number_of(backend, "share"), number_of(backend, "intended")
    said = f"{decimal(backend.get('share'))} / {decimal(backend.get('intended'))}"
    seen = sum(number_of(one, "rate") for one in items(pool, "backends")) * 60
    if not actual or not meant or seen < SEEN or abs(actual - meant) <= OFF * meant:
        return Words(said)
    return Words((f"{said}{'▲' if actual > meant else '▼'}", BOLD))


def why(backend: Answer) -> str:
    """Why it is in its state: what the daemon says of that, else who did it; and what is left there."""
    if reason := text_of(backend, "reason"):
        return reason
    by = part(backend, "by")
    if backend.get("admin") == "ready" or not by:
        limited = text_of(backend, "limit_why")
        return f"limit: {limited}" if limited else ""
    said = f": “{text_of(by, 'reason')}”" if by.get("reason") else ""
    left = both(*left_at(backend))
    return f"{short_actor(by.get('actor'))}{said}" + (f"; {left} left" if left else "")


def _last_check(backend: Answer) -> Words:
    checks = items(backend, "checks")
    if not checks:
        return Words((NONE, DIM))
    passed = checks[0].get("passed")
    sign = ("✓", GREEN) if passed else ("✗", RED)
    took = f" {milliseconds(checks[0]['ms'])}" if checks[0].get("ms") is not None else ""
    return Words(sign, f" {text_of(checks[0], 'what')}{took}")


def _or_dim(text: str) -> Words:
    return Words((text, DIM if text in ("0", NONE) else ""))


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("pool", nargs="?", metavar="POOL", help="only those of this pool")
    add("-o", "--output", choices=["wide"], help="with address, tunnels, shares, connections, last check and reason")
    add("--problems", action="store_true", help="only those that are not plainly ready")
    add("-q", "--quiet", action="store_true", help="names only, one a line; with -o wide: tab-separated, no header")


VERBS = (Verb("backends", "backends [POOL]", "every backend with state, load and times", _arguments, run),)
