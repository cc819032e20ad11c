"""A soak: rounds of mixed traffic, each with a bad hour for one backend, and after each round a quiet moment in which
nothing of it may be left.
"""

import dataclasses
import json
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ports import free_port

from bad_days.mix import EXCUSED, Mix
from bad_days.proxies import Contender
from bad_days.recipes import Patience, our_config
from bad_days.stage import Backend, Process, Stage, until

PATIENCE = Patience(connect_s=1, answer_s=2, head_s=2, body_s=2, check_s=0.5)
SERVED = Path(__file__).with_name("served.py")
# Of the rounds, so many at the beginning are the warm-up: what is bounded is filled by then.
WARM_PART = 0.4
# How much more may be held in the last rounds than in those right after the warm-up: more connections are idle, more deadlines not
# swept yet, more of the notes on failures written.
HELD_SLACK_KIB = 512
# Resident memory is a high-water mark, and says little of a leak: between what lasts, malloc keeps what buffers of 256 KiB have
# left. That settles by requests and not by seconds: after 50,000 or so, which a busy machine has not had in ten minutes.
RESIDENT_SLACK_KIB = 8192
SLACK = {
    "held_kib": HELD_SLACK_KIB,
    "memory_kib": RESIDENT_SLACK_KIB,
    "own_descriptors": 1,
    "delayed_calls": 2,
    "readers": 0,
}


@dataclasses.dataclass(frozen=True)
class Soaked:
    """What a soak saw: how long it was, what the clients got, and the counters in the quiet moment after each round."""

    seconds: int
    requests: int
    cuts: int
    errors: dict[str, int]
    samples: list[dict[str, float]]

    @property
    def faults(self) -> list[str]:
        """What no client may see and no quiet moment show; nothing: it passed."""
        wrong = [f"{count} times {error}" for error, count in self.errors.items() if error not in EXCUSED]
        return [*wrong, *(fault for sample in self.samples for fault in leftovers(sample))]

    @property
    def growth(self) -> list[str]:
        """What is not flat after the warm-up; says something after some minutes."""
        return trends(self.samples)


class Served:
    """Our balancer in a program that tells its counters."""

    def __init__(self, stage: Stage, contender: Contender, backends: list[Backend]) -> None:
        self.port = free_port()
        self.backends = backends
        self.config = stage.folder / "soak.toml"
        self.config.write_text(our_config(self.port, [one.address for one in backends], PATIENCE))
        python = contender.program.with_name("python")
        self._process: Process = stage.start([python, "-P", SERVED, self.config], talks=True)

    def counters(self, order: bytes = b"") -> dict[str, int]:
        """At once; with the order `held` also how much it holds, for which it stops for a moment."""
        pipe = self._process.popen
        pipe.stdin.write(order + b"\n")
        pipe.stdin.flush()
        line = pipe.stdout.readline()
        if not line:
            raise RuntimeError(self._process.log)
        return json.loads(line)

    def quiet_counters(self) -> dict[str, int]:
        """When no client is left, and what it holds then; a leak of one shows as a wait that never ends."""

        def is_quiet() -> bool:
            found = self.counters()
            return found["clients"] == found["exchanges"] == 0

        until(is_quiet, "all clients and exchanges are gone")
        return self.counters(b"held")

    @property
    def log(self) -> str:
        return self._process.log

    @property
    def pid(self) -> int:
        return self._process.popen.pid


def soak(stage: Stage, contender: Contender, *, seconds: int) -> Soaked:
    """Rounds until the time is over, at least three."""
    backends = stage.backends(3)
    served = Served(stage, contender, backends)
    answers: Counter[str] = Counter()
    cuts = 0
    began = time.monotonic()
    samples = [{"second": 0, **served.quiet_counters()}]
    for number in rounds(began, seconds):
        mix = Mix(served.port, number)
        trouble(backends, random.Random(number), max(1.0, seconds / 40))
        mix.stop()
        answers += mix.answers
        cuts += mix.cuts
        samples.append({"second": round(time.monotonic() - began), **served.quiet_counters()})
    if "Traceback" in served.log:
        raise RuntimeError(served.log)
    errors = {error: count for error, count in sorted(answers.items()) if error}
    return Soaked(samples[-1]["second"], answers.total(), cuts, errors, samples)


def rounds(began: float, seconds: int) -> Iterator[int]:
    number = 0
    while number < 3 or time.monotonic() - began < seconds:
        yield number
        number += 1


def trouble(backends: list[Backend], rng: random.Random, seconds: float) -> None:
    """A quarter of the time nothing, then one backend's bad hour, then nothing again."""
    victim = rng.choice(backends)
    time.sleep(seconds / 4)
    kind = rng.choice(("kill", "stop", "close", "nothing"))
    if kind == "kill":
        victim.process.kill()
        time.sleep(seconds / 4)
        victim.start()
    elif kind == "stop":
        victim.process.signal(signal.SIGSTOP)
        time.sleep(seconds / 4)
        victim.process.signal(signal.SIGCONT)
    elif kind == "close":
        victim.order("close")
    time.sleep(seconds / 2)


def leftovers(sample: dict[str, float]) -> list[str]:
    """What a quiet moment must not show."""
    at = f"at {sample['second']} s"
    left = [f"{sample[name]} {name} {at}" for name in ("clients", "exchanges", "leases") if sample[name]]
    if sample["upstreams"] != sample["idle_upstreams"]:
        left.append(f"{sample['upstreams']} upstreams, {sample['idle_upstreams']} of them idle {at}")
    # One for each idle connection, and one for each of the three backends' checks.
    if sample["deadlines"] > sample["idle_upstreams"] + 3:
        left.append(f"{sample['deadlines']} deadlines for {sample['idle_upstreams']} connections {at}")
    return left


def trends(samples: list[dict[str, float]]) -> list[str]:
    """What grew over the rounds after the warm-up."""
    return grown(samples[1 + int(len(samples) * WARM_PART) :], SLACK)


def grown(samples: list[dict[str, float]], slack: dict[str, float]) -> list[str]:
    """What grew by more than its slack: figures of the last third beside those of the first. What was not measured has not."""
    third = max(1, len(samples) // 3)
    found = []
    for name, most in slack.items():
        if name not in samples[0] and name != "own_descriptors":
            continue
        early, late = (
            statistics.median(_figure(sample, name) for sample in part) for part in (samples[:third], samples[-third:])
        )
        if late > early + most:
            found.append(f"{name} grew from {early:,g} to {late:,g}")
    return found


def _figure(sample: dict[str, float], name: str) -> float:
    """Descriptors beside those of connections are what must not grow."""
    if name == "own_descriptors":
        return sample["descriptors"] - sample["clients"] - sample["upstreams"]
    return sample[name]


class Sampled(Protocol):
    """What a soak saw, in samples."""

    @property
    def samples(self) -> list[dict[str, float]]: ...


def table(soaked: Sampled, most: int = 12) -> list[str]:
    """Markdown lines: evenly spread samples."""
    columns = list(soaked.samples[0])
    step = max(1, (len(soaked.samples) - 1 + most - 2) // (most - 1))
    chosen = sorted({*range(0, len(soaked.samples), step), len(soaked.samples) - 1})
    rows = [[f"{soaked.samples[n][column]:,}" for column in columns] for n in chosen]
    titles = [column.replace("_", " ") for column in columns]
    return [f"| {' | '.join(cells)} |" for cells in [titles, ["---:"] * len(columns), *rows]]
