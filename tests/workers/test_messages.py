"""Messages: what goes over the link is never longer than a value of AMP, and comes as it was."""

import os

from twisted_lb.workers.crew import Link
from twisted_lb.workers.messages import Quiet, packed, unpacked

# What a log may have of hostile clients: ends of texts, halves of characters, wide ones.
LINES = [("warn", "twisted_lb", text) for text in ("a\0b\0c", "\udcff\ud800", "\n\r", "\U0001f600" * 2000, "") * 50]


def test_lines_of_the_log_go_whole_whatever_is_in_them():
    texts = packed(LINES)
    assert max(map(len, texts)) < 1 << 16
    assert [line for text in texts for line in unpacked(text)] == LINES


def test_the_parent_takes_every_line():
    link = Link.__new__(Link)
    link._life = type("Life", (), {"slot": 1})
    for text in packed(LINES):
        assert link.said(text) == {}


def test_a_descriptor_whose_message_never_comes_is_closed():
    link = Quiet()
    reading, writing = os.pipe()
    link.fileDescriptorReceived(writing)
    link.connectionLost()
    assert os.read(reading, 1) == b""  # nobody has the other end any more
    os.close(reading)
