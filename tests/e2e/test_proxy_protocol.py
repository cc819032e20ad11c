"""The PROXY protocol beside its inventors: what a real HAProxy writes is read, and what is written a real HAProxy reads alike."""

import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from random import Random

import pytest
from ports import free_port
from processes import BIN, Stage, listening, stage, until

from twisted_lb.wire.proxy_protocol import (
    ALPN,
    AUTHORITY,
    CLIENT_CERT_CONN,
    CLIENT_SSL,
    CRC32C,
    LOCAL_V2,
    SIGNATURE,
    UNIQUE_ID,
    UNKNOWN_V1,
    BadProxy,
    ProxyHeader,
    proxy_v1,
    proxy_v2,
    read_proxy,
    tlv,
)

# Debian keeps it where users do not look.
HAPROXY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")
NEEDED = [name for name, found in (("haproxy", HAPROXY), ("openssl", shutil.which("openssl"))) if found is None]
pytestmark = pytest.mark.skipif(bool(NEEDED), reason=f"{' and '.join(NEEDED)} missing")

PATIENCE_S = 30
WRITERS = {
    "v1": "send-proxy",
    "v2": "send-proxy-v2",
    "v2-all": "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,ssl,cert-cn,ssl-cipher,cert-sig,cert-key",
    "v2-cn": "send-proxy-v2-ssl-cn",
}
SAYS = '"%[src] %[src_port] %[dst] %[dst_port] [%[fc_pp_authority]] [%[fc_pp_unique_id]]"'


class Haproxy:
    """A HAProxy that writes headers to a server of the test's, from plain and from TLS clients, and one that reads them."""

    def __init__(self, world: Stage) -> None:
        self.folder = world.folder
        self.last = b""  # what was written for the last client, header and all
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(PATIENCE_S)
        self.ports = {name: free_port() for name in [*WRITERS, *(f"tls-{name}" for name in WRITERS), "reads"]}
        self.path = self.folder / "clients.sock"
        for name in ("shop.example", "alice"):
            self._certificate(name)
        file = self.folder / "haproxy.cfg"
        file.write_text(self._configuration())
        with (self.folder / "haproxy.log").open("wb") as log:
            process = subprocess.Popen([HAPROXY, "-db", "-f", file], stdout=log, stderr=subprocess.STDOUT)
        world.others.append(process)
        ready = self.ports["reads"]
        until(lambda: listening(ready) or process.poll() is not None, "haproxy listens")
        assert process.poll() is None, (self.folder / "haproxy.log").read_text()

    def _certificate(self, name: str) -> None:
        key, pem = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        words = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        subprocess.run([*words, "-subj", f"/CN={name}", "-keyout", key, "-out", pem], check=True, capture_output=True)
        pem.write_text(pem.read_text() + key.read_text())

    def _configuration(self) -> str:
        tls = f"ssl crt {self.folder}/shop.example.pem alpn h2,http/1.1 ca-file {self.folder}/alice.pem verify optional"
        waits = "".join(f"  timeout {side} {PATIENCE_S}s\n" for side in ("client", "server", "connect"))
        parts = [f"defaults\n  mode tcp\n  unique-id-format %ci-%cp-id\n{waits}"]
        for name, words in WRITERS.items():
            binds = [f"127.0.0.1:{self.ports[name]}", f"127.0.0.1:{self.ports[f'tls-{name}']} {tls}"]
            binds += [self.path] * (name == "v2")
            parts.append(
                f"frontend {name}\n" + "".join(f"  bind {bind}\n" for bind in binds) + f"  default_backend {name}\n"
            )
            parts.append(f"backend {name}\n  server s 127.0.0.1:{self.server.getsockname()[1]} {words}\n")
        parts.append(
            f"frontend reads\n  mode http\n  bind 127.0.0.1:{self.ports['reads']} accept-proxy\n"
            f"  http-request return status 200 content-type text/plain lf-string {SAYS}\n"
        )
        return "\n".join(parts)

    def written_for(self, client: socket.socket) -> tuple[ProxyHeader, bytes]:
        """The header that HAProxy writes when this client says something, and what it says."""
        client.sendall(b"hello")
        peer, _ = self.server.accept()
        peer.settimeout(PATIENCE_S)
        data = b""
        with peer:
            while (header := read_proxy(data)) is None or not data.endswith(b"hello"):
                more = peer.recv(4096)
                assert more, data
                data += more
        self.last = data
        return header, data[header.size :]

    def read(self, header: bytes) -> tuple[str, tuple]:
        """What HAProxy says of a header before a request, "" if it does not take it; and our own end of the connection."""
        with socket.create_connection(("127.0.0.1", self.ports["reads"]), timeout=PATIENCE_S) as client:
            ours = client.getsockname()
            answer = b""
            try:
                client.sendall(header + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                client.shutdown(socket.SHUT_WR)
                while more := client.recv(4096):
                    answer += more
            except OSError:
                pass  # it was told to go while it spoke
        head, _, body = answer.partition(b"\r\n\r\n")
        return body.decode("latin-1") if head.startswith(b"HTTP/1.1 200") else "", ours


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory) -> Iterator[Haproxy]:
    with stage(tmp_path_factory.mktemp("haproxy")) as world:
        one = Haproxy(world)
        yield one
        one.server.close()


def told(header: ProxyHeader) -> tuple:
    return header.source, header.source_port, header.destination, header.destination_port


def plain_client(haproxy: Haproxy, name: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", haproxy.ports[name]), timeout=PATIENCE_S)


def tls_client(haproxy: Haproxy, name: str, certificate: bool = False) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(haproxy.folder / "shop.example.pem")
    context.set_alpn_protocols(["http/1.1"])
    if certificate:
        context.load_cert_chain(haproxy.folder / "alice.pem")
    return context.wrap_socket(plain_client(haproxy, f"tls-{name}"), server_hostname="shop.example")


@pytest.mark.parametrize("name", WRITERS)
def test_what_haproxy_writes_is_read(haproxy, name):
    with plain_client(haproxy, name) as client:
        header, behind = haproxy.written_for(client)
        assert told(header) == (*client.getsockname(), *client.getpeername())
    assert (header.version, header.local, behind) == (1 if name == "v1" else 2, False, b"hello")
    assert [kind for kind, _ in header.tlvs if kind == CRC32C] == [CRC32C] * (name == "v2-all")


def test_what_haproxy_writes_of_a_tls_client_is_read(haproxy):
    with tls_client(haproxy, "v2-all") as client:
        header, _ = haproxy.written_for(client)
        address, port = client.getsockname()
        version, (cipher, _, _) = client.version(), client.cipher()
    assert (header.authority, header.alpn) == ("shop.example", "http/1.1")
    assert header.unique_id == f"{address}-{port}-id".encode()
    assert (header.ssl.version, header.ssl.cipher, header.ssl.common_name) == (version, cipher, "")
    assert (header.ssl.client, header.ssl.verified) == (CLIENT_SSL, False)


@pytest.mark.parametrize("name", ["v2-all", "v2-cn"])
def test_a_certificate_that_haproxy_verified_is_told(haproxy, name):
    with tls_client(haproxy, name, certificate=True) as client:
        ssl_told = haproxy.written_for(client)[0].ssl
    assert (ssl_told.common_name, ssl_told.verified) == ("alice", True)
    assert ssl_told.client & (CLIENT_SSL | CLIENT_CERT_CONN) == CLIENT_SSL | CLIENT_CERT_CONN


def test_of_a_client_of_a_unix_socket_haproxy_says_nothing(haproxy):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(haproxy.path))
        header, behind = haproxy.written_for(client)
    assert (told(header), header.local, behind) == (("", 0, "", 0), True, b"hello")


def test_what_haproxy_tells_of_a_client_is_in_the_access_log_and_explained(haproxy, tmp_path):
    """HAProxy ends the TLS of a client with a certificate, and tells a balancer of ours in its header."""
    with stage(tmp_path) as world:
        backend = world.backend()[1]
        port = free_port()
        log, door = tmp_path / "access.log", tmp_path / "admin.sock"
        file = tmp_path / "lb.toml"
        file.write_text(
            f"""
backends = ["127.0.0.1:{backend}"]
health_check = {{ interval_s = 0 }}
listen = {{ port = {port}, interface = "127.0.0.1" }}
forwarding = {{ proxy_protocol = "require" }}
log = {{ file = "{log}", format = "json" }}
admin = {{ socket = "{door}" }}
"""
        )
        world.twistd("lb", "lb", "--config", str(file))
        until(lambda: listening(port), "the balancer")
        with tls_client(haproxy, "v2-all", certificate=True) as client:
            header, _ = haproxy.written_for(client)
            address, client_port = client.getsockname()
            version, (cipher, _, _) = client.version(), client.cipher()
            raw = haproxy.last[: header.size]
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as ours:
            ours.sendall(raw + b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: mine\r\nConnection: close\r\n\r\n")
            assert ours.recv(65536).startswith(b"HTTP/1.1 200 ")
        until(lambda: log.exists() and log.read_text().endswith("}\n"), "it is in the log")
        said = json.loads(log.read_text())
        assert (said["client.address"], said["client.port"]) == (address, client_port)
        assert {key: value for key, value in said.items() if key.startswith(("lb.proxy.", "tls."))} == {
            "lb.proxy.unique_id": f"{address}-{client_port}-id",
            "lb.proxy.authority": "shop.example",
            "lb.proxy.alpn": "http/1.1",
            "lb.proxy.tls.version": version.removeprefix("TLSv"),
            "lb.proxy.tls.cipher": cipher,
            "lb.proxy.client.cn": "alice",
            "lb.proxy.client.verified": True,
        }
        words = [BIN / "lbctl", "--admin", f"unix:{door}", "explain", "mine"]
        explained = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        told = f"told by its proxy: {version} (shop.example), certificate CN=alice, id {address}-{client_port}-id"
        assert told in explained


TLVS = [(ALPN, b"h2"), (AUTHORITY, b"shop.example"), (UNIQUE_ID, b"id-1")]
SIX = ("2001:db8::1", 1, "2001:db8::2", 65535)
FOUR = ("192.0.2.1", 56324, "198.51.100.2", 443)


@pytest.mark.parametrize("addresses", [FOUR, SIX])
def test_what_is_written_haproxy_reads_alike(haproxy, addresses):
    expected = " ".join(map(str, addresses))
    assert haproxy.read(proxy_v1(*addresses))[0] == f"{expected} [] []"
    assert haproxy.read(proxy_v2(*addresses))[0] == f"{expected} [] []"
    for checksum in (False, True):
        header = proxy_v2(*addresses, TLVS, checksum=checksum)
        assert haproxy.read(header)[0] == f"{expected} [shop.example] [id-1]"


@pytest.mark.parametrize(
    "header", [LOCAL_V2, UNKNOWN_V1, proxy_v2("unix", 0, "", 0), proxy_v2("", 0, "::1", 80, [(UNIQUE_ID, b"id-1")])]
)
def test_where_nothing_is_said_haproxy_takes_the_connection_for_what_it_is(haproxy, header):
    said, (address, port) = haproxy.read(header)
    assert said == f"{address} {port} 127.0.0.1 {haproxy.ports['reads']} [] []"


@pytest.mark.parametrize(
    "header",
    [
        proxy_v2(*FOUR, TLVS, checksum=True)[:-1] + b"\0",
        SIGNATURE + b"\x22\x11\0\0",
        SIGNATURE + b"\x31\x11\0\0",
        SIGNATURE + b"\x21\x11\0\4abcd",
        proxy_v2(*FOUR, [(UNIQUE_ID, b"u" * 129)]),
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 56324 443\r\n",
        b"",
    ],
)
def test_what_is_broken_neither_takes(haproxy, header):
    assert haproxy.read(header)[0] == ""
    with pytest.raises(BadProxy):
        read_proxy(header + b"GET / HTTP/1.1\r\n\r\n")


def test_of_headers_changed_by_chance_none_is_read_in_two_ways(haproxy):
    """Ours may refuse what HAProxy takes, as leading zeros; what both take must be one address."""
    rng = Random(2026)
    models = [
        proxy_v1(*FOUR),
        proxy_v1(*SIX),
        proxy_v2(*FOUR),
        proxy_v2(*SIX, TLVS),
        proxy_v2(*FOUR, TLVS, checksum=True),
    ]
    models.append(proxy_v2(*FOUR, [])[:14] + b"\0\x12" + proxy_v2(*FOUR)[16:] + tlv(0xE0, b"abc"))
    both = 0
    for _ in range(400):
        model = bytearray(rng.choice(models))
        for _ in range(rng.randint(1, 2)):
            model[rng.randrange(len(model))] = rng.choice((rng.randrange(256), rng.choice(b"0123456789. :abf\r\n")))
        try:
            header = read_proxy(bytes(model))
        except BadProxy:
            continue
        said, ours = haproxy.read(bytes(model))
        if header is None or not said:
            continue
        both += 1
        expected = told(header) if header.source else (*ours, "127.0.0.1", haproxy.ports["reads"])
        assert tuple(said.split(" ")[:4]) == tuple(map(str, expected)), bytes(model)
    assert both > 50
