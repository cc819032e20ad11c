"""TCP mode with real clients and servers, whatever they speak: redis, PostgreSQL, SMTP, and HAProxy on both sides."""

import contextlib
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from carrying import ENVIRON, Carrier, Echo, connect, found, needs, start
from ports import free_port
from processes import PATIENCE_S, stage, until

MIB = 1 << 20


@pytest.fixture
def world(tmp_path):
    with stage(tmp_path) as one:
        yield one


def listener(port: int, pool: str, name: str = "db", more: str = "") -> str:
    return f'[listeners.{name}]\naddress = "127.0.0.1:{port}"\nprotocol = "tcp"\ndefault_pool = "{pool}"\n{more}\n'


def pool(name: str, *ports: int, more: str = "") -> str:
    backends = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    return f"[pools.{name}]\nbackends = [{backends}]\n{more}\n"


# redis.


class Redis:
    """Two real redis servers behind a balancer."""

    def __init__(self, world) -> None:
        self.folder = world.folder
        self.port, self.ports = free_port(), [free_port(), free_port()]
        self.servers = []
        for port in self.ports:
            words = ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", world.folder]
            log = world.folder / f"redis-{port}.log"
            self.servers.append(start(world, found("redis-server"), *words, port=port, log=log))
            self.direct(port, "SET", "who", str(port))
        checks = "health_check = { interval_s = 0.1, timeout_s = 10, rise = 1, fall = 1 }"
        self.carrier = Carrier(world, listener(self.port, "redis") + pool("redis", *self.ports, more=checks))

    def direct(self, port: int, *words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-p", str(port), *words], capture_output=True, text=True, env=ENVIRON, check=True
        )
        return done.stdout.strip()

    def ask(self, *words: str) -> str:
        """What a redis-cli that goes through the balancer is answered."""
        return self.direct(self.port, *words)

    def state(self) -> str:
        return self.carrier.lbctl("backends")


@pytest.fixture
def redis(world) -> Redis:
    return Redis(world)


needs_redis = needs("redis-server", "redis-cli", "redis-benchmark")


@needs_redis
def test_connections_of_redis_cli_go_to_both_servers_in_turn(redis):
    assert Counter(redis.ask("GET", "who") for _ in range(6)) == {str(port): 3 for port in redis.ports}
    large = "x" * MIB
    done = subprocess.run(
        ["redis-cli", "-p", str(redis.port), "-x", "ECHO"], input=large, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{large}\n"


@needs_redis
@pytest.mark.parametrize("pipelined", ["1", "16"])
@pytest.mark.long
def test_redis_benchmark_is_served_and_every_connection_of_it_is_counted(redis, pipelined):
    words = ["-p", str(redis.port), "-n", "4000", "-c", "20", "-P", pipelined, "-t", "set,get", "-q"]
    done = subprocess.run(["redis-benchmark", *words], capture_output=True, text=True, check=True, env=ENVIRON)
    assert "SET: " in done.stdout
    assert "GET: " in done.stdout
    assert "rror" not in done.stdout + done.stderr
    carrier = redis.carrier
    until(lambda: carrier.metric("in_flight", pool="redis") == 0, "all have ended")
    count = int(carrier.metric("requests_total", pool="redis", method="TCP"))
    logged = carrier.wait_logged(count)
    assert len(logged) == count >= 40
    assert carrier.metric("bytes_total", pool="redis", direction="up") == sum(
        one["http.request.body.size"] for one in logged
    )


@needs_redis
@pytest.mark.long
def test_a_server_that_is_killed_costs_no_client_anything_and_the_checks_take_it_out(redis):
    gone, stays = redis.ports
    redis.servers[0].send_signal(signal.SIGKILL)
    redis.servers[0].wait()
    for _ in range(8):
        assert redis.ask("GET", "who") == str(stays)
    until(lambda: "down" in redis.state(), "the checks take it out")
    words = ["--port", gone, "--bind", "127.0.0.1", "--save", "", "--dir", redis.folder]
    start(redis.carrier.world, found("redis-server"), *words, port=gone, log=redis.folder / "again.log")
    until(lambda: "down" not in redis.state(), "and bring it back")
    redis.direct(gone, "SET", "who", str(gone))
    assert {redis.ask("GET", "who") for _ in range(4)} == {str(gone), str(stays)}


@needs_redis
def test_without_checks_a_refused_connect_is_retried_on_the_other_server(redis):
    gone, stays = redis.ports
    redis.carrier.reload(listener(redis.port, "redis") + pool("redis", *redis.ports))
    redis.servers[0].send_signal(signal.SIGKILL)
    redis.servers[0].wait()
    assert [redis.ask("GET", "who") for _ in range(4)] == [str(stays)] * 4
    assert redis.carrier.metric("attempts_total", backend=f"127.0.0.1:{gone}", outcome="refused") >= 1


# PostgreSQL.


def newest_postgres() -> "Path | None":
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parent.parent.name))
    return folders[-1].parent if folders else None


POSTGRES = newest_postgres()
MISSING = "PostgreSQL is missing" if POSTGRES is None or not shutil.which("psql") else ""
# Its servers refuse to run as root.
if not MISSING and os.geteuid() == 0 and not shutil.which("runuser"):
    MISSING = "PostgreSQL does not run as root, and runuser is missing"
needs_postgres = pytest.mark.skipif(bool(MISSING), reason=MISSING or "all is there")


@pytest.fixture
def postgres(world):
    """A balancer's port before a real server with TLS, and the file of that one's certificate."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as folder:
        place, port, through = Path(folder) / "data", free_port(), free_port()
        root = os.geteuid() == 0
        as_user = ["runuser", "-u", "postgres", "--"] if root else []
        if root:
            shutil.chown(folder, "postgres")

        def run(*words: object) -> None:
            done = subprocess.run(
                [*as_user, *map(str, words)], capture_output=True, text=True, check=False, cwd="/", env=ENVIRON
            )
            assert done.returncode == 0, done.stdout + done.stderr

        run(POSTGRES / "initdb", "-D", place, "-A", "trust", "-U", "tester", "--no-sync")
        key, certificate = place / "server.key", place / "server.crt"
        run(
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate,
        )  # fmt: skip
        words = [
            "-p",
            port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={folder}",
            "-c",
            "fsync=off",
            "-c",
            "ssl=on",
        ]
        start(
            world,
            *as_user,
            POSTGRES / "postgres",
            "-D",
            place,
            *words,
            port=port,
            log=world.folder / "pg.log",
            cwd=Path("/"),
        )
        carrier = Carrier(world, listener(through, "sql") + pool("sql", port))
        dsn = f"host=localhost hostaddr=127.0.0.1 port={through} user=tester dbname=postgres sslrootcert={certificate}"
        until(lambda: psql(dsn, "SELECT 1").returncode == 0, "it is ready")
        yield carrier, dsn
        run(POSTGRES / "pg_ctl", "-D", place, "-m", "immediate", "stop")


def psql(dsn: str, query: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["psql", "-X", "-A", "-t", "-c", query, dsn], capture_output=True, text=True, check=False, env=ENVIRON
    )


@needs_postgres
@needs("openssl")
@pytest.mark.long
def test_psql_gets_all_its_rows_in_the_clear_and_in_its_own_tls(postgres):
    carrier, dsn = postgres
    rows = "SELECT i, md5(i::text) FROM generate_series(1, 50000) AS i"
    plain = psql(f"{dsn} sslmode=disable", rows)
    assert len(plain.stdout.splitlines()) == 50_000, plain.stderr
    assert plain.stdout.endswith("50000|1017bfd4673955ffee4641ad3d481b1c\n")
    # TLS that begins in the middle of the protocol goes through untouched: the certificate is the server's own.
    whose = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    for mode in ("require", "verify-full"):
        assert psql(f"{dsn} sslmode={mode}", rows).stdout == plain.stdout
        assert psql(f"{dsn} sslmode={mode}", whose).stdout == "t|TLSv1.3\n"
    assert psql(f"{dsn} sslmode=disable", "SELECT nonsense").returncode == 1
    # The ends of TLS inside may be resets, of either side; no backend is to blame.
    assert {one["lb.outcome"] for one in carrier.wait_logged(6)} <= {"OK", "CLIENT_GONE", "CUT_SHORT"}
    assert carrier.metric("attempts_total", outcome="cut_short") == 0


# SMTP, where the server speaks first.


class Mailbox:
    """A small SMTP server."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    def serve(self, sock: socket.socket) -> None:
        lines = sock.makefile("rb")
        sock.sendall(b"220 mail.example ESMTP\r\n")
        for line in lines:
            verb = line.split()[0].upper()
            if verb == b"DATA":
                sock.sendall(b"354 go on\r\n")
                mail = b""
                for part in lines:
                    if part == b".\r\n":
                        break
                    mail += part
                self.mails.append(mail)
            sock.sendall(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@pytest.mark.long
def test_a_server_that_speaks_first_gets_mail(world):
    box, port = Mailbox(), free_port()
    with contextlib.closing(Echo(box.serve)) as server:
        Carrier(world, listener(port, "mail") + pool("mail", server.port))
        text = "Subject: hi\r\n\r\n" + "line\r\n" * 10_000
        for _ in range(3):
            with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_S) as client:
                client.sendmail("a@example.org", ["b@example.org"], text)
    assert [mail.decode() for mail in box.mails] == [text] * 3


# By the name of the ClientHello.


@pytest.fixture
def certificates(world):
    """Two certificates, each with its key in one file, by name."""
    found = {}
    for name in ("one.example.com", "two.example.com"):
        file, key = world.folder / f"{name}.pem", world.folder / f"{name}.key"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", file,
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        file.write_text(file.read_text() + key.read_text())
        file.chmod(0o600)
        found[name] = file
    return found


def shown(port: int, name: str) -> str:
    """The subject of the certificate that a client sees who asks for this name."""
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False, input="", timeout=60)
    return next(
        (
            line.removeprefix("subject=").replace(" ", "")
            for line in done.stdout.splitlines()
            if line.startswith("subject=")
        ),
        "",
    )


@needs("openssl", "curl")
@pytest.mark.long
def test_names_are_passed_on_ended_and_served_on_one_port(world, certificates):
    port, through = free_port(), free_port()
    two = certificates["two.example.com"]
    words = ["s_server", "-accept", str(through), "-cert", two, "-key", two, "-www", "-quiet"]
    start(world, "openssl", *words, port=through, log=world.folder / "s_server.log")

    def shout(sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionResetError):  # its client ends TLS as it likes
            while data := sock.recv(65536):
                sock.sendall(data.upper())

    with contextlib.closing(Echo(shout)) as loud:
        _, be = world.backend()
        config = f"""
[listeners.edge]
address = "127.0.0.1:{port}"
tls = "{certificates["one.example.com"]}"
default_pool = "site"
[pools.site]
backends = ["127.0.0.1:{be}"]
[pools.two]
backends = ["127.0.0.1:{through}"]
[pools.loud]
backends = ["127.0.0.1:{loud.port}"]
[[routes]]
sni = "two.example.com"
pool = "two"
[[routes]]
sni = "loud.example.com"
terminate_tls = true
pool = "loud"
"""
        carrier = Carrier(world, config)
        assert shown(port, "two.example.com") == "CN=two.example.com"
        assert shown(port, "one.example.com") == "CN=one.example.com"
        web = ["curl", "-sk", "--resolve", f"one.example.com:{port}:127.0.0.1", f"https://one.example.com:{port}/"]
        assert subprocess.run(web, capture_output=True, text=True, check=True, env=ENVIRON).stdout.startswith("be-")
        context = ssl._create_unverified_context()
        with connect(port) as sock, context.wrap_socket(sock, server_hostname="loud.example.com") as tls:
            tls.sendall(b"inside of it")
            assert tls.recv(100) == b"INSIDE OF IT"
        told = carrier.lbctl("route", "TCP", "tcp://two.example.com")
        assert f"two/127.0.0.1:{through} gets it" in told or f"gets it: two/127.0.0.1:{through}" in told
        hosts = {one.get("server.address") for one in carrier.wait_logged(3)}
        assert {"two.example.com", "loud.example.com"} <= hosts
        assert carrier.metric("requests_total", method="TCP", pool="two") >= 1
