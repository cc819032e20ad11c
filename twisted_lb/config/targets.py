"""Target lists: a pool's backends from a file, a URL or SRV records that somebody else keeps (service discovery)."""

import re
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from twisted_lb.config.base import Model, Seconds
from twisted_lb.core.address import TcpAddress, is_name, parse_address


def names_a_host(url: str) -> bool:
    """Whether a URL has a host that can be asked."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = 80 if parts.port is None else parts.port
        return isinstance(parse_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), TcpAddress)
    except ValueError:
        return False


class TargetsConfig(Model):
    """Backends from a list that somebody else keeps, in one of three places: `file`, `url` or `srv`. A list that cannot be had,
    or is not right in every part, changes nothing: the backends that were known stay.
    """

    file: str | None = Field(
        default=None,
        description='A file with a list in the JSON of Prometheus\' file_sd: `[{"targets": ["10.0.0.1:8000"], "labels": {"weight": '
        '"2"}}]`. The labels `weight` and `name` are the backend\'s, all others are kept. It is read again when its content has '
        "changed and stood still for 0.2 s. Danger: it is read where requests are served, so it should not be on a network.",
    )
    url: str | None = Field(
        default=None,
        description="An http or https URL with such a list (http_sd), asked for with `If-None-Match` and `If-Modified-Since`. "
        "Redirects are not followed; certificates are checked against those that the system trusts. Danger: whoever answers there "
        "says where requests go.",
    )
    srv: str | None = Field(
        default=None,
        description="A name with SRV records, complete, such as `_http._tcp.app.internal`: the targets of its lowest priority, "
        "with their weights. It is looked up again when the first record expires, within 5 to 60 s; that a name is gone is "
        "believed after 5 minutes.",
    )
    refresh_s: Seconds | None = Field(
        default=None,
        description="Seconds between two looks, a tenth more or less; left out: 2 for a file, 30 for a URL. Danger: backends that "
        "are gone get requests for so long, until a check or a failure takes them out.",
    )
    allow_empty: bool = Field(
        default=False,
        description="Whether an empty list (`[]`, or an SRV record that offers no service) is believed at once, and not only when "
        "two looks in a row find it. Danger: a registry that has just started may know nobody yet.",
    )
    max_shrink: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the backends by which a list may shrink at once; more of them go only when the next look says so "
        "too; 1: however many. Danger: a registry that is half broken lists a part.",
    )

    @property
    def where(self) -> str:
        """The place of the list, with its scheme: `file:/etc/lb/api.json`, a URL, `srv:NAME`."""
        if self.url is not None:
            return self.url
        return f"file:{self.file}" if self.file is not None else f"srv:{self.srv}"

    def __str__(self) -> str:
        return self.where

    @property
    def pause_s(self) -> float:
        """Seconds between two looks: `refresh_s`, or what follows from the place. Of SRV records their TTL says it."""
        return self.refresh_s or (2.0 if self.file is not None else 30.0)

    @field_validator("file")
    @classmethod
    def _is_a_json_file(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value or value.endswith("/")):
            raise ValueError("should be the path of a file")
        if value is not None and value.endswith((".yml", ".yaml")):
            raise ValueError("should be a file in JSON: YAML is not read")
        return value

    @field_validator("url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not re.fullmatch(r"https?://[!-~]+", value):
            raise ValueError("should be a URL in ASCII that begins with http:// or https://")
        if "#" in value:
            raise ValueError("should have no # in it: it is never sent")
        if re.match("[a-z]+://[^/?]*@", value):
            raise ValueError("should have no user and no password in it: they are not sent")
        if not names_a_host(value):
            raise ValueError("should name a host, with a port if wanted, such as https://registry.internal:8443/api")
        return value

    @field_validator("srv")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            fine = is_name(parse_address(f"{value}:80"))
        except ValueError:
            fine = False
        if not fine:
            raise ValueError("should be a name with SRV records, such as _http._tcp.app.internal")
        return value

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        given = [key for key in ("file", "url", "srv") if getattr(self, key) is not None]
        if not given:
            raise ValueError("should have one of file, url and srv: the place of the list")
        if len(given) > 1:
            raise ValueError(
                f"should have one of {' and '.join(given)}, not {'both' if len(given) == 2 else 'all three'}"
            )
        if self.srv is not None and self.refresh_s is not None:
            raise ValueError("refresh_s is for a file or a URL: how long SRV records hold is in them")
        return self
