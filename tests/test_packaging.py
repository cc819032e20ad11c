"""What a package of this is made of."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MANIFEST = (ROOT / "MANIFEST.in").read_text()


@pytest.mark.skipif(shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no checkout")
def test_an_sdist_has_every_file_of_the_checkout():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    grafted = re.findall(r"^graft (.*)", MANIFEST, re.MULTILINE)
    included = [name for line in re.findall(r"^include (.*)", MANIFEST, re.MULTILINE) for name in line.split()]
    # setuptools adds these by itself.
    own = {"setup.py", "pyproject.toml", "MANIFEST.in"}
    missing = [name for name in listed if name.split("/")[0] not in grafted and name not in {*included, *own}]
    assert missing == []
    assert [name for name in [*grafted, *included] if not (ROOT / name).exists()] == []


def test_a_wheel_has_what_users_are_told_to_copy_or_to_run():
    setup = (ROOT / "setup.py").read_text()
    [scripts] = re.findall(r"scripts=\[(.*)\]", setup)
    [shared] = re.findall(r'"share/twisted-lb", \[(.*?)\]', setup)
    named = re.findall('"(.*?)"', f"{scripts}, {shared}")
    assert all((ROOT / name).exists() for name in named)
    readme = (ROOT / "README.md").read_text()
    told = re.findall(r"\((lb\.tac|examples/[^)]+)\)", readme)
    assert {"run_parallel_clients.sh", "lb.tac", *told} <= set(named)


def test_lbctl_is_a_command():
    [(module, function)] = re.findall(r'"lbctl = ([\w.]+):(\w+)"', (ROOT / "setup.py").read_text())
    assert callable(getattr(importlib.import_module(module), function))


def test_a_wheel_has_all_that_the_package_reads_beside_its_code():
    setup = (ROOT / "setup.py").read_text()
    [named] = re.findall(r'package_data={"twisted_lb": \[(.*?)\]}', setup)
    package = ROOT / "twisted_lb"
    packaged = {one for pattern in re.findall('"(.*?)"', named) for one in package.glob(pattern)}
    there = {one for one in package.rglob("*") if one.is_file() and one.suffix not in (".py", ".pyc", ".so")}
    assert packaged == there
    assert package / "admin" / "page" / "index.html" in packaged
