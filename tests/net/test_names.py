"""Names: asked for rarely, answered from memory, and never worse than the last good answer."""

import socket

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from twisted_lb.core.address import TcpAddress, UnixAddress
from twisted_lb.net.clock import Clock
from twisted_lb.net.names import REFRESH_S, Names
from twisted_lb.testing import HeapClock

APP = TcpAddress("app", 80)


class Resolver:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.receivers: list = []

    def resolveHostName(self, receiver, hostName, portNumber=0, addressTypes=None, transportSemantics="TCP"):
        self.asked.append(hostName)
        self.receivers.append(receiver)
        receiver.resolutionBegan(None)

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
