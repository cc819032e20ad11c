#!/usr/bin/env python3
"""CPU time per proxied request: ours beside Twisted's stock ReverseProxyResource, interleaved in one run.

    benchmarks/against_stock.py [ROUNDS]

Needs wrk and nginx (Debian), and .venv (`scripts/test` makes it; with .venv-compiled the compiled build is measured too).
The proxy has a core of its own, the load generator and the backend share another. The figure is user and system time of the proxy's process (/proc) over the requests that wrk counted: on a machine that
others use, only the ratio within one run says something.
"""

import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PROXY_CORE, LOAD_CORE = sorted(os.sched_getaffinity(0))[:2]
ROOT = Path(__file__).resolve().parent.parent
STOCK = """
from twisted.internet import reactor
from twisted.web.proxy import ReverseProxyResource
from twisted.web.server import Site
reactor.listenTCP({port}, Site(ReverseProxyResource("127.0.0.1", {backend}, b"")), interface="127.0.0.1")
reactor.run()
"""
NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{backend}; location / {{ return 200 "hello\\n"; }} }} }}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def running(words: list, port: int, core: int) -> Iterator[int]:
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, {core})
    try:
        for _ in range(500):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        else:
            sys.exit(f"{words[0]} does not listen on {port}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=20)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, port: int, seconds: int) -> float:
    """Microseconds of CPU per request."""
    before = cpu_s(pid)
    report = subprocess.run(
        ["wrk", "-t1", "-c64", f"-d{seconds}", f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in report or "Socket errors" in report:
        sys.exit(report)
    return (cpu_s(pid) - before) / int(re.search(r"(\d+) requests in", report)[1]) * 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    os.sched_setaffinity(0, {LOAD_CORE})  # wrk inherits it
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backend = free_port()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, backend=backend))
        stack.enter_context(running(["nginx", "-c", str(folder / "nginx.conf")], backend, LOAD_CORE))
        contenders = {}
        for name, venv in (("ours, pure", ".venv"), ("ours, compiled", ".venv-compiled")):
            twistd = ROOT / venv / "bin" / "twistd"
            if twistd.exists():
                port = free_port()
                words = [twistd, "-n", "--pidfile=", "lb", "-b", f"127.0.0.1:{backend}", "-p", str(port)]
                contenders[name] = (
                    stack.enter_context(running([*words, "--interface", "127.0.0.1"], port, PROXY_CORE)),
                    port,
                )
        port = free_port()
        stock = [ROOT / ".venv" / "bin" / "python", "-c", STOCK.format(port=port, backend=backend)]
        contenders["stock ReverseProxyResource"] = (stack.enter_context(running(stock, port, PROXY_CORE)), port)

        figures: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, (pid, at) in contenders.items():
                figures[name].append(measure(pid, at, 3))
        reference = figures["stock ReverseProxyResource"]
        for name, values in figures.items():
            ratio = statistics.median(r / v for r, v in zip(reference, values, strict=True))
            print(
                f"{name:28} {statistics.median(values):7.1f} us of CPU per request, stock takes {ratio:5.1f} times that"
            )


if __name__ == "__main__":
    main()
