"""What backends say of their load is read, or is no report; nothing that they say raises."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some import examples

from twisted_lb.core.load_report import MOST_BYTES, LoadReport, is_metric, read_report

# Envoy, test/common/orca/orca_parser_test.cc: the same report in both forms.
ENVOYS = {
    "cpu_utilization": 0.7,
    "application_utilization": 0.8,
    "mem_utilization": 0.9,
    "rps_fractional": 1000.0,
    "eps": 2.0,
    "named_metrics.foo": 123.0,
    "named_metrics.bar": 0.2,
}


@pytest.mark.parametrize(
    ("said", "metrics"),
    [
        (
            (
                b"TEXT cpu_utilization:0.7,application_utilization:0.8,mem_utilization:0.9,"
                b"rps_fractional:1000,eps:2,named_metrics.foo:123,named_metrics.bar:0.2"
            ),
            ENVOYS,
        ),
        (
            (
                b'JSON {"cpu_utilization": 0.7, "application_utilization": 0.8, "mem_utilization": 0.9, "rps_fractional": 1000, '
                b'"eps": 2, "named_metrics": {"foo": 123,"bar": 0.2}}'
            ),
            ENVOYS,
        ),
        # vLLM's vllm/entrypoints/openai/orca_metrics.py writes an equals sign.
        (
            b"TEXT named_metrics.kv_cache_usage_perc=0.4, named_metrics.num_requests_waiting=3",
            {"named_metrics.kv_cache_usage_perc": 0.4, "named_metrics.num_requests_waiting": 3.0},
        ),
        # Printers of protobuf.
        (b'JSON {"cpuUtilization":0.5,"rpsFractional":7}', {"cpu_utilization": 0.5, "rps_fractional": 7.0}),
        (b'JSON {"namedMetrics":{"queueDepth":3}}', {"named_metrics.queueDepth": 3.0}),
        (b"TEXT cpu_utilization=1e-3", {"cpu_utilization": 0.001}),
        (b"TEXT  cpu_utilization = 1. ,\teps=0", {"cpu_utilization": 1.0, "eps": 0.0}),
        (
            b"TEXT what_comes_later=1,cpu_utilization=.5".replace(b".5", b"0.5"),
            {"what_comes_later": 1.0, "cpu_utilization": 0.5},
        ),
        (b"JSON {}", {}),
    ],
)
def test_a_report_is_read(said, metrics):
    report = read_report(said)
    assert report is not None
    assert report.metrics == metrics


@pytest.mark.parametrize(
    "said",
    [
        # Those of Envoy's tests that are errors there.
        b"BAD random-value",
        b"",
        b'TEXT cpu_utilization:"0.7"',
        b"TEXT cpu_utilization:nan",
        b"TEXT cpu_utilization:inf",
        b"TEXT cpu_utilization:0.7,cpu_utilization:0.8",
        b"TEXT named_metrics.foo:123,named_metrics.duplicate:123,named_metrics.duplicate:0.2",
        b"TEXT named_metrics.:123",
        b"TEXT not-a-list-of-key-value-pairs",
        b"JSON JSON not-a-valid-json-string",
        b'JSON {"cpu_utilization": "0.7"}',
        # And others.
        b"cpu_utilization=0.7",
        b"text cpu_utilization=0.7",
        b"BIN CAAA",
        b"TEXT",
        b"TEXT ",
        b"TEXT cpu_utilization=",
        b"TEXT cpu_utilization=-0.1",
        b"TEXT cpu_utilization=1e309",
        b"TEXT cpu_utilization=1_0",
        b"TEXT cpu_utilization=0x1",
        b"TEXT cpu_utilization=\xd9\xa1",  # a digit elsewhere
        b"TEXT cpu_utilization=\xff",
        b"TEXT cpu_utilization=0.7, TEXT cpu_utilization=0.8",  # two fields
        b"TEXT cpu_utilization=0.7,",
        b'JSON {"cpu_utilization": NaN}',
        b'JSON {"cpu_utilization": Infinity}',
        b'JSON {"cpu_utilization": -1}',
        b'JSON {"cpu_utilization": 1e309}',
        b'JSON {"cpu_utilization": true}',
        b'JSON {"cpu_utilization": null}',
        b'JSON {"cpu_utilization": 0.1, "cpu_utilization": 0.9}',
        b'JSON {"cpu_utilization": 0.1, "cpuUtilization": 0.9}',
        b'JSON {"named_metrics": {"a": {"b": 1}}}',
        b'JSON {"named_metrics": [1]}',
        b"JSON [0.7]",
        b"JSON 0.7",
        b"JSON",
        b"JSON " + b"[" * (MOST_BYTES - 5),
        b'JSON {"cpu_utilization":' + b"9" * (MOST_BYTES - 40) + b"}",
        b"TEXT cpu_utilization=0.5," + b",".join(b"named_metrics.m%d=1" % number for number in range(6000)),  # 100 kB
    ],
)
def test_what_is_no_report_is_none(said):
    assert read_report(said) is None


@examples(500)
@given(
    said=st.one_of(
        st.binary(max_size=80),
        st.sampled_from([b"TEXT ", b"JSON "]).flatmap(
            lambda form: st.binary(max_size=60).map(lambda rest: form + rest)
        ),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=8)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
            ),
        ).map(lambda value: b"JSON " + json.dumps(value).encode()),
    )
)
def test_whatever_is_said_nothing_raises_and_all_numbers_are_finite(said):
    report = read_report(said)
    if report is not None:
        assert all(0 <= value < float("inf") for value in report.metrics.values())
        assert -1 <= report.utilization() <= 1e6 + 1


@pytest.mark.parametrize(
    ("metrics", "metric", "utilization"),
    [
        # gRPC A58 and Envoy's client_side_weighted_round_robin: the application's if it is more than 0, else the processor's.
        ({"application_utilization": 0.8, "cpu_utilization": 0.7}, "", 0.8),
        ({"application_utilization": 0.0, "cpu_utilization": 0.7}, "", 0.7),
        ({"cpu_utilization": 0.7}, "", 0.7),
        ({"application_utilization": 0.0}, "", 0.0),
        ({"application_utilization": 1.6}, "", 1.6),
        ({"mem_utilization": 0.9, "named_metrics.q": 1.0}, "", -1),
        ({}, "", -1),
        ({"cpu_utilization": 0.7, "named_metrics.q": 3.0}, "named_metrics.q", 3.0),
        ({"cpu_utilization": 0.7}, "named_metrics.q", -1),
        ({"mem_utilization": 0.9}, "mem_utilization", 0.9),
        # A58's formula: + eps/rps * penalty, which is 1.
        ({"cpu_utilization": 0.5, "rps_fractional": 100.0, "eps": 10.0}, "", 0.6),
        ({"cpu_utilization": 0.5, "rps_fractional": 0.0, "eps": 10.0}, "", 0.5),
        ({"cpu_utilization": 0.5, "eps": 10.0}, "", 0.5),
        (
            {"cpu_utilization": 0.5, "rps_fractional": 1.0, "eps": 10.0},
            "",
            1.5,
        ),  # more errors than requests are all of them
        ({"cpu_utilization": 2e6}, "", -1),
        ({"application_utilization": 1e300, "cpu_utilization": 0.5}, "", -1),
    ],
)
def test_what_is_compared_is_what_grpc_compares(metrics, metric, utilization):
    assert LoadReport(metrics).utilization(metric) == pytest.approx(utilization)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1])
def test_who_reports_by_a_program_is_told_what_is_no_load(value):
    with pytest.raises(ValueError, match=r"cpu_utilization: .* is no load"):
        LoadReport({"cpu_utilization": value})


@pytest.mark.parametrize(
    ("name", "so"),
    [
        ("cpu_utilization", True),
        ("mem_utilization", True),
        ("named_metrics.kv_cache_usage_perc", True),
        ("named_metrics.", False),
        ("named_metrics.a b", False),
        ("named_metrics.a,b", False),
        ("named_metrics", False),
        ("eps", False),
        ("", False),
    ],
)
def test_which_names_may_be_compared(name, so):
    assert is_metric(name) is so
