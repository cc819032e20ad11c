"""The wait for running exchanges when a balancer stops: bounded, and ended by a second signal."""

import signal
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from twisted_lb.net.engine import Engine

# How often the end is looked for.
_LOOK_S: Final = 0.02

_log = Logger()


def drained(engine: Engine, reactor_: Any, most_s: float) -> Deferred[None]:
    """Fires when no client is left, after `most_s` seconds, or at a second signal."""
    done: Deferred[None] = Deferred()
    ends_at = reactor_.seconds() + most_s
    restore = _on_signal(reactor_, lambda: look(hurry=True))

    def look(*, hurry: bool = False) -> None:
        waiting = bool(engine.downstreams) or engine.exchanges > 0
        if waiting and not hurry and reactor_.seconds() < ends_at:
            return
        if looking.running:
            looking.stop()
            restore()
            if waiting:
                _log.warn(
                    "drain ended with {clients} clients and {exchanges} exchanges cut",
                    clients=len(engine.downstreams),
                    exchanges=engine.exchanges,
                )
            done.callback(None)

    looking = LoopingCall(look)
    looking.clock = reactor_
    looking.start(_LOOK_S)
    return done


def _on_signal(reactor_: Any, hurry: Callable[[], None]) -> Callable[[], None]:
    """While draining, let SIGINT and SIGTERM call `hurry`; returns what puts the old handlers back.

    Only where the reactor installed its own handlers, which would merely complain that it is stopping already.
    """
    old: dict[int, Any] = {}
    call = reactor_.callFromThread
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        installed_by: Any = getattr(handler, "__self__", None)
        if installed_by is not reactor_:
            continue
        old[number] = handler
        signal.signal(number, lambda *_: call(hurry))

    def restore() -> None:
        for number, handler in old.items():
            signal.signal(number, handler)

    return restore
