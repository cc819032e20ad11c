"""Observation, what an operator sees: the log, and the listener that says whether this instance is ready."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from twisted_lb.config.base import Model
from twisted_lb.config.listeners import ListenConfig


class LogConfig(Model):
    """The log: what is logged beside the start and the changes of state."""

    requests: Literal["none", "failed", "all"] = Field(
        default="none",
        description="A line for each request when it is over, with client, status, outcome, backend, attempts and "
        "duration: `failed`: for those that did not simply get their backend's answer at the first attempt. "
        "Danger: `all` costs more than the balancing.",
    )


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


StatusAddress = Annotated[ListenConfig, BeforeValidator(_split_listen_address)]
