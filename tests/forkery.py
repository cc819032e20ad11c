"""Starts twistd as often as asked, each time as a fork of itself: to import everything is nine tenths of a start's work.

It has imported what a balancer and a backend consist of, and no reactor. What is asked of it are lines on its standard input,
each one a JSON document; to each it answers with one. A fork has the folder, the variables, the output and the words of whom it
stands for, and runs the same script; who asks for a pid learns whether that has ended, as of a child of its own.
"""

import importlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

IMPORTED = (
    "twisted.scripts.twistd",
    "twisted.application.twist._twist",
    "twisted_lb.tap",
    "twisted_lb.service.balancer",
    "twisted_lb.backend_tap",
    "twisted_lb.sibling.tap",
    "twisted_lb.sibling.service",
)


def became(asked: dict[str, Any]) -> str:
    """In the fork: have nothing but what it was given; the script that it is to run."""
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, asked["out"], os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        if opened != number:
            os.close(opened)
    os.dup2(1, 2)
    sys.argv[:] = asked["words"]
    return sys.argv[0]


def ended(pid: int) -> int | None:
    """The status of one that has ended, as subprocess has it."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def script() -> str | None:
    """Answer, until nobody asks any more (None) or this is a fork, which has a script to run."""
    with os.fdopen(os.dup(0)) as asking, os.fdopen(os.dup(1), "w") as answering:
        for line in asking:
            asked = json.loads(line)
            if "pid" in asked:
                answer = ended(asked["pid"])
            elif not (answer := os.fork()):
                return became(asked)
            answering.write(json.dumps(answer) + "\n")
            answering.flush()
    return None


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # As a script in the folder of programs has it.
        sys.path[0] = str(Path(sys.executable).parent)
    for name in IMPORTED:
        importlib.import_module(name)
    assert "twisted.internet.reactor" not in sys.modules, "each fork has one of its own"
    to_run = script()
    if to_run is not None:
        runpy.run_path(to_run, run_name="__main__")
