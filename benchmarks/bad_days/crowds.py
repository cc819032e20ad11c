"""Clients that only hold connections, or hold them on purpose, while others want to be served."""

import contextlib
import re
import shutil
import socket
from collections.abc import Iterator

from bad_days.load import load
from bad_days.proxies import Contender, Proxy
from bad_days.recipes import Patience
from bad_days.results import Result, result
from bad_days.stage import Peak, Stage, raise_descriptor_limit

REQUEST = b"GET / HTTP/1.1\r\nHost: idle\r\n\r\n"
SLOWHTTPTEST = shutil.which("slowhttptest")
# What each mode asks for: heads, bodies and overlapping ranges that trickle, answers that are sipped.
MODES = {
    "slowloris": ["-H", "-x", "24", "-t", "GET"],
    "slow body": ["-B", "-s", "8192", "-x", "10"],
    "range": ["-R", "-a", "10", "-b", "3000", "-t", "HEAD"],
    "slow read": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "1"],
}


def idle(stage: Stage, contender: Contender, patience: Patience, *, connections: int, requests: int) -> Result:
    """Keep-alive connections that have been used once and stay."""
    raise_descriptor_limit()
    backends = stage.backends(3)
    proxy = contender.start(stage, [[one.address for one in backends]], patience)
    with crowd(proxy, 50):
        pass  # warm
    before_kib = proxy.memory_kib()
    with crowd(proxy, connections) as members:
        each_kib = (proxy.memory_kib() - before_kib) / connections
        with load([proxy.port] * 4) as seen:
            seen.wait_for_answers(requests)
        kept = sum(is_open(member) for member in members)
    note = f"{kept:,} of {connections:,} idle connections were still open"
    return result(seen, memory_kib=round(each_kib, 1), note=note)


@contextlib.contextmanager
def crowd(proxy: Proxy, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that have had one answer each."""
    with contextlib.ExitStack() as stack:
        members = []
        for _ in range(count):
            member = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=30))
            member.sendall(REQUEST)
            if not member.recv(4096).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError("a member of the crowd was not served")
            members.append(member)
        yield members


def is_open(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def slow(
    stage: Stage, contender: Contender, patience: Patience, *, mode: str, connections: int, seconds: int
) -> Result:
    """`slowhttptest` with all its connections, and four clients that ask meanwhile."""
    raise_descriptor_limit()
    backends = stage.backends(3)
    proxy = contender.start(stage, [[one.address for one in backends]], patience)
    path = "?size=1048576" if mode == "slow read" else ""
    size = ["-c", connections, "-r", max(50, connections // 4), "-l", seconds, "-i", 2, "-p", 3]
    words = [SLOWHTTPTEST, *MODES[mode], *size, "-u", f"http://127.0.0.1:{proxy.port}/{path}"]
    before_kib = proxy.memory_kib()
    with Peak(proxy.memory_kib) as peak, load([proxy.port] * 4) as seen:
        seen.wait_for_answers(20)
        attack = stage.start(words)
        attack.popen.wait(timeout=seconds * 4 + 60)
        seen.wait_for_answers(20)
    return result(seen, memory_kib=peak.most_kib - before_kib, note=verdict(attack.log))


def verdict(log: str) -> str:
    """Of slowhttptest's report: how long its connections held on, and whether its own probe was always served."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    ended = re.search(r"Test ended on (\d+)\w* second\s+Exit status: +(.+)", plain)
    held = re.findall(r"connected: +(\d+)", plain)
    probes = re.findall(r"service available: +(\w+)", plain)
    if ended is None or not held or not probes:
        raise RuntimeError(f"slowhttptest did not report: {plain[-2000:]}")
    alone = ended[2].startswith("No open connections")
    fate = (
        f"no connection of it was left after {ended[1]} s"
        if alone
        else f"{held[-1]} of its connections held on to the end"
    )
    return f"{fate}; its own probe was {'NOT ' if 'NO' in probes else ''}served"
