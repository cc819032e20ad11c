"""`twistd lb`: the command line of the load balancer."""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from twisted_lb.config import HealthCheckConfig, ListenConfig, LoadBalancerConfig
from twisted_lb.config.load import Source, keys_of_the_file
from twisted_lb.config.objects import objects_of
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.core.pickers import POLICIES
from twisted_lb.errors import ConfigError
from twisted_lb.net.sockets import bound_tcp
from twisted_lb.openings import handed
from twisted_lb.options import CommandOptions, Parser, refuse, refuse_unlistenable
from twisted_lb.respawn import HANDOVER, REHEARSES

if TYPE_CHECKING:
    from twisted_lb.service import LoadBalancerService

STRATEGIES = f"{{{','.join(POLICIES)}}}"

SYNOPSIS = f"twistd -n lb [-h] -b HOST:PORT [HOST:PORT ...] [-c HEALTHCHECK] [-s {STRATEGIES}] [-p PORT]"

DESCRIPTION = """\
A load balancer for HTTP/1.1: clients connect here, and each of their requests goes to one of the
backends. Backends that fail their health checks, or refuse a connection, get no requests until
they answer again; a request that meets a dying backend is tried at another one where that is safe.
"""

STRATEGY_LIST = "\n".join(
    [
        "strategies:",
        *(f"  {name:<{max(map(len, POLICIES))}}  {policy.describe}" for name, policy in POLICIES.items()),
        "  package.module:Class, a policy of your own",
    ]
)

EXAMPLES = """\
examples:
  twistd -n lb -b 127.0.0.1:8081 127.0.0.1:8082 -p 8080
      two backends by turns, on port 8080
  twistd -n lb -p 8080 -b big:80,weight=3 small:80 -s rand -c 0.5
      big gets three of four requests, by chance; checked twice a second
  twistd -n lb -b unix:/run/app.sock '[::1]:8082' -c 0 -p 8080
      a unix socket and an IPv6 address, never checked
  twistd lb --config /etc/lb.toml
      as a daemon, everything else from a file; flags win over the file
  twistd lb --config /etc/lb.toml --check
      only look at the file, and say what is wrong with it

Without -n twistd becomes a daemon with twistd.pid and twistd.log. To try it out, start backends
with `twistd -n be -p 8081`. `python -m twisted_lb lb` is the same as `twistd -n lb`, without a
pid file. All options of the file: `python -m twisted_lb.config.reference`.
"""

# What a word that stands alone probably is.
BARE = (r".*:[0-9]+(,.*)?|unix:.*", "backends need -b")

BACKEND_HELP = (
    "the backends: name or IPv4 address with a port, [IPv6]:PORT or unix:/path, each with a "
    "weight if wanted, as in HOST:PORT,weight=3; the option may be repeated"
)
HEALTHCHECK_HELP = (
    "seconds from one check of a backend to its next, fractions allowed, 0 for none; "
    f"{HealthCheckConfig().interval_s:g} if not given"
)
STRATEGY_HELP = (
    f"how a client finds its backend, see below; {LoadBalancerConfig.model_fields['policy'].default} if not given"
)


class Options(CommandOptions):
    """The flags of `twistd lb`; `config` is what they amount to once they are parsed, `source` loads the same again."""

    command = "lb"
    config: LoadBalancerConfig
    source: Source

    def make_parser(self) -> Parser:
        """The parser of the flags; their values are the configuration's business."""
        parser = Parser(self.command, SYNOPSIS, DESCRIPTION, f"{STRATEGY_LIST}\n\n{EXAMPLES}", BARE, keys_of_the_file())
        add = parser.add_argument
        add("-b", "--backend", nargs="+", action="extend", metavar="HOST:PORT", help=BACKEND_HELP)
        add("-c", "--healthcheck", help=HEALTHCHECK_HELP)
        add("-s", "--strategy", metavar=STRATEGIES, help=STRATEGY_HELP)
        add("-p", "--port", help=f"port for the clients, {ListenConfig().port} if not given")
        add("--interface", metavar="ADDRESS", help="IP address to listen on, all if not given")
        add(
            "--tls",
            metavar="DIR|FILE|self-signed",
            help="speak TLS with the certificates there, or with one of its own",
        )
        add("--status", metavar="HOST:PORT", help="answer /-/ready and /-/live there")
        add("--admin", metavar="unix:PATH|HOST:PORT", help="API, page and metrics for operators there; see lbctl")
        add(
            "--takeover",
            metavar="PATH",
            help="unix socket on which the next instance takes the sockets of this one over",
        )
        add("--workers", metavar="N|auto", help="processes that move requests, 1 if not given; auto: one for each CPU")
        add("--config", metavar="FILE", help="TOML file with all of these and many more options")
        add(
            "--check", action="store_true", help="say what is wrong and doubtful, bind nothing, and exit: 0 fine, 1 not"
        )
        add("--strict", action="store_true", help="with --check: 1 for warnings too")
        add("--json", action="store_true", help="with --check: say it for programs")
        return parser

    def accept(self, flags: argparse.Namespace) -> None:
        """Fill `config`; ConfigError with everything that is wrong."""
        typed = vars(flags)
        file = typed.pop("config", None)
        if file == "":
            raise ValueError("--config: no file given")
        looks = {name: bool(typed.pop(name, False)) for name in ("check", "strict", "json")}
        if not looks["check"] and any(looks.values()):
            raise ValueError(f"--{'strict' if looks['strict'] else 'json'}: is for --check")
        given = {f"--{name}": text for name, text in typed.items()}
        self.source = Source(given, None if file is None else Path(file))
        if looks["check"]:
            self._check(strict=looks["strict"], json=looks["json"])
        self.config = self.source.load()
        if os.environ.get(REHEARSES):
            self._rehearse()

    def files_of_its_own(self) -> Mapping[str, str]:
        """See CommandOptions."""
        loaded, path = self.source.loaded, self.config.state_file
        if path is None or loaded is None or loaded.document is None:
            return {}
        return {f"{loaded.document.place(('state_file',)).short}: state_file": path}

    def _rehearse(self) -> NoReturn:
        # Late, likewise.
        from twisted_lb.service.rehearsal import rehearse

        rehearse(self.source, os.environ)

    def _check(self, *, strict: bool, json: bool) -> NoReturn:
        # Late, as the plan needs most of the balancer: not for `--help`.
        from twisted_lb.check import check

        status, said = check(self.source, strict=strict, json=json)
        sys.stderr.write(said)
        raise SystemExit(status)


def makeService(options: Options) -> "LoadBalancerService":
    """The service twistd runs; ends the process in one line if it cannot listen, or a file that it needs is missing."""
    if not _had(options.config):
        refuse_unlistenable(_addresses(options.config), options.command, bound_tcp)
    # Late, as it is the one import that may name a reactor, and slow: not for `--help`.
    from twisted_lb.service import LoadBalancerService

    loaded = options.source.loaded
    try:
        twistd = getattr(options, "parent", None)
        return LoadBalancerService(
            options.config,
            whole_process=True,
            source=options.source,
            user=_number(twistd, "uid"),
            group=_number(twistd, "gid"),
        )
    except ConfigError as error:
        # Files that only the configuration names, which are read now.
        refuse(options.command, ConfigError(loaded.placed(error.problems) if loaded else error.problems))


def _had(config: LoadBalancerConfig) -> bool:
    """Whether the sockets are going to come from somebody who has them."""
    if handed(config.takeover, os.environ) or os.environ.get(HANDOVER):
        return True
    if config.workers == 1:
        return False
    # Late, as it is not for `--help`.
    from twisted_lb.workers.meeting import orphans_at

    first = next((one for _, one in _addresses(config)), None)
    return first is not None and orphans_at(first)


def _number(twistd: object, name: str) -> int | None:
    """Twistd's --uid or --gid."""
    found = twistd.get(name) if isinstance(twistd, Mapping) else None
    return found if isinstance(found, int) else None


def _addresses(config: LoadBalancerConfig) -> Iterator[tuple[str, ListenAddress]]:
    for name, listener in objects_of(config).listeners.items():
        yield from ((name, one) for one in listener.addresses if not one.path)
    if config.status is not None:
        yield "", config.status.address


def load_balancer(*words: str) -> "LoadBalancerService":
    """The service that `twistd lb WORDS` would run, for a .tac file, with the same errors."""
    options = Options()
    options.parseOptions(words)
    return makeService(options)
