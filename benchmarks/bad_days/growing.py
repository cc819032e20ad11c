"""Metrics that may only grow, and what has gone back all the same."""

import http.client
import re
import threading
from collections.abc import Callable

_SAMPLE = re.compile(r"(?m)^([a-z_0-9]+)(\{.*\})? (\S+)$")
_TYPE = re.compile(r"(?m)^# TYPE (\S+) (\S+)$")
_PART = re.compile(r"_(total|bucket|count|sum)$")
# Of a process, and not of what it does: the parent's own.
_PROCESS = ("process_", "python_")


def counters(text: str) -> dict[str, float]:
    """The counters and histograms of an exposition, by name and labels."""
    kinds = dict(_TYPE.findall(text))
    found = {}
    for name, labels, value in _SAMPLE.findall(text):
        family = _PART.sub("", name)
        kind = kinds.get(name) or kinds.get(f"{family}_total") or kinds.get(family)
        if kind in ("counter", "histogram") and not name.startswith(_PROCESS):
            found[name + labels] = float(value)
    return found


class Scrapes(threading.Thread):
    """Metrics, scraped again and again until `stop`; `back`: what has gone back from one to the next. A series that is gone has not."""

    def __init__(self, scrape: Callable[[], str], every_s: float = 0.0) -> None:
        super().__init__(daemon=True)
        self._scrape, self._every_s = scrape, every_s
        self._over = threading.Event()
        self.back: list[tuple[str, float, float]] = []
        self.times = 0
        self.last: dict[str, float] = {}
        self.failed: list[str] = []
        self.start()

    def run(self) -> None:
        while not self._over.wait(self._every_s):
            self.look()

    def look(self) -> None:
        try:
            now = counters(self._scrape())
        except (OSError, http.client.HTTPException) as error:  # nobody has answered, in all this time
            self.failed.append(repr(error))
            return
        self.back += [(name, was, now[name]) for name, was in self.last.items() if now.get(name, was) < was]
        self.last = now
        self.times += 1

    def stop(self) -> None:
        """As it is now is looked at still."""
        self._over.set()
        self.join()
        self.look()
