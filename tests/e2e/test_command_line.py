"""Wrong input against every way to start: one line on stderr, a status, and nothing left behind.

Real processes, run side by side, as what twistd does around its fork cannot be seen otherwise.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import urlopen

import pytest
from ports import free_port
from processes import listening

BIN = Path(sys.executable).parent
AT_ONCE = 8
PATIENCE_S = 120.0  # beside other load

Words = list[str]


@dataclass
class Run:
    """One finished process."""

    name: str
    folder: Path
    status: int
    stdout: str
    stderr: str


@dataclass
class Start:
    """A process to start in a folder of its own."""

    name: str
    folder: Path
    words: Words


def finished(starts: Iterable[Start]) -> Iterator[Run]:
    """Run them, a few at a time; whatever does not end is killed and reported as -9."""
    waiting = list(starts)
    while waiting:
        batch, waiting = waiting[:AT_ONCE], waiting[AT_ONCE:]
        processes = [(start, begin(start)) for start in batch]
        for start, process in processes:
            try:
                out, err = process.communicate(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            if process.returncode:
                let_daemon_end(start.folder)
            end_daemon(start.folder)
            yield Run(start.name, start.folder, process.returncode, out, err)


def begin(start: Start) -> "subprocess.Popen[str]":
    start.folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        start.words,
        cwd=start.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def let_daemon_end(folder: Path) -> None:
    """The parent of a daemon that fails has ended when that one is about to: it logs why, and its pid file goes."""
    deadline = time.monotonic() + PATIENCE_S
    while (folder / "twistd.pid").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def end_daemon(folder: Path) -> None:
    """A daemon that should not have started must not outlive the test."""
    file = folder / "twistd.pid"
    if file.exists():
        os.kill(int(file.read_text()), signal.SIGKILL)


def tool(name: str) -> str:
    return str(BIN / name)


def tac(folder: Path, words: Words, maker: str) -> Path:
    """A .tac file that starts what `twistd lb WORDS` or `twistd be WORDS` starts."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "service.tac"
    module = {"load_balancer": "tap", "backend": "backend_tap"}[maker]
    file.write_text(
        "from twisted.application.service import Application\n"
        f"from twisted_lb.{module} import {maker}\n"
        "application = Application('test')\n"
        f"{maker}(*{words!r}).setServiceParent(application)\n"
    )
    return file


def make_by_command(*before: str) -> Callable[[Path, str, Words], Words]:
    return lambda folder, command, words: [*before, command, *words]


def make_by_tac(*before: str) -> Callable[[Path, str, Words], Words]:
    def make(folder: Path, command: str, words: Words) -> Words:
        maker = {"lb": "load_balancer", "be": "backend"}[command]
        return [*before, "-y", str(tac(folder, words, maker))]

    return make


WAYS = {
    "twistd -n": make_by_command(tool("twistd"), "-n"),
    "twistd": make_by_command(tool("twistd")),
    "twist": make_by_command(tool("twist")),
    "twistd -n -y": make_by_tac(tool("twistd"), "-n"),
    "twistd -y": make_by_tac(tool("twistd")),
    "python -m": make_by_command(sys.executable, "-m", "twisted_lb"),
}


@contextmanager
def taken_port() -> Iterator[int]:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


WRONG_TOML = {
    "syntax.toml": "backends = [",
    "page.toml": 'error_pages = {503 = "/nowhere"}\n[listen]\nport = 0\n',
    "key.toml": 'backends = ["a:80"]\nretries = 3\n[listen]\nport = "x"\n',
    "include.toml": 'include = ["none.toml"]\n',
}

B = ["-b", "127.0.0.1:8081"]

# What is typed, and what the line on stderr begins with after `twistd lb: `.
WRONG: list[tuple[Words, str]] = [
    (["-b", "nowhere"], "--backend: "),
    ([*B, "127.0.0.1:70000"], "--backend: "),
    ([*B, *B], "--backend: 127.0.0.1:8081 is there twice"),
    (["-b"], "argument -b/--backend: expected at least one argument"),
    ([], "no backend: give at least one"),
    ([*B, "-s", "best"], "--strategy: should be one of rr, rand"),
    ([*B, "-c", "-1"], "--healthcheck: should be greater than or equal to 0, not -1"),
    ([*B, "-c", "nan"], "--healthcheck: should be a finite number"),
    ([*B, "-p", "70000"], "--port: should be less than or equal to 65535, not 70000"),
    ([*B, "-p", "8080", "-p", "8081"], "argument -p/--port: given twice: 8080 and 8081"),
    ([*B, "-p", "8080", "b:1"], "unrecognized arguments: b:1 (backends need -b)"),
    (["-b", "http://127.0.0.1:8081"], "--backend: 'http://127.0.0.1:8081': no http://, expected HOST:PORT"),
    (["--config", "{folder}/none.toml"], "{folder}/none.toml: No such file or directory"),
    ([*B, "-p", "{taken}", "--interface", "127.0.0.1"], "127.0.0.1:{taken}: already in use"),
    ([*B, "--interface", "192.0.2.1"], "192.0.2.1:80: not an address of this machine"),
    (
        [*B, "--interface", "127.0.0.1", "-p", "{free}", "--status", "127.0.0.1:{free}"],
        "--status: 127.0.0.1:{free} is taken by listen",
    ),
]


# What is in a file, and all that is said of it on stderr.
WRONG_FILES = {
    "page.toml": """\
{folder}/page.toml:1:22: error_pages.503: /nowhere: no such file or directory
    1 | error_pages = {{503 = "/nowhere"}}
      |                      ^^^^^^^^^^
1 error; nothing was started
""",
    "syntax.toml": """\
{folder}/syntax.toml:1:13: Invalid value; the file ends before that is complete
    1 | backends = [
      |             ^
1 error; nothing was started
""",
    "key.toml": """\
{folder}/key.toml:2:1: retries: unknown key; that is more_attempts in [pools.NAME.retry] here, flat [retry]
    2 | retries = 3
      | ^^^^^^^
{folder}/key.toml:4:8: listen.port: should be a valid integer, not 'x'
    4 | port = "x"
      |        ^^^
2 errors; nothing was started
""",
    "include.toml": """\
{folder}/include.toml:1:12: {folder}/none.toml: No such file or directory
    1 | include = ["none.toml"]
      |            ^^^^^^^^^^^
1 error; nothing was started
""",
}


def some_ways(number: int) -> list[str]:
    """The first of a table in all ways, of the others one each, in turn."""
    ways = list(WAYS)
    return ways if number == 0 else [ways[number % len(ways)]]


@pytest.mark.parametrize("ways", [some_ways, pytest.param(lambda number: list(WAYS), marks=pytest.mark.long)])
def test_wrong_input_is_one_line_and_leaves_nothing(tmp_path: Path, ways: Callable[[int], list[str]]) -> None:
    said: dict[str, str] = {}

    def starts(values: dict[str, object]) -> Iterator[Start]:
        for number, (words, line) in enumerate(WRONG):
            for way in ways(number):
                name = f"{way} {number}"
                said[name] = line.format(**values)
                folder = tmp_path / name.replace(" ", "")
                typed = [word.format(**values) for word in words]
                yield Start(name, folder, WAYS[way](folder, "lb", typed))

    with taken_port() as port:
        runs = list(finished(starts({"folder": tmp_path, "taken": port, "free": free_port()})))
    faults = [
        fault for run in runs for fault in faults_of(run, f"twistd lb: {said[run.name]}", status_of(said[run.name]))
    ]
    assert faults == []
    assert len(runs) == sum(len(ways(number)) for number in range(len(WRONG)))


@pytest.mark.parametrize("ways", [some_ways, pytest.param(lambda number: list(WAYS), marks=pytest.mark.long)])
def test_a_wrong_file_is_shown_with_its_lines_and_leaves_nothing(
    tmp_path: Path, ways: Callable[[int], list[str]]
) -> None:
    starts = []
    for number, (file, text) in enumerate(WRONG_TOML.items()):
        (tmp_path / file).write_text(text)
        for way in ways(number):
            folder = tmp_path / f"{way}{file}".replace(" ", "")
            words = [*(B if file != "key.toml" else []), "--config", str(tmp_path / file)]
            starts.append(Start(file, folder, WAYS[way](folder, "lb", words)))
    for run in finished(starts):
        assert run.stderr == WRONG_FILES[run.name].format(folder=tmp_path)
        assert list(faults_of(run, "", lines=run.stderr.count("\n"))) == []


# What a look at a file says, and how it ends.
LOOKS = {
    "fine.toml": (0, "no problem; {file} can be loaded\n"),
    "key.toml": (1, WRONG_FILES["key.toml"].replace("nothing was started", "{file} is refused")),
    "none.toml": (3, "{file}: No such file or directory\n1 error; {file} is refused\n"),
}


def test_a_look_at_a_file_binds_nothing_and_ends_with_its_status_whatever_the_way(tmp_path: Path) -> None:
    (tmp_path / "key.toml").write_text(WRONG_TOML["key.toml"])
    starts = []
    with taken_port() as port:
        text = f'backends = ["nowhere.invalid:1"]\n[listen]\ninterface = "127.0.0.1"\nport = {port}\n'
        (tmp_path / "fine.toml").write_text(text)
        for number, file in enumerate(LOOKS):
            for way in some_ways(number):
                folder = tmp_path / f"{way}{file}".replace(" ", "")
                words = ["--config", str(tmp_path / file), "--check"]
                starts.append(Start(file, folder, WAYS[way](folder, "lb", words)))
        for run in finished(starts):
            status, said = LOOKS[run.name]
            assert run.stderr == said.format(folder=tmp_path, file=tmp_path / run.name)
            assert list(faults_of(run, "", status, run.stderr.count("\n"))) == []


def status_of(line: str) -> int:
    """1 for what this machine refuses, 2 for what is wrong anywhere."""
    refused = "already in use", "not an address of this machine", "No such file or directory"
    return 1 if line.endswith(refused) else 2


def faults_of(run: Run, line: str, status: int = 1, lines: int = 1) -> Iterator[str]:
    """What is not as it should be about a process that was to fail with that line, or so many."""
    where = f"{run.name}: {run.stderr!r}"
    if run.status != status:
        yield f"status {run.status}, {where}"
    if not run.stderr.startswith(line) or run.stderr.count("\n") != lines:
        yield f"expected {line!r}, {where}"
    if "Traceback" in run.stdout + logged(run.folder):
        yield f"traceback in the log, {where}"
    left = {path.name for path in run.folder.iterdir()} - {"service.tac", "twistd.log"}
    if left - {"__pycache__"}:
        yield f"left behind {left}, {where}"


def logged(folder: Path) -> str:
    log = folder / "twistd.log"
    return log.read_text() if log.exists() else ""


@pytest.mark.long
def test_the_sibling_backend_fails_the_same_way(tmp_path: Path) -> None:
    with taken_port() as port:
        words = ["-p", str(port), "--interface", "127.0.0.1"]
        starts = [
            Start(way, tmp_path / str(i), make(tmp_path / str(i), "be", words))
            for i, (way, make) in enumerate(WAYS.items())
        ]
        line = f"twistd be: 127.0.0.1:{port}: already in use"
        assert [fault for run in finished(starts) for fault in faults_of(run, line)] == []


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6")
def test_every_interface_means_ipv6_too(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_INET6)) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = WAYS["twistd"](tmp_path, "lb", [*B, "-p", str(port)])
        (run,) = finished([Start("twistd", tmp_path, words)])
    assert list(faults_of(run, f"twistd lb: port {port}: already in use")) == []


def unprivileged_port() -> int:
    """A port that needs the privilege, or 0 where none does."""
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return min(81, int(first.read_text()) - 1) if first.exists() else 81


@pytest.mark.skipif(unprivileged_port() < 1, reason="every port is allowed here")
@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root, and no setpriv")
@pytest.mark.long
def test_a_port_that_is_not_permitted_is_one_line(tmp_path: Path) -> None:
    drop = ["setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service"]
    without = drop if os.geteuid() == 0 else []
    port = unprivileged_port()
    starts = []
    for number, (command, words) in enumerate((("lb", B), ("be", []))):
        for way in some_ways(number):
            folder = tmp_path / f"{command}{way}".replace(" ", "")
            typed = WAYS[way](folder, command, [*words, "-p", str(port)])
            starts.append(Start(f"{command} {way}", folder, [*without, *typed]))
    for run in finished(starts):
        line = f"twistd {run.name[:2]}: port {port}: permission denied"
        assert list(faults_of(run, line)) == []


# A service that a .tac file makes itself only learns after the fork that it cannot listen.
LATE_TAC = """\
from twisted.application.service import Application
from twisted_lb.sibling.service import BackendService
application = Application("test")
BackendService({port}, "127.0.0.1").setServiceParent(application)
"""


def test_a_port_lost_at_the_last_moment_is_still_no_traceback(tmp_path: Path) -> None:
    with taken_port() as port:
        file = tmp_path / "late.tac"
        file.write_text(LATE_TAC.format(port=port))
        front, daemon = finished(
            [
                Start("front", tmp_path / "front", [tool("twistd"), "-n", "-y", str(file)]),
                Start("daemon", tmp_path / "daemon", [tool("twistd"), "-y", str(file)]),
            ]
        )
    line = f"127.0.0.1:{port}: already in use"
    assert list(faults_of(front, f"twistd be: {line}")) == []
    # Twisted's own two lines: the daemon can only send its parent the first 98 bytes.
    assert daemon.stderr == (
        f"An error has occurred: b'twisted_lb.errors.StartError: {line}'\n"
        "Please look at log file for more information.\n"
    )
    assert daemon.status == 1
    # The parent has ended before its daemon writes that.
    until(lambda: f"twistd be: {line}" in logged(daemon.folder))
    assert "Traceback" not in logged(daemon.folder)
    assert not (daemon.folder / "twistd.pid").exists()


# Half of these have each way with each command and each flag, and each command with each flag.
ASKED = [
    (way, command, flag)
    for way in ("twistd -n", "twist", "python -m")
    for command in ("lb", "be")
    for flag in ("-h", "--version")
]
HALF = [one for number, one in enumerate(ASKED) if (number % 4 in (0, 3)) == (number // 4 % 2 == 0)]


@pytest.mark.parametrize("asked", [HALF, pytest.param(ASKED, marks=pytest.mark.long)], ids=["half", "all"])
@pytest.mark.long
def test_help_and_version_are_no_mistakes(tmp_path: Path, asked: list[tuple[str, str, str]]) -> None:
    starts = [
        Start(f"{way} {flag}", tmp_path / str(i), WAYS[way](tmp_path, command, [flag]))
        for i, (way, command, flag) in enumerate(asked)
    ]
    for run in finished(starts):
        assert (run.status, run.stderr) == (0, "")
        assert run.stdout.startswith(("usage: twistd -n ", "twisted_lb "))


def test_a_sibling_daemon_starts_and_ends_without_a_trace(tmp_path: Path) -> None:
    words = WAYS["twistd"](tmp_path, "be", ["-p", "0", "--interface", "127.0.0.1"])
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    until(lambda: "answers on 127.0.0.1:" in logged(tmp_path))
    port = int(logged(tmp_path).partition("answers on 127.0.0.1:")[2].split()[0].rstrip(",;"))
    # Who answers has begun to run; a signal before that would end it as it ends any process.
    with urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    os.kill(int((tmp_path / "twistd.pid").read_text()), signal.SIGTERM)
    until(lambda: not (tmp_path / "twistd.pid").exists())
    assert "Traceback" not in logged(tmp_path)


def test_the_module_runs_in_the_foreground_without_a_pid_file(tmp_path: Path) -> None:
    words = WAYS["python -m"](tmp_path, "be", ["-p", "0", "--interface", "127.0.0.1"])
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("answers on 127.0.0.1:" in line for line in process.stdout)
            assert list(tmp_path.iterdir()) == []
        finally:
            process.terminate()
        # twistd ends by the signal that it was sent.
        assert process.wait(PATIENCE_S) == -signal.SIGTERM


def test_a_pid_file_that_names_the_process_itself_is_no_other_server(tmp_path: Path) -> None:
    """As in a container that was killed and started again."""
    (tmp_path / "be.sh").write_text('echo $$ >twistd.pid; exec "$@"\n')
    port = free_port()
    words = ["sh", "be.sh", tool("twistd"), "-n", "be", "-p", str(port), "--interface", "127.0.0.1"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: listening(port) or process.poll() is not None)
            # Who answers has begun to run, and hears signals.
            with urlopen(f"http://127.0.0.1:{port}/", timeout=PATIENCE_S) as answer:
                assert answer.status == 200
            assert int((tmp_path / "twistd.pid").read_text()) == process.pid
        finally:
            process.terminate()
        process.wait(PATIENCE_S)
    assert not (tmp_path / "twistd.pid").exists()


@pytest.mark.parametrize("before", [["-n"], []], ids=["-n", "daemon"])
@pytest.mark.long
def test_files_that_twistd_cannot_write_are_one_line(tmp_path: Path, before: Words) -> None:
    words = [tool("twistd"), *before, "--pidfile", "none/lb.pid", "lb", *B, "-p", "0"]
    (run,) = finished([Start("twistd", tmp_path, words)])
    assert list(faults_of(run, f"twistd lb: pid file {tmp_path}/none/lb.pid: No such file or directory")) == []


# As process 1 of a container, which hears only what it listens for, with imports that take long.
SLOW = """\
import signal, sys, time

class Slow:
    def find_spec(self, name, path, target=None):
        if name == "twisted.scripts":
            sys.meta_path.remove(self)
            print("importing", flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Slow())
signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


def hear_interrupts() -> None:
    """A shell that runs the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def importing(tmp_path: Path, command: str = "lb") -> Iterator[subprocess.Popen[str]]:
    """A process that is being imported."""
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    words = [sys.executable, "-m", "twisted_lb", command, *(B if command == "lb" else []), "-p", "0"]
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    pipe = subprocess.PIPE
    hear = hear_interrupts
    with subprocess.Popen(words, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=hear) as process:  # noqa: PLW1509
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "importing\n"
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """With which status a signal ends it, and what it says."""
    process.send_signal(number)
    status = process.wait(PATIENCE_S)
    assert process.stderr is not None
    return status, process.stderr.read()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT), (signal.SIGQUIT, 0)],
)
def test_the_module_can_be_ended_while_it_is_still_being_imported(tmp_path: Path, number: int, status: int) -> None:
    with importing(tmp_path) as process:
        assert ended(process, number) == (status, "")


@pytest.mark.parametrize("command", ["lb", "be"])
def test_an_interrupt_is_a_graceful_stop_once_the_module_runs(tmp_path: Path, command: str) -> None:
    port = free_port()
    words = [sys.executable, "-m", "twisted_lb", command, *(B if command == "lb" else []), "-p", str(port)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, text=True, preexec_fn=hear_interrupts) as process:  # noqa: PLW1509
        try:
            until(lambda: listening(port))
            with closing(HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as client:
                client.request("GET", "/")
                assert client.getresponse().status
            process.send_signal(signal.SIGINT)
            log, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT
    assert "Received SIGINT, shutting down." in log
    assert "Server Shut Down." in log


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_the_module_survives_other_signals_while_it_is_still_being_imported(tmp_path: Path, number: int) -> None:
    with importing(tmp_path) as process:
        process.send_signal(number)
        assert ended(process, signal.SIGTERM) == (-signal.SIGTERM, "")


def test_a_backend_ends_with_its_terminal_also_while_it_is_still_being_imported(tmp_path: Path) -> None:
    with importing(tmp_path, "be") as process:
        assert ended(process, signal.SIGHUP) == (-signal.SIGHUP, "")


def until(condition: Callable[[], bool]) -> None:
    """Wait for it; there is nothing to await about a daemon of another process group."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
