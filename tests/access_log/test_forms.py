"""The forms of lines: what each says, and that nothing which a client sends can forge one."""

import json
import re
import time

import pytest
from house import GET
from hypothesis import given
from hypothesis import strategies as st

from twisted_lb.access_log import digits
from twisted_lb.access_log.around import Around, Standing
from twisted_lb.access_log.forms import NAMED, form_of
from twisted_lb.access_log.heads import Head, Heads
from twisted_lb.access_log.privacy import Privacy
from twisted_lb.access_log.rules import LogRules
from twisted_lb.access_log.templates import VALUES
from twisted_lb.config.log_format import FORMATS, LOG_PLACEHOLDERS
from twisted_lb.core.agreed import Agreed, ToldByProxy
from twisted_lb.core.outcome import Outcome
from twisted_lb.core.record import Record
from twisted_lb.core.trace import Trace
from twisted_lb.testing import NEVER_ANSWER, RESET, Wait, response

TRACE = b"0af7651916cd43dd8448eb211c80319c"
BROWSER = (
    b"GET /a%20b?token=secret HTTP/1.1\r\nHost: shop.example.com\r\nX-Request-ID: mine\r\nUser-Agent: Mozilla/5.0 (X11)\r\n"
    b"Referer: https://x/y?token=secret\r\ntraceparent: 00-" + TRACE + b"-b7ad6b7169203331-01\r\n\r\n"
)


@pytest.fixture(autouse=True)
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def logged(build, form: str, request: bytes = BROWSER, answer: object = None, **log) -> str:
    """The line of a request that takes a quarter of a second."""
    house = build(log={"file": "stdout", "format": form, **log})
    house.backend("a:80", [[Wait(0.25), response(b"some body")] if answer is None else answer])
    house.ask(request)
    house.wait(1)
    [line] = house.balanced.log_lines
    assert line.endswith(b"\n")
    return line[:-1].decode()


def test_combined_to_the_byte(build):
    assert logged(build, "combined") == (
        '127.0.0.1 - - [06/Nov/1994:09:49:36 +0100] "GET /a%20b?token=secret HTTP/1.1" 200 9 "https://x/y?token=secret" '
        '"Mozilla/5.0 (X11)" 250000'
    )


def test_combined_of_what_says_less(build):
    line = logged(build, "combined", b"GET / HTTP/1.0\r\n\r\n")
    assert line.endswith('"GET / HTTP/1.0" 200 9 "-" "-" 250000')
    house = build(log={"file": "stdout"})
    house.ask(b"\x16\x03\x01\r\n\r\n")
    assert re.search(rb'"___" 400 \d+ "-" "-" 0\n', house.balanced.log_lines[0])


def test_a_client_that_left_has_the_number_of_nginx(build):
    house = build(log={"file": "stdout"})
    house.backend("a:80", [NEVER_ANSWER])
    house.ask().reset()
    house.clock.settle()
    assert b'"GET / HTTP/1.1" 499 0 ' in house.balanced.log_lines[0]


def test_who_was_told_no_status_has_none_in_combined_and_in_templates():
    record = Record(0.0)
    record.ended_at = 0.5
    record.method, record.target, record.version = b"GET", b"/", 11
    record.ended_by = Outcome.CANCELLED
    assert b'"GET / HTTP/1.1" - 0 ' in form_of("combined", around()).line(record)
    assert form_of("{method} {status}", around()).line(record) == b"GET -\n"


def test_a_session_has_neither_a_status_nor_a_path():
    record = Record(0.0)
    record.ended_at = 0.5
    record.method, record.scheme, record.ended_by = b"TCP", b"tcp", Outcome.CLIENT_GONE
    record.target = record.host = b"git.example.com"
    assert b'"TCP git.example.com" - 0 ' in form_of("combined", around()).line(record)
    assert form_of("{status}", around()).line(record) == b"-\n"
    said = json.loads(form_of("json", around()).line(record))
    assert "url.path" not in said
    assert said["server.address"] == "git.example.com"


def test_json_of_a_plain_request(build):
    said = json.loads(logged(build, "json"))
    assert said.pop("client.port") > 0
    assert said == {
        "@timestamp": "1994-11-06T08:49:36.750000Z",
        "client.address": "127.0.0.1",
        "http.request.method": "GET",
        "url.path": "/a%20b",
        "url.query": "token=secret",
        "url.scheme": "http",
        "server.address": "shop.example.com",
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0 (X11)",
        "http.request.referrer": "https://x/y?token=secret",
        "http.request.id": "mine",
        "http.request.body.size": 0,
        "http.response.status_code": 200,
        "http.response.body.size": 9,
        "http.route": "default",
        "trace_id": TRACE.decode(),
        "lb.listener": "default",
        "lb.pool": "default",
        "lb.backend": "a:80",
        "lb.attempt_count": 1,
        "lb.outcome": "OK",
        "lb.times.total": 0.25,
        "lb.times.connect": 0.0,
        "lb.times.head": 0.25,
        "lb.times.first_byte": 0.25,
    }


def test_json_of_a_retry_has_each_attempt_with_its_times(build):
    house = build("a:80", "b:80", log={"file": "stdout", "format": "json"})
    house.backend("a:80", [[Wait(0.5), RESET]])
    house.backend("b:80", [[Wait(0.25), response(b"")]])
    house.ask()
    house.wait(2)
    said = json.loads(house.balanced.log_lines[0])
    first, second = said["lb.attempts"]
    assert first.pop("why")
    assert first == {"backend": "a:80", "began": 0.0, "connected": 0.0, "ended": 0.5, "outcome": "NO_RESPONSE"}
    assert second == {"backend": "b:80", "began": 0.5, "connected": 0.5, "ended": 0.75, "outcome": "OK"}
    assert (said["lb.attempt_count"], said["lb.backend"]) == (2, "b:80")
    assert "error.type" not in said


@pytest.mark.parametrize(
    ("request_", "answer", "kind"),
    [
        (BROWSER, [response(b"", 503)], "503"),
        (BROWSER, [RESET], "NO_RESPONSE"),
        (b"GET / HTTP/3.0\r\n\r\n", [], "VERSION"),
        (BROWSER, [response(b"", 404)], None),
    ],
)
def test_json_of_an_error_says_its_kind(build, request_, answer, kind):
    house = build(log={"file": "stdout", "format": "json"}, retry={"more_attempts": 0})
    house.backend("a:80", [answer])
    house.ask(request_)
    said = json.loads(house.balanced.log_lines[0])
    assert said.get("error.type") == kind
    assert ("lb.why" in said) == (kind in ("NO_RESPONSE", "VERSION"))


def test_json_names_the_proxy_that_brought_a_request_and_the_trace_that_we_began(build):
    house = build(
        log={"file": "stdout", "format": "json"},
        forwarding={"trusted_proxies": ["127.0.0.1"], "traceparent": "make"},
    )
    house.backend()
    house.ask(GET[:-2] + b"X-Forwarded-For: 192.0.2.77\r\n\r\n")
    said = json.loads(house.balanced.log_lines[0])
    assert (said["client.address"], said["network.peer.address"]) == ("192.0.2.77", "127.0.0.1")
    assert "client.port" not in said
    assert said["trace_id"] == house.record.trace_id.decode()


@pytest.mark.parametrize(
    "said",
    [
        b"ff-" + TRACE + b"-b7ad6b7169203331-01",
        b"00-" + TRACE + b"-0000000000000000-01",
        b"00-" + TRACE + b"-b7ad6b7169203331-01-more",
        b"00-" + TRACE + b"-b7ad6b7169203331-01\r\ntraceparent: 00-" + TRACE + b"-b7ad6b7169203331-01",
        b"00-" + TRACE.upper() + b"-b7ad6b7169203331-01",
        b"01-" + TRACE + b"-b7ad6b7169203331-01-more",
        b"00-" + TRACE + b"-b7ad6b7169203331-00",
    ],
)
def test_a_line_has_one_trace_and_it_is_the_backends_whatever_traceparent_says(build, said):
    house = build(
        log={"file": "stdout", "format": "json"}, traces={"endpoint": "http://127.0.0.1:4318/v1/traces", "ratio": 1.0}
    )
    backend = house.backend()
    house.ask(GET[:-2] + b"traceparent: " + said + b"\r\n\r\n")
    [line] = house.balanced.log_lines
    keys = json.loads(line, object_pairs_hook=lambda pairs: [key for key, _ in pairs])
    assert keys.count("trace_id") == 1
    # The version of a caller is passed on where nobody wants spans.
    [told] = re.findall(rb"traceparent: [0-9a-f]{2}-([0-9a-f]{32})-", backend.requests[0])
    assert json.loads(line)["trace_id"].encode() == told


@pytest.mark.parametrize("form", ["json", "{trace_id}"])
def test_a_request_that_was_tried_again_has_one_trace_in_the_log_and_at_both_backends(build, form):
    house = build("a:80", "b:80", log={"file": "stdout", "format": form}, forwarding={"traceparent": "make"})
    backends = [house.backend("a:80", [RESET]), house.backend("b:80")]
    house.ask()
    heads = [head for backend in backends for head in backend.requests]
    traces = [re.search(rb"traceparent: 00-([0-9a-f]{32})-", head)[1] for head in heads]
    assert len(traces) == 2
    assert len(house.record.attempts) == 2
    [line] = house.balanced.log_lines
    told = json.loads(line)["trace_id"].encode() if form == "json" else line.strip()
    assert traces == [told] * 2


def test_a_template(build):
    line = logged(
        build,
        '{time} {client} {method} {path} {status} {{{took_ms}}} "{user_agent}" {user_agent} {detail} {backend_address}',
    )
    assert line == (
        "1994-11-06T08:49:36.750000Z 127.0.0.1 GET /a%20b 200 {250.000} "
        r'"Mozilla/5.0 (X11)" Mozilla/5.0\x20(X11) - a:80'
    )


def test_every_placeholder_has_a_value_and_every_form_a_name(build):
    assert (set(VALUES) | {"time"}, set(NAMED)) == (set(LOG_PLACEHOLDERS), set(FORMATS))
    words = logged(build, " ".join(f"{{{name}}}" for name in LOG_PLACEHOLDERS)).split(" ")
    told = dict(zip(LOG_PLACEHOLDERS, words, strict=True))
    assert told["client_port"].isdigit()
    assert {name: told[name] for name in ("query", "state", "attempts", "retries", "trace_id", "version", "took_us")} == {
        "query": "token=secret", "state": "----", "attempts": "1", "retries": "0", "trace_id": TRACE.decode(),
        "version": "1.1", "took_us": "250000",
    }  # fmt: skip
    of_tls = {"tls_version", "tls_cipher", "tls_name", "tls_resumed", "client_subject", "client_fingerprint"}
    of_proxy = {name for name in LOG_PLACEHOLDERS if name.startswith("proxy_")}
    assert {name for name, word in told.items() if word == "-"} == {"detail", "grpc_status", *of_tls, *of_proxy}


@pytest.mark.parametrize("form", [*FORMATS, "{target} {query} {referer}"])
def test_the_query_can_be_left_out_everywhere(build, form):
    line = logged(build, form, query=False)
    assert "secret" not in line
    assert "/a%20b" in line


@pytest.mark.parametrize("form", [*FORMATS, "{client} {peer}"])
def test_addresses_can_be_those_of_networks(build, form):
    house = build(
        log={"file": "stdout", "format": form, "addresses": "network"}, forwarding={"trusted_proxies": ["127.0.0.1"]}
    )
    house.backend("a:80", [response(b"")] * 2)
    house.ask(GET[:-2] + b"X-Forwarded-For: 192.0.2.77\r\n\r\n")
    house.ask(GET[:-2] + b"X-Forwarded-For: 2001:db8:1:2::3\r\n\r\n")
    one, two = house.balanced.log_lines
    assert (b"192.0.2.0" in one, b"2001:db8:1::" in two) == (True, True)
    assert b".77" not in one
    assert b"2::3" not in two
    assert b"127.0.0.1" not in one + two


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.255", "192.0.2.0"),
        ("2001:db8:ffff:1::1", "2001:db8:ffff::"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.0"),
        ("fe80::1%eth0", "fe80::"),
        ("unix", "unix"),
        ("unknown", "unknown"),
    ],
)
def test_what_a_network_is(address, network):
    privacy = Privacy(query=True, network=True)
    assert [privacy.address(address) for _ in range(2)] == [network, network]


def test_what_is_remembered_of_addresses_and_head_blocks_is_bounded():
    privacy, heads = Privacy(query=True, network=True), Heads()
    for number in range(10_000):
        privacy.address(f"10.{number >> 8}.{number & 255}.1")
        heads.of(b"User-Agent: %d\r\n" % number)
    assert len(privacy._known) <= 4096
    assert len(heads._known) <= 256


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"User-Agent: a\r\nReferer: b\r\n", (b"a", b"b", b"")),
        (b"user-AGENT:a\r\nX-Referer: no\r\n", (b"a", b"", b"")),
        (b"Referer:\r\nUser-Agent: \t b c \t\r\nUser-Agent: second\r\n", (b"b c", b"", b"")),
        (b"traceparent: 00-" + TRACE + b"-b7ad6b7169203331-01\r\n", (b"", b"", TRACE)),
        (b"traceparent: 00-" + b"0" * 32 + b"-b7ad6b7169203331-01\r\n", (b"", b"", b"")),
        (b"traceparent: 00-evil\r\n", (b"", b"", b"")),
        (b"", (b"", b"", b"")),
    ],
)
def test_what_is_read_of_a_header_block(lines, found):
    head = Head(lines)
    assert (head.user_agent, head.referer, head.trace_id) == found


# Nothing can be forged. What a client may send gets here as validated characters, and as values of fields, which may hold any
# byte but NUL, CR and LF; here all of it is as hostile as bytes can be.

hostile = st.binary(max_size=40) | st.sampled_from(
    [
        b'" 200 0 "-" "-"',
        b"\n127.0.0.1 - - forged",
        b"\r\n",
        b'","lb.backend":"x',
        b"\\",
        b"#22",
        b"\x1b[2J",
        b"\xff\xfe",
        b"  ",
    ]
)
hostile_text = st.text(max_size=20) | st.sampled_from(["\ud800", '"', "\n", "\x1b", "a b"])


@st.composite
def records(draw) -> Record:
    record = Record(0.0)
    record.ended_at = 0.5
    record.version = draw(st.sampled_from([0, 10, 11]))
    record.client = record.peer = draw(hostile_text)
    record.method, record.target, record.host, record.request_id, record.scheme = (draw(hostile) for _ in range(5))
    trace = record.trace = Trace(draw(hostile), b"", b"", sampled=False)
    trace.spans[object()] = b"1" * 16  # it was told to a backend
    clean = [draw(hostile).replace(b"\r", b"").replace(b"\n", b"") for _ in range(2)]
    record.fields = b"User-Agent: %b\r\nReferer: %b\r\n" % tuple(clean)
    record.detail = draw(hostile_text)
    record.listener, record.route, record.pool = "web", "shop", "app"
    record.status = draw(st.sampled_from([0, 200, 502]))
    record.ended_by = draw(st.sampled_from([Outcome.OK, Outcome.CLIENT_GONE, Outcome.NO_RESPONSE]))
    if draw(st.booleans()):
        name, subject = draw(hostile_text), draw(hostile_text)
        record.agreed = Agreed(
            "TLSv1.3", "TLS_AES_256_GCM_SHA384", name, resumed=True, subject=subject, fingerprint="ab"
        )
    return record


def around(**rules) -> Around:
    return Around(LogRules("stdout", **rules), Standing(), lambda: 784111777.0)


def is_one_line(line: bytes) -> bool:
    return line.endswith(b"\n") and line.decode("ascii")[:-1].isprintable()


@given(records())
def test_json_parses_and_is_one_line(record):
    line = form_of("json", around()).line(record)
    assert is_one_line(line)
    said = json.loads(line)
    assert len(said) == len(re.findall(rb'[{,]"[a-z0-9_@.]+":', re.sub(rb':"(?:[^"\\]|\\.)*"', b":0", line)))
    assert (said["lb.listener"], said["lb.pool"], said["http.route"]) == ("web", "app", "shop")
    assert said["http.request.method"] == record.method.decode("utf-8", "replace")


@given(records())
def test_haproxy_s_line_has_as_many_fields_as_it_is_to_have(record):
    record.client = "192.0.2.1"  # an address, or a word of ours
    line = form_of("haproxy", around()).line(record)
    assert is_one_line(line)
    before, request, after = line.split(b'"')
    assert after == b"\n"
    assert len(before.split()) == 12
    assert b'"' not in request


@given(records())
def test_combined_has_as_many_fields_as_it_is_to_have(record):
    record.client = "192.0.2.1"
    line = form_of("combined", around()).line(record)
    assert is_one_line(line)
    assert re.fullmatch(
        rb'192\.0\.2\.1 - - \[[^]]+\] "(?:[^"\\]|\\x[0-9A-F]{2})*" (?:\d+|-) 0 "(?:[^"\\]|\\x[0-9A-F]{2})*" '
        rb'"(?:[^"\\]|\\x[0-9A-F]{2})*" 500000\n',
        line,
    )


@given(records(), st.booleans())
def test_a_template_has_as_many_words_as_placeholders(record, quoted):
    names = LOG_PLACEHOLDERS
    text = " ".join(f'"{{{name}}}"' if quoted else f"{{{name}}}" for name in names)
    line = form_of(text, around()).line(record)
    assert is_one_line(line)
    assert len(re.findall(rb'"[^"]*"(?: |\n)', line) if quoted else line.split(b" ")) == len(names)


def test_hostile_bytes_of_a_real_client_stay_in_their_fields(build):
    hostile_head = b'GET /x HTTP/1.1\r\nHost: x\r\nUser-Agent: a" 200 1 "\\\xff\t\x7f\r\n\r\n'
    for form in FORMATS:
        house = build(log={"file": "stdout", "format": form})
        house.backend()
        house.ask(hostile_head.replace(b"\x7f", b""))
        [line] = house.balanced.log_lines
        assert is_one_line(line)
        if form == "json":
            assert json.loads(line)["user_agent.original"] == 'a" 200 1 "\\�'
        if form == "combined":
            assert line.count(b'"') == 6


def test_clients_that_come_from_one_port_are_told_apart_and_what_is_known_of_ports_is_bounded():
    form = form_of("json", around())
    for number in range(10_000):
        record = Record(0.0)
        record.ended_at, record.peer_port = 0.5, number // 2 + 1
        record.client = record.peer = f"10.0.0.{number % 2 + 1}"
        if number % 3 == 0:
            record.peer = "10.9.9.9"
        said = json.loads(form.line(record))
        assert said["client.address"] == record.client
        assert said.get("client.port") == (None if number % 3 == 0 else record.peer_port)
        assert said.get("network.peer.address") == ("10.9.9.9" if number % 3 == 0 else None)
    assert len(form._connections) <= 4096


@given(
    st.floats(0.0, 3e9) | st.integers(0, 10**7).map(lambda us: us / 1e6),
    st.integers(0, 10**8) | st.sampled_from([999, 1000, 999_999, 1_000_000, 10**15]),
)
def test_numbers_and_seconds_are_written_as_python_writes_them(seconds, value):
    assert digits.number(value) == b"%d" % value
    told = digits.seconds_of(seconds).decode()
    assert re.fullmatch(r"\d+\.\d{6}", told)
    # Half of the last digit, and what a float of this size cannot tell.
    assert abs(float(told) - seconds) <= 0.000_000_5 + seconds * 2**-51


def test_what_ended_before_it_began_took_no_time():
    assert (digits.seconds_of(-0.25), digits.seconds_of(0.0)) == (b"0.000000", b"0.000000")


def test_what_json_remembers_is_bounded():
    form = form_of("json", around())
    for number in range(3000):
        record = Record(0.0)
        record.ended_at, record.host, record.route = 0.5, b"h%d" % number, f"r{number}"
        said = json.loads(form.line(record))
        assert (said["server.address"], said["http.route"]) == (f"h{number}", f"r{number}")
    assert max(len(form._hows), len(form._places)) <= 1024


def secured(**more) -> Record:
    record = Record(0.0)
    record.ended_at, record.peer_port, record.client, record.peer = 0.5, 40000, "10.0.0.1", "10.0.0.1"
    record.agreed = Agreed("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256", "shop.example.com", **more)
    return record


def test_json_says_what_tls_has_agreed_on_and_whose_certificate_it_was():
    form = form_of("json", around())
    said = json.loads(form.line(secured(subject="CN=alice,O=Example", fingerprint="ab12")))
    assert {key: value for key, value in said.items() if key.startswith("tls.")} == {
        "tls.protocol.version": "1.2",
        "tls.cipher": "ECDHE-RSA-AES128-GCM-SHA256",
        "tls.client.server_name": "shop.example.com",
        "tls.resumed": False,
        "tls.client.subject": "CN=alice,O=Example",
        "tls.client.hash.sha256": "AB12",
    }
    assert json.loads(form.line(secured(resumed=True)))["tls.resumed"] is True
    assert said["client.port"] == 40000


def test_the_next_connection_from_a_port_has_a_line_of_its_own_in_json():
    form = form_of("json", around())
    first, second = secured(subject="CN=alice"), secured(subject="CN=bob")
    second.client, second.peer = first.client, first.peer
    told = [json.loads(form.line(one))["tls.client.subject"] for one in (first, second, first)]
    assert told == ["CN=alice", "CN=bob", "CN=alice"]
    second.agreed = None
    assert "tls.cipher" not in json.loads(form.line(second))


def test_a_template_says_what_tls_has_agreed_on():
    template = "{tls_version} {tls_cipher} {tls_name} {tls_resumed} {client_subject} {client_fingerprint}"
    form = form_of(template, around())
    line = form.line(secured(subject="CN=Alice B,O=Example", fingerprint="ab12"))
    cipher = b"ECDHE-RSA-AES128-GCM-SHA256"
    assert line == b"TLSv1.2 " + cipher + b" shop.example.com no CN=Alice\\x20B,O=Example ab12\n"
    plain = secured()
    plain.agreed = None
    assert form.line(plain) == b"- - - - - -\n"


WHOLE = ToldByProxy(
    authority="shop.example",
    alpn="h2",
    unique_id='id "1"',
    tls_version="TLSv1.3",
    tls_cipher="TLS_X",
    client_cn="Alice B",
    client_verified=True,
    aws_vpce_id="vpce-1",
    azure_pel_id="74565",
    gcp_conn_id="123456",
)


def told_by(told: ToldByProxy | None) -> Record:
    """A request that came in the clear, over a balancer that has told this."""
    record = secured()
    record.agreed = None if told is None else Agreed("", "", told=told)
    return record


def test_json_says_what_a_balancer_in_front_has_told():
    form = form_of("json", around())
    said = json.loads(form.line(told_by(WHOLE)))
    assert {key: value for key, value in said.items() if key.startswith(("tls.", "lb.proxy."))} == {
        "lb.proxy.unique_id": 'id "1"',
        "lb.proxy.authority": "shop.example",
        "lb.proxy.alpn": "h2",
        "lb.proxy.tls.version": "1.3",
        "lb.proxy.tls.cipher": "TLS_X",
        "lb.proxy.client.cn": "Alice B",
        "lb.proxy.client.verified": True,
        "lb.proxy.aws_vpce_id": "vpce-1",
        "lb.proxy.azure_pel_id": "74565",
        "lb.proxy.gcp_conn_id": "123456",
    }
    said = json.loads(form.line(told_by(ToldByProxy(unique_id="x"))))
    assert [key for key in said if key.startswith(("tls.", "lb.proxy."))] == ["lb.proxy.unique_id"]
    said = json.loads(form.line(told_by(None)))
    assert not [key for key in said if key.startswith("lb.proxy.")]


def test_json_tells_our_own_tls_and_that_of_the_balancer_in_front_apart():
    record = secured()
    record.agreed = Agreed(
        "TLSv1.2", "OURS", "shop.example", told=ToldByProxy(tls_version="TLSv1.3", tls_cipher="THEIRS")
    )
    said = json.loads(form_of("json", around()).line(record))
    assert (said["tls.protocol.version"], said["tls.cipher"]) == ("1.2", "OURS")
    assert (said["lb.proxy.tls.version"], said["lb.proxy.tls.cipher"]) == ("1.3", "THEIRS")


def test_a_template_says_what_a_balancer_in_front_has_told():
    names = [name for name in LOG_PLACEHOLDERS if name.startswith("proxy_")]
    form = form_of(" ".join(f"{{{name}}}" for name in names), around())
    assert dict(zip(names, form.line(told_by(WHOLE)).decode().split(), strict=True)) == {
        "proxy_unique_id": r"id\x20\x221\x22",
        "proxy_authority": "shop.example",
        "proxy_alpn": "h2",
        "proxy_tls_version": "TLSv1.3",
        "proxy_tls_cipher": "TLS_X",
        "proxy_client_cn": r"Alice\x20B",
        "proxy_client_verified": "yes",
        "proxy_aws_vpce_id": "vpce-1",
        "proxy_azure_pel_id": "74565",
        "proxy_gcp_conn_id": "123456",
    }
    assert form.line(told_by(None)).split() == [b"-"] * len(names)
    assert form.line(told_by(ToldByProxy(client_cn="bob"))).split()[6] == b"no"


def test_what_came_in_the_clear_has_no_tls_of_ours_in_a_template_whatever_was_told():
    assert form_of("{tls_version} {tls_resumed}", around()).line(told_by(WHOLE)) == b"- -\n"
