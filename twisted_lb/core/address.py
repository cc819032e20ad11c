"""Addresses of servers: as people write them, and as the rest of the program knows them."""

import re
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True)
class TcpAddress:
    """A TCP address: a host (name, IPv4 or IPv6 without brackets) and a port.

    `family`: which addresses of a name are meant, "ipv4" or "ipv6"; empty: all. `name`: the host name that this is an
    address of, empty for what was configured; it does not make another address of it. `traffic_port`: of a port that checks
    ask, the one of the same server that traffic goes to; 0 where that is this one.
    """

    host: str
    port: int
    family: str = ""
    name: str = field(default="", compare=False)
    traffic_port: int = 0

    @property
    def authority(self) -> str:
        """What a Host field calls it: an address of a name is called by the name."""
        return f"{self.name}:{self.port}" if self.name else str(self)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """The address of a unix socket: its path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def is_name(address: Address) -> bool:
    """Whether an address has a host name, which has to be resolved."""
    return isinstance(address, TcpAddress) and ":" not in address.host and not re.fullmatch("[0-9.]+", address.host)


def same_place(address: Address) -> Address:
    """The address in one spelling for all its spellings: `LOCALHOST.:80` is `localhost:80`, `[0::1]:80` is `[::1]:80`."""
    if isinstance(address, UnixAddress):
        return address
    host = address.host
    if ":" in host:
        import ipaddress

        return TcpAddress(str(ipaddress.IPv6Address(host)), address.port)
    return TcpAddress(host.lower().removesuffix("."), address.port)


# 63 is the length of a label (RFC 1035 2.3.4); Python refuses to look up a longer one, with an exception of its own.
_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
_IPV6: Final = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")


def parse_address(text: str) -> Address:
    """The address that `HOST:PORT`, `[IPv6]:PORT` or `unix:/path` names; ValueError says in one line what is wrong."""
    _refuse_what_is_pasted(text)
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
    if "/" in port_text:
        raise ValueError(f"{text!r}: no path, expected HOST:PORT")
    if not re.fullmatch("[0-9]{1,5}", port_text) or not 1 <= int(port_text) <= 65535:
        raise ValueError(f"{text!r}: {port_text!r} is not a port between 1 and 65535")
    return TcpAddress(_parse_host(host, text), int(port_text))


def _refuse_what_is_pasted(text: str) -> None:
    """ValueError for a URL, and for what holds two addresses: a quoted variable, a list without its comma."""
    # RFC 3986 3.1
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    if scheme:
        raise ValueError(f"{text!r}: no {scheme[0]}, expected HOST:PORT")
    words = text.split()
    if len(words) > 1 and all(":" in word for word in words):
        raise ValueError(f"{text!r}: two addresses in one? Each is a word of its own")
    bare = re.sub(r"\[[^]]*\]", "", text)
    colons = text.count("unix:/") if text.startswith("unix:") else bare.count(":")
    if colons > 1 and not ("[" in bare or "]" in bare or _is_ipv6(text) or _is_ipv6(text.rpartition(":")[0])):
        raise ValueError(f"{text!r}: two addresses in one? One is HOST:PORT, [IPv6]:PORT or unix:/path")


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
    """Whether a text is an IPv6 address; the standard library's own parser decides."""
    import ipaddress

    if not _IPV6.fullmatch(text):
        return False
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
