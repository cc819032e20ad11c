"""The programs that users copy, out of README.md, docs/ and the examples: mypy finds nothing in them, and they run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port
from processes import listening, stage, until

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]

# As strict as a user's may be, but that pages leave out annotations; README.md says what else a Twisted program needs.
SETTINGS = f"""\
[mypy]
strict = True
check_untyped_defs = True
disallow_untyped_defs = False
disallow_incomplete_defs = False
disallow_untyped_calls = False
plugins = mypy_zope:plugin
untyped_calls_exclude = twisted, twisted_lb
follow_imports = silent
namespace_packages = True
explicit_package_bases = True
mypy_path = {ROOT}
"""


def programs_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def programs() -> dict[str, str]:
    """The programs by a name. Those of a page are one: each goes on where the one before it ended."""
    found = {page: "\n".join(some) for page in PAGES if (some := programs_of(page))}
    found.update({path.name: path.read_text() for path in [ROOT / "lb.tac", *(ROOT / "examples").glob("*.tac")]})
    return found


def test_there_are_some():
    assert {"README.md", "docs/testing.md", "docs/writing-a-policy.md", "lb.tac", "service.tac"} <= set(programs())


@pytest.mark.typed
def test_mypy_finds_nothing_in_what_users_copy(tmp_path):
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    files = []
    for name, text in programs().items():
        file = tmp_path / f"{re.sub('[^A-Za-z0-9]', '_', name)}.py"
        file.write_text(text)
        files.append(file.name)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--config-file=mypy.ini",
            f"--cache-dir={ROOT / '.mypy_cache/programs'}",
            *files,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_the_example_of_a_service_balances_and_is_nothing_else(tmp_path):
    with stage(tmp_path) as world:
        backends = [world.backend()[1] for _ in range(2)]
        port = free_port()
        text = (ROOT / "examples" / "service.tac").read_text()
        for old, new in zip(["8081", "8082", "8080"], [*backends, port], strict=True):
            text = text.replace(old, str(new))
        (tmp_path / "service.tac").write_text(text)
        running = world.twistd("service", "-y", "service.tac")
        until(lambda: listening(port), "it listens")
        running.wait_for(rf"rr over 127\.0\.0\.1:{backends[0]}, 127\.0\.0\.1:{backends[1]};")
        assert " answers on " not in running.log
