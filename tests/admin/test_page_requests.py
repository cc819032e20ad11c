"""Requests on the page, explained: the waterfall of their phases and its words, for what really happened to them."""

import dataclasses
import html
import re

import pytest
from house import GET, House
from http2_house import Http2House

from twisted_lb.admin.page_requests import MOST_CANDIDATES, bad_and_slow, request_html
from twisted_lb.answers import explained_json
from twisted_lb.core.agreed import Agreed, ToldByProxy
from twisted_lb.core.backend import AdminState
from twisted_lb.testing import CLOSE, NEVER_ANSWER, Wait, response

NAMED = GET.replace(b"\r\n\r\n", b"\r\nX-Request-ID: mine\r\n\r\n")
BARS = re.compile(r'class="f-(\w+)" x="([0-9.]+)%" width="([0-9.]+)%"')


@pytest.fixture
def house(build):
    return build


@pytest.fixture
def make():
    made = []

    def one(*names, **options):
        made.append(Http2House(*names, **options))
        return made[-1]

    yield one
    for lb in made:
        lb.close()


def shown(lb: House) -> str:
    return request_html(explained_json(lb.plane.explain("mine")))


def text_of(page: str) -> str:
    """What is read of it."""
    return html.unescape(" ".join(re.sub(r"<[^>]+>", " ", page).split()))


def bars(page: str) -> list[list[tuple[str, float, float]]]:
    """Of each row what is painted: the phase, where it begins, how long it is, in per cent."""
    rows = re.findall(r'<svg class="water".*?</svg>', page)
    return [[(kind, float(x), float(width)) for kind, x, width in BARS.findall(row)] for row in rows]


def test_an_answer_is_its_phases_in_their_order(house):
    lb = house("a:80")
    lb.backend("a:80", [[Wait(3.0), response()[:-1], Wait(1.0), b"\n"]])
    lb.ask(NAMED)
    lb.wait(5.0)
    page = shown(lb)
    assert bars(page) == [[("first", 0.0, 75.0), ("rest", 75.0, 25.0)]]
    assert "1 default/a:80 ✓ OK 0 0 3.00 s 1.00 s at 0, for 4.00 s" in text_of(page)


def test_an_attempt_over_http2_says_so_with_its_stream(make):
    lb = make("a:80")
    lb.http2("a:80")
    lb.ask(NAMED)
    assert "1 default/a:80 · over HTTP/2, stream 1 · chosen: " in text_of(shown(lb))


def test_an_attempt_over_http1_does_not(house):
    lb = house("a:80")
    lb.backend("a:80")
    lb.ask(NAMED)
    assert "1 default/a:80 · chosen: " in text_of(shown(lb))


def test_each_attempt_has_a_row_that_begins_where_the_one_before_has_ended(house):
    lb = house("a:80", "b:80", "c:80")
    lb.backend("a:80", [[Wait(3.0), CLOSE]])
    lb.backend("b:80", [[Wait(1.0), response()]])
    lb.plane.command("default", "c:80", AdminState.DRAIN)
    lb.ask(NAMED)
    lb.wait(5.0)
    page = shown(lb)
    assert bars(page) == [[("bad", 0.0, 75.0)], [("first", 75.0, 25.0)]]
    text = text_of(page)
    assert "retried, then well · default/a:80 → default/b:80 4.00 s Why? mine" in text
    assert "1 default/a:80 ✗ NO_RESPONSE" in text
    assert "2 default/b:80 ✓ OK 0 0 1.00 s 0 at 3.00 s, for 1.00 s" in text
    assert "2 default/b:80 · retried: after NO_RESPONSE this one may be repeated by its method; attempt 2 of 3" in text
    assert re.search(r"default/a:80 tried 0 1 \S+ tried before default/b:80 ready \S+ 1 \S+ taken", text)
    assert "default/c:80 drained 0 1 – taken out by the operator" in text


def test_a_connect_that_failed_is_told_with_its_time(house):
    lb = house("a:80", timeouts={"connect_s": 2.0}, retry={"more_attempts": 0})
    lb.network.hang("a:80")
    lb.ask(NAMED)
    lb.wait(3.0)
    page = shown(lb)
    assert bars(page) == [[("bad", 0.0, 100.0)]]
    assert re.search(r"1 default/a:80 ✗ CONNECT_TIMEOUT .*?0 2\.00 s – – at 0, for 2\.00 s", text_of(page))
    assert '<span class="status x5">504</span>' in page


def test_an_answer_that_was_cut_failed_in_its_last_phase(house):
    lb = house("a:80")
    lb.backend("a:80", [[Wait(1.0), response()[:-1], Wait(3.0), CLOSE]])
    lb.ask(NAMED)
    lb.wait(5.0)
    assert bars(shown(lb)) == [[("first", 0.0, 25.0), ("bad", 25.0, 75.0)]]


def test_a_wait_that_led_nowhere_has_a_row_of_its_own(house):
    lb = house("a:80")
    settings = dataclasses.replace(
        lb.pool.settings, max_in_flight=1, max_queued=9, queue_timeout_s=4.0, no_backend_s=4.0
    )
    lb.pool.configure(settings, lb.clock.seconds())
    lb.backend("a:80", [NEVER_ANSWER])
    lb.ask(GET)
    lb.ask(NAMED)
    lb.wait(1.0)
    assert "in the queue … waits" not in text_of(shown(lb))  # nobody knows yet how long it will be
    lb.wait(4.0)
    page = shown(lb)
    assert bars(page) == [[("queue", 0.0, 100.0)]]
    assert "in the queue ✗ no attempt 4.00 s – – – at 0, for 4.00 s" in text_of(page)


def test_who_was_turned_away_has_no_waterfall(house):
    lb = house("a:80", routes=[{"path": "/", "deny": True}])
    lb.ask(NAMED)
    page = shown(lb)
    assert bars(page) == []
    assert "403 refused · FORBIDDEN" in text_of(page)
    assert "No backend was asked." in text_of(page)


def test_a_request_that_runs_has_what_is_known_of_it(house):
    lb = house("a:80", "b:80")
    lb.backend("a:80", [[Wait(1.0), CLOSE]])
    lb.backend("b:80", [NEVER_ANSWER])
    lb.ask(NAMED)
    lb.wait(2.0)
    page = shown(lb)
    assert bars(page) == [[("bad", 0.0, 100.0)], []]
    assert "running · default/a:80 → default/b:80 –" in text_of(page)
    assert "2 default/b:80 … running" in text_of(page)


def test_of_many_backends_those_are_named_that_matter(house):
    names = [f"b{n}:80" for n in range(40)]
    lb = house(*names)
    for name in names:
        lb.backend(name)
    lb.plane.command("default", "b30:80", AdminState.MAINT)
    lb.ask(NAMED)
    page = shown(lb)
    table = page[page.index(">Candidates<") :]
    assert table.count('<th scope="row">') == MOST_CANDIDATES
    [asked] = [one.lease.backend.name for one in lb.record.attempts]
    order = re.findall(r'<th scope="row">default/(\S+)</th>', table)
    assert order[:2] == [asked, "b30:80"]
    assert f"and {40 - MOST_CANDIDATES} more" in table


def test_nothing_of_a_request_is_markup(house):
    lb = house("a:80")
    lb.ask(NAMED)
    told = explained_json(lb.plane.explain("mine"))
    page = request_html({**told, "detail": "<u>", "note": ["<s>"], "path": "/<b>", "query": True})
    assert not re.search("<[buis]>", page)
    assert "GET /&lt;b&gt;?…" in page


def test_what_failed_and_was_slow_is_there_once_and_the_newest_first():
    bad = [{"id": "b", "at": 2.0}, {"id": "c", "at": 3.0}]
    slow = [{"id": "c", "at": 3.0}, {"id": "a", "at": 1.0}]
    assert [(one["id"], one["slow"]) for one in bad_and_slow(bad, slow)] == [("c", True), ("b", False), ("a", True)]


def test_an_attempt_that_cost_none_is_not_the_fourth_of_three(house):
    lb = house("a:80", "b:80")
    lb.backend("a:80", [CLOSE])
    lb.backend("b:80")
    lb.ask(NAMED)
    told = explained_json(lb.plane.explain("mine"))
    first, other = told["attempts"]
    assert "attempt 2 of 3" in request_html(told)
    assert " of 3" not in request_html({**told, "attempts": [first, {**other, "number": 4}]})


def test_what_tls_has_agreed_on_stands_with_where_it_came_from(house):
    lb = house("a:80")
    lb.backend("a:80")
    lb.ask(NAMED)
    explained = lb.plane.explain("mine")
    where = "client 127.0.0.1 · listener default · route default · pool default"
    assert f"{where} 1 " in text_of(request_html(explained_json(explained)))
    agreed = Agreed("TLSv1.3", "TLS_X", "a.test", subject="CN=<alice>")
    page = request_html(explained_json(dataclasses.replace(explained, agreed=agreed)))
    assert f"{where} · over TLSv1.3 (a.test), certificate CN=<alice> 1 " in text_of(page)
    assert "CN=&lt;alice&gt;" in page
    told = Agreed("", "", told=ToldByProxy(authority="<b>", tls_version="TLSv1.3"))
    page = request_html(explained_json(dataclasses.replace(explained, agreed=told)))
    assert f"{where} · told by its proxy: TLSv1.3 (<b>) 1 " in text_of(page)
    assert "<b>" not in page


def test_a_session_is_open_and_then_closed_and_has_no_first_byte(house):
    lb = house("a:80", protocol="tcp")
    lb.backend("a:80", [])
    client = lb.ask(b"PING")
    lb.wait(1.0)
    [running] = lb.plane.explained("running", 1)
    page = request_html(explained_json(running))
    assert '<span class="status x–">open</span>' in page
    lb.wait(5.0)
    client.close()
    lb.wait(1.0)
    [ended] = lb.plane.explained("recent", 1)
    page = request_html(explained_json(ended))
    assert '<span class="status x–">closed</span>' in page
    text = text_of(page)
    assert "Attempt Ended Queue Connect Open When 1 default/a:80 " in text
    assert "irst byte" not in text
    assert "queue connect open where it failed" in text
