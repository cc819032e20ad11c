"""HTTP checks: what is asked, which answers pass, and what a failure is said to be."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probing import ProbeBench, asked, probe_bench

from twisted_lb.core.address import parse_address
from twisted_lb.http_check import ANSWER_BYTES, HttpCheck
from twisted_lb.testing import CLOSE, NEVER_ANSWER, RESET, Wait, response

HERE = parse_address("a:80")


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    with probe_bench() as one:
        yield one


def verdict(check: HttpCheck, *pieces: bytes, end: bool = False) -> tuple[bool, str] | None:
    """What these pieces of an answer come to; with `end` they are all of it."""
    hearing = check.hear(HERE)
    for piece in pieces:
        if piece and not hearing.over:
            hearing.feed(piece)
    if end and not hearing.over:
        hearing.end()
    return None if hearing.result is None else (hearing.result.passed, hearing.result.reason)


def in_bytes(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


# What is asked.


@pytest.mark.parametrize(
    ("address", "host"), [("a:80", b"a:80"), ("[::1]:8080", b"[::1]:8080"), ("unix:/run/x", b"localhost")]
)
def test_the_question_is_a_get_of_the_path(bench, address, host):
    backend = bench.backend(address=address)
    assert bench.ask(bench.http(), address) == [(True, "status 200")]
    assert backend.requests == [
        b"GET /health?x HTTP/1.1\r\nHost: " + host + b"\r\n"
        b"User-Agent: agent/1\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ]
    assert bench.network.dialled == [parse_address(address)]


def lines(**differently) -> list[bytes]:
    return asked(**differently).request(HERE).removesuffix(b"\r\n\r\n").split(b"\r\n")


@pytest.mark.parametrize("address", ["a:80", "[::1]:8080", "unix:/run/x"])
def test_another_host_may_be_asked_for_whoever_is_asked(address):
    request = asked(host=b"app.example.org").request(parse_address(address))
    assert request.count(b"Host: ") == request.count(b"\r\nHost: app.example.org\r\n") == 1


def test_the_port_that_is_asked_is_in_the_host(bench):
    backend = bench.backend(address="a:9000")
    bench.ask(bench.http(), "a:9000")
    assert b"\r\nHost: a:9000\r\n" in backend.requests[0]


@pytest.mark.parametrize(
    ("method", "length"),
    [(b"HEAD", False), (b"OPTIONS", False), (b"POST", True), (b"PUT", True), (b"PATCH", True), (b"PROPFIND", False)],
)
def test_another_method_asks_without_a_body_and_says_so_where_one_is_usual(method, length):
    said = lines(method=method)
    assert said[0] == method + b" /health?x HTTP/1.1"
    assert (b"Content-Length: 0" in said) is length


def test_fields_are_added_and_stand_in_place_of_ours():
    said = lines(fields=(b"Authorization: Bearer x", b"user-agent: kube-probe", b"X-Empty: "))
    assert said[2:] == [
        b"Accept: */*",
        b"Authorization: Bearer x",
        b"user-agent: kube-probe",
        b"X-Empty: ",
        b"Connection: close",
    ]


def test_who_looks_for_a_text_takes_no_coding_unless_told_to():
    assert b"Accept-Encoding: identity" in lines(text=b"well")
    assert [one for one in lines(text=b"well", fields=(b"accept-encoding: gzip",)) if b"ncoding" in one] == [
        b"accept-encoding: gzip"
    ]
    assert not [one for one in lines() if b"Encoding" in one]


# Which statuses pass.

ANSWERS = [
    (b"HTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
    (b"HTTP/1.0 204 No Content\r\n\r\n", True, "status 204"),
    (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", True, "status 302"),
    (b"HTTP/1.1 399 Other\r\n\r\n", True, "status 399"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", True, "status 200"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 100_000, True, "status 200"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", True, "status 200"),
    (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\n\r\nHTTP/1.1 503 No\r\n\r\n", False, "status 503"),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", False, "status 101"),
    (b"HTTP/1.1 404 Not Found\r\n\r\n", False, "status 404"),
    (b"HTTP/1.1 500 Oops\r\n\r\n", False, "status 500"),
    (b"HTTP/1.1 599 Oops\r\n\r\n", False, "status 599"),
    (b"SSH-2.0-x\r\n", False, "illegal status line"),
    (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", False, "bare LF"),
    (b"220 mail.example.org ESMTP\r\n", False, "illegal status line"),
    (
        b"\x15\x03\x01\x00\x02\x02\x16",
        False,
        "an answer in TLS, and its pool speaks plain HTTP: [pools.X.tls] is missing",
    ),
    (b"HTTP/1.1 600 Oops\r\n\r\n", False, "illegal status"),
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        False,
        "both Content-Length and Transfer-Encoding",
    ),
    (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000, False, "the head of the answer is too long"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, False, "the head of the answer is too long"),
]


@pytest.mark.parametrize(("answer", "passed", "reason"), ANSWERS, ids=lambda one: repr(one)[:30])
def test_an_answer_is_judged_by_its_status(bench, answer, passed, reason):
    """At once, without the end of its body or of the connection."""
    bench.backend(answer, NEVER_ANSWER)
    assert bench.ask(bench.http()) == [(passed, reason)]
    bench.clock.advance(1)


@pytest.mark.parametrize("passing", [range(200, 400), range(200, 300), [401, 503], [207, 501, 599]], ids=repr)
def test_the_statuses_that_are_expected_pass_and_no_others(passing):
    for status in range(200, 600):
        said = verdict(asked(statuses=frozenset(passing)), response(b"", status))
        assert said is not None
        assert said[0] is (status in passing), status
        assert said[1].startswith(f"status {status}")


def test_an_answer_may_come_byte_by_byte(bench):
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n\r\n"
    pieces = itertools.chain.from_iterable((piece, Wait(0.001)) for piece in in_bytes(answer))
    bench.backend(*pieces, CLOSE)
    results = bench.ask(bench.http())
    bench.clock.advance(0.001 * (len(answer) - 1) - 0.0005)
    assert results == []
    bench.clock.advance(0.001)
    assert results == [(True, "status 200")]
    bench.clock.advance(0.001)


LONG_HEAD = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %b\r\n" % (i, b"y" * 1990) for i in range(20)) + b"\r\n"


@pytest.mark.parametrize("piece", [1000, 16384, 40_000, len(LONG_HEAD)])
@pytest.mark.parametrize(
    ("head_bytes", "said"), [(65536, (True, "status 200")), (32768, (False, "the head of the answer is too long"))]
)
def test_a_head_may_be_as_long_as_that_of_traffic_however_it_is_cut(piece, head_bytes, said):
    pieces = [LONG_HEAD[at : at + piece] for at in range(0, len(LONG_HEAD), piece)]
    assert verdict(asked(head_bytes), *pieces) == said


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\nbody" % (b"y" * 80), "status 200"),  # 100 bytes and the blank line
        (b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\nbody" % (b"y" * 81), "the head of the answer is too long"),
        (b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"y" * 62), "status 200"),
        (b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"y" * 63), "the head of the answer is too long"),
        (b"HTTP/1.1 103 E\r\n\r\n" * 10, "the head of the answer is too long"),
        (b"HTTP/1.1 103 E\r\n\r\nSSH-2.0\r\n\r\n" + b"y" * 200, "illegal status line"),
        (b"HTTP/2 200 OK\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200 OK\r\nX: %b\nY: z\r\n\r\n" % (b"y" * 79), "bare LF"),
        (b"HTTP/1.1 200 OK\r\nX: %b\nY: z\r\n\r\n" % (b"y" * 90), "the head of the answer is too long"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "illegal status line"),
    ],
    ids=[
        "exactly",
        "one more",
        "interim, exactly",
        "interim, one more",
        "interim only",
        "no head",
        "2",
        "LF",
        "late LF",
        "no status",
    ],
)
def test_the_verdict_is_the_same_however_little_is_here(answer, reason):
    """Interim heads count, since they might never end."""
    check = asked(head_bytes=100)
    said = {verdict(check, answer[:length]) for length in range(len(answer) + 1)}
    said |= {verdict(check, answer[:cut], answer[cut:]) for cut in range(len(answer) + 1)}
    said.add(verdict(check, *in_bytes(answer)))
    assert {one[1] for one in said if one is not None} == {reason}


INTERIM = [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n", b"HTTP/1.1 99 x\r\n\r\n"]
HEADS = [
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 404 No\r\n\r\n",
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
    b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n",
    b"HTTP/1.1 200 OK\n\n",
    b"\r\n",
    b"\x16\x03\x01",
]
PARTS = [
    b"4\r\nwell\r\n",
    b"2\r\nwe\r\n2;x\r\nll\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"wel",
    b"l",
    b"y" * 200,
    HEADS[0],
]


@given(
    interim=st.sampled_from(INTERIM),
    head=st.sampled_from(HEADS),
    parts=st.lists(st.sampled_from(PARTS), max_size=6),
    cuts=st.lists(st.integers(0, 600), max_size=8),
    text=st.booleans(),
)
def test_however_an_answer_is_cut_it_comes_to_the_same(interim, head, parts, cuts, text):
    """But for a text that comes in one piece with a broken chunk."""
    answer = interim + head + b"".join(parts)
    check = asked(head_bytes=150, text=b"well" if text else b"")
    places = sorted({0, len(answer), *(cut for cut in cuts if cut < len(answer))})
    pieces = [answer[begin:end] for begin, end in itertools.pairwise(places)]
    whole = verdict(check, answer, end=True)
    assert whole is not None
    if whole[1].startswith("illegal chunk") or whole[1].startswith("chunk "):
        assert text
    else:
        assert verdict(check, *pieces, end=True) == verdict(check, *in_bytes(answer), end=True) == whole


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize(("end", "reason"), [(CLOSE, "closed without an answer"), (RESET, "")], ids=["closed", "reset"])
def test_an_answer_that_ends_early_is_a_failure(bench, said, end, reason):
    bench.backend(*([said] if said else []), end)
    [(passed, why)] = bench.ask(bench.http())
    assert not passed
    assert why == reason or (not reason and "lost" in why)


def test_the_answer_to_head_has_no_body_whatever_it_announces(bench):
    backend = bench.backend(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", NEVER_ANSWER)
    assert bench.ask(bench.http(method=b"HEAD")) == [(True, "status 200")]
    assert backend.connections[0].ended


# The expected text.

FOUND = (True, "status 200, with the expected text")
LACKS = (False, "status 200, without the expected text")


def framed(body: bytes, framing: str) -> bytes:
    if framing == "length":
        return response(body)
    if framing == "close":
        return b"HTTP/1.1 200 OK\r\n\r\n" + body
    size = int(framing)
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n\r\n"


FRAMINGS = ["length", "close", "1", "3", "1000"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("text", "body", "said"),
    [
        (b"well", b"all is well.", FOUND),
        (b"well", b"wewell", FOUND),
        (b"aab", b"aaaab", FOUND),
        (b"w", b"w", FOUND),
        ("süß".encode(), "es ist süß".encode(), FOUND),
        (b"200", b"", LACKS),
        (b"status", b"all is wel", LACKS),
        (b"well", b"Well, WELL", LACKS),
        (b"HTTP", b"the head does not count", LACKS),
        (b"3\r\n", b"nor does the coding", LACKS),
    ],
    ids=lambda one: repr(one)[:20],
)
def test_a_text_is_found_in_the_body_and_nowhere_else_however_it_is_cut(framing, text, body, said):
    check, answer = asked(text=text), framed(body, framing)
    cuts = [verdict(check, answer[:cut], answer[cut:], end=True) for cut in range(len(answer) + 1)]
    assert {*cuts, verdict(check, *in_bytes(answer), end=True)} == {said}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_text_is_told_as_soon_as_it_is_here(framing):
    check, answer = asked(text=b"well"), framed(b"all is well, and so on", framing)
    told = [verdict(check, answer[:length]) for length in range(len(answer) + 1)]
    before = framed(b"all is wel", framing).removesuffix(b"0\r\n\r\n")
    assert told.index(FOUND) >= len(before) - 2  # the length has a digit more, a chunk might
    assert set(told[: told.index(FOUND)]) == {None}
    assert set(told[told.index(FOUND) :]) == {FOUND}


@pytest.mark.parametrize("framing", ["length", "close", "1000", "70000"])
@pytest.mark.parametrize(("text_at", "said"), [(ANSWER_BYTES - 4, FOUND), (ANSWER_BYTES - 3, LACKS)])
@pytest.mark.parametrize("piece", [1000, 65536, 1_000_000])
def test_a_text_is_looked_for_in_the_first_64_kib(framing, text_at, said, piece):
    answer = framed(b"y" * text_at + b"well" + b"y" * 10_000, framing)
    pieces = [answer[at : at + piece] for at in range(0, len(answer), piece)]
    assert verdict(asked(text=b"well"), *pieces, end=True) == said


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwel", NEVER_ANSWER], ": no answer in time"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwel", CLOSE], ": the answer is cut short"),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwel\r\n", CLOSE], ": the answer is cut short"),
        ([b"HTTP/1.1 200 OK\r\n\r\nwel", CLOSE], ""),
        ([b"HTTP/1.1 200 OK\r\n\r\nwel", *[b"y", Wait(0.1)] * 20], ": no answer in time"),
    ],
    ids=["silent", "cut short", "cut short, chunked", "complete", "endless"],
)
def test_an_answer_whose_text_does_not_come_is_a_failure_that_says_how(bench, script, reason):
    bench.backend(*script)
    results = bench.ask(bench.http(text=b"well"), timeout_s=1.0)
    bench.clock.advance(2.5)
    assert results == [(False, LACKS[1] + reason)]


def test_a_broken_chunk_is_a_failure_where_the_text_might_still_have_come():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    assert verdict(asked(text=b"well"), answer) == (False, "illegal chunk size")
    assert verdict(asked(), answer) == (True, "status 200")


def test_a_status_that_is_not_expected_fails_whatever_the_text():
    assert verdict(asked(text=b"well"), response(b"well", 500)) == (False, "status 500")


# Hints at usual mistakes.


@pytest.mark.parametrize(
    ("status", "asks", "hint"),
    [
        (400, {}, "; if it does not know the Host a:80: health_check.host"),
        (403, {}, "; if it does not know the Host a:80: health_check.host"),
        (421, {}, "; if it does not know the Host a:80: health_check.host"),
        (400, {"host": b"app"}, ""),
        (401, {}, "; if it is well all the same: health_check.expect_statuses"),
        (401, {"fields": (b"Authorization: x",)}, ""),
        (404, {"path": b"/"}, "; if it has no page /: health_check.path"),
        (404, {}, ""),
        (405, {}, "; if it takes no GET there: health_check.method"),
        (501, {"method": b"HEAD"}, "; if it takes no HEAD there: health_check.method"),
        (503, {}, ""),
    ],
)
def test_a_status_that_tells_of_a_usual_mistake_names_the_key_that_helps(status, asks, hint):
    assert verdict(asked(**asks), response(b"", status)) == (False, f"status {status}{hint}")


def test_the_host_that_was_not_known_is_the_one_that_was_sent(bench):
    bench.backend(response(b"", 400), address="a:9000")
    assert bench.ask(bench.http(), "a:9000") == [
        (False, "status 400; if it does not know the Host a:9000: health_check.host")
    ]
