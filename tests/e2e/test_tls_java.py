"""TLS to clients with Java's own TLS, which shares no code with OpenSSL: what it agrees on, resumes, shows and is refused."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from authority import ECDSA, RSA, Authority, chain_of, key_of, parsed
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from ports import free_port
from processes import PATIENCE_S, Stage, listening, stage, until

from twisted_lb.sibling.behaviour import pattern

MIB = 1 << 20
PASSWORD = "known"
CONFIG = """
[listeners.web]
address = "127.0.0.1:{port}"
default_pool = "app"

[listeners.web.tls]
certificates = ["ecdsa.pem", "rsa.pem"]
strict_sni = true

[listeners.web.tls.hosts."guarded.example"]
client_certificate = "require"
client_ca = "ca.pem"

[pools.app]
backends = ["127.0.0.1:{backend}"]
health_check.interval_s = 0
"""
# It says what it has seen, a line of JSON each.
PROGRAM = """
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.file.*;
import java.security.*;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

public class Probe {
    static int port;

    public static void main(String[] words) throws Exception {
        port = Integer.parseInt(words[0]);
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        try (InputStream in = Files.newInputStream(Path.of(words[1]))) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        KeyStore own = KeyStore.getInstance("PKCS12");
        try (InputStream in = Files.newInputStream(Path.of(words[2]))) {
            own.load(in, "known".toCharArray());
        }
        SSLContext plain = context(trusted, null), showing = context(trusted, own);
        HttpClient client = HttpClient.newBuilder().sslContext(plain).version(HttpClient.Version.HTTP_1_1).build();
        for (int number = 0; number < 3; number++) {
            say("kept", client.send(request("/whoami.json"), HttpResponse.BodyHandlers.ofString()).statusCode());
        }
        HttpResponse<InputStream> large = client.send(request("/?size=67108864"), HttpResponse.BodyHandlers.ofInputStream());
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        byte[] piece = new byte[65536];
        for (int size; (size = large.body().read(piece)) > 0;) digest.update(piece, 0, size);
        say("large", HexFormat.of().formatHex(digest.digest()));
        for (String version : new String[] {"TLSv1.2", "TLSv1.3"}) {
            SSLContext fresh = context(trusted, null);
            long first = ask(fresh, version, "localhost", version);
            Thread.sleep(20);
            say("resumed " + version, first == ask(fresh, version, "localhost", null));
        }
        for (String version : new String[] {"TLSv1", "TLSv1.1"}) tried(plain, version, "localhost");
        for (String version : new String[] {"TLSv1.2", "TLSv1.3"}) {
            tried(plain, version, "guarded.example");
            tried(showing, version, "guarded.example");
            tried(showing, version, "unknown.example");
        }
        try (Socket clear = new Socket("127.0.0.1", port)) {
            clear.getOutputStream().write("GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".getBytes());
            say("in the clear", new String(clear.getInputStream().readAllBytes()).split("\\r\\n")[0]);
        }
    }

    static HttpRequest request(String path) {
        return HttpRequest.newBuilder(URI.create("https://localhost:" + port + path)).build();
    }

    static SSLContext context(KeyStore trusted, KeyStore own) throws Exception {
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        KeyManager[] keys = null;
        if (own != null) {
            KeyManagerFactory factory = KeyManagerFactory.getInstance("PKIX");
            factory.init(own, "known".toCharArray());
            keys = factory.getKeyManagers();
        }
        SSLContext made = SSLContext.getInstance("TLS");
        made.init(keys, trust.getTrustManagers(), null);
        return made;
    }

    static long ask(SSLContext context, String version, String host, String told) throws Exception {
        try (SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(new Socket("127.0.0.1", port), host, port, true)) {
            SSLParameters wanted = socket.getSSLParameters();
            wanted.setProtocols(new String[] {version});
            wanted.setServerNames(List.of(new SNIHostName(host)));
            wanted.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(wanted);
            socket.startHandshake();
            socket.getOutputStream().write(("GET /whoami.json HTTP/1.1\\r\\nHost: " + host + "\\r\\nConnection: close\\r\\n\\r\\n").getBytes());
            String said = new String(socket.getInputStream().readAllBytes());
            if (told != null) say(told, said.split("\\r\\n")[0]);
            return socket.getSession().getCreationTime();
        }
    }

    static void tried(SSLContext context, String version, String host) {
        try {
            ask(context, version, host, "let in " + version + " " + host);
        } catch (Exception error) {
            say("refused " + version + " " + host, error.getClass().getSimpleName());
        }
    }

    static void say(String what, Object found) {
        System.out.println("{\\"" + what + "\\": \\"" + found + "\\"}");
    }
}
"""


class House:
    """A balancer with certificates of an authority, a backend behind it, and a program in Java with what it needs."""

    def __init__(self, world: Stage) -> None:
        self.authority = Authority(world.folder)
        for name, kind in (("ecdsa.pem", ECDSA), ("rsa.pem", RSA)):
            leaf = self.authority.leaf("localhost", "guarded.example", key_type=kind)
            self.authority.write(name, chain_of(leaf), key_of(leaf))
        client = self.authority.leaf("client@example.org")
        key = load_pem_private_key(key_of(client), None)
        encryption = BestAvailableEncryption(PASSWORD.encode())
        store = serialize_key_and_certificates(b"client", key, parsed(client), None, encryption)
        self.store = self.authority.write("client.p12", store)
        self.program: Path = world.folder / "Probe.java"
        self.program.write_text(PROGRAM)
        _, backend = world.backend(name="behind")
        self.port = free_port()
        file = world.folder / "lb.toml"
        file.write_text(CONFIG.format(port=self.port, backend=backend))
        self.balancer = world.twistd("lb", "lb", "--config", str(file))
        until(lambda: listening(self.port) or self.balancer.process.poll() is not None, "the balancer")
        assert self.balancer.process.poll() is None, self.balancer.log


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    with stage(tmp_path) as world:
        yield House(world)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("java"), reason="java is missing")
def test_java_is_served_resumes_shows_its_certificate_and_is_refused_where_it_should_be(house):
    words = ["java", str(house.program), str(house.port), house.authority.path, house.store]
    done = subprocess.run(words, capture_output=True, check=False, timeout=4 * PATIENCE_S)
    assert done.returncode == 0, done.stderr.decode()
    said = [next(iter(json.loads(line).items())) for line in done.stdout.splitlines()]
    assert [found for what, found in said if what == "kept"] == ["200"] * 3
    found = dict(said)
    digest = hashlib.sha256()
    for piece in pattern(0, 64 * MIB):
        digest.update(piece)
    assert found["large"] == digest.hexdigest()
    for version in ("TLSv1.2", "TLSv1.3"):
        assert found[version] == "HTTP/1.1 200 OK"
        assert found[f"resumed {version}"] == "true"
        assert found[f"let in {version} guarded.example"] == "HTTP/1.1 200 OK"  # with its certificate
        assert f"refused {version} guarded.example" in found  # and without
        assert f"refused {version} unknown.example" in found
        assert f"let in {version} unknown.example" not in found
    assert [what for what, _ in said].count("let in TLSv1.3 guarded.example") == 1
    assert "refused TLSv1 localhost" in found
    assert "refused TLSv1.1 localhost" in found
    assert found["in the clear"] == "HTTP/1.1 400 Bad Request"
