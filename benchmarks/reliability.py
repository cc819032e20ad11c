#!/usr/bin/env python3
"""Bad days for ours, HAProxy and NGINX, over real processes and loopback: measured, then rendered as docs/reliability.md.

    benchmarks/reliability.py [SCENARIO ...]    measures these, or all, on whoever is installed; an hour for all
    benchmarks/reliability.py --only PEER ...   only this contender
    benchmarks/reliability.py --quick ...       in small sizes; prints, and writes nothing
    benchmarks/reliability.py --render          only renders

Needs .venv and .venv-compiled (`scripts/test` makes them), and Debian's haproxy, nginx and slowhttptest for what they are
needed for: what is missing keeps the figures it has.
"""

import argparse
import dataclasses
import json
import os
import platform
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bad_days.page import render
from bad_days.proxies import Contender, contenders
from bad_days.recipes import Patience
from bad_days.results import recorded
from bad_days.scenarios import SCENARIOS, Scenario
from bad_days.stage import stage

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "reliability.json"
PAGE = ROOT / "docs" / "reliability.md"


def machine() -> str:
    """What this was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    cores = len(os.sched_getaffinity(0))
    kernel = platform.release().partition("-")[0]
    python = platform.python_version()
    return f"{model[1] if model else platform.machine()}, {cores} cores, {memory:.0f} GiB, Linux {kernel}, CPython {python}"


def measure(scenario: Scenario, contender: Contender, sizes: dict) -> dict:
    """One cell of the page: a scenario on a stage of its own."""
    with stage() as one:
        done = scenario.run(one, contender, scenario.patience, **sizes)
    return recorded(dataclasses.asdict(done))


def known() -> dict:
    empty = {"machine": "", "patience": {}, "versions": {}, "results": {}, "soak": {}}
    return {**empty, **(json.loads(JSON.read_text()) if JSON.exists() else {})}


def write(facts: dict) -> None:
    JSON.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(render(facts))


def record(name: str, contender: Contender, figures: dict) -> None:
    facts = known()
    facts["machine"] = machine()
    facts["patience"] = dataclasses.asdict(Patience())
    facts["versions"][contender.name] = contender.version
    facts["results"].setdefault(name, {})[contender.name] = figures
    write(facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--only", choices=[contender.name for contender in contenders()])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--render", action="store_true")
    given = parser.parse_args()
    if given.render:
        write(known())
        return
    for name in given.scenario or SCENARIOS:
        scenario = SCENARIOS[name]
        for contender in contenders():
            if given.only not in (None, contender.name):
                continue
            if contender.program is None or scenario.needs is None:
                print(f"{name}: {contender.name}: a program is missing, the figures stay as they were", file=sys.stderr)
                continue
            figures = measure(scenario, contender, scenario.quick if given.quick else scenario.full)
            print(f"{name}: {contender.name}: {figures}", flush=True)
            if not given.quick:
                record(name, contender, figures)


if __name__ == "__main__":
    main()
