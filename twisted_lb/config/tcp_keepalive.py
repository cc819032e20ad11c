"""TCP keep-alive of connections: whether and when the kernel asks silent peers if they are still there."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from twisted_lb.config.base import Model

# Linux takes no more (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT in net/tcp.h).
_LONGEST_S = 32767
_MOST_PROBES = 127


class TcpKeepaliveConfig(Model):
    """TCP keep-alive (SO_KEEPALIVE): the kernel asks a peer that has been silent whether it is still there. `true` or `false` may stand
    in the place of the table.
    """

    on: bool = Field(
        default=False,
        description="Whether silent peers are asked: `tcp_keepalive = true`, or any table that does not say it. Connections that were open "
        "before a reload keep what they had; of unix sockets the kernel knows it anyway.",
    )
    # 60 s: middleboxes forget silent connections, Azure's after 4 minutes, AWS's after 350 s; Linux's own 2 hours are too late for all.
    idle_s: int = Field(
        default=60,
        ge=1,
        le=_LONGEST_S,
        description="After how long without a byte from it a peer is asked for the first time, in whole seconds. Less than what firewalls, "
        "NAT and cloud balancers in between forget connections after keeps them in their memory. Danger: each question wakes a phone.",
    )
    interval_s: int = Field(
        default=10,
        ge=1,
        le=_LONGEST_S,
        description="How long after a question without an answer the next one follows, in whole seconds.",
    )
    # 5: a loss of one packet in ten by chance is no death.
    probes: int = Field(
        default=5,
        ge=1,
        le=_MOST_PROBES,
        description="After how many questions without an answer the connection is gone. Danger: one lost packet ends it with 1.",
    )


class _SwitchOrTable:
    """A table, or whether it is on: a table that does not say so is on."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(_as_table, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"type": "boolean"}, handler(schema)]}


def _as_table(value: object) -> object:
    if isinstance(value, bool):
        return {"on": value}
    if isinstance(value, Mapping):
        return {"on": True, **value}
    if isinstance(value, TcpKeepaliveConfig):
        return value
    raise ValueError("should be true, false or a table")


# What a listener, or a pool, says of it.
TcpKeepaliveSwitch = Annotated[TcpKeepaliveConfig, _SwitchOrTable()]
