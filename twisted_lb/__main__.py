"""`python -m twisted_lb lb|be OPTIONS`: what `twistd -n lb|be OPTIONS` does, without a pid file."""

import os
import signal
import sys


def _end(number: int, _frame: object) -> None:
    """End at once: nothing has begun. As process 1 of a container, for which no signal has a default action, by status."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


class Interrupt:
    """What SIGINT (Ctrl-C) does until the reactor hears it: the end at once, where Python's own handler would raise
    KeyboardInterrupt in the middle of some import, or in a callback that loses it. The reactor replaces only that one, and so
    this one equals it.
    """

    def __call__(self, number: int, frame: object) -> None:
        """End at once."""
        _end(number, frame)

    def __eq__(self, other: object) -> bool:
        return other is self or other is signal.default_int_handler

    __hash__ = object.__hash__


def _pass(number: int, _frame: object) -> None:
    """Nothing: no log file is open yet that could be reopened."""


class Early:
    """What a signal does until the balancer hears it itself, which asks what `came` meanwhile, and whether the process had a
    terminal then (signals.Signals).
    """

    def __init__(self) -> None:
        self.came = False
        self.terminal = False

    def __call__(self, number: int, _frame: object) -> None:
        """A SIGQUIT is the end, since nothing has begun, and a SIGHUP is kept: its terminal may be seen to be gone only later."""
        if number == signal.SIGQUIT:
            os._exit(0)
        self.came = True
        self.terminal = self.terminal or _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    # Before all that takes time: a container that is stopped while it starts must not wait to be killed, and a reload or a
    # logrotate that comes meanwhile must not end it.
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell has put it into the background
        signal.signal(signal.SIGINT, Interrupt())
    signal.signal(signal.SIGUSR1, _pass)
    signal.signal(signal.SIGUSR2, _pass)
    if sys.argv[1:2] == ["lb"]:  # a backend does not hear these two
        signal.signal(signal.SIGQUIT, Early())
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, Early())

USAGE = """\
usage: python -m twisted_lb lb [-h] -b HOST:PORT [HOST:PORT ...] [...]
       python -m twisted_lb be [-h] [-p PORT] [...]

  lb   the load balancer, in the foreground
  be   a small backend to balance over

Each has its own --help. The same runs as a daemon with twistd: `twistd lb`, `twistd -n lb`.
"""


def main() -> None:
    """Hand the command and its words to twistd's own runner."""
    # Late: SIGTERM is heard before.
    from twisted.scripts import twistd

    from twisted_lb.errors import USAGE_ERROR, one_line
    from twisted_lb.options import version_line

    command, words = sys.argv[1:2], sys.argv[2:]
    if command in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
    elif command == ["--version"]:
        sys.stdout.write(f"{version_line()}\n")
    elif command in (["lb"], ["be"]):
        # Not a daemon, and two of them in one directory share no pid file.
        sys.argv[1:] = ["--nodaemon", "--pidfile=", *command, *words]
        twistd.run()
    else:
        given = f"not {command[0]!r}" if command else "as in python -m twisted_lb lb --help"
        sys.stderr.write(one_line(f"twisted_lb: the command should be lb or be, {given}") + "\n")
        raise SystemExit(USAGE_ERROR)


if __name__ == "__main__":
    main()
