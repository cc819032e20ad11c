"""What the certificate of a client says, as header fields have it: printable, and never another name than it is."""

import datetime as dt
import hashlib

import pytest
from authority import Authority, parsed
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from handshakes import client, shake
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.tls.peer import LONGEST_NAME, LONGEST_NAMES, encoded, peer_of
from twisted_lb.tls.revocation import with_revocation
from twisted_lb.tls.serving import Serving
from twisted_lb.tls.settings import PolicySettings, TlsSettings


def test_a_client_says_who_it_is_by_its_certificate(tmp_path):
    house = Authority(tmp_path)
    cas, _, _ = with_revocation(house.path, house.pem, "", b"")
    policy = PolicySettings(client_certificate="require", client_ca=cas)
    serving = Serving.of(TlsSettings((house.certificate("example.com"),), policy))
    alice = house.leaf(
        "alice@example.com", "alice.example.com", "192.0.2.7", common_name="alice", organization_name="Example, Inc."
    )
    server = shake(serving, None, client(alice)).server
    peer = peer_of(server.getpeercert(), server.getpeercert(binary_form=True))
    own = parsed(alice)
    assert peer.subject == own.subject.rfc4514_string()
    assert peer.subject.startswith("CN=alice,")
    assert peer.subject.endswith("O=Example\\, Inc.")
    assert peer.issuer == own.issuer.rfc4514_string()
    assert peer.names == "email:alice@example.com,DNS:alice.example.com,IP:192.0.2.7"
    assert peer.serial == f"{own.serial_number:x}"
    assert peer.fingerprint == hashlib.sha256(own.public_bytes(Encoding.DER)).hexdigest()


def test_who_has_shown_none_is_nobody():
    assert peer_of(None, None) is None
    assert peer_of({}, b"") is None


def named(subject):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    made = made.not_valid_before(begin).not_valid_after(begin + dt.timedelta(1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("alice", "CN=alice"),
        ("Grüße", "CN=Gr%C3%BC%C3%9Fe"),
        ("a\r\nX-Admin: yes", "CN=a%0D%0AX-Admin: yes"),
        ("100%", "CN=100%25"),
        ("tab\there", "CN=tab%09here"),
        ("del\x7f", "CN=del%7F"),
    ],
)
def test_what_is_not_printable_is_percent_encoded(subject, said):
    assert peer_of({}, named(subject)).subject == said


def test_a_subject_that_is_too_long_is_left_out_and_not_cut():
    parts = [(("organizationalUnitName", "x" * 60),) for _ in range(LONGEST_NAME // 60)]
    peer = peer_of({"subject": parts, "issuer": parts[:2], "serialNumber": "00AB"}, b"no certificate")
    assert (peer.subject, peer.serial) == ("", "ab")
    assert peer.issuer.count("organizationalUnitName=") == 2


def test_what_the_stricter_parser_does_not_read_is_told_in_openssl_s_words():
    described = {
        "subject": ((("countryName", "DE"),), (("commonName", "a,b"), ("emailAddress", "x@y"))),
        "issuer": ((("commonName", "the CA"),),),
        "serialNumber": "0F",
        "subjectAltName": (("URI", "spiffe://x/a,b"), ("IP Address", "192.0.2.1")),
    }
    peer = peer_of(described, b"no certificate")
    assert peer.subject == "commonName=a\\,b+emailAddress=x@y,countryName=DE"
    assert (peer.issuer, peer.serial) == ("commonName=the CA", "f")
    assert peer.names == "URI:spiffe://x/a%2Cb,IP:192.0.2.1"


def test_names_are_whole_ones_and_bounded():
    names = tuple(("DNS", f"{number:04}.{'x' * 50}.example.com") for number in range(200))
    peer = peer_of({"subjectAltName": names}, b"no certificate")
    listed = peer.names.split(",")
    assert len(peer.names) <= LONGEST_NAMES < len(peer.names) + len(listed[0]) + 1
    assert listed == [f"DNS:{value}" for _, value in names[: len(listed)]]


@given(st.text())
def test_whatever_a_name_is_it_is_said_in_printable_ascii(text):
    said = encoded(text)
    assert all(" " <= one <= "~" for one in said)
    assert said == said.strip()
