"""Reasons: what is wrong with a configuration, in words that speak of the file and the flags and not of pydantic."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from twisted_lb.config.base import KeyPath, Model
from twisted_lb.config.flags import flag_at
from twisted_lb.config.listeners import ListenerConfig
from twisted_lb.config.pools import NO_BACKEND, BackendTable, PoolConfig
from twisted_lb.config.problems import Code, Problem
from twisted_lb.config.routes import RouteConfig
from twisted_lb.config.secret import hides
from twisted_lb.config.shape import NAME, keys, model_at, tables
from twisted_lb.config.similar import similar

# Pydantic's texts speak of Python; these speak of the file.
REASONS = {
    "bool_type": "should be true or false",
    "dict_type": "should be a table",
    "missing": "is missing",
    "model_type": "should be a table",
    "string_type": "should be a string",
    "too_short": "should not be empty",
    "tuple_type": "should be a list",
}

# Where objects stand by name.
_BY_NAME = ("listeners", "routes", "pools", "checks")

# By what its defaults are called, the table of an object.
_OBJECTS: Mapping[str, tuple[type[Model], str]] = {
    "listener": (ListenerConfig, f"[listeners.{NAME}]"),
    "route": (RouteConfig, "[[routes]]"),
    "pool": (PoolConfig, f"[pools.{NAME}]"),
    "backend": (BackendTable, "the backend itself"),
}

# Where what HAProxy, NGINX and Envoy call so is here.
_POLICY = "that is policy here"
_BOUND = "that is max_in_flight of a pool or backend here, and connections in [limits] for clients"
_STICKY = f"that is [pools.{NAME}.affinity] here, flat [affinity], such as cookie = true"
_RETRY = f"that is more_attempts in [pools.{NAME}.retry] here, flat [retry]"
_CERTIFICATES = f"that is tls of [listeners.{NAME}] here, flat tls, and [pools.{NAME}.tls] where a backend speaks it"
_PROXY = f'that is proxy_protocol = "require" of [listeners.{NAME}] here, flat [forwarding]'
_SCRIPT = f"that is script in [pools.{NAME}.health_check] here, flat [health_check]"
_ELSEWHERE: Mapping[str, str] = {
    "balance": _POLICY,
    "lb_policy": _POLICY,
    "load_balancing": _POLICY,
    "maxconn": _BOUND,
    "max_conn": _BOUND,
    "max_conns": _BOUND,
    "maxqueue": f"that is length in [pools.{NAME}.queue] here, flat [queue]",
    "timeout_queue": f"that is timeout_s in [pools.{NAME}.queue] here, flat [queue]",
    "persistence": _STICKY,
    "session_affinity": _STICKY,
    "stick": _STICKY,
    "stick_table": _STICKY,
    "sticky": _STICKY,
    "sticky_sessions": _STICKY,
    "num_retries": _RETRY,
    "retries": _RETRY,
    "redispatch": f"what is sent again goes to another backend here: [pools.{NAME}.retry], flat [retry]",
    "httpchk": f"that is [pools.{NAME}.health_check] here, flat [health_check]",
    "mysql_check": _SCRIPT,
    "pgsql_check": _SCRIPT,
    "redis_check": _SCRIPT,
    "smtpchk": _SCRIPT,
    "tcp_check": _SCRIPT,
    "accept_proxy": _PROXY,
    "send_proxy_v2": 'that is send_proxy = "v2" of a pool here',
    "crt": _CERTIFICATES,
    "ssl": _CERTIFICATES,
    "ssl_certificate": _CERTIFICATES,
    "ssl_preread": "that is sni in [[routes]] here",
    "http_buffer_request": "that is buffer_request_bytes of a pool here",
    "proxy_buffering": "that is buffer_response_bytes of a pool here",
    "proxy_request_buffering": "that is buffer_request_bytes of a pool here",
}

# The same by the table that it is in.
_IN_TABLE: Mapping[tuple[str, str], str] = {
    ("tls", "cert"): "that is certificates here",
    ("tls", "key"): "a key is found in the file of its certificate, or beside it",
    ("tls", "private_key"): "a key is found in the file of its certificate, or beside it",
    ("listen", "address"): "that is interface and port here",
}

# What HAProxy's `mode` may be.
_PROTOCOLS = ("tcp", "http")

# What to say of a value is said when it is at most as long.
_LONGEST = 60
# All keys of a table that has no more are told to whoever has typed one that it does not have.
_FEW = 6

# What a problem is called by what pydantic calls it.
CODES = {"extra_forbidden": Code.UNKNOWN_KEY, "missing": Code.MISSING}


def problems(
    model: type[Model], errors: Sequence[ErrorDetails], values: Mapping[str, Any], typed: Mapping[KeyPath, str]
) -> Iterator[Problem]:
    """The problems that pydantic has with some values. `typed`: the flag, by the key that it set."""
    for error in _telling(errors):
        kind = error["type"]
        context = error.get("ctx", {})
        loc = (*error["loc"], *context.get("path", ()))
        message, hint = _reason(model, error)
        yield Problem(
            ()
            if _is_without_backends(error) and loc == ("backends",) and loc[0] not in values
            else _path(loc, values, kind),
            message,
            CODES.get(kind, Code.VALUE),
            hint=hint,
            flag=flag_at(loc, typed) or "",
            about_key=kind in (*CODES, "error_at", "misfit_key") or loc[-1:] == ("[key]",),
            other=context.get("other") or ((*error["loc"], *beside) if (beside := context.get("beside")) else ()),
        )


def _path(loc: KeyPath, values: Any, kind: str) -> KeyPath:
    """The path of an error in the file: pydantic's, without what names a kind of a union, or a key as such."""
    path: KeyPath = ()
    for number, part in enumerate(loc):
        is_list = isinstance(values, list)
        there = (
            isinstance(part, int) and part < len(values) if is_list else isinstance(values, Mapping) and part in values
        )
        if there:
            path, values = (*path, part), values[part]
        elif kind == "missing" and number == len(loc) - 1:
            path = (*path, part)
    return path


def _telling(errors: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """The errors, but for backends that are missing only because their key is mistyped or misplaced."""
    strangers = [str(error["loc"][-1]) for error in errors if error["type"] == "extra_forbidden"]
    mistyped = any(similar(name, ["backends", "pools"]) for name in strangers)
    return (error for error in errors if not (mistyped and _is_without_backends(error)))


def _is_without_backends(error: ErrorDetails) -> bool:
    return error["msg"].endswith(NO_BACKEND)


def _reason(model: type[Model], error: ErrorDetails) -> tuple[str, str]:
    """What is wrong, and what to do about it, if that can be told."""
    if _is_without_backends(error):
        return NO_BACKEND, ""
    if error["type"] == "extra_forbidden":
        if error["loc"][-1] == "mode" and error["input"] in _PROTOCOLS:  # there is one of a unix socket too
            return "unknown key", f"that is protocol of [listeners.{NAME}] here, flat protocol"
        return "unknown key", _advice(model, error["loc"], is_table=isinstance(error["input"], Mapping | list))
    # "Input should be", "String should have": the key is named already.
    text = REASONS.get(error["type"]) or re.sub(r"^(Value error, |\w+ (?=should ))", "", error["msg"])
    got = error["input"]
    if error["type"] == "tuple_type" and error["loc"] in (("backends",), ("routes",)) and isinstance(got, Mapping):
        return f"{text}: of tables [[{error['loc'][0]}]], in double brackets", ""
    if isinstance(got, str | int | float) and not hides(model, error["loc"]) and not _is_said(got, text):
        text += f", not {_short(got)}"
    return text, _has(model_at(model, error["loc"])) if error["type"] == "model_type" else ""


def _has(table: type[Model] | None) -> str:
    """The first keys of a table, for whoever has given it another value."""
    there = keys(table) if table else []
    return f"its keys are {', '.join(there[:_FEW])}{', ...' if len(there) > _FEW else ''}" if there else ""


def _is_said(got: str | float, text: str) -> bool:
    """Whether a text has a value in it, as a word of its own: 4 is none of `'ipv4'`. Nothing to say of an empty one."""
    word = re.escape(_written(got).strip("'\""))
    return re.search(rf"(?<!\w){word}(?!\w)", text) is not None or not word


def _written(value: str | float) -> str:
    """A value as it stands in a file."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _short(value: str | float) -> str:
    text = _written(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _advice(model: type[Model], place: KeyPath, *, is_table: bool) -> str:
    """What to do about an unknown key: the name or the table that was probably meant."""
    parents, key = place[:-1], str(place[-1])
    # `[pool.api]`: the name of a table, though `pool` is also a key of routes.
    if is_table and not parents and f"{key}s" in keys(model):
        return f'did you mean "{key}s"?'
    homes = _own_tables(str(parents[1]), key) if parents[:1] == ("defaults",) and len(parents) == 2 else []
    if key == "key" and parents[:1] == ("pools",):  # in a file with names a flat one speaks of nobody
        return "it belongs into [[routes]]: a route knows what its requests are about"
    if there_called := _IN_TABLE.get((str(parents[-1]) if parents else "", key)):
        return there_called
    if elsewhere := _ELSEWHERE.get(key.lower().replace("-", "_")):
        return elsewhere
    if parents and not homes and key in keys(model):
        # In a file with names nothing that is flat may stand.
        by_name = parents[0] in _BY_NAME and key in keys(PoolConfig)
        return f"it belongs into [pools.{NAME}]" if by_name else "it belongs above the first [table]"
    homes = homes or _homes(model, parents, key)
    if homes:
        return f"it belongs into {' or '.join(homes)}"
    there = keys(model_at(model, parents) or model)
    meant = similar(key, there)
    if meant:
        return f'did you mean "{meant}"?'
    return f"there are {', '.join(there)}" if _in_a_list(model, parents) and len(there) <= _FEW else ""


def _in_a_list(model: type[Model], place: KeyPath) -> bool:
    """Whether a table is one of several within an object, as a rate limit of a route is: what it has is no other table's."""
    names = [str(one) for one in place if not isinstance(one, int)]
    ending = f".{names[-1]}]]" if len(names) > 1 else ""
    return bool(ending) and any(header.endswith(ending) for header, _ in tables(model))


def _own_tables(kind: str, key: str) -> list[str]:
    """The table of an object that has a key which its defaults do not: nobody inherits an address."""
    model, header = _OBJECTS.get(kind, (Model, ""))
    return [header] if key in keys(model) else []


def _homes(model: type[Model], parents: KeyPath, key: str) -> list[str]:
    """The headers of the tables that have a key: those of the object that it stands in, else those of a file that is written
    so, flat or by name, else any.
    """
    if parents[-2:-1] == ("backends",) or _in_a_list(model, parents):
        return []  # a backend's `port` is no listener's
    root = str(parents[0]) if parents else ""
    by_name = root in _BY_NAME
    same = _with_key(model, key, lambda one: one == root) if by_name else []
    if same:
        return [one.replace(NAME, str(parents[1])) for one in same]
    others = _with_key(model, key, lambda one: (one in _BY_NAME) is by_name)
    return others or _with_key(model, key, lambda one: (one in _BY_NAME) is not by_name)


def _with_key(model: type[Model], key: str, wanted: Callable[[str], bool]) -> list[str]:
    found: dict[type[Model], str] = {}
    for header, table in tables(model):
        root = header.strip("[]").partition(".")[0]
        # The status address is written as one string.
        if key in keys(table) and root not in ("defaults", "status") and wanted(root):
            found[table] = header
    return list(found.values())
