"""Edits of header fields: what is removed, what is set, and that no value can become another line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.wire.edits import NO_EDITS, PROTECTED, FieldEdits, SetField, Words

LINES = b"Host: x\r\nX-Foo: 1\r\nx_foo: 2\r\nX.Foo: 3\r\nX-Foo-Bar: 4\r\n"
WORDS = Words(client=b"192.0.2.7", host=b"example.com", pool=b"api", request_id=b"id1", backend=b"a:80")


@pytest.mark.parametrize("edits", [FieldEdits((), (b"x-FOO",)), FieldEdits(((b"X-Foo", b"9"),))])
def test_what_is_set_or_removed_is_taken_out_in_all_spellings(edits):
    assert edits.kept(LINES) == b"Host: x\r\nX-Foo-Bar: 4\r\n"


def test_without_edits_lines_are_what_they_were():
    assert NO_EDITS.kept(LINES) is LINES
    assert (NO_EDITS.constant(WORDS), NO_EDITS.varying(WORDS)) == (b"", b"")


def test_placeholders_are_put_in():
    edits = FieldEdits(((b"A", b"{client}@{host} of {pool}"), (b"B", b"{backend}/{request_id}"), (b"C", b"{other} {}")))
    assert edits.constant(WORDS) == b"A: 192.0.2.7@example.com of api\r\nC: {other} {}\r\n"
    assert edits.varying(WORDS) == b"B: a:80/id1\r\n"
    assert (edits.varies, edits.wants_id) == (True, True)


def test_what_is_put_in_is_not_looked_at_for_placeholders():
    assert SetField(b"A", b"{host}").line(Words(host=b"{client}")) == b"A: {client}\r\n"


@given(st.binary(), st.sampled_from(["client", "host", "pool", "request_id", "backend"]))
def test_no_word_can_begin_another_line(word, name):
    line = SetField(b"A", b"<{%b}>" % name.encode()).line(Words(**{name: word}))
    assert line.startswith(b"A: <")
    assert line.endswith(b">\r\n")
    assert len(line) == len(b"A: <>\r\n") + len(word)
    assert not set(line[:-2]) & {*range(9), *range(10, 32), 127}


@pytest.mark.parametrize(
    "name", [*sorted(PROTECTED), b"Content_Length", b"TRANSFER.ENCODING", b"X-Forwarded-For", b"x_forwarded_host"]
)
def test_what_frames_or_leads_a_message_is_not_edited(name):
    with pytest.raises(ValueError, match="balancer writes it itself"):
        FieldEdits(((name, b"1"),))
    with pytest.raises(ValueError, match="balancer writes it itself"):
        FieldEdits((), (name,))


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb"])
def test_a_name_is_a_token(name):
    with pytest.raises(ValueError, match="no field name"):
        FieldEdits(((name, b"1"),))
