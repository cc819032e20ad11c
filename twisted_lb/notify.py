"""What a service manager is told: sd_notify(3), and its watchdog."""

import os
import socket
import time
from collections.abc import Mapping
from typing import Final

from twisted.logger import Logger

_log = Logger()


class Notify:
    """The service manager that has started this process, if one has (NOTIFY_SOCKET); all else is nothing then.

    `watchdog_s`: how often it wants to hear that the process is alive, 0 for never; half of what it waits for.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket is written with an @.
        self._address: Final = "\0" + address[1:] if address.startswith("@") else address
        self._failed: bool = False
        usec = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog_s: Final = int(usec) / 2e6 if address and ours and usec.isdecimal() else 0.0

    def ready(self, *, took_over: bool = False) -> None:
        """The start, or a reload, is over. Who took over is the main process from now on."""
        self._tell("READY=1", *([f"MAINPID={os.getpid()}"] if took_over else []))

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The stop begins."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def alive(self) -> None:
        """The process is alive (watchdog)."""
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warn("the service manager cannot be told: {error}", error=error)
