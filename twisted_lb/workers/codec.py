"""Plans as bytes, from the parent to its workers: objects of this program between two processes of it, and nothing else.

Compiled classes do not pickle themselves, so that objects go as their class and what they are made of. What is the same object in two
generations of a plan is the same object at the worker too: each part goes once and is remembered by its number.
"""

import dataclasses
import io
import pickle
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from inspect import signature
from types import MethodType
from typing import Any, Final

from twisted_lb.core.histogram import NOTHING, Reading
from twisted_lb.core.pickers import LOADS, POLICIES, by_key, load_of
from twisted_lb.core.pickers.base import Policy
from twisted_lb.core.pickers.by_key import KeyPolicy
from twisted_lb.core.pickers.by_load import LoadKind
from twisted_lb.planned import ListenerPlan, Plan, PoolPlan, RoutePlan
from twisted_lb.wire.edits import NO_EDITS, FieldEdits

_OURS: Final = "twisted_lb."
_MEASURES: Final = "twisted_lb.core.measures"
# Policies that are one object each: reloads see by that what is equal.
_NAMES: Final = {id(policy): name for name, policy in POLICIES.items()}
Part = ListenerPlan | RoutePlan | PoolPlan


class Encoder:
    """Makes bytes of plans. Parts that a worker knows already, by their numbers, go as those."""

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[int, Part]] = {}  # by id; the part is held, so that its id is nobody else's
        self._texts: dict[int, bytes] = {}  # of parts
        self._next: int = 0

    def encode(self, plan: Plan) -> "Encoded":
        """A plan with its parts."""
        numbers: dict[int, tuple[int, Part]] = {}
        texts: dict[int, bytes] = {}
        for part in _parts(plan):
            known = self._numbers.get(id(part))
            if known is None:
                known = self._next, part
                self._next += 1
            numbers[id(part)] = known
            texts[known[0]] = self._texts.get(known[0]) or dumped(_without_configuration(part))
        self._numbers, self._texts = numbers, texts
        return Encoded(dumped(plan, lambda one: numbers[id(one)][0] if id(one) in numbers else None), texts)


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A plan as bytes: the whole, which names its parts by numbers, and these."""

    whole: bytes
    parts: dict[int, bytes]

    def for_one_who_knows(self, known: set[int]) -> bytes:
        """All of it, without the parts of these numbers."""
        return pickle.dumps((self.whole, {number: part for number, part in self.parts.items() if number not in known}))

    @property
    def numbers(self) -> set[int]:
        """The parts that whoever has read this knows."""
        return set(self.parts)


def unsendable(plan: Plan) -> str:
    """Why a plan cannot go to another process: it has an object that is no data; empty for one that can."""
    try:
        Encoder().encode(plan)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        return str(error)
    return ""


class Decoder:
    """Makes plans of bytes, one generation after the other."""

    def __init__(self) -> None:
        self._parts: dict[int, Part] = {}

    def decode(self, data: bytes) -> Plan:
        """The plan; what has come with it is remembered for the next one."""
        whole, parts = loaded(data)
        self._parts.update({number: loaded(part) for number, part in parts.items()})
        used: dict[int, Part] = {}

        def part_of(number: int) -> Part:
            used[number] = self._parts[number]
            return used[number]

        plan = _Reader(io.BytesIO(whole), part_of).load()
        assert isinstance(plan, Plan)
        self._parts = used
        return plan


def _parts(plan: Plan) -> Iterator[Part]:
    yield from plan.listeners.values()
    yield from plan.routes.values()
    yield from plan.pools.values()


def _without_configuration(part: Part) -> Part:
    """A part without what it is made of, which the next plan alone is compared with."""
    if isinstance(part, ListenerPlan):
        return dataclasses.replace(part, made_of={}, addresses=())
    return dataclasses.replace(part, made_of={})


def dumped(value: object, numbered: Callable[[object], int | None] | None = None) -> bytes:
    """An object of this program as bytes for `loaded`, or, where some go by number, for a reader that knows those."""
    stream = io.BytesIO()
    writer = _Writer(stream) if numbered is None else _NumberingWriter(stream, numbered)
    writer.dump(value)
    return stream.getvalue()


def loaded(data: bytes) -> Any:
    """The object that `dumped` has made bytes of."""
    return pickle.loads(data)  # noqa: S301, from the other end of a link that this program has made


class _Writer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is MethodType:
            return getattr, (obj.__self__, obj.__name__)  # Twisted has a way of its own, which knows no class methods
        if isinstance(obj, LoadKind):
            return load_of, (next(name for name, one in LOADS.items() if one.describe == obj.describe), obj.metric)
        if id(obj) in _NAMES:
            return _named, (_NAMES[id(obj)],)
        if isinstance(obj, KeyPolicy):
            return by_key, (obj.choose, obj.percent)
        if obj is NO_EDITS:
            return _no_edits, ()
        if obj is NOTHING:
            return _nothing, ()
        if not kind.__module__.startswith(_OURS) or _reduces_itself(obj, kind) or _is_plain(obj, kind):
            return NotImplemented
        return made, (kind, parts_of(obj))


class _NumberingWriter(_Writer):
    """One that asks of each object whether it goes by its number, which is dear: only of plans."""

    def __init__(self, stream: io.BytesIO, numbered: Callable[[object], int | None]) -> None:
        super().__init__(stream)
        self._numbered: Final = numbered

    def persistent_id(self, obj: Any) -> int | None:
        return self._numbered(obj)


def _nothing() -> Reading:
    return NOTHING


def _no_edits() -> FieldEdits:
    return NO_EDITS


def _named(name: str) -> Policy:
    return POLICIES[name]


class _Reader(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, part_of: Callable[[int], Part]) -> None:
        super().__init__(stream)
        self._part_of: Final = part_of

    def persistent_load(self, pid: Any) -> Part:
        return self._part_of(pid)


def _reduces_itself(obj: object, kind: type) -> bool:
    """Whether an object is pickled as Python does it anyway: a class, a value of an enum, a tuple, an exception, a function."""
    return isinstance(obj, (type, tuple, int, str, bytes, BaseException, Enum)) or not hasattr(kind, "__init__")


def _is_plain(obj: object, kind: type) -> bool:
    """Whether an object is of measures that are not compiled, and holds nothing but what it is made of: thousands of those go each second,
    and Python does it at half the work.
    """
    return kind.__module__ == _MEASURES and hasattr(obj, "__dict__")


def parts_of(obj: Any) -> dict[str, Any]:
    """What an object is made of, by the names of its parameters: what it says itself (`parts`), or its attributes of these names."""
    if hasattr(obj, "parts"):
        found: dict[str, Any] = obj.parts()
        return found
    kind: Any = type(obj)
    return {name: getattr(obj, name) for name in parameters_of(kind)}


@cache
def parameters_of(kind: Any) -> tuple[str, ...]:
    """The parameters that objects of a class are made with; TypeError where nobody can tell."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    try:
        return tuple(signature(kind).parameters)
    except ValueError:
        raise TypeError(f"{kind.__qualname__} does not say what it is made of") from None


def made(kind: type, values: dict[str, Any]) -> Any:
    """An object of this class, made of these parts."""
    return kind(**values)
