"""What is written of metrics: the page, the dashboard and the rules for alerts name what there is."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from twisted_lb.admin.metrics import FAMILIES, PREFIX
from twisted_lb.admin.metrics_reference import OF_HAPROXY, reference

DOCS = Path(__file__).parent.parent.parent / "docs"
KINDS = {family.name: family.kind for family in FAMILIES}
LABELS = {family.name: {*family.labels, *(["le"] if family.kind == "histogram" else [])} for family in FAMILIES}
# What prometheus_client tells of a process.
PROCESS = {"process_cpu_seconds_total", "process_open_fds", "process_max_fds"}
# What may be done with them, beside operators.
FUNCTIONS = {"rate", "histogram_quantile", "sum", "time"}
WORDS = {
    "by",
    "and",
    "le",
    "pool",
    "backend",
    "listener",
    "instance",
    "outcome",
    "reason",
    "direction",
    "kind",
    "code_class",
    "to",
    "state",
}


def expressions() -> list[str]:
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def alerts() -> list[str]:
    text = (DOCS / "alerts.yml").read_text()
    return [
        " ".join(match[1].split()) for match in re.finditer(r"expr: (?:\|\n)?(.+?)\n +(?:for|labels):", text, re.DOTALL)
    ]


def named(expression: str) -> set[str]:
    """The metrics of an expression, of which all is known."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"", "", expression)
    words = set(re.findall(r"[a-z_][a-z_0-9]*", bare))
    assert set(re.findall(r"([a-z_]+) ?\(", bare)) <= FUNCTIONS | {"by"}, expression
    return words - FUNCTIONS - WORDS


def family_of(name: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", name.removeprefix(PREFIX))


def test_the_page_is_what_the_table_of_metrics_says():
    told = "python -m twisted_lb.admin.metrics_reference >docs/metrics.md"
    assert (DOCS / "metrics.md").read_text() == reference(), told


def test_dashboard_and_alerts_name_metrics_that_there_are():
    for expression in (*expressions(), *alerts()):
        for name in named(expression):
            assert name in PROCESS or (name.startswith(PREFIX) and family_of(name) in KINDS), name
        for name, labels in re.findall(rf"({PREFIX}\w+)\{{([^}}]*)\}}", expression):
            assert set(re.findall(r"(\w+)(?:=|!|~)", labels)) <= LABELS[family_of(name)] | {"instance"}, expression


def test_counters_and_histograms_are_looked_at_by_their_rate():
    for expression in (*expressions(), *alerts()):
        for name in named(expression):
            kind = KINDS.get(family_of(name), "counter" if name.endswith("_total") else "gauge")
            if kind != "gauge":
                assert re.search(rf"rate\({name}(\{{[^}}]*\}})?\[", expression), f"{name} in {expression}"


def test_there_are_alerts_and_panels():
    assert len(alerts()) == (DOCS / "alerts.yml").read_text().count("alert:") > 5
    assert len(expressions()) > 10


def test_what_stands_beside_haproxys_names_there_is():
    names = set()
    for _, ours in OF_HAPROXY:
        for part in re.split(r", (?![^({]*[)}])", ours):
            names |= named(part)
    assert {name for name in names if not name.startswith("process_")} <= set(KINDS)
    assert {name for name in names if name.startswith("process_")} <= PROCESS


def test_haproxys_names_stand_there_once():
    theirs = [name for names, _ in OF_HAPROXY for name in names.split(", ")]
    assert len(set(theirs)) == len(theirs)
    assert all(re.fullmatch(r"haproxy_(process|frontend|backend|server)_\w+", name) for name in theirs)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: apt install prometheus)")
def test_promtool_finds_nothing_wrong_with_the_rules():
    done = subprocess.run(
        ["promtool", "check", "rules", DOCS / "alerts.yml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{len(alerts())} rules found" in done.stdout
