"""The ledger of members: what the operator does, and what a name server answers in the middle of it."""

from itertools import count
from types import SimpleNamespace

import pytest
from builders import make_pool
from faults.ledger import Members
from faults.naming import BACKEND

from twisted_lb.core.address import TcpAddress
from twisted_lb.core.backend import BackendSpec
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.succession import Succession
from twisted_lb.testing import HeapClock


def at(host: str) -> BackendSpec:
    """The one backend, where its name leads to."""
    return BackendSpec(BACKEND, TcpAddress(host, 80))


def endpoints(*hosts: str) -> list[BackendSpec]:
    return [BackendSpec(f"{BACKEND}@{host}:80", TcpAddress(host, 80)) for host in hosts]


class Books:
    """A pool whose one backend is at `a`, and the ledger of its members."""

    def __init__(self) -> None:
        network = SimpleNamespace(tapes=SimpleNamespace(tick=count().__next__), clock=HeapClock(1000.0), dials=[])
        self.pool, _ = make_pool(BACKEND)
        self.members = Members(network, self.pool)
        self.members.begin([at("a")])
        self.record = self.pool.backends[BACKEND]

    def moves(self) -> None:
        """An answer: the name leads to `b`."""
        self.members.rename([at("b")], lambda: None, {BACKEND: ("moves", BACKEND)})

    def spreads(self) -> None:
        """An answer: the name means two."""
        heir, other = endpoints("a", "b")
        succession = Succession([BACKEND])
        succession.heirs[heir.name] = BACKEND
        tell = lambda: self.pool.update([heir, other], 0.0, succession)  # noqa: E731
        self.members.rename([heir, other], tell, {heir.name: ("inherits", BACKEND)})


@pytest.fixture
def books():
    return Books()


def test_a_name_that_moves_in_the_middle_of_a_reload_has_moved_behind_it(books):
    books.members.stay(books.moves)
    first, second = books.members.all
    assert (first.address, second.address) == ("a:80", "b:80")
    assert first.until is not None
    assert books.members.at("b:80", second.since.at) is second
    assert second.until is None
    assert books.members.complaints == []


def test_a_name_that_is_spread_in_the_middle_of_a_reload_is_several_behind_it(books):
    books.members.stay(books.spreads)
    assert list(books.members.now) == [spec.name for spec in endpoints("a", "b")]
    assert books.members.complaints == []


def test_members_that_no_answer_explains_are_a_complaint(books):
    books.members.stay(lambda: books.pool.update(endpoints("a", "b"), 0.0))
    assert books.members.complaints == ["there should be ['web:80'], there are ['web:80@a:80', 'web:80@b:80']"]


def test_an_answer_that_the_pool_does_not_follow_is_a_complaint(books):
    books.members.stay(lambda: books.members.rename(endpoints("a", "b"), lambda: None, {}))
    assert books.members.complaints[0] == "names mean ['web:80@a:80', 'web:80@b:80'], there are ['web:80']"


def test_who_stays_has_what_it_had_whatever_else_is_answered(books):
    books.spreads()
    one, other = (books.pool.backends[spec.name] for spec in endpoints("a", "b"))

    def spreads_further() -> None:
        books.members.rename(endpoints("a", "b", "c"), lambda: books.pool.update(endpoints("a", "b", "c"), 0.0), {})
        other.outcomes[Outcome.OK] += 1

    books.members.stay(spreads_further)
    (complaint,) = books.members.complaints
    assert complaint.startswith("<Member web:80@b:80 at b:80> stays: ")
    assert books.members.of(one).until is None
