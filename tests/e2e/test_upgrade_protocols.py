"""Upgrades under TLS, HTTP/2 and TCP: no handshake, no stream and no connection is lost."""

import contextlib
import os
import socket
import ssl
import threading

import pytest
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset
from ports import free_port
from processes import PATIENCE_S, stage
from upgrading import Load, daemons, exactly

pytestmark = [pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs Linux"), pytest.mark.long]


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


@pytest.fixture
def daemon(world):
    with daemons(world) as make:
        yield make


class Echo:
    """A server that gives back what it gets."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._sock.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._sock.accept()[0],), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65536):
                sock.sendall(data)

    def close(self) -> None:
        self._sock.close()


class OverTcp:
    """Says something and hears it again, on one connection all the time or on a new one each time."""

    def __init__(self, port: int, *, keeps: bool) -> None:
        self.port, self.keeps = port, keeps
        self.sock: socket.socket | None = None

    def __call__(self) -> str:
        if self.sock is None:
            self.sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        self.sock.sendall(b"hello")
        heard = b""
        while len(heard) < 5:
            more = self.sock.recv(5)
            if not more:
                return f"closed after {heard!r}"
            heard += more
        if not self.keeps:
            self.close()
        return "" if heard == b"hello" else f"heard {heard!r}"

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class OverTls:
    """Asks over TLS, with HTTP/1.1 or HTTP/2, on a connection that it keeps as long as it may, or on a new one each time."""

    def __init__(self, port: int, *, keeps: bool, alpn: str) -> None:
        self.port, self.keeps, self.alpn = port, keeps, alpn
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.context.set_alpn_protocols([alpn])
        self.sock: ssl.SSLSocket | None = None
        self.h2: H2Connection | None = None
        self.connections = 0

    def __call__(self) -> str:
        if self.sock is None:
            self.connections += 1
            raw = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
            self.sock = self.context.wrap_socket(raw, server_hostname="localhost")
            if self.sock.selected_alpn_protocol() != self.alpn:
                return f"it speaks {self.sock.selected_alpn_protocol()}"
            if self.alpn == "h2":
                self.h2 = H2Connection(H2Configuration(client_side=True))
                self.h2.initiate_connection()
        wrong = self._stream(self.sock) if self.alpn == "h2" else self._request(self.sock)
        if not self.keeps:
            self.close()
        return wrong

    def _request(self, sock: ssl.SSLSocket) -> str:
        sock.sendall(b"GET /?size=20000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = self._until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")
        while len(body) < 20_000 and (more := sock.recv(65536)):
            body += more
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return "" if head.startswith(b"HTTP/1.1 200") and len(body) == 20_000 else f"{head!r}, {len(body)} bytes"

    @staticmethod
    def _until(sock: ssl.SSLSocket, end: bytes) -> bytes:
        data = b""
        while end not in data and (more := sock.recv(65536)):
            data += more
        return data

    def _stream(self, sock: ssl.SSLSocket) -> str:
        h2 = self.h2
        assert h2 is not None
        number = h2.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/?size=20000")]
        h2.send_headers(number, fields, end_stream=True)
        status, leaves, ended, again = "", False, False, False
        while not ended:
            with contextlib.suppress(OSError):
                sock.sendall(h2.data_to_send())
            try:
                frame = self._frame(sock)
            except OSError as error:
                return f"{error!r} in a stream"
            for event in h2.receive_data(frame):
                match event:
                    case ConnectionTerminated():
                        leaves, again = True, again or number > event.last_stream_id
                        h2.state_machine.state = ConnectionState.CLIENT_OPEN  # it hears no more otherwise
                    case StreamReset(stream_id=one) if one == number:
                        ended, again = True, event.error_code == ErrorCodes.REFUSED_STREAM
                        status = f"reset {event.error_code}"
                    case ResponseReceived():
                        status = dict(event.headers)[b":status"].decode()
                    case DataReceived():
                        h2.acknowledge_received_data(event.flow_controlled_length, number)
                    case StreamEnded(stream_id=one) if one == number:
                        ended = True
            ended = ended or again
        if leaves or again:
            self.close()
        # What was not processed is asked for again on another connection (RFC 9113 6.8, 8.7).
        return self() if again else "" if status == "200" else f"status {status}"

    @staticmethod
    def _frame(sock: ssl.SSLSocket) -> bytes:
        head = exactly(sock, 9)
        return head + exactly(sock, int.from_bytes(head[:3], "big"))

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            self.sock, self.h2 = None, None


def test_tls_http2_and_tcp_go_on(daemon):
    tls, tcp = free_port(), free_port()
    with contextlib.closing(Echo()) as echo:
        lb = daemon(
            listeners=f'[listeners.tls]\naddress = "127.0.0.1:{tls}"\ntls = "self-signed"\n'
            f'[listeners.raw]\naddress = "127.0.0.1:{tcp}"\nprotocol = "tcp"\ndefault_pool = "echo"\n'
            f'[pools.echo]\nbackends = ["127.0.0.1:{echo.port}"]\nhealth_check.interval_s = 0'
        ).start()
        kept = OverTcp(tcp, keeps=True)
        load = Load(
            kept,
            OverTcp(tcp, keeps=False),
            *(OverTls(tls, keeps=keeps, alpn=alpn) for keeps in (True, False) for alpn in ("h2", "http/1.1")),
        ).begin()
        for _ in range(2):
            lb.upgrade()
            load.more(5)
        assert load.end() == []
        lb.forget_old()
