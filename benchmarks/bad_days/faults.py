"""One of several backends dies, stands still, does not accept, or closes connections while they are used."""

import contextlib
import random
import select
import signal
import socket
import time
from collections.abc import Iterator

from bad_days.load import Ask, Load, load
from bad_days.proxies import Contender
from bad_days.recipes import Patience
from bad_days.results import Result, result
from bad_days.stage import Backend, Stage

CLIENTS = 16
# So that some requests are always under way.
SOME_TIME = Ask(path="/?delay=0.02")


@contextlib.contextmanager
def under_load(
    stage: Stage, contender: Contender, patience: Patience | None, clients: int = CLIENTS
) -> Iterator[tuple[Backend, Load]]:
    """One of three backends, and what the clients see; all three have answered."""
    backends = stage.backends(3)
    proxy = contender.start(stage, [[one.address for one in backends]], patience)
    with load([proxy.port] * clients, SOME_TIME) as seen:
        for backend in backends:
            back_in_s(seen, backend)
        seen.wait_for_answers(100)  # they pay for retries, where those have a budget
        yield backends[0], seen


def back_in_s(seen: Load, backend: Backend) -> float:
    """Seconds until a client has an answer of this backend, from now on."""
    now = time.monotonic()
    first = seen.wait_for(
        f"{backend.name} answers", lambda answer: answer.backend == backend.name and answer.ended_at > now
    )
    return round(first.ended_at - now, 2)


def killed(stage: Stage, contender: Contender, patience: Patience, *, times: int, meanwhile: int) -> Result:
    """`kill -9`, and back after so many answers of the others."""
    back_s = []
    with under_load(stage, contender, patience) as (victim, seen):
        for _ in range(times):
            victim.process.kill()
            seen.wait_for_answers(meanwhile)
            victim.start()
            back_s.append(back_in_s(seen, victim))
    return result(seen, gap_s=round(seen.gap_s, 3), back_s=back_s)


def stopped(stage: Stage, contender: Contender, patience: Patience, *, meanwhile: int) -> Result:
    """SIGSTOP: connections stay, new ones are made by the kernel, and nothing is said any more."""
    with under_load(stage, contender, patience) as (victim, seen):
        victim.process.signal(signal.SIGSTOP)
        wait_for_patience(seen, patience.answer_s, meanwhile)
        victim.process.signal(signal.SIGCONT)
        back_s = [back_in_s(seen, victim)]
    return result(seen, gap_s=round(seen.gap_s, 3), back_s=back_s)


def frozen(stage: Stage, contender: Contender, patience: Patience | None, *, clients: int, seconds: float) -> Result:
    """SIGSTOP for good: after so many seconds no client asks any more, and the last of those who wait has its answer."""
    with under_load(stage, contender, patience, clients) as (victim, seen):
        victim.process.signal(signal.SIGSTOP)
        time.sleep(seconds)
    return result(seen, gap_s=round(seen.gap_s, 3))


def full(stage: Stage, contender: Contender, patience: Patience, *, meanwhile: int) -> Result:
    """A listen queue that is full: the kernel does not even answer a connect."""
    with under_load(stage, contender, patience) as (victim, seen):
        victim.order("full")
        with queue_filled(victim.port):
            victim.order("close")
            wait_for_patience(seen, patience.connect_s, meanwhile)
        victim.order("accept")
        back_s = [back_in_s(seen, victim)]
    return result(seen, gap_s=round(seen.gap_s, 3), back_s=back_s)


def wait_for_patience(seen: Load, patience_s: float, meanwhile: int) -> None:
    """Until a client has waited for the one that does not answer, and then so many answers more."""
    seen.wait_for("somebody waits", lambda answer: answer.took_s > patience_s / 2)
    seen.wait_for_answers(meanwhile)


@contextlib.contextmanager
def queue_filled(port: int) -> Iterator[None]:
    """Connections that nobody accepts, until the kernel takes no more."""
    with contextlib.ExitStack() as waiting:
        for _ in range(100):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            if not select.select([], [sock], [], 0.3)[1]:
                break
        else:
            raise RuntimeError("the listen queue never fills")
        yield


def closing(
    stage: Stage,
    contender: Contender,
    patience: Patience,
    *,
    clients: int,
    posts: int,
    idle_s: float,
    deaf_s: float = 0.0,
    first: float = 0.0,
) -> Result:
    """Backends that close idle connections, just as a POST comes that nobody may send twice.

    Each client has a backend of its own, or its connections would never be idle. `first` is the first pause in parts of
    `idle_s`, at random if left out: after a longer one the backend's habit can be known.
    """
    options = ["--idle-s", str(idle_s), "--deaf-s", str(deaf_s)]
    groups = [[stage.backend(f"b{n}", *options).address] for n in range(clients)]
    proxy = contender.start(stage, groups, patience)

    begun: set[random.Random] = set()

    def pause_s(rng: random.Random) -> float:
        part = first if first and rng not in begun else rng.uniform(0.5, 1.5)
        begun.add(rng)
        return part * idle_s

    with load(proxy.ports, Ask("POST", "/", b"once"), pause_s, posts) as seen:
        seen.join()
    return result(seen)
