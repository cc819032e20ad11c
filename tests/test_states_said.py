"""How each state of a backend is said, by verdict, `lbctl` and page: no word twice, none missing."""

import re
from dataclasses import asdict

import pytest
from operated import ALICE, DRAIN, GET, MAINT, READY, Operated

from twisted_lb.admin.operator import Actor, Command
from twisted_lb.admin.readiness import Verdict
from twisted_lb.admin.words import is_so
from twisted_lb.ctl.backends import why
from twisted_lb.testing import response
from twisted_lb.testing.backends import NEVER_ANSWER

BOB = Actor("bob")
CHECKED = {"path": "/h", "interval_s": 1.0}


def command(operated, admin=None, actor=ALICE, **more):
    operated.operating.command(Command("app", "a:80", admin, force=True, **more), actor)


def plain(*steps, checked=None, **options):
    """A balancer with two backends of which the first is brought into a state by these steps."""
    pool = {"backends": ["a:80", "b:80"], "health_check": checked or {"interval_s": 0.0}}
    operated = Operated(pools={"app": pool}, **options)
    operated.backend("b:80", *[[response()] * 20])
    for step in steps:
        step(operated)
    return operated


def wanted(admin, actor=ALICE):
    return lambda operated: command(operated, admin, actor)


def weighed(weight, actor=ALICE):
    return lambda operated: command(operated, actor=actor, weight=weight)


def waited(seconds):
    return lambda operated: operated.wait(seconds)


def asked(times=2):
    return lambda operated: [operated.ask(GET) for _ in range(times)]


def busy(operated):
    operated.backend("a:80", [NEVER_ANSWER] * 3)
    for _ in range(2):
        operated.ask(GET)


def restarting(operated):
    operated.plane.command("app", "a:80", DRAIN)  # as a state file has it: nobody knows who it was


def agent(line):
    return lambda operated: operated.plane.clusters["app"].hear_agent("a:80", line)


def overloaded(operated):
    operated.plane.clusters["app"].hear_busy("a:80", True, "status 429, which means busy")


HEARD = {**CHECKED, "agent": "header", "busy_statuses": [429]}
INITIALLY_DOWN = {**CHECKED, "initial": "down"}
STATES = {
    "ready": ([asked()], {}, ""),
    "drained": ([wanted(DRAIN), waited(41)], {}, "drained for 41 s, alice: “deploy”"),
    "drained without a reason": ([wanted(DRAIN, BOB)], {}, "drained for 0 s, bob"),
    "drained by nobody": ([restarting], {}, "drained for 0 s"),
    "drained with requests": ([busy, wanted(DRAIN)], {}, "drained for 0 s, alice: “deploy”; 1 request left"),
    "drained by nobody with requests": ([busy, restarting], {}, "drained for 0 s, 1 request left"),
    "maint": ([wanted(MAINT), waited(300)], {}, "maint for 5 min, alice: “deploy”"),
    "weight 0": ([weighed(0), waited(7)], {}, "weight 0 for 7 s, alice: “deploy”"),
    "weight 0 and drained": ([weighed(0), wanted(DRAIN, BOB)], {}, "drained for 0 s, bob; also weight 0"),
    "down": ([waited(4)], {"checked": CHECKED}, "down for 4 s, check: connection refused, 4 times"),
    "down and drained": (
        [waited(4), wanted(DRAIN)],
        {"checked": CHECKED},
        "drained for 0 s, alice: “deploy”; also down (check: connection refused, 4 times)",
    ),
    "unknown": ([], {"checked": INITIALLY_DOWN}, "unknown for 0 s"),
    "unknown and maint": ([wanted(MAINT)], {"checked": INITIALLY_DOWN}, "maint for 0 s, alice: “deploy”; also not checked yet"),
    "ejected": ([asked()], {}, "ejected for 0 s, connection refused; back in 1 s"),
    "ejected on trial": ([asked(), waited(2)], {}, "ejected for 2 s, connection refused; on trial"),
    "ejected and maint": (
        [asked(), wanted(MAINT)],
        {},
        "maint for 0 s, alice: “deploy”; also ejected (connection refused; back in 1 s)",
    ),
    "ejected and limited": (
        [asked(), waited(0.5), lambda operated: command(operated, limit=4, weight=3)],
        {},
        "ejected for 0 s, connection refused; on trial",
    ),
    "drained by its agent": (
        [agent(b"drain 50% # deploy")],
        {"checked": HEARD},
        "drained by its agent for 0 s, drain 50%: deploy",
    ),
    "in maintenance by its agent": ([agent(b"maint")], {"checked": HEARD}, "in maintenance by its agent for 0 s, maint"),
    "down by its agent": ([agent(b"stopped")], {"checked": HEARD}, "down by its agent for 0 s, stopped"),
    "drained by both": (
        [agent(b"drain"), wanted(DRAIN)],
        {"checked": HEARD},
        "drained for 0 s, alice: “deploy”; also drained by its agent (drain)",
    ),
    "busy": ([overloaded], {"checked": HEARD}, "busy for 0 s, status 429, which means busy"),
    "full": ([lambda operated: command(operated, limit=1), busy], {}, "full 1 of 1 in flight"),
    "ready again": ([wanted(DRAIN), wanted(READY), lambda operated: operated.backend("a:80")], {}, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES)
def test_each_state_is_said_in_a_sentence(case):
    steps, options, said = STATES[case]
    if case == "ready":
        steps = [lambda operated: operated.backend("a:80"), *steps]
    operated = plain(*steps, **options)
    try:
        snapshot = operated.operating.snapshot()
    finally:
        operated.close()
    clauses = [one for one in snapshot.verdict.clauses if one.subject == "app/a:80"]
    assert [f"{one.state} {one.text}" for one in clauses] == ([said] if said else [])
    view = snapshot.backend("app/a:80")
    assert (view.state, bool(said)) == (
        said.partition(" for ")[0].partition(" 1 of ")[0] or "ready",
        view.state != "ready",
    )
    for clause in clauses:
        for sentence in (
            f"{clause.subject} {is_so(clause.state)} ({clause.text})",
            f"{clause.state} {clause.text}",
            f"{clause.state}: {why(asdict(view)) or 'nobody said why'}",
            snapshot.verdict.text,
        ):
            assert re.search(r"\b(\w+):? \1\b|  |[,;:] ?[,;:]|\( ?\)|[,;] ?\)|[ ,;:(]$", sentence) is None, sentence


@pytest.mark.parametrize(
    ("ready_text", "said"),
    [
        ("stopping", "Not ready: stopping."),
        ("starting, no check yet of a:80", "Not ready: starting, no check yet of a:80."),
    ],
)
def test_that_it_is_not_ready_is_said_once(ready_text, said):
    operated = plain()
    try:
        operated.owner.verdict = Verdict(False, f"not ready: {ready_text}\nmore\n")
        snapshot = operated.operating.snapshot()
    finally:
        operated.close()
    assert (snapshot.ready_text, snapshot.verdict.text) == (ready_text, said)
