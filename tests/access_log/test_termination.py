"""Termination states as HAProxy has them: each way in which a request can end, as it really ends in a balancer in memory."""

import dataclasses
import re
from types import SimpleNamespace

import pytest
from house import GET

from twisted_lb.access_log.termination import STATES, termination
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.backend import AdminState
from twisted_lb.core.outcome import Outcome, Refusal, Reply
from twisted_lb.core.record import Record
from twisted_lb.plan import plan_of
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, response

POST = b"POST /up HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OFFER = GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
HALF = response(b"0123456789")[:-4]
ONCE = {"more_attempts": 0}


def asked(*answer, request=GET, then=b"", leaves=None, wait=0.0, fails=None, hangs=False, admin=None, **options):
    """A request to a backend that answers like this, or to one that cannot be connected; its client says something more, or
    leaves after so many seconds.
    """

    def scene(build):
        house = build(**{"retry": ONCE, **options})
        if answer:
            house.backend("a:80", [list(answer)])
        if fails is not None:
            house.network.fail("a:80", fails)
        if hangs:
            house.network.hang("a:80")
        if admin:
            house.plane.command("default", "a:80", admin)
        client = house.ask(request)
        if then:
            house.ask(then, client)
        if leaves is not None:
            house.wait(leaves)
            client.reset()
            house.clock.settle()
        house.wait(wait)
        return house

    return scene


def waiting(*, leaves=False, stops=False):
    """A request that waits for three seconds until a backend has room, which never has."""

    def scene(build):
        house = build(queue={"timeout_s": 3.0})
        house.pool.configure(dataclasses.replace(house.pool.settings, max_in_flight=1), 1000.0)
        house.backend("a:80", [NEVER_ANSWER])
        house.ask()
        client = house.ask()
        house.wait(1)
        if leaves:
            client.reset()
        if stops:
            house.frontend.kill()
        house.wait(4)
        return house

    return scene


def unrouted(build):
    house = build()
    house.plane.apply(plan_of(LoadBalancerConfig(pools={"api": {"backends": ["b:80"]}}), house.plane.plan))
    house.ask()
    record = house.record
    house.plane.apply(plan_of(house.config(), house.plane.plan))
    return SimpleNamespace(record=record)


def stopped(*answer, hangs=False):
    """A request that a stop cuts."""

    def scene(build):
        house = asked(*answer, hangs=hangs)(build)
        house.frontend.kill()
        house.clock.settle()
        return house

    return scene


def slow_reader(build):
    """A client that takes nothing of a long answer."""
    house = build(timeouts={"response_idle_s": 2.0}, retry=ONCE)
    house.backend("a:80", [[response(b"x" * 3_000_000)]])
    client = house.client()
    client.transport.pauseProducing()
    house.ask(client=client)
    house.wait(10)
    return house


def limited(build):
    limits = [{"key": "client", "per_s": 1, "burst": 1}]
    house = build(defaults={"listener": {"rate_limits": limits}})
    house.backend()
    house.ask()
    house.ask()
    return house


SCENES = {
    "a plain answer": (asked(response(b"fine")), "--"),
    "an answer of a backend that is broken": (asked(response(b"broken", 500)), "--"),
    "a status that counts as a failure": (asked(response(b"", 503), retry={"bad_statuses": [503], **ONCE}), "--"),
    "a tunnel": (asked(SWITCH, CLOSE, request=OFFER), "--"),
    "refused": (asked(), "SC"),
    "no answer to the connect": (asked(hangs=True, timeouts={"connect_s": 2.0}, wait=3), "sC"),
    "a backlog that stays full": (asked(fails=Outcome.BACKLOG_FULL), "sC"),
    "no descriptors": (asked(fails=Outcome.LOCAL_FAILURE), "RC"),
    "no ports": (asked(fails=Outcome.NO_PORT), "RC"),
    "closed without an answer": (asked(CLOSE, request=POST + b"Content-Length: 0\r\n\r\n"), "SH"),
    "reset without an answer": (asked(RESET), "SH"),
    "no answer in time": (asked(NEVER_ANSWER, timeouts={"response_head_s": 2.0}, wait=3), "sH"),
    "no HTTP": (asked(b"SSH-2.0\r\n\r\n"), "PH"),
    "closed in the middle": (asked(HALF, CLOSE), "SD"),
    "silent in the middle": (asked(HALF, NEVER_ANSWER, timeouts={"response_idle_s": 2.0}, wait=3), "sD"),
    "its client leaves while it waits": (waiting(leaves=True), "CQ"),
    "its client leaves while it is connected": (asked(hangs=True, leaves=1), "CC"),
    "its client leaves before the answer": (asked(NEVER_ANSWER, leaves=1), "CH"),
    "its client leaves in the middle of the answer": (asked(HALF, NEVER_ANSWER, leaves=1), "CD"),
    "its client leaves a tunnel": (asked(SWITCH, NEVER_ANSWER, request=OFFER, leaves=1), "CD"),
    "its client takes nothing": (slow_reader, "cD"),
    "its client sends no more of a head": (asked(request=GET[:9], timeouts={"head_s": 2.0}, wait=3), "cR"),
    "its client sends no more of a body": (
        asked(NEVER_ANSWER, request=CHUNKED, then=b"1\r\ny\r\n", timeouts={"body_idle_s": 2.0}, wait=3), "cH",
    ),
    "its client breaks the body at once": (asked(request=CHUNKED + b"x\r\n"), "PR"),
    "its client breaks the body later": (asked(NEVER_ANSWER, request=CHUNKED, then=b"x\r\n"), "PH"),
    "its client breaks the body in the middle of the answer": (
        asked(HALF, NEVER_ANSWER, request=CHUNKED, then=b"1\r\ny\r\nx\r\n"), "PH",
    ),
    "a stop while it waits": (waiting(stops=True), "KQ"),
    "a stop while it is connected": (stopped(hangs=True), "KC"),
    "a stop before the answer": (stopped(NEVER_ANSWER), "KH"),
    "a stop in the middle of the answer": (stopped(HALF, NEVER_ANSWER), "KD"),
    "it waited too long": (waiting(), "sQ"),
    "nobody is there, and none waits": (asked(admin=AdminState.MAINT), "SC"),
    "no request": (asked(request=b"nonsense\r\n\r\n"), "PR"),
    "too long a head": (asked(request=GET[:-2] + b"A: " + b"x" * 5000 + b"\r\n\r\n", limits={"head_bytes": 1000}), "PR"),
    "too long a target": (asked(request=b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n"), "PR"),
    "too large a body": (asked(request=POST + b"Content-Length: 11\r\n\r\n", limits={"body_bytes": 10}), "PR"),
    "CONNECT": (asked(request=b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n"), "PR"),
    "another version": (asked(request=b"GET / HTTP/3.0\r\nHost: x\r\n\r\n"), "PR"),
    "no route": (unrouted, "PR"),
    "denied": (asked(routes=[{"path": "/", "deny": True}]), "PR"),
    "too many requests": (limited, "PR"),
    "an answer of its route": (asked(routes=[{"path": "/", "answer": {"status": 200}}]), "LR"),
    "a redirect": (asked(routes=[{"path": "/", "redirect": {"to": "/x"}}]), "LR"),
}  # fmt: skip


@pytest.mark.parametrize(("scene", "state"), SCENES.values(), ids=SCENES)
def test_a_state_says_who_ended_it_and_when(build, scene, state):
    house = scene(build)
    assert termination(house.record) == state


def test_every_way_to_end_has_a_state():
    assert set(STATES) == {*Outcome, *Refusal, *Reply}


def test_the_letters_are_those_that_haproxy_has():
    for state in STATES.values():
        assert re.fullmatch(r"--|[CSPLRIDKcs][RQCHDL?]", state), state


@pytest.mark.parametrize("outcome", [Outcome.STALE_REUSE, Outcome.UNPROCESSED, Outcome.BACKEND_DOWN])
def test_what_is_mostly_followed_by_another_attempt_has_one_too(outcome):
    record = Record(0.0)
    record.ended_by = outcome
    assert termination(record) == STATES[outcome]


def test_one_that_has_not_ended_has_none():
    assert termination(Record(0.0)) == "--"


def test_who_leaves_while_it_waits_for_another_backend_was_in_the_queue_and_not_slow(build):
    house = build("a:80", queue={"no_backend_s": 10.0})
    client = house.ask()
    house.wait(0.1)
    client.reset()
    house.clock.settle()
    assert house.record.ended_by is Outcome.CLIENT_GONE
    assert house.record.attempts[0].outcome is Outcome.REFUSED
    assert termination(house.record) == "CQ"
