"""Names of backends as they are typed: `app/b3`, a unique `b3`, or a glob.

A backend whose name has several addresses has an endpoint for each, `b3@10.0.0.1:80`: the name alone means all of them.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.session import items, number_of, text_of
from twisted_lb.ctl.text import did_you_mean

_GLOB = "*?["


def backends_of(status: Answer) -> list[Answer]:
    """All backends, in the order of the file."""
    return [backend for pool in items(status, "pools") for backend in items(pool, "backends")]


def resolve(backends: Sequence[Answer], typed: Iterable[str]) -> list[Answer]:
    """The backends that are meant, each once and in the order of the file; Failure for a name that means none."""
    meant = {text_of(one, "name") for name in typed for one in _meant(backends, name)}
    every = [*configured(backends), *(one for one in backends if _base(one))]
    return [one for one in every if text_of(one, "name") in meant]


def configured(backends: Sequence[Answer]) -> list[Answer]:
    """Backends as they are configured: those with several endpoints as one."""
    found: dict[str, list[Answer]] = {}
    for one in backends:
        base = _base(one)
        found.setdefault(f"{text_of(one, 'pool')}/{base}" if base else text_of(one, "name"), []).append(one)
    return [together(members, name) if _base(members[0]) else members[0] for name, members in found.items()]


def together(members: Sequence[Answer], name: str) -> Answer:
    """Endpoints as the backend that they are endpoints of: one that is usable makes all of it so."""
    worst = next((one for one in members if text_of(one, "state") != "ready"), members[0])
    return worst | {
        "name": name,
        "backend": name.removeprefix(f"{text_of(members[0], 'pool')}/"),
        "in_flight": sum(number_of(one, "in_flight") for one in members),
        "tunnels": sum(number_of(one, "tunnels") for one in members),
        "usable": any(one.get("usable") for one in members),
        "endpoints": [text_of(one, "name") for one in members],
    }


def endpoints_of(backend: Answer) -> list[str]:
    """The names that the API gives a backend: its own, or those of its endpoints."""
    found = backend.get("endpoints")
    return list(found) if isinstance(found, list) else [text_of(backend, "name")]


def pool_of(status: Answer, name: str) -> Answer:
    """A pool by its name; Failure where there is none."""
    pools = {text_of(pool, "name"): pool for pool in items(status, "pools")}
    if name not in pools:
        raise Failure(Status.NO_SUCH_NAME, f'there is no pool "{name}"{did_you_mean(name, pools)}')
    return pools[name]


def listener_of(status: Answer, name: str) -> Answer:
    """A listener by its name; Failure where there is none."""
    listeners = {text_of(one, "name"): one for one in items(status, "listeners")}
    if name not in listeners:
        raise Failure(Status.NO_SUCH_NAME, f'there is no listener "{name}"{did_you_mean(name, listeners)}')
    return listeners[name]


def _base(backend: Answer) -> str:
    """The backend that this one is an endpoint of; empty where it is none."""
    return text_of(backend, "backend").rpartition("@")[0]


def _meant(backends: Sequence[Answer], name: str) -> list[Answer]:
    whole = configured(backends)
    for among, key in ((whole, "name"), (backends, "name"), (whole, "backend"), (backends, "backend")):
        found = [one for one in among if text_of(one, key) == name]
        if len(found) > 1:
            choice = " or ".join(text_of(one, "name") for one in found)
            raise Failure(Status.NO_SUCH_NAME, f'there is more than one backend "{name}": {choice}')
        if found:
            return found
    if any(sign in name for sign in _GLOB):
        for among, key in ((whole, "name"), (whole, "backend"), (backends, "name"), (backends, "backend")):
            if found := [one for one in among if fnmatchcase(text_of(one, key), name)]:
                return found
        raise Failure(Status.NO_SUCH_NAME, f'no backend matches "{name}"')
    known = [text_of(one, key) for key in ("name", "backend") for one in whole]
    raise Failure(Status.NO_SUCH_NAME, f'there is no backend "{name}"{did_you_mean(name, known)}')
