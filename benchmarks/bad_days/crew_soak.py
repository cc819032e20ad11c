"""A soak of workers: clients of all kinds, while workers are killed, hang and are told to end, files reloaded, backends drained and weighed,
the wall clock stepped, and the program upgraded where it can be; after each round a quiet moment in which nothing of it may be left.
"""

import dataclasses
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ports import free_port

from bad_days.all_kinds import Crowd, Lost, Ports
from bad_days.clock import GCC, HOUR_S, WallClock, compiled_shim
from bad_days.growing import Scrapes
from bad_days.proxies import Contender, listens
from bad_days.soak import WARM_PART, grown
from bad_days.stage import Backend, Process, Stage
from bad_days.stage import until as until_within
from twisted_lb.workers.table import CAME, WENT, Table

ROUND_S = 20.0
# Longer than any conversation of a client on a slow machine: who drains loses nobody.
DRAIN_S = 40
# What may be more in the last third than in the first, behind the warm-up. Proportional set size moves as pages are shared.
SLACK = {
    "parent_pss_kib": 6144,
    "oldest_pss_kib": 8192,
    "parent_descriptors": 2,
    "oldest_descriptors": 2,
    "cells": 0,
    "in_transit": 0,
    "lives": 0,
}

CONFIG = """
[admin]
socket = "{folder}/admin.sock"
[log]
file = "{folder}/access.log"
format = "json"
[timeouts]
drain_s = {drain_s}
[defaults.pool.timeouts]
connect_s = {connect_s}
[listeners.web]
address = "127.0.0.1:{ports.http}"
default_pool = "app"
[listeners.tls]
address = "127.0.0.1:{ports.tls}"
default_pool = "app"
tls = "self-signed"
[listeners.carried]
address = "127.0.0.1:{ports.tcp}"
protocol = "tcp"
default_pool = "carried"
[pools.app]
backends = [{backends}]
policy = "{policy}"
max_in_flight = {most}
health_check = {{ interval_s = 0.5, timeout_s = 10 }}
[pools.carried]
backends = [{backends}]
health_check = {{ interval_s = 0 }}
"""
# A worker that dies again and again is followed by the next one within half a minute.
until = partial(until_within, patience_s=120.0)
VARIANTS = (("least", 0), ("p2c", 12), ("rr", 0), ("least", 6))


@dataclasses.dataclass(frozen=True)
class Soaked:
    """What a soak of workers saw: what was done, what clients got, what they lost that nobody could save (`killed`) and what else
    (`lost`), what went back among the counters, and a sample for each quiet moment.
    """

    seconds: int
    done: dict[str, int]
    answered: dict[str, int]
    killed: list[Lost]
    lost: list[Lost]
    back: list[tuple[str, float, float]]
    wrong: list[str]
    counted: float
    uncounted_most: int
    longest_s: float
    over_100_ms: float
    scrapes: int
    samples: list[dict[str, float]]

    @property
    def faults(self) -> list[str]:
        """What may not be; nothing: it passed."""
        found = [f"lost: {one}" for one in self.lost] + [f"went back: {one}" for one in self.back] + self.wrong
        for sample in self.samples:
            found += [
                f"{sample[name]:g} {name} at {sample['second']} s" for name in ("cells", "in_transit") if sample[name]
            ]
        requests = sum(count for kind, count in self.answered.items() if kind not in ("session", "tunnel"))
        if self.counted < requests - self.uncounted_most:
            found.append(f"{requests} requests were answered and {self.counted:.0f} counted")
        return found

    @property
    def growth(self) -> list[str]:
        """What is not flat after the warm-up; says something after some minutes."""
        return grown(self.samples[1 + int(len(self.samples) * WARM_PART) :], SLACK)


class Crewed:
    """A balancer with workers, its file and its door."""

    def __init__(self, stage: Stage, contender: Contender, workers: int) -> None:
        self.backends: list[Backend] = stage.backends(3)
        self.workers = workers
        self.folder = stage.folder
        self.ports = Ports(free_port(), free_port(), free_port())
        self.door = str(stage.folder / "admin.sock")
        self.variant = 0
        self._file = stage.folder / "lb.toml"
        self.write()
        self.clock = None if GCC is None else WallClock(stage.folder, compiled_shim(stage.folder))
        self._lbctl = contender.program.with_name("lbctl")
        self.upgrades = (
            " upgrade " in subprocess.run([self._lbctl, "--help"], capture_output=True, text=True, check=True).stdout
        )
        environment = {} if self.clock is None else self.clock.environment
        words = [contender.program, "--nodaemon", "--pidfile=", "lb", "--config", self._file, "--workers", workers]
        self.process: Process = stage.start(words, environment=environment)
        until(lambda: listens(self.ports.http, self.process), "it listens")
        until(self.complete, "all workers serve")

    def write(self) -> None:
        """Replace the file by its next variant."""
        policy, most = VARIANTS[self.variant % len(VARIANTS)]
        backends = ", ".join(f'"{one.address}"' for one in self.backends)
        new = self._file.with_suffix(".new")
        new.write_text(
            CONFIG.format(
                folder=self.folder, drain_s=DRAIN_S, connect_s=4 + self.variant % 2, ports=self.ports, backends=backends,
                policy=policy, most=most,
            )
        )  # fmt: skip
        new.replace(self._file)
        self.variant += 1

    def ask(self, path: str, method: str = "GET", body: object = None) -> str:
        """An answer of the door; RuntimeError for one that is no 200."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(self.door)
            connection = http.client.HTTPConnection("x")
            connection.sock = sock
            headers = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            said = response.read().decode()
        if response.status != 200:
            raise RuntimeError(f"{method} {path}: {response.status} {said}")
        return said

    def scrape(self) -> str:
        return self.ask("/metrics")

    def crew(self) -> list[dict[str, Any]]:
        """A row for each worker."""
        return json.loads(self.ask("/v1/status"))["workers"]

    def serving(self) -> dict[int, int]:
        """The process of each slot that has one that serves."""
        return {one["slot"]: one["pid"] for one in self.crew() if one["state"] == "serves"}

    def complete(self) -> bool:
        return sorted(self.serving()) == list(range(self.workers))

    def lbctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        known = [self._lbctl, "--admin", f"unix:{self.door}"]
        return subprocess.run([*known, *words], capture_output=True, text=True, check=False)

    @property
    def pid(self) -> int:
        return self.process.popen.pid

    def had(self, pid: int) -> set[tuple[int, int]]:
        """The connections of clients of a process that stands still: the port of the listener, and the client's. The kernel's table is read
        thrice: what is read page by page, while others come and go, may lack one.
        """
        own, listeners = sockets_of(pid), dataclasses.astuple(self.ports)
        found = [one for _ in range(3) for one in connections().items()]
        return {(port, other) for inode, (port, other, _) in found if inode in own and port in listeners}

    def kill(self, pid: int) -> set[tuple[int, int]]:
        """Kill a worker; whom it had. It stands still before, so that these are all."""
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state_of(pid) in "TZ", "it stands still")
        had = self.had(pid)
        os.kill(pid, signal.SIGKILL)
        return had


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(link)[len("socket:[") : -1])
        except OSError:  # closed meanwhile
            continue
    return found


def connections() -> dict[str, tuple[int, int, str]]:
    """By inode the own port, the other end's, and the state of each connection: proc_net_tcp(5)."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        own, other = (int(words[n].rpartition(":")[2], 16) for n in (1, 2))
        found[words[9]] = own, other, words[3]
    return found


# The quiet moment.


def sample_of(crewed: Crewed, second: int) -> dict[str, float]:
    """What is there when nobody is: TimeoutError where something stays."""
    table = _table_of(crewed)
    until(crewed.complete, "all workers serve")
    until(lambda: len(_children(crewed.pid)) == crewed.workers, "those that have left have ended")

    def quiet() -> bool:
        crew = crewed.crew()
        return not any(one["connections"] or one["in_flight"] for one in crew) and not any(_in_transit(table))

    try:
        until(quiet, "nobody is there")
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {crewed.crew()}, in transit {_in_transit(table)}") from None
    oldest = min(crewed.crew(), key=lambda one: -one["uptime_s"])["pid"]
    return {
        "second": second,
        "parent_pss_kib": _pss_kib(crewed.pid),
        "oldest_pss_kib": _pss_kib(oldest),
        "workers_pss_kib": sum(map(_pss_kib, _children(crewed.pid))),
        "parent_descriptors": _lasting(crewed.pid),
        "oldest_descriptors": _lasting(oldest),
        "cells": sum(cell != 0 for row in table.lives for cell in row[:1024]),
        "in_transit": sum(map(abs, _in_transit(table))),
        "lives": len(_children(crewed.pid)),
    }


def _table_of(crewed: Crewed) -> Table:
    """The table that parent and workers share, mapped here too."""
    for link in Path(f"/proc/{crewed.pid}/fd").iterdir():
        try:
            found = "memfd:twisted_lb table" in os.readlink(link)
        except OSError:
            continue
        if found:
            fd = os.open(link, os.O_RDWR)
            try:
                return Table(fd, crewed.workers, 2 * crewed.workers + 4)
            finally:
                os.close(fd)
    raise RuntimeError("the parent has no table")


def _in_transit(table: Table) -> list[int]:
    """By slot: connections that others have handed on, and nobody has taken in."""
    return [sum(row[WENT + slot] for row in table.slots) - own[CAME] for slot, own in enumerate(table.slots)]


def _children(pid: int) -> list[int]:
    return [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()]


def _pss_kib(pid: int) -> int:
    """Memory, a page that several have counted in parts: proc_pid_smaps(5)."""
    return int(re.search(r"(?m)^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[1])


def _lasting(pid: int) -> int:
    """Descriptors, less those of connections that are kept for the next request."""
    kept = {inode for inode, (_, _, state) in connections().items() if state in ("01", "08")}
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) - len(kept & sockets_of(pid))


# What happens.


class Trouble:
    """Whoever does all this, at random, from a seed. `done` counts it; `had` are the connections of those that were killed."""

    def __init__(self, crewed: Crewed, rng: random.Random) -> None:
        self._crewed, self._rng = crewed, rng
        self.done: Counter[str] = Counter()
        self.had: set[tuple[int, int]] = set()
        self.wrong: list[str] = []
        self.uncounted_most = 0
        self.spared: set[int] = set()  # slots
        self._acts: list[Callable[[Crowd], None]] = (
            [self.kill] * 4 + [self.reload] * 3 + [self.drain] * 2 + [self.weigh] * 2 + [self.tell, self.hang]
        )
        if crewed.clock is not None:
            self._acts.append(self.step)
        if crewed.upgrades:
            self._acts += [self.upgrade] * 2

    def run(self, crowd: Crowd, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            act = self._rng.choice(self._acts)
            act(crowd)
            time.sleep(self._rng.uniform(0.1, 2.0))

    def kill(self, crowd: Crowd) -> None:
        serving = self._crewed.serving()
        victims = [pid for slot, pid in serving.items() if slot not in self.spared]
        if len(serving) < 2 or not victims:
            return
        # What was answered before somebody asks what has been counted is counted.
        before = crowd.requests
        self._crewed.scrape()
        self.had |= self._crewed.kill(self._rng.choice(victims))
        self.uncounted_most += crowd.requests - before
        self.done["workers killed"] += 1

    def tell(self, _: Crowd) -> None:
        """SIGTERM: it drains, and another one takes its place."""
        victims = [pid for slot, pid in self._crewed.serving().items() if slot not in self.spared]
        if victims:
            os.kill(self._rng.choice(victims), signal.SIGTERM)
            self.done["workers told to end"] += 1

    def hang(self, _: Crowd) -> None:
        """SIGSTOP for a while, at times for longer than it takes its parent to see that: another one accepts then, and nobody is lost."""
        victims = list(self._crewed.serving().values())
        if len(victims) > 1:
            pid = self._rng.choice(victims)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._rng.choice((0.5, 2.0, 6.0)))
            os.kill(pid, signal.SIGCONT)
            self.done["workers that hung"] += 1

    def reload(self, _: Crowd) -> None:
        self._crewed.write()
        said = self._crewed.process.log.count("connections cut: ")
        self._crewed.process.signal(signal.SIGHUP)
        until(lambda: self._crewed.process.log.count("connections cut: ") > said, "the reload is over")
        self.done["reloads"] += 1

    def _backend(self) -> str:
        return f"/v1/backends/app/{self._rng.choice(self._crewed.backends).address}"

    def drain(self, _: Crowd) -> None:
        path = self._backend()
        self._crewed.ask(f"{path}?wait=5s", "PATCH", {"admin": self._rng.choice(("drain", "maint"))})
        self._crewed.ask(path, "PATCH", {"admin": "ready"})
        self.done["drains"] += 1

    def weigh(self, _: Crowd) -> None:
        self._crewed.ask(self._backend(), "PATCH", {"weight": self._rng.randrange(1, 10)})
        self.done["weights"] += 1

    def step(self, _: Crowd) -> None:
        assert self._crewed.clock is not None
        self._crewed.clock.step(self._rng.choice((-HOUR_S, -1, 0, 1, HOUR_S)))
        self.done["clock steps"] += 1

    def upgrade(self, _: Crowd) -> None:
        said = self._crewed.lbctl("upgrade")
        if said.returncode != 0:
            self.wrong.append(f"an upgrade was refused: {said.stdout} {said.stderr}")
        self.done["upgrades"] += 1


def soak_crew(stage: Stage, contender: Contender, *, workers: int, seconds: int, round_s: float = ROUND_S) -> Soaked:
    """Rounds until the time is over, at least three. The first worker is spared after the warm-up, to be seen growing old."""
    crewed = Crewed(stage, contender, workers)
    pid = crewed.pid
    trouble = Trouble(crewed, random.Random(seconds))
    scrapes = Scrapes(crewed.scrape, 0.5)
    answered: Counter[str] = Counter()
    lost: list[Lost] = []
    waits: list[float] = []
    began = time.monotonic()
    samples = [sample_of(crewed, 0)]
    number = 0
    while number < 3 or time.monotonic() - began < seconds:
        if time.monotonic() - began > WARM_PART * seconds:
            trouble.spared = {0}
        crowd = Crowd(crewed.ports, number)
        trouble.run(crowd, min(round_s, seconds / 3))
        crowd.stop()
        answered += crowd.answered
        lost += crowd.lost
        waits += crowd.waits
        samples.append(sample_of(crewed, round(time.monotonic() - began)))
        number += 1
    scrapes.stop()
    # While a program takes the place of another one its door may be shut for a moment.
    wrong = trouble.wrong + ([] if trouble.done["upgrades"] else scrapes.failed)
    if crewed.process.popen.poll() is not None or crewed.pid != pid:
        wrong.append("the parent has ended")
    family = _children(pid)
    crewed.process.signal(signal.SIGTERM)
    crewed.process.popen.wait(DRAIN_S + 20)
    wrong += [f"process {one} is left" for one in family if Path(f"/proc/{one}").exists()]
    wrong += re.findall(r"(?m)^.*(?:Traceback|Unhandled|critical).*$", crewed.process.log)
    return Soaked(
        seconds=samples[-1]["second"],
        done=dict(trouble.done),
        answered=dict(answered),
        killed=[one for one in lost if (one.listener, one.port) in trouble.had],
        lost=[one for one in lost if (one.listener, one.port) not in trouble.had],
        back=scrapes.back,
        wrong=wrong,
        counted=sum(value for name, value in scrapes.last.items() if name.startswith("twisted_lb_requests_total")),
        uncounted_most=trouble.uncounted_most,
        longest_s=max(waits, default=0.0),
        over_100_ms=sum(wait > 0.1 for wait in waits) / max(1, len(waits)),
        scrapes=scrapes.times,
        samples=samples,
    )
