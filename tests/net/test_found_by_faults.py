"""What the fault network found, each without it: the shortest way to the same end."""

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.web.server import Site
from world import World

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.events import Event, PoolRecovered
from twisted_lb.net.foreign import Foreign
from twisted_lb.net.http1 import Http1
from twisted_lb.net.resource import BalancedReverseProxyResource
from twisted_lb.net.transport import HIGH_WATER_BYTES
from twisted_lb.testing import Balanced, HeapClock, MemoryNetwork, ScriptedBackend, ScriptedClient
from twisted_lb.testing.network import CAPACITY_BYTES

GET = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def send_on(client, data: bytes) -> bytes:
    """Send as much as is taken now; what is left."""
    client.sock.setblocking(False)
    while data:
        try:
            data = data[client.sock.send(data) :]
        except BlockingIOError:
            break
        client.world.run()
    return data


def test_an_upload_sent_far_ahead_is_read_on_when_its_turn_comes():
    """Reading stopped because of what was sent ahead; with the answer before it came a body, and nobody read it: 408."""
    world = World()
    client = world.client()
    size = 300_000
    upload = b"PUT /2 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    left = send_on(client, GET % 1 + upload)
    backend = world.backend()
    backend.send(OK)
    while backend.read():
        left = send_on(client, left)
    assert len(backend.received) > size
    backend.send(OK)
    assert client.read().count(b"HTTP/1.1 200 OK") == 2
    world.close()


def test_an_upload_of_tiny_chunks_sent_far_ahead_is_read_on():
    """So little body in so many bytes that nobody has to stop its client, and so nobody resumed it either: 408."""
    world = World()
    client = world.client()
    size = 40_000
    upload = b"PUT /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * size + b"0\r\n\r\n"
    left = send_on(client, GET % 1 + upload)
    backend = world.backend()
    backend.send(OK)
    while backend.read():
        left = send_on(client, left)
    assert backend.received.endswith(b"\r\n0\r\n\r\n")
    backend.send(OK)
    assert client.read().count(b"HTTP/1.1 200 OK") == 2
    world.close()


def test_a_tunnel_that_its_backend_ends_is_ok_also_where_nobody_can_half_close():
    """Over Twisted's transports the end of one side is the end of all: it was logged as a client that left."""
    world = World()
    network = MemoryNetwork(world.time)
    network.listen("lb:80", lambda: Foreign(world.runtime.clock, Http1(world.engine)))
    client = ScriptedClient(network, "lb:80")
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    backend = world.backend()
    backend.send(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbye")
    backend.shut()
    assert client.received.endswith(b"\r\n\r\nbye")
    assert client.ended
    assert world.outcomes() == {"OK": 1}
    client.close()
    world.close()


def test_an_answer_until_close_is_not_ended_as_if_it_were_complete_because_its_client_half_closes():
    """A FIN would have said that this is all."""
    world = World()
    client = world.client().send(b"GET / HTTP/1.0\r\n\r\n")
    world.backend().send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert client.read().endswith(b"hello")
    client.shut()
    client.read()
    assert (client.was_reset, client.closed) == (True, False)
    assert world.outcomes() == {"CLIENT_GONE": 1}
    world.close()


def test_an_upload_is_not_too_large_because_of_the_request_that_is_sent_behind_it():
    """What came with its last bytes was counted as its own: 413."""
    world = World(limits={"body_bytes": 3})
    client = world.client().send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + GET % 2)
    world.backend().send(OK)
    world.backend().send(OK)
    assert client.read().count(b"HTTP/1.1 200 OK") == 2
    world.close()


def test_an_answer_of_a_resource_ends_its_connection_too_while_the_balancer_drains():
    """It did not say that it is the last one, and the client was to find out by a 503."""
    world = World(side="resource")
    client = world.client().send(GET % 1)
    world.plane.drain(5)
    world.backend().send(OK)
    assert b"\r\nConnection: close\r\n" in client.read()
    assert client.closed
    world.close()


def test_an_answer_to_a_request_sent_ahead_is_not_held_whole_because_the_one_before_has_not_left():
    """twisted.web begins it while its client takes nothing, and had said so to the one before: all of it was read."""
    clock = HeapClock()
    network = MemoryNetwork(clock)
    balanced = Balanced(LoadBalancerConfig(backends=["a:80"]), network)
    site = Site(BalancedReverseProxyResource(balanced.frontend), reactor=clock, timeout=None)
    network.listen("web:80", lambda: site.buildProtocol(None))
    head = b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: %d\r\n\r\n"
    sizes = (2 * CAPACITY_BYTES, 5_000_000)  # the first is over the mark with its last piece
    ScriptedBackend(network, "a:80", [head % size + b"x" * size for size in sizes])
    client = ScriptedClient(network, "web:80")
    client.stop_reading()
    client.send(GET % 1 + GET % 2)
    clock.settle()
    (unsent,) = (end.unsent for end in network.open_connections if end.getHost().host == "web")
    assert unsent < 3 * HIGH_WATER_BYTES
    client.go_on_reading()
    clock.settle()
    assert client.received.count(b"x") == sum(sizes)
    client.close()
    balanced.close()
    clock.settle()


@pytest.mark.parametrize("quiet_s", [5.99, 9.19])  # where the wheel of deadlines does not round the loss away
def test_an_idle_client_has_all_of_its_half_second_when_a_drain_begins(quiet_s):
    """It was counted from when something had happened last, up to a tenth of a second before."""
    world = World(client_idle_s=100)
    client = world.client()
    world.advance(quiet_s)
    world.plane.drain(5)
    world.advance(0.495)
    client.send(GET % 1)
    world.backend().send(OK)
    assert client.read().startswith(b"HTTP/1.1 200 OK")
    world.close()


class Deaf:
    """A transport of somebody else's, which delivers while it is paused: what a TLS layer had decrypted already."""

    paused = False

    def __getattr__(self, name):
        return lambda *words: None

    def pauseProducing(self):
        self.paused = True

    def resumeProducing(self):
        self.paused = False

    def getPeer(self):
        return IPv4Address("TCP", "192.0.2.7", 4711)

    getHost = getPeer


def test_a_body_that_is_delivered_while_nobody_takes_it_is_read_on_afterwards():
    """Above 64 KiB it counted as requests sent ahead, which are read on only when the answer has gone: 408."""
    world, transport = World(), Deaf()
    foreign = Foreign(world.runtime.clock, Http1(world.engine))
    foreign.makeConnection(transport)
    foreign.dataReceived(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 66000)
    foreign.dataReceived(b"x" * 66000)
    assert transport.paused
    world.backend().read()
    assert not transport.paused
    foreign.connectionLost(Failure(ConnectionDone()))
    world.close()


def test_a_request_that_comes_in_the_turn_in_which_a_backend_is_back_is_not_refused_because_the_queue_is_still_full():
    """Those who waited were served at the end of that turn, and whoever came before was told 503."""
    clock = HeapClock()
    network = MemoryNetwork(clock)

    def hear(event: Event) -> None:
        if isinstance(event, PoolRecovered):
            late.dataReceived(GET % 2)

    config = LoadBalancerConfig(backends=["a:80"], queue={"length": 1}, health_check={"interval_s": 1000.0})
    balanced = Balanced(config, network, hear=hear)
    ScriptedBackend(network, "a:80")
    late = Foreign(balanced.runtime.clock, Http1(balanced.frontend))
    late.makeConnection(Deaf())
    balanced.cluster.observe_probe("a:80", False, "refused", silent=True)
    first = ScriptedClient(network, "lb:8080").send(GET % 1)
    clock.settle()
    assert balanced.cluster.snapshot().waiting == 1
    balanced.cluster.observe_probe("a:80", True, "status 200")
    clock.settle()
    assert [record.status for record in balanced.records] == [200, 200]
    first.close()
    late.connectionLost(Failure(ConnectionDone()))
    balanced.close()
    clock.settle()


def unsent(world: World) -> int:
    """Bytes that the kernel has not taken, for all clients."""
    return sum(one.transport.unsent for one in world.engine.clients)


def test_who_sends_more_though_it_said_that_it_would_not_gets_all_of_its_answer():
    """What waited for room was sent, and the close behind it, with the rest unread, was a reset that took it away."""
    world = World()
    client = world.client()
    client.send(b"GET /1 HTTP/1.0\r\nHost: a\r\n\r\n")
    backend = world.backend()
    assert backend.read()
    backend.send(b"HTTP/1.1 200 OK\r\nDate: d\r\n\r\n")
    sent = 0
    while not unsent(world):
        backend.send(b"x" * 10_000)
        sent += 10_000
    backend.close()
    world.run()
    assert unsent(world)
    client.sock.send(GET % 2)
    received = b""
    while piece := client.sock.recv(5000):
        received += piece
        world.run()
    assert received.partition(b"\r\n\r\n")[2] == b"x" * sent
    world.close()
