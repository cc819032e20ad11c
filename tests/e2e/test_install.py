"""A checkout becomes a package, as `pip install .` makes it: complete, truly tagged, translated once. Needs PyPI."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
NOT_CLONED = shutil.ignore_patterns(".git", ".venv*", "*.egg-info", "*.so", "__pycache__", "build", "dist", ".*_cache")

pytestmark = pytest.mark.long


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=NOT_CLONED)
    return folder


def wheel(clone: Path, **settings: str) -> tuple[Path, str]:
    """The wheel that pip builds there, and what it says."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TWISTED_LB"))}
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--wheel-dir", clone.parent, clone],
        env={**environment, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    [made] = clone.parent.glob("*.whl")
    return made, done.stdout


def test_a_wheel_that_was_to_be_pure_is_complete_and_its_script_runs(clone, tmp_path):
    made, said = wheel(clone, TWISTED_LB_PURE="1")
    assert made.name.endswith("-py3-none-any.whl")
    assert "mypyc translates" not in said
    assert "twisted_lb is built pure, and slower: TWISTED_LB_PURE=1" in said
    page = {name.rpartition("/")[2] for name in zipfile.ZipFile(made).namelist() if "/admin/page/" in name}
    assert page == {one.name for one in (clone / "twisted_lb" / "admin" / "page").iterdir()}
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", made, "mypy-extensions"], check=True
    )
    script = tmp_path / "env" / "bin" / "run_parallel_clients.sh"
    done = subprocess.run([script, "-h"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: run_parallel_clients.sh")
    shared = {path.name for path in (tmp_path / "env" / "share" / "twisted-lb").iterdir()}
    assert shared == {"lb.tac", "service.tac", "twisted-lb.service"}


def test_where_no_compiler_works_the_wheel_is_pure_and_says_so(clone):
    made, said = wheel(clone, CC="/bin/false")
    assert made.name.endswith("-py3-none-any.whl")
    assert not any(name.endswith(".so") for name in zipfile.ZipFile(made).namelist())
    assert said.count("mypyc translates") == 1
    assert "twisted_lb is built pure, and slower: the compiler failed" in said
