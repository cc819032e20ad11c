"""Client certificates (mTLS): a host that asks for one is never reached without it, by any name, session or order of events."""

import itertools
import ssl

import pytest
from authority import DAY, NOW, Authority
from handshakes import client, shake

from twisted_lb.tls.flaws import BadCertificate, FlawKind
from twisted_lb.tls.revocation import with_revocation
from twisted_lb.tls.serving import Serving
from twisted_lb.tls.settings import PolicySettings, TlsSettings

ADMIN, PUBLIC, BELOW = "admin.example.com", "www.example.com", "a.b.inner.example.com"


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path):
    return Authority(tmp_path / "elsewhere", "stranger")


def demanding(house, name="", mode="require", crl=b""):
    cas, lists, stale_at = with_revocation(house.path, house.pem, "clients.crl" if crl else "", crl)
    return PolicySettings(name, "intermediate", "", mode, cas, lists, "clients.crl" if crl else "", stale_at)


def guarded(house, **more):
    """Everybody may ask the public hosts; the admin host and all below `inner` ask for a certificate."""
    hosts = tuple((name, demanding(house, name, **more)) for name in (ADMIN, "*.inner.example.com"))
    return Serving.of(TlsSettings((house.certificate("*.example.com"),), hosts=hosts))


def clients(house, stranger):
    return {
        "nobody": client(),
        "ours": client(house.leaf("alice@example.com")),
        "a stranger": client(stranger.leaf("mallory@example.com")),
    }


@pytest.mark.parametrize(("name", "asks"), [(ADMIN, True), (BELOW, True), (PUBLIC, False), (None, False)])
def test_a_policy_asks_for_a_certificate_where_it_holds_and_nowhere_else(house, stranger, name, asks):
    serving = guarded(house)
    everybody = clients(house, stranger)
    assert shake(serving, name, everybody["ours"]).policy.client_certificate == ("require" if asks else "off")
    for who in ("nobody", "a stranger"):
        if asks:
            with pytest.raises(ssl.SSLError):
                shake(serving, name, everybody[who])
        else:
            assert shake(serving, name, everybody[who]).server.getpeercert() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_no_client_without_a_certificate_reaches_a_guarded_host_by_any_name_session_or_choice(house, stranger, version):
    serving = guarded(house)
    for who, someone in clients(house, stranger).items():
        someone.maximum_version = version
        sessions = [None, shake(serving, PUBLIC, someone).client.session]
        if who == "ours":
            sessions.append(shake(serving, ADMIN, someone).client.session)
        # The name that the client names, and the one by which the context was chosen: as if we had read another hello.
        for name, chosen_by, session in itertools.product((ADMIN, BELOW, PUBLIC, None), (ADMIN, PUBLIC, ""), sessions):
            try:
                made = shake(serving, name, someone, session, chosen_by=chosen_by)
            except ssl.SSLError:
                continue
            # A resumed session of TLS 1.2 goes by the name that it was made for, whatever its client names now.
            goes_by_session = made.resumed and made.server.version() == "TLSv1.2"
            assert goes_by_session or made.policy is serving.policy_of(name or "")
            assert who == "ours" or not made.policy.settings.asks
            if made.policy.settings.asks:
                assert made.server.getpeercert()["subjectAltName"] == (("email", "alice@example.com"),)


@pytest.mark.parametrize("chosen_by", [PUBLIC, ADMIN])
def test_a_name_of_another_policy_than_the_chosen_one_is_refused(house, chosen_by):
    someone = client(house.leaf("alice@example.com"))
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        shake(guarded(house), ADMIN if chosen_by == PUBLIC else PUBLIC, someone, chosen_by=chosen_by)


def test_sessions_of_one_policy_are_worth_nothing_in_another_one(house):
    serving = guarded(house)
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        someone = client(house.leaf("alice@example.com"), maximum_version=version)
        public = shake(serving, PUBLIC, someone).client.session
        assert shake(serving, PUBLIC, someone, public).resumed
        assert not shake(serving, ADMIN, someone, public).resumed
        admin = shake(serving, ADMIN, someone).client.session
        assert shake(serving, ADMIN, someone, admin).resumed
        assert not shake(serving, PUBLIC, someone, admin).resumed


def test_a_resumed_session_still_says_whose_certificate_it_was(house):
    serving, someone = guarded(house), client(house.leaf("alice@example.com"))
    session = shake(serving, ADMIN, someone).client.session
    again = shake(serving, ADMIN, someone, session)
    assert again.resumed
    assert again.server.getpeercert()["subjectAltName"] == (("email", "alice@example.com"),)


def test_a_certificate_may_be_requested_and_not_required(house, stranger):
    serving = guarded(house, mode="request")
    everybody = clients(house, stranger)
    assert shake(serving, ADMIN, everybody["nobody"]).server.getpeercert() is None
    assert shake(serving, ADMIN, everybody["ours"]).server.getpeercert()
    with pytest.raises(ssl.SSLError):
        shake(serving, ADMIN, everybody["a stranger"])


@pytest.mark.parametrize(
    ("host", "guarded_there"),
    [
        (ADMIN, True),
        ("ADMIN.Example.COM", True),
        (f"{ADMIN}.", True),
        (f"{ADMIN}:443", True),
        (f"{ADMIN}.:443", True),
        (BELOW, True),
        ("inner.example.com", False),
        (f"x{ADMIN}", False),
        (PUBLIC, False),
        ("", False),
        ("[::1]:443", False),
    ],
)
def test_the_policy_of_a_host_is_found_however_it_is_written(house, host, guarded_there):
    assert (guarded(house).policy_of(host).client_certificate == "require") is guarded_there


def test_the_nearest_name_above_a_host_has_its_policy(house):
    hosts = (
        ("*.example.com", PolicySettings("*.example.com", "modern")),
        ("*.inner.example.com", demanding(house, "inner")),
        ("open.inner.example.com", PolicySettings("open")),
    )
    serving = Serving.of(TlsSettings((house.certificate("example.com"),), hosts=hosts))
    found = {
        host: serving.policy_of(host).name for host in ("a.example.com", BELOW, "open.inner.example.com", "x.test")
    }
    assert found == {
        "a.example.com": "*.example.com",
        BELOW: "inner",
        "open.inner.example.com": "other hosts",
        "x.test": "other hosts",
    }


# Revocation.


def test_who_is_in_the_revocation_list_does_not_get_in(house):
    alice, bob = house.leaf("alice@example.com"), house.leaf("bob@example.com")
    serving = guarded(house, crl=house.crl([bob]))
    assert shake(serving, ADMIN, client(alice)).server.getpeercert()
    with pytest.raises(ssl.SSLError, match=r"(?i)revoked"):
        shake(serving, ADMIN, client(bob))


def test_a_new_revocation_list_holds_for_sessions_of_before_too(house):
    bob = house.leaf("bob@example.com")
    before, someone = guarded(house, crl=house.crl()), client(bob)
    session = shake(before, ADMIN, someone).client.session
    cas, lists, stale_at = with_revocation(house.path, house.pem, "clients.crl", house.crl([bob]))
    hosts = tuple(
        (name, PolicySettings(name, "intermediate", "", "require", cas, lists, "clients.crl", stale_at))
        for name in (ADMIN, "*.inner.example.com")
    )
    after = Serving.of(TlsSettings(before.certificates, hosts=hosts), before)
    with pytest.raises(ssl.SSLError, match=r"(?i)revoked"):
        shake(after, ADMIN, someone, session)
    assert after.policy_of(ADMIN) is not before.policy_of(ADMIN)
    assert after.policy_of(ADMIN).met_by(before.policy_of(ADMIN))
    assert not after.policy_of(ADMIN).met_by(before.policy_of(PUBLIC))
    assert after.policy_of(PUBLIC) is before.policy_of(PUBLIC)


def test_a_revocation_list_past_its_next_update_keeps_everybody_out_and_is_a_flaw(house):
    serving = guarded(house, crl=house.crl(ends=NOW - DAY))
    with pytest.raises(ssl.SSLError, match=r"(?i)expired"):
        shake(serving, ADMIN, client(house.leaf("alice@example.com")))
    [flaw] = [one for one in serving.flaws(NOW.timestamp()) if one.kind is FlawKind.STALE_CRL]
    assert str(flaw).startswith("clients.crl: is past its next update on ")
    assert str(flaw).endswith(": no client certificate is accepted")
    assert shake(serving, PUBLIC).server.version() == "TLSv1.3"


def test_a_revocation_list_of_another_ca_is_refused(house, stranger):
    with pytest.raises(BadCertificate) as error:
        with_revocation("ca.pem", house.pem, "clients.crl", stranger.crl())
    assert str(error.value).startswith("clients.crl: is the revocation list of ")
    assert str(error.value).endswith(", which is not in ca.pem")


@pytest.mark.parametrize(
    ("cas", "crl", "said"),
    [
        (b"", b"", "ca.pem: has no certificate of a CA (PEM: -----BEGIN CERTIFICATE-----)"),
        (b"\x30\x82\x01\x02", b"", "ca.pem: has no certificate of a CA: it is DER, and should be PEM"),
        (None, b"nothing", "clients.crl: has no revocation list (X509 CRL)"),
        (None, b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----", "clients.crl: is no revocation list: "),
    ],
)
def test_what_is_no_authority_and_no_revocation_list_is_refused_by_the_name_of_its_file(house, cas, crl, said):
    with pytest.raises(BadCertificate) as error:
        with_revocation("ca.pem", house.pem if cas is None else cas, "clients.crl", crl)
    assert str(error.value).startswith(said)
