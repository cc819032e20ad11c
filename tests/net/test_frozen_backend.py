"""A backend freezes: it accepts connections, and nothing comes out of them. What it owes goes to others once checks know."""

import dataclasses

import pytest
from house import GET, House

from twisted_lb.core.outcome import Outcome
from twisted_lb.testing import CLOSE, NEVER_ANSWER, ScriptedClient, Wait, response

PUT = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
EXPECTING = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
LOGGED_IN = b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Negotiate dG9rZW4=\r\n\r\n"
CHECKED = {"interval_s": 1.0, "rise": 1, "initial": "up"}
# Long enough for three checks in a row to fail, each after 0.8 of its second.
NOTICED_S = 4.0


def frozen(request: bytes) -> list:
    return [NEVER_ANSWER]


def told(client: ScriptedClient) -> bytes:
    """The status that the client was told first; nothing before it is."""
    return client.received[9:12]


@pytest.fixture
def pair(build):
    """Two backends that are checked; `a` is frozen for requests and for checks from now on, or answers `a_script`."""

    def make(a_script=frozen, **options) -> House:
        house = build("a:80", "b:80", **{"health_check": CHECKED, "policy": "rr", **options})
        house.a, house.b = house.backend("a:80"), house.backend("b:80")
        house.wait(2)
        house.a.answer = a_script
        return house

    return make


def ask_frozen(house: House, request: bytes = GET, how_many: int = 1) -> list[ScriptedClient]:
    """Clients whose requests are with `a`: each turn of `b` is taken by a request that is answered at once."""
    asked = []
    while len(asked) < how_many:
        before = house.members[0].in_flight
        client = house.ask(request)
        if house.members[0].in_flight > before:
            asked.append(client)
        else:
            client.close()
    return asked


@pytest.mark.parametrize("request_", [GET, PUT])
def test_what_a_frozen_backend_owes_is_answered_by_another_one(pair, request_):
    house = pair()
    [client] = ask_frozen(house, request_)
    house.wait(NOTICED_S)
    assert told(client) == b"200"
    attempts = house.record.attempts
    assert [(one.lease.backend.name, one.outcome) for one in attempts] == [
        ("a:80", Outcome.BACKEND_DOWN),
        ("b:80", Outcome.OK),
    ]
    assert attempts[0].detail == "its checks find it down: no answer in time"
    [request] = [one for one in house.b.requests if b"check" not in one]
    assert request.partition(b"\r\n\r\n")[2] == request_.partition(b"\r\n\r\n")[2]
    assert house.members[0].failures == 0, "checks have taken it out, traffic adds nothing"


def test_a_body_that_is_still_coming_goes_on_to_the_other_one(pair):
    house = pair()
    [client] = ask_frozen(house, PUT[:-1])
    house.wait(NOTICED_S)
    assert (told(client), house.members[1].in_flight) == (b"", 1)
    house.ask(b"i", client)
    assert told(client) == b"200"
    assert [one for one in house.b.requests if one.endswith(b"\r\n\r\nhi")]


@pytest.mark.parametrize(
    ("request_", "a_script", "options"),
    [
        pytest.param(POST, frozen, {}, id="a request that must not be sent twice"),
        pytest.param(PUT, frozen, {"limits": {"replay_body_bytes": 1}}, id="a body of which a part is gone"),
        pytest.param(GET, lambda _: [b"HTTP/1.1 2", NEVER_ANSWER], {}, id="half an answer has come"),
        pytest.param(
            EXPECTING, lambda _: [b"HTTP/1.1 102 Processing\r\n\r\n", NEVER_ANSWER], {}, id="a word of it has come"
        ),
        pytest.param(LOGGED_IN, frozen, {}, id="its client is logged in there"),
        pytest.param(GET, frozen, {"retry": {"more_attempts": 0}}, id="nothing is sent twice here"),
        pytest.param(GET, frozen, {"retry": {"budget_percent": 0, "budget_per_s": 0}}, id="the budget is nothing"),
        pytest.param(GET, frozen, {"health_check": {**CHECKED, "move": False}}, id="switched off"),
    ],
)
def test_what_stays_with_a_frozen_backend(pair, request_, a_script, options):
    house = pair(a_script, **options)
    early = b"102" in b"".join(step for step in a_script(b"") if isinstance(step, bytes))
    house.a.early = early
    [client] = ask_frozen(house, request_)
    house.a.answer = frozen
    house.wait(NOTICED_S)
    assert not house.members[0].health.up
    assert house.members[0].in_flight == 1
    assert told(client) == (b"102" if early else b"")


def test_a_health_page_that_says_no_moves_nothing_since_this_is_how_people_drain(pair):
    house = pair(lambda request: [response(b"", 503)] if b"check" in request else [Wait(20), response(b"late")])
    [client] = ask_frozen(house)
    house.wait(NOTICED_S)
    assert not house.members[0].health.up
    assert told(client) == b""
    house.wait(20)
    assert client.received.endswith(b"late")


def test_a_failure_that_was_an_answer_among_silent_ones_moves_nothing(pair):
    house = pair(lambda request: [response(b"", 503)] if b"check" in request else [NEVER_ANSWER])
    [client] = ask_frozen(house)
    house.wait(1.0)
    house.a.answer = frozen
    house.wait(NOTICED_S)
    assert not house.members[0].health.up
    assert (told(client), house.members[0].in_flight) == (b"", 1)


def test_what_was_sent_after_the_first_failed_check_stays_until_as_many_have_failed_after_it(pair):
    house = pair()
    house.wait(1.2)
    assert house.members[0].health.up
    [client] = ask_frozen(house)
    while house.members[0].health.up:
        house.wait(0.1)
    house.wait(0.5)
    assert (told(client), house.members[0].in_flight) == (b"", 1)
    house.wait(4)
    assert told(client) == b"200"


def test_where_nobody_else_is_usable_requests_stay_and_cost_the_budget_nothing(pair):
    house = pair(lambda _: [response()], retry={"budget_percent": 0, "budget_per_s": 1})
    house.b.answer = frozen
    house.wait(NOTICED_S)
    house.a.answer = frozen
    clients = ask_frozen(house, how_many=2)
    house.wait(20)
    assert not any(member.usable for member in house.members)
    assert house.members[0].in_flight == 2
    house.b.answer = lambda _: [response()]
    house.wait(1)
    assert [told(client) for client in clients] == [b"200", b""], "as soon as somebody is"
    house.wait(1.5)
    assert [told(client) for client in clients] == [b"200", b"200"]


def test_the_oldest_go_first_and_in_each_second_one_or_a_tenth_of_what_is_under_way(pair):
    house = pair()
    clients = ask_frozen(house, how_many=30)
    while house.members[0].health.up:
        house.wait(0.01)
    moved = [sum(told(client) == b"200" for client in clients)]
    for _ in range(5):
        house.wait(1)
        moved.append(sum(told(client) == b"200" for client in clients))
    # 3 of 30, 2 of 27, 2 of 25, 2 of 23, 2 of 21, 1 of 19.
    assert moved == [3, 5, 7, 9, 11, 12]
    assert [told(client) for client in clients] == [b"200"] * 12 + [b""] * 18
    house.wait(30)
    assert {told(client) for client in clients} == {b"200"}


def test_two_backends_that_freeze_share_the_pace_of_their_pool(build):
    house = build("a:80", "b:80", "c:80", health_check=CHECKED, policy="rr")
    servers = [house.backend(name) for name in ("a:80", "b:80", "c:80")]
    house.wait(2)
    for server in servers[:2]:
        server.answer = frozen
    [house.ask() for _ in range(12)]
    house.wait(NOTICED_S)
    assert [member.health.up for member in house.members] == [False, False, True]
    before = len(servers[2].requests)
    house.wait(3)
    assert house.members[0].outcomes[Outcome.BACKEND_DOWN] + house.members[1].outcomes[Outcome.BACKEND_DOWN] in (4, 5)
    assert len(servers[2].requests) - before >= 3


def test_a_request_moves_once(build):
    house = build("a:80", "b:80", "c:80", health_check=CHECKED, policy="rr")
    servers = [house.backend(name) for name in ("a:80", "b:80", "c:80")]
    house.wait(2)
    for server in servers:
        server.answer = lambda request: [NEVER_ANSWER] if b"check" not in request else [response()]
    client = house.ask()
    asked = []
    for _ in range(2):
        [now] = [index for index, member in enumerate(house.members) if member.in_flight]
        asked.append(now)
        servers[now].answer = frozen
        house.wait(NOTICED_S + 1)
    assert len(set(asked)) == 2
    assert [member.health.up for member in house.members].count(True) == 1
    assert (told(client), house.members[asked[1]].in_flight) == (b"", 1)


def test_who_is_not_moved_yet_is_answered_by_a_backend_that_thaws(pair):
    house = pair(lambda request: [NEVER_ANSWER] if b"check" in request else [Wait(7.0), response(b"thawed")])
    clients = ask_frozen(house, how_many=20)
    house.wait(4.5)
    assert not house.members[0].health.up
    house.a.answer = lambda _: [response()]
    house.wait(5)
    answers = [client.received.rpartition(b"\r\n\r\n")[2] for client in clients]
    assert 2 <= answers.count(b"ok\n") <= 5
    assert answers.count(b"ok\n") + answers.count(b"thawed") == 20


def test_nothing_moves_from_a_backend_that_has_just_shown_signs_of_life(pair):
    """Its first good check of several that it needs: it answers what it owes."""
    house = pair(lambda request: [NEVER_ANSWER] if b"check" in request else [Wait(9.0), response(b"thawed")])
    clients = ask_frozen(house, how_many=9)
    while house.members[0].health.up:
        house.wait(0.01)
    house.pool.configure(dataclasses.replace(house.pool.settings, rise=100), house.clock.seconds())
    checks = len(house.a.requests)
    house.a.answer = lambda request: [response()]
    house.clock.run_until(lambda: len(house.a.requests) > checks)
    house.clock.settle()
    moved = house.members[0].outcomes[Outcome.BACKEND_DOWN]
    house.wait(3)
    assert house.members[0].outcomes[Outcome.BACKEND_DOWN] == moved < 3
    assert not house.members[0].health.up
    house.wait(5)
    assert sum(client.received.endswith(b"thawed") for client in clients) == 9 - moved


def test_a_reload_that_switches_it_off_ends_what_is_under_way(pair):
    house = pair()
    ask_frozen(house, how_many=9)
    while house.members[0].health.up:
        house.wait(0.01)
    moved = house.members[0].outcomes[Outcome.BACKEND_DOWN]
    house.apply(health_check={"move": False})
    house.wait(5)
    assert house.members[0].outcomes[Outcome.BACKEND_DOWN] == moved
    assert house.members[0].in_flight == 9 - moved


def test_what_a_name_owes_moves_on_when_it_gets_more_addresses(build):
    """Who scales out because of it, say: the record lives on under another name."""
    house = build("app:80", "b:80", resolved={"app": ["10.0.0.1"]}, health_check=CHECKED, policy="rr")
    house.a, house.b = house.backend("10.0.0.1:80"), house.backend("b:80")
    house.wait(2)
    house.a.answer = frozen
    clients = ask_frozen(house, how_many=9)
    while house.members[0].health.up:
        house.wait(0.01)
    assert sum(told(client) == b"200" for client in clients) < 3
    house.network.name("app", "10.0.0.1", "10.0.0.2")
    house.wait(6)
    assert [one.name for one in house.members] == ["app:80@10.0.0.1:80", "app:80@10.0.0.2:80", "b:80"]
    house.wait(20)
    assert {told(client) for client in clients} == {b"200"}


def test_what_the_old_server_of_a_name_owes_moves_on_when_a_new_one_is_well(build):
    """A container that froze is replaced by another one."""
    house = build("app:80", "b:80", resolved={"app": ["10.0.0.1"]}, health_check=CHECKED, policy="rr")
    house.a, house.b = house.backend("10.0.0.1:80"), house.backend("b:80")
    new = house.backend("10.0.0.2:80", lambda request: [response()] if b"check" in request else [Wait(4.0), response()])
    house.wait(2)
    house.a.answer = frozen
    clients = ask_frozen(house, how_many=30)
    while house.members[0].health.up:
        house.wait(0.01)
    house.network.name("app", "10.0.0.2")
    house.wait(6)
    assert house.members[0].health.up
    later = ask_frozen(house)
    assert house.members[0].outcomes[Outcome.BACKEND_DOWN] < 20
    house.wait(30)
    assert {told(client) for client in clients} == {b"200"}
    assert [told(client) for client in later] == [b"200"]
    assert len([one for one in new.requests if b"check" not in one]) == 1
    assert house.members[0].outcomes[Outcome.BACKEND_DOWN] == 30
    house.wait(2)
    assert house.cluster._moving._timer is None


def test_nothing_is_kept_to_a_backend_that_fell_silent(pair):
    house = pair(lambda request: [NEVER_ANSWER] if b"check" in request else [response()])
    clients = [house.ask() for _ in range(4)]
    assert [told(client) for client in clients] == [b"200"] * 4
    assert house.cluster.idle == 2
    house.wait(NOTICED_S)
    assert house.cluster.idle == 1
    assert not house.members[0].health.up


def test_that_a_backend_closes_early_is_still_known_when_it_has_been_silent(build):
    """It was forgotten with the connections to it, and a POST was risked on a kept one within that minute."""
    house = build("a:80", health_check=CHECKED)
    house.a = house.backend("a:80", lambda request: [response()])
    house.wait(2)
    house.a.answer = lambda request: [response(), Wait(0.01), CLOSE]
    house.ask().close()
    house.wait(0.1)
    house.a.answer = frozen
    house.wait(NOTICED_S)
    assert not house.members[0].health.up
    house.a.answer = lambda request: [response()]
    house.wait(3)
    client = house.ask()
    assert told(client) == b"200"
    made = len(house.a.connections)
    client.send(POST)
    house.clock.settle()
    assert client.received.count(b"HTTP/1.1 200") == 2
    assert len(house.a.connections) == made + 1
