#!/usr/bin/env python3
"""CPU per request, ours beside others, round by round. `scripts/bench --help` tells the options."""

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from yardstick import defaults, page, results
from yardstick.contenders import CONTENDERS, TWINS, Contender, Ours, chosen, find
from yardstick.machine import settle_here
from yardstick.measurements import BACKENDS, MEASUREMENTS, NEED_GCC, Run
from yardstick.place import Backends
from yardstick.scenarios import OVER_HTTP2, OVER_TCP, OVER_TLS, SCENARIOS


def names(known: dict[str, object]) -> object:
    """A type for argparse: names of that kind, with commas between."""

    def parse(text: str) -> list[str]:
        asked = text.split(",")
        if unknown := [name for name in asked if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return asked

    return parse


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="scripts/bench",
        description="CPU per request, ours beside others, interleaved.",
        epilog="In memory, ours alone: --micro [pytest's arguments], times compared with the stored run; "
        "--count [SUBJECT ...], instructions and calls of functions for an exchange (--count --help).",
    )
    made.add_argument(
        "--contenders",
        type=names(CONTENDERS | TWINS),
        default=list(CONTENDERS),
        help=f"{','.join(CONTENDERS)}; HAPROXY=PROGRAM and NGINX=PROGRAM in the environment name others than Debian's",
    )
    made.add_argument(
        "--settings",
        choices=("tuned", "default", "both"),
        default="both",
        help="of each contender: tuned, as it is by default, or both, which is usual; 'haproxy default' is a name too",
    )
    made.add_argument(
        "--strict", action="store_true", help="fail where ours costs more than 5 %% more by default than tuned"
    )
    made.add_argument(
        "--scenarios",
        type=names(MEASUREMENTS),
        default=[one for one in MEASUREMENTS if one not in {**OVER_TLS, **OVER_TCP, **OVER_HTTP2}],
        help=",".join(MEASUREMENTS),
    )
    made.add_argument("--rounds", type=int, default=5, help="5; an odd number")
    made.add_argument("--seconds", type=int, default=3, help="of load for each contender in each round: 3")
    made.add_argument(
        "--save", metavar="NAME", help="keep it in benchmarks/results/NAME.json, with what is there already"
    )
    made.add_argument(
        "--beside", type=Path, metavar="DIR", help="measure another checkout of ours too: beside-compiled, beside-pure"
    )
    made.add_argument("--render", action="store_true", help="only renew docs/benchmarks.md and the README")
    return made


def render() -> None:
    """The newest stored run as page, plots and the README's table."""
    run = results.newest()
    page.write(run, results.newest("logging"), results.newest("streaming"), results.newest("memory"))
    try:
        from yardstick import plots
    except ImportError:
        print("bench: matplotlib is missing (PyPI), the plots stay as they were", file=sys.stderr)
    else:
        plots.draw(run)


def present(asked: list[str]) -> dict[str, str]:
    """The versions of those that can be started; one line for each program that cannot."""
    found, said = {}, {}
    for contender in map(find, asked):
        try:
            found[contender.name] = contender.found()
        except RuntimeError as error:
            said[f"bench: {error}"] = None
    for line in said:
        print(line, file=sys.stderr)
    return found


def introduced(contender: Contender, version: str) -> str:
    """One line of the list that a run begins with."""
    named = f" ({contender.variable}={contender.named})" if contender.named else ""
    return f"{contender.called}: {version}{named}"


def measurable(asked: list[str], contenders: list[Contender]) -> list[str]:
    """Those that need no compiler, if there is none, and nobody who is tuned, if nobody is; one line for those that do."""
    if not shutil.which("gcc"):
        asked = left_out(asked, NEED_GCC, "gcc is missing (Debian: apt install gcc)")
    if all(contender.by_default for contender in contenders):
        asked = left_out(asked, set(MEASUREMENTS) - set(SCENARIOS), "only for who is tuned, and nobody is")
    return asked


def left_out(asked: list[str], names: set[str], why: str) -> list[str]:
    """The rest of them; one line for those."""
    without = [name for name in asked if name in names]
    if without:
        print(f"bench: {', '.join(without)}: {why}", file=sys.stderr)
    return [name for name in asked if name not in without]


def judged(measured: dict[str, dict], *, strict: bool) -> int:
    """The line about our defaults, and the exit status."""
    found = defaults.of_ours(measured)
    if found:
        print(f"\n{defaults.told(found)}")
    wrong = defaults.complaint(found) if strict else None
    if wrong is not None:
        print(f"bench: {wrong}", file=sys.stderr)
    return int(wrong is not None)


def main() -> int:
    """Measure, print, and keep what is asked to be kept."""
    told = parser().parse_args()
    if told.render:
        render()
        return 0
    settle_here()
    if told.beside is not None:
        for build, venv in (("compiled", ".venv-compiled"), ("pure", ".venv")):
            other = Ours(build, venv, told.beside.absolute())
            CONTENDERS[other.name] = other
            told.contenders.append(other.name)
    versions = present(chosen(told.contenders, told.settings))
    contenders = [find(name) for name in versions]
    print("\n".join(introduced(find(name), version) for name, version in versions.items()), flush=True)
    all_measured = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)  # an nginx that is started as root reads it as somebody else
        backends = Backends(Path(folder), BACKENDS)
        stack.callback(backends.stop)
        run = Run(contenders, backends, told.rounds, told.seconds)
        for name in measurable(told.scenarios, contenders):
            title, measure = MEASUREMENTS[name]
            print(f"\n{name}: {title} (from {time.strftime('%H:%M:%S')})", flush=True)
            measured = {"rounds_asked": told.rounds, "seconds": told.seconds, **measure(run)}
            all_measured[name] = measured
            if told.save:  # each at once: a run takes long
                results.save(told.save, versions, {name: measured})
    if told.save:
        render()
    return judged(all_measured, strict=told.strict)


if __name__ == "__main__":
    sys.exit(main())
