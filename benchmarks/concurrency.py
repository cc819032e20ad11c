#!/usr/bin/env python3
"""How many requests at a time, and the queue for the rest; docs/concurrency.md. The adaptive limit on virtual time: what it finds, and what
requests wait with it, without and with the right number. The queue beside HAProxy's, with real processes by turns.

    benchmarks/concurrency.py            measures on virtual time, a minute or two of one core, and renders
    benchmarks/concurrency.py --beside   measures beside HAProxy, half a minute, and renders
    benchmarks/concurrency.py --render   only renders

Needs twisted_lb to import (.venv). Virtual time: the figures do not depend on the machine, or on what else it does. Real processes: what
else runs slows both, and is in the figures of both.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from concurrency_table.page import render

ROOT = Path(__file__).resolve().parent.parent
JSON = ROOT / "docs" / "concurrency.json"
PAGE = ROOT / "docs" / "concurrency.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--beside", action="store_true")
    wanted = parser.parse_args()
    facts = json.loads(JSON.read_text())
    if wanted.beside:
        from concurrency_table.beside import MAKERS, beside

        with tempfile.TemporaryDirectory() as folder:
            facts["beside"] = beside(Path(folder), list(MAKERS))
    elif not wanted.render:
        from concurrency_table.measure import measured

        facts = {**measured(), "beside": facts["beside"]}
    JSON.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(render(facts))


if __name__ == "__main__":
    main()
