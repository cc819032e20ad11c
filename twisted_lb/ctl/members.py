"""`lbctl add`, `remove` and `reset`: who belongs to a pool, and an end to all runtime changes."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any, Final

from twisted_lb.ctl.client import Answer, path_of
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.names import backends_of, pool_of, resolve
from twisted_lb.ctl.numbers import whole
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, part, text_of
from twisted_lb.ctl.steering import (
    UNSENT_S,
    backend_path,
    body_of,
    force_argument,
    names_argument,
    reason_argument,
    refuse_whole_pools,
    state_arguments,
    weight_typed,
)
from twisted_lb.ctl.text import BOLD, Words, both, plural

_PRIORITY: Final = whole(0, 128, "a priority")


def _run_add(session: Session, arguments: Namespace) -> int:
    """Add a backend to a pool."""
    pool = pool_of(session.status(), arguments.pool)
    body = body_of(arguments, address=arguments.address)
    given = {key: getattr(arguments, key) for key in ("name", "weight", "priority")}
    body |= {key: value for key, value in given.items() if value is not None}
    body |= {"backup": True} if arguments.backup else {}
    body |= {"labels": dict(arguments.label)} if arguments.label else {}
    answer = session.api.ask("POST", path_of("pools", text_of(pool, "name"), "backends"), body=body)
    backend = part(answer, "backend")
    if session.console.as_json:
        session.console.say_json(answer)
    else:
        state = text_of(backend, "state")
        session.console.say(Words((text_of(backend, "name"), BOLD), f": added, {text_of(backend, 'address')}; {state}"))
    return Status.DONE


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ArgumentTypeError(f"a label is NAME=VALUE, not {text!r}")
    return name, value


def _run_remove(session: Session, arguments: Namespace) -> int:
    """Remove backends, each in its turn."""
    ending: int = Status.DONE
    status = session.status()
    meant = resolve(backends_of(status), arguments.names)
    if not arguments.force:
        refuse_whole_pools(status, meant)
    for backend in meant:
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
    query: dict[str, Any] = {"reason": arguments.reason} if arguments.reason else {}
    query |= {"force": 1} if arguments.force else {}
    if not arguments.names:
        answer = session.api.ask("DELETE", "/v1/changes", query)
        _say_reset(session, answer, "")
        return Status.DONE
    status = session.status()
    known = [*backends_of(status), *(_gone(change) for change in items(status, "changes"))]
    unique = list({text_of(one, "name"): one for one in reversed(known)}.values())[::-1]
    for backend in resolve(unique, arguments.names):
        answer = session.api.ask("DELETE", backend_path(backend, "changes"), query)
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


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("pool", metavar="POOL")
    parser.add_argument("address", metavar="ADDRESS", help="HOST:PORT or unix:PATH")
    parser.add_argument("--name", help="how it is called; its address, if not given")
    parser.add_argument("--weight", type=weight_typed, metavar="N")
    parser.add_argument("--priority", type=_PRIORITY, metavar="N", help="its level; 0 is the first")
    parser.add_argument("--backup", action="store_true", help="used only while no other one is usable")
    parser.add_argument("--label", type=_label, action="append", metavar="NAME=VALUE", help="may be repeated")
    reason_argument(parser)


def _remove_arguments(parser: ArgumentParser) -> None:
    state_arguments(parser)


def _reset_arguments(parser: ArgumentParser) -> None:
    names_argument(parser, "*")
    reason_argument(parser)
    force_argument(parser)


VERBS = (
    Verb("add", "add POOL ADDRESS", "one more backend", _add_arguments, _run_add),
    Verb(
        "remove", "remove NAME…", "no longer a backend; what runs goes on (--wait 30s)", _remove_arguments, _run_remove
    ),
    Verb("reset", "reset [NAME…]", "drop runtime changes", _reset_arguments, _run_reset),
)
