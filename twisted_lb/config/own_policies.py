"""Policies of one's own: found by `package.module:Class`, or by `entry-point:NAME`, and imported. That is code which runs in
this process, with all that it may do.
"""

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from twisted_lb.core.pickers.own import OwnPolicy, own_policy
from twisted_lb.core.pickers.own_shape import raised

# The group of entry points that name policies.
GROUP: Final = "twisted_lb.policies"
_DOTTED: Final = "[A-Za-z_][A-Za-z0-9_]*(?:[.][A-Za-z_][A-Za-z0-9_]*)*"
_PATH: Final = re.compile(f"({_DOTTED}):({_DOTTED})")
# No module is called so.
_ENTRY: Final = "entry-point:"
# What names one, for editors.
OWN: Final = f"^({_ENTRY}.+|{_DOTTED}:{_DOTTED})$"
_NEVER_LATE_S: Final = float("inf")

# What the source of each module was when it was imported: Python has one of each in a process, and keeps it.
_SOURCES: Final[dict[str, str]] = {}


@dataclass(frozen=True)
class OwnChoice:
    """A policy of one's own as it was named, and what it is. A module is imported once in the life of a process."""

    text: str
    target: Callable[..., Any]

    def __str__(self) -> str:
        return self.text

    def policy(self, budget_us: int) -> OwnPolicy:
        """What decides; a pick may take so many microseconds, 0: as long as it likes."""
        return own_policy(self.target, self.text, budget_us / 1e6 if budget_us else _NEVER_LATE_S)

    @property
    def stale(self) -> str:
        """The file of its module, if that is another one than was imported; empty else."""
        module = getattr(self.target, "__module__", "")
        known, file = _SOURCES.get(module), _file_of(module)
        return file if known is not None and _digest(file) != known else ""


def own_choice(text: str, folder: Path | None) -> OwnChoice:
    """The policy at `package.module:Class`, which is looked for where Python looks, and then in the folder, if there is one, or the
    one that an installed package calls so; ValueError says in one line what is wrong.
    """
    if text.startswith(_ENTRY):
        return _entry(text)
    found = _PATH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} should be package.module:Class")
    module = _imported(text, found[1], folder)
    target: Any = module
    for part in found[2].split("."):
        try:
            target = getattr(target, part)
        except AttributeError:
            raise ValueError(f"{text}: {found[1]} ({_file_of(found[1]) or 'built in'}) has no {found[2]}") from None
        except BaseException as error:  # of a module or class with a __getattr__ of its own
            raise ValueError(f"{text}: {found[2]} cannot be looked up: it {raised(error)}") from None
    return _checked(text, target)


def _entry(text: str) -> OwnChoice:
    name = text.removeprefix(_ENTRY)
    known = entry_points(group=GROUP)
    for one in known.select(name=name):
        try:
            target = one.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # sys.exit() in somebody's module
            raise ValueError(f"{text} ({one.value}) cannot be loaded: it {raised(error)}") from None
        _remember(one.module)
        return _checked(text, target)
    names = ", ".join(sorted({one.name for one in known})) or "none at all"
    raise ValueError(f"{text}: no installed package has it in {GROUP}; there is {names}")


def choice_of(target: Callable[..., Any]) -> OwnChoice:
    """The policy that a program gives as a class; ValueError where it is none."""
    return _checked(f"{target.__module__}:{getattr(target, '__qualname__', type(target).__name__)}", target)


def _checked(text: str, target: Any) -> OwnChoice:
    try:
        own_policy(target, text, _NEVER_LATE_S)
    except ValueError:
        raise
    except BaseException as error:  # of a class whose metaclass has attributes of its own
        raise ValueError(f"{text} cannot be looked at: it {raised(error)}") from None
    return OwnChoice(text, target)


def _imported(text: str, name: str, folder: Path | None) -> Any:
    # Behind all others: nothing that is installed is another thing because of what stands beside a configuration.
    if folder is not None and (there := str(folder.absolute())) not in sys.path:
        sys.path.append(there)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            beside = "" if folder is None else f" nor in {folder.absolute()}"
            raise ValueError(f"{text}: no module {error.name}, neither where Python looks{beside}") from None
        raise ValueError(f"{text}: {name} cannot be imported: it {raised(error)}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() in somebody's module
        raise ValueError(f"{text}: {name} cannot be imported: it {raised(error)}") from None
    _remember(name)
    return module


def _remember(module: str) -> None:
    if module not in _SOURCES:
        _SOURCES[module] = _digest(_file_of(module))


def _file_of(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or ""


def _digest(file: str) -> str:
    try:
        return sha256(Path(file).read_bytes()).hexdigest() if file else ""
    except OSError:
        return ""
