"""The shape of a configuration: which table is at a path, and which tables there are."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, get_args, get_origin

from twisted_lb.config.base import KeyPath, Model, names_of

# What stands for a name in the header of a table.
NAME = "NAME"


def keys(model: type[Model]) -> list[str]:
    """The keys of a table, under all their names."""
    return [name for key in model.model_fields for name in names_of(model, key)]


def field_of(model: type[Model], name: str) -> str | None:
    """The key that has a name, if any has."""
    return _keys_by_name(model).get(name)


@cache
def _keys_by_name(model: type[Model]) -> Mapping[str, str]:
    """The keys of a table by all their names, the first one that has a name. Kept: places are asked for by the thousand."""
    return {name: key for key in reversed(model.model_fields) for name in names_of(model, key)}


def model_at(model: type[Model], path: KeyPath) -> type[Model] | None:
    """The table at a path, None where there is none. Parts that name no key are passed over, such as what pydantic calls the
    kinds of a union.
    """
    here: list[Any] = [model]
    for part in path:
        here = [one for kind in here for one in _inside(kind, part)] or here
    tables = [kind for kind in here if _is_table(kind)]
    return tables[0] if tables else None


def tables(model: type[Model], header: str = "") -> Iterator[tuple[str, type[Model]]]:
    """All tables below one, each with its header as a file has it: `[listen]`, `[pools.NAME.queue]`, `[[routes]]`."""
    for key, field in model.model_fields.items():
        for kind, more, in_list in _tables_in(field.annotation):
            path = f"{header}{key}{more}"
            yield (f"[[{path}]]" if in_list else f"[{path}]"), kind
            yield from tables(kind, f"{path}.")


def _inside(kind: Any, part: str | int) -> Iterator[Any]:
    """What may be at a key, or at a number, of what is of a kind."""
    if _is_table(kind):
        key = field_of(kind, part) if isinstance(part, str) else None
        if key is not None:
            yield from _kinds_at(kind, key)
    elif get_origin(kind) is dict and isinstance(part, str):
        yield from _kinds(get_args(kind)[1])
    elif get_origin(kind) is tuple and isinstance(part, int):
        yield from _kinds(get_args(kind)[0])


@cache
def _kinds_at(model: type[Model], key: str) -> tuple[Any, ...]:
    """The kinds that a key of a table allows."""
    return tuple(_kinds(model.model_fields[key].annotation))


def _kinds(annotation: Any) -> Iterator[Any]:
    """The kinds that an annotation allows, whatever is around them."""
    if (table := getattr(annotation, "table", None)) is not None:
        yield table
    elif _is_table(annotation) or get_origin(annotation) in (dict, tuple):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _kinds(part)


def _tables_in(annotation: Any) -> Iterator[tuple[type[Model], str, bool]]:
    """The tables that a key may have, with what comes behind the key in their header, and whether they are a list."""
    for kind in dict.fromkeys(_kinds(annotation)):
        if _is_table(kind):
            yield kind, "", False
        elif get_origin(kind) is dict:
            yield from ((one, f".{NAME}{more}", listed) for one, more, listed in _tables_in(get_args(kind)[1]))
        elif get_origin(kind) is tuple:
            yield from ((one, more, True) for one, more, _ in _tables_in(get_args(kind)[0]))


def _is_table(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Model)
