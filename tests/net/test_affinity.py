"""Affinity (sticky sessions) through the whole data path: cookies, headers, clients, and keys that answers bring."""

import collections
import re
from typing import Any

import pytest
from house import GET, House
from world import World

from twisted_lb.core.ask import key_of
from twisted_lb.core.backend import AdminState
from twisted_lb.core.held import Held
from twisted_lb.testing import CLOSE, NEVER_ANSWER, ScriptedBackend, ScriptedClient, Wait, response

SECRET, OTHER = "a secret of the house", "another secret of it"
NAMES = ("a:80", "b:80", "c:80")
COOKIE = {"cookie": "lb", "secret": SECRET}
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


class Town(House):
    """Three backends that say their names, in a house with affinity."""

    def __init__(self, names: tuple[str, ...] = NAMES, affinity: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(*names, dated=True, affinity=COOKIE if affinity is None else affinity, **options)
        self.extra: dict[str, list[bytes]] = {}
        self.statuses: dict[str, int] = {}
        self.servers: dict[str, ScriptedBackend] = {name: self.server(name) for name in names}

    def server(self, name: str) -> ScriptedBackend:
        def answer(request: bytes) -> list[Any]:
            body = b"" if request.startswith(b"HEAD ") else name.encode()
            return [response(body, self.statuses.get(name, 200), *self.extra.get(name, []))]

        return self.backend(name, answer)

    def get(self, *lines: bytes, request: bytes = GET, client: ScriptedClient | None = None) -> bytes:
        """The answer to a request with these field lines."""
        client = client or self.client()
        client.take()
        self.ask(
            request.replace(b"Host: x\r\n", b"".join([b"Host: x\r\n", *(line + b"\r\n" for line in lines)])), client
        )
        return client.take()

    def at(self, *lines: bytes, **kw: Any) -> str:
        """Who answers it."""
        return self.get(*lines, **kw).rpartition(b"\r\n\r\n")[2].decode()

    def counted(self) -> dict[str, int]:
        return {held.name: self.pool.totals.affinity[held] for held in Held if self.pool.totals.affinity[held]}


@pytest.fixture
def town():
    towns: list[Town] = []

    def one(*args: Any, **kw: Any) -> Town:
        towns.append(Town(*args, **kw))
        return towns[-1]

    yield one
    for made in towns:
        made.close()


def cookie(answer: bytes) -> bytes:
    """The cookie that an answer sets, as a client brings it back."""
    found = re.search(rb"\r\nSet-Cookie: ([^;]+);", answer)
    assert found, answer
    return b"Cookie: " + found[1]


def set_cookies(answer: bytes) -> list[bytes]:
    return re.findall(rb"\r\nSet-Cookie: ([^\r]+)", answer)


# The cookie.


def test_a_client_comes_back_to_where_its_cookie_says(town):
    lb = town()
    for _ in range(5):
        first = lb.get()
        home = first.rpartition(b"\r\n\r\n")[2].decode()
        mine = cookie(first)
        assert [lb.at(mine) for _ in range(3)] == [home] * 3
    assert lb.counted() == {"NEW": 5, "KEPT": 15}


def test_a_cookie_is_set_once_and_says_nothing_of_a_backend(town):
    lb = town()
    first = lb.get()
    [line] = set_cookies(first)
    assert re.fullmatch(rb"lb=[A-Za-z0-9_-]{40}; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax", line)
    assert set_cookies(lb.get(cookie(first))) == []


def test_by_https_it_is_secure_and_for_all_sites(town):
    lb = town(forwarding={"trusted_proxies": ["127.0.0.1"]})
    [line] = set_cookies(lb.get(b"X-Forwarded-Proto: https"))
    assert line.endswith(b"; HttpOnly; SameSite=None; Secure")
    [line] = set_cookies(lb.get(b"Forwarded: for=1.2.3.4;proto=https"))
    assert line.endswith(b"; SameSite=None; Secure")
    for fields in ([], [b"X-Forwarded-For: 1.2.3.4"], [b"X-Forwarded-Proto: http"]):
        [line] = set_cookies(lb.get(*fields))
        assert line.endswith(b"; HttpOnly; SameSite=Lax")


def test_what_an_untrusted_client_says_of_its_scheme_counts_for_nothing(town):
    [line] = set_cookies(town().get(b"X-Forwarded-Proto: https"))
    assert line.endswith(b"; SameSite=Lax")


def test_the_form_of_the_cookie_is_as_it_is_configured(town):
    form = {"name": "mine", "domain": "example.com", "path": "/app", "same_site": "strict", "secure": "always"}
    lb = town(affinity={"cookie": form, "secret": SECRET, "max_age_s": 60.0})
    [line] = set_cookies(lb.get())
    expected = rb"mine=[^;]{40}; Path=/app; Domain=example\.com; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
    assert re.fullmatch(expected, line)


def test_a_backend_is_not_told_of_it_and_hears_all_other_cookies(town):
    lb = town(NAMES[:1])
    mine = cookie(lb.get())
    lb.get(mine + b"; a=1", b"Cookie: b=2; " + mine.partition(b" ")[2], b"Cookie: " + mine.partition(b" ")[2])
    lines = lb.servers["a:80"].requests[-1].split(b"\r\n")
    assert [line for line in lines if line.lower().startswith(b"cookie")] == [b"Cookie: a=1", b"Cookie: b=2"]
    assert not any(mine.partition(b"=")[2] in request for request in lb.servers["a:80"].requests)


def test_nor_are_those_of_other_pools_to_which_its_route_leads(town):
    spare = {"backends": ["s:80"], "health_check": {"interval_s": 0.0}}
    one = town(("a:80",), pools={"spare": spare}, routes=[{"pool": "default", "fallback": "spare"}])
    server = one.backend("s:80")
    one.cluster.command("a:80", AdminState.MAINT)
    one.get(b"Cookie: lb=x; theme=dark")
    assert b"\r\nCookie: theme=dark\r\n" in server.requests[-1]
    assert b"lb=" not in server.requests[-1]


@pytest.mark.parametrize(
    "wrong",
    [b"", b"x", b"a" * 40, b"a" * 4000, b'"', b"=", b"%00" * 13, b"\xff" * 40, b"b:80", b"MTI3LjAuMC4xOjgwODE"],
)
def test_what_is_no_cookie_of_ours_is_none_and_gets_one(town, wrong):
    lb = town()
    answer = lb.get(b"Cookie: lb=" + wrong)
    assert answer.startswith(b"HTTP/1.1 200")
    assert len(set_cookies(answer)) == 1
    assert lb.counted() == {"UNKNOWN": 1}


def test_a_forged_cookie_is_none(town):
    lb = town()
    mine = cookie(lb.get())
    for place in range(len(b"Cookie: lb="), len(mine)):
        changed = mine[:place] + (b"A" if mine[place : place + 1] != b"A" else b"B") + mine[place + 1 :]
        assert len(set_cookies(lb.get(changed))) == 1, changed
    assert "KEPT" not in lb.counted()


def test_of_several_cookies_of_the_name_the_first_that_is_ours_counts(town):
    lb = town()
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first).partition(b" ")[2]
    for _ in range(3):
        assert lb.at(b"Cookie: lb=x; lb=" + b"a" * 40 + b"; " + mine) == home
    many = b"; ".join([b"lb=" + b"a" * 40] * 10)
    assert len(set_cookies(lb.get(b"Cookie: " + many + b"; " + mine))) == 1, (
        "whoever makes up many is not looked at for long"
    )


def test_the_cookie_of_one_pool_is_nothing_in_another(town):
    pools = {"two": {"backends": ["d:80", "e:80"], "affinity": COOKIE}}
    lb = town(pools=pools, routes=[{"path": "/2", "pool": "two"}])
    lb.server("d:80")
    lb.server("e:80")
    mine = cookie(lb.get())
    there = lb.get(mine, request=GET.replace(b"GET /", b"GET /2"))
    assert len(set_cookies(there)) == 1
    two = lb.plane.clusters["two"].pool.totals.affinity
    assert (two[Held.UNKNOWN], sum(two)) == (1, 1)


def test_pools_have_cookies_of_their_own_names_where_none_is_said(town):
    pools = {"two": {"backends": ["d:80"], "affinity": {"cookie": True}}}
    lb = town(affinity={"cookie": True}, pools=pools, routes=[{"path": "/2", "pool": "two"}])
    lb.server("d:80")
    names = {
        cookie(lb.get(request=GET.replace(b"GET /", b"GET " + path))).partition(b"=")[0] for path in (b"/1", b"/2")
    }
    assert len(names) == 2
    assert all(re.fullmatch(rb"Cookie: lb_[0-9a-f]{8}", name) for name in names)


# Its time.


def test_a_cookie_is_renewed_before_its_time_is_over_and_is_none_after_it(town):
    lb = town(affinity={**COOKIE, "max_age_s": 100.0})
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.wait(9)
    assert set_cookies(lb.get(mine)) == []
    lb.wait(2)
    renewed = lb.get(mine)
    assert renewed.endswith(home.encode())
    newer = cookie(renewed)
    assert newer != mine
    lb.wait(88)
    assert lb.at(mine) == home, "the old one holds for its time"
    lb.wait(2)
    lb.get(mine)
    assert lb.counted()["UNKNOWN"] == 1
    assert lb.at(newer) == home


def test_who_keeps_coming_stays_for_as_long_as_it_likes(town):
    lb = town(affinity={**COOKIE, "max_age_s": 100.0})
    answer = lb.get()
    home, mine = answer.rpartition(b"\r\n\r\n")[2], cookie(answer)
    for _ in range(20):
        lb.wait(60)
        answer = lb.get(mine)
        assert answer.endswith(home)
        mine = cookie(answer)


def test_a_cookie_from_the_future_is_ours_and_is_renewed(town):
    ahead, lb = town(), town()
    ahead.wait(1000)
    mine = cookie(ahead.get())
    answer = lb.get(mine)
    assert lb.counted() == {"KEPT": 1}
    assert len(set_cookies(answer)) == 1
    assert set_cookies(lb.get(cookie(answer))) == []


# Secrets.


def test_cookies_hold_over_a_restart_and_for_every_balancer_with_the_secret(town):
    one, two = town(), town()
    first = one.get()
    assert {two.at(cookie(first)) for _ in range(4)} == {first.rpartition(b"\r\n\r\n")[2].decode()}


def test_without_a_secret_they_hold_for_this_process_alone_and_over_reloads(town):
    one, two = town(affinity={"cookie": "lb"}), town(affinity={"cookie": "lb"})
    first = one.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    two.get(mine)
    assert two.counted() == {"UNKNOWN": 1}
    one.apply(affinity={"drain_s": 5.0})
    assert {one.at(mine) for _ in range(4)} == {home}


def test_a_reload_with_another_secret_keeps_cookies_valid_as_long_as_the_old_one_is_in_the_list(town):
    lb = town()
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.apply(affinity={"secret": [OTHER, SECRET]})
    renewed = lb.get(mine)
    assert renewed.endswith(home.encode())
    newer = cookie(renewed)
    assert set_cookies(lb.get(newer)) == []
    lb.apply(affinity={"secret": OTHER})
    assert lb.at(newer) == home
    assert len(set_cookies(lb.get(mine))) == 1, "signed with what is not there any more"
    assert lb.counted()["UNKNOWN"] == 1


# Backends that are lost.


def test_a_lost_backend_rebinds_at_once_and_the_cookie_follows(town):
    lb = town()
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.plane.command("default", home, AdminState.MAINT)
    moved = lb.get(mine)
    then, newer = moved.rpartition(b"\r\n\r\n")[2].decode(), cookie(moved)
    assert then != home
    lb.plane.command("default", home, AdminState.READY)
    assert {lb.at(newer) for _ in range(4)} == {then}
    assert {lb.at(mine) for _ in range(4)} == {home}, "whoever did not take the new one goes by the old"


def test_a_removed_backends_clients_are_spread_by_the_policy(town):
    lb = town()
    clients = [lb.get() for _ in range(60)]
    gone = [cookie(one) for one in clients if one.endswith(b"b:80")]
    lb.apply(backends=["a:80", "c:80"])
    spread = collections.Counter(lb.at(mine) for mine in gone)
    assert spread == {"a:80": len(gone) / 2, "c:80": len(gone) / 2}
    assert lb.counted() == {"NEW": 60, "REMOVED": len(gone)}


def test_another_server_under_the_same_name_has_nobody_of_the_old_one(town):
    lb = Town((), backends=[{"address": "a:80", "name": "x"}, {"address": "b:80", "name": "y"}])
    try:
        for name in NAMES:
            lb.server(name)
        mine = next(cookie(one) for _ in range(2) if (one := lb.get()).endswith(b"a:80"))
        lb.apply(backends=[{"address": "c:80", "name": "x"}, {"address": "b:80", "name": "y"}])
        lb.get(mine)
        assert lb.counted()["REMOVED"] == 1
        lb.apply(backends=[{"address": "a:80", "name": "z"}, {"address": "b:80", "name": "y"}])
        assert {lb.at(mine) for _ in range(4)} == {"a:80"}, "and the same server under another one has them"
    finally:
        lb.close()


def test_a_request_that_its_backend_fails_goes_elsewhere_and_is_bound_by_the_answer_that_came(town):
    lb = town()
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.servers[home].script.append(b"what is no answer\r\n\r\n")
    moved = lb.get(mine)
    then = moved.rpartition(b"\r\n\r\n")[2].decode()
    assert then != home
    assert {lb.at(cookie(moved)) for _ in range(4)} == {then}
    assert lb.counted()["FAILED"] == 1


def test_an_answer_of_5xx_binds_nobody(town):
    lb = town()
    lb.statuses = dict.fromkeys(NAMES, 500)
    assert [set_cookies(lb.get()) for _ in range(3)] == [[]] * 3
    lb.statuses = {}
    first = lb.get()
    lb.statuses = dict.fromkeys(NAMES, 503)
    assert {lb.at(cookie(first)) for _ in range(3)} == {first.rpartition(b"\r\n\r\n")[2].decode()}


def test_a_local_reply_binds_nobody(town):
    lb = town()
    mine = cookie(lb.get())
    for server in lb.servers.values():
        server.stop()
    answer = lb.get(mine)
    assert answer.startswith(b"HTTP/1.1 50")
    assert set_cookies(answer) == []


# Requests and answers of every form.


def test_the_cookie_stands_in_answers_of_every_form(town):
    lb = town(NAMES[:1])
    forms: dict[str, tuple[bytes, list[Any]]] = {
        "HEAD": (GET.replace(b"GET", b"HEAD"), [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"]),
        "1.0": (GET.replace(b"1.1", b"1.0"), [response(b"a:80")]),
        "chunked": (GET, [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na:80\r\n0\r\n\r\n"]),
        "until close": (GET, [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na:80", CLOSE]),
        "304": (GET, [b"HTTP/1.1 304 Not Modified\r\n\r\n"]),
        "404": (GET, [response(b"", 404)]),
        "interim": (GET, [b"HTTP/1.1 103 Early Hints\r\n\r\n", Wait(1.0), response(b"a:80")]),
        "body": (POST, [response(b"a:80")]),
    }
    for form, (request, script) in forms.items():
        lb.servers["a:80"].script.append(script)
        client = lb.ask(request)
        lb.wait(1.5)
        answer = client.take()
        assert len(set_cookies(answer)) == 1, form
        assert b"Set-Cookie" not in answer.partition(b"HTTP/1.1 103")[2].partition(b"\r\n\r\n")[0]


def test_it_stands_beside_the_backends_own_cookies_and_what_the_route_edits(town):
    edits = {"set_response_headers": {"X-Who": "{backend}"}, "remove_response_headers": ["Set-Cookie"]}
    lb = town(NAMES[:1], routes=[{"path": "/edited", "pool": "default", **edits}])
    lb.extra["a:80"] = [b"Set-Cookie: own=1"]
    assert [line.partition(b"=")[0] for line in set_cookies(lb.get())] == [b"own", b"lb"]
    answer = lb.get(request=GET.replace(b"GET /", b"GET /edited"))
    assert [line.partition(b"=")[0] for line in set_cookies(answer)] == [b"lb"], "the balancer's own is not edited"
    assert b"\r\nX-Who: a:80\r\n" in answer


def test_a_websocket_is_bound_by_its_handshake(town):
    lb = town(NAMES[:1])
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    lb.servers["a:80"].script.append([switch])
    client = lb.ask(GET.replace(b"Host: x\r\n", b"Host: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"))
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 101")
    assert {lb.at(cookie(answer)) for _ in range(2)} == {"a:80"}
    client.close()
    lb.clock.settle()


@pytest.mark.parametrize("side", ["connection", "resource"])
def test_both_client_sides_set_it_and_keep_to_it(side):
    world = World(side=side, backends=["a:1", "b:1"], affinity=COOKIE)
    try:
        client = world.client().send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        first = world.backend()
        first.send(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello")
        mine = cookie(client.read())
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + mine + b"; other=1\r\n\r\n")
        assert len(world.backend_connections) == 1, "it came to the same one"
        heard = first.read()
        assert b"other=1" in heard
        assert mine.partition(b"=")[2] not in heard
        first.send(b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 5\r\n\r\nhello")
        assert b"Set-Cookie" not in client.read()
    finally:
        world.close()


def test_requests_sent_ahead_are_bound_by_what_each_brings(town):
    lb = town()
    answers = [lb.get() for _ in range(3)]
    homes = [answer.rpartition(b"\r\n\r\n")[2] for answer in answers]
    client = lb.client()
    client.send(b"".join(GET.replace(b"\r\n\r\n", b"\r\n" + cookie(one) + b"\r\n\r\n") for one in answers * 2))
    lb.clock.settle()
    bodies = re.findall(rb"\r\n\r\n([abc]:80)", client.take())
    assert bodies == homes * 2


def test_a_client_that_leaves_at_any_byte_leaves_nothing_behind(town):
    lb = town(NAMES[:1], affinity={"header": "X-User"}, max_in_flight=1)
    request = GET.replace(b"Host: x", b"Host: x\r\nX-User: me")
    for length in range(len(request) + 1):
        client = lb.client()
        client.send(request[:length])
        lb.clock.settle()
        client.close()
        lb.clock.settle()
    assert lb.pool.leases == 0
    assert len(lb.pool.bindings) == 1


# Shares.


def test_with_half_of_the_clients_bound_the_turns_of_the_others_are_exact(town):
    lb = town()
    mine = next(cookie(one) for _ in range(3) if (one := lb.get()).endswith(b"b:80"))
    got = []
    for _ in range(60):
        assert lb.at(mine) == "b:80"
        got.append(lb.at())
    assert collections.Counter(got) == {"a:80": 20, "b:80": 20, "c:80": 20}
    assert all(len(set(got[at : at + 3])) == 3 for at in range(0, 60, 3))


# Draining, and full backends.


def test_a_backend_in_drain_keeps_its_own_until_the_bound(town):
    lb = town(affinity={**COOKIE, "drain_s": 50.0})
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.plane.command("default", home, AdminState.DRAIN)
    assert lb.at(mine) == home
    assert home not in {lb.at() for _ in range(6)}
    lb.wait(51)
    moved = lb.get(mine)
    assert moved.rpartition(b"\r\n\r\n")[2].decode() != home
    assert len(set_cookies(moved)) == 1
    assert lb.counted()["ADMIN"] == 1


@pytest.mark.parametrize("waits", [False, True])
def test_a_full_backend_is_waited_for_or_another_one_serves_and_the_client_stays_bound(town, waits):
    affinity = {**COOKIE, "when_full": "wait" if waits else "rebind"}
    lb = town(NAMES[:2], affinity=affinity, max_in_flight=1, queue={"timeout_s": 100.0})
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.servers[home].script.append([Wait(5.0), response(b"slow")])
    slow = lb.ask(GET.replace(b"\r\n\r\n", b"\r\n" + mine + b"\r\n\r\n"))
    client = lb.ask(GET.replace(b"\r\n\r\n", b"\r\n" + mine + b"\r\n\r\n"))
    assert bool(client.received) is not waits
    assert lb.at() != home, "others overtake"
    lb.wait(5.1)
    assert slow.take().endswith(b"slow")
    answer = client.take()
    assert (answer.rpartition(b"\r\n\r\n")[2].decode() == home) is waits
    assert set_cookies(answer) == []
    assert lb.at(mine) == home


def test_who_waits_for_a_backend_that_goes_is_served_by_another_one(town):
    lb = town(NAMES[:2], affinity={**COOKIE, "when_full": "wait"}, max_in_flight=1, queue={"timeout_s": 100.0})
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    lb.servers[home].script.append(NEVER_ANSWER)
    request = GET.replace(b"\r\n\r\n", b"\r\n" + mine + b"\r\n\r\n")
    lb.ask(request)
    waiting = lb.ask(request)
    assert lb.pool.waiting == 1
    lb.plane.command("default", home, AdminState.MAINT)
    lb.clock.settle()
    answer = waiting.take()
    assert answer.startswith(b"HTTP/1.1 200")
    assert cookie(answer) != mine


def test_a_client_with_a_connection_of_its_own_is_bound_to_that(town):
    """NTLM: its requests go to where it is logged in, whatever its cookie says, and its cookie follows."""
    lb = town()
    first = lb.get()
    home, mine = first.rpartition(b"\r\n\r\n")[2].decode(), cookie(first)
    client = lb.client()
    there = next(name for name in iter(lambda: lb.at(b"Authorization: NTLM x", client=client), None) if name != home)
    answer = lb.get(mine, client=client)
    assert answer.endswith(there.encode())
    assert lb.at(cookie(answer)) == there
    lb.plane.command("default", there, AdminState.MAINT)
    assert lb.at(mine, client=client) == home


# A header, the client.


def test_requests_with_one_value_of_a_header_stay_together_and_those_without_go_by_the_policy(town):
    lb = town(affinity={"header": "X-User"})
    homes = {user: lb.at(b"X-User: " + user) for user in (b"alice", b"bob", b"carol")}
    assert len(set(homes.values())) == 3
    for user, home in homes.items():
        assert {lb.at(b"x-user:" + user) for _ in range(4)} == {home}
    assert {lb.at() for _ in range(3)} == set(NAMES)
    assert len(lb.pool.bindings) == 3
    assert lb.counted() == {"NEW": 3, "KEPT": 12}
    assert b"Set-Cookie" not in lb.get(b"X-User: alice")


def test_clients_behind_a_trusted_proxy_are_told_apart_and_an_ipv6_site_is_one(town):
    lb = town(affinity={"client": True}, forwarding={"trusted_proxies": ["127.0.0.1"]})
    ours = [b"2001:db8:1:2::1", b"2001:db8:1:2:ffff::9"]
    assert len({lb.at(b"X-Forwarded-For: " + address) for address in ours * 2}) == 1
    others = [b"10.0.0.1", b"10.0.0.2", b"2001:db8:1:3::1"]
    homes = [lb.at(b"X-Forwarded-For: " + address) for address in others]
    assert len(set(homes)) == 3
    assert [lb.at(b"X-Forwarded-For: " + address) for address in others] == homes
    assert len(lb.pool.bindings) == 4


def test_what_an_untrusted_client_says_to_be_counts_for_nothing(town):
    lb = town(affinity={"client": True})
    assert len({lb.at(b"X-Forwarded-For: 10.0.0.%d" % n) for n in range(9)}) == 1
    assert len(lb.pool.bindings) == 1


def test_the_table_is_bounded_and_keeps_no_value(town):
    lb = town(affinity={"header": "X-User", "most": 10})
    for n in range(50):
        lb.at(b"X-User: user %d" % n)
    assert (len(lb.pool.bindings), lb.pool.bindings.forgotten) == (10, 40)
    assert lb.pool.bindings.find(key_of(b"user 49"), lb.clock.seconds()) is not None


def test_what_is_bound_outlives_a_reload(town):
    lb = town(affinity={"header": "X-User"})
    home = lb.at(b"X-User: alice")
    lb.apply(affinity={"drain_s": 7.0}, policy="rand", backends=[*NAMES, "d:80"])
    lb.server("d:80")
    assert {lb.at(b"X-User: alice") for _ in range(6)} == {home}
    lb.apply(affinity={"header": "X-Other"})
    assert len(lb.pool.bindings) == 0


def test_a_reload_while_a_request_runs_lets_it_end_by_what_it_began_with(town):
    lb = town()
    lb.servers["a:80"].script.append([Wait(5.0), response(b"slow")])
    clients = [lb.ask() for _ in range(3)]
    lb.plane.apply(lb.plan_without("affinity"))
    lb.wait(6)
    assert sorted(len(set_cookies(client.take())) for client in clients) == [0, 1, 1]
    assert set_cookies(lb.get()) == []
    lb.apply(affinity=COOKIE)
    assert len(set_cookies(lb.get())) == 1


# Keys that answers bring.


MCP = {"learn": {"header": "Mcp-Session-Id"}}


def test_a_session_of_mcp_stays_where_it_was_initialized(town):
    lb = town(affinity=MCP)
    for name in NAMES:
        lb.extra[name] = [b"Mcp-Session-Id: session of " + name.encode()]
    homes = [lb.at(request=POST) for _ in range(3)]
    lb.extra = {}
    assert sorted(homes) == list(NAMES)
    for name in NAMES * 3:
        assert lb.at(b"Mcp-Session-Id: session of " + name.encode()) == name
    assert len(lb.pool.bindings) == 3


def session_at(lb: Town) -> str:
    """A session of that name; who has it."""
    for name in NAMES:
        lb.extra[name] = [b"Mcp-Session-Id: s"]
    home = lb.at(request=POST)
    lb.extra = {}
    return home


@pytest.mark.parametrize(("method", "status", "ends"), [
    (b"DELETE", 200, True), (b"DELETE", 204, True), (b"DELETE", 405, False), (b"DELETE", 500, False), (b"POST", 404, True),
    (b"GET", 200, False), (b"GET", 400, False), (b"DELETE", 401, False), (b"DELETE", 403, False), (b"DELETE", 307, False),
])  # fmt: skip
def test_a_delete_ends_a_session_of_mcp_and_a_404_says_that_it_has_ended(town, method, status, ends):
    lb = town(affinity=MCP)
    lb.statuses[session_at(lb)] = status
    lb.get(b"Mcp-Session-Id: s", request=GET.replace(b"GET", method))
    assert (len(lb.pool.bindings) == 0) is ends


def test_a_404_of_who_merely_stood_in_for_a_full_backend_ends_no_session(town):
    lb = town(NAMES[:1], affinity=MCP, max_in_flight=1)
    home = session_at(lb)
    lb.apply(backends=[NAMES[0], "d:80"])
    lb.backend("d:80", [response(b"", 404)])
    lb.ask(b"POST / HTTP/1.1\r\nHost: x\r\nMcp-Session-Id: s\r\nContent-Length: 2\r\n\r\n")
    assert lb.get(b"Mcp-Session-Id: s").startswith(b"HTTP/1.1 404 ")
    assert len(lb.pool.bindings) == 1
    lb.apply(max_in_flight=9)
    assert lb.at(b"Mcp-Session-Id: s") == home


@pytest.mark.parametrize("learn", [{"header": "X-Session"}, {"cookie": "Mcp-Session-Id"}])
def test_of_other_sessions_neither_does(town, learn):
    lb = town(affinity={"learn": learn})
    [name] = learn.values()
    given = b"X-Session: s" if "header" in learn else b"Set-Cookie: %b=s" % name.encode()
    for server in NAMES:
        lb.extra[server] = [given]
    home = lb.at()
    lb.extra, lb.statuses = {}, dict.fromkeys(NAMES, 404)
    brought = given.replace(b"Set-", b"")
    assert lb.at(brought, request=GET.replace(b"GET", b"DELETE")) == home
    assert {lb.at(brought) for _ in range(4)} == {home}


def test_a_session_that_an_application_keeps_in_a_cookie_is_learnt_from_it(town):
    lb = town(affinity={"learn": {"cookie": "JSESSIONID"}})
    lb.extra["b:80"] = [b"Set-Cookie: JSESSIONID=4711.node2; Path=/app; HttpOnly"]
    while lb.at() != "b:80":
        pass
    lb.extra = {}
    mine = b"Cookie: a=1; JSESSIONID=4711.node2"
    assert {lb.at(mine) for _ in range(4)} == {"b:80"}
    assert b"JSESSIONID=4711.node2" in lb.servers["b:80"].requests[-1], "it is the backend's own"
    lb.extra["b:80"] = [b"Set-Cookie: JSESSIONID=; Max-Age=0"]
    lb.get(mine)
    assert len(lb.pool.bindings) == 0


def test_a_new_id_of_a_session_is_learnt_and_a_lost_backend_rebinds_what_is_known(town):
    lb = town(affinity=MCP)
    home = session_at(lb)
    lb.extra[home] = [b"Mcp-Session-Id: t"]
    lb.get(b"Mcp-Session-Id: s")
    lb.extra = {}
    assert {lb.at(b"Mcp-Session-Id: t") for _ in range(3)} == {home}
    lb.plane.command("default", home, AdminState.MAINT)
    then = lb.at(b"Mcp-Session-Id: t")
    assert then != home
    assert {lb.at(b"Mcp-Session-Id: t") for _ in range(3)} == {then}


def test_keys_that_clients_make_up_fill_nothing(town):
    lb = town(affinity=MCP)
    for n in range(20):
        lb.get(b"Mcp-Session-Id: made up %d" % n)
    assert len(lb.pool.bindings) == 0
    assert lb.counted() == {"UNKNOWN": 20}


# Seen.


def test_it_is_told_why_a_request_went_where_it_went(town):
    lb = town()
    mine = cookie(lb.get())
    lb.get(mine)
    [kept, new] = [one.decision.rule for one in lb.plane.explained("recent", 2) if one.decision]
    assert kept == "it is bound to it by the cookie lb"
    assert new.endswith("; by the cookie lb it was bound to nobody yet")


def test_it_is_told_beforehand_where_a_request_would_go_and_nothing_changes_by_it(town):
    lb = town(affinity={"header": "X-User", "max_age_s": 100.0})
    home = lb.at(b"X-User: alice")
    lb.wait(99)
    routed = lb.plane.route("GET", "http://x/", [("X-User", "alice")])
    assert routed.decision is not None
    assert (routed.decision.picked, routed.decision.rule) == (home, "it is bound to it by the header x-user")
    lb.wait(1)
    routed = lb.plane.route("GET", "http://x/", [("X-User", "alice")])
    assert routed.decision is not None
    assert routed.decision.rule.endswith("; by the header x-user it was bound to nobody yet")
    assert lb.counted() == {"NEW": 1}


def test_a_fallback_has_bindings_of_its_own(town):
    spare = {"backends": ["d:80", "e:80"], "affinity": {**COOKIE, "cookie": "spare"}}
    lb = town(NAMES[:1], pools={"spare": spare}, routes=[{"pool": "default", "fallback": "spare"}])
    lb.server("d:80")
    lb.server("e:80")
    lb.plane.command("default", "a:80", AdminState.MAINT)
    first = lb.get()
    assert cookie(first).startswith(b"Cookie: spare=")
    home = first.rpartition(b"\r\n\r\n")[2].decode()
    assert {lb.at(cookie(first)) for _ in range(4)} == {home}
