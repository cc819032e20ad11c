"""How a body begins, in blocks."""

import json
import random
from hashlib import blake2b

import pytest

from twisted_lb.core.prefix import NO_PREFIX, Peek, Prefix, Seen, blocks_of

CHAT = [
    {"role": "system", "content": "You are a helpful assistant. " * 40},
    {"role": "user", "content": "What is a load balancer? " * 20},
]


def body(messages, **more):
    return json.dumps({"model": "m", "temperature": 0.7, **more, "messages": messages}).encode()


def common(one, other):
    """How many blocks two chains have in common, from the first one on."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def test_requests_that_begin_alike_have_as_many_blocks_in_common():
    data = random.Random(1).randbytes(4096)
    for at in (0, 511, 512, 513, 2048, 4095):
        other = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        one, changed = blocks_of(data, 512), blocks_of(other, 512)
        assert common(one, changed) == at // 512
        # A chain: what differs once differs from there on, whatever comes.
        assert not set(one[at // 512 :]) & set(changed[at // 512 :])


def test_the_same_block_elsewhere_is_another_one():
    assert len(set(blocks_of(b"a" * 512 * 8, 512))) == 8


def test_a_conversation_that_goes_on_begins_with_all_whole_blocks_of_what_it_was():
    before = blocks_of(body(CHAT), 64)
    after = blocks_of(body([*CHAT, {"role": "assistant", "content": "It spreads requests."}]), 64)
    # The bracket and brace behind the last message lie in the last block at most.
    assert common(before, after) >= len(before) - 1 > 20


def test_what_stands_before_the_prompt_does_not_count():
    for word in ("messages", "prompt", "system", "input"):
        one = json.dumps({"model": "m", "temperature": 0.1, word: "x" * 2000}).encode()
        other = json.dumps({"model": "a-longer-name", "stream": True, word: "x" * 2000}).encode()
        assert blocks_of(one, 128) == blocks_of(other, 128) != ()


def test_the_first_of_several_beginnings_counts():
    text = b'{"prompt": "' + b'say \\"messages\\" "messages" ' * 40
    assert blocks_of(text, 64) == blocks_of(b"{" + text[1:], 64)
    assert blocks_of(b"....." + text, 64) == blocks_of(text, 64)


def test_a_body_without_a_prompt_counts_from_its_first_byte():
    assert common(blocks_of(b"a" + b"x" * 600, 64), blocks_of(b"b" + b"x" * 600, 64)) == 0
    assert blocks_of(b"x" * 640, 64) == blocks_of(b"x" * 700, 64)


@pytest.mark.parametrize(("size", "blocks"), [(0, 0), (511, 0), (512, 1), (1023, 1), (1024, 2)])
def test_only_whole_blocks_count(size, blocks):
    assert len(blocks_of(b"x" * size, 512)) == blocks


def test_a_hash_is_the_same_in_every_process_and_small():
    """blake2b of 8 bytes; 60 bits are what the smallest number of Python has room for."""
    digest = blake2b(b"x" * 512, digest_size=8).digest()
    assert blocks_of(b"x" * 512, 512) == (int.from_bytes(digest, "little") % (1 << 60),)
    assert all(0 <= block < 1 << 60 for block in blocks_of(random.Random(2).randbytes(64 * 200), 64))


def test_pieces_are_looked_at_as_one_body():
    data = body(CHAT)
    peek = Peek(65536, 64)
    whole = peek.prefix([data], complete=True)
    assert whole.blocks == blocks_of(data, 64)
    for size in (1, 7, 100):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert peek.prefix(pieces, complete=True).blocks == whole.blocks


def test_it_is_said_how_much_of_a_body_was_seen():
    peek = Peek(1024, 64)
    data = b"x" * 2000
    for pieces, complete, seen, size in (
        ([data[:1000]], True, Seen.WHOLE, 1000),
        ([data[:1024]], True, Seen.WHOLE, 1024),
        ([data[:1000]], False, Seen.CUT, 1000),
        ([data[:1025]], True, Seen.CUT, 1024),
        ([data], False, Seen.CUT, 1024),
    ):
        prefix = peek.prefix(pieces, complete=complete)
        assert (prefix.seen, prefix.bytes, len(prefix.blocks)) == (seen, size, size // 64)


def test_a_prefix_says_what_it_is():
    assert repr(NO_PREFIX) == "<Prefix of 0 blocks, nothing>"
    assert repr(Prefix((1, 2), Seen.CUT, 1024)) == "<Prefix of 2 blocks, cut>"
