"""The reference of all options as Markdown: `python -m twisted_lb.config.reference`."""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.fields import FieldInfo

from twisted_lb.config import LoadBalancerConfig, Model
from twisted_lb.config.access import RateLimitConfig
from twisted_lb.config.affinity import AffinityCookieConfig
from twisted_lb.config.base import DEFAULT, names_of
from twisted_lb.config.costs import CostOf
from twisted_lb.config.described import DescribedConfig
from twisted_lb.config.doubts import CODES
from twisted_lb.config.health_check import HealthCheckConfig
from twisted_lb.config.limits import TimeoutsConfig
from twisted_lb.config.listeners import AddressTable, ListenerConfig
from twisted_lb.config.mirror import MirrorConfig
from twisted_lb.config.observe import LogConfig
from twisted_lb.config.policies import NAMES
from twisted_lb.config.pools import BackendTable, PoolConfig
from twisted_lb.config.profiles import PROFILES, said_by
from twisted_lb.config.references import FLAT
from twisted_lb.config.routes import AnswerConfig, RedirectConfig, RouteConfig
from twisted_lb.config.scripts import ScriptConfig, StepConfig
from twisted_lb.config.targets import TargetsConfig
from twisted_lb.config.trust import TrustConfig
from twisted_lb.core.pickers import POLICIES
from twisted_lb.core.script import PRESETS, Step


class Option(NamedTuple):
    """One row of the reference."""

    key: str
    kind: str
    default: str
    meaning: str


def reference() -> str:
    """All options as Markdown, a section for each owner."""
    process = [key for key in LoadBalancerConfig.model_fields if key not in DescribedConfig.model_fields]
    of_stops = ("drain_s", "tunnel_drain_s")
    rows = [one for one in _options(LoadBalancerConfig) if one.key.strip("`").partition(".")[0] in process]
    rows += [one for one in _options(TimeoutsConfig, "timeouts.") if one.key.strip("`").partition(".")[2] in of_stops]
    parts = [PREAMBLE]
    parts += _section("The process", f"Keys of the whole process. `log`: {_summary(LogConfig)}", rows)
    parts += _section("`[listeners.NAME]`", _summary(ListenerConfig), _options(ListenerConfig))
    parts += _section("An address as a table", _summary(AddressTable), _options(AddressTable))
    parts += _section("`[[routes]]`", _summary(RouteConfig), _options(RouteConfig))
    parts += _section("`redirect`", _summary(RedirectConfig), _options(RedirectConfig))
    parts += _section("`answer`, `fallback`", _summary(AnswerConfig), _options(AnswerConfig))
    parts += _section("`rate_limits`", _summary(RateLimitConfig), _options(RateLimitConfig))
    parts += _section("`[pools.NAME]`", _summary(PoolConfig), _of_pools())
    parts += _profiles()
    parts += _section("`[[pools.NAME.backends]]`", _summary(BackendTable), _options(BackendTable))
    parts += _section("`cookie` of `affinity`", _summary(AffinityCookieConfig), _options(AffinityCookieConfig))
    parts += _section("`[pools.NAME.targets]`", _summary(TargetsConfig), _options(TargetsConfig))
    parts += _section("`[pools.NAME.mirror]`", _summary(MirrorConfig), _options(MirrorConfig))
    parts += _section("`[checks.NAME]`, `[pools.NAME.health_check]`", CHECKS, _options(HealthCheckConfig))
    parts += _section("`script` of checks", _summary(ScriptConfig), _options(ScriptConfig))
    parts += _section("A step of a script", _summary(StepConfig), _options(StepConfig))
    parts += _presets()
    parts += [DEFAULTS, *_flat_keys(), *_codes()]
    return "\n".join(parts)


PREAMBLE = """\
# Configuration

`twistd -n lb --config lb.toml` reads a TOML file. Unknown keys and values of a wrong kind are refused, all of them at once,
each with its line, before anything listens; `--check` only says so. `python -m twisted_lb.config.reference` prints this page,
from the models in `twisted_lb/config/`, and `python -m twisted_lb.config.schema` a JSON Schema for editors. Whole files are in
[examples](examples); how a route is found and what it does tells [routing.md](routing.md), what a reload does
[reload.md](reload.md).

```toml
[listeners.web]
address = ":8080"

[pools.app]
policy = "rr"
backends = ["127.0.0.1:8081", "app.internal:8080,weight=3", "[::1]:8082", "unix:/run/app.sock"]
health_check = { interval_s = 2, path = "/health" }

[[routes]]
host = "app.example.com"
pool = "app"
```

A file with one listener and one pool needs no names: flat keys, below, speak of what is called `default`.

**What wins.** A flag on the command line over the file, the file over a profile, that over the default. Flags speak of the listener, the pool and
the checks `default`, in whichever form the file has them: `--port` and `--interface` change each of its addresses, `--backend`
replaces all of its backends, `--healthcheck` is `interval_s` of its checks. A flag without its object is an error.

**Includes.** `include = ["conf.d/*.toml"]` at the top adds other files; names are relative to the file that includes. Names
that a pattern matches come sorted, and none is fine; a plain name has to be there. Tables merge, and a key that two files set
is an error. Routes of included files come before those of the file itself.

**Variables.** In strings `${NAME}` is the variable NAME of the environment, `${NAME:-text}` is `text` where that is unset or
empty, and `$${` is a literal `${`. A variable that is unset is an error. What a variable holds stays within its string.
"""

CHECKS = (
    f"{HealthCheckConfig.__doc__} The checks `default` are for every pool that names none. What a pool says in `health_check` "
    "is said in the place of what its checks say, key by key."
)

DEFAULTS = """\
## `[defaults.listener]`, `[defaults.route]`, `[defaults.pool]`, `[defaults.backend]`

What holds for each listener, route, pool and backend that does not say it itself; also for flat keys, and for what is added at
run time. They have the keys above, less those that one object alone can have: `address`, what a route matches and where it
leads, `backends`, `targets` and `mirror`, `address` and `name` of a backend. Tables are inherited key by key, lists and `replace_prefix`
as a whole. A backend inherits nothing that it cannot have: an IP address no `resolve`, a unix socket no `check_port`.
"""


def _section(title: str, summary: str, options: Iterable[Option]) -> list[str]:
    rows = [f"| {' | '.join(option)} |" for option in options]
    head = ["| key | kind | default | meaning |", "|---|---|---|---|"]
    return [f"## {title}", "", summary, "", *head, *rows, ""]


def _summary(model: type[Model]) -> str:
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())


def _of_pools() -> Iterator[Option]:
    """The keys of pools; those of their checks have a section of their own."""
    for option in _options(PoolConfig):
        if not option.key.startswith("`health_check."):
            yield option


def _options(model: type[Model], prefix: str = "") -> Iterator[Option]:
    """The keys of a table, and of the tables in it."""
    schema = model.model_json_schema()
    found = next((one for one in schema.get("anyOf", ()) if "properties" in one), schema)
    for name, field in _own_first(model):
        if isinstance(field.annotation, type) and issubclass(field.annotation, Model) and not _is_written_whole(name):
            yield from _options(field.annotation, f"{prefix}{name}.")
            continue
        default = "required" if field.is_required() else _toml(field.default)
        kind = _kind(found["properties"][name], schema.get("$defs", {}))
        older = "".join(f" Older name: `{one}`." for one in names_of(model, name)[1:])
        yield Option(f"`{prefix}{name}`", kind, default, (field.description or "") + older)


def _profiles() -> list[str]:
    """What the words of `profile` stand for."""
    lines = [
        "### Profiles",
        "",
        "What a `profile` says of its pool, and of each route that leads there, be it with a share alone: as defaults under all that the",
        "file says, key by key. `lbctl config --sources` calls the source of such a value `profile NAME`; to give it up is to leave out the",
        "word, or to say that key. None changes what may be sent twice.",
        "",
        "| profile | key | value | whose it is |",
        "|---|---|---|---|",
    ]
    for name, profile in PROFILES.items():
        for whose, model in (("of the pool", profile.pool), ("of its routes", profile.route)):
            for path, value in said_by(model):
                lines.append(f"| `{name}` | `{'.'.join(map(str, path))}` | {_toml(value)} | {whose} |")
    return [*lines, ""]


def _presets() -> list[str]:
    """What the presets of scripts send and wait for."""
    lines = [
        "### Presets of scripts",
        "",
        "What a `preset` stands for, in the words of a step; `USER` and the like are what is said beside it.",
        "",
        "| preset | | |",
        "|---|---|---|",
    ]
    for name, preset in PRESETS.items():
        lines.append(f"| `{name}` | | {preset.about} |")
        said = {key: key.upper().encode() for key in preset.keys}
        lines += [f"| {number} | {_said_of(step)} |" for number, step in enumerate(preset.steps(said), 1)]
    return [*lines, ""]


def _said_of(step: Step) -> str:
    """A step in two cells: what it does, and the bytes."""
    if not step.waits:
        return f"sends | {_cell(step.send)}"
    key, value = ("matches", step.matches) if step.matches else ("expect", step.expect)
    return f"{key} | {_cell(value)}{f', unless {_cell(step.unless)}' if step.unless else ''}"


def _cell(data: bytes) -> str:
    """Bytes as a cell of a table has them."""
    return f"`{json.dumps(data.decode('latin-1')).replace('|', chr(92) + '|')}`"


def _own_first(model: type[Model]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of a table; those that it inherits from another kind of table last."""
    names = dict.fromkeys(name for kind in model.__mro__ for name in vars(kind).get("__annotations__", ()))
    yield from ((name, model.model_fields[name]) for name in names if name in model.model_fields)


def _is_written_whole(name: str) -> bool:
    """Whether a table is written as one text."""
    return name == "status"


def _toml(value: object) -> str:
    if value is None:
        return "left out"
    if isinstance(value, CostOf):
        return f"`{value}`"
    return f"`{json.dumps(value)}`" if isinstance(value, str | int | float | tuple | dict) else '`"client"`'


def _kind(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The kind of a value, out of a JSON schema, in the words of a file: `number above 0 to 86400`."""
    if "$ref" in schema:
        return _kind(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    words = [schema["const"]] if "const" in schema else schema.get("enum")
    if words is not None:
        return " or ".join(f"`{json.dumps(word)}`" for word in words)
    several = schema.get("anyOf") or schema.get("oneOf")
    if several:
        kinds = [_kind(one, definitions) for one in several if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
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

_OBJECTS = {"listeners": "listener", "routes": "route", "pools": "pool"}


def _flat_keys() -> list[str]:
    """The flat keys, and which keys of which object `default` they are."""
    lines = [
        "## Flat keys",
        "",
        f"The short form of a file with one of each: keys of the listener, the pool and the checks `{DEFAULT}`, and of the route",
        f"to that pool. They hold for nothing else, and are an error beside a table of the same object, such as `[pools.{DEFAULT}]`.",
        "Kinds, defaults and meanings are those of the keys that they stand for.",
        "",
        "| flat key | is |",
        "|---|---|",
        f"| `listen.port`, `listen.interface` | `listeners.{DEFAULT}.address`: port 80, all interfaces; port 0: the kernel's choice |",
    ]
    keys = dict.fromkeys(_in_order())
    lines += [f"| `{key}` | {' and '.join(_homes(key))} |" for key in keys if key != "listen"]
    return [*lines, ""]


def _in_order() -> Iterator[str]:
    every = set().union(*FLAT.values())
    for name, field in DescribedConfig.model_fields.items():
        if name in every:
            yield name
        elif isinstance(field.annotation, type) and issubclass(field.annotation, Model):
            yield from (f"{name}.{key}" for key in field.annotation.model_fields if f"{name}.{key}" in every)


def _homes(key: str) -> Iterator[str]:
    owned = key.partition(".")[2] if key.partition(".")[2] in TrustConfig.model_fields else key
    for kind, one in _OBJECTS.items():
        if key in FLAT[kind]:
            yield f"`{owned}` of the {one}"


def _codes() -> list[str]:
    return [
        "## Warnings",
        "",
        "What `--check` warns of, and the log at the start. Under `--strict` they are errors. A code keeps its meaning.",
        "",
        "| code | what is so |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in CODES.items()),
        "",
    ]


def renewed(readme: str) -> str:
    """The README with the policies that there are: in the synopsis, and in the row of `-s`."""
    readme = re.sub(r"\[-s \{[^}]*\}\]", f"[-s {{{','.join(POLICIES)}}}]", readme)
    described = NAMES
    described += "; or `package.module:Class`, a [policy of your own](docs/writing-a-policy.md). [When to use what](docs/policies.md#when-to-use-what)"
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
