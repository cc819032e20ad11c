"""`lbctl completion`: what a real bash makes of it, and that no shell misses a verb or an option."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from ctl_sample import status

from twisted_lb.ctl.completion import SHELLS, shape_of
from twisted_lb.ctl.main import VERBS, parser_of

SHAPES = [shape_of(verb, parser_of(verb)) for verb in VERBS.values()]
# What bash does at a TAB: its variables, the function that was named to it, and what that has found.
TAB = """\
source "$1"
lbctl() {{ {python} -m twisted_lb.ctl "$@"; }}
COMP_LINE=$2 COMP_POINT=${{3:-${{#2}}}} COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:@'
_lbctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def completed(lbctl, tmp_path):
    """Completes a line as bash does, with the daemon of the test."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    assert lbctl("completion", "bash") == 0
    script = tmp_path / "completion.bash"
    script.write_text(lbctl.out)
    program = TAB.format(python=sys.executable)

    def one(line, *point):
        done = subprocess.run(
            [bash, "--norc", "-uc", program, "bash", str(script), line, *map(str, point)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.split("\n")[:-1]

    return one


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("lbctl dr", ["drain"]),
        ("lbctl --color n", ["never"]),
        ("lbctl --color never re", ["ready", "remove", "reset", "reload"]),
        ("lbctl --json sta", ["status"]),
        ("lbctl status --q", ["--quiet"]),
        ("lbctl backends -o ", ["wide"]),
        ("lbctl top --tab ", ["1", "2", "3", "4", "5"]),
        ("lbctl completion ", ["bash", "zsh", "fish"]),
        ("lbctl drain --wait ", [""]),
        ("lbctl drain --wait 30s --re", ["--reason"]),
        ("lbctl explain ", [""]),
        ("lbctl nonsense ", [""]),
    ],
)
def test_verbs_options_and_their_values_are_completed(completed, line, found):
    assert completed(line) == found


def test_names_are_asked_of_the_daemon(completed, api):
    every = [one["name"] for pool in status()["pools"] for one in pool["backends"]]
    assert completed("lbctl drain ") == every
    assert completed("lbctl drain app/b1 --wait 30s stat") == ["static/s1", "static/s2", "static/s3"]
    assert completed("lbctl weight api/a1") == ["api/a1", "api/a10", "api/a11", "api/a12"]
    assert completed("lbctl tail --backend app/") == ["app/b1", "app/b2", "app/b3", "app/b4"]
    assert completed("lbctl backends ") == ["api", "app", "static"]
    assert completed("lbctl tail --pool s") == ["static"]
    assert {asked[:2] for asked in api.asked[1:]} == {("GET", "/v1/status")}


def test_what_stands_behind_the_cursor_is_not_looked_at(completed):
    assert completed("lbctl drain app/b1 --force", len("lbctl dr")) == ["drain"]


def test_addresses_are_completed_behind_their_last_colon_as_bash_wants_it(completed, api):
    told = status()
    for one, name in zip(
        told["pools"][0]["backends"], ("10.0.0.1:80", "10.0.0.1:81", "web:80@10.0.0.9:80", "x"), strict=True
    ):
        one["name"], one["backend"] = f"app/{name}", name
    api.answers["GET /v1/status"] = told
    assert completed("lbctl drain app/10") == ["app/10.0.0.1:80", "app/10.0.0.1:81"]
    assert completed("lbctl drain app/10.0.0.1:8") == ["80", "81"]
    assert completed("lbctl drain app/web:80@10.0.0.9:") == ["80"]


def test_a_name_that_is_a_program_is_a_name(completed, api, tmp_path):
    told = status()
    told["pools"][0]["backends"][0]["name"] = f"app/$(touch${{IFS}}{tmp_path}/run)`id`"
    told["pools"][0]["backends"][1]["name"] = "app/unix:/run/a b"
    api.answers["GET /v1/status"] = told
    found = completed("lbctl drain ap")
    assert found[1] == "app/unix:/run/a\\ b"
    assert found[0].startswith("app/\\$\\(touch")
    assert not (tmp_path / "run").exists()


def test_the_daemon_that_is_named_on_the_line_is_asked(completed, api, monkeypatch):
    where = f"unix:{api.path}"
    monkeypatch.setenv("TWISTED_LB_ADMIN", "unix:/nowhere")
    assert completed("lbctl drain app/") == [""]
    assert completed(f"lbctl --admin {where} drain app/b1") == ["app/b1"]
    assert completed(f"lbctl drain --admin {where} app/b1") == ["app/b1"]


def test_files_are_completed(completed, tmp_path):
    (tmp_path / "lb.toml").touch()
    (tmp_path / "lb new.toml").touch()
    assert sorted(completed("lbctl check lb")) == ["lb new.toml", "lb.toml"]
    assert completed("lbctl diff lb.toml --against lb.") == ["lb.toml"]


@pytest.mark.parametrize("shell", SHELLS)
def test_no_shell_misses_a_verb_or_an_option(lbctl, shell):
    assert lbctl("completion", shell) == 0
    for shape in SHAPES:
        assert shape.verb in lbctl.out
        for option in shape.options:
            assert option.said or option.names == ("--weight",)
            for name in option.names:
                typed = (f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}") if shell == "fish" else name
                assert typed in lbctl.out, (shape.verb, name)
    assert re.search("%[a-z]+%", lbctl.out) is None


def test_json_has_the_script_in_it(lbctl):
    assert lbctl("completion", "bash", "--json") == 0
    assert json.loads(lbctl.out)["script"].startswith("# Completion of lbctl for bash")


def test_another_shell_is_a_mistake_of_usage(lbctl):
    assert lbctl("completion", "tcsh") == 2
    assert "bash" in lbctl.err


@pytest.mark.parametrize(("shell", "program"), [("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])])
def test_other_shells_take_it_where_they_are(lbctl, tmp_path, shell, program):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    lbctl("completion", shell)
    script = tmp_path / "script"
    script.write_text(lbctl.out)
    subprocess.run([*program, str(script)], check=True)
