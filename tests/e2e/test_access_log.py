"""The access log of a real balancer: a file that is rotated under load, a reload, a stop; standard output."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import Stage, listening, stage, until

HALOG = shutil.which("halog")
TOML = """\
[log]
file = "{file}"
format = "{form}"

[[routes]]
path = "/health"
pool = "default"
log = false
"""


@pytest.fixture
def world(tmp_path: Path):
    with stage(tmp_path) as one:
        yield one


def started(world: Stage, file: str, form: str):
    """A balancer in front of a sibling, with an access log."""
    _, backend = world.backend()
    toml = world.folder / "lb.toml"
    toml.write_text(TOML.format(file=file, form=form))
    return world.balancer("-b", f"127.0.0.1:{backend}", "--config", str(toml))


def ask(port: int, *paths: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for path in paths:
            connection.request("GET", path)
            connection.getresponse().read()


@pytest.mark.skipif(HALOG is None, reason="halog is missing (Debian: apt install haproxy)")
def test_every_request_is_in_one_of_the_files_over_a_rotation_a_reload_and_a_stop(world, tmp_path):
    log, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    running, port = started(world, str(log), "haproxy")
    asked = 0
    stop = threading.Event()

    def load() -> None:
        nonlocal asked
        while not stop.is_set():
            ask(port, *(f"/{number}" for number in range(asked, asked + 20)))
            asked += 20

    thread = threading.Thread(target=load)
    thread.start()
    try:
        until(lambda: log.stat().st_size > 5000, "lines")
        log.rename(moved)
        running.signal(signal.SIGUSR1)
        until(lambda: log.exists() and log.stat().st_size > 5000, "lines in the new file")
        (tmp_path / "lb.toml").write_text(TOML.format(file=log, form="json"))
        running.signal(signal.SIGHUP)
        until(lambda: b"\n{" in log.read_bytes(), "lines in the new form")
    finally:
        stop.set()
        thread.join()
    ask(port, "/health", "/last")
    running.signal(signal.SIGTERM)
    running.wait()
    lines = (moved.read_text() + log.read_text()).splitlines()
    haproxy = [line for line in lines if not line.startswith("{")]
    said = [json.loads(line)["url.path"] for line in lines[len(haproxy) :]]
    paths = [line.split()[13] for line in haproxy] + said
    assert paths == [f"/{number}" for number in range(asked)] + ["/last"]
    counted = subprocess.run(
        [HALOG, "-q", "-s", "-4", "-st"], input="\n".join(haproxy) + "\n", capture_output=True, text=True, check=True
    )
    assert counted.stdout.split() == ["200", str(len(haproxy))]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_the_file_is_that_of_the_user_that_the_daemon_becomes_and_is_opened_anew_by_it(world):
    user, group = 65534, 65533
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # pytest's are for root alone
        os.chown(folder, user, -1)
        log, moved = folder / "access.log", folder / "access.log.1"
        toml = world.folder / "lb.toml"
        toml.write_text(TOML.format(file=log, form="{path}"))
        port = free_port()
        running = world.twistd(
            "lb", "--uid", str(user), "--gid", str(group),
            "lb", "-p", str(port), "--interface", "127.0.0.1", "-b", "127.0.0.1:9", "-c", "0", "--config", str(toml),
        )  # fmt: skip
        until(lambda: listening(port) or running.process.poll() is not None, "the balancer")
        assert (log.stat().st_uid, log.stat().st_gid, log.stat().st_mode & 0o777) == (user, group, 0o640)
        ask(port, "/before")
        until(lambda: log.read_text() == "/before\n", "a line")
        log.rename(moved)
        running.signal(signal.SIGUSR1)
        until(log.exists, "a new file")
        ask(port, "/behind")
        until(lambda: log.read_text() == "/behind\n", "a line in the new file")
        assert (log.stat().st_uid, log.stat().st_gid, log.stat().st_mode & 0o777) == (user, group, 0o640)
        assert moved.read_text() == "/before\n"


def test_standard_output_has_it_beside_the_log(world):
    running, port = started(world, "stdout", "{method} {path} {status} {backend}")
    ask(port, "/one", "/health")
    until(lambda: "GET /one 200 127.0.0.1:" in running.log, "the line")
    assert "\nGET /one 200 " in running.log
    assert "GET /health" not in running.log
