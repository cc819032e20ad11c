"""Traces to a real collector over a real network: a small one that takes OTLP as JSON, and holds it against the official schema."""

import base64
import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ports import free_port
from processes import PATIENCE_S, Stage, listening, stage, until

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes batches; `status` and `pause_s` are what it answers with, once each."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.asked = 0
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.asked += 1
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = told.statuses.pop(0) if told.statuses else 200
                if status == 200:
                    assert self.path == "/v1/traces"
                    assert self.headers["Content-Type"] == "application/json"
                    told.batches.append(json.loads(body))
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "1")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [
            span
            for batch in self.batches
            for resource in batch["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def on_stage(tmp_path) -> Iterator[Stage]:
    with stage(tmp_path) as one:
        yield one


def balancer(on_stage: Stage, collector_port: int) -> tuple[Any, int]:
    _, port = on_stage.backend(name="be-1")
    own = free_port()
    file = on_stage.folder / "lb.toml"
    file.write_text(
        f"""
        backends = ["127.0.0.1:{port}"]
        listen = {{ interface = "127.0.0.1", port = {own} }}
        [traces]
        endpoint = "http://127.0.0.1:{collector_port}"
        service = "edge-1"
        """
    )
    running = on_stage.twistd("lb", "lb", "--config", str(file))
    until(lambda: listening(own) or running.process.poll() is not None, "the balancer")
    assert running.process.poll() is None, running.log
    return running, own


def ask(port: int, sampled: bool = True) -> bytes:
    fields = {"traceparent": f"00-{TRACE}-{SPAN}-0{int(sampled)}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/headers", headers=fields)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return answer.read()


def test_a_collector_gets_the_spans_of_a_trace_that_goes_on_at_the_backend(on_stage, collector):
    _, port = balancer(on_stage, collector.port)
    heard = {name.lower(): value for name, value in json.loads(ask(port))}
    ask(port, sampled=False)
    until(lambda: len(collector.spans) == 2, "the spans")
    server, client = collector.spans
    assert (server["traceId"], server["parentSpanId"], client["parentSpanId"]) == (TRACE, SPAN, server["spanId"])
    assert heard["traceparent"] == f"00-{TRACE}-{client['spanId']}-01"
    _hold_against_the_schema(collector.batches[0])


def _hold_against_the_schema(batch: dict[str, Any]) -> None:
    """OTLP's JSON is that of protobuf, but for ids, which are in hexadecimal."""
    reason = "no opentelemetry-proto here (the dev extra has it)"
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason=reason)
    from google.protobuf.json_format import ParseDict

    for span in batch["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):
            span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    told = ParseDict(batch, service.ExportTraceServiceRequest())  # which takes no key that it does not know
    [resource] = told.resource_spans
    assert (resource.resource.attributes[0].key, resource.resource.attributes[0].value.string_value) == (
        "service.name", "edge-1",
    )  # fmt: skip
    server, client = resource.scope_spans[0].spans
    assert (server.kind, client.kind) == (server.SPAN_KIND_SERVER, client.SPAN_KIND_CLIENT)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, SPAN)
    assert 0 < server.start_time_unix_nano <= client.start_time_unix_nano <= client.end_time_unix_nano
    said = {one.key: one.value for one in server.attributes}
    assert (said["http.request.method"].string_value, said["http.response.status_code"].int_value) == ("GET", 200)


def test_a_collector_that_is_busy_gets_them_later(on_stage, collector):
    collector.statuses = [429]
    _, port = balancer(on_stage, collector.port)
    ask(port)
    until(lambda: len(collector.spans) == 2, "the spans")
    assert collector.asked == 2


def test_without_a_collector_requests_are_answered_and_the_log_says_why_there_are_no_spans(on_stage):
    running, port = balancer(on_stage, free_port())
    for _ in range(20):
        ask(port)
    until(lambda: "does not take spans" in running.log, "the complaint")
    ask(port)


def test_a_stop_sends_what_is_left(on_stage, collector):
    running, port = balancer(on_stage, collector.port)
    ask(port)
    running.signal(signal.SIGTERM)
    until(lambda: len(collector.spans) == 2, "the spans")
