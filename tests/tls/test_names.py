"""Names of hosts: policies are found by the host that routes match, however it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.tls.names import above, covered, normal, wildcard_of
from twisted_lb.wire.paths import matching_host

HOSTS = st.one_of(
    st.text(st.sampled_from("aB.:[]19-_*\u212a\u0130\xdf"), max_size=20),
    st.builds(
        "{}{}{}".format,
        st.from_regex(r"[A-Za-z0-9.-]{1,30}", fullmatch=True),
        st.sampled_from(["", "."]),
        st.sampled_from(["", ":", ":443"]),
    ),
)


@given(HOSTS)
def test_a_host_is_compared_as_routes_match_it(host):
    assert normal(host).encode() == matching_host(host.encode())


@pytest.mark.parametrize(
    ("name", "wildcard"),
    [
        ("www.example.com", "*.example.com"),
        ("example.com", "*.com"),
        ("localhost", ""),
        ("", ""),
        ("a.", ""),
        (".a", ""),
    ],
)
def test_a_wildcard_of_a_certificate_stands_for_one_label(name, wildcard):
    assert wildcard_of(name) == wildcard


def test_a_host_is_below_all_names_that_it_ends_with():
    assert list(above("a.b.example.com")) == ["b.example.com", "example.com", "com"]
    assert list(above("com")) == list(above("")) == []


@pytest.mark.parametrize(
    ("pattern", "name", "is_covered"),
    [
        ("a.example.com", "a.example.com", True),
        ("a.example.com", "*.example.com", True),
        ("a.b.example.com", "*.example.com", False),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
    ],
)
def test_a_certificate_is_for_a_pattern_of_hosts_if_it_is_for_one_of_them(pattern, name, is_covered):
    assert covered(pattern, name) is is_covered
