#!/usr/bin/env python3
"""What a second worker costs: CPU for a request of one process and of several, here, with HAProxy (nbthread) and with NGINX
(worker_processes), all on the same two cores.

    benchmarks/workers.py [--counts 1,2] [--contenders NAME,...] [--scenarios small-64,new-connection] [--rounds N] [--seconds N]

Unlike scripts/bench nobody is pinned: a proxy of two workers has both cores, and shares them with load and backends. So the figures are
those of saturation, and only ratios within a round say something. Needs what scripts/bench has made.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from yardstick.contenders import Contender, HAProxy, Nginx, Ours
from yardstick.machine import Process, settle_here
from yardstick.place import Backends, Place
from yardstick.rounds import generator_of, measure, started_one
from yardstick.scenarios import SCENARIOS

FIRST_PORT = 19700


class Wide:
    """A contender with so many workers, on all cores."""

    def __init__(self, one: Contender, count: int, old: str, new: str) -> None:
        self.one, self.count, self._old, self._new = one, count, old, new
        self.name = f"{one.name} {count}"

    def found(self) -> str:
        return self.one.found()

    def start(self, place: Place) -> Process:
        """Running; it may not listen yet."""
        words = self.one.words(place)
        file = Path(str(words[-1]))
        file.write_text(file.read_text().replace(self._old, self._new.format(self.count), 1))
        process = Process(words, 0, place.folder, self.one.env)
        os.sched_setaffinity(process.pid, CORES)
        return process


CORES = os.sched_getaffinity(0)


def wide(name: str, count: int) -> Wide:
    """The contender of this name with so many workers; KeyError for none."""
    ours = ("strategy = ", "workers = {}\nstrategy = ")
    return {
        "compiled": lambda: Wide(Ours("compiled", ".venv-compiled"), count, *ours),
        "pure": lambda: Wide(Ours("pure", ".venv"), count, *ours),
        "haproxy": lambda: Wide(HAProxy(), count, "nbthread 1", "nbthread {}"),
        "nginx": lambda: Wide(Nginx(), count, "worker_processes 1", "worker_processes {}"),
    }[name]()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1,2")
    parser.add_argument("--contenders", default="compiled,haproxy,nginx")
    parser.add_argument("--scenarios", default="small-64,new-connection")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    wanted = parser.parse_args()
    settle_here()
    os.sched_setaffinity(0, CORES)
    counts = [int(one) for one in wanted.counts.split(",")]
    contenders = [wide(name, count) for name in wanted.contenders.split(",") for count in counts]
    for one in contenders:
        print(f"{one.name}: {one.found()}")
    with tempfile.TemporaryDirectory(prefix="workers-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)
        backends = Backends(Path(folder), 2)
        stack.callback(backends.stop)
        for scenario in (SCENARIOS[name] for name in wanted.scenarios.split(",")):
            generate = generator_of(scenario)
            figures: dict[str, list[float]] = {one.name: [] for one in contenders}
            memory: dict[str, int] = {}
            for number in range(wanted.rounds):
                at = number % len(contenders)  # another one begins each round
                for one in (*contenders[at:], *contenders[:at]):
                    with started_one(one, backends, scenario, FIRST_PORT + contenders.index(one)) as running:
                        with contextlib.suppress(OSError, RuntimeError, ValueError):
                            generate(running, scenario, 1.0)
                        sample = measure(running, scenario, wanted.seconds, generate)
                        memory[one.name] = sample.memory_bytes
                        figures[one.name].append(float("nan") if sample.void else sample.us)
            print(f"\n{scenario.title}: CPU us a request, all processes; medians of {wanted.rounds} rounds")
            for one in contenders:
                rows = figures[one.name]
                own = [us / base for us, base in zip(rows, figures[f"{one.name.split()[0]} {counts[0]}"], strict=True)]
                other = figures.get(f"haproxy {one.count}")
                beside = [us / base for us, base in zip(rows, other, strict=True)] if other else []
                print(
                    f"  {one.name:12} {statistics.median(rows):8.1f}   of one {statistics.median(own):5.2f} "
                    f"({min(own):.2f}..{max(own):.2f})"
                    + (
                        f"   of HAProxy {statistics.median(beside):5.2f} ({min(beside):.2f}..{max(beside):.2f})"
                        if beside
                        else ""
                    )
                    + f"   {memory[one.name] / 2**20:6.1f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
