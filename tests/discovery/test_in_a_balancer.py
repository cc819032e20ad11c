"""A list followed by a whole balancer, in memory: who joins gets requests, who leaves finishes what it has."""

from discovering import ScriptedSource, following, specs

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.plan import DEFAULT
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient, Wait, response

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_a_pool_follows_a_list_until_nobody_is_left_and_back():
    clock = HeapClock()
    network = MemoryNetwork(clock)
    config = LoadBalancerConfig(
        backends=["static:80"],
        health_check={"interval_s": 0},
        queue={"no_backend_s": 0.0},
        timeouts={"drain_s": 60},  # who has left may take so long
    )
    balanced = Balanced(config, network)
    ScriptedBackend(network, "a:80", [[Wait(25), response(b"late")]])
    ScriptedBackend(network, "b:80")
    source = ScriptedSource(specs("a"), specs("b"), "down", [], specs("b"))
    with following(source, clock, allow_empty=True) as follower:
        follower.take = lambda found: balanced.data_plane.update(DEFAULT, found)
        clock.settle()
        slow = ScriptedClient(network, "lb:8080").send(GET)
        client = ScriptedClient(network, "lb:8080")
        statuses = []
        for looks in range(2, 6):
            clock.run_until(lambda looks=looks: source.looks == looks)
            client.send(GET)
            clock.settle()
            statuses.append(client.take()[9:12])
        # b alone, b although the list cannot be had, nobody, b again
        assert statuses == [b"200", b"200", b"503", b"200"]
        assert slow.received.endswith(b"late"), "a has left, and finished"
        assert follower.told == [["a"], ["b"], [], ["b"]]
        balanced.close()
        clock.settle()
