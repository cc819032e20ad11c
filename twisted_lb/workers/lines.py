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
# So many at a time: a text of AMP has 65,535 bytes at most, and a character up to four.
_AT_ONCE: Final = 8


def line_of(event: dict[str, Any]) -> str:
    """Level, namespace and text of an event of the log; empty where it has no text."""
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}\n{failure.getTraceback()}"
    if not text:
        return ""
    text = text.replace("\0", "\\0")
    if len(text) > _BEGINNING + _END:
        text = f"{text[:_BEGINNING]}{_CUT}{text[-_END:]}"
    return f"{event.get('log_level', LogLevel.info).name} {event.get('log_namespace', '')} {text}"


class Lines:
    """Lines that wait to be sent. `send` takes some, with a null between them; `later` calls after so many seconds."""

    def __init__(self, send: Callable[[str], object], later: Callable[[float, Callable[[], None]], object]) -> None:
        self._send: Final = send
        self._later: Final = later
        self._waiting: list[str] = []
        self._dropped: int = 0

    def add(self, line: str) -> None:
        """Have a line sent soon, or counted as dropped where too many wait."""
        if not self._waiting:
            self._later(GATHER_S, self.flush)
        if len(self._waiting) < MOST_LINES:
            self._waiting.append(line)
        else:
            self._dropped += 1

    def take(self) -> list[str]:
        """All that wait: they are the caller's now."""
        lines, self._waiting = self._waiting, []
        if self._dropped:
            lines.append(f"warn twisted_lb.workers {self._dropped} more lines were dropped")
            self._dropped = 0
        return lines

    def flush(self) -> None:
        """Send all that wait."""
        lines = self.take()
        for first in range(0, len(lines), _AT_ONCE):
            self._send("\0".join(lines[first : first + _AT_ONCE]))
