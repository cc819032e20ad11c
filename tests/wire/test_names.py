"""Field names: of which kind they are, and in which spellings nobody passes for us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.fields import parse_fields
from twisted_lb.wire.grammar import BadMessage, Limits
from twisted_lb.wire.names import AUTHORIZATION, CLAIM, HOP, KINDS, PLAIN, folded, kind_of, passes_untouched

CLAIMS = (b"x-forwarded-*", b"x-real-ip", b"x_user")
# Every name that we write to a backend, or a message is framed by.
OURS = (
    b"X-Forwarded-For X-Forwarded-Proto X-Forwarded-Host X-Forwarded-Port X-Forwarded-Ssl Content-Length Transfer-Encoding "
    b"X-Request-ID Max-Forwards X-Real-IP X-Forwarded-Prefix X-Forwarded-Server"
).split()


def spelt(name: bytes, marks: list[bytes], upper: list[bool]) -> bytes:
    """The name with other marks for its hyphens, and some letters in capitals."""
    parts = name.split(b"-")
    text = parts[0] + b"".join(mark + part for mark, part in zip(marks, parts[1:], strict=False))
    return b"".join(
        text[at : at + 1].upper() if big else text[at : at + 1].lower()
        for at, big in zip(range(len(text)), upper * len(text), strict=False)
    )


@given(
    st.sampled_from(OURS),
    st.lists(st.sampled_from([b"-", b"_", b".", b"~", b"!"]), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_in_no_spelling_does_a_name_of_ours_pass(name, marks, upper):
    sent = spelt(name, marks, upper)
    fields = parse_fields(b"A: b\r\n" + sent + b": 5\r\nC: d", Limits(claims=CLAIMS))
    passed = b"" if sent.lower() not in (b"content-length", b"x-request-id", b"max-forwards") else sent + b": 5\r\n"
    assert fields.lines == b"A: b\r\n" + passed + b"C: d\r\n"
    canonical = sent.lower() == name.lower()
    assert (bool(fields.claims or fields.claimed or fields.codings) or passed != b"") == canonical


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"X-Real-IP", CLAIM),
        (b"x-real-ip", CLAIM),
        (b"X_Real_IP", HOP),
        (b"X.Real-IP", HOP),
        (b"X-Real-IPs", PLAIN),
        (b"X-Forwarded-Prefix", CLAIM),
        (b"X-Forwarded_Prefix", HOP),
        (b"X-Forwarded-", CLAIM),
        (b"X-Forwarded", PLAIN),
        (b"X_User", CLAIM),
        (b"X-User", HOP),
        (b"A_b.c", PLAIN),
    ],
)
def test_what_only_proxies_may_send_is_known_by_its_one_spelling(name, kind):
    assert kind_of(name, CLAIMS) == kind


def test_without_claims_what_we_do_not_write_passes():
    assert [kind_of(name) for name in (b"X-Real-IP", b"X_Real_IP", b"X-Forwarded-Prefix")] == [PLAIN] * 3
    assert passes_untouched(b"X-Real-IP")
    assert not passes_untouched(b"X.Forwarded.For")


def test_no_claim_changes_what_a_name_means_to_http():
    assert all(kind_of(name, (b"*", name)) == kind for name, kind in KINDS.items())


def test_authorization_is_looked_at_unless_only_proxies_may_send_it():
    assert kind_of(b"AUTHORIZATION") == AUTHORIZATION
    assert kind_of(b"Authorization", (b"auth*",)) == CLAIM
    assert kind_of(b"Authorizations") == PLAIN


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"\xe9", b"a\x00"])
def test_what_is_no_token_is_no_name(name):
    with pytest.raises(BadMessage):
        kind_of(name)


def test_a_folded_name_has_letters_digits_and_hyphens():
    assert folded(b"X_Forwarded.For!2#$%&'*+^`|~Q") == b"x-forwarded-for-2-----------q"


def test_limits_of_another_configuration_remember_nothing_of_this_one():
    one, other = Limits(claims=CLAIMS), Limits()
    assert parse_fields(b"X-Real-IP: 1", one).lines == b""
    assert parse_fields(b"X-Real-IP: 1", other).lines == b"X-Real-IP: 1\r\n"
    assert parse_fields(b"X-Real-IP: 1", one).claimed == b"X-Real-IP: 1\r\n"
