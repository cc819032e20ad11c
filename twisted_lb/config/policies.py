"""The policy of a pool: a name, or a table of how to choose and what to compare."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, cast

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from twisted_lb.config.own_policies import GROUP, OWN, OwnChoice, choice_of, own_choice
from twisted_lb.config.secret import Sources
from twisted_lb.config.similar import similar
from twisted_lb.core.load_report import UTILIZATIONS, is_metric
from twisted_lb.core.pickers import (
    BLOCK_BYTES,
    BLOCKS,
    BOUND_PERCENT,
    BY_KEY,
    BY_LOAD,
    BY_PREFIX,
    LOAD_FACTOR,
    LOADS,
    MOST_BOUND_PERCENT,
    NAMED,
    PEEK_BYTES,
    POLICIES,
    PREFIX_LOADS,
    Policy,
    by_key,
    by_prefix,
    name_of,
    policy_of,
)

_DEFAULT_LOAD: Final = "requests"
_KEYS: Final = {"choose": (*BY_LOAD, *BY_KEY, BY_PREFIX), "load": tuple(LOADS)}
# What a table by prefix may say in whole numbers, from and to.
_PREFIX_NUMBERS: Final = {
    "block_bytes": (64, 65_536),
    "peek_bytes": (64, 1_048_576),
    "blocks": (64, 1_048_576),
}
_MOST_FACTOR: Final = 100
_OFF: Final = "off"
_LEAST_PERCENT: Final = 101
_SHAPE: Final = f"should be one of {', '.join(POLICIES)}"
# What HAProxy, NGINX and Envoy call them.
_ELSEWHERE: Final = {
    "roundrobin": "rr",
    "round_robin": "rr",
    "static_rr": "rr",
    "random": "rand",
    "leastconn": "least",
    "least_conn": "least",
    "least_request": "least",
    "least_requests": "least",
    "least_time": "latency",
    "ewma": "latency",
    "peak_ewma": "latency",
    "ring_hash": "ring",
    "ketama": "ring",
    "consistent": "ring",
    "hrw": "rendezvous",
}
# Whose name says by which key as well: the policy, and the key of the route.
_BY_KEY_ELSEWHERE: Final = {
    "source": '"client"',
    "ip_hash": '"client"',
    "uri": '"path"',
    "hash": '"path"',
    "url_param": "{ query = NAME }",
    "hdr": "{ header = NAME }",
    "cookie": "{ cookie = NAME }",
    "sticky": "{ cookie = NAME }",
}
_TABLE: Final = 'or a table such as { choose = "two", load = "cost" }'


@dataclass(frozen=True)
class PolicyTable:
    """A policy of two parts: the way to `choose`, and the `load` by which backends are compared, of what is reported this `metric`;
    or, where it is chosen by key, the bound of loads in percent, 0 for none; or, by prefix, how much more `load` all of a prompt is worth,
    how bodies are looked at, and how many blocks each backend is taken to hold.
    """

    choose: str
    load: str
    metric: str = ""
    bound_percent: int = BOUND_PERCENT
    load_factor: float = LOAD_FACTOR
    block_bytes: int = BLOCK_BYTES
    peek_bytes: int = PEEK_BYTES
    blocks: int = BLOCKS

    def __str__(self) -> str:
        if self.choose == BY_PREFIX:
            return ", ".join([BY_PREFIX, *self._unusual()])
        if self.choose in BY_KEY:
            return f"{self.choose}{_bound(self.bound_percent)}"
        name = name_of(self.choose, self.load)
        return f"{name} ({self.metric})" if self.metric else name

    def _unusual(self) -> list[str]:
        """The words for what is not as usual, by prefix."""
        usual = PolicyTable(BY_PREFIX, _DEFAULT_LOAD)
        keys = ("load", "load_factor", *_PREFIX_NUMBERS)
        told = {key: getattr(self, key) for key in keys if getattr(self, key) != getattr(usual, key)}
        return [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in told.items()]

    @property
    def policy(self) -> Policy:
        """What decides."""
        if self.choose == BY_PREFIX:
            made = by_prefix(self.load, self.load_factor, self.block_bytes, self.peek_bytes, self.blocks)
            return POLICIES[BY_PREFIX] if made == POLICIES[BY_PREFIX] else made
        if self.choose not in BY_KEY:
            return policy_of(self.choose, self.load, self.metric)
        return POLICIES[self.choose] if self.bound_percent == BOUND_PERCENT else by_key(self.choose, self.bound_percent)


def _bound(percent: int) -> str:
    """The words for a bound that is not the usual one."""
    if percent == BOUND_PERCENT:
        return ""
    return f", bound {percent / 100:g}" if percent else ", no bound"


def _read(value: object, info: ValidationInfo) -> object:
    if isinstance(value, PolicyTable | OwnChoice):
        return value
    if isinstance(value, str):
        return _named(value, info.context.folder if isinstance(info.context, Sources) else None)
    if callable(value):
        return choice_of(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"{_SHAPE}, {_TABLE}")  # noqa: TRY004, pydantic takes no other error
    return _table(value)


def _table(value: Mapping[str, object]) -> PolicyTable:
    for key, given in value.items():
        if key not in _KEYS and key not in ("bound", "metric", "load_factor", *_PREFIX_NUMBERS):
            raise ValueError(
                f"{key}: unknown key; a policy has choose, and load and metric, or bound, or load_factor, {', '.join(_PREFIX_NUMBERS)}"
            )
        if key in _KEYS and given not in _KEYS[key]:
            raise ValueError(f"{key} should be one of {', '.join(_KEYS[key])}, not {given!r}")
    if "choose" not in value:
        raise ValueError(f"choose is missing: one of {', '.join(_KEYS['choose'])}")
    choose = str(value["choose"])
    if choose == BY_PREFIX:
        return _by_prefix(value)
    for key in ("load_factor", *_PREFIX_NUMBERS):
        if key in value:
            raise ValueError(f"{key} is for {BY_PREFIX}, and not for {choose}")
    strange, its = (("load", "metric"), BY_LOAD) if choose in BY_KEY else (("bound",), BY_KEY)
    for key in strange:
        if key in value:
            raise ValueError(f"{key} is for {', '.join(its)}, and not for {choose}")
    load = str(value.get("load", _DEFAULT_LOAD))
    metric = _metric(value["metric"], load) if "metric" in value else ""
    return PolicyTable(choose, load, metric, _percent(value.get("bound", BOUND_PERCENT / 100)))


def _by_prefix(value: Mapping[str, object]) -> PolicyTable:
    for key, of in (("bound", BY_KEY), ("metric", BY_LOAD)):
        if key in value:
            raise ValueError(f"{key} is for {', '.join(of)}, and not for {BY_PREFIX}")
    load = value.get("load", _DEFAULT_LOAD)
    if load not in PREFIX_LOADS:
        raise ValueError(f"load should be one of {', '.join(PREFIX_LOADS)} for {BY_PREFIX}, not {load!r}")
    factor = value.get("load_factor", LOAD_FACTOR)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor <= _MOST_FACTOR:
        raise ValueError(f"load_factor should be a number from 0 to {_MOST_FACTOR}, not {factor!r}")
    usual = PolicyTable(BY_PREFIX, _DEFAULT_LOAD)
    block, peek, blocks = (_whole(key, value.get(key, getattr(usual, key))) for key in _PREFIX_NUMBERS)
    if peek < block:
        raise ValueError(f"peek_bytes = {peek} is less than a block (block_bytes = {block}): nothing could be known")
    return PolicyTable(
        BY_PREFIX, str(load), load_factor=float(factor), block_bytes=block, peek_bytes=peek, blocks=blocks
    )


def _whole(key: str, number: object) -> int:
    least, most = _PREFIX_NUMBERS[key]
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise ValueError(f"{key} should be a whole number from {least} to {most}, not {number!r}")
    return number


def _named(text: str, folder: Path | None) -> str | OwnChoice:
    if text in POLICIES:
        return text
    if ":" not in text:
        raise ValueError(f"{_SHAPE}, not {text!r}{_meant(text)}" if text else _SHAPE)
    return own_choice(text, folder)


def _meant(text: str) -> str:
    """What to say of a name that is no policy's: which one was probably meant."""
    name = text.lower().replace("-", "_")
    if name in _BY_KEY_ELSEWHERE:
        return f"; that is maglev here, and key = {_BY_KEY_ELSEWHERE[name]} of the route"
    if "." in text:
        return "; a class of your own is package.module:Class"
    meant = _ELSEWHERE.get(name) or similar(text, POLICIES)
    return f'; did you mean "{meant}"?' if meant else ""


def _metric(given: object, load: str) -> str:
    if load != "reported":
        raise ValueError(f'metric is for load = "reported", and load is {load}')
    if not isinstance(given, str) or not is_metric(given):
        raise ValueError(f"metric should be named_metrics.NAME, or one of {', '.join(UTILIZATIONS)}, not {given!r}")
    return given


def _percent(bound: object) -> int:
    """A bound in percent; 0 for none."""
    if bound == _OFF or (bound == 0 and not isinstance(bound, bool)):
        return 0
    percent = bound * 100 if isinstance(bound, int | float) and not isinstance(bound, bool) else 0
    if not _LEAST_PERCENT <= percent <= MOST_BOUND_PERCENT or abs(percent - round(percent)) > 1e-6:
        least, most = _LEAST_PERCENT / 100, MOST_BOUND_PERCENT // 100
        raise ValueError(
            f'bound should be "{_OFF}", or a number from {least} to {most} with two decimals, not {bound!r}'
        )
    return round(percent)


_BOUND: Final = {"type": "number", "minimum": _LEAST_PERCENT / 100, "maximum": MOST_BOUND_PERCENT // 100}
_SCHEMA: Final = {
    "anyOf": [
        {"enum": list(POLICIES)},
        {"type": "string", "pattern": OWN},
        {
            "type": "object",
            "properties": {
                "choose": {"enum": list(BY_LOAD)},
                "load": {"enum": list(LOADS)},
                "metric": {"type": "string"},
            },
            "required": ["choose"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"choose": {"enum": list(BY_KEY)}, "bound": {"anyOf": [{"enum": [0, _OFF]}, _BOUND]}},
            "required": ["choose"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "choose": {"enum": [BY_PREFIX]},
                "load": {"enum": list(PREFIX_LOADS)},
                "load_factor": {"type": "number", "minimum": 0, "maximum": _MOST_FACTOR},
                **{
                    key: {"type": "integer", "minimum": least, "maximum": most}
                    for key, (least, most) in _PREFIX_NUMBERS.items()
                },
            },
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

# Each policy in the words of help; what begins with the name does not say it twice.
NAMES: Final = "; ".join(f"`{name}`, {policy.describe.removeprefix(f'{name}: ')}" for name, policy in POLICIES.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


_PLAIN: Final = [name for name in POLICIES if name not in NAMED and name not in BY_KEY and name != BY_PREFIX]
DESCRIBED: Final = (
    f"How a client finds its backend. By turns, by chance or in order: {_listed(_PLAIN)}; by load: {_listed(NAMED)}; by the `key` of "
    f"the route (consistent hashing): {_listed(BY_KEY)}; by how the body begins and by load, for backends that cache prompts: "
    f"`{BY_PREFIX}` ([inference.md](inference.md)). "
    'Or a table, `{ choose = "two", load = "cost" }`, `{ choose = "ring", bound = 1.5 }` or `{ choose = "prefix", load_factor = 2 }`. Or a '
    "policy of your own, `package.module:Class`, or `entry-point:NAME` of the group "
    f"`{GROUP}` ([writing-a-policy.md](writing-a-policy.md)). What each does, when to use which, and what tables may say: "
    "[policies.md](policies.md). Danger: where latency is compared, a backend that answers errors at once is the fastest, unless "
    "`retry.bad_statuses` names them; a policy of your own is code that runs in this process."
)


def policy_for(choice: str | PolicyTable | OwnChoice, budget_us: int) -> Policy:
    """The policy of that name, or of that table, or one's own, whose picks may take so many microseconds."""
    if isinstance(choice, OwnChoice):
        return choice.policy(budget_us)
    return POLICIES[choice] if isinstance(choice, str) else choice.policy


def policy_meant(given: object) -> Policy:
    """What decides, of what a program names: as a file does, or a Policy itself. ValueError says in one line what is allowed."""
    if isinstance(given, str):
        try:
            return policy_for(_named(given, None), 0)
        except ValueError as error:
            raise ValueError(f"policy {error}") from None
    if isinstance(given, PolicyTable | OwnChoice):
        return policy_for(given, 0)
    if not hasattr(given, "build"):
        raise ValueError(f"policy {_SHAPE}, a PolicyTable, a Policy or package.module:Class, not {given!r}")
    return cast("Policy", given)
