"""The configuration in force: its values, and where they come from."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Final

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.base import KeyPath
from twisted_lb.config.origins import Origins
from twisted_lb.config.secret import hides
from twisted_lb.reload import Source
from twisted_lb.watch import digest

# What tells a file from another one, or from itself after it was written: inode, size, and when its content and itself were changed.
_Sign = tuple[int, int, int, int]


class InForce:
    """What is known of the configuration in force, if it comes from a `source`; of a program's nothing is. `named` are the files that it
    names, certificates among them, with the SHA-256 of what was read there, by path.
    """

    def __init__(
        self, source: Source | None, config: LoadBalancerConfig, named: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        self._source: Final = source
        self._named: Final = named
        # By path: how a file was when it was looked into last, what it was compared with, and whether it said something else.
        self._looked: dict[str, tuple[_Sign, str, bool]] = {}
        self._origins: Origins | None = None
        self._read: dict[str, str] = {}  # the files that it was read from, and their SHA-256
        self.note(config)

    def note(self, config: LoadBalancerConfig) -> None:
        """Another one, or the same with other words, is in force from now on."""
        found = None if self._source is None else self._source.origins(config)
        if found is not None or self._source is None:
            self._origins = found
        if found is not None and self._source is not None:
            self._read = {str(path): digest for path, digest in self._source.files().items()}

    def values(self) -> Iterable[tuple[str, object, str]]:
        """All values: key, value, source; secrets are `***`."""
        origins = self._origins
        if origins is None:
            return ()
        hidden = cache(partial(hides, LoadBalancerConfig))
        return (
            (".".join(map(str, path)), "***" if hidden(_of_any(path)) else value, source)
            for path, value, source in origins.every()
        )

    def changed_file(self) -> tuple[str, float | None, str] | None:
        """The file; for how many seconds it, or one that it names, has said something else than what is in force, and which of them has
        for longest; None without a file.
        """
        first = next(iter(self._read), None)
        if first is None:
            return None
        looked, self._looked = self._looked, {}
        changed = [
            (at, path)
            for path, was in {**self._named(), **self._read}.items()
            if (at := self._changed_at(path, was, looked.get(path))) is not None
        ]
        at, path = min(changed, default=(0.0, ""))
        return first, max(0.0, time.time() - at) if changed else None, path

    def _changed_at(self, path: str, was: str, looked: "tuple[_Sign, str, bool] | None") -> float | None:
        """Since when a file says another thing than it did; None while it does not, or is not there. It is read where it is another one
        than when it was looked into last: there may be hundreds, and somebody asks each second.
        """
        try:
            stat = os.stat(path)
            sign = stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
            known = looked is not None and looked[:2] == (sign, was)
            changed = looked[2] if looked is not None and known else digest(Path(path)) != was
        except OSError:
            return None
        self._looked[path] = sign, was, changed
        return stat.st_mtime if changed else None

    def source_of(self, path: KeyPath) -> str:
        """Where the value at a path comes from; empty where nobody knows."""
        try:
            return "" if self._origins is None else self._origins.of(path)
        except (KeyError, IndexError):
            return ""


def _of_any(path: KeyPath) -> KeyPath:
    """The path of the same value of any listener, route or pool: whether it is hidden does not depend on their names."""
    return (path[0], "", *path[2:]) if len(path) > 2 and path[0] in ("listeners", "routes", "pools") else path
