"""What a backend is taken to hold."""

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.counts import Counts
from twisted_lb.core.load import Apart, Cost, Requests
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.prefix import ENCODED_PREFIX, Prefix, Seen
from twisted_lb.core.prompt_cache import BLOCK_COSTS_BYTES, PrefixLoads, PromptCache


def chain(name, length):
    """The blocks of a prompt of its own."""
    return tuple(random.Random(name).sample(range(1 << 60), length))


def ask(blocks, seen=Seen.WHOLE):
    return Ask(prefix=Prefix(blocks, seen))


def test_what_was_given_is_held_as_far_as_it_begins_alike():
    cache = PromptCache(100)
    one = chain("one", 10)
    assert cache.matched(one) == 0
    cache.remember(one[:6])
    assert [cache.matched(blocks) for blocks in (one, one[:3], (*one[:2], *chain("other", 5)), (), chain("x", 3))] == [
        6, 3, 2, 0, 0,
    ]  # fmt: skip


def test_all_is_forgotten_at_once():
    cache = PromptCache(100)
    cache.remember(chain("one", 10))
    cache.forget()
    assert (len(cache), cache.matched(chain("one", 10))) == (0, 0)


class Plain:
    """The oracle: the prompts that were given, in their order; a block is as old as the last of them that has it."""

    def __init__(self):
        self.given = []

    def remember(self, blocks):
        self.given.extend(reversed(blocks))

    def last(self, count):
        """As many different blocks, those that were given last."""
        found = []
        for block in reversed(self.given):
            if len(found) == count:
                break
            if block not in found:
                found.append(block)
        return found


@given(st.data(), st.integers(2, 40))
def test_it_holds_no_more_than_it_may_and_no_fewer_than_the_last_half_and_none_without_those_before_it(data, most):
    cache, plain = PromptCache(most), Plain()
    prompts = [chain(f"prompt {number}", 12) for number in range(6)]
    for _ in range(data.draw(st.integers(0, 30))):
        blocks = data.draw(st.sampled_from(prompts))[: data.draw(st.integers(0, 12))]
        cache.remember(blocks)
        plain.remember(blocks)
        assert len(cache) <= most
        held = {block for prompt in prompts for block in prompt if cache.matched(prompt) > prompt.index(block)}
        assert set(plain.last(max(most // 2, 1))) <= held
        for prompt in prompts:
            # What a search in halves finds is what a walk finds, and nothing is held behind it.
            assert all(block in held for block in prompt[: cache.matched(prompt)])
            assert sum(block in cache._new or block in cache._old for block in prompt) == cache.matched(prompt)


@pytest.mark.parametrize("most", [1024, 16_384, 20_000, 65_536])
def test_a_block_takes_no_more_than_is_said(most):
    """A number of 60 bits takes 32 bytes, and a set has up to seven places of 16 for each of its entries, just after it has grown."""
    cache, rng = PromptCache(most), random.Random(1)
    worst = 0.0
    for _ in range(2 * most // 64):
        cache.remember([rng.getrandbits(60) for _ in range(64)])
        worst = max(worst, (sys.getsizeof(cache._new) + sys.getsizeof(cache._old)) / most + 32)
    assert worst <= BLOCK_COSTS_BYTES


def test_a_load_remembers_what_its_backend_was_given_and_counts_what_was_known_of_it():
    counts = Counts()
    loads = PrefixLoads(Apart(counts, Requests), 100)
    one, other = (loads.of(counts.open()) for _ in range(2))
    one.leased(1.0, ask(chain("a", 10)), 0.0)
    one.leased(1.0, ask(chain("a", 10)[:8], Seen.CUT), 0.0)
    other.leased(1.0, ask(chain("a", 10)), 0.0)
    other.leased(1.0, ANY, 0.0)
    other.leased(1.0, Ask(prefix=ENCODED_PREFIX), 0.0)
    assert (loads.given, loads.matched) == (28, 8)
    assert loads.seen == [1, 2, 1, 1]
    assert (len(one.cache), len(other.cache)) == (10, 10)


def test_a_backend_that_began_anew_has_nothing_cached_and_others_have():
    counts = Counts()
    loads = PrefixLoads(Apart(counts, Requests), 100)
    one, other = (loads.of(counts.open()) for _ in range(2))
    for load in (one, other):
        load.leased(1.0, ask(chain("a", 10)), 0.0)
    one.restarted()
    assert (one.cache.matched(chain("a", 10)), other.cache.matched(chain("a", 10))) == (0, 10)


def test_the_load_itself_goes_on_as_it_would():
    counts = Counts()
    load = PrefixLoads(Apart(counts, Cost), 100).of(counts.open())
    counts.claim(0)
    note = load.leased(2.0, Ask(cost=9, prefix=Prefix(chain("a", 3), Seen.WHOLE)), 0.0)
    assert load.value(2.0, 0.0) == 4.5
    load.restarted()
    assert load.value(2.0, 0.0) == 4.5
    counts.release(0)
    load.responded(note, 0.5, 0.5)
    load.settled(note, Outcome.OK, 1.0, 1.0)
    assert load.value(2.0, 1.0) == 0


def test_a_bound_that_is_another_one_holds_from_the_next_request_on():
    counts = Counts()
    loads = PrefixLoads(Apart(counts, Requests), 100)
    load = loads.of(counts.open())
    load.leased(1.0, ask(chain("a", 90)), 0.0)
    loads.blocks = 20
    for name in "bcd":
        load.leased(1.0, ask(chain(name, 10)), 0.0)
    assert len(load.cache) <= 20
    assert load.cache.matched(chain("d", 10)) == 10
