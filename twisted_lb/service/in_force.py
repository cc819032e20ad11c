"""The configuration in force: its values, and where they come from."""

import os
import time
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Final

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.base import KeyPath
from twisted_lb.config.origins import Origins
from twisted_lb.config.secret import hides
from twisted_lb.reload import Source
from twisted_lb.watch import digest


class InForce:
    """What is known of the configuration in force, if it comes from a `source`; of a program's nothing is."""

    def __init__(self, source: Source | None, config: LoadBalancerConfig) -> None:
        self._source: Final = source
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

    def changed_file(self) -> tuple[str, float | None] | None:
        """The file, and for how many seconds it has said something else than what is in force; None without a file."""
        first = next(iter(self._read), None)
        if first is None:
            return None
        changed = [at for path, was in self._read.items() if (at := _changed_at(path, was)) is not None]
        return first, max(0.0, time.time() - min(changed)) if changed else None

    def source_of(self, path: KeyPath) -> str:
        """Where the value at a path comes from; empty where nobody knows."""
        try:
            return "" if self._origins is None else self._origins.of(path)
        except (KeyError, IndexError):
            return ""


def _changed_at(path: str, was: str) -> float | None:
    """Since when a file says another thing than it did; None while it does not, or is not there."""
    try:
        return os.stat(path).st_mtime if digest(Path(path)) != was else None
    except OSError:
        return None


def _of_any(path: KeyPath) -> KeyPath:
    """The path of the same value of any listener, route or pool: whether it is hidden does not depend on their names."""
    return (path[0], "", *path[2:]) if len(path) > 2 and path[0] in ("listeners", "routes", "pools") else path
