"""Drains under load: GOAWAY comes in two steps, so that no request is lost that was on its way (RFC 9113 6.8)."""

from random import Random

import pytest
from http2_client import Http2Town, RawClient, request
from some import some

from twisted_lb.testing import Chances
from twisted_lb.wire.http2.frames import DATA, END_STREAM, GOAWAY, STREAM_MOST


class Caller(RawClient):
    """A client that asks again and again, until it is told not to, on a connection whose bytes take their time."""

    def __init__(self, town: Http2Town, rng: Random) -> None:
        super().__init__(town)
        self._rng = rng
        self._clock = town.clock
        self.asked: list[int] = []
        self.stops = False
        self._ask()

    def _ask(self) -> None:
        self.take_what_is_here()
        if self.of(GOAWAY) or self.stops:
            return
        for _ in range(self._rng.randrange(3)):
            stream = 2 * len(self.asked) + 1
            self.asked.append(stream)
            self.scripted.send(request(stream))
        self._clock.callLater(self._rng.random() * 0.05, self._ask)

    @property
    def ended(self) -> set[int]:
        """Which streams were answered whole."""
        return {one[2] for one in self.heard if one[0] == DATA and one[1] & END_STREAM and one[2]}

    @property
    def last(self) -> list[int]:
        """The last streams of all GOAWAYs."""
        return [int.from_bytes(one[:4], "big") for one in self.of(GOAWAY)]


@pytest.mark.parametrize("how", ["drain", "request after request"])
@pytest.mark.parametrize("seed", some(20, range(100)))
def test_nothing_is_lost_whenever_a_drain_begins(seed, how):
    rng = Random(seed)
    listener = {"client_requests": 30} if how != "drain" else {}
    town = Http2Town(listener=listener, faults=Chances(delayed=0.7, longest_delay_s=0.04, split=0.3), seed=seed)
    callers = [Caller(town, rng) for _ in range(4)]
    town.clock.advance(0.2 + rng.random())
    if how == "drain":
        town.frontend.draining = True
        town.frontend.drain()
    town.clock.advance(6)
    for caller in callers:
        caller.take()
        assert caller.last[0] == STREAM_MOST, "first that others will follow"
        assert caller.last[-1] == max(caller.asked, default=0), "then the last one that came"
        assert caller.ended == set(caller.asked)
        assert caller.resets() == {}
        assert not caller.open
    assert not town.frontend.clients
    assert len(town.requests) == sum(len(caller.asked) for caller in callers)
