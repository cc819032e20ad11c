"""The origin of a request: who the client is after trusted proxies, and that the two families of fields never disagree."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core.networks import Networks
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.origin import Client, Origin, Trust
from twisted_lb.wire.request import parse_request_fields
from twisted_lb.wire.rewrite import Forwarding, upstream_tail

PROXIES = Networks(["10.0.0.0/8", "2001:db8:f::/48"])


def proxy(family: str = "any") -> Client:
    return Client(b"10.0.0.1", b"http", b"9100", trusted=True, trust=Trust(PROXIES, family))


def origin(*claims: bytes, family: str = "any", host: bytes = b"inner:9100") -> Origin:
    fields, _ = parse_request_fields(11, b"\r\n".join([b"Host: " + host, *claims]), Limits())
    return Origin(proxy(family), fields.host, fields.claims)


def said(*claims: bytes, family: str = "any", host: bytes = b"inner:9100") -> dict[bytes, bytes]:
    """What a backend is told, by name, Forwarded included."""
    fields, _ = parse_request_fields(11, b"\r\n".join([b"Host: " + host, *claims]), Limits())
    tail = upstream_tail(fields, proxy(family), Forwarding(forwarded=True))
    return dict(line.split(b": ", 1) for line in tail.split(b"\r\n") if line)


@pytest.mark.parametrize(
    ("seen", "client"),
    [
        (b"198.51.100.7", b"198.51.100.7"),
        (b"6.6.6.6, 198.51.100.7", b"198.51.100.7"),
        (b"6.6.6.6, 198.51.100.7, 10.9.9.9", b"198.51.100.7"),
        (b"10.1.1.1, 10.2.2.2", b"10.1.1.1"),
        (b"198.51.100.7:47011", b"198.51.100.7"),
        (b"[2001:db8::7]:47011", b"2001:db8::7"),
        (b"2001:DB8:0::7, 2001:db8:f::1", b"2001:db8::7"),
        (b"::ffff:198.51.100.7", b"198.51.100.7"),
        (b"198.51.100.7, ::ffff:10.0.0.9", b"198.51.100.7"),
        # Whoever names what is no address is the last one that is known.
        (b"unknown", b"10.0.0.1"),
        (b"198.51.100.7, unknown, 10.2.2.2", b"10.2.2.2"),
        (b"198.51.100.7 GET /forged 200", b"10.0.0.1"),
        (b"6.6.6.6:x", b"10.0.0.1"),
        (b"300.1.2.3", b"10.0.0.1"),
        (b", ,", b"10.0.0.1"),
    ],
)
def test_the_client_is_the_last_one_named_who_is_no_proxy(seen, client):
    assert origin(b"X-Forwarded-For: " + seen).address == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (b"for=198.51.100.7", b"198.51.100.7"),
        (b'For="[2001:db8::7]:47011";by=10.0.0.1', b"2001:db8::7"),
        (b"for=6.6.6.6, for=198.51.100.7;proto=https,for=10.3.3.3", b"198.51.100.7"),
        (b'for="198.51.100.7:80"', b"198.51.100.7"),
        (b"for=198.51.100.7:80", b"198.51.100.7"),
        (b'for="_hidden, for=6.6.6.6"', b"10.0.0.1"),
        (b"for=_hidden", b"10.0.0.1"),
        (b"for=198.51.100.7;for=6.6.6.6", b"10.0.0.1"),
        (b"for=198.51.100.7 for=6.6.6.6", b"10.0.0.1"),
        (b'for="198.51.100.7', b"10.0.0.1"),
    ],
)
def test_forwarded_names_the_client_too(forwarded, client):
    assert origin(b"Forwarded: " + forwarded).address == client


def test_nobody_but_a_trusted_proxy_names_a_client():
    stranger = Client(b"192.0.2.1", trust=Trust(PROXIES))
    assert Origin(stranger, b"h", {b"x-forwarded-for": b"6.6.6.6"}).address == b"192.0.2.1"


def test_a_proxy_that_ends_tls_and_says_so_in_one_family_says_so_in_both():
    """Another port of ours beside its scheme, or our own scheme in Forwarded, would make wrong links."""
    told = said(b"X-Forwarded-For: 198.51.100.7", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: site.example:9443")
    assert told == {
        b"X-Forwarded-For": b"198.51.100.7, 10.0.0.1",
        b"X-Forwarded-Proto": b"https",
        b"X-Forwarded-Host": b"site.example:9443",
        b"X-Forwarded-Port": b"9443",
        b"Forwarded": b'for=198.51.100.7;proto=https;host="site.example:9443", '
        b'for=10.0.0.1;proto=https;host="site.example:9443"',
    }


def test_a_proxy_that_speaks_forwarded_is_understood_by_backends_that_do_not():
    told = said(b'Forwarded: for="[2001:db8::7]:47011";proto=https;host=site.example;by=_edge')
    assert told == {
        b"X-Forwarded-For": b"2001:db8::7, 10.0.0.1",
        b"X-Forwarded-Proto": b"https",
        b"X-Forwarded-Host": b"site.example",
        b"X-Forwarded-Port": b"443",
        b"Forwarded": b'for="[2001:db8::7]:47011";proto=https;host=site.example;by=_edge, '
        b"for=10.0.0.1;proto=https;host=site.example",
    }


@pytest.mark.parametrize(
    ("claims", "port"),
    [
        ((), b"9100"),
        ((b"X-Forwarded-Proto: https",), b"9100"),  # the Host that came with it says so
        ((b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a"), b"443"),
        ((b"X-Forwarded-Host: a",), b"80"),
        ((b"X-Forwarded-Host: a:81", b"X-Forwarded-Port: 82"), b"82"),
        ((b"X-Forwarded-Host: [::1]", b"X-Forwarded-Proto: https"), b"443"),
        ((b"X-Forwarded-Port: x",), b"9100"),
        ((b"X-Forwarded-Ssl: on", b"X-Forwarded-Host: a"), b"443"),
        ((b"X-Forwarded-Proto: gopher", b"X-Forwarded-Host: a"), None),
    ],
)
def test_the_port_is_the_one_that_the_client_of_the_proxy_came_to(claims, port):
    assert said(*claims).get(b"X-Forwarded-Port") == port


def test_our_port_stands_for_nobody_whose_proxy_came_without_one():
    assert said(b"X-Forwarded-Proto: https", host=b"inner")[b"X-Forwarded-Port"] == b"443"
    assert said(host=b"inner")[b"X-Forwarded-Port"] == b"9100"


@pytest.mark.parametrize(
    ("claims", "passed"),
    [
        ((b"X-Forwarded-Ssl: on",), b"on"),
        ((b"X-Forwarded-Ssl: on", b"X-Forwarded-Proto: https"), b"on"),
        ((b"X-Forwarded-Ssl: on", b"X-Forwarded-Proto: http"), None),
        ((b"X-Forwarded-Ssl: off", b"X-Forwarded-Proto: https"), None),
        ((b"Forwarded: for=1.2.3.4;proto=https", b"X-Forwarded-Ssl: off"), b"off"),
    ],
)
def test_the_scheme_by_another_name_passes_where_it_is_the_one_that_we_say(claims, passed):
    told = said(*claims)
    assert told.get(b"X-Forwarded-Ssl") == passed
    if passed is not None:
        assert told[b"X-Forwarded-Proto"] == (b"https" if passed == b"on" else b"http")


def test_what_is_said_of_several_is_believed_of_the_client():
    """The proxy next to us appends to what it was sent; what stands before the client is the client's own word."""
    lists = (b"X-Forwarded-Proto: gopher, https, http", b"X-Forwarded-Host: evil, site, inside")
    told = said(b"X-Forwarded-For: 6.6.6.6, 198.51.100.7, 10.2.2.2", *lists)
    assert (told[b"X-Forwarded-Proto"], told[b"X-Forwarded-Host"]) == (b"https", b"site")
    told = said(b"Forwarded: for=6.6.6.6;proto=gopher;host=evil, for=198.51.100.7;proto=https;host=site, for=10.2.2.2")
    assert (told[b"X-Forwarded-Proto"], told[b"X-Forwarded-Host"]) == (b"https", b"site")


BOTH = (b"X-Forwarded-For: 198.51.100.7", b"X-Forwarded-Proto: https", b"Forwarded: for=6.6.6.6;proto=http;host=evil")


@pytest.mark.parametrize(
    ("family", "client", "scheme"),
    [
        ("any", b"198.51.100.7", b"https"),
        ("x-forwarded", b"198.51.100.7", b"https"),
        ("forwarded", b"6.6.6.6", b"http"),
    ],
)
def test_of_two_families_that_disagree_one_is_believed_and_both_are_told_of_it(family, client, scheme):
    told = said(*BOTH, family=family)
    assert told[b"X-Forwarded-For"] == client + b", 10.0.0.1"
    assert told[b"X-Forwarded-Proto"] == scheme
    assert told[b"Forwarded"].startswith(b"for=" + client)
    assert told[b"Forwarded"].count(b";proto=" + scheme) == 2


def test_a_family_that_is_not_believed_says_nothing():
    told = said(b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https", family="forwarded")
    assert (told[b"X-Forwarded-For"], told[b"X-Forwarded-Proto"]) == (b"10.0.0.1", b"http")
    told = said(b"Forwarded: for=6.6.6.6;proto=https", family="x-forwarded")
    assert (told[b"X-Forwarded-For"], told[b"X-Forwarded-Proto"]) == (b"10.0.0.1", b"http")
    assert told[b"Forwarded"] == b'for=10.0.0.1;proto=http;host="inner:9100"'


@pytest.mark.parametrize(
    "claim", [b'X-Forwarded-Host: a"b', b"X-Forwarded-Host: a, b c", b"X-Forwarded-Proto: ht tp", b"Forwarded: ;;,,"]
)
def test_what_is_no_scheme_and_no_host_is_not_believed(claim):
    told = said(claim)
    assert told[b"X-Forwarded-Proto"] == b"http"
    assert told[b"X-Forwarded-Host"] in (b"inner:9100", b"a")


def test_a_long_list_does_not_become_many_times_as_long():
    """What a client writes in front of itself costs a backend no more than the proxy's own word of it."""
    host = b"h" * 4000
    told = said(b"X-Forwarded-For: " + b", ".join([b"6.6.6.6"] * 1000 + [b"198.51.100.7"]), host=host)
    assert told[b"Forwarded"].count(host) == 2
    assert len(told[b"Forwarded"]) < 2 * len(told[b"X-Forwarded-For"]) + 3 * len(host)


NODES = st.sampled_from(
    [b"198.51.100.7", b"198.51.100.7:80", b"[::1]", b"[::1]:80", b"2001:db8::1", b"::ffff:1.2.3.4", b"unknown", b"_x"]
) | st.from_regex(rb"[!-+\--~]{1,8}", fullmatch=True)
PAIR = re.compile(rb'([a-z]+)=([^";,]+|"[^"\\]*")')


@given(st.lists(NODES, min_size=1, max_size=4), st.sampled_from([b"http", b"HTTPS", b'"', b"a, b"]), st.booleans())
def test_whatever_a_proxy_claims_the_families_agree_and_name_as_many(nodes, scheme, in_forwarded):
    if in_forwarded:
        claims = [b"Forwarded: " + b", ".join(b'for="' + node.replace(b'"', b'\\"') + b'"' for node in nodes)]
    else:
        claims = [b"X-Forwarded-For: " + b", ".join(nodes), b"X-Forwarded-Proto: " + scheme]
    told = said(*claims)
    # What we wrote ourselves is at the end; what it is read from is the proxy's own text where that was Forwarded.
    last = told[b"Forwarded"].rpartition(b", ")[2]
    element = {name: value.strip(b'"') for name, value in PAIR.findall(last)}
    assert element == {b"for": b"10.0.0.1", b"proto": told[b"X-Forwarded-Proto"], b"host": told[b"X-Forwarded-Host"]}
    assert told[b"X-Forwarded-For"].endswith(b"10.0.0.1")
    if not in_forwarded:
        elements = told[b"Forwarded"].split(b", ")
        assert len(elements) == len(told[b"X-Forwarded-For"].split(b", "))
        assert all(PAIR.sub(b"", one).strip(b";") == b"" for one in elements)


def test_x_real_ip_is_the_clients_and_nobody_elses():
    fields, _ = parse_request_fields(
        11,
        b"Host: h\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Prefix: /app",
        Limits(claims=(b"x-forwarded-*", b"x-real-ip")),
    )
    told = Forwarding(real_ip=True)
    assert b"\r\nX-Forwarded-Prefix: /app\r\nX-Real-IP: 198.51.100.7\r\n\r\n" in upstream_tail(fields, proxy(), told)
    stranger = upstream_tail(fields, Client(b"2001:db8::1"), told)
    assert stranger.endswith(b"\r\nX-Real-IP: 2001:db8::1\r\n\r\n")
    assert b"Prefix" not in stranger
    assert b"X-Real-IP" not in upstream_tail(fields, Client(b"unix"), told)
    assert b"\r\nX-Real-IP: 6.6.6.6\r\nX-Forwarded-Prefix: /app\r\n\r\n" in upstream_tail(fields, proxy())
    assert b"6.6.6.6" not in upstream_tail(fields, Client(b"192.0.2.1"))


@pytest.mark.parametrize("zone", [b"eth0", b"\xe9", b'x";host="evil.example', b"a;b=c", b""])
@pytest.mark.parametrize("node", [b"2001:db8::1%%%b", b"[2001:db8::1%%%b]", b"[2001:db8::1%%%b]:443"])
def test_a_zone_is_nobodys_address_and_cannot_end_a_quoted_value(node, zone):
    claims = b"X-Forwarded-For: " + node % zone
    told = said(claims)
    if zone:
        assert origin(claims).address == b"2001:db8::1"
        assert told[b"Forwarded"].startswith(b'for="[2001:db8::1]";proto=http;host="inner:9100", ')
    else:
        assert origin(claims).address == b"10.0.0.1"
        assert told[b"Forwarded"].startswith(b"for=unknown, ")


def test_a_zone_in_forwarded_is_nobodys_address():
    assert origin(b'Forwarded: for="[2001:db8::1%\xe9]:443"').address == b"2001:db8::1"
