"""The contenders: how each one is started with the same patience, so that what differs is what they do with it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from ports import free_port

from bad_days import recipes
from bad_days.recipes import Groups, Patience
from bad_days.stage import Process, Stage, until

ROOT = Path(__file__).resolve().parent.parent.parent


class Kind(Enum):
    """Whose program a contender is, whatever its build."""

    OURS = "ours"
    HAPROXY = "HAProxy"
    NGINX = "NGINX"


class Proxy:
    """A contender that runs: one port for each group of backends."""

    def __init__(self, process: Process, ports: list[int]) -> None:
        self.ports = ports
        self.process = process

    @property
    def port(self) -> int:
        return self.ports[0]

    def memory_kib(self) -> int:
        return self.process.memory_kib()


Words = Callable[[Path, Path, Groups, Patience | None], list[object]]
WORDS: dict[Kind, Words] = {Kind.OURS: recipes.ours, Kind.HAPROXY: recipes.haproxy, Kind.NGINX: recipes.nginx}


class Contender:
    """One who can be started in front of groups of backends."""

    def __init__(self, name: str, kind: Kind, program: Path | None, version: Callable[[Path], str]) -> None:
        self.name = name
        self.kind = kind
        self.program = program if program is not None and program.exists() else None
        self._version = version

    @property
    def version(self) -> str:
        return self._version(self.program)

    @property
    def checks(self) -> bool:
        """Whether it can ask its backends actively."""
        return self.kind is not Kind.NGINX

    def start(
        self,
        stage: Stage,
        groups: list[list[str]],
        patience: Patience | None,
        environment: dict[str, str] | None = None,
    ) -> Proxy:
        """One that runs; without a patience as it comes, with its own defaults."""
        ports = [free_port() for _ in groups]
        words = WORDS[self.kind](self.program, stage.folder, list(zip(ports, groups, strict=True)), patience)
        return self.launch(stage, words, ports, environment)

    def launch(
        self, stage: Stage, words: list[object], ports: list[int], environment: dict[str, str] | None = None
    ) -> Proxy:
        """One that was given its words, once it listens on all of its ports."""
        process = stage.start(words, environment=environment)
        for port in ports:
            until(lambda port=port: listens(port, process), f"{self.name} listens on {port}")
        return Proxy(process, ports)


def listens(port: int, process: Process) -> bool:
    """From the kernel's table: who connects to ask leaves a connection."""
    if process.popen.poll() is not None:
        raise RuntimeError(f"{process.words[0]} ended: {process.log}")
    return listened(port)


def listened(port: int) -> bool:
    """Whether anybody listens there."""
    return bool(re.search(rf":{port:04X} 0+:0000 0A ", Path("/proc/net/tcp").read_text()))


def _output(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _found(name: str) -> Path | None:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return Path(path) if path else None


def ours(name: str, folder: Path) -> Contender:
    """Ours, out of an environment's `bin`."""
    return Contender(name, Kind.OURS, folder / "twistd", _our_version)


def _our_version(program: Path) -> str:
    return re.search(r"twisted_lb ([\d.]+) \(", _output(program, "lb", "--version"))[1]


def _haproxy_version(program: Path) -> str:
    return re.search(r"version ([\d.]+)", _output(program, "-v"))[1]


def _nginx_version(program: Path) -> str:
    return re.search(r"nginx/([\d.]+)", _output(program, "-v"))[1]


def under_test() -> Contender:
    """Ours, out of the environment that this runs in."""
    return ours("ours", Path(sys.executable).parent)


def contenders() -> list[Contender]:
    """All; who is not installed has no `program`."""
    return [
        Contender("HAProxy", Kind.HAPROXY, _found("haproxy"), _haproxy_version),
        Contender("NGINX", Kind.NGINX, _found("nginx"), _nginx_version),
        ours("ours", ROOT / ".venv-compiled" / "bin"),
        ours("ours, pure", ROOT / ".venv" / "bin"),
    ]
