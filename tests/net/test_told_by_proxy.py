"""What a balancer in front tells of a connection in its PROXY header: in records, and for who asks later."""

import pytest
from arriving import GET, OK, Gateway, answered
from world import TlsPeer

from twisted_lb.core.agreed import ToldByProxy
from twisted_lb.net.proxied import told_by
from twisted_lb.wire.proxy_protocol import (
    ALPN,
    AUTHORITY,
    AWS,
    AZURE,
    CLIENT_CERT_CONN,
    CLIENT_SSL,
    GCP,
    SSL,
    UNIQUE_ID,
    proxy_v1,
    proxy_v2,
    read_proxy,
    ssl_value,
)

ADDRESSES = ("203.0.113.7", 51_234, "198.51.100.1", 443)
PROXY = ("10.1.2.3", 1000)
WHOLE = [
    (ALPN, b"http/1.1"),
    (AUTHORITY, b"shop.example"),
    (UNIQUE_ID, b"id-1"),
    (SSL, ssl_value("TLSv1.3", "TLS_X", "alice", CLIENT_SSL | CLIENT_CERT_CONN, verified=True)),
    (AWS, b"\x01vpce-08d2bf15fac5001c9"),
    (AZURE, b"\x01\x45\x23\x01\x00"),
]


def header(*tlvs: tuple[int, bytes]) -> bytes:
    return proxy_v2(*ADDRESSES, tlvs)


def said(*tlvs: tuple[int, bytes]) -> ToldByProxy | None:
    read = read_proxy(header(*tlvs))
    assert read is not None
    return told_by(read)


@pytest.fixture
def make():
    gateways = []

    def one(side: str = "engine", **options) -> Gateway:
        gateways.append(Gateway(side, forwarding={"proxy_protocol": "require"}, **options))
        return gateways[-1]

    yield one
    for gateway in gateways:
        gateway.close()


# What is taken from a header.


def test_each_part_is_taken_as_text():
    told = said(*WHOLE)
    assert (told.alpn, told.authority, told.unique_id) == ("http/1.1", "shop.example", "id-1")
    assert (told.tls_version, told.tls_cipher, told.client_cn, told.client_verified) == (
        "TLSv1.3",
        "TLS_X",
        "alice",
        True,
    )
    assert (told.aws_vpce_id, told.azure_pel_id) == ("vpce-08d2bf15fac5001c9", str(0x12345))


def test_the_connection_of_google_s_private_service_connect_is_told_as_its_number():
    told = said((GCP, (18446744073709551615).to_bytes(8, "big")))
    assert told.gcp_conn_id == "18446744073709551615"
    assert str(told) == "endpoint 18446744073709551615"


@pytest.mark.parametrize(
    "tlvs",
    [
        (),
        ((GCP, b"1234567"),),
        ((AUTHORITY, b""),),
        ((SSL, b"\0\0\0\0\0"),),
        ((AWS, b"\x02vpce-1"), (AZURE, b"\x02\x01\0\0\0")),
        ((AZURE, b"\x01\x01\0\0"),),
        ((AWS, b""), (AZURE, b"")),
    ],
)
def test_where_nothing_is_said_that_is_logged_nothing_is_kept(tlvs):
    assert said(*tlvs) is None


def test_version_1_has_nothing_more():
    assert told_by(read_proxy(proxy_v1(*ADDRESSES))) is None


@pytest.mark.parametrize("kind", [ALPN, AUTHORITY])
def test_what_is_no_printable_ascii_is_escaped_and_what_is_long_is_cut(kind):
    told = said((kind, b'a\r\n\x1b[31m"\xff' + b"b" * 1000))
    text = told.alpn if kind == ALPN else told.authority
    assert text.isascii()
    assert text.isprintable()
    assert text.startswith(r"a\x0d\x0a\x1b[31m" + '"')
    assert len(text) < 1024
    assert text.endswith("b")


def test_an_id_that_is_no_text_is_escaped():
    assert said((UNIQUE_ID, b"\x00\xffid")).unique_id == r"\x00\xffid"


@pytest.mark.parametrize(
    ("tlvs", "words"),
    [
        (
            WHOLE,
            "TLSv1.3 (shop.example), certificate CN=alice, id id-1, endpoint vpce-08d2bf15fac5001c9, endpoint 74565",
        ),
        ([(AUTHORITY, b"a.b")], "(a.b)"),
        ([(UNIQUE_ID, b"x")], "id x"),
        ([(ALPN, b"h2")], "protocol h2"),
        (
            [(SSL, ssl_value("TLSv1.2", "X", "bob", CLIENT_SSL | CLIENT_CERT_CONN))],
            "TLSv1.2, certificate CN=bob (not verified)",
        ),
    ],
    ids=["whole", "authority", "id", "alpn", "not verified"],
)
def test_in_a_few_words(tlvs, words):
    assert str(said(*tlvs)) == words


# Where it goes.


def test_all_requests_of_a_connection_in_the_clear_have_it_and_it_is_found_out_once(make):
    gateway = make()
    client = gateway.come(peer=PROXY).send(header(*WHOLE) + GET)
    answered(client)
    client.send(GET)
    gateway.world.backend().read()
    gateway.world.backend().send(OK)
    client.read()
    first, second = gateway.records
    assert first.agreed is second.agreed
    assert (first.agreed.version, first.agreed.told.unique_id) == ("", "id-1")
    explained = gateway.world.plane.explained("recent", 10)
    assert [one.agreed.told.authority for one in explained] == ["shop.example"] * 2


def test_over_tls_it_stands_beside_what_our_own_handshake_has_agreed_on(make):
    gateway = make("tls")
    client = gateway.enter(before=header(*WHOLE), peer=PROXY)
    assert isinstance(client, TlsPeer)
    answered(client.send(GET))
    [record] = gateway.records
    assert record.agreed.version == client.end.tls.version()
    assert record.agreed.told.tls_version == "TLSv1.3"
    [explained] = gateway.world.plane.explained("recent", 10)
    assert explained.agreed is record.agreed


def test_a_header_with_addresses_alone_leaves_no_trace_of_that(make):
    gateway = make()
    answered(gateway.come(peer=PROXY).send(header() + GET))
    assert [one.agreed for one in gateway.records] == [None]
    assert not gateway.frontend.agreeing


def test_a_connection_that_was_told_nothing_says_nothing_beside_one_that_was(make):
    gateway = make()
    answered(gateway.come(peer=PROXY).send(header(*WHOLE) + GET))
    answered(gateway.come(peer=PROXY).send(header() + GET))
    assert [one.agreed is None for one in gateway.records] == [False, True]
    assert [one.agreed is None for one in gateway.world.plane.explained("recent", 10)] == [True, False]


def test_what_is_refused_before_it_is_a_request_has_it_too(make):
    gateway = make()
    client = gateway.come(peer=PROXY).send(header(*WHOLE) + b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert gateway.records[0].agreed.told.unique_id == "id-1"


def test_plain_http_on_a_port_for_tls_is_recorded_with_it(make):
    gateway = make("tls")
    client = gateway.come(peer=PROXY).send(header(*WHOLE) + GET)
    assert client.read().startswith(b"HTTP/1.1 400 ")
    assert gateway.records[0].agreed.told.unique_id == "id-1"
