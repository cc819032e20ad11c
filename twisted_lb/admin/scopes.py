"""Scopes: who may read, and who may change things. The unix socket's file says who comes in there; on a port tokens do."""

import hmac
import pwd
import secrets
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from twisted_lb.admin.operator import Refused

READ: Final = "read"
CHANGE: Final = "change"
# What the audit log calls whoever has the token that is made at a start; `start` alone is the start itself.
MADE: Final = "start-token"

_CREDENTIALS: Final = struct.Struct("3i")


@dataclass(frozen=True)
class Visitor:
    """Who asks: the scope that he has, what the audit log calls him, and where he is."""

    scope: str
    name: str
    where: str = ""


class Tokens:
    """The tokens of a port. `change` and `read` are texts by their names; where there are none of the former one is `made`.
    `local`: only this machine reaches the port, so that reading needs no token.
    """

    def __init__(self, change: Mapping[str, str], read: Mapping[str, str], *, local: bool) -> None:
        self.made: Final = "" if change else secrets.token_urlsafe(24)
        self._change: Final = dict(change) or {MADE: self.made}
        self._read: Final = dict(read)
        self._local: Final = local

    def visitor(self, authorization: str | None, address: str) -> Visitor:
        """Who comes with this header field, from this address; Refused with a token that is none."""
        if authorization is None:
            if self._local:
                return Visitor(READ, "reader", address)
            raise Refused("no_token", "a token is needed", "Authorization: Bearer TOKEN; tokens are those of [admin]")
        kind, _, token = authorization.partition(" ")
        if kind.lower() == "bearer":
            for scope, tokens in ((CHANGE, self._change), (READ, self._read)):
                found = _found(token.strip(), tokens)
                if found:
                    return Visitor(scope, found, address)
        raise Refused("no_token", "that is no token of this balancer", "tokens are those of [admin]")


def _found(token: str, tokens: Mapping[str, str]) -> str:
    """The name of a token; all are compared, each in constant time."""
    found = ""
    for name, one in tokens.items():
        if hmac.compare_digest(token.encode("utf-8", "replace"), one.encode()):
            found = name
    return found


def user_at(connection: socket.socket) -> Visitor:
    """The user at the other end of a unix connection (SO_PEERCRED), who may change things."""
    pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Visitor(CHANGE, _name_of(uid), f"uid {uid} pid {pid}")


@lru_cache(maxsize=64)
def _name_of(uid: int) -> str:
    """What a user is called, looked up once: where a directory of users (LDAP) is asked, everybody waits for its answer."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def refuse_stranger(host: str, origin: str | None, site: str | None, hosts: frozenset[str]) -> None:
    """Refuse a request that a page of somebody else has sent: for another host (DNS rebinding), or from another site."""
    name = _host_in(f"//{host}").rstrip(".")
    if not (name == "localhost" or name in hosts or _is_address(name)):
        raise Refused("bad_host", f"this is no host of the admin door: {host or 'none'}", "name it in admin.hosts")
    other = site is not None and site.lower() not in ("same-origin", "none")
    if other or (origin is not None and origin.lower().partition("://")[2] != host.lower()):
        raise Refused("cross_site", "requests from other sites are refused")


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
