"""What docs/reporting-load.md shows runs, and says what the code does."""

import asyncio
import re
import tomllib
from pathlib import Path

from test_report import Server, metrics

from twisted_lb import report
from twisted_lb.config import LoadBalancerConfig

PAGE = (Path(__file__).parent.parent / "docs" / "reporting-load.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def programs():
    """All blocks of Python, each of which goes on where the one before it ended; their names after each."""
    names: dict[str, object] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            exec(text, names)
            yield dict(names)


def test_each_block_is_of_a_kind_that_is_run():
    assert {kind for kind, _ in BLOCKS} == {"python", "toml"}


def test_the_applications_report():
    one, two, three = programs()
    assert set(Server(one["reporting"]).said()) == {report.RUNNING}
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(two["answering"]({"type": "http"}, None, send))
    said = metrics(dict(sent[0]["headers"])[b"endpoint-load-metrics"].decode())
    assert set(said) == {report.APPLICATION, report.RUNNING, report.WAITING}
    assert Server(three["reporting"]).said()["named_metrics.kv_cache_usage_perc"] == 0.25


def test_the_configuration_is_one():
    (text,) = (text for kind, text in BLOCKS if kind == "toml")
    assert str(LoadBalancerConfig.model_validate(tomllib.loads(text)).policy)


def test_what_is_named_exists():
    for name in (*report.METRICS, report.RUNNING, report.WAITING, report.FIELD, report.ASKED):
        assert f"`{name}" in PAGE, name
    assert f"{report.MOST_BYTES} bytes" in PAGE
    assert f"{report.READ_AHEAD_BYTES // 1024} KiB" in PAGE
    assert set(re.findall(r"\b(capacity|limit|queue_times|metrics|load)=", PAGE)) == {
        "capacity",
        "limit",
        "queue_times",
        "metrics",
        "load",
    }
