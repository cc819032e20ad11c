"""What others have made and the page has with it, against what its registry serves."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from twisted_lb.admin import dashboard

PAGE = Path(dashboard.__file__).parent / "page"


def test_uplot_is_what_npm_serves_of_its_version(tmp_path):
    npm = shutil.which("npm") or pytest.skip("no npm here")
    notice = (PAGE / "NOTICE").read_text()
    version = notice.split(",")[0].removeprefix("uPlot ")
    words = ["pack", f"uplot@{version}", "--silent", "--fetch-retries=0", "--fetch-timeout=20000", "--ignore-scripts"]
    try:
        packed = subprocess.run([npm, *words], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm's registry is not reached")
    if packed.returncode:
        pytest.skip("npm's registry is not reached")
    [archive] = tmp_path.glob("*.tgz")
    vendored = dict(re.findall(r"sha256 [0-9a-f]{64}  (\S+) +\((\S+)\)", notice))
    assert len(vendored) == 2
    with tarfile.open(archive) as content:
        for name, path in vendored.items():
            member = content.extractfile(f"package/{path}")
            assert member is not None
            assert member.read() == (PAGE / name).read_bytes(), name
