"""Edits of paths: what is cut is what was matched, and the rest is byte for byte as it came."""

import pytest

from twisted_lb.net.path_edit import PathEdit
from twisted_lb.wire.grammar import BadMessage

STRIP = PathEdit(b"/v1")
REPLACE = PathEdit(b"/old", b"/new")
ADD = PathEdit(added=b"/app")
ALL = PathEdit(b"/old", b"/new", b"/app")


@pytest.mark.parametrize(
    ("edit", "target", "onward"),
    [
        (STRIP, b"/v1", b"/"),
        (STRIP, b"/v1?a=/v1", b"/?a=/v1"),
        (STRIP, b"/v1/", b"/"),
        (STRIP, b"/v1/a%2Fb/%41?c", b"/a%2Fb/%41?c"),
        (STRIP, b"/%761/x", b"/x"),
        (STRIP, b"/v1x/v1", b"/v1x/v1"),
        (STRIP, b"/v1/../x", b"/v1/../x"),  # that is /x
        (STRIP, b"/", b"/"),
        (STRIP, b"*", b"*"),
        (REPLACE, b"/old", b"/new"),
        (REPLACE, b"/old/", b"/new/"),
        (REPLACE, b"/old/a?b", b"/new/a?b"),
        (REPLACE, b"/older", b"/older"),
        (ADD, b"/", b"/app/"),
        (ADD, b"/a?b", b"/app/a?b"),
        (ADD, b"/a/../b", b"/app/a/../b"),
        (PathEdit(b"/", b"/new"), b"/", b"/new/"),
        (PathEdit(b"/", b"/new"), b"/a?b", b"/new/a?b"),
        (PathEdit(b"/", b"/new", b"/app"), b"/a", b"/app/new/a"),
        (PathEdit(b"/"), b"/a", b"/a"),
        (ALL, b"/old/a", b"/app/new/a"),
        (ALL, b"/a", b"/app/a"),
        (PathEdit("/süß".encode(), "/größer als".encode()), b"/s%C3%BC%C3%9F/x", b"/gr%C3%B6%C3%9Fer%20als/x"),
    ],
)
def test_a_target_becomes(edit, target, onward):
    assert edit.target(target) == onward


@pytest.mark.parametrize(
    ("edit", "target"),
    [
        (STRIP, b"//v1/x"),
        (STRIP, b"/./v1/x"),
        (STRIP, b"/a/../v1/x"),
        (STRIP, b"/v1//x"),
        (STRIP, b"/v1/../v1/x"),
        (STRIP, b"/v1/./x"),
        (STRIP, b"/v1;a=b/x"),
        (STRIP, b"/v1/%2e%2e/x"),
        (ADD, b"/../x"),
        (ADD, b"/a/../../x"),
        (ADD, b"/..%2fx"),
    ],
)
def test_what_is_not_plainly_matched_or_leads_out_is_refused(edit, target):
    with pytest.raises(BadMessage) as bad:
        edit.target(target)
    assert bad.value.status == 400
