"""Load reports: what backends say of their load in the heads of their answers (ORCA, the field `endpoint-load-metrics`).

`TEXT cpu_utilization=0.3, named_metrics.queue=2` or `JSON {"cpu_utilization": 0.3, "named_metrics": {"queue": 2}}`; Envoy writes
a colon for the equals sign, and printers of protobuf `cpuUtilization`. What comes in `endpoint-load-metrics-json` is given its form
when its head is read. The binary form is not read.
"""

import json
import re
from collections.abc import Mapping
from math import inf
from typing import Final

# A longer one is a mistake, or an attack on whoever has to read it.
MOST_BYTES: Final = 4096
# More is no utilization, and no length of a queue.
MOST: Final = 1e6
_NAMED: Final = "named_metrics."
APPLICATION: Final = "application_utilization"
CPU: Final = "cpu_utilization"
UTILIZATIONS: Final = (APPLICATION, CPU, "mem_utilization")
_NAME: Final = re.compile(r"[!-+\--9;<>-~]+")  # visible, and none of `,:=`
_NUMBER: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?")
_CAPITAL: Final = re.compile("[A-Z]")


class LoadReport:
    """What a backend says of its load: ORCA's metrics by name, those of its own as `named_metrics.NAME`; finite numbers, not negative.
    ValueError for others.
    """

    __slots__ = ("metrics",)

    def __init__(self, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            if not 0 <= value < inf:
                raise ValueError(f"{name}: {value} is no load")
        self.metrics: Final = dict(metrics)

    def utilization(self, metric: str = "") -> float:
        """The utilization, and for each request that fails as much as one of all (gRPC A58: eps/rps, penalty 1); -1 where it is not
        said, or absurd. Of this metric, or as A58 has it: the application's, if that is more than 0, else the processor's.
        """
        metrics = self.metrics
        if metric:
            said = metrics.get(metric, -1.0)
        else:
            said = metrics.get(APPLICATION, -1.0)
            if said <= 0:
                said = metrics.get(CPU, said)
        if not 0 <= said <= MOST:
            return -1.0
        served = metrics.get("rps_fractional", 0.0)
        return said + min(metrics.get("eps", 0.0) / served, 1.0) if served > 0 else said

    def __repr__(self) -> str:
        return f"<LoadReport {self.metrics}>"


def is_metric(name: str) -> bool:
    """Whether this is the name of a metric that may be compared."""
    own = name.removeprefix(_NAMED)
    return name in UTILIZATIONS or (own != name and _NAME.fullmatch(own) is not None)


def read_report(said: bytes) -> LoadReport | None:
    """The report in the value of a field; None for what is none. Nothing that a backend says makes it raise."""
    if len(said) > MOST_BYTES:
        return None
    form, _, rest = said.partition(b" ")
    try:
        text = rest.decode("utf-8")
        if form == b"TEXT":
            return LoadReport(_text(text))
        if form == b"JSON":
            return LoadReport(_json(text))
    except (ValueError, RecursionError):
        pass  # no report: whoever asked counts it
    return None


def _text(text: str) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for member in text.split(","):
        name, sign, number = member.strip(" \t").partition("=")
        if not sign:
            name, _, number = name.partition(":")
        name, number = name.rstrip(" \t"), number.strip(" \t")
        if not _NAME.fullmatch(name) or not _NUMBER.fullmatch(number) or name in metrics or name == _NAMED:
            raise ValueError(member)
        metrics[name] = float(number)
    return metrics


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("twice")
    return found


def _no_number(constant: str) -> float:
    raise ValueError(constant)


def _json(text: str) -> dict[str, float]:
    found: object = json.loads(
        text, parse_int=float, parse_float=float, parse_constant=_no_number, object_pairs_hook=_once
    )
    if not isinstance(found, dict):
        raise ValueError(text)  # noqa: TRY004, as for any bad value
    metrics: dict[str, float] = {}
    for key, value in found.items():
        name = _CAPITAL.sub(lambda capital: "_" + capital.group().lower(), key)
        if isinstance(value, dict):
            # request_cost and utilization are said by name too; of those that are asked for by users there are named ones only.
            members = {f"{name}.{own}": number for own, number in value.items()}
        else:
            members = {name: value}
        for full, number in members.items():
            if not isinstance(number, float) or full in metrics:
                raise ValueError(full)
            metrics[full] = number
    return metrics
