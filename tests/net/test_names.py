"""Names: asked for rarely, answered from memory, and never worse than the last good answer."""

import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from twisted_lb.core.address import TcpAddress, UnixAddress
from twisted_lb.net.clock import Clock
from twisted_lb.net.names import AGAIN_S, AT_ONCE, LOST_AFTER_S, MOST_LITERAL, REFRESH_S, Names
from twisted_lb.testing import HeapClock

APP = TcpAddress("app", 80)


class Resolver:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.types: list = []
        self.receivers: list = []
        self.known: list[str] = []  # what it answers before it returns
        self.broken = False

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        self.asked.append(hostName)
        self.types.append(addressTypes)
        if self.broken:
            raise OSError
        self.receivers.append(receiver)
        receiver.resolutionBegan(None)
        if self.known:
            self.answer(*self.known)

    def answer(self, *addresses) -> None:
        receiver = self.receivers.pop(0)
        for address in addresses:
            receiver.addressResolved(IPv4Address("TCP", address, 80) if isinstance(address, str) else address)
        receiver.resolutionComplete()


class Book:
    """Names, and what was found."""

    def __init__(self) -> None:
        self.time = HeapClock(1000.0)
        self.clock = Clock(self.time.seconds)
        self.resolver = Resolver()
        self.names = Names(self.resolver, self.clock)

    def find(self, address=APP) -> list[list]:
        """What `find` tells, now or later."""
        told: list[list] = []
        self.clock.read()
        self.names.find(address, lambda addresses: told.append([where[0] for _, where in addresses]))
        return told


@pytest.fixture
def book():
    return Book()


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (TcpAddress("192.0.2.1", 80), (socket.AF_INET, ("192.0.2.1", 80))),
        (TcpAddress("2001:db8::1", 80), (socket.AF_INET6, ("2001:db8::1", 80))),
        (UnixAddress("/run/app"), (socket.AF_UNIX, "/run/app")),
    ],
)
def test_nobody_is_asked_for_what_is_an_address_already(book, address, found):
    told: list = []
    for _ in range(2):
        book.names.find(address, told.extend)
    assert told == [found, found]
    assert book.resolver.asked == []


def test_who_asks_first_waits_and_who_asks_later_does_not(book):
    first = book.find()
    assert first == []
    book.resolver.answer("10.0.0.1", "10.0.0.2")
    assert first == [["10.0.0.1", "10.0.0.2"]]
    assert book.find() == [["10.0.0.1", "10.0.0.2"]]
    assert book.resolver.asked == ["app"]


def test_the_answer_that_was_given_is_not_the_one_that_is_kept(book):
    book.find()
    book.resolver.answer("10.0.0.1", "10.0.0.2")
    taken: list = []
    book.names.find(APP, taken.extend)
    taken.clear()
    assert book.find() == [["10.0.0.1", "10.0.0.2"]]


def test_addresses_of_both_families_are_found_and_others_ignored(book):
    told: list = []
    book.names.find(APP, told.extend)
    book.resolver.answer(IPv6Address("TCP", "fe80::1", 1, 3, 7), UNIXAddress(b"/x"), "10.0.0.1")
    assert told == [(socket.AF_INET6, ("fe80::1", 80, 3, 7)), (socket.AF_INET, ("10.0.0.1", 80))]


def test_a_name_is_asked_for_again_behind_the_scenes_and_by_one_at_a_time(book):
    book.find()
    book.resolver.answer("10.0.0.1")
    book.time.advance(REFRESH_S - 0.1)
    book.find()
    assert len(book.resolver.asked) == 1
    book.time.advance(0.2)
    for _ in range(5):
        assert book.find() == [["10.0.0.1"]]
    assert len(book.resolver.asked) == 2
    book.resolver.answer("10.0.0.2")
    assert book.find() == [["10.0.0.2"]]
    assert len(book.resolver.asked) == 2


def test_an_answer_without_addresses_changes_nothing_and_is_asked_for_again(book):
    book.find()
    book.resolver.answer("10.0.0.1")
    book.time.advance(REFRESH_S)
    book.find()
    book.resolver.answer()
    assert book.find() == [["10.0.0.1"]]
    assert len(book.resolver.asked) == 3


def test_a_name_that_does_not_resolve_is_told_so_and_asked_for_at_the_next_try(book):
    told = book.find()
    book.resolver.answer()
    assert told == [[]]
    told = book.find()
    book.resolver.answer("10.0.0.1")
    assert told == [["10.0.0.1"]]


def test_the_good_address_stays_first_when_the_name_is_asked_for_again(book):
    book.find()
    book.resolver.answer("10.0.0.1", "10.0.0.2", "10.0.0.3")
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.3", 80)))
    assert book.find() == [["10.0.0.3", "10.0.0.1", "10.0.0.2"]]
    book.time.advance(REFRESH_S)
    book.find()
    book.resolver.answer("10.0.0.2", "10.0.0.1", "10.0.0.3")
    assert book.find() == [["10.0.0.3", "10.0.0.2", "10.0.0.1"]]


def test_an_address_that_is_no_longer_one_of_the_names_is_not_kept(book):
    book.find()
    book.resolver.answer("10.0.0.1")
    book.time.advance(REFRESH_S)
    book.find()
    book.resolver.answer("10.0.0.2")
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.1", 80)))
    assert book.find() == [["10.0.0.2"]]


def test_when_none_of_them_worked_the_name_is_asked_for_at_once(book):
    book.find()
    book.resolver.answer("10.0.0.1")
    book.names.failed(APP)
    assert book.find() == [["10.0.0.1"]]
    assert len(book.resolver.asked) == 2
    book.resolver.answer("10.0.0.9")
    assert book.find() == [["10.0.0.9"]]


def test_names_are_kept_apart_by_host_and_port(book):
    book.find()
    book.find(TcpAddress("app", 81))
    book.find(TcpAddress("other", 80))
    assert book.resolver.asked == ["app", "app", "other"]


def test_what_worked_or_failed_without_ever_being_asked_for_is_ignored(book):
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.1", 80)))
    book.names.failed(APP)
    book.names.failed(UnixAddress("/run/app"))
    assert book.find() == []
    book.resolver.answer("10.0.0.1")


def test_one_who_waits_and_raises_does_not_keep_the_others_waiting(book, logged_errors):
    told: list = []
    book.names.find(APP, lambda addresses: 1 // 0)
    book.names.find(APP, told.append)
    book.resolver.answer("10.0.0.1")
    assert len(told) == 1
    assert len(logged_errors.take()) == 1


# Those who watch.


class Watching:
    """What it was told, as `app 10.0.0.1 10.0.0.2`; `leads` where another address came into force."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def name_answered(self, address, hosts):
        self.told.append(" ".join([address.host, *hosts]))

    def name_leads(self, address, host):
        self.told.append(f"{address.host} leads to {host}")

    def take(self) -> list[str]:
        told, self.told = self.told, []
        return told


@pytest.fixture
def watching(book):
    one = Watching()
    book.names.watch(one, [APP])
    return one


def refresh(book, seconds: float) -> int:
    """Time passes; how many were asked for then."""
    asked = len(book.resolver.asked)
    book.time.advance(seconds)
    book.clock.read()
    book.names.refresh()
    return len(book.resolver.asked) - asked


def test_a_name_that_is_watched_is_asked_for_though_nobody_connects(book, watching):
    book.resolver.answer("10.0.0.1")
    assert refresh(book, REFRESH_S - 0.1) == 0
    assert refresh(book, 0.1) == 1
    assert refresh(book, REFRESH_S - 0.1) == 0, "the answer has not come"
    book.resolver.answer("10.0.0.2")
    assert refresh(book, 0) == 0
    assert watching.told == ["app 10.0.0.1", "app 10.0.0.2"]


def test_the_answers_are_those_that_connects_go_by(book, watching):
    book.resolver.answer("10.0.0.1", "10.0.0.2")
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.2", 80)))
    refresh(book, REFRESH_S)
    book.resolver.answer("10.0.0.1", "10.0.0.2")
    assert watching.told == ["app 10.0.0.1 10.0.0.2", "app leads to 10.0.0.2", "app 10.0.0.2 10.0.0.1"]
    assert book.find() == [["10.0.0.2", "10.0.0.1"]]
    assert len(book.resolver.asked) == 2


def test_what_works_as_expected_is_no_news(book, watching):
    book.resolver.answer("10.0.0.1", "10.0.0.2")
    watching.take()
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.1", 80)))
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.9", 80)))
    assert watching.told == []


def test_an_address_can_be_preferred(book, watching):
    book.resolver.answer("10.0.0.1", "10.0.0.2")
    watching.take()
    book.names.prefer(APP, "10.0.0.2")
    book.names.prefer(APP, "10.0.0.7")
    book.names.prefer(TcpAddress("other", 80), "10.0.0.2")
    assert watching.told == ["app leads to 10.0.0.2"]


def test_a_name_that_does_not_resolve_is_told_and_asked_for_every_second(book, watching):
    assert book.names.unheard(watching) == ["app"]
    book.resolver.answer()
    assert book.names.unheard(watching) == []
    assert [refresh(book, AGAIN_S - 0.1), refresh(book, 0.1)] == [0, 1]
    book.resolver.answer("10.0.0.1")
    assert watching.told == ["app", "app 10.0.0.1"]
    assert refresh(book, AGAIN_S) == 0


def test_a_name_whose_address_does_not_work_is_asked_for_soon(book, watching):
    book.resolver.answer("10.0.0.1")
    book.names.failed(APP)
    assert [refresh(book, AGAIN_S - 0.1), refresh(book, 0.1)] == [0, 1]


def test_only_a_few_are_asked_for_at_once_and_each_comes_to_its_turn(book):
    names = [f"h{index}" for index in range(AT_ONCE * 3)]
    one = Watching()
    book.names.watch(one, [TcpAddress(name, 80) for name in names])
    assert len(book.resolver.asked) == AT_ONCE
    for count in range(AT_ONCE, len(names)):
        book.resolver.answer("10.0.0.1")
        assert len(book.resolver.asked) == count + 1
        assert refresh(book, 0) == 0
    for _ in range(AT_ONCE):
        book.resolver.answer("10.0.0.1")
    assert book.resolver.asked == names
    assert one.told == [f"{name} 10.0.0.1" for name in names]


def test_many_who_are_answered_at_once_are_no_trouble(book):
    """A resolver that knows the answer, as a hosts file does, may tell it before it returns."""
    book.resolver.known = ["10.0.0.1"]
    one = Watching()
    book.names.watch(one, [TcpAddress(f"h{index}", 80) for index in range(2000)])
    assert len(one.told) == 2000


def test_who_watches_what_is_known_is_told_at_once_and_nobody_is_asked(book, watching):
    book.resolver.answer("10.0.0.1")
    other = Watching()
    book.names.watch(other, [APP])
    assert other.told == ["app 10.0.0.1"]
    assert book.resolver.asked == ["app"]
    refresh(book, REFRESH_S)
    book.resolver.answer("10.0.0.2")
    assert (watching.told[-1], other.told[-1]) == ("app 10.0.0.2", "app 10.0.0.2")


def test_who_watches_what_is_known_not_to_resolve_is_told_at_once_too(book, watching):
    book.resolver.answer()
    other = Watching()
    book.names.watch(other, [APP])
    assert other.told == ["app"]


def test_who_goes_on_watching_is_not_told_twice(book, watching):
    book.resolver.answer("10.0.0.1")
    watching.take()
    book.names.watch(watching, [APP, TcpAddress("db", 80)])
    assert watching.told == []


def test_who_watches_no_more_is_told_nothing_and_nobody_is_asked(book, watching):
    book.names.watch(watching, [])
    book.resolver.answer("10.0.0.1")
    book.names.worked(APP, (socket.AF_INET, ("10.0.0.1", 80)))
    assert refresh(book, 60) == 0
    assert (watching.told, book.names.unheard(watching)) == ([], [])


def test_who_watches_no_more_has_no_name_of_others_looked_up(book, watching):
    """At the end of a balancer nobody is to wait for a name server."""
    book.resolver.answer("10.0.0.1")
    other = Watching()
    book.names.watch(other, [TcpAddress("api", 80)])
    book.resolver.answer("10.0.0.2")
    book.time.advance(REFRESH_S)
    book.clock.read()
    book.names.watch(other, [])
    assert book.resolver.asked == ["app", "api"]
    assert refresh(book, 0) == 1, "it is due all the same"


def test_an_answer_to_who_watched_before_is_not_one_to_who_watches_anew(book, watching):
    book.names.watch(watching, [])
    book.names.watch(watching, [APP])
    book.resolver.answer("10.0.0.1")
    assert watching.told == []
    book.resolver.answer("10.0.0.2")
    assert watching.told == ["app 10.0.0.2"]
    assert refresh(book, REFRESH_S) == 1, "and all who were asked are counted"


def test_one_who_raises_does_not_keep_others_from_being_told(book, watching, logged_errors):
    book.resolver.answer("10.0.0.1")
    watching.name_answered = lambda address, hosts: 1 // 0
    other = Watching()
    book.names.watch(other, [APP])
    refresh(book, REFRESH_S)
    book.resolver.answer("10.0.0.2")
    assert other.told[-1] == "app 10.0.0.2"
    assert len(logged_errors.take()) == 1


def test_a_resolver_that_raises_has_not_answered(book, watching, logged_errors):
    book.resolver.answer("10.0.0.1")
    book.resolver.broken = True
    assert refresh(book, REFRESH_S) == 1
    assert watching.told == ["app 10.0.0.1", "app"]
    assert book.find() == [["10.0.0.1"]]
    book.resolver.broken = False
    assert refresh(book, AGAIN_S) == 1
    assert len(logged_errors.take()) == 2


def test_without_a_resolver_names_mean_nothing():
    names = Names(None, Clock(HeapClock(1000.0).seconds))
    one, told = Watching(), []
    names.find(APP, told.append)
    names.watch(one, [APP])
    names.refresh()
    assert (one.told, told, names.unheard(one)) == ([], [[]], [])


# A resolver that never answers, as Twisted's where getaddrinfo fails with an OSError.


def test_names_that_are_never_answered_do_not_keep_others_from_being_asked_for(book):
    names = [f"h{index}" for index in range(AT_ONCE + 1)]
    one = Watching()
    book.names.watch(one, [TcpAddress(name, 80) for name in names])
    lost = list(book.resolver.receivers)
    assert refresh(book, LOST_AFTER_S - 0.1) == 0
    assert (refresh(book, 0.1), book.resolver.asked[-1]) == (1, names[-1])
    assert one.take() == names[:-1]
    del book.resolver.receivers[: len(lost)]
    assert refresh(book, 0) == AT_ONCE - 1
    while book.resolver.receivers:
        book.resolver.answer("10.0.0.1")
    assert sorted(one.take()) == [f"{name} 10.0.0.1" for name in names]
    for receiver in lost:
        receiver.resolutionComplete()
    assert one.told == [], "it is too late"
    assert refresh(book, REFRESH_S) == AT_ONCE


def test_a_name_that_was_never_answered_is_asked_for_at_the_next_connect(book):
    first = book.find()
    book.time.advance(LOST_AFTER_S)
    second = book.find()
    assert (first, second, len(book.resolver.asked)) == ([[]], [], 2)
    book.resolver.receivers.pop(0)
    book.resolver.answer("10.0.0.1")
    assert second == [["10.0.0.1"]]


def test_who_does_not_wait_any_more_is_not_told_and_leaves_nothing_behind(book):
    told: list = []
    for _ in range(3):
        book.names.find(APP, told.append)
        book.names.leave(APP, told.append)
    book.names.leave(APP, told.append)
    book.names.leave(UnixAddress("/run/app"), told.append)
    assert not book.names._known[APP].waiting
    book.resolver.answer("10.0.0.1")
    assert told == []


# Families.


@pytest.mark.parametrize(
    ("family", "wanted", "found"),
    [
        ("", None, ["::1", "10.0.0.1"]),
        ("ipv4", [IPv4Address], ["10.0.0.1"]),
        ("ipv6", [IPv6Address], ["::1"]),
    ],
)
def test_addresses_of_the_family_that_is_wanted_are_asked_for_and_used(book, family, wanted, found):
    told = book.find(TcpAddress("app", 80, family))
    assert book.resolver.types == [wanted]
    book.resolver.answer(IPv6Address("TCP", "::1", 80), "10.0.0.1")
    assert told == [found]


def test_a_name_without_an_address_of_that_family_does_not_resolve(book):
    told = book.find(TcpAddress("app", 80, "ipv6"))
    book.resolver.answer("10.0.0.1")
    assert told == [[]]


def test_the_endpoints_of_a_name_that_moves_on_and_on_are_forgotten(book):
    for index in range(2 * MOST_LITERAL):
        where = f"10.{index >> 8}.{index & 255}.1"
        assert book.find(TcpAddress(where, 80)) == [[where]]
    assert len(book.names._literal) <= MOST_LITERAL
