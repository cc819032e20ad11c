"""What docs/operations.md says and the examples beside it are: understood by those who read them."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from twisted.scripts.twistd import ServerOptions

from twisted_lb import tap

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text()
UNIT = ROOT / "examples" / "twisted-lb.service"


def unit(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return dict(parser["Service"])


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT))))
def test_a_file_that_it_links_exists(link):
    assert (ROOT / "docs" / link).exists()


def test_the_unit_it_shows_is_part_of_the_one_to_copy():
    shown, *_ = re.findall(r"```ini\n(.*?)```", TEXT, re.DOTALL)
    assert unit(shown).items() <= unit(UNIT.read_text()).items()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_nothing_in_the_unit(tmp_path):
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/lb/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def understood(words: list[str], folder: Path) -> None:
    """`lb` and its options are those of the command line; a configuration file may be any."""
    assert words[0] == "lb"
    (folder / "lb.toml").write_text('backends = ["a:1"]')
    options = tap.Options()
    options.parseOptions([word.replace("/etc/twisted-lb.toml", str(folder / "lb.toml")) for word in words[1:]])
    assert options.config.backends


def test_the_commands_it_names_are_understood(tmp_path):
    starts = [unit(UNIT.read_text())["ExecStart"], *re.findall(r"^python -m twisted_lb .*", TEXT, re.MULTILINE)]
    for start in starts:
        understood(shlex.split(start)[3:], tmp_path)
    dockerfile = (ROOT / "examples" / "Dockerfile").read_text()
    [entry] = re.findall(r"^ENTRYPOINT (.*)", dockerfile, re.MULTILINE)
    [run] = re.findall(r"^docker run .* twisted-lb (.*)", TEXT, re.MULTILINE)
    understood([*json.loads(entry)[3:], *shlex.split(run)], tmp_path)


def test_the_options_of_twistd_that_it_names_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = str(ServerOptions())
    named = set(re.findall(r"`(?:-\w`, `)?(--\w+)=?", TEXT.partition("twistd's options stand")[2].partition("```")[0]))
    assert {"--pidfile", "--logfile", "--uid", "--umask"} <= named
    assert [one for one in named if f"{one}=" not in options and f"{one} " not in options] == []
    for line in re.findall(r"^twistd .*", TEXT, re.MULTILINE):
        before = shlex.split(line.partition(" lb ")[0].partition(" -y ")[0])[1:]
        ServerOptions().parseOptions([word.replace("www-data", "root") for word in before])


def test_the_image_is_built_of_what_the_build_needs():
    ignored = (ROOT / "examples" / "Dockerfile.dockerignore").read_text().split()
    assert not {"setup.py", "pyproject.toml", "README.md", "twisted", "twisted_lb", "lb.tac", "examples"} & set(ignored)
