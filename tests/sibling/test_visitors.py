"""The visitors of the demonstration, who come by the clock and are never too many."""

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from twisted_lb.sibling import visitors
from twisted_lb.sibling.visitors import MOST_AT_ONCE, PER_S, Visitors


class Asked:
    """Stands for the agent: every request is kept until it is answered."""

    waiting: list[tuple[bytes, Deferred]]

    def __init__(self, reactor, connectTimeout, pool) -> None:
        pass

    def request(self, method, url, headers):
        answer = Deferred()
        self.waiting.append((url, answer))
        return answer


@pytest.fixture
def come(monkeypatch):
    Asked.waiting = []
    monkeypatch.setattr(visitors, "Agent", Asked)
    monkeypatch.setattr(visitors, "readBody", lambda response: succeed(b"x"))
    reactor = MemoryReactorClock()
    service = Visitors("http://127.0.0.1:80/", reactor)
    service.startService()
    yield service, reactor
    service.stopService()
    for _, answer in Asked.waiting:
        if not answer.called:
            answer.callback(None)
    assert not reactor.getDelayedCalls()


def pass_time(service, reactor, seconds, answer=True):
    for _ in range(round(seconds / 0.05)):
        reactor.advance(0.05)
        for _, waiting in Asked.waiting if answer else ():
            if not waiting.called:
                waiting.callback(None)


def test_in_a_minute_as_many_come_as_are_meant_to(come):
    service, reactor = come
    pass_time(service, reactor, 60)
    assert service.answered == pytest.approx(60 * PER_S, abs=2)
    assert service.at_once == 0
    paths = {url.decode().partition("/?")[2] for url, _ in Asked.waiting}
    assert {"status=404", "delay=0.3", "size=200000"} <= paths


def test_where_nobody_answers_they_wait_and_give_up(come):
    service, reactor = come
    pass_time(service, reactor, 4, answer=False)
    assert service.at_once == MOST_AT_ONCE
    pass_time(service, reactor, 4, answer=False)
    assert service.failed > 0
    assert service.at_once <= MOST_AT_ONCE


def test_after_the_end_nobody_comes(come):
    service, reactor = come
    pass_time(service, reactor, 1)
    service.stopService()
    before = len(Asked.waiting)
    pass_time(service, reactor, 5)
    assert len(Asked.waiting) == before
