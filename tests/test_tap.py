"""The command lines: argparse's grammar inside twistd's options, and one line for a mistake."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
from twisted.python.usage import Options as TwistedOptions

from twisted_lb import __main__, tap
from twisted_lb.core.listen_address import ListenAddress
from twisted_lb.core.pickers import POLICIES
from twisted_lb.errors import StartError, listen_error, one_line, report_start_errors
from twisted_lb.options import refuse_unlistenable
from twisted_lb.sibling.tap import Options as SiblingOptions


def parsed(line: str) -> tap.Options:
    options = tap.Options()
    options.parseOptions(line.split())
    return options


def names(line: str) -> list[str]:
    return [spec.name for spec in parsed(line).config.backends]


@pytest.mark.parametrize(
    "line",
    [
        "-b a:1 b:2",
        "-b a:1 -b b:2",
        "-ba:1 -bb:2",
        "--backend a:1 b:2",
        "--backend=a:1 --backend=b:2",
        "-p 8080 -b a:1 b:2",
        "-b a:1 b:2 -p 8080 -c 1",
        "-c 1 -b a:1 -s rand -b b:2 -p 8080",
        "-b a:1 b:2 --",
    ],
)
def test_the_backends_are_a_list_wherever_they_stand(line: str) -> None:
    assert names(line) == ["a:1", "b:2"]


@pytest.mark.parametrize("line", ["-c 0.5 -s rand -p 8080 -b a:1", "-b a:1 -c0.5 -srand -p8080"])
def test_no_option_after_the_list_is_lost(line: str) -> None:
    config = parsed(line).config
    assert config.health_check.interval_s == 0.5
    assert (config.policy, config.listen.port) == ("rand", 8080)


def test_long_forms_are_the_same_options() -> None:
    short = parsed("-b a:1 -c 1 -s rand -p 8080").config
    assert parsed("--backend a:1 --healthcheck 1 --strategy=rand --port 8080").config == short


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "no backend: give at least one, such as 127.0.0.1:8081"),
        ("-p 80", "no backend: give at least one, such as 127.0.0.1:8081"),
        ("-b", "argument -b/--backend: expected at least one argument"),
        ("-b -p 80", "argument -b/--backend: expected at least one argument"),
        ("a:1", "unrecognized arguments: a:1 (backends need -b)"),
        ("unix:/run/a -b a:1", "unrecognized arguments: unix:/run/a (backends need -b)"),
        ("-b=a:1 b:2", "unrecognized arguments: b:2 (backends need -b)"),
        ("-p 80 a:1 -b b:2", "unrecognized arguments: a:1 (backends need -b)"),
        ("stray -b a:1", "unrecognized arguments: stray"),
        ("-- -b a:1", "unrecognized arguments: "),
        ("-b a:1 -- b:2", "unrecognized arguments: "),
        ("-b a:1 -x", "unrecognized arguments: -x"),
        ("-n -b a:1", "unrecognized arguments: -n (-n is an option of twistd's, and stands before lb)"),
        (
            "-b a:1 --pidfile=",
            "unrecognized arguments: --pidfile= (--pidfile is an option of twistd's, and stands before lb)",
        ),
        ("-b a:1 --heal 1", "unrecognized arguments: --heal 1 (did you mean --healthcheck?)"),
        ("--backends a:1", "unrecognized arguments: --backends a:1 (did you mean --backend?)"),
        (
            "-b a:1 --resolve first",
            "unrecognized arguments: --resolve first (resolve is a key of the file, see --config)",
        ),
        (
            "-b a:1 --no-backend-s=1",
            "unrecognized arguments: --no-backend-s=1 (queue.no_backend_s is a key of the file, see --config)",
        ),
        (
            "-b a:1 --queue.length 1",
            "unrecognized arguments: --queue.length 1 (queue.length is a key of the file, see --config)",
        ),
        *[
            (f"-b a:1 {typed} 1", f"unrecognized arguments: {typed} 1 ({key} is a key of the file, see --config)")
            for typed, key in (
                ("--queue.most", "queue.length"),
                ("--queue-most", "queue.length"),
                ("--most", "affinity.most"),
                ("--fresh-s", "upstream.reuse_unsafe_within_s"),
            )
        ],
        ("-b a:1 --prot=80", "unrecognized arguments: --prot=80 (did you mean --port?)"),
        ("-b a:1 --zzz", "unrecognized arguments: --zzz"),
        ("-b a:1 -p", "argument -p/--port: expected one argument"),
        ("-b a:1 -p abc", "--port: should be a valid integer, not 'abc'"),
        ("-b a:1 -p 8080 -p 8081", "argument -p/--port: given twice: 8080 and 8081"),
        ("-b a:1 -c 1 --healthcheck=1", "argument -c/--healthcheck: given twice: 1 and 1"),
        ("-s rr -b a:1 -s rr", "argument -s/--strategy: given twice: rr and rr"),
        ("--config a.toml --config b.toml", "argument --config: given twice: a.toml and b.toml"),
        ("-b http://127.0.0.1:8081", "--backend: 'http://127.0.0.1:8081': no http://, expected HOST:PORT"),
        ("-b a:1,b:2", "--backend: 'a:1,b:2': backends are separated by spaces"),
        ("--config= -b a:1", "--config: no file given"),
        ("-b a:1 -c -1", "--healthcheck: should be greater than or equal to 0, not -1"),
    ],
)
def test_a_mistake_ends_the_process_in_one_line(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(line)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"twistd lb: {said}")
    assert message.index("\n") == len(message) - 1


def test_a_file_that_is_not_there_is_one_line_too_and_what_this_machine_refuses(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed("-b a:1 --config /nowhere/lb.toml")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "twistd lb: /nowhere/lb.toml: No such file or directory\n"


def test_what_is_wrong_in_a_file_is_shown_with_its_lines_and_what_was_typed_comes_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lb.toml"
    file.write_text('backends = ["a:80"]\n[listen]\nport = 80\ninterfac = "::1"\n\n[limits]\n  head_bytes = 1 # kB?\n')
    with pytest.raises(SystemExit) as caught:
        parsed(f"-c x --config {file}")
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        "--healthcheck: should be a valid number, not 'x'\n"
        f'{file}:4:1: listen.interfac: unknown key; did you mean "interface"?\n'
        '    4 | interfac = "::1"\n'
        "      | ^^^^^^^^\n"
        f"{file}:7:16: limits.head_bytes: should be greater than or equal to 256, not 1\n"
        "    7 |   head_bytes = 1 # kB?\n"
        "      |                ^\n"
        "3 errors; nothing was started\n"
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-p x", "--port: should be a valid integer, not 'x'"),
        ("-p 1 -p 2", "argument -p/--port: given twice: 1 and 2"),
        ("8081", "unrecognized arguments: 8081 (the port needs -p)"),
        ("--nam blue", "unrecognized arguments: --nam blue (did you mean --name?)"),
        ("--name=", "--name: should be 1 to 100 printable ASCII characters without spaces"),
    ],
)
def test_a_mistake_about_the_sibling_is_said_alike(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        SiblingOptions().parseOptions(line.split())
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"twistd be: {said}\n"


@pytest.mark.parametrize(("word", "shown"), [(8080, "8080"), (["a:1", "b:2"], "['a:1', 'b:2']"), (None, "None")])
def test_a_word_of_a_tac_file_that_is_no_string_is_named(
    word: Any, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tap.load_balancer("--backend", "a:1", "--port", word)
    assert capsys.readouterr().err == f"twistd lb: words are strings, not {shown}\n"


def test_a_quoted_list_of_backends_is_two_addresses_in_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tap.Options().parseOptions(["-b", "127.0.0.1:8081 127.0.0.1:8082"])
    assert "two addresses in one?" in capsys.readouterr().err


def test_control_characters_of_a_mistake_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tap.Options().parseOptions(["-p", "1", "-b", "a:1", "-c", "1", "x\n\x1b[31m"])
    assert capsys.readouterr().err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("make", [tap.Options, SiblingOptions])
def test_the_help_begins_with_the_promised_synopsis(
    make: Callable[[], TwistedOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        make().parseOptions(["-h"])
    assert caught.value.code == 0
    synopsis, *rest = capsys.readouterr().out.splitlines()
    assert synopsis in {
        f"usage: twistd -n lb [-h] -b HOST:PORT [HOST:PORT ...] [-c HEALTHCHECK] [-s {{{','.join(POLICIES)}}}] [-p PORT]",
        "usage: twistd -n be [-h] [-p PORT] [--interface ADDRESS] [--name NAME]",
    }
    assert any(line.startswith("  twistd -n ") for line in rest)
    assert str(make()).startswith(synopsis)


@pytest.mark.parametrize("name", POLICIES)
def test_the_help_describes_a_policy_in_one_line(name: str) -> None:
    lines = str(tap.Options()).splitlines()
    assert [name, POLICIES[name].describe] in [line.split(maxsplit=1) for line in lines]


def test_the_version_names_the_build_and_twisted(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("twisted_lb.build_info")
    with pytest.raises(SystemExit) as caught:
        tap.Options().parseOptions(["--version"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith("twisted_lb ")
    assert "(pure)" in said or "(compiled)" in said
    assert "Twisted " in said


def test_the_sibling_backend_has_its_defaults() -> None:
    options = SiblingOptions()
    options.parseOptions([])
    assert (options.config.port, options.config.interface, options.config.name) == (8080, "", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "should be lb or be"), (["web"], "not 'web'"), (["-x"], "not '-x'")],
)
def test_the_module_knows_two_commands(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["twisted_lb", *words])
    with pytest.raises(SystemExit) as caught:
        __main__.main()
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_the_module_explains_itself(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["twisted_lb", "--help"])
    __main__.main()
    assert capsys.readouterr().out.startswith("usage: python -m twisted_lb lb")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (13, "port 80: permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"),
        (98, "port 80: already in use"),
        (99, "port 80: not an address of this machine"),
        (24, "port 80: Too many open files"),
    ],
)
def test_a_refused_bind_says_what_to_do(code: int, said: str) -> None:
    assert str(listen_error("port 80", OSError(code, "whatever"))) == said


def test_an_address_that_is_refused_is_said_with_its_listener(capsys: pytest.CaptureFixture[str]) -> None:
    def refused(_interface: str, _port: int) -> NoReturn:
        raise OSError(98, "whatever")

    for listener, said in (("web", "127.0.0.1:80 of listener web"), ("default", "127.0.0.1:80"), ("", "127.0.0.1:80")):
        with pytest.raises(SystemExit):
            refuse_unlistenable([(listener, ListenAddress("127.0.0.1", 80))], "lb", refused)
        assert capsys.readouterr().err == f"twistd lb: {said}: already in use\n"


def test_only_start_errors_are_shortened(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    passed_on: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", lambda *args: passed_on.append(args[1]))
    report_start_errors()
    hook = sys.excepthook
    report_start_errors()
    assert sys.excepthook is hook

    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    bug = KeyError("a bug")
    hook(KeyError, bug, None)
    hook(StartError, StartError("port 80: already in use"), None)
    assert passed_on == [bug]
    assert capfd.readouterr().err == "twistd lb: port 80: already in use\n"


def test_one_line_keeps_what_can_be_read() -> None:
    assert one_line(" a\tb\nc\x1b ü ") == "a\\tb\\nc\\x1b ü"


def test_the_files_beside_twistds_are_known_with_their_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = 'backends = ["a:80"]\n'
    for name, more in (("with.toml", 'state_file = "lb.state"\n'), ("without.toml", "")):
        (tmp_path / name).write_text(text + more)
    found = [parsed(f"--config {name}").files_of_its_own() for name in ("with.toml", "without.toml")]
    assert found == [{"with.toml:2: state_file": "lb.state"}, {}]
