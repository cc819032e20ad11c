"""What many problems look like: on a terminal, in one line, and as JSON."""

import json

import pytest

from twisted_lb.config.problems import Code, Place, Problem, Severity, as_json, count, dotted, report
from twisted_lb.errors import ConfigError

MISTYPED = Problem(
    ("pools", "app", "wieght"),
    "unknown key",
    Code.UNKNOWN_KEY,
    hint='did you mean "weight"?',
    about_key=True,
    place=Place("lb.toml", 14, 1, 6, "wieght = 3"),
)
NO_POOL = Problem(
    ("routes", 0, "pool"),
    'there is no pool "ap"',
    hint='did you mean "app"? (pools: app, static)',
    place=Place("lb.toml", 22, 8, 4, 'pool = "ap"'),
)
NEVER = Problem(
    ("routes", 3),
    "never reached, routes[1] (line 35) takes every path it could",
    "W04",
    Severity.WARNING,
    place=Place("lb.toml", 4, 3, 6, "[[routes]]"),
)
PORT = Problem(("listen", "port"), "should be a valid integer, not 'x'", flag="--port")


def test_errors_come_first_then_warnings_each_by_its_place_and_a_line_counts_them() -> None:
    assert report([NEVER, NO_POOL, MISTYPED], "nothing was changed") == (
        'lb.toml:14:1: pools.app.wieght: unknown key; did you mean "weight"?\n'
        "   14 | wieght = 3\n"
        "      | ^^^^^^\n"
        'lb.toml:22:8: routes[0].pool: there is no pool "ap"; did you mean "app"? (pools: app, static)\n'
        '   22 | pool = "ap"\n'
        "      |        ^^^^\n"
        "lb.toml:4:3: routes[3]: never reached, routes[1] (line 35) takes every path it could   [W04]\n"
        "    4 | [[routes]]\n"
        "      |   ^^^^^^\n"
        "2 errors, 1 warning; nothing was changed\n"
    )


def test_what_was_typed_comes_before_files_and_files_by_name_line_and_column() -> None:
    places = [Place("b.toml", 1, 1), Place("a.toml", 10, 2), Place("a.toml", 9, 1), Place("a.toml", 10, 1)]
    several = [Problem(("x",), "no", place=place) for place in places]
    lines = report([*several, PORT], "nothing was started").splitlines()
    assert lines == [
        "--port: should be a valid integer, not 'x'",
        "a.toml:9:1: x: no",
        "a.toml:10:1: x: no",
        "a.toml:10:2: x: no",
        "b.toml:1:1: x: no",
        "5 errors; nothing was started",
    ]


def test_at_most_twenty_are_shown_and_all_are_counted() -> None:
    many = [Problem(("x", number), "no", place=Place("lb.toml", number + 1, 1)) for number in range(23)]
    lines = report(many, "nothing was changed").splitlines()
    assert lines[19:] == ["lb.toml:20:1: x[19]: no", "… and 3 more", "23 errors; nothing was changed"]
    assert "more" not in report(many[:20], "nothing was changed")


@pytest.mark.parametrize(
    ("problems", "said"),
    [([], "no problem"), ([PORT], "1 error"), ([NEVER], "1 warning"), ([NEVER, NEVER, PORT], "1 error, 2 warnings")],
)
def test_one_is_no_more_than_one(problems: list[Problem], said: str) -> None:
    assert count(problems) == said


@pytest.mark.parametrize(
    ("place", "lines"),
    [
        (Place("f", 7, 2, 1, "\tx = 1"), ["    7 |  x = 1", "      |  ^"]),
        (Place("f", 123456, 1, 1, "x"), ["123456 | x", "      | ^"]),
        (Place("f", 1, 7, 1, '漢 = "é" ü'), ['    1 | 漢 = "é" ü', "      |        ^"]),
        (Place("f", 1, 4, 2, "e\u0301= 12"), ["    1 | e\u0301= 12", "      |   ^^"]),
        (Place("f", 1, 5, 2, "x = 漢字"), ["    1 | x = 漢字", "      |     ^^^^"]),
        (Place("f", 1, 5, 9, "x = \x1b[31m"), ["    1 | x = �[31m", "      |     ^^^^^"]),
        (Place("f", 1, 6, 1, "x = ["), ["    1 | x = [", "      |      ^"]),
        (Place("f", 1, 1), []),
        (Place("f"), []),
    ],
)
def test_carets_stand_under_what_is_wrong(place: Place, lines: list[str]) -> None:
    assert report([Problem((), "no", place=place)], "end").splitlines()[1:-1] == lines


def test_a_long_line_is_shown_around_what_is_wrong() -> None:
    text = "a" * 300 + "WRONG" + "b" * 300
    for column, before, after in [(301, "…", ""), (1, "", "…")]:
        place = Place("lb.toml", 1, column, 5, text)
        _, line, carets, _ = report([Problem((), "no", place=place)], "end").splitlines()
        assert len(line) == 8 + 121
        assert line.startswith(f"    1 | {before}")
        assert line.endswith(after)
        start, end = carets.index("^"), carets.rindex("^") + 1
        assert line[start:end] == text[column - 1 : column + 4]


def test_as_one_line_a_problem_cannot_act_upon_a_terminal() -> None:
    problem = Problem(("a\x1b",), "no\nmore", place=Place("\x1b.toml", 1, 2))
    assert str(problem) == '\\x1b.toml:1:2: "a\\u001b": no\\nmore'


def test_a_path_is_written_as_people_write_it() -> None:
    assert dotted(("pools", "app", "backends", 1, "weight")) == "pools.app.backends[1].weight"
    assert dotted(("error_pages", "503", "a.b", "", "x-y")) == 'error_pages.503."a.b"."".x-y'
    assert dotted(()) == ""


def test_for_programs_all_of_them_are_json() -> None:
    rows = json.loads(as_json([NEVER, PORT, MISTYPED]))
    assert rows == [
        {
            "file": None,
            "line": None,
            "column": None,
            "path": "--port",
            "code": "E08",
            "severity": "error",
            "message": "should be a valid integer, not 'x'",
            "hint": None,
        },
        {
            "file": "lb.toml",
            "line": 14,
            "column": 1,
            "path": "pools.app.wieght",
            "code": "E06",
            "severity": "error",
            "message": "unknown key",
            "hint": 'did you mean "weight"?',
        },
        {
            "file": "lb.toml",
            "line": 4,
            "column": 3,
            "path": "routes[3]",
            "code": "W04",
            "severity": "warning",
            "message": "never reached, routes[1] (line 35) takes every path it could",
            "hint": None,
        },
    ]
    assert json.loads(as_json([])) == []


def test_an_error_is_all_its_problems_in_one_line() -> None:
    error = ConfigError([PORT, MISTYPED, "a sentence\nof old"])
    assert error.problems[1] is MISTYPED
    assert str(error) == (
        "--port: should be a valid integer, not 'x'; "
        'lb.toml:14:1: pools.app.wieght: unknown key; did you mean "weight"?; a sentence\\nof old'
    )


def test_no_two_kinds_of_problems_have_a_code_in_common() -> None:
    assert len({code.value for code in Code}) == len(Code.__members__)
