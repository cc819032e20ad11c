"""TCP keep-alive: the kernel asks a peer that has been silent for long whether it is still there (SO_KEEPALIVE)."""

import socket
from typing import Final

from mypy_extensions import mypyc_attr


@mypyc_attr(acyclic=True)
class TcpKeepalive:
    """How often a silent peer is asked: first after `idle_s` seconds, then every `interval_s`, until it answers; one that has not
    answered `probes` times in a row is gone, and its connection ends as by a reset.
    """

    __slots__ = ("idle_s", "interval_s", "probes")

    def __init__(self, idle_s: int, interval_s: int, probes: int) -> None:
        self.idle_s: Final = idle_s
        self.interval_s: Final = interval_s
        self.probes: Final = probes

    def __repr__(self) -> str:
        return f"<TcpKeepalive after {self.idle_s} s, {self.probes} times every {self.interval_s} s>"


def set_keepalive(sock: socket.socket, keepalive: TcpKeepalive | None) -> None:
    """Have the peer of this socket asked, or not any more. Of one that listens those accepted from then on inherit it (Linux). Nothing
    for a unix socket: its peer cannot go without the kernel's notice.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(keepalive is not None))
    if keepalive is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.probes)
