#!/usr/bin/env python3
"""Attacks on HTTP/2, here, with HAProxy and with NGINX: what each costs in CPU and memory, what an honest client beside it notices, and
after how many frames the attacker is sent away; docs/http2.md.

    benchmarks/http2_abuse.py [--attacks NAME,...] [--contenders NAME,...] [--rounds N] [--seconds N] [--save NAME] [--render]

Each attack meets each contender anew, with the settings that it has by default, by turns, in the clear; an honest client asks 100 times a
second on a connection of its own. Attacks come at a rate of their own, and who is sent away comes again. Needs what scripts/bench has made.
"""

import argparse
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from http2_attacks import page
from http2_attacks.attacks import ATTACKS, Attack
from http2_attacks.honest import Honest
from yardstick import results
from yardstick.contenders import Contender, HAProxy, Nginx, Ours
from yardstick.loads import Meter
from yardstick.machine import Process, settle_here
from yardstick.place import Backends, Place
from yardstick.resources import SMALL_HTTP2
from yardstick.rounds import Running, started_one

FIRST_PORT = 19500
KEY = "http2-abuse"
OURS = """
[listeners.web]
address = "{address}:{port}"
protocols = ["h2"]
default_pool = "b"
[pools.b]
backends = [{backends}]
health_check.interval_s = 0
"""
# Its manual's own time limits (2.2, "Quick reminder about HTTP", and the example of 2.5): without any it only warns.
HAPROXY = """
global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    timeout http-request 10s
frontend f
    bind {address}:{port} proto h2
    default_backend b
backend b
{backends}
"""
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx-{port}.pid;
error_log {folder}/nginx-{port}.error;
worker_rlimit_nofile 4000;
events {{ worker_connections 2000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nb;
    proxy_temp_path {folder}/np;
    fastcgi_temp_path {folder}/nf;
    uwsgi_temp_path {folder}/nu;
    scgi_temp_path {folder}/ns;
    upstream b {{
{backends}
        keepalive 32;
    }}
    server {{
        listen {address}:{port} http2;
        location / {{
            proxy_pass http://b;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


def written(template: str, place: Place, backends: str, kind: str) -> Path:
    """A file of a contender."""
    file = place.folder / f"attacked-{place.port}.{kind}"
    file.write_text(template.format(address=place.address, port=place.port, folder=place.folder, backends=backends))
    return file


class OursAttacked(Ours):
    """This project."""

    def conf(self, place: Place, backends: str) -> Path:
        return written(OURS, place, backends, "toml")


class HAProxyAttacked(HAProxy):
    """HAProxy."""

    def conf(self, place: Place, backends: str) -> Path:
        return written(HAPROXY, place, backends, "cfg")


class NginxAttacked(Nginx):
    """NGINX."""

    def conf(self, place: Place, backends: str) -> Path:
        return written(NGINX, place, backends, "conf")


CONTENDERS: dict[str, Contender] = {
    one.name: one
    for one in (
        OursAttacked("compiled", ".venv-compiled"),
        OursAttacked("pure", ".venv"),
        HAProxyAttacked(),
        NginxAttacked(),
    )
}


def resident(process: Process, what: str) -> int:
    """Bytes that all of its processes have resident, or have had at most (VmHWM) since `forget`."""
    kib = 0
    for pid in process.pids():
        kib += int(re.search(rf"^{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[1])
    return kib * 1024


def forget(process: Process) -> None:
    """From here on the most is counted: proc(5)."""
    for pid in process.pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")


@contextlib.contextmanager
def attacking(attack: Attack, one: Running, seconds: float) -> Iterator[list[dict[str, object]]]:
    """While the attack comes; what the attacker has found is there behind it."""
    found: list[dict[str, object]] = []
    if not attack.connections:
        yield found
        return
    words = [sys.executable, "-m", "http2_attacks.attacker", attack.name, one.address, str(one.port), str(seconds)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, cwd=Path(__file__).parent, env={"PYTHONPATH": str(Path(__file__).parent)}
    )
    try:
        yield found
        out, _ = process.communicate(timeout=60)
        found.append(json.loads(out))
    finally:
        process.kill()
        process.wait()


def met(attack: Attack, contender: Contender, backends: Backends, port: int, seconds: float) -> dict[str, object]:
    """One attack on one contender."""
    with started_one(contender, backends, SMALL_HTTP2, port) as one:
        Honest(one.address, one.port).run(0.5)  # what is made once is there
        forget(one.process)
        before = resident(one.process, "VmRSS")
        meter, honest = Meter(one.process), Honest(one.address, one.port)
        with attacking(attack, one, seconds) as found:
            honest.run(seconds)
            load = meter.load({})
            most = resident(one.process, "VmHWM")
        latencies = sorted(honest.latencies_s)
        return {
            "cpu_s": load.used_s,
            "grown_bytes": most - before,
            "p50_ms": statistics.median(latencies) * 1000 if latencies else None,
            "p99_ms": latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1000 if latencies else None,
            "answered": len(latencies),
            "lost": honest.lost,
            "attacker": found[0] if found else None,
        }


def said(name: str, told: dict[str, object]) -> str:
    """For a terminal."""
    attacker = told["attacker"] or {"ends": 0, "frames": 0}
    waits = " ".join(f"{told[key]:9.2f}" if told[key] is not None else "        -" for key in ("p50_ms", "p99_ms"))
    return (
        f"  {name:10} {told['cpu_s']:6.2f} s {told['grown_bytes'] / 2**20:8.1f} MiB   p50, p99 {waits} ms, lost {told['lost']:4}   "
        f"{attacker['frames']:8,} frames, sent away {attacker['ends']:4} times"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--contenders", default="compiled,haproxy,nginx")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument(
        "--save",
        metavar="NAME",
        help="keep it in benchmarks/results/NAME.json, with what is there of other attacks, and renew docs/http2.md",
    )
    parser.add_argument("--render", action="store_true", help="only renew docs/http2.md")
    wanted = parser.parse_args()
    if not wanted.render:
        measure(wanted)
    if wanted.save or wanted.render:
        page.write(results.newest(KEY))


def measure(wanted: argparse.Namespace) -> None:
    """Each attack, each round, each contender."""
    settle_here()
    contenders = [CONTENDERS[name] for name in wanted.contenders.split(",")]
    versions = {one.name: one.found() for one in contenders}
    measured: dict[str, dict[str, list[dict[str, object]]]] = {}
    file = results.FOLDER / f"{wanted.save}.json"
    if wanted.save and file.exists():
        measured = json.loads(file.read_text())["measurements"][KEY]["attacks"]
    with tempfile.TemporaryDirectory(prefix="attacked-") as folder, contextlib.ExitStack() as stack:
        Path(folder).chmod(0o755)
        backends = Backends(Path(folder), 2)
        stack.callback(backends.stop)
        for attack in (ATTACKS[name] for name in wanted.attacks.split(",")):
            print(attack.title, flush=True)
            measured[attack.name] = {}
            for number in range(wanted.rounds):
                at = number % len(contenders)  # another one begins each round
                for one in (*contenders[at:], *contenders[:at]):
                    told = met(attack, one, backends, FIRST_PORT + contenders.index(one), wanted.seconds)
                    measured[attack.name].setdefault(one.name, []).append(told)
                    print(said(one.name, told), flush=True)
            if wanted.save:
                results.save(wanted.save, versions, {KEY: {"seconds": wanted.seconds, "attacks": measured}})


if __name__ == "__main__":
    main()
