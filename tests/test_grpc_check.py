"""gRPC checks: what the health service is asked, and which of its answers pass."""

from collections.abc import Iterator

import pytest
from http2_backend import Http2Backend
from probing import ProbeBench

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.grpc_check import GrpcCheck
from twisted_lb.wire.grammar import Limits

GRPC = ("content-type", "application/grpc")


@pytest.fixture
def bench() -> Iterator[ProbeBench]:
    one = ProbeBench()
    yield one
    for probe in one.probes:
        probe.close()
    one.clock.advance(5)


def says(message: bytes, code: int = 0):
    return lambda request: request.head(200, GRPC).data(message).trail(("grpc-status", str(code)))


def alone(code: int, status: int = 200):
    return lambda request: request.head(status, GRPC, ("grpc-status", str(code)), ended=True)


def ask(bench: ProbeBench, script, service: bytes = b"") -> tuple[Http2Backend, list[tuple[bool, str]]]:
    backend = Http2Backend(bench.network, "a:80", [script])
    results = bench.ask(bench._probe(GrpcCheck(service, "agent/1", Limits(), secure=False)))
    bench.clock.advance(2)
    return backend, results


@pytest.mark.parametrize(
    ("service", "body"), [(b"", b"\0\0\0\0\0"), (b"pkg.Service", b"\0\0\0\0\x0d\x0a\x0bpkg.Service")]
)
def test_the_health_service_is_asked_for_a_service(bench, service, body):
    backend, results = ask(bench, says(b"\0\0\0\0\2\x08\1"), service)
    (request,) = backend.requests
    assert request.fields == [
        (":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", "a:80"),
        ("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "agent/1"),
    ]  # fmt: skip
    assert (request.body, results) == (body, [(True, "serving")])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (says(b"\0\0\0\0\2\x08\2"), "it says NOT_SERVING"),
        (says(b"\0\0\0\0\2\x08\0"), "it says UNKNOWN"),
        (says(b"\0\0\0\0\0"), "it says UNKNOWN"),
        (says(b"\0\0\0\0\2\x08\3"), "it says SERVICE_UNKNOWN"),
        (says(b"\0\0\0\0\2\x08\x09"), "an answer that is no word of the health service"),
        (says(b"\1\0\0\0\2\x08\1"), "an answer that is no word of the health service"),
        (says(b"\0\0\0\0\3\x08\1"), "an answer that is no word of the health service"),
        (says(b"\0\0\0\0\2\x10\1"), "an answer that is no word of the health service"),
        (says(b"\0" * 100), "an answer that is no word of the health service"),
        (says(b"\0\0\0\0\2\x08\1", 14), "grpc-status 14 (unavailable)"),
        (alone(5), "grpc-status 5 (not_found); it knows no service 'pkg.A'"),
        (
            alone(12),
            'grpc-status 12, it has no health service (grpc.health.v1): health_check.kind = "tcp", or give it one',
        ),
        (alone(0, 503), "status 503, which is no answer of gRPC"),
        (lambda request: request.head(200, GRPC).data(b"\0\0\0\0\2\x08\1", ended=True), "grpc-status missing"),
        (lambda request: request.give_up(8), "it was reset: CANCEL"),
        (lambda request: None, "no answer in time"),
    ],
)
def test_nothing_but_serving_passes(bench, script, reason):
    _, results = ask(bench, script, b"pkg.A")
    assert results == [(False, reason)]


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        ({"health_check": {"kind": "grpc"}}, 'needs protocol = "h2"'),
        (
            {"protocol": "h2", "health_check": {"kind": "grpc", "grpc_service": "a/B"}},
            "should be the name of a service",
        ),
        ({"protocol": "h2", "health_check": {"kind": "grpc", "method": "HEAD"}}, 'method needs kind = "http"'),
    ],
)
def test_a_question_that_does_not_fit_is_refused(pool, why):
    with pytest.raises(ValueError, match=why):
        LoadBalancerConfig.model_validate({"pools": {"a": {"backends": ["a:80"], **pool}}})
