"""The rules of the access log: where it goes, which form its lines have, and what is left out of them."""

from dataclasses import dataclass
from typing import Final

STDOUT: Final = "stdout"
SYSLOG: Final = "syslog"


@dataclass(frozen=True)
class LogRules:
    """The rules of the access log, of one generation of the configuration.

    `file` is a path, STDOUT or SYSLOG; `format` the name of a form, or a template. `query`: whether targets keep theirs;
    `network`: whether of clients' addresses only the network is said. A `sample` of 1.0 is everything; what took `slow_s`
    or longer, and what did not go well, is in it whatever the sample is.
    """

    file: str
    format: str = "combined"
    query: bool = True
    network: bool = False
    sample: float = 1.0
    slow_s: float = 1.0
