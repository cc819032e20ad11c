"""One seed, told and judged."""

from faults.network import FaultNetwork
from faults.oracle import judge
from faults.town import Town

NETWORK = FaultNetwork(lambda seed, hear: Town(seed, hear).run(), judge, "scripts/faults")
complaints, report = NETWORK.complaints, NETWORK.report
