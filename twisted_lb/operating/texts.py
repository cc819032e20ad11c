"""Words of an operator: text from outside on one line, names that were meant, values as one reads them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from twisted_lb.admin.endpoints import MOST_REASON
from twisted_lb.config.similar import similar
from twisted_lb.core.overlay import PoolOverlay

# What separates the fields of an audit line, and the quotes around its reason, as text from outside has them there.
_KEPT: Final = {**dict.fromkeys(",=\t\r\n", " "), "“": '"', "”": '"'}


def clean(text: str) -> str:
    """Text from outside on one line, without what could pass for another field of it."""
    return "".join(_KEPT.get(c, c) if c.isprintable() or c in _KEPT else "?" for c in text)[:MOST_REASON]


def quoted(text: str) -> str:
    """A reason in its quotes, on one line; empty for none."""
    said = "".join(c if c in ",=" else clean(c) for c in text)[:MOST_REASON]
    return f"“{said}”" if said else ""


def told(actor: str, reason: str) -> str:
    """Who it was, and why, for whoever asks what took a backend out: `by alice: “deploy”`."""
    why = quoted(reason)
    return f"by {clean(actor)}" + (f": {why}" if why else "")


def hint(name: str, names: Iterable[str]) -> str:
    """The name that was perhaps meant, as a question; empty where none is near."""
    found = similar(name, names)
    return f'did you mean "{found}"?' if found else ""


def one_of(values: Sequence[str]) -> str:
    """The one value of several backends, or all of them."""
    return "/".join(dict.fromkeys(values))


def changes_of(changes: PoolOverlay) -> list[tuple[str, str]]:
    """Runtime changes of a pool: backend and what is other."""
    found = [(name, f"admin {admin.value}") for name, admin in changes.admin.items()]
    found += [(name, f"{word} {one.now}") for word, numbers in changes.numbers for name, one in numbers.items()]
    found += [(name, "added") for name in changes.added]
    return found + [(name, "removed") for name in changes.removed]


def shown(value: object) -> str:
    """A value of the configuration, as one reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(map(shown, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {shown(one)}" for key, one in value.items())
    address = getattr(value, "address", None)
    if address is not None:  # a backend, a listener's place
        name = getattr(value, "name", "")
        return f"{name} {address}" if name not in ("", str(address)) else str(address)
    return "" if value is None else str(value)
