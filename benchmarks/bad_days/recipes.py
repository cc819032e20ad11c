"""How each contender is told the same: its configuration file, and the command that it is started with."""

import dataclasses
import math
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long each waits, in seconds, and how often it asks its backends. `answer_s` is of one attempt, of at most three.

    `check_s` 0: nobody asks them. `repeats`: HAProxy, which does not unless it is told to, repeats requests as the others do.
    """

    connect_s: float = 2
    answer_s: float = 5
    head_s: float = 5
    body_s: float = 5
    keep_s: float = 75
    check_s: float = 1
    repeats: bool = True


# (port, addresses of backends)
Groups = list[tuple[int, list[str]]]

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
  timeout connect {connect_s}
  timeout server {answer_s}
  timeout client {body_s}
  timeout http-request {head_s}
  timeout http-keep-alive {keep_s}
"""
HAPROXY_REPEATS = """
  retries 2
  option redispatch 1
  retry-on conn-failure empty-response response-timeout
"""
HAPROXY_CHECKS = """
  timeout check {check_timeout}
  option httpchk GET /
  http-check expect status 200
  default-server check inter {check_s} rise 2 fall 3
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
  client_header_timeout {head_s}; client_body_timeout {body_s}; send_timeout {answer_s}; keepalive_timeout {keep_s};
  client_max_body_size 0; proxy_request_buffering off; proxy_max_temp_file_size 0;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_connect_timeout {connect_s}; proxy_read_timeout {answer_s}; proxy_send_timeout {answer_s};
  proxy_next_upstream error timeout; proxy_next_upstream_tries 3;
{groups} }}
"""
NGINX_GROUP = """
  upstream b{n} {{ {servers} keepalive 32; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://b{n}; }} }}
"""

# As they come. HAProxy has neither checks nor timeouts unless they are given: these are those of Debian's own haproxy.cfg.
OUR_DEFAULTS = """
backends = [{backends}]
[listen]
port = {port}
interface = "127.0.0.1"
"""
HAPROXY_DEFAULTS = """
global
  nbthread 1
defaults
  mode http
  timeout connect 5000
  timeout client 50000
  timeout server 50000
  option httpchk GET /
  default-server check
"""
HAPROXY_DEFAULT_GROUP = """
listen l{n}
  bind 127.0.0.1:{port}
{servers}
"""
NGINX_DEFAULTS = """
daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes 1;
events {{ }}
http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
{groups} }}
"""
NGINX_DEFAULT_GROUP = """
  upstream b{n} {{ {servers} }}
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://b{n}; }} }}
"""


def our_config(port: int, addresses: list[str], patience: Patience | None) -> str:
    """A configuration file of ours; without a patience as it comes."""
    backends = ", ".join(f'"{address}"' for address in addresses)
    if patience is None:
        return OUR_DEFAULTS.format(backends=backends, port=port)
    return OURS.format(backends=backends, port=port, p=patience, total_s=3 * patience.answer_s)


def milliseconds(patience: Patience) -> dict[str, str]:
    """Each time by its name, as those understand it who know no parts of a second."""
    times = dataclasses.asdict(patience)
    del times["repeats"]
    return {name: f"{seconds * 1000:.0f}ms" for name, seconds in times.items()}


def haproxy_config(groups: Groups, patience: Patience | None, each: str = "") -> str:
    """HAProxy's; `each` is said of every server."""
    group = HAPROXY_DEFAULT_GROUP if patience is None else HAPROXY_GROUP
    text = HAPROXY_DEFAULTS if patience is None else HAPROXY.format(**milliseconds(patience))
    if patience is not None and patience.repeats:
        text += HAPROXY_REPEATS
    if patience is not None and patience.check_s:
        text += HAPROXY_CHECKS.format(**milliseconds(patience), check_timeout=f"{patience.check_s * 800:.0f}ms")
    for n, (port, addresses) in enumerate(groups):
        servers = "\n".join(f"  server s{i} {address} {each}" for i, address in enumerate(addresses))
        text += group.format(n=n, port=port, servers=servers)
    return text


def nginx_config(folder: Path, groups: Groups, patience: Patience | None) -> str:
    """NGINX's, with its files in this folder."""
    group = NGINX_DEFAULT_GROUP if patience is None else NGINX_GROUP
    # In whole seconds.
    rest = f"max_fails=1 fail_timeout={math.ceil(3 * patience.check_s)}" if patience and patience.check_s else ""
    text = ""
    for n, (port, addresses) in enumerate(groups):
        servers = " ".join(f"server {one} {rest};" for one in addresses)
        text += group.format(n=n, port=port, servers=servers)
    if patience is None:
        return NGINX_DEFAULTS.format(folder=folder, groups=text)
    return NGINX.format(folder=folder, groups=text, **milliseconds(patience))


def ours(program: Path, folder: Path, groups: Groups, patience: Patience | None) -> list[object]:
    """The command that starts ours; for several groups one process with as many balancers."""
    configs = [folder / f"lb-{port}.toml" for port, _ in groups]
    for config, (port, addresses) in zip(configs, groups, strict=True):
        config.write_text(our_config(port, addresses, patience))
    if len(configs) == 1:
        return [program, "--nodaemon", "--pidfile=", "lb", "--config", configs[0]]
    tac = folder / "many.tac"
    tac.write_text(MANY.format(configs=[str(config) for config in configs]))
    return [program, "--nodaemon", "--pidfile=", "--python", tac]


def haproxy(program: Path, folder: Path, groups: Groups, patience: Patience | None) -> list[object]:
    config = folder / "haproxy.conf"
    config.write_text(haproxy_config(groups, patience))
    return [program, "-db", "-f", config]


def nginx(program: Path, folder: Path, groups: Groups, patience: Patience | None) -> list[object]:
    config = folder / "nginx.conf"
    config.write_text(nginx_config(folder, groups, patience))
    return [program, "-c", config]
