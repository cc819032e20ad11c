#!/usr/bin/env python3
"""Instructions for an exchange, counted under callgrind: they repeat, however busy the machine. `scripts/bench --count`.

A subject runs for 300 calls and for 1,300, each in a process of its own; the difference is that of 1,000 calls, without start
and warming up. Counted are the instructions of the process, not the kernel's.
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
COUNTED = ROOT / "benchmarks" / "micro" / "counted.py"
FEW, MANY = 300, 1300
BUILDS = {"compiled": ("need_compiled", ".venv-compiled"), "pure": ('need_pure ""', ".venv")}
USUAL = (
    "exchange, small",
    "exchange, small, with a JSON line",
    "exchange, browser heads, varying",
    "socketpairs, small",
    "socketpairs, browser, varying",
    "socketpairs, small, logged as json",
    "socketpairs, small, new connection",
    "socketpairs, small, HTTP/2",
    "socketpairs, small, HTTP/2 on both sides",
)
VALGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")

Counts = dict[str, dict[str, dict[str, float]]]
"""For one call: by subject, build and what is counted."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(
        prog="scripts/bench --count",
        description="Instructions for an exchange under valgrind's callgrind; on the pure build also calls of functions.",
    )
    options.add_argument(
        "subjects",
        nargs="*",
        metavar="SUBJECT",
        help=f"a name in benchmarks/micro/subjects.py or a part of just one; without any: {'; '.join(USUAL)}",
    )
    which = options.add_mutually_exclusive_group()
    for build in BUILDS:
        which.add_argument(f"--{build}", dest="build", action="store_const", const=build, help="this build only")
    options.add_argument(
        "--of", type=Path, metavar="DIR", default=ROOT, help="count another checkout by these subjects"
    )
    options.add_argument("--json", type=Path, metavar="FILE", help="save the counts")
    options.add_argument(
        "--against", type=Path, metavar="FILE", help="print the ratio to saved ones; exit code 1 over budget"
    )
    options.add_argument("--budget", type=float, metavar="PERCENT", default=2.0, help="how much more may be counted: 2")
    return options


def chosen(asked: list[str], known: list[str]) -> list[str]:
    """The names that are asked for. ValueError: one is none, or more than one."""
    found = []
    for part in asked:
        fitting = [part] if part in known else [name for name in known if part in name]
        if len(fitting) != 1:
            raise ValueError(f"{part!r} is {'ambiguous' if fitting else 'unknown'}: {'; '.join(fitting or known)}")
        found += fitting
    return found


def said(*words: object) -> subprocess.CompletedProcess:
    """A command in an environment that is the same each time. RuntimeError when it fails."""
    # Seeded: the order of a set decides how many of its slots are looked at.
    program = shutil.which(words[0]) or words[0]
    done = subprocess.run(
        [str(word) for word in (program, *words[1:])],
        env={"PYTHONHASHSEED": "0"},
        cwd="/",  # its length, too, moves what is in memory
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"{words[0]} failed with {done.returncode}")
    return done


class Build:
    """One build of a checkout, as the Python that imports it."""

    def __init__(self, name: str, python: Path) -> None:
        self.name = name
        self._python = python

    def subjects(self) -> list[str]:
        """The names of all."""
        return said(self._python, COUNTED).stdout.splitlines()

    def count(self, subject: str) -> dict[str, float]:
        """What one call of it takes."""
        said(self._python, COUNTED, subject, 2)  # so that nothing is left to be compiled to .pyc
        found = {"instructions": difference(lambda times: [self._instructions(subject, times)])[0]}
        if self.name == "pure":
            found["calls"], found["C calls"] = difference(lambda times: self._calls(subject, times))
        return found

    def _instructions(self, subject: str, times: int) -> int:
        # As many digits: a longer command line moves what comes after it on the stack.
        done = said(*VALGRIND, self._python, COUNTED, subject, f"{times:04}")
        return int(re.search(r"Collected : (\d+)", done.stderr)[1])

    def _calls(self, subject: str, times: int) -> list[int]:
        return [int(number) for number in said(self._python, COUNTED, subject, times, "calls").stdout.split()]


def made(name: str, checkout: Path) -> Build:
    """A build of a checkout, which is made when it is missing or out of date. RuntimeError when it cannot be."""
    make, venv = BUILDS[name]
    done = subprocess.run(["bash", "-c", f". scripts/_env.sh; {make}", "bench"], cwd=checkout, check=False)
    if done.returncode:
        raise RuntimeError(f"the {name} build is missing")
    return Build(name, checkout.resolve() / venv / "bin" / "python")


def difference(counts: Callable[[int], list[int]]) -> list[float]:
    """What one call more adds to each count; the two runs go side by side."""
    with ThreadPoolExecutor(2) as pool:
        few, many = pool.map(counts, (FEW, MANY))
    return [(more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True)]


def lines(subject: str, build: str, found: dict[str, float], before: dict[str, float] | None) -> Iterator[str]:
    """What is printed: a line for each thing that is counted, with its ratio to what it was."""
    for what, number in found.items():
        line = f"{subject + ', ' + build:45} {number:12,.1f} {what:12}"
        if before is not None:
            line += f" {number / before[what]:.4f}" if before.get(what) else " not in the saved run"
        yield line.rstrip()


def over_budget(found: Counts, before: Counts, percent: float) -> list[str]:
    """One line for each count that is higher than it may be."""
    return [
        f"{subject}, {build}: {number / old[what] * 100 - 100:+.2f} % {what}, the budget is {percent:g} %"
        for subject, builds in found.items()
        for build, counts in builds.items()
        if (old := before.get(subject, {}).get(build))
        for what, number in counts.items()
        if old.get(what) and number > old[what] * (1 + percent / 100)
    ]


def count(told: argparse.Namespace, before: Counts | None) -> Counts:
    """Everything that is asked for, printed as it comes."""
    found: Counts = {}
    builds = [made(name, told.of) for name in ([told.build] if told.build else BUILDS)]
    for subject in chosen(told.subjects or USUAL, builds[0].subjects()):
        for build in builds:
            counts = found.setdefault(subject, {})[build.name] = build.count(subject)
            old = None if before is None else before.get(subject, {}).get(build.name, {})
            print("\n".join(lines(subject, build.name, counts, old)), flush=True)
    return found


def main() -> None:
    """Count, print, keep and compare."""
    told = parser().parse_args()
    try:
        before = json.loads(told.against.read_text())["counts"] if told.against else None
        found = count(told, before)
    except (OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"bench: {error}") from None
    if told.json:
        kept = {"python": platform.python_version(), "counts": found}
        told.json.write_text(json.dumps(kept, indent=1) + "\n")
    over = over_budget(found, before or {}, told.budget)
    print("\n".join(f"bench: {line}" for line in over), end="\n" if over else "", file=sys.stderr)
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
