"""The wait after a drain, until backends are empty, or after `ready`, until they are usable; with its progress."""

from collections.abc import Sequence
from typing import Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.names import configured
from twisted_lb.ctl.session import Session, items, left_at, number_of, part, text_of
from twisted_lb.ctl.tables import Cell, aligned
from twisted_lb.ctl.text import Words, both, glyph

# The daemon is asked, and progress drawn, at most that often.
INTERVAL_S: Final = 0.25

# How long what was asked for is called; what the state's glyph is; what waits are for; what stays when the time is over.
_GLYPHS: Final = {"drain": "drained", "maint": "maint", "ready": "ready"}
_GOALS: Final = {"drain": "empty", "maint": "empty", "ready": "usable"}
_STAYS: Final = {"drain": "drained", "maint": "in maintenance"}


class Waiting:
    """One wait for some backends, for `wait_s` since `began`; `words` is what to type to wait on. The answers are renewed."""

    def __init__(
        self, session: Session, answers: Sequence[Answer], wanted: str, wait_s: float, began: float, words: str
    ) -> None:
        self._session = session
        self._console = session.console
        self._answers = answers
        self._wanted = wanted
        self._wait_s = wait_s
        self._began = began
        self._words = words
        self._names = [text_of(part(answer, "backend"), "name") for answer in answers]
        self._at_first = [left_at(part(answer, "backend")) for answer in answers]
        self._said: dict[str, str] = {}

    def run(self) -> bool:
        """Wait; whether the time was over before all was done."""
        try:
            over = self._waited()
        except KeyboardInterrupt:
            self._console.wipe(keep=True)
            self._console.tell(self._wait_on())
            raise
        if not self._console.as_json:
            self._conclude(over)
        return over

    def _waited(self) -> bool:
        while True:
            self._show()
            if all(map(self._done, self._answers)):
                return False
            if self._passed() >= self._wait_s:
                return True
            self._session.clock.sleep(min(INTERVAL_S, self._wait_s - self._passed()))
            self._look()

    def _look(self) -> None:
        """Ask for all of them at once; one that is gone meanwhile is empty."""
        backends = items(self._session.api.get("/v1/backends"), "backends")
        found = {text_of(one, "name"): one for one in [*backends, *configured(backends)]}
        for name, answer in zip(self._names, self._answers, strict=True):
            gone = {"name": name, "in_flight": 0, "tunnels": 0, "usable": False, "gone": True}
            answer["backend"] = found.get(name, gone)

    def _done(self, answer: Answer) -> bool:
        backend = part(answer, "backend")
        if self._wanted == "ready":
            return bool(backend.get("usable"))
        return not (any(left_at(backend)) or number_of(backend, "keeps_own_s"))

    def _passed(self) -> float:
        return self._session.clock.monotonic() - self._began

    # -- progress

    def _show(self) -> None:
        if self._console.as_json:
            return
        if self._console.live:
            self._console.draw(self._picture())
            return
        for name, answer in zip(self._names, self._answers, strict=True):
            left = self._left(answer)
            if self._said.get(name) != left and not self._done(answer):
                self._console.tell(f"{name}: {left}, {self._passed():.1f} s")
            elif self._said.get(name) != left:
                # A result: it is the last word on that one.
                self._console.say(f"{name}: {left} after {self._passed():.1f} s")
            self._said[name] = left

    def _left(self, answer: Answer) -> str:
        """What is still to come for one of them: `1 tunnel left`, `empty`."""
        backend = part(answer, "backend")
        if self._done(answer):
            return _GOALS[self._wanted]
        if self._wanted == "ready":
            return text_of(backend, "state")
        left, keeps_own_s = left_at(backend), number_of(backend, "keeps_own_s")
        if any(left):
            return f"{both(*left)} left"
        return f"keeps its own for {keeps_own_s:.0f} s (affinity)"

    def _picture(self) -> list[Words]:
        time = f"{self._passed():.0f} s of {self._wait_s:g} s"
        sign = glyph(_GLYPHS[self._wanted])
        if len(self._names) == 1:
            return [Words(f"{self._names[0]}: ") + sign + f" {self._left(self._answers[0])}, {time}"]
        rows: list[list[Cell]] = [
            [f"{name}:", sign + f" {self._left(answer)}"]
            for name, answer in zip(self._names, self._answers, strict=True)
        ]
        return [*aligned(rows, [False, False], between=" "), Words(f"{self._how_many()}, {time}")]

    def _how_many(self) -> str:
        done = sum(map(self._done, self._answers))
        return f"{done} of {len(self._names)} {'is' if done == 1 else 'are'} {_GOALS[self._wanted]}"

    # -- the end

    def _conclude(self, over: bool) -> None:
        several = len(self._names) > 1
        self._console.wipe(keep=several)
        if over:
            self._say_over()
        elif self._console.live and not several and self._names:
            self._console.say(f"{self._names[0]}: {_GOALS[self._wanted]} after {self._passed():.1f} s{self._ended()}")
        elif several and not self._console.live:
            self._console.say(f"{self._how_many()} after {self._passed():.1f} s")

    def _ended(self) -> str:
        requests, tunnels = self._at_first[0]
        ended = both(requests, tunnels)
        return f"; {ended} ended, none was cut" if ended and self._wanted != "ready" else ""

    def _say_over(self) -> None:
        length = f"{self._wait_s:g} s are over"
        for name, answer in zip(self._names, self._answers, strict=True):
            if not self._done(answer):
                left = self._left(answer).removesuffix(" left")
                self._console.say(f"{name}: {length}; {'left' if self._wanted != 'ready' else 'still'}: {left}")
        indent = " " * (len(self._names[0]) + 2)
        self._console.tell(f"{indent}{self._wait_on()}")

    def _wait_on(self) -> str:
        one = len(self._names) == 1
        if self._wanted == "ready":
            said = f"Requests go there as soon as {'its state allows' if one else 'their states allow'}."
        else:
            said = f"{'It stays' if one else 'They stay'} {_STAYS[self._wanted]}."
        return f"{said} Wait on: {self._words} 5m"
