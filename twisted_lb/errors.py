"""Errors in one line: what a person reads whose input or port was refused."""

import errno
import os
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NoReturn

from twisted.logger import Logger

_log = Logger()

ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], object]

# How a process ends: what was asked for is wrong (as for argparse and most programs), or it is right and cannot be had.
USAGE_ERROR = 2
START_ERROR = 1

# What the operator can do about it, for the refusals that happen to everybody once.
LISTEN_REFUSALS = {
    errno.EACCES: "permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)",
    errno.EADDRINUSE: "already in use",
    errno.EADDRNOTAVAIL: "not an address of this machine",
}


class ConfigError(ValueError):
    """A configuration that was refused. `problems` are all of them, never empty: `config.problems.Problem`s, or sentences; each
    is one line as a string, and so is the error.
    """

    def __init__(self, problems: Iterable[Any]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(one_line(str(problem)) for problem in self.problems))


class StartError(Exception):
    """A start that cannot succeed, such as a port that is taken; `command` is what was started.

    Raise it `from None`: Twisted prints whatever is chained to it.
    """

    def __init__(self, reason: str, command: str = "lb") -> None:
        super().__init__(one_line(reason))
        self.command = command


def one_line(text: str) -> str:
    """The text on one line, with every character a terminal could act upon escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text.strip())


def fail(command: str, error: Exception | str, status: int = USAGE_ERROR) -> NoReturn:
    """End the process with one line on stderr, and that status; only before twistd has forked.

    SystemExit is the one exception that `twistd`, `twist` and a .tac file let through untouched.
    """
    sys.stderr.write(f"twistd {command}: {one_line(str(error))}\n")
    raise SystemExit(status) from None


def listen_error(where: str, error: Exception, command: str = "lb") -> StartError:
    """The StartError for a refused bind; takes an OSError or Twisted's CannotListenError."""
    cause = getattr(error, "socketError", error)
    code: int = getattr(cause, "errno", None) or 0
    # Name resolution has errors of its own, with numbers below 0.
    reason = LISTEN_REFUSALS.get(code, os.strerror(code)) if code > 0 else str(cause)
    return StartError(f"{where}: {reason}", command)


def called(listener: str, where: str) -> str:
    """An address as messages call it that is a listener's: with its name, unless that is `default`."""
    return where if listener in ("", "default") else f"{where} of listener {listener}"


def report_start_errors() -> None:
    """Print a StartError that ends the process as one line from now on; calling it twice is fine.

    Twisted lets an exception from `privilegedStartService` escape to `sys.excepthook` and, when it has daemonized,
    tells the waiting parent; SystemExit there would leave the parent waiting.
    """
    if not isinstance(sys.excepthook, _OneLine):
        sys.excepthook = _OneLine(sys.excepthook)


class _OneLine:
    """An excepthook for StartError in front of the one that was there."""

    def __init__(self, fallback: ExceptHook) -> None:
        self.fallback = fallback

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, StartError):
            self.fallback(kind, error, trace)
            return
        line = f"twistd {error.command}: {error}"
        # Not critical: before logging has begun, Twisted prints critical events on stderr too.
        _log.error("{line}", line=line)
        if sys.__stderr__ is not None:
            # sys.stderr is Twisted's log by now.
            print(line, file=sys.__stderr__)
