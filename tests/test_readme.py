"""What the README says is run: its Python, its TOML, its options and its links."""

import http.client
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from ports import free_port
from processes import PATIENCE_S, listening, stage, until

from twisted_lb import tap
from twisted_lb.config.load import load_toml
from twisted_lb.config.reference import renewed
from twisted_lb.core.pickers import POLICIES
from twisted_lb.sibling.tap import Options as SiblingOptions

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
SHELL = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith(("twistd", "python -m twisted_lb"))
]
COMMANDS = [" ".join(words) for words in SHELL if not {"[HOST:PORT", "--version"} & set(words)]
COMMANDS += sorted(
    {found for text in TOML for found in re.findall(r"^# lb\.toml:  (python -m .*)$", text, re.MULTILINE)}
)
# What is typed to try a recipe: behind the file the commands, with what is in their output.
RECIPES = {
    title: (file, re.findall(r"^(curl .*?) +# (.*)$", typed, re.MULTILINE))
    for title, file, typed in re.findall(
        r"^\*\*([^*\n]*):\*\*\n\n```toml\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL | re.MULTILINE
    )
}
# What is pasted into a shell to try it.
BY_HAND = README.partition("Try it by hand:\n\n```\n")[2].partition("```")[0]
# | `-b`, `--backend` | what it means | default |
OPTIONS = re.findall(r"^\| (?:`(-[a-z])`, )?`(--[a-z]+)` \| .* \| (.*?) \|$", README, re.MULTILINE)


def test_there_is_something_to_run():
    assert (len(PYTHON), len(TOML), len(RECIPES)) == (3, 9, 8)
    assert len(COMMANDS) >= 5
    assert len(OPTIONS) == 11


def test_the_class_does_what_the_readme_says():
    names = {"print": lambda *words: None}
    for block in PYTHON[:2]:
        exec(compile(block, "README.md", "exec"), names)
    assert [server.in_flight for server in names["lb"].servers.values()] == [0, 0], "an assignment is not settled"


def test_the_embedding_example_balances(tmp_path):
    with stage(tmp_path) as world:
        names = {world.backend()[1] for _ in range(2)}
        port = free_port()
        text = PYTHON[2]
        for old, new in zip(["8081", "8082", "8000"], [*names, port], strict=True):
            text = text.replace(old, str(new))
        script = tmp_path / "embedded.py"
        script.write_text(text)
        process = subprocess.Popen(
            [sys.executable, "-P", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            until(lambda: listening(port), "the program listens")
            answers = set()
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
                for _ in range(4):
                    connection.request("GET", "/api/whoami.json?x=1")
                    response = connection.getresponse()
                    response.read()
                    assert response.status == 200
                    answers.add(response.headers["X-Backend"])
                connection.request("GET", "/elsewhere")
                assert connection.getresponse().status == 404
            assert answers == {f"be-{name}" for name in names}
        finally:
            process.send_signal(signal.SIGTERM)
            said, errors = process.communicate(timeout=PATIENCE_S)
        assert errors == ""
        assert "twisted_lb 0.1.0" in said
        assert process.returncode == 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_what_is_typed_to_try_it_works_as_it_stands(tmp_path):
    """In an empty directory, one line after the other without a pause, as it is pasted."""
    ports = {old: str(free_port()) for old in ("8081", "8082", "8000")}
    text = re.sub(r"\b80[0-9]{2}\b", lambda found: ports.get(found[0], found[0]), BY_HAND)
    done = subprocess.run(
        ["bash", "-c", f"{text}\nwait"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{ROOT}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE_S,
        check=False,
    )
    first = re.search(r"^be-(\d+) on port \1,", done.stdout, re.MULTILINE)
    assert first, done.stdout + done.stderr
    counts = {name: int(count) for count, name in re.findall(r"^ +(\d+)  ?(be-\d+|failed)$", done.stdout, re.MULTILINE)}
    assert counts.pop("failed") == 0
    assert sum(counts.values()) == 200
    # One that starts later than the first check of it is out until it has passed some.
    assert set(counts) <= {f"be-{ports['8081']}", f"be-{ports['8082']}"}
    assert list(tmp_path.iterdir()) == []


def test_the_configuration_file_loads(tmp_path):
    file = tmp_path / "lb.toml"
    file.write_text(TOML[0])
    config = load_toml(file)
    assert config.listen.port == 8000
    assert [spec.weight for spec in config.backends] == [1, 2]


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """The ports of the recipes, by those that they say: two backends, and one that nobody has."""
    with stage(tmp_path_factory.mktemp("recipes")) as world:
        moved = {said: str(world.backend()[1]) for said in ("8081", "8082")}
        yield {**moved, "8000": str(free_port())}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_does_what_is_said_of_it(title, ports, tmp_path):
    def moved(text: str) -> str:
        return re.sub(r"\b80[0-9]{2}\b", lambda found: ports[found[0]], text)

    file, typed = RECIPES[title]
    (tmp_path / "lb.toml").write_text(moved(file.replace('":8000"', '"127.0.0.1:8000"')))
    assert typed
    with stage(tmp_path) as world:
        running = world.twistd("lb", "lb", "--config", "lb.toml")
        until(lambda: listening(int(ports["8000"])) or running.process.poll() is not None, "the balancer")
        for command, expected in typed:
            said = subprocess.run(
                shlex.split(moved(command)), capture_output=True, text=True, timeout=PATIENCE_S, check=False
            ).stdout
            what, times = re.fullmatch(r"(.*?)(?: (once|[0-9]+ times))?", expected).groups()
            number = said.count(moved(what))
            assert number == int(times.partition(" ")[0].replace("once", "1")) if times else number, running.log


def test_its_policies_are_renewed_by_a_command():
    assert renewed(README) == README, "scripts/docs renews the README"
    stale = README.replace("{rr,rand}", "{rr}").replace("`rand`, random", "`none`, nothing")
    assert renewed(stale) == README


def test_the_synopsis_is_that_of_the_help():
    assert [tap.SYNOPSIS.replace(" [-h]", "")] == re.findall(r"^twistd -n lb .*\{.*$", README, re.MULTILINE)
    assert f"[-s {{{','.join(POLICIES)}}}]" in tap.SYNOPSIS


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_described(name):
    describe = POLICIES[name].describe.removeprefix(f"{name}: ")
    assert f"`{name}`, {describe}" in README, "scripts/docs renews the README"


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z]+)", README))))
def test_an_option_that_the_readme_names_exists(option):
    assert option in str(tap.Options())


@pytest.mark.parametrize(("short", "option", "default"), OPTIONS, ids=[option for _, option, _ in OPTIONS])
def test_an_option_has_its_short_form_and_its_default(short, option, default):
    """Given by that name, the default is what it is without."""
    names = [name for name in (short, option) if name]
    if default in ("required", "none", "all"):
        assert all(re.search(rf"^  .*{name}\b", str(tap.Options()), re.MULTILINE) for name in names)
        return
    for name in names:
        assert parsed("lb", "-b", "a:1", name, default).config == parsed("lb", "-b", "a:1").config
        assert vars(tap.Options().make_parser().parse([name, default])) == {option[2:]: default}


def parsed(command: str, *words: str):
    options = {"lb": tap.Options, "be": SiblingOptions}[command]()
    options.parseOptions(words)
    return options


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_line_of_the_readme_is_understood(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lb.toml").write_text(TOML[0])
    words = [word for word in line.removeprefix("python -m twisted_lb").split() if word not in ("twistd", "-n", "&")]
    if words[0] == "-y":
        assert (ROOT / "examples" / words[1]).exists()
    else:
        parsed(*words)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", README))))
def test_a_file_that_the_readme_links_exists(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize(
    "script", ["scripts/demo", "scripts/test", "scripts/bench", "run_parallel_clients.sh", "lb.tac"]
)
def test_a_script_that_the_readme_names_exists(script):
    assert script in README
    assert (ROOT / script).exists()
