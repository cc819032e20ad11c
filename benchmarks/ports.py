"""Ports for the processes that a test or a benchmark starts: no two programs on this machine are given the same."""

import contextlib
import random
import socket
from collections.abc import Iterator

# Below those that the kernel chooses for outgoing connections.
FIRST, PAST = 10240, 32768
BLOCK = 64
# Not the generator that tests may seed.
_CHANCE = random.SystemRandom()


def _block() -> range:
    """Of ports that are this process's until it ends. A name in the kernel says so (unix(7), abstract sockets), which
    nobody else can take and which goes with its owner.
    """
    for first in _CHANCE.sample(range(FIRST, PAST, BLOCK), (PAST - FIRST) // BLOCK):
        sock = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):
            sock.bind(f"\0twisted_lb ports {first}")
            sock.detach()
            return range(first, first + BLOCK)
        sock.close()
    raise RuntimeError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return True
    return False


def _given() -> Iterator[int]:
    while True:
        yield from filter(_is_free, _block())


_ports = _given()


def free_port() -> int:
    """A port on which nobody listens, and that nobody who asks here was or will be given while this process lives: there
    is a while between the answer and the bind, in which two tests with the same port meet each other's servers.
    """
    return next(_ports)
