#!/usr/bin/env python3
"""HTTP/2, beside the least that a Python program can do for it: `http2_relay.py`, which has our codec and nothing else. What it costs is the
floor for whoever is written in Python; the method is that of scripts/bench.

    benchmarks/http2_floor.py [--rounds N] [--contenders NAME,NAME,...] [--scenarios NAME,NAME,...]

Needs what scripts/bench needs.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bench
from yardstick.contenders import CONTENDERS, Contender, Ours
from yardstick.place import Place

SCENARIOS = "h2-browser-varying,h2-tls-browser-varying,h2-tls-single,h2-down-64k,h2-up-64k"
RELAY = Path(__file__).absolute().parent / "http2_relay.py"


class Floor(Contender):
    """The relay, in the environment of our pure build."""

    name = "floor"
    title = "bare relay in Python"
    needs = "scripts/bench makes its environment"
    http2 = http2_tls = " "  # whatever the place says

    @property
    def usual(self) -> Path:
        return Ours("pure", ".venv").usual.parent / "python"

    def version(self) -> str:
        return self.version_in(r"Python (\S+)", "--version")

    def words(self, place: Place) -> list[object]:
        certificate = place.folder / "tls.pem" if place.tls else ""
        return [self.usual, "-P", RELAY, place.address, place.port, certificate, *place.backends]


def main() -> int:
    """Measure."""
    options = argparse.ArgumentParser(prog="http2_floor.py")
    options.add_argument("--rounds", default="11")
    options.add_argument("--contenders", default="pure,haproxy")
    options.add_argument("--scenarios", default=SCENARIOS)
    told = options.parse_args()
    CONTENDERS[Floor.name] = Floor()
    who = ["--contenders", f"{Floor.name},{told.contenders}", "--settings", "tuned"]
    sys.argv[1:] = [*who, "--scenarios", told.scenarios, "--seconds", "1", "--rounds", told.rounds]
    return bench.main()


if __name__ == "__main__":
    sys.exit(main())
