"""docs/retries.md is what is computed, and what it says in words is so."""

import re
import tomllib
from pathlib import Path

import pytest
from retrying import CASES, HEDGES, row

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "retries.md").read_text()


def quantile(case, hedge, column):
    """A figure of the page, in ms."""
    (line,) = [one for one in PAGE.splitlines() if one.startswith(f"| {case} | {hedge} |")]
    return float(line.split("|")[column + 2])


P50, P95, P99, P999 = 1, 2, 3, 4


@pytest.mark.parametrize("case", [*CASES][:2])
def test_the_table_is_what_is_computed(case):
    assert row(case, "95") in PAGE.splitlines()


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_all_of_the_table_is_what_is_computed(case):
    for hedge in HEDGES:
        assert row(case, hedge) in PAGE.splitlines()


def test_its_configuration_is_one():
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    config = LoadBalancerConfig.model_validate(tomllib.loads(text) | {"backends": ["a:80", "b:80"]})
    assert config.hedge.on
    assert plan_of(config).pools["default"].settings.hedge is not None


def test_longer_tails_gain_more():
    gains = [1 - quantile(case, "95", P99) / quantile(case, "none", P99) for case in list(CASES)[:3]]
    assert gains == sorted(gains)
    assert 0.15 < gains[0] < 0.2


def test_where_the_request_is_the_work_nothing_is_won():
    case = "it is the request that is much work"
    assert [quantile(case, "95", at) for at in (P50, P95, P99, P999)] == [
        quantile(case, "none", at) for at in (P50, P95, P99, P999)
    ]


def test_servers_that_finish_need_places_that_are_held():
    finish, held = list(CASES)[-2:]
    assert quantile(finish, "95", P99) > 10 * quantile(finish, "none", P99)
    assert quantile(held, "95", P99) < 0.95 * quantile(held, "none", P99)
