#!/usr/bin/env python3
"""How ours, HAProxy and NGINX answer the cases of http_*_cases.py: measured, then rendered as docs/http.md.

    benchmarks/http_behaviour.py            measures whoever is installed, writes docs/http_behaviour.json and docs/http.md
    benchmarks/http_behaviour.py --render   only renders

Needs .venv (`scripts/test` makes it), and Debian's haproxy and nginx for their columns: who is not installed keeps the
column it has. A minute.
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
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import http_body_cases
import http_head_cases
import http_talk_cases
from http_case import Case, get
from http_twisted_web import OF_TWISTED_WEB
from ports import free_port

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "http_behaviour.json"
PAGE = ROOT / "docs" / "http.md"
QUIET_S = 0.5
PATIENCE_S = 10.0

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
  upstream b {{ server 127.0.0.1:{backend}; keepalive 8; }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://b; proxy_http_version 1.1;
    proxy_set_header Host $http_host; proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}
"""


PEERS = ("HAProxy", "NGINX", "ours")


# Before each case: so that the proxy has a connection that it can use again, whatever the case before has done.
FIRST = Case("a plain request", "9112 3", get(b"Connection: close"))
CASES = [*http_head_cases.CASES, *http_body_cases.CASES, *http_talk_cases.CASES]
NAMES = {case.name: case for case in CASES}


class Part:
    """What the backend says to what it hears on one connection, without any I/O."""

    def __init__(self) -> None:
        self.unread = b""
        self.answered = 0
        self.over = False
        self._head_read = False

    def hear(self, case: Case, data: bytes) -> bytes:
        """What to say now; then close if `over`."""
        self.unread += data
        said = b""
        while not self.over and b"\r\n\r\n" in self.unread:
            expected = not case.then or b"\r\nexpect:" in self.unread.lower()
            said += case.on_head if expected and not self._head_read else b""
            self._head_read = True
            size = message_size(self.unread)
            if size is None:
                break
            target = self.unread.split(b" ", 2)[1]
            self.unread = self.unread[size:]
            self._head_read = False
            self.answered += 1
            said += case.answer.replace(b"{target}", target)
            self.over = case.close_after_answer
        return said


class Backend:
    """A server that says what the case wants and remembers what it heard."""

    def __init__(self) -> None:
        self.case = CASES[0]
        self.heard = b""
        self.answered = 0
        self._server = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def begin(self, case: Case) -> None:
        self.case, self.heard, self.answered = case, b"", 0

    def _accept(self) -> None:
        while True:
            sock, _ = self._server.accept()
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        part = Part()
        with sock, contextlib.suppress(OSError):
            while not part.over and (data := sock.recv(65536)):
                self.heard += data
                before = part.answered
                said = part.hear(self.case, data)
                self.answered += part.answered - before
                if self.case.half_close:
                    time.sleep(0.1)  # the answer comes when the proxy knows of the FIN: an answer at once is a race
                sock.sendall(said)


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
    then = case.then
    ends_at = time.monotonic() + PATIENCE_S
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        try:
            client.sendall(case.send)
            if case.half_close:
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before all of it was sent: the answer is there
        client.settimeout(QUIET_S)
        try:
            while (data := client.recv(65536)) and time.monotonic() < ends_at:
                got += data
                if then:
                    client.sendall(then)
                    then = b""
        except TimeoutError:
            return got, False
        except OSError:
            pass
    return got, True


def describe(case: Case, got: bytes, closed: bool, heard: bytes, answered: int) -> str:
    """One cell: what the client was told, and what the case looks at."""
    statuses = [status.decode() for status in re.findall(rb"HTTP/1\.[01] (\d{3})", got)]
    cell = [told(case, got, statuses, closed)]
    refused = bool(statuses) and statuses[-1] >= "400"
    if heard and not answered and (refused or not statuses) and not case.on_head:
        cell.append("begun at the backend")
    if heard and case.backend_sees and (answered or not refused):
        cell.append("passed on" if case.backend_sees in heard.lower() else "not passed on")
    if answered > max(1, len(statuses)):
        cell.append(f"{answered} requests at the backend")
    if case.client_sees and statuses and not refused:
        shown = case.client_sees.decode().replace("\r\n", "⏎").strip().strip(":")
        cell.append(f"{'' if case.client_sees in got.lower() else 'no '}“{shown}”")
    if case.send.startswith(b"HEAD ") and got.partition(b"\r\n\r\n")[2]:
        cell.append("with a body")
    if case.in_order:
        bodies = re.findall(rb"\r\n\r\n(/\d{3})", got)
        cell.append("in order" if bodies == sorted(bodies) else "out of order")
    return "; ".join(cell)


def told(case: Case, got: bytes, statuses: list[str], closed: bool) -> str:
    """The statuses, and what became of the connection if it is not what the version says."""
    if not statuses:
        return "no status line" if got else "closed" if closed else "no answer"
    runs = [(status, len(list(run))) for status, run in groupby(statuses)]
    words = " ".join(status if count == 1 else f"{count} times {status}" for status, count in runs)
    if b"HTTP/1.0\r\n" in case.send:
        return words if closed else f"{words}, kept"
    return f"{words}, closed" if closed and not case.half_close else words


def measure(port: int, backend: Backend) -> dict[str, str]:
    results = {}
    for case in CASES:
        backend.begin(FIRST)
        converse(port, FIRST)
        backend.begin(case)
        got, closed = converse(port, case)
        time.sleep(0.05)
        results[case.name] = describe(case, got, closed, backend.heard, backend.answered)
    return results


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


def measure_one(peer: str) -> dict[str, str] | None:
    """The cells of one column; None: not installed."""
    if peer != "ours" and shutil.which(peer.lower()) is None:
        print(f"{peer} is not installed: its column stays as it was", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        backend, port = Backend(), free_port()
        with running(words_of(peer, folder, port, backend.port), port):
            return measure(port, backend)


def measure_all() -> dict:
    known = json.loads(JSON.read_text()) if JSON.exists() else {}
    versions, results, of = known.get("versions", {}), known.get("results", {}), known.get("of", {})
    with ThreadPoolExecutor() as threads:
        columns = dict(zip(PEERS, threads.map(measure_one, PEERS), strict=True))
    for peer, column in columns.items():
        if column is not None:
            versions[peer], results[peer], of[peer] = VERSIONS[peer](), column, digests()
    return {"versions": versions, "results": results, "of": of}


def digests() -> dict[str, str]:
    """What each case is now: a column that was measured of other ones is stale."""
    return {case.name: case.digest() for case in CASES}


def reasons(known: dict) -> list[str]:
    """Each `why` once, behind all the cases that it is true of and in which we are not as both peers are."""
    cases_of: dict[str, list[str]] = {}
    for case in CASES:
        if case.why and len({known["results"].get(peer, {}).get(case.name) for peer in PEERS}) > 1:
            cases_of.setdefault(case.why, []).append(case.name)
    return [f"- **{'; '.join(names)}**: {why}." for why, names in cases_of.items()]


def alone(known: dict) -> list[str]:
    """The cases in which we are like neither peer."""
    cells = {name: [known["results"].get(peer, {}).get(name) for peer in PEERS] for name in NAMES}
    return [name for name, (*peers, ours) in cells.items() if ours not in peers]


def render(known: dict) -> str:
    """docs/http.md."""
    versions, results = known["versions"], known["results"]
    at = {peer: versions.get(peer, "(not measured)") for peer in PEERS}
    lines = [
        "# HTTP/1.1: who answers what",
        "",
        f"Measured on HAProxy {at['HAProxy']}, NGINX {at['NGINX']} and twisted_lb {at['ours']}, each as a reverse proxy in",
        "front of the same scripted backend, each with its defaults (NGINX with HTTP/1.1 and keep-alive to the backend).",
        "`benchmarks/http_behaviour.py` measures again and writes this page; the cases are in",
        "`benchmarks/http_*_cases.py`. A cell says:",
        "",
        "- what the client was told within half a second, and “closed” if its connection was closed afterwards (of HTTP/1.0: “kept” if it was not);",
        "- whether what the case is about was passed on to the backend; “begun at the backend”: a part of a refused request",
        "  had reached it; “N requests at the backend”: more than were answered;",
        "- what the client saw, in quotes (⏎ is CR LF), or did not see.",
        "",
        "| behaviour | RFC, section | HAProxy | NGINX | ours |",
        "|---|---|---|---|---|",
    ]
    for case in CASES:
        cells = [results.get(peer, {}).get(case.name, "") for peer in PEERS]
        lines.append(f"| {case.name} | {case.section} | {' | '.join(cells)} |")
    lines += ["", "## Where we differ, and why", "", *reasons(known)]
    lines += [
        "",
        "## Inside twisted.web",
        "",
        "`BalancedReverseProxyResource` refuses the same, by the same rules, as far as twisted.web lets it see a request. Where not:",
        "",
        *(f"- **{name}**: {cell}; {why}." for name, (cell, why) in OF_TWISTED_WEB.items()),
        "",
        "## What holds for every message",
        "",
        "- A head is checked as a whole before a byte of it goes on; what goes on is the same fields in the same order and case.",
        "- What only a proxy can know (`X-Forwarded-*`, `Forwarded`, `X-Real-IP`) passes from `trusted_proxies` alone, and no name",
        "  that we write passes in another spelling (`X.Forwarded.For`, `X_Request_Id`). Both families of fields say the same.",
        "- `Endpoint-Load-Metrics` and `Endpoint-Load-Metrics-Bin` (ORCA) are for the balancer, and pass in no head and no trailers.",
        "- A refused message is answered once and the connection is closed; nothing behind it is read as a request.",
        "- An answer that is not beyond doubt is a 502, and its connection is never used again.",
        "- Of each direction at most 64 KiB wait in memory, and one receive (256 KiB) on top; a request is held for a retry up to",
        "  `limits.replay_body_bytes`, a head up to `limits.head_bytes`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:] != ["--render"]:
        JSON.write_text(json.dumps(measure_all(), indent=1, ensure_ascii=False) + "\n")
    known = json.loads(JSON.read_text())
    PAGE.write_text(render(known))
    for name in alone(known):
        if not NAMES[name].why:
            print(f"differs from both without a reason: {name}: {known['results']['ours'][name]}", file=sys.stderr)


if __name__ == "__main__":
    main()
