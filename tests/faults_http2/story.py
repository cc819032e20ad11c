"""One seed over HTTP/2, told and judged."""

from faults.network import FaultNetwork
from faults_http2.oracle import judge
from faults_http2.town import Town

NETWORK = FaultNetwork(lambda seed, hear: Town(seed, hear).run(), judge, "scripts/faults h2")
complaints, report = NETWORK.complaints, NETWORK.report
