"""Reloads: another configuration again and again, while clients ask, tunnels stand and slow downloads run."""

import contextlib
import itertools
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ports import free_port

from bad_days.load import Ask, Asker, load
from bad_days.proxies import Contender
from bad_days.recipes import Patience, our_config
from bad_days.results import Result
from bad_days.soak import RESIDENT_SLACK_KIB, Served, grown
from bad_days.stage import Backend, Stage, until
from twisted_lb.admin.history import MOST_EVENTS

PAUSE_S = 0.05
OFFER = b"GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
# A masked text frame of four bytes, as a client of a WebSocket sends it.
FRAME = b"\x81\x84\0\0\0\0ping"
# In moments that have the same configuration. What is held trembles by the pools of other days that notes refer to, and grows by
# the notes on failures, where a machine is too busy for its backends; 2 KiB a reload, never freed, are more over 500 of them.
SLACK = {
    "held_kib": 400,
    "memory_kib": RESIDENT_SLACK_KIB,
    "own_descriptors": 3,
    "delayed_calls": 3,
    "readers": 0,
}
# The last line of a reload that was applied.
APPLIED = "connections cut: 0"
# What comes and goes finishes in its own time here.
NOBODY_IS_CUT = "drain_s = 600\ntunnel_idle_s = 600\n"
MORE = """
[listeners.more]
address = "127.0.0.1:{port}"
default_pool = "more"
[pools.more]
backends = ["{address}"]
[[routes]]
path_prefix = "/more"
pool = "more"
"""


class Variants:
    """The configurations that take turns: weights and members of the pool, a limit, a listener with a pool and a route."""

    def __init__(self, port: int, backends: list[Backend], patience: Patience) -> None:
        self.port = port
        self.more = free_port()
        self._addresses = [one.address for one in backends]
        self._patience = patience

    def text(self, number: int) -> str:
        turn = number % 4
        first, second, third, fourth = self._addresses
        members = [first, f"{second},weight={1 + turn}", fourth if turn == 3 else third]
        text = our_config(self.port, members, self._patience) + NOBODY_IS_CUT
        text += f"[limits]\nhead_bytes = {16_000 + turn}\n"
        return text + (MORE.format(port=self.more, address=first) if turn == 2 else "")


class Tunnel:
    """A tunnel of a client, through which a frame comes back."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._sock.sendall(OFFER)
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += self._sock.recv(4096)
        if not heard.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError(heard)

    def stands(self) -> bool:
        """Whether what is sent comes back."""
        heard = b""
        with contextlib.suppress(OSError):
            self._sock.sendall(FRAME)
            while len(heard) < len(FRAME) and (data := self._sock.recv(4096)):
                heard += data
        return heard == FRAME

    def close(self) -> None:
        self._sock.close()


@contextlib.contextmanager
def tunnels(port: int, count: int) -> Iterator[list[Tunnel]]:
    """So many of them."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Tunnel(port))) for _ in range(count)]


class Downloads:
    """Downloads that are slow: one after the other, from so many clients."""

    def __init__(self, port: int, count: int, last_s: float) -> None:
        self.ended: Counter[str] = Counter()
        self._last_s = last_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port,), daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int) -> None:
        while not self._over.is_set():
            with contextlib.closing(Asker(port)) as asker:
                self.ended[asker.ask(Ask(path=f"/?last={self._last_s}")).error] += 1

    def stop(self) -> None:
        """Those that have begun come to their end."""
        self._over.set()
        for thread in self._threads:
            thread.join()


def reloaded(
    stage: Stage,
    contender: Contender,
    patience: Patience,
    *,
    times: int,
    clients: int,
    standing: int,
    downloads: int,
    last_s: float,
    warm: bool = False,
) -> Result:
    """So many reloads of ours, one after the other, with so many clients that ask, tunnels that stand and downloads that last
    `last_s`. What grew is in the note: descriptors, delayed calls, resident memory.

    `warm`: before them come as many others as it takes until what is remembered of reloads is as much as it may be; so
    what is held must not grow, and does not. These are hundreds.
    """
    served = Served(stage, contender, stage.backends(4))
    variants = Variants(served.port, served.backends, patience)
    samples: list[dict[str, int]] = []
    served.quiet_counters()  # it runs

    def again(number: int) -> None:
        reload(served, variants.text(number), number + 1)
        seen.wait_for_answers(clients // 4)

    with tunnels(served.port, standing) as ours, load([served.port] * clients, pause_s=lambda _: PAUSE_S) as seen:
        slow = Downloads(served.port, downloads, last_s)
        numbers = itertools.count()
        for number in _until_full(served, numbers) if warm else ():
            again(number)
        for number in itertools.islice(numbers, times):
            again(number)
            if number % 4 == 3:  # each time the same configuration
                samples.append(served.counters(b"held" if warm else b""))
        slow.stop()
        cut = sum(not one.stands() for one in ours)
    errors = Counter(seen.errors)
    errors.update({f"a download: {error}": count for error, count in slow.ended.items() if error})
    errors.update({"a tunnel was cut": cut} if cut else {})
    served.quiet_counters()
    until(lambda: not served.counters()["leaving"], "nothing is leaving any more")
    if "Traceback" in served.log:
        raise RuntimeError(served.log)
    return Result(
        len(seen.answers) + slow.ended.total(),
        dict(errors),
        round(seen.slowest_s, 3),
        note="; ".join(grown(samples, SLACK)),
    )


def _until_full(served: Served, numbers: Iterator[int]) -> Iterator[int]:
    """The next numbers, until the events that are remembered are as many as can be. Each reload adds one at least, and each some
    notes of requests, which hold the pool as it was: they are full before.
    """
    while served.counters()["events"] < MOST_EVENTS:
        yield next(numbers)


def reload(served: Served, text: str, number: int) -> None:
    """The `number`th reload: the file is replaced, the process told, and this returns when it has done it."""
    new = Path(f"{served.config}.new")
    new.write_text(text)
    new.replace(served.config)
    os.kill(served.pid, signal.SIGHUP)
    until(lambda: served.log.count(APPLIED) >= number, f"reload {number} is applied")
