"""Reports of workers as one: what adds up does, what each sees of all is not counted twice, and what has ended stays counted."""

import dataclasses
from collections.abc import Hashable, Mapping
from typing import Any

import pytest
from operated import Operated, at_once
from twisted.internet.defer import Deferred, succeed

from twisted_lb.core.exemplars import Exemplar
from twisted_lb.core.histogram import Histogram
from twisted_lb.core.measures import Beside, Measures
from twisted_lb.workers.codec import dumped
from twisted_lb.workers.reports import Reports

EXEMPLAR = Exemplar("1", "app", "b", "2xx", 1.0, 0.1, 0.1, 0.1)


class Told:
    """What workers tell when they are asked, by who they are."""

    def __init__(self) -> None:
        self.of: dict[Hashable, tuple[Measures, Beside]] = {}
        self.reports = Reports(self.ask)

    def ask(self, question: str, arguments: Mapping[str, Any]) -> "Deferred[dict[Hashable, bytes]]":
        assert question == "measures"
        return succeed(
            {
                whose: dumped((dataclasses.replace(one, exemplars=(EXEMPLAR,) * arguments["exemplars"]), beside))
                for whose, (one, beside) in self.of.items()
            }
        )

    def refresh(self, *, exemplars: bool = False) -> None:
        assert at_once(self.reports.refresh(exemplars=exemplars)) is None


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def measures():
    """What a data plane has counted that has had a request."""
    one = Operated("b:80")
    one.backend("b:80")
    one.ask()
    yield one.plane.measures()
    one.close()


def lag(*seconds: float) -> Any:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    return histogram.reading()


def beside(dropped: int, held: int = 0, *lags: float) -> Beside:
    return Beside((("log_dropped_total", dropped), ("buffered_bytes", held)), lag(*lags))


def now(measures: Measures, in_flight: int, load: float) -> Measures:
    """With so many requests in flight at its backend, and that load."""
    [pool] = measures.pools
    [backend] = pool.backends
    backend = dataclasses.replace(backend, in_flight=in_flight, load=load)
    return dataclasses.replace(measures, pools=(dataclasses.replace(pool, backends=(backend,)),))


def the_backend(measures: Measures) -> Any:
    [pool] = measures.pools
    [backend] = pool.backends
    return backend


def test_requests_in_flight_add_up_and_load_is_of_all_of_them(told, measures):
    # Each of the two has one in flight there, and compares what both have.
    told.of = {1: (now(measures, 1, 2.0), Beside()), 2: (now(measures, 1, 2.0), Beside())}
    told.refresh()
    backend = the_backend(told.reports.measures)
    assert (backend.in_flight, backend.load) == (2, 2.0)


def test_who_has_ended_has_no_load(told, measures):
    told.of = {1: (now(measures, 1, 2.0), Beside())}
    told.refresh()
    told.reports.end(1)
    backend = the_backend(told.reports.measures)
    assert (backend.in_flight, backend.load) == (0, 0.0)


def test_what_is_counted_beside_adds_up_and_stays_when_a_worker_has_ended(told, measures):
    told.of = {1: (measures, beside(3, 100, 0.5)), 2: (measures, beside(4, 50, 0.1, 0.2))}
    told.refresh()
    assert dict(told.reports.beside.counters) == {"log_dropped_total": 7, "buffered_bytes": 150}
    assert told.reports.beside.loop_lag.count == 3
    told.reports.end(1)
    # What it held it holds no more.
    assert dict(told.reports.beside.counters) == {"log_dropped_total": 7, "buffered_bytes": 50}
    assert told.reports.beside.loop_lag.count == 3


def test_exemplars_are_told_when_they_are_wanted(told, measures):
    told.of = {1: (measures, Beside()), 2: (measures, Beside())}
    told.refresh(exemplars=True)
    assert told.reports.measures.exemplars == (EXEMPLAR, EXEMPLAR)
    told.refresh()
    assert told.reports.measures.exemplars == ()
