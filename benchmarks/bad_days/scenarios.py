"""The scenarios in their full size, as docs/reliability.md tells them, and in a quick one to try them."""

import dataclasses
from collections.abc import Callable

from bad_days import bulk, clock, closers, crowds, faults, moves, returns, successions
from bad_days.recipes import Patience
from bad_days.results import Result

USUAL = Patience()
UNCHECKED = Patience(check_s=0)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One bad day, with the patience that everybody has. `full` and `quick` are what `run` takes; `memory` says what is meant by it, if it is measured.

    No patience: everybody as it comes. The figures of one with `cases` are a table of their own.
    """

    title: str
    what: str
    run: Callable[..., Result]
    full: dict
    quick: dict
    memory: str = ""
    needs: str | None = ""  # a program; None: it is not installed
    patience: Patience | None = USUAL
    cases: bool = False


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
    "away": Scenario(
        "The only backend is away",
        "`kill -9`, and its return after so long; one request each 0.5 s meanwhile, then one after the other, 20 ms apart, "
        "until the first good answer. A cell has the time from the return to that answer, and the errors from the return "
        "on. Each line has a proxy of its own.",
        returns.away,
        {"outages_s": (0, 3, 10, 40), "checks_s": (0, 2)},
        {"outages_s": (0, 3), "checks_s": (0, 2)},
        cases=True,
    ),
    "restarted": Scenario(
        "The only backend is restarted",
        "`kill -9` and back on its port 0.94 s later, three times, with one request each 0.1 s, on a new connection. A "
        "cell has the errors, the longest wait, and the times from each return to the first answer of the new process.",
        returns.restarted,
        {"checks_s": (0, 2, 10), "away_s": 0.94, "times": 3, "rest_s": 4},
        {"checks_s": (0, 2, 10), "away_s": 0.94, "times": 1, "rest_s": 0.5},
        cases=True,
    ),
    "closing POSTs": Scenario(
        "A backend closes just after it has answered, and POSTs",
        "3,000 POSTs, 16 at a time, to a backend that answers and then, without having said so, closes the connection: "
        "after 15 % of its answers or after each, so much later; without checks. Each POST comes on a new connection, "
        "where it does not say that clients keep them: then ten come on each. Errors, the mean of three runs on fresh "
        "processes. HAProxy is without `retry-on` here: with it a client's first request goes on a kept connection too.",
        closers.closers,
        {"habits": closers.POSTS, "requests": 3000, "at_a_time": 16, "runs": 3},
        {"habits": closers.POSTS, "requests": 300, "at_a_time": 16, "runs": 1},
        patience=dataclasses.replace(UNCHECKED, repeats=False),
        cases=True,
    ),
    "closing GETs": Scenario(
        "The same with GETs",
        "3,000 GETs, 16 at a time, ten on each connection: they may be sent twice. Errors, the mean of three runs.",
        closers.closers,
        {"habits": closers.GETS, "requests": 3000, "at_a_time": 16, "runs": 3},
        {"habits": closers.GETS, "requests": 300, "at_a_time": 16, "runs": 1},
        patience=UNCHECKED,
        cases=True,
    ),
    "clock": Scenario(
        "The wall clock steps by an hour",
        "What should happen, and whether it did, in how many seconds; by a library that is loaded before libc and steps "
        "the clock once all of it has begun. A head may take 2 s, a client be idle for 3 s, a backend answer in 5 s; the "
        "slow answers take 3 s, and checks that come every 0.5 s have to fail three times. The drain's time is from the "
        "last answer to the end of the process. Time to spare: 1.5 s.",
        clock.stepped,
        {"steps_s": (-clock.HOUR_S, clock.HOUR_S), "slow_s": 3},
        {"steps_s": (-clock.HOUR_S, clock.HOUR_S), "slow_s": 1},
        needs=clock.GCC,
        patience=Patience(head_s=2, keep_s=3, check_s=0.5),
        cases=True,
    ),
    "moved": Scenario(
        "A backend's name moves to another server",
        "While 8 clients ask, the name leads from one server to another at the same port; the old one lives on, and from "
        "when it has not been asked for 2 s, or after 20 s, it answers everything with status 500. Ours reads "
        "`/etc/hosts`, HAProxy and NGINX ask a name server (`resolvers` with `hold valid 1s`; `resolver`, a time to live "
        "of 1 s, and a variable in `proxy_pass`, for which NGINX opens a connection for each request): by themselves "
        "both ask only at their start.",
        moves.moved,
        {"patience_s": 20, "quiet_s": 2, "failing_s": 2},
        {"patience_s": 20, "quiet_s": 1, "failing_s": 0.5},
        needs="" if moves.hosts_can_move() else None,
    ),
    "frozen": Scenario(
        "A backend stands still, and nobody was told how long to wait",
        "`SIGSTOP` for one of three backends while 8 clients ask, everybody with its own defaults, HAProxy with "
        "`httpchk`, `check` and the timeouts of Debian's `haproxy.cfg`; after 15 s nobody asks any more, and those who wait get what they get.",
        faults.frozen,
        {"clients": 8, "seconds": 15},
        {"clients": 8, "seconds": 10},
        patience=None,
    ),
    "succeeded": Scenario(
        "200 takeovers under load",
        "A new process takes the listening sockets of the running one, which answers what it has and ends: `takeover`, "
        "HAProxy's `-x` and `-sf` with `option idle-close-on-response`, NGINX's `USR2` and `QUIT`. 200 times in a row while 16 clients ask, eight of them on "
        "new connections each time; errors are requests that were lost: refused, reset, cut.",
        successions.succeeded,
        {"times": 200, "meanwhile": 32},
        {"times": 3, "meanwhile": 32},
        patience=Patience(check_s=0.2),
    ),
}
