"""`lbctl events`: what changed, and who did it."""

from argparse import ArgumentParser, Namespace
from typing import Final

from twisted_lb.ctl.client import Answer
from twisted_lb.ctl.failure import Status
from twisted_lb.ctl.numbers import whole
from twisted_lb.ctl.session import Session, Verb, items, number_of, text_of
from twisted_lb.ctl.text import (
    BLUE,
    BOLD,
    DIM,
    GREEN,
    MAGENTA,
    RED,
    YELLOW,
    Words,
    short_actor,
    state_words,
    time_of_day,
)

# Kind of event -> its glyph; those of states are the states'.
_GLYPHS: Final[dict[str, tuple[str, str]]] = {
    "up": ("●", GREEN),
    "down": ("✕", RED),
    "ejected": ("⊘", MAGENTA),
    "returned": ("●", GREEN),
    "agent": ("◐", BLUE),
    "agent_garbled": ("△", YELLOW),
    "added": ("+", GREEN),
    "removed": ("-", RED),
    "changed": ("~", YELLOW),
    "exhausted": ("✕", RED),
    "recovered": ("●", GREEN),
    "levels": ("~", YELLOW),
    "panic": ("△", RED),
    "panic_over": ("●", GREEN),
    "cut": ("✕", YELLOW),
    "full": ("≡", YELLOW),
    "limit_spared": ("△", YELLOW),
    "leak": ("△", YELLOW),
    "policy_failed": ("△", YELLOW),
    "policy_handed_over": ("△", YELLOW),
    "policy_taken_back": ("●", GREEN),
    "reload": ("~", YELLOW),
    "upgrade": ("~", YELLOW),
    "reset": ("~", YELLOW),
}
# What a change by an operator ends in -> the state whose glyph it gets.
_WANTED: Final = {"drain": "drained", "drained": "drained", "maint": "maint", "ready": "ready"}
# What somebody does.
_DEEDS: Final = {"admin", "changed", "added", "removed", "reload", "reset"}
# Their text says it all.
_WORDLESS: Final = {"admin", "changed"}


def run(session: Session, arguments: Namespace) -> int:
    """Print the events that are known, and with `--follow` each that comes, until an interrupt."""
    query = {"after": arguments.after, **({"kind": arguments.kind} if arguments.kind else {})}
    answer = session.api.get("/v1/events", query)
    events = items(answer, "events")
    if arguments.last is not None:
        events = events[max(0, len(events) - arguments.last) :]
    if session.console.as_json and not arguments.follow:
        session.console.say_json(answer | {"events": events})
        return Status.DONE
    for event in events:
        _say(session, event)
    if arguments.follow:
        for event in session.api.events(int(number_of(answer, "last")), arguments.kind or ""):
            _say(session, event)
    elif not events:
        session.console.tell(
            f"nothing of kind {arguments.kind!r} has happened" if arguments.kind else "nothing has happened"
        )
    return Status.DONE


def _say(session: Session, event: Answer) -> None:
    if session.console.as_json:
        session.console.say_json(event)
    else:
        session.console.say_cut([line(event, session.clock.time())])


def line(event: Answer, now: float) -> Words:
    """An event as a line: when, a glyph, of what, what, and who did it."""
    kind, subject, text = text_of(event, "kind"), text_of(event, "subject"), text_of(event, "text")
    if kind not in _WORDLESS and not text.startswith(kind):
        said = kind.replace("_", " ")
        text = f"{said}: {text}" if text else said
    text = text.replace(" -> ", " → ")
    when = time_of_day(event.get("at"), now=now, precise=True)
    spoken = Words((when, DIM), "  ") + _glyph(kind, text)
    if subject:
        spoken += Words(" ", (subject, BOLD))
    # What follows of a change is nobody's deed.
    actor = short_actor(event.get("actor")) if kind in _DEEDS else ""
    return spoken + f" {_with_actor(text, actor)}"


def _with_actor(text: str, actor: str) -> str:
    """`ready → drain by alice: “deploy”`."""
    what, colon, reason = text.partition(": “")
    return f"{what} by {actor}{colon}{reason}" if actor and f"by {actor}" not in text else text


def _glyph(kind: str, text: str) -> Words:
    if "changed on disk" in text:
        return Words(("△", YELLOW))
    if kind in _GLYPHS:
        return Words(_GLYPHS[kind])
    wanted = text.rpartition("→ ")[2].partition(":")[0].partition(" ")[0].strip()
    state = _WANTED.get(wanted)
    return Words(state_words(state).spans[0]) if state else Words(("~", YELLOW))


def _arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on with what happens from now on, until an interrupt")
    add("--last", type=whole(0, 1_000_000), metavar="N", help="only the last N of those that are known")
    add(
        "--after",
        type=whole(0, 10**15 - 1),
        default=0,
        metavar="ID",
        help="only those behind the event with that number",
    )
    add("--kind", metavar="KIND", help="only those of this kind: down, up, ejected, admin, reload, …")


VERBS = (Verb("events", "events [--follow]", "what changed, and who did it", _arguments, run),)
