"""An admin API that answers what it is told to, on a real unix socket, and `lbctl` called in this process."""

import io
import json
import socketserver
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted_lb.ctl.main import main
from twisted_lb.ctl.session import Clock

Answers = dict[str, Any]


class Problem:
    """An answer that refuses."""

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        self.status = status
        self.body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code, **more}


class Raw:
    """An answer as bytes, of any kind; `cut`: the connection ends before all of it."""

    def __init__(self, body: bytes, kind: str = "application/json", status: int = 200, *, cut: bool = False) -> None:
        self.body, self.kind, self.status, self.cut = body, kind, status, cut


class HangUp:
    """No answer at all."""


class Handler(BaseHTTPRequestHandler):
    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.fake.asked.append((self.command, unquote(self.path), json.loads(body) if body else None))
        self.server.fake.headers.append(dict(self.headers))
        answer = self.server.fake.answer(self.command, urlsplit(self.path).path)
        if isinstance(answer, HangUp):
            return
        if isinstance(answer, Problem):
            answer = Raw(json.dumps(answer.body).encode(), "application/problem+json", answer.status)
        if not isinstance(answer, Raw):
            answer = Raw(json.dumps(answer).encode())
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body) + answer.cut))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_PATCH = do_POST = do_DELETE = handle_any

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *words: Any) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class FakeApi:
    """`answers` by `METHOD path`: a value, a callable without arguments, or a list of those, of which the last one stays."""

    def __init__(self, path: Any) -> None:
        self.path = str(path)
        self.answers: Answers = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._server = Server(self.path, Handler)
        self._server.fake = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def answer(self, method: str, path: str) -> Any:
        found = self.answers.get(f"{method} {path}", Problem(404, "no_such_path", f"there is no {path}"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        return found() if isinstance(found, Callable) else found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class ManualClock(Clock):
    """Time passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1795616220.0 + self.now - 1000.0

    def sleep(self, seconds: float) -> None:
        self.slept()
        self.now += seconds


class Ctl:
    """`lbctl` against an API: called with words, it returns its status, and keeps what was said."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.clock = ManualClock()
        self.out = self.err = self.both = ""

    def __call__(self, *words: str, terminal: bool = False) -> int:
        out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
        both: list[str] = []
        for stream in (out, err):
            stream.write = lambda text, write=stream.write: (both.append(text), write(text))[1]
        try:
            with redirect_stdout(out), redirect_stderr(err):
                return main(words, self.clock)
        finally:
            self.out, self.err, self.both = out.getvalue(), err.getvalue(), "".join(both)
