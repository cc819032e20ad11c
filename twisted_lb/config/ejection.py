"""Ejection: when traffic takes a backend out of its pool, beside a refused connection, which always does (outlier detection)."""

from typing import Self

from pydantic import Field, model_validator

from twisted_lb.config.base import Model, Seconds


class EjectionConfig(Model):
    """What traffic takes a backend out for, beside a refused connection, and for how long (passive health, outlier detection).
    Requests that we answer ourselves, that their clients spoil or leave, and that wait or find all places taken, never count.
    """

    consecutive_failures: int = Field(
        default=5,
        ge=0,
        le=100_000,
        description="So many failures in a row take a backend out: the connection closed without an answer, no HTTP, no answer to "
        "the connect or to the request in time, and a status of `retry.bad_statuses`; 0: none do. Any other answer in between "
        "begins anew. Danger: 1 or 2 take it out for what may be the fault of a request.",
    )
    min_clients: int = Field(
        default=2,
        ge=1,
        le=100,
        description="How many clients these failures must be of at least, so that one whose requests kill or hang whoever gets them "
        "takes nobody out. A client is an address (of an IPv6 one its /64), that which trusted proxies name: whoever comes from "
        "behind one NAT, one proxy that is not trusted, or by a unix socket is one. Where all do, 1. Danger: with 1 one client "
        "can take out one backend after the other.",
    )
    success_rate_factor: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="A backend goes whose success rate is more than so many standard deviations below the mean of the pool; 0: none "
        "does. 1.9 is usual (Envoy's); with less than five backends that takes out nobody, since of N one is at most "
        "`sqrt(N - 1)` below. Failed is what `consecutive_failures` names, and answers that break off. Danger: it compares; of "
        "backends that are nearly all perfect it takes out one that is good.",
    )
    success_rate_requests: int = Field(
        default=100,
        ge=1,
        le=1_000_000_000,
        description="How many requests within `window_s` a backend must have had, to be compared by `success_rate_factor`.",
    )
    failure_percent: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="A backend goes that fails so many of a hundred requests, whatever the others do; 0: none does. 85 is usual "
        "(Envoy's). Failed is what `success_rate_factor` says.",
    )
    failure_percent_requests: int = Field(
        default=50,
        ge=1,
        le=1_000_000_000,
        description="How many requests within `window_s` a backend must have had, to be judged by `failure_percent`.",
    )
    min_backends: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="How many backends must have had as many requests, before rates are looked at.",
    )
    window_s: float = Field(
        default=30.0,
        ge=1,
        le=3600,
        description="Rates are those of the last so many seconds (a sliding window; its beginning is early by a sixtieth of it at "
        "most, or a quarter of a second).",
    )
    base_s: float = Field(
        default=10.0,
        ge=0.1,
        le=86400,
        description="For how long a backend is out the first time; the n-th time n times as long, and up to a tenth more, by chance. "
        "Then one request tries it: a good answer brings it back, a failure is another time. n falls by one for each `base_s` "
        "without an ejection. A refused connection has times of its own.",
    )
    longest_s: Seconds = Field(
        default=300.0,
        description="For how long at most, but for the tenth.",
    )
    max_percent: int = Field(
        default=50,
        ge=0,
        le=100,
        description="How many of a hundred backends may be out by traffic, rounded down; the last usable one never goes. Those that "
        "were refused count, and go all the same. Danger: more lets an outage of something that all of them need take out nearly "
        "all, and the rest gets their load.",
    )
    checks_end: bool = Field(
        default=True,
        description="Whether checks bring a backend back before its time: `rise` that pass, after one that has failed since it was "
        "taken out. Checks that pass all along do not: they ask for something else than requests do.",
    )

    @model_validator(mode="after")
    def _lasts_longest(self) -> Self:
        if self.longest_s < self.base_s:
            raise ValueError(f"longest_s = {self.longest_s:g} is less than base_s = {self.base_s:g}")
        return self
