"""Reports: what workers have counted is counted once, whenever they end."""

from collections.abc import Hashable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from twisted_lb.core.measures import Beside, ListenerMeasures, Measures
from twisted_lb.workers.codec import dumped
from twisted_lb.workers.reports import Reports


def told(accepted: int) -> bytes:
    return dumped((Measures((ListenerMeasures("default", 0, accepted, (), (), ()),), ()), Beside()))


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
        self._waiting.pop(0).callback({name: told(count) for name, count in accepted.items()})

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


def test_what_a_worker_tells_at_its_end_is_news_and_what_it_has_answered_before_is_not():
    asked = Asked()
    asked.reports.refresh()
    asked.tell(first=3, other=4)
    asked.reports.refresh()
    asked.reports.last("first", told(9))
    asked.tell(first=5, other=4)
    assert asked.accepted == 13
    asked.reports.end("first")
    assert asked.accepted == 13


def test_what_cannot_be_read_at_the_end_of_a_worker_is_said_and_what_it_has_told_before_counts(logged_errors):
    asked = Asked()
    asked.reports.refresh()
    asked.tell(first=3)
    asked.reports.last("first", b"nothing")
    asked.reports.end("first")
    assert asked.accepted == 3
    assert len(logged_errors.take()) == 1


def test_the_next_program_goes_on_with_what_all_have_counted_whoever_has_ended_meanwhile():
    asked = Asked()
    asked.reports.refresh()
    asked.tell(gone=1, first=3, other=4)
    asked.reports.end("gone")
    own = Measures((ListenerMeasures("default", 0, 100, (), (), ()),), ())
    counted = asked.reports.hand_over(own, {11: "first", 12: "other", 13: "silent"})
    new = Asked()
    new.reports.recall(counted, {12: "other", 13: "silent"})
    assert new.accepted == 108
    new.reports.refresh()
    new.tell(other=6, silent=50)
    assert new.accepted == 160
    new.reports.end("other")
    assert new.accepted == 160


def test_counters_begin_anew_where_nobody_understands_what_was_counted():
    asked = Asked()
    asked.reports.recall(dumped(("something else",)), {})
    assert asked.accepted == 0
