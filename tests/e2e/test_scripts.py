"""Presets of scripts against the servers that they are for: a check passes, tells who is not ready, and no server complains of it."""

import contextlib
import os
import pwd
import re
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ports import free_port
from processes import Running, Stage, listening, stage, until

# Debian keeps them where users do not look.
PLACES = os.pathsep.join(
    [os.environ.get("PATH", ""), "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
)


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name, path=PLACES) is None, reason=f"{name} is not installed")


OFTEN = "interval_s = 0.05\ntimeout_s = 20"  # a busy machine is no answer too late
ENOUGH = 20


@pytest.fixture
def world() -> Iterator[Stage]:
    """In a folder that servers of other users may enter; each pytest that begins shuts those of all others to them."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with stage(Path(folder)) as one:
            yield one


def checked(world: Stage, port: int, script: str, *more: str) -> Running:
    """A balancer that asks whoever is at a port by a script."""
    file = world.folder / "lb.toml"
    lines = [
        f'backends = ["127.0.0.1:{port}"]',
        "[health_check]",
        OFTEN,
        'initial = "down"',
        f"script = {script}",
        *more,
    ]
    file.write_text("\n".join(lines))
    running, _ = world.balancer("--config", str(file))
    return running


class Server:
    """A server that somebody else wrote; its log is in a file. `user`: who it runs as."""

    def __init__(self, world: Stage, words: list[object], *, port: int, user: str = "") -> None:
        self.log_file = world.folder / f"{Path(str(words[0])).name}-{port}.log"
        with self.log_file.open("wb") as out:
            self.process = subprocess.Popen(
                [str(shutil.which(str(words[0]), path=PLACES)), *map(str, words[1:])],
                cwd=world.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                **as_user(user),
            )
        world.others.append(self.process)
        until(lambda: listening(port) or self.process.poll() is not None, f"{words[0]} listens")
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")


def as_user(name: str) -> dict:
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []} if name and os.getuid() == 0 else {}


def said_to(port: int, words: bytes) -> str:
    """What a server says to these words, up to its close or the first pause."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(words)
        return sock.recv(65536).decode()


# Redis.


def redis(world: Stage, port: int, *more: object) -> Server:
    words = [
        "redis-server",
        "--port",
        port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--loglevel",
        "verbose",
    ]
    return Server(world, [*words, "--dir", world.folder, *more], port=port)


def counted(port: int, command: str) -> int:
    found = re.search(rf"cmdstat_{command}:calls=(\d+)", said_to(port, b"info commandstats\r\n"))
    return int(found[1]) if found else 0


@needs("redis-server")
def test_a_redis_is_up_and_every_check_leaves_in_order(world):
    port = free_port()
    server = redis(world, port)
    running = checked(world, port, '"redis"')
    running.wait_for(r'is up: got "\+PONG"')
    until(lambda: counted(port, "ping") > ENOUGH, "pings")
    assert counted(port, "quit") >= counted(port, "ping") - 1
    assert not re.search(r"rror|reset", server.log)


@needs("redis-server")
def test_a_redis_that_wants_a_password_is_down_until_it_is_said(world):
    port = free_port()
    redis(world, port, "--requirepass", "s3cret")
    running = checked(world, port, '"redis"', "fall = 1")
    running.wait_for(r'expected "\+PONG", got "-NOAUTH Authentication required\."')
    (world.folder / "password").write_text("s3cret\n")
    (world.folder / "password").chmod(0o600)
    file = world.folder / "lb.toml"
    file.write_text(file.read_text().replace('"redis"', '{ preset = "redis", password = { file = "password" } }'))
    running.signal(1)
    running.wait_for(r'is up: got "\+PONG"')
    (world.folder / "password").write_text("wrong\n")
    running.signal(1)
    running.wait_for(r'step 2: expected "\+OK", got "-WRONGPASS')
    assert "s3cret" not in running.log


@needs("redis-server")
def test_a_replica_is_told_from_its_master_by_steps_of_ones_own(world):
    master, replica = free_port(), free_port()
    redis(world, master)
    redis(world, replica, "--replicaof", f"127.0.0.1 {master}")
    steps = r"""[{ send = "info replication\r\n" }, { expect = "role:master\r\n", unless = 'role:slave' }, { send = "quit\r\n" }]"""
    running = checked(world, replica, steps)
    running.wait_for(r'step 2: expected "role:master", got ".*role:slave')
    assert "is up" not in running.log
    said_to(replica, b"replicaof no one\r\n")
    running.wait_for("is up")


# PostgreSQL.


class Postgres:
    """A cluster of its own in a folder, which may be started more than once; who it is trusts by `trust`."""

    def __init__(self, world: Stage, trust: str) -> None:
        self.world, self.port = world, free_port()
        # Of another user's, where root may not run it.
        self.user = "postgres" if os.getuid() == 0 else ""
        self.folder = world.folder / "pg"
        self.folder.mkdir()
        if self.user:
            shutil.chown(self.folder, self.user)
        self._run("initdb", "-D", self.folder, "-A", trust, "-U", "postgres", "--no-sync", "--pwfile", self._password())
        self.server: Server | None = None

    def _password(self) -> Path:
        file = self.world.folder / "pgpass"
        file.write_text("s3cret\n")
        file.chmod(0o644)
        return file

    def _run(self, *words: object) -> None:
        command = [str(shutil.which(str(words[0]), path=PLACES)), *map(str, words[1:])]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False, **as_user(self.user)
        )
        assert done.returncode == 0, done.stderr

    def start(self, *more: object) -> Server:
        words = [
            "postgres",
            "-D",
            self.folder,
            "-p",
            self.port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            f"unix_socket_directories={self.folder}",
        ]
        words += ["-c", "fsync=off", "-c", "log_connections=on", "-c", "log_disconnections=on", *more]
        self.server = Server(self.world, words, port=self.port, user=self.user)
        return self.server

    def kill(self) -> None:
        """At once, and all of it."""
        assert self.server is not None
        self._run("pg_ctl", "-D", self.folder, "-m", "immediate", "stop")
        self.server.process.wait(timeout=60)


def complaints(log: str) -> list[str]:
    return [
        line
        for line in log.splitlines()
        if re.search("FATAL|ERROR|WARNING|could not|unexpected|incomplete|invalid", line)
    ]


@needs("postgres")
@pytest.mark.parametrize("trust", ["trust", "scram-sha-256"])
def test_a_postgresql_is_up_and_complains_of_nothing(world, trust):
    server = Postgres(world, trust).start()
    running = checked(world, server_port(server), '"postgresql"')
    running.wait_for("is up: a PostgreSQL that takes connections")
    until(lambda: server.log.count("connection received") > ENOUGH, "checks")
    assert complaints(server.log) == []
    assert server.log.count("connection authorized") > 0 or trust != "trust"


def server_port(server: Server) -> int:
    return int(server.log_file.stem.rpartition("-")[2])


@needs("postgres")
def test_a_postgresql_that_recovers_is_down_and_says_so(world):
    postgres = Postgres(world, "trust")
    # A standby of nobody: it recovers for ever, and takes no connections while it does.
    (postgres.folder / "standby.signal").touch()
    server = postgres.start("-c", "hot_standby=off")
    running = checked(world, server_port(server), '"postgresql"')
    running.wait_for(
        r'step 2: expected a PostgreSQL that takes connections, got "the database system is not accepting connections'
    )
    assert "is up" not in running.log


@needs("postgres")
def test_a_postgresql_that_refuses_the_user_takes_connections(world):
    server = Postgres(world, "trust").start()
    running = checked(world, server_port(server), '{ preset = "postgresql", user = "nobody-here", database = "x" }')
    running.wait_for("is up: a PostgreSQL that takes connections")
    assert 'role "nobody-here" does not exist' in server.log


# memcached.


@needs("memcached")
def test_a_memcached_is_up(world):
    port = free_port()
    words = ["memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-vv"]
    server = Server(world, [*words, "-u", "nobody"] if os.getuid() == 0 else words, port=port)
    running = checked(world, port, '"memcached"')
    running.wait_for(r'is up: got "VERSION [0-9.]+"')
    until(lambda: server.log.count("version") > ENOUGH, "checks")
    assert server.log.count("quit") >= server.log.count("version") - 1
    assert not re.search("rror|fail", server.log)


# MariaDB.


class MariaDb:
    """A server of its own in a folder."""

    def __init__(self, world: Stage) -> None:
        self.port = free_port()
        self.user = "mysql" if os.getuid() == 0 else ""
        self.folder, passing = world.folder / "mysql", world.folder / "passing"
        for folder in (self.folder, passing):
            folder.mkdir()
            if self.user:
                shutil.chown(folder, self.user)
        # One that starts takes away what others have in /tmp for the moment.
        where = ["--no-defaults", f"--datadir={self.folder}", f"--tmpdir={passing}"]
        command = [str(shutil.which("mariadb-install-db", path=PLACES)), *where, "--skip-test-db"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **as_user(self.user))
        assert done.returncode == 0, done.stdout + done.stderr
        sock = self.folder / "mysql.sock"
        users = ["'check'@'127.0.0.1'", "'locked'@'127.0.0.1' IDENTIFIED BY 'x'", "'ops'@'localhost'"]
        (self.folder / "init.sql").write_text("".join(f"CREATE USER {user};\n" for user in users))
        words = ["mariadbd", *where, f"--port={self.port}", "--bind-address=127.0.0.1", f"--socket={sock}"]
        words += ["--log-warnings=9", "--skip-name-resolve", f"--init-file={self.folder}/init.sql"]
        self.server = Server(world, words, port=self.port, user=self.user)
        self._client = [
            str(shutil.which("mariadb", path=PLACES)),
            "--no-defaults",
            f"--socket={sock}",
            "--user=ops",
            "-N",
            "-e",
        ]

    def counted(self, name: str) -> int:
        command = [*self._client, f"SHOW GLOBAL STATUS LIKE '{name}'"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return int(done.stdout.split()[1])


@needs("mariadbd")
def test_a_mariadb_is_up_and_each_check_logs_in_and_leaves_in_order(world):
    server = MariaDb(world)
    aborted, said = server.counted("Aborted_connects"), len(server.server.log)
    running = checked(world, server.port, '{ preset = "mysql", user = "check" }')
    running.wait_for("is up: OK")
    until(lambda: server.counted("Connections") > 10 * ENOUGH, "checks")
    assert server.counted("Aborted_connects") == aborted
    assert server.counted("Aborted_clients") == 0
    assert not re.search("Abort|Access denied", server.server.log[said:])


@needs("mariadbd")
def test_a_mariadb_says_its_version_to_whom_names_no_user_and_counts_the_checks(world):
    server = MariaDb(world)
    running = checked(world, server.port, '"mysql"')
    running.wait_for(r'is up: got "[0-9.]+-MariaDB')
    until(lambda: server.counted("Aborted_connects") > ENOUGH, "what W77 warns of")


@needs("mariadbd")
def test_a_mariadb_that_refuses_the_user_is_down_and_says_why(world):
    server = MariaDb(world)
    running = checked(world, server.port, '{ preset = "mysql", user = "locked" }')
    running.wait_for("is down: step 3: expected OK, got \"Access denied for user 'locked'@'127.0.0.1'")


# SMTP.


class Smtp(socketserver.ThreadingTCPServer):
    """An SMTP server as RFC 5321 has it, which notes how each session ends."""

    daemon_threads = True

    def __init__(self, greeting: str = "220 mail.test ESMTP") -> None:
        super().__init__(("127.0.0.1", 0), SmtpSession)
        self.greeting = greeting
        self.sessions: list[str] = []
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, daemon=True).start()


class SmtpSession(socketserver.StreamRequestHandler):
    server: Smtp

    def handle(self) -> None:
        end = "lost"
        with contextlib.suppress(OSError):
            self.say(self.server.greeting)
            while line := self.rfile.readline().decode():
                verb = line.split()[0].upper()
                if verb == "EHLO":
                    for one in ("250-mail.test", "250-SIZE 1000", "250 HELP"):
                        self.say(one)
                elif verb == "QUIT":
                    self.say("221 bye")
                    end = "quit" if not self.rfile.read(1) else "more"
                    break
                else:
                    self.say("500 what?")
        self.server.sessions.append(end)

    def say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def smtp() -> Iterator[Callable[..., Smtp]]:
    made: list[Smtp] = []

    def one(*words: str) -> Smtp:
        made.append(Smtp(*words))
        return made[-1]

    yield one
    for each in made:
        each.shutdown()
        each.server_close()


def test_an_smtp_server_is_up_and_each_session_ends_with_quit(world, smtp):
    server = smtp()
    running = checked(world, server.port, '{ preset = "smtp", hello = "lb.test" }')
    running.wait_for('is up: got "221 bye"')
    until(lambda: len(server.sessions) > ENOUGH, "sessions")
    assert set(server.sessions) == {"quit"}


def test_an_smtp_server_that_takes_no_mail_is_down(world, smtp):
    server = smtp("554 no service here")
    running = checked(world, server.port, '"smtp"')
    running.wait_for('is down: step 1: expected 220, got "554 no service here"')
