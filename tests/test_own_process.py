"""A process of our own: what happens around a service from its start to its end."""

import pytest
from twisted.logger import globalLogPublisher

from twisted_lb import own_process as module
from twisted_lb.errors import StartError
from twisted_lb.openings import Openings
from twisted_lb.own_process import OwnProcess
from twisted_lb.testing import HeapClock


class Told(list):
    """What happens, in its order; stands for everybody that a process has to do with."""

    def note(self, word: str):
        return lambda *_, **__: self.append(word)


class Predecessor:
    pid = 7

    def __init__(self, told: Told) -> None:
        self.relieve = told.note("relieve")
        self.close = told.note("leave the predecessor alone")


class Owner:
    """The service."""

    def __init__(self, told: Told, name: str) -> None:
        self.told, self.name = told, name

    def taken_over(self, pid: int) -> None:
        self.told.append(f"{self.name} ends: {pid} has taken over")


class House:
    """A process, with all that it touches replaced by what takes notes."""

    def __init__(self, monkeypatch, told: Told, *, takeover: str | None, watchdog_s: float) -> None:
        self.told = told
        self.doors: list = []
        self.clock = HeapClock()
        self.starting = True

        doors = self.doors

        class Signals:
            def __init__(self, owner, reactor) -> None:
                self.install = told.note("hear signals")

        class Notify:
            def __init__(self, environ, pid) -> None:
                self.watchdog_s = watchdog_s if pid else 0.0
                self.reloading = told.note("tell: reloading")
                self.stopping = told.note("tell: stopping")
                self.alive = told.note("tell: alive")

            def ready(self, *, took_over: bool = False) -> None:
                told.append("tell: ready, took over" if took_over else "tell: ready")

        class Takeover:
            path = "/run/lb"

            def __init__(self, path, reactor, held, taken, left) -> None:
                self.close = told.note("close the takeover")
                self.taken, self.left = taken, left
                self.successor: object = None
                doors.append(self)

            def open(self) -> None:
                if takeover == "/refused":
                    raise PermissionError(13, "Permission denied")
                told.append("open the takeover")

        monkeypatch.setattr(module, "Signals", Signals)
        monkeypatch.setattr(module, "Notify", Notify)
        monkeypatch.setattr(module, "Takeover", Takeover)
        monkeypatch.setattr(module.process, "tune", told.note("tune"))
        self.all = [OwnProcess(Owner(told, "first"), None, takeover, lambda: self.all)]
        self.process = self.all[0]

    def second(self, takeover: str | None) -> OwnProcess:
        """Another service in this process."""
        self.all.append(OwnProcess(Owner(self.told, "second"), None, takeover, lambda: self.all))
        self.all[-1].begin(self.clock, Openings(), lambda: False, self.told.note("accept"))
        return self.all[-1]

    def begin(self, predecessor: bool = False) -> Told:
        openings = Openings((), Predecessor(self.told) if predecessor else None)
        self.process.begin(self.clock, openings, lambda: self.starting, self.told.note("accept"))
        return self.take()

    def started(self) -> Told:
        self.starting = False
        self.clock.advance(0.1)
        return self.take()

    def take(self) -> list[str]:
        taken = list(self.told)
        self.told.clear()
        return taken

    def end(self) -> list[str]:
        for one in self.all:
            one.stopping()
        for one in self.all:
            one.ended()
        assert self.clock.getDelayedCalls() == []
        return self.take()


@pytest.fixture
def house(monkeypatch):
    def one(*, takeover: str | None = None, watchdog_s: float = 0.0) -> House:
        return House(monkeypatch, Told(), takeover=takeover, watchdog_s=watchdog_s)

    return one


def test_alone_it_is_ready_when_the_first_checks_are_in(house):
    one = house()
    assert one.begin() == ["tune"]
    one.clock.advance(3)
    assert one.take() == []
    assert one.started() == ["tell: ready"]
    one.clock.advance(3)
    assert one.end() == ["tell: stopping"]


def test_a_predecessor_is_relieved_once_this_one_accepts_and_can_be_followed_itself(house):
    one = house(takeover="/run/lb")
    assert one.begin(predecessor=True) == ["tune"]
    assert one.started() == ["accept", "open the takeover", "tell: ready, took over", "relieve"]
    assert one.end() == ["tell: stopping", "close the takeover"]


def test_one_that_is_succeeded_tells_the_service_manager_nothing_more(house):
    """STOPPING=1, of whatever process, is the end of the service; and a successor that hangs must not seem alive."""
    one = house(takeover="/run/lb", watchdog_s=5.0)
    one.begin()
    one.started()
    one.doors[0].taken(7)
    assert one.take() == ["first ends: 7 has taken over"]
    one.process.stopping()
    one.clock.advance(60)
    assert one.end() == ["close the takeover"]


def test_without_a_predecessor_it_can_be_followed_at_once(house):
    one = house(takeover="/run/lb")
    assert one.begin() == ["open the takeover", "tune"]
    assert one.started() == ["tell: ready"]
    one.end()


def test_where_nobody_could_follow_it_does_not_start(house):
    with pytest.raises(StartError, match=r"^takeover /run/lb: Permission denied$"):
        house(takeover="/refused").begin()


def test_one_that_has_sockets_serves_though_nobody_can_follow(house, logged_errors):
    events = []
    globalLogPublisher.addObserver(events.append)
    one = house(takeover="/refused")
    one.begin(predecessor=True)
    assert one.started() == ["accept", "tell: ready, took over", "relieve"]
    globalLogPublisher.removeObserver(events.append)
    assert "Permission denied" in str(events[0]["error"])
    one.end()


def test_stopped_before_the_first_checks_are_in_it_takes_nothing_over(house):
    one = house(takeover="/run/lb")
    one.begin(predecessor=True)
    assert one.end() == ["tell: stopping", "close the takeover"]
    assert one.started() == []


def test_the_watchdog_is_told_until_the_end_of_the_stop(house):
    one = house(watchdog_s=1.0)
    one.begin()
    one.started()
    one.clock.advance(2)
    assert one.take() == ["tell: alive", "tell: alive"]
    one.process.stopping()
    one.clock.advance(1)
    assert one.take() == ["tell: stopping", "tell: alive"]
    one.process.ended()
    one.clock.advance(5)
    assert one.take() == []


def test_a_reload_is_told_from_its_beginning_to_its_end(house):
    one = house()
    one.begin()
    one.process.reloading()
    assert one.take() == ["tell: reloading"]
    one.process.reloaded()
    assert one.take() == ["tell: ready"]
    one.end()


def test_it_hears_signals_once_however_often_it_is_started(house):
    one = house()
    for _ in range(2):
        one.process.hear_signals()
    assert one.take() == ["hear signals"]


# Several services in one process.


class Pair:
    """Two services of one process, for both of which a successor prepares."""

    def __init__(self, house, second: str | None = "/run/other") -> None:
        self.house = one = house(takeover="/run/lb")
        one.begin()
        one.started()
        one.second(second)
        self.doors = one.doors
        for door in self.doors:
            door.successor = object()
        one.take()

    def taken(self, door: int, pid: int = 7) -> list[str]:
        self.doors[door].successor = None
        self.doors[door].taken(pid)
        return self.house.take()

    def left(self, door: int, pid: int = 7) -> list[str]:
        self.doors[door].successor = None
        self.doors[door].left(pid)
        return self.house.take()


BOTH_END = ["first ends: 7 has taken over", "second ends: 7 has taken over"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_services_end_when_both_are_taken_over(house, order):
    pair = Pair(house)
    first, second = order
    assert pair.taken(first) == []
    assert pair.taken(second) == BOTH_END
    assert [one.handed_on for one in pair.house.all] == [True, True]
    assert pair.house.end() == ["close the takeover", "close the takeover"]


def test_a_service_that_its_successor_does_not_ask_for_ends_with_the_others(house):
    """It tells the service manager nothing either, and hands nothing on."""
    pair = Pair(house, None)
    assert pair.taken(0) == BOTH_END
    assert [one.handed_on for one in pair.house.all] == [True, False]
    assert pair.house.end() == ["close the takeover"]


def test_a_successor_that_leaves_before_it_has_all_changes_nothing(house):
    """It is asked for the first one anew, at the path that was the successor's meanwhile."""
    pair = Pair(house)
    pair.taken(0)
    assert pair.left(1) == ["open the takeover"]
    assert [one.handed_on for one in pair.house.all] == [False, False]
    assert pair.house.end() == ["tell: stopping", "close the takeover"] * 2


def test_a_stop_before_the_second_one_is_taken_over_is_no_news_of_the_service_either(house):
    pair = Pair(house)
    pair.taken(0)
    assert pair.house.end() == ["close the takeover", "close the takeover"]


def test_a_service_that_is_started_again_can_be_followed_again(house):
    pair = Pair(house)
    pair.taken(0)
    pair.taken(1)
    pair.house.end()
    pair.house.begin()
    pair.house.started()
    assert [one.handed_on for one in pair.house.all] == [False, False]
    assert pair.house.end() == ["tell: stopping", "close the takeover", "tell: stopping"]


@pytest.mark.parametrize("path", ["/run/lb", "/run/../run/lb"])
def test_a_path_that_two_services_of_one_process_have_is_refused(house, path):
    one = house(takeover="/run/lb")
    one.process.refuse_shared()
    one.begin()
    one.second("/run/other")
    one.process.refuse_shared()
    one.second(path)
    said = r"^takeover /run/lb: two balancers of one process have it, each needs a path of its own$"
    with pytest.raises(StartError, match=said):
        one.process.refuse_shared()
    one.end()
