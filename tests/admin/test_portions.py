"""Portions: thousands of backends are looked at a bit at a turn, and what is told of them is the same as at once; all of it is linear."""

import json
from dataclasses import asdict

import pytest
from operated import ALICE, DRAIN, Operated
from watched import backend, pool
from work import is_linear, lines_of

from twisted_lb.admin.as_json import as_json, plain
from twisted_lb.admin.feed import changed, shown
from twisted_lb.admin.metrics import metrics_text
from twisted_lb.admin.operator import Command
from twisted_lb.admin.page_tables import parts
from twisted_lb.core.backend import AdminState
from twisted_lb.portions import AT_ONCE, Portions, whole
from twisted_lb.testing import HeapClock


@pytest.fixture
def clock():
    return HeapClock(1000.0)


@pytest.fixture
def operate():
    """Makes balancers of so many backends, two minutes old."""
    made = []

    def one(count, **more):
        made.append(Operated(*(f"b{number}:80" for number in range(count)), **more))
        made[-1].wait(120)
        return made[-1]

    yield one
    for operated in made:
        operated.close()


def counting(until, log):
    for number in range(until):
        log.append(number)
        yield
    return "made"


def test_what_needs_no_second_portion_is_there_at_once(clock):
    def nothing_long():
        return "made"
        yield

    found = []
    Portions(clock).make(nothing_long()).addCallback(found.append)
    assert found == ["made"]
    assert clock.getDelayedCalls() == []


def test_what_needs_more_is_made_in_turns_and_others_have_theirs_between(clock):
    log, found = [], []
    Portions(clock).make(counting(3, log)).addCallback(found.append)
    assert (log, found) == ([0], [])
    clock.settle()
    assert (log, found) == ([0, 1, 2], ["made"])


@pytest.mark.parametrize("good", [0, 2])
def test_what_goes_wrong_in_any_portion_is_told(clock, good):
    def blown():
        yield from counting(good, [])
        raise ZeroDivisionError

    failed = []
    Portions(clock).make(blown()).addErrback(lambda failure: failed.append(failure.type))
    clock.settle()
    assert failed == [ZeroDivisionError]


def many(count, name="app"):
    return pool(*(backend(f"b{number}", name, labels={"zone": "ä"}) for number in range(count)), name=name)


@pytest.mark.parametrize("pools", [[], [many(0)], [many(3), many(1, "b")], [many(AT_ONCE * 2 + 1), many(AT_ONCE, "b")]])
def test_as_json_a_view_is_what_it_is_made_of_however_many_portions_it_takes(pools):
    answer = {"pools": pools, "warnings": ["a", "b"], "file": None, "changes": {}, "n": 1.5}
    text = whole(as_json(answer)).decode()
    assert text == json.dumps({**answer, "pools": [asdict(one) for one in pools]}, ensure_ascii=False)


def test_an_answer_of_thousands_takes_a_portion_for_each_hundred():
    making = as_json({"pools": [many(5 * AT_ONCE)]})
    assert sum(1 for _ in making) == 5


def test_what_is_no_view_is_no_json_and_nothing_plain():
    with pytest.raises(TypeError, match="is no view"):
        whole(as_json({"admin": AdminState.READY}))
    with pytest.raises(TypeError, match="is no view"):
        plain(AdminState.READY)


def test_plain_values_are_those_of_asdict_and_nobody_elses():
    one = many(2)
    found = plain(one)
    assert found == json.loads(json.dumps(asdict(one)))
    found["backends"][0]["labels"]["zone"] = "b"
    assert one.backends[0].labels == {"zone": "ä"}


# With many backends.


def test_a_look_at_hundreds_is_what_it_is_at_once_and_takes_several_turns(operate):
    one, found = operate(2 * AT_ONCE + 10), []
    one.operating.look().addCallback(found.append)
    assert found == []
    one.clock.settle()
    assert found == [one.operating.snapshot()]


def test_what_is_changed_during_a_look_is_seen_with_its_etag(operate):
    one, found = operate(2 * AT_ONCE), []
    one.operating.look().addCallback(found.append)
    one.operating.command(Command("app", "b0:80", DRAIN), ALICE)
    one.clock.settle()
    [snapshot] = found
    assert (snapshot.etag, snapshot.backend("app/b0:80").state) == (one.operating.etag, "drained")


def test_a_pool_that_is_removed_during_a_look_is_no_bug(operate):
    one, found = operate(2 * AT_ONCE), []
    one.operating.look().addCallback(found.append)
    one.operating.remove("app", "b199:80", ALICE)
    one.clock.settle()
    assert len(found[0].pools[0].backends) == 2 * AT_ONCE - 1


@pytest.mark.parametrize(
    "what",
    [
        lambda one: one.operating.snapshot(),
        lambda one: one.operating.measures(),
        lambda one: one.operating.sample(),
        lambda one: one.operating.config(),
        lambda one: one.operating.backends_called("app", "b7:80"),
        lambda one: one.operating.command(Command("app", "b7:80", DRAIN), ALICE, dry_run=True),
        lambda one: one.wait(10),
        lambda one: metrics_text(*one.operating.measures()),
    ],
    ids=["snapshot", "measures", "sample", "config", "one backend", "drain", "ten seconds", "metrics"],
)
def test_what_an_operator_sees_costs_as_much_for_each_backend_however_many_there_are(operate, what):
    def work(count):
        one = operate(count)
        what(one)  # what is found out once
        return lines_of(lambda: what(one))

    assert is_linear(work)


def test_so_do_the_page_and_what_it_is_told_of_changes(operate):
    def work(count):
        one = operate(count)
        for number in range(count):
            one.operating.command(Command("app", f"b{number}:80", DRAIN, force=True), ALICE)
        snapshot = one.operating.snapshot()
        before = whole(shown(snapshot))

        def look():
            now = whole(shown(snapshot))
            changed(before, now)
            events = [vars(event) for event in one.operating.events(0)]
            whole(parts({"status": now, "requests": [], "events": events, "config": []}))
            whole(as_json(vars(snapshot)))

        return lines_of(look)

    assert is_linear(work)
