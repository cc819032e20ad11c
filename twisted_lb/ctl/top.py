"""`lbctl top`: status and backends, live, in plain ANSI."""

import os
import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Failure, Status
from twisted_lb.ctl.graphs import Ramp
from twisted_lb.ctl.numbers import whole
from twisted_lb.ctl.session import Session, Verb, items, lines_of, number_of, text_of
from twisted_lb.ctl.steering import backend_path
from twisted_lb.ctl.top_model import SORTS, Model
from twisted_lb.ctl.top_view import TABS, View

INTERVAL_S: Final = 1.0
# A daemon that is slower than that is not waited for: keys have to be heard.
_PATIENCE_S: Final = 2.0
_ACTIONS: Final = {"d": "drain", "m": "maint", "r": "ready"}
_MOST_EVENTS: Final = 200


def run(session: Session, arguments: Namespace) -> int:
    """Show it until `q`, or so many frames; without a terminal pictures without control codes."""
    top = Top(session, arguments.tab - 1)
    console = session.console
    frames = 1 if arguments.once else arguments.frames
    if console.as_json:
        console.say_json(session.status())
        return Status.DONE
    if arguments.once or not console.live or not sys.stdin.isatty():
        width, height = console.width or 80, arguments.lines or 24
        for at in range(frames or 1):
            if at:
                session.clock.sleep(INTERVAL_S)
            top.look(first=not at)
            console.say(*top.frame(width, height))
        return Status.DONE
    top.look(first=True)
    return top.live(frames)


class Top:
    """The loop: look, draw, hear keys."""

    def __init__(self, session: Session, tab: int = 0) -> None:
        self._session = session
        self._console = session.console
        self._clock = session.clock
        self.model = Model(tab=tab)
        self._view = View(session.console, ramp_of(session.console.ascii_only))
        self._last_event = 0
        # What a yes does: a wish, of which backend.
        self._asked: tuple[str, Answer] | None = None
        session.api.patience_s = _PATIENCE_S

    def look(self, *, first: bool = False) -> None:
        """Ask the daemon; that it does not answer is seen on the screen, unless it is the `first` time."""
        if self.model.paused:
            return
        try:
            status = self._session.status()
            events = self._session.api.get("/v1/events", {"after": self._last_event})
        except Failure:
            if first:
                raise
            return
        self.model.hear(status, self._clock.monotonic())
        self.model.events = [*self.model.events, *items(events, "events")][-_MOST_EVENTS:]
        self._last_event = int(number_of(events, "last"))

    def frame(self, width: int, height: int) -> list[str]:
        """A picture, as lines."""
        lines = self._view.frame(self.model, width, height, self._clock.monotonic())
        return [line.rendered(styled=self._console.styled).rstrip() for line in lines]

    def live(self, frames: int | None) -> int:
        """On a terminal, until somebody quits."""
        # Late: not every system has a terminal to speak to.
        from twisted_lb.ctl.screen import screen

        with screen(self._console.out) as shown:
            next_look = self._clock.monotonic() + INTERVAL_S
            while True:
                shown.show(self.frame(*shown.size()))
                frames = None if frames is None else frames - 1
                if frames == 0:
                    return Status.DONE
                keys = shown.typed(next_look - self._clock.monotonic())
                if not all(map(self.press, keys)):
                    return Status.DONE
                if self._clock.monotonic() >= next_look:
                    self.look()
                    next_look = self._clock.monotonic() + INTERVAL_S

    # -- keys

    def press(self, key: str) -> bool:
        """A key; whether it goes on."""
        model = self.model
        model.said = ""
        if self._asked is not None:
            self._answer(key)
        elif model.typing is not None:
            self._type(key)
        elif key == "q":
            return False
        elif key == "escape" or (key == "enter" and model.checks_of):
            model.helping, model.checks_of = False, ""
        elif key in "12345":
            model.tab, model.helping, model.checks_of = int(key) - 1, False, ""
        else:
            self._move(key)
        return True

    def _move(self, key: str) -> None:
        model = self.model
        if key in ("tab", "right", "back tab", "left"):
            model.tab = (model.tab + (1 if key in ("tab", "right") else -1)) % len(TABS)
        elif key in ("down", "j", "up", "k", "page down", "page up"):
            step = {"down": 1, "j": 1, "up": -1, "k": -1, "page down": 10, "page up": -10}[key]
            model.cursor = max(0, min(model.cursor + step, len(model.rows()) - 1))
        elif key in ("s", "S"):
            model.sort = (model.sort + (1 if key == "s" else -1)) % len(SORTS)
        elif key == "/":
            model.typing = ""
        elif key == "p":
            model.paused = not model.paused
        elif key == "?":
            model.helping = not model.helping
        elif key == "enter" and model.tab == 2:
            model.checks_of = text_of(model.chosen(), "name")
        elif key in _ACTIONS:
            self._ask(_ACTIONS[key])

    def _type(self, key: str) -> None:
        model = self.model
        assert model.typing is not None
        if key == "enter":
            model.filter, model.typing, model.cursor, model.tab = model.typing, None, 0, 2
        elif key == "escape":
            model.typing = None
        elif key == "backspace":
            model.typing = model.typing[:-1]
        elif len(key) == 1:
            model.typing += key

    def _ask(self, wish: str) -> None:
        """Ask whether it is meant, with what would follow in the daemon's words."""
        backend = self.model.chosen()
        if self.model.tab != 2 or not backend:
            self.model.said = "choose a backend first: tab 3"
            return
        try:
            query = {"dry_run": 1}
            told = self._session.api.ask("PATCH", backend_path(backend), query, {"admin": wish})
        except Failure as failure:
            self.model.said = failure.sentence
            return
        follows = "; ".join(lines_of(told, "follows"))
        self._asked = (wish, backend)
        self.model.question = f"{wish} {text_of(backend, 'name')}? {follows}".rstrip()

    def _answer(self, key: str) -> None:
        assert self._asked is not None
        (wish, backend), self._asked = self._asked, None
        self.model.question = ""
        if key not in ("y", "Y"):
            self.model.said = "nothing was changed"
            return
        try:
            told = self._session.api.ask("PATCH", backend_path(backend), body={"admin": wish, "reason": "lbctl top"})
        except Failure as failure:
            self.model.said = failure.sentence
            return
        changes = ", ".join(lines_of(told, "changes")) or "is so already"
        self.model.said = f"{text_of(backend, 'name')}: {changes}"


def ramp_of(ascii_only: bool) -> Ramp:
    """What graphs are drawn with: the console of Linux has no Braille."""
    if ascii_only:
        return Ramp.ASCII
    return Ramp.BLOCKS if os.environ.get("TERM") in ("linux", "dumb") else Ramp.BRAILLE


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--once", action="store_true", help="one picture without control codes")
    add("--frames", type=whole(0, 10**9), metavar="N", help="end after so many pictures, one a second")
    add("--tab", type=int, choices=range(1, len(TABS) + 1), default=1, metavar="N", help="begin with that tab")
    add("--lines", type=whole(1, 10_000), metavar="N", help="so high, where there is no terminal")


VERBS = (Verb("top", "top", "the same, live", _arguments, run),)
