"""The wall clock steps by an hour under a proxy: what should end still ends in its time, and nothing else does.

A library that is loaded before libc (LD_PRELOAD) adds the number in a file to what libc says of the wall clock.
"""

import contextlib
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bad_days.load import Answer, Ask, asked_anew
from bad_days.proxies import Contender, Kind, Proxy, listened
from bad_days.recipes import Patience
from bad_days.results import Case, Result, result_of, side_by_side
from bad_days.stage import Backend, Stage, until

GCC = shutil.which("gcc")
HOUR_S = 3600
# What does not happen within so long never does.
PATIENCE_S = 10.0
# More than a time's own length: a machine with few cores, ticks and the rounds of checks.
SLACK_S = 1.5
FALL = 3
STOPS = {Kind.OURS: signal.SIGTERM, Kind.HAPROXY: signal.SIGUSR1, Kind.NGINX: signal.SIGQUIT}

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
static long step(void) {
    static volatile long *seconds;
    if (!seconds) {
        int fd = open(getenv("STEP_FILE"), O_RDONLY);
        seconds = mmap(0, sizeof *seconds, PROT_READ, MAP_SHARED, fd, 0);
    }
    return *seconds;
}
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec += step();
    return done;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def compiled_shim(folder: Path) -> Path:
    """The library, made in this folder."""
    (folder / "step.c").write_text(SHIM)
    subprocess.run([GCC, "-shared", "-fPIC", "-O1", "-o", folder / "step.so", folder / "step.c", "-ldl"], check=True)
    return folder / "step.so"


class WallClock:
    """The wall clock of the processes that were started with its `environment`."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self._file = folder / "step"
        self._file.write_bytes(struct.pack("l", 0))
        self._file.chmod(0o644)
        self.environment = {"STEP_FILE": str(self._file), "LD_PRELOAD": str(shim)}

    def step(self, seconds: int) -> None:
        """To so many seconds ahead of the machine's."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("l", seconds))


def stepped(
    stage: Stage, contender: Contender, patience: Patience, *, steps_s: tuple[int, ...], slow_s: float
) -> Result:
    """Each step on a proxy of its own; `slow_s` is how long an answer takes that may not be cut."""
    shim = compiled_shim(stage.folder)
    found: dict[str, Case] = {}
    for step_s in steps_s:
        wing = stage.wing()
        world = Stepping(wing, contender, patience, WallClock(wing.folder, shim))
        direction = "back" if step_s < 0 else "ahead"
        cases = {f"an hour {direction}: {title}": case for title, case in world.cases(slow_s)}
        world.clock.step(step_s)
        found |= side_by_side(cases)
        found[f"an hour {direction} in a drain: it ends"] = world.drained(2 * step_s, slow_s)
    return result_of(found)


class Stepping:
    """A proxy on a wall clock that can be stepped, and what goes on with it meanwhile."""

    def __init__(self, stage: Stage, contender: Contender, patience: Patience, clock: WallClock) -> None:
        self.clock = clock
        self._contender = contender
        self._patience = patience
        self._backends = stage.backends(2)
        addresses = [one.address for one in self._backends]
        self._proxy: Proxy = contender.start(stage, [addresses], patience, clock.environment)
        self._ends = stage.ends
        for backend in self._backends:
            until(lambda one=backend: asked_anew(self._proxy.port).backend == one.name, "both answer")

    def cases(self, slow_s: float) -> Iterator[tuple[str, Callable[[], Case]]]:
        """All of it has begun when this is over; each waits for its end."""
        p = self._patience
        half = self._connection(b"GET / HTTP/1.1\r\nHost:")
        yield "half a head is ended", partial(_closes, half, time.monotonic(), p.head_s)
        idle = self._connection(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        idle.recv(65536)
        yield "an idle client's connection is closed", partial(_closes, idle, time.monotonic(), p.keep_s)
        yield "a slow answer is not cut", _awaited(self._proxy.port, f"/?delay={slow_s}", slow_s)
        yield "an answer that flows is not cut", _awaited(self._proxy.port, f"/?last={slow_s}", slow_s)
        time.sleep(0.2)  # until what was sent is where it goes
        yield "checks find a backend that fails", self._check_case()

    def _connection(self, sent: bytes) -> socket.socket:
        sock = self._ends.enter_context(socket.create_connection(("127.0.0.1", self._proxy.port)))
        sock.settimeout(PATIENCE_S)
        sock.sendall(sent)
        return sock

    def _check_case(self) -> Callable[[], Case]:
        if not self._contender.checks:
            return lambda: Case(cannot="has no active checks")
        return partial(_found_out, self._proxy, self._backends[0], FALL * self._patience.check_s)

    def drained(self, step_s: int, slow_s: float) -> Case:
        """How long after its last answer it is gone, if the clock steps while it waits for that."""
        wait = _awaited(self._proxy.port, f"/?delay={slow_s}", slow_s)
        time.sleep(0.2)
        self._proxy.process.signal(STOPS[self._contender.kind])
        until(lambda: not listened(self._proxy.port), "the drain begins")
        self.clock.step(step_s)
        last = wait()
        if last.took_s is None:
            return last
        answered_at = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._proxy.process.popen.wait(PATIENCE_S)
            return Case(took_s=_since(answered_at), within_s=SLACK_S)
        return _never(SLACK_S)


def _since(began_at: float) -> float:
    return round(time.monotonic() - began_at, 1)


def _never(within_s: float) -> Case:
    return Case(within_s=within_s, note=f"not in {PATIENCE_S:g} s")


def _closes(sock: socket.socket, began_at: float, after_s: float) -> Case:
    """Until the proxy says something, or closes."""
    with sock, contextlib.suppress(TimeoutError):
        with contextlib.suppress(ConnectionResetError):
            sock.recv(65536)
        return Case(took_s=_since(began_at), within_s=after_s + SLACK_S)
    return _never(after_s + SLACK_S)


def _awaited(port: int, path: str, takes_s: float) -> Callable[[], Case]:
    """A request that is under way; what it comes to."""
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(asked_anew(port, Ask(path=path))), daemon=True)
    asking.start()

    def case() -> Case:
        asking.join()
        answer = answers[0]
        within_s = takes_s + SLACK_S
        if answer.error:
            note = f"{answer.error} after {answer.took_s:.1f} s"
            return Case(1, {answer.error: 1}, within_s=within_s, note=note)
        return Case(1, took_s=round(answer.took_s, 1), within_s=within_s)

    return case


def _found_out(proxy: Proxy, backend: Backend, after_s: float) -> Case:
    """Until nobody gets answers of a backend that fails; both are asked by turns."""
    backend.order("fail")
    began_at = time.monotonic()
    good = 0
    while time.monotonic() < began_at + PATIENCE_S:
        good = 0 if asked_anew(proxy.port).error else good + 1
        if good == 10:
            return Case(took_s=_since(began_at), within_s=after_s + SLACK_S)
        time.sleep(0.02)
    return _never(after_s + SLACK_S)
