#!/usr/bin/env python3
"""How ours, HAProxy and NGINX answer the cases of http_cases.py: measured, then rendered as docs/http.md.

    benchmarks/http_behaviour.py            measures whoever is installed, writes docs/http_behaviour.json and docs/http.md
    benchmarks/http_behaviour.py --render   only renders

Needs .venv (`scripts/test` makes it), and Debian's haproxy and nginx for their columns. A minute.
"""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from http_cases import CASES, Case

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "http_behaviour.json"
PAGE = ROOT / "docs" / "http.md"
QUIET_S = 0.5

HAPROXY = """
defaults
  mode http
  timeout connect 2s
  timeout client 5s
  timeout server 5s
  option forwardfor
frontend f
  bind 127.0.0.1:{port}
  default_backend b
backend b
  server s 127.0.0.1:{backend}
"""
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error; events {{ }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1;
    proxy_set_header Host $http_host; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}
"""


class Backend:
    """A server that says what the case wants and remembers what it heard."""

    def __init__(self) -> None:
        self.heard = b""
        self.case: Case = CASES[0]
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._server.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        unread = b""
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                self.heard += data
                unread += data
                while (size := message_size(unread)) is not None:
                    unread = unread[size:]
                    sock.sendall(self.case.answer)
                    if self.case.close_after_answer:
                        return


def message_size(data: bytes) -> int | None:
    """The length of the first whole request in the data; None: it is not complete. Good enough for what proxies send."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    end += 4
    if b"transfer-encoding: chunked" in head:
        last = re.search(rb"(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n", data[end:])
        return end + last.end() if last else None
    length = re.search(rb"content-length: *(\d+)", head)
    size = end + (int(length[1]) if length else 0)
    return size if len(data) >= size else None


def converse(port: int, case: Case) -> tuple[bytes, bool]:
    """What the client received, and whether its connection was closed."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        with contextlib.suppress(OSError):
            client.sendall(case.send)
            if case.half_close:
                client.shutdown(socket.SHUT_WR)
        client.settimeout(QUIET_S)
        try:
            while data := client.recv(65536):
                got += data
        except TimeoutError:
            return got, False
        except OSError:
            pass
    return got, True


def describe(case: Case, got: bytes, closed: bool, heard: bytes) -> str:
    """One cell: what the client was told, and what the case looks at."""
    statuses = [status.decode() for status in re.findall(rb"HTTP/1\.[01] (\d{3})", got)]
    final = [status for status in statuses if status >= "200"]
    told = " ".join(final) if final else "closed" if closed else "no answer"
    if final and closed and case.half_close is False and b"HTTP/1.0" not in case.send:
        told += ", closed"
    facts = []
    if not heard:
        return told
    if case.backend_sees:
        facts.append("passed on" if case.backend_sees in heard.lower() else "not passed on")
    if case.client_sees and final and final[0] < "400":
        count = got.lower().count(case.client_sees)
        shown = case.client_sees.decode().strip().strip(":")
        facts.append(f"“{shown}” seen" + (f" {count} times" if count > 1 else "") if count else f"no “{shown}”")
    return "; ".join([told, *facts])


def measure(port: int, backend: Backend) -> dict[str, str]:
    results = {}
    for case in CASES:
        backend.heard = b""
        backend.case = case
        got, closed = converse(port, case)
        time.sleep(0.02)
        results[case.name] = describe(case, got, closed, backend.heard)
    return results


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def running(words: list, port: int) -> Iterator[None]:
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        else:
            sys.exit(f"{words[0]} does not listen")
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def words_of(name: str, folder: Path, port: int, backend: int) -> list:
    """The command that starts a proxy."""
    if name == "ours":
        twistd = ROOT / ".venv" / "bin" / "twistd"
        words = [twistd, "-n", "--pidfile=", "lb", "-b", f"127.0.0.1:{backend}", "-c", "0"]
        return [*words, "-p", str(port), "--interface", "127.0.0.1"]
    conf = folder / f"{name}.conf"
    text = HAPROXY if name == "HAProxy" else NGINX
    conf.write_text(text.format(folder=folder, port=port, backend=backend))
    return ["haproxy", "-f", str(conf)] if name == "HAProxy" else ["nginx", "-c", str(conf)]


VERSIONS: dict[str, Callable[[], str]] = {
    "HAProxy": lambda: re.search(r"version ([\d.]+)", output("haproxy", "-v"))[1],
    "NGINX": lambda: re.search(r"nginx/([\d.]+)", output("nginx", "-v"))[1],
    "ours": lambda: re.search(r'version="([\d.]+)"', (ROOT / "setup.py").read_text())[1],
}


def output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def measure_all() -> dict:
    known = json.loads(JSON.read_text()) if JSON.exists() else {"versions": {}, "results": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for peer, version in VERSIONS.items():
            if peer != "ours" and shutil.which(peer.lower()) is None:
                print(f"{peer} is not installed: its column stays as it was", file=sys.stderr)
                continue
            backend, port = Backend(), free_port()
            with running(words_of(peer, folder, port, backend.port), port):
                known["results"][peer] = measure(port, backend)
            known["versions"][peer] = version()
    return known


def render(known: dict) -> str:
    """docs/http.md."""
    versions, results = known["versions"], known["results"]
    lines = [
        "# HTTP/1.1: who answers what",
        "",
        f"Measured on HAProxy {versions['HAProxy']}, NGINX {versions['NGINX']} and twisted_lb {versions['ours']}, each as a",
        "reverse proxy in front of the same scripted backend, each with its defaults (NGINX with HTTP/1.1 and keep-alive to",
        "the backend). `benchmarks/http_behaviour.py` measures again and writes this page; the cases are in",
        "`benchmarks/http_cases.py`. A cell says what the client was told and, where the case looks at it, what reached the",
        "backend (“passed on”) or the client (the number of times it was seen).",
        "",
        "| case | RFC, section | HAProxy | NGINX | ours |",
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        cells = [results[peer].get(case.name, "") for peer in ("HAProxy", "NGINX", "ours")]
        lines.append(f"| {case.name} | {case.section} | {' | '.join(cells)} |")
    lines += ["", "## Where we differ, and why", ""]
    lines += [f"- **{case.name}**: {case.why}." for case in CASES if case.why]
    lines += [
        "",
        "## What holds for every message",
        "",
        "- A head is checked as a whole before a byte of it goes on; what goes on is the same fields in the same order and case.",
        "- A refused message is answered once and the connection is closed; nothing behind it is read as a request.",
        "- An answer that is not beyond doubt is a 502, and its connection is never used again.",
        "- Of each direction at most 64 KiB wait in memory, and one receive (64 KiB) on top; a request is held for a retry up to",
        "  `limits.replay_body_bytes`, a head up to `limits.head_bytes`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:] != ["--render"]:
        JSON.write_text(json.dumps(measure_all(), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(render(json.loads(JSON.read_text())))


if __name__ == "__main__":
    main()
