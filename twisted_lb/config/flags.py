"""Flags: what a command line says of the listener, the pool and the checks called `default`, in place of what the file says."""

import re
from collections.abc import Mapping
from typing import Any, Final

from twisted_lb.config.balancer import LoadBalancerConfig
from twisted_lb.config.base import DEFAULT, KeyPath, names_of
from twisted_lb.config.problems import Problem
from twisted_lb.config.shape import field_of, model_at
from twisted_lb.core.listen_address import ListenAddress

# The keys that the flags of `twistd lb` set, as they are in a file of flat keys; errors name the flag that was typed.
FLAGS: Final = {
    "--backend": "backends",
    "--healthcheck": "health_check.interval_s",
    "--strategy": "policy",
    "--port": "listen.port",
    "--interface": "listen.interface",
    "--tls": "tls.certificates",
    "--status": "status",
    "--takeover": "takeover",
    "--admin": "admin.address",
    "--workers": "workers",
}

NUMERIC_FLAGS: Final = {"--healthcheck", "--port", "--workers"}

# Where flags have an effect: texts as they were typed, of a `--backend` a list of them.
Flags = Mapping[str, str | list[str]]


class Flagged:
    """The values of a file with those of flags in their place. `values` is changed. `typed` is the flag that set what is at a
    path; `problems` are those of flags that cannot be followed. `file` is what the file is called.
    """

    def __init__(self, values: dict[str, Any], flags: Flags, file: str) -> None:
        self.values: Final = values
        self.typed: Final[dict[KeyPath, str]] = {}
        self.problems: Final[list[Problem]] = []
        self._file: Final = file
        for flag, text in flags.items():
            self._follow(flag, value_of(flag, text))

    def _follow(self, flag: str, value: Any) -> None:
        key = tuple(FLAGS[flag].split("."))
        if flag == "--admin" and isinstance(value, str) and value.startswith("unix:"):
            key = ("admin", "socket")
        if flag == "--tls":
            self._certificates(key, value)
        elif flag in ("--port", "--interface"):
            self._listen(flag, key, value)
        elif flag == "--healthcheck":
            self._check(flag, value)
        elif flag in ("--backend", "--strategy"):
            home = self._home("pools", "backends", flag)
            if home is not None:
                self._set((*home, *key), value, flag)
                if flag == "--backend":
                    self._forget((*home, "targets"))
        else:
            self._set(key, value, flag)

    def _listen(self, flag: str, key: KeyPath, value: Any) -> None:
        """In a table port and interface are a part of each address."""
        home = self._home("listeners", "listen", flag)
        if home is None:
            return
        if not home:
            self._set(key, value, flag)
            return
        table = self.values["listeners"][DEFAULT]
        if not isinstance(table, dict) or "address" not in table:
            return  # it is told where it stands
        part, addresses = str(key[-1]), table["address"]
        addresses = addresses if isinstance(addresses, list) else [addresses]
        try:
            value = _part(part, value)
            if all(map(_is_one, addresses)):  # else it is told where it stands
                table["address"] = _elsewhere(addresses, part, value)
                self.typed[*home, "address"] = flag
        except ValueError as error:
            self._refuse(flag, str(error))

    def _certificates(self, key: KeyPath, value: Any) -> None:
        """In the place of the file's certificates; what else it says of TLS holds."""
        home = self._home("listeners", "listen", "--tls")
        if home is not None:
            if isinstance(self._at(home).get("tls"), str):
                self._forget((*home, "tls"))  # that was certificates alone
            self._set((*home, *key), value, "--tls")

    def _check(self, flag: str, value: Any) -> None:
        """The checks `default`, and those of the pool `default` where it says how often itself, or names others."""
        named = DEFAULT in self._names("checks")
        if named:
            self._set(("checks", DEFAULT, "interval_s"), value, flag)
        home = self._home("pools", "backends", "" if named else flag)
        if home is None:
            return
        pool = self._at(home)
        checks = pool.get("health_check")
        if not named or "check" in pool or (isinstance(checks, dict) and "interval_s" in checks):
            self._set((*home, "health_check", "interval_s"), value, flag)

    def _home(self, kind: str, flat: str, flag: str) -> KeyPath | None:
        """Where the object `default` of a kind stands: in its table, or in flat keys. Nowhere: the flag is refused."""
        names = self._names(kind)
        if DEFAULT in names:
            return (kind, DEFAULT)
        others = names or (kind == "pools" and bool(self.values.get("routes")))
        if flat in self.values or not others or (not names and flag == "--backend"):
            return ()
        if flag:
            there = f"{kind} {', '.join(names)}" if names else "routes"
            self._refuse(flag, f"{self._file} has {there} and no {DEFAULT}")
        return None

    def _refuse(self, flag: str, message: str) -> None:
        self.problems.append(Problem((), message, flag=flag))

    def _names(self, kind: str) -> list[str]:
        found = self.values.get(kind)
        return list(found) if isinstance(found, dict) else []

    def _at(self, path: KeyPath) -> dict[str, Any]:
        here: Any = self.values
        for part in path:
            here = here.get(part) if isinstance(here, dict) else None
        return here if isinstance(here, dict) else {}

    def _set(self, path: KeyPath, value: Any, flag: str) -> None:
        """Set what is at a path, in place of what is there under any of its names."""
        here: Any = self.values
        for part in path[:-1]:
            here = here.setdefault(part, {})
            # Anything but a table is left there: validation refuses the file for it, and names it.
            if not isinstance(here, dict):
                return
        self._forget(path)
        here[path[-1]] = value
        self.typed[path] = flag

    def _forget(self, path: KeyPath) -> None:
        model, key = model_at(LoadBalancerConfig, path[:-1]), str(path[-1])
        names = names_of(model, key) if model is not None and field_of(model, key) else [key]
        for name in names:
            self._at(path[:-1]).pop(name, None)


def value_of(flag: str, text: str | list[str]) -> object:
    """The value of a flag's text; the text itself where it is no number but should be."""
    if flag not in NUMERIC_FLAGS or not isinstance(text, str):
        return text
    if re.fullmatch("[+-]?[0-9]{1,18}", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _part(part: str, value: Any) -> Any:
    """The port or the interface of an address, as it has to be; ValueError if it is none."""
    if part == "port":
        if not isinstance(value, int):
            raise ValueError(f"should be a valid integer, not {value!r}")
        if not 0 <= value <= 65535:
            raise ValueError(f"should be from 0 to 65535, not {value}")
    return value


def _text(one: Any) -> str:
    """An address of a listener, without its table if it has one; empty for what cannot be one."""
    text = one.get("address") if isinstance(one, dict) else one
    return text if isinstance(text, str) else ""


def _is_one(one: Any) -> bool:
    try:
        ListenAddress.parse(_text(one))
    except ValueError:
        return False
    return True


def _elsewhere(addresses: list[Any], part: str, value: Any) -> list[Any]:
    """Addresses with another port or interface; those of unix sockets, which have neither, stay. ValueError where all are."""
    if all(_text(one).startswith("unix:") for one in addresses):
        raise ValueError(f"listeners.{DEFAULT}.address has unix sockets alone, which have no {part}")
    moved: list[Any] = []
    for one in addresses:
        address = ListenAddress.parse(_text(one))
        there = one if address.path else address.at(**{part: value}).text
        if there not in moved:
            moved.append(there)
    return moved


def flag_at(path: KeyPath, typed: Mapping[KeyPath, str]) -> str | None:
    """The flag that set what is at a path, or what that is in."""
    return next((typed[path[:length]] for length in range(len(path), 0, -1) if path[:length] in typed), None)
