"""What is timed: each name with a function that prepares it and gives back one to be called again and again."""

import itertools
import random
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from twisted_lb.access_log.destinations import FileDestination
from twisted_lb.access_log.writer import Writer
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.log_format import FORMATS
from twisted_lb.core.address import Address
from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.backend import Backend, BackendSpec
from twisted_lb.core.counts import Counts
from twisted_lb.core.lease import Lease
from twisted_lb.core.load_report import read_report
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.pool import Pool
from twisted_lb.core.settings import PoolSettings
from twisted_lb.data_plane import DataPlane
from twisted_lb.net.clock import Clock
from twisted_lb.net.dialer import Failed
from twisted_lb.net.poller import EpollPoller
from twisted_lb.net.transport import StreamProtocol, Transport
from twisted_lb.plan import DEFAULT, plan_of
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient
from twisted_lb.testing.balanced import runtime_of
from twisted_lb.wire.chunked import ChunkDecoder, chunk, last_chunk
from twisted_lb.wire.fields import Memory
from twisted_lb.wire.grammar import BLANK_LINE, CRLF, Limits
from twisted_lb.wire.http2.frames import (
    DATA,
    END_STREAM,
    FRAME_BYTES,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    WINDOW_MOST,
    frame_head,
    headers_frames,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.hpack import encode_lines, encode_status
from twisted_lb.wire.http2.huffman import huffman_encode
from twisted_lb.wire.origin import Client
from twisted_lb.wire.request import parse_request, parse_request_fields
from twisted_lb.wire.response import parse_response
from twisted_lb.wire.rewrite import upstream_head, upstream_tail

Subject = Callable[[], Callable[[], object]]

SMALL = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080"
BROWSER = b"""GET /items/00007919?page=1 HTTP/1.1
Host: shop.example.com
Connection: keep-alive
sec-ch-ua: "Chromium";v="126", "Not.A/Brand";v="24"
sec-ch-ua-mobile: ?0
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8
Sec-Fetch-Site: same-origin
Sec-Fetch-Mode: navigate
Referer: https://shop.example.com/items/00104729?page=1
Accept-Encoding: gzip, deflate, br
Accept-Language: en-GB,en;q=0.9
Cookie: session=002880e300009e37; seen=%06d""".replace(b"\n", CRLF)
ANSWER = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\nContent-Length: 6"
POOL_SIZES = (2, 10, 50, 200, 1000)
VARIANTS = 1009
JSON_LINES = {"file": "stdout", "format": "json"}
WHOLE_ANSWER = ANSWER + BLANK_LINE + b"hello\n"


def ignored(*_: object) -> None:
    """For events, and what is to be called later."""


def browser(number: int) -> bytes:
    """The head of the request of that number in yardstick/load.lua: target, referer and cookies differ from the last one's."""
    return (
        (BROWSER % (number * 31))
        .replace(b"/items/00007919?page=1", b"/items/%08d?page=%d" % (number * 7919, number % 10))
        .replace(b"/items/00104729?page=1", b"/items/%08d?page=%d" % (number * 104729, number % 10))
        .replace(b"002880e300009e37", b"%08x%08x" % (number * 2654435, number * 40503))
    )


def requests(*heads: bytes, last_line: bytes = b"") -> list[bytes]:
    """Complete requests without a body, each with one line more if there is one to add."""
    return [head + CRLF + last_line + CRLF for head in heads]


SMALL_ONE = requests(SMALL)
BROWSER_ONE = requests(BROWSER % 1)
BROWSER_VARYING = requests(*map(browser, range(1, VARIANTS + 1)))
SMALL_LAST = requests(SMALL, last_line=b"Connection: close\r\n")


def request_head(head: bytes) -> Subject:
    """Parsed and rewritten from nothing, as the first of a connection is."""

    def prepare() -> Callable[[], object]:
        limits, client = Limits(), Client(b"127.0.0.1", b"http", b"8080")

        def run() -> object:
            request = parse_request(head, limits)
            return upstream_head(request.lines, upstream_tail(request.fields, client))

        return run

    return prepare


def request_again() -> Callable[[], object]:
    """A block that differs in one line from the last one of its connection."""
    limits, client, memory = Limits(), Client(b"127.0.0.1", b"http", b"8080"), Memory()
    blocks = [(BROWSER % number).partition(CRLF)[2] for number in range(VARIANTS)]
    turn = 0

    def run() -> object:
        nonlocal turn
        turn = (turn + 1) % len(blocks)
        fields, lines = parse_request_fields(11, blocks[turn], limits, memory)
        return upstream_head(lines, upstream_tail(fields, client))

    return run


def response_head() -> Callable[[], object]:
    """An answer's head."""
    limits = Limits()
    return lambda: parse_response(ANSWER, limits)


def load_report() -> Callable[[], object]:
    """A report of load as vLLM writes it, read."""
    said = b"TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=3"
    return lambda: read_report(said)


def chunks(size: int) -> Subject:
    """64 KiB of body in chunks of that size, as they come: 16 KiB at a time."""

    def prepare() -> Callable[[], object]:
        limits = Limits()
        body = chunk(b"x" * size) * (65536 // size) + last_chunk(b"")
        pieces = [body[at : at + 16384] for at in range(0, len(body), 16384)]

        def run() -> object:
            decoder = ChunkDecoder(limits)
            for piece in pieces:
                decoder.feed(piece)
            if not decoder.done:
                raise AssertionError("the body has not ended")
            return decoder

        return run

    return prepare


def specs(number: int, weights: tuple[int, ...]) -> list[BackendSpec]:
    """So many backends, of these weights by turns."""
    return [BackendSpec.parse(f"b{at}:80,weight={weights[at % len(weights)]}") for at in range(number)]


def pick(policy: str, number: int, weights: tuple[int, ...]) -> Subject:
    """One pick among so many."""

    def prepare() -> Callable[[], object]:
        rng = random.Random(1)
        counts = Counts()
        backends = [Backend(spec, counts) for spec in specs(number, weights)]
        loads = POLICIES[policy].loads(counts)
        for backend in backends:
            backend.load = loads and loads.of(backend.slot)
        picker = POLICIES[policy].build(backends, None, rng, 0.0)
        ask = Ask(key_of(b"192.0.2.1"), by="client") if POLICIES[policy].keyed else ANY
        return lambda: picker.pick(ask, 1.0, rng, ())

    return prepare


def lease_and_settle() -> Callable[[], object]:
    """A claim on one of ten backends and its good end."""
    pool = Pool("p", POLICIES["rr"], PoolSettings(), random.Random(1), ignored)
    pool.update(specs(10, (1,)), 0.0)

    def run() -> None:
        lease = pool.claim(ANY, 1.0)
        if not isinstance(lease, Lease):
            raise TypeError(f"nobody is usable: {lease}")
        pool.settle(lease, Outcome.OK, 1.0)

    return run


def forget(backend: ScriptedBackend) -> None:
    """Forget what it was sent."""
    backend.requests.clear()
    for connection in backend.connections:
        connection.requests.clear()
        connection.received = b""


def exchange(sent: list[bytes], config: Callable[[], LoadBalancerConfig] | None = None) -> Subject:
    """One of these requests, by turns, through a balancer to a scripted backend and its answer back, over the network in memory."""

    def prepare() -> Callable[[], object]:
        clock = HeapClock(1000.0)
        network = MemoryNetwork(clock)
        made = balance() if config is None else config()
        backends = [
            ScriptedBackend(network, str(spec.address)) for spec in made.backends or [BackendSpec.parse("a:80")]
        ]
        # As it is unless requests are logged.
        balanced = Balanced(made, network, observers=())
        client = ScriptedClient(network, "lb:8080")
        turns = itertools.cycle(sent)

        def run() -> bytes:
            client.send(next(turns))
            clock.settle()
            answer, client.received = client.received, b""
            if not answer.endswith(b"ok\n"):
                raise AssertionError(f"{client}: {answer!r}")
            # What it remembers would be copied again at each request.
            balanced.log_lines.clear()
            for backend in backends:
                if backend.requests:
                    forget(backend)
            return answer

        return run

    return prepare


# Never checked; what is kept open stays so.
POOL: dict[str, Any] = {
    "health_check": {"interval_s": 0.0},
    "upstream": {"max_idle": 8, "idle_s": 3600.0, "max_requests": 1 << 30, "max_age_s": 86400.0},
}


def balance(**options: Any) -> LoadBalancerConfig:
    """A balancer in front of one backend, a:80, that is never checked; what is kept open stays so."""
    return LoadBalancerConfig.model_validate(
        {
            **POOL,
            "backends": ["a:80"],
            "timeouts": {"client_idle_s": 3600.0},
            "limits": {"client_bytes_per_s": 0},
            **options,
        }
    )


def among(policy: str) -> LoadBalancerConfig:
    """A balancer in front of ten backends of a policy."""
    return balance(policy=policy, backends=[f"b{at}:80" for at in range(10)])


def by_path(number: int) -> Subject:
    """So many routes by path, and requests for eight of them by turns; the last is the most specific of its path."""
    routes = [{"path_prefix": f"/{at}", "pool": "default"} for at in range(number)]
    asked = [b"GET /%d/x HTTP/1.1\r\nHost: shop.example.com" % at for at in _eight_of(number)]
    return exchange(requests(*asked), lambda: balance(routes=routes))


def by_host(number: int) -> Subject:
    """So many hosts with a route each, and requests for eight of them by turns."""
    routes = [{"host": f"h{at}.example.com", "pool": "default"} for at in range(number)]
    asked = [b"GET / HTTP/1.1\r\nHost: h%d.example.com" % at for at in _eight_of(number)]
    return exchange(requests(*asked), lambda: balance(routes=routes))


def by_header(number: int) -> Subject:
    """So many routes by the value of a header field, and requests for the last of them: these are looked at one by one."""
    routes = [{"headers": {"X-Tenant": f"t{at}"}, "pool": "default"} for at in range(number)]
    asked = [b"GET /%d HTTP/1.1\r\nHost: x\r\nX-Tenant: t%d" % (at, number - 1) for at in range(8)]
    return exchange(requests(*asked), lambda: balance(routes=routes))


def by_pool(number: int) -> Subject:
    """So many pools with a route and a backend each, and requests for eight of them by turns; all backends are one."""
    pools = {f"p{at}": {**POOL, "backends": ["a:80"]} for at in range(number)}
    routes = [{"path_prefix": f"/{at}", "pool": f"p{at}"} for at in range(number)]
    asked = [b"GET /%d/x HTTP/1.1\r\nHost: shop.example.com" % at for at in _eight_of(number)]
    return exchange(requests(*asked), lambda: balance(pools=pools, routes=routes))


def _eight_of(number: int) -> list[int]:
    return [at * (number - 1) // 7 for at in range(8)]


class Door:
    """A listening socket for `Listener`: a unix socket that says of itself and of who comes what a TCP socket would say."""

    family = socket.AF_INET

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._sock.bind("")  # Linux chooses an abstract name
        self._sock.listen()
        self.name = self._sock.getsockname()
        self.fileno = self._sock.fileno
        self.setsockopt = self._sock.setsockopt
        self.close = self._sock.close

    def getsockname(self) -> tuple[str, int]:
        """See socket.socket."""
        return "127.0.0.1", 8080

    def _accept(self) -> tuple[int, tuple[str, int]]:
        return self._sock._accept()[0], ("127.0.0.1", 40000)


class Wires:
    """A balancer whose listener, transports and poller are the real ones; the far ends of its sockets are here.

    Sockets of the unix family deliver at once, so that one look of the poller finds what was sent, however busy the machine.
    Only time is made up: it goes on by 61 µs at each look. `backends` are the far ends of what the balancer dialled. `logged`: the form of an
    access log, which goes nowhere; `options`: what else is configured.
    """

    def __init__(self, logged: str = "", **options: Any) -> None:
        self.backends: list[socket.socket] = []
        clock = HeapClock(1000.0)
        now = Clock((1000.0 + look / 16384 for look in itertools.count()).__next__)
        self.poller = EpollPoller(now, clock.callLater, ignored)
        self._door = Door()
        runtime = runtime_of(clock, self, now=now, poller=self.poller)
        door: Any = self._door
        log = {"log": {"file": "/dev/null", "format": logged}} if logged else {}
        self._writer = Writer(FileDestination("/dev/null"), runtime.soon, runtime.later)
        self._plane = DataPlane(
            runtime, plan_of(balance(**log, **options)), {DEFAULT: [door]}, hear=ignored, log_line=self._writer.line
        )

    def connect(self) -> socket.socket:
        """A client's connection; the balancer has not seen it yet."""
        client = socket.socket(socket.AF_UNIX)
        client.connect(self._door.name)
        client.setblocking(False)
        return client

    def dial(self, address: Address, protocol: StreamProtocol, timeout_s: float, failed: Failed) -> "Wires":
        """See Dial."""
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.backends.append(far)
        self.poller.soon(lambda: Transport(self.poller, near).open(protocol))
        return self

    def cancel(self) -> None:
        """See Attempt; there is none that hangs."""

    def close(self) -> None:
        """Close everything; the clients' ends are closed already."""
        self.poller.doRead()
        for backend in self.backends:
            backend.close()
        self._plane.drain(0.0)
        self._plane.close()
        self._writer.close()
        self.poller.doRead()
        self.poller.stop()


# Until whatever keeps so many of the last requests is full.
WARMED = 1100


class OverSockets:
    """One of these requests, by turns, from one far end of the wires to the other and the answer back."""

    def __init__(self, sent: list[bytes], logged: str = "") -> None:
        self._wires = Wires(logged)
        self._turns = itertools.cycle(sent)
        self._client = self._wires.connect()
        for _ in range(WARMED):
            self()

    def __call__(self) -> bytes:
        return self._exchange(self._client)

    def _exchange(self, client: socket.socket) -> bytes:
        look, backends = self._wires.poller.doRead, self._wires.backends
        client.send(next(self._turns))
        look()
        if not backends[0].recv(65536).endswith(BLANK_LINE):
            raise AssertionError("the backend got no whole request")
        backends[0].send(WHOLE_ANSWER)
        look()
        answer = client.recv(65536)
        if not answer.endswith(b"hello\n"):
            raise AssertionError(f"{answer!r}")
        return answer

    def __del__(self) -> None:
        self._client.close()
        self._wires.close()


def over_logged(sent: list[bytes], form: str) -> Subject:
    """The same with a line in an access log of this form for each request, written at the end of its turn."""
    return lambda: OverSockets(sent, form)


class OverNewSockets(OverSockets):
    """The same with a client's connection for each request, which the balancer closes. The backend's is kept."""

    def __call__(self) -> bytes:
        client = self._wires.connect()
        answer = self._exchange(client)
        if client.recv(1):
            raise AssertionError("more than an answer")
        client.close()
        return answer


# The heads of SMALL in HPACK, the first and all others of a connection: its host is in the table from then on.
FIRST_BLOCK = b"\x82\x86\x84\x41\x0e127.0.0.1:8080"
NEXT_BLOCK = b"\x82\x86\x84\xbe"
ANSWER_BLOCK = encode_status(200) + encode_lines(ANSWER.partition(CRLF)[2])


class OverHttp2:
    """The small request over HTTP/2, each on a stream of its own, one after the other; `backends`: they speak it too."""

    def __init__(self, *, backends: bool) -> None:
        pool = {**POOL, "backends": ["a:80"], "protocol": "h2"}
        configured = {"pools": {"h2": pool}, "routes": [{"pool": "h2"}]} if backends else {}
        self._wires = Wires(protocols=["h2"], **configured)
        self._client = self._wires.connect()
        self._answers = self._answers_of_http2() if backends else itertools.repeat(WHOLE_ANSWER)
        self._stream = -1
        begin = window_update(0, WINDOW_MOST - 65535)
        self._client.send(PREFACE + settings_frame({}) + begin + self._request(FIRST_BLOCK))
        self._answer()
        for _ in range(WARMED):
            self()

    def _request(self, block: bytes) -> bytes:
        self._stream += 2
        return b"".join(headers_frames(self._stream, block, ended=True))

    @staticmethod
    def _answers_of_http2() -> Iterator[bytes]:
        begin = settings_frame({}) + window_update(0, WINDOW_MOST - 65535)
        for stream in itertools.count(1, 2):
            head = b"".join(headers_frames(stream, ANSWER_BLOCK, ended=False))
            yield begin + head + frame_head(6, DATA, END_STREAM, stream) + b"hello\n"
            begin = b""

    def __call__(self) -> bytes:
        self._client.send(self._request(NEXT_BLOCK))
        return self._answer()

    def _answer(self) -> bytes:
        look, backends = self._wires.poller.doRead, self._wires.backends
        look()
        if not backends[0].recv(65536):
            raise AssertionError("the backend got no request")
        backends[0].send(next(self._answers))
        look()
        answer = self._client.recv(65536)
        if not answer.endswith(frame_head(6, DATA, END_STREAM, self._stream) + b"hello\n"):
            raise AssertionError(f"{answer!r}")
        return answer

    def __del__(self) -> None:
        self._client.close()
        self._wires.close()


# The fields of BROWSER as a browser sends them in HPACK: all but the path are in the table from the first request on.
BROWSER_FIELDS = [
    (b":authority", b"shop.example.com"),
    *(line.split(b": ", 1) for line in (BROWSER % 1).lower().split(CRLF)[3:]),
]


def browser_block(number: int) -> bytes:
    """The field block of the request of that number, not the first of its connection: a path that is new, and indices."""
    path = huffman_encode(b"/items/%08d?page=%d" % (number * 7919, number % 10))
    return b"\x82\x86\x04" + bytes((0x80 | len(path),)) + path + bytes(range(0xBD + len(BROWSER_FIELDS), 0xBD, -1))


def browser_first_block() -> bytes:
    """That of the first, with which all fields but the path enter the table."""
    fields = [b"\x40" + _text(name) + _text(value) for name, value in BROWSER_FIELDS]
    return b"\x82\x86\x84" + b"".join(fields)


def _text(text: bytes) -> bytes:
    code = huffman_encode(text)
    if len(code) < 127:
        return bytes((0x80 | len(code),)) + code
    raise ValueError(f"{text!r} is too long for one byte")


class Far:
    """A client's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.close = sock.close

    def send(self, data: bytes) -> None:
        """Send all of it."""
        sent = self._sock.send(data)
        if sent < len(data):
            raise AssertionError(f"{len(data) - sent} bytes more than the socket takes")

    def take(self) -> bytes:
        """What is here."""
        try:
            return self._sock.recv(1048576)
        except BlockingIOError:
            return b""


class FarOverTls(Far):
    """The same over TLS; `begin` is called until it is true, the balancer has a look in between."""

    def __init__(self, sock: socket.socket, protocol: str) -> None:
        super().__init__(sock)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols([protocol])
        self._inbound, self._outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._inbound, self._outbound)

    def begin(self) -> bool:
        """Go on with the handshake; whether it is over."""
        self._inbound.write(super().take())
        try:
            self._tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        finally:
            super().send(self._outbound.read())

    def send(self, data: bytes) -> None:
        """See Far."""
        for at in range(0, len(data), 16384):
            self._tls.write(data[at : at + 16384])
        super().send(self._outbound.read())

    def take(self) -> bytes:
        """See Far."""
        self._inbound.write(super().take())
        parts = []
        while self._inbound.pending:
            try:
                parts.append(self._tls.read(16384))
            except ssl.SSLWantReadError:
                break
        return b"".join(parts)


class OverStreams:
    """So many requests at a time, each on a stream of one connection; a call is all of them. `down`: bytes of each answer's body, `up`: of
    each request's. The backends speak HTTP/1.1, and answer when the whole request is there.
    """

    def __init__(self, streams: int, *, tls: bool = False, down: int = 6, up: int = 0) -> None:
        secured = {"tls": "self-signed"} if tls else {}
        self._wires = Wires(protocols=["h2"], upstream={**POOL["upstream"], "max_idle": streams}, **secured)
        sock = self._wires.connect()
        self._client = self._secured(sock) if tls else Far(sock)
        self._streams, self._stream, self._left = streams, -1, b""
        self._up = b"x" * up
        head = ANSWER.replace(b"Content-Length: 6", b"Content-Length: %d" % down)
        self._whole = head + BLANK_LINE + b"y" * down
        self._blocks = itertools.cycle(map(browser_block, range(1, VARIANTS + 1)))
        begin = settings_frame({INITIAL_WINDOW_SIZE: WINDOW_MOST}) + window_update(0, WINDOW_MOST - 65535)
        self._client.send(PREFACE + begin + self._request(browser_first_block()))
        self._answers(1)
        for _ in range(WARMED // streams):
            self()

    def _secured(self, sock: socket.socket) -> FarOverTls:
        far = FarOverTls(sock, "h2")
        while not far.begin():
            self._wires.poller.doRead()
        self._wires.poller.doRead()
        return far

    def _request(self, block: bytes) -> bytes:
        self._stream += 2
        up = self._up
        if not up:
            return b"".join(headers_frames(self._stream, block, ended=True))
        length = b"%d" % len(up)
        frames = headers_frames(self._stream, block + b"\x0f\x0d" + bytes((len(length),)) + length, ended=False)
        for at in range(0, len(up), FRAME_BYTES):
            piece = up[at : at + FRAME_BYTES]
            last = at + FRAME_BYTES >= len(up)
            frames += [frame_head(len(piece), DATA, END_STREAM if last else 0, self._stream), piece]
        return b"".join(frames)

    def __call__(self) -> None:
        self._client.send(b"".join([self._request(next(self._blocks)) for _ in range(self._streams)]))
        self._answers(self._streams)

    def _answers(self, wanted: int) -> None:
        """Let the backends answer until so many streams have ended."""
        look, backends, up = self._wires.poller.doRead, self._wires.backends, self._up
        taken = dict.fromkeys(range(len(backends)), 0)
        for _ in range(64):
            look()
            for at, backend in enumerate(backends):
                try:
                    got = backend.recv(1048576)
                except BlockingIOError:
                    continue
                taken[at] = taken.get(at, 0) + len(got)
                if taken[at] > len(up) and (not up or got.endswith(up[-1:])):
                    taken[at] = 0
                    backend.send(self._whole)
            wanted -= self._ended(self._client.take())
            if not wanted:
                return
        raise AssertionError(f"{wanted} streams did not end")

    def _ended(self, data: bytes) -> int:
        """How many streams have ended with these bytes."""
        data = self._left + data
        at = ended = 0
        while len(data) - at >= 9:
            end = at + 9 + (data[at] << 16 | data[at + 1] << 8 | data[at + 2])
            if end > len(data):
                break
            ended += data[at + 3] < 2 and data[at + 4] & END_STREAM
            at = end
        self._left = data[at:]
        return ended

    def __del__(self) -> None:
        self._client.close()
        self._wires.close()


class MadeYouReset:
    """Two hundred requests on a new connection that are begun and have to be reset (CVE-2025-8671), five at a time, as many as it takes until
    their client is sent away.
    """

    def __init__(self) -> None:
        self._wires = Wires(protocols=["h2"])
        block = b"\x83\x86\x04\x03/up\x01\x10attacked.example\x0f\x0d\x071000000"
        pieces = []
        for stream in range(1, 401, 2):
            pieces += [*headers_frames(stream, block, ended=False), window_update(stream, 0)]
        self._sent = [PREFACE + settings_frame({})]
        self._sent += [b"".join(pieces[at : at + 15]) for at in range(0, len(pieces), 15)]

    def __call__(self) -> None:
        client, look = self._wires.connect(), self._wires.poller.doRead
        for data in self._sent:
            client.send(data)
            look()
        if not client.recv(65536).endswith(b"streams that had to be reset (PROTOCOL_ERROR)"):
            raise AssertionError("it was not sent away")
        client.close()
        look()

    def __del__(self) -> None:
        self._wires.close()


class OverTls:
    """A small request over TLS, in HTTP/1.1, and an answer with a body of that size."""

    def __init__(self, down: int) -> None:
        self._wires = Wires(tls="self-signed", protocols=["http/1.1"])
        self._client = FarOverTls(self._wires.connect(), "http/1.1")
        while not self._client.begin():
            self._wires.poller.doRead()
        self._wires.poller.doRead()
        self._answer = ANSWER.replace(b"Content-Length: 6", b"Content-Length: %d" % down) + BLANK_LINE + b"y" * down
        for _ in range(WARMED):
            self()

    def __call__(self) -> None:
        look, backends = self._wires.poller.doRead, self._wires.backends
        self._client.send(SMALL_ONE[0])
        look()
        if not backends[0].recv(65536).endswith(BLANK_LINE):
            raise AssertionError("the backend got no whole request")
        backends[0].send(self._answer)
        left = len(self._answer)
        while left > 0:
            look()
            left -= len(self._client.take())

    def __del__(self) -> None:
        self._client.close()
        self._wires.close()


class Deaf:
    """A protocol that takes what comes and does nothing."""

    def makeConnection(self, transport: object) -> None:
        """Nothing."""

    def dataReceived(self, data: bytes) -> None:
        """Nothing."""

    def connectionLost(self, reason: object) -> None:
        """Nothing."""


class Dispatch:
    """At each call one batch of 64 events, a byte received for each; sending them is in the time."""

    def __init__(self) -> None:
        self._poller = EpollPoller(Clock(lambda: 1.0), ignored, ignored, 1)
        pairs = [socket.socketpair() for _ in range(64)]
        self._far = [far for _, far in pairs]
        self._transports = [Transport(self._poller, near) for near, _ in pairs]
        for (near, _), transport in zip(pairs, self._transports, strict=True):
            near.setblocking(False)
            transport.open(Deaf())

    def __call__(self) -> None:
        for far in self._far:
            far.send(b"x")
        self._poller.doRead()

    def __del__(self) -> None:
        for transport in self._transports:
            transport.abortConnection()
        self._poller.stop()
        for far in self._far:
            far.close()


SUBJECTS: dict[str, Subject] = {
    "request head, small, parse and rewrite": request_head(SMALL),
    "request head, browser, parse and rewrite": request_head(BROWSER % 1),
    "header block, browser, one line differs": request_again,
    "response head, parse": response_head,
    "load report, read": load_report,
    **{f"chunk decode, 64 KiB in chunks of {size}": chunks(size) for size in (64, 1024, 16384)},
    **{
        f"pick, {policy}{by_weight}, {number}": pick(policy, number, weights)
        for policy in POLICIES
        for by_weight, weights in (("", (1,)), (" by weight", (1, 2, 3)))
        for number in POOL_SIZES
    },
    "lease and settle": lease_and_settle,
    "exchange, small": exchange(SMALL_ONE),
    **{
        f"exchange, small, {policy} among 10": exchange(SMALL_ONE, lambda policy=policy: among(policy))
        for policy in POLICIES
    },
    "exchange, small, with a JSON line": exchange(SMALL_ONE, lambda: balance(log=JSON_LINES)),
    "exchange, browser": exchange(BROWSER_ONE),
    "exchange, browser heads, varying": exchange(BROWSER_VARYING),
    **{f"exchange, {number} routes by path": by_path(number) for number in (10, 1000)},
    **{f"exchange, {number} routes by host": by_host(number) for number in (10, 1000)},
    **{f"exchange, {number} pools": by_pool(number) for number in (10, 1000)},
    **{f"exchange, {number} routes by header": by_header(number) for number in (1, 10)},
    "socketpairs, small": lambda: OverSockets(SMALL_ONE),
    "socketpairs, browser, varying": lambda: OverSockets(BROWSER_VARYING),
    **{f"socketpairs, small, logged as {form}": over_logged(SMALL_ONE, form) for form in FORMATS},
    **{f"socketpairs, browser, logged as {form}": over_logged(BROWSER_VARYING, form) for form in FORMATS},
    "socketpairs, small, new connection": lambda: OverNewSockets(SMALL_LAST),
    "socketpairs, small, HTTP/2": lambda: OverHttp2(backends=False),
    "socketpairs, small, HTTP/2 on both sides": lambda: OverHttp2(backends=True),
    "socketpairs, browser varying, HTTP/2, 32 streams": lambda: OverStreams(32),
    "socketpairs, browser varying, HTTP/2 over TLS, a stream": lambda: OverStreams(1, tls=True),
    "socketpairs, 64 KiB down, HTTP/2, 8 streams": lambda: OverStreams(8, down=65536),
    "socketpairs, 64 KiB up, HTTP/2, 3 streams": lambda: OverStreams(3, up=65536),
    "socketpairs, MadeYouReset": MadeYouReset,
    "socketpairs, small, TLS": lambda: OverTls(6),
    "socketpairs, 64 KiB down, TLS": lambda: OverTls(65536),
    "poller, 64 events, a byte received for each": Dispatch,
}
