"""The policy of a pool: a name, or a table of how to choose and what to compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from twisted_lb.config.own_policies import GROUP, OWN, OwnChoice, choice_of, own_choice
from twisted_lb.config.secret import Sources
from twisted_lb.core.pickers import BY_LOAD, LOADS, POLICIES, Policy, name_of, policy_of

_DEFAULT_LOAD: Final = "requests"
_KEYS: Final = {"choose": tuple(BY_LOAD), "load": tuple(LOADS)}
_SHAPE: Final = f"should be one of {', '.join(POLICIES)}"
_TABLE: Final = 'or a table such as { choose = "two", load = "cost" }'


@dataclass(frozen=True)
class PolicyTable:
    """A policy of two parts: the way to `choose`, and the `load` by which backends are compared."""

    choose: str
    load: str

    def __str__(self) -> str:
        return name_of(self.choose, self.load)

    @property
    def policy(self) -> Policy:
        """What decides."""
        return policy_of(self.choose, self.load)


def _read(value: object, info: ValidationInfo) -> object:
    if isinstance(value, PolicyTable | OwnChoice):
        return value
    if isinstance(value, str):
        return _named(value, info.context.folder if isinstance(info.context, Sources) else None)
    if callable(value):
        return choice_of(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"{_SHAPE}, {_TABLE}")  # noqa: TRY004, pydantic takes no other error
    for key, given in value.items():
        if key not in _KEYS:
            raise ValueError(f"{key}: unknown key; a policy has choose and load")
        if given not in _KEYS[key]:
            raise ValueError(f"{key} should be one of {', '.join(_KEYS[key])}, not {given!r}")
    if "choose" not in value:
        raise ValueError(f"choose is missing: {' or '.join(BY_LOAD)}")
    return PolicyTable(value["choose"], value.get("load", _DEFAULT_LOAD))


def _named(text: str, folder: Path | None) -> str | OwnChoice:
    if text in POLICIES:
        return text
    if ":" not in text:
        raise ValueError(_SHAPE)
    return own_choice(text, folder)


_SCHEMA: Final = {
    "anyOf": [
        {"enum": list(POLICIES)},
        {"type": "string", "pattern": OWN},
        {
            "type": "object",
            "properties": {key: {"enum": list(words)} for key, words in _KEYS.items()},
            "required": ["choose"],
            "additionalProperties": False,
        },
    ]
}

# A name of POLICIES, a table, or a policy of one's own.
PolicyChoice = Annotated[str | PolicyTable | OwnChoice, BeforeValidator(_read), WithJsonSchema(_SCHEMA)]

# The same, or none.
ShadowChoice = Annotated[
    str | PolicyTable | OwnChoice | None,
    BeforeValidator(lambda value, info: None if value is None else _read(value, info)),
    WithJsonSchema(_SCHEMA),
]

_NAMES: Final = "; ".join(f"`{name}`, {policy.describe}" for name, policy in POLICIES.items())
_CHOICES: Final = "; ".join(f"`{name}`, {text}" for name, text in BY_LOAD.items())
_LOADS: Final = "; ".join(f"`{name}`, {kind.describe}" for name, kind in LOADS.items())
DESCRIBED: Final = (
    f"How a client finds its backend: {_NAMES}. Or a table of how to `choose` ({_CHOICES}) and what `load` is ({_LOADS}), left out: "
    f'`"{_DEFAULT_LOAD}"`: `{{ choose = "two", load = "cost" }}`. Loads are compared for each unit of weight. Danger: where latency '
    "is compared, a backend that answers errors at once is the fastest, unless `retry.bad_statuses` names them. Or a policy of your "
    f"own: `package.module:Class`, or `entry-point:NAME` of the group `{GROUP}`, see "
    "[writing-a-policy.md](writing-a-policy.md). Danger: that is code which runs in this process."
)


def policy_for(choice: str | PolicyTable | OwnChoice, budget_us: int) -> Policy:
    """The policy of that name, or of that table, or one's own, whose picks may take so many microseconds."""
    if isinstance(choice, OwnChoice):
        return choice.policy(budget_us)
    return POLICIES[choice] if isinstance(choice, str) else choice.policy
