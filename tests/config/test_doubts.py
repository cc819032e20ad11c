"""What a configuration may say, and probably does not mean."""

from typing import Any

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts


def doubted(**tables: Any) -> list[str]:
    return list(doubts(LoadBalancerConfig(backends=["a:80"], **tables), 20_000, 9_980))


def test_nothing_is_doubtful_about_the_defaults():
    assert doubted() == []


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        (
            {"health_check": {"interval_s": 1, "timeout_s": 5}},
            "health_check.timeout_s = 5 is longer than interval_s = 1",
        ),
        (
            {"health_check": {"kind": "tcp", "path": "/up"}},
            'health_check.path has no effect: kind = "tcp" only connects',
        ),
        (
            {"timeouts": {"attempt_s": 100, "response_head_s": 10}},
            "timeouts.attempt_s = 100 has no effect: response_head_s = 10 bounds all attempts together",
        ),
        (
            {"limits": {"connections": 15_000}},
            "limits.connections = 15000 is more than 20000 descriptors are enough for: above 9980 clients",
        ),
        (
            {"limits": {"connections": 10, "connections_per_client": 11}},
            "limits.connections_per_client = 11 has no effect: connections = 10 is less",
        ),
    ],
)
def test_a_doubt_names_both_values_and_what_comes_of_it(tables, said):
    [doubt] = doubted(**tables)
    assert doubt.startswith(said)


@pytest.mark.parametrize(
    "tables",
    [
        {"health_check": {"interval_s": 0, "timeout_s": 5}},  # nobody is checked
        {"health_check": {"interval_s": 0.1}},
        {"health_check": {"interval_s": 5, "timeout_s": 5}},
        {"timeouts": {"attempt_s": 9, "response_head_s": 10}},
        {"limits": {"connections": 9_980, "connections_per_client": 9_980}},
        {"limits": {"connections_per_client": 100_000}},
    ],
)
def test_what_has_its_effect_is_not_doubted(tables):
    assert doubted(**tables) == []
