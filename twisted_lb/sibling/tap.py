"""`twistd be`: the command line of the sibling backend, for demonstrations and tests."""

import argparse
import socket
from typing import TYPE_CHECKING

from twisted_lb.config import SiblingConfig
from twisted_lb.config.load import sibling_from_flags
from twisted_lb.options import CommandOptions, Parser, refuse_unlistenable

if TYPE_CHECKING:
    from twisted_lb.sibling.service import BackendService

SYNOPSIS = "twistd -n be [-h] [-p PORT] [--interface ADDRESS] [--name NAME]"

DESCRIPTION = """\
A small web server to balance over. Each answer says which backend gave it and how many requests it
has served; whatever the address, ?delay=, ?status=, ?size=, ?chunked= and ?close= make it
misbehave for one request. At its own port, /misbehave?delay=0.5&seconds=60 makes it do so for each
request of that time, while its checks pass; /sick?seconds=20 lets its checks fail, and
/down?seconds=20 makes it close its port and its connections for that long.
"""

EXAMPLES = """\
examples:
  twistd -n be
  twistd -n be -p 8081 --name blue
  curl 'http://localhost:8081/?delay=0.5&size=1000000'

It does what any client asks of it: do not expose it to clients you do not trust.
"""


class Options(CommandOptions):
    """The flags of `twistd be`; `config` is what they amount to once they are parsed."""

    command = "be"
    config: SiblingConfig

    def make_parser(self) -> Parser:
        """The parser of the flags; their values are the configuration's business."""
        parser = Parser(self.command, SYNOPSIS, DESCRIPTION, EXAMPLES, ("[0-9]+", "the port needs -p"))
        add = parser.add_argument
        add("-p", "--port", help=f"port to listen on, {SiblingConfig().port} if not given")
        add("--interface", metavar="ADDRESS", help="IP address to listen on, all if not given")
        add("--name", help="what its answers call it, be-PORT if not given")
        return parser

    def accept(self, flags: argparse.Namespace) -> None:
        """Fill `config`; ConfigError with everything that is wrong."""
        self.config = sibling_from_flags({f"--{name}": text for name, text in vars(flags).items()})


def makeService(options: Options) -> "BackendService":
    """The service twistd runs; ends the process in one line if it could not listen."""
    from twisted_lb.sibling.service import BackendService

    config = options.config
    refuse_unlistenable([("", config.address)], options.command, _bound)
    return BackendService(config.port, config.interface, config.name, whole_process=True)


def _bound(interface: str, port: int) -> socket.socket:
    """A socket at this address that does not listen."""
    sock = socket.socket(socket.AF_INET6 if ":" in interface else socket.AF_INET)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((interface, port))
    except BaseException:
        sock.close()
        raise
    return sock


def backend(*words: str) -> "BackendService":
    """The service that `twistd be WORDS` would run, for a .tac file, with the same errors."""
    options = Options()
    options.parseOptions(words)
    return makeService(options)
