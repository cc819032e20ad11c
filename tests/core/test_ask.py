"""What a request asks of a policy."""

import subprocess
import sys

import pytest

from twisted_lb.core.ask import ANY, Ask, key_of


def test_a_request_that_asks_for_nothing_is_an_ordinary_one_without_a_key():
    assert (ANY.key, ANY.cost, ANY.prefix) == (0, 1, 0)
    assert repr(Ask(255, 2)) == "<Ask key=00000000000000ff cost=2 prefix=0000000000000000>"


# b2sum --length=64 says the same.
@pytest.mark.parametrize(("data", "key"), [(b"abc", 0xD8BB14D833D59559), (b"", 0xE4A6A0577479B2B4)])
def test_a_key_is_the_documented_hash(data, key):
    assert key_of(data) == key


def test_a_key_is_the_same_in_every_process():
    code = "from twisted_lb.core.ask import key_of; print(key_of(b'client-7'))"
    keys = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert keys == {b"%d\n" % key_of(b"client-7")}
