"""The policy of a pool, as a name or as a table of a choice and a load."""

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import from_flags
from twisted_lb.config.policies import DESCRIBED
from twisted_lb.core.pickers import BY_KEY, BY_LOAD, BY_PREFIX, LOADS, POLICIES, by_prefix, policy_of
from twisted_lb.errors import ConfigError
from twisted_lb.plan import plan_of

WAYS = ", ".join((*BY_LOAD, *BY_KEY, BY_PREFIX))


def planned(policy):
    return plan_of(LoadBalancerConfig.model_validate({"backends": ["a:80"], "policy": policy})).pools["default"]


def test_the_reference_names_every_policy_in_a_cell_that_can_be_read_and_says_where_more_is():
    assert all(f"`{name}`" in DESCRIBED for name in POLICIES)
    assert "(policies.md)" in DESCRIBED
    assert "(writing-a-policy.md)" in DESCRIBED
    assert len(DESCRIBED) < 1000  # as long as any other cell


@pytest.mark.parametrize("choose", BY_LOAD)
@pytest.mark.parametrize("load", LOADS)
def test_each_choice_goes_with_each_load(choose, load):
    assert planned({"choose": choose, "load": load}).policy is policy_of(choose, load)


def test_what_has_a_name_goes_by_it_and_requests_are_what_is_compared_unless_said():
    assert planned({"choose": "scan"}).policy is POLICIES["least"]
    assert planned({"choose": "two", "load": "requests"}).policy_name == "p2c"
    assert planned({"choose": "two", "load": "cost"}).policy_name == "two by cost"


def test_what_is_reported_may_be_compared_by_a_metric_of_ones_own():
    table = {"choose": "two", "load": "reported", "metric": "named_metrics.kv_cache_usage_perc"}
    plan = planned(table)
    assert plan.policy == policy_of("two", "reported", "named_metrics.kv_cache_usage_perc")
    assert plan.policy != policy_of("two", "reported")
    assert plan.policy_name == "two by reported (named_metrics.kv_cache_usage_perc)"


@pytest.mark.parametrize("choose", BY_KEY)
def test_a_way_by_key_has_a_bound_of_loads_unless_it_is_turned_off(choose):
    assert planned(choose).policy.percent == planned({"choose": choose}).policy.percent == 125
    assert planned({"choose": choose, "bound": 1.25}).policy is POLICIES[choose]
    assert planned({"choose": choose, "bound": 1.5}).policy.percent == 150
    assert planned({"choose": choose, "bound": 2}).policy_name == f"{choose}, bound 2"
    for off in (0, 0.0, "off"):
        made = planned({"choose": choose, "bound": off})
        assert (made.policy.percent, made.policy_name) == (0, f"{choose}, no bound")


def test_the_way_by_prefix_has_numbers_of_its_own():
    assert planned({"choose": "prefix"}).policy is planned("prefix").policy is POLICIES["prefix"]
    table = {
        "choose": "prefix", "load": "cost", "load_factor": 2, "block_bytes": 256, "peek_bytes": 8192, "blocks": 4096,
    }  # fmt: skip
    plan = planned(table)
    assert plan.policy == by_prefix("cost", 2.0, 256, 8192, 4096)
    assert plan.policy_name == "prefix, load cost, load_factor 2, block_bytes 256, peek_bytes 8192, blocks 4096"
    assert planned({"choose": "prefix", "load_factor": 0.5}).policy_name == "prefix, load_factor 0.5"


def test_two_plans_with_the_same_bound_have_equal_policies():
    """So a reload that changes something else of the pool builds no table."""
    one, other = (planned({"choose": "ring", "bound": 1.5}).policy for _ in range(2))
    assert (one == other, hash(one) == hash(other)) == (True, True)
    assert one != planned({"choose": "maglev", "bound": 1.5}).policy
    assert one != planned({"choose": "ring", "bound": 2}).policy
    assert one != POLICIES["rr"]


def test_a_table_stands_in_a_file_for_a_pool_and_for_all_of_them(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text(
        '[defaults.pool]\npolicy = { choose = "two", load = "cost" }\n[pools.a]\nbackends = ["a:80"]\n'
        '[pools.b]\nbackends = ["b:80"]\npolicy = "rr"\n[[routes]]\nsplit = { a = 1, b = 1 }\n[listeners.main]\naddress = "127.0.0.1:1"\n'
    )
    pools = plan_of(from_flags({}, file)).pools
    assert {name: pool.policy_name for name, pool in pools.items()} == {"a": "two by cost", "b": "rr"}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ('"best"', f"policy: should be one of {', '.join(POLICIES)}, not 'best'"),
        (
            "5",
            f'policy: should be one of {", ".join(POLICIES)}, or a table such as {{ choose = "two", load = "cost" }}',
        ),
        ('{ load = "cost" }', f"policy: choose is missing: one of {WAYS}"),
        ('{ choose = "three" }', f"policy: choose should be one of {WAYS}, not 'three'"),
        ('{ choose = "two", load = "luck" }', f"policy: load should be one of {', '.join(LOADS)}, not 'luck'"),
        (
            '{ choose = "two", load = "reported", metric = "gpu" }',
            (
                "policy: metric should be named_metrics.NAME, or one of application_utilization, cpu_utilization, mem_utilization, "
                "not 'gpu'"
            ),
        ),
        (
            '{ choose = "two", load = "reported", metric = 5 }',
            "policy: metric should be named_metrics.NAME, or one of application_utilization, cpu_utilization, mem_utilization, not 5",
        ),
        (
            '{ choose = "two", metric = "named_metrics.x" }',
            'policy: metric is for load = "reported", and load is requests',
        ),
        ('{ choose = ["two"] }', f"policy: choose should be one of {WAYS}, not ['two']"),
        ('{ choose = "two", of = 3 }', "policy: of: unknown key; a policy has choose, and load and metric, or bound"),
        ('{ choose = "two", bound = 2 }', "policy: bound is for ring, maglev, rendezvous, and not for two"),
        ('{ choose = "ring", load = "cost" }', "policy: load is for scan, two, and not for ring"),
        (
            '{ choose = "prefix", load = "peak_ewma" }',
            "policy: load should be one of requests, cost for prefix, not 'peak_ewma'",
        ),
        ('{ choose = "prefix", bound = 2 }', "policy: bound is for ring, maglev, rendezvous, and not for prefix"),
        ('{ choose = "prefix", metric = "x" }', "policy: metric is for scan, two, and not for prefix"),
        ('{ choose = "two", load_factor = 2 }', "policy: load_factor is for prefix, and not for two"),
        ('{ choose = "ring", blocks = 200 }', "policy: blocks is for prefix, and not for ring"),
        ('{ choose = "prefix", load_factor = -1 }', "policy: load_factor should be a number from 0 to 100, not -1"),
        ('{ choose = "prefix", load_factor = nan }', "policy: load_factor should be a number from 0 to 100, not nan"),
        ('{ choose = "prefix", load_factor = true }', "policy: load_factor should be a number from 0 to 100, not True"),
        (
            '{ choose = "prefix", block_bytes = 63 }',
            "policy: block_bytes should be a whole number from 64 to 65536, not 63",
        ),
        (
            '{ choose = "prefix", block_bytes = 512.0 }',
            "policy: block_bytes should be a whole number from 64 to 65536, not 512.0",
        ),
        (
            '{ choose = "prefix", peek_bytes = "64k" }',
            "policy: peek_bytes should be a whole number from 64 to 1048576, not '64k'",
        ),
        ('{ choose = "prefix", blocks = 0 }', "policy: blocks should be a whole number from 64 to 1048576, not 0"),
        (
            '{ choose = "prefix", peek_bytes = 256 }',
            "policy: peek_bytes = 256 is less than a block (block_bytes = 512): nothing could be known",
        ),
        *(
            (
                f'{{ choose = "maglev", bound = {bound} }}',
                f'policy: bound should be "off", or a number from 1.01 to 1000 with two decimals, not {said}',
            )
            for bound, said in [
                ("1", "1"),
                ("1.001", "1.001"),
                ("1.255", "1.255"),
                ("1001", "1001"),
                ("-2", "-2"),
                ("true", "True"),
                ("false", "False"),
                ('"on"', "'on'"),
                ("nan", "nan"),
                ("inf", "inf"),
                ("[2]", "[2]"),
            ]
        ),
    ],
)
def test_what_is_no_policy_is_said_in_one_line(tmp_path, policy, said):
    file = tmp_path / "lb.toml"
    file.write_text(f'backends = ["a:80"]\npolicy = {policy}')
    with pytest.raises(ConfigError) as caught:
        from_flags({}, file)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flag_is_in_the_place_of_a_table(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["a:80"]\npolicy = { choose = "two", load = "cost" }')
    assert from_flags({"--strategy": "least"}, file).policy == "least"
