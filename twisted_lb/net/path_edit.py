"""Edits of paths on the way to a backend: a prefix is cut, replaced or put before it (StripPrefix, rewrite)."""

from typing import Final
from urllib.parse import quote_from_bytes

from twisted_lb.core.routing import without_parameters
from twisted_lb.wire.paths import cut_prefix, matching_path

# RFC 3986 3.3: what a path may have unescaped.
_PLAIN: Final = "/-._~!$&'()*+,;=:@"


class PathEdit:
    """An edit of a path: the prefix `cut` goes and `put` comes in its place; `added` comes before all of it. They are in the
    form that is matched, without escapes. Where a path has no such prefix nothing is cut; `/` is the prefix of every path, and
    there is nothing to cut of it.

    `cut_prefix` is what a backend is told to be cut (X-Forwarded-Prefix).
    """

    __slots__ = ("_added", "_cut", "_given", "_put", "cut_prefix")

    def __init__(self, cut: bytes = b"", put: bytes = b"", added: bytes = b"") -> None:
        self._cut: Final = cut.rstrip(b"/")
        self._put: Final = _escaped(put)
        self._added: Final = _escaped(added) + (b"" if self._cut else self._put)
        self.cut_prefix: Final = _escaped(cut)
        self._given: Final = cut, put, added

    def parts(self) -> dict[str, object]:
        """What it is made of, by the names of its parameters, for another process."""
        cut, put, added = self._given
        return {"cut": cut, "put": put, "added": added}

    def cuts(self, target: bytes) -> bool:
        """Whether the prefix is cut off this target; BadMessage (400) where that is not beyond doubt."""
        cut = self._cut
        if not cut or target == b"*":
            return False
        path = matching_path(target)
        return _has_prefix(path, cut) or (b";" in path and _has_prefix(without_parameters(path), cut))

    def target(self, target: bytes) -> bytes:
        """The target for a backend. BadMessage (400) where what is cut is not plainly what was matched, or the path leads out
        of what is put before it. `*` has no path and stays.
        """
        if target == b"*":
            return target
        path, mark, query = target.partition(b"?")
        if self.cuts(target):
            rest = cut_prefix(path, self._cut)
            if rest == b"/" and self._put and path[-1:] != b"/":
                rest = b""
            path = self._put + rest
        else:
            matching_path(target)
        return self._added + path + mark + query


def _has_prefix(path: bytes, prefix: bytes) -> bool:
    return path == prefix or path.startswith(prefix + b"/")


def _escaped(path: bytes) -> bytes:
    return quote_from_bytes(path.rstrip(b"/"), safe=_PLAIN).encode("ascii")
