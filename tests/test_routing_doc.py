"""What docs/routing.md says: each of its files is one, each row of its tables is so, and its numbers are those of the code."""

import re
from pathlib import Path

import pytest
from documented import Documented, Row, blocks, completed
from twisted.logger import formatEvent, globalLogPublisher

from twisted_lb import request_log
from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.routes import PLACEHOLDERS, RedirectConfig
from twisted_lb.config.shape import tables
from twisted_lb.core import rate
from twisted_lb.core.mirroring import Unmirrored
from twisted_lb.plan import plan_of

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "routing.md").read_text()
BLOCKS = blocks(PAGE)
ROWS = [(index, number) for index, (_, rows) in enumerate(BLOCKS) for number in range(len(rows))]
LIMITED = next(index for index, (text, _) in enumerate(BLOCKS) if "rate_limits" in text)
CANARY = next(index for index, (text, _) in enumerate(BLOCKS) if "canary" in text)


@pytest.fixture
def build():
    built: list[Documented] = []

    def one(text: str, **named) -> Documented:
        built.append(Documented(text, **named))
        return built[-1]

    yield one
    for documented in built:
        documented.close()


def test_there_are_tables_to_look_at():
    assert len(BLOCKS) == 15
    assert len(ROWS) > 70


@pytest.mark.parametrize(
    ("block", "number"), ROWS, ids=[f"{block}-{BLOCKS[block][1][number]}" for block, number in ROWS]
)
def test_a_row_of_a_table_is_so(build, block, number):
    """With all the rows above it, which may have spent something."""
    text, rows = BLOCKS[block]
    documented = build(text, down=("shop", "site") if "old-shop" in text else ())
    for row in rows[:number]:
        documented.ask(row)
    documented.holds(rows[number])


def test_what_is_refused_for_its_spelling_closes_its_connection(build):
    [(text, row)] = [(text, row) for text, rows in BLOCKS for row in rows if row.target == "/%zz"]
    assert build(text).ask(row).fields["connection"] == "close"


def test_the_same_key_meets_the_same_backend(build):
    [(text, _)] = [(text, rows) for text, rows in BLOCKS if "maglev" in text]
    documented = build(text)
    for request, pool in (("/images/a?x", "images"), ("/x?room=7", "rooms")):
        assert {documented.ask(Row.read(f"`{request}`", f"`{pool}`")).pool for _ in range(3)} == {pool}
    plan = plan_of(LoadBalancerConfig.model_validate(completed(text)))
    assert {name: one.policy_name for name, one in plan.pools.items()} == {
        "images": "maglev",
        "rooms": "ring, bound 1.5",
    }


def test_a_mirror_gets_what_its_original_gets(build):
    [text] = [text for text, _ in BLOCKS if ".mirror]" in text]
    documented = build(text.replace("percent = 10 ", "percent = 100 "))
    documented.ask(Row.read("`/cart`", "`shop`"))
    original, mirrored = (backend.requests for backend in documented.backends)
    assert mirrored == [original[0].replace(b"\r\n\r\n", b"\r\nX-Mirrored: shop\r\n\r\n")]


def test_what_is_not_mirrored_is_counted_as_it_says():
    table = PAGE.partition("| not mirrored | counted as |")[2].partition("\n\n")[0]
    assert re.findall(r"\| `(\w+)` \|$", table, re.MULTILINE) == [why.name.lower() for why in Unmirrored]


def test_a_split_is_exact(build):
    text, _ = BLOCKS[CANARY]
    documented = build(text.replace('split_by = { cookie = "session" }\n', ""))
    asked = [documented.ask(Row.read("`/`", "`stable`")).pool for _ in range(100)]
    assert asked.count("canary") == 5
    assert all(asked[start : start + 20].count("canary") == 1 for start in range(0, 100, 20))


def test_from_5_to_10_percent_clients_move_into_the_canary_and_nobody_out_of_it(build):
    text, _ = BLOCKS[CANARY]
    before, after = build(text), build(text.replace("stable = 95, canary = 5", "stable = 90, canary = 10"))
    rows = [Row.read(f"`/` with `Cookie: session={number}`", "`stable`") for number in range(400)]
    pools = [(before.ask(row).pool, after.ask(row).pool) for row in rows]
    assert ("canary", "stable") not in pools
    # 20 of 400 are meant, and 40; four standard deviations are 17 and 24.
    assert 3 <= sum(old == "canary" for old, _ in pools) <= 37
    assert 16 <= sum(new == "canary" for _, new in pools) <= 64


def test_a_backend_is_told_what_the_page_shows(build):
    [(text, rows)] = [(text, rows) for text, rows in BLOCKS if "set_request_headers" in text]
    shown = dict(
        re.findall(
            r"^([\w-]+): (.*)$", PAGE.partition("the backend is told\n\n```\n")[2].partition("```")[0], re.MULTILINE
        )
    )
    documented = build(text)
    answer = documented.ask(rows[0])
    told = documented.told()
    assert len(shown) == 4
    assert shown.items() <= told.items()
    assert not {"X_Client", "X-Debug"} & set(told)
    assert answer.fields["cache-control"] == "no-store"


def lines_of(namespace: str, happens) -> list[str]:
    heard: list[str] = []

    def observe(event):
        if event["log_namespace"] == namespace:
            heard.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        happens()
    finally:
        globalLogPublisher.removeObserver(observe)
    return heard


def test_the_line_of_a_refused_request_is_the_one_that_the_log_has(build):
    text, rows = BLOCKS[LIMITED]
    documented = build(text)
    for row in rows[:4]:
        documented.ask(row)
    [line] = lines_of("twisted_lb.request_log", lambda: request_log.log_request(documented.balanced.records[-1]))
    line = line.replace("host x", "host example.com")
    assert re.sub("id=[0-9a-f]+", "id=b4c6694a0f1b94b1c7a18c597a99bda0", line) in PAGE.splitlines()


def test_the_line_of_a_dry_run_is_the_one_that_the_log_has(build):
    text, rows = BLOCKS[LIMITED]
    documented = build(
        text.replace("rate_limits = [{ per_s = 0.1, burst = 1 }]", "rate_limits = [{ per_s = 0.1, dry_run = true }]")
    )
    login = rows[2]
    assert [documented.ask(login).status for _ in range(3)] == [200, 200, 200]
    documented.clock.advance(1)
    assert str(documented.balanced.events[-1]) in PAGE.splitlines()


def test_retry_after_is_in_whole_seconds(build):
    text, rows = BLOCKS[LIMITED]
    documented = build(text)
    documented.ask(rows[2])
    # 0.1 a second: one in ten.
    assert documented.ask(rows[2]).fields["retry-after"] == "10"


def test_its_numbers_are_those_of_the_code():
    cells = rate.CELLS
    assert f"{cells:,} cells, {cells * 16 // 2**20} MiB" in PAGE
    assert rate.ROW == 8
    assert "full row of eight" in PAGE
    assert ", ".join(f"`{{{name}}}`" for name in PLACEHOLDERS).replace(", `{pool}`", " and `{pool}`") in PAGE
    assert f"left out: {RedirectConfig(to='/').status}" in PAGE


def test_the_keys_that_it_names_exist():
    keys = {key for _, model in tables(LoadBalancerConfig) for key in model.model_fields}
    named = set(re.findall(r"`([a-z]+_[a-z_]+)`", PAGE))
    metrics = {family.name for family in FAMILIES}
    assert len(named) > 15
    assert named <= keys | metrics | {why.name.lower() for why in Unmirrored}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE))))
def test_a_file_that_it_links_exists(link):
    assert (ROOT / "docs" / link).exists()
