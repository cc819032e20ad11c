#!/usr/bin/env python3
"""The adaptive limit on virtual time: what it finds, and what requests wait with it, without and with the right number; docs/concurrency.md.

    benchmarks/concurrency.py            measures, a minute or two of one core, and renders
    benchmarks/concurrency.py --render   only renders

Needs twisted_lb to import (.venv). Virtual time: the figures do not depend on the machine, or on what else it does.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from concurrency_table.page import render

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "concurrency.json"
PAGE = ROOT / "docs" / "concurrency.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true")
    if not parser.parse_args().render:
        from concurrency_table.measure import measured

        JSON.write_text(json.dumps(measured(), indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(render(json.loads(JSON.read_text())))


if __name__ == "__main__":
    main()
