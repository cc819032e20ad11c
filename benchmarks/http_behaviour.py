#!/usr/bin/env python3
"""How ours, HAProxy and NGINX answer the cases of http_cases.py and those below: measured, then rendered as docs/http.md.

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
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import http_cases
from http_cases import AUTHORITY, CHUNKED, HI, OK, Case, get, post

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


@dataclass(frozen=True)
class Talk(Case):
    """A conversation of several steps.

    `on_head` is what the backend says when it has read a head, before the body. `then` is what the client sends once
    something has come back; if it waits for that, the backend says `on_head` only where it is expected. `{target}` in
    `answer` becomes what was asked for. `in_order`: each answer belongs to its request.
    """

    on_head: bytes = b""
    then: bytes = b""
    in_order: bool = False


# The key and its answer are those of RFC 6455 1.3.
WEBSOCKET = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
NAMED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{target}"

WHOLE = "NGINX drops the line in silence; a message is taken whole or not at all"
INTERIM = "RFC 9110 15.2: no 1xx to an HTTP/1.0 client; HAProxy sends it, NGINX takes it for the answer"
LIMITS = "431 says which limit it was; `limits` are configuration"
LINE = "a head is judged when it is there; until then we wait for the end of the line, as long as a head may take"
EARLY = (
    "bodies are streamed, so the head may have gone on before the body turns out to be no message: the backend sees it cut "
    "short and its connection closed, never a whole request"
)

# A name that http_cases.py has too takes its place.
MORE = [
    Talk("chunk size 0x2", "9112 7.1", post(CHUNKED, body=b"0x2\r\nhi\r\n0\r\n\r\n"), why=EARLY),
    Talk("chunk size +2", "9112 7.1", post(CHUNKED, body=b"+2\r\nhi\r\n0\r\n\r\n"), why=EARLY),
    Talk(
        "chunk size beyond 64 bits", "9112 7.1", post(CHUNKED, body=b"10000000000000002\r\nhi\r\n0\r\n\r\n"), why=EARLY
    ),
    Talk(
        "chunked on two lines",
        "9112 6.1",
        post(CHUNKED, CHUNKED, body=HI),
        why="together a list that we do not know, and the RFC's status for that",
    ),
    Talk("line without a colon", "9112 5", get(b"nonsense"), why=WHOLE),
    Talk("illegal field name", "9110 5.1", get(b"X(: y"), why=WHOLE),
    Talk("head of 40 kB", "9110 5.4", get(*[b"X%d: " % n + b"y" * 4000 for n in range(10)]), why=LIMITS),
    Talk(
        "103 for HTTP/1.0",
        "9110 15.2",
        get(line=b"GET /x HTTP/1.0"),
        answer=b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
        client_sees=b" 103 ",
        why=INTERIM,
    ),
    Talk(
        "framing in the trailers",
        "9110 6.5.1",
        post(CHUNKED, body=b"2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n"),
        why=EARLY,
    ),
    Talk("Content-Length: -2", "9110 8.6", post(b"Content-Length: -2", body=b"hi")),
    Talk("Content-Length without a value", "9110 8.6", post(b"Content-Length:", body=b"hi")),
    Talk(
        "Transfer-Encoding: identity",
        "9112 6.1",
        post(b"Transfer-Encoding: identity", b"Content-Length: 2", body=b"hi"),
    ),
    Talk("Transfer-Encoding: chunked, gzip", "9112 6.1", post(b"Transfer-Encoding: chunked, gzip", body=HI)),
    Talk(
        "Transfer-Encoding: Chunked",
        "9112 7",
        post(b"Transfer-Encoding: Chunked", body=HI),
        backend_sees=b"encoding: chunked",
    ),
    Talk("two Hosts, different", "9112 3.2", get(b"Host: b")),
    Talk("Host with a port that is none", "9110 7.2", get(host=b"Host: a:x"), why=AUTHORITY),
    Talk("Host with a space", "9110 7.2", get(host=b"Host: a b"), why=AUTHORITY),
    Talk(
        "no Host on HTTP/1.0",
        "9112 3.2",
        get(line=b"GET /x HTTP/1.0", host=b""),
        backend_sees=b"\nhost: ",
        why="the backend gets its own authority: it is asked in HTTP/1.1, which wants one",
    ),
    Talk("absolute target with userinfo", "9110 4.2.4", get(line=b"GET http://u@a/x HTTP/1.1"), why=AUTHORITY),
    Talk(
        "bare CR ends a line",
        "9112 2.2",
        b"GET /x HTTP/1.1\rHost: a\r\r",
        why=LINE,
    ),
    Talk(
        "two spaces in the request line",
        "9112 3",
        get(line=b"GET  /x HTTP/1.1"),
        why="the grammar has one space; who splits elsewhere sees another target",
    ),
    Talk("space in the target", "9112 3.2", get(line=b"GET /x y HTTP/1.1")),
    Talk("method never heard of", "9110 9.1", get(line=b"BREW /x HTTP/1.1"), backend_sees=b"brew /x"),
    Talk("non-ASCII in a value", "9110 5.5", get(b"X: \xe9"), backend_sees=b"x: \xe9"),
    Talk("empty value", "9110 5.5", get(b"X-Empty:"), backend_sees=b"x-empty:"),
    Talk("underscore in a name", "9110 5.1", get(b"X_Y: z"), backend_sees=b"x_y: z"),
    Talk("200 fields", "9110 5.4", get(*[b"X%d: y" % n for n in range(200)]), backend_sees=b"x199: y", why=LIMITS),
    Talk("chunk longer than its size", "9112 7.1", post(CHUNKED, body=b"2\r\nhihi\r\n0\r\n\r\n"), why=EARLY),
    Talk(
        "well-formed chunk extension",
        "9112 7.1.1",
        post(CHUNKED, body=b'2;a="b;c"\r\nhi\r\n0\r\n\r\n'),
        backend_sees=b"b;c",
    ),
    Talk(
        "trailers of 10 kB",
        "9110 6.5",
        post(CHUNKED, body=b"2\r\nhi\r\n0\r\nSum: " + b"1" * 10000 + b"\r\n\r\n"),
        backend_sees=b"sum: 1",
        why="bounded by `limits`; HAProxy passes what fits its buffer, NGINX none",
    ),
    Talk(
        "Connection names Content-Length",
        "9110 7.6.1",
        post(b"Connection: content-length", b"Content-Length: 2", body=b"hi"),
        backend_sees=b"content-length: 2",
    ),
    Talk(
        "Connection names X-Forwarded-For",
        "9110 7.6.1",
        get(b"Connection: x-forwarded-for"),
        backend_sees=b"\nx-forwarded-for: ",
    ),
    Talk(
        "Keep-Alive of a client",
        "9112 C.2.2",
        get(b"Connection: keep-alive", b"Keep-Alive: 5"),
        backend_sees=b"keep-alive: 5",
    ),
    Talk("TE: gzip", "9110 10.1.4", get(b"Connection: TE", b"TE: gzip"), backend_sees=b"te: gzip"),
    Talk("HTTP/1.0 with keep-alive", "9112 C.2.2", get(b"Connection: keep-alive", line=b"GET /x HTTP/1.0")),
    Talk(
        "Expect, and the client waits",
        "9110 10.1.1",
        get(b"Expect: 100-continue", b"Content-Length: 2", line=b"POST /x HTTP/1.1"),
        on_head=b"HTTP/1.1 100 Continue\r\n\r\n",
        then=b"hi",
        backend_sees=b"expect: 100",
    ),
    Talk(
        "100 nobody asked for, HTTP/1.0",
        "9110 15.2",
        post(b"Content-Length: 2", body=b"hi", line=b"POST /x HTTP/1.0"),
        on_head=b"HTTP/1.1 100 Continue\r\n\r\n",
        why=INTERIM,
    ),
    Talk(
        "Upgrade: websocket",
        "9110 7.8",
        get(*WEBSOCKET),
        answer=SWITCHING + b"hello",
        then=b"hello you",
        client_sees=b"hello",
        backend_sees=b"hello you",
    ),
    Talk(
        "100 pipelined requests",
        "9112 9.3.2",
        b"".join(get(line=b"GET /%03d HTTP/1.1" % n) for n in range(100)),
        answer=NAMED,
        in_order=True,
    ),
    Talk("request behind Connection: close", "9112 9.6", get(b"Connection: close") + get()),
    Talk(
        "204 with a body",
        "9110 15.3.5",
        get(),
        answer=b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
        client_sees=b"evil",
    ),
    Talk(
        "304 with a length",
        "9110 15.4.5",
        get(),
        answer=b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
        client_sees=b"length: 4",
    ),
    Talk(
        "early answer to an upload",
        "9112 9.3",
        post(b"Content-Length: 100000", body=b"x" * 1000),
        on_head=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
        why="the answer is final and comes at once; what is left of the upload is not read, so the connection cannot go on",
    ),
    Talk(
        "answer with two lengths",
        "9112 6.3",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        close_after_answer=True,
    ),
    Talk(
        "answer with one length twice",
        "9112 6.3",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        why="equal today is different tomorrow: the origin has two writers",
    ),
    Talk(
        "answer with NUL in a value",
        "9110 5.5",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    ),
    Talk(
        "answer with a folded line",
        "9112 5.2",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    ),
    Talk(
        "answer with a space before the colon",
        "9112 5.1",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
        client_sees=b"x : a",
    ),
    Talk(
        "answer in gzip, chunked",
        "9112 6.1",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n" + HI,
        client_sees=b"gzip",
    ),
    Talk(
        "chunked answer cut short",
        "9112 8",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
        close_after_answer=True,
        client_sees=b"\n0\r\n\r\n",
    ),
]
MORE += [
    Talk("Host with port 99999", "9110 7.2", get(host=b"Host: a:99999")),
    Talk("not HTTP: a TLS hello", "9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200, why=LINE),
    Talk(
        "target with what browsers send raw",
        "3986 2",
        get(line=b"GET /{}|^`[]\\ HTTP/1.1"),
        backend_sees=b" /{}|^`[]\\ ",
    ),
    Talk(
        "target with quotes",
        "3986 2",
        get(line=b'GET /"x" HTTP/1.1'),
        why="legal in no grammar, and what no browser sends raw",
    ),
    Talk(
        "chunk size with 20 zeros in front",
        "9112 7.1",
        post(CHUNKED, body=b"0" * 20 + b"2\r\nhi\r\n0\r\n\r\n"),
        why="no sender pads a number, a reader may overflow on it",
    ),
    Talk(
        "Proxy-Connection",
        "9112 C.2.2",
        get(b"Proxy-Connection: keep-alive"),
        backend_sees=b"proxy-connection",
        why="it is about a connection, and not about the backend's",
    ),
    Talk("unknown expectation", "9110 10.1.1", get(b"Expect: x"), backend_sees=b"expect: x"),
    Talk(
        "request behind an Upgrade that fails",
        "9110 7.8",
        get(*WEBSOCKET) + get(),
        why="what follows an allowed Upgrade is the tunnel's; without one nobody can say what it is",
    ),
    Talk("refused HEAD", "9110 9.3.2", get(b"X : y", line=b"HEAD /x HTTP/1.1")),
    Talk(
        "HEAD, and the answer is not HTTP",
        "9110 9.3.2",
        get(line=b"HEAD /x HTTP/1.1"),
        answer=b"x\r\n\r\n",
        close_after_answer=True,
    ),
    Talk(
        "answer's Connection names a field",
        "9110 7.6.1",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nConnection: x-y\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nok",
        client_sees=b"x-y: z",
        why="hop by hop in this direction too",
    ),
    Talk(
        "trailers of an answer",
        "9112 7.1.2",
        get(b"Connection: TE", b"TE: trailers"),
        answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nSum: 1\r\n\r\n",
        client_sees=b"sum: 1",
    ),
    Talk(
        "answer with status 600",
        "9110 15",
        get(),
        answer=b"HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\nok",
        why="no status; a client is to take it for a 5xx",
    ),
    Talk(
        "answer in HTTP/2.0",
        "9112 2.3",
        get(),
        answer=b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        why="not the version that we asked in",
    ),
]
# Before each case: so that the proxy has a connection that it can use again, whatever the case before has done.
FIRST = Talk("a plain request", "9112 3", get(b"Connection: close"))
NAMES = {case.name: Talk(**asdict(case)) for case in (*http_cases.CASES, *MORE)}
CASES = list(NAMES.values())


class Part:
    """What the backend says to what it hears on one connection, without any I/O."""

    def __init__(self) -> None:
        self.unread = b""
        self.answered = 0
        self.over = False
        self._head_read = False

    def hear(self, case: Talk, data: bytes) -> bytes:
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

    def begin(self, case: Talk) -> None:
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


def converse(port: int, case: Talk) -> tuple[bytes, bool]:
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


def describe(case: Talk, got: bytes, closed: bool, heard: bytes, answered: int) -> str:
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


def told(case: Talk, got: bytes, statuses: list[str], closed: bool) -> str:
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
    versions, results = known.get("versions", {}), known.get("results", {})
    with ThreadPoolExecutor() as threads:
        columns = dict(zip(PEERS, threads.map(measure_one, PEERS), strict=True))
    for peer, column in columns.items():
        if column is not None:
            versions[peer], results[peer] = VERSIONS[peer](), column
    return {"versions": versions, "results": results}


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
        "`benchmarks/http_behaviour.py` measures again and writes this page; the cases are in it and in",
        "`benchmarks/http_cases.py`. A cell says:",
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
    known = json.loads(JSON.read_text())
    PAGE.write_text(render(known))
    for name in alone(known):
        if not NAMES[name].why:
            print(f"differs from both without a reason: {name}: {known['results']['ours'][name]}", file=sys.stderr)


if __name__ == "__main__":
    main()
