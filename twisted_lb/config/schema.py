"""The JSON Schema of configuration files, for editors: `python -m twisted_lb.config.schema`.

It is packaged as `lb.schema.json` beside this module. A file names it in its first line, `#:schema ./lb.schema.json`, for
editors that complete and check TOML by one (taplo, tombi).
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from twisted_lb.config import LoadBalancerConfig, Model
from twisted_lb.config.base import names_of
from twisted_lb.config.shape import tables

PACKAGED: Final = Path(__file__).with_name("lb.schema.json")

# What both pydantic's schemas and taplo understand.
_DIALECT: Final = "http://json-schema.org/draft-07/schema#"
_INCLUDE: Final = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Files that are read too, by name or pattern, relative to the folder of this one.",
}


class _Generator(GenerateJsonSchema):
    """Draft 7 keeps definitions elsewhere."""

    schema_dialect = _DIALECT


def schema() -> dict[str, Any]:
    """The schema of a configuration file."""
    raw = LoadBalancerConfig.model_json_schema(schema_generator=_Generator, ref_template="#/definitions/{model}")
    made: dict[str, Any] = _without_noise({**raw, "definitions": raw.pop("$defs")})
    made["properties"] = {"include": _INCLUDE, **made["properties"]}
    made["$schema"] = _DIALECT
    made["title"] = "twisted_lb"
    for model, found in _objects(made):
        _add_older_names(model, found)
    return made


def _objects(made: dict[str, Any]) -> Iterator[tuple[type[Model], dict[str, Any]]]:
    """The tables in a schema, with their models."""
    yield LoadBalancerConfig, made
    for model in {table.__name__: table for _, table in tables(LoadBalancerConfig)}.values():
        found = made["definitions"].get(model.__name__)
        if found is not None:
            # A table that may be a text is one of two.
            yield model, next((one for one in found.get("anyOf", ()) if one.get("type") == "object"), found)


def _add_older_names(model: type[Model], found: dict[str, Any]) -> None:
    for key in model.model_fields:
        for older in names_of(model, key)[1:]:
            found["properties"][older] = {**found["properties"][key], "deprecated": True}


def _without_noise(made: Any, *, names: bool = False) -> Any:
    """A schema without the titles that pydantic makes of names, and without whole tables as defaults. `names`: the keys of
    this table are names, and no words of a schema.
    """
    if isinstance(made, list):
        return [_without_noise(one) for one in made]
    if not isinstance(made, dict):
        return made
    return {
        key: _without_noise(value, names=not names and key in ("properties", "definitions"))
        for key, value in made.items()
        if names or not (key == "title" or (key == "default" and isinstance(value, dict)))
    }


def as_text() -> str:
    """The schema as its file has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the schema to stdout; or to a file, if one is named."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(as_text(), encoding="utf-8")
    else:
        sys.stdout.write(as_text())


if __name__ == "__main__":
    main()
