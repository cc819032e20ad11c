"""The reference of all options as Markdown: `python -m twisted_lb.config.reference`."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from twisted_lb.config import BackendTable, LoadBalancerConfig, Model
from twisted_lb.config.base import names_of
from twisted_lb.core.pickers import POLICIES


class Option(NamedTuple):
    """One row of the reference."""

    key: str
    kind: str
    default: str
    meaning: str


def reference() -> str:
    """All options as Markdown, a section for each table of the file."""
    parts = [PREAMBLE]
    parts += _section("Top level", "Keys before the first `[table]`.", _options(LoadBalancerConfig))
    parts += _section("`[[backends]]`", _summary(BackendTable), _options(BackendTable))
    for name, field in LoadBalancerConfig.model_fields.items():
        kind = field.annotation
        if _is_table(kind):
            parts += _section(f"`[{name}]`", _summary(kind), _options(kind))
    return "\n".join(parts)


PREAMBLE = """\
# Configuration

`twistd -n lb --config lb.toml` reads a TOML file; a flag on the command line replaces the file's
value, `--backend` the whole list. Unknown keys and values of a wrong kind are refused, all of them
at once, each with its line, before anything listens. `python -m twisted_lb.config.reference` prints
this page, from the models in `twisted_lb/config/`.

`include = ["conf.d/*.toml"]` at the top adds other files; names are relative to the file that
includes. Names that a pattern matches come sorted, and none is fine; a plain name has to be there.
Tables merge, and a key that two files set is an error.

In strings `${NAME}` is the variable NAME of the environment, `${NAME:-text}` is `text` where that is
unset or empty, and `$${` is a literal `${`. A variable that is unset is an error. What a variable
holds stays within its string.

```toml
policy = "rr"
backends = ["127.0.0.1:8081", "app.internal:8080,weight=3", "[::1]:8082", "unix:/run/app.sock"]

[listen]
port = 8080

[health_check]
interval_s = 2
path = "/health"
```
"""


def _section(title: str, summary: str, options: Iterable[Option]) -> list[str]:
    rows = [f"| {' | '.join(option)} |" for option in options]
    head = ["| key | kind | default | meaning |", "|---|---|---|---|"]
    return [f"## {title}", "", summary, "", *head, *rows, ""]


def _summary(model: type[Model]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())


def _options(model: type[Model]) -> Iterator[Option]:
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        if _is_table(field.annotation):
            continue
        default = "required" if field.is_required() else _toml(field.default)
        kind = _kind(properties[name])
        older = "".join(f" Older name: `{one}`." for one in names_of(model, name)[1:])
        yield Option(f"`{name}`", kind, default, (field.description or "") + older)


def _is_table(annotation: object) -> TypeGuard[type[Model]]:
    return isinstance(annotation, type) and issubclass(annotation, Model)


def _toml(value: object) -> str:
    return "left out" if value is None else f"`{json.dumps(value)}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """The kind of a value, out of a JSON schema, in the words of a file: `number above 0 to 86400`."""
    words = [schema["const"]] if "const" in schema else schema.get("enum")
    if words is not None:
        return " or ".join(f"`{json.dumps(word)}`" for word in words)
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (
            ("exclusiveMinimum", "above"),
            ("minimum", "from"),
            ("maximum", "to"),
        )
        if key in schema
    ]
    kind = schema.get("type", "string")
    return " ".join([_KINDS.get(kind, kind), *bounds])


# What a file calls what a schema calls otherwise.
_KINDS = {"array": "list", "object": "table"}


def renewed(readme: str) -> str:
    """The README with the policies that there are: in the synopsis, and in the row of `-s`."""
    readme = re.sub(r"\[-s \{[^}]*\}\]", f"[-s {{{','.join(POLICIES)}}}]", readme)
    described = "; ".join(f"`{name}`, {policy.describe}" for name, policy in POLICIES.items())
    return re.sub(r"(the policy, in a file `policy`: ).*?( \| rr \|)", rf"\g<1>{described}\g<2>", readme)


def main() -> None:
    """Write the reference to stdout; or renew a README, if one is named."""
    if len(sys.argv) > 1:
        readme = Path(sys.argv[1])
        readme.write_text(renewed(readme.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(reference())


if __name__ == "__main__":
    main()
