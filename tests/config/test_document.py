"""A configuration file with all that it includes: one tree of values, each of which knows its place."""

from pathlib import Path
from typing import Any

import pytest

from twisted_lb.config.document import Document, Reading, read_document
from twisted_lb.config.load import from_flags
from twisted_lb.config.locator import KeyPath
from twisted_lb.config.problems import Problem, report
from twisted_lb.errors import ConfigError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def document(files: dict[str, str], **environment: str) -> Document:
    """The first of some files, and what it includes of the others."""
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    return read_document(Path(next(iter(files))), environment)


def read_files(files: dict[str, str]) -> dict[Path, str]:
    document(files)
    return Reading(Path(next(iter(files))), {}, lambda _: False).files()


def refusal(files: dict[str, str], **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        document(files, **environment)
    return [str(problem) for problem in caught.value.problems]


MAIN = 'include = ["conf.d/*.toml"]\n'


def test_tables_of_included_files_merge() -> None:
    found = document(
        {
            "lb.toml": MAIN + '[pools.app]\npolicy = "rr"',
            "conf.d/a.toml": "[pools.app.health_check]\ninterval_s = 1\n[pools.b]",
            "conf.d/b.toml": "listen = { port = 1 }",
        }
    )
    assert found.values == {
        "pools": {"app": {"health_check": {"interval_s": 1}, "policy": "rr"}, "b": {}},
        "listen": {"port": 1},
    }
    assert found.problems == ()


def test_routes_are_joined_those_of_included_files_first_in_their_order_then_the_including_ones() -> None:
    found = document(
        {
            "lb.toml": 'include = ["z.toml", "conf.d/*.toml"]\n[[routes]]\nhost = "main"',
            "z.toml": 'include = ["deep.toml"]\n[[routes]]\nhost = "z"\n[[routes]]\nhost = "z2"',
            "deep.toml": 'routes = [{ host = "deep" }]',
            "conf.d/b.toml": '[[routes]]\nhost = "b"',
            "conf.d/a.toml": '[[routes]]\nhost = "a"',
        }
    )
    hosts = ["deep", "z", "z2", "a", "b", "main"]
    assert [route["host"] for route in found.values["routes"]] == hosts
    places = [str(found.place(("routes", number, "host"))) for number in range(len(hosts))]
    assert places == [
        "deep.toml:1:13",
        "z.toml:3:1",
        "z.toml:5:1",
        "conf.d/a.toml:2:1",
        "conf.d/b.toml:2:1",
        "lb.toml:3:1",
    ]
    assert str(found.place(("routes", 5, "nix"))) == "lb.toml:2:3"
    assert str(found.place(("routes",))) == "lb.toml:2:3"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (
            '[pools.app]\n\npolicy = "rr"',
            '[pools]\napp.policy = "rr"',
            "conf.d/b.toml:2:5: pools.app.policy: already set in conf.d/a.toml:3",
        ),
        ("x = 1", "[x.y]", "conf.d/b.toml:1:2: x: already set in conf.d/a.toml:1"),
        ("[x.y]", "x = [1]", "conf.d/b.toml:1:1: x: already set in conf.d/a.toml:1"),
        ("[[x]]", "[[x]]", "conf.d/b.toml:1:3: x: already set in conf.d/a.toml:1"),
        ("[[routes]]", "routes = 5", "conf.d/b.toml:1:1: routes: already set in conf.d/a.toml:1"),
        ("[[x.routes]]", "[[x.routes]]", "conf.d/b.toml:1:5: x.routes: already set in conf.d/a.toml:1"),
    ],
)
def test_a_key_that_two_files_set_is_a_problem_that_names_both_places(first: str, second: str, said: str) -> None:
    found = document({"lb.toml": MAIN, "conf.d/a.toml": first, "conf.d/b.toml": second})
    assert [str(problem) for problem in found.problems] == [said]
    assert found.values == document({"lb.toml": MAIN, "conf.d/a.toml": first, "conf.d/b.toml": ""}).values


def test_what_the_including_file_sets_too_is_its_own_fault() -> None:
    found = document({"lb.toml": MAIN + 'policy = "rr"', "conf.d/a.toml": 'policy = "rand"'})
    assert list(map(str, found.problems)) == ["lb.toml:2:1: policy: already set in conf.d/a.toml:1"]


def test_names_are_relative_to_the_file_that_includes_and_a_pattern_may_match_nothing() -> None:
    absolute = Path("far").absolute()
    found = document(
        {
            "etc/lb.toml": f'include = ["a/one.toml", "none/*.toml", "a/?.x", "{absolute}/*.toml"]',
            "etc/a/one.toml": 'include = ["two.toml", "../**/three.toml"]',
            "etc/a/two.toml": "two = 2",
            "etc/b/c/three.toml": "three = 3",
            "far/four.toml": "four = 4",
        }
    )
    assert found.values == {"two": 2, "three": 3, "four": 4}
    assert str(found.place(("two",))) == "etc/a/two.toml:1:1"


def test_a_folder_may_be_called_like_a_pattern() -> None:
    assert document({"a[1]/lb.toml": 'include = ["*.x"]', "a[1]/b.x": "b = 1"}).values == {"b": 1}


def test_an_include_may_name_the_environment() -> None:
    assert document({"lb.toml": 'include = ["${SITE}.toml"]', "a.toml": "x = 1"}, SITE="a").values == {"x": 1}


@pytest.mark.parametrize(
    ("include", "said"),
    [
        ('["a.toml", "b.toml"]', ["lb.toml:1:12: a.toml: No such file or directory", "lb.toml:1:22: b.toml: No such file or directory"]),
        ('["conf.d"]', ["lb.toml:1:12: conf.d: Is a directory"]),
        ('[""]', ["lb.toml:1:12: .: Is a directory"]),
        ('["lb.toml/*.toml"]', ["lb.toml:1:12: include[0]: lb.toml/*.toml: Not a directory"]),
        ('["a\\u0000b"]', ["lb.toml:1:12: a\\x00b: embedded null byte"]),
        ('["a\\u0000/*"]', ["lb.toml:1:12: include[0]: a\\x00/*: embedded null byte"]),
        ('"a.toml"', ['lb.toml:1:11: include: should be a list, such as ["conf.d/*.toml"]']),
        ("[\n 1]", ["lb.toml:2:2: include[0]: should be the name of a file, or a pattern"]),
        (
            '["${NONE}"]',
            ["lb.toml:1:12: include[0]: ${NONE}: there is no NONE in the environment, and no default as in ${NONE:-default}"],
        ),
        ('["*.toml"]', ["lb.toml:1:12: lb.toml includes itself: lb.toml -> lb.toml"]),
    ],
)  # fmt: skip
def test_an_include_that_cannot_be_followed_is_refused_where_it_stands(include: str, said: list[str]) -> None:
    Path("conf.d").mkdir()
    assert refusal({"lb.toml": f"include = {include}"}) == said


def test_a_circle_of_includes_is_refused_by_its_chain_whatever_the_files_are_called() -> None:
    Path("link.toml").symlink_to("a.toml")
    files = {
        "lb.toml": 'include = ["a.toml"]',
        "a.toml": 'include = [\n"b.toml"]',
        "b.toml": 'x = 1\ninclude = ["./link.toml"]',
    }
    assert refusal(files) == ["b.toml:2:12: link.toml includes itself: a.toml -> b.toml -> link.toml"]


def test_a_file_that_is_included_twice_is_refused() -> None:
    files = {"lb.toml": 'include = ["a.toml",\n"*a.toml"]', "a.toml": "x = 1"}
    assert refusal(files) == ["lb.toml:2:1: a.toml is included already, in lb.toml:1"]


def chain(length: int) -> dict[str, str]:
    names = ["lb.toml", *(f"{number}.toml" for number in range(1, length + 1))]
    following = [*names[1:], "conf.d/*.toml"]
    return {name: f'include = ["{after}"]' for name, after in zip(names, following, strict=True)}


def test_includes_in_includes_have_a_bound() -> None:
    assert len(read_files(chain(10))) == 11
    [said] = refusal(chain(11))
    assert said.startswith("10.toml:1:12: more than 10 includes, one in the other: lb.toml -> 1.toml -> 2.toml -> ")


def test_what_cannot_be_read_of_any_file_is_said_at_once() -> None:
    files = {"lb.toml": MAIN + 'z = "${NONE}"', "conf.d/a.toml": "x = ?", "conf.d/b.toml": "x = 1\nx = 2"}
    Path("conf.d").mkdir()
    Path("conf.d/c.toml").write_bytes(b"\xff\xfe")
    assert refusal(files) == [
        "conf.d/a.toml:1:5: Invalid value; a text needs quotes",
        "conf.d/b.toml:2:1: x: already set in conf.d/b.toml:1",
        "conf.d/c.toml:1:1: is UTF-16, should be UTF-8",
        "lb.toml:2:5: z: ${NONE}: there is no NONE in the environment, and no default as in ${NONE:-default}",
    ]


def test_a_reference_that_cannot_be_replaced_is_a_problem_with_its_place_also_in_a_joined_route() -> None:
    found = document({"lb.toml": MAIN + '[[routes]]\nhost = "${A}"', "conf.d/a.toml": "[[routes]]"}, B="x")
    [problem] = found.problems
    assert (problem.path, str(problem.place)) == (("routes", 1, "host"), "lb.toml:3:8")
    assert found.values["routes"][1] == {"host": "${A}"}


def test_equal_documents_have_equal_files_and_others_differ() -> None:
    files = {"lb.toml": MAIN, "conf.d/a.toml": "x = 1"}
    first = read_files(files)
    assert list(first) == [Path("lb.toml"), Path("conf.d/a.toml")]
    assert read_files(files) == first
    assert read_files({**files, "conf.d/a.toml": "x = 1 "}) != first
    assert read_files({**files, "conf.d/b.toml": ""}) != first


def test_a_program_that_changes_its_values_changes_nobody_else_s() -> None:
    found = document({"lb.toml": "[a]\nb = [1]"})
    values: Any = found.values
    values["a"]["b"].append(2)
    assert found.values == {"a": {"b": [1]}}


TEXT = """\
policy = "rr"
backends = [
  "a:80",
  { address = "b:80", weight = 2 },
]
text = '''
two
lines'''
[listen]
"in terface" = ""
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("policy",), (1, 1, 6), (1, 10, 4)),
        (("backends",), (2, 1, 8), (2, 12, 1)),
        (("backends", 0), (3, 3, 6), (3, 3, 6)),
        (("backends", 1), (4, 3, 32), (4, 3, 32)),
        (("backends", 1, "weight"), (4, 23, 6), (4, 32, 1)),
        (("text",), (6, 1, 4), (6, 8, 3)),
        (("listen",), (9, 2, 6), (9, 2, 6)),
        (("listen", "in terface"), (10, 1, 12), (10, 16, 2)),
        # What is not there is at the nearest table.
        (("backends", 1, "name"), (4, 3, 32), (4, 3, 32)),
        (("backends", 7), (2, 1, 8), (2, 1, 8)),
        (("policy", "x", 3), (1, 1, 6), (1, 1, 6)),
        (("listen", "port"), (9, 2, 6), (9, 2, 6)),
        (("nothing", "of", "it"), (1, 1, 0), (1, 1, 0)),
        ((), (1, 1, 0), (1, 1, 0)),
    ],
)
def test_a_path_has_a_place_with_line_column_and_length(
    path: KeyPath, key: tuple[int, int, int], value: tuple[int, int, int], end: str
) -> None:
    Path("lb.toml").write_bytes(TEXT.replace("\n", end).encode())
    found = read_document(Path("lb.toml"), {})
    for place, expected in [(found.place(path), key), (found.place(path, of_value=True), value)]:
        assert (place.file, place.line, place.column, place.length) == ("lb.toml", *expected)
        assert place.text_of_the_line == (TEXT.split("\n")[place.line - 1] if place.length else "")


def test_a_table_of_several_files_is_where_it_has_a_header() -> None:
    found = document(
        {"lb.toml": MAIN + "[pools.app.health_check]", "conf.d/a.toml": "[pools.app]", "conf.d/b.toml": "[pools.b]"}
    )
    assert str(found.place(("pools", "app", "backends"))) == "conf.d/a.toml:1:8"


def test_a_problem_of_a_flag_or_with_a_place_keeps_it() -> None:
    found = document({"lb.toml": "x = 1"})
    assert str(found.placed(Problem(("x",), "no", flag="--x"))) == "--x: no"
    assert str(found.placed(Problem(("x",), "no"))) == "lb.toml:1:5: x: no"
    assert str(found.placed(Problem(("x",), "no", about_key=True))) == "lb.toml:1:1: x: no"


def test_a_document_tells_how_it_stands() -> None:
    found = document({"lb.toml": MAIN, "conf.d/a.toml": 'x = "${NONE}"'})
    assert repr(found) == "<Document lb.toml: 2 files, 1 problems>"


def test_a_configuration_of_several_files_is_one_and_its_errors_are_all_of_theirs() -> None:
    files = {"lb.toml": MAIN + "[listen]\nport = 8080\n", "conf.d/a.toml": 'backends = ["${HOST}:80", "b:80"]'}
    document(files)
    config = from_flags({}, Path("lb.toml"), {"HOST": "10.0.0.1"})
    assert [spec.name for spec in config.backends] == ["10.0.0.1:80", "b:80"]
    document({**files, "conf.d/b.toml": "[listen]\nport = 1\nprot = 2"})
    with pytest.raises(ConfigError) as caught:
        from_flags({"--healthcheck": "x"}, Path("lb.toml"), {})
    assert report(caught.value.problems, "nothing was started") == (
        "--healthcheck: should be a valid number, not 'x'\n"
        "conf.d/a.toml:1:13: backends[0]: ${HOST}: there is no HOST in the environment, and no default as in ${HOST:-default}\n"
        '    1 | backends = ["${HOST}:80", "b:80"]\n'
        "      |             ^^^^^^^^^^^^\n"
        'conf.d/b.toml:3:1: listen.prot: unknown key; did you mean "port"?\n'
        "    3 | prot = 2\n"
        "      | ^^^^\n"
        "lb.toml:3:1: listen.port: already set in conf.d/b.toml:2\n"
        "    3 | port = 8080\n"
        "      | ^^^^\n"
        "4 errors; nothing was started\n"
    )


def test_what_follows_from_a_problem_is_not_another_one() -> None:
    document({"lb.toml": 'backends = ["a:80"]\npolicy = "${NONE}"'})
    with pytest.raises(ConfigError) as caught:
        from_flags({}, Path("lb.toml"), {})
    assert [problem.code for problem in caught.value.problems] == ["E05"]


def test_what_is_hidden_in_a_line_is_looked_for_in_that_line_alone() -> None:
    """A file of thousands of mistakes is told in time that grows with their number."""
    asked: list[Any] = []
    path = Path("lb.toml")
    path.write_text('a = """x\ny\n""" # one\nb = [1, {c = 2, d = 3},\n4]\ne = 5\n')

    def hides(at: Any) -> bool:
        asked.append(at)
        return False

    document = read_document(path, {}, hides)
    for line, key, there in (
        (1, ("a",), [("a",)]),
        (4, ("b", 1, "d"), [("b", 0), ("b", 1, "c"), ("b", 1, "d")]),
        (5, ("b", 2), [("b", 2)]),
        (6, ("e",), [("e",)]),
    ):
        asked.clear()
        assert document.place(key).line == line
        assert asked == there


@pytest.mark.parametrize(
    ("state_file", "which"), [("lb.toml", "lb.toml"), ("conf.d/../conf.d/a.toml", "conf.d/a.toml"), ("link", "lb.toml")]
)
def test_a_state_file_that_would_be_written_over_a_file_of_the_configuration_is_refused(
    state_file: str, which: str
) -> None:
    document({"lb.toml": f'{MAIN}state_file = "{state_file}"\n', "conf.d/a.toml": 'backends = ["a:80"]\n'})
    Path("link").symlink_to("lb.toml")
    with pytest.raises(ConfigError) as caught:
        from_flags({}, Path("lb.toml"), {})
    assert [str(problem) for problem in caught.value.problems] == [
        f"lb.toml:2:14: state_file: {state_file} is the configuration file {which}, which it would be written over"
    ]


def test_a_state_file_beside_the_configuration_is_fine() -> None:
    document({"lb.toml": 'state_file = "lb.state"\nbackends = ["a:80"]\n'})
    assert from_flags({}, Path("lb.toml"), {}).state_file == "lb.state"
