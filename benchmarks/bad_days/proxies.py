"""The contenders: how each one is started with the same patience, so that what differs is what they do with it."""

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bad_days.stage import Process, Stage, free_port, until

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long each waits, in seconds, and how often it asks its backends. `answer_s` is of one attempt, of at most three."""

    connect_s: float = 2
    answer_s: float = 5
    head_s: float = 5
    body_s: float = 5
    keep_s: float = 75
    check_s: float = 1


OURS = """
policy = "rr"
backends = [{backends}]
[listen]
port = {port}
interface = "127.0.0.1"
[health_check]
interval_s = {p.check_s}
rise = 2
fall = 3
[timeouts]
connect_s = {p.connect_s}
attempt_s = {p.answer_s}
response_head_s = {total_s}
response_idle_s = {p.answer_s}
head_s = {p.head_s}
body_idle_s = {p.body_s}
client_idle_s = {p.keep_s}
"""
MANY = """
from twisted.application.service import Application
from twisted_lb.tap import load_balancer
application = Application("twisted_lb")
for config in {configs}:
    load_balancer("--config", config).setServiceParent(application)
"""
# A request is given to another server as ours does it: whatever was not sent, and what is idempotent.
HAPROXY = """
global
  nbthread 1
  maxconn 9000
defaults
  mode http
  option forwardfor
  timeout connect {p.connect_s}s
  timeout server {p.answer_s}s
  timeout client {p.body_s}s
  timeout http-request {p.head_s}s
  timeout http-keep-alive {p.keep_s}s
  timeout check {check_ms}ms
  retries 2
  option redispatch 1
  retry-on conn-failure empty-response response-timeout
  option httpchk GET /
  http-check expect status 200
  default-server check inter {p.check_s}s rise 2 fall 3
"""
HAPROXY_GROUP = """
listen l{n}
  bind 127.0.0.1:{port} backlog 4096
  balance roundrobin
  http-request disable-l7-retry unless METH_GET || METH_HEAD
{servers}
"""
# It has no active checks: a server that failed is left alone for as long as the others take to check it thrice. Bodies
# are streamed, as the others do.
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes 1; worker_rlimit_nofile 20000;
events {{ worker_connections 18000; }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_header_timeout {p.head_s}s; client_body_timeout {p.body_s}s; send_timeout {p.answer_s}s; keepalive_timeout {p.keep_s}s;
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_connect_timeout {p.connect_s}s; proxy_read_timeout {p.answer_s}s; proxy_send_timeout {p.answer_s}s;
  proxy_next_upstream error timeout; proxy_next_upstream_tries 3;
{groups} }}
"""
NGINX_GROUP = """
  upstream b{n} {{ {servers} keepalive 32; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://b{n}; }} }}
"""

Groups = list[tuple[int, list[str]]]


class Proxy:
    """A contender that runs: one port for each group of backends."""

    def __init__(self, process: Process, ports: list[int]) -> None:
        self.ports = ports
        self._process = process

    @property
    def port(self) -> int:
        return self.ports[0]

    def memory_kib(self) -> int:
        return self._process.memory_kib()


class Contender:
    """One who can be started in front of groups of backends: `words` writes what it needs and gives the command."""

    def __init__(self, name: str, program: Path | None, words: "Words", version: Callable[[Path], str]) -> None:
        self.name = name
        self.program = program if program is not None and program.exists() else None
        self._words = words
        self._version = version

    @property
    def version(self) -> str:
        return self._version(self.program)

    def start(self, stage: Stage, groups: list[list[str]], patience: Patience) -> Proxy:
        ports = [free_port() for _ in groups]
        process = stage.start(self._words(self.program, stage.folder, list(zip(ports, groups, strict=True)), patience))
        for port in ports:
            until(lambda port=port: _listens(port, process), f"{self.name} listens on {port}")
        return Proxy(process, ports)


Words = Callable[[Path, Path, Groups, Patience], list[object]]


def _listens(port: int, process: Process) -> bool:
    """From the kernel's table: who connects to ask leaves a connection."""
    if process.popen.poll() is not None:
        raise RuntimeError(f"{process.words[0]} ended: {process.log}")
    return bool(re.search(rf":{port:04X} 0+:0000 0A ", Path("/proc/net/tcp").read_text()))


def our_config(port: int, addresses: list[str], patience: Patience) -> str:
    """A configuration file of ours."""
    backends = ", ".join(f'"{address}"' for address in addresses)
    return OURS.format(backends=backends, port=port, p=patience, total_s=3 * patience.answer_s)


def _ours(program: Path, folder: Path, groups: Groups, patience: Patience) -> list[object]:
    configs = [folder / f"lb-{port}.toml" for port, _ in groups]
    for config, (port, addresses) in zip(configs, groups, strict=True):
        config.write_text(our_config(port, addresses, patience))
    if len(configs) == 1:
        return [program, "--nodaemon", "--pidfile=", "lb", "--config", configs[0]]
    tac = folder / "many.tac"
    tac.write_text(MANY.format(configs=[str(config) for config in configs]))
    return [program, "--nodaemon", "--pidfile=", "--python", tac]


def _haproxy(program: Path, folder: Path, groups: Groups, patience: Patience) -> list[object]:
    text = HAPROXY.format(p=patience, check_ms=int(patience.check_s * 800))
    for n, (port, addresses) in enumerate(groups):
        servers = "\n".join(f"  server s{i} {address}" for i, address in enumerate(addresses))
        text += HAPROXY_GROUP.format(n=n, port=port, servers=servers)
    config = folder / "haproxy.conf"
    config.write_text(text)
    return [program, "-db", "-f", config]


def _nginx(program: Path, folder: Path, groups: Groups, patience: Patience) -> list[object]:
    text = ""
    for n, (port, addresses) in enumerate(groups):
        servers = " ".join(f"server {one} max_fails=1 fail_timeout={3 * patience.check_s:g}s;" for one in addresses)
        text += NGINX_GROUP.format(n=n, port=port, servers=servers)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, p=patience, groups=text))
    return [program, "-c", config]


def _output(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _found(name: str) -> Path | None:
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    return Path(path) if path else None


def ours(name: str, folder: Path) -> Contender:
    """Ours, out of an environment's `bin`."""
    return Contender(name, folder / "twistd", _ours, _our_version)


def _our_version(program: Path) -> str:
    return re.search(r"twisted_lb ([\d.]+) \(", _output(program, "lb", "--version"))[1]


def under_test() -> Contender:
    """Ours, out of the environment that this runs in."""
    return ours("ours", Path(sys.executable).parent)


def contenders() -> list[Contender]:
    """All; who is not installed has no `program`."""
    return [
        Contender(
            "HAProxy", _found("haproxy"), _haproxy, lambda p: re.search(r"version ([\d.]+)", _output(p, "-v"))[1]
        ),
        Contender("NGINX", _found("nginx"), _nginx, lambda p: re.search(r"nginx/([\d.]+)", _output(p, "-v"))[1]),
        ours("ours", ROOT / ".venv-compiled" / "bin"),
        ours("ours, pure", ROOT / ".venv" / "bin"),
    ]
