"""Trace context: which traceparent is one, and which begins a trace of its own."""

import pytest

from twisted_lb.wire.trace_context import trace_line, trace_parent

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"


@pytest.mark.parametrize(("flags", "sampled"), [(b"00", False), (b"01", True), (b"03", True), (b"02", False)])
def test_it_says_trace_span_and_whether_it_is_sampled(flags, sampled):
    told = trace_parent(b"Host: x\r\nTraceParent:\t00-%b-%b-%b \r\nA: b\r\n" % (TRACE, SPAN, flags))
    assert (told.trace_id, told.span_id, told.flags, told.sampled) == (TRACE, SPAN, int(flags, 16), sampled)


def test_one_of_a_newer_version_may_say_more():
    assert trace_parent(b"traceparent: cc-%b-%b-01-what-is-new\r\n" % (TRACE, SPAN)).sampled


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"theirs",
        b"ff-%b-%b-01" % (TRACE, SPAN),
        b"00-%b-%b-01-more" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE.upper(), SPAN),
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        b"00-%b-%b-1" % (TRACE, SPAN),
        b"00-%b-%b-01" % (TRACE[1:], SPAN),
        b"00-%b-%b-01, 00-%b-%b-01" % (TRACE, SPAN, TRACE, SPAN),
    ],
)
def test_what_is_not_right_is_none(value):
    assert trace_parent(b"traceparent: %b\r\n" % value) is None


def test_two_of_them_are_none_and_so_is_nothing():
    line = trace_line(TRACE, SPAN, 1)
    assert trace_parent(line).sampled
    assert trace_parent(line + line) is None
    assert trace_parent(b"Host: x\r\n") is None
    assert trace_parent(b"") is None
