"""One run of a real daemon with ends of all sorts: its metrics, its access log and what reads them say the same."""

import collections
import contextlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, listening, stage, until
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from twisted_lb.access_log.termination import STATES
from twisted_lb.core.outcome import Outcome, Refusal

DOCS = Path(__file__).parent.parent.parent / "docs"
HALOG, PROMTOOL = shutil.which("halog"), shutil.which("promtool")
needs_halog = pytest.mark.skipif(HALOG is None, reason="halog is missing (Debian: apt install haproxy)")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing (Debian: apt install prometheus)")

CONFIG = """
[admin]
address = "127.0.0.1:{page}"
[log]
file = "{log}"
format = "haproxy"
[defaults.route]
limits.body_bytes = 1000
timeouts.response_head_s = 0.3
[listeners.web]
address = "127.0.0.1:{port}"
[listeners.inside]
address = "127.0.0.1:{inside}"
default_pool = "app"
[listeners.safe]
address = "127.0.0.1:{safe}"
tls = "self-signed"
[defaults.pool.health_check]
interval_s = 0
[defaults.pool.queue]
no_backend_s = 0
[pools.app]
health_check = {{ path = "/health", interval_s = 1 }}
backends = ["127.0.0.1:{backend}"]
[pools.gone]
backends = ["127.0.0.1:9"]
[pools.twice]
backends = ["127.0.0.1:9,weight=200", "127.0.0.1:{backend}"]
[pools.kept_back]
backends = ["127.0.0.1:9", {{ address = "127.0.0.1:10", backup = true }}]
[[routes]]
listeners = "web"
path_prefix = "/app"
pool = "app"
[[routes]]
path_prefix = "/patient"
pool = "app"
timeouts.response_head_s = 60
[[routes]]
path_prefix = "/gone"
pool = "gone"
[[routes]]
path_prefix = "/twice"
pool = "twice"
[[routes]]
path_prefix = "/denied"
deny = true
[[routes]]
path_prefix = "/moved"
redirect = {{ to = "https://example.org/" }}
[[routes]]
path_prefix = "/fine"
answer = {{ status = 200, text = "fine" }}
[[routes]]
path_prefix = "/often"
pool = "app"
rate_limits = [{{ per_s = 0.001, burst = 2 }}]
"""

# What is sent, how often, and the status that comes; the sibling does as the query says.
ASKED = [
    ("GET", "/app", 20, 200), ("POST", "/app", 5, 200), ("HEAD", "/app", 3, 200), ("GET", "/app?status=404", 4, 404),
    ("GET", "/app?status=301", 2, 301), ("GET", "/app?status=500", 3, 500), ("GET", "/app?status=503", 1, 503),
    ("POST", "/app?close=head", 2, 502), ("GET", "/app?delay=20", 1, 504), ("GET", "/app?size=5000&chunked=1", 3, 200),
    ("GET", "/gone", 2, None), ("GET", "/denied", 3, 403), ("GET", "/moved", 2, 308), ("GET", "/fine", 4, 200),
    ("GET", "/nowhere", 3, 404), ("GET", "/often", 5, None), ("BREW", "/app", 1, 200), ("GET", "/twice", 3, 200),
]  # fmt: skip
RAW = [
    b"nonsense\r\n\r\n",
    b"GET /app HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /app HTTP/3.7\r\nHost: x\r\n\r\n",
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /app HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 70_000 + b"\r\n\r\n",
    b"POST /app HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    b"GET /app?close=100&size=5000 HTTP/1.1\r\nHost: x\r\n\r\n",
]


class Run:
    """What a daemon says when all of it has ended: metrics in both formats, lines of its log, and how it was asked."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "access.log"
        self._page, self._port = free_port(), free_port()
        with stage(folder) as world:
            _, backend = world.backend()
            config = folder / "lb.toml"
            own = {"page": self._page, "port": self._port, "inside": free_port(), "safe": free_port()}
            config.write_text(CONFIG.format(log=self.log, backend=backend, **own))
            running = world.twistd("lb", "lb", "--config", str(config))
            until(lambda: listening(self._page) or running.process.poll() is not None, "the daemon")
            assert running.process.poll() is None, running.log
            self.asked = self._ask()
            self.text = self.scraped()
            until(self._is_over, "all has ended")
            self.open_text = self.scraped("application/openmetrics-text; version=1.0.0")
            assert "Traceback" not in running.log
        self.lines = self.log.read_text().splitlines(keepends=True)

    def _is_over(self) -> bool:
        """All that was asked is counted and in the log, and a backend was checked."""
        self.text = self.scraped()
        ended = self.sum("requests_total") == self.asked == len(self.log.read_text().splitlines())
        return ended and self.sum("checks_total") > 0

    def scraped(self, accept: str = "text/plain") -> str:
        asked = urllib.request.Request(f"http://127.0.0.1:{self._page}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def _ask(self) -> int:
        """Ask for all of it; how many requests that were."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_S)) as client:
            for method, target, times, status in ASKED:
                for _ in range(times):
                    client.request(method, target, b"some" if method == "POST" else None)
                    answer = client.getresponse()
                    answer.read()
                    assert status in (None, answer.status), (method, target, answer.status)
        for raw in RAW:
            with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S) as one:
                one.sendall(raw)
                with contextlib.suppress(ConnectionResetError):  # what was too long is not read to its end
                    while one.recv(65536):
                        pass
        self._leave(b"GET /patient?delay=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        self._leave(b"POST /patient HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nnot all")
        return sum(times for _, _, times, _ in ASKED) + len(RAW) + 2

    def _leave(self, raw: bytes) -> None:
        """A client that leaves as soon as its request is at a backend, where nobody else's is."""

        def in_flight() -> float:
            self.text = self.scraped()
            return self.sum("in_flight")

        until(lambda: in_flight() == 0, "those before have ended")
        with socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S) as one:
            one.sendall(raw)
            until(lambda: in_flight() == 1, "it is at a backend")

    def samples(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The samples of a name, by their labels."""
        return [
            (sample.labels, sample.value)
            for family in prometheus(self.text)
            for sample in family.samples
            if sample.name == f"twisted_lb_{name}"
        ]

    def sum(self, name: str, **labels: str) -> float:
        return sum(value for has, value in self.samples(name) if labels.items() <= has.items())

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Sums over all other labels, without zeros."""
        found: dict[tuple[str, ...], float] = collections.Counter()
        for has, value in self.samples(name):
            found[tuple(has[label] for label in labels)] += value
        return {key: value for key, value in found.items() if value}

    def halog(self, *options: str) -> list[list[str]]:
        """The words of each line that halog prints of the log."""
        done = subprocess.run(
            [str(HALOG), "-q", "-s", "-4", *options],
            input="".join(self.lines),
            capture_output=True,
            text=True,
            check=True,
        )
        return [line.split() for line in done.stdout.splitlines() if not line.startswith("#")]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return Run(tmp_path_factory.mktemp("counts"))


def test_there_is_something_of_everything(run):
    outcomes = {outcome for (outcome,) in run.by("attempts_total", "outcome")}
    assert {"ok", "refused", "no_response", "timed_out", "cut_short", "client_gone"} <= outcomes
    refusals = {reason for (reason,) in run.by("refusals_total", "reason")}
    assert {"bad_request", "forbidden", "no_route", "no_backend", "rate_limited", "version"} <= refusals
    assert {"body_too_large", "uri_too_long", "head_too_large"} <= refusals
    assert run.by("retries_total", "pool", "reason").keys() == {("twice", "refused")}
    assert {code for (code,) in run.by("requests_total", "code_class")} == {"2xx", "3xx", "4xx", "5xx", "other"}


@needs_halog
def test_halog_finds_as_many_of_each_status_as_the_metrics_have(run):
    statuses = {int(status): int(count) for status, count in run.halog("-st")}
    assert len(statuses) > 10
    classes: collections.Counter[str] = collections.Counter()
    for status, count in statuses.items():
        classes["other" if status < 0 else f"{status // 100}xx"] += count
    assert classes == {code: count for (code,), count in run.by("requests_total", "code_class").items()}


@needs_halog
def test_halog_finds_as_many_requests_of_each_pool_and_class_as_the_metrics_have(run):
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for server, *counts in [line[:7] for line in run.halog("-srv")]:
        pool = server.partition("/")[0].removesuffix("web")  # a listener stands there where no pool was found
        for code, count in zip(("1xx", "2xx", "3xx", "4xx", "5xx"), counts, strict=False):
            found[pool, code] += int(count)
    told = {key: count for key, count in run.by("requests_total", "pool", "code_class").items() if key[1] != "other"}
    assert {key: count for key, count in found.items() if count} == told


@needs_halog
def test_halog_finds_as_many_of_each_end_as_the_metrics_have(run):
    """By who ended it, the first letter of the termination state. An attempt that was not followed by a retry was the end."""
    found: collections.Counter[str] = collections.Counter()
    for state, count in run.halog("-tc"):
        found[state[0].lower()] += int(count)
    retried = {reason: count for (reason,), count in run.by("retries_total", "reason").items()}
    told: collections.Counter[str] = collections.Counter()
    for (name,), count in run.by("attempts_total", "outcome").items():
        told[STATES[Outcome[name.upper()]][0].lower()] += count - retried.get(name, 0)
    for (name,), count in run.by("refusals_total", "reason").items():
        told[STATES[Refusal[name.upper()]][0].lower()] += count
    # What a route answers itself has no counter of its own: it is all the rest.
    told["l"] = run.sum("requests_total") - sum(told.values())
    assert found == told
    assert set(found) >= set("-scpl")


def test_lines_and_metrics_have_as_many_retries_bytes_and_requests_of_a_listener(run):
    fields = [line.split() for line in run.lines]
    assert sum(int(one[10].split("/")[-1].lstrip("+")) for one in fields) == run.sum("retries_total")
    by_listener = collections.Counter(one[2] for one in fields)
    assert by_listener == {name: count for (name,), count in run.by("requests_total", "listener").items()}
    by_pool: collections.Counter[str] = collections.Counter()
    for one in fields:
        by_pool[one[3].partition("/")[0].removesuffix("web")] += int(one[6])
    assert by_pool["app"] > 15_000
    down = {pool: count for (pool, way), count in run.by("bytes_total", "pool", "direction").items() if way == "down"}
    assert by_pool == down


def test_parsers_of_both_formats_understand_the_answer_and_find_the_same(run):
    def values(families) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
            if not sample.name.endswith("_created")
        }

    plain, opened = values(prometheus(run.text)), values(openmetrics(run.open_text))
    assert plain.keys() == opened.keys()
    counted = {
        key for key in plain if key[0].endswith(("requests_total", "attempts_total", "request_duration_seconds_count"))
    }
    assert counted
    assert all(plain[key] == opened[key] for key in counted)


def test_each_histogram_has_as_many_in_its_last_bucket_as_it_counts_and_none_decreases(run):
    histograms = [family for family in prometheus(run.text) if family.type == "histogram"]
    assert len(histograms) > 6
    for family in histograms:
        buckets = collections.defaultdict(list)
        counts = {}
        for sample in family.samples:
            labels = frozenset((name, value) for name, value in sample.labels.items() if name != "le")
            if sample.name.endswith("_bucket"):
                buckets[labels].append(sample.value)
            elif sample.name.endswith("_count"):
                counts[labels] = sample.value
        assert {labels: values[-1] for labels, values in buckets.items()} == counts
        assert all(values == sorted(values) for values in buckets.values())


@needs_promtool
def test_promtool_finds_nothing_wrong_with_a_running_daemons_metrics(run):
    done = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=run.text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def queries() -> list[str]:
    """Of the dashboard for Grafana and of the alerts."""
    board = json.loads((DOCS / "grafana-dashboard.json").read_text())
    rules = re.findall(r"expr: (?:\|\n)?(.+?)\n +(?:for|labels):", (DOCS / "alerts.yml").read_text(), re.DOTALL)
    return [*rules, *(target["expr"] for panel in board["panels"] for target in panel["targets"])]


def test_dashboard_and_alerts_name_only_what_a_running_daemon_tells(run):
    labels = collections.defaultdict(set)
    for family in prometheus(run.text):
        for sample in family.samples:
            labels[sample.name] |= sample.labels.keys()
    named = [
        found for query in queries() for found in re.findall(r"((?:twisted_lb|process)_\w+)(?:\{([^}]*)\})?", query)
    ]
    assert len(named) > 40
    assert {name for name, _ in named} <= labels.keys()
    for name, matchers in named:
        assert set(re.findall(r"(\w+) *(?:=|!=|=~|!~)", matchers)) <= labels[name] | {"instance", "job"}, name
