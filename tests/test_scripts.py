"""What the scripts say on a machine that lacks something: one line that names what to install."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("bash", "dirname", "basename", "find", "sort", "xargs", "cksum", "cut", "cat", "mktemp", "rm")
# A python3 that is too old, one without venv, and one without headers, as far as the scripts ask.
OLD = "#!/bin/sh\nexit 1\n"
WITHOUT_VENV = '#!/bin/sh\ncase "$2" in *venv*) exit 1 ;; esac\n'
WITHOUT_HEADERS = '#!/bin/sh\ncase "$2" in *print*) echo /nowhere ;; esac\n'


@pytest.fixture
def machine(tmp_path: Path):
    """A copy of the scripts, and a PATH with just what each test puts there."""
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("twisted", "twisted_lb"):
        (tmp_path / name).mkdir()
    return tmp_path


def install(machine: Path, **programs: str) -> None:
    for name, text in programs.items():
        file = machine / "bin" / name
        file.write_text(text)
        file.chmod(0o755)


def said(machine: Path, *words: str) -> list[str]:
    done = subprocess.run(
        [machine / "scripts" / words[0], *words[1:]],
        env={"PATH": str(machine / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("script", ["demo", "test", "check"])
def test_without_a_python_that_is_new_enough(machine, script):
    install(machine, python3=OLD)
    assert said(machine, script) == [
        f"{script}: making .venv",
        f"{script}: Python 3.11 or newer is missing (Debian: apt install python3)",
    ]


@pytest.mark.parametrize("script", ["demo", "test", "check"])
def test_without_venv(machine, script):
    install(machine, python3=WITHOUT_VENV)
    assert said(machine, script) == [
        f"{script}: making .venv",
        f"{script}: Python's venv is missing (Debian: apt install python3-venv)",
    ]


def test_without_a_compiler(machine):
    install(machine, python3=WITHOUT_HEADERS)
    assert said(machine, "test", "--compiled") == [
        "test: building .venv-compiled",
        "test: a C compiler is missing (Debian: apt install gcc)",
    ]


def test_without_valgrind(machine):
    assert said(machine, "bench", "--count") == ["bench: valgrind is missing (Debian: apt install valgrind)"]


def test_without_pythons_headers(machine):
    install(machine, python3=WITHOUT_HEADERS, gcc="#!/bin/sh\n")
    assert said(machine, "test", "--compiled") == [
        "test: building .venv-compiled",
        "test: Python's headers are missing (Debian: apt install python3-dev)",
    ]
