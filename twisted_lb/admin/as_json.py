"""Views as JSON, and as plain values."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, Final

from twisted_lb.portions import AT_ONCE, Making

# The lists whose members have long lists themselves.
_POOLS: Final = "pools"
_LEAVES: Final = frozenset((str, int, float, bool, type(None)))


def as_json(answer: Mapping[str, Any]) -> Making[bytes]:
    """An answer as JSON: plain values, and views (dataclasses) as what they are made of."""
    pieces: list[str] = []
    waiting = 0
    for piece, members in _object(answer):
        pieces.append(piece)
        waiting += members
        if waiting >= AT_ONCE:
            waiting = 0
            yield
    return "".join(pieces).encode()


def _object(values: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """An object in pieces, each with how many members of lists it has."""
    before = "{"
    for key, value in values.items():
        yield f"{before}{_encoded(key)}: ", 0
        if isinstance(value, Sequence) and not isinstance(value, str):
            yield from _list(value, opened=key == _POOLS)
        else:
            yield _encoded(value), 0
        before = ", "
    yield ("}" if values else "{}"), 0


def _list(values: Sequence[Any], *, opened: bool) -> Iterator[tuple[str, int]]:
    before = "["
    if opened:
        for one in values:
            yield before, 1
            yield from _object(one if isinstance(one, Mapping) else vars(one))
            before = ", "
    else:
        for begin in range(0, len(values), AT_ONCE):
            some = values[begin : begin + AT_ONCE]
            yield before + _encoded(some)[1:-1], len(some)
            before = ", "
    yield ("]" if values else "[]"), 0


def _encoded(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_parts)


def _parts(view: Any) -> dict[str, Any]:
    if not is_dataclass(view):
        raise TypeError(f"{view!r} is no view")
    return vars(view)


def plain(value: Any) -> Any:
    """A view as plain values that nobody else has, down to its last part. As `asdict`, at a tenth of the work."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is list or kind is tuple:
        return [plain(one) for one in value]
    if kind is dict:
        return {key: plain(one) for key, one in value.items()}
    if is_dataclass(value):
        return {key: one if type(one) in _LEAVES else plain(one) for key, one in vars(value).items()}
    raise TypeError(f"{value!r} is no view")
