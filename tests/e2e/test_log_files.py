"""The log of a real twistd: bounded, and opened anew when its file was renamed."""

import http.client
import signal
from contextlib import closing
from pathlib import Path

import pytest
from processes import Stage, free_port, listening, stage, until

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
