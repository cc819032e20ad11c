"""Takeovers: a new process takes the listening sockets of the running one, again and again, while clients ask."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Protocol

from ports import free_port

from bad_days import recipes
from bad_days.faults import SOME_TIME
from bad_days.load import load
from bad_days.proxies import Contender, Kind, listened
from bad_days.recipes import Groups, Patience
from bad_days.results import Result, result
from bad_days.stage import Process, Stage, until

CLIENTS = 16
# Instances that start need the machine too.
PAUSE_S = 0.05


class Succession(Protocol):
    """Instances of one contender that follow one another."""

    def first(self) -> None:
        """Start the first one."""

    def next(self) -> None:
        """Start another one; the one before it has gone when this returns."""


def succeeded(stage: Stage, contender: Contender, patience: Patience, *, times: int, meanwhile: int) -> Result:
    """So many takeovers in a row, each after so many answers more; half of the clients come on new connections."""
    backends = stage.backends(2)
    port = free_port()
    groups = [(port, [one.address for one in backends])]
    instances = SUCCESSIONS[contender.kind](stage, contender, groups, patience)
    instances.first()
    until(lambda: listened(port), "the first one listens")
    with load([port] * CLIENTS, SOME_TIME, lambda _: PAUSE_S, anew=CLIENTS // 2) as seen:
        seen.wait_for_answers(CLIENTS)
        began_at = time.monotonic()
        for _ in range(times):
            instances.next()
            seen.wait_for_answers(meanwhile)
        took_s = time.monotonic() - began_at
    return result(seen, gap_s=round(seen.gap_s, 3), note=f"{times} takeovers, one in {took_s / times:.2f} s")


class OurSuccession:
    """`takeover = PATH`: the new instance asks the running one for its sockets, which then drains."""

    def __init__(self, stage: Stage, contender: Contender, groups: Groups, patience: Patience) -> None:
        words = recipes.ours(contender.program, stage.folder, groups, patience)
        self._words = [*words, "--takeover", stage.folder / "takeover"]
        self._stage = stage
        self._running: Process

    def first(self) -> None:
        self._running = self._stage.start(self._words)

    def next(self) -> None:
        old, self._running = self._running, self._stage.start(self._words)
        until(lambda: _has_left(old, self._running), "the next one has taken over")
        if "Traceback" in old.log:
            raise RuntimeError(old.log)


class HaproxySuccession:
    """`-x SOCKET -sf PID`: the same, over its stats socket."""

    def __init__(self, stage: Stage, contender: Contender, groups: Groups, patience: Patience) -> None:
        self._socket = stage.folder / "stats"
        config = stage.folder / "haproxy.conf"
        stats = f"global\n  stats socket {self._socket} level admin expose-fd listeners\n"
        text = recipes.haproxy_config(groups, patience)
        # Else clients that are idle at that moment are closed while they ask.
        text = text.replace("  mode http\n", "  mode http\n  option idle-close-on-response\n", 1)
        config.write_text(text + stats)
        self._words: list[object] = [contender.program, "-db", "-f", config]
        self._stage = stage
        self._running: Process

    def first(self) -> None:
        self._running = self._stage.start(self._words)

    def next(self) -> None:
        old = self._running
        self._running = self._stage.start([*self._words, "-x", self._socket, "-sf", old.popen.pid])
        until(lambda: _has_left(old, self._running), "the next one has taken over")


def _has_left(old: Process, new: Process) -> bool:
    if new.popen.poll() is not None:
        raise RuntimeError(new.log)
    return old.popen.poll() is not None


class NginxSuccession:
    """USR2: the running master starts the new one, which inherits its sockets; QUIT ends the old one gracefully.

    It must be a daemon: in the foreground it takes USR2 for one that came too early, and ignores it.
    """

    def __init__(self, stage: Stage, contender: Contender, groups: Groups, patience: Patience) -> None:
        self._pid_file = stage.folder / "pid"
        config = stage.folder / "nginx.conf"
        config.write_text(recipes.nginx_config(stage.folder, groups, patience).replace("daemon off;", ""))
        self._words: list[object] = [contender.program, "-c", config]
        self._stage = stage

    def first(self) -> None:
        self._stage.ends.callback(self._end)
        self._stage.start(self._words)
        until(lambda: self._pid() is not None, "it runs")

    def next(self) -> None:
        old = self._pid()
        os.kill(old, signal.SIGUSR2)
        until(lambda: self._pid() not in (None, old), "the new master runs")
        os.kill(old, signal.SIGQUIT)
        until(lambda: _gone(old), "the old master has gone")

    def _pid(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            return int(self._pid_file.read_text())
        return None

    def _end(self) -> None:
        pid = self._pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            until(lambda: _gone(pid), "it has ended")


def _gone(pid: int) -> bool:
    """Ended, also if nobody has asked for its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


SUCCESSIONS = {Kind.OURS: OurSuccession, Kind.HAPROXY: HaproxySuccession, Kind.NGINX: NginxSuccession}
