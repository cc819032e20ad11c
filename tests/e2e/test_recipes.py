"""The files of docs/examples and of docs/recipes.md run: a balancer goes by each, and each of its routes does what it is for."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documented import Row
from processes import until
from standing import Standing, standing

from twisted_lb import tap
from twisted_lb.config.load import load_toml

DOCS = Path(__file__).parent.parent.parent / "docs"
RECIPES = (DOCS / "recipes.md").read_text()
TOML = re.findall(r"```toml\n(.*?)```", RECIPES, re.DOTALL)
COMMANDS = re.findall(r"^python -m twisted_lb (.*)$", RECIPES, re.MULTILINE)
EXAMPLES = sorted(str(path.relative_to(DOCS / "examples")) for path in (DOCS / "examples").rglob("*.toml"))

# By example: requests, and what becomes of them.
ASKED = {
    "minimal.toml": [("`/a?b=c`", "`default`, as `/a?b=c`")],
    "two-services.toml": [
        ("`shop.example.com/`", "`shop`"),
        ("`eu.shop.example.com/`", "`shop`"),
        ("`blog.example.com/`", "`blog`"),
        ("`www.example.com/cart?id=1`", "308 to `https://shop.example.com/cart?id=1`"),
        ("`example.org/`", "404"),
    ],
    "api-and-static.toml": [("`/api/users`", "`api`, as `/users`"), ("`/logo.svg`", "`files`, as `/logo.svg`")],
    "canary.toml": [("`/` with `X-Canary: 1`", "`canary`"), ("`/`", "`stable`")],
    "maintenance.toml": [
        ("`/checkout/pay`", "`shop`"),
        ("`/checkout/pay` from `127.0.0.2`", "503"),
        ("`/` from `127.0.0.2`", "`shop`"),
    ],
    "rate-limit.toml": [
        *[("`POST /login`", "`app`")] * 5,
        ("`POST /login`", "429"),
        ("`GET /login`", "`app`"),
        ("`/api` with `X-API-Key: 1`", "`app`"),
        ("`/internal`", "`app`"),
        ("`/internal` from `127.0.0.2`", "403"),
    ],
    "unix-sockets.toml": [("`/a`", "`workers`, as `/a`")],
    "many-listeners.toml": [
        ("`/`", "`api`"),
        ("`/admin/users`", "403"),
        ("`/admin/users` at `internal`", "`admin`"),
        ("`/` at `internal`", "`api`"),
        ("`/` at `local`", "`api`"),
    ],
    "includes/lb.toml": [
        ("`api.example.com/`", "`api`"),
        ("`www.example.com/`", "`site`"),
        ("`example.org/`", "404"),
    ],
}

# Whose backends are kept elsewhere.
LISTED = "target-list.toml"


def texts_of(example: str) -> dict[str, str]:
    """The files of an example by their names, the first one being that which includes the others."""
    path = DOCS / "examples" / example
    included = sorted((path.parent / "conf.d").glob("*.toml"))
    return {str(one.relative_to(path.parent)): one.read_text() for one in (path, *included)}


@pytest.mark.parametrize("example", ASKED)
def test_an_example_runs_and_each_of_its_routes_does_what_it_is_for(example, tmp_path):
    with standing(tmp_path, texts_of(example)) as (balancer, _):
        for request, becomes in ASKED[example]:
            balancer.holds(Row.read(request, becomes))


def test_there_is_no_example_that_nobody_runs():
    whole = {example for example in EXAMPLES if "conf.d" not in example}
    assert whole == {*ASKED, LISTED}


def test_the_example_of_a_list_has_the_backends_of_the_list(tmp_path):
    (text,) = texts_of(LISTED).values()
    texts = {
        "lb.toml": text.replace("/tmp/targets.json", str(tmp_path / "targets.json")),
        "targets.json": '[{"targets": ["127.0.0.1:8081"]}]',
    }
    with standing(tmp_path, texts) as (balancer, running):
        row = Row.read("`/a`", "`app`")
        until(lambda: balancer.ask(row).headers["X-Answered-By"] == "127.0.0.1:8081", running.log)


def test_what_is_cut_of_a_path_is_told(tmp_path):
    with standing(tmp_path, texts_of("api-and-static.toml")) as (balancer, _):
        response = balancer.ask(Row.read("`/api/users`", "`api`"))
    assert response.headers["X-Told-Prefix"] == "/api"
    assert response.headers["Cache-Control"] == "no-store"


def with_page(text: str, folder: Path) -> str:
    """The file with its error page and its secret, which are in another folder."""
    (folder / "503.html").write_text("<p>sorry</p>")
    (folder / "affinity").write_text("a secret of some length\n")
    return text.replace("/etc/lb/", f"{folder}/")


# Whose clients speak HTTP/2 alone, as tests/e2e/test_grpc.py does.
OF_GRPC = [text for text in TOML if 'protocols = ["h2"]' in text]
OTHERS = [text for text in TOML if text not in OF_GRPC]


@pytest.mark.parametrize("text", OTHERS, ids=range(len(OTHERS)))
def test_a_recipe_runs(text, tmp_path):
    # Without a port it would be 80.
    text = f"{with_page(text, tmp_path)}\n[listen]\nport = 8000\n"
    with standing(tmp_path, {"lb.toml": text}) as (balancer, _):
        balancer.holds(Row.read("`/a`", "`default`, as `/a`"))


def test_the_recipes_say_what_they_are_for(tmp_path):
    configs = []
    for text in OTHERS:
        (tmp_path / "lb.toml").write_text(with_page(text, tmp_path))
        configs.append(load_toml(tmp_path / "lb.toml"))
    cores, proxied, hedged, bounded, websockets, sticky, first, mirrored, wsgi, inference, prompts, reported, *tcp = (
        configs
    )
    redis, sql = tcp
    assert (cores.workers, cores.max_in_flight) == ("auto", 40)
    assert proxied.forwarding.trusted_proxies == ("10.0.0.0/8",)
    assert (hedged.hedge.percentile, hedged.abandoned_s) == (95, 30)
    assert bounded.limits.connections_per_client == 100
    assert (websockets.tcp_keepalive.on, websockets.close_when_down) == (True, True)
    assert [one.reveal() for one in sticky.affinity.secret] == ["a secret of some length"]
    assert (first.policy, first.max_in_flight) == ("first", 40)
    assert (mirrored.pools["default"].mirror.to, mirrored.pools["default"].mirror.percent) == ("next", 10)
    assert (wsgi.profile, inference.profile) == ("wsgi", "inference")
    assert (prompts.policy, prompts.max_in_flight) == ("prefix", 64)
    assert str(reported.policy) == "two by reported (named_metrics.kv_cache_usage_perc)"
    assert [(one.protocol, one.health_check.script.preset) for one in (redis, sql)] == [
        ("tcp", "redis"),
        ("tcp", "postgresql"),
    ]
    assert (sql.policy, sql.close_when_down, sql.timeouts.tunnel_idle_s) == ("first", True, 86_400)


def test_the_recipe_of_all_cores_has_a_worker_for_each(tmp_path):
    (text,) = (one for one in OTHERS if "workers =" in one)
    many = max(2, len(os.sched_getaffinity(0)))
    # Also where there is one CPU.
    text = with_page(text, tmp_path).replace('workers = "auto"', f"workers = {many}")
    with standing(tmp_path, {"lb.toml": f"{text}\n[listen]\nport = 8000\n"}) as (balancer, running):
        running.wait_for("worker [0-9]+ serves", many)
        balancer.holds(Row.read("`/a`", "`default`, as `/a`"))
        [command] = re.findall(r"# (lbctl .*)", text)
        [_, *words] = shlex.split(command)
        told = subprocess.run(
            [sys.executable, "-m", "twisted_lb.ctl", *words], capture_output=True, text=True, check=True
        )
        assert [line.split()[::2][:2] for line in told.stdout.splitlines()[1:]] == [
            [str(slot), "serves"] for slot in range(many)
        ]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line):
    [_, *words] = shlex.split(line)
    options = tap.Options()
    options.parseOptions(words)
    assert options.config.backends


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", RECIPES))))
def test_a_file_that_it_links_exists(link):
    assert (DOCS / link).exists()


def test_addresses_are_moved_and_nothing_else(tmp_path):
    text = 'backends = ["app1:8000,weight=2", { address = "unix:/run/a.sock" }]\n[health_check]\npath = "/a:1"\n'
    one = Standing(tmp_path, {"lb.toml": text})
    moved = (tmp_path / "lb.toml").read_text()
    one.close()
    assert re.fullmatch(
        rf'backends = \["127\.0\.0\.1:\d+,weight=2", {{ address = "unix:{tmp_path}/1\.sock" }}\]\n'
        r'\[health_check\]\npath = "/a:1"\n',
        moved,
    )
    assert one.pools == {"app1:8000": "default", "unix:/run/a.sock": "default"}


def test_the_recipe_of_grpc_says_what_it_is_for(tmp_path):
    (text,) = OF_GRPC
    (tmp_path / "lb.toml").write_text(text)
    config = load_toml(tmp_path / "lb.toml")
    (listener,), (pool,) = config.listeners.values(), config.pools.values()
    assert (listener.protocols, pool.protocol, pool.policy) == (("h2",), "h2", "least")
    assert (pool.health_check.kind, pool.retry.grpc) == ("grpc", ("unavailable",))
