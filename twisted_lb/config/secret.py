"""Secrets: values that are read where they are kept, and never shown: in no repr, log, error or dump.

A field of the type `Secret` takes `{ file = "..." }`, `{ env = "NAME" }`, `{ credential = "NAME" }` (systemd's LoadCredential=,
in the folder CREDENTIALS_DIRECTORY), or the text itself. It is read when the configuration is loaded, and so anew at each
reload. A field that may hold a secret and has another type is marked: `Annotated[dict[str, str], HIDDEN]`.
"""

import hmac
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeGuard, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from twisted_lb.config.base import KeyPath, Model, names_of
from twisted_lb.config.problems import Code, Problem, Severity

_SHOWN = "***"
_KINDS = ("file", "env", "credential")
_SHAPE = 'should be a string, or a table such as { file = "/run/secrets/token" }, { env = "TOKEN" } or { credential = "token" }'
# systemd takes no longer credentials.
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Sources:
    """Where secrets are read: pass it to a model's validation as `context`. Relative files are in the `folder`."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    folder: Path = Path()


class Secret:
    """A text that is not shown; `reveal` gives it to whoever needs it.

    `exposed_by`: the file that it was read from, if everybody on this machine may read that.
    """

    __slots__ = ("_text", "exposed_by")

    def __init__(self, text: str, exposed_by: str = "") -> None:
        self._text = text
        self.exposed_by = exposed_by

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret('{_SHOWN}')"

    def __str__(self) -> str:
        return _SHOWN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _read,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: _SHOWN),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        tables = [
            {
                "type": "object",
                "properties": {kind: {"type": "string"}},
                "required": [kind],
                "additionalProperties": False,
            }
            for kind in _KINDS
        ]
        return {"anyOf": [{"type": "string"}, *tables]}


class _Hidden:
    """The mark of a field whose value may be a secret: errors do not show it, nor the part of its line where it stands."""


HIDDEN = _Hidden()


def _read(value: object, info: ValidationInfo) -> Secret:
    if isinstance(value, Secret):
        return value
    sources = info.context if isinstance(info.context, Sources) else Sources()
    if isinstance(value, str):
        return _filled(value, "a secret")
    if not isinstance(value, Mapping) or len(value) != 1:
        raise ValueError(_SHAPE)
    [(kind, name)] = value.items()
    if kind not in _KINDS or not isinstance(name, str):
        raise ValueError(_SHAPE)
    if not name:
        raise ValueError(f"{kind} should not be empty")
    if kind == "env":
        if name not in sources.environment:
            raise ValueError(f"there is no {name} in the environment")
        return _filled(sources.environment[name], f"{name} in the environment")
    if kind == "credential":
        return _from_file(_credential(name, sources.environment), may_be_open=True)
    return _from_file(sources.folder / name)


def _read_unless_text(value: object, info: ValidationInfo) -> object:
    return value if isinstance(value, str) else _read(value, info)


# A text that may be a secret: one that stands in the file itself stays a text.
TextOrSecret = Annotated[str | Secret, BeforeValidator(_read_unless_text)]


def revealed(value: str | Secret) -> str:
    """The text itself, for whoever needs it."""
    return value.reveal() if isinstance(value, Secret) else value


def _credential(name: str, environment: Mapping[str, str]) -> Path:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise ValueError(
            f"there is no credential {name}: CREDENTIALS_DIRECTORY is not set, see systemd's LoadCredential="
        )
    if "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} should be the name of a credential, without a folder")
    return Path(folder) / name


def _from_file(path: Path, *, may_be_open: bool = False) -> Secret:
    """The secret in a file, without the end of its last line; systemd sees to who may read a credential."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{path}: should be at most {_MOST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        # The bytes are the secret's: not even their place is said.
        raise ValueError(f"{path}: is not UTF-8") from None
    exposed = bool(mode & stat.S_IROTH) and not may_be_open
    return _filled(text.removesuffix("\n").removesuffix("\r"), str(path), str(path) if exposed else "")


def _filled(text: str, what: str, exposed_by: str = "") -> Secret:
    if not text:
        raise ValueError(f"{what} should not be empty")
    if any("\ud800" <= one <= "\udfff" for one in text):
        # Bytes of the environment that are no text.
        raise ValueError(f"{what} is not UTF-8")
    return Secret(text, exposed_by)


def exposed(config: BaseModel) -> Iterator[Problem]:
    """A warning for each secret of a configuration that stands in a file which everybody on this machine may read."""
    for path, secret in secrets_in(config):
        if secret.exposed_by:
            yield Problem(
                path,
                f"{secret.exposed_by} can be read by everybody on this machine",
                Code.EXPOSED,
                Severity.WARNING,
                hint=f"chmod o-r {secret.exposed_by}",
            )


def secrets_in(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Secret]]:
    """All secrets in a model, mapping or sequence, with their paths by the names of fields."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_in(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from secrets_in(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from secrets_in(inner, (*path, number))


def hides(annotation: Any, path: KeyPath) -> bool:
    """Whether what stands at a path of what is annotated so, a model say, may be a secret, and so is not to be shown: it is one,
    is marked, or stands where a table or list with secrets should, or its key is unknown and may be one of theirs mistyped.
    """
    kinds = list(_kinds(annotation))
    if HIDDEN in kinds:
        return True
    if Secret in kinds:
        return not path or path[0] not in _KINDS
    return any(_hides_in(kind, path[0], path[1:]) for kind in kinds) if path else _has_secret(annotation)


def _hides_in(kind: Any, part: str | int, rest: KeyPath) -> bool:
    if _is_table(kind):
        names = _keys_of(kind)
        if part in names:
            return hides(kind.model_fields[names[str(part)]], rest)
        # A value in place of one of its own, or of a table in place of one of its tables'.
        return _may_have_secret(kind, within_tables=any(isinstance(one, str) for one in rest))
    inner = get_args(kind)
    if get_origin(kind) is dict:
        return hides(inner[1], rest)
    return get_origin(kind) in (list, tuple) and any(hides(one, rest) for one in inner)


# A few thousand paths of a configuration are asked for, of a few dozen models.
@cache
def _keys_of(kind: type[Model]) -> Mapping[str, str]:
    """The fields of a model, by each of their names."""
    return {name: key for key in kind.model_fields for name in names_of(kind, key)}


@cache
def _may_have_secret(kind: type[Model], *, within_tables: bool) -> bool:
    """Whether there may be a secret in a field of a model."""
    return any(_has_secret(field, within_tables=within_tables) for field in kind.model_fields.values())


def _has_secret(annotation: Any, *, within_tables: bool = True) -> bool:
    """Whether there may be a secret in it, at any depth."""
    kinds = list(_kinds(annotation))
    if Secret in kinds or HIDDEN in kinds:
        return True
    inner = [one for kind in kinds if get_origin(kind) in (dict, list, tuple) for one in get_args(kind)]
    if within_tables:
        inner += [field for kind in kinds if _is_table(kind) for field in kind.model_fields.values()]
    return any(_has_secret(one, within_tables=within_tables) for one in inner)


def _is_table(kind: Any) -> TypeGuard[type[Model]]:
    return isinstance(kind, type) and issubclass(kind, Model)


def _kinds(annotation: Any) -> Iterator[Any]:
    """The kinds of value that an annotation or a field allows, and its marks: what is in Annotated, unions and aliases."""
    if isinstance(annotation, FieldInfo):
        for part in (annotation.annotation, *annotation.metadata):
            yield from _kinds(part)
        return
    yield getattr(annotation, "table", annotation)
    if get_origin(annotation) not in (dict, list, tuple):
        for part in get_args(annotation):
            yield from _kinds(part)
