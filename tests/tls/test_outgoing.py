"""TLS to backends: their certificates are verified for their names, unless somebody has said otherwise."""

import ssl

import pytest
from authority import Authority

from twisted_lb.tls.outgoing import Outgoing, OutgoingSettings


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path)


def ask(outgoing, house, name, *, asks=False):
    """Connect to a backend whose certificate is for `b1.internal` and 192.0.2.1, as `name`; what it has seen of us."""
    backend = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    house.leaf("b1.internal", "192.0.2.1").configure_cert(backend)
    backend.set_alpn_protocols(["h2", "http/1.1"])
    if asks:
        backend.verify_mode = ssl.CERT_REQUIRED
        house.ca.configure_trust(backend)
    to_us, to_it = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = outgoing.context.wrap_bio(to_us, to_it, server_hostname=name)
    theirs = backend.wrap_bio(to_it, to_us, server_side=True)
    for end in (ours, theirs, ours, theirs):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pass
    return theirs


def test_a_backend_is_verified_by_the_ca_and_by_its_name(house):
    outgoing = Outgoing(OutgoingSettings(ca=house.pem))
    for name in ("b1.internal", "192.0.2.1"):
        assert ask(outgoing, house, name).selected_alpn_protocol() == "http/1.1"
    for name in ("b2.internal", "192.0.2.2"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch"):
            ask(outgoing, house, name)


def test_the_system_s_authorities_are_believed_where_no_ca_is_named(house):
    outgoing = Outgoing(OutgoingSettings())
    assert outgoing.context.check_hostname
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(outgoing, house, "b1.internal")


def test_a_ca_of_ones_own_is_believed_in_the_place_of_the_system_s(house):
    assert [ca["subject"][0][0][1] for ca in Outgoing(OutgoingSettings(ca=house.pem)).context.get_ca_certs()] == ["ca"]


def test_verify_false_believes_everybody(house):
    outgoing = Outgoing(OutgoingSettings(verify=False))
    assert ask(outgoing, house, "elsewhere").version() == "TLSv1.3"
    assert repr(outgoing) == "<Outgoing verifies nothing>"


def test_our_own_certificate_is_shown_to_a_backend_that_asks(house):
    outgoing = Outgoing(OutgoingSettings(ca=house.pem, certificate=house.certificate("lb@example.com")))
    assert ask(outgoing, house, "b1.internal", asks=True).getpeercert()["subjectAltName"] == (
        ("email", "lb@example.com"),
    )


def test_a_server_name_of_its_own_goes_before_any_other(house):
    assert Outgoing(OutgoingSettings(server_name="inner.test")).server_name("b1.internal") == "inner.test"
    assert Outgoing(OutgoingSettings()).server_name("b1.internal") == "b1.internal"


def test_equal_settings_keep_their_context_and_its_sessions(house):
    before = Outgoing.of(OutgoingSettings(ca=house.pem))
    assert Outgoing.of(OutgoingSettings(ca=house.pem), before) is before
    assert Outgoing.of(OutgoingSettings(verify=False), before) is not before
