"""What the scripts say on a machine that lacks something: one line that names what to install."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDED = ("bash", "dirname", "basename", "find", "sort", "xargs", "cksum", "cut", "cat", "mktemp", "rm")
# A python3 that is too old, one without venv, and one without headers, as far as the scripts ask.
OLD = "#!/bin/sh\nexit 1\n"
WITHOUT_VENV = '#!/bin/sh\ncase "$2" in *venv*) exit 1 ;; esac\n'
WITHOUT_HEADERS = '#!/bin/sh\ncase "$2" in *print*) echo /nowhere ;; esac\n'


# What is said before something that takes a while.
MAKING = "making .venv, an environment of its own with what it needs from PyPI: once, a minute or two"
BUILDING = "building .venv-compiled, with mypyc and a C compiler: some minutes, whenever the source has changed"


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


def run(machine: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [machine / "scripts" / words[0], *words[1:]],
        env={"PATH": str(machine / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def said(machine: Path, *words: str) -> list[str]:
    done = run(machine, *words)
    assert done.returncode == 1
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("script", ["demo", "test", "check"])
def test_without_a_python_that_is_new_enough(machine, script):
    install(machine, python3=OLD)
    assert said(machine, script) == [
        f"{script}: {MAKING}",
        f"{script}: Python 3.11 or newer is missing (Debian: apt install python3)",
    ]


@pytest.mark.parametrize("script", ["demo", "test", "check"])
def test_without_venv(machine, script):
    install(machine, python3=WITHOUT_VENV)
    assert said(machine, script) == [
        f"{script}: {MAKING}",
        f"{script}: Python's venv is missing (Debian: apt install python3-venv)",
    ]


def test_without_a_compiler(machine):
    install(machine, python3=WITHOUT_HEADERS)
    assert said(machine, "test", "--compiled") == [
        f"test: {BUILDING}",
        "test: a C compiler is missing (Debian: apt install gcc)",
    ]


def test_without_valgrind(machine):
    assert said(machine, "bench", "--count") == ["bench: valgrind is missing (Debian: apt install valgrind)"]


def test_without_pythons_headers(machine):
    install(machine, python3=WITHOUT_HEADERS, gcc="#!/bin/sh\n")
    assert said(machine, "test", "--compiled") == [
        f"test: {BUILDING}",
        "test: Python's headers are missing (Debian: apt install python3-dev)",
    ]


SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if not path.name.startswith("_"))


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "bench"])
def test_a_script_explains_itself_and_makes_nothing(machine, script, flag):
    done = run(machine, script, flag)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].strip()
    assert all(line.startswith("  ") for line in lines if "scripts/" + script in line)
    assert not (machine / ".venv").exists()


def test_the_bench_explains_itself(machine):
    install(machine, python3=f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (machine / "benchmarks").symlink_to(ROOT / "benchmarks")
    done = run(machine, "bench", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("script", ["check", "docs"])
def test_a_script_that_takes_no_argument_says_so(machine, script):
    assert said(machine, script, "now") == [f"{script}: it takes no argument, and not now: --help says more"]


@pytest.mark.parametrize("port", ["", "http", "0", "65533", "-1", "80808080808080808080"])
def test_the_demonstration_names_a_port_that_is_none(machine, port):
    assert said(machine, "demo", port) == [f"demo: PORT should be a number from 1 to 65532, not {port}"]


PIP = """\
#!/bin/sh
echo 'Collecting Twisted>=26.10 (from twisted-lb==0.1.0)'
echo '  Downloading twisted.whl'
echo 'Collecting zope.interface'
echo '  Building wheel for twisted-lb (pyproject.toml): started'
exit $STATUS
"""


@pytest.mark.parametrize("status", [0, 1])
def test_installing_says_what_comes(machine, status):
    """pip's own words only when it fails."""
    (machine / "venv" / "bin").mkdir(parents=True)
    pip = machine / "venv" / "bin" / "python"
    pip.write_text(PIP.replace("$STATUS", str(status)))
    pip.chmod(0o755)
    (machine / "scripts" / "try").write_text('. scripts/_env.sh\ninstall venv something\necho "and then" >&2\n')
    done = subprocess.run(
        ["bash", "scripts/try"],
        cwd=machine,
        env={"PATH": str(machine / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    first, *others = done.stderr.splitlines()
    assert first == "try: installing Twisted zope.interface, building"
    assert others == (["and then"] if status == 0 else [*PIP_SAID, "try: installing failed, see above"])


PIP_SAID = [line.partition("'")[2].rstrip("'") for line in PIP.splitlines() if line.startswith("echo")]


def test_the_demonstration_moves_every_port_of_the_file_it_runs(machine):
    """From lb.tac, by its ports: text, and no file that could be left behind."""
    shutil.copy(ROOT / "lb.tac", machine)
    (machine / ".venv" / "bin").mkdir(parents=True)
    twistd = machine / ".venv" / "bin" / "twistd"
    twistd.write_text('#!/bin/sh\ncat "${3#--python=}"\n')
    twistd.chmod(0o755)
    stamp = 'echo "$(fingerprint setup.py pyproject.toml)" >.venv/stamp'
    subprocess.run(
        ["bash", "-c", f". scripts/_env.sh; {stamp}"], cwd=machine, env={"PATH": str(machine / "bin")}, check=True
    )
    done = run(machine, "demo", "18081")
    assert (done.returncode, done.stderr) == (0, "")
    expected = (ROOT / "lb.tac").read_text()
    for i, digits in enumerate(["8080", "8081", "8082", "8083"]):
        expected = expected.replace(digits, f"<{i}>")
    for i in range(4):
        expected = expected.replace(f"<{i}>", str(18081 + i))
    page = '    "--admin=127.0.0.1:18091",  # the dashboard'
    assert '    # "--admin=127.0.0.1:8090",  # the dashboard' in expected
    expected = expected.replace('    # "--admin=127.0.0.1:8090",  # the dashboard', page)
    visitors = 'Visitors("http://127.0.0.1:18081/").setServiceParent(application)\n'
    assert f"{expected}\nfrom twisted_lb.sibling.visitors import Visitors\n\n{visitors}" in done.stdout
    assert "http://127.0.0.1:18091/" in done.stdout
    assert "http://127.0.0.1:18081/ over three backends on ports 18082, 18083 and 18084." in done.stdout
    assert "./run_parallel_clients.sh -u http://127.0.0.1:18081/ " in done.stdout
