"""Names that another configuration brings, looked up before it is applied."""

import pytest
from house import House

from twisted_lb.resolving import RESOLVE_S, Resolving, Unresolved, names_in


class Waiting:
    """A house that looks up the names of these backends, and when that was over."""

    def __init__(self, *backends: str, resolve_s: float, **resolved) -> None:
        self.house = House(
            resolved={name.replace("_", "."): hosts for name, hosts in resolved.items()}, resolve_s=resolve_s
        )
        runtime = self.house.balanced.runtime
        self.over: list[float] = []
        self.resolving = Resolving(runtime, names_in(self.house.plan(backends=list(backends))))
        self.resolving.done.addCallback(lambda _: self.over.append(self.house.clock.seconds() - 1000.0))

    def wait(self, seconds: float) -> list[float]:
        self.house.wait(seconds)
        return self.over

    def end(self) -> None:
        self.resolving.close()
        self.house._options["backends"] = ["a:80"]
        self.house.close()


@pytest.fixture
def start():
    ones: list[Waiting] = []

    def one(*backends, resolve_s=0.5, **resolved):
        ones.append(Waiting(*backends, resolve_s=resolve_s, **resolved))
        return ones[-1]

    yield one
    for each in ones:
        each.end()


def test_where_there_are_no_names_nothing_is_waited_for(start):
    one = start("10.0.0.1:80", "unix:/run/app")
    assert one.wait(0) == [0.0]


def test_it_is_over_when_each_name_was_answered_be_it_with_nothing(start):
    one = start(
        "one.example:80", "two.example:80", "nowhere.example:80", one_example=["10.0.0.1"], two_example=["10.0.0.2"]
    )
    assert one.wait(0.4) == []
    assert one.wait(0.2) == [0.5]


def test_no_name_server_is_waited_for_long(start):
    one = start("one.example:80", resolve_s=RESOLVE_S + 1, one_example=["10.0.0.1"])
    assert one.wait(RESOLVE_S - 0.1) == []
    assert one.wait(0.2) == [RESOLVE_S]


def test_who_is_in_a_hurry_does_not_wait(start):
    one = start("one.example:80", resolve_s=RESOLVE_S + 1, one_example=["10.0.0.1"])
    one.resolving.hurry()
    one.resolving.hurry()
    assert one.over == [0.0]


def test_what_was_found_is_known_at_once_when_it_is_applied(start):
    one = start("one.example:80", one_example=["10.0.0.1", "10.0.0.2"])
    one.wait(1)
    one.house.apply(backends=["one.example:80"])
    assert [member.name for member in one.house.members] == ["one.example:80@10.0.0.1:80", "one.example:80@10.0.0.2:80"]
    one.house.apply(backends=["a:80"])


def test_nobody_is_watched_any_more_when_it_is_closed(start):
    one = start("one.example:80", one_example=["10.0.0.1"])
    one.wait(1)
    one.resolving.close()
    assert one.resolving not in one.house.balanced.runtime.names._watched


class Told:
    """A house, and what is told of its backends' names."""

    def __init__(self, *backends: str, **resolved) -> None:
        self.house = House(*backends, resolved={"nowhere": [], "gone": [], **resolved})
        self.lines: list[str] = []
        self._unresolved = Unresolved(
            self.house.balanced.runtime,
            lambda one, reason: self.lines.append(f"{one.pool}/{one.backend} ({one.number}): {reason}"),
        )
        self._unresolved.follow(self.house.plane.plan)
        self.house.wait(10)

    def follow(self, *backends, **options) -> None:
        self.house.apply(backends=list(backends), **options)
        self._unresolved.follow(self.house.plane.plan)
        self.house.wait(10)

    def end(self) -> None:
        self._unresolved.close()
        self.house.close()


@pytest.fixture
def told():
    ones: list[Told] = []

    def one(*backends, **resolved):
        ones.append(Told(*backends, **resolved))
        return ones[-1]

    yield one
    for each in ones:
        each.end()


def test_each_backend_whose_name_does_not_resolve_is_told_once_however_often_it_is_looked_up(told):
    one = told("app:80", "10.0.0.1:80", "nowhere:80", "nowhere:81", app=["10.0.0.2"])
    one.house.wait(60)
    assert one.lines == [
        "default/nowhere:80 (2): the name does not resolve",
        "default/nowhere:81 (3): the name does not resolve",
    ]


def test_what_another_plan_brings_is_told_and_what_stays_is_not_told_again(told):
    one = told("nowhere:80")
    one.follow("gone:80", "nowhere:80", {"address": "nowhere:81", "name": "two"})
    assert one.lines[1:] == [
        "default/gone:80 (0): the name does not resolve",
        "default/two (2): the name does not resolve",
    ]
    one.follow("gone:80")
    one.follow("gone:80", "nowhere:80")
    assert one.lines[3:] == ["default/nowhere:80 (1): the name does not resolve"]


def test_a_name_in_another_family_is_another_one(told):
    one = told("app:80", app=["10.0.0.1"])
    one.follow("app:80", family="ipv6")
    assert one.lines == ["default/app:80 (0): the name does not resolve to an IPv6 address"]


def test_a_name_that_has_resolved_keeps_its_addresses_and_is_not_told(told):
    one = told("app:80", app=["10.0.0.1"])
    one.house.network.name("app")
    one.house.wait(60)
    assert one.lines == []
