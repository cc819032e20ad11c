"""Formats of the access log: the names that there are, and templates, which are checked when they are read."""

import re
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Tag

FORMATS = ("haproxy", "combined", "json")

# What a template may name. What stands for each of them is in `access_log/templates.py`.
LOG_PLACEHOLDERS = (
    "time", "client", "client_port", "peer", "listener", "scheme", "tls_version", "tls_cipher", "tls_name", "tls_resumed",
    "client_subject", "client_fingerprint", "proxy_unique_id", "proxy_authority", "proxy_alpn", "proxy_tls_version", "proxy_tls_cipher",
    "proxy_client_cn", "proxy_client_verified", "proxy_aws_vpce_id", "proxy_azure_pel_id", "proxy_gcp_conn_id", "version", "host", "method", "target", "path", "query",
    "referer", "user_agent", "request_id", "trace_id", "route", "pool", "backend", "backend_address", "status", "grpc_status", "outcome",
    "state", "detail", "attempts", "retries", "request_bytes", "response_bytes", "took_s", "took_ms", "took_us", "body_ms", "queue_ms",
    "connect_ms", "first_byte_ms",
)  # fmt: skip

# A placeholder, or a brace: two of a kind stand for one of it.
TEMPLATE_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def _is_a_format(value: str) -> str:
    if value in FORMATS:
        return value
    if "{" not in value and "}" not in value:
        meant = get_close_matches(value, FORMATS, n=1)
        advice = f'; did you mean "{meant[0]}"?' if meant else ""
        raise ValueError(
            f"{value!r} is none of {', '.join(FORMATS)}, and no template, which has {{placeholders}}{advice}"
        )
    if not value.isprintable():
        raise ValueError("a template is one line of printable characters")
    named = False
    for part in TEMPLATE_PART.finditer(value):
        name = part[1]
        if name is None and len(part[0]) == 1:
            raise ValueError(
                f"the {part[0]} at character {part.start() + 1} has no partner; {part[0] * 2} stands for one of it"
            )
        if name is not None and name not in LOG_PLACEHOLDERS:
            meant = get_close_matches(name, LOG_PLACEHOLDERS, n=1)
            advice = f"; did you mean {{{meant[0]}}}?" if meant else f": there are {', '.join(LOG_PLACEHOLDERS)}"
            raise ValueError(f"there is no placeholder {{{name}}}{advice}")
        named = named or name is not None
    if not named:
        raise ValueError("a template needs at least one placeholder, such as {client}")
    return value


# A form of the access log's lines.
LogFormat = Annotated[str, AfterValidator(_is_a_format)]


def _kind(value: object) -> str | None:
    return "text" if isinstance(value, str) else "switch" if isinstance(value, bool) else None


# What a listener or a route says of the access log: whether it has its requests, or in which form.
OwnLog = Annotated[
    Annotated[bool, Tag("switch")] | Annotated[LogFormat, Tag("text")],
    Discriminator(
        _kind, custom_error_type="either", custom_error_message='should be true, false, or a format such as "json"'
    ),
]
