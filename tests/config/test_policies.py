"""The policy of a pool, as a name or as a table of a choice and a load."""

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import from_flags
from twisted_lb.core.pickers import BY_LOAD, LOADS, POLICIES, policy_of
from twisted_lb.errors import ConfigError
from twisted_lb.plan import plan_of


def planned(policy):
    return plan_of(LoadBalancerConfig.model_validate({"backends": ["a:80"], "policy": policy})).pools["default"]


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
        ('{ load = "cost" }', "policy: choose is missing: scan or two"),
        ('{ choose = "three" }', "policy: choose should be one of scan, two, not 'three'"),
        ('{ choose = "two", load = "luck" }', f"policy: load should be one of {', '.join(LOADS)}, not 'luck'"),
        ('{ choose = ["two"] }', "policy: choose should be one of scan, two, not ['two']"),
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
        ('{ choose = "two", of = 3 }', "policy: of: unknown key; a policy has choose and load"),
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
