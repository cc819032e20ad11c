"""The balancer in a process of its own, which tells what it holds: `python served.py CONFIG.toml`.

Each line on its standard input is answered with a line of JSON, the counters of that moment, and after `held` what the process
holds as well; the end of the input ends it. At SIGHUP it reads its configuration anew.
"""

import json
import re
import signal
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.protocol import Protocol
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner, textFileLogObserver

from twisted_lb.config.load import Source
from twisted_lb.service import LoadBalancerService

sys.path.append(str(Path(__file__).resolve().parent.parent))

from bad_days.held import held_kib


def counters(service: LoadBalancerService) -> dict[str, int]:
    """What may pile up: of the process, of the reactor, of the data path."""
    frontend, cluster = service.engine, service.balancer
    status = Path("/proc/self/status").read_text()
    return {
        "memory_kib": int(re.search(r"VmRSS:\s+(\d+)", status)[1]),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())) - 1,  # less the one that lists them
        "delayed_calls": len(reactor.getDelayedCalls()),
        "readers": len(reactor.getReaders()),
        "deadlines": frontend.deadlines.armed,
        "clients": len(frontend.clients),
        "exchanges": frontend.exchanges,
        "upstreams": cluster.open,
        "idle_upstreams": cluster.idle,
        "leases": sum(backend.in_flight for backend in cluster.pool.backends.values()),
        "leaving": len(service.data_plane.leaving.clusters) + len(service.data_plane.leaving.frontends),
        "events": len(service.operator.events(0)),
    }


class Orders(Protocol):
    """The other end of the pipe."""

    def __init__(self, service: LoadBalancerService) -> None:
        self._service = service

    def dataReceived(self, data: bytes) -> None:
        for order in data.splitlines():
            told = counters(self._service)
            if order == b"held":
                told["held_kib"] = held_kib()
            self.transport.write(json.dumps(told).encode() + b"\n")

    def connectionLost(self, _: object) -> None:
        if reactor.running:
            reactor.stop()


def main() -> None:
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    source = Source({}, Path(sys.argv[1]))
    service = LoadBalancerService(source.load(), source=source)
    service.startService()
    signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(service.reload))
    reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    StandardIO(Orders(service))
    reactor.run()


if __name__ == "__main__":
    main()
