"""What a case of docs/http.md is: one conversation with a proxy, and what is looked at in it. Data only."""

from dataclasses import asdict, dataclass
from hashlib import sha256

OK = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Case:
    """One row. `send` goes to the proxy at once, `answer` is what the backend says to each request it gets; `{target}` in
    it becomes what was asked for. `backend_sees` and `client_sees` are looked for, in lower case, in what each received.

    `on_head` is what the backend says when it has read a head, before the body. `then` is what the client sends once
    something has come back; if it waits for that, the backend says `on_head` only where it is expected. `in_order`: each
    answer belongs to its request. `why` explains where we differ from both peers, or from one of them for a reason.
    """

    name: str
    section: str
    send: bytes
    answer: bytes = OK
    backend_sees: bytes = b""
    client_sees: bytes = b""
    half_close: bool = False
    close_after_answer: bool = False
    on_head: bytes = b""
    then: bytes = b""
    in_order: bool = False
    why: str = ""

    def digest(self) -> str:
        """What was measured, in short: it changes with the conversation and what is looked at, not with what is said of it."""
        said = {name: value for name, value in asdict(self).items() if name not in ("name", "section", "why")}
        return sha256(repr(sorted(said.items())).encode()).hexdigest()[:8]


def get(*lines: bytes, line: bytes = b"GET /x HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def post(*lines: bytes, body: bytes, line: bytes = b"POST /x HTTP/1.1") -> bytes:
    return get(*lines, line=line) + body


CHUNKED = b"Transfer-Encoding: chunked"
HI = b"2\r\nhi\r\n0\r\n\r\n"
FRAMING = "two readers of the same bytes must not find different messages in them: refused"
AUTHORITY = "a backend that routes by Host must not be handed a doubtful one"
WHOLE = "NGINX drops the line in silence; a message is taken whole or not at all"
INTERIM = "RFC 9110 15.2: no 1xx to an HTTP/1.0 client; HAProxy sends it, NGINX takes it for the answer"
HOPS = "each proxy MUST take one off, and answer at 0, so that a chain of them can be walked"
LIMITS = "431 says which limit it was; `limits` are configuration"
