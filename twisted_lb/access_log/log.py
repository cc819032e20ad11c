"""The access log itself: which requests get a line, and in which form."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from twisted_lb.access_log.around import Around, Form, Standing
from twisted_lb.access_log.forms import form_of
from twisted_lb.access_log.rules import LogRules
from twisted_lb.core.record import Observer, Record

# What a listener or a route says: whether its requests are there, or in which form; None: nothing.
Choice = bool | str | None

# Where a line goes, its line feed included.
Line = Callable[[bytes], None]

# The slowest request of each second has a line.
_WINDOW_S: Final = 1.0
_SERVER_ERROR: Final = 500


class AccessLog:
    """The access log, as observers of frontends. `line` takes the lines, and may be another one at any time; `rng` chooses
    the sample, `wall` is the clock on the wall. `tick` is to be called a few times a second.
    """

    def __init__(self, standing: Standing, wall: Callable[[], float], rng: Random, line: Line) -> None:
        self.line: Line = line
        self._standing: Final = standing
        self._wall: Final = wall
        self._rng: Final = rng
        self._rules: LogRules | None = None
        self._around: Around | None = None
        self._forms: dict[str, Form] = {}
        self._routes: Mapping[str, Form | None] = {}
        # Of those that the sample leaves out: the slowest so far of the second that ends then.
        self._slowest_s: float = -1.0
        self._slowest: bytes = b""
        self._until: float = float("-inf")

    def follow(self, rules: LogRules | None, routes: Mapping[str, Choice]) -> None:
        """Go by these rules from now on, None: there is no log; `routes` are what routes say of it, by name."""
        if rules != self._rules:
            self.flush()
            self._rules = rules
            self._around = None if rules is None else Around(rules, self._standing, self._wall)
            self._forms = {}
        chosen = {name: choice for name, choice in routes.items() if choice is not None}
        self._routes = {name: self._form(choice) for name, choice in chosen.items()}

    def observer(self, choice: Choice) -> Observer | None:
        """What logs the requests of a listener that says this; None where it has none to log."""
        rules = self._rules
        own = self._form(choice)
        routes = self._routes
        if rules is None or (own is None and not any(routes.values())):
            return None
        if rules.sample >= 1.0 and not routes:
            assert own is not None
            return self._all(own)
        return self._some(own, routes, rules)

    def _form(self, choice: Choice) -> Form | None:
        """The form that somebody chooses; None for none."""
        rules, around = self._rules, self._around
        if rules is None or around is None or choice is False:
            return None
        text = choice if isinstance(choice, str) else rules.format
        if text not in self._forms:
            self._forms[text] = form_of(text, around)
        return self._forms[text]

    def _all(self, form: Form) -> Observer:
        def observe(record: Record) -> None:
            self.line(form.line(record))

        return observe

    def _some(self, own: Form | None, routes: Mapping[str, Form | None], rules: LogRules) -> Observer:
        everything = rules.sample >= 1.0

        def observe(record: Record) -> None:
            form = routes.get(record.route, own)
            if form is None:
                return
            if everything or self._keeps(record, rules):
                self.line(form.line(record))
            elif record.took_s > self._slowest_s:
                self._slowest_s = record.took_s
                self._slowest = form.line(record)

        return observe

    def _keeps(self, record: Record, rules: LogRules) -> bool:
        """Whether a request has a line at once. Failures always have one, and what was slow."""
        if record.ended_at >= self._until:
            self.flush()
            self._until = record.ended_at + _WINDOW_S
        took_s = record.took_s
        if (
            not record.plain
            or record.status >= _SERVER_ERROR
            or took_s >= rules.slow_s
            or self._rng.random() < rules.sample
        ):
            if took_s > self._slowest_s:
                self._slowest_s, self._slowest = took_s, b""
            return True
        return False

    def tick(self, now: float) -> None:
        """Log the slowest request of a second that is over."""
        if self._slowest and now >= self._until:
            self.flush()

    def flush(self) -> None:
        """Log what is held back: the slowest request so far."""
        slowest = self._slowest
        self._slowest_s, self._slowest = -1.0, b""
        if slowest:
            self.line(slowest)
