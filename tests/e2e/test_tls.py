"""TLS to clients with real ones: what they agree on, what they are refused, and what they notice of reloads (nothing)."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import ECDSA, RSA, Authority, chain_of, key_of, parsed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ports import free_port
from processes import PATIENCE_S, Running, Stage, listening, stage, until
from some import some

from twisted_lb.sibling.behaviour import pattern

# Whatever proxy this machine is told to use, nobody here goes through it.
ENVIRON = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
NAMES = ("localhost", "127.0.0.1", "public.example", "guarded.example")
MIB = 1 << 20

CONFIG = """
[listeners.web]
address = "127.0.0.1:{port}"
default_pool = "app"

[listeners.web.tls]
certificates = ["ecdsa.pem", "rsa.pem"]

[listeners.web.tls.hosts."guarded.example"]
client_certificate = "require"
client_ca = "ca.pem"

[pools.app]
backends = ["127.0.0.1:{backend}"]
health_check.interval_s = 0
"""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program or "-"), reason=f"{program or 'chromium'} is missing")


class House:
    """A balancer with certificates of an authority, and a backend behind it."""

    def __init__(self, world: Stage) -> None:
        self.folder: Path = world.folder
        self.authority = Authority(world.folder)
        self.renew()
        self.authority.write("rsa.pem", *self._leaf(RSA))
        client = self.authority.leaf("client@example.org")
        self.client = self.authority.write("client.pem", chain_of(client), key_of(client))
        _, backend = world.backend(name="behind")
        self.port = free_port()
        file = world.folder / "lb.toml"
        file.write_text(CONFIG.format(port=self.port, backend=backend))
        self.balancer: Running = world.twistd("lb", "lb", "--config", str(file))
        until(lambda: listening(self.port) or self.balancer.process.poll() is not None, "the balancer")
        assert self.balancer.process.poll() is None, self.balancer.log

    def _leaf(self, key_type) -> tuple[bytes, bytes]:
        leaf = self.authority.leaf(*NAMES, key_type=key_type)
        return chain_of(leaf), key_of(leaf)

    def renew(self) -> bytes:
        """Replace the first certificate, as a whole; its fingerprint."""
        leaf = self.authority.leaf(*NAMES, key_type=ECDSA)
        self.spki = base64.b64encode(
            hashlib.sha256(
                parsed(leaf).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            ).digest()
        ).decode()
        self.replace(chain_of(leaf), key_of(leaf))
        return hashlib.sha256(parsed(leaf).public_bytes(Encoding.DER)).digest()

    def replace(self, *parts: bytes) -> None:
        os.replace(self.authority.write("new", *parts), self.folder / "ecdsa.pem")

    def context(self, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.path)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def connect(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        """A connection whose handshake is over."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        return context.wrap_socket(sock, server_hostname="localhost", session=session)

    def url(self, path: str = "/whoami.json") -> str:
        return f"https://localhost:{self.port}{path}"


@pytest.fixture(scope="module")
def house(tmp_path_factory, workers) -> Iterator[House]:
    with stage(tmp_path_factory.mktemp("tls")) as world:
        yield House(world)


def ask(sock: ssl.SSLSocket, path: str = "/whoami.json", host: str = "localhost") -> tuple[int, bytes]:
    """A request on a connection that is kept: its status and body."""
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = http.client.HTTPResponse(sock)
    answer.begin()
    return answer.status, answer.read()


# curl.


def curl(house: House, *words: object) -> subprocess.CompletedProcess:
    known = ["curl", "-q", "-sS", "--max-time", PATIENCE_S, "--cacert", house.authority.path]
    for name in NAMES:
        known += ["--resolve", f"{name}:{house.port}:127.0.0.1"]
    return subprocess.run([str(word) for word in (*known, *words)], env=ENVIRON, capture_output=True, check=False)


VERSIONS = ["1.2", "1.3"]


@needs("curl")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", [[], ["--http1.1"], ["--http1.0"], ["--no-alpn"]], ids=str)
def test_curl_is_served(house, version, more):
    done = curl(house, "-v", f"--tlsv{version}", "--tls-max", version, *more, house.url())
    assert json.loads(done.stdout)["name"] == "behind", done.stderr
    assert f"SSL connection using TLSv{version}".encode() in done.stderr
    if more in ([], ["--http1.1"]):
        assert f"ALPN: server accepted {'http/1' if more else 'h2'}".encode() in done.stderr


@needs("curl")
@pytest.mark.parametrize("http", some(1, ["2", "1.1"]))
def test_curl_gets_large_answers_and_heads_and_keeps_its_connection(house, http):
    big = house.url(f"/?size={20 * MIB}")
    word = f"--http{http}"
    done = curl(house, "-v", word, big, "--next", "-I", word, "--cacert", house.authority.path, big)
    body, _, head = done.stdout.partition(f"HTTP/{http} 200".encode())
    assert body == b"".join(pattern(0, 20 * MIB))
    assert f"content-length: {20 * MIB}".encode() in head.lower()
    chunked = curl(house, house.url(f"/?size={MIB}&chunked=1"), house.url("/whoami.json"))
    assert chunked.stdout.startswith(b"".join(pattern(0, MIB)))
    again = curl(house, "-v", house.url(), house.url())
    assert b"Re-using existing connection" in again.stderr


@needs("curl")
@pytest.mark.long
def test_curl_uploads(house, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"".join(pattern(0, 8 * MIB)))
    assert curl(house, "-T", file, house.url("/echo")).stdout == file.read_bytes()


@needs("curl")
@pytest.mark.parametrize("query", ["close=100000", "close=100000&chunked=1"])
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_curl_sees_that_an_answer_was_cut(house, query, version):
    done = curl(house, version, house.url(f"/?size={MIB}&{query}"))
    assert done.returncode in (18, 56), done.stderr  # partial file, receive error
    assert len(done.stdout) <= 100_000


@needs("curl")
def test_curl_that_speaks_plain_http_is_told_so(house):
    done = curl(house, "-i", f"http://localhost:{house.port}/")
    assert done.stdout.startswith(b"HTTP/1.1 400 ")
    assert b"HTTPS" in done.stdout


@needs("curl")
def test_no_trick_of_curl_gets_to_a_host_that_asks_for_a_certificate(house):
    guarded, public = (f"https://{name}:{house.port}/whoami.json" for name in ("guarded.example", "public.example"))
    with_certificate = ["--cert", house.client]
    assert json.loads(curl(house, *with_certificate, guarded).stdout)["name"] == "behind"
    assert curl(house, guarded).returncode in (35, 56)
    status = ["-o", os.devnull, "-w", "%{http_code}"]
    for host in (
        "guarded.example",
        "GUARDED.example.",
        f"guarded.example:{house.port}",
        "guarded.example:",
    ):
        assert curl(house, *status, "-H", f"Host: {host}", public).stdout == b"421", host
    # Host says otherwise: over HTTP/2 that is malformed, and has no answer (RFC 9113 8.3.1).
    assert curl(house, *status, "--http1.1", "--request-target", guarded, public).stdout == b"400"
    assert curl(house, *status, "--http2", "--request-target", guarded, public).stdout == b"000"
    # And that is why browsers connect anew.
    assert curl(house, *status, *with_certificate, "-H", "Host: public.example", guarded).stdout == b"421"


# openssl.


class Client:
    """An `openssl s_client` that is talked to."""

    def __init__(self, house: House, *words: str) -> None:
        known = ["openssl", "s_client", "-connect", f"127.0.0.1:{house.port}", "-CAfile", house.authority.path, "-crlf"]
        self.process = subprocess.Popen(
            [*known, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENVIRON
        )
        self.said = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.said += data

    def say(self, text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()

    def wait_for(self, text: bytes) -> None:
        until(lambda: text in self.said or not self._reader.is_alive(), f"{text!r} in {self.said!r}")
        assert text in self.said, self.said.decode(errors="replace")

    def end(self) -> str:
        """Wait for its end; all that it said."""
        self._reader.join(PATIENCE_S)
        self.process.kill()
        self.process.communicate()
        return self.said.decode(errors="replace")


LAST = "GET /whoami.json HTTP/1.1\nHost: {host}\nConnection: close\n\n"


@needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_is_served_and_hears_close_notify(house, version):
    client = Client(house, version, "-servername", "localhost", "-state", "-alpn", "http/1.1")
    client.wait_for(b"Verify return code: 0 (ok)")
    client.say(LAST.format(host="localhost"))
    said = client.end()
    assert '"name": "behind"' in said
    assert "SSL3 alert read:warning:close notify" in said
    assert "Compression: NONE" in said
    assert "ALPN protocol: http/1.1" in said


@needs("openssl")
def test_openssl_may_not_renegotiate(house):
    client = Client(house, "-tls1_2", "-servername", "localhost")
    client.wait_for(b"Verify return code: 0 (ok)")
    client.say("R\n")
    client.wait_for(b"no renegotiation")
    assert "Secure Renegotiation IS supported" in client.end()
    with house.connect(house.context()) as other:
        assert ask(other)[0] == 200


@needs("openssl")
@pytest.mark.parametrize("letter", ["k", "K"])
def test_openssl_may_change_its_keys(house, letter):
    client = Client(house, "-tls1_3", "-servername", "localhost")
    client.wait_for(b"Verify return code: 0 (ok)")
    for _ in range(3):
        before = client.said.count(b"KEYUPDATE")
        client.say(f"{letter}\n")
        until(lambda before=before: client.said.count(b"KEYUPDATE") > before, "the update")
    client.say(LAST.format(host="localhost"))
    assert '"name": "behind"' in client.end()


@needs("openssl")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_takes_no_session_to_another_policy(house, version, tmp_path):
    file = tmp_path / "session"
    client = Client(house, version, "-servername", "public.example", "-sess_out", str(file))
    client.wait_for(b"Verify return code: 0 (ok)")
    client.say(LAST.format(host="public.example"))
    client.end()
    again = Client(house, version, "-servername", "public.example", "-sess_in", str(file))
    again.wait_for(b"Reused, TLSv1")
    again.say(LAST.format(host="guarded.example"))
    said = again.end()
    assert "HTTP/1.1 421 " in said
    assert "behind" not in said
    other = Client(house, version, "-servername", "guarded.example", "-sess_in", str(file))
    other.say(LAST.format(host="guarded.example"))
    said = other.end()
    assert "Reused" not in said
    assert "alert" in said
    assert "HTTP/1.1" not in said


# The old versions, and the ciphers without forward secrecy or authentication of their data, at whatever level of security.
WEAK = {
    "-ssl3": None,
    "-tls1": "ALL:@SECLEVEL=0",
    "-tls1_1": "ALL:@SECLEVEL=0",
    "-tls1_2": "ALL:!ECDHE+AESGCM:!ECDHE+CHACHA20:!DHE+AESGCM:!DHE+CHACHA20:@SECLEVEL=0",
}


@needs("openssl")
@pytest.mark.parametrize("version", WEAK)
def test_openssl_gets_nothing_less_than_intermediate_promises(house, version):
    ciphers = WEAK[version]
    client = Client(house, version, *([] if ciphers is None else ["-cipher", ciphers]), "-servername", "localhost")
    client.say("Q\n")
    said = client.end()
    assert "Cipher is (NONE)" in said or "nknown option" in said, said


GOOD = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-CHACHA20-POLY1305",
}


@pytest.mark.long
def test_of_all_ciphers_of_tls_1_2_those_of_the_preset_are_agreed_on_alone(house):
    """ECDSA and RSA side by side: each client gets what it can use."""
    agreed = set()
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    for cipher in every.get_ciphers():
        if cipher["protocol"] == "TLSv1.3":
            continue
        context = house.context(ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{cipher['name']}:@SECLEVEL=0")
        with contextlib.suppress(ssl.SSLError, ConnectionError), house.connect(context) as sock:
            agreed.add(sock.cipher()[0])
    assert agreed == GOOD


@needs("sslyze")
def test_sslyze_finds_nothing_worse_than_intermediate_promises(house, tmp_path):
    """It wants a `cryptography` of its own: an environment of its own, and its program in the path."""
    file = tmp_path / "found.json"
    scans = ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--reneg", "--compression"]
    scans += ["--heartbleed", "--openssl_ccs", "--robot", "--early_data", "--fallback", "--mozilla_config=disable"]
    words = ["sslyze", *scans, f"--json_out={file}", f"localhost:{house.port}"]
    done = subprocess.run(words, env=ENVIRON, capture_output=True, check=False, timeout=4 * PATIENCE_S)
    assert file.exists(), done.stdout + done.stderr
    [scanned] = json.loads(file.read_text())["server_scan_results"]
    found = {name: one["result"] for name, one in scanned["scan_result"].items() if one["status"] == "COMPLETED"}
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert found[f"{version}_cipher_suites"]["accepted_cipher_suites"] == [], version
    agreed = {one["cipher_suite"]["openssl_name"] for one in found["tls_1_2_cipher_suites"]["accepted_cipher_suites"]}
    assert agreed <= GOOD
    assert found["tls_1_3_cipher_suites"]["accepted_cipher_suites"]
    assert found["session_renegotiation"]["supports_secure_renegotiation"]
    assert not found["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert not found["tls_compression"]["supports_compression"]
    assert not found["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert not found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert found["robot"]["robot_result"] == "NOT_VULNERABLE_RSA_NOT_SUPPORTED"
    assert not found["tls_1_3_early_data"]["supports_early_data"]
    assert found["tls_fallback_scsv"]["supports_fallback_scsv"]
    with house.connect(house.context()) as sock:
        assert ask(sock)[0] == 200


# Python, Node and a browser.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_python_is_served_keeps_its_connection_and_resumes_its_session(house, version):
    context = house.context(version)
    client = http.client.HTTPSConnection("localhost", house.port, timeout=PATIENCE_S, context=context)
    for _ in range(3):
        client.request("POST", "/echo", body=b"".join(pattern(0, MIB)))
        assert client.getresponse().read() == b"".join(pattern(0, MIB))
    session = client.sock.session
    client.close()
    with house.connect(context, session) as again:
        assert again.session_reused
        assert ask(again)[0] == 200


NODE = """
const https = require('node:https');
const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: require('fs').readFileSync(process.argv[2]) });
const ask = () => new Promise((resolve, reject) => https.get(
  { host: '127.0.0.1', servername: 'localhost', port: process.argv[1], path: '/whoami.json', agent }, answer => {
    let text = '';
    const port = answer.socket.localPort;
    answer.on('data', data => text += data);
    answer.on('end', () => resolve([answer.statusCode, JSON.parse(text).name, port]));
  }).on('error', reject));
(async () => { console.log(JSON.stringify([await ask(), await ask()])); agent.destroy(); })();
"""


@needs("node")
def test_node_is_served_and_keeps_its_connection(house):
    words = ["node", "-e", NODE, str(house.port), house.authority.path]
    done = subprocess.run(words, env=ENVIRON, capture_output=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first == second
    assert first[:2] == [200, "behind"]


@needs(CHROMIUM)
def test_chromium_shows_the_page(house, tmp_path):
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--no-first-run"]
    words += [f"--ignore-certificate-errors-spki-list={house.spki}", "--dump-dom", house.url("/")]
    done = subprocess.run(words, env=ENVIRON, capture_output=True, check=False, timeout=PATIENCE_S)
    assert b"behind" in done.stdout, done.stderr[-2000:]


# Much.

GIB = 1 << 30


@needs("curl")
@pytest.mark.long
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_two_gibibytes_go_either_way_in_constant_memory(house, version):
    limits = ["--max-time", 300, f"--tlsv{version}", "--tls-max", version]
    down = [*limits, "-o", "/dev/null", "-w", "%{http_code} %{size_download}", house.url(f"/?size={2 * GIB}")]
    assert curl(house, house.url(f"/?size={MIB}")).returncode == 0
    before_kib = house.balancer.memory_kib()
    assert curl(house, *down).stdout == f"200 {2 * GIB}".encode()
    file = house.folder / "large"
    with file.open("wb") as sparse:
        sparse.truncate(2 * GIB)
    up = [*limits, "-T", file, "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", house.url("/")]
    assert curl(house, *up).stdout == f"200 {2 * GIB}".encode()
    assert house.balancer.memory_kib() - before_kib < 8192


# Reloads.

RELOADS = 200


def test_no_handshake_and_no_kept_connection_notices_reloads_of_certificates(house):
    context = house.context()
    kept = house.connect(context)
    assert ask(kept)[0] == 200
    session = kept.session
    shown = set()
    for number in range(RELOADS):
        house.renew()
        house.balancer.signal(signal.SIGHUP)
        for _ in range(2):
            with house.connect(context) as sock:
                shown.add(sock.getpeercert(True))
                assert ask(sock)[0] == 200
        assert ask(kept)[0] == 200
        if number % 20 == 19:
            with house.connect(context, session) as again:
                assert again.session_reused, number
                session = again.session if ask(again)[0] == 200 else session
    last = house.renew()
    house.balancer.signal(signal.SIGHUP)

    def newest() -> bool:
        with house.connect(context) as sock:
            return hashlib.sha256(sock.getpeercert(True)).digest() == last

    until(newest, "the last certificate is shown")
    assert len(shown) > RELOADS // 4, "hardly any reload was seen"
    kept.close()


class Guests(threading.Thread):
    """Somebody who connects anew again and again, by turns with a session of before and without one."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.errors: list[str] = []
        self.full = self.resumed = 0
        self.enough = threading.Event()
        self._house = house

    def run(self) -> None:
        context = self._house.context()
        session = None
        while not self.enough.is_set():
            try:
                for known in (None, session):
                    with self._house.connect(context, known) as sock:
                        assert ask(sock)[0] == 200
                        self.full += not sock.session_reused
                        self.resumed += sock.session_reused
                        session = sock.session
            except (OSError, AssertionError) as error:
                self.errors.append(repr(error))
            self.enough.wait(0.01)


@pytest.mark.long
def test_200_reloads_are_not_noticed_by_some_hundred_handshakes_a_second(house):
    guests = [Guests(house) for _ in range(4)]
    kept = house.connect(house.context())
    for guest in guests:
        guest.start()
    try:
        for number in range(RELOADS):
            told = len(house.balancer.log)
            good = number % 10 != 9
            if good:
                house.renew()
            else:
                house.replace(b"nonsense")
            house.balancer.signal(signal.SIGHUP)
            until(lambda told=told: "reload" in house.balancer.log[told:], "it is told")
            assert ask(kept)[0] == 200
    finally:
        house.renew()
        house.balancer.signal(signal.SIGHUP)
        for guest in guests:
            guest.enough.set()
        for guest in guests:
            guest.join()
    assert [error for guest in guests for error in guest.errors] == []
    full, resumed = sum(guest.full for guest in guests), sum(guest.resumed for guest in guests)
    assert full + resumed > 2 * RELOADS
    # Each has had no session to show at first, and each one that was shown was good.
    assert full - resumed == 2 * len(guests)
    kept.close()


def test_a_broken_file_changes_nothing_and_is_told(house):
    context = house.context()
    kept = house.connect(context)
    before = kept.getpeercert(True)
    good = (house.folder / "ecdsa.pem").read_bytes()
    other = key_of(house.authority.leaf(*NAMES))
    for broken in (b"nonsense", good[:200], good[: good.index(b"-----BEGIN EC")] + other):
        told = len(house.balancer.log)
        house.replace(broken)
        house.balancer.signal(signal.SIGHUP)
        until(lambda told=told: "reload: nothing was changed" in house.balancer.log[told:], "it is told")
        assert "ecdsa.pem" in house.balancer.log[told:]
        with house.connect(context) as sock:
            assert sock.getpeercert(True) == before
            assert ask(sock)[0] == 200
        assert ask(kept)[0] == 200
    house.replace(good)
    house.balancer.signal(signal.SIGHUP)
    kept.close()
