"""Respawning: the command line of the program that takes the place of this one."""

import os

import pytest

from twisted_lb.respawn import Respawn

PYTHON = "/venv/bin/python"


def again(*words: str) -> Respawn:
    return Respawn((PYTHON, *words), "/srv", PYTHON)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        # What is no daemon has nothing to leave out.
        (["-m", "twisted_lb", "lb", "-b", "a:1"], ["-m", "twisted_lb", "lb", "-b", "a:1"]),
        (["-P", "-m", "twisted_lb", "lb", "-n"], ["-P", "-m", "twisted_lb", "lb", "-n"]),
        (
            ["/venv/bin/twistd", "-n", "lb", "-b", "a:1", "-n"],
            ["/venv/bin/twistd", "--nodaemon", "--pidfile=", "lb", "-b", "a:1", "-n"],
        ),
        # A daemon that has no log of another name has this one.
        (
            ["bin/twistd", "lb", "--config", "lb.toml"],
            ["bin/twistd", "--nodaemon", "--pidfile=", "--logfile=twistd.log", "lb", "--config", "lb.toml"],
        ),
        (
            ["twistd", "-l", "x.log", "--pidfile=/run/x.pid", "-u", "nobody", "--gid", "nogroup", "-y", "lb.tac"],
            ["twistd", "--nodaemon", "--pidfile=", "-l", "x.log", "-y", "lb.tac"],
        ),
        (
            ["twistd", "--syslog", "--euid", "--uid=1", "--rundir", "/var", "--umask=022", "lb"],
            ["twistd", "--nodaemon", "--pidfile=", "--syslog", "--rundir=/var", "--umask=022", "lb"],
        ),
        # Options may be abbreviated, and twistd may be a module.
        (
            ["-W", "ignore", "-m", "twisted.scripts.twistd", "--nod", "--logf=y", "lb"],
            ["-W", "ignore", "-m", "twisted.scripts.twistd", "--nodaemon", "--pidfile=", "--logfile=y", "lb"],
        ),
    ],
)
def test_what_has_been_done_is_left_out_and_the_rest_is_as_it_was(words, wanted):
    assert again(*words).words == [PYTHON, *wanted]


def test_a_program_that_was_respawned_is_respawned_alike():
    first = again("twistd", "--logfile=x", "lb", "-b", "a:1")
    assert again(*first.words[1:]).words == first.words


@pytest.mark.parametrize(
    ("words", "pid_file"),
    [
        (["twistd", "lb"], "/srv/twistd.pid"),
        (["twistd", "-n", "lb"], "/srv/twistd.pid"),
        (["twistd", "--pidfile", "run/x", "lb"], "/srv/run/x"),
        (["twistd", "--pidfile=/run/x", "lb"], "/run/x"),
        (["twistd", "--pidfile=", "lb"], ""),
        (["-m", "twisted_lb", "lb"], ""),
    ],
)
def test_the_pid_file_is_twistds(words, pid_file):
    assert again(*words).pid_file == pid_file


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-c", "import x"], "it is a program of `python -c`"),
        (["-i"], "it has no program"),
        (["twistd", "--chroot", "/x", "lb"], "it was started with --chroot"),
        (
            ["twistd", "--no-such-thing", "lb"],
            "twistd's options are not understood: option --no-such-thing not recognized",
        ),
    ],
)
def test_what_cannot_be_started_again_is_said(words, why):
    with pytest.raises(ValueError) as raised:
        again(*words)
    assert str(raised.value) == why


def test_this_process_is_started_again_from_where_it_was_started():
    assert Respawn((PYTHON, "twistd", "lb")).folder == os.getcwd()


@pytest.mark.parametrize("options", [[], ["-sP"]])
def test_a_script_is_executed_whatever_interpreter_it_names_by_now(options):
    """The interpreter of another version is in another place."""
    named = [PYTHON, *options]
    one = Respawn((*named, "current/bin/twistd", "-n", "lb"), "/srv", PYTHON, named)
    assert (one.executable, one.words) == (
        "/srv/current/bin/twistd",
        ["current/bin/twistd", "--nodaemon", "--pidfile=", "lb"],
    )


def test_a_script_whose_interpreter_was_named_by_whoever_started_it_has_it_again():
    words = ("/opt/python", "/venv/bin/twistd", "-n", "lb")
    one = Respawn(words, "/srv", "/opt/python", [PYTHON])
    assert (one.executable, one.words[:2]) == ("/opt/python", ["/opt/python", "/venv/bin/twistd"])


@pytest.mark.parametrize(
    ("words", "log_file", "run_folder"),
    [
        (["twistd", "lb"], "/srv/twistd.log", ""),
        (["twistd", "-n", "lb"], "", ""),
        (["twistd", "-n", "-l", "-", "lb"], "", ""),
        (["twistd", "--logfile", "x", "-d", "var", "lb"], "/srv/x", "/srv/var"),
        (["twistd", "--syslog", "--rundir=/", "lb"], "", "/"),
        (["-m", "twisted_lb", "lb"], "", ""),
    ],
)
def test_the_log_file_and_the_folder_are_twistds(words, log_file, run_folder):
    one = again(*words)
    assert (one.log_file, one.run_folder) == (log_file, run_folder)


def is_in_the_way(folder, *words: str) -> str:
    return Respawn((PYTHON, "twistd", *words, "lb"), str(folder), PYTHON).obstacle()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_was_had_as_another_user_is_in_the_way(tmp_path):
    log, private = tmp_path / "x.log", tmp_path / "private"
    log.touch(0o644)
    private.mkdir(0o700)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(folder, 0o755)
    assert is_in_the_way(tmp_path, "-l", "x.log", "-d", "private") == ""
    os.seteuid(65534)
    try:
        assert is_in_the_way(tmp_path, "-l", "x.log") == f"{log}: Permission denied"
        assert is_in_the_way(tmp_path, "-l", "y.log") == f"{tmp_path}/y.log: Permission denied"
        assert is_in_the_way(tmp_path, "-l", "-", "-d", "private") == f"{private}: Permission denied"
        assert is_in_the_way(tmp_path, "-l", "-") == ""
    finally:
        os.seteuid(0)
