"""The page as the server makes it: what it says without a script, what it never lets through, and the files beside it."""

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from watched import EPOCH, Site, Watched, backend, pool

from twisted_lb.admin import page_tables
from twisted_lb.admin.dashboard import FILES, POLICY
from twisted_lb.admin.operator import (
    CertificateView,
    ChangeView,
    ConnectionsView,
    FlawView,
    LevelView,
    Refused,
    WorkerView,
)
from twisted_lb.admin.page_marks import NOBODY_KNOWS, milliseconds, number
from twisted_lb.admin.page_tables import filled
from twisted_lb.testing import HeapClock

PAGE = Path(page_tables.__file__).parent / "page"


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def site(watched):
    site = Site(watched)
    yield site
    site.close()


def text_of(page: bytes) -> str:
    """What is read of a page."""
    return " ".join(re.sub(r"<(?:script|style)[^>]*>.*?</|<[^>]+>", " ", page.decode()).split())


def test_the_page_says_without_a_script_how_it_is(watched, site):
    watched.down()
    watched.happen("down", "app/b1", "down: refused")
    text = text_of(site.ask("/")[2])
    assert "1 of 2 backends is not used; every pool answers." in text
    assert "app/b1 is down (for 1 s, check: refused)" in text
    assert "1 of 2 used" in text
    assert "pools.app.policy rr lb.toml:3" in text
    assert "down app/b1 : refused" in text
    assert "0.0.0.0:80 no 3 / 100 0.5 4" in text
    assert "/* app 2.5 7 lb.toml:9" in text


def test_until_when_certificates_are_good_stands_beside_their_listener(watched, site):
    snapshot = watched.snapshot
    day_s, flaws = 86_400.0, []

    def served():
        made = [
            CertificateView("web", ["a.test"], "RSA", "CN=x", 0.0, EPOCH + days * day_s, "/tls/<a>.pem", "ab", told)
            for days, told in ((80, []), (12, flaws[:1]))
        ]
        one = snapshot()
        return replace(one, listeners=[replace(one.listeners[0], certificates=made, flaws=flaws[1:])])

    watched.snapshot = served
    assert "0.0.0.0:80 until 2026-12-07 3 / 100" in text_of(site.ask("/")[2])
    flaws.append(FlawView("expires soon", "/tls/<a>.pem: expires in 12 days", False))
    page = site.ask("/")[2].decode()
    assert "0.0.0.0:80 until 2026-12-07 expires soon 3 / 100" in text_of(page.encode())
    assert '<small title="/tls/&lt;a&gt;.pem: expires in 12 days">' in page
    flaws.append(FlawView("stale revocation list", "/tls/a.crl: is past its next update", True))
    page = site.ask("/")[2].decode()
    assert "0.0.0.0:80 until 2026-12-07 stale revocation list and 1 more 3 / 100" in text_of(page.encode())
    assert 'class="g s-down"><use href="#g-down"></use></svg>until' in page


def test_each_worker_has_a_row_where_there_are_any(watched, site):
    page = site.ask("/")[2]
    assert 'id="workers" tabindex="-1" aria-label="Workers" hidden>' in page.decode()
    assert "workers serve" not in text_of(page)
    watched.workers = [
        WorkerView(0, 52101, "serves", 10_800.0, 41, 7, 1_203_114, rate=111.36, lag_p99_ms=1.25),
        WorkerView(0, 51990, "drains", 90_000.0, 2, 1, 88, rate=0.0, lag_p99_ms=0.5),
        WorkerView(1, 0, "waits", 0.0, 0, 0, 0, 0),
        WorkerView(2, 52110, "<b>", 3.0, 0, 0, 0, 0),
    ]
    watched.restarts = 2
    page = site.ask("/")[2]
    text, none = text_of(page), NOBODY_KNOWS
    assert 'aria-label="Workers">' in page.decode()
    assert "generation 1 1 of 3 workers serve, 2 restarts" in text
    assert (
        f"0 52101 serves 3 h 41 7 1,203,114 111.4 1.2 ms 0 51990 drains 25 h 2 1 88 0.0 0.5 ms 1 {none} waits, covered by 0 0 s"
        in text
    )
    assert "2 52110 &lt;b&gt;, covered by 0 3 s" in text


def test_signs_of_workers_are_the_same_with_and_without_a_script():
    script = (PAGE / "app.js").read_text()
    signs = ", ".join(f'{state}: "{sign}"' for state, sign in page_tables._WORKER_GLYPHS.items())
    assert f"const WORKER = {{ {signs} }}" in script


def test_what_is_doubtful_about_the_configuration_is_told(watched, site):
    assert 'id="warnbox" hidden' in site.ask("/")[2].decode()
    watched.warnings = ["lb.toml:31: warning[W07]: pools.<b>: a check may take as long as its interval"]
    page = site.ask("/")[2]
    assert 'id="warnbox">' in page.decode()
    assert "Warnings of the configuration in effect lb.toml:31: warning[W07]: pools.&lt;b&gt;: a check" in text_of(page)


def test_the_page_is_renewed_by_itself_only_without_a_script(site):
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in site.ask("/")[2].decode()


@pytest.mark.parametrize("path", ["/", *(f"/{name}" for name in FILES)])
def test_every_file_has_the_strict_policy(site, path):
    status, fields, _ = site.ask(path)
    assert status == 200
    assert fields["content-security-policy"] == POLICY.lower()
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "no-referrer"


def test_the_policy_is_that_of_the_design():
    assert POLICY == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


def test_nothing_is_inline_and_nothing_comes_from_elsewhere():
    html = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)", html)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    for name in ("index.html", "style.css", "app.js"):
        text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text) == [], name
    assert not re.search(r"@import|url\(", (PAGE / "style.css").read_text())


def test_the_script_writes_text_and_never_html():
    script = (PAGE / "app.js").read_text()
    assert not re.search(
        r"\.(?:innerHTML|outerHTML)\s*\+?=|insertAdjacentHTML|document\.write|\beval\(|new Function", script
    )


def test_nobody_keeps_the_page_and_its_files_are_asked_for_by_their_tag(site):
    assert site.ask("/")[1]["cache-control"] == "no-store"
    _, fields, content = site.ask("/app.js")
    assert fields["cache-control"] == "no-cache"
    status, _, again = site.ask("/app.js", If_None_Match=fields["etag"])
    assert content
    assert (status, again) == (304, b"")


def test_a_pool_that_nobody_checks_says_so_with_and_without_a_script(watched, site):
    watched.pools = [pool(backend("b1"), check="none")]
    _, _, page = site.ask("/")
    assert " queued · no checks<" in page.decode()
    assert '"none" ? "no checks"' in (PAGE / "app.js").read_text()


@pytest.mark.parametrize(
    ("connections", "cell"),
    [
        (ConnectionsView(http1=7), ""),
        (ConnectionsView(), ""),
        (ConnectionsView(http2=2, calls=57), '<small title="57 calls on 2 connections of HTTP/2">HTTP/2: 2</small>'),
        (
            ConnectionsView(http1=1, http2=1, calls=1, chose="h2"),
            '<small title="1 call on 1 connection of HTTP/2, 1 connection of HTTP/1.1, it took HTTP/2 (ALPN)">HTTP/2: 1</small>',
        ),
        (
            ConnectionsView(http1=3, chose="h1"),
            '<small title="3 connections of HTTP/1.1, it took HTTP/1.1 (ALPN)">HTTP/1.1: 3</small>',
        ),
        (ConnectionsView(chose="h2"), '<small title="it took HTTP/2 (ALPN)">HTTP/2</small>'),
    ],
)
def test_connections_that_calls_share_stand_in_the_row_of_their_backend(watched, site, connections, cell):
    watched.pools = [pool(backend("b1", in_flight=3, connections=connections), protocol="auto")]
    page = site.ask("/")[2].decode()
    assert f'data-l="In flight">3{cell}</td>' in page


@pytest.mark.parametrize(
    ("protocol", "said"),
    [("h1", ""), ("h2", " · HTTP/2 to backends"), ("auto", " · HTTP/2 to backends that take it")],
)
def test_a_pool_that_speaks_http2_says_so_with_and_without_a_script(watched, site, protocol, said):
    watched.pools = [pool(backend("b1"), protocol=protocol)]
    assert f">rr{said} · " in site.ask("/")[2].decode()
    assert f'{protocol}: "{said}"' in (PAGE / "app.js").read_text()


def test_what_a_name_holds_is_text(watched, site):
    evil = "<img src=x onerror=alert(1)>\"'&"
    watched.pools = [pool(backend(evil, labels={evil: evil}, reason=evil, state="down", usable=False), check=evil)]
    watched.happen("reload", evil, evil, evil)
    snapshot = watched.snapshot

    def changed():
        from dataclasses import replace

        return replace(snapshot(), name=evil, changes=[ChangeView(1.0, evil, evil, evil, evil)])

    watched.snapshot = changed
    page = site.ask("/")[2].decode()
    assert "<img" not in page
    # Nor does it end an attribute.
    assert 'alert(1)>"' not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") > 8


def test_a_name_is_found_by_the_links_to_it(watched, site):
    watched.pools = [pool(backend("unix:/run/a b.sock@%41"))]
    watched.happen("down", "app/unix:/run/a b.sock@%41", "x")
    page = site.ask("/")[2].decode()
    assert 'id="b-app/unix:/run/a b.sock@%41"' in page
    assert 'href="#b-app/unix%3A/run/a%20b.sock%40%2541"' in page


@pytest.mark.parametrize("code", ["no_token", "cross_site"])
def test_who_may_not_read_gets_a_page_without_anything_in_it(watched, code):
    def nobody(request):
        raise Refused(code, "no")

    site = Site(watched, nobody)
    watched.asked = 0
    status, _, page = site.ask("/")
    assert status == 200
    assert b"edge-1" not in page
    assert b"app/b1" not in page
    assert watched.asked == 0
    assert site.ask("/app.js")[0] == 200
    assert site.ask("/v1/status")[0] in (401, 403)
    site.close()


def test_a_host_that_is_none_of_ours_gets_nothing(site):
    for path in ("/", "/app.js", "/v1/stream"):
        status, _, body = site.ask(path, Host="evil.example")
        assert status == 403
        assert b"bad_host" in body


def test_there_is_nothing_else_beside_the_page(site):
    for path in ("/index.html", "/..%2fapi.py", "/page/app.js", "/favicon.ico"):
        status, fields, _ = site.ask(path)
        assert (status, fields["content-type"]) == (404, "application/problem+json"), path
    assert site.ask("/", method="POST")[0] == 405


def test_a_head_request_gets_no_body(site):
    assert site.ask("/", method="HEAD")[2] == b""


def test_numbers_read_as_in_the_script():
    assert [number(None), number(1234.56, 1), number(0)] == ["\N{EN DASH}", "1,234.6", "0"]
    assert [milliseconds(one) for one in (None, 0.44, 9.0, 118.2, 1200)] == [
        "\N{EN DASH}",
        "0.4 ms",
        "9.0 ms",
        "118 ms",
        "1.20 s",
    ]


def test_every_place_of_the_page_is_filled_and_every_value_has_a_place(site):
    places = set(re.findall(r"{{(\w+)}}", (PAGE / "index.html").read_text()))
    assert places == set(page_tables.nothing_known("x"))
    assert b"{{" not in site.ask("/")[2]
    assert filled("a {{x}} b{{y}}", {"x": "1", "y": "2"}) == "a 1 b2"


def test_what_others_have_made_is_what_the_notice_says():
    notice = (PAGE / "NOTICE").read_text()
    for digest, name in re.findall(r"sha256 ([0-9a-f]{64})  (\S+)", notice):
        assert sha256((PAGE / name).read_bytes()).hexdigest() == digest
    assert len(re.findall(r"sha256 ", notice)) == 2
    assert "MIT" in notice


def test_all_files_of_the_page_are_served():
    assert {one.name for one in PAGE.iterdir()} == {"index.html", *FILES}


def test_a_pool_without_backends_and_a_backend_without_bounds_are_shown(watched):
    watched = Watched(pool(name="empty"), clock=HeapClock(1000.0))
    site = Site(watched)
    assert "empty answers nothing" in text_of(site.ask("/")[2])


def test_levels_are_shown_where_there_are_several_and_who_stands_by_is_not_used():
    first, second, backup = (
        backend("b1", labels={"zone": "a"}),
        backend("b2", level=1, state="standby"),
        backend("b3", level=None, state="standby"),
    )
    levels = [LevelView(0, 1, 1, 100, False), LevelView(1, 1, 1, 0, False), LevelView(None, 1, 1, 0, False)]
    site = Site(Watched(pool(first, second, backup, levels=levels, panic=True), clock=HeapClock(1000.0)))
    told = text_of(site.ask("/")[2])
    assert "1 of 3 used, 2 stand by" in told
    assert "level 0 100 %, level 1 0 %, backups 0 % · in panic" in told
    assert all(place in told for place in ("b1:80 · level 0 · zone a", "b2:80 · level 1", "b3:80 · backup"))
    site.close()


def test_a_pool_of_one_level_has_no_word_of_it():
    site = Site(Watched(pool(backend("b1")), clock=HeapClock(1000.0)))
    assert "level 0" not in text_of(site.ask("/")[2])
    site.close()


def test_a_pool_whose_first_checks_are_awaited_does_not_answer_nothing():
    site = Site(Watched(pool(backend("app/b1", usable=False, state="unknown")), clock=HeapClock(1000.0)))
    assert "app waits for a first check" in text_of(site.ask("/")[2])
    site.close()


def test_an_adaptive_limit_says_why_it_is_what_it_is_with_and_without_a_script(watched, site):
    watched.pools = [pool(backend("b1", limit=12, limit_why="it follows latency: <130 ms"), backend("b2", limit=9))]
    _, _, page = site.ask("/")
    assert '<span title="it follows latency: &lt;130 ms">0 / 12</span>' in page.decode()
    assert page.decode().count("<span title=") == 1
    assert "title: b.limit_why || null" in (PAGE / "app.js").read_text()
