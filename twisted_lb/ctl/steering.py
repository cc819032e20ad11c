"""`lbctl drain`, `maint`, `ready`, `weight`, `add`, `remove` and `reset`: changes of what runs, until the next one."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted_lb.ctl.client import Answer, path_of
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.names import backends_of, pool_of, resolve
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, part, text_of
from twisted_lb.ctl.text import BOLD, Words, both, plural, seconds_typed
from twisted_lb.ctl.waiting import Waiting

# What an operator wants, as the API calls it -> how the state is called in which a backend is then.
STATES: Final = {"drain": "drained", "maint": "maint", "ready": "ready"}
# What follows of it, for sure, when the API has answered.
_CERTAIN: Final = {
    "drain": "no new request can arrive now",
    "maint": "no new request can arrive now, and nobody checks it",
    "ready": "new requests may arrive",
}
# A weight is at most that.
_MOST: Final = 256
# The API answers when no new request can arrive: it waits for those whose connection is just being made.
UNSENT_S: Final = 30.0


def backend_path(backend: Answer, *more: str) -> str:
    """The path of a backend in the API."""
    return path_of("backends", text_of(backend, "pool"), text_of(backend, "backend"), *more)


def _set_state(session: Session, arguments: Namespace, wanted: str) -> int:
    """Ask for a state of some backends, and wait where that was asked for."""
    status = session.status()
    meant = resolve(backends_of(status), arguments.names)
    if wanted != "ready" and not arguments.force:
        _refuse_whole_pools(status, meant)
    began = session.clock.monotonic()
    answers, ending = [], Status.DONE
    for backend in meant:
        try:
            body = _body(arguments, admin=wanted)
            answers.append(session.api.ask("PATCH", backend_path(backend), body=body, wait_s=UNSENT_S))
        except Failure as failure:
            if len(meant) == 1 or failure.status == Status.NOT_REACHED:
                raise
            session.console.complain(failure.sentence, *failure.more)
            ending = Status(failure.status)
    return max(_changed(session, arguments, answers, wanted, began), ending)


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
    console.say(Words((name, BOLD), f": {', '.join(changes)}; {_CERTAIN[wanted]}"))
    # What goes on is the progress of a wait.
    follows = [one for one in lines_of(answer, "follows") if not waits or not one.endswith((" go on", " goes on"))]
    if follows:
        console.say(f"{' ' * len(name)}  {'; '.join(follows)}")


def _as_states(change: str) -> str:
    """`ready → drained` of `ready → drain`: what somebody wants is called as the state is that follows."""
    return " → ".join(STATES.get(one, one) for one in change.split(" → "))


def _refuse_whole_pools(status: Answer, meant: Sequence[Answer]) -> None:
    """Failure where several backends together are the last usable ones of a pool: it is not found out at the last one."""
    names = {text_of(one, "name") for one in meant}
    for pool in items(status, "pools"):
        usable = {text_of(one, "name") for one in items(pool, "backends") if one.get("usable")}
        if len(usable) > 1 and usable <= names:
            rate = f" ({number_of(pool, 'rate'):.0f} a second now)" if pool.get("rate") else ""
            name = text_of(pool, "name")
            raise Failure(
                Status.REFUSED,
                f"refused: {', '.join(sorted(usable))} are the last usable backends of {name}; every request to {name} "
                f"would get a 503{rate}. Nothing was changed.",
                "All the same: --force",
            )


def _body(arguments: Namespace, **changes: Any) -> Answer:
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
    meant = resolve(backends_of(session.status()), arguments.names)
    for backend in meant:
        answer = session.api.ask("PATCH", backend_path(backend), body=_body(arguments, weight=arguments.weight))
        _say_change(session, answer, f"has weight {arguments.weight} already")
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


def _run_add(session: Session, arguments: Namespace) -> int:
    """Add a backend to a pool."""
    pool = pool_of(session.status(), arguments.pool)
    body = _body(arguments, address=arguments.address)
    body |= {key: value for key in ("name", "weight") if (value := getattr(arguments, key)) is not None}
    answer = session.api.ask("POST", path_of("pools", text_of(pool, "name"), "backends"), body=body)
    backend = part(answer, "backend")
    if session.console.as_json:
        session.console.say_json(answer)
    else:
        state = text_of(backend, "state")
        session.console.say(Words((text_of(backend, "name"), BOLD), f": added, {text_of(backend, 'address')}; {state}"))
    return Status.DONE


def _run_remove(session: Session, arguments: Namespace) -> int:
    """Remove backends, each in its turn."""
    ending: int = Status.DONE
    for backend in resolve(backends_of(session.status()), arguments.names):
        ending = max(ending, _remove(session, arguments, backend))
    return ending


def _remove(session: Session, arguments: Namespace, backend: Answer) -> int:
    query: dict[str, Any] = {"reason": arguments.reason} if arguments.reason else {}
    query |= {"force": 1} if arguments.force else {}
    if arguments.wait is not None:
        query["wait"] = f"{arguments.wait:.3f}s"
    answer = session.api.ask("DELETE", backend_path(backend), query, wait_s=UNSENT_S + (arguments.wait or 0))
    over = bool(answer.get("time_over"))
    if session.console.as_json:
        session.console.say_json(answer)
    else:
        name = text_of(answer, "removed", text_of(backend, "name"))
        session.console.say(Words((name, BOLD), f": removed{_what_is_left(answer, arguments.wait)}"))
    return Status.TIME_OVER if over else Status.DONE


def _what_is_left(answer: Answer, wait_s: float | None) -> str:
    left = part(answer, "left")
    requests, tunnels = int(number_of(left, "requests")), int(number_of(left, "tunnels"))
    said = both(requests, tunnels)
    if answer.get("time_over"):
        return f"; {wait_s:g} s are over; left: {said}"
    if not said:
        return "; empty" if wait_s is not None else ""
    return f"; {said} {'goes' if requests + tunnels == 1 else 'go'} on"


def _run_reset(session: Session, arguments: Namespace) -> int:
    """Drop runtime changes: those of some backends, or all."""
    if not arguments.names:
        answer = session.api.ask("DELETE", "/v1/changes")
        _say_reset(session, answer, "")
        return Status.DONE
    status = session.status()
    known = [*backends_of(status), *(_gone(change) for change in items(status, "changes"))]
    unique = list({text_of(one, "name"): one for one in reversed(known)}.values())[::-1]
    for backend in resolve(unique, arguments.names):
        answer = session.api.ask("DELETE", backend_path(backend, "changes"))
        _say_reset(session, answer, f"{text_of(backend, 'name')}: ")
    return Status.DONE


def _gone(change: Answer) -> Answer:
    """A backend that is there no more, because a runtime change has removed it; that can be reset too."""
    name = text_of(change, "subject")
    pool, _, backend = name.partition("/")
    return {"name": name, "pool": pool, "backend": backend}


def _say_reset(session: Session, answer: Answer, whose: str) -> None:
    if session.console.as_json:
        session.console.say_json(answer)
        return
    changes = lines_of(answer, "changes")
    told = f"{plural(len(changes), 'runtime change')} dropped: {', '.join(changes)}" if changes else "nothing to reset"
    session.console.say(f"{whose}{told}")


def duration_typed(typed: str) -> float:
    """An argument that is a duration."""
    try:
        return seconds_typed(typed)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _weight_typed(typed: str) -> int:
    if not (typed.isascii() and typed.isdigit() and int(typed) <= _MOST):
        raise ArgumentTypeError(f"a weight is a whole number from 0 to {_MOST}, not {typed!r}")
    return int(typed)


def _names(parser: ArgumentParser, some: str = "+") -> None:
    parser.add_argument("names", nargs=some, metavar="NAME", help="pool/backend, a unique backend, or a glob: 'app/b*'")


def _reason(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", help="why; it is kept, and shown to all who look")


def _state_arguments(parser: ArgumentParser) -> None:
    _names(parser)
    _reason(parser)
    _wait(parser)
    _force(parser)


def _ready_arguments(parser: ArgumentParser) -> None:
    _names(parser)
    _reason(parser)
    parser.add_argument("--wait", type=duration_typed, metavar="TIME", help="until it is usable, that long at most")
    parser.set_defaults(force=False)


def _wait(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--wait", type=duration_typed, metavar="TIME", help="until it is empty, that long at most: 30s, 5m"
    )


def _force(parser: ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="also the last usable backend of its pool")


def _weight_arguments(parser: ArgumentParser) -> None:
    _names(parser)
    parser.add_argument("weight", type=_weight_typed, metavar="N", help="0: no new requests")
    _reason(parser)
    _force(parser)


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL")
    parser.add_argument("address", metavar="ADDRESS", help="HOST:PORT or unix:PATH")
    parser.add_argument("--name", help="how it is called; its address, if not given")
    parser.add_argument("--weight", type=_weight_typed, metavar="N")
    _reason(parser)


def _remove_arguments(parser: ArgumentParser) -> None:
    _state_arguments(parser)


def _reset_arguments(parser: ArgumentParser) -> None:
    _names(parser, "*")


VERBS = (
    Verb(
        "drain",
        "drain NAME…",
        "no new requests; running ones go on (--wait 30s)",
        _state_arguments,
        _run_state("drain"),
    ),
    Verb("maint", "maint NAME…", "drain, and no checks", _state_arguments, _run_state("maint")),
    Verb("ready", "ready NAME…", "back again", _ready_arguments, _run_state("ready")),
    Verb("weight", "weight NAME… N", "another share of new requests", _weight_arguments, _run_weight),
    Verb("add", "add POOL ADDRESS", "one more backend", _add_arguments, _run_add),
    Verb(
        "remove", "remove NAME…", "no longer a backend; what runs goes on (--wait 30s)", _remove_arguments, _run_remove
    ),
    Verb("reset", "reset [NAME…]", "drop runtime changes", _reset_arguments, _run_reset),
)
