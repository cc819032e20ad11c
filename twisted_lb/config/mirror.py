"""The mirror of a pool (shadow traffic): to which other pool a share of its requests is sent too."""

from typing import Annotated, Final

from pydantic import Field, field_validator

from twisted_lb.config.base import SEVERAL, Bytes, Method, Model, Name, Seconds

# Which methods are mirrored where nobody says it: those that change nothing (RFC 9110 9.2.1).
SAFE: Final = ("GET", "HEAD")
EVERY: Final = "*"


class MirrorConfig(Model):
    """The mirror (shadow traffic): a share of the pool's requests is sent to another pool too, whose answers are thrown away. Nobody waits
    for it: no client notices whether it answers, hangs or fails.
    """

    to: Name = Field(
        description="The pool that gets them: its backends' limits, checks and ejection hold, its queue does not: where nobody has a "
        "place at once a request is not mirrored. What was mirrored is not mirrored again."
    )
    percent: float = Field(
        default=100,
        ge=0,
        le=100,
        description="How many of a hundred requests, by chance; 0: none for now.",
    )
    most: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="How many may be under way at a time, from when the request begins; more are not mirrored. Danger: each may hold "
        "`body_bytes`.",
    )
    body_bytes: Bytes = Field(
        default=65536,
        description="Requests with longer bodies are not mirrored; they are sent when the body is complete.",
    )
    timeout_s: Seconds = Field(
        default=10,
        description="For the whole answer, the connect included. An answer that has begun by then is cut, without blame for its backend.",
    )
    methods: Annotated[tuple[Method, ...], SEVERAL] = Field(
        default=SAFE,
        strict=False,
        description="Methods of the requests that are mirrored; `*`: all. Danger: what a request writes is written twice, where both pools "
        "write to the same place.",
    )

    @field_validator("methods")
    @classmethod
    def _are_some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError(f'should name a method, such as "{SAFE[0]}", or be "{EVERY}" for all')
        return value
