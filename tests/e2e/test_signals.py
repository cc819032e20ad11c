"""Signals to real processes: none that daemons are sent ends one at once, and each does what it is for."""

import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import termios
from pathlib import Path

import pytest
from ports import free_port
from processes import BIN, Running, Stage, listening, stage, until

HUP, USR1, USR2, QUIT, TERM = signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT, signal.SIGTERM


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


class Busy:
    """A balancer before one backend, to be kept busy."""

    def __init__(self, world: Stage, balancer: Running, port: int, backend: int) -> None:
        self.balancer, self.port, self._backend = balancer, port, backend
        world.running.append(balancer)

    def ask(self, delay_s: float) -> socket.socket:
        """A client whose request has reached the backend."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        client.sendall(b"GET /?delay=%g&size=100 HTTP/1.1\r\nHost: patient\r\n\r\n" % delay_s)
        until(self._connected, "the request is on its way")
        return client

    def _connected(self) -> bool:
        rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
        established = "01"
        return any(row.split()[2].endswith(f":{self._backend:04X}") and row.split()[3] == established for row in rows)

    def stopping(self) -> None:
        until(lambda: not listening(self.port), "the listener closes")


@pytest.fixture
def busy(world) -> Busy:
    """Its stop would not last."""
    config = world.folder / "lb.toml"
    config.write_text("[timeouts]\ndrain_s = 3\n")
    _, backend = world.backend()
    balancer, port = world.balancer("-b", f"127.0.0.1:{backend}", "-c", "0", "--config", str(config))
    return Busy(world, balancer, port, backend)


def answered(client: socket.socket) -> bool:
    with client:
        return client.recv(65536).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("number", [HUP, USR1, USR2], ids=lambda number: number.name)
def test_what_runs_goes_on(busy, number):
    client = busy.ask(0.5)
    busy.balancer.signal(number)
    assert answered(client)
    assert busy.balancer.process.poll() is None
    assert listening(busy.port)


def test_hangup_is_a_reload_that_says_whether_anything_has_changed(busy):
    busy.balancer.signal(HUP)
    busy.balancer.wait_for("reload: nothing has changed")


def test_quit_waits_for_what_runs_however_long_and_ends_well(busy):
    client = busy.ask(3.5)
    busy.balancer.signal(QUIT)
    busy.stopping()
    assert answered(client)
    assert busy.balancer.wait() == 0
    log = busy.balancer.log
    assert "stopping: SIGQUIT" in log
    assert re.search(r"drain begins: waits for \d clients?, 1 exchange, at most 3600 s", log)
    assert "nothing was cut" in log


@pytest.mark.parametrize("second", [QUIT, TERM], ids=lambda number: number.name)
def test_a_second_signal_ends_a_patient_stop(busy, second):
    client = busy.ask(60)
    busy.balancer.signal(QUIT)
    busy.stopping()
    busy.balancer.signal(second)
    busy.balancer.wait()
    assert re.search(r"drain ended after [0-9.]+ s, cut: \d clients?, 1 exchange", busy.balancer.log)
    assert "Traceback" not in busy.balancer.log
    client.close()


@pytest.mark.long
def test_others_do_not_end_a_stop(busy):
    client = busy.ask(1.5)
    busy.balancer.signal(TERM)
    busy.stopping()
    for number in (HUP, USR1, USR2):
        busy.balancer.signal(number)
    assert answered(client)
    assert busy.balancer.wait() == -TERM


class OnTerminal(Running):
    """A twistd with a terminal of its own; the log is in a file all the same."""

    def __init__(self, folder, words):
        self.log_file = folder / "terminal.log"
        self.master, slave = pty.openpty()
        with self.log_file.open("ab") as out:
            self.process = subprocess.Popen(
                [BIN / "twistd", "--nodaemon", "--pidfile=", *words],
                cwd=folder,
                stdin=slave,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            )
        os.close(slave)


def test_a_terminal_that_goes_away_is_a_graceful_stop(world):
    _, backend = world.backend()
    port = free_port()
    words = ["lb", "-b", f"127.0.0.1:{backend}", "-c", "0", "-p", str(port), "--interface", "127.0.0.1"]
    balancer = OnTerminal(world.folder, words)
    busy = Busy(world, balancer, port, backend)
    until(lambda: listening(port), "the balancer")
    client = busy.ask(1.0)
    balancer.signal(HUP)
    balancer.wait_for("reload: nothing has changed")
    os.close(balancer.master)
    balancer.wait_for("its terminal is gone")
    assert answered(client)
    assert balancer.wait() == 0


def test_a_daemon_survives_them_all_and_ends_in_order(tmp_path):
    port = free_port()
    words = [BIN / "twistd", "lb", "-b", "127.0.0.1:1", "-c", "0", "-p", str(port), "--interface", "127.0.0.1"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=30)
    pid_file = tmp_path / "twistd.pid"
    pid = int(pid_file.read_text())
    try:
        until(lambda: listening(port), "the balancer")
        for number in (USR1, HUP, USR2):
            os.kill(pid, number)
        until(
            lambda: "upgrade: nothing was changed: one process has nobody" in (tmp_path / "twistd.log").read_text(),
            "it goes on",
        )
    finally:
        os.kill(pid, QUIT)
    until(lambda: not pid_file.exists(), "the pid file goes")
    assert "Traceback" not in (tmp_path / "twistd.log").read_text()
