"""`run_parallel_clients.sh` against a small server of its own: counts, failures, bad input."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest
from some import some

SCRIPT = Path(__file__).parent.parent.parent / "run_parallel_clients.sh"


def run(*words: str, script: Path = SCRIPT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([script, *words], capture_output=True, text=True, timeout=60, check=False)


class Handler(BaseHTTPRequestHandler):
    """Answers as two backends by turns, or badly where the path says so."""

    protocol_version = "HTTP/1.1"
    turns = count()

    def do_GET(self) -> None:
        kind = self.path.strip("/")
        if kind == "close":
            self.close_connection = True
            return
        self.send_response(503 if kind == "status" else 200)
        if kind != "nameless":
            self.send_header("X-Backend", f"backend-{next(self.turns) % 2}")
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hel" if kind == "short" else b"hello")
        self.close_connection = kind == "short"

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


@contextmanager
def serving() -> Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


def test_answers_are_counted_by_backend(url: str) -> None:
    done = run("-u", url, "-c", "10", "-n", "101")
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"101 requests by 10 clients to {url} in ")
    assert sorted(line.split()[1] for line in rest) == ["backend-0", "backend-1", "failed"]
    assert sum(int(line.split()[0]) for line in rest) == 101
    assert rest[-1].split() == ["0", "failed"]
    assert (done.returncode, done.stderr) == (0, "")


def test_answers_without_a_name_count_as_unknown(url: str) -> None:
    assert "20 unknown" in run("-u", f"{url}/nameless", "-n", "20").stdout


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("close", "connection closed without an answer"),
        ("short", "answer cut short"),
        ("status", "status 503 from backend-"),
    ],
)
def test_failures_are_counted_by_reason(url: str, path: str, why: str) -> None:
    done = run("-u", f"{url}/{path}", "-c", "2", "-n", "6")
    assert "6 failed" in done.stdout
    assert why in done.stdout
    assert done.returncode == 1


def test_nobody_listening_is_a_failure_and_no_traceback() -> None:
    with serving() as url:
        pass
    done = run("-u", url, "-n", "3")
    assert "3   connection refused" in done.stdout
    assert (done.returncode, done.stderr) == (1, "")


def test_silence_ends_at_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = run("-u", f"http://127.0.0.1:{silent.getsockname()[1]}", "-n", "2", "-t", "0.2")
    assert "2   timed out" in done.stdout


@pytest.mark.parametrize(
    "words",
    some(
        4,
        [
            (("-c", "0"),),
            (("-c", "501"),),
            (("-n", "0"),),
            (("-n", "1000001"),),
            (("-n", "many"),),
            (("-t", "0"),),
            (("-t", "nan"),),
            (("-t", "301"),),
            (("-u", "localhost:8080"),),
            (("-u", "ftp://localhost/"),),
            (("-u", "http://:8080/"),),
            (("-u", "http://localhost:99999/"),),
            (("-u", "http://localhost/a b"),),
            (("stray",),),
            (("-u",),),
            (("--client", "3"),),
        ],
    ),
)
def test_bad_input_is_one_line(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("run_parallel_clients.sh: ")
    assert done.stderr.count("\n") == 1


def test_the_help_says_the_defaults() -> None:
    done = run("-h")
    assert done.returncode == 0
    for default in ("http://localhost:8080/", "default 20", "default 200", "default 10"):
        assert default in done.stdout


def test_it_runs_through_a_link_from_anywhere(url: str, tmp_path: Path) -> None:
    link = tmp_path / "clients"
    link.symlink_to(SCRIPT)
    assert run("-u", url, "-n", "1", script=link).returncode == 0


@pytest.mark.skipif(shutil.which("sh") is None, reason="no shell")
def test_without_python_it_says_so(tmp_path: Path) -> None:
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, SCRIPT], capture_output=True, text=True, timeout=60, check=False, env={"PATH": str(tmp_path)}
    )
    assert (done.returncode, done.stderr) == (
        2,
        "run_parallel_clients.sh: python3 is not installed\n",
    )
