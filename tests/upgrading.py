"""A real balancer with workers whose process is its own program's, so that it can become another one; clients that notice what fails."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ports import free_port
from processes import BIN, PATIENCE_S, Running, Stage, until

import twisted_lb
from twisted.plugins import twisted_lb_plugin

TERM, KILL, USR2 = signal.SIGTERM, signal.SIGKILL, signal.SIGUSR2
MODULE = [sys.executable, "-m", "twisted_lb", "lb"]

# Root that may become another user, who may read what root may: the interpreter, wherever it is.
_KEEPS = ("--securebits=+no_setuid_fixup", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
AS_ANYBODY = ["setpriv", *_KEEPS] if os.getuid() == 0 and shutil.which("setpriv") else []
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")


class Own(Running):
    """A process that was started as users start it: its command line is what an upgrade executes again."""

    def __init__(self, folder: Path, name: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("ab") as out:
            self.process: Any = subprocess.Popen(
                words, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )


class Daemon:
    """A balancer with workers, its backends, its doors and its file. `head` stands before the tables of the file, `more` behind."""

    def __init__(
        self,
        world: Stage,
        *,
        workers: int | str = 2,
        backends: int = 2,
        others: Sequence[int] = (),
        head: str = "",
        more: str = "",
        listeners: str = "",
    ) -> None:
        self.world = world
        self.folder = world.folder
        self.backends = [world.backend(name=f"b{number}") for number in range(backends)]
        self.addresses = [f"127.0.0.1:{port}" for port in (*(port for _, port in self.backends), *others)]
        self.port, self.status, self.page = free_port(), free_port(), free_port()
        self.door = self.folder / "admin.sock"
        self.file = self.folder / "lb.toml"
        self.environment = dict(os.environ)
        self.head, self.more, self.listeners = head, more, listeners
        self.write(workers)
        self.lb: Running
        self.known: set[int] = set()  # processes of workers

    def write(self, workers: int | str = 2) -> None:
        """Replace the file."""
        backends = ", ".join(f'"{one}"' for one in self.addresses)
        workers = f'"{workers}"' if isinstance(workers, str) else workers
        text = (
            f"workers = {workers}\n{self.head}\nbackends = [{backends}]\n"
            f'status = "127.0.0.1:{self.status}"\n'
            f'[admin]\nsocket = "{self.door}"\naddress = "127.0.0.1:{self.page}"\n'
            f'[listeners.web]\naddress = "127.0.0.1:{self.port}"\n{self.listeners}\n{self.more}\n'
        )
        if "[health_check]" not in self.more:
            text += "[health_check]\ninterval_s = 0.2\n"
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def start(self, *words: str, name: str = "lb", program: Sequence[str] = MODULE, wait: bool = True) -> "Daemon":
        """Start it, and wait until all workers serve."""
        self.lb = Own(self.folder, name, [*program, "--config", str(self.file), *words], self.environment)
        self.world.running.append(self.lb)
        if not wait:
            return self
        until(lambda: self.serving() or self.lb.process.poll() is not None, "workers serve")
        assert self.lb.process.poll() is None, self.lb.log
        return self

    @property
    def log(self) -> str:
        return self.lb.log

    def reached(self) -> bool:
        """Whether it answers operators."""
        try:
            return "version" in self.ask("/v1/status")
        except (OSError, http.client.HTTPException):
            return False

    def serving(self, generation: int | None = None) -> bool:
        """Whether all workers serve, and are of that program."""
        time.sleep(0.03)  # to be asked costs
        try:
            there = [one for one in self.workers() if one["state"] != "drains"]
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return False
        return bool(there) and all(one["state"] == "serves" and generation in (None, one["program"]) for one in there)

    def workers(self) -> list[dict[str, Any]]:
        """All workers, as `lbctl workers` has them."""
        found: list[dict[str, Any]] = self.ask("/v1/status")["workers"]
        self.known |= {one["pid"] for one in found if one["pid"]}
        return found

    def pids(self, state: str = "serves") -> dict[int, int]:
        """The processes of workers in a state, by slot."""
        return {one["slot"]: one["pid"] for one in self.workers() if one["state"] == state}

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """An answer of the admin API."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(str(self.door))
            connection = http.client.HTTPConnection("x")
            connection.sock = sock
            headers = {} if body is None else {"content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            text = connection.getresponse().read()
        return text.decode() if path == "/metrics" else json.loads(text)

    def metrics(self, name: str) -> float:
        """The sum of a family of metrics."""
        text = self.ask("/metrics")
        return sum(float(value) for value in re.findall(rf"(?m)^{name}(?:{{.*}})? ([0-9.e+]+)$", text))

    def get(self, path: str = "/whoami.json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def names(self, count: int) -> set[str]:
        """Who answers so many requests."""
        found = set()
        for _ in range(count):
            status, body = self.get()
            assert status == 200, body
            found.add(json.loads(body)["name"])
        return found

    @property
    def generation(self) -> int:
        """How many programs came before this one."""
        return max(one["program"] for one in self.workers())

    def lbctl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(BIN / "lbctl"), "--admin", f"unix:{self.door}", *words],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            timeout=3 * PATIENCE_S,
            check=False,
        )

    def upgrade(self) -> None:
        """Become the program anew, and wait until that serves."""
        answer = self.ask("/v1/upgrade", "POST", {})
        assert "program" in answer, (answer, self.log)
        self.arrive(answer["program"])

    def arrive(self, generation: int) -> None:
        until(lambda: self.serving(generation), f"program {generation} serves:\n{self.log}")

    def forget_old(self) -> None:
        """Wait for the ends of the workers of programs before this one."""
        until(lambda: not self.pids("drains"), f"they have drained:\n{self.log}")

    def close(self) -> None:
        """End what is left: workers whose parent has died."""
        for pid in self.known | {int(pid) for pid in re.findall(r"serves, as process (\d+)", self.log)}:
            if is_worker(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, KILL)


def is_worker(pid: int) -> bool:
    try:
        return b"twisted_lb.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """The processes that it is the parent of, those that nobody has asked about among them."""
    found = []
    for one in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = one.read_text().rpartition(")")[2].split()
            if int(words[1]) == pid:
                found.append(int(one.parent.name))
    return found


def descriptors_of(pid: int) -> Counter[str]:
    """What a process has open, without numbers that differ each time."""
    found: Counter[str] = Counter()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found[re.sub(r"\d+|\w+\.log", "N", os.readlink(one))] += 1
    return found


def nothing_is_left(pid: int, before: Counter[str]) -> None:
    """Wait until a process has no more open than before, and nothing that is open for a moment."""
    moments = Counter({one: count for one, count in before.items() if "memfd" in one and "table" not in one})
    until(lambda: not descriptors_of(pid) - (before - moments), f"nothing is left: {descriptors_of(pid) - before}")


class Call(Protocol):
    """One that asks: what went wrong, or nothing."""

    def __call__(self) -> str: ...

    def close(self) -> None: ...


class Caller(threading.Thread):
    """Asks again and again until it is told to stop; notes whatever went wrong."""

    def __init__(self, call: Call, pause_s: float = 0.02) -> None:
        super().__init__(daemon=True)
        self.answered = 0
        self.failures: list[str] = []
        self.enough = threading.Event()
        self._call, self._pause_s = call, pause_s

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                wrong = self._call()
            except (OSError, http.client.HTTPException, ValueError) as error:
                wrong = repr(error)
            if wrong:
                self.failures.append(f"{time.monotonic():.3f} {wrong}")
            self.answered += 1
            self.enough.wait(self._pause_s)  # programs that start need the machine too
        self._call.close()


class OverHttp:
    """Asks for a path on a connection that it keeps, or on a new one each time."""

    def __init__(self, port: int, path: str, *, keeps: bool, unix: str = "", body: bytes | None = None) -> None:
        self.port, self.path, self.keeps, self.unix, self.body = port, path, keeps, unix, body
        self._connection = self._new()

    def _new(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def __call__(self) -> str:
        connection = self._connection
        try:
            if self.unix and connection.sock is None:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(PATIENCE_S)
                connection.sock.connect(self.unix)
            connection.request("GET" if self.body is None else "POST", self.path, self.body)
            answer = connection.getresponse()
            body = answer.read()
        except BaseException:
            connection.close()
            raise
        if not self.keeps:
            connection.close()
        return "" if answer.status == 200 and body else f"{self.path}: status {answer.status}, {body[:200]!r}"

    def close(self) -> None:
        self._connection.close()


class Load:
    """Clients of all kinds, who ask from `begin` to `end`."""

    def __init__(self, *calls: Call) -> None:
        self.callers = [Caller(call) for call in calls]

    def begin(self) -> "Load":
        for one in self.callers:
            one.start()
        self.more()
        return self

    def more(self, count: int = 3) -> None:
        """Every client is answered a few times more."""
        wanted = [one.answered + count for one in self.callers]
        until(lambda: all(c.answered >= n for c, n in zip(self.callers, wanted, strict=True)), "more answers")

    def end(self) -> list[str]:
        """What went wrong, when it is over."""
        for one in self.callers:
            one.enough.set()
        for one in self.callers:
            one.join(PATIENCE_S)
        return [failure for one in self.callers for failure in one.failures]


def mixed(port: int) -> Load:
    paths = ("/", "/?delay=0.05", "/?size=200000", "/?size=20000&chunked=1")
    calls = [OverHttp(port, path, keeps=keeps) for path in paths for keeps in (True, False)]
    return Load(*calls, OverHttp(port, "/", keeps=True, body=bytes(100_000)))


@contextlib.contextmanager
def daemons(world: Stage) -> Iterator[Callable[..., Daemon]]:
    """Makes balancers, whose workers end with the test in any case."""
    made: list[Daemon] = []

    def one(**options: Any) -> Daemon:
        made.append(Daemon(world, **options))
        return made[-1]

    try:
        yield one
    finally:
        for each in made:
            each.lb.end()
            each.close()


class Connects:
    """Connects, and nothing else: somebody listens there all the time."""

    def __init__(self, place: str | int) -> None:
        self.place = place

    def __call__(self) -> str:
        if isinstance(self.place, int):
            socket.create_connection(("127.0.0.1", self.place), timeout=PATIENCE_S).close()
        else:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(PATIENCE_S)
                sock.connect(self.place)
        return ""

    def close(self) -> None:
        pass


class Backend:
    """A backend that counts what it has at once, and answers after a while, or when it is let."""

    def __init__(self, took_s: float = 0.0, *, good: bool = True) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._sock.getsockname()[1]
        self.took_s, self.good = took_s, good
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.most = self.now = self.requests = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._sock.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    data = sock.recv(65536)
                    if not data:
                        return
                    head += data
                if b"twisted_lb-check" not in head:
                    self._work()
                if not self.good:
                    return
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _work(self) -> None:
        with self._lock:
            self.requests += 1
            self.now += 1
            self.most = max(self.most, self.now)
        self.may_answer.wait(PATIENCE_S)
        time.sleep(self.took_s)
        with self._lock:
            self.now -= 1

    def close(self) -> None:
        self._sock.close()


# A tunnel: a WebSocket, whose backend is in the test.

_OFFER = (
    b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTK9kqmOOQcwJYpS8Xo4=\r\n\r\n"
)
GOING_AWAY = b"\x88\x02\x03\xe9"


class Tunnel:
    """Both ends of a WebSocket through a balancer."""

    def __init__(self, port: int, server: socket.socket) -> None:
        self.client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.client.sendall(_OFFER)
        self.backend, _ = server.accept()
        self.backend.settimeout(PATIENCE_S)
        head_from(self.backend)
        self.backend.sendall(_SWITCH)
        assert head_from(self.client).startswith(b"HTTP/1.1 101")

    def echo(self, text: bytes = b"hi") -> None:
        """A frame goes both ways."""
        up = b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text
        self.client.sendall(up)
        assert exactly(self.backend, len(up)) == up
        down = b"\x81" + bytes([len(text)]) + text
        self.backend.sendall(down)
        assert exactly(self.client, len(down)) == down

    def rest(self) -> bytes:
        """What the client gets to the end."""
        return rest_of(self.client)

    def close(self) -> None:
        self.client.close()
        self.backend.close()


def head_from(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        assert more, head
        head += more
    return head


def exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = sock.recv(count - len(found))
        if not more:
            raise ConnectionError(f"closed after {found!r}")
        found += more
    return found


def rest_of(sock: socket.socket) -> bytes:
    found = []
    while data := sock.recv(1 << 16):
        found.append(data)
    return b"".join(found)


class Counted:
    """Reads a counter, which never goes back."""

    def __init__(self, lb: Daemon, name: str) -> None:
        self.lb, self.name, self.most = lb, name, 0.0

    def __call__(self) -> str:
        try:
            now = self.lb.metrics(self.name)
        except (ConnectionError, http.client.HTTPException):
            return ""  # one program is followed by the other
        before, self.most = self.most, max(self.most, now)
        return "" if now >= before else f"{self.name} was {before}, is {now}"

    def close(self) -> None:
        pass


class Copies:
    """Copies of the package, so that what stands there can be another version, or none, later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str) -> Path:
        """A copy in a folder of this name, which is to be on the path."""
        home = Path(twisted_lb.__file__).parent
        copy = self.folder / name / "twisted_lb"
        shutil.copytree(home, copy, ignore=shutil.ignore_patterns("__pycache__"))
        plugins = copy.with_name("twisted") / "plugins"
        plugins.mkdir(parents=True)
        shutil.copy(str(twisted_lb_plugin.__file__), plugins)
        return copy

    def environment(self, name: str) -> dict[str, str]:
        """With it first on the path."""
        before = os.environ.get("PYTHONPATH", "")
        return {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in (str(self.folder / name), before) if one)}

    def venv(self, name: str) -> Path:
        """An environment of its own, with what is in this one."""
        folder = self.folder / name
        venv.create(folder, symlinks=True)
        [packages] = (folder / "lib").glob("python*/site-packages")
        (packages / "ours.pth").write_text("\n".join(one for one in sys.path if "site-packages" in one))
        script = folder / "bin" / "twistd"
        script.write_text(f"#!{folder}/bin/python\nfrom twisted.scripts.twistd import run\nrun()\n")
        script.chmod(0o755)
        return folder
