"""The reference of the API as Markdown, made of its table of endpoints: `python -m twisted_lb.admin.reference`."""

import sys
from collections.abc import Iterator, Mapping
from typing import Final

from twisted_lb.admin.endpoints import ENDPOINTS, MOST_BODY, MOST_WAIT_S, Endpoint, Value
from twisted_lb.admin.scopes import CHANGE
from twisted_lb.admin.site import STATUS_OF

_PREAMBLE: Final = f"""\
# The admin API

Made by `scripts/docs` from the table that requests are led by; do not edit it. The same as an OpenAPI document, with the shapes \
of all answers: `GET /v1/openapi.json`.

JSON over HTTP, on a unix socket, a port, or both; where they are says `[admin]` in [configuration.md](configuration.md). \
A backend is `POOL/NAME`, and in a path each part of that is percent-encoded: `/v1/backends/app/unix%3A%2Frun%2Fa.sock`. \
Times are epoch seconds, lengths are in seconds.

```console
$ curl --unix-socket /run/twisted_lb/8080.admin.sock http://localhost/v1/status
$ curl --unix-socket /run/twisted_lb/8080.admin.sock -X PATCH -H 'Content-Type: application/json' \\
    -d '{{"admin": "drain", "reason": "deploy"}}' 'http://localhost/v1/backends/app/b3?wait=30s'
```

**Who may do what.** Whoever may write to the socket's file may change things. On a port reading needs no token where only this \
machine reaches it; changes need one: `Authorization: Bearer TOKEN`. Where none is configured for them, one is made at each \
start and logged once. Requests for other hosts than IP addresses, `localhost` and `admin.hosts`, and those of other sites, are \
refused. Each change is a line in the log: who, what, before → after, why.

**Changes** are answered with what is in force then, and what follows from it. `ETag` changes with each of them and with each \
configuration; with `If-Match` a change is made only if nobody has changed anything since. `PATCH` and `DELETE` of a backend answer when no \
new request can arrive there; with `wait` when it is empty, or when that time, {MOST_WAIT_S / 60:.0f} minutes at most, is over: \
`"time_over": true`. A body has {MOST_BODY} bytes at most. Who sends the next request before the answer (pipelining) gets that answer, and the connection ends.

**Events** are numbered. With `Accept: text/event-stream` they are a stream without end (server-sent events), which resumes \
behind `Last-Event-ID`.
"""


def reference() -> str:
    """The API as Markdown."""
    parts = [_PREAMBLE, "## Endpoints", ""]
    for one in ENDPOINTS:
        parts += _endpoint(one)
    parts += ["## Errors", "", _ERRORS, "", "| status | `code` |", "|---|---|"]
    for status in sorted(set(STATUS_OF.values())):
        codes = ", ".join(f"`{code}`" for code, its in STATUS_OF.items() if its == status)
        parts.append(f"| {status} | {codes} |")
    return "\n".join(parts) + "\n"


_ERRORS: Final = (
    "`application/problem+json` (RFC 9457): `title`, `status`, `detail` on one line, `code` for programs, `hint` for what may "
    "help. A configuration that is not applied has `problems` and `report`, as `--check` prints it, beside."
)


def _endpoint(one: Endpoint) -> Iterator[str]:
    yield f"### `{one.method} {one.path}`"
    yield ""
    scope = " Scope *change*." if one.scope == CHANGE else ""
    yield f"{one.summary}{scope} Answers {one.status}."
    yield ""
    rows = [*_rows("query", one.query), *_rows("body", one.body or {})]
    if rows:
        yield from ("| name | in | values | meaning |", "|---|---|---|---|", *rows, "")
    if one.open_body:
        yield from ("All other keys of a backend in the file may stand in the body too.", "")


def _rows(place: str, values: Mapping[str, Value]) -> Iterator[str]:
    for name, value in values.items():
        needed = ", needed" if value.needed else ""
        yield f"| `{name}` | {place}{needed} | {_allowed(value)} | {value.meaning} |"


def _allowed(value: Value) -> str:
    if value.choices:
        return ", ".join(f"`{choice}`" for choice in value.choices)
    if value.kind == "integer":
        return " or ".join([f"integer from {value.least} to {value.most}", *(f"`{one}`" for one in value.words)])
    return value.kind


if __name__ == "__main__":
    sys.stdout.write(reference())
