"""`lbctl backends`: a table on any stream, names for scripts."""

import json

import pytest
from ctl_sample import status

TABLE = """\
BACKEND    STATE         FOR    WEIGHT  IN FLIGHT  REQ/S  SHARE  ERR     P99
app/b1     ● ready       6 d         1     7 / 64   88.4   25.1    0  118 ms
app/b2     ● ready       6 d         1     5 / 64   87.9   24.9    0  112 ms
app/b3     ● ready       6 d         1     4 / 64   88.6   25.1    1  131 ms
app/b4     ● ready       6 d         1     6 / 64   87.7   24.9    0  121 ms
api/a1     ● ready       6 d         2     8 / 64  118.4   18.3    0  125 ms
api/a2     ● ready       6 d         2     8 / 64  118.1   18.3    0  142 ms
api/a3     ● ready       6 d         1     2 / 32   58.8    9.1    0  149 ms
api/a4     ◐ drained     5 min     1→0     0 / 32    0.0    0.0    0       –
api/a5     ● ready       6 d         1    31 / 32   52.8    8.2    2  412 ms
api/a6     ● ready       6 d         1     2 / 32   60.0    9.3    0  136 ms
api/a7     ✕ down        41 s      1→0     0 / 32    0.0    0.0    9       –
api/a8     ● ready       6 d         1     4 / 32   60.0    9.3    0  128 ms
api/a9     ⊘ ejected     48 s      1→0     1 / 32    0.0    0.0   31       –
api/a10    ● ready       6 d         1     2 / 32   59.8    9.2    0  118 ms
api/a11    ● ready       6 d         1     4 / 32   59.4    9.2    0  127 ms
api/a12    ● ready       6 d         1     2 / 32   59.5    9.2    0  129 ms
static/s1  ● ready       6 d         1     4 / 64  120.9   41.6    0   18 ms
static/s2  ◔ slow start  24 s    1→0.4     1 / 64   47.2   16.3    0   22 ms
static/s3  ● ready       6 d         1     3 / 64  122.3   42.1    0   17 ms
"""
WIDE = """\
BACKEND    ADDRESS                  STATE         FOR    WEIGHT  IN FLIGHT  TUNNELS  REQ/S  SHARE IS/MEANT  ERR     P50     P99  REUSE  CONNECTIONS  LAST CHECK    WHY
app/b1     10.0.0.11:8000           ● ready       6 d         1     7 / 64        0   88.4     25.1 / 25.0    0   11 ms  118 ms   99 %  4 h1         ✓ 200 3.9 ms
app/b2     10.0.0.12:8000           ● ready       6 d         1     5 / 64        0   87.9     24.9 / 25.0    0   10 ms  112 ms   99 %  4 h1         ✓ 200 4.6 ms
app/b3     10.0.0.13:8000           ● ready       6 d         1     4 / 64        2   88.6     25.1 / 25.0    1   12 ms  131 ms   99 %  4 h1         ✓ 200 4.3 ms
app/b4     10.0.0.14:8000           ● ready       6 d         1     6 / 64        1   87.7     24.9 / 25.0    0   11 ms  121 ms   99 %  4 h1         ✓ 200 3.2 ms
api/a1     10.0.1.21:9000           ● ready       6 d         2     8 / 64        0  118.4     18.3 / 18.2    0   10 ms  125 ms   98 %  4 h1         ✓ 200 5.9 ms
api/a2     10.0.1.22:9000           ● ready       6 d         2     8 / 64        0  118.1     18.3 / 18.2    0   10 ms  142 ms   98 %  4 h1         ✓ 200 5.2 ms
api/a3     10.0.1.23:9000           ● ready       6 d         1     2 / 32        0   58.8       9.1 / 9.1    0   12 ms  149 ms   99 %  4 h1         ✓ 200 5.3 ms
api/a4     10.0.1.24:9000           ◐ drained     5 min     1→0     0 / 32        1    0.0       0.0 / 0.0    0       –       –      –  4 h1         ✓ 200 4.3 ms  alice: “deploy 2026.11.4”; 1 tunnel left
api/a5     10.0.1.25:9000           ● ready       6 d         1    31 / 32        0   52.8      8.2 / 9.1▼    2   24 ms  412 ms   99 %  4 h1         ✓ 200 6.6 ms  full, passed over 388 times in a minute
api/a6     10.0.1.26:9000           ● ready       6 d         1     2 / 32        0   60.0       9.3 / 9.1    0  9.0 ms  136 ms   99 %  4 h1         ✓ 200 5.9 ms
api/a7     10.0.1.27:9000           ✕ down        41 s      1→0     0 / 32        0    0.0       0.0 / 0.0    9       –       –      –  4 h1         ✗ 500 3.1 ms  check: 500 Internal Server Error, 44 times
api/a8     10.0.1.28:9000           ● ready       6 d         1     4 / 32        0   60.0       9.3 / 9.1    0   11 ms  128 ms   98 %  4 h1         ✓ 200 4.9 ms
api/a9     10.0.1.29:9000           ⊘ ejected     48 s      1→0     1 / 32        0    0.0       0.0 / 0.0   31       –       –      –  4 h1         ✓ 200 7.7 ms  5 failures in a row: no response; back in 12 s
api/a10    10.0.1.30:9000           ● ready       6 d         1     2 / 32        0   59.8       9.2 / 9.1    0   10 ms  118 ms   99 %  4 h1         ✓ 200 5.3 ms
api/a11    10.0.1.31:9000           ● ready       6 d         1     4 / 32        0   59.4       9.2 / 9.1    0  9.0 ms  127 ms   99 %  4 h1         ✓ 200 5.6 ms
api/a12    10.0.1.32:9000           ● ready       6 d         1     2 / 32        0   59.5       9.2 / 9.1    0   10 ms  129 ms   98 %  4 h1         ✓ 200 5.0 ms
static/s1  unix:/run/static-1.sock  ● ready       6 d         1     4 / 64        0  120.9     41.6 / 41.7    0  2.1 ms   18 ms  100 %  4 h1         ✓ 200 1.0 ms
static/s2  unix:/run/static-2.sock  ◔ slow start  24 s    1→0.4     1 / 64        0   47.2     16.3 / 16.7    0  2.4 ms   22 ms   92 %  4 h1         ✓ 200 1.0 ms  40 % of its weight, full in 36 s
static/s3  unix:/run/static-3.sock  ● ready       6 d         1     3 / 64        0  122.3     42.1 / 41.7    0  2.0 ms   17 ms  100 %  4 h1         ✓ 200 1.0 ms
"""


def test_backends_are_a_table(lbctl):
    assert lbctl("backends") == 0
    assert lbctl.out == TABLE


def test_wide_has_all_columns_and_is_cut_nowhere_in_a_pipe(lbctl):
    assert lbctl("backends", "-o", "wide") == 0
    assert lbctl.out == WIDE


def test_problems_are_those_that_are_not_ready_or_that_the_verdict_speaks_of(lbctl):
    assert lbctl("backends", "--problems", "-q") == 0
    assert lbctl.out == "api/a4\napi/a5\napi/a7\napi/a9\nstatic/s2\n"


def test_without_problems_the_table_is_a_sentence(lbctl):
    assert lbctl("backends", "app", "--problems") == 0
    assert (lbctl.out, lbctl.err) == ("", "every backend is well\n")


def test_one_pool_alone(lbctl):
    assert lbctl("backends", "static", "-q") == 0
    assert lbctl.out == "static/s1\nstatic/s2\nstatic/s3\n"


def test_a_pool_that_is_not_there_ends_with_4(lbctl):
    assert lbctl("backends", "statik") == 4
    assert lbctl.err == 'lbctl: there is no pool "statik"; did you mean "static"?\n'


def test_quiet_and_wide_is_tab_separated_without_a_header(lbctl):
    assert lbctl("backends", "app", "-q", "-o", "wide") == 0
    first = lbctl.out.splitlines()[0].split("\t")
    assert first[:3] == ["app/b1", "10.0.0.11:8000", "● ready"]
    assert len(first) == 16
    assert first[13] == "4 h1"


def test_json_has_the_backends_that_the_table_has(lbctl):
    assert lbctl("backends", "--problems", "--json") == 0
    assert [one["name"] for one in json.loads(lbctl.out)["backends"]] == [
        "api/a4",
        "api/a5",
        "api/a7",
        "api/a9",
        "static/s2",
    ]


def test_a_terminal_that_is_narrow_cuts_rows_and_wraps_none(lbctl):
    assert lbctl("backends", "-o", "wide", "--columns", "60", "--color", "never", terminal=True) == 0
    lines = lbctl.out.splitlines()
    assert [len(line) for line in lines] == [60] * 20
    assert all(line.endswith("…") for line in lines)


def test_colour_stands_on_the_glyph_and_the_word_alone(lbctl):
    lbctl("backends", "--color", "always")
    line = next(line for line in lbctl.out.splitlines() if line.startswith("api/a7"))
    assert line.startswith("api/a7     \x1b[31m✕\x1b[0m \x1b[1mdown\x1b[0m        41 s      1→0")
    assert "\x1b[1m9\x1b[0m" in line


def test_without_utf8_glyphs_are_ascii_and_columns_stand(lbctl, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    assert lbctl("backends", "api") == 0
    assert lbctl.out.isascii()
    assert "api/a4   d drained  5 min    1->0     0 / 32    0.0    0.0    0       -\n" in lbctl.out


def test_what_others_have_written_cannot_act_on_a_terminal(lbctl, api):
    told = status()
    told["pools"][0]["backends"][0]["reason"] = "bell \x07 and \x1b[2J and \u202e"
    api.answers["GET /v1/status"] = told
    lbctl("backends", "-o", "wide", terminal=True)
    assert "\x07" not in lbctl.out
    assert "\x1b[2J" not in lbctl.out
    lbctl("backends", "--json", "app")
    assert "\u202e" not in lbctl.out


@pytest.mark.parametrize(
    ("connections", "said"),
    [
        ({"http1": 0, "http2": 0, "calls": 0, "chose": ""}, "0"),
        ({"http1": 0, "http2": 2, "calls": 57, "chose": ""}, "2 h2: 57 calls"),
        ({"http1": 3, "http2": 1, "calls": 1, "chose": ""}, "1 h2: 1 call, 3 h1"),
        ({"http1": 3, "http2": 0, "calls": 0, "chose": "h1"}, "3 h1, took h1"),
        ({"http1": 0, "http2": 0, "calls": 0, "chose": "h2"}, "took h2"),
        (None, "–"),
    ],
)
def test_connections_are_told_by_what_is_spoken_on_them(lbctl, api, connections, said):
    told = status()
    told["pools"][0]["backends"][0]["connections"] = connections
    api.answers["GET /v1/status"] = told
    lbctl("backends", "app", "-q", "-o", "wide")
    assert lbctl.out.splitlines()[0].split("\t")[13] == said


def test_numbers_that_are_null_are_dashes(lbctl, api):
    told = status()
    backend = told["pools"][0]["backends"][0]
    told["pools"][0]["backends"] = [backend | dict.fromkeys(backend, None) | {"name": "app/b1", "backend": "b1"}]
    api.answers["GET /v1/status"] = told
    assert lbctl("backends", "app") == 0
    assert lbctl.out.splitlines()[1].split() == ["app/b1", "◌", "–", "–", "–", "–", "–", "–", "–"]
