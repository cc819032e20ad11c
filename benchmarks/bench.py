#!/usr/bin/env python3
"""CPU per request, ours beside others, round by round. `scripts/bench --help` tells the options."""

import argparse
import contextlib
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from yardstick.contenders import CONTENDERS
from yardstick.figures import table
from yardstick.machine import settle_here
from yardstick.place import Backends
from yardstick.rounds import play
from yardstick.scenarios import SCENARIOS


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
        prog="scripts/bench", description="CPU per request, ours beside others, interleaved."
    )
    made.add_argument("--contenders", type=names(CONTENDERS), default=list(CONTENDERS), help=",".join(CONTENDERS))
    made.add_argument("--scenarios", type=names(SCENARIOS), default=list(SCENARIOS), help=",".join(SCENARIOS))
    made.add_argument("--rounds", type=int, default=5, help="5; an odd number")
    made.add_argument("--seconds", type=int, default=3, help="of load for each contender in each round: 3")
    return made


def main() -> None:
    """Measure, print, and keep what is asked to be kept."""
    told = parser().parse_args()
    settle_here()
    present = []
    for contender in map(CONTENDERS.get, told.contenders):
        if contender.missing:
            print(f"bench: {contender.missing}", file=sys.stderr)
        else:
            present.append(contender)
    versions = {contender.name: contender.version() for contender in present}
    print(", ".join(f"{CONTENDERS[name].title} {version}" for name, version in versions.items()))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)  # an nginx that is started as root reads it as somebody else
        most = max(SCENARIOS[name].backends for name in told.scenarios)
        backends = Backends(Path(folder), most)
        stack.callback(backends.stop)
        for name in told.scenarios:
            scenario = SCENARIOS[name]
            began = time.monotonic()
            rounds = play(scenario, present, backends, told.rounds, told.seconds)
            print(f"\n{name}: {scenario.title} ({told.rounds} rounds in {time.monotonic() - began:.0f} s)", flush=True)
            print(table(rounds, scenario.reference), flush=True)


if __name__ == "__main__":
    main()
