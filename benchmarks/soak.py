#!/usr/bin/env python3
"""Ten minutes of mixed traffic and bad hours against ours, and whether anything grew: see bad_days/soak.py.

    benchmarks/soak.py [--seconds N] [--pure] [--record]

Ends with status 1 if something was left or grew. `--record` writes its figures into docs/reliability.json and the page.
Needs .venv-compiled, or with --pure .venv (`scripts/test` makes them).
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bad_days.proxies import ROOT, ours
from bad_days.soak import soak, table
from bad_days.stage import stage
from reliability import known, machine, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    contender = (
        ours("ours, pure", ROOT / ".venv" / "bin") if given.pure else ours("ours", ROOT / ".venv-compiled" / "bin")
    )
    with stage() as one:
        soaked = soak(one, contender, seconds=given.seconds)
    print("\n".join(table(soaked)))
    print(f"{soaked.requests:,} requests, {soaked.cuts:,} clients that left; errors: {soaked.errors}")
    if given.record:
        facts = known()
        facts["soak"] = {"build": contender.name, "machine": machine(), **dataclasses.asdict(soaked)}
        write(facts)
    if soaked.faults or soaked.growth:
        sys.exit("\n".join([*soaked.faults, *soaked.growth]))


if __name__ == "__main__":
    main()
