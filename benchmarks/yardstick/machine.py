"""This machine: its cores, an address of our own on it, processes that cannot be left behind, what they have used."""

import contextlib
import os
import platform
import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

PROXY_CORE, LOAD_CORE = (sorted(os.sched_getaffinity(0)) * 2)[:2]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 30.0


def own_address() -> str:
    """A loopback address that no other run on this machine uses: ports can be fixed, and two runs do not meet."""
    pid = os.getpid()
    return f"127.{1 + pid // 62500 % 200}.{1 + pid // 250 % 250}.{1 + pid % 250}"


def settle_here() -> None:
    """This process and what it starts on the load's core; as many descriptors as allowed; an end that is an exception."""
    os.sched_setaffinity(0, {LOAD_CORE})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: exit_on_signal())


def exit_on_signal() -> None:
    """So that every `finally` runs."""
    raise SystemExit("ended by a signal")


class Process:
    """A program on a core, with its children. `stop` ends all of them, and so does the end of this process."""

    def __init__(self, words: Iterable[object], core: int, folder: Path, env: dict[str, str] | None = None) -> None:
        pinned = ["taskset", "-c", str(core), "setpriv", "--pdeathsig", "TERM", "--", *map(str, words)]
        self._log = folder / f"{Path(pinned[7]).name}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(
                pinned,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self.pid = self._popen.pid

    @property
    def ended(self) -> bool:
        """It does not run any more."""
        return self._popen.poll() is not None

    def said(self) -> str:
        """The end of what it printed."""
        return self._log.read_text(errors="replace")[-2000:].strip()

    def stop(self) -> None:
        """End it and whatever it started; it may be over already."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        try:
            self._popen.wait(timeout=1.5)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(timeout=PATIENCE_S)

    def pids(self) -> Iterator[int]:
        """It and its descendants."""
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    waiting += map(int, (task / "children").read_text().split())

    def cpu(self) -> tuple[float, float]:
        """Seconds that all of its processes have used, and the system's part in them, from 0 to 1.

        The sum is read to the nanosecond from the processes' CPU clocks; /proc knows the parts in ticks of 10 ms.
        """
        total = 0.0
        user = system = 0
        for pid in self.pids():
            total += time.clock_gettime(
                ~pid << 3 | 2
            )  # CLOCK_PROCESS_CPUTIME_ID of another process, clock_getcpuclockid(3)
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            system += int(fields[12])
        return total, system / TICKS_PER_S

    def memory(self) -> int:
        """Bytes of all of its processes; what they share counts once."""
        kib = 0
        for pid in self.pids():
            kib += int(re.search(r"^Pss: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)[1])
        return kib * 1024


def output(*words: object) -> str:
    """What a short command prints, on either stream."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def describe() -> dict[str, object]:
    """What a reader must know of this machine to compare."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "system": system[1] if system else platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
