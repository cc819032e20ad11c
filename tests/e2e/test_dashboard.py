"""The page in a real browser, in front of a real balancer with real backends under load."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from authority import DAY, NOW, Authority, chain_of, key_of
from ctl_sample import OVERLOADED, RETRIED
from ports import free_port
from processes import PATIENCE_S, Stage, listening, stage, until
from steering import Admin

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (the dev extra has it)")
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(path)), "")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium here (Debian: apt install chromium)")

TOKEN = "a-token-of-the-tests"
expect = sync_api.expect
expect.set_options(timeout=PATIENCE_S * 1000)


class Load:
    """Requests one after the other, and who has answered how many of them. `asked`: how many were begun."""

    def __init__(self, port: int) -> None:
        self.answered: Counter[str] = Counter()
        self.asked = self.failed = 0
        self._over = threading.Event()
        self._url = f"http://127.0.0.1:{port}/"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            self.asked += 1
            try:
                with urllib.request.urlopen(self._url, timeout=PATIENCE_S) as answer:
                    self.answered[answer.read().decode().split()[0]] += 1
            except OSError:
                self.failed += 1

    def next(self, count: int) -> Counter[str]:
        """Who answers so many requests that begin from now on: the one that is under way is not among them."""
        asked = self.asked
        until(lambda: self.asked > asked)
        before = self.answered.copy()
        until(lambda: (self.answered - before).total() >= count)
        return self.answered - before

    def close(self) -> None:
        self._over.set()
        self._thread.join()


class Town:
    """A balancer with its page, in front of backends that run, or of `nobody`: so many that nobody checks either."""

    def __init__(self, stage: Stage, nobody: int = 0, workers: int = 1) -> None:
        names = [] if nobody else ["1", "2", "3"]
        ports = [stage.backend(name=f"be-{n}")[1] for n in names]
        backends = [*zip(names, ports, strict=True), *((str(n), n) for n in range(1, nobody + 1))]
        listed = ", ".join(f'{{ name = "b{n}", address = "127.0.0.1:{port}" }}' for n, port in backends)
        self.port, self.admin = free_port(), free_port()
        self.file = stage.folder / "lb.toml"
        self.text = f"""
            name = "edge-1"
            workers = {workers}
            [admin]
            socket = ""
            address = "127.0.0.1:{self.admin}"
            tokens = {{ tests = "{TOKEN}" }}
            [listeners.web]
            address = "127.0.0.1:{self.port}"
            [pools.app]
            backends = [{listed}]
            health_check = {{ interval_s = {0 if nobody else 0.5}, timeout_s = {PATIENCE_S} }}
            [[routes]]
            pool = "app"
            """
        self.file.write_text(self.text)
        self.balancer = stage.twistd("lb", "lb", "--config", str(self.file))
        until(lambda: listening(self.admin) or self.balancer.process.poll() is not None, "the page")
        assert self.balancer.process.poll() is None, self.balancer.log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.admin}/"

    def load(self, text: str) -> None:
        """Go by a file that says this."""
        self.file.write_text(text)
        with closing(Admin(self.admin)) as admin:
            assert admin.ask("POST", "/v1/reload", {}, Authorization=f"Bearer {TOKEN}")[0] == 200

    def restore(self) -> None:
        """Be as at the start again, but for what has happened: the file that it was, and nothing changed over it."""
        with closing(Admin(self.admin)) as admin:
            token = {"Authorization": f"Bearer {TOKEN}"}
            if self.file.read_text() != self.text:
                self.load(self.text)
            assert admin.ask("DELETE", "/v1/changes", **token)[0] == 200
            until(lambda: all(one["usable"] for one in admin.ask("GET", "/v1/backends")[1]["backends"]), "all are used")


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def town(tmp_path_factory, workers) -> Iterator[Town]:
    with stage(tmp_path_factory.mktemp("town")) as one:
        yield Town(one)


@pytest.fixture
def own_town(town) -> Iterator[Town]:
    """One that a test may change: behind it all is as it was."""
    yield town
    town.restore()


@pytest.fixture
def new_town(tmp_path) -> Iterator[Town]:
    """One to which nothing has happened yet."""
    with stage(tmp_path) as one:
        yield Town(one)


@pytest.fixture
def load(new_town) -> Iterator[Load]:
    load = Load(new_town.port)
    yield load
    load.close()


class Complaints:
    """What a page has complained of, and whom it has asked for anything."""

    def __init__(self, page: "sync_api.Page") -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def _hear(self, message: "sync_api.ConsoleMessage") -> None:
        # An answer that is a refusal is one too; the page says so itself.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.said.append(message.text)


@pytest.fixture
def page(browser) -> Iterator["sync_api.Page"]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    complaints = Complaints(page)
    page.set_default_timeout(PATIENCE_S * 1000)
    yield page
    context.close()
    assert complaints.said == []


def live(page: "sync_api.Page", town: Town) -> None:
    page.goto(town.url)
    expect(page.locator("#linkword")).to_have_text("live")


def give_token(page: "sync_api.Page") -> None:
    page.get_by_role("button", name="Token…").click()
    page.locator("#dialog input[type=password]").fill(TOKEN)
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#token")).to_be_hidden()
    expect(page.get_by_role("button", name="Drain… app/b2")).to_be_enabled()


def row(page: "sync_api.Page", name: str) -> "sync_api.Locator":
    return page.locator(f'[id="b-app/{name}"]')


def history(page: "sync_api.Page") -> list[float | None]:
    return page.evaluate("() => D.history.series.ok || []")


def test_a_backend_is_drained_by_clicking_and_traffic_moves(new_town, load, page):
    live(page, new_town)
    expect(page.get_by_role("button", name="Drain…")).to_have_count(0)  # not without a token
    give_token(page)
    until(lambda: load.answered["be-2"] > 5)
    page.get_by_role("button", name="Drain… app/b2").click()
    dialog = page.locator("#dialog")
    expect(dialog.locator(".follows")).to_contain_text("app keeps 2 of 3")
    expect(dialog.locator(".follows")).to_contain_text("new load on the other two +50 %")
    dialog.get_by_label("Reason").fill("deploy of tests")
    expect(dialog.locator(".cmd")).to_have_text("lbctl drain app/b2 --reason 'deploy of tests'")
    dialog.get_by_role("button", name="Drain app/b2").click()
    expect(row(page, "b2")).to_contain_text("drained")
    expect(row(page, "b2")).to_contain_text("tests: “deploy of tests”")
    expect(page.locator("#vhead")).to_have_text("1 of 3 backends is not used; every pool answers.")

    assert set(load.next(30)) == {"be-1", "be-3"}
    assert load.failed == 0

    expect(page.locator("#marks")).to_contain_text("drain app/b2")
    drawn = "() => D.marks.some((m) => m.glyph === 'drain' && m.at > charts[0].from && m.at <= charts[0].to)"
    until(lambda: page.evaluate(drawn))
    expect(page.locator("#events")).to_contain_text("drain")
    expect(page.locator("#changes")).to_contain_text("app/b2 admin drain")
    assert "admin: tests" in new_town.balancer.log

    # The history is the balancer's, not the page's.
    until(lambda: sum(v is not None and v > 0 for v in history(page)) >= 3)
    known = sum(v is not None for v in history(page))
    page.reload()
    expect(page.locator("#linkword")).to_have_text("live")
    until(lambda: sum(v is not None for v in history(page)) >= known, "the history, which comes behind the first news")
    expect(page.locator("#marks")).to_contain_text("drain app/b2")

    give_token_again = page.get_by_role("button", name="Token…")
    expect(give_token_again).to_be_visible()  # it was in that page's memory only
    assert (
        page.evaluate("() => JSON.stringify(localStorage) + JSON.stringify(sessionStorage) + document.cookie").find(
            TOKEN
        )
        < 0
    )


def test_levels_and_who_stands_by_are_shown_where_there_are_several(own_town, page):
    text = own_town.text
    for name, more in (("b2", "priority = 1"), ("b3", "backup = true")):
        text = text.replace(f'{{ name = "{name}",', f'{{ name = "{name}", {more},')
    own_town.load(text)
    live(page, own_town)
    caption = page.locator("#tables caption")
    expect(caption).to_contain_text("1 of 3 used, 2 stand by")
    expect(caption).to_contain_text("level 0 100 %, level 1 0 %, backups 0 %")
    expect(row(page, "b2").locator("th small")).to_contain_text("level 1")
    expect(row(page, "b3").locator("th small")).to_contain_text("backup")


@pytest.mark.long
def test_it_is_taken_back_and_weighed_there_too(own_town, page):
    live(page, own_town)
    give_token(page)
    for verb, sign in (("maint", "maint"), ("ready", "ready")):
        row(page, "b3").get_by_role("button", name="…").last.click()
        page.locator("#dialog").get_by_text(verb, exact=True).click()
        go = page.locator("#dialog .go")
        expect(go).to_be_enabled()
        go.click()
        expect(row(page, "b3").locator(".state")).to_contain_text(sign)
    row(page, "b3").get_by_role("button", name="Drain").click()
    page.locator("#dialog").get_by_text("weight", exact=True).click()
    page.locator("#dialog input[name=weight]").fill("3")
    expect(page.locator("#dialog .follows")).to_contain_text("weight 1 → 3")
    page.get_by_role("button", name="Set weight app/b3").click()
    expect(row(page, "b3").locator(".c-share")).to_contain_text("60.0 %")
    row(page, "b3").get_by_role("button", name="Drain").click()
    page.locator("#dialog").get_by_text("limit", exact=True).click()
    expect(page.locator("#dialog input[name=weight]")).to_be_hidden()
    page.locator("#dialog input[name=limit]").fill("7")
    expect(page.locator("#dialog .follows")).to_contain_text("limit 0 → 7")
    expect(page.locator("#dialog .cmd")).to_have_text("lbctl limit app/b3 7")
    page.get_by_role("button", name="Set limit app/b3").click()
    expect(row(page, "b3").locator(".c-flight")).to_contain_text("/ 7")
    page.get_by_role("button", name="Reset all…").click()
    page.locator("#dialog").get_by_role("button", name="Reset all").click()
    expect(row(page, "b3").locator(".c-share")).to_contain_text("33.3 %")


def test_a_wish_is_never_shown_as_a_fact(own_town, page):
    live(page, own_town)
    give_token(page)
    held = []
    page.route("**/v1/backends/app/b2", lambda route: held.extend([route]))
    page.get_by_role("button", name="Drain… app/b2").click()
    expect(page.locator("#dialog .go")).to_be_enabled()  # what follows is asked for at another address
    page.locator("#dialog .go").click()
    expect(row(page, "b2")).to_contain_text("drain asked, not confirmed yet")
    expect(row(page, "b2").locator("span.s-ready")).to_have_text("ready")
    expect(page.get_by_role("button", name="Drain… app/b2")).to_be_disabled()
    held[0].abort()
    expect(page.locator("#dialog")).to_contain_text("Not done")
    expect(row(page, "b2")).not_to_contain_text("not confirmed")
    page.unroute_all()


@pytest.mark.long
def test_the_last_usable_backend_needs_the_name_of_its_pool(own_town, page):
    live(page, own_town)
    give_token(page)
    page.get_by_label("Select all of app").check()
    page.locator("#bulk").get_by_role("button", name="Drain…").click()
    dialog, go = page.locator("#dialog"), page.locator("#dialog .go")
    expect(dialog.locator(".grave").first).to_contain_text("app keeps none of 3")
    expect(go).to_be_disabled()
    field = dialog.get_by_label("This leaves no usable backend. Type app to go on")
    field.fill("ap")
    expect(go).to_be_disabled()
    field.fill("app")
    expect(go).to_be_enabled()
    dialog.get_by_role("button", name="Leave as it is").click()
    expect(row(page, "b1")).to_contain_text("ready")
    page.locator("#bulk").get_by_role("button", name="Clear").click()
    page.get_by_label("Select app/b1").check()
    page.get_by_label("Select app/b3").check()
    page.locator("#bulk").get_by_role("button", name="Drain…").click()
    expect(dialog.locator(".follows")).to_contain_text("app keeps 1 of 3; new load on the others +200 %")
    go.click()
    expect(row(page, "b1")).to_contain_text("drained")
    expect(row(page, "b3")).to_contain_text("drained")
    page.get_by_role("button", name="Drain… app/b2").click()
    expect(dialog.locator(".grave")).to_contain_text("app/b2 is the last usable backend of app")
    dialog.get_by_label("Type app").fill("app")
    expect(dialog.locator(".cmd")).to_contain_text("--force")
    go.click()
    expect(page.locator("#vhead")).to_contain_text("app answers nothing")
    assert page.title().startswith("✕")


def test_the_file_that_was_changed_is_loaded_from_the_page(own_town, page):
    live(page, own_town)
    give_token(page)
    generation = page.evaluate("() => D.status.generation")
    own_town.file.write_text(own_town.file.read_text().replace("interval_s = 0.5", "interval_s = 0.4"))
    expect(page.locator("#facts .note")).to_contain_text("lb.toml changed")
    expect(page.locator("#difflines")).to_contain_text("app")
    page.get_by_role("button", name="Reload…").click()
    page.locator("#dialog").get_by_role("button", name="Reload").click()
    expect(page.locator("#facts")).to_contain_text(f"generation {generation + 1}")
    expect(page.locator("#facts .note")).to_be_hidden()
    expect(page.locator("#marks")).to_contain_text(f"reload generation {generation + 1}")


def test_what_the_api_cannot_tell_has_no_box_and_what_it_can_has_one(town, page):
    live(page, town)
    paths = page.evaluate("async () => Object.keys((await ask('v1/openapi.json')).paths)")
    for path, box in (("/v1/route", "#tryit"), ("/v1/explain", "#failing")):
        expect(page.locator(box)).to_be_visible(visible=path in paths)

    def tells(path: str, answer: object) -> None:
        page.route(path, lambda route: route.fulfill(json=answer))

    candidates = [{"backend": "app/b1", "skipped": None}, {"backend": "app/b2", "skipped": "as full as it may be"}]
    decision = {"picked": "app/b1", "waits": False, "rule": "its turn", "candidates": candidates}
    looked = [
        {"n": 1, "name": "v1", "matches": False, "why": "host is y", "place": "lb.toml:3"},
        {"n": 2, "name": "rest", "matches": True},
    ]
    tells("**/v1/openapi.json", {"paths": {"/v1/route": {}, "/v1/explain": {}}})
    tells("**/v1/explain?failed=*", {"requests": [RETRIED]})
    tells("**/v1/explain?slowest=*", {"requests": [OVERLOADED]})
    tells(
        "**/v1/route?*",
        {
            "listener": "web",
            "looked_at": looked,
            "route": "rest",
            "action": "pool",
            "status": None,
            "pool": "app",
            "decision": decision,
        },
    )
    page.goto("about:blank")
    # The link of an error page leads to its request, and opens it.
    page.goto(f"{town.url}#r-9f2c41d07be6a853")
    told = page.locator(f'[id="r-{RETRIED["id"]}"]')
    expect(told.locator(".req")).to_contain_text("GET /v1/items")
    expect(told.locator(".req")).to_contain_text("retried, then well · api/a9 → api/a2")
    expect(told.locator(".why p").last).to_be_visible()
    expect(told).to_contain_text("then it was ejected for 60 s: 5 failures in a row")
    expect(told.locator(".attempts tbody tr").first).to_contain_text("✗ NO_RESPONSE")
    expect(page.locator(f'[id="r-{OVERLOADED["id"]}"] .why div')).to_be_hidden()
    page.get_by_role("button", name="Try", exact=True).click()
    expect(page.locator("#tried")).to_contain_text("Route 1, v1: host is y (lb.toml:3)")
    expect(page.locator("#tried")).to_contain_text("app/b1: its turn")
    expect(page.locator("#tried")).to_contain_text("Skipped app/b2: as full as it may be")
    page.unroute_all()


SEEN = """(names) => names.every((name) => (D.history.series[name] || []).some((v) => v > 0))"""


def test_the_charts_say_who_answered_and_how_long_it_took(own_town, page):
    live(page, own_town)

    def goes_on() -> bool:
        """Some of everything, until the page has seen it."""
        for query in ("", "?status=404", "?status=500"):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{own_town.port}/{query}", timeout=PATIENCE_S).close()
        with socket.create_connection(("127.0.0.1", own_town.port), PATIENCE_S) as client:
            client.sendall(b"no request\r\n\r\n")
            client.recv(1000)
        line = row(page, "b1").locator(".spark path").last  # a second alone draws none
        seen = page.evaluate(SEEN, ["ok", "c4", "c5", "own", "bytes_out", "total.p50", "first_byte.p99"])
        return seen and line.count() == 1 and "L" in line.get_attribute("d")

    until(goes_on, "all series")
    for word in ("2xx–3xx", "4xx", "5xx", "own errors"):
        expect(page.locator("#c-requests .legend")).to_contain_text(word)
    expect(page.locator("#c-last")).to_contain_text("out, to clients")
    expect(page.locator("#c-latency .legend")).to_contain_text("p90")
    page.locator("#phase").select_option("connect")
    until(lambda: page.evaluate("() => charts[1].list.every(([name]) => name.startsWith('connect.'))"))
    expect(page.locator("#routes tbody td:nth-child(5)")).to_have_text(re.compile("[1-9]"))
    expect(page.locator("#listeners tbody td").last).to_have_text(re.compile("[1-9]"))


@pytest.mark.long
def test_a_failed_request_is_explained_with_the_waterfall_of_its_phases_with_and_without_a_script(
    new_town, page, browser
):
    live(page, new_town)
    for target, name in (("?size=1000&close=10", "cut-1"), ("?delay=0.4", "late-1")):
        request = urllib.request.Request(f"http://127.0.0.1:{new_town.port}/{target}", headers={"X-Request-ID": name})
        with contextlib.suppress(OSError, http.client.HTTPException):
            urllib.request.urlopen(request, timeout=PATIENCE_S).read()
    told = {name: page.locator(f'[id="r-{name}"]') for name in ("cut-1", "late-1")}
    expect(told["cut-1"].locator(".req")).to_contain_text("failed · CUT_SHORT")
    expect(told["late-1"].locator(".req")).to_contain_text("slow")
    told["late-1"].locator("summary").click()
    bar = told["late-1"].locator(".water rect.f-first")
    expect(bar).to_be_visible()
    whole = told["late-1"].locator(".water").bounding_box()["width"]
    assert 0.5 * whole < bar.bounding_box()["width"] <= whole
    # News of other requests closes nothing that somebody reads, and takes no focus.
    told["late-1"].locator("summary").focus()
    expect(page.locator("#failures > tbody")).to_have_count(2)
    urllib.request.urlopen(f"http://127.0.0.1:{new_town.port}/?delay=0.3", timeout=PATIENCE_S).close()
    expect(page.locator("#failures > tbody")).to_have_count(3)
    expect(told["late-1"].locator("summary")).to_be_focused()
    expect(bar).to_be_visible()

    # The link of an error page leads to its request also where that neither failed nor was slow.
    plain = [f"plain-request-{n}" for n in range(12)]
    for name in plain:
        request = urllib.request.Request(f"http://127.0.0.1:{new_town.port}/", headers={"X-Request-ID": name})
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
    slow = page.evaluate("async () => (await ask('v1/explain?slowest=10')).requests.map((r) => r.id)")
    quick = next(name for name in plain if name not in slow)
    other = page.context.new_page()
    other.goto(f"{new_town.url}#r-{quick}")
    expect(other.locator(f'[id="r-{quick}"] .why details > div')).to_be_visible()
    other.close()

    # The script and the server make the same of the same answers, word by word and bar by bar.
    shown = """() => [...document.querySelectorAll("#failures > tbody")].map((b) => [b.id, b.textContent,
        [...b.querySelectorAll("rect")].map((r) => ["class", "x", "width"].map((k) => r.getAttribute(k)))])"""
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(new_town.url)
    served = bare.evaluate(shown)
    assert {one for one, *_ in served} >= {"r-cut-1", "r-late-1"}
    until(lambda: page.evaluate(shown) == served, "the same words and bars")
    bare.locator('[id="r-cut-1"] summary').click()
    expect(bare.locator('[id="r-cut-1"] .attempts')).to_contain_text("✗ CUT_SHORT")
    context.close()


def test_until_when_certificates_are_good_is_shown_with_and_without_a_script(own_town, page, browser, tmp_path):
    house = Authority(tmp_path)
    leaf = house.leaf("www.example.com", not_after=NOW + 12.5 * DAY)
    soon = house.write("www.pem", chain_of(leaf), key_of(leaf))
    listeners = "".join(
        f'\n[listeners.{name}]\naddress = "127.0.0.1:{free_port()}"\ntls = {{ certificates = {places} }}\n'
        for name, places in (("good", '"self-signed"'), ("soon", f'["self-signed", "{soon}"]'))
    )
    own_town.load(own_town.text + listeners)
    live(page, own_town)
    shown = """() => [...document.querySelectorAll("#listeners tbody tr")].map((r) => { const c = r.querySelector("td:nth-child(3)"),
        s = c.querySelector("small"); return [c.textContent, s && s.title, [...c.querySelectorAll("svg")].map((g) => g.outerHTML.includes("warn"))]; })"""
    context = browser.new_context(java_script_enabled=False)
    bare = context.new_page()
    bare.goto(own_town.url)
    served = bare.evaluate(shown)
    date = f"{NOW + 12.5 * DAY:%Y-%m-%d}"
    assert served[0] == ["no", None, []]
    assert re.fullmatch(r"until \d{4}-\d\d-\d\d", served[1][0])
    assert served[2] == [f"until {date}expires soon", f"{soon}: expires in 12 days, on {date}", [True]]
    until(lambda: page.evaluate(shown) == served, "the same of the script")
    context.close()


def test_without_a_script_it_is_tables(town, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(town.url)
    expect(page.locator("#vhead")).to_contain_text("backends")
    expect(row(page, "b2")).to_contain_text("ready")
    expect(page.locator("#config")).to_contain_text("pools.app.backends")
    assert page.locator("button:visible, input:visible, canvas:visible").count() == 0
    context.close()


def test_nothing_is_asked_of_anybody_else_and_nothing_is_inline(town, browser):
    context = browser.new_context()
    page = context.new_page()
    complaints = Complaints(page)
    live(page, town)
    with page.expect_request("**/v1/history?window=21600"):
        page.get_by_text("6 h", exact=True).click()
    page.locator("#defaults").check()
    page.get_by_text("The same as a table").click()
    assert {urlsplit(url).netloc for url in complaints.asked if not url.startswith("data:")} == {
        f"127.0.0.1:{town.admin}"
    }
    assert complaints.said == []
    assert (
        page.evaluate(
            "() => document.querySelectorAll('[style]').length - document.querySelectorAll('.uplot [style], .uplot[style]').length"
        )
        == 0
    )
    context.close()


def test_workers_are_rows_that_come_and_go_while_all_else_stands_still(tmp_path, page, browser):
    with stage(tmp_path) as one:
        town = Town(one, nobody=3, workers=2)
        town.balancer.wait_for("worker [0-9]+ serves", 2)
        live(page, town)
        rows, serving = page.locator("#workerrows tr"), page.locator("#facts a[href='#workers']")
        expect(serving).to_have_text("2 of 2 workers serve")
        expect(rows).to_have_count(2)
        expect(rows.locator(".state")).to_have_text(["serves", "serves"])
        tops = "() => ['tables', 'routes', 'listeners', 'events', 'config', 'workers'].map(id => document.getElementById(id).getBoundingClientRect().top + scrollY)"
        first, pids = rows.first.element_handle(), rows.locator("td:nth-child(2)").all_text_contents()
        before = page.evaluate(tops)
        os.kill(int(pids[1]), signal.SIGKILL)
        expect(serving).to_have_text("2 of 2 workers serve, 1 restart")
        expect(rows.locator("td:nth-child(2)")).not_to_have_text(pids)
        assert page.evaluate(tops) == before
        assert first.evaluate("row => row.isConnected && row.cells[1].textContent") == pids[0]
        page.set_viewport_size({"width": 390, "height": 900})
        beyond = (
            "box => [box.scrollWidth - box.clientWidth, Math.max(0, box.getBoundingClientRect().right - innerWidth)]"
        )
        assert page.locator("#workers .scroll").evaluate(beyond) == [0, 0]
        # The same without a script.
        shown = "rows => rows.map(row => [0, 1, 2].map(i => row.cells[i].textContent))"
        context = browser.new_context(java_script_enabled=False)
        still = context.new_page()
        still.goto(town.url)
        assert still.locator("#workerrows tr").evaluate_all(shown) == rows.evaluate_all(shown)
        expect(still.locator("#serving")).to_have_text("2 of 2 workers serve, 1 restart")
        context.close()


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1440),
        ("dark", 390),
        # Each scheme and each end of the widths is there already.
        pytest.param("dark", 1440, marks=pytest.mark.long),
        pytest.param("light", 1024, marks=pytest.mark.long),
    ],
)
def test_axe_finds_nothing_serious(own_town, browser, scheme, width):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="no axe here (the dev extra has it)"
    ).Axe()
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce", bypass_csp=True
    )
    page = context.new_page()
    live(page, own_town)
    give_token(page)

    def look(part: str | None = None) -> None:
        # A look at the whole takes seconds; what has not changed since is not looked at again.
        found = axe.run(page, context=part, options={"resultTypes": ["violations"]}).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in serious] == []

    page.get_by_text("The same as a table").click()
    look()
    page.get_by_role("button", name="Drain… app/b1").click()
    expect(page.locator("#dialog .go")).to_be_enabled()
    look("#dialog")
    page.locator("#dialog .go").click()
    expect(row(page, "b1")).to_contain_text("drained")
    page.get_by_label("Select app/b2").check()
    look("#tables")
    look("#bulk")
    context.close()


def test_a_waterfall_needs_no_sideways_scroll_on_a_telephone(own_town, browser):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    asked = urllib.request.Request(
        f"http://127.0.0.1:{own_town.port}/?close=head", headers={"X-Request-ID": "a-failed-request"}
    )
    with pytest.raises(urllib.error.HTTPError, match="502"):
        urllib.request.urlopen(asked, timeout=PATIENCE_S)
    page.goto(f"{own_town.url}#r-a-failed-request")
    told = page.locator('[id="r-a-failed-request"] .why details > div')
    expect(told.locator(".attempts svg").first).to_be_visible()
    beyond = "box => [box.scrollWidth - box.clientWidth, Math.max(0, box.getBoundingClientRect().right - innerWidth)]"
    assert told.evaluate(beyond) == [0, 0]
    page.close()


def test_light_and_dark_are_those_of_the_system_or_of_the_reader(town, browser):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    live(page, town)
    background = "() => getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(15, 19, 23)"
    dark = page.locator("#c-requests canvas").screenshot()
    page.get_by_text("Light", exact=True).click()
    assert page.evaluate(background) == "rgb(246, 247, 248)"
    until(lambda: page.locator("#c-requests canvas").screenshot() != dark)
    page.reload()
    assert page.evaluate(background) == "rgb(246, 247, 248)"
    page.get_by_text("System", exact=True).click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(background) == "rgb(246, 247, 248)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(background) == "rgb(15, 19, 23)"
    context.close()


RENEWED = """async (change) => {
  const frame = () => new Promise(requestAnimationFrame);
  leave(); link = "paused"; later();  // nothing else ticks meanwhile, and times are those of the last news
  await frame(); await frame();
  const rows = [...document.querySelectorAll("#tables tr")], heights = rows.map((r) => r.offsetHeight), seen = [];
  const watch = new MutationObserver((records) => seen.push(...records));
  watch.observe($("tables"), { childList: true, subtree: true, characterData: true, attributes: true });
  const backends = {};
  if (change) for (const [name, b] of D.backends) backends[name] = { rate: (b.rate || 0) + 7.5, in_flight: b.in_flight + 3 };
  delta({ status: {}, pools: {}, backends, sparks: {} });
  later(); later();
  await frame();
  seen.push(...watch.takeRecords());
  await frame();
  const late = watch.takeRecords().length;
  watch.disconnect();
  const cells = new Set(seen.map((r) => (r.target.closest ? r.target : r.target.parentElement).closest("td, th")));
  return { writes: seen.length, cells: cells.size, late, rows: D.backends.size, jumped: rows.some((r, i) => r.offsetHeight !== heights[i]) };
}"""


def test_200_backends_are_renewed_in_one_frame_and_only_where_they_changed(tmp_path, page):
    with stage(tmp_path) as one:
        live(page, Town(one, nobody=200))
        # Of each row the two cells that have changed, once each, and not a row moves.
        assert page.evaluate(RENEWED, True) == {"writes": 400, "cells": 400, "late": 0, "rows": 200, "jumped": False}
        assert page.evaluate(RENEWED, False) == {"writes": 0, "cells": 0, "late": 0, "rows": 200, "jumped": False}


def test_a_hidden_page_closes_its_stream_and_a_seen_one_begins_again(town, page):
    live(page, town)
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true }); document.dispatchEvent(new Event('visibilitychange')); }"
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/stream")):
        page.evaluate(hide, True)
    with page.expect_request("**/v1/stream"):
        page.evaluate(hide, False)
    expect(page.locator("#linkword")).to_have_text("live")
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/v1/stream")):
        page.get_by_role("button", name="Pause").click()
    expect(page.locator("#linkword")).to_contain_text("paused at")
    with page.expect_request("**/v1/stream"):
        page.get_by_role("button", name="Go on").click()
    expect(page.locator("#linkword")).to_have_text("live")


def test_without_news_the_page_says_so_and_lets_nobody_act(own_town, page):
    live(page, own_town)
    give_token(page)
    own_town.balancer.signal(signal.SIGSTOP)
    try:
        expect(page.locator("#linkword")).to_contain_text("no news for")
        expect(page.locator("#vhead")).to_contain_text("As of ")
        expect(page.get_by_role("button", name="Drain… app/b2")).to_be_disabled()
    finally:
        own_town.balancer.signal(signal.SIGCONT)
    expect(page.locator("#linkword")).to_have_text("live")
    expect(page.get_by_role("button", name="Drain… app/b2")).to_be_enabled()


@pytest.mark.long
def test_everything_is_done_with_the_keyboard(own_town, page):
    live(page, own_town)
    give_token(page)
    page.locator("body").press("/")
    expect(page.locator("#filter")).to_be_focused()
    page.keyboard.type("b2")
    expect(row(page, "b1")).to_be_hidden()
    for _ in itertools.takewhile(
        lambda _: not page.evaluate("() => document.activeElement.matches('.act-cell button')"), range(60)
    ):
        page.keyboard.press("Tab")
    act = page.get_by_role("button", name="Drain… app/b2")
    expect(act).to_be_focused()
    now = page.evaluate("() => D.status.now")
    until(lambda: page.evaluate("() => D.status.now") > now + 1.5)
    expect(act).to_be_focused()  # numbers change, focus stays
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_visible()
    expect(page.get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(act).to_be_focused()
    plot = page.locator("#c-requests .plot")
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageUp")
    assert ": " in plot.get_attribute("aria-valuetext")
    expect(page.locator("#range")).to_contain_text("at ")
    page.keyboard.press("Escape")
    expect(page.locator("#range")).not_to_contain_text("at ")
    head = page.locator("#tables th button").first
    head.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#tables th[aria-sort=descending]")).to_have_count(1)
