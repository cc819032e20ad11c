"""A graceful stop: a time of grace, and the drain: the wait for running exchanges, bounded, with what is waited for in the log."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

# How often the end of a drain is looked for.
_LOOK_S: Final = 0.02
# A look that comes so late follows a pause of the whole process (a machine that was suspended, SIGSTOP).
_PAUSE_S: Final = 1.0
# How often a long one says what it still waits for.
_SAY_S: Final = 60.0
# For the close frame of a WebSocket's client to come back before the end; of a short drain a quarter.
_GOOD_BYE_S: Final = 1.0
# Clients of tunnels come back at once, and not all at the same moment where there is time: of a drain of more than a minute they are
# told within its last tenth, of a longer one within its last minute.
_SPREAD_S: Final = 60.0
_SPREAD_PART: Final = 0.1
_TELL_S: Final = 1.0

_log = Logger()


class Drained(Protocol):
    """What is drained."""

    @property
    def clients(self) -> int:
        """How many clients are connected, or have a request under way that a resource brought."""

    @property
    def exchanges(self) -> int:
        """How many exchanges run, tunnels included."""

    @property
    def tunnels(self) -> int:
        """How many of them are tunnels."""

    def tell_good_bye(self, part: float) -> None:
        """Tell such a part of the clients of tunnels that we go away, those that were told before among them."""


class Drain:
    """A drain, from its beginning: `done` fires when nobody is left, after `most_s` seconds, or at `hurry`.

    Shortly before its end the clients of tunnels are told good-bye, of a long one a few at a time. Whoever is left then is the caller's to cut. After a pause
    of the whole process it ends a look later: what has come meanwhile is read first.
    """

    def __init__(self, drained: Drained, time: IReactorTime, most_s: float) -> None:
        self.done: Final[Deferred[None]] = Deferred()
        self._drained: Final = drained
        self._time: Final = time
        self._began: Final = time.seconds()
        self._ends_at: Final = self._began + most_s
        self._good_bye_at: Final = self._ends_at - min(_GOOD_BYE_S, most_s / 4)
        spread_s = min(_SPREAD_S, most_s * _SPREAD_PART) if most_s > _SPREAD_S else 0.0
        self._tell_from: Final = self._good_bye_at - spread_s
        self._tell_at: float = self._tell_from
        self._said_good_bye: bool = False
        self._say_at: float = self._began + _SAY_S
        self._looked_at: float = self._began
        self._graced: bool = False
        self._say("drain begins: {waits_for}, at most {most_s:g} s", most_s=most_s)
        self._looking: Final = LoopingCall(self._look)
        self._looking.clock = time
        self._looking.start(_LOOK_S)

    def hurry(self) -> None:
        """End the drain: it has lasted long enough."""
        self._end()

    def _look(self) -> None:
        now = self._time.seconds()
        self._graced = now - self._looked_at > _PAUSE_S and not self._graced
        self._looked_at = now
        if not self._waiting or (now >= self._ends_at and not self._graced):
            self._end()
            return
        if now >= self._good_bye_at:
            self._tell_good_bye()
        elif now >= self._tell_at:
            self._tell_at = now + _TELL_S
            self._drained.tell_good_bye((now - self._tell_from) / (self._good_bye_at - self._tell_from))
        if now >= self._say_at:
            self._say_at += _SAY_S
            self._say("drain goes on after {since_s:g} s: {waits_for}", since_s=round(now - self._began))

    @property
    def _waiting(self) -> bool:
        return bool(self._drained.clients or self._drained.exchanges)

    def _tell_good_bye(self) -> None:
        if not self._said_good_bye:
            self._said_good_bye = True
            self._drained.tell_good_bye(1.0)

    def _end(self) -> None:
        if not self._looking.running:
            return
        self._looking.stop()
        if self._waiting:
            self._tell_good_bye()
            _log.warn("drain ended after {took_s} s, cut: {cut}", took_s=self._took_s, cut=_names(self._drained))
        else:
            _log.info("drain ended after {took_s} s, nothing was cut", took_s=self._took_s)
        self.done.callback(None)

    @property
    def _took_s(self) -> float:
        return round(self._time.seconds() - self._began, 1)

    def _say(self, line: str, **values: object) -> None:
        waits_for = f"waits for {_names(self._drained)}" if self._waiting else "nobody is there"
        _log.info(line, waits_for=waits_for, **values)


def _names(drained: Drained) -> str:
    """What is waited for, in words: `2 clients, 1 exchange, 1 tunnel`."""
    tunnels = drained.tunnels
    counts = {"client": drained.clients, "exchange": drained.exchanges - tunnels, "tunnel": tunnels}
    return ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items() if count)


class Grace:
    """The time of grace of a stop: not ready any more, and still accepting, until whoever sends clients has noticed.

    `done` fires after `grace_s` seconds, at once where they are 0, or at `hurry`: with whether somebody was in a hurry.
    `later(delay_s, call)` makes the call once.
    """

    def __init__(self, later: Callable[[float, Callable[[], None]], Any], grace_s: float) -> None:
        self.done: Final[Deferred[bool]] = Deferred()
        self._timer: Any = None
        if grace_s:
            _log.info("not ready any more, accepting for {grace_s:g} s (ready_grace_s)", grace_s=grace_s)
            self._timer = later(grace_s, lambda: self._end(hurried=False))
        else:
            self.done.callback(False)

    def hurry(self) -> None:
        """End it now. Harmless when it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._end(hurried=True)

    def _end(self, *, hurried: bool) -> None:
        self._timer = None
        self.done.callback(hurried)
