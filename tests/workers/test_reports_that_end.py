"""Reports: what workers have counted is counted once, whenever they end."""

from collections.abc import Hashable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from twisted_lb.core.measures import Beside, ListenerMeasures, Measures
from twisted_lb.workers.codec import dumped
from twisted_lb.workers.reports import Reports


class Asked:
    """Reports whose questions are answered when a test says so."""

    def __init__(self) -> None:
        self.answers: dict[Hashable, bytes] = {}
        self._waiting: list[Deferred[dict[Hashable, bytes]]] = []
        self.reports = Reports(self._ask)

    def _ask(self, question: str, arguments: Mapping[str, Any]) -> "Deferred[dict[Hashable, bytes]]":
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def tell(self, **accepted: int) -> None:
        """These workers have accepted so many connections."""
        told: dict[Hashable, bytes] = {
            name: dumped((Measures((ListenerMeasures("default", 0, count, (), (), ()),), ()), Beside()))
            for name, count in accepted.items()
        }
        self._waiting.pop(0).callback(told)

    @property
    def accepted(self) -> int:
        return sum(one.connections_total for one in self.reports.measures.listeners)


def test_what_a_worker_has_counted_that_has_ended_stays_counted():
    asked = Asked()
    asked.reports.refresh()
    asked.tell(first=3, other=4)
    asked.reports.end("first")
    assert asked.accepted == 7
    asked.reports.refresh()
    asked.tell(other=5)
    assert asked.accepted == 8


def test_a_worker_that_answers_and_ends_while_others_are_still_asked_is_counted_once():
    asked = Asked()
    asked.reports.refresh()
    asked.tell(first=3, other=4)
    done = asked.reports.refresh()
    asked.reports.end("first")
    assert asked.accepted == 7
    asked.tell(first=5, other=4)
    assert done.called
    assert asked.accepted == 9
    asked.reports.refresh()
    asked.tell(other=4)
    assert asked.accepted == 9


def counted(accepted: int) -> bytes:
    return dumped((Measures((ListenerMeasures("default", 0, accepted, (), (), ()),), ()), Beside()))


def test_what_a_worker_tells_at_its_end_stays_counted():
    asked = Asked()
    asked.reports.refresh()
    asked.tell(first=3, other=4)
    asked.reports.hear_last("first", counted(8))
    assert asked.accepted == 12
    asked.reports.end("first")
    assert asked.accepted == 12
    asked.reports.refresh()
    asked.tell(other=5)
    assert asked.accepted == 13


def test_an_answer_that_is_read_behind_what_a_worker_told_at_its_end_is_older():
    asked = Asked()
    done = asked.reports.refresh()
    asked.reports.hear_last("first", counted(8))
    asked.reports.end("first")
    asked.tell(first=3, other=4)
    assert done.called
    assert asked.accepted == 12
    # Another one may be told apart by as much: nothing of the first is left.
    asked.reports.refresh()
    asked.tell(first=1, other=4)
    assert asked.accepted == 13
