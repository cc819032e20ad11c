"""Observation, what an operator sees: the log, and the listener that says whether this instance is ready."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from twisted_lb.config.base import Model
from twisted_lb.config.listeners import ListenConfig
from twisted_lb.config.log_format import LogFormat

# Keys that say something of the access log, beside where it goes.
OF_ACCESS_LOG = ("format", "query", "addresses", "sample", "slow_s")


class LogConfig(Model):
    """The log: what is logged beside the start and the changes of state, and how long a log file may get. twistd's command
    line says where it goes: to a file (`--logfile`), to the system's log (`--syslog`), or, in the foreground, to standard output.
    With `file` there is an access log as well, see [access-log.md](access-log.md): `format`, `query`, `addresses`, `sample` and
    `slow_s` are about that one.
    """

    requests: Literal["none", "brief", "failed", "all"] = Field(
        default="brief",
        description="A line for each request when it is over, with client, status, what it ended in, backend, attempts, "
        "duration, its id (that of the error page) and what was wrong at each backend. `failed`: for those that did not "
        "simply get their backend's answer at the first attempt, and for what was refused; `brief`: of each kind of failure "
        "at each backend a line a second at most, with the number of those left out, and none for clients that left. "
        "Danger: `all` costs more than the balancing.",
    )
    file_bytes: int = Field(
        default=10_000_000,
        ge=0,
        description="A log file that would grow beyond this is renamed to `NAME.1`, and those before it move on; 0: never, for "
        "those who rename it from outside (logrotate): it is opened anew within a second, or at SIGUSR1.",
    )
    old_files: int = Field(
        default=5,
        ge=0,
        le=1000,
        description="So many renamed log files are kept, `NAME.1` being the youngest; older ones are removed.",
    )
    file: str | None = Field(
        default=None,
        description="Where the access log goes, a line for each request: the path of a file, `stdout`, or `syslog`; left out: there "
        "is none. A file is opened anew within a second after it was renamed, or at SIGUSR1, and is not bounded by `file_bytes`.",
    )
    format: LogFormat = Field(
        default="combined",
        description="Its form: `haproxy`, `combined`, `json`, or a template such as `{client} {method} {path} {status}`.",
    )
    query: bool = Field(
        default=True,
        description="Whether it has the query of targets and referrers. Danger: tokens that clients put there are in the log.",
    )
    addresses: Literal["whole", "network"] = Field(
        default="whole",
        description="Addresses of clients in it: `whole`, or `network`, of IPv4 the first 24 bits and of IPv6 the first 48.",
    )
    sample: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="The share of requests that it has. Those that did not go well, the slowest of each second, and those of "
        "`slow_s` and more are always in it.",
    )
    slow_s: float = Field(
        default=1.0,
        ge=0,
        le=86400,
        description="From how many seconds on a request is slow, and in it whatever `sample` says.",
    )

    @field_validator("file")
    @classmethod
    def _is_somewhere(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value or value.endswith("/")):
            raise ValueError('should be the path of a file, "stdout" or "syslog"')
        return value


def _split_listen_address(value: object) -> object:
    """`HOST:PORT`, `[IPv6]:PORT` or `:PORT` (all interfaces) as the table of a ListenConfig."""
    if isinstance(value, Mapping | ListenConfig) or value is None:
        return value
    if not isinstance(value, str):
        raise ValueError('should be a string HOST:PORT, such as "127.0.0.1:9000"')  # noqa: TRY004, pydantic takes no other error
    host, colon, port = value.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or (":" in host and host[0] != "["):
        raise ValueError("should be HOST:PORT, such as 127.0.0.1:9000")
    return {"interface": host, "port": int(port)}


StatusAddress = Annotated[ListenConfig, BeforeValidator(_split_listen_address), WithJsonSchema({"type": "string"})]
