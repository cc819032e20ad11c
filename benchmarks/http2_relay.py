"""A relay of HTTP/2 with our codec and nothing else, for `http2_floor.py`: http2_relay.py ADDRESS PORT CERTIFICATE BACKEND ...

It knows no route, limit, time, retry, count or log, keeps no back-pressure, and trusts everybody. Backends speak HTTP/1.1 and answer with a
Content-Length; CERTIFICATE is a file of one and its key, or empty. It stands for the measurement alone.
"""

import select
import socket
import ssl
import sys
from typing import NoReturn

from twisted_lb.wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    SETTINGS_ACK,
    WINDOW_MOST,
    FrameReader,
    FrameReceiver,
    frame_head,
    settings_frame,
    window_update,
)
from twisted_lb.wire.http2.hpack import AUTHORITY, METHOD, PATH, Entry, HpackDecoder, encode_lines, encode_status

BLANK_LINE = b"\r\n\r\n"
RECEIVE_BYTES = 131072
ACCEPTED_AT_ONCE = 16


class Backend:
    """A connection to a backend, and the stream whose request it has now."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.client: Client | None = None
        self.stream = 0
        self.left = 0
        # The last head of an answer, what it was made of, and how long the body is.
        self.head = b""
        self.block = b""
        self.length = 0


class Client(FrameReceiver):
    """A client's connection."""

    def __init__(self, loop: "Loop", sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.out: list[bytes] = []
        self._loop = loop
        self._reader = FrameReader(of_client=True)
        self._decoder = HpackDecoder()
        self._entries: list[Entry] = []
        self._method, self._lines = b"", b""
        self._uploads: dict[int, Backend] = {}
        self._uncredited = 0
        self._unsent = b""
        self._tls: ssl.SSLObject | None = None
        self._up = False
        if context is not None:
            self._inbound, self._outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._tls = context.wrap_bio(self._inbound, self._outbound, server_side=True)
        self.out += [settings_frame({INITIAL_WINDOW_SIZE: WINDOW_MOST}), window_update(0, WINDOW_MOST - 65535)]

    def read(self) -> bool:
        """Read what is here; False: it has left."""
        try:
            data = self.sock.recv(RECEIVE_BYTES)
        except OSError:
            return False
        if not data:
            return False
        if self._tls is not None:
            self._inbound.write(data)
            data = self._decrypted(self._tls)
        if data:
            self._reader.feed(data, self)
            self.flush()
        return True

    def _decrypted(self, tls: ssl.SSLObject) -> bytes:
        parts = []
        try:
            if not self._up:
                tls.do_handshake()
                self._up = True
            while self._inbound.pending:
                parts.append(tls.read(FRAME_BYTES))
        except ssl.SSLWantReadError:
            pass
        if self._outbound.pending:
            self._send(self._outbound.read())
        return b"".join(parts)

    def flush(self) -> None:
        """Send what is to leave, in one piece."""
        if not self.out:
            return
        data = b"".join(self.out)
        self.out = []
        if self._tls is not None:
            for at in range(0, len(data), FRAME_BYTES):
                self._tls.write(data[at : at + FRAME_BYTES])
            data = self._outbound.read()
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            return
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has left
        if sent < len(data):
            self._unsent = data[sent:]
            self._loop.watch(self.sock, writing=True)

    def send_rest(self) -> None:
        """It takes more."""
        self._unsent = self._unsent[self.sock.send(self._unsent) :]
        if not self._unsent:
            self._loop.watch(self.sock, writing=False)

    def block_received(self, stream: int, block: bytes, *, ended: bool) -> None:
        """See FrameReceiver: a request."""
        entries = self._decoder.decode(block, 65536, 128)
        if entries is not self._entries:
            self._understand(entries)
        backend = self._loop.idle.pop() if self._loop.idle else self._loop.dial()
        backend.client, backend.stream, backend.left = self, stream, -1
        backend.sock.send(self._method + b" " + self._decoder.path + self._lines)
        if not ended:
            self._uploads[stream] = backend

    def _understand(self, entries: list[Entry]) -> None:
        lines = [b" HTTP/1.1\r\n"]
        for entry in entries:
            if entry.kind == METHOD:
                self._method = entry.value
            elif entry.kind == AUTHORITY:
                lines.append(b"host: " + entry.value + b"\r\n")
            elif entry.kind != PATH and entry.line:
                lines.append(entry.line)
        self._lines = b"".join([*lines, b"\r\n"])
        self._entries = entries

    def data_received(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """See FrameReceiver: a piece of a request's body. Its stream's window takes all of them."""
        backend = self._uploads.pop(stream) if ended else self._uploads[stream]
        at = 0
        while at < len(data):
            try:
                at += backend.sock.send(data[at:] if at else data)
            except BlockingIOError:
                select.select([], [backend.fd], [])
        self._uncredited += size
        if self._uncredited > WINDOW_MOST // 2:
            self.out.append(window_update(0, self._uncredited))
            self._uncredited = 0

    def settings_received(self, settings: list[tuple[int, int]]) -> None:
        """See FrameReceiver."""
        self.out.append(SETTINGS_ACK)

    def settings_acknowledged(self) -> None:
        """See FrameReceiver."""

    def window_opened(self, stream: int, more: int) -> None:
        """See FrameReceiver: there is always room."""

    def goaway_received(self, last: int, code: int, reason: bytes) -> None:
        """See FrameReceiver: it closes the connection by itself."""


class Loop:
    """The relay."""

    def __init__(self, address: str, port: int, certificate: str, backends: list[str]) -> None:
        self.idle: list[Backend] = []
        self._context: ssl.SSLContext | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
            self._context.set_alpn_protocols(["h2"])
        self._epoll = select.epoll()
        self._door = socket.create_server((address, port), backlog=4096)
        self._door.setblocking(False)
        self._epoll.register(self._door.fileno(), select.EPOLLIN)
        self._names = [name.rsplit(":", 1) for name in backends]
        self._clients: dict[int, Client] = {}
        self._backends: dict[int, Backend] = {}

    def run(self) -> NoReturn:
        """Relay until somebody ends the process."""
        clients, backends, door = self._clients, self._backends, self._door.fileno()
        answered: dict[Client, None] = {}
        while True:
            for fd, flags in self._epoll.poll():
                backend = backends.get(fd)
                if backend is not None:
                    client = self._answer(backend)
                    if client is not None:
                        answered[client] = None
                elif fd == door:
                    self._accept()
                elif flags & select.EPOLLOUT:
                    clients[fd].send_rest()
                elif not clients[fd].read():
                    clients.pop(fd).sock.close()
            for client in answered:
                client.flush()
            answered.clear()

    def watch(self, sock: socket.socket, *, writing: bool) -> None:
        """Wait for room, or for what comes."""
        self._epoll.modify(sock.fileno(), select.EPOLLOUT if writing else select.EPOLLIN)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = self._door.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._clients[sock.fileno()] = Client(self, sock, self._context)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def dial(self) -> Backend:
        """A new connection to the next backend."""
        host, port = self._names[len(self._backends) % len(self._names)]
        sock = socket.create_connection((host, int(port)))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        backend = self._backends[sock.fileno()] = Backend(sock)
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        return backend

    def _answer(self, backend: Backend) -> Client | None:
        """Pass on what has come of an answer; whom it is for."""
        data = backend.sock.recv(RECEIVE_BYTES)
        client, stream = backend.client, backend.stream
        if client is None or not data:  # closed while idle
            self._backends.pop(backend.fd).sock.close()
            if backend in self.idle:
                self.idle.remove(backend)
            return None
        out = client.out
        if backend.left < 0:
            if not backend.head or not data.startswith(backend.head):
                self._understand(backend, data)
            data = data[len(backend.head) :]
            backend.left = backend.length
            flags = END_HEADERS if backend.left else END_HEADERS | END_STREAM
            out += [frame_head(len(backend.block), HEADERS, flags, stream), backend.block]
        backend.left -= len(data)
        for at in range(0, len(data), FRAME_BYTES):
            piece = data[at : at + FRAME_BYTES]
            last = not backend.left and at + FRAME_BYTES >= len(data)
            out += [frame_head(len(piece), DATA, END_STREAM if last else 0, stream), piece]
        if not backend.left:
            backend.client = None
            self.idle.append(backend)
        return client

    @staticmethod
    def _understand(backend: Backend, data: bytes) -> None:
        head = data[: data.index(BLANK_LINE) + len(BLANK_LINE)]
        start, _, lines = head.partition(b"\r\n")
        lengths = [line for line in lines.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        backend.head = head
        backend.block = encode_status(int(start.split(b" ")[1])) + encode_lines(lines)
        backend.length = int(lengths[0].partition(b":")[2]) if lengths else 0


if __name__ == "__main__":
    own_address, own_port, own_certificate, *names = sys.argv[1:]
    Loop(own_address, int(own_port), own_certificate, names).run()
