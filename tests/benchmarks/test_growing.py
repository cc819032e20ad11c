"""Metrics that may only grow: which those are, and what has gone back."""

from bad_days.growing import Scrapes, counters

TEXT = """# HELP a_total Of a
# TYPE a_total counter
a_total{pool="x"} 3.0
# TYPE b gauge
b 7.0
# TYPE c_seconds histogram
c_seconds_bucket{le="1"} 2.0
c_seconds_bucket{le="+Inf"} 4.0
c_seconds_count 4.0
c_seconds_sum 1.5
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 9.0
"""
GROWING = {
    'a_total{pool="x"}': 3.0,
    'c_seconds_bucket{le="1"}': 2.0,
    'c_seconds_bucket{le="+Inf"}': 4.0,
    "c_seconds_count": 4.0,
    "c_seconds_sum": 1.5,
}


def test_counters_and_histograms_grow_and_gauges_need_not():
    assert counters(TEXT) == GROWING


def test_what_is_less_than_before_has_gone_back_and_what_is_gone_has_not():
    texts = [
        '# TYPE a_total counter\na_total{x="1"} 5\na_total{x="2"} 5\n',
        '# TYPE a_total counter\na_total{x="1"} 4\n',
    ]
    scrapes = Scrapes(lambda: texts.pop(0), every_s=3600.0)
    scrapes.look()
    scrapes.stop()
    assert scrapes.back == [('a_total{x="1"}', 5.0, 4.0)]
    assert scrapes.times == 2


def test_a_scrape_that_fails_is_told():
    def refused() -> str:
        raise ConnectionRefusedError

    scrapes = Scrapes(refused, every_s=3600.0)
    scrapes.stop()
    assert len(scrapes.failed) == 1
