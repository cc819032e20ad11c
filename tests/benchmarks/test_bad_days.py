"""What the bad days reckon with: the name server of a name that moves, and the mean of several runs."""

import socket
import struct
from collections import Counter

import pytest
from bad_days.closers import mean
from bad_days.moves import answer
from bad_days.results import Case, recorded, result_of

A, AAAA = 1, 28
QUESTION = b"\x03app\x07example\x00"


def query(kind: int, more: bytes = b"") -> bytes:
    return struct.pack("!6H", 0xBEEF, 0x0100, 1, 0, 0, int(bool(more))) + QUESTION + struct.pack("!2H", kind, 1) + more


# EDNS, as HAProxy sends it.
@pytest.mark.parametrize("more", [b"", b"\x00\x00\x29\x02\x00\x00\x00\x00\x00\x00\x00"])
def test_a_question_for_an_address_has_one_answer(more):
    said = answer(query(A, more), "127.0.0.2")
    assert struct.unpack("!6H", said[:12]) == (0xBEEF, 0x8180, 1, 1, 0, 0)
    assert said[12:].startswith(QUESTION)
    assert said.endswith(struct.pack("!H", 4) + socket.inet_aton("127.0.0.2"))


def test_a_question_for_another_kind_of_address_has_none():
    said = answer(query(AAAA), "127.0.0.2")
    assert struct.unpack("!6H", said[:12]) == (0xBEEF, 0x8180, 1, 0, 0, 0)
    assert said[12:] == query(AAAA)[12:]


def test_the_mean_of_several_runs_counts_what_came_in_one_of_them():
    case = mean(3000, [Counter({"": 2999, "502": 1}), Counter({"": 3000}), Counter({"": 2996, "502": 3, "504": 1})])
    assert (case.requests, case.errors) == (9000, {"502": 1.3, "504": 0.3})


def test_the_sums_of_several_lines_are_those_of_the_lines_that_have_any():
    seen = result_of({"a": Case(3, {"502": 2}), "b": Case(cannot="has no active checks"), "c": Case(4, {"502": 1})})
    assert (seen.requests, seen.errors) == (7, {"502": 3})


def test_what_a_line_does_not_have_is_not_recorded():
    assert recorded({"errors": {}, "note": "", "cases": {"a": {"first_s": None, "back_s": [0.0], "requests": 0}}}) == {
        "errors": {},
        "cases": {"a": {"back_s": [0.0], "requests": 0}},
    }
