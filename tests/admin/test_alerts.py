"""The rules for alerts of docs/alerts.yml: each says something when it should, and nothing when all is well (promtool)."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

RULES = Path(__file__).parent.parent.parent / "docs" / "alerts.yml"
POOL, BACKEND, HERE = 'pool="app"', 'pool="app",backend="b1"', 'instance="edge-1"'
SERVED = 'listener="web",certificate="a.test (RSA)"'

# Series that make an alert, as promtool has them (`first+each x times`, a value a minute), and the labels that it then has.
WRONG = {
    "PoolWithoutBackend": ({f"backends_usable{{{POOL}}}": "0x20", f"backends{{{POOL}}}": "3x20"}, {"pool": "app"}),
    "PoolHalfDown": ({f"backends_usable{{{POOL}}}": "1x20", f"backends{{{POOL}}}": "3x20"}, {"pool": "app"}),
    "PoolInPanic": ({f"panic{{{POOL}}}": "1x20"}, {"pool": "app"}),
    "BackupsInUse": ({f'level_share{{{POOL},level="backup"}}': "1x20"}, {"pool": "app", "level": "backup"}),
    "TooManyErrors": (
        {
            f'requests_total{{{POOL},code_class="5xx"}}': "0+6x20",
            f'requests_total{{{POOL},code_class="2xx"}}': "0+94x20",
        },
        {"pool": "app"},
    ),
    "BackendFails": (
        {
            f'attempts_total{{{BACKEND},outcome="timed_out"}}': "0+12x20",
            f'attempts_total{{{BACKEND},outcome="ok"}}': "0+88x20",
        },
        {"pool": "app", "backend": "b1"},
    ),
    "BackendStaysThoughItFails": (
        {f"ejections_withheld_total{{{BACKEND}}}": "0x11 1x8"},
        {"pool": "app", "backend": "b1"},
    ),
    "SlowAnswers": (
        {
            f'request_duration_seconds_bucket{{{POOL},code_class="2xx",le="5.0"}}': "0+90x20",
            f'request_duration_seconds_bucket{{{POOL},code_class="2xx",le="10.0"}}': "0+100x20",
            f'request_duration_seconds_bucket{{{POOL},code_class="2xx",le="+Inf"}}': "0+100x20",
        },
        {"pool": "app"},
    ),
    "RequestsWait": ({f"queued{{{POOL}}}": "2x20"}, {"pool": "app"}),
    "RetryBudgetSpent": ({f'retries_denied_total{{{POOL},reason="budget"}}': "0+1x20"}, {"pool": "app"}),
    "ReloadFailed": ({f"config_last_reload_successful{{{HERE}}}": "0x20"}, {"instance": "edge-1"}),
    # Less than 21 days from the third minute on.
    "CertificateExpiresSoon": (
        {f"certificate_expires_timestamp_seconds{{{SERVED}}}": "1814500x20"},
        {"listener": "web", "certificate": "a.test (RSA)"},
    ),
    "LoopLag": (
        {
            f'loop_lag_seconds_bucket{{{HERE},le="0.25"}}': "0+90x20",
            f'loop_lag_seconds_bucket{{{HERE},le="0.5"}}': "0+100x20",
            f'loop_lag_seconds_bucket{{{HERE},le="+Inf"}}': "0+100x20",
        },
        {"instance": "edge-1"},
    ),
    "DescriptorsShort": (
        {f"process_open_fds{{{HERE}}}": "950x20", f"process_max_fds{{{HERE}}}": "1000x20"},
        {"instance": "edge-1"},
    ),
    "LogLinesDropped": ({f"log_dropped_total{{{HERE}}}": "0+1x20"}, {"instance": "edge-1"}),
    "InvariantViolated": ({f"invariant_violations_total{{{HERE}}}": "0x9 1x10"}, {"instance": "edge-1"}),
}
# The same, and the other series of a daemon in order, a little on the right side of each bound.
WELL = {
    f"backends_usable{{{POOL}}}": "2x20",
    f"panic{{{POOL}}}": "0x20",
    f'level_share{{{POOL},level="backup"}}': "0x20",
    f"backends{{{POOL}}}": "3x20",
    f'requests_total{{{POOL},code_class="5xx"}}': "0+4x20",
    f'requests_total{{{POOL},code_class="2xx"}}': "0+96x20",
    # What a client has ended is no failure of a backend.
    f'attempts_total{{{BACKEND},outcome="timed_out"}}': "0+8x20",
    f'attempts_total{{{BACKEND},outcome="client_gone"}}': "0+50x20",
    f'attempts_total{{{BACKEND},outcome="ok"}}': "0+92x20",
    f'request_duration_seconds_bucket{{{POOL},code_class="2xx",le="5.0"}}': "0+100x20",
    f'request_duration_seconds_bucket{{{POOL},code_class="2xx",le="10.0"}}': "0+100x20",
    f'request_duration_seconds_bucket{{{POOL},code_class="2xx",le="+Inf"}}': "0+100x20",
    # Tunnels take as long as they want.
    f'request_duration_seconds_bucket{{{POOL},code_class="1xx",le="5.0"}}': "0x20",
    f'request_duration_seconds_bucket{{{POOL},code_class="1xx",le="+Inf"}}': "0+100x20",
    f"queued{{{POOL}}}": "3 0 3 0 3 0 3 0 3 0 3 0 3 0 3 0 3 0 3 0",
    f'retries_denied_total{{{POOL},reason="not_idempotent"}}': "0+9x20",
    f"config_last_reload_successful{{{HERE}}}": "1x20",
    f"certificate_expires_timestamp_seconds{{{SERVED}}}": "1816000x20",
    f'loop_lag_seconds_bucket{{{HERE},le="0.25"}}': "0+100x20",
    f'loop_lag_seconds_bucket{{{HERE},le="0.5"}}': "0+100x20",
    f'loop_lag_seconds_bucket{{{HERE},le="+Inf"}}': "0+100x20",
    f"process_open_fds{{{HERE}}}": "850x20",
    f"process_max_fds{{{HERE}}}": "1000x20",
    f"log_dropped_total{{{HERE}}}": "7x20",
    f"invariant_violations_total{{{HERE}}}": "1x20",
}
# A pool without backends of its own (a target list that is empty on purpose) is nobody's alarm.
EMPTY = {'backends_usable{pool="none"}': "0x20", 'backends{pool="none"}': "0x20"}


def series(values: dict[str, str]) -> list[dict[str, str]]:
    named = {name if name.startswith("process_") else f"twisted_lb_{name}": text for name, text in values.items()}
    return [{"series": name, "values": text} for name, text in named.items()]


def summary(alert: str, labels: dict[str, str]) -> str:
    (text,) = re.findall(rf'alert: {alert}\n(?:.*\n)*? +summary: "(.*)"', RULES.read_text())
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
    return text.replace("{{ $value }}", "2").replace("{{ $value | humanizeDuration }}", "9.5s")


def severity(alert: str) -> str:
    (text,) = re.findall(rf"alert: {alert}\n(?:.*\n)*? +labels: \{{severity: (\w+)\}}", RULES.read_text())
    return text


def told(alert: str) -> list[dict[str, dict[str, str]]]:
    """What the alert says when it is wrong."""
    labels = WRONG[alert][1]
    annotations = {"summary": summary(alert, labels)}
    return [{"exp_labels": labels | {"severity": severity(alert)}, "exp_annotations": annotations}]


def test_each_alert_is_tried():
    assert re.findall("alert: (.*)", RULES.read_text()) == list(WRONG)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: apt install prometheus)")
def test_each_alert_is_raised_where_its_series_say_so_and_by_nothing_else(tmp_path):
    tests = [
        {
            "interval": "1m",
            "input_series": series(values),
            "alert_rule_test": [
                {"eval_time": "18m", "alertname": name, "exp_alerts": told(name) if name in raised else []}
                for name in WRONG
            ],
        }
        for values, raised in [(WELL | EMPTY, []), *((WRONG[name][0], [name]) for name in WRONG)]
    ]
    file = tmp_path / "tests.yml"  # JSON is YAML
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
