"""The mixed traffic of a soak: clients that keep connections, make new ones, send, fetch, and leave in the middle."""

import contextlib
import random
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable

from bad_days.backend import pattern
from bad_days.load import Answer, Ask, Asker

# What a client may see of a backend that is killed or stands still under it; everything else is a fault of ours.
EXCUSED = frozenset({"502", "503", "504", "cut short"})
LARGEST = 4 << 20


class Mix:
    """One round of it; `answers` counts by what came, "" being a whole and exact answer."""

    def __init__(self, port: int, seed: int) -> None:
        self.port = port
        self.answers: Counter[str] = Counter()
        self.cuts = 0
        self._over = threading.Event()
        kinds = [self._keep] * 6 + [self._come_anew] * 2 + [self._fetch] * 2 + [self._send] * 2 + [self._leave] * 2
        self._threads = [
            threading.Thread(target=self._run, args=(kind, random.Random(f"{seed} {n}")), daemon=True)
            for n, kind in enumerate(kinds)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Everything that is under way comes to its end."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kind: Callable[[Asker, random.Random], None], rng: random.Random) -> None:
        asker = Asker(self.port)
        while not self._over.is_set():
            kind(asker, rng)
            self._over.wait(rng.uniform(0, 0.02))
        asker.close()

    def _keep(self, asker: Asker, rng: random.Random) -> None:
        self._count(asker.ask(Ask(path=rng.choice(("/", "/?delay=0.01", "/?size=20000")))))

    def _come_anew(self, asker: Asker, _: random.Random) -> None:
        self._count(asker.ask(Ask()))
        asker.close()

    def _fetch(self, asker: Asker, rng: random.Random) -> None:
        size = rng.randrange(1, LARGEST)
        answer, body = asker.ask_for_body(Ask(path=f"/?size={size}"))
        exact = answer.error or body == b"".join(pattern(size))
        self._count(answer if exact else answer._replace(error="wrong bytes"))

    def _send(self, asker: Asker, rng: random.Random) -> None:
        sent = b"".join(pattern(rng.randrange(1, LARGEST)))
        answer, body = asker.ask_for_body(Ask("POST", "/", sent))
        exact = answer.error or body == b"%d %d\n" % (len(sent), zlib.crc32(sent))
        self._count(answer if exact else answer._replace(error="wrong bytes"))

    def _leave(self, _: Asker, rng: random.Random) -> None:
        """In the middle of a head, of a body, or of the answer; in order or with a reset."""
        said = rng.choice((b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\nhalf", _FETCH, _WAIT))
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            sock.sendall(said)
            if said is _FETCH:
                sock.recv(1000)
            self._over.wait(rng.uniform(0, 0.01))
            if rng.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cuts += 1

    def _count(self, answer: Answer) -> None:
        self.answers[answer.error] += 1


_FETCH = b"GET /?size=3000000 HTTP/1.1\r\nHost: x\r\n\r\n"
_WAIT = b"GET /?delay=0.5 HTTP/1.1\r\nHost: x\r\n\r\n"
