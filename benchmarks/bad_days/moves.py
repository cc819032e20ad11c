"""A name that moves: a backend's name leads to another server, as in a blue/green deployment, and the old one lives on."""

import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Self

from ports import free_port

from bad_days import recipes
from bad_days.load import Load, load
from bad_days.proxies import Contender, Kind
from bad_days.recipes import Patience
from bad_days.results import Result, result
from bad_days.stage import Stage

CLIENTS = 8
NAME = "app.example"
OLD, NEW = "127.0.0.1", "127.0.0.2"
TTL_S = 1
# Slow enough for no connection to be replaced because of the number of its requests.
PAUSE_S = 0.05
# Root may have a mount namespace of its own, others where they may have a user namespace.
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
WITH_HOSTS = 'mount --bind "$0" /etc/hosts && exec "$@"'

HAPROXY_RESOLVERS = """
resolvers moving
  nameserver here 127.0.0.1:{port}
  hold valid {ttl_s}s
"""
NGINX_GROUP = """
  resolver 127.0.0.1:{dns_port} ipv6=off;
  server {{ listen 127.0.0.1:{port} backlog=4096; set $where {name}; location / {{ proxy_pass http://$where:{to}; }} }}
"""


@cache
def hosts_can_move() -> bool:
    """Whether a process may have an /etc/hosts of its own here, which libc's resolver reads."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*UNSHARE, "sh", "-c", WITH_HOSTS, "/dev/null", "true"], capture_output=True, check=False)
    return tried.returncode == 0


def moved(
    stage: Stage, contender: Contender, patience: Patience, *, patience_s: float, quiet_s: float, failing_s: float
) -> Result:
    """The name moves, the old server lives on until nobody has asked it for `quiet_s`, at most `patience_s`, and then fails."""
    port = free_port()
    old = stage.backend("old", at=(OLD, port))
    stage.backend("new", at=(NEW, port))
    with NameServer(stage.folder) as names:
        proxy_port = free_port()
        words = WORDS[contender.kind](contender.program, stage.folder, (proxy_port, port, names), patience)
        proxy = contender.launch(stage, words, [proxy_port])
        with load([proxy.port] * CLIENTS, pause_s=lambda _: PAUSE_S) as seen:
            seen.wait_for_answers(100)
            names.move(NEW)
            moved_at = time.monotonic()
            left_at = _left_at(seen, moved_at + patience_s, quiet_s)
            old.order("fail")
            time.sleep(failing_s)
    if left_at is None:
        return result(seen, note=f"not in {patience_s:g} s")
    return result(seen, moved_s=round(left_at - moved_at, 2))


def _left_at(seen: Load, ends_at: float, quiet_s: float) -> float | None:
    """When the old server gave its last answer; None: it goes on."""
    while time.monotonic() < ends_at:
        time.sleep(0.1)
        answers = [(one.ended_at, one.backend) for one in list(seen.answers)]
        last_old = max(at for at, backend in answers if backend == "old.1")
        last_new = max((at for at, backend in answers if backend == "new.1"), default=0.0)
        if last_new > last_old + quiet_s:
            return last_old
    return None


class NameServer:
    """Where the name leads: by a file like /etc/hosts, and by a name server for those who ask one themselves."""

    def __init__(self, folder: Path) -> None:
        self.hosts = folder / "hosts"
        self.hosts.write_text(f"{OLD} {NAME}\n")
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._address = OLD
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._address = ""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._sock.close()

    def move(self, address: str) -> None:
        """One byte of the file, in place: nobody reads a part of it, and a mount of it stays."""
        self._address = address
        with self.hosts.open("r+b") as file:
            file.write(address.encode())

    def _serve(self) -> None:
        while self._address:
            query, whose = self._sock.recvfrom(4096)
            if query:
                self._sock.sendto(answer(query, self._address), whose)


def answer(query: bytes, address: str) -> bytes:
    """RFC 1035: the one address of any name for a question of type A, no record for any other."""
    end = query.index(b"\0", 12) + 5
    is_a = query[end - 4 : end] == b"\0\1\0\1"
    header = query[:2] + struct.pack("!5H", 0x8180, 1, is_a, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, TTL_S, 4) + socket.inet_aton(address)
    return header + query[12:end] + (record if is_a else b"")


# The port of the proxy, that of the backends, and the name server.
Where = tuple[int, int, NameServer]


def _ours(program: Path, folder: Path, where: Where, patience: Patience) -> list[object]:
    port, to, names = where
    words = recipes.ours(program, folder, [(port, [f"{NAME}:{to}"])], patience)
    return [*UNSHARE, "sh", "-c", WITH_HOSTS, names.hosts, *words]


def _haproxy(program: Path, folder: Path, where: Where, patience: Patience) -> list[object]:
    port, to, names = where
    each = "resolvers moving resolve-prefer ipv4 init-addr none"
    config = folder / "haproxy.conf"
    resolvers = HAPROXY_RESOLVERS.format(port=names.port, ttl_s=TTL_S)
    config.write_text(recipes.haproxy_config([(port, [f"{NAME}:{to}"])], patience, each) + resolvers)
    return [program, "-db", "-f", config]


def _nginx(program: Path, folder: Path, where: Where, patience: Patience) -> list[object]:
    port, to, names = where
    group = NGINX_GROUP.format(dns_port=names.port, port=port, name=NAME, to=to)
    config = folder / "nginx.conf"
    config.write_text(recipes.NGINX.format(folder=folder, groups=group, **recipes.milliseconds(patience)))
    return [program, "-c", config]


Words = Callable[[Path, Path, Where, Patience], list[object]]
WORDS: dict[Kind, Words] = {Kind.OURS: _ours, Kind.HAPROXY: _haproxy, Kind.NGINX: _nginx}
