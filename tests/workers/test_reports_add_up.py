"""Reports together: sums of what workers have counted, which never go back."""

import pytest
from house import House
from twisted.internet.defer import Deferred, succeed

from twisted_lb.core.measures import Beside, Measures
from twisted_lb.operating.elsewhere import Counted, SecondsElsewhere
from twisted_lb.testing import CLOSE, ScriptedBackend, response
from twisted_lb.workers.codec import dumped
from twisted_lb.workers.reports import Reports


class Workers:
    """Workers as reports see them: each has measures, and may be slow to tell."""

    def __init__(self) -> None:
        self.measures: dict[str, Measures] = {}
        self.asked = 0
        self.later: Deferred | None = None
        self.reports = Reports(self.ask)

    def ask(self, question, arguments):
        assert (question, arguments) == ("measures", {"exemplars": False})
        self.asked += 1
        told = {name: dumped((one, Beside())) for name, one in self.measures.items()}
        if self.later is None:
            return succeed(told)
        return self.later.addCallback(lambda _: told)

    def total(self) -> int:
        return sum(Counted(self.reports.measures).requests_by_route.values())


@pytest.fixture
def measured():
    """The measures of a worker that has answered so many requests."""

    def of(requests: int) -> Measures:
        house = House()
        backend = ScriptedBackend(house.network, "a:80", lambda _: (response(b"ok"), CLOSE))
        assert backend is not None
        for _ in range(requests):
            house.ask()
        found = house.plane.measures()
        house.close()
        return found

    return of


@pytest.fixture
def workers(measured):
    one = Workers()
    one.measures = {"a": measured(3), "b": measured(2)}
    one.reports.refresh()
    return one


def test_they_add_up(workers, measured):
    assert workers.total() == 5
    assert sum(one.connections_total for one in workers.reports.measures.listeners) == 5
    assert Counted(workers.reports.of("a")).requests_by_route == Counted(measured(3)).requests_by_route


def test_what_one_has_counted_that_has_ended_stays_counted(workers, measured):
    workers.measures = {"b": measured(4)}
    workers.reports.end("a")
    assert workers.total() == 5
    workers.reports.refresh()
    assert workers.total() == 7
    workers.measures["c"] = measured(1)
    workers.reports.refresh()
    assert workers.total() == 8
    workers.reports.end("b")
    workers.reports.end("b")
    assert workers.total() == 8


def test_nothing_of_it_is_there_any_more(workers):
    for name in ("a", "b"):
        workers.reports.end(name)
    measures = workers.reports.measures
    assert [(one.connections, one.handshaking, one.http2[0], one.http2[2]) for one in measures.listeners] == [
        (0, 0, 0, 0)
    ]
    [pool] = measures.pools
    assert (pool.in_flight, pool.queued) == (0, 0)
    assert {one.in_flight + one.idle_connections + one.busy_connections for one in pool.backends} == {0}
    assert sum(pool.outcomes) == 5


def test_checks_and_changes_of_state_are_those_of_the_parent(workers):
    for pool in workers.reports.measures.pools:
        for one in pool.backends:
            assert (one.checks_passed.count, one.checks_failed.count, one.changes, sum(one.ejections)) == (0, 0, (), 0)


def test_who_asks_meanwhile_gets_the_same_answers(workers):
    workers.asked, workers.later = 0, Deferred()
    fired: list[int] = []
    for number in range(3):
        workers.reports.refresh().addCallback(lambda _, number=number: fired.append(number))
    assert (workers.asked, fired) == (1, [])
    workers.later.callback(None)
    assert fired == [0, 1, 2]


def test_a_second_shows_what_was_added(workers, measured):
    seconds = SecondsElsewhere()
    first = seconds.sample(Counted(workers.reports.measures), {})
    assert (first.counts["ok", ""], first.latencies_ms) == (5, {})
    workers.measures["a"] = measured(9)
    workers.reports.refresh()
    second = seconds.sample(Counted(workers.reports.measures), {"in_flight": 0})
    assert second.counts["ok", ""] == 11
    assert second.latencies_ms["total.p50"] is not None
    assert second.levels["in_flight"] == 0
