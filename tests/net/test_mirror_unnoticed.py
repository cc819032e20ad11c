"""No client notices a mirror: the same story of clients and backends, from one seed, with one and without, is the same to the byte and
the moment. Clients leave, bodies break off, backends hang and reset on both sides, and mirrors come and go meanwhile.
"""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from doubled import Doubled
from some import some

from twisted_lb.self_check import broken
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, ScriptedClient, Wait, response
from twisted_lb.testing.backends import Action

LASTS_S = 30.0
SEEDS = 60
PIECES = b"4\r\nabcd\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Listening(ScriptedClient):
    """A client that remembers what it heard, and when."""

    def __init__(self, house: Doubled) -> None:
        self._clock = house.clock
        self.heard: list[tuple[float, bytes]] = []
        super().__init__(house.network, "lb:8080")

    def dataReceived(self, data: bytes) -> None:
        self.heard.append((self._clock.seconds(), data))
        super().dataReceived(data)


class Story:
    """One seed's clients and backends, in front of and behind a house with a mirror, or without one."""

    def __init__(self, seed: int, *, mirrored: bool) -> None:
        rng = Random(f"{seed}/what there is")
        self.rng = Random(f"{seed}/clients")
        self.seed = seed
        live = [f"{name}:80" for name in "abc"[: rng.randint(1, 3)]]
        following = ["m:80", "n:80"][: rng.randint(1, 2)]
        limited = rng.choice([0, 0, 1, 2])
        self.house = Doubled(
            seed=seed,
            live={
                "backends": live,
                "max_in_flight": limited,
                "queue": {"timeout_s": 3.0, "no_backend_s": rng.choice([0.0, 1.0])},
                "retry": {"bad_statuses": [503]},
                "buffer_request_bytes": rng.choice([0, 0, 64]),
            },
            following={"backends": following, "max_in_flight": rng.choice([0, 1]), "retry": {"bad_statuses": [503]}},
            route={"timeouts": {"response_head_s": 6.0, "response_idle_s": 4.0}},
            percent=rng.choice([100.0, 100.0, 60.0]),
            most=rng.choice([1, 3, 100]),
            body_bytes=rng.choice([10, 300, 65536]),
            timeout_s=rng.choice([1.0, 5.0, 200.0]),
        )
        refused = rng.choice([*live, *following, None, None])
        for address in [*live, *following]:
            if address != refused:
                self.house.backend(address, self._moods(Random(f"{seed}/{address}")))
        if not mirrored:
            self.house.without_mirror()
        elif rng.random() < 0.4:
            self.house.clock.callLater(rng.uniform(0, LASTS_S), self.house.without_mirror)
        elif rng.random() < 0.5:
            self.house.clock.callLater(rng.uniform(0, LASTS_S), self.house.change, percent=30.0, most=2)
        self.clients: list[Listening] = []
        for number in range(8):
            self.house.clock.callLater(self.rng.uniform(0, 10), self._come, Random(f"{seed}/client {number}"))
        self.left: list[str] = []

    def _moods(self, rng: Random) -> Any:
        def answer(request: bytes) -> Iterator[Action]:
            if request.startswith(b"HEAD"):
                yield response(b"")
                return
            wait = Wait(rng.choice([0.01, 0.3, 2.0]))
            yield from rng.choices(
                [
                    [response(b"hello")],
                    [wait, response(b"hello")],
                    [b"HTTP/1.1 102 Processing\r\n\r\n", wait, response(b"x" * 40_000)],
                    [response(b"", 503)],
                    [response(b"", 500)],
                    [STREAM, PIECES, wait, PIECES, Wait(1.0), b"0\r\n\r\n"],
                    [STREAM, PIECES, wait, RESET],
                    [wait, RESET],
                    [CLOSE],
                    [response(b"bye", 200, b"Connection: close"), CLOSE],
                    [NEVER_ANSWER],
                ],
                weights=[8, 8, 3, 3, 2, 3, 1, 2, 1, 2, 1],
            )[0]

        return answer

    # Clients.

    def _come(self, rng: Random) -> None:
        client = Listening(self.house)
        self.clients.append(client)
        self._say(client, rng, [piece for _ in range(rng.randint(1, 4)) for piece in self._request(rng)])
        if rng.random() < 0.3:
            self.house.clock.callLater(rng.uniform(0, 6), client.reset if rng.random() < 0.5 else client.close)

    def _say(self, client: Listening, rng: Random, pieces: list[bytes]) -> None:
        """Say a piece, and the others later; requests may come before the last one is answered."""
        if not pieces or client.lost is not None:
            return
        client.send(pieces[0])
        self.house.clock.callLater(rng.choice([0.0, 0.05, 1.0]), self._say, client, rng, pieces[1:])

    def _request(self, rng: Random) -> list[bytes]:
        kind = rng.choice(["GET", "HEAD", "POST", "PUT", "chunked", "broken"])
        head = f"/{kind}/{rng.randrange(100)} HTTP/1.1\r\nHost: x\r\n"
        if kind in ("GET", "HEAD"):
            return [f"{kind} {head}\r\n".encode()]
        pieces = [bytes(rng.randrange(256) for _ in range(rng.choice([1, 20, 200]))) for _ in range(rng.randint(1, 4))]
        if kind in ("chunked", "broken"):
            chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
            end = b"0\r\n\r\n" if kind == "chunked" else b"zz\r\n"
            return [f"POST {head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks, end]
        return [f"{kind} {head}Content-Length: {sum(map(len, pieces))}\r\n\r\n".encode(), *pieces]

    # What came of it.

    def told(self) -> tuple[list[Any], list[Any]]:
        """What clients heard, with its moments, and the records, once it is over and everything was cleared away."""
        house = self.house
        house.wait(LASTS_S)
        found = broken(house.plane.frontends.values(), house.plane.clusters.values())
        self.running = house.counted.running
        self.sent = house.counted.sent
        heard = [client.heard for client in self.clients]
        ends = [
            (
                one.target,
                one.status,
                str(one.ended_by),
                [(attempt.lease.backend.name, str(attempt.outcome)) for attempt in one.attempts],
                one.ended_at,
            )
            for one in house.records
        ]
        house.close()
        assert found == []
        return heard, ends


@pytest.mark.parametrize("seed", some(15, range(SEEDS)))
def test_it_is_the_same_story_with_a_mirror_and_without(seed):
    plain, mirrored = Story(seed, mirrored=False), Story(seed, mirrored=True)
    assert mirrored.told() == plain.told()
    assert plain.sent == 0
    assert mirrored.house.counted.running == 0
    assert not mirrored.house.next.mirrors


def test_such_stories_have_mirrors_of_every_end():
    sent, unsent, outcomes = 0, set(), set()
    for seed in range(20):
        story = Story(seed, mirrored=True)
        backends = list(story.house.next.pool.backends.values())
        story.told()
        sent += story.sent
        unsent |= set(story.house.unsent)
        outcomes |= {number for one in backends for number, count in enumerate(one.outcomes) if count}
    assert sent > 100
    assert unsent == {"BUSY", "TOO_LONG", "INCOMPLETE", "NO_PLACE"}
    assert len(outcomes) >= 6
