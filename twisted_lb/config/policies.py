"""The policy of a pool: a name, or a table of how to choose and what to compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator, WithJsonSchema

from twisted_lb.core.load_report import UTILIZATIONS, is_metric
from twisted_lb.core.pickers import BY_LOAD, LOADS, POLICIES, Policy, name_of, policy_of

_DEFAULT_LOAD: Final = "requests"
_KEYS: Final = {"choose": tuple(BY_LOAD), "load": tuple(LOADS)}
_SHAPE: Final = f"should be one of {', '.join(POLICIES)}"
_TABLE: Final = 'or a table such as { choose = "two", load = "cost" }'


@dataclass(frozen=True)
class PolicyTable:
    """A policy of two parts: the way to `choose`, and the `load` by which backends are compared, of what is reported this `metric`."""

    choose: str
    load: str
    metric: str = ""

    def __str__(self) -> str:
        name = name_of(self.choose, self.load)
        return f"{name} ({self.metric})" if self.metric else name

    @property
    def policy(self) -> Policy:
        """What decides."""
        return policy_of(self.choose, self.load, self.metric)


def _read(value: object) -> object:
    if isinstance(value, PolicyTable):
        return value
    if isinstance(value, str) and value in POLICIES:
        return value
    if not isinstance(value, Mapping):
        said = _SHAPE if isinstance(value, str) else f"{_SHAPE}, {_TABLE}"
        raise ValueError(said)  # noqa: TRY004, pydantic takes no other error
    for key, given in value.items():
        if key == "metric":
            continue
        if key not in _KEYS:
            raise ValueError(f"{key}: unknown key; a policy has choose and load")
        if given not in _KEYS[key]:
            raise ValueError(f"{key} should be one of {', '.join(_KEYS[key])}, not {given!r}")
    if "choose" not in value:
        raise ValueError(f"choose is missing: {' or '.join(BY_LOAD)}")
    load = value.get("load", _DEFAULT_LOAD)
    return PolicyTable(value["choose"], load, _metric(value["metric"], load) if "metric" in value else "")


def _metric(given: object, load: str) -> str:
    if load != "reported":
        raise ValueError(f'metric is for load = "reported", and load is {load}')
    if not isinstance(given, str) or not is_metric(given):
        raise ValueError(f"metric should be named_metrics.NAME, or one of {', '.join(UTILIZATIONS)}, not {given!r}")
    return given


_SCHEMA: Final = {
    "anyOf": [
        {"enum": list(POLICIES)},
        {
            "type": "object",
            "properties": {
                **{key: {"enum": list(words)} for key, words in _KEYS.items()},
                "metric": {"type": "string"},
            },
            "required": ["choose"],
            "additionalProperties": False,
        },
    ]
}

# A name of POLICIES, or a table.
PolicyChoice = Annotated[str | PolicyTable, BeforeValidator(_read), WithJsonSchema(_SCHEMA)]

_NAMES: Final = "; ".join(f"`{name}`, {policy.describe}" for name, policy in POLICIES.items())
_CHOICES: Final = "; ".join(f"`{name}`, {text}" for name, text in BY_LOAD.items())
_LOADS: Final = "; ".join(f"`{name}`, {kind.describe}" for name, kind in LOADS.items())
DESCRIBED: Final = (
    f"How a client finds its backend: {_NAMES}. Or a table of how to `choose` ({_CHOICES}) and what `load` is ({_LOADS}), left out: "
    f'`"{_DEFAULT_LOAD}"`: `{{ choose = "two", load = "cost" }}`. Of what is reported `metric` says what is compared, such as '
    '`"named_metrics.kv_cache_usage_perc"`; left out: `application_utilization`, else `cpu_utilization`. '
    "Loads are compared for each unit of weight. Danger: where latency "
    "is compared, a backend that answers errors at once is the fastest, unless `retry.bad_statuses` names them."
)


def policy_for(choice: str | PolicyTable) -> Policy:
    """The policy of that name, or of that table."""
    return POLICIES[choice] if isinstance(choice, str) else choice.policy
