"""What docs/writing-a-policy.md says is run, in its order, and its tables are those of the code."""

import re
import sys
import tomllib
import types
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from twisted_lb.admin.history import _KINDS
from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import CODES
from twisted_lb.config.own_policies import GROUP
from twisted_lb.core.ask import Ask
from twisted_lb.core.pickers.minding import HANDED_OVER_S, LATE_WITHIN_S, MOST_LATE, Fault
from twisted_lb.core.pickers.own_member import Member
from twisted_lb.core.pickers.own_shape import HOOKS
from twisted_lb.core.pickers.shadow import ShadowedPolicy
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "writing-a-policy.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CONFIGS = [text for kind, text in BLOCKS if kind == "toml" and "entry-points" not in text]


@pytest.fixture(scope="module")
def told():
    """All blocks of Python, one after the other; what they print, beside what the page says."""
    names: dict[str, object] = {"__name__": "policies_of_the_page"}
    module = sys.modules["policies_of_the_page"] = types.ModuleType("policies_of_the_page")
    module.__dict__.update(names)
    printed, said = [], []
    for kind, text in BLOCKS:
        if kind == "python":
            out = StringIO()
            with redirect_stdout(out):
                exec(compile(text, "docs/writing-a-policy.md", "exec"), module.__dict__)
            if out.getvalue():
                printed.append(out.getvalue())
        elif kind == "text":
            said.append(text)
    yield module.__dict__, printed, said
    module.balanced.close()
    del sys.modules["policies_of_the_page"]


def test_each_block_is_of_a_kind_that_is_run_or_compared():
    assert {kind for kind, _ in BLOCKS} == {"python", "toml", "text"}


def test_what_is_printed_is_what_the_page_says(told):
    _, printed, said = told
    assert [text.replace("policies_of_the_page:", "") for text in printed] == said


@pytest.mark.parametrize("text", CONFIGS)
def test_each_configuration_is_one(told, text, monkeypatch):
    names, _, _ = told
    for module in ("fewer", "zones"):
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**names))
    policy = plan_of(LoadBalancerConfig.model_validate(tomllib.loads(text))).pools["default"].policy
    if isinstance(policy, ShadowedPolicy):
        policy = policy.shadow
    assert policy.name in ("fewer:Fewer", "zones:NearFirst")


def test_the_entry_point_is_in_our_group():
    [text] = [text for kind, text in BLOCKS if kind == "toml" and text not in CONFIGS]
    assert list(tomllib.loads(text)["project"]["entry-points"]) == [GROUP]


def test_each_fault_has_its_row():
    assert re.findall(r"^\| `(\w+)` \| (?!a )(?:.* raised|it returned|the class)", PAGE, re.MULTILINE) == [
        one.value for one in Fault
    ]


def test_each_hook_is_told_with_what_it_is_called_with():
    assert re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGE, re.MULTILINE) == [
        (name, ", ".join(given)) for name, given in HOOKS.items()
    ]


def test_all_that_a_member_has_is_told():
    told = {
        name for names in re.findall(r"^\| (`\w+`.*?) \|", PAGE, re.MULTILINE) for name in re.findall(r"`(\w+)", names)
    }
    assert {name for name in vars(Member) if not name.startswith("_")} <= told


def test_what_it_says_of_an_ask_is_there():
    assert re.findall(r"`ask\.(\w+)`", PAGE) == ["key", "cost"]
    assert (Ask().key, Ask().cost) == (0, 1)


def test_the_numbers_are_those_of_the_code():
    budget = LoadBalancerConfig(backends=["a:80"]).policy_budget_us
    assert f"`policy_budget_us` ({budget} µs)" in PAGE
    assert (MOST_LATE, LATE_WITHIN_S, HANDED_OVER_S) == (10, 1.0, 10.0)
    assert "Ten within a second, and `p2c` picks for 10 s." in PAGE


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:policy|backend|shadow)_\w+)`", PAGE))))
def test_a_metric_a_key_or_an_event_that_it_names_is_there(name):
    assert name in {
        *(one.name for one in FAMILIES),
        *LoadBalancerConfig.model_fields,
        *_KINDS.values(),
    }


def test_the_warning_that_it_names_is_there():
    assert set(re.findall(r"\b(W\d\d)\b", PAGE)) <= set(CODES)
