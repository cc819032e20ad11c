"""Lines of a worker for the log of its parent: gathered for a moment, and bounded, each one and all of them."""

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import LogLevel, formatEvent

# For so long they are gathered, in seconds, and at most so many.
GATHER_S: Final = 0.05
MOST_LINES: Final = 1000
# Of a longer one, a traceback say, its beginning and its end are told, which say what went wrong and how; in characters.
_BEGINNING: Final = 500
_END: Final = 1500
_CUT: Final = " […] "

# Level, namespace and text.
LogLine = tuple[str, str, str]


def line_of(event: dict[str, Any]) -> LogLine | None:
    """The line of an event of the log; None where it has no text."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}"
    if not text:
        return None
    if len(text) > _BEGINNING + _END:
        text = f"{text[:_BEGINNING]}{_CUT}{text[-_END:]}"
    return event.get("log_level", LogLevel.info).name, str(event.get("log_namespace", "")), text


class Lines:
    """Lines that wait to be sent. `send` takes them; `later` calls after so many seconds."""

    def __init__(
        self, send: Callable[[list[LogLine]], object], later: Callable[[float, Callable[[], None]], object]
    ) -> None:
        self._send: Final = send
        self._later: Final = later
        self._waiting: list[LogLine] = []
        self._dropped: int = 0

    def add(self, line: LogLine) -> None:
        """Have a line sent soon, or counted as dropped where too many wait."""
        if not self._waiting:
            self._later(GATHER_S, self.flush)
        if len(self._waiting) < MOST_LINES:
            self._waiting.append(line)
        else:
            self._dropped += 1

    def take(self) -> list[LogLine]:
        """All that wait: they are the caller's now."""
        lines, self._waiting = self._waiting, []
        if self._dropped:
            lines.append(("warn", "twisted_lb.workers", f"{self._dropped} more lines were dropped"))
            self._dropped = 0
        return lines

    def flush(self) -> None:
        """Send all that wait."""
        lines = self.take()
        if lines:
            self._send(lines)
