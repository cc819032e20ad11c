"""Spans: which requests have any, how they hang together with those of client and backend, and what they say."""

import re

import pytest
from house import GET, House
from http2_house import Http2House

from twisted_lb.core.trace import chosen
from twisted_lb.testing import CLOSE, Wait, response
from twisted_lb.testing.balanced import WALL_TIME

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, CLIENT = 2, 3


def get(flags: str = "", target: str = "/v1?secret=1", method: str = "GET", more: str = "") -> bytes:
    """A request; with flags its caller says that it is a part of TRACE."""
    parent = f"traceparent: 00-{TRACE}-{SPAN}-{flags}\r\n" if flags else ""
    return f"{method} {target} HTTP/1.1\r\nHost: www.example:8080\r\n{parent}{more}\r\n".encode()


@pytest.fixture
def house(build):
    def one(*names, ratio=0.0, **options) -> House:
        traces = {"endpoint": "http://collector:4318", "ratio": ratio}
        return build(*(names or ("a:80",)), traces=traces, **options)

    return one


def told(backend) -> list[bytes]:
    """The traceparents that a backend has heard."""
    return [value for request in backend.requests for value in re.findall(rb"(?i)\r\ntraceparent: ([^\r]*)", request)]


def attributes(span) -> dict[str, object]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_a_sampled_request_has_a_server_span_and_a_client_span_that_is_the_backend_s_parent(house):
    lb = house()
    backend = lb.backend("a:80", [[Wait(0.25), response(b"hello")]])
    lb.ask(get("01"))
    lb.wait(1.0)
    server, client = lb.balanced.spans
    assert (server["traceId"], server["parentSpanId"], server["kind"]) == (TRACE, SPAN, SERVER)
    assert (client["traceId"], client["parentSpanId"], client["kind"]) == (TRACE, server["spanId"], CLIENT)
    assert told(backend) == [f"00-{TRACE}-{client['spanId']}-01".encode()]
    assert len({SPAN, server["spanId"], client["spanId"]}) == 3
    assert server["flags"] == 0x301  # sampled, and its parent is elsewhere
    assert client["flags"] == 0x101
    assert {key: value for key, value in attributes(server).items() if not key.startswith(("lb.", "network.peer"))} == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/v1",
        "http.route": "default",
        "http.response.status_code": "200",
        "server.address": "www.example",
        "server.port": "8080",
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "http.response.body.size": "5",
    }
    assert server["name"] == "GET default"
    said = attributes(client)
    assert (said["server.address"], said["server.port"], said["url.full"]) == ("a", "80", "http://a:80/v1")
    assert (said["lb.backend"], said["lb.outcome"], said["http.response.status_code"]) == ("a:80", "OK", "200")
    assert "http.request.resend_count" not in said
    assert "status" not in server
    assert "status" not in client
    for span in (server, client):
        took = int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])
        assert took == pytest.approx(0.25e9, rel=0.01)
        assert int(span["startTimeUnixNano"]) / 1e9 == pytest.approx(WALL_TIME - 0.25, abs=0.01)


def test_what_is_spoken_with_a_backend_is_told_of_its_span_alone():
    lb = Http2House("a:80", more={"traces": {"endpoint": "http://collector:4318"}})
    lb.http2("a:80")
    lb.ask(get("01"))
    lb.wait(1.0)
    assert [attributes(one)["network.protocol.version"] for one in lb.balanced.spans] == ["1.1", "2"]
    lb.close()


def test_each_attempt_has_a_span_and_each_backend_hears_of_its_own(house):
    lb = house("a:80", "b:80")
    first = lb.backend("a:80", [[Wait(0.1), CLOSE]])
    then = lb.backend("b:80")
    lb.ask(get("01"))
    lb.wait(1.0)
    server, one, other = lb.balanced.spans
    assert [one["parentSpanId"], other["parentSpanId"]] == [server["spanId"]] * 2
    assert told(first) == [f"00-{TRACE}-{one['spanId']}-01".encode()]
    assert told(then) == [f"00-{TRACE}-{other['spanId']}-01".encode()]
    failed, well = attributes(one), attributes(other)
    assert (failed["error.type"], failed["lb.backend"], one["status"]) == ("NO_RESPONSE", "a:80", {"code": 2})
    assert "http.response.status_code" not in failed
    assert (well["http.request.resend_count"], well["lb.backend"], "status" in other) == ("1", "b:80", False)
    assert "error.type" not in attributes(server)  # it went well after all
    assert int(one["endTimeUnixNano"]) <= int(other["startTimeUnixNano"])


def test_a_backend_that_was_not_reached_has_a_span_all_the_same(house):
    lb = house(retry={"more_attempts": 0})
    lb.network.refuse("a:80")
    lb.ask(get("01"))
    server, client = lb.balanced.spans
    assert len(client["spanId"]) == 16
    assert (attributes(client)["error.type"], attributes(server)["error.type"]) == ("REFUSED", "REFUSED")
    assert (attributes(server)["http.response.status_code"], server["status"]) == ("502", {"code": 2})


@pytest.mark.parametrize(
    ("status", "server_fails", "client_fails"), [(404, False, True), (500, True, True), (302, False, False)]
)
def test_a_status_is_an_error_by_the_conventions(house, status, server_fails, client_fails):
    lb = house()
    lb.backend("a:80", [response(b"", status)])
    lb.ask(get("01"))
    server, client = lb.balanced.spans
    assert ("status" in server, "status" in client) == (server_fails, client_fails)
    assert attributes(server).get("error.type") == (str(status) if server_fails else None)
    assert attributes(client).get("error.type") == (str(status) if client_fails else None)


def test_a_client_that_leaves_is_nobody_s_error(house):
    lb = house()
    lb.backend("a:80", [[Wait(9.0), response()]])
    client = lb.ask(get("01"))
    client.close()
    lb.wait(1.0)
    server, attempt = lb.balanced.spans
    assert "status" not in server
    assert "status" not in attempt
    assert attributes(server)["lb.outcome"] == "CLIENT_GONE"


def test_who_is_answered_without_a_backend_has_a_server_span_alone(house):
    lb = house(routes=[{"path": "/denied", "deny": True}, {"pool": "default"}])
    lb.ask(get("01", "/denied"))
    lb.ask(b"GET /bad HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")
    [server] = lb.balanced.spans
    assert (server["parentSpanId"], attributes(server)["http.response.status_code"]) == (SPAN, "403")


def test_what_its_caller_does_not_keep_passes_as_it_came(house):
    lb = house(ratio=1.0)
    backend = lb.backend()
    lb.ask(get("00"))
    assert lb.balanced.spans == []
    assert told(backend) == [f"00-{TRACE}-{SPAN}-00".encode()]
    assert lb.record.trace_id == b""


def test_without_a_ratio_no_trace_begins_here(house):
    lb = house()
    backend = lb.backend()
    lb.ask(get())
    lb.ask(get(more="traceparent: theirs\r\n"))
    assert lb.balanced.spans == []
    assert told(backend) == [b"theirs"]


def test_of_those_that_begin_here_a_share_has_spans(house):
    lb = house(ratio=0.25)
    backend = lb.backend()
    client = lb.client()
    for _ in range(400):
        lb.ask(get(), client)
    servers = [one for one in lb.balanced.spans if one["kind"] == SERVER]
    # 400 draws of 1/4 have a standard deviation of 8.7.
    assert 400 / 4 - 35 < len(servers) < 400 / 4 + 35
    assert len(told(backend)) == len(servers)
    assert all(chosen(one["traceId"].encode(), 0.25) for one in servers)
    assert len({one["traceId"] for one in servers}) == len(servers)
    assert not any("parentSpanId" in one for one in servers)


def test_a_trace_that_begins_here_takes_the_place_of_what_was_no_traceparent(house):
    lb = house(ratio=1.0)
    backend = lb.backend()
    lb.ask(get(more="traceparent: theirs\r\ntracestate: a=b\r\n"))
    server, client = lb.balanced.spans
    assert told(backend) == [f"00-{server['traceId']}-{client['spanId']}-01".encode()]
    assert b"tracestate" not in backend.requests[0]
    assert lb.record.trace_id.decode() == server["traceId"]


def test_the_state_of_a_caller_s_trace_passes(house):
    lb = house()
    backend = lb.backend()
    lb.ask(get("01", more="tracestate: a=b\r\n"))
    assert b"\r\ntracestate: a=b\r\n" in backend.requests[0]


def test_a_traceparent_is_made_for_what_is_not_sampled_and_stays_the_same_for_each_attempt(house):
    lb = house("a:80", "b:80", forwarding={"traceparent": "make"})
    first, then = lb.backend("a:80", [CLOSE]), lb.backend("b:80")
    lb.ask(get())
    [one], [other] = told(first), told(then)
    assert one[:36] == other[:36]
    assert one[-3:] == other[-3:] == b"-00"
    assert one[36:52] != other[36:52]
    assert lb.balanced.spans == []


def test_where_the_field_is_the_operator_s_it_is_left_alone(house):
    lb = house(routes=[{"pool": "default", "set_request_headers": {"traceparent": "mine"}}])
    backend = lb.backend()
    lb.ask(get("01"))
    assert told(backend) == [b"mine"]
    assert len(lb.balanced.spans) == 2


def test_a_method_that_nobody_knows_is_other_and_no_name_of_a_span(house):
    lb = house()
    lb.backend()
    lb.ask(get("01", method="BREW"))
    server, client = lb.balanced.spans
    assert (server["name"], client["name"]) == ("HTTP default", "HTTP")
    said = attributes(server)
    assert (said["http.request.method"], said["http.request.method_original"]) == ("_OTHER", "BREW")


def test_no_query_and_no_field_of_a_client_is_in_a_span(house):
    lb = house()
    lb.backend()
    lb.ask(get("01", "http://www.example:8080/a?secret=1", more="Cookie: secret\r\nAuthorization: secret\r\n"))
    assert "secret" not in str(lb.balanced.spans)
    assert attributes(lb.balanced.spans[0])["url.path"] == "/a"


def test_a_reload_begins_and_ends_it(house):
    lb = house()
    backend = lb.backend()
    lb.ask(get("01"))
    lb.apply(traces={"endpoint": None})
    lb.ask(get("01"))
    assert len(lb.balanced.spans) == 2
    assert told(backend)[1] == f"00-{TRACE}-{SPAN}-01".encode()
    lb.apply(traces={"endpoint": "http://other:4318"})
    lb.ask(get("01"))
    assert len(lb.balanced.spans) == 4


def test_where_it_is_off_a_request_costs_nothing(house):
    lb = house()
    lb.apply(traces={"endpoint": None})
    backend = lb.backend()
    lb.ask(GET)
    assert lb.record.trace is None
    assert told(backend) == []
