"""`lbctl top`: pictures, keys, and the terminal that is given back."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
from ctl_house import HangUp, ManualClock, Problem, Terminal
from ctl_sample import EVENTS, status

from twisted_lb.ctl.console import Console
from twisted_lb.ctl.graphs import Ramp, bar, graph, trend
from twisted_lb.ctl.screen import keys_in
from twisted_lb.ctl.session import Session
from twisted_lb.ctl.top import Top

PICTURE = """\
 edge-1  ready 6 d  generation 42                                 live 14:17:00
 [1 overview]  2 pools  3 backends  4 listeners  5 events

 △ 3 of 19 backends not used: api/a4 drained, api/a7 down, api/a9 ejected

 requests/s                    1,290 ●   p99                          204 ms ●
                                     ⢸                                       ⢸
                                     ⢸                                       ⢸
                                     ⢸                                       ⢸

 errors in a minute               43 ●   in flight                 94 of 800 ●
                                     ⢸
                                     ⢸
                                     ⢸                                       ⢀

 POOL    POLICY  USED     REQ/S  IN FLIGHT   QUEUED  ERR     P99
 app     least   4 of 4   352.6   22 / 256  0 / 200    1  126 ms
 api     rr      9 of 12  646.8   64 / 352  0 / 400   42  204 ms
 static  rr      3 of 3   290.4    8 / 192  0 / 200    0   19 ms




 s sort  / filter  d drain…  p pause  ? help  q quit
"""
WIDE = """\
 edge-1  ready 6 d  generation 42  lb.toml changed 3 min ago, not loaded                                  live 14:17:00
 1 overview  2 pools  [3 backends]  4 listeners  5 events

 △ 3 of 19 backends not used: api/a4 drained, api/a7 down, api/a9 ejected

 BACKEND    STATE         FOR    WEIGHT  IN FLIGHT            REQ/S     IS/MEANT  ERR     P50     P99  LAST MINUTE
▸app/b1     ● ready       6 d         1     7 / 64  ▉·······   88.4  25.1 / 25.0    0   11 ms  118 ms             ⢸
 app/b2     ● ready       6 d         1     5 / 64  ▋·······   87.9  24.9 / 25.0    0   10 ms  112 ms             ⢸
"""
LAST = (
    " s/S sort: file order  / filter: none  d drain app/b1…  m maint…  r ready…  ⏎ last checks  p pause  ? help  q quit"
)


@pytest.fixture(autouse=True)
def known(api):
    api.answers["GET /v1/events"] = {"events": EVENTS, "last": 809}


def test_once_is_one_picture_without_control_codes(lbctl):
    assert lbctl("top", "--once") == 0
    assert lbctl.out == PICTURE
    assert "\x1b" not in lbctl.out


def test_the_tab_of_backends_has_them_all_and_events_below(lbctl):
    assert lbctl("top", "--once", "--tab", "3", "--columns", "120", "--lines", "40") == 0
    lines = lbctl.out.splitlines()
    assert lbctl.out.startswith(WIDE)
    assert len(lines) == 40
    assert " api/a5     ● ready       6 d         1    31 / 32  ███████▊   52.8   8.2 / 9.1▼" in lbctl.out
    assert " EVENTS\n 14:16:36  ● static/s2 up: 2 checks passed in a row\n" in lbctl.out
    assert lines[-1] == LAST


def test_a_narrow_terminal_loses_the_rightmost_columns(lbctl):
    lbctl("top", "--once", "--tab", "3", "--columns", "60")
    lines = lbctl.out.splitlines()
    assert lines[5] == " BACKEND    STATE         FOR    WEIGHT  IN FLIGHT"
    assert max(map(len, lines)) <= 60


def test_a_low_terminal_loses_the_graphs(lbctl):
    lbctl("top", "--once", "--lines", "18")
    assert len(lbctl.out.splitlines()) == 18
    assert "⢸" not in lbctl.out
    assert " static  rr      3 of 3" in lbctl.out


@pytest.mark.parametrize("size", [(1, 1), (20, 3), (10, 7), (300, 100)])
@pytest.mark.parametrize("tab", "12345")
def test_no_size_breaks_it(lbctl, size, tab):
    assert lbctl("top", "--once", "--tab", tab, "--columns", str(size[0]), "--lines", str(size[1])) == 0
    assert len(lbctl.out.splitlines()) <= size[1]
    assert "mistake" not in lbctl.err


@pytest.mark.parametrize("tab", "12345")
def test_answers_that_lack_all_are_no_traceback(lbctl, api, tab):
    api.answers["GET /v1/status"] = {"pools": [{"backends": [{}]}], "listeners": [{}]}
    api.answers["GET /v1/events"] = {"events": [{}]}
    assert lbctl("top", "--once", "--tab", tab) == 0


def test_without_utf8_it_is_ascii(lbctl, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    for tab in "12345":
        lbctl("top", "--once", "--tab", tab)
        assert lbctl.out.isascii()


def test_so_many_frames(lbctl):
    assert lbctl("top", "--frames", "3") == 0
    assert lbctl.out.count("[1 overview]") == 3
    assert lbctl.clock.now == 1002.0
    # Only what is new is asked for again.
    assert [path for _, path, _ in lbctl.api.asked if "events" in path][-1] == "/v1/events?after=809"


def test_without_a_daemon_it_ends_with_3(lbctl, api):
    api.answers["GET /v1/status"] = HangUp()
    assert lbctl("top", "--once") == 3


@pytest.fixture
def top(api):
    """A loop on a terminal, which has looked once."""
    clock = ManualClock()
    made = Top(Session(Console(Terminal(), Terminal(), colour="never"), clock, admin=f"unix:{api.path}"))
    made.look()
    made.clock = clock
    return made


def pressed(top, keys):
    assert all(map(top.press, keys))
    return top.frame(120, 40)


def test_keys_lead_from_tab_to_tab(top):
    assert "[2 pools]" in pressed(top, ["tab"])[1]
    assert "[5 events]" in pressed(top, ["5"])[1]
    assert "[1 overview]" in pressed(top, ["right"])[1]
    assert "[5 events]" in pressed(top, ["back tab"])[1]
    assert not top.press("q")


def test_the_cursor_stays_among_the_backends(top):
    assert pressed(top, "3jjj")[9].startswith("▸app/b4")
    assert pressed(top, ["up"])[8].startswith("▸app/b3")
    lines = pressed(top, ["page down"] * 5)
    assert any(line.startswith("▸static/s3") for line in lines)
    low = top.frame(80, 12)
    assert any(line.startswith("▸static/s3") for line in low)


def test_a_filter_keeps_what_has_it_in_its_name(top):
    lines = pressed(top, [*"/staX", "backspace", "t", "enter"])
    assert [line.split()[0] for line in lines[6:9]] == ["▸static/s1", "static/s2", "static/s3"]
    assert "/ filter: stat" in lines[-1]
    assert pressed(top, [*"/zz", "enter"])[5] == " no backend has that in its name"
    assert pressed(top, [*"/", "escape"])[5] == " no backend has that in its name"


def test_backends_are_sorted_when_somebody_asks(top):
    assert pressed(top, "3s")[6].startswith("▸static/s3")
    assert "sort: requests" in top.frame(120, 40)[-1]
    assert pressed(top, "sss")[6].startswith("▸api/a5")
    assert pressed(top, "s")[6].startswith("▸api/a7")
    assert "sort: file order" in pressed(top, "s")[-1]
    assert "sort: state" in pressed(top, "S")[-1]


FOLLOWS = ["4 requests and 2 tunnels go on", "the other three +33 %", "app keeps 3 of 4"]


def test_a_drain_asks_first_with_what_follows(top, api):
    b3 = status()["pools"][0]["backends"][2]
    api.answers["PATCH /v1/backends/app/b3"] = {"backend": b3, "changes": ["ready → drain"], "follows": FOLLOWS}
    asked = " drain app/b3? 4 requests and 2 tunnels go on; the other three +33 %; app keeps 3 of 4  [y/N]"
    assert pressed(top, "3jjd")[-1] == asked
    assert api.asked[-1] == ("PATCH", "/v1/backends/app/b3?dry_run=1", {"admin": "drain"})
    assert pressed(top, "n")[-1] == " nothing was changed"
    assert pressed(top, "dy")[-1] == " app/b3: ready → drain"
    assert api.asked[-1] == ("PATCH", "/v1/backends/app/b3", {"admin": "drain", "reason": "lbctl top"})


def test_a_refusal_is_said_on_the_last_line(top, api):
    api.answers["PATCH /v1/backends/app/b1"] = Problem(409, "last_usable", "app/b1 is the last usable backend of app")
    assert pressed(top, "3d")[-1].startswith(" refused: app/b1 is the last usable backend of app.")
    assert pressed(top, "1m")[-1] == " choose a backend first: tab 3"


def test_enter_shows_the_last_checks(top):
    lines = pressed(top, [*"3", "enter"])
    assert lines[5:8] == [" Last checks of app/b1  (Enter: back)", "", " 14:16:59  ✓ 200  3.9 ms"]
    assert pressed(top, ["enter"])[5].startswith(" BACKEND")


def test_help_and_pause(top, api):
    assert pressed(top, "?")[5].startswith(" 1 2 3 4 5, Tab")
    assert "paused 14:17:00" in pressed(top, ["escape", "p"])[0]
    asked = len(api.asked)
    top.look()
    assert len(api.asked) == asked


def test_no_news_is_said_and_all_is_dim(top, api):
    api.answers["GET /v1/status"] = HangUp()
    top.clock.now += 3
    top.look()
    assert top.frame(80, 24)[0].endswith("no news for 3 s")
    top._console.styled = True
    assert all(not line or line.startswith("\x1b[2m") for line in top.frame(80, 24))


def test_a_row_that_has_changed_is_bold_for_4_s(top, api):
    top._console.styled = True
    top.model.tab, top.model.cursor = 2, 5
    told = status()
    told["pools"][0]["backends"][1] |= {"state": "down", "usable": False}
    api.answers["GET /v1/status"] = told
    top.look()
    assert "\x1b[1mapp/b2     ✕ down" in top.frame(120, 40)[7]
    top.clock.now += 4
    top.look()
    assert "\x1b[1mapp/b2" not in top.frame(120, 40)[7]


def test_graphs_are_filled_from_the_bottom_the_newest_at_the_right():
    assert graph([1, 2, 3, 4], 2, 1, Ramp.BRAILLE) == ["⣠⣾"]
    assert graph([4, 8], 2, 2, Ramp.BLOCKS) == [" █", "██"]
    assert graph([1, 2, 4], 4, 1, Ramp.ASCII) == [" .:#"]
    assert graph([None, 0], 2, 1, Ramp.BRAILLE) == ["  "]
    assert graph([1], 2, 1, Ramp.BLOCKS, top=8) == [" ▁"]
    assert graph([1000, 1], 2, 1, Ramp.BLOCKS) == ["█▁"]
    assert graph([], 3, 1, Ramp.ASCII) == ["   "]


def test_bars_and_trends():
    assert bar(31, 32, 8, Ramp.BRAILLE) == "███████▊"
    assert bar(0, 32, 8, Ramp.BRAILLE) == "········"
    assert bar(64, 32, 8, Ramp.BLOCKS) == "████████"
    assert bar(1, 2, 8, Ramp.ASCII) == "####...."
    assert bar(5, 0, 8, Ramp.ASCII) == " " * 8
    assert [trend([1.0, two]) for two in (1.0, 1.2, 0.8)] == ["●", "▲", "▼"]
    assert trend([None, None]) == trend([]) == "●"


def test_keys_are_read_from_what_terminals_send():
    assert keys_in("j\x1b[A\x1b[B\r\t\x1b[Z\x7fü\x1b") == [
        "j",
        "up",
        "down",
        "enter",
        "tab",
        "back tab",
        "backspace",
        "ü",
        "escape",
    ]
    assert keys_in("\x00\x01") == []


@pytest.mark.parametrize("end", ["q", signal.SIGTERM, signal.SIGINT])
def test_the_terminal_is_given_back_whatever_ends_it(end):
    """A real process on a terminal of its own."""
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        [sys.executable, "-m", "twisted_lb.ctl", "top"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        seen = b""
        while b"[1 overview]" not in seen:
            assert time.monotonic() < until
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 65536)
        if end == "q":
            os.write(ours, b"q")
        else:
            process.send_signal(end)
        while process.poll() is None:
            assert time.monotonic() < until
            if select.select([ours], [], [], 0.1)[0]:
                seen += os.read(ours, 65536)
        while select.select([ours], [], [], 0)[0]:
            seen += os.read(ours, 65536)
        assert termios.tcgetattr(theirs) == before
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)
    assert process.returncode == {"q": 0, signal.SIGTERM: 143, signal.SIGINT: 130}[end]
    assert seen.startswith(b"\x1b[?1049h\x1b[?25l")
    assert b"\x1b[?25h\x1b[?1049l" in seen
    assert b"Traceback" not in seen
