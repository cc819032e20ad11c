"""A balancer with workers for the end-to-end tests: its backends, its admin door, and which worker has whom."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ports import free_port
from processes import until


class Many:
    """A balancer with workers, its backends and its admin door."""

    def __init__(
        self,
        world,
        *,
        workers: int = 2,
        backends: int = 2,
        head: str = "",
        more: str = "",
        others: Sequence[int] = (),
        check: str = "interval_s = 0.2",
    ) -> None:
        self.world = world
        self.backends = [world.backend(name=f"b{number}") for number in range(backends)]
        self.others = others
        self.port = free_port()
        self.door = world.folder / "admin.sock"
        self.file = world.folder / "lb.toml"
        self.head = head
        self.check = check
        self.write(range(backends), more)
        self.lb = world.twistd("lb", "lb", "--config", str(self.file), "--workers", str(workers))
        self.lb.wait_for("worker [0-9]+ serves", workers)

    def write(self, numbers, more: str = "") -> None:
        """Replace the file: these backends."""
        ports = [*(self.backends[number][1] for number in numbers), *self.others]
        addresses = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        text = (
            f'{self.head}\nlisten = {{ interface = "127.0.0.1", port = {self.port} }}\n'
            f"backends = [{addresses}]\n"
            f'[admin]\nsocket = "{self.door}"\n[health_check]\n{self.check}\n{more}'
        )
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def ask(self, path: str = "/", method: str = "GET", body: object = None) -> dict:
        """An answer of the admin API."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(self.door))
            connection = http.client.HTTPConnection("x")
            connection.sock = sock
            headers = {} if body is None else {"content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return json.loads(connection.getresponse().read())

    def scraped(self) -> str:
        """All metrics."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(60)
            sock.connect(str(self.door))
            connection = http.client.HTTPConnection("x")
            connection.sock = sock
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def metrics(self, name: str) -> float:
        """The sum of a family of metrics."""
        return sum(float(value) for value in re.findall(rf"(?m)^{name}(?:{{.*}})? ([0-9.e+]+)$", self.scraped()))

    def kill(self, slot: int) -> set[int]:
        """Kill the worker of a slot (SIGKILL); the ports of the clients that it had. It stands still before, so that these are all."""
        pid = self.pids()[slot]
        os.kill(pid, signal.SIGSTOP)
        until(lambda: state_of(pid) == "T", "it stands still")
        # Thrice: what is read page by page, while others come and go, may lack one.
        had = {port for _ in range(3) for port, owner in self.owners().items() if owner == pid}
        os.kill(pid, signal.SIGKILL)
        return had

    def get(self, path: str = "/whoami.json") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def pids(self) -> dict[int, int]:
        """The process of each worker that served last, by slot."""
        return {int(slot): int(pid) for slot, pid in re.findall(r"worker (\d+) serves, as process (\d+)", self.lb.log)}

    def clients_of(self, pid: int) -> int:
        """How many connections of clients a process has."""
        own = set()
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                own.add(os.readlink(fd))
        found = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "01" and int(words[1].rpartition(":")[2], 16) == self.port:
                found += f"socket:[{words[9]}]" in own
        return found

    def owners(self) -> dict[int, int]:
        """The process that has the connection of a client, by the client's port; those that nobody has accepted yet are left out."""
        inodes: dict[str, int] = {}
        for pid in self.pids().values():
            with contextlib.suppress(FileNotFoundError):  # it has ended
                for fd in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        inodes[os.readlink(fd)] = pid
        found = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            pid = inodes.get(f"socket:[{words[9]}]", 0)
            if pid and int(words[1].rpartition(":")[2], 16) == self.port and words[3] != "0A":
                found[int(words[2].rpartition(":")[2], 16)] = pid
        return found

    def connected(self, count: int) -> Iterator[tuple[int, socket.socket]]:
        """Connections, one after the other, each with the slot of the worker that has it."""
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", self.port), timeout=60)
            port = sock.getsockname()[1]
            until(lambda: port in self.owners(), "somebody has accepted it")  # noqa: B023 - called at once
            slots = {pid: slot for slot, pid in self.pids().items()}
            yield slots[self.owners()[port]], sock


def state_of(pid: int) -> str:
    """The letter of its state, see proc(5); "" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z")


class Counting:
    """A backend that counts how many requests it has at once, without checks."""

    def __init__(self, took_s: float) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._sock.getsockname()[1]
        self.took_s = took_s
        self.most = self.now = self.served = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

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
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _work(self) -> None:
        with self._lock:
            self.now += 1
            self.served += 1
            self.most = max(self.most, self.now)
        time.sleep(self.took_s)
        with self._lock:
            self.now -= 1

    def close(self) -> None:
        self._sock.close()
