"""The shape of a policy of one's own: which methods it may have, how they are called, and what is wrong with others, in one line."""

import inspect
from collections.abc import Callable
from typing import Final

# The optional methods of a policy of one's own, with what they are called with.
HOOKS: Final = {
    "leased": ("member", "cost", "now"),
    "responded": ("member", "elapsed_s", "now"),
    "settled": ("member", "cost", "outcome", "elapsed_s", "now"),
    "load": ("member", "now"),
}
PICK: Final = ("ask", "now", "rng", "tried")
_MOST_SAID: Final = 200
# Where somebody else's code is called from: that is not where it went wrong.
_OURS: Final = ("own.py", "own_picker.py", "own_policies.py")


def wrong_methods(made: object, *, of_class: bool = False) -> str:
    """What is wrong with how its methods may be called; empty for nothing."""
    for method, names in (("pick", PICK), *HOOKS.items()):
        found = getattr(made, method, None)
        if found is None or (of_class and not inspect.isfunction(found)):
            continue
        if not callable(found):
            return f"{method} is {shown(found)}, should be a method: {method}({', '.join(names)})"
        if (
            inspect.iscoroutinefunction(found)
            or inspect.isasyncgenfunction(found)
            or inspect.isgeneratorfunction(found)
        ):
            return f"{method} is async or a generator: it has to answer at once"
        if not takes(found, len(names) + of_class):
            return f"{method}{signature_of(found)} is called as {method}({', '.join(names)})"
    return ""


def takes(target: Callable[..., object], count: int) -> bool:
    """Whether it can be called with so many arguments; True where nobody can tell."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def signature_of(target: Callable[..., object]) -> str:
    """How it is called, as it says itself."""
    try:
        return str(inspect.signature(target))[:_MOST_SAID]
    except (TypeError, ValueError):
        return "(…)"


def said(what: object) -> str:
    """What somebody else's object says of itself, in one bounded line, whatever it does."""
    try:
        text = str(what)
    except BaseException:
        text = f"<{type(what).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SAID else f"{text[: _MOST_SAID - 1]}…"


def shown(what: object) -> str:
    """The repr of somebody else's object, in one bounded line, whatever it does."""
    try:
        text = repr(what)
    except BaseException:
        text = f"a {type(what).__name__}"
    return said(text)


def raised(error: BaseException) -> str:
    """What was raised, and where: `raised KeyError: 'zone' (zones.py:12)`."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<frozen"):  # of the machinery of imports
            name = file.rpartition("/")[2]
            where = "" if name in _OURS else f" ({name}:{trace.tb_lineno})"
        trace = trace.tb_next
    text = said(error)
    if isinstance(error, SyntaxError):  # its text has its place; the trace ends where it was imported
        where = ""
    return f"raised {type(error).__name__}{': ' if text else ''}{text}{where}"
