"""Networks: which addresses they cover, and how they are written."""

import sys
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.core import networks as module
from twisted_lb.core.networks import Networks, network_of, networks_in


@pytest.mark.parametrize(
    ("network", "address", "covered"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.0", False),
        ("10.0.0.0/255.0.0.0", "10.9.9.9", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.4", False),
        ("0.0.0.0/0", "255.255.255.255", True),
        ("0.0.0.0/0", "::1", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::", False),
        ("::1", "0:0:0:0:0:0:0:1", True),
        # IPv4 in an IPv6 socket.
        ("10.0.0.0/8", "::ffff:10.0.0.1", True),
        ("10.0.0.0/8", "::FFFF:0a00:0001", True),
        ("10.0.0.0/8", "::10.0.0.1", False),
        ("::ffff:10.0.0.0/104", "10.7.7.7", True),
        ("::ffff:10.0.0.0/104", "::ffff:10.7.7.7", True),
        ("::/0", "10.0.0.1", False),
        ("::/0", "::ffff:10.0.0.1", False),
        ("::/0", "2001:db8::1", True),
        # A zone is of the connection, not of the address.
        ("fe80::/10", "fe80::1%eth0", True),
        ("fe80::1", "fe80::1%eth0", True),
        ("fe80::/10", "fe80::1%", False),
        ("10.0.0.0/8", "10.0.0.1%eth0", False),
        # What is no address.
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "unix:/run/lb.sock", False),
        ("0.0.0.0/0", "unknown", False),
        ("0.0.0.0/0", "10.0.0.1:80", False),
        ("::/0", "[::1]", False),
        ("0.0.0.0/0", "010.0.0.1", False),
        ("0.0.0.0/0", " 10.0.0.1", False),
        ("0.0.0.0/0", "167772161", False),
    ],
)
def test_an_address_is_covered_by_its_network_alone(network, address, covered):
    networks = Networks([network])
    assert [networks.covers(address) for _ in range(2)] == [covered, covered]


def test_no_networks_cover_nobody():
    assert not Networks().covers("10.0.0.1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' should be an address or a network, such as 10.0.0.0/8"),
        ("10.0.0.300", "'10.0.0.300' should be an address or a network, such as 10.0.0.0/8"),
        ("10.0.0.0/33", "'10.0.0.0/33' should be an address or a network, such as 10.0.0.0/8"),
        ("10.0.0.0/", "'10.0.0.0/' should be an address or a network, such as 10.0.0.0/8"),
        ("example.com", "'example.com' should be an address or a network, such as 10.0.0.0/8"),
        ("10.0.0.1/8", "'10.0.0.1/8' is an address with a prefix length; the network is 10.0.0.0/8"),
        ("2001:db8::1/32", "'2001:db8::1/32' is an address with a prefix length; the network is 2001:db8::/32"),
        (
            "fe80::%eth0/64",
            "'fe80::%eth0/64' should be without a zone: what is written after % is different on every machine",
        ),
    ],
)
def test_what_is_no_network_is_said_in_one_line_with_its_text(text, says):
    with pytest.raises(ValueError) as raised:
        Networks(["10.0.0.0/8", text])
    assert str(raised.value) == says


def test_networks_may_be_given_as_such():
    networks = Networks([ip_network("10.0.0.0/8"), ip_network("::ffff:192.0.2.0/120")])
    assert networks.networks == (ip_network("10.0.0.0/8"), ip_network("192.0.2.0/24"))
    assert networks.covers("192.0.2.7")


def test_a_file_has_one_network_a_line_and_comments():
    text = "# offices\n10.0.0.0/8\n\n  192.0.2.1  # the gate\n\t2001:db8::/32\r\n#end"
    assert networks_in(text) == [ip_network(one) for one in ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32")]


def test_an_empty_file_has_none():
    assert networks_in("") == networks_in("# nobody yet\n") == []


@pytest.mark.parametrize("line", ["10.0.0.0/8 192.0.2.1", "10.0.0.1/8", "10.0.0.0/8;"])
def test_an_error_in_a_file_has_the_number_of_its_line(line):
    with pytest.raises(ValueError) as raised:
        networks_in(f"# offices\n10.0.0.0/8\n{line}\n")
    with pytest.raises(ValueError) as alone:
        network_of(line)
    assert str(raised.value) == f"line 3: {alone.value}"


def test_lines_are_counted_as_editors_count_them():
    with pytest.raises(ValueError) as raised:
        networks_in("# a page\x0cof\u2028offices\r\n10.0.0.0/8\r\nnobody\r\n")
    assert str(raised.value).startswith("line 3: 'nobody' should be")


def four(draw):
    return ip_network((draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 32))), strict=False)


def six(draw):
    # Close together, so that they meet.
    number = 0x20010DB8 << 96 | draw(st.integers(0, 2**12 - 1)) << 80 | draw(st.integers(0, 255))
    return ip_network((number, draw(st.integers(20, 128))), strict=False)


@st.composite
def some_networks(draw):
    return [draw(st.sampled_from((four, six)))(draw) for _ in range(draw(st.integers(0, 12)))]


@given(some_networks(), st.data())
def test_the_table_answers_as_a_look_at_each_network_does(networks, data):
    near = [one.network_address for one in networks] + [one.broadcast_address for one in networks]
    ip = data.draw(st.sampled_from(near)) if near and data.draw(st.booleans()) else data.draw(st.ip_addresses())
    step = data.draw(st.integers(-1, 1))
    ip = type(ip)(min(max(int(ip) + step, 0), 2**ip.max_prefixlen - 1))
    mapped = getattr(ip, "ipv4_mapped", None) or ip
    assert Networks(networks).covers(str(ip)) == any(mapped in network for network in networks)


def test_thousands_of_networks_cost_a_look_for_each_prefix_length():
    networks = Networks(
        f"10.{high}.{low}.0/{length}" for length in (24, 25) for high in range(50) for low in range(250)
    )
    assert len(networks.networks) == 25_000
    assert [len(networks._four), len(networks._six)] == [2, 0]
    assert networks.covers("10.49.249.255")
    assert not networks.covers("10.49.250.0")


def test_the_memory_of_answers_is_bounded_and_answers_the_same():
    networks = Networks(["10.0.0.0/16"])
    addresses = [str(ip_address(0x0A000000 + 13 * number)) for number in range(10_000)]
    for _ in range(2):
        assert [networks.covers(one) for one in addresses] == [one.startswith("10.0.") for one in addresses]
        assert len(networks._known) <= module._REMEMBERED


@pytest.mark.skipif(not module.__file__.endswith(".py"), reason="compiled functions have no frames")
def test_an_address_that_was_asked_for_is_not_read_again():
    networks = Networks(["10.0.0.0/16"])
    networks.covers("10.0.0.1")
    called = []
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        networks.covers("10.0.0.1")
    finally:
        sys.setprofile(before)
    assert called == ["covers"]
