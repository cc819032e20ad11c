"""Requests whose pool goes by how their bodies begin: what is looked at, what is waited for, and what becomes of it."""

import json
from dataclasses import replace

import pytest
from world import World

from twisted_lb.config.policies import PolicyTable
from twisted_lb.core.address import parse_address
from twisted_lb.core.backend import AdminState
from twisted_lb.core.decision import recalled
from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import CLOSE, NEVER_ANSWER, Wait, response

NAMES = ("a:80", "b:80", "c:80")
# Small blocks, so that small bodies have some.
FINE = PolicyTable("prefix", "requests", block_bytes=64, peek_bytes=4096)


def chat(name, more="", **fields):
    """The body of a request whose prompt begins as all of that name do."""
    messages = [{"role": "system", "content": f"You are {name}. " * 40}, {"role": "user", "content": f"Hi{more}"}]
    return json.dumps({"model": "m", **fields, "messages": messages}).encode()


def post(body, *lines, version=b"1.1"):
    head = [b"POST /v1/chat/completions HTTP/" + version, b"Host: x", *lines, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(*pieces):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    )


def unchunked(data):
    """The payload of a body in chunks."""
    body = b""
    while True:
        size, _, rest = data.partition(b"\r\n")
        if not int(size, 16):
            return body
        body += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]


@pytest.fixture
def farm(build):
    def made(*names, policy=FINE, **options):
        lb = build(*(names or NAMES), policy=policy, **options)
        lb.ends = {name: lb.backend(name) for name in names or NAMES}
        return lb

    return made


def asked(lb, request, client=None):
    """Which backend was asked, and with which body."""
    before = {name: len(end.requests) for name, end in lb.ends.items()}
    client = lb.ask(request, client)
    assert bytes(client.received).startswith(b"HTTP/1.1 200"), bytes(client.received)
    [(name, one)] = [(name, end.requests[-1]) for name, end in lb.ends.items() if len(end.requests) > before[name]]
    return name, one.partition(b"\r\n\r\n")[2]


def counted(lb):
    """How many requests were seen whole, cut, encoded and not at all, and how many blocks of how many matched."""
    found = lb.pool.prefixes["policy"]
    nothing, whole, cut, encoded = found.seen
    return (whole, cut, encoded, nothing), found.matched, found.blocks


def rule(lb):
    return recalled(lb.record.attempts[-1].lease).rule


# What goes where.


def test_a_prompt_goes_where_it_was_whatever_stands_around_it(farm):
    lb = farm()
    first = {name: asked(lb, post(chat(name)))[0] for name in "abcdefgh"}
    assert len(set(first.values())) > 1
    for at, name in enumerate("hgfedcba"):
        assert asked(lb, post(chat(name, more=str(at), temperature=at / 10, user="u" * at)))[0] == first[name]


@pytest.mark.parametrize("size", [1, 100, 700, 5000])
def test_a_body_in_pieces_and_in_chunks_is_the_same_body(farm, size):
    lb = farm()
    body = chat("someone")
    first, _ = asked(lb, post(body))
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    name, sent = asked(lb, chunked(*pieces))
    assert name == first
    assert unchunked(sent) == body
    wire, client = post(body), lb.client()
    for at in range(0, len(wire), size):
        lb.ask(wire[at : at + size], client)
    assert lb.ends[first].requests[-1].endswith(body)
    assert counted(lb)[0] == (3, 0, 0, 0)


def test_a_body_that_came_with_its_head_is_not_waited_for(farm):
    lb = farm()
    _, sent = asked(lb, post(chat("someone")))
    assert sent == chat("someone")
    assert lb.record.gathered_s == 0
    assert "(cold)" in rule(lb)
    asked(lb, post(chat("someone")))
    assert rule(lb).startswith("prefix: it was given 11 of 11 blocks before;")


def test_no_backend_is_claimed_before_the_body_is_here(farm):
    lb = farm()
    wire = post(chat("someone"))
    client = lb.ask(wire[:-1])
    lb.wait(2.0)
    assert (lb.pool.leases, sum(len(end.connections) for end in lb.ends.values())) == (0, 0)
    lb.ask(wire[-1:], client)
    assert bytes(client.received).startswith(b"HTTP/1.1 200")
    assert lb.record.gathered_s == 2.0
    assert counted(lb)[0] == (1, 0, 0, 0)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_of_a_long_body_the_beginning_is_looked_at_and_that_is_said(farm, framing):
    lb = farm()
    body = chat("someone") + b" " * 20_000
    wire = post(body) if framing == "length" else chunked(body[:5000], body[5000:])
    client = lb.ask(wire[:6000])
    assert lb.pool.leases == 1  # 4,096 are here, and that is enough
    lb.ask(wire[6000:], client)
    assert bytes(client.received).startswith(b"HTTP/1.1 200")
    assert "of the body the first 4096 bytes were looked at, more was to come" in rule(lb)
    assert counted(lb) == ((0, 1, 0, 0), 0, (4096 - body.find(b'"messages"')) // 64)
    # As far as it was looked at it is known, and the end of another one is not.
    lb.ask(post(chat("someone")))
    assert counted(lb)[1] == 11


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"x-own"])
def test_a_body_that_is_encoded_is_not_looked_into(farm, encoding):
    lb = farm()
    _, sent = asked(lb, post(chat("someone"), b"content-ENCODING: " + encoding))
    assert sent == chat("someone")
    assert "the body is encoded (Content-Encoding), and was not looked into" in rule(lb)
    assert counted(lb) == ((0, 0, 1, 0), 0, 0)


def test_identity_is_no_encoding(farm):
    lb = farm()
    asked(lb, post(chat("someone"), b"Content-Encoding: Identity"))
    assert counted(lb)[0] == (1, 0, 0, 0)


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", post(b"")]
)
def test_a_request_without_a_body_is_cold(farm, request_):
    lb = farm()
    lb.ask(post(chat("someone")))
    lb.ask(request_)
    assert "no whole block to go by (cold), by load alone" in rule(lb)
    assert "there was no body to look at" in rule(lb)
    assert counted(lb)[0] == (1, 0, 0, 1)


def test_http_1_0_and_who_expects_100_are_served_alike(farm):
    lb = farm()
    first, _ = asked(lb, post(chat("someone")))
    assert asked(lb, post(chat("someone"), version=b"1.0"))[0] == first
    wire = post(chat("someone"), b"Expect: 100-continue")
    at = wire.index(b"\r\n\r\n") + 4
    client = lb.ask(wire[:at])
    assert bytes(client.take()) == b"HTTP/1.1 100 Continue\r\n\r\n"
    lb.ask(wire[at:], client)
    assert bytes(client.take()).startswith(b"HTTP/1.1 200")
    assert len(lb.ends[first].requests) == 3


def test_several_requests_of_one_connection_are_several_prompts(farm):
    lb = farm()
    first = {name: asked(lb, post(chat(name)))[0] for name in "abcd"}
    client = lb.client()
    for name in "aabbcdcd":
        assert asked(lb, post(chat(name)), client)[0] == first[name]
    lb.ask(b"".join(post(chat(name)) for name in "dcba"), client)
    assert [one.attempts[-1].lease.backend.name for one in lb.records[-4:]] == [first[name] for name in "dcba"]


# What goes wrong.


def test_a_body_that_stalls_is_cut_by_the_clients_timeout_and_costs_no_backend_anything(farm):
    lb = farm(timeouts={"body_idle_s": 5.0})
    client = lb.ask(post(chat("someone"))[:-1])
    lb.wait(10.0)
    assert bytes(client.received).startswith(b"HTTP/1.1 408")
    assert (lb.record.ended_by, len(lb.record.attempts)) == (Outcome.CLIENT_FAULT, 0)
    assert not any(end.connections for end in lb.ends.values())


@pytest.mark.parametrize("at", range(0, 900, 60))
def test_a_client_may_leave_at_any_byte(farm, at):
    lb = farm()
    wire = post(chat("someone"))
    client = lb.ask(wire[:at])
    client.reset()
    lb.wait(1.0)
    assert lb.pool.leases == 0
    lb.ask(wire)
    assert counted(lb)[0] == (1, 0, 0, 0)


def test_a_retry_goes_to_another_one_with_the_whole_body_and_who_refused_knows_nothing_any_more(farm):
    lb = farm()
    first, _ = asked(lb, post(chat("someone")))
    lb.ends[first].stop()
    client = lb.ask(post(chat("someone", "again")))
    assert bytes(client.received).startswith(b"HTTP/1.1 200")
    one, two = lb.record.attempts
    assert (one.lease.backend.name, one.outcome) == (first, Outcome.REFUSED)
    other = two.lease.backend.name
    assert lb.ends[other].requests[-1].endswith(chat("someone", "again"))
    assert len(lb.pool.backends[first].load.cache) == 0
    lb.ends[first] = lb.backend(first)
    lb.wait(2.0)
    lb.ask(post(chat("else")))  # the trial
    assert asked(lb, post(chat("someone")))[0] == other


def test_where_its_own_is_full_it_goes_to_another_one_and_where_all_are_it_waits_and_goes_by_its_prompt(farm):
    lb = farm("a:80", "b:80", max_in_flight=1, queue={"timeout_s": 10.0, "no_backend_s": 10.0})
    first, _ = asked(lb, post(chat("someone")))
    other = "b:80" if first == "a:80" else "a:80"
    for name in (first, other):
        lb.ends[name].script.append([Wait(2.0 if name == first else 3.0), response()])
    clients = [lb.ask(post(chat("someone"))) for _ in range(2)]
    assert [one.in_flight for one in lb.members] == [1, 1]
    waiting = lb.ask(post(chat("someone")))
    assert lb.pool.waiting == 1
    lb.wait(2.5)
    assert all(b"200 OK" in bytes(one.received) for one in (waiting, clients[0]))
    assert lb.record.attempts[-1].lease.backend.name == first
    assert rule(lb).startswith("prefix: it was given 11 of 11 blocks before;")
    lb.wait(1.0)


def test_one_that_drains_gets_no_prompts_and_knows_them_when_it_is_back(farm):
    lb = farm()
    first, _ = asked(lb, post(chat("someone")))
    backend = lb.pool.backends[first]
    lb.pool.command(backend, AdminState.DRAIN, lb.clock.seconds())
    assert asked(lb, post(chat("other")))[0] != first
    lb.pool.command(backend, AdminState.READY, lb.clock.seconds())
    assert asked(lb, post(chat("someone")))[0] == first


def test_where_memory_for_bodies_is_out_it_goes_by_what_is_here_and_says_so(farm):
    lb = farm(queue={"timeout_s": 0.0})
    lb.balanced.runtime.memory.bound(1)
    held = lb.ask(post(chat("someone"))[:-1])
    wire = post(chat("other"))
    client = lb.ask(wire[:500])
    assert lb.pool.leases == 1
    lb.ask(wire[500:], client)
    assert bytes(client.received).startswith(b"HTTP/1.1 200")
    here = 500 - wire.index(b"{")
    assert f"of the body the first {here} bytes were looked at, more was to come" in rule(lb)
    assert counted(lb)[0] == (0, 1, 0, 0)
    nothing = lb.ask(wire[: wire.index(b"{")])
    lb.ask(wire[wire.index(b"{") :], nothing)
    assert "there was no body to look at, or none was waited for" in rule(lb)
    assert counted(lb)[0] == (0, 1, 0, 1)
    held.close()
    lb.wait(1.0)


# Other pools, and other policies.


def test_a_fallback_goes_by_the_prompt_too(build):
    pools = {"rest": {"backends": ["d:80", "e:80"], "policy": FINE}}
    lb = build("a:80", policy="rr", pools=pools, routes=[{"pool": "default", "fallback": "rest"}])
    ends = {name: lb.backend(name) for name in ("d:80", "e:80")}
    lb.pool.command(lb.members[0], AdminState.MAINT, lb.clock.seconds())
    body = chat("someone")
    for _ in range(4):
        client = lb.ask(post(body))
        assert bytes(client.received).startswith(b"HTTP/1.1 200")
    assert sorted(len(end.requests) for end in ends.values()) == [0, 4]
    # Its own pool did not ask for it to be gathered: what is here when it falls back counts.
    seen = lb.plane.clusters["rest"].pool.prefixes["policy"]
    assert seen.blocks > 0 or seen.seen[0] == 4


def test_a_shadow_by_prefix_looks_too_and_picks_nobody(farm):
    lb = farm(policy="first", shadow={"policy": FINE})
    for _ in range(3):
        assert asked(lb, post(chat("someone")))[0] == "a:80"
    seen = lb.pool.prefixes
    assert list(seen) == ["shadow"]
    assert (seen["shadow"].seen, seen["shadow"].matched) == ((0, 3, 0, 0), 22)


@pytest.mark.parametrize("policy", ["least", FINE, replace(FINE, block_bytes=128, peek_bytes=256)], ids=str)
@pytest.mark.parametrize("before", ["least", FINE], ids=str)
def test_a_reload_while_a_body_comes_changes_nothing_for_its_client(farm, before, policy):
    lb = farm(policy=before)
    wire = post(chat("someone"))
    client = lb.ask(wire[:-1])
    lb.apply(policy=policy)
    lb.ask(wire[-1:], client)
    assert bytes(client.received).startswith(b"HTTP/1.1 200")
    assert sum(len(end.requests) for end in lb.ends.values()) == 1
    later = asked(lb, post(chat("someone")))[0]
    if policy != "least":
        assert "blocks before" in rule(lb)
        assert asked(lb, post(chat("someone")))[0] == later


def test_what_is_known_stays_over_a_reload_that_changes_the_exchange_rate(farm):
    lb = farm()
    first = {name: asked(lb, post(chat(name)))[0] for name in "abcdef"}
    lb.apply(policy=replace(FINE, load_factor=2.5, blocks=2000))
    assert {name: asked(lb, post(chat(name)))[0] for name in "abcdef"} == first


def test_who_is_replaced_has_nothing_cached(farm):
    lb = farm()
    first, _ = asked(lb, post(chat("someone")))
    lb.backend("d:80")
    named = [{"address": "d:80" if name == first else name, "name": name} for name in NAMES]
    lb.apply(backends=named)
    assert lb.pool.backends[first].address == parse_address("d:80")
    assert len(lb.pool.backends[first].load.cache) == 0


def test_an_upgrade_passes(farm):
    lb = farm()
    lb.ends["a:80"].answer = lb.ends["b:80"].answer = lb.ends["c:80"].answer = lambda request: [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", CLOSE,
    ]  # fmt: skip
    client = lb.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert bytes(client.received).startswith(b"HTTP/1.1 101")


def test_a_backend_that_never_answers_is_left_with_its_prompt(farm):
    lb = farm(routes=[{"pool": "default", "timeouts": {"response_head_s": 3.0}}])
    first, _ = asked(lb, post(chat("someone")))
    lb.ends[first].script.append([NEVER_ANSWER])
    client = lb.ask(post(chat("someone")))
    lb.wait(4.0)
    assert bytes(client.received).startswith(b"HTTP/1.1 504")
    assert asked(lb, post(chat("someone")))[0] == first


# What routes wait for.


@pytest.mark.parametrize(
    ("options", "waits_for"),
    [
        ({"policy": FINE}, 4096),
        ({"policy": FINE, "buffer_request_bytes": 1000}, 4096),
        ({"policy": FINE, "buffer_request_bytes": 10_000}, 10_000),
        ({"policy": "rr", "shadow": {"policy": FINE}}, 4096),
        ({"policy": "rr"}, 0),
        ({"policy": FINE, "buffer_request_bytes": 10_000, "routes": [{"pool": "default", "stream": True}]}, -1),
        ({"policy": "rr", "buffer_request_bytes": 10_000, "routes": [{"pool": "default", "stream": True}]}, 0),
    ],
)
def test_a_route_waits_for_as_much_of_a_body_as_its_pool_holds_or_looks_at(build, options, waits_for):
    lb = build(*NAMES, **options)
    first = next(iter(lb.plane.plan.routes.values()))
    assert [lead.rules.gather_bytes for lead in first.leads] == [waits_for]


def test_a_route_that_streams_waits_for_nothing_and_goes_by_what_came_with_the_head(farm):
    lb = farm(routes=[{"pool": "default", "stream": True}])
    first, _ = asked(lb, post(chat("someone")))
    wire = post(chat("someone"))
    client = lb.ask(wire[:500])
    assert (lb.pool.leases, lb.pool.backends[first].in_flight) == (1, 1)
    lb.ask(wire[500:], client)
    here = 500 - wire.index(b"{")
    assert f"of the body the first {here} bytes were looked at, more was to come" in rule(lb)
    client = lb.ask(wire[: wire.index(b"{")])
    assert lb.pool.leases == 1
    lb.ask(wire[wire.index(b"{") :], client)
    assert "there was no body to look at, or none was waited for" in rule(lb)
    assert counted(lb)[0] == (1, 1, 0, 1)


def test_a_reload_that_changes_the_peek_changes_what_routes_wait_for(farm):
    lb = farm(policy="rr")
    assert lb.pool.peek is None
    lb.apply(policy=FINE)
    client = lb.ask(post(chat("someone"))[:-1])
    assert lb.pool.leases == 0
    client.close()
    lb.apply(policy=replace(FINE, peek_bytes=64))
    client = lb.ask(post(chat("someone"))[:-1])
    assert lb.pool.leases == 1
    client.close()
    lb.wait(1.0)


# Inside twisted.web.


def test_the_resource_of_twisted_web_goes_by_prompts_too():
    world = World(("a:80", "b:80", "c:80"), side="resource", policy=FINE)
    for number in range(3):
        client = world.client().send(post(chat("someone", str(number))))
        world.backend().send(response(b"hello"))
        assert b"hello" in client.read()
    assert sorted(one.requests for one in world.pool.backends.values()) == [0, 0, 3]
    assert world.pool.prefixes["policy"].seen == (0, 3, 0, 0)
    world.close()
