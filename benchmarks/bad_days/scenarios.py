"""The scenarios in their full size, as docs/reliability.md tells them, and in a quick one to try them."""

import dataclasses
from collections.abc import Callable

from bad_days import bulk, crowds, faults
from bad_days.recipes import Patience
from bad_days.results import Result

USUAL = Patience()


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One bad day, with the patience that everybody has. `full` and `quick` are what `run` takes; `memory` says what is meant by it, if it is measured."""

    title: str
    what: str
    run: Callable[..., Result]
    full: dict
    quick: dict
    memory: str = ""
    needs: str | None = ""  # a program; None: it is not installed
    patience: Patience = USUAL


SCENARIOS = {
    "killed": Scenario(
        "A backend is killed",
        "`kill -9` of one of three backends while 16 clients ask; it is started again on its port after 3,000 more "
        "answers, three times.",
        faults.killed,
        {"times": 3, "meanwhile": 3000},
        {"times": 1, "meanwhile": 100},
    ),
    "stopped": Scenario(
        "A backend stands still",
        "`SIGSTOP` for one of three backends while 16 clients ask: its kernel still accepts, and nothing is answered. "
        "`SIGCONT` once a client has waited as long as the proxy lets it, and 1,000 more answers came.",
        faults.stopped,
        {"meanwhile": 1000},
        {"meanwhile": 100},
    ),
    "full": Scenario(
        "A backend's listen queue is full",
        "One of three backends accepts nobody, its queue (backlog 0) is filled, its connections are closed, while 16 "
        "clients ask. It accepts again after a client has waited for a connect and 1,000 more answers came.",
        faults.full,
        {"meanwhile": 1000},
        {"meanwhile": 100},
    ),
    "closing": Scenario(
        "A backend closes idle connections as they are used",
        "Each backend closes a connection that was idle for 1 s; its one client sends 50 POSTs, each 0.5 to 1.5 s after "
        "the last answer; ten of these pairs side by side, 500 POSTs that nobody may send twice.",
        faults.closing,
        {"clients": 10, "posts": 50, "idle_s": 1.0},
        {"clients": 4, "posts": 6, "idle_s": 1.0},
    ),
    "closing from afar": Scenario(
        "The same, and the backend is 10 ms away",
        "What reaches it in the last 20 ms before its close arrives at the proxy is lost. On loopback alone the moment in "
        "which a close and a request cross is too short to be met.",
        faults.closing,
        {"clients": 10, "posts": 50, "idle_s": 1.0, "deaf_s": 0.02},
        {"clients": 4, "posts": 6, "idle_s": 1.0, "deaf_s": 0.02},
    ),
    "idle": Scenario(
        "5,000 idle connections",
        "5,000 keep-alive connections that were used once stay open; then four clients ask 2,000 times. (Here everybody "
        "waits 75 s for a piece of a body too: HAProxy has one timeout for both.)",
        crowds.idle,
        {"connections": 5000, "requests": 2000},
        {"connections": 500, "requests": 200},
        "per idle connection",
        patience=Patience(body_s=75),
    ),
    **{
        mode: Scenario(
            f"slowhttptest, {mode}",
            f"`slowhttptest {' '.join(crowds.MODES[mode])}` with {connections:,} connections for 30 s, while four clients ask.",
            crowds.slow,
            {"mode": mode, "connections": connections, "seconds": 30},
            {"mode": mode, "connections": 100, "seconds": 6},
            "growth",
            crowds.SLOWHTTPTEST,
        )
        # An answer of 1 MiB waits in the kernel's buffers, on either side of the proxy: more of them exhaust the kernel's memory for TCP, whoever the proxy is.
        for mode, connections in ((mode, 300 if mode == "slow read" else 1000) for mode in crowds.MODES)
    },
    "streamed": Scenario(
        "2 GiB down and 2 GiB up",
        "One answer and one upload of 2 GiB, every byte checked; the memory is the most that was seen meanwhile.",
        bulk.streamed,
        {"size": 2 << 30},
        {"size": 64 << 20},
        "growth",
    ),
}
