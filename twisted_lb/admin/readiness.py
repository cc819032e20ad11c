"""Readiness: whether this instance wants traffic, and why not."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from twisted_lb.core.backend import AdminState, Backend
from twisted_lb.core.pool import Pool


class Verdict(NamedTuple):
    """What a probe of `/-/ready` is told; `text` ends with a line feed."""

    ready: bool
    text: str

    @property
    def reason(self) -> str:
        """Why it is not ready, on one line; empty where it is."""
        return "" if self.ready else self.text.partition("\n")[0].removeprefix("not ready: ")


class Readiness:
    """Readiness of the pools at work, as told by `verdict` (readiness probe).

    Not ready: at the start, until the target list of each pool that has one is known (`unlisted` are the other pools), the names
    of all backends were resolved or were found not to be (`unresolved` are the others), and each backend of each checked pool
    has had its first check, for `start_s` seconds at most; while `leaving`; when there are pools and none has a usable backend,
    or one of those that are required has none.
    """

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        seconds: Callable[[], float],
        *,
        start_s: float,
        requires: tuple[str, ...] = (),
        unresolved: Callable[[], Iterable[str]] = tuple,
        unlisted: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.leaving: bool = False
        self._pools: Final = pools
        self._seconds: Final = seconds
        self._starts_until: Final = seconds() + start_s
        self.requires: tuple[str, ...] = requires
        self._unresolved: Final = unresolved
        self._unlisted: Final = unlisted
        self._started: bool = False

    @property
    def starting(self) -> bool:
        """Whether lists, names and first checks are still waited for; once over, it is over for good."""
        if not self._started:
            waiting = any(self._unlisted()) or any(self._unresolved()) or any(self._unknown())
            self._started = self._seconds() >= self._starts_until or not waiting
        return not self._started

    def _unknown(self) -> Iterator[str]:
        """The backends of which no check has told anything yet."""
        for pool in self._pools().values():
            if pool.settings.checked:
                yield from (name for name, backend in pool.backends.items() if _awaited(backend))

    def verdict(self) -> Verdict:
        """Whether traffic is wanted now: one line, and one more that names the pools without a usable backend."""
        pools = self._pools()
        without = [name for name, pool in pools.items() if not any(one.usable for one in pool.backends.values())]
        reason = self._reason(without, nowhere=bool(pools) and len(without) == len(pools))
        text = f"not ready: {reason}\n" if reason else "ready\n"
        if without:
            text += f"without a usable backend: {', '.join(without)}\n"
        return Verdict(not reason, text)

    def _reason(self, without: list[str], *, nowhere: bool) -> str:
        if self.leaving:
            return "stopping"
        if self.starting:
            unlisted = ", ".join(self._unlisted())
            if unlisted:
                return f"starting, no list yet of the backends of {unlisted}"
            unresolved = ", ".join(self._unresolved())
            if unresolved:
                return f"starting, no answer yet for the name {unresolved}"
            return f"starting, no check yet of {', '.join(self._unknown())}"
        missing = [name for name in self.requires if name in without]
        if missing:
            return f"{', '.join(missing)} required"
        return "no pool has a usable backend" if nowhere else ""


def _awaited(backend: Backend) -> bool:
    """Whether a first check of it is to come."""
    return not backend.health.known and backend.admin is not AdminState.MAINT
