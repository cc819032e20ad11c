"""Names of backends as they are typed: `app/b3`, a unique `b3`, or a glob."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.session import items, text_of
from twisted_lb.ctl.text import did_you_mean

_GLOB = "*?["


def backends_of(status: Answer) -> list[Answer]:
    """All backends, in the order of the file."""
    return [backend for pool in items(status, "pools") for backend in items(pool, "backends")]


def resolve(backends: Sequence[Answer], typed: Iterable[str]) -> list[Answer]:
    """The backends that are meant, each once and in the order of the file; Failure for a name that means none."""
    meant = {text_of(one, "name") for name in typed for one in _meant(backends, name)}
    return [one for one in backends if text_of(one, "name") in meant]


def pool_of(status: Answer, name: str) -> Answer:
    """A pool by its name; Failure where there is none."""
    pools = {text_of(pool, "name"): pool for pool in items(status, "pools")}
    if name not in pools:
        raise Failure(Status.NO_SUCH_NAME, f'there is no pool "{name}"{_hint(name, pools)}')
    return pools[name]


def _meant(backends: Sequence[Answer], name: str) -> list[Answer]:
    for key in ("name", "backend"):
        found = [one for one in backends if text_of(one, key) == name]
        if len(found) > 1:
            choice = " or ".join(text_of(one, "name") for one in found)
            raise Failure(Status.NO_SUCH_NAME, f'there is more than one backend "{name}": {choice}')
        if found:
            return found
    if any(sign in name for sign in _GLOB):
        for key in ("name", "backend"):
            if found := [one for one in backends if fnmatchcase(text_of(one, key), name)]:
                return found
        raise Failure(Status.NO_SUCH_NAME, f'no backend matches "{name}"')
    known = [text_of(one, key) for key in ("name", "backend") for one in backends]
    raise Failure(Status.NO_SUCH_NAME, f'there is no backend "{name}"{_hint(name, known)}')


def _hint(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known)
