"""A real balancer that carries TCP, and the real servers behind it: its log, its metrics and its `lbctl` for the end-to-end tests."""

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from ports import free_port
from processes import BIN, PATIENCE_S, Running, Stage, listening, until
from prometheus_client.parser import text_string_to_metric_families as families

# Debian keeps servers where users do not look.
PATH = os.environ.get("PATH", "") + ":/usr/sbin"
MIB = 1 << 20
PIECE = bytes(range(256)) * 4096
# What may come at once, from wherever in a piece it begins.
STREAM = memoryview(PIECE + PIECE[:256])
ENVIRON = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}

HEAD = """
[admin]
socket = "{folder}/admin.sock"
address = "127.0.0.1:{page}"
[log]
file = "{folder}/access.log"
format = "json"
[timeouts]
drain_s = {drain_s}
[defaults.pool]
queue.no_backend_s = 0
[defaults.pool.health_check]
interval_s = 0
"""


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"missing: {', '.join(missing)}")


def found(program: str) -> str:
    return shutil.which(program, path=PATH) or program


class Carrier:
    """A balancer with this configuration behind the head that all of them have; `port` is that of its first listener."""

    def __init__(self, world: Stage, config: str, name: str = "lb", drain_s: float = 8) -> None:
        self.world = world
        self.folder = world.folder / name
        self.folder.mkdir()
        self.reloads = 0
        self.page = free_port()
        self._head = HEAD.format(folder=self.folder, page=self.page, drain_s=drain_s)
        self.file = self.folder / "lb.toml"
        self.write(config)
        self.running: Running = world.twistd(name, "lb", "--config", str(self.file))
        until(lambda: listening(self.page) or self.running.process.poll() is not None, "the balancer")
        assert self.running.process.poll() is None, self.running.log

    def write(self, config: str) -> None:
        self.file.write_text(self._head + config)

    def reload(self, config: str) -> None:
        """Have another configuration, by HUP, and wait until it is in force."""
        self.write(config)
        self.reloads += 1
        self.running.signal(signal.SIGHUP)
        until(lambda: json.loads(self.lbctl("status", "--json"))["generation"] == self.reloads + 1, "it is in force")

    def lbctl(self, *words: str, check: bool = True) -> str:
        known = [BIN / "lbctl", "--admin", f"unix:{self.folder}/admin.sock"]
        done = subprocess.run([*known, *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def logged(self) -> list[dict]:
        """All connections that have ended, as they are logged."""
        log = self.folder / "access.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def wait_logged(self, count: int) -> list[dict]:
        until(lambda: len(self.logged()) >= count, f"{count} connections are logged")
        return self.logged()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.page}/metrics", timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        every = [sample for family in families(text) for sample in family.samples]
        samples = [sample for sample in every if sample.name == f"twisted_lb_{name}"]
        assert samples, f"no {name} in {sorted({sample.name for sample in every})}"
        return sum(one.value for one in samples if labels.items() <= one.labels.items())


class Echo:
    """A server of the test's own: each connection has a thread that does `what` with it."""

    def __init__(self, what: "Callable[[socket.socket], None]") -> None:
        self._what = what
        self.server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self.server.getsockname()[1]
        self.threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.server.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE_S)
            self.threads.append(threading.Thread(target=self._serve, args=(sock,), daemon=True))
            self.threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            self._what(sock)

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()


class End:
    """One end of a tunnel, or of a session, which sends so much and reads all there is; `ok`: it was what the other one sends, to its end."""

    def __init__(self, sock: socket.socket, mib: int) -> None:
        self.sock = sock
        self.mib = mib
        self.got = 0
        self.ok = False
        self._threads = [threading.Thread(target=target) for target in (self._send, self._read)]

    def begin(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(2 * PATIENCE_S)
            assert not thread.is_alive()

    def _send(self) -> None:
        for _ in range(self.mib):
            self.sock.sendall(PIECE)
        self.sock.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        buffer = bytearray(MIB)
        view = memoryview(buffer)
        same = True
        while size := self.sock.recv_into(buffer):
            at = self.got % 256
            same = same and view[:size] == STREAM[at : at + size]
            self.got += size
        self.ok = same


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)


def start(world: Stage, *words: object, port: int, log: Path, cwd: "Path | None" = None) -> subprocess.Popen:
    """A server that listens at a port once this returns; its words are in `log`."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in words], stdout=out, stderr=subprocess.STDOUT, cwd=cwd, env=ENVIRON
        )
    world.others.append(process)
    until(lambda: listening(port) or process.poll() is not None, str(words[0]))
    assert process.poll() is None, log.read_text()
    return process
