"""`lbctl drain`, `maint`, `ready`, `weight` and `limit`: changes of what runs, until the next one."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted_lb.ctl.client import Answer, path_of
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.names import backends_of, endpoints_of, resolve, together
from twisted_lb.ctl.numbers import whole
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, part, text_of
from twisted_lb.ctl.text import BOLD, Words, seconds_typed
from twisted_lb.ctl.waiting import Waiting

# What an operator wants, as the API calls it -> how the state is called in which a backend is then.
STATES: Final = {"drain": "drained", "maint": "maint", "ready": "ready"}
# What follows of it, for sure, when the API has answered.
_CERTAIN: Final = {
    "drain": "no new request can arrive now",
    "maint": "no new request can arrive now, and nobody checks it",
    "ready": "new requests may arrive",
}
# A weight is at most that, and so is a limit.
_MOST: Final = 256
_MOST_LIMIT: Final = 1_000_000
weight_typed: Final = whole(0, _MOST, "a weight")
_number: Final = whole(0, _MOST_LIMIT, "a limit, if not adaptive,")
# The API answers when no new request can arrive: it waits for those whose connection is just being made.
UNSENT_S: Final = 30.0


def limit_typed(text: str) -> int | str:
    """An argument that is a limit: a number, or `adaptive`."""
    return text if text == "adaptive" else _number(text)


def _certain(answer: Answer, wanted: str) -> str:
    keeps_own = wanted == "drain" and number_of(part(answer, "backend"), "keeps_own_s") > 0
    return "no new client can come now" if keeps_own else _CERTAIN[wanted]


def backend_path(backend: Answer, *more: str) -> str:
    """The path of a backend in the API."""
    return path_of("backends", text_of(backend, "pool"), text_of(backend, "backend"), *more)


def _set_state(session: Session, arguments: Namespace, wanted: str) -> int:
    """Ask for a state of some backends, and wait where that was asked for."""
    status = session.status()
    meant = resolve(backends_of(status), arguments.names)
    if wanted != "ready" and not arguments.force:
        refuse_whole_pools(status, meant)
    began = session.clock.monotonic()
    answers, ending = [], Status.DONE
    for backend in meant:
        try:
            body = body_of(arguments, admin=wanted)
            answer = session.api.ask("PATCH", backend_path(backend), body=body, wait_s=UNSENT_S)
            answers.append(_as_asked(answer, backend))
        except Failure as failure:
            if len(meant) == 1 or failure.status == Status.NOT_REACHED:
                raise
            session.console.complain(failure.sentence, *failure.more)
            ending = Status(failure.status)
    return max(_changed(session, arguments, answers, wanted, began), ending)


def _as_asked(answer: Answer, backend: Answer) -> Answer:
    """An answer about the backend that was named, where that has several endpoints."""
    members = items(answer, "backends")
    return answer | {"backend": together(members, text_of(backend, "name"))} if members else answer


def _changed(session: Session, arguments: Namespace, answers: Sequence[Answer], wanted: str, began: float) -> int:
    console = session.console
    if not console.as_json:
        for answer in answers:
            _say_state(session, answer, wanted, waits=arguments.wait is not None)
    if arguments.wait is None:
        over = False
    else:
        words = " ".join(["lbctl", wanted, *map(_quoted, arguments.names), "--wait"])
        waiting = Waiting(session, answers, wanted, arguments.wait, began, words)
        over = waiting.run()
    if console.as_json:
        for answer in answers:
            console.say_json(answer | ({"time_over": over} if arguments.wait is not None else {}))
    return Status.TIME_OVER if over else Status.DONE


def _say_state(session: Session, answer: Answer, wanted: str, *, waits: bool) -> None:
    console, backend = session.console, part(answer, "backend")
    name = text_of(backend, "name")
    changes = [_as_states(change) for change in lines_of(answer, "changes")]
    if not changes:
        console.say(f"{name}: is {STATES[wanted]} already")
        return
    if not console.terminal:
        console.say(f"{name}: {', '.join(changes)}")
        return
    console.say(Words((name, BOLD), f": {', '.join(changes)}; {_certain(answer, wanted)}"))
    # What goes on is the progress of a wait.
    follows = [one for one in lines_of(answer, "follows") if not waits or not one.endswith((" go on", " goes on"))]
    if follows:
        console.say(f"{' ' * len(name)}  {'; '.join(follows)}")


def _as_states(change: str) -> str:
    """`ready → drained` of `ready → drain`: what somebody wants is called as the state is that follows."""
    return " → ".join(STATES.get(one, one) for one in change.split(" → "))


def refuse_whole_pools(status: Answer, meant: Sequence[Answer]) -> None:
    """Failure where several backends together are the last usable ones of a pool: it is not found out at the last one."""
    names = {name for one in meant for name in endpoints_of(one)}
    for pool in items(status, "pools"):
        usable = {text_of(one, "name") for one in items(pool, "backends") if one.get("usable")}
        if usable and usable <= names and len(meant) > 1:
            rate = f" ({number_of(pool, 'rate'):.0f} a second now)" if pool.get("rate") else ""
            name = text_of(pool, "name")
            raise Failure(
                Status.REFUSED,
                f"refused: {_last_ones(sorted(usable))} of {name}; every request to {name} "
                f"would be refused{rate}. Nothing was changed.",
                "All the same: --force",
            )


def _last_ones(names: Sequence[str]) -> str:
    """Who they are: all of few."""
    if len(names) == 1:
        return f"{names[0]} is the last usable backend"
    named = ", ".join(names) if len(names) <= 8 else f"these {len(names)}"
    return f"{named} are the last usable backends"


def body_of(arguments: Namespace, **changes: Any) -> Answer:
    """The body of a change: what is wanted, and why."""
    body = dict(changes)
    if getattr(arguments, "reason", None):
        body["reason"] = arguments.reason
    if getattr(arguments, "force", False):
        body["force"] = True
    return body


def _quoted(word: str) -> str:
    return word if word.replace("/", "").replace("-", "").replace("_", "").replace(".", "").isalnum() else f"'{word}'"


def _run_state(wanted: str) -> Callable[[Session, Namespace], int]:
    return lambda session, arguments: _set_state(session, arguments, wanted)


def _run_weight(session: Session, arguments: Namespace) -> int:
    """Give backends a weight."""
    status = session.status()
    meant = resolve(backends_of(status), arguments.names)
    if not arguments.weight and not arguments.force:
        refuse_whole_pools(status, meant)
    for backend in meant:
        body = body_of(arguments, weight=arguments.weight)
        answer = session.api.ask("PATCH", backend_path(backend), body=body, wait_s=UNSENT_S)
        _say_change(session, _as_asked(answer, backend), f"has weight {arguments.weight} already")
    return Status.DONE


def _run_limit(session: Session, arguments: Namespace) -> int:
    """Give backends a limit of requests in flight."""
    meant = resolve(backends_of(session.status()), arguments.names)
    for backend in meant:
        answer = session.api.ask("PATCH", backend_path(backend), body=body_of(arguments, limit=arguments.limit))
        _say_change(session, _as_asked(answer, backend), f"has limit {arguments.limit} already")
    return Status.DONE


def _say_change(session: Session, answer: Answer, unchanged: str) -> None:
    if session.console.as_json:
        session.console.say_json(answer)
        return
    name = text_of(part(answer, "backend"), "name")
    changes, follows = lines_of(answer, "changes"), lines_of(answer, "follows")
    session.console.say(Words((name, BOLD), f": {', '.join(changes) or unchanged}"))
    if follows and session.console.terminal:
        session.console.say(f"{' ' * len(name)}  {'; '.join(follows)}")


def duration_typed(typed: str) -> float:
    """An argument that is a duration."""
    try:
        return seconds_typed(typed)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def names_argument(parser: ArgumentParser, some: str = "+") -> None:
    """Names of backends."""
    parser.add_argument("names", nargs=some, metavar="NAME", help="pool/backend, a unique backend, or a glob: 'app/b*'")


def reason_argument(parser: ArgumentParser) -> None:
    """Why it is done."""
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept, and shown to all who look")


def state_arguments(parser: ArgumentParser) -> None:
    """Those of all verbs that take backends out."""
    names_argument(parser)
    reason_argument(parser)
    wait_argument(parser)
    force_argument(parser)


def _ready_arguments(parser: ArgumentParser) -> None:
    names_argument(parser)
    reason_argument(parser)
    parser.add_argument("--wait", type=duration_typed, metavar="TIME", help="until it is usable, that long at most")
    parser.set_defaults(force=False)


def wait_argument(parser: ArgumentParser) -> None:
    """How long to wait until backends are empty."""
    parser.add_argument(
        "--wait", type=duration_typed, metavar="TIME", help="until it is empty, that long at most: 30s, 5m"
    )


def force_argument(parser: ArgumentParser) -> None:
    """Whether also the last one."""
    parser.add_argument("--force", action="store_true", help="also the last usable backend of its pool")


def _weight_arguments(parser: ArgumentParser) -> None:
    names_argument(parser)
    parser.add_argument("weight", type=weight_typed, metavar="N", help="0: no new requests")
    reason_argument(parser)
    force_argument(parser)


def _limit_arguments(parser: ArgumentParser) -> None:
    names_argument(parser)
    parser.add_argument(
        "limit", type=limit_typed, metavar="N", help="0: no bound; adaptive: learnt; what is beyond it goes on"
    )
    reason_argument(parser)


VERBS = (
    Verb(
        "drain",
        "drain NAME…",
        "no new requests; running ones go on (--wait 30s)",
        state_arguments,
        _run_state("drain"),
    ),
    Verb("maint", "maint NAME…", "drain, and no checks", state_arguments, _run_state("maint")),
    Verb("ready", "ready NAME…", "back again", _ready_arguments, _run_state("ready")),
    Verb("weight", "weight NAME… N", "another share of new requests", _weight_arguments, _run_weight),
    Verb("limit", "limit NAME… N", "at most so many requests at a time", _limit_arguments, _run_limit),
)
