"""The reference of all metrics as Markdown: `python -m twisted_lb.admin.metrics_reference`."""

from typing import Final

from twisted_lb.admin.metrics import (
    FAMILIES,
    LES,
    LES_OF_BACKENDS,
    PREFIX,
    WANTED_LES,
    WANTED_LES_OF_BACKENDS,
    Family,
)
from twisted_lb.core.agent import LABELS
from twisted_lb.core.ejection import EjectionRule
from twisted_lb.core.flow import METHODS, SOURCES
from twisted_lb.core.outcome import Outcome, Refusal
from twisted_lb.core.standing import Skipped
from twisted_lb.core.totals import KINDS, Denied

# What HAProxy's exporter tells (2.6), and where the same stands here; names of ours without their prefix, in PromQL.
OF_HAPROXY: Final = (
    ("haproxy_process_build_info", "build_info"),
    ("haproxy_process_start_time_seconds, haproxy_process_uptime_seconds", "start_time_seconds"),
    ("haproxy_process_current_connections, haproxy_frontend_current_sessions", "client_connections"),
    ("haproxy_process_connections_total, haproxy_frontend_connections_total", "client_connections_total"),
    ("haproxy_process_dropped_logs_total", "log_dropped_total"),
    ("haproxy_process_requests_total, haproxy_frontend_http_requests_total", "sum by (listener) (requests_total)"),
    ("haproxy_process_max_fds", "process_max_fds"),
    ("haproxy_process_idle_time_percent", "process_cpu_seconds_total, loop_lag_seconds"),
    ("haproxy_frontend_http_responses_total", "sum by (listener, code_class) (requests_total)"),
    ("haproxy_frontend_bytes_in_total, haproxy_frontend_bytes_out_total", "sum by (listener, direction) (bytes_total)"),
    ("haproxy_frontend_requests_denied_total", 'refusals_total{reason=~"forbidden|rate_limited"}'),
    ("haproxy_frontend_request_errors_total", 'refusals_total{reason=~"bad_request|too_slow|head_too_large|uri_too_long"}'),
    ("haproxy_frontend_intercepted_requests_total", 'requests_total{source="proxy"}'),
    ("haproxy_frontend_denied_connections_total", 'refusals_total{reason="rate_limited"}'),
    ("haproxy_backend_current_queue", "queued"),
    ("haproxy_backend_current_sessions", "in_flight"),
    ("haproxy_backend_http_requests_total", "sum by (pool) (requests_total)"),
    ("haproxy_backend_http_responses_total", "sum by (pool, code_class) (requests_total)"),
    ("haproxy_backend_bytes_in_total, haproxy_backend_bytes_out_total", "sum by (pool, direction) (bytes_total)"),
    ("haproxy_backend_connection_errors_total, haproxy_server_connection_errors_total",
     'attempts_total{outcome=~"refused|connect_timeout|local_failure|no_port|backlog_full"}'),
    ("haproxy_backend_response_errors_total, haproxy_server_response_errors_total",
     'attempts_total{outcome=~"no_response|bad_response|timed_out|cut_short"}'),
    ("haproxy_backend_retry_warnings_total, haproxy_backend_redispatch_warnings_total", "retries_total"),
    ("haproxy_backend_client_aborts_total, haproxy_server_client_aborts_total", 'attempts_total{outcome="client_gone"}'),
    ("haproxy_backend_server_aborts_total, haproxy_server_server_aborts_total", 'attempts_total{outcome="cut_short"}'),
    ("haproxy_backend_active_servers, haproxy_backend_agg_server_status", "backends_usable, backends"),
    ("haproxy_backend_status", "backends_usable > 0"),
    ("haproxy_backend_agg_check_status", "sum by (pool, state) (backend_state)"),
    ("haproxy_backend_weight", "sum by (pool) (backend_weight_effective)"),
    ("haproxy_backend_queue_time_average_seconds", "queue_seconds"),
    ("haproxy_backend_connect_time_average_seconds", "connect_seconds"),
    ("haproxy_backend_response_time_average_seconds", "first_byte_seconds"),
    ("haproxy_backend_total_time_average_seconds", "request_duration_seconds"),
    ("haproxy_backend_loadbalanced_total, haproxy_server_loadbalanced_total", "attempts_total"),
    ("haproxy_server_current_sessions", "backend_in_flight"),
    ("haproxy_server_limit_sessions", "backend_limit"),
    ("haproxy_server_http_responses_total", "backend_requests_total"),
    ("haproxy_server_status, haproxy_server_check_status", "backend_state"),
    ("haproxy_server_check_failures_total", 'checks_total{result="failed"}'),
    ("haproxy_server_check_up_down_total", 'state_changes_total{to="down"}'),
    ("haproxy_server_check_duration_seconds", "check_duration_seconds"),
    ("haproxy_server_uweight", "backend_weight"),
    ("haproxy_server_weight", "backend_weight_effective"),
    ("haproxy_server_total_time_average_seconds, haproxy_server_response_time_average_seconds", "backend_duration_seconds"),
    ("haproxy_server_connection_attempts_total", "upstream_connections_total"),
    ("haproxy_server_connection_reuses_total", "sum by (pool, backend) (attempts_total) - upstream_connections_total"),
    ("haproxy_server_idle_connections_current", 'upstream_connections{kind="idle"}'),
    ("haproxy_server_used_connections_current", 'upstream_connections{kind="busy"}'),
)  # fmt: skip

_AGENTS: Final = tuple(dict.fromkeys(LABELS.values()))

_VALUES: Final = (
    ("method", METHODS),
    ("code_class", KINDS),
    ("source", SOURCES),
    ("outcome", tuple(one.name.lower() for one in Outcome)),
    ("reason of a refusal", tuple(one.name.lower() for one in Refusal)),
    ("reason of a retry", ("an outcome",)),
    ("reason of an ejection", tuple(one.name.lower() for one in EjectionRule)),
    ("reason why there was no retry", tuple(one.name.lower() for one in Denied)),
    ("reason of a skip", tuple(one.name.lower() for one in Skipped)),
    ("state", ("ready", "drain", "maint", "up", "down", "unknown", "ejected", *_AGENTS)),
    ("to", ("ready", "drain", "maint", "up", "down", "ejected", "returned", *_AGENTS, "agent_over")),
    ("direction", ("up", "down")),
    ("kind", ("idle", "busy")),
)

PREAMBLE: Final = f"""\
# Metrics

What Prometheus reads: text, or OpenMetrics for whoever asks for it. Every name begins with `{PREFIX}`, but for `process_*`, which
are those of prometheus_client, of the parent where there are [workers](workers.md). `python -m twisted_lb.admin.metrics_reference` prints this page, from the table in
`twisted_lb/admin/metrics.py`. [grafana-dashboard.json](grafana-dashboard.json) is a dashboard, and [alerts.yml](alerts.yml) has rules
to begin with.

Label values come from the configuration (names of listeners, routes, pools and backends) and from closed sets, below: nothing
that a client sends makes a series. A request without a route has an empty `route`, one that no pool was asked for an empty
`pool`. Counters begin when what they count begins, outlive reloads, and only grow; what is removed has no series any more, and
what is counted by pool stays with the pool. Requests, and their bytes, are counted when they have ended: a tunnel when it is over.

In OpenMetrics the buckets of `request_duration_seconds`, `backend_duration_seconds` and `first_byte_seconds` have exemplars, each
the request that was counted there last of those that `lbctl explain` remembers: `# {{request_id="…"}}`, the seconds it took and
when it ended. `lbctl explain` takes that id. Requests have ids where clients send them, or with `forwarding.request_id = "make"`;
Prometheus keeps exemplars with `--enable-feature=exemplar-storage`.
"""

BUCKETS: Final = """\
## Buckets

A duration is counted in one of 225 slots, 8 for each factor of two, from a microsecond to 17 minutes. Each `le` is the edge of a
slot, so that buckets are exact; it is the edge that is nearest to the bucket of OpenTelemetry's conventions, or to one of those
beyond them.
"""

HAPROXY: Final = """\
## From HAProxy's names

Averages of HAProxy are histograms here: `rate(…_sum) / rate(…_count)` is the average, and `histogram_quantile` what averages hide.
"""


def reference() -> str:
    """All metrics as Markdown."""
    parts = [PREAMBLE, "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    parts += [_row(family) for family in FAMILIES]
    parts += ["", "## Values of labels", "", "| label | values |", "|---|---|"]
    parts += [f"| {label} | {', '.join(_code(value) for value in values)} |" for label, values in _VALUES]
    parts += ["", BUCKETS, "| wanted, s | `le` |", "|---|---|"]
    parts += [f"| {wanted:g} | {le!r} |" for wanted, le in zip(WANTED_LES, LES, strict=True)]
    assert set(LES_OF_BACKENDS) < set(LES)
    few = ", ".join(f"{wanted:g}" for wanted in WANTED_LES_OF_BACKENDS)
    parts += ["", f"`backend_duration_seconds` and `check_duration_seconds` have fewer: {few}.", ""]
    parts += [HAPROXY, "| HAProxy | twisted_lb |", "|---|---|"]
    for theirs, ours in OF_HAPROXY:
        told = ours.replace("|", "\\|")  # a bar ends a cell of the table
        parts.append(f"| {', '.join(map(_code, theirs.split(', ')))} | `{told}` |")
    return "\n".join(parts) + "\n"


def _row(family: Family) -> str:
    labels = ", ".join(_code(label) for label in family.labels) or "none"
    return f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |"


def _code(word: str) -> str:
    return word if " " in word else f"`{word}`"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201
