"""Metrics, as Prometheus reads them."""

import math
import random
import re
import shutil
import subprocess

import pytest
from house import GET, House
from http2_house import Http2House
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from prometheus_client.utils import floatToGoString

from twisted_lb.admin.metrics import (
    FAMILIES,
    LES,
    LES_OF_BACKENDS,
    PREFIX,
    WANTED_LES,
    WANTED_LES_OF_BACKENDS,
    metrics_pieces,
    metrics_text,
    wants_openmetrics,
)
from twisted_lb.core.handshake_counts import Failure
from twisted_lb.core.histogram import Histogram, edges
from twisted_lb.core.load_report import LoadReport
from twisted_lb.core.measures import CertificateMeasures, ProcessMeasures
from twisted_lb.testing import CLOSE, NEVER_ANSWER, Wait, response

PROCESS = ProcessMeasures("0.1.0", "3.11.7", False, 1_700_000_000.5)


@pytest.fixture
def house(build):
    return build


def text(house, process=PROCESS, **named) -> str:
    return metrics_text(house.plane.measures(exemplars=True), process, **named).decode()


def samples(house, process=PROCESS) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name, without the prefix, and labels."""
    found = {}
    for family in prometheus(text(house, process)):
        for sample in family.samples:
            key = sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(house, name, process=PROCESS, **labels) -> float:
    return samples(house, process)[name, tuple(sorted(labels.items()))]


class Last:
    """A policy of one's own."""

    def __init__(self, members):
        self.members = members

    def pick(self, ask, now, rng, tried):
        return self.members[-1]


def busy(house) -> House:
    """A balancer to which most things have happened."""
    reported = {"choose": "two", "load": "reported"}
    pools = {
        "old": {"backends": ["d:80"], "policy": Last, "shadow": {"policy": "rr"}},
        "reporting": {"backends": ["e:80"], "policy": reported, "affinity": {"client": True}, "mirror": {"to": "old"}},
        "prompted": {"backends": ["f:80"], "policy": "prefix"},
    }
    lb = house("a:80", "b:80", "c:80", pools=pools)
    lb.plane.clusters["reporting"].pool.observe_load("e:80", LoadReport({"cpu_utilization": 0.5}), lb.clock.seconds())
    lb.backend("a:80", [[Wait(0.02), response(b"hello")], CLOSE, NEVER_ANSWER])
    lb.backend("b:80")
    for request in (
        GET,
        GET,
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
        b"nonsense\r\n\r\n",
        GET,
        GET,
    ):
        lb.ask(request)
        lb.wait(0.1)
    lb.cluster.observe_probe("a:80", True, "fine", asked_at=lb.clock.seconds() - 0.25)
    return lb


def test_reports_of_load_are_told_where_they_are_compared(house):
    lb = house("a:80", "b:80", policy={"choose": "scan", "load": "reported"})
    for said in (b"TEXT cpu_utilization=0.25", b"nonsense"):
        lb.pool.hear_load(lb.members[0], said, lb.clock.seconds())
    one = {"pool": "default", "backend": "a:80"}
    assert value(lb, "backend_reported_utilization", **one) == 0.25
    assert [value(lb, "backend_load_reports_total", **one, result=result) for result in ("used", "ignored")] == [1, 1]
    assert len([key for key in samples(lb) if key[0] == "backend_reported_utilization"]) == 1


def test_requests_are_told_with_all_their_labels(house):
    lb = house("a:80")
    lb.backend("a:80")
    lb.ask(GET)
    lb.ask(b"nonsense\r\n\r\n")
    plain = {"listener": "default", "route": "default", "pool": "default", "method": "GET"}
    assert value(lb, "requests_total", **plain, code_class="2xx", source="backend") == 1
    none = {"listener": "default", "route": "", "pool": "", "method": "_OTHER"}
    assert value(lb, "requests_total", **none, code_class="4xx", source="proxy") == 1
    assert value(lb, "refusals_total", listener="default", reason="bad_request") == 1
    assert value(lb, "refusals_total", listener="default", reason="no_route") == 0
    attempts = {"pool": "default", "backend": "a:80"}
    assert value(lb, "attempts_total", **attempts, outcome="ok") == 1
    assert value(lb, "backend_requests_total", **attempts, code_class="2xx") == 1
    assert value(lb, "bytes_total", listener="default", pool="default", direction="down") == 3


@pytest.mark.parametrize("seconds", [0.0004, 0.0009765625, 0.02, 0.2, 3.0, 250.0, 300.0])
def test_a_duration_is_in_each_bucket_that_is_not_below_it(house, seconds):
    lb = house("a:80", timeouts={"response_head_s": 600.0, "attempt_s": 600.0})
    lb.backend("a:80", [[Wait(seconds), response(b"hello")]])
    lb.ask(GET)
    lb.wait(301.0)
    took = lb.records[-1].took_s
    found = samples(lb)
    buckets = {
        float(dict(labels)["le"]): count
        for (name, labels), count in found.items()
        if name == "request_duration_seconds_bucket" and dict(labels)["code_class"] == "2xx"
    }
    assert sorted(buckets) == [*LES, math.inf]
    assert buckets == {le: float(took <= le) for le in buckets}
    labels = {"pool": "default", "code_class": "2xx"}
    assert value(lb, "request_duration_seconds_count", **labels) == 1
    assert value(lb, "request_duration_seconds_sum", **labels) == took


def test_every_bucket_ends_at_an_edge_of_the_histogram_and_near_to_what_is_usual():
    for les, wanted in ((LES, WANTED_LES), (LES_OF_BACKENDS, WANTED_LES_OF_BACKENDS)):
        assert set(les) < set(edges())
        assert list(les) == sorted(set(les))
        assert all(abs(le - want) / want < 0.0625 for le, want in zip(les, wanted, strict=True))
    assert len(LES_OF_BACKENDS) + 1 == 12


def test_the_three_facts_of_a_backend_are_never_merged(house):
    lb = house("a:80", "b:80")
    of = {"pool": "default", "backend": "a:80"}

    def states():
        return {
            dict(labels)["state"]
            for (name, labels), on in samples(lb).items()
            if name == "backend_state" and dict(labels)["backend"] == "a:80" and on
        }

    assert states() == {"ready", "unknown"}
    lb.cluster.observe_probe("a:80", True, "fine")
    assert states() == {"ready", "up"}
    lb.ask(GET)
    assert states() == {"ready", "up", "ejected"}
    lb.plane.command("default", "a:80", lb.members[0].admin.DRAIN)
    assert states() == {"drain", "up", "ejected"}
    assert value(lb, "backends", pool="default") == 2
    assert value(lb, "backends_usable", pool="default") == 0
    assert value(lb, "backend_weight", **of) == 1
    assert value(lb, "backend_weight_effective", **of) == 0
    assert value(lb, "state_changes_total", **of, to="drain") == 1
    assert value(lb, "ejections_total", **of, reason="refused") == 1


def test_checks_are_told_by_their_result(house):
    lb = house("a:80")
    lb.cluster.observe_probe("a:80", False, "no", asked_at=lb.clock.seconds() - 0.5)
    of = {"pool": "default", "backend": "a:80"}
    assert value(lb, "checks_total", **of, result="failed") == 1
    assert value(lb, "checks_total", **of, result="passed") == 0
    assert value(lb, "check_duration_seconds_sum", **of, result="failed") == 0.5


def test_connections_are_told_and_reuse_follows(house):
    lb = house("a:80")
    lb.backend("a:80")
    client = lb.ask(GET)
    lb.ask(GET, client)
    of = {"pool": "default", "backend": "a:80"}
    assert value(lb, "upstream_connections_total", **of) == 1
    assert value(lb, "upstream_connections", **of, kind="idle") == 1
    assert value(lb, "upstream_connections", **of, kind="busy") == 0
    assert value(lb, "client_connections", listener="default") == 1
    assert value(lb, "client_connections_total", listener="default") == 1


def test_retries_are_told_and_why_there_was_none(house):
    lb = house("a:80", "b:80")
    lb.backend("b:80", [CLOSE])
    lb.ask(GET)
    assert value(lb, "retries_total", pool="default", reason="refused") == 1
    assert value(lb, "retries_denied_total", pool="default", reason="tried_all") == 1
    assert value(lb, "retries_denied_total", pool="default", reason="budget") == 0


def test_who_was_stepped_over_is_told_with_the_reason(house):
    lb = house("a:80", "b:80", "c:80")
    lb.backend("b:80")
    lb.plane.command("default", "c:80", lb.members[0].admin.MAINT)
    for _ in range(4):
        lb.ask(GET)  # nobody listens at a:80: it is ejected by the first of them
    told = {labels: count for (name, labels), count in samples(lb).items() if name == "skips_total"}
    snapshot = {one.name: one.skips for one in lb.plane.snapshot("default").backends}
    assert told == {(("backend", "a:80"), ("pool", "default"), ("reason", "ejected")): snapshot["a:80"]["EJECTED"]}
    assert snapshot["a:80"]["EJECTED"] > 0


def test_the_gaps_in_a_streamed_answer_are_told_and_of_others_none(house):
    lb = house("a:80")
    head = b"HTTP/1.1 200 OK\r\n"
    streamed = head + b"Transfer-Encoding: chunked\r\n\r\n"
    end = b"0\r\n\r\n"
    lb.backend("a:80", [
        [streamed, Wait(7.0), b"1\r\na\r\n", Wait(0.5), b"1\r\nb\r\n1\r\nc\r\n", Wait(0.25), b"1\r\nd\r\n" + end],
        [streamed, b"1\r\na\r\n1\r\nb\r\n" + end],
        [head + b"Content-Length: 2\r\n\r\na", Wait(3.0), b"b"],
        [b"HTTP/1.0 200 OK\r\n\r\na", Wait(2.0), b"b", CLOSE],
    ])  # fmt: skip
    client = lb.client()
    for _ in range(4):
        lb.ask(GET, client)
        lb.wait(20.0)
    assert client.received.count(b"200 OK") == 4
    assert value(lb, "stream_gap_seconds_count", pool="default") == 3
    assert value(lb, "stream_gap_seconds_sum", pool="default") == 2.75


# Exemplars: a bucket leads to a request that was counted in it.


def exemplars(lb) -> dict[tuple[str, tuple[tuple[str, str], ...], float], tuple[str, float, float]]:
    """By name, labels and bucket."""
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(set(sample.labels.items()) - {("le", sample.labels["le"])})), float(sample.labels["le"])): (
            sample.exemplar.labels["request_id"], sample.exemplar.value, sample.exemplar.timestamp
        )
        for family in openmetrics(text(lb, openmetrics=True))
        for sample in family.samples
        if sample.exemplar
    }  # fmt: skip


def asked(lb, request_id: bytes, wait_s: float = 1.0) -> None:
    lb.ask(GET[:-2] + b"X-Request-ID: %b\r\n\r\n" % request_id)
    lb.wait(wait_s)


def test_each_bucket_leads_to_the_last_request_that_was_counted_in_it(house):
    lb = house("a:80", log={"requests": "none"})
    lb.backend("a:80", [[Wait(0.02), response(b"1")], [Wait(0.021), response(b"2")], [Wait(0.2), response(b"3", 404)]])
    for number in range(3):
        asked(lb, b"r%d" % number)
    found = exemplars(lb)
    pool, backend = ("pool", "default"), ("backend", "a:80")
    of_requests = {key[1:]: told[0] for key, told in found.items() if key[0] == "request_duration_seconds_bucket"}
    edge, late = 0.025390625, 0.25
    assert of_requests == {
        ((("code_class", "2xx"), pool), edge): "r1",
        ((("code_class", "4xx"), pool), late): "r2",
    }
    assert found["first_byte_seconds_bucket", (pool,), edge][0] == "r1"
    assert found["backend_duration_seconds_bucket", (backend, pool), edge][0] == "r1"
    for (_, _, le), (_, seconds, at) in found.items():
        assert le / 2 < seconds <= le
        # By the clock on the wall: all of it took three seconds.
        now = lb.plane.runtime.wall.read()
        assert now - 3.0 < float(at) < now


def test_every_exemplar_was_counted_in_its_bucket_whatever_has_happened(house):
    lb = house("a:80", "b:80", retry={"bad_statuses": [503], "more_attempts": 1}, limits={"client_bytes_per_s": 0})
    kinds = [
        [Wait(0.02), response(b"ok")], [response(b"no", 503)], CLOSE, [Wait(0.3), response(b"0123456789")[:-4], CLOSE],
        [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", Wait(0.1), CLOSE],
    ]  # fmt: skip
    rng = random.Random(13)
    for name in ("a:80", "b:80"):
        lb.backend(name, (rng.choice(kinds) for _ in range(300)))
    for number in range(200):
        upgrade = b"Connection: Upgrade\r\nUpgrade: x\r\n" if number % 2 else b""
        client = lb.ask(GET[:-2] + upgrade + b"X-Request-ID: r%d\r\n\r\n" % number)
        if number % 7 == 0:
            client.reset()
        lb.wait(0.05)
    lb.wait(60.0)
    counts = samples(lb)
    les = {
        name: sorted({float(dict(labels)["le"]) for key, labels in counts if key == name})
        for name, _ in counts
        if name.endswith("_bucket")
    }
    found = exemplars(lb)
    assert {name for name, _, _ in found} == {
        "request_duration_seconds_bucket", "first_byte_seconds_bucket", "backend_duration_seconds_bucket",
    }  # fmt: skip
    for (name, labels, le), (_, seconds, _) in found.items():
        below = [one for one in les[name] if one < le]
        assert seconds > (below[-1] if below else -1.0)

        def count(edge: float, name=name, labels=labels) -> float:
            return counts[name, tuple(sorted((*labels, ("le", floatToGoString(edge)))))]

        assert count(le) > (count(below[-1]) if below else 0.0), (name, labels, le)


def test_ids_that_are_too_long_for_an_exemplar_and_requests_without_one_are_none(house):
    lb = house("a:80")
    lb.backend("a:80")
    asked(lb, b"x" * 119)
    lb.ask(GET)
    assert exemplars(lb) == {}
    asked(lb, b"x" * 118)
    assert {told[0] for told in exemplars(lb).values()} == {"x" * 118}


def test_text_has_no_exemplars_and_what_a_client_calls_itself_cannot_end_one(house):
    lb = house("a:80")
    lb.backend("a:80")
    asked(lb, b'a"} 1 # {b="')
    assert "request_id" not in text(lb)
    [name] = {told[0] for told in exemplars(lb).values()}
    assert not set(name) & set('"{}# ')


def test_the_process_is_told(house):
    lag = Histogram()
    lag.add(0.3)
    process = ProcessMeasures(
        "0.1.0", "3.11.7", True, 5.5, 3, 2, 1, True, 7.25, lag.reading(), (("log_dropped_total", 4),)
    )
    lb = house("a:80")
    assert value(lb, "build_info", process, version="0.1.0", python="3.11.7", compiled="yes") == 1
    assert value(lb, "start_time_seconds", process) == 5.5
    assert value(lb, "config_generation", process) == 3
    assert value(lb, "config_reloads_total", process, result="ok") == 2
    assert value(lb, "config_reloads_total", process, result="failed") == 1
    assert value(lb, "config_last_reload_successful", process) == 0
    assert value(lb, "config_last_reload_timestamp_seconds", process) == 7.25
    assert value(lb, "config_last_reload_timestamp_seconds") == PROCESS.started_at
    assert value(lb, "loop_lag_seconds_count", process) == 1
    assert value(lb, "log_dropped_total", process) == 4
    assert ("log_dropped_total", ()) not in samples(lb)
    assert value(lb, "process_resident_memory_bytes", process) > 0


def test_names_from_a_client_make_no_series(house):
    lb = house("a:80", limits={"client_bytes_per_s": 0}, routes=[{"name": "r", "host": "x", "pool": "default"}])
    lb.backend("a:80")
    client = lb.client()

    def hostile(number: int) -> bytes:
        return (
            b"BREW%d /%d%%22%%7D%%0a HTTP/1.1\r\nHost: h%d.example\r\n\r\n"
            b'GET /%d?"}{=\\ HTTP/1.1\r\nHost: x\r\nX-Request-ID: "}%d\r\n\r\n' % ((number,) * 5)
        )

    lb.ask(hostile(0), client)
    lb.ask(b'GET / HTTP/1.1\r\nHost: "}\r\n\r\n')
    before = set(samples(lb))
    for number in range(1, 10_001):
        if not client.open:
            client = lb.client()
        lb.ask(hostile(number), client)
        if number % 100 == 0:
            lb.ask(b'GET /%d HTTP/1.1\r\nHost: h"}%d\r\n\r\n' % (number, number))
        client.received = b""
        lb.records.clear()
    after = samples(lb)
    assert set(after) == before
    assert sum(count for (name, _), count in after.items() if name == "requests_total") >= 10_000


def test_a_backend_that_was_removed_has_no_series_and_its_pool_has_all_that_it_did(house):
    lb = house("a:80", "b:80")
    lb.backend("a:80")
    lb.ask(GET)
    lb.apply(backends=["b:80"])
    found = samples(lb)
    assert not [labels for _, labels in found if ("backend", "a:80") in labels]
    assert value(lb, "request_duration_seconds_count", pool="default", code_class="2xx") == 1


def test_calls_to_backends_and_how_those_of_grpc_end_are_told():
    lb = Http2House("a:80")
    backend = lb.http2(
        "a:80", [lambda request: request.head(200, ("grpc-status", "14"), ended=True)], otherwise=lambda _: None
    )
    call = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\nTE: trailers\r\nConnection: te\r\nContent-Length: 0\r\n\r\n"
    lb.ask(call)
    lb.ask(call)
    lb.ask(call)
    assert value(lb, "grpc_calls_total", pool="default", code="unavailable") == 1
    assert value(lb, "upstream_http2_connections", pool="default", backend="a:80") == 1
    assert value(lb, "upstream_http2_calls", pool="default", backend="a:80") == 2
    assert value(lb, "upstream_http2_connections_total", pool="default", backend="a:80") == 1
    assert value(lb, "upstream_http2_calls_total", pool="default", backend="a:80") == 3
    assert len(backend.connections) == 1
    lb.close()


def test_each_family_is_declared_once_and_told_in_both_formats(house):
    lb = busy(house)
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    assert all(family.kind != "counter" or family.name.endswith("_total") for family in FAMILIES)
    process = ProcessMeasures(
        "0", "3", False, 1.0,
        counters=(
            ("log_dropped_total", 1), ("invariant_violations_total", 0),
            ("spans_sent_total", 2), ("spans_dropped_total", 3), ("buffered_bytes", 4), ("buffered_bytes_limit", 5),
            ("buffer_waits_total", 6), ("buffer_denied_total", 7), ("workers", 2), ("worker_restarts_total", 8),
        ),
        certificates=(CertificateMeasures("web", "a.test (RSA)", 2e9),),
    )  # fmt: skip
    lb.frontend.handshaken.succeeded("TLSv1.3", "TLS_AES_256_GCM_SHA384", resumed=True)
    lb.frontend.handshaken.failed(Failure.PLAIN_HTTP)
    lb.frontend.http2_counts.reset_by_us("CANCEL")
    lb.frontend.http2_counts.end("ENHANCE_YOUR_CALM")
    told = {one.name.removeprefix(PREFIX) for one in prometheus(text(lb, process)) if one.name.startswith(PREFIX)}
    of_levels = {"level_share", "level_usable"}  # of pools with several alone
    of_agents = {"agent_garbled"}  # of one that has said what is no word
    of_hedging = {"hedges", "hedge_delay_seconds"}  # of pools that hedge
    # With `_total` and without it.
    of_http2 = {"upstream_http2_connections", "upstream_http2_calls"}  # of pools that speak it with backends
    of_grpc = {"grpc_calls"}  # of pools that had any
    optional = of_levels | of_agents | of_hedging | of_http2 | of_grpc
    assert told == {family.name.removesuffix("_total") for family in FAMILIES} - optional
    open_text = text(lb, process, openmetrics=True)
    assert open_text.endswith("# EOF\n")
    assert names_in(openmetrics(open_text)) == names_in(prometheus(text(lb, process)))


def names_in(families) -> set[str]:
    """The names of samples; those of OpenMetrics are the same."""
    return {sample.name for one in families for sample in one.samples if not sample.name.endswith("_created")}


@pytest.mark.parametrize("open_", [False, True])
def test_thousands_of_series_come_in_pieces_that_make_one_text(house, open_):
    lb = house(*(f"b{number}:80" for number in range(300)))
    measures = lb.plane.measures()
    pieces = list(metrics_pieces(measures, PROCESS, openmetrics=open_))
    most = max(len([line for line in one.splitlines() if not line.startswith(b"#")]) for one in pieces)
    assert most <= 200 * (len(LES_OF_BACKENDS) + 3)
    whole = b"".join(pieces).decode()
    at_once = metrics_text(measures, PROCESS, openmetrics=open_).decode()
    assert whole.partition("# HELP process_")[0] == at_once.partition("# HELP process_")[0]
    types = re.findall("^# TYPE (\\S+)", whole, re.MULTILINE)
    assert len(set(types)) == len(types)
    assert len(re.findall("^# HELP (\\S+)", whole, re.MULTILINE)) == len(types)
    told = {one.name: one for one in (openmetrics if open_ else prometheus)(whole)}
    states = told[f"{PREFIX}backend_state"].samples
    assert len(states) == 300 * 7
    assert len({tuple(one.labels.items()) for one in states}) == len(states)
    assert whole.count("# EOF") == open_


def test_labels_are_those_that_are_declared(house):
    labels = {family.name: set(family.labels) for family in FAMILIES}
    for family in prometheus(text(busy(house))):
        if family.name.startswith(PREFIX):
            name = family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else "")
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == labels[name]


def test_who_takes_openmetrics_says_so():
    assert wants_openmetrics("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert not wants_openmetrics("text/plain")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is missing (Debian: apt install prometheus)")
def test_promtool_finds_nothing_wrong(house):
    given = text(busy(house))
    done = subprocess.run(["promtool", "check", "metrics"], input=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hedges_are_counted_by_what_they_came_to(house):
    lb = house("a:80", "b:80", hedge={"delay_s": 0.05})
    lb.backend("a:80", [[Wait(1.0), response()]])
    lb.backend("b:80")
    lb.ask()
    lb.wait(2.0)
    assert value(lb, "hedges_total", pool="default", result="won") == 1
    assert value(lb, "hedges_total", pool="default", result="no_budget") == 0
    assert value(lb, "hedge_delay_seconds", pool="default") == 0.05


def test_tls_is_counted_by_what_was_agreed_on_and_certificates_by_when_they_expire(house):
    lb = house("a:80")
    handshaken = lb.frontend.handshaken
    for resumed in (True, False, True):
        handshaken.succeeded("TLSv1.3", "TLS_AES_256_GCM_SHA384", resumed=resumed)
    handshaken.failed(Failure.PLAIN_HTTP)
    handshaken.refused("TLSV1_ALERT_UNKNOWN_CA: unknown ca")
    certificates = (CertificateMeasures("web", "a.test (RSA)", 2e9), CertificateMeasures("web", "a.test (ECDSA)", 1e9))
    lines = text(lb, ProcessMeasures("0", "3", False, 1.0, certificates=certificates)).splitlines()
    named = 'cipher="TLS_AES_256_GCM_SHA384",listener="default"'
    for line in (
        f'twisted_lb_handshakes_total{{{named},resumed="yes",version="TLSv1.3"}} 2.0',
        f'twisted_lb_handshakes_total{{{named},resumed="no",version="TLSv1.3"}} 1.0',
        'twisted_lb_arrivals_failed_total{listener="default",reason="plain_http"} 1.0',
        'twisted_lb_arrivals_failed_total{listener="default",reason="tlsv1_alert_unknown_ca"} 1.0',
        'twisted_lb_handshakes_open{listener="default"} 0.0',
        'twisted_lb_certificate_expires_timestamp_seconds{certificate="a.test (RSA)",listener="web"} 2e+09',
        'twisted_lb_certificate_expires_timestamp_seconds{certificate="a.test (ECDSA)",listener="web"} 1e+09',
    ):
        assert line in lines


def test_http2_is_counted_by_its_connections_and_streams_and_what_ended_them(house):
    lb = house("a:80")
    counts = lb.frontend.http2_counts
    counts.connections, counts.connections_total, counts.streams, counts.streams_total = 2, 5, 3, 70
    for code in ("CANCEL", "CANCEL", "0xabcdef", "0x12"):
        counts.reset_by_client(code)
    counts.reset_by_us("PROTOCOL_ERROR")
    counts.end("ENHANCE_YOUR_CALM")
    lines = text(lb).splitlines()
    for line in (
        'twisted_lb_http2_connections{listener="default"} 2.0',
        'twisted_lb_http2_connections_total{listener="default"} 5.0',
        'twisted_lb_http2_streams{listener="default"} 3.0',
        'twisted_lb_http2_streams_total{listener="default"} 70.0',
        'twisted_lb_http2_resets_total{by="client",code="CANCEL",listener="default"} 2.0',
        'twisted_lb_http2_resets_total{by="client",code="other",listener="default"} 2.0',
        'twisted_lb_http2_resets_total{by="us",code="PROTOCOL_ERROR",listener="default"} 1.0',
        'twisted_lb_http2_ended_total{code="ENHANCE_YOUR_CALM",listener="default"} 1.0',
    ):
        assert line in lines
