"""What is changed at run time, and until when it wins over the file."""

import json
from dataclasses import replace

import pytest
from builders import specs

from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.overlay import Overlay

FILE = tuple(specs("a:1", "b:1,weight=3"))


def overlay(*, weight: int | None = None) -> Overlay:
    one = Overlay()
    if weight is not None:
        one.weigh("p", "b:1", weight, FILE)
    return one


def said(backends) -> list[tuple[str, int]]:
    return [(one.name, one.weight) for one in backends]


def test_without_changes_the_file_holds():
    assert Overlay().over("p", FILE) == list(FILE)
    assert (Overlay().lines(), Overlay().source("p", "a:1", "weight")) == ([], "")


def test_a_weight_wins_over_the_file():
    one = overlay(weight=0)
    assert said(one.over("p", FILE)) == [("a:1", 1), ("b:1", 0)]
    assert (one.source("p", "b:1", "weight"), one.source("p", "a:1", "weight")) == ("runtime", "")
    assert one.lines() == ["weight 0 of b:1 in p"]


def test_a_weight_wins_as_long_as_the_file_says_what_it_said():
    left, dropped = overlay(weight=7).followed({"p": specs("b:1,weight=3", "c:1")})
    assert (said(left.over("p", specs("b:1,weight=3"))), dropped) == ([("b:1", 7)], [])


@pytest.mark.parametrize("file", [specs("a:1", "b:1,weight=2"), specs("a:1")], ids=["another weight", "gone"])
def test_a_weight_is_dropped_when_the_file_says_something_else(file):
    left, dropped = overlay(weight=0).followed({"p": file})
    assert dropped == ["weight 0 of b:1 in p"]
    assert (left.lines(), left.over("p", file)) == ([], file)


def test_where_not_all_backends_are_known_yet_what_is_about_others_is_left():
    one = overlay(weight=7)
    one.command("p", "later", AdminState.DRAIN)
    one.weigh("p", "later", 5, [BackendSpec("later", parse_address("l:1"))])
    one.remove("p", "gone", [BackendSpec("gone", parse_address("g:1"))])
    known = specs("b:1,weight=4")
    left, dropped = one.followed({"p": known}, partly=["p"])
    assert dropped == ["weight 7 of b:1 in p"]
    assert left.lines() == ["drain of later in p", "weight 5 of later in p", "removed gone in p"]
    assert said(left.over("p", known)) == [("b:1", 4)]
    _, dropped = left.followed({"p": known})
    assert dropped == ["removed gone in p", "drain of later in p", "weight 5 of later in p"]


def limits(one: Overlay, file=FILE) -> list[tuple[str, int | None]]:
    return [(spec.name, spec.limit) for spec in one.over("p", file)]


def test_a_limit_wins_over_the_file_as_a_weight_does_beside_it():
    one = overlay(weight=7)
    one.limit("p", "b:1", 50, FILE)
    assert limits(one) == [("a:1", None), ("b:1", 50)]
    assert said(one.over("p", FILE)) == [("a:1", 1), ("b:1", 7)]
    assert (one.source("p", "b:1", "limit"), one.source("p", "a:1", "limit")) == ("runtime", "")
    assert one.lines() == ["weight 7 of b:1 in p", "limit 50 of b:1 in p"]
    left, dropped = one.followed({"p": specs("b:1,weight=4")})
    assert (left.lines(), dropped) == (["limit 50 of b:1 in p"], ["weight 7 of b:1 in p"])
    assert one.reset("p", "b:1")
    assert one.pools == {}


def test_a_limit_wins_as_long_as_the_file_says_what_it_said():
    file = [replace(FILE[1], limit=32)]
    one = Overlay()
    one.limit("p", "b:1", 0, file)
    left, dropped = one.followed({"p": file})
    assert (limits(left, file), dropped) == ([("b:1", 0)], [])
    for other in ([replace(FILE[1], limit=33)], list(FILE), specs("a:1")):
        assert one.followed({"p": other})[1] == ["limit 0 of b:1 in p"]
    one.limit("p", "b:1", 32, file)
    assert one.pools == {}


def test_no_bound_is_what_a_file_says_that_says_nothing():
    one = Overlay()
    one.limit("p", "a:1", 5, FILE)
    one.limit("p", "a:1", 0, FILE)
    assert one.pools == {}


def test_of_a_backend_without_a_limit_the_bound_of_its_pool_is_what_the_file_says():
    one = Overlay()
    one.add("p", specs("c:1")[0], FILE)
    for name in ("a:1", "c:1"):
        one.limit("p", name, 0, FILE, most=64)
    assert limits(one) == [("a:1", 0), ("b:1", None), ("c:1", 0)]
    assert one.followed({"p": FILE}, most={"p": 64})[1] == []
    assert one.followed({"p": FILE}, most={"p": 32})[1] == ["limit 0 of a:1 in p", "limit 0 of c:1 in p"]
    for name in ("a:1", "c:1"):
        one.limit("p", name, 64, FILE, most=64)
    assert one.lines() == ["added c:1 in p"]


def test_the_weight_of_the_file_is_no_change():
    one = overlay(weight=7)
    one.weigh("p", "b:1", 3, FILE)
    assert one.pools == {}


def test_an_admin_state_wins_whatever_the_file_says_until_it_is_ready():
    one = Overlay()
    one.command("p", "b:1", AdminState.DRAIN)
    one, dropped = one.followed({"p": specs("b:1,weight=9")})
    assert (one.of("p").admin, dropped) == ({"b:1": AdminState.DRAIN}, [])
    assert one.source("p", "b:1", "admin") == "runtime"
    one.command("p", "b:1", AdminState.READY)
    assert one.pools == {}


def test_an_admin_state_of_an_endpoint_lives_as_long_as_its_name():
    one = Overlay()
    one.command("p", "a:1@10.0.0.1:1", AdminState.MAINT)
    assert one.followed({"p": FILE})[1] == []
    assert one.followed({"p": specs("b:1")})[1] == ["maint of a:1@10.0.0.1:1 in p"]


def test_what_was_wanted_of_an_endpoint_ends_with_what_is_wanted_of_its_name():
    one = Overlay()
    one.command("p", "a:1@10.0.0.1:1", AdminState.MAINT)
    one.command("p", "a:1", AdminState.DRAIN)
    assert one.of("p").admin == {"a:1": AdminState.DRAIN}
    one.command("p", "a:1@10.0.0.1:1", AdminState.READY)
    assert one.admin("p", "a:1@10.0.0.1:1") is AdminState.READY
    assert one.admin("p", "a:1@10.0.0.2:1") is AdminState.DRAIN
    assert one.reset("p", "a:1")
    assert one.pools == {}


def test_a_removed_backend_is_not_drained_too():
    """As a state file could have it."""
    one = Overlay()
    one.remove("p", "a:1", FILE)
    one.command("p", "a:1", AdminState.DRAIN)
    assert one.followed({"p": FILE})[0].lines() == ["removed a:1 in p"]


def test_what_is_about_a_backend_that_is_gone_is_dropped_with_it():
    one = Overlay()
    one.command("default", "a:1", AdminState.DRAIN)
    one.remove("default", "b:1", FILE)
    assert one.lines() == ["drain of a:1", "removed b:1"]
    left, dropped = one.followed({"default": specs("c:1")})
    assert (left.pools, dropped) == ({}, ["removed b:1", "drain of a:1"])


def test_what_is_about_a_pool_that_is_gone_is_dropped_with_it():
    left, dropped = overlay(weight=0).followed({"other": FILE})
    assert (left.pools, dropped) == ({}, ["weight 0 of b:1 in p"])


def test_a_backend_that_is_added_stands_behind_those_of_the_file():
    one = Overlay()
    one.add("p", specs("c:1,weight=2")[0], FILE)
    assert said(one.over("p", FILE)) == [("a:1", 1), ("b:1", 3), ("c:1", 2)]
    assert one.source("p", "c:1", "backend") == "runtime"
    one.weigh("p", "c:1", 5, FILE)
    assert said(one.over("p", FILE))[-1] == ("c:1", 5)


@pytest.mark.parametrize(
    "file", [specs("a:1", "c:1"), [BackendSpec("four", parse_address("c:1"))]], ids=["its name", "its address"]
)
def test_an_added_backend_that_is_in_the_file_is_the_files(file):
    one = Overlay()
    one.add("p", specs("c:1")[0], FILE)
    left, dropped = one.followed({"p": file})
    assert (left.pools, dropped) == ({}, [])


def test_what_is_there_cannot_be_added():
    one = Overlay()
    for spec in (specs("a:1")[0], BackendSpec("another", parse_address("a:1"))):
        with pytest.raises(ValueError, match="pool p: a:1 at a:1 is there already"):
            one.add("p", spec, FILE)
    assert one.pools == {}


def test_a_removed_backend_stays_away_until_it_is_added_again():
    one = Overlay()
    one.remove("p", "a:1", FILE)
    one, _ = one.followed({"p": FILE})
    assert said(one.over("p", FILE)) == [("b:1", 3)]
    assert one.source("p", "a:1", "backend") == "runtime"
    with pytest.raises(ValueError, match="pool p: a:1 is another backend in the file, at a:1"):
        one.add("p", BackendSpec("a:1", parse_address("z:9")), FILE)
    assert said(one.over("p", FILE)) == [("b:1", 3)]
    one.add("p", FILE[0], FILE)
    assert one.pools == {}


def test_an_added_backend_that_is_removed_leaves_nothing():
    one = Overlay()
    one.add("p", specs("c:1")[0], FILE)
    one.remove("p", "c:1", FILE)
    assert one.pools == {}


def test_a_reset_goes_by_the_file_in_all_that_concerns_a_backend():
    one = overlay(weight=0)
    one.command("p", "b:1", AdminState.MAINT)
    one.command("p", "a:1", AdminState.DRAIN)
    assert one.reset("p", "b:1")
    assert one.lines() == ["drain of a:1 in p"]
    assert not one.reset("p", "b:1")
    assert not one.reset("nowhere", "b:1")


def test_what_is_not_there_cannot_be_changed():
    one = Overlay()
    for change in (
        lambda: one.weigh("p", "z:1", 1, FILE),
        lambda: one.limit("p", "z:1", 1, FILE),
        lambda: one.remove("p", "z:1", FILE),
    ):
        with pytest.raises(KeyError, match="pool p: no backend is called z:1"):
            change()
    with pytest.raises(ValueError, match="257 is not a weight"):
        one.weigh("p", "a:1", 257, FILE)
    for number in (-2, 1_000_001):
        with pytest.raises(ValueError, match=f"{number} is not a limit between 0 and 1000000"):
            one.limit("p", "a:1", number, FILE)
    assert one.pools == {}


def test_it_is_the_same_after_it_was_written_and_read():
    one = overlay(weight=0)
    one.command("p", "a:1", AdminState.MAINT)
    one.limit("p", "b:1", 9, FILE)
    spec = BackendSpec("c", parse_address("unix:/run/c"), 4, labels=(("zone", "x"),), limit=3)
    one.add("p", spec, FILE)
    one.remove("q", "a:1", FILE)
    again = Overlay.of_values(json.loads(json.dumps(one.values())))
    assert (again.values(), again.over("p", FILE), again.over("q", FILE)) == (
        one.values(), one.over("p", FILE), one.over("q", FILE),
    )  # fmt: skip


GOOD = {"admin": {}, "weights": {}, "added": [], "removed": []}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "should be of version 1"),
        ({"version": 2, "pools": {}}, "should be of version 1"),
        ({"version": 1}, "is not complete"),
        ({"version": 1, "pools": {"p": {}}}, "is not complete"),
        ({"version": 1, "pools": {"p": {**GOOD, "weights": {"a": [999, 1]}}}}, "999 is not a weight"),
        ({"version": 1, "pools": {"p": {**GOOD, "weights": {"a": ["x", 1]}}}}, "is not complete"),
        ({"version": 1, "pools": {"p": {**GOOD, "limits": {"a": [-2, 1]}}}}, "-2 is not a limit"),
        ({"version": 1, "pools": {"p": {**GOOD, "limits": {"a": [True, 1]}}}}, "is not complete"),
        (
            {"version": 1, "pools": {"p": {**GOOD, "added": [{"name": "x", "address": "a:1", "limit": "9"}]}}},
            "is not complete",
        ),
        ({"version": 1, "pools": {"p": {**GOOD, "weights": {"a": 1}}}}, "is not complete"),
        ({"version": 1, "pools": {"p": {**GOOD, "admin": {"a": "gone"}}}}, "gone"),
        ({"version": 1, "pools": {"p": {**GOOD, "added": [{"name": "x", "address": "nowhere"}]}}}, "no port"),
    ],
)
def test_what_is_no_overlay_is_an_error(values, why):
    with pytest.raises(ValueError, match=why):
        Overlay.of_values(values)
