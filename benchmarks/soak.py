#!/usr/bin/env python3
"""Ten minutes of mixed traffic and bad hours against ours, and whether anything grew: see bad_days/soak.py.

    benchmarks/soak.py [--seconds N] [--pure] [--record]
    benchmarks/soak.py --workers N [--seconds N] [--pure]

With workers these are killed and replaced, files reloaded, backends drained and weighed, the wall clock stepped and the program upgraded
(where it can be) under clients of all kinds: see bad_days/crew_soak.py.

Ends with status 1 if something was left or grew, or if anybody lost anything but what a killed worker was at. `--record` writes its figures into docs/reliability.json and the page.
Needs .venv-compiled, or with --pure .venv (`scripts/test` makes them).
"""

import argparse
import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bad_days.crew_soak import soak_crew
from bad_days.proxies import ROOT, Contender, ours
from bad_days.soak import soak, table
from bad_days.stage import stage
from reliability import known, machine, write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    contender = (
        ours("ours, pure", ROOT / ".venv" / "bin") if given.pure else ours("ours", ROOT / ".venv-compiled" / "bin")
    )
    if given.workers:
        of_workers(contender, given.workers, given.seconds)
        return
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


def of_workers(contender: Contender, workers: int, seconds: int) -> None:
    with stage() as one:
        soaked = soak_crew(one, contender, workers=workers, seconds=seconds)
    print("\n".join(table(soaked)))
    print(
        f"done: {soaked.done}; answered: {soaked.answered}, {soaked.counted:,.0f} requests counted in {soaked.scrapes} scrapes"
    )
    print(f"new connections: longest {soaked.longest_s:.3f} s, {soaked.over_100_ms:.2%} over 0.1 s")
    print(
        f"{len(soaked.killed)} conversations were lost with workers that were killed, and {len(soaked.lost)} otherwise"
    )
    if soaked.faults or soaked.growth:
        sys.exit("\n".join([*soaked.faults, *soaked.growth]))


if __name__ == "__main__":
    main()
