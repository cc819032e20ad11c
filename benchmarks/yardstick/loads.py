"""The generators: wrk, and openloop.c for what no packaged tool does. Each tells what it found and what the proxy used."""

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yardstick.contenders import Contender, built
from yardstick.machine import PATIENCE_S, Process
from yardstick.scenarios import Scenario


@dataclass(frozen=True)
class Running:
    """A started contender."""

    contender: Contender
    process: Process
    address: str
    port: int
    folder: Path


@dataclass(frozen=True)
class Load:
    """What a generator found, and the CPU seconds that the proxy used meanwhile; the system's part of them."""

    found: dict
    used_s: float
    system_s: float


Generator = Callable[[Running, Scenario, float], Load]


class Meter:
    """CPU seconds of a process since it was made."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._total, self._system = process.cpu()

    def load(self, found: dict) -> Load:
        """Up to now."""
        total, system = self._process.cpu()
        return Load(found, total - self._total, system - self._system)


def wrk(one: Running, scenario: Scenario, seconds: float) -> Load:
    """A closed loop on all the connections; their beginning and end are in the bill."""
    script = Path(__file__).parent / "load.lua"
    url = f"{'https' if scenario.tls else 'http'}://{one.address}:{one.port}{scenario.path}"
    words = ["wrk", "-t1", f"-c{scenario.connections}", f"-d{seconds:.0f}", "--timeout", "20", "-s", script, url, "--"]
    meter = Meter(one.process)
    done = subprocess.run(
        [*words, *scenario.words], capture_output=True, text=True, timeout=seconds + PATIENCE_S, check=False
    )
    line = done.stdout.rstrip().rpartition("\n")[2]
    if not line.startswith("{"):
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    time.sleep(0.05)
    return meter.load(json.loads(line))


# Made beforehand, as wrk's are (load.lua): a browser's fields, and so many paths.
VARIANTS = 1009
BROWSER = (
    'sec-ch-ua: "Chromium";v="126", "Not.A/Brand";v="24"',
    "sec-ch-ua-mobile: ?0",
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "sec-fetch-site: same-origin",
    "sec-fetch-mode: navigate",
    "referer: https://shop.example.com/",
    "accept-encoding: gzip, deflate, br",
    "accept-language: en-GB,en;q=0.9",
    "cookie: session=1f2e3d4c5b6a7988; seen=000031",
)


def h2load(one: Running, scenario: Scenario, seconds: float) -> Load:
    """A closed loop of streams on all the connections, by nghttp2's client; how long each took it does not tell by percentile."""
    base = f"{'https' if scenario.tls else 'http'}://{one.address}:{one.port}"
    words = ["h2load", "-t1", f"-c{scenario.connections}", f"-m{scenario.streams}", f"-D{seconds:.0f}"]
    if scenario.heads == "varying":
        paths = one.folder / f"paths-{one.port}"
        items = (f"/items/{number * 7919:08d}?page={number % 10}" for number in range(1, VARIANTS + 1))
        paths.write_text("".join(f"{base}{item}\n" for item in items))
        words += [word for field in BROWSER for word in ("-H", field)] + ["-i", str(paths)]
    else:
        words.append(f"{base}{scenario.path}")
    if scenario.up_bytes:
        body = one.folder / f"body-{scenario.up_bytes}"
        body.write_bytes(b"0123456789abcdef" * (scenario.up_bytes // 16))
        words[1:1] = ["-d", str(body)]
    meter = Meter(one.process)
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + PATIENCE_S, check=False)
    time.sleep(0.05)
    said = done.stdout
    counts = re.search(
        r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said
    )
    took = re.search(r"finished in ([\d.]+)(us|ms|s)\b", said)
    size = re.search(r"traffic: .*\((\d+)\) data", said)
    protocol = re.search(r"Application protocol: (\S+)", said)
    if counts is None or took is None or size is None or protocol is None or not protocol[1].startswith("h2"):
        raise RuntimeError(f"h2load: {said}{done.stderr}")
    us = float(took[1]) * {"us": 1.0, "ms": 1e3, "s": 1e6}[took[2]]
    errors = sum(int(number) for number in counts.groups()[1:])
    found = {"us": us, "requests": int(counts[1]), "errors": errors, "bytes": int(size[1])}
    return meter.load({**found, "p50": 0.0, "p99": 0.0, "p999": 0.0})


def resuming(one: Running, scenario: Scenario, seconds: float) -> Load:
    """Connections one behind the other, each of which resumes the session of the one before and asks for one answer, by several
    processes of OpenSSL's own (`s_time`). How long each took nobody tells.
    """
    words = ["openssl", "s_time", "-connect", f"{one.address}:{one.port}", "-reuse", "-www", scenario.path]
    meter, began = Meter(one.process), time.monotonic()
    running = [
        subprocess.Popen(
            [*words, "-time", f"{seconds:.0f}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(scenario.connections)
    ]
    said = [process.communicate(timeout=10 * seconds + PATIENCE_S)[0] for process in running]
    took_s = time.monotonic() - began
    # Behind the heading: r for a session that was resumed, other letters for one that was not.
    marks = [re.search(r"^[r*t]+$", text, re.MULTILINE) for text in said]
    letters = "".join(found[0] for found in marks if found is not None)
    found = {"us": took_s * 1e6, "requests": letters.count("r"), "errors": len(letters) - letters.count("r")}
    return meter.load({**found, "p50": 0.0, "p99": 0.0, "p999": 0.0})


def closed_loop(one: Running, scenario: Scenario, seconds: float) -> Load:
    """As many requests at once as the scenario says, by turns on many more connections, which are open before it begins."""
    return own_generator(one, [0, seconds, scenario.connections, scenario.at_once])


def open_loop(rate: float) -> Generator:
    """At that rate, whatever becomes of it."""

    def generate(one: Running, scenario: Scenario, seconds: float) -> Load:
        return own_generator(one, [rate, seconds, scenario.connections])

    return generate


def own_generator(one: Running, told: list[float]) -> Load:
    """Run openloop.c; the bill begins when its connections are open, and ends before they are closed."""
    words = [built("openloop", one.folder), one.address, one.port, *told]
    with subprocess.Popen(
        [str(word) for word in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("openloop could not open its connections")
            meter = Meter(one.process)
            process.stdin.write("\n")
            line = process.stdout.readline()
            return meter.load(json.loads(line))
        finally:
            process.kill()
