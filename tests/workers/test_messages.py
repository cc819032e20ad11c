"""Messages: what goes over the link comes as it was, however long it is, and no length ends the link."""

import os
import random

import pytest
from twisted.internet.testing import StringTransport
from twisted.protocols.amp import AMP, Command

from twisted_lb.workers.facts import Probed
from twisted_lb.workers.life import Link
from twisted_lb.workers.messages import Ask, Found, Long, LongText, Quiet, Said, Tell, packed, unpacked

# What a log may have of hostile clients: ends of texts, halves of characters, wide ones.
LINES = [("warn", "twisted_lb", text) for text in ("a\0b\0c", "\udcff\ud800", "\n\r", "\U0001f600" * 2000, "") * 50]


class Heard(Quiet):
    """The other end: what has come."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[object] = []

    @Tell.responder
    def told(self, facts: bytes) -> dict[str, object]:
        self.heard += unpacked(facts)
        return {}


def link() -> tuple[Quiet, Heard, StringTransport]:
    here, there, wire = Quiet(), Heard(), StringTransport()
    here.makeConnection(wire)
    there.makeConnection(StringTransport())
    return here, there, wire


def test_lines_of_the_log_go_whole_whatever_is_in_them():
    assert [line for text in packed(LINES) for line in unpacked(text)] == LINES


def test_many_go_in_a_few_messages_that_are_no_longer_than_needed():
    texts = packed(LINES)
    assert 1 < len(texts) < 100
    assert max(map(len, texts)) < 1 << 16


def test_the_parent_takes_every_line():
    link = Link.__new__(Link)
    link._life = type("Life", (), {"slot": 1})
    for text in packed(LINES):
        assert link.said(text) == {}


@pytest.mark.parametrize("length", [0, 1, 59_999, 60_000, 60_001, 65_535, 65_536, 120_000, 1_000_000])
def test_a_fact_of_any_length_comes_as_it_was_and_what_is_behind_it_too(length):
    here, there, wire = link()
    facts = [Probed("app", "b1", False, "ä" * length), Probed("app", "b" * length, True, "")]
    for text in packed(facts):
        here.callRemote(Tell, facts=text)
    sent = wire.value()
    rng = random.Random(length)
    while sent:  # in whatever pieces
        cut = rng.randrange(1, 50_000)
        there.dataReceived(sent[:cut])
        sent = sent[cut:]
    assert there.heard == facts


def test_all_that_may_be_long_is_sent_so():
    kinds = {(one, name): type(kind) for one in (Ask, Tell, Found, Said) for name, kind in one.arguments}
    assert kinds[Ask, b"arguments"] is LongText
    assert {kinds[Tell, b"facts"], kinds[Found, b"facts"], kinds[Said, b"lines"]} == {Long}


def test_a_long_text_comes_as_it_was():
    class Question(Command):
        arguments = ((b"arguments", LongText()),)

    strings = Question.makeArguments({"arguments": "ö" * 100_000}, AMP())
    assert max(map(len, strings.values())) < 1 << 16
    assert Question.parseArguments(strings, AMP()) == {"arguments": "ö" * 100_000}


def test_a_descriptor_whose_message_never_comes_is_closed():
    link = Quiet()
    reading, writing = os.pipe()
    link.fileDescriptorReceived(writing)
    link.connectionLost()
    assert os.read(reading, 1) == b""  # nobody has the other end any more
    os.close(reading)
