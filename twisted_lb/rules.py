"""The configuration in the form that the data path reads: plain objects instead of models."""

from ipaddress import ip_network
from pathlib import Path

from twisted_lb.config import LoadBalancerConfig
from twisted_lb.core.never import NEVER
from twisted_lb.errors import StartError
from twisted_lb.net.answers import HTML, JSON, TEXT, ErrorPage
from twisted_lb.net.engine import Passing, Rules, Timeouts
from twisted_lb.wire.grammar import Limits
from twisted_lb.wire.rewrite import Forwarding


def rules_of(config: LoadBalancerConfig) -> Rules:
    """All of it. StartError names an error page that cannot be read."""
    limits = config.limits
    return Rules(
        timeouts=timeouts_of(config),
        passing=_passing_of(config),
        limits=Limits(
            line_bytes=limits.request_line_bytes,
            head_bytes=limits.head_bytes,
            fields=limits.head_fields,
            trailer_bytes=limits.trailer_bytes,
        ),
        replay_bytes=limits.replay_body_bytes,
        body_bytes=-1 if limits.body_bytes is None else limits.body_bytes,
        # Nobody comes back before `rise` good checks.
        retry_after_s=max(1, round(config.health_check.interval_s)),
        bad_statuses=frozenset(config.retry.bad_statuses),
    )


def timeouts_of(config: LoadBalancerConfig) -> Timeouts:
    """How long each wait may take."""
    timeouts = config.timeouts
    return Timeouts(
        head_s=timeouts.head_s,
        body_idle_s=timeouts.body_idle_s,
        connect_s=timeouts.connect_s,
        response_head_s=timeouts.response_head_s,
        attempt_s=NEVER if timeouts.attempt_s is None else timeouts.attempt_s,
        response_idle_s=timeouts.response_idle_s,
        client_idle_s=timeouts.client_idle_s,
        tunnel_idle_s=timeouts.tunnel_idle_s,
        client_bytes_per_s=config.limits.client_bytes_per_s,
    )


def _passing_of(config: LoadBalancerConfig) -> Passing:
    forwarding = config.forwarding
    return Passing(
        told=Forwarding(forwarded=forwarding.forwarded, via=forwarding.via.encode("ascii")),
        trusted=tuple(ip_network(text) for text in forwarding.trusted_proxies),
        upgrades=frozenset(token.encode("ascii") for token in config.upgrades),
        make_request_id=forwarding.request_id == "make",
        make_traceparent=forwarding.traceparent == "make",
        finish_half_closed=config.client_half_close == "finish",
        pages={int(status): _page(status, path) for status, path in config.error_pages.items()},
    )


def _page(status: str, path: str) -> ErrorPage:
    kind = {".html": HTML, ".json": JSON}.get(Path(path).suffix, TEXT)
    try:
        return ErrorPage(kind, Path(path).read_bytes())
    except OSError as error:
        raise StartError(f"error_pages.{status}: {path}: {(error.strerror or str(error)).lower()}") from None
