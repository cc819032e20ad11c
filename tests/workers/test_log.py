"""The access log of several processes: the parent opens it, with its rights, and holds it nowhere."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted_lb.log_file import LogFile


def plan(path: Path) -> Any:
    return SimpleNamespace(access_log=SimpleNamespace(file=str(path)))


def held(path: Path) -> int:
    """How many descriptors of this process are of that file."""
    found = 0
    for fd in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(fd) == str(path)
        except OSError:
            continue  # that of the listing itself
    return found


def test_who_only_opens_it_holds_it_nowhere_through_reloads(tmp_path):
    one, other = tmp_path / "one.log", tmp_path / "other.log"
    log = LogFile(lambda: (-1, -1))
    log.open(plan(one))
    assert (one.exists(), held(one)) == (True, 1)
    log.leave()
    assert held(one) == 0
    assert log.of(plan(one)) is None  # it goes there already
    log.follow(plan(other), log.of(plan(other)), None)
    log.leave()
    assert (other.exists(), held(other)) == (True, 0)
    log.close()
