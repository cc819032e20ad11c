"""What TLS has agreed on with a client, as records and explanations tell it: of requests that went well, that failed, that were refused."""

import hashlib
import ssl

import pytest
from tls_peers import Chosen, Policy, Serving, TlsEnd, authority
from wires import stream_pair
from world import TlsPeer, World

from twisted_lb.core.agreed import Agreed

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Told:
    """A world over TLS, and the records of its requests."""

    def __init__(self, **options):
        self.records = []
        self.world = World(side="tls", observers=(self.records.append,), **options)

    def ask(self, client, request=GET, answer=OK):
        client.send(request)
        if answer:
            self.world.backend().read()
            self.world.backend().send(answer)
        self.world.run()
        client.read()

    def explained(self, kind="recent"):
        return self.world.plane.explained(kind, 10)


@pytest.fixture
def told():
    made = []

    def one(**options):
        made.append(Told(**options))
        return made[-1]

    yield one
    for each in made:
        each.world.close()


def with_a_certificate(world):
    """A client that shows a certificate to a listener that asks for one; and that certificate."""
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("localhost").configure_cert(asking)
    authority().configure_trust(asking)
    asking.verify_mode = ssl.CERT_OPTIONAL
    world.engine.serving = Serving(Chosen(asking, Policy("mTLS", "request")))
    context = ssl.create_default_context()
    authority().configure_trust(context)
    leaf = authority().issue_cert("alice.example.com", organization_name="Example")
    leaf.configure_cert(context)
    near, far = stream_pair()
    client = world.tls_client(near, TlsPeer(world, far, TlsEnd(context)))
    return client, ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def test_a_record_says_version_cipher_and_name(told):
    one = told()
    client = one.world.client()
    one.ask(client)
    one.ask(client)
    agreed = one.records[0].agreed
    assert (agreed.version, agreed.cipher) == (client.end.tls.version(), client.end.tls.cipher()[0])
    assert (agreed.server_name, agreed.resumed, agreed.subject, agreed.fingerprint) == ("localhost", False, "", "")
    assert one.records[1].agreed is agreed, "it is found out once for a connection"


@pytest.mark.parametrize("side", ["engine", "resource"])
def test_of_a_client_without_tls_nothing_is_said(side):
    records = []
    world = World(side=side, observers=(records.append,))
    client = world.client().send(GET)
    world.backend().read()
    world.backend().send(OK)
    client.read()
    assert [one.agreed for one in records] == [None]
    assert [one.agreed for one in world.plane.explained("recent", 10)] == [None]
    world.close()


def test_the_certificate_of_a_client_is_named(told):
    one = told()
    client, der = with_a_certificate(one.world)
    one.ask(client)
    agreed = one.records[0].agreed
    assert agreed.subject.endswith("O=Example")
    assert agreed.fingerprint == hashlib.sha256(der).hexdigest()
    [explained] = one.explained()
    assert str(explained.agreed) == f"{agreed.version} (localhost), certificate {agreed.subject}"


def test_a_plain_request_is_explained_with_it_and_its_place_in_the_ring_is_anothers_later(told):
    one = told()
    over_tls = one.world.client()
    for _ in range(3):
        one.ask(over_tls)
    assert {explained.agreed.version for explained in one.explained()} == {over_tls.end.tls.version()}
    one.world.serving = one.world.engine.serving = None
    plain = one.world.client()
    for _ in range(1024):
        one.ask(plain)
    assert {explained.agreed for explained in one.explained()} == {None}


def test_what_failed_and_what_was_refused_says_it_too(told):
    one = told()
    client = one.world.client()
    one.ask(client, GET, b"nonsense\r\n\r\n")
    [failed] = one.explained("failed")
    assert failed.agreed is one.records[0].agreed is not None
    one.ask(one.world.client(), b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", b"")
    [refused] = one.explained("refused")
    assert refused.agreed is one.records[1].agreed is not None
    assert one.records[1].status == 400


def test_a_request_that_runs_says_it(told):
    one = told()
    client = one.world.client().send(GET)
    one.world.backend().read()
    [running] = one.explained("running")
    assert running.agreed.server_name == "localhost"
    one.world.backend().send(OK)
    client.read()


def test_in_a_few_words():
    assert str(Agreed("TLSv1.3", "X")) == "TLSv1.3"
    whole = Agreed("TLSv1.2", "X", "a.test", resumed=True, subject="CN=alice", fingerprint="ab12")
    assert str(whole) == "TLSv1.2 (a.test), resumed, certificate CN=alice"
    nameless = Agreed("TLSv1.3", "X", fingerprint="ab12")
    assert str(nameless) == "TLSv1.3, certificate ab12"
