"""Where a listener listens: an address and port, all of them, or a unix socket."""

import ipaddress
import re
from dataclasses import dataclass, replace
from posixpath import normpath
from typing import Final

DEFAULT_MODE: Final = 0o666


@dataclass(frozen=True)
class ListenAddress:
    """One place to listen at: an IP address (`interface`; empty: all, of both families) with a port, or the `path` of a unix
    socket with its file `mode` and, if one is named, `group`.
    """

    interface: str = ""
    port: int = 0
    path: str = ""
    mode: int = DEFAULT_MODE
    group: str = ""

    @property
    def where(self) -> str:
        """The address as messages call it: `port 80`, `127.0.0.1:80`, `[::1]:80`, `unix:/run/lb.sock`."""
        if self.path:
            return f"unix:{self.path}"
        if not self.interface:
            return f"port {self.port}"
        host = f"[{self.interface}]" if ":" in self.interface else self.interface
        return f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The address as a file has it, less mode and group."""
        return self.where if self.interface or self.path else f":{self.port}"

    def at(self, *, interface: str | None = None, port: int | None = None) -> "ListenAddress":
        """The address at another interface, or with another port; ValueError for what is no interface."""
        other = self.interface if interface is None else interface_of(interface)
        return replace(self, interface=other, port=self.port if port is None else port)

    def overlaps(self, other: "ListenAddress") -> bool:
        """Whether no two listeners can have these: the same place, or one is all of the other's addresses. Port 0 is another
        port each time. `[::]` has the IPv4 addresses too.
        """
        if self.path or other.path:
            return normpath(self.path) == normpath(other.path)
        if self.port != other.port or not self.port:
            return False
        mine, theirs = self.interface, other.interface
        if mine == theirs or {"", "::"} & {mine, theirs}:
            return True
        return "0.0.0.0" in (mine, theirs) and ":" not in mine + theirs

    @classmethod
    def parse(cls, text: str, *, mode: int = DEFAULT_MODE, group: str = "") -> "ListenAddress":
        """`IP:PORT`, `[IPv6]:PORT`, `:PORT` or `unix:/path`; ValueError says what it should be."""
        if text.startswith("unix:"):
            return cls(path=_path(text[5:]), mode=mode, group=group)
        host, colon, port = text.rpartition(":")
        if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535 or (":" in host and host[0] != "["):
            raise ValueError(f'{text!r} should be IP:PORT, [IPv6]:PORT, :PORT or unix:/path, such as "127.0.0.1:8080"')
        return cls(interface=interface_of(host), port=int(port))


def interface_of(text: str) -> str:
    """The IP address that a text names, "" for all; ValueError when it names none."""
    if text in ("", "*"):
        return ""
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError("should be an IP address, such as 127.0.0.1 or ::1") from None


def _path(path: str) -> str:
    # sockaddr_un has 108 bytes, the last one is NUL.
    if not path.startswith("/") or not len(path.encode("utf-8", "surrogateescape")) <= 107 or "\0" in path:
        raise ValueError(f"unix:{path} should have an absolute path of at most 107 bytes")
    return path
