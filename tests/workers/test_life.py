"""The parent's end of a link: the last that a worker says is heard, and then it is hung up on."""

import os
from types import SimpleNamespace

import pytest

from twisted_lb.core.measures import Beside, Measures
from twisted_lb.workers.codec import dumped
from twisted_lb.workers.life import Life
from twisted_lb.workers.messages import memory_file


class Owner:
    """A crew that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def counted(self, life: Life, told: bytes) -> None:
        self.told.append((life.slot, told))


@pytest.fixture
def life():
    one = Life(Owner(), 1, 0, 0.0)
    one.link.transport = SimpleNamespace(loseConnection=lambda: one.crew.told.append("hung up"))
    return one


COUNTED = dumped((Measures((), ()), Beside()))


def test_what_it_has_counted_is_heard_before_it_is_hung_up_on(life):
    assert life.link.ends(memory_file("counted", COUNTED)) == {}
    assert life.crew.told == [(1, COUNTED), "hung up"]


def test_one_that_has_counted_nothing_ends_all_the_same(life):
    life.link.ends(memory_file("counted", b""))
    assert life.crew.told == ["hung up"]


def test_what_another_program_has_counted_is_not_understood(life):
    life.same_program = False
    life.link.ends(memory_file("counted", COUNTED))
    assert life.crew.told == ["hung up"]


def test_one_that_is_gone_by_then_is_not_hung_up_on(life):
    life.link.transport = None
    life.link.ends(memory_file("counted", COUNTED))
    assert life.crew.told == [(1, COUNTED)]


def test_a_descriptor_whose_message_does_not_come_is_inherited_by_nobody_and_closed(life):
    fd = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(fd, True)
    life.link.fileDescriptorReceived(fd)
    assert not os.get_inheritable(fd)
    life.crew.kill_later = lambda *_: None
    life.link.connectionLost()
    with pytest.raises(OSError):
        os.fstat(fd)
