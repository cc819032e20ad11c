"""The OpenAPI document of the API, made of the table of its endpoints and of the shapes of its answers."""

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from twisted_lb import __version__
from twisted_lb.admin.endpoints import ENDPOINTS, Endpoint
from twisted_lb.admin.operator import BackendView, ConfigValue, EventView, Snapshot
from twisted_lb.admin.scopes import CHANGE
from twisted_lb.admin.shapes import SHAPES, shape

_STATUS: Final = {
    400: "The request is none.",
    401: "A token is needed, or this is none.",
    403: "Not with this scope, for this host, or from this site.",
    404: "There is no such pool, backend or path.",
    405: "Not with this method.",
    409: "It cannot be done as things are.",
    412: "Something has changed since that ETag.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "A value is wrong; or the configuration is.",
    503: "The balancer stops, or too many listen.",
}
# Every endpoint may answer these.
_ALWAYS: Final = (400, 401, 403, 405, 413, 415, 422, 503)

_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_BACKEND: Final = {"$ref": "#/components/schemas/BackendView"}
_BACKEND_OR_NONE: Final = {"anyOf": [_BACKEND, {"type": "null"}]}


_CHANGED: Final = shape(
    ("backend", "changes", "follows"),
    backend=_BACKEND_OR_NONE,
    backends={"type": "array", "items": _BACKEND},
    changes=_TEXTS,
    follows=_TEXTS,
    waited_s={"type": "number"},
    time_over={"type": "boolean"},
)
_RELOADED: Final = shape(
    ("applied", "changed", "lines", "warnings", "generation", "etag"),
    applied={"type": "boolean"},
    changed={"type": "boolean"},
    lines=_TEXTS,
    warnings=_TEXTS,
    generation={"type": "integer"},
    etag={"type": "string"},
)
_UPGRADED: Final = shape(("program", "pid"), program={"type": "integer"}, pid={"type": "integer"})
_MARK: Final = shape(("at", "glyph", "text"), at={"type": "number"}, glyph={"type": "string"}, text={"type": "string"})
# What each call of the API answers.
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "status": {
        "allOf": [
            {"$ref": "#/components/schemas/Snapshot"},
            shape(("scope", "actor"), scope={"enum": ["read", "change"]}, actor={"type": "string"}),
        ]
    },
    "backends": shape(("backends",), backends={"type": "array", "items": _BACKEND}),
    "backend": _BACKEND,
    "change": _CHANGED,
    "add": {"allOf": [_CHANGED, shape(("name",), name={"type": "string"})]},
    "reset_one": _CHANGED,
    "remove": shape(
        ("removed", "left", "follows"),
        removed={"type": "string"},
        left=shape(("requests", "tunnels"), requests={"type": "integer"}, tunnels={"type": "integer"}),
        follows=_TEXTS,
        waited_s={"type": "number"},
        time_over={"type": "boolean"},
    ),
    "reset": shape(("changes",), changes=_TEXTS),
    "reload": _RELOADED,
    "plan": _RELOADED,
    "upgrade": _UPGRADED,
    "config": shape(("values",), values={"type": "array", "items": {"$ref": "#/components/schemas/ConfigValue"}}),
    "events": shape(
        ("events", "last"),
        events={"type": "array", "items": {"$ref": "#/components/schemas/EventView"}},
        last={"type": "integer"},
    ),
    "explain": {"$ref": "#/components/schemas/Explanation"},
    "explained": shape(
        ("requests", "held", "oldest_at"),
        requests={"type": "array", "items": {"$ref": "#/components/schemas/Explanation"}},
        held={"type": "integer"},
        oldest_at={"type": ["number", "null"]},
    ),
    "explain_next": {"$ref": "#/components/schemas/Decision"},
    "route": {"$ref": "#/components/schemas/Routed"},
    "history": shape(
        ("start", "step_s", "series", "marks"),
        start={"type": "number"},
        step_s={"type": "integer"},
        series={
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}},
        },
        marks={"type": "array", "items": _MARK},
    ),
    "stream": shape(
        ("status", "history", "events", "config", "sparks", "scope", "actor"),
        status={"type": "object"},
        history={"type": "object"},
        events={"type": "array", "items": {"$ref": "#/components/schemas/EventView"}},
        config={"type": "array", "items": {"$ref": "#/components/schemas/ConfigValue"}},
        sparks={"type": "object"},
        scope={"enum": ["read", "change"]},
        actor={"type": "string"},
    ),
    "openapi": {"type": "object"},
}


@cache
def _document() -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    for one in ENDPOINTS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    schemas: dict[str, Any] = {}
    for kind in (Snapshot, BackendView, ConfigValue, EventView):
        _add(kind, schemas)
    schemas |= SHAPES
    schemas["Problem"] = {
        **shape(
            ("type", "title", "status", "detail", "code"),
            type={"type": "string"},
            title={"type": "string"},
            status={"type": "integer"},
            detail={"type": "string"},
            code={"type": "string"},
            hint={"type": "string"},
            problems={"type": "array", "items": {"type": "object"}},
            report={"type": "string"},
        ),
        "description": "What is wrong (RFC 9457).",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "twisted_lb", "version": __version__, "description": "See it and steer it."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def document() -> dict[str, Any]:
    """The document."""
    return _document()


def _operation(one: Endpoint) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in one.names
    ]
    parameters += [
        {"name": name, "in": "query", "required": value.needed, "schema": value.schema()}
        for name, value in one.query.items()
    ]
    if one.scope == CHANGE:
        parameters.append(
            {"name": "If-Match", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 100}}
        )
    answer = {"description": one.summary, "content": {"application/json": {"schema": ANSWERS[one.call]}}}
    if one.streams:
        answer["content"]["text/event-stream"] = {"schema": {"type": "string"}}  # type: ignore[index]
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[str, Any] = {str(one.status): answer}
    for status in sorted({*_ALWAYS, *one.refusals}):
        responses[str(status)] = {"description": _STATUS[status], "content": problem}
    found: dict[str, Any] = {
        "operationId": one.call,
        "summary": one.summary,
        "parameters": parameters,
        "responses": responses,
        "security": [{"token": []}] if one.scope == CHANGE else [{}, {"token": []}],
    }
    if one.body is not None:
        schema = shape(
            tuple(name for name, value in one.body.items() if value.needed),
            **{name: value.schema() for name, value in one.body.items()},
        )
        if not one.open_body:
            schema["additionalProperties"] = False
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return found


def _add(kind: type, schemas: dict[str, Any]) -> dict[str, Any]:
    """The schema of a dataclass, among the others; a reference to it."""
    if kind.__name__ not in schemas:
        schemas[kind.__name__] = {}
        hints = get_type_hints(kind)
        names = [one.name for one in dataclasses.fields(kind)]
        schemas[kind.__name__] = {
            "type": "object",
            "description": (kind.__doc__ or "").partition("\n")[0],
            "properties": {name: _schema(hints[name], schemas) for name in names},
            "required": names,
        }
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _schema(hint: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return _add(hint, schemas)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(one, schemas) for one in arguments]}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object"}
    if origin is not None:
        return {"type": "array", "items": _schema(arguments[0], schemas)}
    plain = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
    return {"type": plain[hint]} if hint in plain else {}
