"""Which certificate and which context a handshake gets, by the name that its client names; real handshakes in memory."""

import ssl
import warnings

import pytest
from authority import DAY, ECDSA, NOW, RSA, Authority
from handshakes import Refused, client, serving_of, shake

from twisted_lb.tls.flaws import FlawKind
from twisted_lb.tls.self_signed import self_signed
from twisted_lb.tls.serving import TICKET_KEY_LASTS_S, Serving
from twisted_lb.tls.settings import PolicySettings, TlsSettings


@pytest.fixture
def house(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def three(house):
    """The default one, one for a name, and one for all names of one label below another one."""
    return house.certificate("example.com"), house.certificate("www.example.org"), house.certificate("*.example.net")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("example.com", 0),
        ("EXAMPLE.com", 0),
        ("www.example.org", 1),
        ("a.example.net", 2),
        ("b.example.net", 2),
        ("a.b.example.net", 0),
        ("example.net", 0),
        ("elsewhere.test", 0),
        (None, 0),
    ],
)
def test_the_certificate_is_that_of_the_name_else_of_a_wildcard_of_one_label_else_the_first(three, name, shown):
    assert shake(serving_of(*three), name).fingerprint == three[shown].fingerprint


def test_a_name_goes_before_a_wildcard(house):
    wildcard, exact = house.certificate("*.example.net"), house.certificate("a.example.net")
    serving = serving_of(wildcard, exact)
    assert shake(serving, "a.example.net").fingerprint == exact.fingerprint
    assert shake(serving, "b.example.net").fingerprint == wildcard.fingerprint


@pytest.mark.parametrize("name", ["elsewhere.test", "a.b.example.net", "example.net", None])
def test_strict_sni_refuses_names_that_no_certificate_is_for(three, name):
    with pytest.raises(Refused):
        shake(serving_of(*three, strict=True), name)


@pytest.mark.parametrize("name", ["example.com", "www.example.org", "a.example.net"])
def test_strict_sni_lets_names_in_that_a_certificate_is_for(three, name):
    assert shake(serving_of(*three, strict=True), name).server.version() == "TLSv1.3"


def test_strict_sni_refuses_also_what_openssl_reads_and_we_did_not(three):
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        shake(serving_of(*three, strict=True), "elsewhere.test", chosen_by="example.com")


@pytest.mark.parametrize(
    ("algorithms", "kind"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", ECDSA),
        ("ECDHE-RSA-AES128-GCM-SHA256", RSA),
        ("DHE-RSA-AES128-GCM-SHA256", RSA),
    ],
)
def test_of_two_kinds_of_key_side_by_side_a_client_of_tls_1_2_gets_the_one_that_it_can_use(house, algorithms, kind):
    both = {one: house.certificate("example.com", key_type=one) for one in (RSA, ECDSA)}
    old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    old.set_ciphers(algorithms)
    made = shake(serving_of(*both.values()), "example.com", old)
    assert (made.fingerprint, made.cipher) == (both[kind].fingerprint, algorithms)


def test_a_client_of_tls_1_3_prefers_ecdsa(house):
    both = [house.certificate("example.com", key_type=one) for one in (RSA, ECDSA)]
    assert shake(serving_of(*both), "example.com").fingerprint == both[1].fingerprint
    assert shake(serving_of(*both)).fingerprint == both[1].fingerprint


def test_of_two_certificates_for_a_name_the_one_that_lasts_longer_is_shown(house):
    older = house.certificate("example.com", not_after=NOW + 30 * DAY)
    newer = house.certificate("example.com", not_after=NOW + 80 * DAY)
    for order in ((older, newer), (newer, older)):
        assert shake(serving_of(*order), "example.com").fingerprint == newer.fingerprint
        assert shake(serving_of(*order)).fingerprint == newer.fingerprint


def test_http_1_1_is_agreed_on_and_nothing_else(three):
    offers = client()
    offers.set_alpn_protocols(["h2", "http/1.1"])
    assert shake(serving_of(*three), "a.example.net", offers).server.selected_alpn_protocol() == "http/1.1"
    only = client()
    only.set_alpn_protocols(["h2"])
    assert shake(serving_of(*three), "a.example.net", only).server.selected_alpn_protocol() is None


# Presets.


def test_tls_1_1_is_refused_by_every_preset(three):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what is wanted
        old = client(minimum_version=ssl.TLSVersion.TLSv1, maximum_version=ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("ALL:@SECLEVEL=0")
    for preset in ("intermediate", "modern"):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
            shake(serving_of(*three, preset=preset), "example.com", old)


def test_modern_speaks_tls_1_3_alone(three):
    serving = serving_of(*three, preset="modern")
    assert shake(serving, "a.example.net").server.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        shake(serving, "a.example.net", client(maximum_version=ssl.TLSVersion.TLSv1_2))


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-SHA"])
def test_intermediate_refuses_ciphers_without_forward_secrecy_or_aead(three, cipher):
    old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    old.set_ciphers(cipher)
    with pytest.raises(ssl.SSLError):
        shake(serving_of(*three), "example.com", old)


def test_ciphers_of_ones_own_are_in_the_place_of_the_preset_s(three):
    serving = serving_of(*three, ciphers="ECDHE-ECDSA-AES256-GCM-SHA384")
    old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
    assert shake(serving, "example.com", old).cipher == "ECDHE-ECDSA-AES256-GCM-SHA384"
    old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        shake(serving, "example.com", old)


def test_the_client_s_order_of_ciphers_counts(three):
    for first in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"):
        old = client(maximum_version=ssl.TLSVersion.TLSv1_2)
        old.set_ciphers(f"{first}:ECDHE-ECDSA-AES128-GCM-SHA256")
        assert shake(serving_of(*three), "example.com", old).cipher == first


def test_nothing_is_compressed_renegotiated_or_resumed_early(three):
    context = serving_of(*three).choose("example.com").context
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF


# Sessions, and other certificates behind them.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
def test_a_session_is_resumed_after_a_reload_of_certificates_and_new_handshakes_get_the_new_one(house, version):
    old, new = house.certificate("example.com"), house.certificate("example.com")
    before = serving_of(old)
    someone = client(maximum_version=version)
    first = shake(before, "example.com", someone)
    after = Serving.of(TlsSettings((new,)), before)
    assert after.choose("example.com").context is before.choose("example.com").context
    assert shake(after, "example.com", someone, first.client.session).resumed
    assert shake(after, "example.com").fingerprint == new.fingerprint
    assert shake(after, None).fingerprint == new.fingerprint


def test_a_name_that_comes_with_a_reload_is_served_at_once(house):
    before = serving_of(house.certificate("example.com"), strict=True)
    assert before.choose("example.org") is None
    settings = TlsSettings((*before.certificates, house.certificate("example.org")), strict_sni=True)
    after = Serving.of(settings, before)
    assert shake(after, "example.org").fingerprint == settings.certificates[1].fingerprint
    with pytest.raises(Refused):
        shake(Serving.of(before.settings, after), "example.org")


def test_contexts_of_certificates_that_stay_are_the_same(house):
    one, other = house.certificate("example.com"), house.certificate("example.org")
    before = serving_of(one)
    after = Serving.of(TlsSettings((one, other)), before)
    found = {shake(serving, "example.com").server.context for serving in (before, after)}
    assert len(found) == 1


def test_equal_settings_are_one_policy_over_reloads_and_others_are_not(house):
    one = house.certificate("example.com")
    before = serving_of(one)
    assert Serving.of(TlsSettings((house.certificate("example.com"),)), before).policy_of("x") is before.policy_of("x")
    after = Serving.of(TlsSettings((one,), PolicySettings(preset="modern")), before)
    assert after.policy_of("x") is not before.policy_of("x")
    assert not after.policy_of("x").met_by(before.policy_of("x"))


def test_first_contexts_are_replaced_after_a_day_and_their_tickets_with_them(house):
    serving = serving_of(house.certificate("example.com"))
    someone = client()
    serving.age(1000.0)
    session = shake(serving, "example.com", someone).client.session
    serving.age(1000.0 + TICKET_KEY_LASTS_S - 1)
    assert shake(serving, "example.com", someone, session).resumed
    policy = serving.policy_of("example.com")
    serving.age(1000.0 + TICKET_KEY_LASTS_S)
    assert not shake(serving, "example.com", someone, session).resumed
    assert serving.policy_of("example.com") is policy
    again = shake(serving, "example.com", someone).client.session
    serving.age(1001.0 + TICKET_KEY_LASTS_S)
    assert shake(serving, "example.com", someone, again).resumed


def test_the_age_of_a_first_context_is_kept_over_a_reload(house):
    before = serving_of(house.certificate("example.com"))
    before.age(0.0)
    after = Serving.of(TlsSettings((house.certificate("example.com"),)), before)
    context = after.choose("example.com").context
    after.age(TICKET_KEY_LASTS_S)
    assert after.choose("example.com").context is not context


# What is told of it.


def test_a_single_policy_is_said_to_be_one(house):
    one = house.certificate("example.com")
    assert serving_of(one).single
    same = (("a.example.com", PolicySettings("a.example.com")),)
    assert Serving.of(TlsSettings((one,), hosts=same)).single
    other = (("a.example.com", PolicySettings("a.example.com", "modern")),)
    assert not Serving.of(TlsSettings((one,), hosts=other)).single


def test_flaws_are_those_of_the_moment(house):
    one = house.certificate("example.com", not_after=NOW + 90 * DAY)
    serving, now = serving_of(one), NOW.timestamp()
    day = DAY.total_seconds()
    assert serving.flaws(now) == ()
    assert [flaw.kind for flaw in serving.flaws(now + 68.9 * day)] == []
    [soon] = serving.flaws(now + 69.5 * day)
    assert (soon.kind, soon.text.partition(", on ")[0]) == (FlawKind.SOON, f"{one.where}: expires in 20 days")
    [expired] = serving.flaws(now + 91 * day)
    assert expired.kind is FlawKind.EXPIRED
    assert "has expired on" in expired.text
    assert [flaw.kind for flaw in serving.flaws(one.not_before - 1)] == [FlawKind.NOT_YET]
    assert serving.expires() == {"example.com (ECDSA)": one.not_after}


def test_a_host_with_a_policy_and_no_certificate_is_a_flaw(house):
    hosts = tuple(
        (name, PolicySettings(name, "modern")) for name in ("a.example.com", "b.test", "*.example.com", "*.test")
    )
    serving = Serving.of(TlsSettings((house.certificate("*.example.com"),), hosts=hosts))
    assert [str(flaw) for flaw in serving.flaws(NOW.timestamp())] == [
        "no certificate is for the host b.test", "no certificate is for the host *.test",
    ]  # fmt: skip


def test_a_self_signed_certificate_is_for_this_machine_and_kept_until_its_last_month():
    day = DAY.total_seconds()
    one = self_signed(1_800_000_000.0)
    assert set(one.names) >= {"localhost", "127.0.0.1", "::1"}
    assert (one.key_type, one.not_after - 1_800_000_000.0) == ("ECDSA", 90 * day)
    assert self_signed(1_800_000_000.0 + 59 * day, one) is one
    other = self_signed(1_800_000_000.0 + 61 * day, one)
    assert other.fingerprint != one.fingerprint
    assert shake(serving_of(one), "localhost").fingerprint == one.fingerprint
