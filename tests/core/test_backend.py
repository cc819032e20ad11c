"""Addresses and specs as people write them."""

import pytest

from twisted_lb.core.backend import AdminState, Backend, BackendSpec, TcpAddress, UnixAddress, parse_address

GOOD = [
    ("localhost:80", TcpAddress("localhost", 80), "localhost:80"),
    ("1.2.3.4:65535", TcpAddress("1.2.3.4", 65535), "1.2.3.4:65535"),
    ("[::1]:8080", TcpAddress("::1", 8080), "[::1]:8080"),
    ("[fe80::1%eth0]:1", TcpAddress("fe80::1%eth0", 1), "[fe80::1%eth0]:1"),
    ("my_app.internal.:8000", TcpAddress("my_app.internal.", 8000), "my_app.internal.:8000"),
    ("unix:/run/app.sock", UnixAddress("/run/app.sock"), "unix:/run/app.sock"),
    (f"{'a' * 63}.b:1", TcpAddress(f"{'a' * 63}.b", 1), f"{'a' * 63}.b:1"),
    ("[::ffff:1.2.3.4]:1", TcpAddress("::ffff:1.2.3.4", 1), "[::ffff:1.2.3.4]:1"),
    ("0.0.0.0:1", TcpAddress("0.0.0.0", 1), "0.0.0.0:1"),
    ("unix:/" + "x" * 106, UnixAddress("/" + "x" * 106), "unix:/" + "x" * 106),
]
BAD = [
    ("", "no port"),
    ("host", "no port"),
    ("[::1]", "no port"),
    (":80", "no host"),
    ("host:", "not a port"),
    ("host:0", "not a port"),
    ("host:65536", "not a port"),
    ("host:-1", "not a port"),
    ("host:http", "not a port"),
    ("host:8 0", "not a port"),
    ("host:٣", "not a port"),
    ("::1:80", "brackets"),
    ("[::g]:80", "not an IPv6"),
    ("[1.2.3.4]:80", "not an IPv6"),
    ("[::1:80", "not an IPv6"),
    ("::1]:80", "not an IPv6"),
    ("256.1.1.1:80", "not an IPv4"),
    ("1.2.3:80", "not an IPv4"),
    ("10.0.0.010:80", "not an IPv4"),  # resolvers read it as octal
    ("ho st:80", "not a host name"),
    ("host/path:80", "not a host name"),
    ("-host:80", "not a host name"),
    ("a..b:80", "not a host name"),
    ("http://host:80", "brackets"),
    ("a-:80", "not a host name"),
    (".a:80", "not a host name"),
    (" a:80", "not a host name"),
    ("a\n:80", "not a host name"),
    ("\u212a:80", "not a host name"),  # a Kelvin sign, which is no k
    (f"{'a' * 64}:80", "not a host name"),  # the resolver raises for such a label
    (f"x.{'a' * 64}.y:80", "not a host name"),
    ("a" * 5000 + ":80", "not a host name"),
    (".".join(["a" * 60] * 5) + ":80", "not a host name"),
    ("12345:80", "not an IPv4"),
    ("1.2.3.4.:80", "not an IPv4"),
    ("a:80\n", "not a port"),
    ("[]:80", "not an IPv6"),
    ("[::1]x:80", "not an IPv6"),
    ("[1::2::3]:80", "not an IPv6"),
    ("[::1%]:80", "not an IPv6"),
    ("unix:/" + "x" * 107, "unix socket can have"),
    ("unix:relative.sock", "absolute path"),
    ("unix:", "absolute path"),
    ("unix:/" + "x" * 200, "unix socket can have"),
    ("unix:/run/", "unix socket can have"),
    ("unix:/run/a\nb", "unix socket can have"),
    ("unix:/run/\udcff", "unix socket can have"),
]


@pytest.mark.parametrize(("text", "address", "shown"), GOOD)
def test_a_good_address_is_understood_and_shown_as_written(text, address, shown):
    assert parse_address(text) == address
    assert str(address) == shown


@pytest.mark.parametrize(("text", "why"), BAD)
def test_a_bad_address_is_one_line_that_names_the_fault(text, why):
    with pytest.raises(ValueError, match=why) as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_spec_has_a_weight_if_it_says_so():
    assert BackendSpec.parse("a:80") == BackendSpec("a:80", TcpAddress("a", 80), 1)
    assert BackendSpec.parse("a:80,weight=3") == BackendSpec("a:80", TcpAddress("a", 80), 3)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a:80,weight=0", "not a weight"),
        ("a:80,weight=257", "not a weight"),
        ("a:80,weight=-1", "not a weight"),
        ("a:80,weight=1.5", "not a weight"),
        ("a:80,weight=", "not a weight"),
        ("a:80,weight", "not an option"),
        ("a:80,wait=1", "not an option"),
        ("a:80,", "not an option"),
        ("a:80,weight=1,weight=2", "twice"),
    ],
)
def test_a_bad_option_is_named(text, why):
    with pytest.raises(ValueError, match=why):
        BackendSpec.parse(text)


@pytest.mark.parametrize("weight", [0, -3, 257])
def test_a_spec_made_by_hand_has_the_same_bounds(weight):
    with pytest.raises(ValueError, match=f"'x': {weight} is not a weight between 1 and 256"):
        BackendSpec("x", TcpAddress("h", 1), weight)


def make(**facts) -> Backend:
    return Backend(BackendSpec.parse("a:80"), 2, 3, checked=True, **facts)


@pytest.mark.parametrize("admin", AdminState)
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("ejected", [True, False])
def test_usable_is_three_facts_and_nothing_else(admin, up, ejected):
    backend = make()
    backend.admin = admin
    backend.health.up = up
    backend.ejection.active = ejected
    changed = backend.judge()
    assert backend.usable == (admin is AdminState.READY and up and not ejected)
    assert changed == (not backend.usable)
    assert not backend.judge()


def test_its_repr_shows_how_it_stands():
    backend = make()
    assert repr(backend) == "<Backend a:80: ready, up, 0 in flight>"
    backend.ejection.eject(1.0)
    assert repr(backend) == "<Backend a:80: ready, up, ejected, 0 in flight>"
