"""The whole configuration of a load balancer: its top level, and the tables in it."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from twisted_lb.config.admin import AdminConfig
from twisted_lb.config.base import KeyPath, Model, Name, SecondsOrNone, again, error_of
from twisted_lb.config.described import DescribedConfig
from twisted_lb.config.inheritance import with_backend_defaults
from twisted_lb.config.loops import loops
from twisted_lb.config.objects import objects_of, unfit
from twisted_lb.config.observe import LogConfig, StatusAddress
from twisted_lb.config.references import misfits
from twisted_lb.config.sessions import session_misfits
from twisted_lb.config.traces import TracesConfig
from twisted_lb.core.backend import BackendSpec

MOST_WORKERS: Final = 256


def workers_of(value: object) -> object:
    """A number of workers, or "auto"; ValueError says what it should be."""
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_WORKERS:
        raise ValueError(f'should be a whole number from 1 to {MOST_WORKERS}, or "auto"')
    return value


# A number of processes, or as many as there are CPUs for them.
Workers = Annotated[
    int | Literal["auto"],
    BeforeValidator(workers_of),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}, {"enum": ["auto"]}]}),
]


class LoadBalancerConfig(DescribedConfig):
    """The configuration of a load balancer: listeners, routes and pools by name, or, in flat keys, one of each that is called
    `default`; and what holds for the whole process.
    """

    version: int = Field(
        default=1,
        ge=1,
        description="Version of this form of the file; this release knows 1.",
        json_schema_extra={"maximum": 1},
    )
    status: StatusAddress | None = Field(
        default=None,
        description="`HOST:PORT` of a small listener that answers `/-/ready` and `/-/live`; "
        "left out: there is none. Danger: anybody who reaches it learns the balancer's state.",
    )
    ready_start_s: SecondsOrNone = Field(
        default=5,
        description="How long `/-/ready` says no after the start, at most, while a target list is not known, the name of a backend "
        "is being resolved for the first time, or a checked backend has not had its first check; 0: it does not wait for that.",
    )
    ready_requires: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Pools without which `/-/ready` says no; left out: it says no when no pool has a usable backend. Danger: "
        "one pool that is down takes the whole instance out.",
    )
    ready_grace_s: SecondsOrNone = Field(
        default=0,
        description="How long clients are still accepted when a stop begins and `/-/ready` says no already, so that whoever "
        "sends them has time to notice. Danger: your service manager has to wait so much longer.",
    )
    takeover: str | None = Field(
        default=None,
        description="Path of a unix socket: an instance that starts with the same path takes over the sockets of the one that "
        "runs, once it is ready; the other one accepts no more and finishes what it has. For `twistd lb`, `python -m "
        "twisted_lb` and `load_balancer` in a .tac file; left out: a restart has a gap. Danger: whoever may write in its "
        "directory can put another socket there.",
    )
    watch: bool = Field(
        default=False,
        description="Reload when a file that was read says another thing, as SIGHUP does: the content of each is looked at once a "
        "second, and counts once it has stayed for 200 ms. Danger: a file that is saved half done, and is right all the same, is "
        "applied.",
    )
    state_file: str | None = Field(
        default=None,
        description="Path of a file for what was changed at run time (a backend drained, weighed, added or removed): it holds on "
        "after a restart as after a reload. Written in place of the old one, with mode 0600, soon after each change; a broken one "
        "is a warning, and a file of the configuration an error. Left out: a restart forgets. Only changed by a restart.",
    )
    name: Name | None = Field(
        default=None,
        description="What this balancer is called, on its page and by its admin socket; left out: the port of its first listener. "
        "Only changed by a restart.",
    )
    workers: Workers = Field(
        default=1,
        description="How many processes move requests: one, which does everything else too; so many, and a parent that does the rest; or "
        '`"auto"`, one for each CPU that this process may use (affinity, quota of its cgroup). Only changed by an upgrade '
        "(`lbctl upgrade`), or a restart. Danger: more than there are CPUs only cost more.",
    )
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    traces: TracesConfig = TracesConfig()

    if TYPE_CHECKING:
        # What type checkers would not know: backends may be texts, tables mappings, and keys have older names.
        def __init__(
            self, *, backends: Iterable[str | BackendSpec | Mapping[str, object]] = (), **keys: Any
        ) -> None: ...

    @model_validator(mode="wrap")
    @classmethod
    def _fits_together(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Everything that is wrong at once: in each table, and between them."""
        if not isinstance(values, Mapping):
            return handler(values)
        errors = [
            error_of("misfit_key" if one.about_key else "misfit", one.path, one.text, other=one.other)
            for one in misfits(values)
        ]
        try:
            config = handler(with_backend_defaults(values))
            errors += [again(one, place) for place, one in unfit(config)] or [
                *_own_backends(config),
                *_without_certificates(config),
                *_sessions(config),
            ]
        except ValidationError as error:
            errors += [again(one) for one in error.errors()]
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return config

    @field_validator("version")
    @classmethod
    def _is_known(cls, value: int) -> int:
        if value > 1:
            raise ValueError("written for a newer release: this one knows version 1")
        return value

    @field_validator("takeover")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        # A unix socket's path has 107 bytes at most, and a process number is appended for a moment.
        if value is not None and not 0 < len(os.fsencode(value)) <= 96:
            raise ValueError("should be a path of 1 to 96 bytes")
        return value

    @field_validator("state_file")
    @classmethod
    def _is_a_file(cls, value: str | None) -> str | None:
        if value is not None and (not value or "\0" in value or value.endswith("/")):
            raise ValueError("should be the path of a file")
        return value


def _own_backends(config: LoadBalancerConfig) -> list[InitErrorDetails]:
    """The error of each listener that leads to itself."""
    return [
        error_of("loop", loop.path, f"backend {loop.address} is this balancer itself")
        for loop in loops(config, objects_of(config))
        if loop.sure
    ]


def _sessions(config: LoadBalancerConfig) -> list[InitErrorDetails]:
    """The errors of the routes of sessions."""
    return [
        error_of("misfit_key" if one.about_key else "misfit", one.path, one.text, other=one.other)
        for one in session_misfits(objects_of(config).listeners, config.routes)
    ]


def _without_certificates(config: LoadBalancerConfig) -> list[InitErrorDetails]:
    """The error of each table that says something of TLS where there are no certificates: it would be plain HTTP."""
    if "certificates" in config.defaults.listener.tls.model_fields_set:
        return []
    text = 'there are no certificates for it: certificates = "FILE or FOLDER", or "self-signed" to try it out'
    homes: dict[KeyPath, Model] = {("listeners", name, "tls"): one.tls for name, one in config.listeners.items()}
    return [
        error_of("misfit_key", place, text)
        for place, tls in {**homes, ("tls",): config.tls}.items()
        if tls.model_fields_set and "certificates" not in tls.model_fields_set
    ]
