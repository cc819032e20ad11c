"""Watching files: whether what they say is another thing than when they were read (ConfigMap, atomic rename, editors)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb.config.files import digest_at as digest

# How often files are looked at. Their content is read, since a symlink that is swapped changes nothing that a directory
# watch would tell, and a time stamp nothing that matters.
LOOK_S: Final = 1.0
# For so long they must say the same before it counts: who writes several, or one in pieces, is not done in between.
QUIET_S: Final = 0.2

__all__ = ["Digests", "Watch", "digest"]

_log = Logger()

# By path, the SHA-256 of what is in a file; empty where it cannot be read.
Digests = dict[str, str]


class Watch:
    """A watch over files, from `start` to `stop`. `changed` is called once for each new state that has lasted QUIET_S.

    `read` are the files with the digests of what was read there, as they are known now: the SHA-256 in hexadecimal, empty where
    there was nothing to read. A file that comes to them counts as one that says something else.
    """

    def __init__(self, read: Callable[[], Mapping[str, str]], time: IReactorTime, changed: Callable[[], None]) -> None:
        self._read: Final = read
        self._time: Final = time
        self._changed: Final = changed
        self._known: Digests = {}
        self._seen: Digests | None = None  # another state, which has to last
        self._again: IDelayedCall | None = None
        self._looking: Final = LoopingCall(self._look)
        self._looking.clock = time

    def start(self) -> None:
        """Watch from now on. Harmless when it does."""
        if not self._looking.running:
            self.settle()
            self._looking.start(LOOK_S, now=False).addErrback(
                lambda failure: _log.failure("files are not watched any more", failure=failure)
            )

    def stop(self) -> None:
        """Watch no more. Harmless when it does not."""
        if self._looking.running:
            self._looking.stop()
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._seen = None

    def settle(self) -> None:
        """What was read is what is known from now on."""
        self._known = dict(self._read())
        self._seen = None

    def tried(self, files: Mapping[str, str]) -> None:
        """These were read, and what they say may not be in force: it is known all the same. Whatever else is watched by now
        and was not before is known as it was read.
        """
        self._known = {**{path: self._known.get(path, was) for path, was in self._read().items()}, **files}

    def _look(self) -> None:
        now = self._now()
        if now == self._known:
            self._seen = None
        elif now != self._seen:
            self._seen = now
            if self._again is None:
                self._again = self._time.callLater(QUIET_S, self._look_again)
        elif self._again is None:
            self._known, self._seen = now, None
            self._changed()

    def _look_again(self) -> None:
        self._again = None
        self._look()

    def _now(self) -> Digests:
        return {path: digest(Path(path)) for path in self._read()}
