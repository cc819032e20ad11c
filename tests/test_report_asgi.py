"""The middleware that reports load: ASGI applications, and those of them that have a limit."""

import asyncio
from collections import deque

import pytest
from test_report import Clock, metrics

from twisted_lb import report
from twisted_lb.report import Load, asgi

RUNNING, WAITING, UTILIZATION = report.RUNNING, report.WAITING, report.APPLICATION
NOW = 1_800_000_000.0
LEFT = {"type": "http.disconnect"}
BODY = {"type": "http.request", "body": b"", "more_body": False}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def load(clock):
    return Load(clock, lambda: NOW)


def seen(load):
    now = load.seen()
    return now.running, now.waiting


class Client:
    """One request, and what a server knows of it."""

    def __init__(self, application, *headers, kind="http"):
        self.scope = {"type": kind, "headers": list(headers)}
        self.sent = []
        self.coming = asyncio.Queue()
        self.received = 0
        self.task = asyncio.ensure_future(application(self.scope, self.receive, self.send))

    async def receive(self):
        self.received += 1
        return await self.coming.get()

    async def send(self, message):
        self.sent.append(message)

    def comes(self, *messages):
        for message in messages:
            self.coming.put_nowait(message)

    def report(self):
        (value,) = (bytes(value) for name, value in self.sent[0]["headers"] if name == report.FIELD.encode())
        return metrics(value.decode())


class Gated:
    """An application that answers when it is told to, one request after the other."""

    def __init__(self, headers=()):
        self.headers = headers
        self.begun = []
        self.gates = deque()

    async def __call__(self, scope, receive, send):
        self.begun.append((scope, receive))
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": b"hello"})

    async def go(self):
        self.gates.popleft().set_result(None)
        await settled()


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def scenario(story):
    """Run a story to its end; nothing of it may be left in the loop."""

    async def whole():
        await story
        await settled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole(), debug=True)


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def asked(application, *headers):
    client = Client(application, *headers)
    await client.task
    return client


def test_a_request_is_running_while_its_head_is_made_and_nobody_waits(load):
    async def story():
        client = await asked(asgi(hello, load=load))
        assert client.report() == {RUNNING: 1, WAITING: 0}
        assert client.sent[0]["headers"][0] == (b"a", b"b")
        assert client.sent[1] == {"type": "http.response.body", "body": b"hello"}
        assert client.received == 0

    scenario(story())
    assert seen(load) == (0, 0)


@pytest.mark.parametrize(
    ("said", "form"), [(b"text", b"TEXT"), (b"JSON", b"JSON"), (b"bin", None), (b"\xff", None), (b"", b"TEXT")]
)
def test_a_report_has_the_form_that_was_asked_for_or_there_is_none(load, said, form):
    async def story():
        client = await asked(asgi(hello, load=load), (b"Endpoint-Load-Metrics-Format", said))
        forms = [value[:4] for name, value in client.sent[0]["headers"] if name == b"endpoint-load-metrics"]
        assert forms == ([form] if form else [])

    scenario(story())


@pytest.mark.parametrize("kind", ["lifespan", "websocket", "something"])
def test_what_is_not_http_is_passed_on_as_it_is(load, kind):
    given = []

    async def application(*words):
        given.extend(words)
        await words[2]({"type": "http.response.start", "headers": []})

    async def story():
        client = Client(asgi(application, limit=1, load=load), kind=kind)
        await client.task
        assert given[0] is client.scope
        assert (given[1], given[2]) == (client.receive, client.send)
        assert client.sent == [{"type": "http.response.start", "headers": []}]

    scenario(story())
    assert load.most_running == 0


def test_a_stream_runs_until_the_application_returns(load):
    async def story():
        gate = asyncio.Event()

        async def streaming(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await gate.wait()
            await send({"type": "http.response.body", "body": b"b"})

        client = Client(asgi(streaming, load=load))
        await settled()
        assert (len(client.sent), seen(load)) == (2, (1, 0))
        gate.set()
        await client.task
        assert client.report()[RUNNING] == 1

    scenario(story())
    assert seen(load) == (0, 0)


def test_an_application_that_raises_or_is_cancelled_runs_no_longer(load):
    async def broken(scope, receive, send):
        raise KeyError("x")

    async def story():
        with pytest.raises(KeyError):
            await Client(asgi(broken, load=load)).task
        assert seen(load) == (0, 0)
        application = Gated()
        client = Client(asgi(application, load=load))
        await settled()
        assert seen(load) == (1, 0)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.task

    scenario(story())
    assert seen(load) == (0, 0)


def test_the_message_of_the_application_is_not_touched(load):
    own = {"type": "http.response.start", "status": 200, "headers": ((b"a", b"b"),), "trailers": True}

    async def application(scope, receive, send):
        await send(own)

    async def story():
        client = await asked(asgi(application, load=load))
        assert client.sent[0]["trailers"]
        assert len(client.sent[0]["headers"]) == 2

    scenario(story())
    assert own["headers"] == ((b"a", b"b"),)


@pytest.mark.parametrize("name", [b"endpoint-load-metrics", b"endpoint-load-metrics-bin"])
def test_an_application_that_reports_by_itself_is_left_to_it(load, name):
    async def story():
        application = Gated([[b"endpoint-load-metrics", b"y"]] if name.endswith(b"metrics") else [])
        application.headers = [(name, b"x"), *application.headers]
        client = Client(asgi(application, load=load))
        await settled()
        await application.go()
        await client.task
        assert client.sent[0]["headers"] == [(name, b"x")]

    scenario(story())


def test_what_the_application_says_and_who_waited_before_is_added(load):
    async def story():
        application = asgi(hello, capacity=2, queue_times=True, metrics=lambda: {"depth": 3}, load=load)
        client = await asked(application, (b"x-request-start", b"t=%d" % (NOW - 5)))
        assert client.report() == {UTILIZATION: 0, RUNNING: 1, WAITING: 0.5, "named_metrics.depth": 3}
        client = await asked(application, (b"x-queue-start", b"t=%d" % (NOW - 5)), (b"x-request-start", b"0"))
        assert client.report()[WAITING] == 1

    scenario(story())


# With a limit


def test_no_more_than_the_limit_run_and_others_have_their_turn_in_their_order(load, clock):
    async def story():
        application = Gated()
        limited = asgi(application, limit=2, load=load)
        clients = [Client(limited) for _ in range(5)]
        await settled()
        assert (len(application.begun), seen(load)) == (2, (2, 3))
        clock.now += 100
        await application.go()
        assert clients[0].report() == {UTILIZATION: 2.5, RUNNING: 2, WAITING: 3}
        assert (len(application.begun), seen(load)) == (3, (2, 2))
        while application.gates:
            await application.go()
        assert [scope for scope, _ in application.begun] == [client.scope for client in clients]
        for client in clients:
            await client.task
        assert clients[4].report()[WAITING] == 0

    scenario(story())
    assert seen(load) == (0, 0)
    assert load.most_running == 2


def test_who_leaves_while_it_waits_never_reaches_the_application(load):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        first, leaver, last = (Client(limited) for _ in range(3))
        await settled()
        leaver.comes(BODY, LEFT)
        await leaver.task
        assert (leaver.sent, seen(load)) == ([], (1, 1))
        await application.go()
        await application.go()
        await asyncio.gather(first.task, last.task)
        assert [scope for scope, _ in application.begun] == [first.scope, last.scope]

    scenario(story())
    assert seen(load) == (0, 0)


def test_who_leaves_at_the_moment_of_its_turn_hands_it_on(load):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        _first, leaver, last = (Client(limited) for _ in range(3))
        await settled()
        leaver.comes(LEFT)
        application.gates.popleft().set_result(None)
        await settled()
        assert leaver.task.done()
        assert leaver.sent == []
        assert application.begun[-1][0] is last.scope
        await application.go()

    scenario(story())
    assert seen(load) == (0, 0)


@pytest.mark.parametrize("granted", [False, True])
def test_who_is_cancelled_while_it_waits_hands_its_turn_on(load, granted):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        _first, cancelled, last = (Client(limited) for _ in range(3))
        await settled()
        if granted:
            application.gates.popleft().set_result(None)
            while not limited._turns._waiting or len(limited._turns._waiting) > 1:
                await asyncio.sleep(0)
        cancelled.task.cancel()
        await settled()
        assert cancelled.task.cancelled()
        if not granted:
            await application.go()
        assert application.begun[-1][0] is last.scope
        await application.go()

    scenario(story())
    assert seen(load) == (0, 0)


def test_an_application_that_raises_hands_its_turn_on(load):
    async def broken(scope, receive, send):
        raise KeyError("x")

    async def story():
        limited = asgi(broken, limit=1, load=load)
        clients = [Client(limited) for _ in range(3)]
        await settled()
        assert [type(client.task.exception()) for client in clients] == [KeyError] * 3

    scenario(story())
    assert seen(load) == (0, 0)


def pieces(*bodies):
    return [{"type": "http.request", "body": body, "more_body": True} for body in bodies]


def test_what_came_while_it_waited_the_application_receives_in_its_order(load):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        first, second = Client(limited), Client(limited)
        await settled()
        second.comes(*pieces(b"a", b"b"))
        await settled()
        await application.go()
        _, receive = application.begun[-1]
        came = [await receive(), await receive()]
        second.comes(*pieces(b"c"), BODY)
        came += [await receive(), await receive()]
        assert came == [*pieces(b"a", b"b", b"c"), BODY]
        await application.go()
        await asyncio.gather(first.task, second.task)

    scenario(story())


def test_one_that_did_not_wait_receives_from_the_server(load):
    async def story():
        application = Gated()
        client = Client(asgi(application, limit=1, load=load))
        await settled()
        assert client.received == 0
        client.comes(BODY)
        assert await application.begun[0][1]() == BODY
        await application.go()
        await client.task

    scenario(story())


def test_an_application_that_gives_up_receiving_may_receive_again(load):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        first, second = Client(limited), Client(limited)
        await settled()
        await application.go()
        _, receive = application.begun[-1]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        second.comes(BODY)
        assert await receive() == BODY
        await application.go()
        await asyncio.gather(first.task, second.task)

    scenario(story())


def test_of_a_large_body_no_more_than_a_part_is_read_ahead(load):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        first, second = Client(limited), Client(limited)
        piece = bytes(report.READ_AHEAD_BYTES // 4)
        second.comes(*pieces(*[piece] * 8))
        await settled()
        assert second.received == 4
        await application.go()
        _, receive = application.begun[-1]
        assert [await receive() for _ in range(8)] == pieces(*[piece] * 8)
        await application.go()
        await asyncio.gather(first.task, second.task)

    scenario(story())


def test_a_server_that_fails_to_receive_fails_as_it_would_without_a_limit(load):
    async def story():
        application = Gated()
        limited = asgi(application, limit=1, load=load)
        Client(limited)
        await settled()

        async def receive():
            raise OSError("gone")

        with pytest.raises(OSError, match="gone"):
            await limited({"type": "http"}, receive, None)
        await application.go()

    scenario(story())
    assert seen(load) == (0, 0)


def test_an_application_may_have_one_event_loop_after_the_other(load):
    """As test clients do."""
    application = Gated()
    limited = asgi(application, limit=1, load=load)

    async def story():
        clients = [Client(limited) for _ in range(2)]
        await settled()
        for _ in clients:
            await application.go()
        await asyncio.gather(*(client.task for client in clients))

    for _ in range(2):
        scenario(story())
    assert seen(load) == (0, 0)


def test_the_capacity_may_be_another_one_than_the_limit(load, clock):
    async def story():
        application = Gated()
        client = Client(asgi(application, limit=8, capacity=4, load=load))
        await settled()
        clock.now += 100
        await application.go()
        assert client.report()[UTILIZATION] == 0.25

    scenario(story())


@pytest.mark.parametrize("limit", [0, -1, True, 2.0])
def test_a_limit_is_a_number_of_requests(limit):
    with pytest.raises(ValueError, match=r"^limit should be a whole number of requests, 1 or more, not "):
        asgi(hello, limit=limit)
