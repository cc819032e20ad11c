#!/usr/bin/env python3
"""Every policy on virtual time: as fast as when, and what it does with a slow, a failing and a cold backend; docs/policies.md.

    benchmarks/policies.py              measures all policies, some minutes of one core; renders; draws, if there is matplotlib
    benchmarks/policies.py POLICY ...   measures these, and keeps the others as they were
    benchmarks/policies.py --steps      counts only what a pick costs, with an interpreted core
    benchmarks/policies.py --render     only renders
    benchmarks/policies.py --draw       only draws (matplotlib: `scripts/bench` has it in .venv-bench)

Needs twisted_lb to import (.venv). Virtual time: the figures do not depend on the machine, or on what else it does.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from policy_table.page import render

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "policies.json"
PAGE = ROOT / "docs" / "policies.md"


def known() -> dict:
    return json.loads(JSON.read_text()) if JSON.exists() else {}


def measure(names: list[str]) -> None:
    from policy_table.measure import measured, policies

    facts, every = known(), policies()
    unknown = [name for name in names if name not in every]
    if unknown:
        raise SystemExit(f"policies.py: there is no policy {unknown[0]}; there are {', '.join(every)}")
    for name in every:
        if not names or name in names:
            print(name, flush=True)
            facts[name] = measured(name)
    facts = {name: facts[name] for name in every if name in facts}
    JSON.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def count(names: list[str]) -> None:
    from policy_table.steps import steps_of

    facts = known()
    for name in names or facts:
        print(name, flush=True)
        facts[name]["steps"] = steps_of(name)
    JSON.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def draw() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        print(
            "policies.py: no matplotlib here, the plots stay as they are: .venv-bench/bin/python benchmarks/policies.py --draw"
        )
        return
    from policy_table.plots import draw as draw_plots

    draw_plots(known())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="*", metavar="POLICY")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--draw", action="store_true")
    chosen = parser.parse_args()
    if chosen.steps:
        count(chosen.policies)
    elif not chosen.render and not chosen.draw:
        measure(chosen.policies)
    if not chosen.draw:
        PAGE.write_text(render(known()))
    if not chosen.render:
        draw()


if __name__ == "__main__":
    main()
