"""The client's side of the admin API: where the daemon is, requests, and what a refusal means for the exit status."""

import errno
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

from twisted_lb.ctl.failure import Failure, Status

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

Answer = dict[str, Any]

# How long the daemon may take for an answer, beside what it was asked to wait.
PATIENCE_S: Final = 10.0
# An event stream says something at least this often: the server comments every 15 s.
STREAM_PATIENCE_S: Final = 60.0

_NAME_ONE: Final = "Name one with --admin or TWISTED_LB_ADMIN"
_WANTS: Final = f"{_NAME_ONE}; a daemon has one with --admin HOST:PORT, or [admin] in its file."
# What most people want to know of an errno, in fewer words than the kernel's.
_REASONS: Final = {
    errno.ENOENT: "no such file",
    errno.ECONNREFUSED: "connection refused",
    errno.EACCES: "permission denied",
}


class Where:
    """Where a daemon's door is: a unix socket's `path`, or `host` and `port`."""

    def __init__(self, text: str) -> None:
        self.path = ""
        self.host = ""
        self.port = 0
        if text.startswith("unix:"):
            self.path = text.removeprefix("unix:")
        elif text.startswith("/"):
            self.path = text
        else:
            self.host, self.port = _host_and_port(text)
        if not (self.path or self.host):
            raise _no_address(text)
        self.name: Final = f"unix:{self.path}" if self.path else f"http://{_bracketed(self.host)}:{self.port}"

    def connection(self, timeout_s: float) -> "HTTPConnection":
        """A connection, not opened yet."""
        # Late: most of the time that a start takes.
        from http.client import HTTPConnection

        if not self.path:
            return HTTPConnection(self.host, self.port, timeout=timeout_s)
        connection = HTTPConnection("localhost", timeout=timeout_s)
        connection.sock = connected(self.path, timeout_s)
        return connection


def connected(path: str, timeout_s: float) -> socket.socket:
    """A connection to a unix socket; OSError where nobody listens."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        client.settimeout(timeout_s)
        client.connect(path)
    except BaseException:
        client.close()
        raise
    return client


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_address(text) from None
    if parts.scheme != "http" or not port or parts.path.strip("/") or parts.query:
        raise _no_address(text)
    return host, port


def _no_address(text: str) -> Failure:
    return Failure(Status.USAGE, f"--admin is unix:PATH or http://HOST:PORT, not {text!r}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def find(given: str | None, environ: Mapping[str, str]) -> Where:
    """The door that was named, else the only one in the usual places; Failure where there is none, or there are several."""
    named = given or environ.get("TWISTED_LB_ADMIN")
    if named:
        return Where(named)
    places = _usual_places(environ)
    doors = [str(door) for place in places for door in sorted(Path(place).glob("*.admin.sock"))]
    if len(doors) > 1:
        doors = [door for door in doors if _may_live(door)] or doors
    if len(doors) == 1:
        return Where(f"unix:{doors[0]}")
    if doors:
        raise Failure(
            Status.NOT_REACHED,
            f"{len(doors)} daemons have a door here; which one?",
            *(f"unix:{door}" for door in doors),
            f"{_NAME_ONE}.",
        )
    tried = (f"{place}/*.admin.sock: no such file" for place in places)
    raise Failure(Status.NOT_REACHED, "no daemon answers; tried", *tried, _WANTS)


def _usual_places(environ: Mapping[str, str]) -> list[str]:
    runtime = (environ.get("RUNTIME_DIRECTORY") or "").partition(":")[0]
    bases = [runtime, environ.get("XDG_RUNTIME_DIR") or "", "/run"]
    return list(dict.fromkeys(f"{base.rstrip('/')}/twisted_lb" for base in bases if base))


def _may_live(path: str) -> bool:
    """Whether a socket's file is more than what a daemon has left behind."""
    try:
        connected(path, PATIENCE_S).close()
    except OSError as error:
        return error.errno != errno.ECONNREFUSED
    return True


def token(file: str | None, environ: Mapping[str, str]) -> str:
    """The token to show: that of a file, else of the environment; empty for none. Failure for what is none, which it does not say."""
    try:
        if file is None:
            found = environ.get("TWISTED_LB_TOKEN", "").strip()
        else:
            with open(file, encoding="utf-8") as opened:
                found = opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(Status.USAGE, f"--token-file {file}: {_reason(error)}") from None
    if not all("!" <= one <= "~" for one in found):
        where = "TWISTED_LB_TOKEN" if file is None else f"--token-file {file}"
        raise Failure(Status.USAGE, f"{where}: a token is printable ASCII without spaces")
    return found


def path_of(*parts: str) -> str:
    """A path below /v1, each part percent-encoded."""
    return "/".join(["/v1", *(quote(part, safe="") for part in parts)])


class Api:
    """The admin API of one daemon: each call is one request, and ends in an answer or a Failure."""

    def __init__(self, where: Where, token: str = "") -> None:
        self.where: Final = where
        self.patience_s = PATIENCE_S
        self._token = token

    def get(self, path: str, query: Mapping[str, Any] | Sequence[tuple[str, Any]] = (), *, wait_s: float = 0) -> Answer:
        """What a GET answers."""
        return self.ask("GET", path, query, wait_s=wait_s)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | Sequence[tuple[str, Any]] = (),
        body: Answer | None = None,
        *,
        wait_s: float = 0,
    ) -> Answer:
        """One request, and its answer as the object it is. `wait_s`: how much longer than usual that may take."""
        raw = self._exchange(method, _with_query(path, query), body, self.patience_s + wait_s)
        return self._object(raw)

    def text(self, path: str) -> str:
        """An answer that is text."""
        return self._exchange("GET", path, None, self.patience_s).decode("utf-8", "replace")

    def events(self, after: int, kind: str = "") -> Iterator[Answer]:
        """Events as they happen, from behind the one with that id on; ends in a Failure when the daemon does."""
        query = {"after": after, **({"kind": kind} if kind else {})}
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        try:
            with closing(self.where.connection(STREAM_PATIENCE_S)) as connection:
                connection.request("GET", _with_query("/v1/events", query), headers=self._headers(headers))
                response = connection.getresponse()
                if response.status != 200:
                    self._refused(response.status, response.read())
                yield from map(self._object, _stream(response))
        except Exception as error:
            raise self._not_reached(error) from None
        raise Failure(Status.NOT_REACHED, f"the daemon at {self.where.name} has ended")

    def _exchange(self, method: str, target: str, body: Answer | None, patience_s: float) -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        headers = self._headers({} if body is None else {"Content-Type": "application/json"})
        try:
            with closing(self.where.connection(patience_s)) as connection:
                connection.request(method, target, sent, headers)
                response = connection.getresponse()
                raw = response.read()
        except Exception as error:
            raise self._not_reached(error, patience_s) from None
        if response.status >= 300:
            self._refused(response.status, raw)
        return raw

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        shown = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return {"User-Agent": "lbctl", "Connection": "close", **shown, **more}

    def _object(self, raw: bytes) -> Answer:
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Failure(Status.NOT_REACHED, f"{self.where.name} answers, but not as the admin API of twisted_lb does")
        return answer

    def _refused(self, status: int, raw: bytes) -> None:
        try:
            problem = json.loads(raw)
        except ValueError:
            problem = None
        if not isinstance(problem, dict) or "code" not in problem:
            about = f"{self.where.name} answers {status}, and not as the admin API of twisted_lb does"
            raise Failure(Status.NOT_REACHED, about)
        raise refusal(problem)

    def _not_reached(self, error: Exception, patience_s: float = STREAM_PATIENCE_S) -> Failure:
        if isinstance(error, Failure):
            return error
        late = isinstance(error, TimeoutError)
        reason = f"no answer within {patience_s:g} s" if late else _reason(error)
        return Failure(Status.NOT_REACHED, "no daemon answers; tried", f"{self.where.name}: {reason}", _WANTS)


def _with_query(path: str, query: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> str:
    return f"{path}?{urlencode(query, quote_via=quote)}" if query else path


def _stream(response: "HTTPResponse") -> Iterator[bytes]:
    """The data of server-sent events."""
    data: list[bytes] = []
    for line in response:
        text = line.rstrip(b"\r\n")
        if text.startswith(b"data:"):
            data.append(text[5:].removeprefix(b" "))
        elif not text and data:
            yield b"\n".join(data)
            data = []


def _reason(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return _REASONS.get(number) or (os.strerror(number) if number > 0 else str(error))
    return str(error) or "it has hung up"


_NO_SUCH: Final = {"no_such_backend", "no_such_pool", "no_such_listener", "not_held"}


def refusal(problem: Answer) -> Failure:
    """A Failure of the API's own words (RFC 9457): a name that is not there ends with 4, all else with 1."""
    detail = str(problem.get("detail") or problem.get("title") or "the daemon gives no reason").rstrip(". ")
    hint = str(problem.get("hint") or "")
    if problem["code"] == "last_usable":
        told = f"refused: {detail.removesuffix('Nothing was changed').rstrip('. ')}. Nothing was changed."
        return Failure(Status.REFUSED, told, "All the same: --force", problem=problem)
    if problem["code"] == "no_such_path":
        asked = "this daemon knows no such question; see lbctl version"
        return Failure(Status.REFUSED, asked, problem=problem)
    if problem["code"] in _NO_SUCH:
        return Failure(Status.NO_SUCH_NAME, f"{detail}; {hint}" if hint else detail, problem=problem)
    first, *more = detail.split("\n")  # of a file with what is wrong in it, its lines too
    return Failure(Status.REFUSED, f"refused: {first}", *more, *filter(None, [hint]), problem=problem)
