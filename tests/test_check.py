"""`--check`: a configuration is looked at, nothing is bound, and the status says whether it is fine."""

import json
import socket
import sys
from pathlib import Path

import pytest

from twisted_lb import __main__, tap
from twisted_lb.check import check
from twisted_lb.config.load import Source

FINE = 'backends = ["127.0.0.1:1"]\n[listen]\nport = 8080\n'
DOUBTFUL = FINE + "[timeouts]\nattempt_s = 90\n"
WRONG = 'backends = ["127.0.0.1:1"]\npolcy = "rr"\n[listen]\nport = "x"\n'


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ended(capsys: pytest.CaptureFixture[str], text: str | None, words: str) -> tuple[int, str]:
    """The status of a command line with a file, and what it says on stderr."""
    if text is not None:
        Path("lb.toml").write_text(text)
    with pytest.raises(SystemExit) as caught:
        tap.Options().parseOptions(words.split())
    said = capsys.readouterr()
    assert said.out == ""
    return int(str(caught.value.code)), said.err


def test_what_is_fine_ends_with_0(capsys):
    assert ended(capsys, FINE, "--config lb.toml --check --strict") == (0, "no problem; lb.toml can be loaded\n")


def test_warnings_have_places_and_codes_and_are_no_errors_unless_it_is_strict(capsys):
    said = (
        "lb.toml:5:13: timeouts.attempt_s: 90 has no effect: response_head_s = 60 bounds all attempts together   [W09]\n"
        "    5 | attempt_s = 90\n"
        "      |             ^^\n"
        "1 warning; lb.toml "
    )
    assert ended(capsys, DOUBTFUL, "--config lb.toml --check") == (0, f"{said}can be loaded\n")
    assert ended(capsys, DOUBTFUL, "--config lb.toml --check --strict") == (1, f"{said}is refused\n")


def test_errors_end_with_1_all_at_once(capsys):
    assert ended(capsys, WRONG, "--config lb.toml --check") == (
        1,
        (
            'lb.toml:2:1: polcy: unknown key; did you mean "policy"?\n'
            '    2 | polcy = "rr"\n'
            "      | ^^^^^\n"
            "lb.toml:4:8: listen.port: should be a valid integer, not 'x'\n"
            '    4 | port = "x"\n'
            "      |        ^^^\n"
            "2 errors; lb.toml is refused\n"
        ),
    )


def test_a_file_that_is_named_there_is_looked_at_too(capsys):
    status, said = ended(capsys, DOUBTFUL + '[error_pages]\n503 = "none.html"\n', "--config lb.toml --check")
    assert status == 1
    assert said.startswith("lb.toml:7:7: error_pages.503: none.html: no such file or directory\n")
    assert said.endswith("1 error, 1 warning; lb.toml is refused\n")


def test_a_file_that_cannot_be_read_ends_with_3(capsys):
    said = "lb.toml: No such file or directory\n1 error; lb.toml is refused\n"
    assert ended(capsys, None, "--config lb.toml --check") == (3, said)
    status, said = ended(capsys, f'include = ["none.toml"]\n{FINE}', "--config lb.toml --check")
    assert status == 3
    assert said.startswith("lb.toml:1:12: none.toml: No such file or directory\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--config lb.toml --check --port x", "--port: should be a valid integer, not 'x'\n1 error; lb.toml is refused\n"),
        ("--check", "no backend: give at least one, such as 127.0.0.1:8081\n1 error; the command line is refused\n"),
        ("--strict", "twistd lb: --strict: is for --check\n"),
        ("--json", "twistd lb: --json: is for --check\n"),
        ("--check --what", "twistd lb: unrecognized arguments: --what\n"),
    ],
)  # fmt: skip
def test_what_is_wrong_about_flags_ends_with_2(capsys, words, said):
    assert ended(capsys, FINE, words) == (2, said)


def test_a_command_line_without_a_file_can_be_checked(capsys):
    assert ended(capsys, None, "-b a:80 --check") == (0, "no problem; the command line can be loaded\n")


def test_programs_get_json(capsys):
    status, said = ended(capsys, DOUBTFUL, "--config lb.toml --check --json")
    assert (status, json.loads(said)) == (
        0,
        [
            {
                "file": "lb.toml",
                "line": 5,
                "column": 13,
                "path": "timeouts.attempt_s",
                "code": "W09",
                "severity": "warning",
                "message": "90 has no effect: response_head_s = 60 bounds all attempts together",
                "hint": None,
            }
        ],
    )
    status, said = ended(capsys, WRONG, "--config lb.toml --check --json")
    assert (status, [(one["path"], one["code"], one["hint"]) for one in json.loads(said)]) == (
        1,
        [("polcy", "E06", 'did you mean "policy"?'), ("listen.port", "E08", None)],
    )
    assert ended(capsys, FINE, "--config lb.toml --check --json") == (0, "[]\n")


def test_nothing_is_bound_and_no_name_looked_up(monkeypatch):
    def refuse(*_args: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    Path("lb.toml").write_text('backends = ["nowhere.invalid:1"]\n[listen]\nport = 1\n')
    assert check(Source({}, Path("lb.toml")))[0] == 0


def test_older_names_are_told_with_their_places(capsys):
    status, said = ended(capsys, f'strategy = "rr"\n{FINE}', "--config lb.toml --check")
    assert status == 0
    assert said.startswith(
        "lb.toml:1:1: strategy: is called policy now; this name is understood for two releases   [W02]\n"
    )


def test_the_module_checks_as_twistd_does(monkeypatch, capsys):
    Path("lb.toml").write_text(FINE)
    monkeypatch.setattr(sys, "argv", ["twisted_lb", "lb", "--config", "lb.toml", "--check"])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == 0
    assert capsys.readouterr().err == "no problem; lb.toml can be loaded\n"
