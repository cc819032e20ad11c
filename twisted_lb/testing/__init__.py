r"""A balancer without a network and without waiting: time, connections and peers in memory, all in the hands of a test.

clock = HeapClock()
network = MemoryNetwork(clock)
backend = ScriptedBackend(network, "app:80")
balanced = Balanced(LoadBalancerConfig(backends=["app:80"]), network)
client = ScriptedClient(network, "lb:8080")
client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
clock.settle()
assert client.received.startswith(b"HTTP/1.1 200 OK")
"""

from twisted_lb.net.timers import HeapDelayedCall
from twisted_lb.testing.backends import (
    CLOSE,
    NEVER_ANSWER,
    RESET,
    Action,
    BackendConnection,
    ScriptedBackend,
    Wait,
    response,
)
from twisted_lb.testing.balanced import Balanced
from twisted_lb.testing.chances import Chances
from twisted_lb.testing.clients import ScriptedClient
from twisted_lb.testing.clock import HeapClock
from twisted_lb.testing.faults import Fault, Faults
from twisted_lb.testing.lists import ScriptedList
from twisted_lb.testing.network import MemoryListener, MemoryNetwork
from twisted_lb.testing.policies import check_policy
from twisted_lb.testing.resolver import MemoryResolver
from twisted_lb.testing.staged import Actor, Answered, Staged
from twisted_lb.testing.transport import MemoryTransport

__all__ = [
    "CLOSE",
    "NEVER_ANSWER",
    "RESET",
    "Action",
    "Actor",
    "Answered",
    "BackendConnection",
    "Balanced",
    "Chances",
    "Fault",
    "Faults",
    "HeapClock",
    "HeapDelayedCall",
    "MemoryListener",
    "MemoryNetwork",
    "MemoryResolver",
    "MemoryTransport",
    "ScriptedBackend",
    "ScriptedClient",
    "ScriptedList",
    "Staged",
    "Wait",
    "check_policy",
    "response",
]
