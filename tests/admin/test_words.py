"""The words of page, command line and log: how it is, and what follows from a change."""

import pytest
from views import backend, pool

from twisted_lb.admin.words import consequences, counted, duration, left, verdict


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3.0, "0 s"),
        (0.4, "0 s"),
        (41.0, "41 s"),
        (99.4, "99 s"),
        (100.0, "2 min"),
        (300.0, "5 min"),
        (99 * 60.0, "99 min"),
        (100 * 60.0, "2 h"),
        (47 * 3600.0, "47 h"),
        (48 * 3600.0, "2 d"),
        (6 * 86400.0, "6 d"),
    ],
)
def test_a_length_is_said_in_its_largest_unit(seconds, said):
    assert duration(seconds) == said


def test_one_is_singular_and_all_else_plural():
    assert [counted(n, "request") for n in (0, 1, 2)] == ["0 requests", "1 request", "2 requests"]


def test_what_is_left_names_only_what_there_is():
    assert [left(0, 0), left(1, 0), left(0, 2), left(4, 1)] == ["", "1 request", "2 tunnels", "4 requests and 1 tunnel"]


def judged(*pools, why_not=""):
    said = verdict(pools, ready=not why_not, why_not=why_not)
    return said.level, said.text


def test_nobody_has_asked_yet():
    two = pool(backend("app/b1"), backend("app/b2"))
    assert judged(two) == ("well", "Ready, and nobody has asked yet: 2 backends in 1 pool.")


def test_all_are_used():
    asked = pool(backend("app/b1", requests=3), backend("app/b2"))
    assert judged(asked) == ("well", "All 2 backends are used.")
    assert judged(pool(backend(requests=1))) == ("well", "The one backend is used.")


def test_a_backup_that_stands_by_is_not_used_and_all_is_well():
    two = pool(backend("app/b1", requests=3), backend("app/b2", state="standby"))
    assert judged(two) == ("well", "1 of 2 backends is used, 1 stands by.")


def test_without_a_pool_there_is_nothing_to_say_about_backends():
    assert judged() == ("well", "There is no pool; routes answer themselves.")


def test_who_is_not_used_is_counted_and_has_a_clause():
    down = backend("app/b2", usable=False, state="down", since_s=41.2, reason="check: 500")
    drained = backend("app/b3", usable=False, state="drained", since_s=300.0)
    said = verdict([pool(backend(), down, drained)], ready=True, why_not="")
    assert (said.level, said.text) == ("partly", "2 of 3 backends are not used; every pool answers.")
    assert [(one.subject, one.state, one.text) for one in said.clauses] == [
        ("app/b2", "down", "for 41 s, check: 500"),
        ("app/b3", "drained", "for 5 min"),
    ]
    assert judged(pool(backend(), down))[1] == "1 of 2 backends is not used; every pool answers."


@pytest.mark.parametrize("state", ["full", "slow start"])
def test_who_is_strained_has_a_clause_and_is_used(state):
    said = verdict([pool(backend(state=state, requests=1))], ready=True, why_not="")
    assert (said.level, [one.state for one in said.clauses]) == ("well", [state])


def test_pools_that_answer_nothing_are_named_before_all_else():
    gone = backend("api/a1", usable=False)
    assert judged(pool(backend()), pool(gone, name="api"), pool(name="none")) == (
        "failing",
        "api answers nothing: its one backend is not usable. none answers nothing: it has no backend.",
    )
    assert judged(pool(gone, gone, name="api"))[1] == "api answers nothing: none of its 2 backends is usable."


def test_a_pool_whose_first_checks_are_awaited_is_said_to_wait():
    new, down = backend("api/a1", usable=False, state="unknown"), backend("api/a2", usable=False, state="down")
    assert judged(pool(new, name="api")) == ("partly", "api waits for the first check of its backend.")
    assert judged(pool(new, new, name="api"))[1] == "api waits for the first check of its 2 backends."
    assert judged(pool(new, down, name="api")) == ("partly", "api waits for the first check of 1 of its 2 backends.")
    level, said = judged(pool(new, name="api"), pool(down))
    assert (level, said.endswith("app answers nothing: its one backend is not usable.")) == ("failing", True)


def test_not_ready_although_all_are_used_says_why():
    assert judged(pool(backend()), why_not="stopping") == ("partly", "Not ready: stopping.")


def four(**changed):
    return pool(*(backend(f"app/b{n}", **(changed if n == 1 else {})) for n in range(1, 5)))


def test_what_goes_on_who_is_left_and_what_they_get_more():
    of = four(in_flight=6, tunnels=2)
    assert consequences(of, of.backends[0]) == [
        "4 requests and 2 tunnels go on",
        "app keeps 3 of 4",
        "new load on the other three +33 %",
    ]


def test_one_request_goes_on_in_the_singular():
    of = pool(backend(in_flight=1), backend("app/b2"))
    assert consequences(of, of.backends[0]) == [
        "1 request goes on",
        "app keeps 1 of 2",
        "new load on the other +100 %",
    ]


def test_more_than_nine_others_are_not_counted_in_words():
    of = pool(*(backend(f"app/b{n}") for n in range(11)))
    assert consequences(of, of.backends[0])[-1] == "new load on the others +10 %"


def test_weights_say_how_much_more():
    of = pool(backend(weight_effective=3.0), backend("app/b2"), backend("app/b3"))
    assert consequences(of, of.backends[0])[-1] == "new load on the other two +150 %"


def test_who_gets_nothing_as_it_is_moves_nothing():
    of = four(usable=False, state="down", in_flight=1)
    assert consequences(of, of.backends[0]) == [
        "1 request goes on",
        "app/b1 gets no requests as it is (down); app keeps 3 of 4",
    ]


def test_the_last_one_says_what_every_request_would_get():
    of = pool(backend(), backend("app/b2", usable=False), rate=352.6)
    assert consequences(of, of.backends[0]) == [
        "app/b1 is the last usable backend of app; every request to app would be refused (353 a second now)"
    ]
    assert consequences(pool(backend()), backend())[-1].endswith("would be refused")
