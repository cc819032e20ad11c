"""The fault network: whole stories of a balancer, its clients and its backends in a bad network, one for each seed.

What is wrong with one is said by the oracle. A seed that fails is told with `scripts/faults SEED`.
"""

import re
from collections import Counter

import pytest
from faults.happenings import happenings
from faults.story import NETWORK, complaints, report
from faults.timing import Hours
from faults.town import WALL_CLOCK, Town
from some import some

SEEDS = 200
MANY = 20_000
BLOCK = 500


# Towns in which clients speak TLS, backends do, or both; one with TLS 1.2.
OVER_TLS = [0, 16, 38, 73]


# How often each of these comes about at the least; it is about twice as often today.
AT_LEAST = {
    # Backends come and go.
    "the operator adds": 15,
    "the operator takes back": 12,
    "the operator removes": 20,
    "the operator moves": 10,
    "the operator replaces": 15,
    "the operator weighs": 15,
    "a newcomer is asked": 40,
    "a newcomer under an old name is asked": 15,
    "somebody who comes back is asked": 15,
    "somebody goes who serves": 12,
    "somebody goes with idle connections": 8,
    "the operator has a list that flaps": 1,
    # Routes.
    "a request is led by a route": 250,
    # Names move.
    "the operator lets the name mean somebody else": 160,
    "the operator sees the name go from 1 to 1": 20,
    "the operator sees the name go from 1 to 2": 6,
    "the operator sees the name go from 2 to 1": 6,
    "the operator sees the name go from 2 to 2": 26,
    "an endpoint is back": 8,
    # Other settings.
    "the operator changes settings": 60,
    "settings change while a request runs": 30,
    # Reloads of what is beside.
    "the operator reloads": 150,
    # Stops in the middle.
    "the operator has stopped it": 30,
    "the operator is in a hurry": 4,
    "a client is refused at a stop": 30,
    "a connection is idle at a stop": 12,
    "an idle connection asks at a stop": 5,
    "a request ends well during a stop": 10,
    "a request is cut by a stop": 8,
    # Clocks, and the process.
    "the wall clock steps": 100,
    "a process is embedded": 25,
    "a process is own": 25,
    "the process is held": 15,
    "a request runs while the process is held": 8,
    # Backends that freeze, close without a word, or are the only one; connects that fail.
    "a backend freezes": 40,
    "a backend closes behind its answer": 20,
    "the only backend goes down, checked": 20,
    "the only backend goes down, not checked": 6,
    "the only backend goes down, and requests may wait": 20,
    "a request waits in the queue": 12,
    "a request goes where it is bound": 40,
    "a request has to leave where it is bound": 4,
    "a connect is REFUSED": 20,
    "a connect is CONNECT_TIMEOUT": 5,
    "a connect is LOCAL_FAILURE": 3,
    "a connect is NO_PORT": 2,
    "a connect meets a full backlog": 30,
    # Backends that serve badly.
    "somebody is taken out: CONSECUTIVE_FAILURES": 3,
    "somebody is taken out: FAILURE_PERCENT": 3,
    "somebody is taken out: SUCCESS_RATE": 1,
    "who was taken out is back": 3,
    "somebody is not taken out, since others are": 12,
    # Mirrors.
    "a request is mirrored": 40,
    "a mirrored request fails": 10,
    "a request that is to be mirrored is not": 10,
    # The queue.
    "a request waits for a place": 45,
    "who is more urgent goes past": 6,
    "another lane has its turn": 2,
    "a request is too late": 24,
    "a backend answers for nobody": 6,
    # Logins on connections.
    "a client may be logged in": 60,
    "a request comes where its client may be logged in": 15,
    # Hedges, and waits before retries.
    "a hedge: WON": 6,
    "a hedge: LOST": 3,
    "a hedge: FAILED": 2,
    "a hedge: NO_ROOM": 15,
    "a hedge: NO_BUDGET": 15,
    "a request waits before it is tried again": 5,
    # TLS, and the PROXY protocol.
    "a client's handshake is over": 50,
    "a client's handshake resumes a session": 12,
    "a client's handshake takes too long": 1,
    "a client leaves in its handshake": 1,
    "a handshake with a backend is over": 150,
    "a handshake with a backend fails": 8,
    "a handshake with a backend takes too long": 1,
    "a backend shows another authority": 8,
    "a backend shows expired": 8,
    "a backend shows another name": 8,
    "a connection over TLS is cut by a FIN": 15,
    "a client is introduced": 30,
    "a client is introduced to a backend": 50,
    # Inside twisted.web.
    "a resource gets an upload": 70,
    "a resource's request is OK": 100,
    "a resource's request is refused": 15,
    "a resource's request is CUT_SHORT": 6,
    "a resource's request is NO_RESPONSE": 8,
    "a resource's request is CLIENT_GONE": 1,
    "a resource's request is CANCELLED": 2,
}


class Seen:
    """What came about in the stories."""

    def __init__(self) -> None:
        self.seeds: set[int] = set()
        self.outcomes: set[str] = set()
        self.statuses: set[int] = set()
        self.faults: set[str] = set()
        self.happenings: Counter[str] = Counter()

    def look(self, town: Town) -> None:
        self.seeds.add(town.seed)
        self.outcomes.update(record.outcome for record in town.records)
        self.statuses.update(record.status for record in town.records)
        self.faults.update(fault.what for fault in town.faults.happened)
        self.happenings += happenings(town)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_request_ends_in_one_way_and_nothing_is_left(seed, seen):
    found = complaints(seed, look=seen.look)
    assert not found, report(seed, found)


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, MANY, BLOCK))
def test_so_it_is_with_many_more_seeds(first):
    failed = NETWORK.failed_among(range(first, min(first + BLOCK, MANY)))
    assert not failed, failed


@pytest.mark.parametrize("seed", [2, 44, 101, *OVER_TLS])
def test_a_seed_is_told_again_word_for_word(seed):
    first: list[str] = []
    second: list[str] = []
    Town(seed, first.append).run()
    Town(seed, second.append).run()
    assert first == second
    assert len(first) > 20


STEPPING = [seed for seed in range(60) if Hours(seed, sockets=True, web=False).steps]


@pytest.mark.parametrize("seed", some(8, STEPPING))
def test_a_step_of_the_wall_clock_changes_no_story(seed):
    """Word for word, whether it steps, by seconds or an hour, or does not."""
    stories: list[list[str]] = []
    for steps in (True, False):
        lines: list[str] = []
        Town(seed, lines.append, steps=steps).run()
        # A Date may be cut anywhere.
        masked = [re.sub(r"(?<=b').*(?=')", lambda text: re.sub(r"\d", "#", text[0]), line) for line in lines]
        stories.append([line for line in masked if WALL_CLOCK not in line])
    assert stories[0] == stories[1]
    assert len(stories[0]) > 20


@pytest.mark.parametrize("seed", OVER_TLS)
def test_these_speak_tls(seed):
    securing = Town(seed).securing
    assert securing.clients or securing.backends


def test_the_stories_have_everything_in_them(seen):
    """Each outcome, each fault, each kind of answer and all that an operator does come about within the fixed seeds."""
    for seed in set(range(SEEDS)) - seen.seeds:
        seen.look(Town(seed).run())
    assert seen.outcomes >= {
        "",
        "OK",
        "REFUSED",
        "CONNECT_TIMEOUT",
        "LOCAL_FAILURE",
        "NO_PORT",
        "STALE_REUSE",
        "NO_RESPONSE",
        "BAD_RESPONSE",
        "TIMED_OUT",
        "CUT_SHORT",
        "CLIENT_GONE",
        "CLIENT_FAULT",
        "CANCELLED",
    }
    assert seen.statuses >= {0, 101, 200, 204, 304, 404, 500, 502, 503, 504}
    connects = {"refused", "connect_timeout", "local_failure", "no_port"}
    assert seen.faults >= connects | {"reset", "closed", "half-closed", "stalled"}
    seldom = {what: seen.happenings[what] for what, least in AT_LEAST.items() if seen.happenings[what] < least}
    assert not seldom
