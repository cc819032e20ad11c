"""Real processes for the end-to-end tests: started from the environment under test, ended by pid whatever happens."""

import atexit
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ports import free_port

BIN = Path(sys.executable).parent
FORKERY = Path(__file__).parent / "forkery.py"
PATIENCE_S = 60.0


def until(condition: Callable[[], bool], what: str = "", patience_s: float = PATIENCE_S) -> None:
    """Wait, for as long as a machine may be slow, until something is so."""
    ends_at = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < ends_at, f"never happened: {what or condition}"
        time.sleep(0.01)


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Forked:
    """A process that was forked off one that had imported everything, see `forkery`; to be asked like one of subprocess."""

    _forkery: subprocess.Popen[str] | None = None
    _one_at_a_time = threading.Lock()

    def __init__(self, words: list[str], folder: Path, out: Path) -> None:
        self.args = words
        self.returncode: int | None = None
        self.pid: int = self._ask(
            {"words": words, "folder": str(folder), "out": str(out), "environment": dict(os.environ)}
        )

    @classmethod
    def _ask(cls, what: dict[str, Any]) -> Any:
        with cls._one_at_a_time:
            if cls._forkery is None:
                pipe = subprocess.PIPE
                cls._forkery = subprocess.Popen([sys.executable, FORKERY], stdin=pipe, stdout=pipe, text=True)
                atexit.register(cls._forkery.communicate)
            asking, answering = cls._forkery.stdin, cls._forkery.stdout
            assert asking is not None
            assert answering is not None
            asking.write(json.dumps(what) + "\n")
            asking.flush()
            return json.loads(answering.readline())

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float = PATIENCE_S) -> int:
        until(lambda: self.poll() is not None, f"the end of {self.args}", timeout)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


PROGRAMS = {"twistd": ["--nodaemon", "--pidfile="], "twist": ["--log-format=text"]}


class Running:
    """A twistd, or a twist, in the foreground; its log is in a file."""

    def __init__(self, folder: Path, name: str, words: list[str], program: str = "twistd") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"{name}.log"
        self.log_file.touch()
        self.words = words
        self.process = Forked([str(BIN / program), *PROGRAMS[program], *words], folder, self.log_file)

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


class Stage:
    """Everything a test started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Running] = []
        self.others: list[subprocess.Popen] = []

    def twistd(self, name: str, *words: str, program: str = "twistd") -> Running:
        words_ = list(words)
        # With so many workers balancers are started, where it is said; see e2e/conftest.py.
        workers = os.environ.get("TWISTED_LB_TEST_WORKERS", "")
        if words_[:1] == ["lb"] and workers and "--workers" not in words_ and program == "twistd":
            words_ += ["--workers", workers]
        running = Running(self.folder, name, words_, program)
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
        # Its socket listens before anybody accepts there.
        workers = [
            number for word, number in zip(running.words, running.words[1:], strict=False) if word == "--workers"
        ]
        if workers:
            running.wait_for("worker [0-9]+ serves", int(workers[-1]))
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
