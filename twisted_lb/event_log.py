"""The event log: state changes of backends and pools as log lines, one each, with the reason."""

from twisted.logger import Logger

from twisted_lb.core.events import Event

_log = Logger()


def log_event(event: Event) -> None:
    """Log one event of the core."""
    _log.info("{event}", event=event)
