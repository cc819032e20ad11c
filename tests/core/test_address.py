"""Addresses as people write them."""

import pytest

from twisted_lb.core.address import TcpAddress, UnixAddress, parse_address, same_place

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
    ("http://host:80", "no http://, expected HOST:PORT"),
    ("https://host/path", "no https://, expected HOST:PORT"),
    ("tcp://[::1]:80", "no tcp://, expected HOST:PORT"),
    ("host:80/", "no path, expected HOST:PORT"),
    ("host:80/a?b", "no path, expected HOST:PORT"),
    ("host:80 host:81", "two addresses in one"),
    ("host:80\tunix:/run/app.sock", "two addresses in one"),
    ("1.2.3.4:801.2.3.5:80", "two addresses in one"),
    ("a:80b:80", "two addresses in one"),
    ("[::1]:80[::2]:80", "two addresses in one"),
    ("a:80[::2]:80", "two addresses in one"),
    ("a:80unix:/run/app.sock", "two addresses in one"),
    ("unix:/run/a.sockunix:/run/b.sock", "two addresses in one"),
    ("fe80::1", "brackets"),
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


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("localhost:80", "LocalHost.:80", True),
        ("a:80", "a:81", False),
        ("[::1]:80", "[0:0::1]:80", True),
        ("[fe80::1%eth0]:80", "[fe80::1%eth1]:80", False),
        ("unix:/a", "unix:/A", False),
    ],
)
def test_spellings_of_one_place_are_the_same(one, other, same):
    assert (same_place(parse_address(one)) == same_place(parse_address(other))) is same
