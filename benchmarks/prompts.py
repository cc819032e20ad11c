#!/usr/bin/env python3
"""Engines of language models with prompt caches behind each policy, on virtual time; docs/inference.md.

    benchmarks/prompts.py            measures, some minutes of one core, and renders
    benchmarks/prompts.py --render   only renders

Needs twisted_lb to import (.venv). Virtual time: the figures do not depend on the machine, or on what else it does.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from prompt_table.page import render

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "inference.json"
PAGE = ROOT / "docs" / "inference.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true")
    if not parser.parse_args().render:
        from prompt_table.measure import measured

        JSON.write_text(json.dumps(measured(), indent=1) + "\n")
    PAGE.write_text(render(json.loads(JSON.read_text())))


if __name__ == "__main__":
    main()
