"""What a request asks of a policy."""

import subprocess
import sys

import pytest

from twisted_lb.core.ask import ANY, Ask, key_of
from twisted_lb.core.prefix import NO_PREFIX, Prefix, Seen


def test_a_request_that_asks_for_nothing_is_an_ordinary_one_without_a_key():
    assert (ANY.key, ANY.cost, ANY.prefix) == (0, 1, NO_PREFIX)
    assert repr(Ask(255, 2)) == "<Ask key=00000000000000ff cost=2 prefix=0 blocks>"


def test_a_prefix_changes_nothing_else_of_an_ask():
    ask = Ask(7, 2, by="path", lane=3, urgency=1)
    other = ask.with_prefix(Prefix((1, 2), Seen.WHOLE))
    assert other.prefix.blocks == (1, 2)
    assert [getattr(other, name) for name in ("key", "cost", "by", "lane", "urgency")] == [7, 2, "path", 3, 1]
    assert ask.prefix is NO_PREFIX


# RFC 1321 A.5: 900150983cd24fb0d6963f7d28e17f72 and d41d8cd98f00b204e9800998ecf8427e; the first 8 bytes, the last one first.
@pytest.mark.parametrize(("data", "key"), [(b"abc", 0xB04FD23C98500190), (b"", 0x04B2008FD98C1DD4)])
def test_a_key_is_the_documented_hash(data, key):
    assert key_of(data) == key


def test_a_key_is_the_same_in_every_process():
    code = "from twisted_lb.core.ask import key_of; print(key_of(b'client-7'))"
    keys = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert keys == {b"%d\n" % key_of(b"client-7")}
