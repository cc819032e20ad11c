"""Paths and hosts as routes match them: one form for all spellings (percent-encoding, dot segments, path traversal).

A route is also who may ask for what, so no spelling may pass beside the route of its path. Matching looks at a copy; what is
forwarded stays as it came. Where a backend could resolve a path in another way than this copy, the request is refused.
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from twisted_lb.wire.grammar import BadMessage

# A path of which the copy is a slice: nothing escaped, no empty segment, none that begins with a dot. Up to the query.
_ORDINARY: Final = re.compile(rb"((?:/[^/.%\\?][^/%\\?]*+)++/?|/)(?=\?|\Z)")
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPED_SLASH: Final = re.compile(rb"%2[Ff]")
# However often it is escaped: a proxy or an application behind us may decode once more. (%25 is the percent sign.)
_ANY_ESCAPED_SLASH: Final = re.compile(rb"%(?:25)*+2[Ff]")
# A segment, or a part of one between escaped slashes, that is one or two dots, and is not simply `.` or `..`: dots are
# escaped, have parameters behind them (Tomcat resolves `/..;x/`), or stand beside an escaped slash.
_DISGUISED_DOTS: Final = re.compile(
    rb"(?!/\.{1,2}(?:/|\Z))"
    rb"(?:/|%(?:25)*+2[Ff])"
    rb"(?:\.|%(?:25)*+2[Ee]){1,2}"
    rb"(?:/|\Z|;|%(?:25)*+3[Bb]|%(?:25)*+2[Ff])"
)
# In a decoded path. The Servlet specification (6.0, 3.5.2) refuses controls too: some backends cut them off at the end.
_CONTROL: Final = re.compile(rb"[\0-\x1F\x7F]")
# RFC 3629 3: a character in more bytes than it needs is no UTF-8; to a lenient decoder it may be a dot or a slash.
_OVERLONG: Final = re.compile(rb"[\xC0\xC1][\x80-\xBF]|\xE0[\x80-\x9F][\x80-\xBF]|\xF0[\x80-\x8F][\x80-\xBF]{2}")
# Nothing, or nothing but parameters, or with an escaped slash in it.
_NOT_ONE_SEGMENT: Final = re.compile(rb"(?:;|\Z)|.*%(?:25)*+2[Ff]", re.DOTALL)
# What must not stand where a prefix was cut off: a dot segment would reach into the prefix, and `//x` be an authority.
_REACHES_BACK: Final = re.compile(rb"/(?:/|\.{1,2}(?:/|\Z))")
# The characters of a host that is matched as it is: no upper case, no port, no brackets.
_PLAIN_HOST: Final = bytes(
    code if chr(code) in "-._~0123456789abcdefghijklmnopqrstuvwxyz" else 0 for code in range(256)
)


def matching_path(target: bytes) -> bytes:
    """The path that routes match, of a target in origin-form: without its query, decoded once, dot and empty segments
    resolved. `%2F` stays three characters and is no separator. `*` (OPTIONS) has no path, and comes back as it is.

    BadMessage (400) for bad escapes, backslashes, control characters, overlong UTF-8, a path that leads above the root (as
    NGINX; RFC 3986 5.2.4 would drop what is too much), and dot segments that are escaped, have parameters, stand beside an
    escaped slash, or take back a segment that is empty or has one. Other bytes are matched as they are, in whatever encoding. O(n); an ordinary path is one match of C.
    """
    ordinary = _ORDINARY.match(target)
    if ordinary is not None:
        path: bytes = ordinary[1]
        return path
    if target == b"*":
        return target
    path = target.partition(b"?")[0]
    if path[:1] != b"/":
        raise BadMessage(400, "target is not a path")
    if _DISGUISED_DOTS.search(path) is not None:
        raise BadMessage(400, "dot segment in disguise")
    return _resolved(_decoded(path))


def unresolved_path(target: bytes) -> bytes:
    """The path of a target with `..` segments as a server sees it that resolves none: WSGI servers, say. Empty where there
    are none, as good as always. BadMessage as of `matching_path`, which is to be asked first.

    Where routes are matched by this path too, nobody gets around one that such a server's application would be reached by.
    """
    if b"/.." not in target:
        return b""
    segments = _decoded(target.partition(b"?")[0]).split(b"/")
    if b".." not in segments:
        return b""
    kept = [segment for segment in segments if segment not in (b"", b".")]
    return b"/" + b"/".join(kept)


def _decoded(path: bytes) -> bytes:
    """A path percent-decoded once but for its escaped slashes, which become `%2F`."""
    if b"%" in path:
        if _BAD_ESCAPE.search(path) is not None:
            raise BadMessage(400, "bad escape in the path")
        path = b"%2F".join([unquote_to_bytes(part) for part in _ESCAPED_SLASH.split(path)])
    if b"\\" in path:
        raise BadMessage(400, "backslash in the path")
    if _CONTROL.search(path) is not None:
        raise BadMessage(400, "control character in the path")
    if _OVERLONG.search(path) is not None:
        raise BadMessage(400, "overlong UTF-8 in the path")
    return path


def _resolved(path: bytes) -> bytes:
    """A path without dot and empty segments; one at its end leaves a slash there."""
    segments = path.split(b"/")
    kept: list[bytes] = []
    for segment in segments[1:]:
        if segment == b"..":
            if not kept:
                raise BadMessage(400, "path leads above the root")
            # What `..` takes back is another segment to who merges slashes first, and to who does so afterwards.
            if _NOT_ONE_SEGMENT.match(kept.pop()) is not None:
                raise BadMessage(400, "dot segment behind what may be no segment or two")
        elif segment != b".":
            kept.append(segment)
    named = [segment for segment in kept if segment]
    if named and segments[-1] in (b"", b".", b".."):
        named.append(b"")
    return b"/" + b"/".join(named)


def cut_prefix(path: bytes, prefix: bytes) -> bytes:
    """A path as it came, without its query, less a prefix of whole segments; it begins with a slash. `prefix` is in the
    form that is matched, and a slash at its end counts for nothing. What remains is byte for byte as it was.

    BadMessage (400) unless the path begins with just these segments, in whatever escapes, and stays below them: what is cut
    must be what was matched. So dot and empty segments are refused in the part that is cut and where it ends, and further
    on those that lead out of it; parameters in that part, too.
    """
    wanted = prefix.strip(b"/")
    if not wanted:
        return path
    count = wanted.count(b"/") + 1
    segments = path.split(b"/", count + 1)
    if _decoded(b"/".join(segments[1 : count + 1])) != wanted:
        raise BadMessage(400, "path does not plainly begin with the prefix that is cut off")
    if len(segments) <= count + 1:
        return b"/"
    rest = b"/" + segments[count + 1]
    if _REACHES_BACK.match(rest) is not None:
        raise BadMessage(400, "dot or empty segment where the prefix is cut off")
    if b"/.." in rest:
        matching_path(rest)
    return rest


def escaped_slash(target: bytes) -> bool:
    """Whether a path has an escaped slash, however often it is escaped. Backends differ in what they take one for: WSGI
    servers decode it before the application sees the path.
    """
    return _ANY_ESCAPED_SLASH.search(target.partition(b"?")[0]) is not None


def matching_host(host: bytes) -> bytes:
    """The host that routes match, of a Host or an authority: in lower case, without port and without one dot at its end.
    The brackets of IPv6 stay. Empty stays empty.
    """
    if host.translate(_PLAIN_HOST) == host and host[-1:] != b".":
        return host
    lower = host.lower()
    if lower[:1] == b"[":
        return lower[: lower.find(b"]") + 1]
    return lower.partition(b":")[0].removesuffix(b".")
