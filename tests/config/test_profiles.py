"""Profiles: what each word says of its pool and of the routes there, what wins over it, and how it is told."""

from pathlib import Path
from typing import Any

import pytest
from house import House

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.load import Source
from twisted_lb.config.objects import objects_of
from twisted_lb.config.profiles import PROFILES, said_by
from twisted_lb.core.retry import IDEMPOTENT
from twisted_lb.errors import ConfigError
from twisted_lb.plan import plan_of
from twisted_lb.plan_diff import diff_of

POOL = 'backends = ["127.0.0.1:8081"]\n'


def objects(**tables: Any):
    return objects_of(LoadBalancerConfig.model_validate(tables))


def sources(text: str, folder: Path) -> dict[str, tuple[Any, str]]:
    """Each value that is in force and is no default, with its source."""
    file = folder / "lb.toml"
    file.write_text(text)
    source = Source({}, file)
    source.load()
    return {
        ".".join(map(str, path)): (value, where.replace(f"{folder}/", ""))
        for path, value, where in source.loaded.origins.every()
        if where != "default"
    }


def test_wsgi_keeps_workers_from_slow_clients():
    pool = objects(backends=["a:80"], profile="wsgi").pools["default"]
    assert (pool.buffer_request_bytes, pool.buffer_response_bytes) == (64 * 1024, 1024 * 1024)


def test_inference_waits_for_long_answers_and_never_holds_them_back():
    made = objects(backends=["a:80"], profile="inference")
    pool, route = made.pools["default"], made.to_default["default"]
    assert (pool.abandoned_s, pool.buffer_response_bytes, pool.policy) == (30, 0, "least")
    assert (route.timeouts.response_head_s, route.timeouts.response_idle_s) == (600, 120)


@pytest.mark.parametrize("profile", PROFILES)
def test_none_changes_what_may_be_sent_twice(profile):
    def route(**options: Any):
        return plan_of(LoadBalancerConfig.model_validate({"backends": ["a:80"], **options})).routes["default"].leads[0]

    plain, profiled = route(), route(profile=profile)
    assert profiled.rules.repeatable == plain.rules.repeatable == IDEMPOTENT
    assert profiled.rules.retries == plain.rules.retries
    assert not any("retry" in path or "repeatable" in path for path, _ in said_by(PROFILES[profile].pool))


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_says_is_arrived_at_and_told(profile, tmp_path):
    told = sources(f'profile = "{profile}"\n{POOL}', tmp_path)
    of_profile = {key: value for key, (value, where) in told.items() if where == f"profile {profile}"}
    wanted = {f"pools.default.{'.'.join(path)}": value for path, value in said_by(PROFILES[profile].pool)}
    wanted |= {f"routes.default.{'.'.join(path)}": value for path, value in said_by(PROFILES[profile].route)}
    assert of_profile == wanted
    assert told["pools.default.profile"] == (profile, "lb.toml:1")


def test_what_the_file_says_wins_key_by_key(tmp_path):
    text = f"""profile = "inference"
buffer_response_bytes = 5
policy = "rr"
{POOL}
[timeouts]
response_idle_s = 700
[defaults.pool]
abandoned_s = 7
"""
    told = sources(text, tmp_path)
    assert told["pools.default.buffer_response_bytes"] == (5, "lb.toml:2")
    assert told["pools.default.policy"] == ("rr", "lb.toml:3")
    assert told["pools.default.abandoned_s"] == (7, "lb.toml:9")
    assert told["pools.default.buffer_request_bytes"] == (0, "profile inference")
    assert told["routes.default.timeouts.response_idle_s"] == (700, "lb.toml:7")
    assert told["routes.default.timeouts.response_head_s"] == (600, "profile inference")


def test_a_value_that_is_the_default_is_said_all_the_same():
    pool = objects(backends=["a:80"], profile="wsgi", buffer_response_bytes=0).pools["default"]
    assert (pool.buffer_request_bytes, pool.buffer_response_bytes) == (65536, 0)


def test_defaults_of_pools_may_name_one_and_a_pool_another():
    pools = {"a": {"backends": ["a:80"]}, "b": {"backends": ["b:80"], "profile": "inference"}}
    made = objects(
        pools=pools,
        defaults={"pool": {"profile": "wsgi"}},
        routes=[{"name": "a", "pool": "a"}, {"name": "b", "pool": "b"}],
    )
    assert (made.pools["a"].buffer_request_bytes, made.pools["b"].buffer_request_bytes) == (65536, 0)
    assert made.routes["a"].timeouts.response_head_s == 60
    assert made.routes["b"].timeouts.response_head_s == 600


def test_a_route_with_a_share_for_such_a_pool_goes_by_it_and_tells_it(tmp_path):
    text = """
[pools.old]
backends = ["127.0.0.1:1"]
[pools.llm]
backends = ["127.0.0.1:2"]
profile = "inference"
[[routes]]
name = "models"
split = { old = 9, llm = 1 }
[[routes]]
name = "other"
pool = "old"
"""
    told = sources(text, tmp_path)
    assert told["routes.models.timeouts.response_head_s"] == (600, "profile inference")
    assert "routes.other.timeouts.response_head_s" not in told


def test_one_that_there_is_not_is_told_in_a_line(tmp_path):
    (tmp_path / "lb.toml").write_text(f'{POOL}profile = "wsgy"\n')
    with pytest.raises(ConfigError) as caught:
        Source({}, tmp_path / "lb.toml").load()
    assert str(caught.value).replace(f"{tmp_path}/", "") == (
        "lb.toml:2:11: profile: should be 'wsgi' or 'inference', not 'wsgy'"
    )


def test_a_reload_says_the_values_that_change_and_has_them_in_force():
    house = House()
    lines = diff_of(house.plane, house.plan(profile="inference")).lines
    house.plane.apply(house.plan())
    assert lines[:2] == [
        "changes route default: timeouts.response_idle_s 60 -> 120, timeouts.response_head_s 60 -> 600",
        "changes pool default: profile none -> inference, policy rr -> least, abandoned_s 0 -> 30",
    ]
    assert house.pool.settings.abandoned_s == 30
    [lead] = house.plane.plan.routes["default"].leads
    assert (lead.rules.response_head_s, lead.rules.response_idle_s) == (600, 120)
    house.apply(profile="wsgi")
    [lead] = house.plane.plan.routes["default"].leads
    assert (house.pool.settings.abandoned_s, lead.rules.response_head_s) == (0, 60)
    assert (lead.rules.gather_bytes, lead.rules.buffer_response_bytes) == (65536, 1 << 20)
    house.close()


def test_a_flag_wins_over_it(tmp_path):
    (tmp_path / "lb.toml").write_text(f'profile = "inference"\n{POOL}')
    source = Source({"--strategy": "rand"}, tmp_path / "lb.toml")
    config = source.load()
    origins = source.loaded.origins
    assert objects_of(config).pools["default"].policy == "rand"
    assert origins.of(("pools", "default", "policy")) == "--strategy"
    assert origins.of(("pools", "default", "abandoned_s")) == "profile inference"
    assert origins.of(("pools", "default", "max_in_flight")) == "default"
    assert origins.of(("routes", "default", "timeouts", "response_idle_s")) == "profile inference"
