"""docs/slow-clients.md says what the code does."""

import re
import tomllib
from pathlib import Path

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.net.memory import Holding, Memory
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "slow-clients.md").read_text()
FILES = [
    LoadBalancerConfig.model_validate(tomllib.loads(text))
    for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
]


def rules(config: LoadBalancerConfig):
    """What holds for each of its routes."""
    plan = plan_of(config)
    return {name: lead.rules for name, route in plan.routes.items() for lead in route.leads}


def test_the_first_file_gathers_and_reads_ahead():
    (one,) = rules(FILES[0]).values()
    assert (one.gather_bytes, one.buffer_response_bytes) == (64 << 10, 1 << 20)


def test_the_profile_says_the_same():
    (one,) = rules(LoadBalancerConfig.model_validate({"backends": ["a:80"], "profile": "wsgi"})).values()
    assert (one.gather_bytes, one.buffer_response_bytes) == (64 << 10, 1 << 20)


def test_in_the_second_one_a_route_streams():
    live, rest = rules(FILES[1]).values()
    assert (live.gather_bytes, live.buffer_response_bytes) == (0, 0)
    assert (rest.gather_bytes, rest.buffer_response_bytes) == (64 << 10, 1 << 20)


def test_the_memory_is_what_it_says():
    assert f"`limits.memory_bytes`** ({FILES[0].limits.memory_bytes >> 20} MiB)" in PAGE


def test_what_explain_says_is_what_it_says():
    one = Holding(Memory(lambda call: call()), lambda: None)
    assert f"`{one.told_of(0, 2.5)}`" in PAGE


def test_its_metrics_exist():
    from twisted_lb.admin.metrics import FAMILIES

    names = {f"twisted_lb_{one.name}" for one in FAMILIES}
    named = set(re.findall(r"`(twisted_lb_\w+)`", PAGE))
    assert named
    assert named <= names
