"""Engines with prompt caches behind policies, on virtual time: the laws of the model, and what the policy by prefix has to bring."""

import random
from dataclasses import replace
from itertools import islice

import pytest
from some import some

from twisted_lb.config.policies import PolicyTable
from twisted_lb.sim.prompts import Engine, PromptFarm, Prompts

FEW = 4000
HOT = Prompts(shared=4, skew=1.0)
MIXED = Prompts(shared=64, hot=0.9, skew=1.0)
COLD = Prompts(hot=0.0)


def ran(policy, prompts, load, seed=1, **options):
    return PromptFarm(policy, prompts, load=load, requests=FEW, **options).run(seed)


def test_an_engine_serves_so_many_at_a_time_in_the_order_of_arrival():
    engine = Engine(2, 100)
    served = [engine.serve(at, 0.5, 1.0) for at in (0.0, 0.0, 0.1, 5.0)]
    assert served == [(0.5, 1.5), (0.5, 1.5), (2.0, 3.0), (5.5, 6.5)]


def test_an_engine_has_cached_what_it_was_asked_for_last():
    engine = Engine(1, 10)
    one, other, third = (tuple(range(at, at + 5)) for at in (0, 100, 200))
    assert [engine.cached(blocks) for blocks in (one, other, one, third, other, third, one)] == [0, 0, 5, 0, 0, 5, 0]
    assert engine.cached((*third[:3], 7, 8)) == 3


def test_what_is_asked_begins_as_often_alike_as_is_said():
    prompts = Prompts(shared=3, shared_blocks=5, own_blocks=2, hot=0.75)
    asked = list(islice(prompts.asks(random.Random(1)), 4000))
    begins = [ask.prefix.blocks[:5] for ask in asked]
    counts = sorted((begins.count(one) for one in set(begins)), reverse=True)
    # Of 4,000 three in four are of three beginnings: binomial, five standard deviations are 137.
    assert abs(sum(counts[:3]) - 3000) < 137
    assert set(counts[3:]) == {1}
    assert len({ask.prefix.blocks[5:] for ask in asked}) == 4000
    assert len({ask.key for ask in asked}) == len(set(begins))


def test_the_first_ones_are_asked_for_more_often_where_that_is_said():
    prompts = Prompts(shared=4, skew=1.0)
    begins = [ask.prefix.blocks[0] for ask in islice(prompts.asks(random.Random(2)), 5000)]
    counts = sorted((begins.count(one) for one in set(begins)), reverse=True)
    # 1, 1/2, 1/3, 1/4: 48 % are of the first; five standard deviations are 3.6 %.
    assert counts[0] / 5000 == pytest.approx(0.48, abs=0.036)


@pytest.mark.long
def test_with_nothing_to_cache_an_engine_alone_is_a_queue_as_any_other():
    """One engine, one place: M/G/1. The mean wait by Pollaczek and Khinchine, with the prefill fixed and the decode exponential."""
    prompts = Prompts(hot=0.0)
    farm = PromptFarm("least", prompts, engines=1, slots=1, load=0.5, requests=20_000, cache_blocks=1)
    prefill, decode = prompts.blocks * farm.prefill_s, farm.decode_s
    mean, square = prefill + decode, (prefill + decode) ** 2 + decode**2
    waits = farm.rate * square / (2 * (1 - farm.rate * mean))
    found = [farm.run(seed).mean_first_s - prefill for seed in range(1, 6)]
    # Five runs deviate by 0.05 or so each.
    assert sum(found) / 5 == pytest.approx(waits, rel=0.1)


def test_the_same_seed_brings_the_same_requests_and_the_same_run():
    one, other = (ran("prefix", MIXED, 1.2) for _ in range(2))
    assert (one.first_s, one.cached, one.hotspot) == (other.first_s, other.cached, other.hotspot)
    assert ran("prefix", MIXED, 1.2, seed=2).first_s != one.first_s


@pytest.mark.parametrize("seed", some(1, [1, 2, 3]))
def test_mixed_prompts_are_cached_and_served_sooner_by_prefix_than_by_load_or_key(seed):
    runs = {name: ran(name, MIXED, 1.2, seed) for name in ("prefix", "least", "p2c", "ring", "maglev")}
    prefix = runs.pop("prefix")
    assert prefix.cached > 0.7 > 0.55 > max(runs[name].cached for name in ("least", "p2c"))
    assert all(prefix.first_quantile(0.99) < one.first_quantile(0.99) for one in runs.values())
    assert all(prefix.mean_first_s < one.mean_first_s for one in runs.values())


@pytest.mark.parametrize("seed", some(1, [1, 2, 3]))
def test_hot_prompts_are_spread_nearly_as_by_load_alone(seed):
    prefix, least = ran("prefix", HOT, 1.6, seed), ran("least", HOT, 1.6, seed)
    assert prefix.hotspot < 1.15
    assert prefix.first_quantile(0.99) < 2 * least.first_quantile(0.99) + 0.1
    assert ran(PolicyTable("ring", "requests", bound_percent=0), HOT, 1.6, seed).offered > 1


def test_one_prompt_alone_is_asked_of_all_engines():
    prefix = ran("prefix", Prompts(shared=1), 1.6)
    assert prefix.hotspot < 1.1
    assert prefix.cached > 0.9


@pytest.mark.parametrize("factor", some(1, [0.5, 1.0, 2.0]))
def test_cold_prompts_are_served_as_by_load_alone(factor):
    prefix = ran(PolicyTable("prefix", "requests", load_factor=factor), COLD, 0.9)
    assert prefix.first_s == ran("least", COLD, 0.9).first_s


def test_a_policy_that_takes_engines_to_hold_more_than_they_have_room_for_is_little_worse():
    """What it takes for cached is not, and goes where it was all the same."""
    right, much = (ran(PolicyTable("prefix", "requests", blocks=blocks), MIXED, 1.2) for blocks in (1024, 1_048_576))
    assert much.cached > 0.95 * right.cached
    few = ran(PolicyTable("prefix", "requests", blocks=64), MIXED, 1.2)
    assert few.cached < right.cached


def test_engines_with_more_room_cache_more_and_by_load_alone_they_need_several_times_as_much():
    small, large = (ran("least", MIXED, 1.2, cache_blocks=blocks).cached for blocks in (1024, 4096))
    assert small < large
    assert ran("prefix", MIXED, 1.2, cache_blocks=1024).cached > large


def test_it_begins_to_count_behind_the_warm_up():
    farm = PromptFarm("least", MIXED, requests=1000)
    assert len(farm.run().first_s) == len(farm.run().whole_s) == 900
    assert len(replace(farm, warm_up=0.5).run().first_s) == 500
