"""HTTP/2 to backends over TLS: what is offered and chosen (ALPN), and what becomes of who chooses otherwise."""

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from street import GET, OK, A, Street, at

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.errors import ConfigError
from twisted_lb.plan import plan_of


class Town(Street):
    """A street whose backends choose one of these protocols, where they are offered."""

    chosen: tuple[str, ...] = ("h2",)

    def serving(self, *names, **more):
        context = super().serving(*names, **more)
        if self.chosen:
            context.set_alpn_protocols(list(self.chosen))
        return context


@pytest.fixture
def town(tmp_path):
    one = Town(tmp_path)
    yield one
    for world in one.worlds:
        world.close()


def answer_all(peer, h2, body=b"ok"):
    """Answer what has come; how many requests that were."""
    count = 0
    for event in h2.receive_data(peer.read()):
        if isinstance(event, RequestReceived):
            count += 1
            h2.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(len(body)))])
            h2.send_data(event.stream_id, body, end_stream=True)
    peer.send(h2.data_to_send())
    return count


def http2_server(peer):
    h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    h2.initiate_connection()
    peer.send(h2.data_to_send())
    return h2


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_who_chooses_http2_is_spoken_to_in_it_and_its_connection_is_shared(town, protocol):
    world = town.world(pool={"protocol": protocol})
    clients = [world.client().send(GET) for _ in range(3)]
    assert len(world.backend_connections) == 1
    peer = at(world).up()
    assert peer.end.tls.selected_alpn_protocol() == "h2"
    h2 = http2_server(peer)
    assert answer_all(peer, h2) == 3
    assert all(client.read().endswith(b"\r\n\r\nok") for client in clients)
    clients[0].send(GET)
    assert answer_all(peer, h2) == 1
    assert clients[0].read().endswith(b"ok")
    assert len(world.backend_connections) == 1


@pytest.mark.parametrize(
    ("offered", "wires"), [(("h2",), (0, 1, 2, "h2")), (("http/1.1",), (2, 0, 0, "h1")), ((), (2, 0, 0, "h1"))]
)
def test_what_a_backend_has_chosen_is_remembered_and_told(town, offered, wires):
    town.chosen = offered
    world = town.world(pool={"protocol": "auto"})
    backend = world.pool.backends[A]
    assert world.cluster.wires() == {}
    for _ in range(2):
        world.client().send(GET)
    peer = at(world).up()
    if "h2" in offered:
        http2_server(peer)
    else:
        at(world, 1).up()
    told = world.cluster.wires()[backend]
    assert (told.http1, told.http2, told.calls, told.chose) == wires
    world.cluster.close_all()
    assert world.cluster.wires()[backend].chose == wires[3]


@pytest.mark.parametrize("protocol", ["h1", "h2"])
def test_who_has_no_choice_has_chosen_nothing(town, protocol):
    town.chosen = ("h2", "http/1.1")
    world = town.world(pool={"protocol": protocol})
    world.client().send(GET)
    at(world).up()
    assert world.cluster.wires()[world.pool.backends[A]].chose == ""


@pytest.mark.parametrize("chosen", [("http/1.1",), ()])
def test_who_does_not_choose_it_is_refused_with_the_reason_where_nothing_else_is_spoken(town, chosen):
    town.chosen = chosen
    world = town.world(pool={"protocol": "h2", "retry": {"more_attempts": 0}})
    client = world.client().send(GET)
    peer = at(world)
    for _ in range(3):
        peer.shake()
    assert client.read().startswith(b"HTTP/1.1 502 ")
    assert world.pool.backends[A].ejection.active
    assert "does not take HTTP/2" in world.events[0].because


@pytest.mark.parametrize("chosen", [("http/1.1",), ()])
def test_who_chooses_http1_is_spoken_to_in_that_and_each_request_has_a_connection(town, chosen):
    town.chosen = chosen
    world = town.world(pool={"protocol": "auto"})
    clients = [world.client().send(GET) for _ in range(3)]
    at(world, 0).up()
    assert len(world.backend_connections) == 3  # the others waited for that one to be of HTTP/2
    peers = [at(world, number) for number in range(3)]
    for peer in peers:
        peer.up()
        assert peer.read().startswith(b"GET / HTTP/1.1\r\n")
        peer.send(OK)
    assert all(client.read().endswith(b"ok") for client in clients)
    clients[0].send(GET)
    assert len(world.backend_connections) == 3
    for peer in peers:
        if peer.read():
            peer.send(OK)
    assert clients[0].read().endswith(b"ok")


def test_without_tls_auto_is_http1():
    config = LoadBalancerConfig.model_validate({"pools": {"a": {"backends": ["a:80"], "protocol": "auto"}}})
    assert plan_of(config).pools["a"].upstream.protocol == "h1"


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_a_proxy_header_is_of_one_client_and_does_not_go_with_shared_connections(protocol):
    pool = {"backends": ["a:80"], "protocol": protocol, "send_proxy": "v2"}
    with pytest.raises((ValueError, ConfigError), match="connections are shared: one of both"):
        LoadBalancerConfig.model_validate({"pools": {"a": pool}})
