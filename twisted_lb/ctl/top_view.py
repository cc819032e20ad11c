"""What `lbctl top` shows: the model that frames are made of, and the frames, as lines of words."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.ctl.backends import shares, weights
from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.console import Console
from twisted_lb.ctl.events import line as event_line
from twisted_lb.ctl.graphs import Ramp, bar, graph, trend
from twisted_lb.ctl.names import backends_of
from twisted_lb.ctl.session import items, number_of, part, text_of
from twisted_lb.ctl.status import errors, in_flight, listeners, pools
from twisted_lb.ctl.tables import Cell, Column, columns, table
from twisted_lb.ctl.text import (
    BOLD,
    DIM,
    NONE,
    REVERSE,
    Words,
    count,
    decimal,
    duration,
    milliseconds,
    state_words,
    time_of_day,
)
from twisted_lb.ctl.top_model import SORTS, Model

TABS: Final = ("overview", "pools", "backends", "listeners", "events")
PULSE_S: Final = 4.0
NO_NEWS_S: Final = 3.0
# Lower than that, there are no graphs.
ROOM_FOR_GRAPHS: Final = 24
_GRAPH_LINES: Final = 3
_SPARK: Final = 12
_BAR: Final = 8

HELP: Final = (
    "1 2 3 4 5, Tab   another tab",
    "up down, j k     another backend",
    "s, S             sort by the next, the last column",
    "/                only what has this in its name",
    "d m r            drain, maint, ready: says what follows, and asks",
    "Enter            the last checks of the backend",
    "p                pause",
    "q                quit",
)


class View:
    """Makes frames of a model, for a terminal of a size."""

    def __init__(self, console: Console, ramp: Ramp) -> None:
        self._console = console
        self._ramp = ramp
        self._ascii = console.ascii_only

    def frame(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        """All lines of the terminal."""
        silent = now - model.heard_at
        body = self._body(model, width - 1, height - 6, now)[: height - 6]
        lines = [
            self._first(model, width, now, silent),
            self._tabs(model),
            Words(),
            Words(" ") + self._alert(model),
            Words(),
        ]
        lines += [body_line if str(body_line)[:1] == "▸" else Words(" ") + body_line for body_line in body]
        lines += [Words()] * (height - 1 - len(lines))
        lines.append(self._last(model))
        fitted = [(line.ascii() if self._ascii else line).cut(width) for line in lines[:height]]
        return [Words((str(line), DIM)) for line in fitted] if silent >= NO_NEWS_S else fitted

    def _first(self, model: Model, width: int, now: float, silent: float) -> Words:
        status = model.status
        uptime = duration(status.get("uptime_s"))
        ready = f"ready {uptime}" if status.get("ready") else f"not ready: {text_of(status, 'ready_text')}"
        left = Words(" ", (text_of(status, "name"), BOLD), f"  {ready}  generation {count(status.get('generation'))}")
        changed = part(status, "file").get("changed_s")
        if changed is not None and width >= 100:
            left += f"  {text_of(part(status, 'file'), 'changed') or text_of(part(status, 'file'), 'path')} changed {duration(changed)} ago, not loaded"
        link = f"live {time_of_day(status.get('now'), precise=True)}"
        if model.paused:
            link = f"paused {time_of_day(status.get('now'), precise=True)}"
        elif silent >= NO_NEWS_S:
            link = f"no news for {silent:.0f} s"
        return left + " " * (width - 1 - left.width - len(link)) + link

    def _tabs(self, model: Model) -> Words:
        spans: list[str | tuple[str, str]] = [" "]
        for at, name in enumerate(TABS):
            here = at == model.tab
            spans += [("[" if here else "") + f"{at + 1} {name}" + ("]" if here else ""), "  "]
            spans[-2] = (str(spans[-2]), REVERSE) if here else spans[-2]
        return Words(*spans[:-1])

    def _alert(self, model: Model) -> Words:
        """The verdict on one line: for screen readers, and to be seen from afar."""
        verdict = part(model.status, "verdict")
        every = backends_of(model.status)
        out = [one for one in every if not one.get("usable")]
        level = self._console.level(text_of(verdict, "level"))
        if not out or text_of(verdict, "level") == "failing":
            return level + Words(" ", (text_of(verdict, "text"), BOLD))
        named = ", ".join(f"{text_of(one, 'name')} {text_of(one, 'state')}" for one in out[:8])
        return level + Words(" ", (f"{len(out)} of {len(every)} backends not used: {named}", BOLD))

    def _last(self, model: Model) -> Words:
        if model.question:
            return Words((f" {model.question}  [y/N] ", BOLD))
        if model.typing is not None:
            return Words((f" /{model.typing}", BOLD))
        if model.said:
            return Words(f" {model.said}")
        if model.tab == 2:
            name = text_of(model.chosen(), "name")
            shown = model.filter or "none"
            order = SORTS[model.sort][0]
            return Words(
                (
                    f" s/S sort: {order}  / filter: {shown}  d drain {name}…  m maint…  r ready…  ⏎ last checks  p pause  ? help  q quit",
                    DIM,
                )
            )
        return Words((" s sort  / filter  d drain…  p pause  ? help  q quit", DIM))

    # -- the five tabs

    def _body(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        if model.helping:
            return [Words(line) for line in HELP]
        if model.checks_of:
            return self._checks(model, now)
        made = (self._overview, self._pools, self._backends, self._listeners, self._events)[model.tab]
        return made(model, width, height, now)

    def _overview(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        half = (width - 5) // 2
        room = sum(number_of(one, "limit") for one in backends_of(model.status) if one.get("usable"))
        running = model.of("in_flight")[-1:]
        of_room = f"{count(running[0] if running else None)}" + (f" of {count(room)}" if room else "")
        panels = [
            ("requests/s", "rate", f"{_last_of(model, 'rate'):,.0f}" if _has(model, "rate") else NONE, 0.0),
            ("p99", "p99", milliseconds(_last_of(model, "p99")) if _has(model, "p99") else NONE, 0.0),
            ("errors in a minute", "errors", count(_last_of(model, "errors")) if _has(model, "errors") else NONE, 4.0),
            ("in flight", "in_flight", of_room, room),
        ]
        graphs = height + 6 >= ROOM_FOR_GRAPHS
        drawn = [self._panel(model, *panel, half, graphs=graphs) for panel in panels]
        lines: list[Words] = []
        for left, right in (drawn[:2], drawn[2:]):
            lines += [a + " " * (half - a.width + 3) + b for a, b in zip(left, right, strict=True)]
            lines += [Words()] if graphs else []
        return [*lines, *([] if graphs else [Words()]), *pools(model.status)]

    def _panel(
        self, model: Model, label: str, key: str, said: str, least: float, width: int, *, graphs: bool
    ) -> list[Words]:
        values = model.of(key)
        sign = trend(values[-60:])
        head = Words(label, " " * (width - len(label) - len(said) - 2), (said, BOLD), f" {sign}")
        if not graphs:
            return [head]
        return [head, *map(Words, graph(values, width, _GRAPH_LINES, self._ramp, least))]

    def _pools(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        lines = [*pools(model.status), Words()]
        for pool in items(model.status, "pools"):
            leaving = len(items(pool, "leaving"))
            gone = f"; {count(leaving)} leaving" if leaving else ""
            lines.append(Words(f"{text_of(pool, 'name')}: check {text_of(pool, 'check') or 'none'}{gone}"))
        return lines

    def _listeners(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        return listeners(model.status)

    def _events(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        return [event_line(one, number_of(model.status, "now")) for one in reversed(model.events)]

    def _backends(self, model: Model, width: int, height: int, now: float) -> list[Words]:
        rows = model.rows()
        cursor = min(model.cursor, max(0, len(rows) - 1))
        lines = self._table(model, rows, width)
        if not lines:
            return [Words("no backend has that in its name" if model.filter else "there are no backends")]
        head, cells = lines[0], lines[1:]
        first = max(0, min(cursor - height + 2, len(cells) - (height - 1)))
        shown = [head]
        for at, (one, cell) in enumerate(zip(rows, cells, strict=True)):
            if not first <= at < first + height - 1:
                continue
            changed = now - model.changed_at.get(text_of(one, "name"), -PULSE_S) < PULSE_S
            said = Words((str(cell), BOLD)) if changed else cell
            shown.append(Words(("▸" + str(cell), REVERSE)) if at == cursor else said)
        room = height - len(shown) - 2
        if room >= 1 and model.events:
            shown += [Words(), Words(("EVENTS", DIM)), *self._events(model, width, height, now)[:room]]
        return shown

    def _table(self, model: Model, rows: Sequence[Answer], width: int) -> list[Words]:
        """The backends; the rightmost columns go where there is no room for them."""
        heads = [
            *columns("BACKEND  STATE  FOR  >WEIGHT  >IN FLIGHT"),
            Column(""),
            *columns(">REQ/S  >IS/MEANT  >ERR  >P50  >P99  LAST MINUTE"),
        ]
        owners = {
            text_of(one, "name"): pool for pool in items(model.status, "pools") for one in items(pool, "backends")
        }
        cells = [self._cells(model, owners[text_of(one, "name")], one) for one in rows]
        for kept in range(len(heads), 2, -1):
            lines = table(heads[:kept], [row[:kept] for row in cells], ascii_only=self._ascii)
            if max((line.width for line in lines), default=0) <= width:
                return lines
        return lines

    def _cells(self, model: Model, pool: Answer, one: Answer) -> list[Cell]:
        spark = graph(model.of(f"of {text_of(one, 'name')}"), _SPARK, 1, self._ramp)[0]
        return [
            text_of(one, "name"),
            state_words(text_of(one, "state")),
            duration(one.get("since_s")),
            weights(one),
            in_flight(one.get("in_flight"), one.get("limit")),
            bar(number_of(one, "in_flight"), number_of(one, "limit"), _BAR, self._ramp),
            decimal(one.get("rate")),
            shares(pool, one),
            errors(one.get("errors_60s")),
            milliseconds(one.get("p50_ms")),
            milliseconds(one.get("p99_ms")),
            spark,
        ]

    def _checks(self, model: Model, now: float) -> list[Words]:
        found = [one for one in backends_of(model.status) if text_of(one, "name") == model.checks_of]
        lines = [Words((f"Last checks of {model.checks_of}", BOLD), "  (Enter: back)"), Words()]
        for one in items(found[0], "checks") if found else []:
            sign = "✓" if one.get("passed") else "✗"
            when = time_of_day(one.get("at"), now=model.status.get("now"), precise=True)
            lines.append(Words(f"{when}  {sign} {text_of(one, 'what')}  {milliseconds(one.get('ms'))}"))
        return lines if len(lines) > 2 else [*lines, Words("none yet")]


def _has(model: Model, key: str) -> bool:
    return bool(model.of(key)) and model.of(key)[-1] is not None


def _last_of(model: Model, key: str) -> float:
    return model.of(key)[-1] or 0.0
