"""Processes for a scenario: started, asked what they use, and ended whatever happens."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from ports import free_port

PATIENCE_S = 30.0
BACKEND = Path(__file__).with_name("backend.py")


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait, for as long as a machine may be slow, until something is so."""
    ends_at = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > ends_at:
            raise TimeoutError(f"never happened: {what}")
        time.sleep(0.005)


def raise_descriptor_limit() -> None:
    """Of this process, and so of those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Process:
    """A program that was started; what it says goes to a file, unless its output is a pipe of ours."""

    def __init__(
        self, words: list[object], folder: Path, *, talks: bool = False, environment: dict[str, str] | None = None
    ) -> None:
        self.words = [str(word) for word in words]
        self._log = folder / f"{Path(self.words[0]).name}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                self.words,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def signal(self, number: int) -> None:
        os.kill(self.popen.pid, number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def end(self) -> None:
        """In order if it can, so that it ends its own children; by force if not."""
        if self.popen.poll() is None:
            self.signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def memory_kib(self) -> int:
        """Resident memory, with its children's."""
        return sum(_resident_kib(pid) for pid in _family(self.popen.pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))


def _resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


class Peak:
    """The most memory seen of some processes while it is open, in KiB."""

    def __init__(self, memory_kib: Callable[[], int]) -> None:
        self.most_kib = 0
        self._memory_kib = memory_kib
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.most_kib = max(self.most_kib, self._memory_kib())
            self._over.wait(0.05)


class Backend:
    """A backend that misbehaves on order; it comes back on the port it had, under its next name: `a.1`, `a.2`."""

    def __init__(self, stage: "Stage", name: str, options: list[str], at: tuple[str, int] | None = None) -> None:
        self._stage = stage
        self._name = name
        self._lives = 0
        host, self.port = at or ("127.0.0.1", free_port())
        self._options = ["--address", host, *options]
        self.address = f"{host}:{self.port}"
        self.start()

    @property
    def name(self) -> str:
        """What it answers, in this life."""
        return f"{self._name}.{self._lives}"

    def start(self) -> None:
        self.prepare()
        self.appear()

    def prepare(self) -> None:
        """Have the process of its next life ready, so that it can `appear` at a given moment."""
        self._next = self._stage.start(
            [sys.executable, BACKEND, self.port, self._next_name, *self._options], talks=True
        )
        self._next.popen.stdout.readline()

    @property
    def _next_name(self) -> str:
        return f"{self._name}.{self._lives + 1}"

    def appear(self) -> None:
        """Listen, in the next life."""
        self.process = self._next
        self._lives += 1
        self.order("accept")

    def order(self, word: str) -> None:
        """`full`, `close`, `fail` or `accept`: done when this returns."""
        self.process.popen.stdin.write(f"{word}\n".encode())
        self.process.popen.stdin.flush()
        self.process.popen.stdout.readline()


class Stage:
    """Everything that was started, and a folder for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ends = contextlib.ExitStack()

    def start(self, words: list[object], *, talks: bool = False, environment: dict[str, str] | None = None) -> Process:
        process = Process(words, self.folder, talks=talks, environment=environment)
        self.ends.callback(process.end)
        return process

    def wing(self) -> "Stage":
        """A stage with a folder of its own, for what runs beside or after others; it ends with this one."""
        one = Stage(Path(tempfile.mkdtemp(dir=self.folder)))
        one.folder.chmod(0o755)
        self.ends.enter_context(one.ends)
        return one

    def backend(self, name: str, *options: str, at: tuple[str, int] | None = None) -> Backend:
        return Backend(self, name, list(options), at)

    def backends(self, count: int) -> list[Backend]:
        return [self.backend(name) for name in "abcdefghijklmnopqrstuvwxyz"[:count]]


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stage in a folder of its own, which others may read: NGINX's worker is nobody."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        one = Stage(folder)
        with one.ends:
            yield one
