"""docs/inference.md is what was measured, and what it says in words is so."""

import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from builders import make_pool
from prompt_table.measure import POLICIES, WORKLOADS, of, once
from prompt_table.page import render

from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.config.policies import PolicyTable
from twisted_lb.core.ask import ANY, Ask
from twisted_lb.core.decision import recalled
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.pickers import POLICIES as NAMED
from twisted_lb.core.prefix import Prefix, Seen
from twisted_lb.core.prompt_cache import BLOCK_COSTS_BYTES
from twisted_lb.plan import plan_of

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "inference.md").read_text()
MEASURED = json.loads((DOCS / "inference.json").read_text())


def first(workload, policy, what="p99_first_s"):
    return MEASURED[workload][policy][what][0]


def test_the_page_is_what_was_measured():
    assert render(MEASURED) == PAGE, "benchmarks/prompts.py --render"
    assert {name: list(one) for name, one in MEASURED.items()} == {name: list(POLICIES) for name in WORKLOADS}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_what_was_measured_is_what_is_found_now(workload):
    """A shorter run, with as much to cache: within a tenth of the stored one."""
    now = of([once("prefix", workload, 6000)] * 2)
    for what in ("cached", "hotspot"):
        assert now[what][0] == pytest.approx(MEASURED[workload]["prefix"][what][0], rel=0.1), "benchmarks/prompts.py"


def test_mixed_prompts_are_served_soonest_by_prefix():
    others = [name for name in POLICIES if not name.startswith("prefix")]
    for what in ("mean_first_s", "p99_first_s", "p99_whole_s"):
        value, half = MEASURED["mixed"]["prefix"][what]
        assert all(value + half < first("mixed", name, what) for name in others), what
    assert first("mixed", "prefix", "cached") > max(
        first("mixed", name, "cached") for name in ("least", "p2c", "ring", "maglev")
    )
    # 52 blocks of 20 ms: what nobody has cached.
    assert first("mixed", "prefix") == pytest.approx(1.04, abs=0.005)


def test_hot_prompts_make_no_hot_spot_and_by_key_alone_they_bring_an_engine_down():
    assert first("hot", "prefix", "hotspot") < 1.1
    assert first("hot", "prefix") < 1.5 * first("hot", "least")
    assert all(first("hot", name) > 3 * first("hot", "prefix") for name in ("ring", "maglev"))
    assert first("hot", "ring, no bound", "offered") > 1
    assert "*unstable*" in PAGE


def test_of_cold_prompts_it_is_least_to_the_last_digit():
    for name in ("prefix", "prefix, load_factor 0.5", "prefix, load_factor 2"):
        assert MEASURED["cold"][name] == MEASURED["cold"]["least"]


def test_a_smaller_load_factor_keeps_prompts_together_and_a_larger_one_spreads_them():
    for what in ("cached", "hotspot"):
        half, one, two = (
            first("mixed", name, what) for name in ("prefix, load_factor 0.5", "prefix", "prefix, load_factor 2")
        )
        assert half > one > two


def file() -> LoadBalancerConfig:
    [text] = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return LoadBalancerConfig.model_validate(tomllib.loads(text))


def test_its_file_is_a_configuration_without_a_doubt_that_gathers_what_is_looked_at():
    config = file()
    plan = plan_of(config)
    pool = plan.pools["llm"]
    assert pool.policy is NAMED["prefix"]
    assert (pool.settings.max_in_flight, pool.settings.abandoned_s, pool.settings.queue_timeout_s) == (64, 30, 60)
    [lead] = [lead for route in plan.routes.values() for lead in route.leads]
    assert lead.rules.gather_bytes == 65536
    assert (lead.rules.response_head_s, lead.rules.response_idle_s) == (600, 120)
    assert not list(doubts(config, 100_000, 100_000))


def test_the_defaults_are_those_of_its_table():
    usual = PolicyTable("prefix", "requests")
    rows = dict(re.findall(r"^\| `(\w+)` \| `?\"?(\w+)\"?`? \|", PAGE, re.MULTILINE))
    for key in ("load_factor", "load", "peek_bytes", "block_bytes", "blocks"):
        value = getattr(usual, key)
        assert rows[key] == (f"{value:g}" if isinstance(value, float) else str(value))
    assert f"{BLOCK_COSTS_BYTES} at most: {usual.blocks * BLOCK_COSTS_BYTES / 1e6:.1f} MB for each backend" in PAGE
    assert usual.blocks * usual.block_bytes == 8 << 20


def test_its_metrics_exist():
    named = set(re.findall(r"`twisted_lb_(\w+)(?:\{seen=\"\w+\"\})?`", PAGE))
    assert {"prefix_blocks_matched_total", "prefix_requests_total"} < named
    assert named <= {one.name for one in FAMILIES}


def test_what_explain_says_is_what_it_says():
    one, two, three = names = [f"10.0.0.{number}:8000" for number in (1, 2, 3)]
    pool, _ = make_pool(*names, policy="prefix")
    blocks = tuple(random.Random(1).sample(range(1 << 60), 48))
    for name, count in ((one, 12), (two, 44)):
        lease = pool.claim_on(pool.backends[name], Ask(prefix=Prefix(blocks[:count], Seen.WHOLE)), 0.0)
        pool.settle(lease, Outcome.OK, 0.0)
    for name, count in ((one, 6), (two, 7), (three, 6)):
        for _ in range(count):
            pool.claim_on(pool.backends[name], ANY, 0.0)
    lease = pool.claim(Ask(prefix=Prefix(blocks, Seen.WHOLE)), 0.0)
    assert lease.backend.name == two
    assert f"chosen: {recalled(lease).rule}\n" in PAGE
