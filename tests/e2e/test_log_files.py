"""The log of a real twistd: bounded, and opened anew when its file was renamed."""

import http.client
import signal
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import Stage, listening, stage, until

from twisted_lb.config.observe import LogConfig

TAC = """\
from twisted.application.service import Application, MultiService
from twisted_lb.tap import load_balancer

application = Application("mine")
services = MultiService()
services.setServiceParent(application)
load_balancer({words}).setServiceParent(services)
"""


@pytest.fixture
def world(tmp_path: Path):
    with stage(tmp_path) as one:
        yield one


def ask(port: int, path: str) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", path)
        return connection.getresponse().status


def started(world: Stage, how: str, log: Path, *options: str):
    """A balancer in front of nobody, with a log file; `how`: as a command, or by a .tac file."""
    port = free_port()
    words = ["-p", str(port), "--interface", "127.0.0.1", "-b", f"127.0.0.1:{free_port()}", "-c", "0", *options]
    if how == "tac":
        (world.folder / "mine.tac").write_text(TAC.format(words=", ".join(map(repr, words))))
    command = ["-y", "mine.tac"] if how == "tac" else ["lb", *words]
    running = world.twistd("twistd", "--logfile", str(log), *command)
    until(lambda: listening(port) or running.process.poll() is not None, "the balancer")
    assert running.process.poll() is None, running.log
    return running, port


@pytest.mark.parametrize("signalled", [True, False], ids=["SIGUSR1", "no signal"])
@pytest.mark.parametrize("how", ["command", "tac"])
def test_after_a_rename_the_log_goes_on_in_a_file_of_that_name(world, tmp_path, how, signalled):
    log = tmp_path / "lb.log"
    running, port = started(world, how, log)
    until(lambda: "twisted_lb" in log.read_text(), "the line at start")
    log.rename(tmp_path / "moved.log")
    if signalled:
        running.signal(signal.SIGUSR1)
        until(log.exists, "a log of that name")

    def asked() -> bool:
        ask(port, "/here")
        return log.exists() and "/here" in log.read_text()

    until(asked, "the request in the new log")
    assert "Traceback" not in log.read_text() + (tmp_path / "moved.log").read_text()
    assert [path.name for path in tmp_path.glob("*.log.*")] == []


def test_a_log_is_bounded_with_its_old_files(world, tmp_path):
    text = '[log]\nrequests = "all"\nfile_bytes = 2000\nold_files = 2\n[queue]\nno_backend_s = 0\n'
    (tmp_path / "lb.toml").write_text(text)
    log = tmp_path / "logs" / "lb.log"
    log.parent.mkdir()
    _, port = started(world, "command", log, "--config", str(tmp_path / "lb.toml"))
    for number in range(60):
        assert ask(port, f"/{number}") in (502, 503)
    until(lambda: "/59 " in log.read_text(), "the last request")
    assert sorted(path.name for path in log.parent.iterdir()) == ["lb.log", "lb.log.1", "lb.log.2"]
    assert all(path.stat().st_size <= 2000 for path in log.parent.iterdir())


def test_the_log_of_a_sibling_backend_has_the_same_bound(world, tmp_path):
    """twistd's own is a million bytes, and any number of old files."""
    log = tmp_path / "logs" / "be.log"
    log.parent.mkdir()
    port = free_port()
    running = world.twistd("be", "--logfile", str(log), "be", "-p", str(port), "--interface", "127.0.0.1")
    until(lambda: listening(port), "the backend")

    def grow(most: int) -> None:
        with log.open("ab") as file:
            file.write(b"x" * (most - log.stat().st_size - 1) + b"\n")

    def written() -> str:
        assert ask(port, "/down?seconds=0.01") == 200
        until(lambda: listening(port), "the backend again")
        return log.read_text()

    grow(2_000_000)
    until(lambda: written().count("is back") > 1, "lines behind it")
    old = log.with_name("be.log.1")
    assert not old.exists()
    grow(LogConfig().file_bytes)
    until(lambda: written() and old.exists(), "the bound")
    assert LogConfig().file_bytes <= old.stat().st_size  # what others write is seen within a second
    log.rename(tmp_path / "moved.log")
    running.signal(signal.SIGUSR1)
    until(log.exists, "a log of that name")
    assert log.stat().st_size == 0
    assert sorted(path.name for path in log.parent.iterdir()) == ["be.log", "be.log.1"]
    assert running.process.poll() is None
