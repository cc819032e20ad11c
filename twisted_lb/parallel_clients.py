"""Parallel clients that count which backend answered them; standard library only.

`run_parallel_clients.sh` runs this file with any python3, so nothing here may import the package.
"""

import argparse
import http.client
import math
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

PROGRAM = "run_parallel_clients.sh"

# Far above what a demonstration needs, far below what hurts the machine.
MOST_CLIENTS = 500
MOST_REQUESTS = 1_000_000
LONGEST_TIMEOUT_S = 300.0

EPILOG = """\
Every client keeps one connection and sends its share of the requests, one after the other. An
answer counts for the backend that its X-Backend header names; a status from 400 on, a broken
answer or none at all counts as failed. Exit status: 0 none failed, 1 some failed, 2 bad input.

examples:
  ./run_parallel_clients.sh
  ./run_parallel_clients.sh -u http://localhost:8080/?delay=0.1 -c 50 -n 1000
"""


@dataclass
class Tally:
    """The tally of a run: answers by backend, failures by reason."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)


class Client:
    """One client with one connection, opened again whenever it has gone."""

    def __init__(self, url: SplitResult, timeout_s: float, tally: Tally) -> None:
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(url.hostname or "", url.port, timeout=timeout_s)
        self.target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self.timeout_s = timeout_s
        self.tally = tally

    def run(self, requests: int, stop: threading.Event) -> None:
        """Send that many requests, one after the other."""
        for _ in range(requests):
            if stop.is_set():
                break
            self.ask()
        self.connection.close()

    def ask(self) -> None:
        """Send one request and count what becomes of it."""
        try:
            backend, status = self.answer()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.tally.failures[reason(error)] += 1
            return
        if status >= 400:
            self.tally.failures[f"status {status} from {backend}"] += 1
        else:
            self.tally.answers[backend] += 1

    def answer(self) -> tuple[str, int]:
        """Read an answer to its end: the name of the backend, and the status."""
        deadline = time.monotonic() + self.timeout_s
        self.connection.request("GET", self.target, headers={"User-Agent": PROGRAM})
        response = self.connection.getresponse()
        while response.read1(65536):
            # Each read has the timeout of its own; a trickle must not last for ever.
            if time.monotonic() > deadline:
                raise TimeoutError
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        # read1 does not notice the end by itself, and the connection waits for it.
        response.close()
        return response.getheader("X-Backend") or "unknown", response.status


def reason(error: Exception) -> str:
    """A failure in a few words, the same words for the same failure."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, http.client.IncompleteRead):
        return "answer cut short"
    if isinstance(error, http.client.RemoteDisconnected):
        return "connection closed without an answer"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).lower()


def shares(requests: int, clients: int) -> list[int]:
    """The shares of the clients: how many requests each sends, as equal as can be, none without any."""
    clients = min(clients, requests)
    return [requests // clients + (i < requests % clients) for i in range(clients)]


def run(url: SplitResult, parts: list[int], timeout_s: float) -> Tally:
    """Let one client for each part send that many requests; Ctrl-C ends it early."""
    tallies = [Tally() for _ in parts]
    stop = threading.Event()
    threads = [
        threading.Thread(target=Client(url, timeout_s, tally).run, args=(part, stop), daemon=True)
        for part, tally in zip(parts, tallies, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stop.set()
    total = Tally()
    for tally in tallies:
        total.answers.update(tally.answers)
        total.failures.update(tally.failures)
    return total


def report(tally: Tally, asked: str, seconds: float) -> str:
    """The result for a terminal: backends by name, then the failures by reason."""
    lines = [f"{asked} in {seconds:.2f} s"]
    lines += [f"{count:8} {name}" for name, count in sorted(tally.answers.items())]
    lines += [f"{tally.failures.total():8} failed"]
    lines += [f"{count:8}   {why}" for why, count in tally.failures.most_common()]
    return "\n".join(_printable(line) for line in lines)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one line."""

    def error(self, message: str) -> NoReturn:
        """End the process in one line: argparse calls it for every mistake."""
        self.exit(2, _printable(f"{self.prog}: {message}") + "\n")


def parse(words: list[str]) -> argparse.Namespace:
    """The flags; wrong ones end the process with status 2."""
    parser = Parser(
        prog=PROGRAM,
        description="Send requests from parallel clients and count which backend answered.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-u",
        "--url",
        type=url_of,
        default="http://localhost:8080/",
        help="what to ask for (default %(default)s)",
    )
    parser.add_argument(
        "-c",
        "--clients",
        type=count(MOST_CLIENTS),
        default=20,
        metavar="CLIENTS",
        help=f"clients at the same time, at most {MOST_CLIENTS} (default %(default)s)",
    )
    parser.add_argument(
        "-n",
        "--requests",
        type=count(MOST_REQUESTS),
        default=200,
        metavar="REQUESTS",
        help=f"requests of all clients together, at most {MOST_REQUESTS} (default %(default)s)",
    )
    parser.add_argument(
        "-t",
        "--timeout",
        type=timeout_of,
        default=10.0,
        metavar="SECONDS",
        help=f"for one answer, at most {LONGEST_TIMEOUT_S:g} (default %(default)g)",
    )
    return parser.parse_args(words)


def url_of(text: str) -> SplitResult:
    """The URL, if it is one that can be asked for."""
    wrong = argparse.ArgumentTypeError(f"{text!r} should be like http://localhost:8080/")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise wrong
    try:
        url = urlsplit(text)
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        raise wrong from None
    if not usable or url.username is not None:
        raise wrong
    return url


def count(most: int) -> Callable[[str], int]:
    """A reader of whole numbers from 1 to `most`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 12 and 1 <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} should be a whole number from 1 to {most}")
        return int(text)

    return read


def timeout_of(text: str) -> float:
    """The timeout, if it is one that ends."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= LONGEST_TIMEOUT_S:
        raise argparse.ArgumentTypeError(f"{text!r} should be seconds above 0, at most {LONGEST_TIMEOUT_S:g}")
    return value


def main() -> int:
    """Run the clients, print the counts, return the exit status."""
    flags = parse(sys.argv[1:])
    parts = shares(flags.requests, flags.clients)
    began = time.monotonic()
    tally = run(flags.url, parts, flags.timeout)
    seconds = time.monotonic() - began
    asked = f"{flags.requests} requests by {len(parts)} clients to {flags.url.geturl()}"
    sys.stdout.write(f"{report(tally, asked, seconds)}\n")
    answered = tally.answers.total() + tally.failures.total()
    if answered < flags.requests:
        sys.stdout.write(f"{flags.requests - answered:8} not sent, stopped before the end\n")
        return 130
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
