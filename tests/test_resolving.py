"""Names that another configuration brings, looked up before it is applied."""

import pytest
from house import House

from twisted_lb.resolving import RESOLVE_S, Resolving, names_in


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
