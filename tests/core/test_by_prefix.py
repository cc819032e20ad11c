"""By prefix: where a prompt is cached, as long as that is not too crowded."""

import random
from collections import Counter

import pytest
from builders import claim as claim_any
from builders import make_pool, specs
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.core.address import parse_address
from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.backend import AdminState, BackendSpec
from twisted_lb.core.decision import recalled
from twisted_lb.core.lease import Lease
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES, by_prefix
from twisted_lb.core.pickers.base import MOST_REMEMBERED
from twisted_lb.core.pickers.shadow import ShadowedPolicy, peek_of
from twisted_lb.core.prefix import ENCODED_PREFIX, Prefix, Seen
from twisted_lb.core.succession import Succession


def prompt(name, length=10, seen=Seen.WHOLE):
    """An ask whose body begins as no other one's."""
    return Ask(prefix=Prefix(tuple(random.Random(name).sample(range(1 << 60), 100))[:length], seen, 512 * length))


def claim(pool, ask, now=0.0, tried=()):
    lease = pool.claim(ask, now, tried)
    assert isinstance(lease, Lease)
    return lease


def served(pool, ask, now=0.0):
    """Who serves it, and has done so."""
    lease = claim(pool, ask, now)
    pool.settle(lease, Outcome.OK, now)
    return lease.backend.name


def knows(pool, name, ask):
    """Have one backend serve a request."""
    backend = pool.backends[name]
    lease = pool.claim_on(backend, ask, 0.0)
    pool.settle(lease, Outcome.OK, 0.0)


def busy(pool, name, count):
    backend = pool.backends[name]
    for _ in range(count):
        assert isinstance(pool.claim_on(backend, ANY, 0.0), Lease)


def farm(*texts, policy="prefix", **settings):
    return make_pool(*(texts or [f"b{at}:1" for at in range(5)]), policy=policy, **settings)[0]


# Where it goes.


def test_a_prompt_goes_where_it_was_before():
    pool = farm()
    first = {name: served(pool, prompt(name)) for name in "abcdefgh"}
    for _ in range(5):
        assert {name: served(pool, prompt(name)) for name in "hgfedcba"} == first


def test_of_several_that_know_a_part_the_one_that_knows_most_has_it():
    pool = farm()
    for name, length in (("b1:1", 3), ("b3:1", 9), ("b4:1", 6)):
        knows(pool, name, prompt("a", length))
    assert {served(pool, prompt("a", 10)) for _ in range(1)} == {"b3:1"}


def test_cold_prompts_go_to_the_least_loaded_and_not_to_the_first():
    """SGLang's router sent all of them to its first worker (#32983)."""
    pool = farm()
    for name, count in (("b0:1", 2), ("b1:1", 1), ("b2:1", 2), ("b4:1", 2)):
        busy(pool, name, count)
    assert {served(pool, prompt(f"cold {number}")) for number in range(20)} == {"b3:1"}


def test_cold_prompts_to_idle_backends_are_spread_by_chance_and_weight():
    """Multinomial: 8,000 draws, five standard deviations are 200 at most."""
    pool = farm("a:1", "b:1,weight=3")
    got = Counter(served(pool, prompt(f"cold {number}", 1)) for number in range(8000))
    assert abs(got["b:1"] - 6000) < 200


@pytest.mark.parametrize("ask", [ANY, Ask(prefix=ENCODED_PREFIX), prompt("short", 0)], ids=["none", "encoded", "short"])
def test_what_has_no_blocks_is_cold(ask):
    pool = farm()
    knows(pool, "b1:1", prompt("a"))
    busy(pool, "b1:1", 1)
    assert all(served(pool, ask) != "b1:1" for _ in range(50))


def test_a_prompt_leaves_its_backend_where_that_has_too_much_more_in_flight():
    """All of it is worth as much more in flight as the mean is, here 4: six beside three, and not eight beside two."""
    for loads, stays in (((6, 3, 3), True), ((8, 2, 2), False)):
        pool = farm("a:1", "b:1", "c:1")
        knows(pool, "a:1", prompt("a"))
        for name, load in zip(pool.backends, loads, strict=True):
            busy(pool, name, load)
        assert (served(pool, prompt("a")) == "a:1") is stays


@pytest.mark.parametrize(("factor", "stays"), [(0.5, True), (4.0, False)])
def test_the_load_factor_is_the_exchange_rate(factor, stays):
    pool = farm("a:1", "b:1", policy=by_prefix(factor=factor))
    knows(pool, "a:1", prompt("a"))
    busy(pool, "a:1", 6)
    busy(pool, "b:1", 4)
    # Mean 5: 1 - factor / 5 against factor / 5.
    assert served(pool, prompt("a")) == ("a:1" if stays or factor < 2.5 else "b:1")


def test_without_a_load_factor_only_prompts_count_and_load_where_they_are_alike():
    pool = farm("a:1", "b:1", policy=by_prefix(factor=0.0))
    knows(pool, "a:1", prompt("a", 1))
    busy(pool, "a:1", 50)
    assert {served(pool, prompt("a", 100)) for _ in range(1)} == {"a:1"}
    assert {served(pool, prompt(f"cold {number}")) for number in range(20)} == {"b:1"}


def test_twice_the_weight_bears_twice_as_much():
    pool = farm("a:1,weight=2", "b:1,weight=4")
    for count in range(1, 31):
        claim(pool, prompt(f"cold {count}"))
        if count % 3 == 0:
            assert [one.in_flight for one in pool.backends.values()] == [count // 3, 2 * count // 3]


@pytest.mark.parametrize("weight", [1, 7, 256])
def test_equal_weights_are_all_the_same_whatever_they_are(weight):
    pool = farm(*(f"b{at}:1,weight={weight}" for at in range(3)))
    knows(pool, "b1:1", prompt("a"))
    picked = [claim(pool, prompt("a")).backend.name for _ in range(9)]
    alike = farm(*(f"b{at}:1" for at in range(3)))
    knows(alike, "b1:1", prompt("a"))
    assert picked == [claim(alike, prompt("a")).backend.name for _ in range(9)]


def test_costs_count_where_that_is_what_load_is():
    pool = farm("a:1", "b:1", policy=by_prefix(load="cost"))
    knows(pool, "a:1", prompt("a"))
    assert isinstance(pool.claim_on(pool.backends["a:1"], Ask(cost=40), 0.0), Lease)
    busy(pool, "b:1", 3)
    assert served(pool, prompt("a")) == "b:1"


# Who is not asked.


def test_one_that_is_full_or_out_is_stepped_over_and_knows_it_still():
    pool = farm("a:1", "b:1", max_in_flight=1)
    knows(pool, "a:1", prompt("a"))
    lease = claim(pool, prompt("a"))
    assert lease.backend.name == "a:1"
    other = claim(pool, prompt("a"))
    assert other.backend.name == "b:1"
    pool.settle(lease, Outcome.OK, 0.0)
    assert served(pool, prompt("a")) == "a:1"


def test_a_retry_goes_to_who_was_not_tried():
    pool = farm("a:1", "b:1")
    knows(pool, "a:1", prompt("a"))
    lease = claim(pool, prompt("a"), tried=(pool.backends["a:1"],))
    assert lease.backend.name == "b:1"


def test_a_trial_that_is_due_comes_first_whatever_it_knows():
    pool = farm("a:1", "b:1", checked=False)
    knows(pool, "b:1", prompt("a"))
    lost = pool.claim_on(pool.backends["a:1"], ANY, 0.0)
    pool.settle(lost, Outcome.REFUSED, 0.0)
    assert served(pool, prompt("a"), 0.5) == "b:1"
    lease = claim(pool, prompt("a"), 1.0)
    assert (lease.backend.name, lease.trial) == ("a:1", True)
    assert "a trial was due" in recalled(lease).rule


# What a hot prompt can bring about.


@examples(200)
@given(st.data(), st.sampled_from([0.5, 1.0, 3.0]), st.integers(2, 6))
def test_nobody_is_picked_who_has_much_more_in_flight_than_the_least_loaded(data, factor, size):
    """max(1, mean) / load_factor more: all of a prompt is worth no more."""
    pool = farm(*(f"b{at}:1" for at in range(size)), policy=by_prefix(factor=factor))
    leases = []
    for _ in range(data.draw(st.integers(1, 60))):
        if leases and data.draw(st.booleans()) and data.draw(st.booleans()):
            pool.settle(leases.pop(data.draw(st.integers(0, len(leases) - 1))), Outcome.OK, 0.0)
            continue
        loads = {one.name: one.in_flight for one in pool.backends.values()}
        mean = sum(loads.values()) / size
        lease = claim(pool, prompt(data.draw(st.sampled_from("aaab"))))
        assert loads[lease.backend.name] <= min(loads.values()) + max(1.0, mean) / factor + 1e-9
        leases.append(lease)


def test_one_prompt_alone_is_spread_over_as_many_as_it_needs():
    pool = farm()
    for _ in range(100):
        claim(pool, prompt("hot"))
    loads = [one.in_flight for one in pool.backends.values()]
    assert (sum(loads), max(loads) - min(loads) <= 2) == (100, True)


# When a backend has begun anew.


def forgotten(pool, ask=None):
    """How many blocks of the prompt `a:1` is taken to hold."""
    return pool.backends["a:1"].load.cache.matched((ask or prompt("a")).prefix.blocks)


@pytest.fixture
def known():
    pool = farm("a:1", "b:1")
    knows(pool, "a:1", prompt("a"))
    assert forgotten(pool) == 10
    return pool


def test_one_that_was_down_has_nothing_cached(known):
    backend = known.backends["a:1"]
    known.observe_probe(backend, True, "", 0.5)
    for _ in range(3):
        assert forgotten(known) == 10
        known.observe_probe(backend, False, "x", 1.0)
    assert forgotten(known) == 0


def test_nor_has_one_that_refused(known):
    lease = known.claim_on(known.backends["a:1"], prompt("a"), 0.0)
    known.settle(lease, Outcome.REFUSED, 0.0)
    assert forgotten(known) == 0


@pytest.mark.parametrize("outcome", [Outcome.NO_RESPONSE, Outcome.TIMED_OUT, Outcome.CUT_SHORT, Outcome.CLIENT_GONE])
def test_one_that_failed_once_is_the_same_one(known, outcome):
    known.settle(known.claim_on(known.backends["a:1"], ANY, 0.0), outcome, 0.0)
    assert forgotten(known) == 10


def test_nor_has_one_that_was_in_maintenance_and_one_that_drained_has_it_all(known):
    for state, left in ((AdminState.DRAIN, 10), (AdminState.READY, 10), (AdminState.MAINT, 0)):
        known.command(known.backends["a:1"], state, 0.0)
        assert forgotten(known) == left


def test_nor_has_one_that_was_replaced_or_has_left(known):
    moved = BackendSpec("a:1", parse_address("10.0.0.9:1"))
    known.update([moved, *specs("b:1")], 1.0)
    assert forgotten(known) == 0
    knows(known, "a:1", prompt("a"))
    known.update(specs("b:1"), 2.0)
    known.update([moved, *specs("b:1")], 3.0)
    assert forgotten(known) == 0


def test_nor_has_one_whose_name_leads_to_another_address(known):
    known.moved(known.backends["a:1"], "is at 10.0.0.9 now", 1.0)
    assert forgotten(known) == 0


def test_who_comes_changes_nothing_of_what_others_know(known):
    known.update(specs("a:1", "b:1,weight=3", "c:1"), 1.0, Succession())
    assert forgotten(known) == 10


# When the policy is another one.


def test_what_is_known_stays_where_only_numbers_change():
    pool = farm("a:1", "b:1")
    knows(pool, "a:1", prompt("a"))
    pool.choose_by(by_prefix(factor=3.0, blocks=4096, peek_bytes=8192))
    assert (forgotten(pool), pool.peek.bytes) == (10, 8192)
    pool.choose_by(by_prefix(block_bytes=256))
    assert (forgotten(pool), pool.peek.block_bytes) == (0, 256)


def test_a_pool_looks_at_bodies_only_where_its_policy_or_shadow_goes_by_them():
    assert farm(policy="least").peek is None
    pool = farm()
    assert (pool.peek.bytes, pool.peek.block_bytes) == (65536, 512)
    pool.choose_by(POLICIES["rr"])
    assert pool.peek is None
    fine = by_prefix(block_bytes=64)
    assert peek_of(ShadowedPolicy(POLICIES["least"], fine, "prefix")) is fine.peek
    assert peek_of(ShadowedPolicy(fine, POLICIES["prefix"], "prefix")) is fine.peek
    assert peek_of(ShadowedPolicy(POLICIES["least"], POLICIES["rr"], "rr")) is None


def test_policies_of_the_same_numbers_are_equal():
    assert by_prefix() == POLICIES["prefix"] != by_prefix(factor=2.0)
    assert hash(by_prefix()) == hash(POLICIES["prefix"])
    numbers = ({"load": "cost"}, {"block_bytes": 64}, {"peek_bytes": 600}, {"blocks": 5})
    assert len({by_prefix(), *(by_prefix(**one) for one in numbers)}) == 5


def test_as_a_shadow_it_remembers_where_it_would_have_sent_them():
    pool = farm("a:1", "b:1", policy=ShadowedPolicy(POLICIES["first"], by_prefix(), "prefix"))
    for _ in range(20):
        claim(pool, prompt("a"))
    assert pool.backends["a:1"].in_flight == 20
    loads = [one.load.shadow for one in pool.backends.values()]
    assert [load.cache.matched(prompt("a").prefix.blocks) for load in loads] == [10, 10]
    assert pool.minded.shadow.in_flight == {"a:1": 10, "b:1": 10}


def test_with_an_adaptive_limit_it_is_told_as_well():
    from twisted_lb.core.settings import AdaptiveRules

    pool = farm("a:1", "b:1", adaptive=AdaptiveRules(1, 100, 25, 60.0))
    first = served(pool, prompt("a"))
    assert {served(pool, prompt("a")) for _ in range(5)} == {first}


# How it is explained.


def rule(pool, ask, now=0.0):
    lease = claim(pool, ask, now)
    told = recalled(lease)
    pool.settle(lease, Outcome.OK, now)
    return told


def test_it_is_told_how_much_was_known_and_what_the_load_was():
    pool = farm("a:1", "b:1", "c:1")
    knows(pool, "a:1", prompt("a", 8))
    knows(pool, "b:1", prompt("a", 4))
    busy(pool, "a:1", 1)
    decision = rule(pool, prompt("a", 10))
    assert decision.rule == (
        "prefix: it was given 4 of 10 blocks before; 0 in flight by weight, the mean is 0.333333: score 0.733; "
        "others were given some: a:1 8"
    )
    assert [(one.backend_name, round(one.rank, 3)) for one in decision.candidates] == [
        ("b:1", 0.733), ("c:1", 0.333), ("a:1", 0.133),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (prompt("x"), "prefix: nobody was given any of 10 blocks before (cold), by load alone; 0 in flight"),
        (prompt("x", 0), "prefix: no whole block to go by (cold), by load alone; 0 in flight"),
        (ANY, "; there was no body to look at, or none was waited for"),
        (Ask(prefix=ENCODED_PREFIX), "; the body is encoded (Content-Encoding), and was not looked into"),
        (prompt("x", 10, Seen.CUT), "; of the body the first 5120 bytes were looked at, more was to come"),
    ],
)
def test_what_was_not_looked_at_is_said(ask, told):
    pool = farm("a:1", "b:1")
    assert told in pool.explain(ask, 0.0).rule
    assert told in rule(pool, ask).rule


def test_that_nobody_was_open_is_said_with_what_is_known():
    pool = farm("a:1", "b:1", max_in_flight=1)
    knows(pool, "a:1", prompt("a"))
    for _ in range(2):
        claim_any(pool)
    ranks = [one.skipped for one in pool.explain(prompt("a"), 0.0).candidates]
    assert None not in ranks
    assert pool.explain(prompt("a"), 0.0).picked is None


def test_explain_foretells_and_changes_nothing():
    pool = farm("a:1", "b:1", "c:1")
    rng = random.Random(1)
    for _ in range(200):
        ask = prompt(rng.choice("abcdef"), rng.randint(0, 10))
        foreseen = pool.explain(ask, 0.0)
        assert foreseen == pool.explain(ask, 0.0)
        lease = claim(pool, ask)
        assert foreseen.picked == lease.backend.name
        assert foreseen.rule == recalled(lease).rule
        if rng.random() < 0.7:
            pool.settle(lease, Outcome.OK, 0.0)


def test_of_more_than_are_remembered_it_picks_alike_and_tells_what_the_one_had():
    pool = farm(*(f"b{at}:1" for at in range(MOST_REMEMBERED + 1)))
    knows(pool, "b60:1", prompt("a"))
    decision = rule(pool, prompt("a"))
    assert decision.picked == "b60:1"
    assert decision.rule.startswith("prefix: it was given 10 of 10 blocks before; 0 in flight by weight")


def test_a_mark_tells_itself_when_the_picker_is_not_kept_any_more():
    pool = farm("a:1", "b:1")
    knows(pool, "a:1", prompt("a"))
    lease = claim(pool, prompt("a"))
    bare = lease.scene.picker.bare()
    told = bare.recalled(lease.mark, lease.backend)
    assert told.rule.startswith(
        "prefix: it was given 10 of 10 blocks before; 0 in flight by weight, the mean is 0: score 1;"
    )
    assert told.rule.endswith("is not kept any more")
