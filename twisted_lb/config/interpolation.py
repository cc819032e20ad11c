"""Interpolation: `${NAME}` and `${NAME:-default}` in the strings of a configuration, out of the environment.

It comes after parsing, and only string values are looked at, so no value can become structure: neither a quote nor a line
in a variable makes a key, a table or another item. `$${` is a literal `${`, any other dollar is itself, and what a variable
holds is not looked at again. As in a shell, the default stands for a variable that is unset or empty.
"""

import re
from collections.abc import Mapping
from typing import Any

from twisted_lb.config.base import KeyPath
from twisted_lb.config.problems import Code, Problem

# Longest first: `$${`, a reference, and what looks like one.
_DOLLAR = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


def interpolated(values: Any, environment: Mapping[str, str], path: KeyPath = ()) -> tuple[Any, list[Problem]]:
    """A copy of some values with all references in them replaced, and a problem for each string where that cannot be done:
    it stays as it was.
    """
    problems: list[Problem] = []
    return _copy(values, environment, path, problems), problems


def _copy(value: Any, environment: Mapping[str, str], path: KeyPath, problems: list[Problem]) -> Any:
    if isinstance(value, dict):
        return {key: _copy(inner, environment, (*path, key), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner, environment, (*path, number), problems) for number, inner in enumerate(value)]
    if isinstance(value, str) and "${" in value:
        try:
            return _DOLLAR.sub(lambda found: _replaced(found, environment), value)
        except ValueError as error:
            problems.append(Problem(path, str(error), Code.INTERPOLATION))
    return value


def _replaced(found: re.Match[str], environment: Mapping[str, str]) -> str:
    name, default = found.groups()
    if found[0] == "$${":
        return "${"
    if name is None:
        raise ValueError("${ should begin ${NAME} or ${NAME:-default}; a literal one is $${")
    if default is not None and "${" in default:
        raise ValueError(f"${{{name}:-...}}: a default is taken as it stands, and cannot be a reference itself")
    value = environment.get(name)
    if not value and default is not None:
        return str(default)
    if value is None:
        raise ValueError(
            f"${{{name}}}: there is no {name} in the environment, and no default as in ${{{name}:-default}}"
        )
    if not value.isascii() and value != value.encode(errors="replace").decode():
        raise ValueError(f"${{{name}}}: {name} is not UTF-8 in the environment")
    return value
