"""Traces: where spans go, and of how many requests (OpenTelemetry)."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from twisted_lb.config.base import Model, error_at
from twisted_lb.config.secret import HIDDEN, Secret, TextOrSecret, revealed
from twisted_lb.config.targets import names_a_host

# Ours to say.
_OURS = ("host", "content-type", "content-length", "transfer-encoding", "connection", "user-agent")
_PATH = "/v1/traces"


class TracesConfig(Model):
    """Spans of requests, sent to a collector of OpenTelemetry's over OTLP/HTTP as JSON: one of each request, and one of each
    attempt at a backend, see [tracing.md](tracing.md). Of a request whose caller says in `traceparent` that it is sampled they
    are always sent, and of one whose caller says that it is not never.
    """

    endpoint: str | None = Field(
        default=None,
        description="URL of the collector, `http://127.0.0.1:4318` say; where it has no path, `/v1/traces` is asked. Left out: no "
        "spans are made. Danger: whoever can send requests can have all of them traced, by their `traceparent`; more than the "
        "collector takes is dropped.",
    )
    ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The share of the other requests, whose trace begins here, of which spans are sent. Danger: 1 costs as much as "
        "the balancing.",
    )
    service: str = Field(
        default="twisted_lb",
        min_length=1,
        max_length=200,
        description="What this balancer is called there (`service.name`).",
    )
    headers: Annotated[dict[str, TextOrSecret], HIDDEN] = Field(
        default={},
        description='Fields that the collector wants, by name: `Authorization = "Bearer ..."`, or where a value is kept: '
        '`{ file = "PATH" }`, `{ env = NAME }`, `{ credential = NAME }`.',
    )

    @property
    def url(self) -> str | None:
        """Where spans are sent to."""
        if self.endpoint is None:
            return None
        return self.endpoint if urlsplit(self.endpoint).path.strip("/") else self.endpoint.rstrip("/") + _PATH

    @field_validator("endpoint")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https?://[!-~]+", value) or "#" in value or "?" in value:
            raise ValueError("should be a URL in ASCII that begins with http:// or https://, without ? and #")
        if re.match("[a-z]+://[^/]*@", value):
            raise ValueError("should have no user and no password in it: headers are for that")
        if not names_a_host(value):
            raise ValueError("should name a host, with a port if wanted, such as http://127.0.0.1:4318")
        return value

    @field_validator("headers")
    @classmethod
    def _are_fields(cls, value: dict[str, str | Secret]) -> dict[str, str | Secret]:
        for name, text in ((name, revealed(one)) for name, one in value.items()):
            # The value may be a secret, and is not shown.
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise error_at(f"{name!r} should be the name of a header field", name)
            if not re.fullmatch("[!-~]([ -~\t]*[!-~])?|", text):
                raise error_at(f"{name} should have a value in ASCII, on one line, without space around it", name)
            if name.lower() in _OURS:
                raise error_at(f"{name} cannot be set: it is ours to say", name)
        return value
