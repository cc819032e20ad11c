"""gRPC through a real balancer, with grpcio at both ends: all kinds of calls, long messages, cancellation, deadlines, checks."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from processes import Stage, stage, until

grpc = pytest.importorskip("grpc")
TIMEOUT_S = 20
LONG = bytes(range(256)) * 40_000
ROOM = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Service(grpc.GenericRpcHandler):
    """A service of bytes, without protobuf."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.calls = 0

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        kinds = {
            "Unary": grpc.unary_unary_rpc_method_handler,
            "Down": grpc.unary_stream_rpc_method_handler,
            "Up": grpc.stream_unary_rpc_method_handler,
            "Both": grpc.stream_stream_rpc_method_handler,
            "Hang": grpc.unary_stream_rpc_method_handler,
            "Fail": grpc.unary_unary_rpc_method_handler,
        }
        return kinds[name](getattr(self, name.lower())) if name in kinds else None

    def unary(self, message: bytes, context: Any) -> bytes:
        self.calls += 1
        context.set_trailing_metadata((("x-sum", str(len(message))),))
        return message

    def down(self, message: bytes, _: Any) -> Iterator[bytes]:
        for number in range(int(message)):
            yield b"%d" % number

    def up(self, messages: Iterator[bytes], _: Any) -> bytes:
        return b",".join(messages)

    def both(self, messages: Iterator[bytes], _: Any) -> Iterator[bytes]:
        for message in messages:
            yield message[::-1]

    def hang(self, _: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(self.cancelled.set)
        yield b"begun"
        self.cancelled.wait(TIMEOUT_S)

    def fail(self, message: bytes, context: Any) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, message.decode())
        return b""


class Health(grpc.GenericRpcHandler):
    """The health service: its answer is two bytes."""

    serving = True

    def service(self, details: Any) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01" if self.serving else b"\x08\x02")


class World:
    """A server, a balancer in front of it, and a client's channel."""

    def __init__(
        self, staged: Stage, prepare: Callable[[Any], object] = lambda _: None, interval_s: float = 0.1
    ) -> None:
        self.service, self.health = Service(), Health()
        self.server = grpc.server(futures.ThreadPoolExecutor(16), handlers=(self.service, self.health), options=ROOM)
        prepare(self.server)
        self.backend = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        port = free_port()
        config = staged.folder / "lb.toml"
        config.write_text(
            f'[listeners.web]\naddress = "127.0.0.1:{port}"\nprotocols = ["h2"]\n[[routes]]\npool = "app"\n[pools.app]\n'
            f'backends = ["127.0.0.1:{self.backend}"]\nprotocol = "h2"\n'
            f'health_check = {{ kind = "grpc", interval_s = {interval_s}, timeout_s = 20, fall = 1, rise = 1 }}\nqueue = {{ no_backend_s = 0 }}\n'
        )
        self.balancer = staged.twistd("lb", "lb", "--config", str(config))
        self.balancer.wait_for("on web")
        options = [*ROOM, ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=options)
        grpc.channel_ready_future(self.channel).result(TIMEOUT_S)

    def close(self) -> None:
        self.channel.close()
        self.server.stop(0).wait()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with stage(tmp_path) as staged:
        one = World(staged)
        yield one
        one.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[World]:
    """A world whose checks wait: a server of Python that copies a long message answers nobody meanwhile."""
    with stage(tmp_path) as staged:
        one = World(staged, interval_s=60)
        yield one
        one.close()


def test_a_unary_call_with_trailing_metadata(world):
    response, call = world.channel.unary_unary("/s/Unary").with_call(b"hello", timeout=TIMEOUT_S)
    assert (response, dict(call.trailing_metadata())["x-sum"]) == (b"hello", "5")


def test_all_kinds_of_streams(world):
    assert list(world.channel.unary_stream("/s/Down")(b"500", timeout=TIMEOUT_S)) == [b"%d" % n for n in range(500)]
    assert world.channel.stream_unary("/s/Up")(iter([b"a", b"b", b"c"]), timeout=TIMEOUT_S) == b"a,b,c"
    words: queue.Queue[bytes | None] = queue.Queue()
    answers = world.channel.stream_stream("/s/Both")(iter(words.get, None), timeout=TIMEOUT_S)
    for word in (b"ping", b"pong", b"end"):
        words.put(word)
        assert next(answers) == word[::-1]
    words.put(None)
    assert list(answers) == []


def test_ten_megabytes_both_ways(world):
    assert world.channel.unary_unary("/s/Unary")(LONG, timeout=60) == LONG


MESSAGES, MESSAGE = 50, bytes(range(256)) * 8192  # of 2 MiB each, 100 MiB in all


def streamed(world: World) -> None:
    """All messages at once, each answered as it comes."""
    count = 0
    for answer in world.channel.stream_stream("/s/Both")(iter([MESSAGE] * MESSAGES), timeout=600):
        assert answer == MESSAGE[::-1]
        count += 1
    assert count == MESSAGES


def streamed_slowly(world: World) -> None:
    """The same where the client takes an answer only when it has nothing else to do: what it does not take piles up where it may."""
    begun = threading.Event()

    def messages() -> Iterator[bytes]:
        for number in range(MESSAGES):
            if number == MESSAGES // 2:
                begun.set()
            yield MESSAGE

    answers = world.channel.stream_stream("/s/Both")(messages(), timeout=600)
    first = next(answers)
    begun.wait(3)  # with windows that are shut it never comes so far
    assert [first, *answers] == [MESSAGE[::-1]] * MESSAGES


def at_once(world: World) -> None:
    """As one message, which none but the two ends hold."""
    whole = MESSAGE * MESSAGES
    assert world.channel.unary_unary("/s/Unary")(whole, timeout=600) == whole


@pytest.mark.long
@pytest.mark.parametrize("how", [streamed, streamed_slowly, at_once])
def test_a_hundred_megabytes_each_way_are_not_held_here(patient, how):
    world = patient
    world.channel.unary_unary("/s/Unary")(LONG, timeout=60)  # what is made once is there
    balancer = world.balancer
    balancer.forget_most_memory()
    before = balancer.most_memory_kib()
    how(world)
    # A window each way, what one receive brings, and what the allocator keeps: a third of what goes one way would show.
    assert balancer.most_memory_kib() - before < 32 << 10
    assert "Traceback" not in balancer.log


@pytest.mark.long
def test_an_error_and_a_method_that_nobody_has(world):
    with pytest.raises(grpc.RpcError) as failed:
        world.channel.unary_unary("/s/Fail")(b"not so", timeout=TIMEOUT_S)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not so")
    with pytest.raises(grpc.RpcError) as failed:
        world.channel.unary_unary("/s/Nothing")(b"", timeout=TIMEOUT_S)
    assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_call_that_is_cancelled_is_cancelled_at_the_server(world):
    answers = world.channel.unary_stream("/s/Hang")(b"", timeout=60)
    assert next(answers) == b"begun"
    answers.cancel()
    assert world.service.cancelled.wait(TIMEOUT_S)


def test_a_deadline_ends_the_call_at_the_server_too(world):
    answers = world.channel.unary_stream("/s/Hang")(b"", timeout=0.5)
    with pytest.raises(grpc.RpcError) as failed:
        list(answers)
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert world.service.cancelled.wait(TIMEOUT_S)


def test_calls_at_once_share_a_connection(world):
    calls = [world.channel.unary_unary("/s/Unary").future(b"%d" % n, timeout=TIMEOUT_S) for n in range(200)]
    assert [call.result() for call in calls] == [b"%d" % n for n in range(200)]


def test_a_server_that_is_not_serving_is_out_and_calls_are_told_so(world):
    world.health.serving = False
    world.balancer.wait_for("it says NOT_SERVING")
    with pytest.raises(grpc.RpcError) as failed:
        world.channel.unary_unary("/s/Unary")(b"", timeout=TIMEOUT_S)
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "Service Unavailable (503), request " in failed.value.details()
    world.health.serving = True

    def served() -> bool:
        try:
            return bool(world.channel.unary_unary("/s/Unary")(b"x", timeout=TIMEOUT_S) == b"x")
        except grpc.RpcError:
            return False

    until(served, "it is serving again")


def test_reflection_lists_the_services_through_it(tmp_path):
    reflection = pytest.importorskip("grpc_reflection.v1alpha.reflection")
    messages = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2")
    stubs = pytest.importorskip("grpc_reflection.v1alpha.reflection_pb2_grpc")
    with stage(tmp_path) as staged:
        world = World(
            staged, prepare=lambda server: reflection.enable_server_reflection(("s", reflection.SERVICE_NAME), server)
        )
        ask = iter([messages.ServerReflectionRequest(list_services="")])
        answer = next(stubs.ServerReflectionStub(world.channel).ServerReflectionInfo(ask, timeout=TIMEOUT_S))
        assert {one.name for one in answer.list_services_response.service} == {"s", reflection.SERVICE_NAME}
        world.close()
