"""What real clients of TLS say first is read, and they understand the alert that refuses them; and what a real server makes of it."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hellos import hello, server_name, vector, versions_of

from twisted_lb.wire.client_hello import UNRECOGNIZED_NAME, ClientHello, alert, read_hello

PATIENCE_S = 60
# Whatever proxy this machine is told to use, nobody here goes through it.
ENVIRON = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
TLS_1_2, TLS_1_3 = 0x0303, 0x0304


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        one.settimeout(PATIENCE_S)
        yield one


def refused(server: socket.socket, *words: str) -> tuple[ClientHello, str]:
    """The hello of this program, in whose words PORT stands for the server's; and what it says of being refused by an alert."""
    port = str(server.getsockname()[1])
    process = subprocess.Popen(
        [word.replace("PORT", port) for word in words],
        env=ENVIRON,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        client, _ = server.accept()
        with client:
            client.settimeout(PATIENCE_S)
            data = b""
            while (hello := read_hello(data)) is None:
                more = client.recv(1000)  # less than a hello of today
                assert more, data
                data += more
            assert hello.size == len(data)
            client.sendall(alert(UNRECOGNIZED_NAME))
        # A browser comes again and again; what is told is what it makes of the first time.
        if CHROMIUM in words[0]:
            return hello, ""
        return hello, process.communicate(timeout=PATIENCE_S)[0].lower()
    finally:
        process.kill()
        process.communicate()


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program or "-"), reason=f"{program or 'chromium'} is missing")


RESOLVE = ["--resolve", "shop.example:PORT:127.0.0.1"]


@needs("curl")
@pytest.mark.parametrize(
    ("more", "alpn", "newest"),
    [
        ([], {("h2", "http/1.1")}, TLS_1_3),
        (["--http1.1"], {("http/1.1",)}, TLS_1_3),
        (["--no-alpn", "--tls-max", "1.2"], {()}, TLS_1_2),
    ],
)
def test_curl(server, more, alpn, newest):
    hello, said = refused(server, "curl", "-q", "-sS", *RESOLVE, *more, "https://shop.example:PORT/")
    assert (hello.server_name, max(hello.versions)) == ("shop.example", newest)
    assert hello.alpn in alpn
    assert "unrecognized name" in said


@needs("curl")
def test_curl_names_no_address(server):
    assert refused(server, "curl", "-q", "-sS", "https://127.0.0.1:PORT/")[0].server_name == ""


@needs("openssl")
@pytest.mark.parametrize(
    ("more", "name", "alpn", "versions"),
    [
        (
            ["-servername", "Shop.Example", "-alpn", "h2,http/1.1"],
            "shop.example",
            ("h2", "http/1.1"),
            (TLS_1_3, TLS_1_2),
        ),
        (["-noservername", "-tls1_2"], "", (), (TLS_1_2,)),
        (["-servername", "192.0.2.1", "-tls1_3"], "", (), (TLS_1_3,)),
    ],
)
def test_openssl(server, more, name, alpn, versions):
    hello, said = refused(server, "openssl", "s_client", "-connect", "127.0.0.1:PORT", *more)
    # Of what Debian takes for too old it still speaks.
    assert (hello.server_name, hello.alpn, hello.versions[: len(versions)]) == (name, alpn, versions)
    assert "unrecognized name" in said


@needs("node")
def test_node(server):
    script = "require('https').get({host: '127.0.0.1', port: PORT, servername: 'shop.example'}).on('error', e => console.log(e.message))"
    hello, said = refused(server, "node", "-e", script)
    assert (hello.server_name, hello.versions) == ("shop.example", (TLS_1_3, TLS_1_2))
    assert hello.alpn in {(), ("http/1.1",)}  # that is a matter of its version
    assert "unrecognized name" in said


@needs(CHROMIUM)
def test_chromium(server, tmp_path):
    """GREASE, extensions in an order of its own, and a key share for after quantum computers."""
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    words += ["--host-resolver-rules=MAP shop.example 127.0.0.1, MAP * ~NOTFOUND", "--dump-dom"]
    hello, _ = refused(server, *words, "https://shop.example:PORT/")
    assert (hello.server_name, hello.alpn) == ("shop.example", ("h2", "http/1.1"))
    assert hello.versions == (TLS_1_3, TLS_1_2)
    assert hello.size > 1400


# RFC 8446 4.1.3: what the random of a HelloRetryRequest is.
RETRY = bytes.fromhex("CF21AD74E59A6111BE1D8C021E65B891C2A211167ABB8C5E079E09E2C8A8339C")
X25519 = b"\0\x1d"


@needs("openssl")
def test_a_second_hello_may_name_another_host_and_openssl_does_not_mind(tmp_path):
    """A trap for whoever chooses a policy by the first hello, which alone is read here: the callback has to compare."""
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=a",
    ]
    subprocess.run([*words, "-keyout", tmp_path / "key", "-out", tmp_path / "pem"], check=True, capture_output=True)
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem", tmp_path / "key")
    context.sni_callback = lambda connection, name, of: names.append(name)
    inbound, outbound = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(inbound, outbound, server_side=True)

    known = [(10, vector(2, X25519)), (13, vector(2, b"\x04\x03")), versions_of(TLS_1_3)]
    first = hello(server_name(b"public.example"), *known, (51, vector(2, b"")))
    second = hello(server_name(b"guarded.example"), *known, (51, vector(2, X25519 + vector(2, bytes(range(32))))))
    for said in (first, second):
        inbound.write(said)
        with suppress(ssl.SSLWantReadError):
            connection.do_handshake()
        assert (RETRY in outbound.read()) == (said is first)
    assert names == ["public.example", "guarded.example"]
    assert read_hello(first + second).server_name == "public.example"
