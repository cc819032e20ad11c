"""docs/http2.md says of backends and gRPC what the code does: its files are configurations, and its tables hold."""

import re
import tomllib
from pathlib import Path

import pytest

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.core.grpc import NAMES, code_of
from twisted_lb.core.outcome import CONSEQUENCE, Outcome, Refusal
from twisted_lb.net import http2_upstream
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "http2.md").read_text().partition("\n## To backends\n")[2]
FILES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows(heading: str) -> list[list[str]]:
    """The table whose first cell is this."""
    lines = PAGE.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    table = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


@pytest.mark.parametrize("text", FILES)
def test_a_file_is_a_configuration_without_doubts(text):
    config = LoadBalancerConfig.model_validate(tomllib.loads(text))
    assert list(doubts(config, 20_000, 9_000)) == []
    assert plan_of(config)


def test_the_codes_of_answers_of_ours_are_those_of_the_table():
    said = {}
    for statuses, code in rows("what others would get"):
        number, name = re.match(r"(\d+), ([A-Z_]+)", code).groups()
        assert NAMES[int(number)] == name.lower()
        said.update(dict.fromkeys((int(one) for one in statuses.split(",")), int(number)))
    ours = {one.status for one in Refusal} | {CONSEQUENCE[one].status for one in Outcome if CONSEQUENCE[one].status}
    assert said == {status: code_of(status) for status in ours}


def test_the_outcomes_are_those_of_the_table():
    named = {name for row in rows("it happens") for name in re.findall(r"`([A-Z_]+)`", row[1])}
    assert named <= {one.name for one in Outcome}
    assert CONSEQUENCE[Outcome.NO_SWITCH].status == 501


def test_the_bounds_are_those_of_the_code():
    assert f"and {http2_upstream.CALLS_MOST}." in PAGE
    assert http2_upstream.CALL_WINDOW_BYTES == 1 << 20
    assert (http2_upstream.SILENCE_S, http2_upstream.PING_ANSWER_S) == (30.0, 10.0)
