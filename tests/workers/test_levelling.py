"""Levelling: who hands on, who does not, and that nobody is lost or counted twice."""

import contextlib
import os
import random
import socket

import pytest

from twisted_lb.workers.levelling import Levelling
from twisted_lb.workers.table import SERVES, Table, make_table


class Reactor:
    def __init__(self) -> None:
        self.readers: list[Levelling] = []

    def addReader(self, one: Levelling) -> None:
        self.readers.append(one)

    def removeReader(self, one: Levelling) -> None:
        self.readers.remove(one)


class Crew:
    """Workers in one process, each with the connections that it has taken in."""

    def __init__(self, count: int, serving: int | None = None) -> None:
        fd = make_table(count, count)
        self.table = Table(fd, count, count)
        self.reactor = Reactor()
        self.open: list[list[tuple[str, int]]] = [[] for _ in range(count)]
        self.workers = [
            Levelling(
                self.table,
                slot,
                lambda slot=slot: len(self.open[slot]),
                lambda name, fd, slot=slot: self.open[slot].append((name, fd)),
                self.reactor,
            )
            for slot in range(count)
        ]
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        self.pairs = [socket.socketpair(socket.AF_UNIX, kind) for _ in range(count)]
        for slot, (into, out) in enumerate(self.pairs):
            for worker, one in enumerate(self.workers):
                one.connect(slot, (out if worker == slot else into).dup())
        for one in self.workers[: count if serving is None else serving]:
            one.serve()
        os.close(fd)

    def accept(self, slot: int, *, take: bool = True) -> None:
        """A client comes to this slot; with `take` all take in what has come."""
        fd = os.open(os.devnull, os.O_RDONLY)
        if not self.workers[slot].hand_on("web", fd):
            self.open[slot].append(("web", fd))
        if take:
            self.take()

    def take(self) -> None:
        for one in list(self.reactor.readers):
            one.doRead()

    @property
    def counts(self) -> list[int]:
        return [len(one) for one in self.open]

    def close(self) -> None:
        for one in self.workers:
            one.close()
        for fds in self.open:
            for _, fd in fds:
                os.close(fd)
        for pair in self.pairs:
            for end in pair:
                end.close()


@pytest.fixture
def crew():
    with contextlib.ExitStack() as at_the_end:

        def make(*args, **more) -> Crew:
            made = Crew(*args, **more)
            at_the_end.callback(made.close)
            return made

        yield make


def test_few_clients_stay_where_they_come(crew):
    two = crew(2)
    for _ in range(3):
        two.accept(0)
    assert two.counts == [3, 0]


def test_who_has_clearly_more_hands_on(crew):
    two = crew(2)
    for _ in range(20):
        two.accept(0)
    assert sum(two.counts) == 20
    assert two.counts[0] - two.counts[1] <= 3


@pytest.mark.parametrize("take", [True, False], ids=["at once", "late"])
@pytest.mark.parametrize("seed", range(20))
def test_of_64_no_one_of_four_has_more_than_18(crew, seed, take):
    four, rng = crew(4), random.Random(seed)
    heavy = rng.randrange(4)
    for _ in range(64):
        four.accept(heavy if rng.random() < 0.5 else rng.randrange(4), take=take or rng.random() < 0.1)
    four.take()
    assert sum(four.counts) == 64
    assert max(four.counts) <= 18, four.counts


def test_of_thousands_an_eighth_more_is_level_enough(crew):
    two = crew(2)
    for _ in range(100):
        two.accept(1)
    assert two.counts[1] <= two.counts[0] * 1.125 + 3


def test_nothing_goes_to_who_does_not_serve(crew):
    two = crew(2, serving=1)
    for _ in range(20):
        two.accept(0)
    assert two.counts == [20, 0]


def test_it_comes_with_the_name_of_its_listener(crew):
    two = crew(2)
    for _ in range(8):
        two.accept(0)
    assert {name for name, _ in two.open[1]} == {"web"}


def test_who_leaves_takes_in_what_has_come_and_gets_no_more(crew):
    two = crew(2)
    for _ in range(8):
        two.accept(0, take=False)
    two.workers[1].finish()
    assert sum(two.counts) == 8
    before = two.counts[1]
    for _ in range(20):
        two.accept(0)
    assert two.counts[1] == before


def test_while_who_leaves_takes_in_what_has_come_nobody_hands_on_to_him(crew):
    two = crew(2)
    for _ in range(8):
        two.accept(0, take=False)
    was, seen = two.workers[1]._take, []

    def take(name: str, fd: int) -> None:
        was(name, fd)
        seen.append(two.table.slots[1][SERVES])

    two.workers[1]._take = take
    two.workers[1].finish()
    assert seen
    assert set(seen) == {0}


def test_a_full_channel_keeps_them_here(crew):
    two = crew(2)
    for _ in range(5_000):
        two.accept(0, take=False)
    assert sum(two.counts) < 5_000
    two.take()
    assert sum(two.counts) == 5_000
