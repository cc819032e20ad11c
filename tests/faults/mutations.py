"""The engine broken on purpose, each time in one place, to see that the fault network notices.

A mutation is a piece of text of the package and what stands there instead; it is applied to a copy. Text that is not there
exactly once is an error: the mutation has to follow the code.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent.parent
PACKAGE = TESTS.parent / "twisted_lb"


@dataclass(frozen=True)
class Mutation:
    """`path` is within the package; each change is (what stands there, what stands there instead)."""

    name: str
    path: str
    changes: tuple[tuple[str, str], ...]

    def applied(self, source: str) -> str:
        """The source, broken; LookupError when it is not what it was."""
        for old, new in self.changes:
            if source.count(old) != 1:
                raise LookupError(f"{self.name}: {self.path} has this {source.count(old)} times, not once:\n{old}")
            source = source.replace(old, new)
        return source


MUTATIONS = (
    Mutation(
        "a POST is sent again",
        "core/retry.py",
        (('b"PUT", b"DELETE"))', 'b"PUT", b"DELETE", b"POST"))'),),
    ),
    Mutation(
        "a request whose client left is not settled",
        "net/exchange.py",
        (
            (
                '            self._dialling = None\n        self._settle(outcome, "")\n',
                "            self._dialling = None\n",
            ),
        ),
    ),
    Mutation(
        "the deadline of an idle client stays armed while it is answered",
        "net/downstream.py",
        (
            (
                "        self._stalled = -1\n        self._deadline.due = NEVER\n        exchange = ",
                "        self._stalled = -1\n        exchange = ",
            ),
        ),
    ),
    Mutation(
        "a connection with bytes that nobody asked for is used again",
        "net/upstream.py",
        (("        if rest or not (self._persistent", "        if not (self._persistent"),),
    ),
    Mutation(
        "bytes on an idle connection are overlooked",
        "net/upstream.py",
        (
            (
                "            self._left_idle()\n            self.close()\n            return\n        if self._paused:",
                "            return\n        if self._paused:",
            ),
        ),
    ),
    Mutation(
        "a chunked answer needs no last chunk",
        "net/upstream.py",
        (
            (
                "        elif self._state == _TO_THE_END:\n            self._persistent = False",
                "        elif self._state in (_TO_THE_END, _CHUNKS):\n            self._persistent = False",
            ),
        ),
    ),
    Mutation(
        "what is held of a body is sent in another order",
        "net/exchange.py",
        (("            for payload in held:\n", "            for payload in held[::-1]:\n"),),
    ),
    Mutation(
        "a body is replayed of which a part is gone",
        "net/exchange.py",
        (("        return self._held is not None or self._held_bytes == 0\n", "        return True\n"),),
    ),
    Mutation(
        "a client that does not read does not slow its backend",
        "net/exchange.py",
        (
            (
                (
                    "        self._client_full = True\n        if self._upstream is not None and self.started:\n"
                    "            self._upstream.pause()\n"
                ),
                "        self._client_full = True\n",
            ),
        ),
    ),
    Mutation(
        "a backend that does not read does not slow its client",
        "net/exchange.py",
        (
            (
                '        """The backend does not take the request as fast as the client sends it."""\n        self._pause_client()\n',
                '        """The backend does not take the request as fast as the client sends it."""\n',
            ),
        ),
    ),
    Mutation(
        "a client that was paused is not resumed",
        "net/exchange.py",
        (('        """It does again."""\n        self._resume_client()\n', '        """It does again."""\n'),),
    ),
    Mutation(
        "a connection that the backend closes is kept",
        "net/upstream.py",
        (("not (self._persistent and self._request_ended)", "not self._request_ended"),),
    ),
    Mutation(
        "a connection is kept in the middle of a request",
        "net/upstream.py",
        (("not (self._persistent and self._request_ended)", "not self._persistent"),),
    ),
    Mutation(
        "another backend is asked after bytes were relayed",
        "net/exchange.py",
        (
            ("        if self.started:\n            self._end()\n", "        if False:\n            self._end()\n"),
            ("                relayed=self.started,\n", "                relayed=False,\n"),
        ),
    ),
    Mutation(
        "a client whose answer was cut short is not closed",
        "net/downstream.py",
        (
            (
                (
                    "        self.flush()\n        self._transport.unregisterProducer()\n        self._arm(LINGER_S)\n"
                    "        self._transport.loseConnection()\n"
                ),
                "        self.flush()\n        self._transport.unregisterProducer()\n",
            ),
        ),
    ),
    Mutation(
        "an answer until the close is cut by a FIN",
        "net/downstream.py",
        (
            (
                "        if self._until_close:\n            self._transport.abortConnection()\n",
                "        if self._until_close:\n            self._transport.loseConnection()\n",
            ),
        ),
    ),
    Mutation(
        "the backend that failed is asked again",
        "net/exchange.py",
        (("            self._tried = (*self._tried, lease.backend)\n", "            pass\n"),),
    ),
    Mutation(
        "a backend that refuses stays in",
        "core/pool.py",
        (("        if backend.judge() or backend.ejection.active:\n", "        if backend.judge() and False:\n"),),
    ),
    Mutation(
        "the header block of the last request is not compared",
        "net/heads.py",
        ((" or block != self._block or", " or"),),
    ),
    Mutation(
        "a connect goes on when its client is gone",
        "net/exchange.py",
        (
            (
                "            self._dialling.cancel()\n            self._dialling = None\n",
                "            self._dialling = None\n",
            ),
        ),
    ),
    Mutation(
        "a byte is lost where the kernel took a part",
        "net/transport.py",
        (("memoryview(data)[sent:]", "memoryview(data)[sent + 1 :]"),),
    ),
    Mutation(
        "a byte is lost where the kernel took the first of several buffers",
        "net/transport.py",
        (("self._keep(memoryview(piece)[sent:])", "self._keep(memoryview(piece)[sent + 1 :])"),),
    ),
    Mutation(
        "a deadline that was moved is forgotten",
        "net/deadlines.py",
        (
            (
                (
                    "            if deadline.due != NEVER:\n"
                    "                self._put(deadline, int(deadline.due / TICK_S) + 1)\n"
                ),
                "",
            ),
        ),
    ),
    Mutation(
        "a backend that is too slow is a 502",
        "core/outcome.py",
        (
            (
                "Outcome.TIMED_OUT: Consequence(_SAFE, Blame.FAILURE, 504",
                "Outcome.TIMED_OUT: Consequence(_SAFE, Blame.FAILURE, 502",
            ),
        ),
    ),
    Mutation(
        "an upload that was sent far ahead is not read on",
        "net/downstream.py",
        (
            (
                "        self._take_more()\n        self._arm(self._engine.rules.timeouts.body_idle_s)\n",
                "        self._arm(self._engine.rules.timeouts.body_idle_s)\n",
            ),
        ),
    ),
)


def broken_copy(mutation: Mutation, where: Path) -> Path:
    """A copy of the package with the mutation in it; the folder to import it from."""
    copy = where / "twisted_lb"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    file = copy / mutation.path
    file.write_text(mutation.applied(file.read_text()))
    return where


def caught_at(mutation: Mutation, where: Path, most: int) -> tuple[int | None, str]:
    """How many seeds it takes until the fault network complains, None when it does not; and what it says."""
    paths = [str(broken_copy(mutation, where)), str(TESTS)]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "faults", "0", str(most - 1), "1"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None, done.stdout
    assert done.stdout.startswith("seed "), done.stdout + done.stderr
    return int(done.stdout.partition(":")[0].removeprefix("seed ")) + 1, done.stdout
