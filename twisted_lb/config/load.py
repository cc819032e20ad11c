"""Loading: configuration out of a TOML file and a command line, with errors that a person can use."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from twisted_lb.config import LoadBalancerConfig, Model, SiblingConfig
from twisted_lb.config.base import KeyPath
from twisted_lb.config.files import read_toml
from twisted_lb.config.flags import FLAGS, Flagged, Flags, said_by_flags, value_of
from twisted_lb.config.origins import Origins
from twisted_lb.config.reasons import problems
from twisted_lb.errors import ConfigError

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Loaded:
    """A configuration that was accepted, and where each of its values comes from."""

    config: LoadBalancerConfig
    origins: Origins


def load_toml(path: Path | str) -> LoadBalancerConfig:
    """Load the configuration in a TOML file; ConfigError with everything that is wrong in it."""
    return Source({}, Path(path)).load()


def from_flags(flags: Flags, file: Path | None) -> LoadBalancerConfig:
    """The configuration of a command line, see `Source`."""
    return Source(flags, file).load()


class Source:
    """A command line that can be loaded again and again (reload): the file's values, each flag instead of its value.

    `flags` holds the texts of the FLAGS that were typed, only those; the list of a `--backend` replaces all of the file's
    backends of the pool `default`. `loaded` is what came of it last.
    """

    def __init__(self, flags: Flags, file: Path | None) -> None:
        self.flags: Final = dict(flags)
        self.file: Final = file
        self.loaded: Loaded | None = None

    def load(self) -> LoadBalancerConfig:
        """The configuration as it is now; ConfigError with everything that is wrong."""
        values = read_toml(self.file) if self.file is not None else {}
        given = copy.deepcopy(values)
        flagged = Flagged(values, self.flags, str(self.file or "the command line"))
        config = _validated(
            LoadBalancerConfig, values, flagged.typed, f"{self.file}: " if self.file else "", flagged.refused
        )
        self.loaded = Loaded(config, Origins(config, given, flagged.typed, lambda _: str(self.file)))
        return config

    __call__ = load


def sibling_from_flags(flags: Mapping[str, str]) -> SiblingConfig:
    """The sibling backend of a command line; each flag is the field of that name."""
    values = {flag[2:]: value_of(flag, text) for flag, text in flags.items()}
    return _validated(SiblingConfig, values, {(flag[2:],): flag for flag in flags}, "")


def keys_of_the_file() -> dict[str, str]:
    """The keys of the file that no flag sets, such as `queue.most`: by `most`, where the first one of that name is meant, and
    by `queue_most`.
    """
    found: dict[str, str] = {}
    for dotted in _dotted(LoadBalancerConfig):
        if dotted not in FLAGS.values():
            found.setdefault(dotted.replace(".", "_"), dotted)
            found.setdefault(dotted.rpartition(".")[2], dotted)
    return found


def _dotted(model: type[Model], prefix: str = "") -> Iterator[str]:
    for key, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Model):
            if key != "defaults":
                yield from _dotted(kind, f"{prefix}{key}.")
        else:
            yield prefix + key


def _validated(
    model: type[M],
    values: dict[str, Any],
    typed: Mapping[KeyPath, str],
    source: str,
    refused: Iterable[tuple[str, str]] = (),
) -> M:
    wrong = said_by_flags(refused)
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        wrong += problems(model, error.errors(), typed, source)
    if wrong:
        raise ConfigError(wrong)
    return config
