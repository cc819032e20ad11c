"""References to the environment in strings: what is replaced, and that nothing becomes structure."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.config.interpolation import interpolated

ENVIRONMENT = {"HOST": "10.0.0.1", "EMPTY": "", "ODD": '"\n[x]\ny = "${HOST}', "_a1": "low"}


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("${HOST}:80", "10.0.0.1:80"),
        ("${HOST}${HOST}", "10.0.0.110.0.0.1"),
        ("${_a1}", "low"),
        ("${HOST:-other}", "10.0.0.1"),
        ("${NONE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b $x {y}", "a:-b $x {y"),
        ("$${HOST}", "${HOST}"),
        ("a $${ b", "a ${ b"),
        ("$HOST $ $$ {HOST} $1 $(x)", "$HOST $ $$ {HOST} $1 $(x)"),
        ("${ODD}", '"\n[x]\ny = "${HOST}'),
    ],
)
def test_a_reference_is_replaced_and_what_a_variable_holds_is_not_looked_at_again(text: str, becomes: str) -> None:
    assert interpolated({"x": text}, ENVIRONMENT) == ({"x": becomes}, [])


def test_only_string_values_are_looked_at_at_any_depth() -> None:
    values = {"${HOST}": [{"a": ["${HOST}", 1, True, 1.5]}], "n": 3}
    found, problems = interpolated(values, ENVIRONMENT)
    assert found == {"${HOST}": [{"a": ["10.0.0.1", 1, True, 1.5]}], "n": 3}
    assert problems == []
    assert values["${HOST}"] == [{"a": ["${HOST}", 1, True, 1.5]}]


LITERAL = "${ should begin ${NAME} or ${NAME:-default}; a literal one is $${"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${NONE}", "${NONE}: there is no NONE in the environment, and no default as in ${NONE:-default}"),
        ("${}", LITERAL),
        ("${HOST", LITERAL),
        ("${1X}", LITERAL),
        ("${HOST-x}", LITERAL),
        ("${HOST:x}", LITERAL),
        ("${ HOST }", LITERAL),
        ("${é}", LITERAL),
        ("${NONE:-${HOST}}", "${NONE:-...}: a default is taken as it stands, and cannot be a reference itself"),
        ("${BYTES}", "${BYTES}: BYTES is not UTF-8 in the environment"),
    ],
)
def test_what_cannot_be_replaced_is_a_problem_at_its_path_and_stays(text: str, said: str) -> None:
    found, [problem] = interpolated({"a": ["x", {"b": text}]}, {**ENVIRONMENT, "BYTES": "\udcff"})
    assert found == {"a": ["x", {"b": text}]}
    assert str(problem) == f"a[1].b: {said}"
    assert problem.code == "E05"


def test_each_string_that_cannot_be_replaced_is_a_problem() -> None:
    _, problems = interpolated({"a": "${X} ${Y}", "b": ["${Z}"]}, {})
    assert [problem.path for problem in problems] == [("a",), ("b", 0)]


def shape(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: shape(value) for key, value in values.items()}
    return [shape(value) for value in values] if isinstance(values, list) else type(values)


@given(st.text())
def test_no_value_of_a_variable_changes_the_shape_of_a_document(value: str) -> None:
    document = tomllib.loads('a = "${X}"\n[b]\nc = ["${X}", { d = "<${X}>" }]')
    found, _ = interpolated(document, {"X": value})
    assert shape(found) == shape(document)
    assert found["b"]["c"][1] == {"d": f"<{value}>"}
