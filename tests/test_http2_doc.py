"""docs/http2.md says what the code does: its file is a configuration, and its tables hold."""

import re
import tomllib
from pathlib import Path

import pytest
from authority import Authority, chain_of, key_of

from twisted_lb.admin.metrics import FAMILIES
from twisted_lb.config import LoadBalancerConfig
from twisted_lb.config.doubts import doubts
from twisted_lb.core.glitches import FORGIVEN_PER_S, GLITCHES_MOST
from twisted_lb.net import http2, http2_stream
from twisted_lb.net.client_connection import LINGER_S
from twisted_lb.plan import plan_of

PAGE = (Path(__file__).parent.parent / "docs" / "http2.md").read_text()
FILES = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROWS = {
    row[0]: row[1:] for row in (line.strip("| \n").split(" | ") for line in PAGE.splitlines() if line.startswith("| "))
}
KIB = 1024


def source(module, name: str) -> int:
    """A constant of a module, which compiled has none of its own names that begin with _: as its source says."""
    text = (
        Path(__file__).parent.parent / "twisted_lb" / "net" / f"{module.__name__.rpartition('.')[2]}.py"
    ).read_text()
    return int(float(re.search(rf"^{name}: Final = ([\d.]+)$", text, re.MULTILINE)[1]))


@pytest.fixture
def config(tmp_path) -> LoadBalancerConfig:
    house = Authority(tmp_path)
    leaf = house.leaf("www.example.com")
    house.write("live/www.example.com/fullchain.pem", chain_of(leaf))
    house.write("live/www.example.com/privkey.pem", key_of(leaf))
    return LoadBalancerConfig.model_validate(tomllib.loads(FILES[0].replace("/etc/letsencrypt", str(tmp_path))))


def test_its_file_offers_what_it_says(config):
    plan = plan_of(config)
    assert {name: one.versions for name, one in plan.listeners.items()} == {
        "web": ("h2", "http/1.1"),
        "inside": ("h2", "http/1.1"),
    }
    assert list(doubts(config, 20_000, 9_000)) == []
    without = config.model_dump(exclude_unset=True)
    del without["listeners"]["web"]["protocols"]
    assert plan_of(LoadBalancerConfig.model_validate(without)).listeners["web"].versions == ("h2", "http/1.1")
    del without["listeners"]["inside"]["protocols"]
    assert plan_of(LoadBalancerConfig.model_validate(without)).listeners["inside"].versions == ("http/1.1",)


@pytest.mark.parametrize(
    ("row", "said", "constant"),
    [
        ("streams of a connection", "128", source(http2, "_STREAMS_MOST")),
        (
            "what a client may send of a body ahead of its backend",
            "64 KiB a stream",
            source(http2_stream, "STREAM_WINDOW_BYTES"),
        ),
        (
            "what is kept of an answer that its client does not take",
            "64 KiB a stream, 512 KiB a connection",
            (source(http2_stream, "_HIGH_BYTES"), source(http2_stream, "_ALL_HIGH_BYTES")),
        ),
        (
            "requests that are begun at a time",
            "128 of one connection, then others have their turn",
            source(http2, "_MOST_AT_ONCE"),
        ),
        ("what a client that reads nothing makes us say", "64 KiB", source(http2, "_BEHIND_BYTES")),
        ("glitches", "400, of which 10 a second are forgiven", (int(GLITCHES_MOST), int(FORGIVEN_PER_S))),
    ],
)
def test_the_bounds_are_those_of_the_code(row, said, constant):
    assert ROWS[row][0] == said
    units = {"KiB": KIB, "MiB": KIB * KIB}
    numbers = [int(number) * units.get(unit, 1) for number, unit in re.findall(r"(\d+)(?: (KiB|MiB))?", said)]
    assert numbers == (list(constant) if isinstance(constant, tuple) else [constant])


def test_pings_and_lingering_are_as_it_says():
    assert ROWS["a client that is silent while streams run"][1] == "three pings, 10 s each, then it is gone"
    assert (source(http2, "_PINGS_MOST"), source(http2, "_PING_S")) == (3, 10)
    assert "up to 256 KiB or 2 s" in ROWS["the answer is complete before the request is"][0]
    assert (source(http2_stream, "_LINGER_BYTES"), LINGER_S) == (256 * KIB, 2.0)


def test_the_metrics_that_it_names_exist():
    names = {family.name for family in FAMILIES}
    named = set(re.findall(r"`(http2_\w+)", PAGE))
    assert named
    assert named <= names
