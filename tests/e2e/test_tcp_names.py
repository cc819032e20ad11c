"""One port by the names of ClientHellos, with real clients and servers: passed on untouched, ended in front of TCP, served as HTTP; mTLS."""

import contextlib
import hashlib
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest
from authority import Authority, chain_of, key_of, parsed
from carrying import ENVIRON, Carrier, Echo, connect, found, needs, start
from cryptography.hazmat.primitives.serialization import Encoding
from hellos import LIKE_A_BROWSERS
from ports import free_port
from processes import PATIENCE_S, Stage, stage, until

NGINX_CONF = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        location / {{ default_type text/plain; return 200 "{name} $ssl_server_name $ssl_session_reused"; }}
    }}
}}
"""

CONFIG = """
[listeners.edge]
address = "127.0.0.1:{port}"
default_pool = "site"
[listeners.edge.tls]
certificates = ["{folder}/edge.pem"]
[listeners.edge.tls.hosts."guarded.example"]
client_certificate = "require"
client_ca = "{folder}/ca.pem"
[listeners.passes]
address = "127.0.0.1:{passes}"
protocol = "tcp"
[pools.site]
backends = ["127.0.0.1:{site}"]
[pools.red]
backends = ["127.0.0.1:{red}"]
[pools.blue]
backends = ["127.0.0.1:{blue}"]
[pools.loud]
backends = ["127.0.0.1:{loud}"]
[pools.silent]
backends = ["127.0.0.1:{silent}"]
[[routes]]
sni = "red.example"
pool = "red"
[[routes]]
sni = ["blue.example", "*.blue.example"]
pool = "blue"
[[routes]]
sni = "www.shop.example"
pool = "silent"
[[routes]]
sni = ["ended.example", "guarded.example"]
listeners = "edge"
terminate_tls = true
pool = "loud"
"""


def shout(sock: socket.socket) -> None:
    with contextlib.suppress(ConnectionResetError):  # clients end TLS as they like
        while data := sock.recv(65536):
            sock.sendall(data.upper())


class Town:
    """A balancer with one port for HTTPS, passing on, and ending TLS in front of TCP, and one that only passes on."""

    def __init__(self, world: Stage) -> None:
        self.folder = world.folder
        self.authority = Authority(world.folder)
        leaf = self.authority.leaf("localhost", "site.example", "ended.example", "guarded.example")
        self.authority.write("edge.pem", chain_of(leaf), key_of(leaf))
        client = self.authority.leaf("client@example.org")
        self.client = self.authority.write("client.pem", chain_of(client), key_of(client))
        stranger = Authority(world.folder, "stranger").leaf("client@example.org")
        self.stranger = self.authority.write("stranger-client.pem", chain_of(stranger), key_of(stranger))
        self.prints = {"edge": fingerprint(leaf)}
        self.reached = 0
        self.hello = b""
        self.loud, self.silent = Echo(self._shout), Echo(self._listen)
        ports = {name: free_port() for name in ("port", "passes", "red", "blue")}
        self.port, self.passes = ports["port"], ports["passes"]
        _, site = world.backend(name="site")
        for name in ("red", "blue"):
            self._nginx(world, name, ports[name])
        config = CONFIG.format(folder=world.folder, site=site, loud=self.loud.port, silent=self.silent.port, **ports)
        self.carrier = Carrier(world, config)

    def _nginx(self, world: Stage, name: str, port: int) -> None:
        folder = world.folder / name
        leaf = self.authority.leaf(f"{name}.example", f"*.{name}.example")
        self.authority.write(f"{name}/chain.pem", chain_of(leaf))
        self.authority.write(f"{name}/key.pem", key_of(leaf))
        self.prints[name] = fingerprint(leaf)
        (folder / "nginx.conf").write_text(NGINX_CONF.format(folder=folder, port=port, name=name))
        words = ["-p", folder, "-e", folder / "error.log", "-c", "nginx.conf"]
        start(world, found("nginx"), *words, port=port, log=folder / "out.log")

    def _shout(self, sock: socket.socket) -> None:
        self.reached += 1
        shout(sock)

    def _listen(self, sock: socket.socket) -> None:
        while data := sock.recv(65536):
            self.hello += data
            if len(self.hello) == len(LIKE_A_BROWSERS):
                sock.sendall(b"\x15\x03\x03\0\2\2\x28")

    def context(self, certificate: str = "", version: "ssl.TLSVersion | None" = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.path)
        if certificate:
            context.load_cert_chain(certificate)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def enter(
        self, name: str, context: ssl.SSLContext, port: int = 0, session: "ssl.SSLSession | None" = None
    ) -> ssl.SSLSocket:
        """A connection whose handshake is over, as far as the client knows."""
        sock = connect(port or self.port)
        try:
            return context.wrap_socket(sock, server_hostname=name, session=session)
        except OSError:
            sock.close()
            raise

    def curl(self, url: str, *words: str) -> subprocess.CompletedProcess:
        known = ["curl", "-q", "-sS", "--max-time", str(PATIENCE_S), "--cacert", self.authority.path]
        for name in ("site.example", "red.example", "blue.example", "a.blue.example"):
            for port in (self.port, self.passes):
                known += ["--resolve", f"{name}:{port}:127.0.0.1"]
        return subprocess.run([*known, *words, url], env=ENVIRON, capture_output=True, text=True, check=False)

    def close(self) -> None:
        self.loud.close()
        self.silent.close()


def fingerprint(leaf) -> str:
    return hashlib.sha256(parsed(leaf).public_bytes(Encoding.DER)).hexdigest()


@pytest.fixture(scope="module")
def town(tmp_path_factory) -> Iterator[Town]:
    with stage(tmp_path_factory.mktemp("names")) as world:
        one = Town(world)
        yield one
        one.close()


pytestmark = needs("nginx", "curl")


@pytest.mark.parametrize("port", ["port", "passes"])
def test_curl_reaches_each_server_by_its_name_with_its_own_tls(town, port):
    port = getattr(town, port)
    for name, server in (("red.example", "red"), ("blue.example", "blue"), ("a.blue.example", "blue")):
        for version in ("1.2", "1.3"):
            done = town.curl(f"https://{name}:{port}/", f"--tlsv{version}", "--tls-max", version)
            assert done.stdout == f"{server} {name} .", done.stderr
        with town.enter(name, town.context(), port) as sock:
            assert hashlib.sha256(sock.getpeercert(binary_form=True)).hexdigest() == town.prints[server]


def test_other_names_are_served_as_http_on_the_same_port_and_refused_where_nothing_else_is(town):
    done = town.curl(f"https://site.example:{town.port}/whoami.json")
    assert '"name": "site"' in done.stdout, done.stderr
    with town.enter("site.example", town.context()) as sock:
        assert hashlib.sha256(sock.getpeercert(binary_form=True)).hexdigest() == town.prints["edge"]
    refused = town.curl(f"https://site.example:{town.passes}/", "-v")
    assert refused.returncode == 35
    assert "unrecognized name" in refused.stderr


def test_a_session_of_tls_that_is_passed_on_is_resumed_at_its_server(town):
    context = town.context(version=ssl.TLSVersion.TLSv1_2)
    with town.enter("red.example", context) as sock:
        session = sock.session
    with town.enter("red.example", context, session=session) as sock:
        assert sock.session_reused
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(65536).endswith(b"red red.example r")


def test_a_hello_as_browsers_say_it_comes_whole_though_it_came_in_two_segments(town):
    for port in (town.port, town.passes):
        town.hello = b""
        with connect(port) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(LIKE_A_BROWSERS[:1200])
            until(lambda: unread_of(sock) == 0, "the first segment has come")
            sock.sendall(LIKE_A_BROWSERS[1200:])
            assert sock.recv(100) == b"\x15\x03\x03\0\2\2\x28"  # what its server has said
        assert town.hello == LIKE_A_BROWSERS


def unread_of(sock: socket.socket) -> int:
    """What the other side's kernel has not acknowledged: tcpi_unacked of linux/tcp.h."""
    return int.from_bytes(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[24:28], "little")


@needs("redis-server", "redis-cli")
def test_redis_cli_speaks_tls_to_a_balancer_that_ends_it(tmp_path):
    with stage(tmp_path) as world:
        authority = Authority(tmp_path)
        leaf = authority.leaf("redis.example")
        authority.write("edge.pem", chain_of(leaf), key_of(leaf))
        client = authority.leaf("client@example.org")
        pem = authority.write("client.pem", chain_of(client), key_of(client))
        server, port, guarded = free_port(), free_port(), free_port()
        words = ["--port", server, "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
        start(world, found("redis-server"), *words, port=server, log=tmp_path / "redis.log")
        config = ""
        for name, at, more in (
            ("open", port, ""),
            ("guarded", guarded, f'client_certificate = "require"\nclient_ca = "{authority.path}"\n'),
        ):
            config += f'[listeners.{name}]\naddress = "127.0.0.1:{at}"\nprotocol = "tcp"\ndefault_pool = "redis"\n'
            config += f'[listeners.{name}.tls]\ncertificates = ["{tmp_path}/edge.pem"]\n{more}'
        carrier = Carrier(world, f'{config}[pools.redis]\nbackends = ["127.0.0.1:{server}"]\n')

        def ask(at: int, *words: str) -> subprocess.CompletedProcess:
            known = [
                "redis-cli",
                "-h",
                "127.0.0.1",
                "-p",
                str(at),
                "--tls",
                "--sni",
                "redis.example",
                "--cacert",
                authority.path,
            ]
            return subprocess.run(
                [*known, *words], env=ENVIRON, capture_output=True, text=True, check=False, timeout=PATIENCE_S
            )

        assert ask(port, "SET", "who", "me").stdout == "OK\n"
        large = "x" * (1 << 20)
        assert ask(port, "SET", "large", large[:100_000]).stdout == "OK\n"
        assert ask(port, "GET", "large").stdout == large[:100_000] + "\n"
        before = len(carrier.wait_logged(3))
        assert ask(guarded, "--cert", pem, "--key", pem, "GET", "who").stdout == "me\n"
        logged = carrier.wait_logged(before + 1)
        refused = ask(guarded, "GET", "who")
        assert "me" not in refused.stdout
        assert refused.stdout + refused.stderr
        keys = "tls.protocol.version", "server.address", "tls.client.hash.sha256"
        assert [logged[-1][key] for key in keys] == ["1.3", "redis.example", fingerprint(client).upper()]
        assert carrier.metric("requests_total", method="TCP", listener="guarded") == 1


# mTLS.

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def answered(
    town: Town, name: str, context: ssl.SSLContext, session: "ssl.SSLSession | None" = None
) -> "tuple[bytes, ssl.SSLSession | None]":
    """What the backend says to whoever comes so; nothing where nobody lets it in. And the session, to be resumed."""
    try:
        with town.enter(name, context, session=session) as sock:
            sock.sendall(b"let me in")
            data = sock.recv(100)
            return data, sock.session
    except (ssl.SSLError, ConnectionError):
        return b"", None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.long
def test_without_the_right_certificate_nobody_is_let_in_by_any_name_or_session(town, version):
    right, none, wrong = (town.context(one, version) for one in (town.client, "", town.stranger))
    for context in (right, none, wrong):
        context.check_hostname = False
    data, session = answered(town, "guarded.example", right)
    assert data == b"LET ME IN"
    _, easy = answered(town, "ended.example", none)
    assert easy is not None
    reached = town.reached
    for context in (none, wrong):
        for name in ("guarded.example", "GUARDED.example", "guarded.example."):
            assert answered(town, name, context)[0] == b"", name
            # Neither a session that was made without a certificate, nor one that another client has made.
            with contextlib.suppress(ValueError):  # of another context
                assert answered(town, name, context, easy)[0] == b"", name
    assert answered(town, "guarded.example", none)[0] == b""
    assert town.reached == reached
    # The right one may come again by its session.
    assert answered(town, "guarded.example", right, session)[0] == b"LET ME IN"
    assert town.reached == reached + 1


def test_a_session_made_by_a_name_without_certificates_opens_no_name_that_asks_for_one(town):
    """One context for both, so that OpenSSL offers the session of one name to the other."""
    for version in VERSIONS:
        context = town.context(version=version)
        data, session = answered(town, "ended.example", context)
        assert data == b"LET ME IN"
        assert session is not None
        reached = town.reached
        assert answered(town, "guarded.example", context, session)[0] == b""
        assert town.reached == reached
        assert answered(town, "ended.example", context, session)[0] == b"LET ME IN"
