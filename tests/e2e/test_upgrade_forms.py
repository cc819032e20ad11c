"""Upgrades of all forms of start: daemons, users, pid files, logs, links to another version, service managers."""

import contextlib
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import BIN, KILL, PATIENCE_S, Running, stage, until
from upgrading import AS_ANYBODY, MODULE, TERM, USR2, Copies, Daemon, Load, OverHttp, daemons, is_worker

pytestmark = [pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"), pytest.mark.long]

TWISTD = str(BIN / "twistd")


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def daemon(world):
    with daemons(world) as make:
        yield make


class Demon:
    """A process that is nobody's child here, known by its pid file."""

    def __init__(self, pid_file: Path) -> None:
        self.pid = int(pid_file.read_text())

    def poll(self) -> int | None:
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return 0
        return 0 if state == "Z" else None

    def wait(self, timeout: float = PATIENCE_S) -> int:
        until(lambda: self.poll() is not None, "its end", timeout)
        return 0

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, KILL)


def two(port: int) -> Load:
    return Load(OverHttp(port, "/", keeps=False), OverHttp(port, "/", keeps=True))


def as_urgent(pid: int) -> None:
    """A daemon has a session, and so a share of the machine, of its own: it is to be like ours (sched(7), autogroups)."""
    with contextlib.suppress(OSError):
        nice = Path("/proc/self/autogroup").read_text().split()[-1]
        Path(f"/proc/{pid}/autogroup").write_text(nice)


def demonize(lb: Daemon, *words: str, before=(), log: str, pid_file: Path, program=TWISTD) -> Demon:
    """Start it as a daemon, and wait until it serves."""
    subprocess.run([*before, program, *words], cwd=lb.folder, env=lb.environment, check=True, timeout=PATIENCE_S)
    lb.lb = Running.__new__(Running)
    lb.lb.log_file = Path(log)
    until(pid_file.exists, "its pid file")
    until(lambda: pid_file.read_text().isdecimal())
    lb.lb.process = Demon(pid_file)
    as_urgent(lb.lb.pid)
    lb.world.running.append(lb.lb)
    until(lambda: lb.serving() or lb.lb.process.poll() is not None, "workers serve")
    assert lb.lb.process.poll() is None, lb.log
    return lb.lb.process


def test_a_daemon_keeps_its_pid_file_and_its_log(daemon):
    lb = daemon()
    (lb.folder / "var").mkdir()
    pid_file, log = lb.folder / "var" / "lb.pid", lb.folder / "lb.log"
    demon = demonize(
        lb, "--pidfile", "var/lb.pid", "--logfile=lb.log", "--rundir", "var", "--umask=027",
        "lb", "--config", "lb.toml", log=log, pid_file=pid_file,
    )  # fmt: skip
    load = two(lb.port).begin()
    for turn in range(2):
        lb.upgrade()
        load.more()
        assert pid_file.read_text() == str(demon.pid)
        assert lb.log.count("starting up.") == turn + 2
        assert os.readlink(f"/proc/{demon.pid}/cwd") == str(lb.folder / "var")
        assert "Umask:\t0027" in Path(f"/proc/{demon.pid}/status").read_text()
    # Logrotate.
    log.rename(lb.folder / "lb.log.old")
    os.kill(demon.pid, signal.SIGUSR1)
    until(log.exists, "a new log")
    lb.upgrade()
    assert lb.log.count("starting up.") == 1
    assert "the new program rehearses" in lb.log
    assert load.end() == []
    os.kill(demon.pid, TERM)
    demon.wait()
    until(lambda: not pid_file.exists(), "the pid file goes")
    assert "Traceback" not in lb.log
    assert not list(lb.folder.glob("**/twistd.*"))


def test_a_daemon_without_options_has_those_of_twistd(daemon):
    lb = daemon()
    pid_file, log = lb.folder / "twistd.pid", lb.folder / "twistd.log"
    demon = demonize(lb, "lb", "--config", "lb.toml", log=log, pid_file=pid_file)
    lb.upgrade()
    assert pid_file.read_text() == str(demon.pid)
    assert lb.log.count("starting up.") == 2
    os.kill(demon.pid, USR2)
    lb.arrive(2)
    os.kill(demon.pid, TERM)
    demon.wait()
    assert not pid_file.exists()


@pytest.mark.skipif(not AS_ANYBODY, reason="needs to be root, and setpriv")
def test_one_that_has_become_another_user_stays_it(world, daemon):
    world.folder.chmod(0o777)
    lb = daemon(head="")
    pid_file, log = lb.folder / "lb.pid", lb.folder / "lb.log"
    words = ["--pidfile", str(pid_file), "--logfile", str(log), "--uid", "65534", "--gid", "65534"]
    demon = demonize(lb, *words, "lb", "--config", str(lb.file), before=AS_ANYBODY, log=log, pid_file=pid_file)
    load = two(lb.port).begin()
    for _ in range(2):
        lb.upgrade()
        load.more()
        for pid in (demon.pid, *lb.pids().values()):
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"Uid:\t65534\t65534\t65534\t65534", status)
            assert re.search(r"Gid:\t65534\t65534\t65534\t65534", status)
    lb.forget_old()
    # A parent that begins as root finds those of the user that it is going to be.
    os.kill(demon.pid, KILL)
    demon.wait()
    load.more()
    pid_file.unlink()
    demon = demonize(lb, *words, "lb", "--config", str(lb.file), before=AS_ANYBODY, log=log, pid_file=pid_file)
    assert "the parent before this one has died: its workers are found" in lb.log
    load.more()
    assert load.end() == []
    os.kill(demon.pid, TERM)
    demon.wait()


def test_a_tac_file_and_a_program_by_a_relative_path(daemon):
    lb = daemon()
    (lb.folder / "lb.tac").write_text(TAC.format(file=str(lb.file)))
    bin_ = lb.folder / "bin"
    bin_.symlink_to(BIN)
    pid_file, log = lb.folder / "tac.pid", lb.folder / "tac.log"
    demon = demonize(
        lb,
        "-y",
        "lb.tac",
        "--pidfile=tac.pid",
        "-l",
        "tac.log",
        "-d",
        "/",
        program="bin/twistd",
        log=log,
        pid_file=pid_file,
    )
    load = two(lb.port).begin()
    lb.upgrade()
    lb.upgrade()
    load.more()
    assert load.end() == []
    good = lb.file.read_text()
    lb.file.write_text(good + "no_such_key = 1\n")
    assert "no_such_key" in str(lb.ask("/v1/upgrade", "POST", {}))
    os.kill(demon.pid, TERM)
    demon.wait()
    assert not pid_file.exists()


TAC = """
from twisted.application.service import Application
from twisted_lb.tap import load_balancer

application = Application("lb")
load_balancer("--config", {file!r}).setServiceParent(application)
"""


def test_in_the_foreground_too_the_pid_file_is_kept(daemon):
    lb = daemon()
    lb.start(program=[TWISTD, "-n", "--pidfile", "x.pid", "lb"])
    pid_file = lb.folder / "x.pid"
    assert pid_file.read_text() == str(lb.lb.pid)
    lb.upgrade()
    assert pid_file.read_text() == str(lb.lb.pid)
    lb.lb.signal(TERM)
    assert lb.lb.wait() == -TERM
    assert not pid_file.exists()


@pytest.mark.parametrize("script", [False, True])
def test_behind_a_link_is_another_version_by_now(daemon, copies, script):
    """Its counters go on, its old workers understand it, and its new ones are of the new environment."""
    lb = daemon()
    current = lb.folder / "current"
    for name in ("v1", "v2"):
        packages = copies.venv(name)
        copies.make(f"{name}/packages")
        (next((packages / "lib").glob("python*")) / "site-packages" / "first.pth").write_text(
            f"import sys; sys.path.insert(0, {str(packages / 'packages')!r})\n"
        )
    init = lb.folder / "v2" / "packages" / "twisted_lb" / "__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "9.9.9"', init.read_text()))
    current.symlink_to("v1")
    lb.environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = ["current/bin/twistd", "-n", "lb"] if script else ["current/bin/python", "-m", "twisted_lb", "lb"]
    lb.start(program=words)
    load = two(lb.port).begin()
    before = lb.metrics("twisted_lb_requests_total")
    current.unlink()
    current.symlink_to("v2")
    lb.upgrade()
    load.more()
    assert lb.ask("/v1/status")["version"] == "9.9.9"
    assert "twisted_lb 9.9.9 " in lb.log
    lb.forget_old()
    assert load.end() == []
    answered = sum(one.answered for one in load.callers)
    # What old workers count that only their own program understands is known as far as it was told before.
    assert before <= lb.metrics("twisted_lb_requests_total") <= answered
    for pid in lb.pids().values():
        assert any(name in read(f"/proc/{pid}/cmdline") for name in ("/v2/bin/", "/current/bin/"))
    lb.upgrade()
    assert lb.ask("/v1/status")["version"] == "9.9.9"


def read(path: str) -> str:
    return Path(path).read_text()


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path)


class Manager:
    """A service manager that takes in all that it is told."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.told: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while told := self.sock.recv(4096):
            self.told.put(told)

    def hears(self, word: bytes) -> bytes:
        """Wait for a message that begins so."""
        while not (told := self.told.get(timeout=PATIENCE_S)).startswith(word):
            pass
        return told

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.sock.getsockname())
        self.sock.close()


def test_a_service_manager_is_told_of_it_and_its_watchdog_goes_on(daemon, tmp_path):
    lb = daemon()
    with contextlib.closing(Manager(tmp_path / "notify")) as manager:
        lb.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        lb.start()
        manager.hears(b"READY=1")
        for turn in range(2):
            lb.lb.signal(USR2)
            assert b"\nMONOTONIC_USEC=" in manager.hears(b"RELOADING=1")
            manager.hears(b"READY=1")
            lb.arrive(turn + 1)
            manager.hears(b"WATCHDOG=1")
        good = lb.file.read_text()
        lb.file.write_text("no_such_key = 1\n")
        lb.lb.signal(USR2)
        lb.lb.wait_for("nothing was changed")
        manager.hears(b"WATCHDOG=1")
        lb.file.write_text(good)
        lb.lb.signal(TERM)
        manager.hears(b"STOPPING=1")
        assert lb.lb.wait() == -TERM


ACTIVATE = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def test_a_socket_of_a_service_manager_is_kept(daemon):
    lb = daemon()
    lb.start(program=[sys.executable, "-c", ACTIVATE, str(lb.port), *MODULE[1:]])
    load = two(lb.port).begin()
    for _ in range(2):
        lb.upgrade()
        load.more()
    lb.forget_old()
    assert load.end() == []
    assert not any(is_worker(pid) for pid in lb.pids("drains").values())
