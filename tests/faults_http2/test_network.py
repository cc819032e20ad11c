"""The fault network over HTTP/2: whole stories, one for each seed; one that fails is told with `scripts/faults h2 SEED`."""

from collections import Counter

import pytest
from faults_http2.story import NETWORK, complaints, report
from faults_http2.town import Town

SEEDS = 200
MANY = 5000
BLOCK = 250

# How often each of these comes about in these seeds at the least: half of what is measured, and less of what comes in crowds.
AT_LEAST = {
    "a connection": 200,
    "a request": 1200,
    "a stream that is reset by its client": 90,
    "a stream that is reset by us": 75,
    "an end": 900,
    "trailers": 45,
    "a GOAWAY": 110,
    "a client that leaves: close": 2,
    "a client that leaves: reset": 2,
    "a client that leaves: half-close": 2,
    "a client that leaves: stop reading": 2,
    "a client that leaves: goaway": 2,
    "a client that leaves: mute": 2,
    "a client that leaves: half a head": 2,
    "a town whose backends speak HTTP/2": 60,
    "a town whose backends speak HTTP/1.1": 60,
    "a town without sockets": 40,
    "a town that is drained": 22,
    "OK": 650,
    "CUT_SHORT": 55,
    "CLIENT_GONE": 145,
    "CLIENT_FAULT": 25,
    "NO_RESPONSE": 110,
    "BAD_RESPONSE": 80,
    "TIMED_OUT": 8,
    "UNPROCESSED": 20,
    "STALE_REUSE": 17,
    "CANCELLED": 1,
    "REFUSED": 12,
    "ALL_FULL": 60,
}


class Seen:
    """What has come about in the towns that were looked at."""

    def __init__(self) -> None:
        self.seeds: set[int] = set()
        self.count: Counter[str] = Counter()

    def look(self, town: Town) -> None:
        self.seeds.add(town.seed)
        count = self.count
        count[f"a town whose backends speak HTTP/{'2' if town.http2_backends else '1.1'}"] += 1
        count["a town without sockets"] += town.kernel is None
        count["a town that is drained"] += town.drained
        count["a connection"] += len(town.spoken)
        for record in town.records:
            count.update(attempt.outcome.name for attempt in record.attempts if attempt.outcome is not None)
            if record.ended_by is not None and (record.last is None or record.ended_by is not record.last.outcome):
                count[record.ended_by.name] += 1
        for client in town.clients:
            count[f"a client that leaves: {client.left}"] += 1
            count["a GOAWAY"] += bool(client.peer.went)
            for asking in client.askings:
                stream = asking.stream
                if stream is not None:
                    count["a request"] += 1
                    count["a stream that is reset by its client"] += stream.given_up is not None
                    count["a stream that is reset by us"] += stream.reset is not None
                    count["a client that is refused a stream"] += stream.reset == 7
                    count["an end"] += stream.heard_end
                    count["trailers"] += stream.trailers is not None


@pytest.fixture(scope="module")
def seen():
    return Seen()


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_stream_ends_in_one_way_and_nothing_is_left(seed, seen):
    found = complaints(seed, look=seen.look)
    assert not found, report(seed, found)


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, MANY, BLOCK))
def test_so_it_is_with_many_more_seeds(first):
    failed = NETWORK.failed_among(range(first, min(first + BLOCK, MANY)))
    assert not failed, failed


@pytest.mark.parametrize("seed", [2, 4, 44, 101])
def test_a_seed_is_told_again_word_for_word(seed):
    stories: list[list[str]] = []
    for _ in range(2):
        lines: list[str] = []
        Town(seed, lines.append).run()
        stories.append(lines)
    assert stories[0] == stories[1]
    assert len(stories[0]) > 5


def test_the_stories_have_everything_in_them(seen):
    for seed in set(range(SEEDS)) - seen.seeds:
        seen.look(Town(seed).run())
    seldom = {what: seen.count[what] for what, least in AT_LEAST.items() if seen.count[what] < least}
    assert not seldom
