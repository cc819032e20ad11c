"""Real processes for the end-to-end tests: started from the environment under test, ended by pid whatever happens."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ports import free_port

BIN = Path(sys.executable).parent
PATIENCE_S = 60.0


def until(condition: Callable[[], bool], what: str = "") -> None:
    """Wait, for as long as a machine may be slow, until something is so."""
    ends_at = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends_at, f"never happened: {what or condition}"
        time.sleep(0.01)


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


PROGRAMS = {"twistd": ["--nodaemon", "--pidfile="], "twist": ["--log-format=text"]}


class Running:
    """A twistd, or a twist, in the foreground; its log is in a file."""

    def __init__(self, folder: Path, name: str, words: list[str], program: str = "twistd") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"{name}.log"
        self._out = self.log_file.open("ab")
        self.process = subprocess.Popen(
            [BIN / program, *PROGRAMS[program], *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for(self, pattern: str, times: int = 1) -> None:
        until(lambda: len(re.findall(pattern, self.log)) >= times, f"{pattern!r} in the log:\n{self.log}")

    def memory_kib(self) -> int:
        """Resident memory."""
        return self._memory("VmRSS")

    def most_memory_kib(self) -> int:
        """The most that it was since `forget_most_memory`."""
        return self._memory("VmHWM")

    def forget_most_memory(self) -> None:
        """The most is what it is now: proc(5)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1])

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_S)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._out.close()


class Stage:
    """Everything a test started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Running] = []
        self.others: list[subprocess.Popen] = []

    def twistd(self, name: str, *words: str, program: str = "twistd") -> Running:
        running = Running(self.folder, name, list(words), program)
        self.running.append(running)
        return running

    def backend(self, port: int | None = None, name: str | None = None) -> "tuple[Running, int]":
        port = free_port() if port is None else port
        name = name or f"be-{port}"
        running = self.twistd(name, "be", "-p", str(port), "--interface", "127.0.0.1", "--name", name)
        until(lambda: listening(port), f"backend on {port}")
        return running, port

    def balancer(self, *words: str, program: str = "twistd") -> "tuple[Running, int]":
        port = free_port()
        running = self.twistd("lb", "lb", "-p", str(port), "--interface", "127.0.0.1", *words, program=program)
        until(lambda: listening(port) or running.process.poll() is not None, "the balancer")
        assert running.process.poll() is None, running.log
        return running, port

    def close(self) -> None:
        for other in self.others:
            if other.poll() is None:
                other.kill()
                other.communicate()
        for running in self.running:
            running.end()


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    one = Stage(folder)
    try:
        yield one
    finally:
        one.close()


INT = signal.SIGINT
TERM = signal.SIGTERM
KILL = signal.SIGKILL
