"""One form for all spellings of a path and a host, and what is refused because a backend might read it in another way."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from twisted_lb.wire.grammar import BadMessage, Limits
from twisted_lb.wire.paths import cut_prefix, escaped_slash, matching_host, matching_path, unresolved_path
from twisted_lb.wire.request import parse_request_line


def refusal(function, *arguments) -> str:
    """Why a path is refused; "" if it is not."""
    try:
        function(*arguments)
    except BadMessage as error:
        return error.reason if error.status == 400 else f"{error.status}"
    return ""


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", b"/"),
        (b"/a", b"/a"),
        (b"/a/", b"/a/"),
        (b"/a/b.html", b"/a/b.html"),
        (b"/a./..b/c..", b"/a./..b/c.."),
        (b"/.well-known/x", b"/.well-known/x"),
        (b"/...", b"/..."),
        (b"/a;x=1/b", b"/a;x=1/b"),
        (b"/a:b@c/!$&'()*+,=~_-|[]", b"/a:b@c/!$&'()*+,=~_-|[]"),
        # The query is cut off, whatever is in it.
        (b"/a?b", b"/a"),
        (b"/?", b"/"),
        (b"/a?", b"/a"),
        (b"/a?b?c", b"/a"),
        (b"/a?../../..//%zz\\", b"/a"),
        (b"/a/.?x", b"/a/"),
        # Decoded once.
        (b"/%61dmin", b"/admin"),
        (b"/%41%5a%7a%30%7E%2d%5F%2E", b"/AZz0~-_."),
        (b"/a%20b", b"/a b"),
        (b"/a+b", b"/a+b"),
        (b"/%3Fa%23b%25c", b"/?a#b%c"),
        (b"/%2561dmin", b"/%61dmin"),
        (b"/caf%C3%A9", "/café".encode()),
        (b"/caf%E9", b"/caf\xe9"),
        (b"/%F0%9F%90%8D", "/🐍".encode()),
        (b"/a.%62", b"/a.b"),
        (b"/%2Ehidden", b"/.hidden"),
        (b"/%2e%2e%2e", b"/..."),
        # An escaped slash is none.
        (b"/a%2Fb", b"/a%2Fb"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/a%2f%2Fb/%2f", b"/a%2F%2Fb/%2F"),
        (b"/%2Fa", b"/%2Fa"),
        (b"/a%2F.b", b"/a%2F.b"),
        (b"/a.%2Fb", b"/a.%2Fb"),
        (b"/a%2F...", b"/a%2F..."),
        (b"/%61%2f%62", b"/a%2Fb"),
        # Empty and dot segments are resolved.
        (b"//", b"/"),
        (b"//a", b"/a"),
        (b"/a//b", b"/a/b"),
        (b"/a//", b"/a/"),
        (b"/./", b"/"),
        (b"/.", b"/"),
        (b"/a/.", b"/a/"),
        (b"/a/./b", b"/a/b"),
        (b"/a/..", b"/"),
        (b"/a/../b", b"/b"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../", b"/a/"),
        (b"/a//b/../c", b"/a/c"),
        (b"/a/b/../../c", b"/c"),
        (b"/a;x/../b", b"/b"),
        (b"/%61/../%62", b"/b"),
        (b"/.//.//", b"/"),
        (b"//example.com/a", b"/example.com/a"),
        # The server itself.
        (b"*", b"*"),
    ],
)
def test_all_spellings_of_a_path_have_one_form(target, path):
    assert matching_path(target) == path


NO_PATH = "target is not a path"
ESCAPE = "bad escape in the path"
BACKSLASH = "backslash in the path"
CONTROL = "control character in the path"
OVERLONG = "overlong UTF-8 in the path"
DOTS = "dot segment in disguise"
ROOT = "path leads above the root"
NOT_ONE = "dot segment behind what may be no segment or two"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (b"", NO_PATH),
        (b"?a", NO_PATH),
        (b"a/b", NO_PATH),
        (b"**", NO_PATH),
        (b"http://a/", NO_PATH),
        (b"/%", ESCAPE),
        (b"/%4", ESCAPE),
        (b"/%4g", ESCAPE),
        (b"/%%41", ESCAPE),
        (b"/a%?41", ESCAPE),
        (b"/%u002e/", ESCAPE),
        (b"/a%2", ESCAPE),
        (b"/a\\b", BACKSLASH),
        (b"/..\\a", BACKSLASH),
        (b"/a%5Cb", BACKSLASH),
        (b"/a%5cb", BACKSLASH),
        (b"/%00", CONTROL),
        (b"/admin%00.png", CONTROL),
        (b"/admin%0a", CONTROL),
        (b"/admin%0d%0aX:%20y", CONTROL),
        (b"/admin%09", CONTROL),
        (b"/admin%1f", CONTROL),
        (b"/admin%7F", CONTROL),
        (b"/%c0%ae%c0%ae/", OVERLONG),
        (b"/a%C0%AFb", OVERLONG),
        (b"/a%c1%9cb", OVERLONG),
        (b"/a%e0%80%afb", OVERLONG),
        (b"/a%f0%80%80%afb", OVERLONG),
        (b"/%2e", DOTS),
        (b"/%2E/", DOTS),
        (b"/%2e%2e", DOTS),
        (b"/%2E%2e/a", DOTS),
        (b"/a/.%2e/b", DOTS),
        (b"/a/%2E./b", DOTS),
        (b"/a/%2e%2e?x", DOTS),
        (b"/%252e%252e/a", DOTS),
        (b"/%25252E./a", DOTS),
        (b"/..%2f", DOTS),
        (b"/..%2Fa", DOTS),
        (b"/a%2f..", DOTS),
        (b"/a%2F../b", DOTS),
        (b"/a%2f..%2fb", DOTS),
        (b"/a%2F%2e%2E%2Fb", DOTS),
        (b"/a%252f..", DOTS),
        (b"/..%252fa", DOTS),
        (b"/.%2fa", DOTS),
        (b"/a%2f.", DOTS),
        (b"/..;", DOTS),
        (b"/..;/", DOTS),
        (b"/a/..;x=1/b", DOTS),
        (b"/a/..;?b", DOTS),
        (b"/.;/a", DOTS),
        (b"/%2e%2e;/a", DOTS),
        (b"/..%3Ba/b", DOTS),
        (b"/..%253b/b", DOTS),
        (b"/a%2f..;b", DOTS),
        (b"/..", ROOT),
        (b"/../a", ROOT),
        (b"/a/../..", ROOT),
        (b"/a/../../b", ROOT),
        (b"/./../a", ROOT),
        (b"/a/b/../../../c", ROOT),
        # RFC 3986 has /a/b here, and who merges slashes first /b.
        (b"/a//../b", NOT_ONE),
        (b"//..", NOT_ONE),
        (b"/a//b/../../c", NOT_ONE),
        (b"/a/;x/../b", NOT_ONE),
        (b"/a/%3B/../b", NOT_ONE),
        (b"/a%2Fb/../c", NOT_ONE),
        (b"/a%252fb/../c", NOT_ONE),
    ],
)
def test_a_path_that_a_backend_might_resolve_in_another_way_is_refused(target, reason):
    assert refusal(matching_path, target) == reason


@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_no_control_character_is_matched(code):
    assert refusal(matching_path, b"/a%%%02xb" % code) == CONTROL


def test_the_copy_of_an_ordinary_path_is_a_slice_of_its_target():
    target = b"/a/b.html"
    assert matching_path(target) is target


def test_a_long_path_of_dots_and_slashes_is_resolved():
    assert matching_path(b"/a" + b"/./" * 2500) == b"/a/"
    assert matching_path(b"/a" + b"/b/.." * 1500 + b"/%63") == b"/a/c"


ALPHABET = (
    b"a",
    b"b",
    b".",
    b"..",
    b"/",
    b"/",
    b"//",
    b";",
    b";x=1",
    b"%2e",
    b"%2E",
    b"%2f",
    b"%2F",
    b"%252f",
    b"%252e",
    b"%61",
    b"%5c",
    b"\\",
    b"%00",
    b"%0a",
    b"%3b",
    b"%3f",
    b"%25",
    b"%2",
    b"%",
    b"%c3%a9",
    b"%c0%ae",
    b"?",
    b"+",
    b"*",
)
SPELLINGS = st.lists(st.sampled_from(ALPHABET), max_size=12).map(lambda parts: b"/" + b"".join(parts))
# Mostly not refused, and often below the prefixes of the tests.
PIECES = (b"/a", b"/a", b"/a", b"/b", b"/%61", b"/b%2fa", b"/", b"/.", b"/..", b";x=1", b"c")
PLAIN_SPELLINGS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(lambda parts: b"/a" + b"".join(parts))


def plainly(target: bytes) -> bytes | None:
    """The same form by the letter of RFC 3986: one character after the other, then one segment after the other; None where
    there is a doubt.
    """
    path = target.split(b"?")[0].decode("ascii")
    text, index = "", 0
    while index < len(path):
        character = path[index]
        if character == "%":
            digits = path[index + 1 : index + 3]
            if not re.fullmatch("[0-9a-fA-F]{2}", digits):
                return None
            code = int(digits, 16)
            character = "%2F" if code == 0x2F else chr(code)
            if code == 0x2E:
                character = "\ue000"  # a dot that was escaped
            index += 2
        text += character
        index += 1
    if "\\" in text or any(ord(character) < 32 or ord(character) == 127 for character in text):
        return None
    if re.search("[\xc0\xc1][\x80-\xbf]", text):
        return None
    kept: list[str] = []
    segments = text.split("/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment in ("", ".", ".."):
            if segment == "..":
                if not kept or re.match("$|;", kept[-1]) or re.search("%(25)*2f", kept[-1], re.IGNORECASE):
                    return None
                kept.pop()
            if last or segment == "":
                kept.append("")
            continue
        once_more = re.sub("%(25)*2[eE]", "\ue000", re.sub("%(25)*2[fF]", "/", re.sub("%(25)*3[bB]", ";", segment)))
        if any(part.partition(";")[0] in DOT_SPELLINGS for part in once_more.split("/")):
            return None
        kept.append(segment)
    return re.sub("/+", "/", "/" + "/".join(kept)).replace("\ue000", ".").encode("latin-1")


DOT_SPELLINGS = {"\ue000", "..", "\ue000.", ".\ue000", "\ue000\ue000", "."}


@given(SPELLINGS)
def test_the_form_is_that_of_a_plain_reading(target):
    expected = plainly(target)
    if expected is None:
        assert refusal(matching_path, target)
    else:
        assert matching_path(target) == expected


@given(SPELLINGS)
def test_a_form_has_no_segment_that_could_be_resolved_further(target):
    assume(not refusal(matching_path, target))
    path = matching_path(target)
    assert path[:1] == b"/"
    assert not {b"", b".", b".."} & set(path.split(b"/")[1:-1])
    assert path.split(b"/")[-1] not in (b".", b"..")
    assert not re.search(rb"[\0-\x1f\x7f\\]", path)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a/../b?c", b"/a/../b"),
        (b"/%61//./../b/", b"/a/../b"),
        (b"/a/b/..", b"/a/b/.."),
        (b"/a%2fb/..", b"/a%2Fb/.."),
        (b"/a/b", b""),
        (b"/a?/..", b""),
        (b"/..a/b", b""),
        (b"/a/.", b""),
        (b"*", b""),
    ],
)
def test_a_path_with_dot_segments_has_another_form_for_servers_that_resolve_none(target, path):
    assert unresolved_path(target) == path


@given(st.binary(max_size=40))
def test_any_target_is_matched_or_refused(target):
    refusal(matching_path, target)
    refusal(matching_path, b"/" + target)
    escaped_slash(target)


@given(SPELLINGS, st.sampled_from([b"", b"?", b"?a=%2e/../..//%"]))
def test_a_query_makes_no_difference(target, query):
    assume(b"?" not in target)
    assert refusal(matching_path, target) == refusal(matching_path, target + query)
    if not refusal(matching_path, target):
        assert matching_path(target) == matching_path(target + query)


@pytest.mark.parametrize(
    ("path", "prefix", "rest"),
    [
        (b"/v1", b"/v1", b"/"),
        (b"/v1/", b"/v1", b"/"),
        (b"/v1/a", b"/v1", b"/a"),
        (b"/v1/a", b"/v1/", b"/a"),
        (b"/v1/a/", b"/v1", b"/a/"),
        (b"/v1/v1/a", b"/v1", b"/v1/a"),
        (b"/a/b/c", b"/a/b", b"/c"),
        (b"/a", b"/", b"/a"),
        (b"/%2561//..", b"/", b"/%2561//.."),
        # The prefix may be escaped; what remains is as it came.
        (b"/%76%31/a", b"/v1", b"/a"),
        (b"/v1/%61%2Fb%2f", b"/v1", b"/%61%2Fb%2f"),
        (b"/caf%C3%A9/x", "/café".encode(), b"/x"),
        (b"/a%2fb/c", b"/a%2Fb", b"/c"),
        (b"/v1/a//b/./c", b"/v1", b"/a//b/./c"),
        (b"/v1/a/../b", b"/v1", b"/a/../b"),
        (b"/v1/.well-known", b"/v1", b"/.well-known"),
        (b"/v1/a;x=1", b"/v1", b"/a;x=1"),
        (b"/v1/...", b"/v1", b"/..."),
    ],
)
def test_a_prefix_is_cut_from_the_path_as_it_came(path, prefix, rest):
    assert cut_prefix(path, prefix) == rest


NOT_PLAIN = "path does not plainly begin with the prefix that is cut off"
REACHES_BACK = "dot or empty segment where the prefix is cut off"


@pytest.mark.parametrize(
    ("path", "prefix", "reason"),
    [
        (b"/v1x", b"/v1", NOT_PLAIN),
        (b"/v2/v1", b"/v1", NOT_PLAIN),
        (b"/V1/a", b"/v1", NOT_PLAIN),
        (b"/a", b"/a/b", NOT_PLAIN),
        (b"/", b"/v1", NOT_PLAIN),
        (b"//v1/a", b"/v1", NOT_PLAIN),
        (b"/./v1/a", b"/v1", NOT_PLAIN),
        (b"/x/../v1/a", b"/v1", NOT_PLAIN),
        (b"/a//b/c", b"/a/b", NOT_PLAIN),
        (b"/a/./b/c", b"/a/b", NOT_PLAIN),
        (b"/a/x/../b/c", b"/a/b", NOT_PLAIN),
        (b"/v1;x=1/a", b"/v1", NOT_PLAIN),
        (b"/a%2Fb/c", b"/a/b", NOT_PLAIN),
        (b"/a%252Fb%/c", b"/a%2Fb", ESCAPE),
        (b"/v1//a", b"/v1", REACHES_BACK),
        (b"/v1//example.com/", b"/v1/", REACHES_BACK),
        (b"/v1/.", b"/v1", REACHES_BACK),
        (b"/v1/./a", b"/v1", REACHES_BACK),
        (b"/v1/..", b"/v1", REACHES_BACK),
        (b"/v1/../a", b"/v1", REACHES_BACK),
        (b"/v1/a/../../v1/b", b"/v1", ROOT),
        (b"/v1/a/../..", b"/v1", ROOT),
        (b"/v1/a/..;/b", b"/v1", DOTS),
    ],
)
def test_what_is_cut_off_must_be_what_was_matched(path, prefix, reason):
    assert refusal(cut_prefix, path, prefix) == reason


@given(PLAIN_SPELLINGS, st.sampled_from([b"/a", b"/a/", b"/a/b", b"/a/b%2Fa", b"/"]))
def test_a_prefix_and_what_remains_lead_to_the_place_that_was_matched(path, prefix):
    if refusal(matching_path, path) or refusal(cut_prefix, path, prefix):
        return
    rest = cut_prefix(path, prefix)
    assert rest[:1] == b"/"
    assert path.endswith(rest) or rest == b"/"
    begin = prefix.removesuffix(b"/")
    if rest == b"/" and not path.endswith(b"/"):
        assert matching_path(path) == begin
    else:
        assert matching_path(path) == begin + matching_path(rest)


@given(PLAIN_SPELLINGS, st.sampled_from([b"/a", b"/a/b", b"/a/b%2Fa"]))
def test_a_path_without_empty_and_dot_segments_is_cut_if_it_is_below_the_prefix(path, prefix):
    path = b"/".join(segment for segment in path.split(b"/") if segment not in (b".", b"..", b""))
    if refusal(matching_path, b"/" + path):
        return
    below = (matching_path(b"/" + path) + b"/").startswith(prefix + b"/")
    assert bool(refusal(cut_prefix, b"/" + path, prefix)) is not below


@pytest.mark.parametrize(
    ("target", "has"),
    [
        (b"/a/b", False),
        (b"/a%2Fb", True),
        (b"/a%2fb", True),
        (b"/a%252fb", True),
        (b"/a%25252Fb", True),
        (b"/a%2Eb", False),
        (b"/a%25b2f", False),
        (b"/a?b=%2f", False),
        (b"*", False),
    ],
)
def test_an_escaped_slash_is_seen_in_the_path_alone(target, has):
    assert escaped_slash(target) is has


@pytest.mark.parametrize(
    ("host", "matched"),
    [
        (b"example.com", b"example.com"),
        (b"EXAMPLE.Com", b"example.com"),
        (b"example.com:8080", b"example.com"),
        (b"Example.com:", b"example.com"),
        (b"example.com.", b"example.com"),
        (b"EXAMPLE.com.:443", b"example.com"),
        (b"example.com..", b"example.com."),
        (b"localhost", b"localhost"),
        (b"10.0.0.1:80", b"10.0.0.1"),
        (b"[2001:DB8::1]", b"[2001:db8::1]"),
        (b"[::1]:8080", b"[::1]"),
        (b"my_host-1", b"my_host-1"),
        (b"a%41", b"a%41"),
        (b".", b""),
        (b"", b""),
    ],
)
def test_all_spellings_of_a_host_have_one_form(host, matched):
    assert matching_host(host) == matched


def test_a_host_in_its_form_is_the_same_object():
    host = b"www.example.com"
    assert matching_host(host) is host


@given(SPELLINGS)
def test_a_request_line_leaves_the_path_to_routes(target):
    """The parser passes on what routing refuses: where nobody routes, a backend sees what its client has sent."""
    assert parse_request_line(b"GET " + target + b" HTTP/1.1", Limits())[1] == target
