"""Target lists in the JSON of Prometheus (file_sd, http_sd): `[{"targets": ["10.0.0.1:8000"], "labels": {"weight": "2"}}]`.

https://prometheus.io/docs/prometheus/latest/http_sd/ says what is in them. As Prometheus does, other keys, and labels that
are no strings, are refused; unlike there a target needs its port, for a backend has no usual one.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from twisted_lb.core.address import Address, UnixAddress, parse_address, same_place
from twisted_lb.core.backend import HEAVIEST, LIGHTEST, BackendSpec

# 10,000 targets with addresses and some labels have about 1 MB.
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_TARGETS: Final = 10_000
# The longest that can be right: a host name of 253 characters and a port.
_LONGEST: Final = 300


class Malformed(ValueError):
    """A list that is refused as a whole; the text says in one line what is wrong with it, and where."""


@dataclass(frozen=True)
class Target:
    """One target: its address, and the labels of its group, of which `name` and `weight` are for us."""

    address: Address
    name: str
    weight: int
    labels: tuple[tuple[str, str], ...]

    def spec(self) -> BackendSpec:
        """The backend as the core knows it."""
        return BackendSpec(self.name or str(self.address), self.address, self.weight, labels=self.labels)


def read_targets(data: bytes, *, sockets: bool, weight: int = 1) -> list[BackendSpec]:
    """The backends of a list; Malformed where anything is wrong with it: a list is right as a whole or not at all.
    `sockets`: whether there may be unix sockets in it. `weight`: of those whose labels say none.
    """
    targets = [target for index, group in enumerate(_groups(data)) for target in _of_group(group, index, weight)]
    if len(targets) > MOST_TARGETS:
        raise Malformed(f"{len(targets)} targets, {MOST_TARGETS} are the most")
    seen: dict[Address | str, str] = {}
    for place, target in targets:
        if isinstance(target.address, UnixAddress) and not sockets:
            raise Malformed(
                f"{place}: {target.address} is a socket of this machine, which only a list in a file may name"
            )
        _refuse_twice(target.spec(), place, seen)
    return [target.spec() for _, target in targets]


def _refuse_twice(spec: BackendSpec, place: str, seen: dict[Address | str, str]) -> None:
    """Note a backend's address and name; Malformed for one that is there already, whatever its spelling."""
    for key, text in ((same_place(spec.address), str(spec.address)), (spec.name, f"the name {spec.name}")):
        other = seen.setdefault(key, place)
        if other != place:
            raise Malformed(f"{place}: {text} is there already, at {other}")


def _groups(data: bytes) -> list[Any]:
    if len(data) > MOST_BYTES:
        raise Malformed(f"longer than {MOST_BYTES} bytes")
    try:
        # Some editors write a byte order mark. Numbers are refused anyway, and an int of many digits by an error of its own.
        value = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_each_key_once, parse_int=float)
    except UnicodeDecodeError as error:
        raise Malformed(f"byte {error.start}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise Malformed(
            f"line {error.lineno}, column {error.colno}: not JSON, which alone is read, and no YAML"
        ) from None
    except RecursionError:
        raise Malformed("nested too deeply") from None
    if not isinstance(value, list):
        raise Malformed(f'should be a list, such as [{{"targets": ["10.0.0.1:8000"]}}], not {_kind(value)}')
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Malformed(f"the key {_short(twice)} is there twice in one table")
    return found


def _of_group(group: Any, index: int, usual_weight: int) -> Iterator[tuple[str, Target]]:
    """Each target of a group, with its place."""
    if not isinstance(group, dict):
        raise Malformed(f"[{index}]: should be a table with targets, not {_kind(group)}")
    for key in group:
        if key not in ("targets", "labels"):
            raise Malformed(f"[{index}]: unknown key {_short(key)}, there are targets and labels")
    texts = group.get("targets")
    if not isinstance(texts, list):
        raise Malformed(f"[{index}].targets: should be a list of HOST:PORT, not {_kind(texts)}")
    labels = _labels(group.get("labels"), f"[{index}].labels")
    name, weight = _name(labels, f"[{index}].labels.name"), _weight(labels, f"[{index}].labels.weight", usual_weight)
    if name and len(texts) > 1:
        raise Malformed(f"[{index}].labels.name: {_short(name)} cannot be the name of {len(texts)} targets")
    kept = tuple(sorted((key, value) for key, value in labels.items() if key not in ("name", "weight")))
    for number, text in enumerate(texts):
        place = f"[{index}].targets[{number}]"
        yield place, Target(_address(text, place), name, weight, kept)


def _labels(labels: Any, place: str) -> dict[str, str]:
    if labels is None:
        return {}
    if not isinstance(labels, dict):
        raise Malformed(f"{place}: should be a table of strings, not {_kind(labels)}")
    for key, value in labels.items():
        if not key:
            raise Malformed(f"{place}: a label without a name")
        if not isinstance(value, str):
            raise Malformed(f'{place}.{_bare(key)}: should be a string, as "2", not {_kind(value)}')
    return labels


def _name(labels: dict[str, str], place: str) -> str:
    name = labels.get("name", "")
    # As a name in the configuration: it stands in log lines and metrics.
    if "name" in labels and not re.fullmatch("[!-~]{1,100}", name):
        raise Malformed(f"{place}: {_short(name)} should be 1 to 100 printable ASCII characters without spaces")
    return name


def _weight(labels: dict[str, str], place: str, usual: int) -> int:
    text = labels.get("weight", str(usual))
    if not re.fullmatch("[0-9]{1,6}", text) or not LIGHTEST <= int(text) <= HEAVIEST:
        raise Malformed(f"{place}: {_short(text)} is not a weight, a whole number from {LIGHTEST} to {HEAVIEST}")
    return int(text)


def _address(text: Any, place: str) -> Address:
    if not isinstance(text, str):
        raise Malformed(f"{place}: should be a string HOST:PORT, not {_kind(text)}")
    if len(text) > _LONGEST:
        raise Malformed(f"{place}: {_short(text)} is longer than any address")
    try:
        return parse_address(text)
    except ValueError as error:
        raise Malformed(f"{place}: {error}") from None


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    kinds = {dict: "a table", list: "a list", str: "a string", float: "a number"}
    return kinds[type(value)]


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}..."


def _bare(key: str) -> str:
    return key if re.fullmatch(r"\w{1,60}", key, re.ASCII) else _short(key)
