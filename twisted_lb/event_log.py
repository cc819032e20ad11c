"""The event log: state changes of backends and pools as log lines, one each, with the reason."""

import enum
from dataclasses import fields
from typing import Final

from twisted.logger import Logger, LogLevel

from twisted_lb.core.events import AgentGarbled, Event, PolicyFailed, PolicyHandedOver

_log = Logger()

# What somebody has to mend, and does not end by itself; all else is news.
_WARNINGS: Final = (AgentGarbled, PolicyFailed, PolicyHandedOver)


def log_event(event: Event) -> None:
    """Log one event of the core: what it says, and each of its fields as a plain value, which JSON can hold too."""
    values = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    level = LogLevel.warn if isinstance(event, _WARNINGS) else LogLevel.info
    _log.emit(level, "{event}", event=event, kind=type(event).__name__, **values)


def _plain(value: object) -> object:
    return value.name if isinstance(value, enum.Enum) else value
