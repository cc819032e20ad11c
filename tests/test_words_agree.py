"""What is said in two places: by the page with a script and without, by `lbctl` and the daemon, which do not import each other."""

import re
from pathlib import Path

import pytest

from twisted_lb.admin import page_marks, page_tables, words
from twisted_lb.core.backend import HEAVIEST, MOST_LIMIT
from twisted_lb.ctl import steering, text
from twisted_lb.ctl.steering import limit_typed, weight_typed

SCRIPT = (Path(page_tables.__file__).parent / "page" / "app.js").read_text()

LENGTHS = [0, 0.4, 0.5, 1.5, 41, 99.4, 99.5, 99.9, 100, 149, 150, 5999, 6000, 6001, 172_799, 172_800, 518_400]


def table(name: str) -> dict[str, str]:
    """An object of the script whose values are texts."""
    [inside] = re.findall(rf"^const {name} = {{(.*)}};$", SCRIPT, re.MULTILINE)
    pairs = re.findall(r'(?:"([^"]+)"|(\w+)): "([^"]*)"', inside)
    assert len(pairs) == inside.count(":")
    return {quoted or bare: value for quoted, bare, value in pairs}


def test_the_script_has_the_signs_that_the_server_has():
    assert table("KIND") == page_marks._GLYPHS
    assert table("TONE") == page_marks.TONES
    assert table("EVENT") == page_tables._EVENT_GLYPHS
    assert table("LEVEL") == page_tables._LEVELS


@pytest.mark.parametrize("seconds", LENGTHS)
def test_lbctl_says_how_long_something_is_so_as_the_daemon_does(seconds):
    assert text.duration(seconds) == words.duration(seconds)


@pytest.mark.parametrize(("requests", "tunnels"), [(0, 0), (1, 0), (4, 0), (0, 1), (0, 2), (1, 1), (4, 2)])
def test_lbctl_says_what_is_left_as_the_daemon_does(requests, tunnels):
    assert text.both(requests, tunnels) == words.left(requests, tunnels)


def test_lbctl_takes_the_numbers_that_the_daemon_takes():
    assert (steering._MOST, steering._MOST_LIMIT) == (HEAVIEST, MOST_LIMIT)
    assert (weight_typed(str(HEAVIEST)), limit_typed(str(MOST_LIMIT))) == (HEAVIEST, MOST_LIMIT)
