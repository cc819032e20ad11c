"""twistd's files, before twistd looks at them: what is stale is gone, what is wrong is one line."""

import os
import subprocess
import sys

import pytest

from twisted_lb.errors import StartError
from twisted_lb.pid_file import prepare

DAEMON = {"pidfile": "twistd.pid", "logfile": None, "nodaemon": False, "syslog": False, "logger": None, "chroot": None}
FRONT = {**DAEMON, "nodaemon": True}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pid_of_nobody() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def other() -> "subprocess.Popen[bytes]":
    """Another process, which lives until its stdin is closed."""
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("options", [DAEMON, FRONT])
def test_where_all_is_well_nothing_is_left(folder, options):
    prepare(options, "lb")
    assert files(folder) == []


@pytest.mark.parametrize(("path", "what"), [("twistd.pid", "pid file"), ("./x/../twistd.log", "log")])
def test_a_file_that_is_ours_already_is_not_twistds_too(folder, path, what):
    (folder / "x").mkdir()
    (folder / path).write_text("1")
    with pytest.raises(StartError) as refused:
        prepare(DAEMON, "lb", {"lb.toml:3: state_file": path, "another": "lb.state"})
    own = folder / path.rpartition("/")[2]
    assert str(refused.value) == f"lb.toml:3: state_file: {path} is the {what} {own}"
    assert (folder / path).read_text() == "1"


@pytest.mark.parametrize("text", ["{own}", "{nobody}", "", "0", "99999999999999999999"])
def test_a_pid_file_of_a_dead_or_our_own_process_is_removed(folder, text):
    (folder / "twistd.pid").write_text(text.format(own=os.getpid(), nobody=pid_of_nobody()))
    prepare(FRONT, "lb")
    assert files(folder) == []


def test_one_of_a_process_that_lives_is_left_and_said(folder):
    with other() as process:
        try:
            (folder / "twistd.pid").write_text(str(process.pid))
            with pytest.raises(StartError) as caught:
                prepare(FRONT, "lb")
        finally:
            process.communicate()
    assert str(caught.value) == (
        f"pid file {folder}/twistd.pid: process {process.pid} runs already; --pidfile names another file"
    )
    assert files(folder) == ["twistd.pid"]


def test_one_that_names_no_process_is_left_and_said(folder):
    (folder / "twistd.pid").write_text("secret\n")
    with pytest.raises(StartError, match="'secret' is no process"):
        prepare(FRONT, "lb")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {**FRONT, "pidfile": "none/lb.pid"},
            "pid file {folder}/none/lb.pid: No such file or directory; --pidfile= does",
        ),
        ({**FRONT, "logfile": "none/lb.log"}, "log {folder}/none/lb.log: No such file or directory; --logfile names"),
        ({**FRONT, "pidfile": "."}, "pid file {folder}: Is a directory; "),
        ({**FRONT, "pidfile": "/proc/lb.pid"}, "pid file /proc/lb.pid: "),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line(folder, options, said):
    with pytest.raises(StartError) as caught:
        prepare(options, "lb")
    assert str(caught.value).startswith(said.format(folder=folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("what", ["pid file {folder}/twistd.pid", "log {folder}/twistd.log"])
def test_so_is_a_directory_that_is_not_ours(folder, what):
    folder.chmod(0o500)
    with pytest.raises(StartError) as caught:
        prepare(DAEMON if what.startswith("log") else FRONT, "lb")
    assert str(caught.value).startswith(f"{what.format(folder=folder)}: Permission denied; ")


@pytest.mark.parametrize(
    "options",
    [
        {**FRONT, "pidfile": ""},
        {**FRONT, "pidfile": "none/lb.pid", "chroot": "/"},
        {**FRONT, "logfile": "-"},
        {**FRONT, "logfile": "none/lb.log", "syslog": True},
        {**FRONT, "logfile": "none/lb.log", "logger": object()},
    ],
)
def test_what_twistd_is_not_going_to_write_is_not_looked_at(options):
    prepare(options, "lb")


def test_a_log_that_is_there_is_not_touched(folder):
    (folder / "twistd.log").write_text("before\n")
    prepare(DAEMON, "lb")
    assert (folder / "twistd.log").read_text() == "before\n"
