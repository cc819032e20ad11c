"""One server: where it is, and the living record of how it does."""

import enum
import re
from dataclasses import dataclass
from typing import Final

from twisted_lb.core.ejection import Ejection
from twisted_lb.core.health import Health
from twisted_lb.core.outcome import Outcome

HEAVIEST: Final = 256


@dataclass(frozen=True)
class TcpAddress:
    """A host (name, IPv4 or IPv6 without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress

# 63 is the length of a label (RFC 1035 2.3.4); Python refuses to look up a longer one, with an exception of its own.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")


def parse_address(text: str) -> Address:
    """The address that `HOST:PORT`, `[IPv6]:PORT` or `unix:/path` names; ValueError says in one line what is wrong."""
    if text.startswith("unix:"):
        path = text[5:]
        if not path.startswith("/"):
            raise ValueError(f"{text!r}: a unix socket needs an absolute path, as in unix:/run/app.sock")
        # Printable: the path is the backend's name, and that stands in log lines. 108 bytes with the NUL, says unix(7).
        if not path.isprintable() or len(path.encode()) > 107 or path.endswith("/"):
            raise ValueError(f"{text!r}: not a path that a unix socket can have")
        return UnixAddress(path)
    host, colon, port_text = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise ValueError(f"{text!r}: no port, expected HOST:PORT")
    if not host:
        raise ValueError(f"{text!r}: no host, expected HOST:PORT")
    if not re.fullmatch("[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= 65535:
        raise ValueError(f"{text!r}: {port_text!r} is not a port between 1 and 65535")
    return TcpAddress(_parse_host(host, text), int(port_text))


def _parse_host(host: str, text: str) -> str:
    if host.startswith("[") or host.endswith("]"):
        inner = host[1:-1]
        if not (host.startswith("[") and host.endswith("]") and _is_ipv6(inner)):
            raise ValueError(f"{text!r}: {host!r} is not an IPv6 address in brackets")
        return inner
    if ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets, as in [::1]:8080")
    if re.fullmatch(r"[0-9.]+", host):
        parts = host.split(".")
        # As it would be written back: resolvers read 010 as octal, that is 8.
        if len(parts) != 4 or not all(
            part and len(part) < 4 and str(int(part)) == part and int(part) < 256 for part in parts
        ):
            raise ValueError(f"{text!r}: {host!r} is not an IPv4 address")
    elif not _NAME.fullmatch(host):
        raise ValueError(f"{text!r}: {host!r} is not a host name")
    return host


def _is_ipv6(text: str) -> bool:
    """Whether it is an IPv6 address; the standard library's own parser decides."""
    import ipaddress

    if not _IPV6.fullmatch(text):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class BackendSpec:
    """What the configuration says of a backend. Names are unique within a pool; the default is the address. ValueError
    for a weight outside 1 to 256: a backend that is to get nothing is drained.
    """

    name: str
    address: Address
    weight: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.weight <= HEAVIEST:
            raise ValueError(f"{self.name!r}: {self.weight} is not a weight between 1 and {HEAVIEST}")

    @classmethod
    def parse(cls, text: str) -> "BackendSpec":
        """`ADDRESS` or `ADDRESS,weight=N`; ValueError says in one line what is wrong."""
        where, *options = text.split(",")
        address = parse_address(where)
        weight: int | None = None
        for option in options:
            key, equals, value = option.partition("=")
            if key != "weight" or not equals:
                raise ValueError(f"{text!r}: {option!r} is not an option, expected weight=N")
            if weight is not None:
                raise ValueError(f"{text!r}: weight is given twice")
            if not re.fullmatch("[0-9]{1,6}", value) or not 1 <= int(value) <= HEAVIEST:
                raise ValueError(f"{text!r}: {value!r} is not a weight between 1 and {HEAVIEST}")
            weight = int(value)
        return cls(str(address), address, 1 if weight is None else weight)


class AdminState(enum.Enum):
    """What the operator wants of a backend."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


class Backend:
    """The living record. It outlives updates that keep its name; `usable` is stored and changes only with its three facts."""

    __slots__ = (
        "address",
        "admin",
        "ejection",
        "health",
        "in_flight",
        "name",
        "outcomes",
        "requests",
        "usable",
        "weight",
    )

    def __init__(self, spec: BackendSpec, rise: int, fall: int, *, checked: bool) -> None:
        self.name: Final = spec.name
        self.address: Address = spec.address
        self.weight: int = spec.weight
        self.admin: AdminState = AdminState.READY
        self.health: Health = Health(rise, fall)
        self.ejection: Ejection = Ejection(rise, checked=checked)
        self.usable: bool = True
        self.in_flight: int = 0
        self.requests: int = 0
        self.outcomes: list[int] = [0] * len(Outcome)

    def judge(self) -> bool:
        """Bring `usable` up to date; True if it changed."""
        ejection = self.ejection
        usable = self.admin is AdminState.READY and self.health.up and not ejection.active
        changed = usable != self.usable
        self.usable = usable
        return changed

    def __repr__(self) -> str:
        facts = [self.admin.value, "up" if self.health.up else "down"]
        if self.ejection.active:
            facts.append("on trial" if self.ejection.on_trial else "ejected")
        return f"<Backend {self.name}: {', '.join(facts)}, {self.in_flight} in flight>"
