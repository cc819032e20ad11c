"""How `lbctl` finds its daemon, what it makes of bad answers, and how it ends."""

import io
import os
import socket
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
from ctl_house import Ctl, FakeApi, HangUp, Problem, Raw
from ctl_sample import status

from twisted_lb.ctl.main import VERBS, main, overview


def test_not_reached_names_what_was_tried(lbctl, tmp_path, monkeypatch):
    monkeypatch.setenv("TWISTED_LB_ADMIN", "unix:/run/twisted_lb/8080.admin.sock.none")
    assert lbctl("status") == 3
    assert lbctl.err == (
        "lbctl: no daemon answers; tried\n"
        "       unix:/run/twisted_lb/8080.admin.sock.none: no such file\n"
        "       Name one with --admin or TWISTED_LB_ADMIN; a daemon has one with --admin HOST:PORT, or [admin] in its file.\n"
    )
    assert lbctl.out == ""


def test_a_socket_that_nobody_listens_on(lbctl, place):
    path = str(place / "left.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    assert lbctl("status", "--admin", f"unix:{path}") == 3
    assert f"unix:{path}: connection refused\n" in lbctl.err


def test_tcp_is_a_door_too(lbctl):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        where = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        assert lbctl("status", "--admin", where) == 3
    assert f"{where}: connection refused\n" in lbctl.err


@pytest.mark.parametrize(
    "where", ["https://x:1", "http://x", "x", "unix:", "http://x:1/v1", "http://[::1", "http://x:a"]
)
def test_a_door_that_is_none_is_a_mistake_of_usage(lbctl, where):
    assert lbctl("--admin", where, "status") == 2
    assert lbctl.err == f"lbctl: --admin is unix:PATH or http://HOST:PORT, not {where!r}\n"


@pytest.fixture
def runtime(place, monkeypatch):
    """A place where daemons put their doors."""
    monkeypatch.delenv("TWISTED_LB_ADMIN", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    (place / "twisted_lb").mkdir()
    return place / "twisted_lb"


@pytest.fixture
def doors(runtime):
    opened = []

    def open_one(name):
        opened.append(FakeApi(runtime / f"{name}.admin.sock"))
        opened[-1].answers["GET /v1/status"] = status
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def test_the_only_door_is_found_by_itself(doors):
    lbctl = Ctl(doors("8080"))
    assert lbctl("status", "-q") == 0


def test_of_several_doors_one_has_to_be_named(doors):
    first, second = doors("8080"), doors("9090")
    lbctl = Ctl(first)
    assert lbctl("status") == 3
    assert lbctl.err == (
        "lbctl: 2 daemons have a door here; which one?\n"
        f"       unix:{first.path}\n"
        f"       unix:{second.path}\n"
        "       Name one with --admin or TWISTED_LB_ADMIN.\n"
    )


def test_a_door_that_a_dead_daemon_has_left_is_none(doors, runtime):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(runtime / "1.admin.sock"))
    left.close()
    assert Ctl(doors("8080"))("status", "-q") == 0


def test_no_door_anywhere_names_the_places(lbctl, runtime):
    lbctl("status")
    assert f"       {runtime}/*.admin.sock: no such file\n" in lbctl.err
    assert "       /run/twisted_lb/*.admin.sock: no such file\n" in lbctl.err


def test_the_token_is_shown_and_may_come_from_a_file(lbctl, api, tmp_path, monkeypatch):
    monkeypatch.setenv("TWISTED_LB_TOKEN", "secret")
    lbctl("status")
    assert api.headers[-1]["Authorization"] == "Bearer secret"
    (tmp_path / "token").write_text("other\n")
    lbctl("--token-file", str(tmp_path / "token"), "status")
    assert api.headers[-1]["Authorization"] == "Bearer other"
    assert lbctl("--token-file", str(tmp_path / "none"), "status") == 2
    assert lbctl.err == f"lbctl: --token-file {tmp_path}/none: no such file\n"


@pytest.mark.parametrize(
    "token", ["hunter2\u20ac", "hunter2\npw", "hunter2 \x1b[31m", "hunter2\r\nX-More: 1", "pässwört"]
)
def test_what_cannot_be_a_token_is_refused_and_not_repeated(api, lbctl, monkeypatch, tmp_path, token):
    monkeypatch.setenv("TWISTED_LB_TOKEN", token)
    assert lbctl("status") == 2
    assert lbctl.err == "lbctl: TWISTED_LB_TOKEN: a token is printable ASCII without spaces\n"
    (tmp_path / "t").write_text(token)
    assert lbctl("--token-file", str(tmp_path / "t"), "status") == 2
    assert "a token is printable ASCII without spaces" in " ".join(lbctl.err.split())
    assert "hunter2" not in lbctl.err
    assert api.asked == []


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "--last", "-1"),
        ("explain", "--failed", "1001"),
        ("explain", "--slowest", "9" * 5000),
        ("events", "--last", "x"),
        ("events", "--after", "\u0663"),
        ("--columns", "0", "status"),
        ("top", "--lines", "\u00b2"),
        ("top", "--frames", "1.5"),
        ("add", "app", "x:1", "--weight", "257"),
    ],
)
def test_a_number_that_is_none_is_said_to_be_one_in_words_of_ours(api, lbctl, words):
    assert lbctl(*words) == 2
    assert " is a whole number from " in " ".join(lbctl.err.split())
    assert api.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        HangUp(),
        Raw(b"<html>", "text/html"),
        Raw(b"null"),
        Raw(b"[]"),
        Raw(b"\xff\xfe"),
        Raw(b'{"a": 1', cut=True),
        Raw(b"gone", status=500),
        Raw(b'{"error": 1}', status=404),
    ],
)
def test_what_is_no_answer_ends_with_3_and_no_traceback(lbctl, api, answer):
    api.answers["GET /v1/status"] = answer
    assert lbctl("status") == 3
    assert lbctl.err.startswith("lbctl: ")
    assert "Traceback" not in lbctl.err


@pytest.mark.parametrize("verb", ["status", "backends", "healthcheck", "version", "config", "events"])
@pytest.mark.parametrize(
    "answer", [{}, {"pools": None, "verdict": 3, "events": "x", "values": [None]}, {"pools": [{}]}]
)
def test_answers_that_lack_all_are_printed_without_a_traceback(lbctl, api, verb, answer):
    for path in ("status", "config", "events"):
        api.answers[f"GET /v1/{path}"] = answer
    assert lbctl(verb) in (0, 1)
    assert "mistake" not in lbctl.err


def test_a_mistake_of_our_own_is_one_line(lbctl, api, monkeypatch):
    monkeypatch.setattr("twisted_lb.ctl.session.Session.status", lambda self: 1 / 0)
    assert lbctl("status") == 1
    assert lbctl.err.startswith("lbctl: ZeroDivisionError: division by zero (test_main.py:")


def test_refusals_say_the_words_and_the_hint_of_the_api(lbctl, api):
    api.answers["GET /v1/status"] = Problem(401, "no_token", "a token is wanted here", hint="TWISTED_LB_TOKEN")
    assert lbctl("status") == 1
    assert lbctl.err == "lbctl: refused: a token is wanted here\n       TWISTED_LB_TOKEN\n"


def test_an_interrupt_ends_with_130(lbctl, monkeypatch):
    def interrupt(session):
        raise KeyboardInterrupt

    monkeypatch.setattr("twisted_lb.ctl.session.Session.status", interrupt)
    assert lbctl("status") == 130
    assert (lbctl.out, lbctl.err) == ("", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["statsu"], 'there is no verb "statsu"; did you mean "status"?; see lbctl --help'),
        (["status", "--jsno"], "unrecognized arguments: --jsno; see lbctl status --help"),
        (["drain"], "the following arguments are required: NAME; see lbctl drain --help"),
        (
            ["--columns", "x", "status"],
            "argument --columns: it is a whole number from 1 to 10000, not 'x'; see lbctl --help",
        ),
    ],
)
def test_mistakes_of_usage_are_one_sentence(lbctl, words, said):
    assert lbctl(*words) == 2
    assert " ".join(lbctl.err.split()) == f"lbctl: {said}"


def test_help_names_every_verb_and_goes_to_stdout(lbctl):
    assert lbctl("--help") == 0
    assert lbctl.out == overview()
    assert all(f"\n  {verb.usage}" in lbctl.out for verb in VERBS.values())
    assert max(map(len, lbctl.out.splitlines())) <= 80


def test_without_a_verb_the_help_is_on_stderr(lbctl):
    assert lbctl() == 2
    assert (lbctl.out, lbctl.err) == ("", overview())


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_help_of_its_own(lbctl, verb):
    assert lbctl(verb, "--help") == 0
    assert lbctl.out.startswith(f"usage: lbctl {verb} ")


def test_no_color_and_dumb_terminals_get_no_styles(lbctl, monkeypatch):
    lbctl("status", terminal=True)
    assert "\x1b[" in lbctl.out
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as surroundings:
            surroundings.setenv(name, value)
            lbctl("status", terminal=True)
            assert "\x1b" not in lbctl.out
            lbctl("status", "--color=always")
            assert "\x1b[" in lbctl.out


def test_a_stream_that_knows_only_ascii_gets_ascii(api):
    raw = io.BytesIO()
    with redirect_stdout(io.TextIOWrapper(raw, "ascii")) as out:
        assert main(["status"]) == 0
        out.flush()
        assert b"^ 3 of 19 backends are not used" in raw.getvalue()


def test_a_process_of_its_own_and_a_reader_that_has_seen_enough(api):
    """Real processes: the module starts, and a broken pipe is no mistake."""
    command = [sys.executable, "-m", "twisted_lb.ctl", "backends", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("app/b1\napp/b2\n")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("to", ["> /dev/full", ">&-", ">&- 2>&-"])
def test_streams_that_are_full_or_closed_give_no_traceback(api, to):
    command = f"{sys.executable} -m twisted_lb.ctl status -q {to}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    full = "full" in to
    assert (done.returncode, done.stderr) == (int(full), "lbctl: No space left on device\n" if full else "")


def test_a_start_loads_neither_twisted_nor_the_core():
    program = (
        "import sys, twisted_lb.ctl.main\n"
        "print([one for one in sys.modules if one.startswith(('twisted.', 'pydantic', 'twisted_lb.core'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
