"""What is asked of a proxy where RFC 9110 and 9112 leave room, or where proxies differ. Data only.

A case is one conversation: `send` goes to the proxy at once, `answer` is what the backend says to each request it gets.
`backend_sees` and `client_sees` are looked for, in lower case, in what the backend and the client received.
"""

from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Case:
    """One row. `why` explains where we differ from both peers, or from one of them for a reason."""

    name: str
    section: str
    send: bytes
    answer: bytes = OK
    backend_sees: bytes = b""
    client_sees: bytes = b""
    half_close: bool = False
    close_after_answer: bool = False
    why: str = ""


def get(*lines: bytes, line: bytes = b"GET /x HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", b""])


def post(*lines: bytes, body: bytes, line: bytes = b"POST /x HTTP/1.1") -> bytes:
    return get(*lines, line=line) + body


CHUNKED = b"Transfer-Encoding: chunked"
HI = b"2\r\nhi\r\n0\r\n\r\n"
FRAMING = "two readers of the same bytes must not find different messages in them: refused"
AUTHORITY = "a backend that routes by Host must not be handed a doubtful one"

CASES = [
    Case(
        "Content-Length and chunked",
        "9112 6.1",
        post(b"Content-Length: 4", CHUNKED, body=HI),
        backend_sees=b"content-length",
        why=FRAMING,
    ),
    Case("Content-Length twice, equal", "9112 6.3", post(b"Content-Length: 2", b"Content-Length: 2", body=b"hi")),
    Case("Content-Length twice, different", "9112 6.3", post(b"Content-Length: 2", b"Content-Length: 3", body=b"hi")),
    Case("Content-Length: 2, 2", "9112 6.3", post(b"Content-Length: 2, 2", body=b"hi")),
    Case("Content-Length: +2", "9110 8.6", post(b"Content-Length: +2", body=b"hi")),
    Case("Content-Length of 20 digits", "9110 8.6", post(b"Content-Length: 18446744073709551618", body=b"hi")),
    Case("Transfer-Encoding: xchunked", "9112 6.1", post(b"Transfer-Encoding: xchunked", body=HI)),
    Case("Transfer-Encoding: gzip, chunked", "9112 6.1", post(b"Transfer-Encoding: gzip, chunked", body=HI)),
    Case("chunked on two lines", "9112 6.1", post(CHUNKED, CHUNKED, body=HI)),
    Case("chunked on HTTP/1.0", "9112 6.1", post(CHUNKED, body=HI, line=b"POST /x HTTP/1.0"), why=FRAMING),
    Case("space before the colon", "9112 5.1", get(b"X : y"), backend_sees=b"x : y"),
    Case(
        "folded line",
        "9112 5.2",
        get(b"X: a", b" b: c"),
        backend_sees=b"b: c",
        why="HAProxy unfolds; we refuse, as the RFC also lets us",
    ),
    Case(
        "bare LF ends a line",
        "9112 2.2",
        b"GET /x HTTP/1.1\nHost: a\n\n",
        why="what is lenient here is what smuggling is made of",
    ),
    Case("bare CR in a value", "9112 2.2", get(b"X: a\rb")),
    Case("NUL in a value", "9110 5.5", get(b"X: a\0b")),
    Case(
        "control character in a value",
        "9110 5.5",
        get(b"X: a\x01b"),
        backend_sees=b"a\x01b",
        why="both peers pass it on",
    ),
    Case("empty field name", "9112 5", get(b": x")),
    Case(
        "illegal field name",
        "9110 5.1",
        get(b"X(: y"),
        why="NGINX drops the line in silence; a message is taken whole or not at all",
    ),
    Case("line without a colon", "9112 5", get(b"nonsense"), why="the same"),
    Case("no Host", "9112 3.2", get(host=b""), why=AUTHORITY),
    Case("two Hosts, equal", "9112 3.2", get(b"Host: a"), why=AUTHORITY),
    Case("Host with userinfo", "9110 4.2.4", get(host=b"Host: u@a"), why=AUTHORITY),
    Case("Host with a path", "9112 3.2", get(host=b"Host: a/b")),
    Case("empty Host", "9112 3.2", get(host=b"Host:"), why=AUTHORITY),
    Case("Host with a comma", "9112 3.2", get(host=b"Host: a,b"), why=AUTHORITY),
    Case(
        "absolute target that agrees with Host",
        "9112 3.2.2",
        get(line=b"GET http://a/x HTTP/1.1"),
        backend_sees=b"get /x http/1.1",
    ),
    Case(
        "absolute target that disagrees",
        "9112 3.2.2",
        get(line=b"GET http://b/x HTTP/1.1"),
        why="the RFC lets the target win; a backend behind a cache should not have to know",
    ),
    Case("OPTIONS *", "9110 9.3.7", get(line=b"OPTIONS * HTTP/1.1"), backend_sees=b"options *"),
    Case("GET *", "9112 3.2.4", get(line=b"GET * HTTP/1.1")),
    Case(
        "CONNECT", "9110 9.3.6", get(line=b"CONNECT a:443 HTTP/1.1"), why="a reverse proxy connects nobody to anywhere"
    ),
    Case("HTTP/0.9", "9112 A", b"GET /x\r\n"),
    Case("HTTP/2.0 in the request line", "9112 2.3", get(line=b"GET /x HTTP/2.0")),
    Case("HTTP/1.2", "9112 2.3", get(line=b"GET /x HTTP/1.2"), why="we speak 1.1 and 1.0, and say so"),
    Case("fragment in the target", "9112 3.2", get(line=b"GET /x#y HTTP/1.1")),
    Case("non-ASCII in the target", "9112 3.2", get(line=b"GET /\xc3\xa9 HTTP/1.1"), backend_sees=b"\xc3\xa9"),
    Case("request line of 9 kB", "9112 3", get(line=b"GET /" + b"x" * 9000 + b" HTTP/1.1")),
    Case("head of 40 kB", "9110 5.4", get(*[b"X%d: " % n + b"y" * 4000 for n in range(10)])),
    Case("chunk size 0x2", "9112 7.1", post(CHUNKED, body=b"0x2\r\nhi\r\n0\r\n\r\n")),
    Case("chunk size +2", "9112 7.1", post(CHUNKED, body=b"+2\r\nhi\r\n0\r\n\r\n")),
    Case(
        "space behind the chunk size",
        "9112 7.1",
        post(CHUNKED, body=b"2 \r\nhi\r\n0\r\n\r\n"),
        why="padding of old servers; nobody sends it in a request",
    ),
    Case("LF alone behind the chunk size", "9112 7.1", post(CHUNKED, body=b"2\nhi\r\n0\r\n\r\n"), why=FRAMING),
    Case("chunk size beyond 64 bits", "9112 7.1", post(CHUNKED, body=b"10000000000000002\r\nhi\r\n0\r\n\r\n")),
    Case(
        "malformed chunk extension",
        "9112 7.1.1",
        post(CHUNKED, body=b"2;=x\r\nhi\r\n0\r\n\r\n"),
        why="both peers drop extensions without a look",
    ),
    Case(
        "chunk extension of 300 bytes",
        "9112 7.1.1",
        post(CHUNKED, body=b"2;" + b"x" * 300 + b"\r\nhi\r\n0\r\n\r\n"),
        why="nobody uses them; without a bound a body can consist of them",
    ),
    Case(
        "trailers of a request",
        "9112 7.1.2",
        post(CHUNKED, body=b"2\r\nhi\r\n0\r\nSum: 1\r\n\r\n"),
        backend_sees=b"sum: 1",
    ),
    Case(
        "framing in the trailers",
        "9110 6.5.1",
        post(CHUNKED, body=b"2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n"),
        why=FRAMING,
    ),
    Case("Connection names Host", "9110 7.6.1", get(b"Connection: host"), backend_sees=b"host: a"),
    Case(
        "Connection names a field",
        "9110 7.6.1",
        get(b"Connection: x-y", b"X-Y: z"),
        backend_sees=b"x-y: z",
        why="NGINX passes it on",
    ),
    Case(
        "Expect on HTTP/1.0",
        "9110 10.1.1",
        post(b"Expect: 100-continue", b"Content-Length: 2", body=b"hi", line=b"POST /x HTTP/1.0"),
        backend_sees=b"expect",
    ),
    Case(
        "Upgrade: h2c",
        "9110 7.8",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
        backend_sees=b"upgrade: h2c",
    ),
    Case(
        "Upgrade: websocket with a body",
        "9110 7.8",
        post(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 2", body=b"hi"),
        backend_sees=b"upgrade: websocket",
    ),
    Case(
        "X-Forwarded-For of a client",
        "7239 8.1",
        get(b"X-Forwarded-For: 6.6.6.6"),
        backend_sees=b"6.6.6.6",
        why="believed only of `trusted_proxies`; the peers append by default",
    ),
    Case("empty line before the request", "9112 2.2", b"\r\n" + get(), backend_sees=b"get /x"),
    Case(
        "half-closed client",
        "9112 9.6",
        get(),
        half_close=True,
        why='default as NGINX; `client_half_close = "finish"` answers',
    ),
    Case("three pipelined requests", "9112 9.3.2", get() * 3, client_sees=b"\r\n\r\nok"),
    Case(
        "HEAD",
        "9110 9.3.2",
        get(line=b"HEAD /x HTTP/1.1"),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        client_sees=b"content-length: 9",
    ),
    Case(
        "answer without Date",
        "9110 6.6.1",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        client_sees=b"\ndate:",
    ),
    Case(
        "chunked answer for HTTP/1.0",
        "9112 6.1",
        get(line=b"GET /x HTTP/1.0"),
        answer=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + HI,
        client_sees=b"chunked",
    ),
    Case(
        "103 for HTTP/1.1",
        "8297 2",
        get(),
        answer=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
        client_sees=b"103 early",
    ),
    Case(
        "103 for HTTP/1.0",
        "9110 15.2",
        get(line=b"GET /x HTTP/1.0"),
        answer=b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
        client_sees=b" 103 ",
    ),
    Case(
        "answer until close",
        "9112 6.3",
        get(),
        answer=b"HTTP/1.1 200 OK\r\n\r\nok",
        close_after_answer=True,
        client_sees=b"chunked",
    ),
    Case(
        "answer with two lengths",
        "9112 6.3",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    ),
    Case(
        "answer with both framings",
        "9112 6.3",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n" + HI,
        why=FRAMING,
    ),
    Case(
        "answer with bare LF",
        "9112 2.2",
        get(),
        answer=b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        why="a backend that is so old is not behind a balancer by intention",
    ),
    Case("answer that is not HTTP", "9112 4", get(), answer=b"SSH-2.0-x\r\n\r\n", close_after_answer=True),
    Case(
        "101 that nobody asked for",
        "9110 15.2.2",
        get(),
        answer=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ),
    Case(
        "bytes behind an answer",
        "9112 9.2",
        get(),
        answer=OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        client_sees=b"evil",
    ),
    Case(
        "answer cut short",
        "9112 8",
        get(),
        answer=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
        close_after_answer=True,
    ),
]
